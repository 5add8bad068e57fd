//! The one error of early boot, installer and PID 1: what was being done, and why it failed.
//!
//! Everything here talks to a kernel and to disks; callers never branch on the kind of failure but show it, so one type with
//! its context is enough. [`chain`] shows an error with all its causes, once.

use std::{error::Error as StdError, fmt::Write as _, io};

/// What was being done, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something is not as it has to be; the text says what and what to do.
    #[error("{0}")]
    Wrong(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something is not as it has to be.
    pub fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }
}

/// Adds what was being done to a failure of the system.
pub trait Doing<T> {
    /// `doing` continues the sentence "failed while …" and names the object.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::System { doing: doing(), source: e.into() })
    }
}

/// An error and all its causes in one line.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let _ = write!(text, ": {e}");
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_shown_once() {
        let failed: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ENOENT));
        let error = failed.doing(|| "open /x".into()).unwrap_err();
        assert_eq!(chain(&error), "open /x: No such file or directory (os error 2)");
    }
}
