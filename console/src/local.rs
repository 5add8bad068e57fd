//! What the console asks of PID 1 itself, and reads of this host's files: no part of `mgmtd` is needed for it.

use crate::remote::LogSource;
use lq_api::local::{
    init::{InitAnswer, InitRequest},
    logs, paths,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
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
    logs::end_of(path, MAX_LOG).unwrap_or_else(|e| format!("{}: {e}\n", path.display()))
}

/// The kernel's log without its levels.
fn kernel_log() -> String {
    logs::kernel().lines().map(|l| without_level(l).to_owned() + "\n").collect()
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
