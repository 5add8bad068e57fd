//! What can go wrong when talking to a host: one typed error for the whole client.

use super::pin::Fingerprint;
use crate::{
    problem::{Kind, Problem},
    task::{Task, TaskState},
};
use std::{path::PathBuf, time::Duration};

/// The cause of a failed exchange, kept for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host understood the request and refused it.
    #[error(transparent)]
    Problem(Box<Problem>),

    /// The host could not be reached, or the connection broke. Whether the request was carried out is not known.
    #[error("cannot {what} {host}")]
    Transport {
        /// `connect to`, `read the answer of`, …
        what: &'static str,
        /// Host and port, or the socket's path.
        host: String,
        /// What the system said.
        #[source]
        source: Cause,
    },

    /// The host presented another certificate than the pinned one.
    #[error(
        "{host} presents a certificate with the fingerprint {presented}, expected {expected}: \
         it is another host, it was installed anew, or someone is in between"
    )]
    Fingerprint {
        /// Host and port.
        host: String,
        /// The pinned one.
        expected: Fingerprint,
        /// The one presented.
        presented: Fingerprint,
    },

    /// The certificate was shown to the caller and not accepted.
    #[error("the certificate of {host} with the fingerprint {presented} was not accepted")]
    NotTrusted {
        /// Host and port.
        host: String,
        /// The one presented.
        presented: Fingerprint,
    },

    /// The answer is not what `/api/v1` says. Something else answers there, or the versions do not fit.
    #[error("{host} answered {status} to {request} in a form this client does not know: {detail}")]
    Unexpected {
        /// Host and port.
        host: String,
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// What was wrong with it.
        detail: String,
    },

    /// The address cannot be used.
    #[error("`{url}` is not the address of a host: {reason}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// No object has this id or name.
    #[error("there is no {kind} called `{name}`")]
    NoSuch {
        /// `VM`, `image`, …
        kind: &'static str,
        /// As given.
        name: String,
    },

    /// A task ended without its aim.
    #[error("{} of {} {}: {}", .0.kind, .0.target, ended(.0.state), .0.message.as_deref().unwrap_or("no reason given"))]
    Task(Box<Task>),

    /// An object went into a state from which the awaited one is not reached by waiting.
    #[error("{object} is {state}: {reason}")]
    State {
        /// Kind and name.
        object: String,
        /// The state it is in.
        state: String,
        /// Why, in the host's words.
        reason: String,
    },

    /// The awaited did not happen in time.
    #[error("{what} did not happen within {limit:?} (last seen: {last})")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The last state seen.
        last: String,
    },

    /// A local file could not be read.
    #[error("cannot read {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// What the host stored is not what was sent.
    #[error("the host stored SHA-256 {stored}, the file has {sent}: upload it again")]
    Corrupted {
        /// Of the file as it was read.
        sent: String,
        /// As the host says.
        stored: String,
    },

    /// The console was closed by the host.
    #[error("the host closed the console: {0}")]
    Closed(String),
}

fn ended(state: TaskState) -> &'static str {
    match state {
        TaskState::Running => "is running",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "was cancelled",
    }
}

impl Error {
    /// The problem, where the host refused the request.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
    /// The HTTP status, where the host answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Unexpected { status, .. } => Some(*status),
            _ => None,
        }
    }
    /// Whether the host refused with a problem of this kind.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.problem().is_some_and(|p| p.kind == kind.parts().0)
    }
    /// Whether the host was not reached at all, or the connection broke.
    #[must_use]
    pub fn is_transport(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Fingerprint { .. } | Self::NotTrusted { .. })
    }
    /// Whether the same call may well succeed a little later: the host is away, starting or busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transport { .. }) || matches!(self.status(), Some(429 | 502 | 503))
    }
    /// The error and its root cause in one line; the layers between say nothing a person needs.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut root = std::error::Error::source(self);
        while let Some(cause) = root.and_then(std::error::Error::source) {
            root = Some(cause);
        }
        root.map_or_else(|| self.to_string(), |root| format!("{self}: {root}"))
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}
