//! `lq-console`: the status screen of a host, on one terminal (standard input and output).
//!
//! ```text
//! files, /sys, ioctls ─┐
//!                      ├─► facts::gather ─► Status ─► screen::draw ─► terminal, when it changed
//! mgmtd's local API ───┘
//! ```
//! It needs no part of the host but the kernel: what cannot be asked is shown as such. It takes no input yet; keys typed are
//! thrown away. SIGUSR1 draws anew (PID 1 sends it after writing over the screen), SIGTERM clears the screen and ends.

mod api;
mod facts;
mod screen;

use std::{
    io::{IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How often facts are gathered.
const EVERY: Duration = Duration::from_secs(2);

static REDRAW: AtomicBool = AtomicBool::new(true);
static END: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    if signal == libc::SIGUSR1 {
        REDRAW.store(true, Ordering::Relaxed);
    } else {
        END.store(true, Ordering::Relaxed);
    }
}

fn main() {
    if !std::io::stdout().is_terminal() {
        // One look, as text: for logs and for people in a shell of a development machine.
        print!("{}", screen::plain(&facts::gather()));
        return;
    }
    let handler: extern "C" fn(libc::c_int) = on_signal;
    for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler only stores to atomics, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    silence_keys();
    let serial = nix::unistd::ttyname(std::io::stdin()).is_ok_and(|n| n.to_string_lossy().contains("ttyS"));
    let mut shown: Option<Vec<String>> = None;
    let mut said_ready = false;
    while !END.load(Ordering::Relaxed) {
        let status = facts::gather();
        // One plain line for whoever reads the serial log: people, and machines that wait for it.
        if let Some(url) = status.url.as_ref().filter(|_| serial && !said_ready && status.ready) {
            said_ready = true;
            REDRAW.store(true, Ordering::Relaxed);
            write(&format!("\x1b[0m\x1b[2J\x1b[HLimiQuantix ready: {url}\r\n"));
        }
        let (rows, columns) = terminal_size();
        let lines = screen::draw(&status, rows, columns);
        let all = REDRAW.swap(false, Ordering::Relaxed);
        write(&screen::update(shown.as_deref().filter(|_| !all), &lines));
        shown = Some(lines);
        let start = Instant::now();
        while start.elapsed() < EVERY && !END.load(Ordering::Relaxed) && !REDRAW.load(Ordering::Relaxed) {
            // Ends early at a signal.
            throw_keys_away(EVERY.saturating_sub(start.elapsed()));
        }
    }
    write("\x1b[0m\x1b[2J\x1b[H\x1b[?25h");
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Keys are neither shown nor turned into signals, so that nothing garbles or ends the screen.
fn silence_keys() {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if let Ok(mut termios) = tcgetattr(&input) {
        termios.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        let _ = tcsetattr(&input, SetArg::TCSANOW, &termios);
    }
}

fn throw_keys_away(wait: Duration) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let input = std::io::stdin();
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::from(u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX));
    if poll(&mut fds, timeout).is_ok_and(|n| n > 0) {
        let mut buffer = [0u8; 64];
        if nix::unistd::read(&input, &mut buffer).is_ok_and(|n| n == 0) {
            // The line hung up: no reason to spin.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Rows and columns; 24 by 80 where the terminal does not know, as serial lines do not.
fn terminal_size() -> (usize, usize) {
    // SAFETY: TIOCGWINSZ fills the structure given, for which all-zero is a valid value.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size);
        size
    };
    match (size.ws_row, size.ws_col) {
        (0, _) | (_, 0) => (24, 80),
        (rows, columns) => (usize::from(rows), usize::from(columns)),
    }
}
