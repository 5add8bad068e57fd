//! What the boot says to people: plain lines, prefixed `lq-init:`, on every console and in the kernel's log.
//!
//! Consoles are those of `lq.console`. A console that does not exist is skipped, one that does not take bytes is never
//! waited for. While the status screen owns the consoles ([`screen_owns`]), only serial lines are written to, and what was
//! written over the screen there is told once ([`over_screen`]), for whoever can have it drawn anew.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

static CONSOLES: OnceLock<Vec<String>> = OnceLock::new();
static SCREEN: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
static OUTPUT: AtomicBool = AtomicBool::new(false);

/// Sets the consoles, once, e.g. `["tty1", "ttyS0"]`.
pub fn set_consoles(names: Vec<String>) {
    let _ = CONSOLES.set(names);
}

/// Tells whether the status screen is drawn on the consoles from now on.
pub fn screen_owns(yes: bool) {
    SCREEN.store(yes, Ordering::Relaxed);
}

/// Tells, once, that something was written over the status screen.
pub fn over_screen() -> bool {
    OVER.swap(false, Ordering::Relaxed)
}

/// Everything goes to standard output and the kernel's log from now on, and not to the consoles: whoever called this program
/// shows it.
pub fn to_output() {
    OUTPUT.store(true, Ordering::Relaxed);
}

/// The names of the consoles.
pub fn consoles() -> &'static [String] {
    CONSOLES.get().map_or(&[], Vec::as_slice)
}

/// Tells whether a console is there: a terminal that answers.
pub fn is_terminal(name: &str) -> bool {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(format!("/dev/{name}"));
    opened.is_ok_and(|tty| nix::sys::termios::tcgetattr(&tty).is_ok())
}

/// A line of progress.
pub fn info(text: &str) {
    write_all(6, &format!("lq-init: {text}"));
}

/// Something that went wrong but does not stop the boot.
pub fn warn(text: &str) {
    write_all(4, &format!("lq-init: WARNING: {text}"));
}

/// Something that failed.
pub fn error(text: &str) {
    write_all(3, &format!("lq-init: ERROR: {text}"));
}

/// Something for those who look into it: in the kernel's log only.
pub fn note(text: &str) {
    log(5, &format!("lq-init: {text}"));
}

fn write_all(level: u8, text: &str) {
    log(level, text);
    show(text);
}

fn log(level: u8, text: &str) {
    for line in text.lines() {
        // The kernel's log takes at most about 1000 bytes a record.
        let short: String = line.chars().take(900).collect();
        if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
            let _ = writeln!(log, "<{level}>{short}");
        }
    }
}

fn show(text: &str) {
    if OUTPUT.load(Ordering::Relaxed) {
        let mut output = std::io::stdout().lock();
        let _ = writeln!(output, "{text}").and_then(|()| output.flush());
        return;
    }
    let bytes = text.replace('\n', "\r\n") + "\r\n";
    for name in consoles() {
        if SCREEN.load(Ordering::Relaxed) && !name.starts_with("ttyS") {
            continue;
        }
        // Terminals only: `open` would make a plain file of a misspelt name.
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(format!("/dev/{name}"));
        if let Ok(mut tty) = opened {
            write_patiently(&mut tty, bytes.as_bytes());
            OVER.fetch_or(SCREEN.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Writes to a terminal that may be slow, for at most a second in all: a stuck serial line must not stop a boot.
fn write_patiently(tty: &mut impl Write, mut bytes: &[u8]) {
    let mut waits = 0;
    while !bytes.is_empty() && waits < 100 {
        match tty.write(bytes) {
            Ok(0) => return,
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                waits += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(_) => return,
        }
    }
}

/// Keeps the kernel from writing anything but emergencies to the consoles; the log keeps everything.
pub fn quiet_kernel() {
    const SYSLOG_ACTION_CONSOLE_LEVEL: libc::c_int = 8;
    // SAFETY: klogctl with action 8 reads no memory of ours; the buffer may be null.
    unsafe { libc::klogctl(SYSLOG_ACTION_CONSOLE_LEVEL, std::ptr::null_mut(), 1) };
}
