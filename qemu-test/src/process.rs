//! Child processes that cannot outlive the harness.
//!
//! Owns the rule: whatever is started here dies with us, whether we end by a result, a panic, Ctrl-C or SIGKILL. The
//! harness runs on one thread (a `current_thread` runtime), so the kernel's parent-death signal, which is bound to the
//! thread that started the child, covers its whole life.

use anyhow::{Context as _, Result, bail};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    process::Stdio,
    sync::{Mutex, PoisonError},
};
use tokio::process::{Child, Command};

/// A command whose process is killed when we drop it or die.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C at the terminal is for us alone, so that machines can be ended in order.
    command.kill_on_drop(true).stdin(Stdio::null()).process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid. Nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the line above took effect.
            if libc::getppid().cast_unsigned() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

/// How many machines each processor is kept for.
static KEPT: Mutex<BTreeMap<u32, u32>> = Mutex::new(BTreeMap::new());

/// One of the processors we may use, the one that was given out least; given back when dropped.
#[derive(Debug)]
pub(crate) struct Core(u32);

impl Core {
    pub(crate) fn take() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
        let list =
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let least = cores(list.trim()).into_iter().min_by_key(|core| kept.get(core).copied());
        let core = least.context("it is not said which processors we may use")?;
        *kept.entry(core).or_default() += 1;
        Ok(Self(core))
    }

    /// Arguments of `taskset` that have all threads of a program share this processor; the program's own follow.
    pub(crate) fn arguments(&self, program: &str) -> [String; 3] {
        ["--cpu-list".into(), self.0.to_string(), program.into()]
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = kept.get_mut(&self.0) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Numbers in a list as the kernel writes it: `0-2,5`.
fn cores(list: &str) -> Vec<u32> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// A command whose process goes on when we end.
pub(crate) fn detached(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Runs a command to its end; its output is in the error when it fails.
pub(crate) async fn run(mut command: Command, what: &str) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("starting the program for {what}"))?;
    let output = child.wait_with_output().await.with_context(|| what.to_owned())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        bail!("{what} failed ({}):\n{}\n{}", output.status, stdout.trim_end(), stderr.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Opens a log file for a child's output, appending.
pub(crate) fn log_file(path: &Path) -> Result<Stdio> {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    Ok(file.into())
}

/// Kills a child and waits until it is gone.
pub(crate) async fn kill(child: &mut Child) {
    // A child that has ended already cannot be killed; that is what we want.
    let _ = child.kill().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(cores("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cores("7"), [7]);
        assert!(cores("").is_empty());
    }

    #[test]
    fn processors_are_given_out_in_turn() {
        let all: Vec<_> =
            (0..std::thread::available_parallelism().unwrap().get()).map(|_| Core::take().unwrap()).collect();
        let given: std::collections::BTreeSet<_> = all.iter().map(|core| core.0).collect();
        assert_eq!(given.len(), all.len());
        drop(all);
        assert!(KEPT.lock().unwrap().values().all(|count| *count == 0));
    }

    #[tokio::test]
    async fn a_pinned_program_sees_one_processor() {
        let mut pinned = command("taskset");
        pinned.args(Core(0).arguments("nproc"));
        assert_eq!(run(pinned, "nproc").await.unwrap().trim(), "1");
    }
}
