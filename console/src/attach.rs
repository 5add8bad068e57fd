//! The serial console of a machine on this terminal, by the WebSocket of `mgmtd` (RFC 6455) in the session of the person who
//! logged in. Every key goes to the guest; Ctrl-] leaves.
//!
//! The guest may send whatever it likes, questions to the terminal among it: when its console is left the terminal is reset, and
//! what it still answers is no key that anybody pressed.

use crate::{api, app::IDLE};
use lq_api::{VmId, local::paths};
use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Longest a frame may be: more than the daemon sends.
const MAX_FRAME: usize = 256 * 1024;
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Anything: the other end is on this host.
const KEY: &str = "bGltaXF1YW50aXgtY29ucw==";
/// Longest wait before a signal is looked for.
const WAIT_MS: u16 = 200;
/// How long a terminal is silent that has answered whatever it was asked.
const SILENT_MS: u16 = 100;
/// Longest it is waited for.
const HUSH: Duration = Duration::from_secs(1);
/// Puts the terminal back: the screen, the colours, the palette, the characters.
const RESET: &str = "\x1bc\x1b]R\x1b[0m";

/// Why it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Left by Ctrl-].
    Left,
    /// Nobody typed anything for [`IDLE`].
    Idle,
    /// It ended; why, in words.
    Ended(String),
}

/// Carries it until it is over. `ending` says that the console itself is to end.
pub(crate) fn run(vm: VmId, name: &str, token: &str, ending: impl Fn() -> bool) -> Over {
    let mut socket = match open(Path::new(paths::API_SOCKET), vm, token) {
        Ok(socket) => socket,
        Err(why) => return Over::Ended(why),
    };
    show(format!("{RESET}\x1b[2J\x1b[HConsole of {name}. Ctrl-] leaves it.\r\n\n").as_bytes());
    let mode = Raw::begin();
    let over = carry(&mut socket, &io::stdin(), &ending, IDLE);
    let _ = socket.write_all(&frame(8, &1000u16.to_be_bytes()));
    show(RESET.as_bytes());
    hush(&io::stdin());
    drop(mode);
    over
}

/// Throws away what comes from the terminal until it is silent for [`SILENT_MS`], at most for [`HUSH`].
fn hush(input: &impl AsFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let end = Instant::now() + HUSH;
    while Instant::now() < end {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        let waiting = poll(&mut fds, PollTimeout::from(SILENT_MS)).is_ok_and(|ready| ready > 0);
        if !waiting || !nix::unistd::read(input, &mut [0u8; 1024]).is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// The terminal without any meaning of its own for keys, until dropped.
struct Raw(Option<nix::sys::termios::Termios>);

impl Raw {
    fn begin() -> Self {
        use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
        let input = io::stdin();
        let before = tcgetattr(&input).ok();
        if let Some(mut raw) = before.clone() {
            cfmakeraw(&mut raw);
            let _ = tcsetattr(&input, SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = nix::sys::termios::tcsetattr(io::stdin(), nix::sys::termios::SetArg::TCSANOW, before);
        }
    }
}

fn show(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

fn open(socket: &Path, vm: VmId, token: &str) -> Result<UnixStream, String> {
    let broken = |e: io::Error| format!("the console cannot be opened: {e}");
    let mut stream = UnixStream::connect(socket).map_err(broken)?;
    stream.set_read_timeout(Some(api::TIMEOUT)).map_err(broken)?;
    stream.set_write_timeout(Some(api::TIMEOUT)).map_err(broken)?;
    let head = format!(
        "GET /api/v1/vms/{vm}/console HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(broken)?;
    // Byte by byte: what follows the head are frames already.
    let (mut answer, mut byte) = (Vec::new(), [0u8]);
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_HEAD {
        stream.read_exact(&mut byte).map_err(broken)?;
        answer.extend(byte);
    }
    if answer.starts_with(b"HTTP/1.1 101 ") {
        return Ok(stream);
    }
    let mut body = vec![0; MAX_HEAD];
    let got = stream.read(&mut body).unwrap_or(0);
    let body = body.get(..got).unwrap_or_default();
    Err(api::reason(body).unwrap_or_else(|| "the console cannot be opened: it was refused".into()))
}

fn carry(socket: &mut UnixStream, input: &impl AsFd, ending: &impl Fn() -> bool, idle: Duration) -> Over {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut frames = Frames::default();
    let mut last_key = Instant::now();
    let ended = |why: &str| Over::Ended(format!("the console ended: {why}"));
    loop {
        if ending() || last_key.elapsed() >= idle {
            return if ending() { Over::Left } else { Over::Idle };
        }
        let mut fds =
            [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(WAIT_MS)).is_err() {
            continue;
        }
        let ready = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        let (typed, said) = (ready(0), ready(1));
        if typed {
            let mut buffer = [0u8; 1024];
            match nix::unistd::read(input, &mut buffer) {
                // The terminal hung up.
                Ok(0) => std::thread::sleep(Duration::from_millis(500)),
                Ok(count) => {
                    last_key = Instant::now();
                    let keys = buffer.get(..count).unwrap_or_default();
                    let leave = keys.iter().position(|b| *b == LEAVE);
                    let keys = keys.get(..leave.unwrap_or(count)).unwrap_or_default();
                    if !keys.is_empty() && socket.write_all(&frame(2, keys)).is_err() {
                        return ended("the management service does not take what is typed");
                    }
                    if leave.is_some() {
                        return Over::Left;
                    }
                }
                Err(_) => {}
            }
        }
        if said {
            let mut buffer = vec![0u8; 32 * 1024];
            match socket.read(&mut buffer) {
                Ok(0) => return ended("the management service hung up"),
                Ok(count) => match frames.feed(buffer.get(..count).unwrap_or_default()) {
                    Ok(whole) => {
                        for frame in whole {
                            if let Some(over) = take(socket, &frame) {
                                return over;
                            }
                        }
                    }
                    Err(TooLong) => return ended("an answer that does not fit"),
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {
                }
                Err(e) => return ended(&e.to_string()),
            }
        }
    }
}

/// Obeys a frame: shows what the guest said, answers a ping, ends at a farewell.
fn take(socket: &mut UnixStream, (kind, payload): &(u8, Vec<u8>)) -> Option<Over> {
    match kind {
        0..=2 => show(payload),
        8 => {
            let why = payload.get(2..).filter(|w| !w.is_empty()).unwrap_or(b"the machine is gone");
            return Some(Over::Ended(format!("the console ended: {}", String::from_utf8_lossy(why))));
        }
        9 => {
            let _ = socket.write_all(&self::frame(10, payload));
        }
        _ => {}
    }
    None
}

/// A frame of this kind, whole, masked with zeros: there is no proxy on the way that a mask would guard.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kind];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            // What is typed at once is less than 64 KiB.
            bytes.push(0x80 | 126);
            bytes.extend((long.min(0xffff) as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload.iter().take(0xffff));
    bytes
}

/// A frame longer than any the daemon sends.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Frames of a server (never masked) out of bytes that are cut anywhere.
#[derive(Default)]
struct Frames {
    pending: Vec<u8>,
}

impl Frames {
    /// The frames that are whole now: kind and content.
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, TooLong> {
        self.pending.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some((kind, from, length)) = self.head() {
            if length > MAX_FRAME {
                return Err(TooLong);
            }
            let Some(payload) = self.pending.get(from..from + length) else { break };
            whole.push((kind, payload.to_vec()));
            self.pending.drain(..from + length);
        }
        Ok(whole)
    }

    /// Kind, where the content begins, its length.
    fn head(&self) -> Option<(u8, usize, usize)> {
        let kind = self.pending.first()? & 15;
        let short = usize::from(self.pending.get(1)? & 127);
        match short {
            126 => {
                let bytes = self.pending.get(2..4)?.try_into().ok()?;
                Some((kind, 4, usize::from(u16::from_be_bytes(bytes))))
            }
            127 => {
                let bytes = self.pending.get(2..10)?.try_into().ok()?;
                Some((kind, 10, usize::try_from(u64::from_be_bytes(bytes)).unwrap_or(usize::MAX)))
            }
            short => Some((kind, 2, short)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_the_terminal_answers_the_guest_is_no_key() {
        let (mut terminal, input) = UnixStream::pair().unwrap();
        // A guest asked where the cursor is, what the terminal is and what colour it has.
        let answers = std::thread::spawn(move || {
            for answer in [&b"\x1b[24;80R"[..], b"\x1b[?6c", b"\x1b]11;rgb:0000/0000/0000\x07"] {
                terminal.write_all(answer).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            terminal
        });
        hush(&input);
        let mut terminal = answers.join().unwrap();
        input.set_nonblocking(true).unwrap();
        assert!((&input).read(&mut [0u8; 64]).is_err(), "something is left to be taken for keys");
        input.set_nonblocking(false).unwrap();
        // What is pressed afterwards is heard.
        terminal.write_all(b"k").unwrap();
        let mut key = [0u8; 8];
        assert_eq!((&input).read(&mut key).unwrap(), 1);
        // One that never stops is not listened to for ever.
        let chatter = std::thread::spawn(move || while terminal.write_all(b"x").is_ok() {});
        let began = Instant::now();
        hush(&input);
        assert!(began.elapsed() < HUSH * 5);
        drop(input);
        chatter.join().unwrap();
    }

    #[test]
    fn frames_do_not_depend_on_how_bytes_arrive() {
        let mut bytes = vec![0x82, 3, b'a', b'b', b'c'];
        bytes.extend([0x82, 126, 1, 0]);
        bytes.extend([7; 256]);
        bytes.extend([0x89, 0]);
        for step in [1, 2, 7, 300] {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for part in bytes.chunks(step) {
                got.extend(frames.feed(part).unwrap());
            }
            assert_eq!(got, [(2, b"abc".to_vec()), (2, vec![7; 256]), (9, vec![])], "{step}");
        }
        let mut frames = Frames::default();
        assert_eq!(frames.feed(&[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]), Err(TooLong));
    }

    #[test]
    fn what_is_typed_is_one_masked_frame() {
        assert_eq!(frame(2, b"ls"), [0x82, 0x82, 0, 0, 0, 0, b'l', b's']);
        let long = frame(2, &[b'x'; 300]);
        assert_eq!(&long[..4], [0x82, 0xfe, 1, 44]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn a_refusal_is_told_in_the_daemons_words_and_an_opened_console_begins_at_its_first_frame() {
        let path = std::env::temp_dir().join(format!("lq-console-attach-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [
                b"HTTP/1.1 403 Forbidden\r\n\r\n{\"detail\":\"you may not\"}".as_slice(),
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x82\x02ok",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                assert!(String::from_utf8(head).unwrap().contains("Authorization: Bearer t\r\n"));
                stream.write_all(answer).unwrap();
            }
        });
        let vm = "01890000-0000-7000-8000-000000000001".parse().unwrap();
        assert_eq!(open(&path, vm, "t").unwrap_err(), "you may not");
        let mut stream = open(&path, vm, "t").unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(Frames::default().feed(&bytes).unwrap(), [(2, b"ok".to_vec())]);
        server.join().unwrap();
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn whoever_types_nothing_for_long_is_taken_from_the_machine() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let (input, typed) = nix::unistd::pipe().unwrap();
        let idle = Duration::from_millis(600);
        let begun = Instant::now();
        let guest = std::thread::spawn(move || {
            // What is said is no sign of life of the one who is to listen.
            std::thread::sleep(Duration::from_millis(200));
            nix::unistd::write(&typed, b"ls").unwrap();
            let mut got = [0; 8];
            theirs.read_exact(&mut got).unwrap();
            theirs.write_all(b"\x89\x00").unwrap();
            (typed, theirs, got)
        });
        assert_eq!(carry(&mut ours, &input, &|| false, idle), Over::Idle);
        assert!(
            begun.elapsed() >= Duration::from_millis(800),
            "not {:?} after what was typed",
            begun.elapsed()
        );
        let (typed, _theirs, got) = guest.join().unwrap();
        assert_eq!(got, [0x82, 0x82, 0, 0, 0, 0, b'l', b's']);
        // Ctrl-] leaves, and what was typed before it still goes.
        nix::unistd::write(&typed, b"x\x1dy").unwrap();
        assert_eq!(carry(&mut ours, &input, &|| false, idle), Over::Left);
    }
}
