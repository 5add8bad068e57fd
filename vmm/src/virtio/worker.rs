//! The I/O thread of a device.
//!
//! ```text
//!          start(queues)                    stop()
//!  idle ────────────────▶ running ─────────────────▶ idle        handler and queues come back from the thread
//!                            │ a ring is broken
//!                            ▼
//!                         waiting for stop (DEVICE_NEEDS_RESET is set)
//! ```
//! The thread waits (epoll, level-triggered) for doorbells, the handler's own descriptor, the moment the handler wants to be
//! woken at, and the stop event. A handler works
//! in bounded steps and says whether it has more to do, so that stopping never waits long.

use super::{Queues, queue::Broken};
use crate::{
    change::{Change, Seen, unknown},
    thread::{self, Kind},
    timer::Timer,
};
use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

/// Requests or packets a handler serves before it looks up.
pub const BUDGET: usize = 128;

const STOP: u64 = u64::MAX;
const SOURCE: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do until something happens.
    Idle,
    /// More to do: call again.
    More,
}

/// The work of a device on its thread.
pub trait Handler: Send + 'static {
    /// What its thread may do.
    const KIND: Kind = Kind::Io;
    /// Called on the thread before anything else.
    ///
    /// # Errors
    /// The device cannot work: it needs a reset.
    fn begin(&mut self, features: u64) -> io::Result<()> {
        let _ = features;
        Ok(())
    }
    /// Queue `index` may have chains.
    ///
    /// # Errors
    /// Its ring is broken.
    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken>;
    /// A descriptor whose being readable is work, if wanted now.
    fn source(&self) -> Option<RawFd> {
        None
    }
    /// The descriptor is readable.
    ///
    /// # Errors
    /// A ring is broken.
    fn source_ready(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        let _ = queues;
        Ok(Progress::Idle)
    }
    /// When all queues and the descriptor are to be looked at again, whatever happens until then.
    fn wake_at(&self) -> Option<Instant> {
        None
    }
    /// That moment has come.
    fn woken(&mut self, queues: &Queues) {
        let _ = queues;
    }
    /// Called while the device is stopped: the driver has reset it, and knows of nothing any more.
    fn reset(&mut self) {}
    /// Called while the device is stopped: the machine begins anew.
    fn power_on(&mut self) {}
    /// Called while the device is stopped: makes the change.
    ///
    /// # Errors
    /// It cannot be made; nothing has changed.
    fn change(&mut self, change: Change) -> io::Result<Seen> {
        let _ = change;
        Err(unknown())
    }
    /// Called while the device is stopped: makes what was written durable.
    ///
    /// # Errors
    /// The host failed.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Called while the device is stopped: lets another monitor have what it stands on.
    ///
    /// # Errors
    /// The host failed.
    fn release(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Called while the device is stopped: takes that back, or over.
    ///
    /// # Errors
    /// Someone else has it.
    fn acquire(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Called while the device is stopped: what it knows besides features and queues.
    fn save(&mut self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Called while the device is stopped: takes up what [`Handler::save`] gave.
    ///
    /// # Errors
    /// It makes no sense.
    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        if saved.is_null() { Ok(()) } else { Err(io::Error::other("it has a state, such a device has none")) }
    }
    /// Called while the device is stopped: tells the world outside that it is here now.
    fn announce(&mut self) {}
}

type Parts<H> = Arc<Mutex<Option<(H, Queues)>>>;

/// Runs a [`Handler`] between `start` and `stop`.
pub struct Worker<H> {
    name: &'static str,
    /// The handler when idle, and handler and queues on their way to and from the thread.
    parts: Parts<H>,
    running: Option<(JoinHandle<()>, EventFd)>,
}

impl<H: Handler> Worker<H> {
    /// An idle worker whose threads are called `name`.
    pub fn new(name: &'static str, handler: H) -> Self {
        Self { name, parts: Arc::new(Mutex::new(Some((handler, Queues::new())))), running: None }
    }

    /// Starts to serve `queues`.
    ///
    /// # Errors
    /// No thread or event could be made, or an earlier thread died with the handler.
    pub fn start(&mut self, queues: Queues, features: u64) -> io::Result<()> {
        if self.running.is_some() {
            return Err(io::Error::other("the device is running already"));
        }
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let stopped = stop.try_clone()?;
        let (epoll, timer) = (epoll(&stopped, &queues)?, Timer::monotonic()?);
        let event = EpollEvent::new(EventSet::IN, TIMER);
        epoll.ctl(ControlOperation::Add, timer.as_raw_fd(), event)?;
        match &mut *lock(&self.parts) {
            Some(parts) => parts.1 = queues,
            None => return Err(io::Error::other("the device's thread died")),
        }
        let parts = Arc::clone(&self.parts);
        let handle = thread::spawn(H::KIND, self.name, move || {
            let Some((mut handler, mut queues)) = lock(&parts).take() else { return };
            run(&mut handler, &mut queues, &Waits { epoll, timer }, &stopped, features);
            *lock(&parts) = Some((handler, queues));
        })?;
        self.running = Some((handle, stop));
        Ok(())
    }

    /// Tells the thread to end, without waiting for it.
    pub fn ask_to_stop(&mut self) {
        if let Some((_, stop)) = &self.running {
            // Fails only when the counter is full, and then it is set.
            let _ = stop.write(1);
        }
    }

    /// Ends the thread; returns the queues it served (none if it was idle or died).
    pub fn stop(&mut self) -> Queues {
        if let Some((handle, stop)) = self.running.take() {
            // Fails only when the counter is full, and then it is set.
            let _ = stop.write(1);
            if handle.join().is_err() {
                eprintln!("lq-vmm: the thread of {} died", self.name);
            }
        }
        lock(&self.parts).as_mut().map(|parts| std::mem::take(&mut parts.1)).unwrap_or_default()
    }
}

impl<H: Handler> Worker<H> {
    /// Lets `action` have the handler while no thread does.
    ///
    /// # Errors
    /// The device is running, or its thread died with the handler.
    pub fn idle<T>(&mut self, action: impl FnOnce(&mut H) -> T) -> io::Result<T> {
        if self.running.is_some() {
            return Err(io::Error::other("the device is running"));
        }
        match &mut *lock(&self.parts) {
            Some((handler, _)) => Ok(action(handler)),
            None => Err(io::Error::other("the device's thread died")),
        }
    }
}

impl<H> Drop for Worker<H> {
    fn drop(&mut self) {
        if let Some((handle, stop)) = self.running.take() {
            let _ = stop.write(1);
            let _ = handle.join();
        }
    }
}

fn lock<H>(parts: &Parts<H>) -> std::sync::MutexGuard<'_, Option<(H, Queues)>> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn epoll(stop: &EventFd, queues: &Queues) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    let add = |fd, data| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, data));
    add(stop.as_raw_fd(), STOP)?;
    for (index, queue) in (0..).zip(queues).filter_map(|(index, queue)| Some((index, queue.as_ref()?))) {
        add(queue.doorbell().as_raw_fd(), index)?;
    }
    Ok(epoll)
}

/// What a thread waits by.
struct Waits {
    epoll: Epoll,
    timer: Timer,
}

/// Serves until told to stop.
fn run<H: Handler>(handler: &mut H, queues: &mut Queues, waits: &Waits, stop: &EventFd, features: u64) {
    let served = match handler.begin(features) {
        Ok(()) => serve(handler, queues, waits),
        Err(error) => Err(Failure::Io(error)),
    };
    if let Err(failure) = served {
        if let Some(queue) = queues.iter().flatten().next() {
            queue.signals().say(format_args!("stopped until the driver resets it: {failure}"));
            queue.signals().needs_reset();
        }
        wait_for_stop(stop);
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn serve<H: Handler>(
    handler: &mut H,
    queues: &mut Queues,
    Waits { epoll, timer }: &Waits,
) -> Result<(), Failure> {
    // Chains given before the start were not rung for.
    let mut pending: Vec<bool> = queues.iter().map(Option::is_some).collect();
    let mut source_pending = false;
    let mut watched: Option<RawFd> = None;
    let mut armed: Option<Instant> = None;
    let mut events = [EpollEvent::default(); 8];
    loop {
        watch(epoll, &mut watched, handler.source())?;
        let wake_at = handler.wake_at();
        if wake_at != armed {
            timer.after(wake_at.map(|at| at.saturating_duration_since(Instant::now())))?;
            armed = wake_at;
        }
        let busy = source_pending || pending.contains(&true);
        let count = match epoll.wait(if busy { 0 } else { -1 }, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        for event in events.iter().take(count) {
            match event.data() {
                STOP => return Ok(()),
                SOURCE => source_pending = true,
                TIMER => {
                    if timer.take() {
                        armed = None;
                        handler.woken(queues);
                        pending
                            .iter_mut()
                            .zip(queues.iter())
                            .for_each(|(flag, queue)| *flag = queue.is_some());
                        source_pending = handler.source().is_some();
                    }
                }
                index => {
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    if let (Some(flag), Some(Some(queue))) = (pending.get_mut(index), queues.get(index)) {
                        *flag = true;
                        // Not ready any more only if someone else has read it: the queue is looked at all the same.
                        let _ = queue.doorbell().read();
                    }
                }
            }
        }
        for (index, flag) in pending.iter_mut().enumerate().filter(|(_, flag)| **flag) {
            *flag = handler.serve(queues, index)? == Progress::More;
        }
        if source_pending {
            source_pending = handler.source_ready(queues)? == Progress::More;
        }
    }
}

/// Brings epoll in line with whether the handler wants its descriptor watched.
fn watch(epoll: &Epoll, watched: &mut Option<RawFd>, wanted: Option<RawFd>) -> io::Result<()> {
    if *watched == wanted {
        return Ok(());
    }
    if let Some(fd) = watched.take() {
        epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default())?;
    }
    if let Some(fd) = wanted {
        epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, SOURCE))?;
        *watched = wanted;
    }
    Ok(())
}

/// Waits until a device that failed is stopped.
pub(super) fn wait_for_stop(stop: &EventFd) {
    let mut poll = libc::pollfd { fd: stop.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: `poll` is one valid pollfd that lives through the call.
        if unsafe { libc::poll(&raw mut poll, 1, -1) } > 0 {
            return;
        }
    }
}
