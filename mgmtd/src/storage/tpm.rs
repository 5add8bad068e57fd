//! What a machine's TPM keeps: a directory of its own, beside the variables of the machine's firmware and with their life.
//!
//! ```text
//! <VM id>.tpm/tpm2-00.permall         keys, counters, what was sealed: all that outlives power
//!             tpm2-00.volatilestate   of a run that was saved; never gone on with, so it is removed before each start
//!             .lock                   held by swtpm while it runs, at the server where the pool is one
//! ```
//! Only swtpm writes there, as a user of its own; nothing that is found there is trusted or followed.

use super::{Error, upload::sync_dir, vars};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown},
    path::Path,
};

/// Extension of the directory.
pub(super) const EXTENSION: &str = "tpm";
const KEPT: &str = "tpm2-00.permall";
const VOLATILE: &str = "tpm2-00.volatilestate";
const LOCK: &str = ".lock";
/// More than any TPM keeps, bytes.
const MOST: u64 = 1 << 20;
/// A lock on a whole file, against all others.
#[allow(
    clippy::cast_possible_truncation,
    reason = "constants of the C library, which has them in another type"
)]
const WHOLE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as libc::c_short,
    l_whence: libc::SEEK_SET as libc::c_short,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};

fn failed(what: &str, dir: &Path) -> impl FnOnce(io::Error) -> Error {
    let context = format!("{what} {}", dir.display());
    |source| Error::Io { context, source }
}

/// Makes `dir` ready for a start, as the directory of this user and group where they are given. What is kept in it stays.
///
/// # Errors
/// The pool does not take it.
pub fn provide(dir: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    make(dir)?;
    match fs::remove_file(dir.join(VOLATILE)) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(failed("removing what a run left in", dir)(e));
        }
        _ => {}
    }
    let Some((user, group)) = owner else { return Ok(()) };
    let own = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            lchown(entry?.path(), Some(user), Some(group))?;
        }
        lchown(dir, Some(user), Some(group))
    };
    match own() {
        // A server that takes all users for one (`all_squash`): whoever it is, it may write there.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
        owned => owned.map_err(failed("giving its user", dir)),
    }
}

fn make(dir: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(dir),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed("making", dir)(e)),
    }
}

/// What is kept in `dir`; `None`: nothing yet.
///
/// # Errors
/// It cannot be read, or is nothing that a TPM keeps.
pub fn kept(dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(dir.join(KEPT))?;
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > MOST {
            return Err(io::Error::other(format!("{KEPT} is no file of a TPM")));
        }
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("reading what a TPM keeps in", dir)(e)),
    }
}

/// Makes `dir` keep durably these bytes and nothing else.
///
/// # Errors
/// The pool does not take them.
pub fn replace(dir: &Path, bytes: &[u8]) -> Result<(), Error> {
    make(dir)?;
    let target = dir.join(KEPT);
    // What its user may have put there is not written through.
    for name in [VOLATILE.as_ref(), target.with_extension(vars::HALF_MADE).as_path()] {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("making room in", dir)(e)),
            _ => {}
        }
    }
    vars::replace(&target, bytes)
}

/// Bytes that its files have.
pub(super) fn size(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Removes it durably. One that is not there is removed.
pub(super) fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Ok(()) => sync_dir(dir),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("removing", dir)(e)),
    }
}

/// Whether a TPM runs from it, on any host.
pub(super) fn in_use(dir: &Path) -> Result<bool, Error> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().write(true).custom_flags(flags).open(dir.join(LOCK)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed("looking whether a TPM runs from", dir)(e)),
    };
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&WHOLE)) {
        Ok(_) => Ok(false),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(true),
        Err(e) => Err(failed("looking whether a TPM runs from", dir)(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn what_is_kept_stays_and_what_a_run_left_goes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("vm.tpm");
        assert_eq!(kept(&dir).unwrap(), None);
        let me = fs::metadata(home.path()).map(|m| (m.uid(), m.gid())).unwrap();
        provide(&dir, Some(me)).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        fs::write(dir.join(KEPT), "keys").unwrap();
        fs::write(dir.join(VOLATILE), "registers").unwrap();
        provide(&dir, Some(me)).unwrap();
        assert!(!dir.join(VOLATILE).exists());
        assert_eq!((kept(&dir).unwrap().as_deref(), size(&dir).unwrap()), (Some(&b"keys"[..]), 4));

        let other = home.path().join("other.tpm");
        replace(&other, b"keys").unwrap();
        replace(&other, b"newer").unwrap();
        assert_eq!(kept(&other).unwrap().unwrap(), b"newer");
        remove(&other).unwrap();
        remove(&other).unwrap();
        assert!(!other.exists());
    }

    #[test]
    fn what_its_user_put_there_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (dir, outside) = (home.path().join("vm.tpm"), home.path().join("outside"));
        provide(&dir, None).unwrap();
        fs::write(&outside, "not of a TPM").unwrap();
        symlink(&outside, dir.join(KEPT)).unwrap();
        symlink(&outside, dir.join(KEPT).with_extension(vars::HALF_MADE)).unwrap();
        assert!(kept(&dir).is_err());
        replace(&dir, b"keys").unwrap();
        assert_eq!(kept(&dir).unwrap().unwrap(), b"keys");
        fs::remove_file(dir.join(KEPT)).unwrap();
        nix::unistd::mkfifo(&dir.join(KEPT), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(kept(&dir).unwrap_err().to_string().contains("vm.tpm"));
        symlink(&outside, dir.join("more")).unwrap();
        remove(&dir).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"not of a TPM");
    }

    #[test]
    fn one_that_runs_is_known_by_its_lock() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("vm.tpm");
        provide(&dir, None).unwrap();
        assert!(!in_use(&dir).unwrap());
        let file = File::create(dir.join(LOCK)).unwrap();
        assert!(!in_use(&dir).unwrap());
        fcntl(&file, FcntlArg::F_OFD_SETLK(&WHOLE)).unwrap();
        assert!(in_use(&dir).unwrap());
        drop(file);
        assert!(!in_use(&dir).unwrap());
    }
}
