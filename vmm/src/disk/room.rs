//! Requests that wait because there is no room where a disk's image lies.
//!
//! A thin disk may find its pool full. To fail the request would have the guest take its disk for broken: it loses what it could
//! not write and goes on read-only, or not at all. So the request waits in its ring and is tried again; nothing is lost, and it
//! goes on by itself when there is room. Owns: how many disks' queues wait, and telling the control thread when the first begins
//! and the last ends. Invariant: whoever waits holds a [`Waiting`], and what ends the wait ends that.

use crate::guest::{GuestEvent, Notifier};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How often a request that waits for room is tried again.
pub const LOOK: Duration = Duration::from_secs(1);

/// Who waits for room, of all disks of a machine.
#[derive(Default)]
pub struct Room {
    waiting: Mutex<u32>,
    notifier: Option<Arc<Notifier>>,
}

impl Room {
    /// Nobody waits. Changes are told to `notifier`.
    #[must_use]
    pub fn new(notifier: Arc<Notifier>) -> Self {
        Self { waiting: Mutex::default(), notifier: Some(notifier) }
    }

    /// Somebody waits.
    #[must_use]
    pub fn is_short(&self) -> bool {
        *self.waiting() > 0
    }

    fn waiting(&self) -> MutexGuard<'_, u32> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        if let Some(notifier) = &self.notifier {
            notifier.send(GuestEvent::Room);
        }
    }
}

/// One that waits, for as long as this lives.
pub struct Waiting(Arc<Room>);

impl Waiting {
    /// Begins to wait.
    #[must_use]
    pub fn new(room: &Arc<Room>) -> Self {
        let mut waiting = room.waiting();
        *waiting += 1;
        let first = *waiting == 1;
        drop(waiting);
        if first {
            room.tell();
        }
        Self(Arc::clone(room))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        *waiting = waiting.saturating_sub(1);
        let last = *waiting == 0;
        drop(waiting);
        if last {
            self.0.tell();
        }
    }
}

/// The error says that there is no room: on the file system, or within a quota. What could not be made durable is another matter:
/// it may be lost, and is not tried again (see `ImageFile::sync`).
#[must_use]
pub fn is_out_of(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_the_first_begins_to_wait_and_when_the_last_has_ended() {
        let notifier = Arc::new(Notifier::new().unwrap());
        let room = Arc::new(Room::new(Arc::clone(&notifier)));
        let one = Waiting::new(&room);
        assert!(room.is_short());
        assert_eq!(notifier.take(), [GuestEvent::Room]);
        let other = Waiting::new(&room);
        drop(one);
        assert!(room.is_short());
        assert_eq!(notifier.take(), []);
        drop(other);
        assert!(!room.is_short());
        assert_eq!(notifier.take(), [GuestEvent::Room]);
    }
}
