//! What the guest does that the whole machine must answer or that others are told of, on its way to the control thread.

use std::{
    io,
    sync::{Mutex, PoisonError},
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Something of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// It switched itself off.
    PowerOff,
    /// It asked for a reset (ACPI, keyboard controller, triple fault).
    Reset,
    /// It did what the virtual CPU cannot go on from.
    Fault(String),
    /// KVM failed in a way that is not the guest's doing.
    Host(String),
    /// It is another guest from here on: it was reset.
    Restarted,
    /// Its kernel has panicked.
    Panicked,
    /// It has let go of a device, which has left the bus.
    Unplugged,
    /// It ejected the medium of a CD drive.
    Ejected(usize),
    /// Its TPM has failed, because of this; it is not the guest's doing, and it lives on without.
    TpmFailed(String),
    /// Its disks have begun to wait for room, or go on; the one that counts them knows which.
    Room,
    /// The device of this name has lost its back end, because of this; the guest lives on without.
    BackEndLost(String, String),
}

impl GuestEvent {
    /// It is only told, and the machine goes on.
    #[must_use]
    pub fn is_news(&self) -> bool {
        matches!(
            self,
            Self::Restarted
                | Self::Panicked
                | Self::Unplugged
                | Self::Ejected(_)
                | Self::TpmFailed(_)
                | Self::Room
                | Self::BackEndLost(..)
        )
    }
}

/// Carries [`GuestEvent`]s; the control thread waits on [`Notifier::event`].
pub struct Notifier {
    waiting: Mutex<Vec<GuestEvent>>,
    event: EventFd,
}

impl Notifier {
    /// Nothing happened yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// Hands `event` to the control thread.
    pub fn send(&self, event: GuestEvent) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A guest may say the same all the time; it is news once.
        let mut since = waiting.iter().rev().take_while(|said| **said != GuestEvent::Restarted);
        if !(event.is_news() && since.any(|said| *said == event)) {
            waiting.push(event);
        }
        drop(waiting);
        // Fails only when a signal is already waiting.
        let _ = self.event.write(1);
    }

    /// Takes all events, oldest first.
    pub fn take(&self) -> Vec<GuestEvent> {
        // Fails only when there was no signal.
        let _ = self.event.read();
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest is gone: what it asked of the machine is forgotten, news are not.
    pub fn forget(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(GuestEvent::is_news);
        waiting.push(GuestEvent::Restarted);
        drop(waiting);
        // Fails only when a signal is already waiting.
        let _ = self.event.write(1);
    }

    /// Takes the signal and leaves the events.
    pub fn acknowledge(&self) {
        // Fails only when there was no signal.
        let _ = self.event.read();
    }

    /// Readable while events wait.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_repeats_is_news_once_and_what_the_next_one_says_is_its_own() {
        let notifier = Notifier::new().unwrap();
        for _ in 0..1000 {
            notifier.send(GuestEvent::Panicked);
            notifier.send(GuestEvent::Ejected(1));
        }
        notifier.send(GuestEvent::Reset);
        notifier.forget();
        notifier.send(GuestEvent::Panicked);
        notifier.send(GuestEvent::PowerOff);
        use GuestEvent::{Ejected, Panicked, PowerOff, Restarted};
        assert_eq!(notifier.take(), [Panicked, Ejected(1), Restarted, Panicked, PowerOff]);
    }
}
