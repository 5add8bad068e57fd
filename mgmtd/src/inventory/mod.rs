//! What the host has.

use lq_api::host::HostStatus;

/// Reads it.
#[must_use]
pub fn read() -> HostStatus {
    todo!()
}
