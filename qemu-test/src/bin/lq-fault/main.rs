//! `lq-fault`: breaks things inside a host on request, and reads its figures. It exists only in images made for tests
//! (`lq-image iso --with-test-agent`), where `lq-init` starts it; the root image is verified, so no product image can come to
//! hold it.
//!
//! Listens on TCP port 7. One request a line; the answer is `ok LENGTH` or `error LENGTH` and that many bytes of text.
//!
//! Started as `lq-fault measure …` it is the stop watch of the monitors' benchmark instead (see `measure`), as `lq-fault moves
//! …` the one who moves a guest about (see `moves`).
//!
//! | request | does |
//! |---|---|
//! | `ps` | a line per process: pid, parent, name, RSS and PSS in KiB, user and system time in clock ticks |
//! | `kill SIGNAL PID` | sends a signal by its number |
//! | `freeze PID` | has a process stand still by the cgroup freezer, as no signal can PID 1 |
//! | `cat FILE` | the first 1 MiB of a file |
//! | `fill DIRECTORY KEEP_KIB` | fills the file system until KEEP_KIB are left, by one file; answers the bytes written |
//! | `unfill DIRECTORY` | removes that file |
//! | `cry WORDS` | the kernel says the words on every console, as it does when all is lost |

mod measure;
mod moves;

use std::{
    ffi::CString,
    fmt::Write as _,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    thread,
};

/// Echo's port: nothing of ours uses it.
const PORT: u16 = 7;
const FILLER: &str = ".lq-fault-filler";
const MAX_CAT: u64 = 1 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == "measure" => return measure::run(rest),
        Some((word, rest)) if word == "moves" => return moves::run(rest),
        _ => {}
    }
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                thread::spawn(move || {
                    // A client that went away is no fault of the host.
                    let _ = serve(&stream);
                });
            }
            Err(e) => eprintln!("lq-fault: accept: {e}"),
        }
    }
    Ok(())
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.by_ref().take(4096).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (word, text) = match answer(line.trim_end()) {
            Ok(text) => ("ok", text),
            Err(e) => ("error", format!("{}: {e}", line.trim_end())),
        };
        let mut out = stream;
        out.write_all(format!("{word} {}\n{text}", text.len()).as_bytes())?;
    }
}

fn answer(request: &str) -> io::Result<String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match words.as_slice() {
        ["ps"] => processes(),
        ["kill", signal, pid] => kill(number(signal)?, number(pid)?),
        ["freeze", pid] => freeze(number(pid)?),
        ["cat", file] => {
            let mut text = Vec::new();
            fs::File::open(file)?.take(MAX_CAT).read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        ["fill", directory, keep] => fill(Path::new(directory), number::<u64>(keep)? * 1024),
        ["unfill", directory] => fs::remove_file(Path::new(directory).join(FILLER)).map(|()| String::new()),
        ["cry", ..] => {
            let text = request.trim_start_matches("cry").trim();
            fs::write("/dev/kmsg", format!("<0>{text}\n")).map(|()| String::new())
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "unknown request")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{text}` is not a number")))
}

fn kill(signal: i32, pid: i32) -> io::Result<String> {
    if pid <= 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "pid 1 and groups are left alone"));
    }
    // SAFETY: kill takes two integers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(String::new()) } else { Err(io::Error::last_os_error()) }
}

fn freeze(pid: u32) -> io::Result<String> {
    let group = Path::new("/sys/fs/cgroup/lq-fault-frozen");
    if !group.exists() {
        fs::create_dir(group)?;
    }
    fs::write(group.join("cgroup.procs"), pid.to_string())?;
    fs::write(group.join("cgroup.freeze"), "1")?;
    Ok(String::new())
}

fn processes() -> io::Result<String> {
    let mut out = String::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        // A process may end while it is looked at; it is then left out.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        let comm = stat.get(open + 1..close).unwrap_or_default().replace(char::is_whitespace, "_");
        let fields: Vec<&str> = stat.get(close + 1..).unwrap_or_default().split_whitespace().collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or("0");
        // Kernel threads have no memory of their own and no such file.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib = |key: &str| {
            rollup
                .lines()
                .find_map(|l| l.strip_prefix(key))
                .and_then(|v| v.split_whitespace().next())
                .unwrap_or("0")
                .to_owned()
        };
        let (parent, user, system) = (field(1), field(11), field(12));
        let _ = writeln!(out, "{pid} {parent} {comm} {} {} {user} {system}", kib("Rss:"), kib("Pss:"));
    }
    Ok(out)
}

/// Allocates blocks in ever smaller pieces until `keep` bytes are left.
fn fill(directory: &Path, keep: u64) -> io::Result<String> {
    let file = fs::File::options().create(true).append(true).open(directory.join(FILLER))?;
    let mut length = file.metadata()?.len();
    let mut piece: u64 = 256 << 20;
    while piece >= 4096 {
        if free(directory)? < keep + piece || !allocate(&file, length, piece)? {
            piece /= 2;
        } else {
            length += piece;
        }
    }
    file.sync_all()?;
    Ok(length.to_string())
}

/// Bytes free to anyone. Root may go on into what is reserved for it, which is not counted.
fn free(directory: &Path) -> io::Result<u64> {
    let path = CString::new(directory.to_string_lossy().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: an all-zero statvfs is a valid value of that plain structure.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte and `facts` is writable; both live through the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts.f_bavail * facts.f_frsize)
}

/// Allocates; `false` when there is no room.
fn allocate(file: &fs::File, offset: u64, length: u64) -> io::Result<bool> {
    let (offset, length) =
        (offset.try_into().map_err(io::Error::other)?, length.try_into().map_err(io::Error::other)?);
    // SAFETY: the descriptor is open for the whole call; no memory is passed.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, length) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOSPC) { Ok(false) } else { Err(error) }
}
