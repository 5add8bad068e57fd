//! `lq-console`: the screen of a host, on one terminal (standard input and output).
//!
//! ```text
//! files, /sys, ioctls ─┐
//!                      ├─► facts::gather (thread) ─► Status ─┐
//! mgmtd's local API ───┘                                     ├─► pages::paint ─► screen::update ─► terminal
//! terminal ─► keys::Keys ─► app::App ──────────────► pages ──┘
//!                             └─ Request ─► remote::Remote (thread) ─► Outcome
//! ```
//! The open screen needs no part of the host but the kernel: what cannot be asked is shown as such. What changes anything is
//! asked of `mgmtd` in the session of the person who logged in. SIGUSR1 draws anew (PID 1 sends it after writing over the
//! screen), SIGTERM clears the screen and ends.

mod api;
mod app;
mod attach;
mod clock;
mod facts;
mod install;
mod joining;
mod keys;
mod local;
mod logs;
mod maintenance;
mod menus;
mod pages;
mod recovery;
mod remote;
mod screen;
mod settling;
mod support;
mod view;

use std::{
    io::{IsTerminal, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// How often facts are gathered.
const EVERY: Duration = Duration::from_secs(2);
/// The kernel writes over the screen without telling: it is drawn whole so often.
const REPAINT: Duration = Duration::from_secs(30);
/// Longest wait for a key while somebody is at the keys; answers are looked for as often.
const WAIT_MS: u16 = 100;
/// The same while nobody is.
const WAIT_UNWATCHED_MS: u16 = 500;
/// After the last key somebody is still taken to be there.
const WATCHED: Duration = Duration::from_secs(60);
/// Pages that count seconds are painted so often.
const COUNTING: Duration = Duration::from_secs(1);

static REDRAW: AtomicBool = AtomicBool::new(true);
static END: AtomicBool = AtomicBool::new(false);
/// Somebody is at the keys.
static PRESENT: AtomicBool = AtomicBool::new(false);

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
        print!("{}", view::plain(&facts::gather(&mut facts::Kept::default(), true)));
        return;
    }
    let handler: extern "C" fn(libc::c_int) = on_signal;
    for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler only stores to atomics, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    silence_keys();
    let serial = nix::unistd::ttyname(std::io::stdin()).is_ok_and(|n| n.to_string_lossy().contains("ttyS"));
    run(serial);
    write("\x1b[0m\x1b[2J\x1b[H\x1b[?25h");
}

fn run(serial: bool) {
    let glyphs = if serial { view::Glyphs::Ascii } else { view::Glyphs::HalfBlocks };
    let (facts_in, facts) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut kept = facts::Kept::default();
        while facts_in.send(facts::gather(&mut kept, PRESENT.load(Ordering::Relaxed))).is_ok() {
            std::thread::sleep(EVERY);
        }
    });
    let (ask, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    std::thread::spawn(move || {
        let mut remote = remote::Remote::default();
        while let Ok(request) = asked.recv() {
            if answer.send(remote.perform(request)).is_err() {
                return;
            }
        }
    });
    let Ok(mut status) = facts.recv() else { return };
    let (mut app, mut keys, mut reader) = (app::App::default(), keys::Keys::default(), Reader::default());
    let mut shown: Option<Vec<String>> = None;
    let mut size = (0, 0);
    // Since when the screen is whole, and when it was last looked at what is on it.
    let (mut whole, mut painted) = (Instant::now(), None::<Instant>);
    let mut typed: Option<Instant> = None;
    let (mut said_ready, mut open) = (false, 0_usize);
    // Something may look different now. Painting each time would be most of what an idle host does.
    let mut changed = true;
    while !END.load(Ordering::Relaxed) {
        if let Some(latest) = facts.try_iter().last()
            && latest != status
        {
            status = latest;
            changed = true;
        }
        app.live = status.live;
        app.fresh = status.setup_code.is_some();
        app.now = lq_api::Timestamp::now();
        let mut wanted: Vec<remote::Request> = Vec::new();
        for outcome in answers.try_iter() {
            changed = true;
            // Keys are not taken while what was asked for is open; what is followed does not count.
            if !matches!(outcome, remote::Outcome::Polled(_)) {
                open = open.saturating_sub(1);
            }
            if let remote::Outcome::Console { id, name, token } = &outcome {
                let over = attach::run(*id, name, token, || END.load(Ordering::Relaxed));
                REDRAW.store(true, Ordering::Relaxed);
                match over {
                    attach::Over::Left => app.came_back(None, Instant::now()),
                    attach::Over::Ended(why) => app.came_back(Some(why), Instant::now()),
                    attach::Over::Idle => wanted.push(app.time_over()),
                }
                continue;
            }
            app.outcome(outcome);
        }
        // One plain line for whoever reads the serial log: people, and machines that wait for it.
        if let Some(url) = status.url.as_ref().filter(|_| serial && !said_ready && status.ready) {
            said_ready = true;
            REDRAW.store(true, Ordering::Relaxed);
            write(&format!("\x1b[0m\x1b[2J\x1b[HLimiQuantix ready: {url}\r\n"));
        }
        let (rows, columns) = terminal_size();
        let all =
            REDRAW.swap(false, Ordering::Relaxed) || whole.elapsed() >= REPAINT || size != (rows, columns);
        let present = typed.is_some_and(|at| at.elapsed() < WATCHED) || !app.at_rest() || open > 0;
        let counting = present && painted.is_none_or(|at| at.elapsed() >= COUNTING);
        PRESENT.store(present, Ordering::Relaxed);
        if all {
            whole = Instant::now();
            size = (rows, columns);
        }
        if all || changed || counting {
            app.room = pages::room(rows);
            let lines = screen::lines(&pages::paint(&status, &app, glyphs, columns, rows));
            write(&screen::update(shown.as_deref().filter(|_| !all), &lines));
            shown = Some(lines);
            painted = Some(Instant::now());
            changed = false;
        }
        let now = Instant::now();
        let rested = app.at_rest();
        wanted.extend(app.tick(now));
        // Nobody was there for too long.
        changed |= app.at_rest() != rested;
        for key in reader.read(&mut keys, if present { WAIT_MS } else { WAIT_UNWATCHED_MS }) {
            typed = Some(Instant::now());
            changed = true;
            if key == keys::Key::Redraw {
                REDRAW.store(true, Ordering::Relaxed);
            } else if open == 0 && wanted.iter().all(remote::Request::is_poll) {
                // What is typed before an answer is there would land on a page that was not seen.
                if let Some(request) = app.key(key, now) {
                    app.note = Some((false, "One moment ...".into()));
                    wanted.push(request);
                }
            }
        }
        for request in wanted {
            open += usize::from(!request.is_poll());
            if ask.send(request).is_err() {
                return;
            }
        }
    }
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

/// Reads keys of the terminal.
#[derive(Default)]
struct Reader {
    hung_up: bool,
}

impl Reader {
    /// The keys typed by now; waits so long for one.
    fn read(&mut self, keys: &mut keys::Keys, wait_ms: u16) -> Vec<keys::Key> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        if std::mem::take(&mut self.hung_up) {
            // No reason to spin.
            std::thread::sleep(Duration::from_millis(500));
        }
        let input = std::io::stdin();
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(wait_ms)) {
            Ok(0) if keys.waiting() => keys.idle().into_iter().collect(),
            Ok(n) if n > 0 => {
                let mut buffer = [0u8; 64];
                let read = nix::unistd::read(&input, &mut buffer).unwrap_or(0);
                self.hung_up = read == 0;
                buffer.iter().take(read).filter_map(|b| keys.byte(*b)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Rows and columns; 24 by 80 where the terminal does not know, as serial lines do not.
fn terminal_size() -> (u16, u16) {
    // SAFETY: TIOCGWINSZ fills the structure given, for which all-zero is a valid value.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size);
        size
    };
    match (size.ws_row, size.ws_col) {
        (0, _) | (_, 0) => (24, 80),
        (rows, columns) => (rows, columns),
    }
}
