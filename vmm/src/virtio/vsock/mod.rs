//! virtio-vsock (virtio 1.2, 5.10): streams between programs of the guest and of the host, without a network.
//!
//! | queue | carries |
//! |---|---|
//! | 0 | packets to the guest |
//! | 1 | packets from it |
//! | 2 | the word that all connections are gone: after the machine was moved or taken up from a file |
//!
//! The host's side is a Unix socket in the machine's run directory ([`hub`]); the kernel's own vsock is not used, so that
//! addresses need be unique to nobody and a guest reaches no other. Connections do not move with a machine.

mod connection;
mod hub;
mod packet;
mod stream;
#[cfg(test)]
mod tests;

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::{Broken, DeviceQueue, Pop},
    report::Report,
    served::{Answer, Facts, Served, serve_chains},
    worker::{BUDGET, Handler, Progress},
};
use crate::thread::Kind;
use hub::{Hub, Packet};
use packet::{FromGuest, HEADER, MAX_PAYLOAD};
use std::{
    io,
    os::{fd::RawFd, unix::net::UnixListener},
    sync::Arc,
    time::Instant,
};

const RX: usize = 0;
const TX: usize = 1;
const EVENT: usize = 2;
/// The event "all connections are gone".
const TRANSPORT_RESET: [u8; 4] = [0; 4];

/// The device.
pub type Vsock = Served<Packets>;

/// Its work.
pub struct Packets {
    cid: u64,
    hub: Hub,
    /// The guest is still to be told that its connections are gone.
    lost: bool,
    chain: Chain,
    payload: Box<[u8]>,
    counters: Arc<Counters>,
    report: Report,
}

impl Served<Packets> {
    /// A stopped device whose guest has the address `cid`, for the host's programs that come to `listener`.
    ///
    /// # Errors
    /// The host gave no events.
    pub fn new(listener: UnixListener, cid: u32) -> io::Result<Self> {
        let hub = Hub::new(listener)?;
        let cid = u64::from(cid);
        let facts = Facts {
            kind: DeviceType::Vsock,
            features: F_COMMON,
            queue_sizes: vec![256, 256, 16],
            config: Arc::new(cid.to_le_bytes().to_vec()),
            written: None,
        };
        Ok(Self::build(facts, |counters| Packets {
            cid,
            hub,
            lost: false,
            chain: Chain::default(),
            payload: vec![0; MAX_PAYLOAD].into_boxed_slice(),
            counters,
            report: Report::new("vsock"),
        }))
    }
}

impl Handler for Packets {
    const KIND: Kind = Kind::Socket;

    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        match (index, queues.get_mut(index)) {
            (TX, Some(Some(queue))) => {
                let progress = self.take_packets(queue)?;
                // Answers to it, and room it gave.
                let answered = self.give_packets(queues)?;
                Ok(if answered == Progress::More { answered } else { progress })
            }
            (EVENT, Some(Some(queue))) => self.tell_lost(queue),
            _ => self.give_packets(queues),
        }
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.hub.event())
    }

    fn source_ready(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        let more = self.hub.look(Instant::now());
        let progress = self.give_packets(queues)?;
        Ok(if more { Progress::More } else { progress })
    }

    fn wake_at(&self) -> Option<Instant> {
        self.hub.deadline()
    }

    fn reset(&mut self) {
        self.hub.forget();
        self.lost = false;
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        if !saved.is_null() {
            return Err(io::Error::other("it has a state, such a device has none"));
        }
        self.lost = true;
        Ok(())
    }
}

impl Packets {
    fn take_packets(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let (hub, payload, counters, report) =
            (&mut self.hub, &mut self.payload, &self.counters, &mut self.report);
        let (cid, now) = (self.cid, Instant::now());
        serve_chains(queue, &mut self.chain, |memory, chain| {
            let mut header = [0; HEADER];
            chain.readable.copy_out(memory, 0, &mut header)?;
            let Some(packet) = FromGuest::parse(&header, cid) else {
                counters.error();
                report.say(format_args!("a packet that is not from the guest to the host"));
                return Ok(Answer::Written(0));
            };
            let length = packet.length as usize;
            let payload = payload.get_mut(..length).ok_or(Malformed::TooLong)?;
            chain.readable.copy_out(memory, HEADER as u64, payload)?;
            if length > 0 {
                counters.written(length as u64);
            }
            hub.take(&packet, payload, now);
            Ok(Answer::Written(0))
        })
    }

    fn give_packets(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(RX) else { return Ok(Progress::Idle) };
        let (memory, now) = (queue.memory(), Instant::now());
        for _ in 0..BUDGET {
            match queue.pop(&memory, &mut self.chain)? {
                Pop::Chain => {}
                Pop::Malformed => continue,
                Pop::Empty => {
                    queue.announce(&memory)?;
                    return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
                }
            }
            let Some(room) = self.chain.writable.bytes().checked_sub(HEADER as u64) else {
                queue.refuse(&memory, self.chain.head, Malformed::TooShort)?;
                continue;
            };
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(self.payload.len());
            let buffer = self.payload.get_mut(..most).unwrap_or_default();
            let Some(Packet { ports, op, flags, length, room }) = self.hub.next(buffer, now) else {
                queue.unpop();
                queue.announce(&memory)?;
                return Ok(Progress::Idle);
            };
            let header = packet::to_guest(self.cid, ports, op, length as u32, flags, room);
            let payload = self.payload.get(..length).unwrap_or_default();
            let written = self
                .chain
                .writable
                .copy_in(&memory, 0, &header)
                .and_then(|()| self.chain.writable.copy_in(&memory, HEADER as u64, payload));
            match written {
                Ok(()) => {
                    if length > 0 {
                        self.counters.read(length as u64);
                    }
                    queue.complete(&memory, self.chain.head, (HEADER + length) as u32)?;
                }
                Err(why) => queue.refuse(&memory, self.chain.head, why)?,
            }
        }
        queue.announce(&memory)?;
        Ok(Progress::More)
    }

    /// Tells the guest that its connections are gone, once it has given room for that.
    fn tell_lost(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let memory = queue.memory();
        while self.lost {
            match queue.pop(&memory, &mut self.chain)? {
                Pop::Malformed => {}
                Pop::Empty if queue.listen(&memory)? => {}
                Pop::Empty => break,
                Pop::Chain => match self.chain.writable.copy_in(&memory, 0, &TRANSPORT_RESET) {
                    Ok(()) => {
                        self.lost = false;
                        queue.complete(&memory, self.chain.head, TRANSPORT_RESET.len() as u32)?;
                    }
                    Err(why) => queue.refuse(&memory, self.chain.head, why)?,
                },
            }
        }
        queue.announce(&memory)?;
        Ok(Progress::Idle)
    }
}
