//! What a monitor needs around it on the host: run directory, cgroup, taps. Made before it starts, removed after it ended.
//!
//! Beside its configuration stands what it has ([`Fittings`]), so that this is known again after this daemon was restarted.

use super::{Desired, Error, LaunchBoot, LaunchNic, fittings::Fittings, seed};
use crate::{
    hardware::{Fitted, Hardware, PluggedMemory, SEED_SERIAL},
    network::{link::Links, tap},
    storage,
};
use lq_api::{
    Bytes, VmId,
    image::ImageFormat,
    local::{
        init::End,
        paths,
        vmm::{
            BootConfig, CdromConfig, CpusConfig, DiskConfig, DiskImage, ExitReason, ExitRecord,
            FirmwareFiles, HotplugConfig, Hypervisor, IoLimits, Jail, MemoryConfig, MoreDevices, NicConfig,
            PassthroughConfig, QemuConfig, Start, TpmConfig, VERSION, VmmConfig,
        },
    },
    pci::PciAddress,
    vm::Mac,
};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Memory of a monitor beyond its guest's: its own, page tables, caches of images. The kernel ends it beyond that.
const OVERHEAD: u64 = 128 * Bytes::MIB;
/// The same of QEMU: its own, tables of images, pictures for viewers of the screen.
const QEMU_OVERHEAD: u64 = 512 * Bytes::MIB;
/// Threads of a monitor beyond one per virtual CPU: of every queue of every device there can be, and some more.
const THREADS: u32 = 160;
/// Longest the making of the firmware's variables may take.
const VARS: Duration = Duration::from_secs(30);
/// File of the medium a guest sets itself up by, in the run directory.
const SEED: &str = "seed.img";
/// What is left out of it where it is empty, bytes.
const SEED_PAGE: usize = 4096;
/// What the name of the cgroup of the process behind a TPM ends with.
pub(super) const TPM_CGROUP: &str = "-tpm";
/// Lines of the monitor's log that are shown as a reason.
const LOG_LINES: usize = 5;

/// Firmware of machines.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// Its code.
    pub code: PathBuf,
    /// What a machine's variables begin as.
    pub vars: PathBuf,
}

/// The place of one VM.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) vm: VmId,
    pub(super) run_dir: PathBuf,
    pub(super) cgroup: Option<PathBuf>,
}

fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let context = context.into();
    |source| Error::Io { context, source }
}

impl Place {
    /// Makes everything and writes the monitor's configuration; what the machine has then.
    pub(super) async fn prepare(
        &self,
        desired: &Desired,
        jail: Option<Jail>,
        firmware: &Firmware,
        start: Start,
    ) -> Result<Fittings, Error> {
        self.make_run_dir()?;
        let has = desired.starts_with();
        if let Some(cgroup) = &self.cgroup {
            make_cgroup(cgroup)?;
        }
        self.limit(&match start {
            // How much of it the guest has comes with it.
            Start::Incoming => has.clone().whole(),
            _ => has.clone(),
        });
        let nics = self.make_taps(desired).await?;
        let launch = &desired.launch;
        let socket = || self.run_dir.join(paths::VM_TPM).to_string_lossy().into_owned();
        let tpm = launch.tpm.as_ref().map(|_| TpmConfig { socket: socket() });
        let config = VmmConfig {
            version: VERSION,
            vm: self.vm,
            name: desired.name.clone(),
            vcpus: has.vcpus,
            memory_bytes: has.memory_bytes,
            boot: boot(&launch.boot, firmware).await?,
            disks: launch.disks.iter().cloned().chain(self.make_seed(desired, &has)?).collect(),
            nics,
            rng: desired.spec.rng,
            display: desired.spec.display.unwrap_or_default(),
            run_dir: self.run_dir.to_string_lossy().into_owned(),
            jail,
            start,
            cpu: desired.spec.cpu,
            devices: MoreDevices { tpm, ..devices(desired, &has) },
            boot_order: Vec::new(),
            lease: launch.lease,
            empty_slots: has.empty_slots.clone(),
            qemu: (desired.spec.hypervisor == Hypervisor::Qemu).then(|| QemuConfig {
                machine: desired.spec.machine.unwrap_or(desired.spec.firmware.machine()),
                devices: desired.spec.device_model,
            }),
        };
        let path = self.config_path();
        let text =
            serde_json::to_vec_pretty(&config).map_err(|e| io("writing the configuration")(e.into()))?;
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&text)).map_err(io(format!("writing {}", path.display())))?;
        Fittings::new(self.hardware_path(), has).map_err(io("writing down what the machine has"))
    }

    /// Limits what the process takes of the host to what the machine has. Limits the kernel does not offer are left out with a
    /// warning.
    pub(super) fn limit(&self, has: &Hardware) {
        let Some(cgroup) = &self.cgroup else { return };
        for (file, limit) in limits(has) {
            if let Err(error) = fs::write(cgroup.join(file), &limit) {
                tracing::warn!(vm = %self.vm, %error, "the machine runs without {file} = {limit}");
            }
        }
    }

    /// Removes what the process no longer needs; what tells of its end stays.
    pub(super) async fn clear(&self, taps: &[String]) {
        if let Err(error) = remove_taps(taps).await {
            tracing::warn!(vm = %self.vm, %error, "interfaces of an ended machine remain");
        }
        if let Some(cgroup) = &self.cgroup {
            remove_cgroup(cgroup).await;
        }
    }

    /// Removes what tells of the last end.
    pub(super) fn forget(&self) {
        match fs::remove_dir_all(&self.run_dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(vm = %self.vm, %error, "cannot remove {}", self.run_dir.display());
            }
            _ => {}
        }
    }

    /// The cgroup of the process behind its TPM: beside its own, in which there is a process.
    pub(super) fn tpm_cgroup(&self) -> Option<PathBuf> {
        Some(self.cgroup.as_ref()?.with_file_name(format!("{}{TPM_CGROUP}", self.vm)))
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.run_dir.join(paths::VM_CONFIG)
    }

    pub(super) fn hardware_path(&self) -> PathBuf {
        self.run_dir.join("hardware.json")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.run_dir.join(paths::VM_LOG)
    }

    /// The configuration the monitor was started with.
    pub(super) fn config(&self) -> io::Result<VmmConfig> {
        Ok(serde_json::from_slice(&fs::read(self.config_path())?)?)
    }

    /// The functions of the host it was started with.
    pub(super) fn functions(&self) -> Vec<PciAddress> {
        let config = self.config().ok();
        let devices = config.map(|config| config.devices.passthrough).unwrap_or_default();
        devices.iter().map(|one| one.address).collect()
    }

    /// The time the monitor was started.
    pub(super) fn started_at(&self) -> Option<lq_api::Timestamp> {
        lq_api::Timestamp::try_from(fs::metadata(self.config_path()).ok()?.modified().ok()?).ok()
    }

    fn make_run_dir(&self) -> Result<(), Error> {
        self.forget();
        let parent = self.run_dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(io(format!("making {}", parent.display())))?;
        // Only root: the monitor opens what it needs here before it gives up its privileges, and a monitor taken over by
        // its guest must not be able to put another socket or a link in the place of its own.
        let made = DirBuilder::new().mode(0o700).create(&self.run_dir);
        made.map_err(io(format!("making {}", self.run_dir.display())))
    }

    /// The medium the guest sets itself up by, as a disk. It is gone with the process; it is made anew at each start.
    fn make_seed(&self, desired: &Desired, has: &Hardware) -> Result<Option<DiskConfig>, Error> {
        let Some(Fitted { device: given, slot, .. }) = &has.cloud_init else { return Ok(None) };
        let path = self.run_dir.join(SEED);
        let make = || -> io::Result<()> {
            let bytes = seed::medium(self.vm, &desired.name, given)?;
            let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            file.set_len(bytes.len() as u64)?;
            // The run directory is in memory, and most of the medium is empty.
            for (n, page) in bytes.chunks(SEED_PAGE).enumerate() {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, (n * SEED_PAGE) as u64)?;
                }
            }
            Ok(())
        };
        make().map_err(io(format!("making {}", path.display())))?;
        let path = path.to_string_lossy().into_owned();
        let image = DiskImage { path, format: ImageFormat::Raw, backing: None };
        Ok(Some(DiskConfig {
            serial: SEED_SERIAL.into(),
            image,
            read_only: true,
            limits: IoLimits::default(),
            queues: 1,
            slot: *slot,
        }))
    }

    async fn make_taps(&self, desired: &Desired) -> Result<Vec<NicConfig>, Error> {
        let mut made = Vec::new();
        for nic in &desired.launch.nics {
            made.push(self.make_tap(nic).await?);
        }
        Ok(made)
    }

    /// The name of an interface's tap.
    pub(super) fn tap(&self, mac: Mac) -> String {
        tap::name(self.vm, mac)
    }

    /// The taps of what the machine has.
    pub(super) fn taps(&self, has: &Hardware) -> Vec<String> {
        has.nics.iter().filter_map(|n| n.device.mac).map(|mac| self.tap(mac)).collect()
    }

    /// Makes the tap of an interface, as a port of its network's bridge. The rules of the port are in force already.
    pub(super) async fn make_tap(&self, nic: &LaunchNic) -> Result<NicConfig, Error> {
        let failed = |e: crate::network::Error| io("preparing the machine's network")(io::Error::other(e));
        let links = Links::open().map_err(failed)?;
        let tap = self.tap(nic.mac);
        // One left over from before may have other settings.
        links.delete(&tap).await.map_err(failed)?;
        tap::create(&tap, nic.queues > 1).map_err(io(format!("making the interface {tap}")))?;
        // The host itself does not speak on a guest's port. Without IPv6 in the kernel there is nothing to switch off.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6"), "1");
        links.attach(&tap, &nic.bridge).await.map_err(failed)?;
        Ok(NicConfig {
            tap,
            mac: nic.mac,
            limits: nic.limits,
            queues: nic.queues,
            link_down: !nic.connected,
            slot: nic.slot,
        })
    }

    /// Why the process ended: its own record, or what PID 1 and the kernel know.
    pub(super) fn exit_record(&self, end: End, told: Option<ExitRecord>) -> ExitRecord {
        if let Some(record) = self.own_record().or(told) {
            return record;
        }
        let (reason, mut detail) = match end {
            End::Killed(signal) => {
                (ExitReason::Internal, format!("lq-vmm was killed by signal {}", signal_name(signal)))
            }
            End::Exited(status) => {
                let known = [
                    ExitReason::Told,
                    ExitReason::Config,
                    ExitReason::Host,
                    ExitReason::GuestFault,
                    ExitReason::LeaseLost,
                    ExitReason::NotArrived,
                    ExitReason::Busy,
                ];
                let reason = known.into_iter().find(|r| i32::from(r.status()) == status);
                (
                    reason.unwrap_or(ExitReason::Internal),
                    format!("lq-vmm ended with status {status} without a record of why"),
                )
            }
        };
        if self.was_out_of_memory() {
            detail.push_str(
                ": its cgroup ran out of memory (the guest's memory and the allowance for the monitor are used up)",
            );
        }
        let log = self.log_tail();
        if !log.is_empty() {
            detail.push_str("; the end of its log: ");
            detail.push_str(&log);
        }
        ExitRecord { reason, detail }
    }

    fn own_record(&self) -> Option<ExitRecord> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.run_dir.join(paths::VM_EXIT))
            .ok()?;
        serde_json::from_reader(file.take(64 * Bytes::KIB)).ok()
    }

    fn was_out_of_memory(&self) -> bool {
        let Some(cgroup) = &self.cgroup else { return false };
        let events = fs::read_to_string(cgroup.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|n| n.trim() != "0")
    }

    /// The last lines of the monitor's log, joined by ` | `.
    pub(super) fn log_tail(&self) -> String {
        self.tail_of(paths::VM_LOG)
    }

    /// The same of another log of its run directory.
    pub(super) fn tail_of(&self, log: &str) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.run_dir.join(log))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
            let mut tail = Vec::new();
            file.take(4096).read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        let tail = read().unwrap_or_default();
        let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join(" | ")
    }
}

/// What the monitor is told to boot. Variables of firmware are made at the machine's first start.
fn devices(desired: &Desired, has: &Hardware) -> MoreDevices {
    let drives = desired.launch.cdroms.iter();
    MoreDevices {
        cdroms: drives.map(|image| CdromConfig { image: image.clone() }).collect(),
        balloon: None,
        // A guest without a driver for it does not notice.
        panic: true,
        watchdog: desired.spec.watchdog,
        vsock: None,
        tpm: None,
        memory: has.plugged.map(|region| MemoryConfig {
            most_bytes: region.most.get(),
            requested_bytes: region.asked.get(),
        }),
        cpus: has.cpus.map(|cpus| CpusConfig { most: cpus.most }),
        // The monitor can; nothing here starts back ends yet.
        vhost_user: Vec::new(),
        passthrough: has
            .passthrough
            .iter()
            .map(|one| PassthroughConfig { address: one.address, slot: None })
            .collect(),
        hotplug: has.hotplug.then(HotplugConfig::default),
    }
}

async fn boot(boot: &LaunchBoot, firmware: &Firmware) -> Result<BootConfig, Error> {
    let vars = match boot {
        LaunchBoot::Direct(files) => return Ok(BootConfig::Direct(files.clone())),
        LaunchBoot::Firmware { vars } => vars.clone(),
        LaunchBoot::Bios => return Ok(BootConfig::Bios),
    };
    let (template, target) = (firmware.vars.clone(), PathBuf::from(&vars));
    // They may be on a server that does not answer.
    let made = storage::patient::within(VARS, move || storage::vars::provide(&template, &target)).await;
    made.map_err(|e| io("making the firmware's variables")(std::io::Error::other(e)))?;
    let code = firmware.code.to_string_lossy().into_owned();
    Ok(BootConfig::Firmware(FirmwareFiles { code, vars, debug_log: None }))
}

/// Removes taps.
pub(super) async fn remove_taps(taps: &[String]) -> Result<(), crate::network::Error> {
    if taps.is_empty() {
        return Ok(());
    }
    let links = Links::open()?;
    for tap in taps {
        links.delete(tap).await?;
    }
    Ok(())
}

/// Makes the cgroup of a VM, or of a process beside it.
pub(super) fn make_cgroup(cgroup: &Path) -> Result<(), Error> {
    let parent = cgroup.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(io(format!("making the cgroup {}", parent.display())))?;
    for above in parent.parent().into_iter().chain([parent]) {
        for controller in ["+memory", "+cpu", "+pids"] {
            let file = above.join("cgroup.subtree_control");
            if let Err(error) = fs::write(&file, controller) {
                tracing::warn!(%error, "cannot write {controller} to {}", file.display());
            }
        }
    }
    fs::create_dir_all(cgroup).map_err(io(format!("making the cgroup {}", cgroup.display())))
}

/// The limits of the cgroup of a machine that has this: files and what they say.
fn limits(has: &Hardware) -> [(&'static str, String); 5] {
    // What the guest has, or may take at any moment; no more, whatever it touches.
    let guest = has.memory_with(PluggedMemory::needs).get();
    let overhead = if has.hypervisor.is_own() { OVERHEAD } else { QEMU_OVERHEAD };
    let memory = guest.saturating_add(guest / 64).saturating_add(overhead);
    let cpus = u32::from(has.busy_cpus());
    // The threads of those that go stay.
    let threads = has.cpus.map_or(has.vcpus, |cpus| cpus.most);
    [
        ("memory.max", memory.to_string()),
        ("memory.swap.max", "0".into()),
        ("memory.oom.group", "1".into()),
        ("pids.max", (u32::from(threads) + THREADS).to_string()),
        // Microseconds in each 100 ms: every virtual CPU whole, and two processors for I/O.
        ("cpu.max", format!("{} 100000", (cpus + 2) * 100_000)),
    ]
}

/// Removes a cgroup; the kernel may need a moment after its last process.
pub(super) async fn remove_cgroup(cgroup: &Path) {
    for attempt in 0..20u32 {
        match fs::remove_dir(cgroup) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) if attempt == 19 => {
                tracing::warn!(%error, "cannot remove the cgroup {}", cgroup.display());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// `9 (SIGKILL)`.
fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => format!("{signal} ({})", known.as_str()),
        Err(_) => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> Place {
        Place { vm: VmId::new(), run_dir: dir.to_owned(), cgroup: None }
    }

    #[test]
    fn ends_without_a_record_are_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let record = place.exit_record(End::Killed(9), None);
        assert_eq!(record.reason, ExitReason::Internal);
        assert_eq!(record.detail, "lq-vmm was killed by signal 9 (SIGKILL)");
        fs::write(place.log_path(), "1\n2\n3\n4\n5\n6\nthread panicked\n\n").unwrap();
        let record = place.exit_record(End::Exited(2), None);
        assert_eq!(record.reason, ExitReason::Config);
        assert!(record.detail.ends_with("the end of its log: 3 | 4 | 5 | 6 | thread panicked"), "{record:?}");
    }

    #[test]
    fn limits_allow_for_what_the_guest_has_or_may_take() {
        let mib = Bytes::mib;
        let mut has = Hardware { memory_bytes: mib(640), ..Hardware::of(&lq_api::vm::VmSpec::default()) };
        let memory = |has: &Hardware| limits(has)[0].1.parse::<u64>().unwrap() - OVERHEAD;
        assert_eq!(memory(&has), mib(650).get());
        for (asked, taken) in [(1280, 0), (0, 1280), (1280, 1280)] {
            has.plugged = Some(PluggedMemory { most: mib(4096), asked: mib(asked), taken: mib(taken) });
            assert_eq!(memory(&has), mib(1920 + 30).get(), "{asked} {taken}");
        }
    }

    #[test]
    fn the_monitors_own_record_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let own = ExitRecord { reason: ExitReason::GuestPowerOff, detail: "S5".into() };
        fs::write(dir.path().join(paths::VM_EXIT), serde_json::to_vec(&own).unwrap()).unwrap();
        assert_eq!(place.exit_record(End::Killed(9), None), own);
    }

    #[test]
    fn a_record_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let own = ExitRecord { reason: ExitReason::GuestPowerOff, detail: "S5".into() };
        fs::write(dir.path().join("elsewhere"), serde_json::to_vec(&own).unwrap()).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join(paths::VM_EXIT)).unwrap();
        assert_eq!(place.exit_record(End::Exited(1), None).reason, ExitReason::Internal);
    }
}
