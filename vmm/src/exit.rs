//! The end of the monitor: its exit record and exit status.
//!
//! The record file is opened before privileges are dropped and is empty while the monitor runs; it gets exactly one
//! record, by the first caller of [`record`]. A panic anywhere ends the process with an `Internal` record.

use lq_api::local::vmm::{ExitReason, ExitRecord};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

static FILE: OnceLock<File> = OnceLock::new();
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// Opens the record file, empty, readable by its owner only, and installs the panic hook.
pub fn prepare(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    FILE.set(file).map_err(|_| io::Error::other("the exit record was prepared twice"))?;
    std::panic::set_hook(Box::new(|info| fatal(&format!("panic: {info}"))));
    Ok(())
}

/// Writes the exit record, unless one was written already.
pub fn record(record: &ExitRecord) {
    if WRITTEN.swap(true, Ordering::SeqCst) {
        return;
    }
    eprintln!("lq-vmm: ends: {:?}: {}", record.reason, record.detail);
    let (Some(file), Ok(json)) = (FILE.get(), serde_json::to_vec(record)) else { return };
    if let Err(error) = file.write_all_at(&json, 0) {
        eprintln!("lq-vmm: cannot write the exit record: {error}");
    }
}

/// Ends the process at once because of a fault of ours.
pub fn fatal(detail: &str) -> ! {
    record(&ExitRecord { reason: ExitReason::Internal, detail: detail.to_owned() });
    // SAFETY: ends the process without running anything else of it; always allowed.
    unsafe { libc::_exit(i32::from(ExitReason::Internal.status())) }
}

/// An error and all its causes, on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
