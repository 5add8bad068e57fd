//! `lq-fault measure`: starts a monitor, waits for its guest's first words from user space, and says what that cost.
//!
//! ```text
//! lq-fault measure WORD GUEST_MIB [--socket PATH] -- PROGRAM ARGUMENT…
//! ```
//! Prints one line: `seconds=… overhead_kib=… exits=… counts=…`. The guest's words are read from the monitor's standard output, or from the
//! socket where one is named. Overhead is the memory of the process that is not the guest's own: every mapping but those as large
//! as the guest's memory. Exits are the kernel's count for the VM; -1 where it does not tell. Counts are all
//! it counts for the VM, `name:value` with commas between, those that are not 0.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// After this long the guest has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the measurement and prints its line.
pub(crate) fn run(arguments: &[String]) -> io::Result<()> {
    let usage =
        || io::Error::new(io::ErrorKind::InvalidInput, "measure WORD GUEST_MIB [--socket PATH] -- PROGRAM …");
    let split = arguments.iter().position(|a| a == "--").ok_or_else(usage)?;
    let (options, command) =
        (arguments.get(..split).unwrap_or_default(), arguments.get(split + 1..).unwrap_or_default());
    let (word, guest_mib, socket) = match options {
        [word, mib] => (word, mib, None),
        [word, mib, flag, path] if flag == "--socket" => (word, mib, Some(path.as_str())),
        _ => return Err(usage()),
    };
    let guest_kib = super::number::<u64>(guest_mib)? * 1024;
    let (program, rest) = command.split_first().ok_or_else(usage)?;
    if let Some(path) = socket {
        let _ = fs::remove_file(path);
    }
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(if socket.is_some() { Stdio::null() } else { Stdio::piped() })
        .process_group(0)
        .spawn()?;
    // A monitor that says nothing at all would hold up the reading below for ever.
    let pid = child.id();
    thread::spawn(move || {
        thread::sleep(LIMIT);
        let _ = super::kill(9, pid.cast_signed());
    });
    let result = observe(&mut child, word, guest_kib, socket, start);
    // The guest may have ended by itself meanwhile.
    let _ = child.kill();
    let _ = child.wait();
    println!("{}", result?);
    Ok(())
}

fn observe(
    child: &mut Child,
    word: &str,
    guest_kib: u64,
    socket: Option<&str>,
    start: Instant,
) -> io::Result<String> {
    let mut reader: Box<dyn Read> = match (socket, child.stdout.take()) {
        (Some(path), _) => {
            let stream = connect(child, path, start)?;
            stream.set_read_timeout(Some(LIMIT))?;
            Box::new(stream)
        }
        (None, Some(stdout)) => Box::new(stdout),
        (None, None) => return Err(io::Error::other("the monitor has no standard output")),
    };
    let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let n = reader.read(&mut chunk)?;
        said.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if said.windows(word.len()).any(|w| w == word.as_bytes()) {
            break;
        }
        if n == 0 || start.elapsed() > LIMIT {
            let text = String::from_utf8_lossy(&said).into_owned();
            return Err(io::Error::other(format!("the guest did not say `{word}` but: {text}")));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let pid = child.id();
    let overhead = overhead_kib(pid, guest_kib)?;
    let counts = counts(pid);
    let exits = counts.get("exits").map_or(-1, |n| i64::try_from(*n).unwrap_or(i64::MAX));
    let counts: Vec<String> = counts.iter().map(|(name, n)| format!("{name}:{n}")).collect();
    Ok(format!("seconds={seconds:.3} overhead_kib={overhead} exits={exits} counts={}", counts.join(",")))
}

fn connect(child: &mut Child, path: &str, start: Instant) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(e) if start.elapsed() > LIMIT => return Err(e),
            Err(_) => {
                if let Some(status) = child.try_wait()? {
                    return Err(io::Error::other(format!("the monitor ended at once: {status}")));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Memory of the process in mappings that are not the guest's.
fn overhead_kib(pid: u32, guest_kib: u64) -> io::Result<u64> {
    Ok(sum_overhead(&fs::read_to_string(format!("/proc/{pid}/smaps"))?, guest_kib))
}

fn sum_overhead(smaps: &str, guest_kib: u64) -> u64 {
    let (mut sum, mut size) = (0, 0);
    for line in smaps.lines() {
        let number = |key: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok();
        if let Some(kib) = number("Size:") {
            size = kib;
        } else if let Some(kib) = number("Pss:")
            && size < guest_kib / 2
        {
            sum += kib;
        }
    }
    sum
}

/// What the kernel counts for the process's VM, where it does and there is any.
fn counts(pid: u32) -> BTreeMap<String, u64> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let prefix = format!("{pid}-");
    let machine = list(Path::new("/sys/kernel/debug/kvm"))
        .find(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path());
    let files = machine.iter().flat_map(|path| list(path));
    files
        .filter_map(|e| {
            let count = fs::read_to_string(e.path()).ok()?.trim().parse().ok()?;
            (count > 0).then(|| (e.file_name().to_string_lossy().into_owned(), count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sum_overhead;

    #[test]
    fn the_guests_memory_is_left_out() {
        let smaps = "7f00-7f10 rw-p 0\nSize: 131072 kB\nPss: 50000 kB\n\
                     5500-5510 r-xp 0 /usr/lib/x\nSize: 900 kB\nRss: 800 kB\nPss: 700 kB\nPss_Dirty: 3 kB\n\
                     5600-5610 rw-p 0\nSize: 64 kB\nPss: 40 kB\n";
        assert_eq!(sum_overhead(smaps, 131_072), 740);
    }
}
