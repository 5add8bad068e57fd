//! Live migration: the machine moves to a monitor on another host while its guest runs.
//!
//! ```text
//!  source: migrate thread ── frames over a stream the daemon gives ──▶ target: operator
//!     copies what is written, again and again, until what is left fits into the allowed pause   (plan)
//!     has the operator halt the machine and give up its disks; sends the rest; commits           (source)
//!                                                        takes all in, takes the disks, runs     (target)
//! ```
//! Who owns the machine at every moment is decided in [`life`] and nowhere else. The stream is plain: whoever gives it (the
//! daemon) encrypts and authenticates it. A connection that stands still for [`PATIENCE`] counts as lost.

pub mod life;
mod plan;
pub mod source;
pub mod target;

use crate::state::{file, frame, pages};
use std::{io, time::Duration};

/// How long one side waits for a sign of the other.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why a migration did not complete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("the connection to the other host broke")]
    Io(#[from] io::Error),
    /// What came is not as it should be.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// Pages.
    #[error(transparent)]
    Pages(#[from] pages::Error),
    /// A part of the stream.
    #[error(transparent)]
    Part(#[from] file::Error),
    /// The other side said no.
    #[error("the other host refused: {0}")]
    Refused(String),
    /// A message in the wrong place.
    #[error("the other host sent {0:?} where it has no place")]
    Order(frame::Kind),
    /// The machine here.
    #[error("{0}")]
    Machine(String),
    /// Someone called it off.
    #[error("it was called off")]
    Cancelled,
}

/// The last word of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    /// The guest ran and is to run on; false: it was paused.
    running: bool,
}
