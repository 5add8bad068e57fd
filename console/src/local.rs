//! What the console asks of PID 1 itself, and reads of this host's files: no part of `mgmtd` is needed for it.

use crate::remote::LogSource;
use lq_api::local::{
    init::{InitAnswer, InitRequest},
    paths,
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of a log that is shown: its end.
const MAX_LOG: u64 = 512 * 1024;

/// Asks PID 1 something.
pub(crate) fn init(request: &InitRequest) -> Result<InitAnswer, String> {
    let ask = || -> std::io::Result<InitAnswer> {
        let mut stream = UnixStream::connect(paths::INIT_SOCKET)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).take(1 << 20).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    ask().map_err(|e| format!("PID 1 does not answer: {e}"))
}

/// The lines of a log, the newest last.
pub(crate) fn log(source: &LogSource) -> Vec<String> {
    let text = match source {
        LogSource::Kernel => kernel_log(),
        LogSource::Init => {
            kernel_log().lines().filter(|l| l.contains("lq-init:")).fold(String::new(), |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            })
        }
        LogSource::Service(name) => end_of(&Path::new(paths::RUN).join("log").join(format!("{name}.log"))),
        LogSource::Monitor(vm) => {
            let dir: PathBuf = Path::new(paths::RUN_VMS).join(vm.to_string());
            end_of(&dir.join(paths::VM_LOG))
        }
    };
    text.lines().map(str::to_owned).collect()
}

fn end_of(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(MAX_LOG);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // What it begins with is half a line.
        Ok(if from == 0 { text } else { text.split_once('\n').map_or(String::new(), |(_, r)| r.to_owned()) })
    };
    read().unwrap_or_else(|e| format!("{}: {e}\n", path.display()))
}

/// The kernel's log without its levels, as much as it keeps.
fn kernel_log() -> String {
    const SYSLOG_ACTION_READ_ALL: libc::c_int = 3;
    let mut bytes = vec![0u8; 1 << 20];
    let room = libc::c_int::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: klogctl writes at most `room` bytes to the buffer, which has as many.
    let got = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, bytes.as_mut_ptr().cast(), room) };
    bytes.truncate(usize::try_from(got).unwrap_or(0));
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(|l| without_level(l).to_owned() + "\n").collect()
}

/// A line of the kernel's log without `<6>`.
fn without_level(line: &str) -> &str {
    line.strip_prefix('<').and_then(|l| l.split_once('>')).map_or(line, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_left_out() {
        assert_eq!(without_level("<6>[    0.1] text"), "[    0.1] text");
        assert_eq!(without_level("text"), "text");
    }

    #[test]
    fn a_log_that_is_not_there_says_so() {
        assert!(end_of(Path::new("/nowhere/x.log")).contains("/nowhere/x.log"));
    }
}
