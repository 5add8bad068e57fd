//! The process behind a machine's TPM: a unit of PID 1 of its own, started before the machine's monitor.
//!
//! ```text
//!  PID 1 ── vm-<id>: lq-vmm ── tpm.sock ──▶ tpm-<id>: lq-vmm tpm ─exec─▶ swtpm ── <pool>/firmware/<id>.tpm
//! ```
//! It ends by itself when its monitor hangs up. Invariant: it never outlives its machine for longer than [`GRACE`], and the machine
//! has not ended before it has.

use super::{
    Error,
    init_client::Init,
    lqvmm::Settings,
    machine::ended,
    place::{Place, make_cgroup, remove_cgroup},
};
use crate::storage;
use lq_api::{
    VmId,
    local::{
        init::{End, Unit},
        paths,
        vmm::Jail,
    },
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// How long it may take to end once its monitor is gone: it may be making a key.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long its end may take once it is killed.
const KILLED: Duration = Duration::from_secs(20);
/// Longest the making of its directory may take.
const STATE: Duration = Duration::from_secs(30);
/// Limits of its cgroup: files and what they say. It needs 10 MiB, and a processor only while it makes keys.
const LIMITS: [(&str, &str); 5] = [
    ("memory.max", "67108864"),
    ("memory.swap.max", "0"),
    ("memory.oom.group", "1"),
    ("pids.max", "8"),
    ("cpu.max", "100000 100000"),
];
const PREFIX: &str = "tpm-";

/// The machine whose TPM is behind a unit of PID 1.
pub(super) fn vm_of(unit: &str) -> Option<VmId> {
    unit.strip_prefix(PREFIX)?.parse().ok()
}

/// The process behind the TPM of one machine, whether it runs or not.
pub(super) struct Tpm {
    pub(super) init: Arc<Init>,
    pub(super) place: Place,
}

impl Tpm {
    fn unit_name(&self) -> String {
        format!("{PREFIX}{}", self.place.vm)
    }

    fn failed(&self, context: &str) -> impl FnOnce(io::Error) -> Error {
        let context = format!("the machine's TPM does not start: {context}");
        move |source| Error::Io { context, source }
    }

    /// Starts it with what is kept in `state`, and waits until the monitor can connect.
    ///
    /// # Errors
    /// Why there is no TPM; it may still have to be [ended](Self::end).
    pub(super) async fn start(&self, settings: &Settings, state: &str, n: Option<u32>) -> Result<(), Error> {
        // One of an earlier start would have its name, and its state.
        self.end(Duration::ZERO).await;
        let jail = n.map(|n| Jail { uid: paths::TPM_UID_BASE + n, gid: paths::TPM_UID_BASE + n });
        let (dir, owner) = (PathBuf::from(state), jail.map(|jail| (jail.uid, jail.gid)));
        // It may be on a server that does not answer.
        let made = storage::patient::within(STATE, move || storage::tpm::provide(&dir, owner)).await;
        made.map_err(|e| self.failed("what it keeps cannot be used")(io::Error::other(e)))?;
        if let Some(cgroup) = self.place.tpm_cgroup() {
            make_cgroup(&cgroup)?;
            for (file, limit) in LIMITS {
                if let Err(error) = std::fs::write(cgroup.join(file), limit) {
                    tracing::warn!(vm = %self.place.vm, %error, "its TPM runs without {file} = {limit}");
                }
            }
        }
        let name = self.unit_name();
        let mut end = self.init.watch(&name);
        let pid = self.init.spawn(self.unit(settings, state, jail)).await?;
        let socket = self.place.run_dir.join(paths::VM_TPM);
        let listens = async {
            while !socket.exists() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            end = ended(&mut end, pid) => Err(self.failed(&said(end))(io::Error::other(self.log()))),
            listens = timeout(settings.ready, listens) => listens.map_err(|_| {
                self.failed(&format!("it did not listen within {} s", settings.ready.as_secs()))(io::Error::other(self.log()))
            }),
        }
    }

    fn unit(&self, settings: &Settings, state: &str, jail: Option<Jail>) -> Unit {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let words = ["tpm", "--state", state, "--program"].map(str::to_owned);
        let mut argv = vec![path(&settings.program)];
        argv.extend(words);
        argv.extend([
            path(&settings.swtpm),
            "--socket".into(),
            path(&self.place.run_dir.join(paths::VM_TPM)),
        ]);
        argv.extend(jail.iter().flat_map(|jail| ["--jail".into(), format!("{}:{}", jail.uid, jail.gid)]));
        Unit {
            name: self.unit_name(),
            argv,
            env: BTreeMap::new(),
            cgroup: self.place.tpm_cgroup().as_deref().map(path),
            new_pid_namespace: jail.is_some(),
            log: Some(path(&self.place.run_dir.join(paths::VM_TPM_LOG))),
            stop_seconds: 10,
        }
    }

    /// Sees to it that it has ended, `grace` after its monitor has, and that nothing of the process is left but what it keeps.
    pub(super) async fn end(&self, grace: Duration) {
        let name = self.unit_name();
        // Watched before PID 1 is asked: an end between is heard.
        let mut end = self.init.watch(&name);
        let units = self.init.list().await.inspect_err(|error| {
            tracing::warn!(vm = %self.place.vm, %error, "whether its TPM has ended is not known");
        });
        let Some(unit) = units.unwrap_or_default().into_iter().find(|unit| unit.name == name) else { return };
        let mut gone = unit.end.is_some() || timeout(grace, ended(&mut end, unit.pid)).await.is_ok();
        if !gone {
            tracing::info!(vm = %self.place.vm, pid = unit.pid, "ending the process behind its TPM");
            if let Err(error) = self.init.signal(&name, libc::SIGKILL).await {
                tracing::warn!(vm = %self.place.vm, %error, "the process behind its TPM cannot be ended");
            }
            gone = timeout(KILLED, ended(&mut end, unit.pid)).await.is_ok();
        }
        drop(end);
        if !gone {
            tracing::warn!(vm = %self.place.vm, pid = unit.pid, "the process behind its TPM does not end");
            return;
        }
        if let Err(error) = self.init.forget(&name).await {
            tracing::warn!(vm = %self.place.vm, %error, "PID 1 still remembers its TPM");
        }
        if let Some(cgroup) = self.place.tpm_cgroup() {
            remove_cgroup(&cgroup).await;
        }
    }

    /// A start of the machine that failed because of `error`, with what its TPM says of that.
    pub(super) fn explain(&self, error: Error) -> Error {
        let log = self.log();
        match error {
            Error::Io { context, source } if !log.is_empty() && !source.to_string().contains(&log) => {
                let source = io::Error::other(format!("{source}; the end of its TPM's log: {log}"));
                Error::Io { context, source }
            }
            other => other,
        }
    }

    fn log(&self) -> String {
        self.place.tail_of(paths::VM_TPM_LOG)
    }
}

fn said(end: End) -> String {
    match end {
        End::Exited(status) => format!("it ended with status {status}"),
        End::Killed(signal) => format!("it was killed by signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_units_are_no_machines() {
        let vm = VmId::new();
        let tpm = Tpm {
            init: Init::new("/none".into()),
            place: Place { vm, run_dir: "/run/vm".into(), cgroup: Some("/cg/vm".into()) },
        };
        let settings = Settings::appliance("/none".into());
        let unit = tpm.unit(&settings, "/pool/vm.tpm", Some(Jail { uid: 200_003, gid: 200_003 }));
        assert!(!unit.name.starts_with("vm-"), "PID 1 would take it for a guest: {}", unit.name);
        assert_eq!(vm_of(&unit.name), Some(vm));
        assert_eq!((vm_of(&format!("vm-{vm}")), vm_of("tpm-x")), (None, None));
        assert_eq!(unit.cgroup.unwrap(), format!("/cg/{vm}-tpm"));
        assert!(unit.new_pid_namespace);
        let words = unit.argv.join(" ");
        assert_eq!(
            words,
            format!(
                "{} tpm --state /pool/vm.tpm --program {} --socket /run/vm/tpm.sock --jail 200003:200003",
                paths::LQ_VMM,
                paths::SWTPM
            )
        );
    }
}
