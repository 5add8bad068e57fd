//! The way to the first password: the set-up code on the console, or the file the installer left.

use super::secret;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Longest password file.
const MAX_FILE: u64 = 4096;

/// The set-up code: whoever knows it can see the machine's console.
pub struct SetupCode {
    file: PathBuf,
    code: Mutex<Option<String>>,
}

impl SetupCode {
    /// Kept in this file, readable by root only.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file, code: Mutex::new(None) }
    }

    /// Makes a code and writes it for the console.
    pub(super) fn offer(&self) -> io::Result<()> {
        let code = secret::code(3);
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir)?;
        }
        let new = self.file.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{code}")?;
        fs::rename(&new, &self.file)?;
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
        Ok(())
    }

    /// Whether this is the code. Case and dashes do not matter.
    pub(super) fn matches(&self, typed: &str) -> bool {
        let code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        code.as_deref()
            .is_some_and(|code| secret::same(secret::plain(code).as_bytes(), secret::plain(typed).as_bytes()))
    }

    /// It is not needed any more.
    pub(super) fn forget(&self) {
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = fs::remove_file(&self.file);
    }
}

/// Removes the password file: what it held is stored as a hash now, or was not needed.
pub(super) fn remove_file(path: &Path) {
    if let Err(e) = fs::remove_file(path) {
        tracing::error!(file = %path.display(), error = %e, "the password file cannot be removed");
    }
}

/// Reads the password in the file.
pub(super) fn read_file(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() <= MAX_FILE => {}
        Ok(_) => {
            tracing::error!(file = %path.display(), "the password file is too large; it was not read");
            return None;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::error!(file = %path.display(), error = %e, "the password file cannot be read");
            return None;
        }
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(e) => {
            tracing::error!(file = %path.display(), error = %e, "the password file cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_code_is_offered_checked_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let setup = SetupCode::new(dir.path().join("run/setup-code"));
        assert!(!setup.matches(""));
        setup.offer().unwrap();
        let shown = fs::read_to_string(&setup.file).unwrap();
        assert_eq!(shown.trim().len(), 14);
        assert_eq!(fs::metadata(&setup.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(setup.matches(shown.trim()));
        assert!(setup.matches(&shown.to_lowercase().replace('-', " ")));
        assert!(!setup.matches("2222-2222-2222"));
        setup.forget();
        assert!(!setup.matches(shown.trim()));
        assert!(!setup.file.exists());
    }

    #[test]
    fn the_file_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin-password");
        fs::write(&file, "pass word \n").unwrap();
        assert_eq!(read_file(&file).as_deref(), Some("pass word "));
        remove_file(&file);
        assert_eq!(read_file(&file), None);
    }
}
