//! What the guest does that the whole machine must answer, on its way from a vCPU thread to the control thread.

use std::{
    io,
    sync::{Mutex, PoisonError},
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Something of the guest's that ends or restarts it.
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
