//! The log of a service: a file of bounded size with one predecessor, and the last lines in memory for when it fails.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
};

/// Size at which the file becomes its own predecessor (`….1`).
const MAX_FILE: u64 = 2 * 1024 * 1024;
const MAX_LAST_LINE: usize = 400;
const LAST_LINES: usize = 5;

/// A log.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max: u64,
    last: VecDeque<String>,
    partial: Vec<u8>,
}

impl Ring {
    /// The log at `path`; the directory is made where missing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        if let Some(dir) = path.parent() {
            let _ = fs::create_dir_all(dir);
        }
        let size = fs::metadata(&path).map_or(0, |m| m.len());
        Self { path, file: None, size, max: MAX_FILE, last: VecDeque::new(), partial: Vec::new() }
    }

    /// Appends what the service wrote. A file that cannot be written loses the log, never the service.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > self.max {
            self.file = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = fs::rename(&self.path, old);
            self.size = 0;
        }
        if self.file.is_none() {
            self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.size += bytes.len() as u64;
        }
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&self.partial).into_owned();
                self.partial.clear();
                if !line.trim().is_empty() {
                    self.last.push_back(line);
                    if self.last.len() > LAST_LINES {
                        self.last.pop_front();
                    }
                }
            } else if self.partial.len() < MAX_LAST_LINE {
                self.partial.push(*byte);
            }
        }
    }

    /// The last lines, oldest first.
    pub fn last_lines(&self) -> Vec<&str> {
        self.last.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_never_holds_more_than_twice_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log/x.log");
        let mut ring = Ring::new(&path);
        ring.max = 100;
        for n in 0..50 {
            ring.write(format!("line {n}\n").as_bytes());
        }
        let (new, old) = (fs::read(&path).unwrap(), fs::read(dir.path().join("log/x.log.1")).unwrap());
        assert!(new.len() <= 100 && old.len() <= 100);
        assert!(String::from_utf8(new).unwrap().ends_with("line 49\n"));
        assert_eq!(ring.last_lines(), ["line 45", "line 46", "line 47", "line 48", "line 49"]);
    }
}
