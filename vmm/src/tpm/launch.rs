//! `lq-vmm tpm`: becomes the swtpm process of one machine, locked in as a monitor is.
//!
//! ```text
//!  listen at the control socket ─▶ jail: only the host's libraries and the TPM's own directory ─▶ exec swtpm
//! ```
//! The socket is made before the jail and handed on, so that a program taken over by its guest reaches no path but its state, and
//! so that whoever started it knows by the socket that it is on its way. It ends when its monitor hangs up.

use crate::jail::{self, Shown};
use lq_api::local::{paths, vmm::Jail};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixListener, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

/// Where its directory is in the jail.
const STATE: &str = "state";

/// What it is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The program.
    pub program: PathBuf,
    /// The directory it keeps its state in; its user may write there.
    pub state: PathBuf,
    /// Where it listens. Nothing is there yet; the directory is also what the root of the jail is put over.
    pub socket: PathBuf,
    /// Whom it runs as, locked in; else as it was started.
    pub jail: Option<Jail>,
}

impl Options {
    /// From the words of a command line.
    ///
    /// # Errors
    /// What about them is not understood, in words.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let (mut program, mut state, mut socket, mut jail) = (PathBuf::from(paths::SWTPM), None, None, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match *word {
                "--program" => program = PathBuf::from(value),
                "--state" => state = Some(PathBuf::from(value)),
                "--socket" => socket = Some(PathBuf::from(value)),
                "--jail" => {
                    jail = Some(user(value).ok_or_else(|| format!("--jail {value}: not USER:GROUP"))?)
                }
                other => return Err(format!("unknown argument {other}")),
            }
        }
        let state = state.ok_or("--state is missing")?;
        let socket = socket.ok_or("--socket is missing")?;
        for path in [&program, &state, &socket] {
            if !path.is_absolute() {
                return Err(format!("{} is not an absolute path", path.display()));
            }
        }
        Ok(Self { program, state, socket, jail })
    }
}

/// Two numbers, neither root.
fn user(text: &str) -> Option<Jail> {
    let (uid, gid) = text.split_once(':')?;
    let id = |text: &str| text.parse().ok().filter(|id| *id != 0);
    Some(Jail { uid: id(uid)?, gid: id(gid)? })
}

/// Why there is no TPM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no directory for its state.
    #[error("the directory of its state, {path}, cannot be used")]
    State {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The jail.
    #[error(transparent)]
    Jail(#[from] jail::Error),
    /// The program cannot be executed.
    #[error("{program} cannot be started; is swtpm installed?")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// Becomes it; returns only why it cannot. Called while the process has one thread.
#[must_use]
pub fn run(options: &Options) -> Error {
    match prepare(options) {
        Ok((mut command, _listener)) => {
            let source = command.exec();
            Error::Program { program: options.program.display().to_string(), source }
        }
        Err(error) => error,
    }
}

/// All but the last step. The listener has to live until then.
fn prepare(Options { program, state, socket, jail }: &Options) -> Result<(Command, OwnedFd), Error> {
    let broken = |source| Error::State { path: state.display().to_string(), source };
    fs::read_dir(state).map_err(broken)?;
    let failed = |source| Error::Listen { path: socket.display().to_string(), source };
    let listener = OwnedFd::from(UnixListener::bind(socket).map_err(failed)?);
    // It is handed on.
    // SAFETY: a descriptor of ours; nothing but its flag is changed.
    if unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_SETFD, 0) } == -1 {
        return Err(failed(io::Error::last_os_error()));
    }
    let mut kept = state.clone();
    if let Some(jail) = jail {
        // Libraries are found by the names they have on the host.
        let system = ["usr", "lib", "lib64"].map(|name| (Path::new("/").join(name), name));
        let system = system.into_iter().filter(|(from, _)| from.exists());
        let system = system.map(|(from, name)| Shown { from, name, writable: false });
        let own = Shown { from: state.clone(), name: STATE, writable: true };
        let over = socket.parent().unwrap_or(Path::new("/"));
        jail::enter_with(*jail, over, &system.chain([own]).collect::<Vec<_>>(), &[])?;
        kept = Path::new("/").join(STATE);
    }
    let mut command = Command::new(program);
    command
        .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
        .arg(format!("dir={},mode=0600", kept.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,fd={}", listener.as_raw_fd()));
    Ok((command, listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_named() {
        let whole = ["--state", "/s", "--socket", "/r/tpm.sock", "--jail", "200001:200002"];
        let options = Options::parse(&whole).unwrap();
        assert_eq!(options.jail, Some(Jail { uid: 200_001, gid: 200_002 }));
        assert_eq!(options.program, Path::new(paths::SWTPM));
        for (words, says) in [
            (&["--state", "/s"][..], "--socket"),
            (&["--socket", "/s"], "--state"),
            (&["--state", "s", "--socket", "/s"], "absolute"),
            (&["--state", "/s", "--socket"], "--socket needs a value"),
            (&["--state", "/s", "--socket", "/r", "--jail", "0:1"], "--jail 0:1"),
            (&["--state", "/s", "--socket", "/r", "--jail", "1"], "--jail 1"),
            (&["--other", "/s"], "--other"),
        ] {
            let error = Options::parse(words).unwrap_err();
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let options = |program: &str, state: PathBuf| Options {
            program: program.into(),
            state,
            socket: dir.path().join("tpm.sock"),
            jail: None,
        };
        let error = run(&options("/none", dir.path().join("none")));
        assert!(matches!(&error, Error::State { path, .. } if path.ends_with("none")), "{error}");
        assert!(!dir.path().join("tpm.sock").exists());
        let error = run(&options("/none", dir.path().into()));
        assert!(matches!(&error, Error::Program { program, .. } if program == "/none"), "{error}");
        let error = run(&options("/none", dir.path().into()));
        assert!(matches!(&error, Error::Listen { .. }), "{error}");
    }
}
