//! vhost-user: disks, interfaces and directories whose queues another program of the host serves, its back end.
//!
//! ```text
//!                 connect (before the monitor locks itself in)
//!                    │
//!                    ▼           start_queues                  stop_queues
//!                  IDLE ───────────────────────▶ RUNNING ───────────────────────▶ IDLE   where each queue would go on
//!                    │                              │ the back end ends, keeps silent or talks nonsense
//!                    ▼                              ▼
//!                  LOST ◀────────────────────── LOST (DEVICE_NEEDS_RESET, told as an event); it never starts again
//! ```
//! [`channel`]: messages; [`back_end`]: what is asked when; [`session`]: the thread; [`kind`]: what the driver is told.
//!
//! Invariants
//! - What a back end says is input like a guest's: at worst its device stands still.
//! - Nobody waits for a back end but its own thread, and whoever stops the device; neither for ever.
//! - It is given the guest's memory and nothing else of the monitor, not even addresses.
//! - What it knows stays with it: such a machine is not saved, moved, or bound to a lease where the device stores something
//!   ([`crate::config`]).

mod back_end;
mod channel;
mod kind;
#[cfg(test)]
mod nonsense_tests;
#[cfg(test)]
mod peer_tests;
mod session;

pub use channel::Error;
pub(crate) use kind::TAG;

use super::{Counters, DeviceType, QueueStates, Queues, VirtioDevice, queue::DeviceQueue, read_config};
use crate::{
    change::{Change, Seen, unknown},
    exit,
    guest::{GuestEvent, Notifier},
    thread::{self, Kind},
};
use back_end::BackEnd;
use channel::Channel;
use kind::Facts;
use lq_api::local::vmm::{VhostUserConfig, VhostUserDevice};
use session::Waits;
use std::{
    fs::File,
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What goes to the thread and comes back.
struct Parts {
    back_end: Option<BackEnd>,
    queues: Queues,
    /// Where queues would go on.
    bases: Vec<Option<u16>>,
}

/// The device.
pub struct VhostUser {
    name: String,
    facts: Facts,
    counters: Arc<Counters>,
    notifier: Arc<Notifier>,
    parts: Arc<Mutex<Parts>>,
    running: Option<(JoinHandle<()>, EventFd)>,
}

fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VhostUser {
    /// Connects to the back end of `config`, and agrees with it on what the device is. That it is lost is told by `notifier`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn connect(config: &VhostUserConfig, notifier: Arc<Notifier>) -> Result<Self, Error> {
        let channel = Channel::connect(Path::new(&config.socket))?;
        Self::over(channel, &config.name, &config.device, notifier)
    }

    /// As [`VhostUser::connect`], with a socket that is connected already.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn connected(
        socket: UnixStream,
        name: &str,
        device: &VhostUserDevice,
        notifier: Arc<Notifier>,
    ) -> Result<Self, Error> {
        Self::over(Channel::over(socket, channel::PATIENCE)?, name, device, notifier)
    }

    fn over(
        channel: Channel,
        name: &str,
        device: &VhostUserDevice,
        notifier: Arc<Notifier>,
    ) -> Result<Self, Error> {
        let mut back_end = BackEnd::greet(channel)?;
        let facts = Facts::of(device, &mut back_end)?;
        let parts = Parts { back_end: Some(back_end), queues: Queues::new(), bases: Vec::new() };
        Ok(Self {
            name: name.to_owned(),
            facts,
            counters: Arc::default(),
            notifier,
            parts: Arc::new(Mutex::new(parts)),
            running: None,
        })
    }

    fn stay(&self) -> io::Error {
        io::Error::other(format!(
            "the device {:?} is served by another program, which keeps its state",
            self.name
        ))
    }
}

/// What the thread does.
fn work(parts: &Mutex<Parts>, waits: &Waits, stop: &EventFd, features: u64, lost: impl FnOnce(&str)) {
    let (back_end, queues) = {
        let mut parts = lock(parts);
        (parts.back_end.take(), std::mem::take(&mut parts.queues))
    };
    let Some(mut back_end) = back_end else { return };
    let ended = session::run(&mut back_end, &queues, features, waits);
    match ended {
        Ok(bases) => {
            *lock(parts) = Parts { back_end: Some(back_end), queues, bases };
        }
        Err(error) => {
            // Hung up on, it has no reason to touch the guest's memory any more.
            drop(back_end);
            let why = exit::chain(&error);
            if let Some(queue) = queues.iter().flatten().next() {
                queue.signals().say(format_args!("stopped for good: {why}"));
                queue.signals().needs_reset();
            }
            lost(&why);
            *lock(parts) = Parts { back_end: None, queues, bases: Vec::new() };
            super::worker::wait_for_stop(stop);
        }
    }
}

impl VirtioDevice for VhostUser {
    fn device_type(&self) -> DeviceType {
        self.facts.kind
    }
    fn features(&self) -> u64 {
        self.facts.features
    }
    fn queue_sizes(&self) -> &[u16] {
        &self.facts.queue_sizes
    }
    fn config_read(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.facts.config, offset, data);
    }
    fn config_write(&mut self, _offset: u64, _data: &[u8]) {}
    fn lends_doorbells(&self) -> bool {
        true
    }
    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
    fn start_queues(&mut self, queues: Queues, features: u64) -> io::Result<()> {
        if self.running.is_some() {
            return Err(io::Error::other("the device is running already"));
        }
        if lock(&self.parts).back_end.is_none() {
            return Err(io::Error::other(format!("the back end of {:?} is gone", self.name)));
        }
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let (waits, stopped) = (Waits::new(&queues, &stop)?, stop.try_clone()?);
        lock(&self.parts).queues = queues;
        let (parts, notifier, name) =
            (Arc::clone(&self.parts), Arc::clone(&self.notifier), self.name.clone());
        let handle = thread::spawn(Kind::BackEnd, "vhost-user", move || {
            let lost = |why: &str| notifier.send(GuestEvent::BackEndLost(name, why.to_owned()));
            work(&parts, &waits, &stopped, features, lost);
        })?;
        self.running = Some((handle, stop));
        Ok(())
    }
    fn stop_queues(&mut self) -> QueueStates {
        if let Some((handle, stop)) = self.running.take() {
            // Fails only when the counter is full, and then it is set.
            let _ = stop.write(1);
            if handle.join().is_err() {
                eprintln!("lq-vmm: the thread of {} died", self.name);
            }
        }
        let mut parts = lock(&self.parts);
        let (queues, bases) = (std::mem::take(&mut parts.queues), std::mem::take(&mut parts.bases));
        let mut bases = bases.into_iter();
        let state = |queue: Option<DeviceQueue>| {
            let base = bases.next().flatten();
            let mut state = queue?.into_state();
            if let Some(base) = base {
                // It stops when it has answered what it took.
                (state.next_avail, state.next_used) = (base, base);
            }
            Some(state)
        };
        queues.into_iter().map(state).collect()
    }
    fn sync(&mut self) -> io::Result<()> {
        // What a driver asked to be durable is; there is no word for more.
        Ok(())
    }
    fn written(&self) -> Option<&File> {
        None
    }
    fn release(&mut self) -> io::Result<()> {
        Err(self.stay())
    }
    fn acquire(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&mut self) -> io::Result<serde_json::Value> {
        Err(self.stay())
    }
    fn load(&mut self, _saved: serde_json::Value) -> io::Result<()> {
        Err(self.stay())
    }
    fn change(&mut self, _change: Change) -> io::Result<Seen> {
        Err(unknown())
    }
    fn announce(&mut self) {}
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        self.stop_queues();
    }
}
