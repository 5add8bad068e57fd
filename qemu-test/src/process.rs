//! Child processes that cannot outlive the harness.
//!
//! Owns the rule: whatever is started here dies with us, whether we end by a result, a panic, Ctrl-C or SIGKILL. The
//! harness runs on one thread (a `current_thread` runtime), so the kernel's parent-death signal, which is bound to the
//! thread that started the child, covers its whole life.

use anyhow::{Context as _, Result, bail};
use std::{ffi::OsStr, path::Path, process::Stdio};
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
