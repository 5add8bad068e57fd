//! The thread between two parties while a device runs: it has the back end start, passes its interrupts on, notices its end, and
//! has it stop.
//!
//! ```text
//!  driver ── doorbell ─────────────────▶ back end          (an eventfd; neither of us is woken)
//!  driver ◀─ vector ─ this thread ◀─ call ─ back end        (which vector it is, and whether it is masked, is the guest's to say)
//! ```
//! Events that a back end has are shared with it, and so is whether reading one waits: nothing here reads them. Each call is an edge.
//!
//! Only this thread speaks with the back end once the guest runs: whoever starts the device does not wait for it, and no other
//! thread needs the right to hand descriptors over.

use super::{
    back_end::{BackEnd, Ring},
    channel::Error,
};
use crate::virtio::{Queues, queue::DeviceQueue};
use std::{io, os::fd::AsRawFd};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd},
};

const STOP: u64 = u64::MAX;
const BACK_END: u64 = u64::MAX - 1;

/// What the thread waits by. Made by whoever starts it.
pub(super) struct Waits {
    epoll: Epoll,
    /// What the back end writes to, of each queue that is served.
    calls: Vec<Option<EventFd>>,
}

impl Waits {
    pub(super) fn new(queues: &Queues, stop: &EventFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let add = |fd, events, data| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, data));
        add(stop.as_raw_fd(), EventSet::IN, STOP)?;
        let mut calls = Vec::new();
        for (index, queue) in (0..).zip(queues) {
            let call = queue.as_ref().map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)).transpose()?;
            if let Some(call) = &call {
                add(call.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, index)?;
            }
            calls.push(call);
        }
        Ok(Self { epoll, calls })
    }
}

/// Has `back_end` serve `queues` until `stop` is written to; returns where each of them would go on.
pub(super) fn run(
    back_end: &mut BackEnd,
    queues: &Queues,
    features: u64,
    Waits { epoll, calls }: &Waits,
) -> Result<Vec<Option<u16>>, Error> {
    let served = || queues.iter().flatten();
    if let Some(first) = served().next() {
        let rings = served().zip(calls.iter().flatten());
        let rings: Vec<_> = rings
            .map(|(queue, call)| Ring {
                index: queue.index(),
                state: queue.state(),
                call,
                kick: queue.doorbell(),
            })
            .collect();
        back_end.start(&first.memory(), features, &rings)?;
        // Chains that were given, or taken and given back, before: nobody rings for them.
        served().for_each(DeviceQueue::ring);
    }
    let ends = EventSet::IN | EventSet::READ_HANG_UP;
    epoll.ctl(ControlOperation::Add, back_end.as_raw_fd(), EpollEvent::new(ends, BACK_END))?;
    let relayed = relay(queues, epoll);
    let forgotten = epoll.ctl(ControlOperation::Delete, back_end.as_raw_fd(), EpollEvent::default());
    relayed?;
    forgotten?;
    let bases = back_end.stop(queues.iter().map(|queue| queue.as_ref().map(DeviceQueue::index)))?;
    // What was finished while it stopped. A driver that finds nothing takes no harm.
    served().for_each(tell);
    Ok(bases)
}

/// Passes interrupts on until told to stop.
fn relay(queues: &Queues, epoll: &Epoll) -> Result<(), Error> {
    let mut events = [EpollEvent::default(); 16];
    loop {
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        for event in events.iter().take(count) {
            match event.data() {
                STOP => return Ok(()),
                BACK_END if event.event_set().contains(EventSet::READ_HANG_UP) => {
                    return Err(Error::Gone("has ended"));
                }
                BACK_END if event.event_set().contains(EventSet::IN) => {
                    return Err(Error::Gone("spoke without being asked"));
                }
                BACK_END => return Err(Error::Gone("has ended")),
                index => {
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    queues.get(index).and_then(Option::as_ref).into_iter().for_each(tell);
                }
            }
        }
    }
}

/// Interrupts the driver.
fn tell(queue: &DeviceQueue) {
    queue.signals().queue_used(queue.index());
}
