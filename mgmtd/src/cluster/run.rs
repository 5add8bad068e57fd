//! What the cluster's work runs on: its tasks, its work that waits for the disk, and the clock of commands.
//!
//! In the product that is tokio and the clock of the host. Where a test simulates whole clusters (`sim`), it is a host that can
//! be halted or lose power, whose disk answers in simulated time, and whose clock shows that time: so that a run can be repeated.
//! Invariant: what replicates the log and carries out changes runs by itself, waits for the disk and reads the wall clock only
//! through here. (Joining, backups and new epochs are not simulated, and take tokio as it is.)

use jiff::Timestamp;
use std::{future::Future, io};
use tokio::task::JoinHandle;

/// Begins a task of this host.
pub(super) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[cfg(test)]
    return super::sim::runtime::spawn(future);
    #[cfg(not(test))]
    tokio::spawn(future)
}

/// Does what waits for the disk, off the threads that must not wait.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    #[cfg(test)]
    if super::sim::is_on() {
        return Ok(super::sim::disk::work(work).await);
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Entries between two snapshots, and entries kept behind one: fewer where a test wants to see many.
pub(super) fn snapshot_pace(usual: (u64, u64)) -> (u64, u64) {
    #[cfg(test)]
    if super::sim::is_on() {
        return super::sim::SNAPSHOT_PACE;
    }
    usual
}

/// The time a command is proposed at.
pub(super) fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = super::sim::now() {
        return now;
    }
    Timestamp::now()
}
