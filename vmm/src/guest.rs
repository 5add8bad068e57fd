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
    /// It ejected the medium of a CD drive.
    Ejected(usize),
}

impl GuestEvent {
    /// It is only told, and the machine goes on.
    #[must_use]
    pub fn is_news(&self) -> bool {
        matches!(self, Self::Ejected(_))
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
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(event);
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
        // Fails only when a signal is already waiting.
        let _ = self.event.write(u64::from(!waiting.is_empty()));
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
