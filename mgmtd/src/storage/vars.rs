//! The variables of a machine's firmware: a file of its own, made once from the firmware's template.

use super::{Error, upload::sync_dir};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Extension of a file that is being made.
pub(super) const HALF_MADE: &str = "part";

/// Makes `target` a durable copy of `template`, unless it is there: then it is the machine's and stays as it is.
///
/// # Errors
/// The template cannot be read, or the pool does not take the file.
pub fn provide(template: &Path, target: &Path) -> Result<(), Error> {
    let failed = |context: String| |source| Error::Io { context, source };
    match target.symlink_metadata() {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(failed(format!("looking for {}", target.display()))(e)),
    }
    let template_bytes = fs::read(template).map_err(failed(format!("reading {}", template.display())))?;
    replace(target, &template_bytes)
}

/// Makes `target` durably these bytes, whatever it was.
///
/// # Errors
/// The pool does not take the file.
pub fn replace(target: &Path, bytes: &[u8]) -> Result<(), Error> {
    let half = target.with_extension(HALF_MADE);
    let made = (|| -> io::Result<()> {
        let mut to = File::options().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        to.write_all(bytes)?;
        to.sync_all()?;
        fs::rename(&half, target)
    })();
    made.map_err(|source| Error::Io { context: format!("making {}", target.display()), source })?;
    sync_dir(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (template, target) = (dir.path().join("template"), dir.path().join("vm.fd"));
        let error = provide(&template, &target).unwrap_err().to_string();
        assert!(error.contains("template"), "{error}");
        assert!(!target.exists());
        fs::write(&template, b"fresh").unwrap();
        fs::write(target.with_extension(HALF_MADE), b"longer than the template").unwrap();
        provide(&template, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"fresh");
        fs::write(&target, b"changed by the guest").unwrap();
        provide(&template, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"changed by the guest");
        replace(&target, b"brought").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"brought");
        assert!(!target.with_extension(HALF_MADE).exists());
    }
}
