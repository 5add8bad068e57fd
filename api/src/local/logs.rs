//! Reading the logs of this host.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// The last `most` bytes of a file, from the beginning of a line: what a log begins with in its middle is half a line, and a
/// secret whose beginning is cut off would not be known as one.
///
/// # Errors
/// It cannot be read.
pub fn end_of(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if from == 0 {
        text.into_owned()
    } else {
        text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
    })
}

/// The kernel's log with its levels, as much as it keeps.
#[must_use]
pub fn kernel() -> String {
    const SYSLOG_ACTION_READ_ALL: libc::c_int = 3;
    let mut bytes = vec![0u8; 1 << 20];
    let room = libc::c_int::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: klogctl writes at most `room` bytes to the buffer, which has as many.
    let got = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, bytes.as_mut_ptr().cast(), room) };
    bytes.truncate(usize::try_from(got).unwrap_or(0));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_whole_lines_of_its_end_are_taken() {
        const MOST: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.log");
        let line = format!("{}\n", "x".repeat(99));
        std::fs::write(&path, line.repeat(20_000)).unwrap();
        let text = end_of(&path, MOST).unwrap();
        assert!(text.len() as u64 <= MOST && text.len() as u64 > MOST - 100);
        assert!(text.lines().all(|l| l.len() == 99));
    }
}
