//! virtio-mem (virtio 1.2, 5.15): memory that comes and goes in blocks of 2 MiB, in a region of its own above all other.
//!
//! The host says how much is wanted ([`crate::change::Change::Memory`]); the guest plugs and unplugs blocks until it is so, as far as it can.
//! Which blocks there are the region itself knows ([`Presence`]), so that nothing that acts for the guest touches the others.
//! Invariants: no more is plugged than was wanted at that moment; a block that goes is the host's again at once; reset of the
//! driver changes nothing, power-on takes all away.

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::Broken,
    read_config,
    served::{Answer, Config, Facts, Served, serve_chains},
    worker::{Handler, Progress},
};
use crate::{
    change::{Change, Seen, unknown},
    memory::{
        self, Memory,
        presence::{BLOCK, Presence},
    },
};
use lq_api::local::vmm::MemoryStatus;
use serde::{Deserialize, Serialize};
use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

const REQUEST: usize = 24;
const RESPONSE: usize = 10;

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

const ACK: u16 = 0;
const NACK: u16 = 1;
const ERROR: u16 = 3;

const PLUGGED: u16 = 0;
const UNPLUGGED: u16 = 1;
const MIXED: u16 = 2;

/// The device.
pub type Mem = Served<Blocks>;

/// What others see of it; also the configuration (virtio 1.2, 5.15.4).
#[derive(Debug)]
pub struct Gauge {
    base: u64,
    size: u64,
    requested: AtomicU64,
    plugged: AtomicU64,
}

impl Gauge {
    /// As the control protocol says it.
    #[must_use]
    pub fn status(&self) -> MemoryStatus {
        MemoryStatus {
            most_bytes: self.size,
            requested_bytes: self.requested.load(SeqCst),
            plugged_bytes: self.plugged.load(SeqCst),
        }
    }

    /// `requested`, if it can be asked for.
    fn check(&self, requested: u64) -> io::Result<u64> {
        if requested <= self.size && requested.is_multiple_of(BLOCK) {
            return Ok(requested);
        }
        Err(io::Error::other(format!(
            "{requested} bytes cannot be plugged: a multiple of 2 MiB up to {} is possible",
            self.size
        )))
    }
}

impl Config for Gauge {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // Block size, node and padding, base, size, size in use, plugged, requested.
        let (plugged, requested) = (self.plugged.load(SeqCst), self.requested.load(SeqCst));
        let words = [BLOCK, 0, self.base, self.size, self.size, plugged, requested];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read_config(&bytes, offset, data);
    }
    fn identity(&self, data: &mut [u8]) {
        let bytes: Vec<u8> =
            [BLOCK, 0, self.base, self.size].iter().flat_map(|word| word.to_le_bytes()).collect();
        read_config(&bytes, 0, data);
    }
}

/// The work of the device.
pub struct Blocks {
    gauge: Arc<Gauge>,
    memory: Memory,
    chain: Chain,
    counters: Arc<Counters>,
}

/// The device, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedBlocks {
    requested: u64,
    /// Runs of plugged blocks: number of the first, and how many.
    plugged: Vec<(u64, u64)>,
}

impl Served<Blocks> {
    /// A stopped device for the region of `memory` that begins at `base` and has `size` bytes, of which `requested` are wanted;
    /// and what others see of it.
    ///
    /// # Errors
    /// There is no such region, or so much cannot be wanted.
    pub fn new(memory: &Memory, base: u64, size: u64, requested: u64) -> io::Result<(Self, Arc<Gauge>)> {
        let (memory, missing) =
            (memory.clone(), || io::Error::other("the region of memory that can be plugged is missing"));
        memory::presence(&memory, base).ok_or_else(missing)?.begin(size);
        let gauge = Arc::new(Gauge { base, size, requested: AtomicU64::new(0), plugged: AtomicU64::new(0) });
        gauge.requested.store(gauge.check(requested)?, SeqCst);
        let facts = Facts {
            kind: DeviceType::Mem,
            features: F_COMMON,
            queue_sizes: vec![128],
            config: Arc::clone(&gauge) as Arc<dyn Config>,
            written: None,
        };
        let shared = Arc::clone(&gauge);
        let device =
            Self::build(facts, |counters| Blocks { gauge, memory, chain: Chain::default(), counters });
        Ok((device, shared))
    }
}

impl Handler for Blocks {
    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        let mut chain = std::mem::take(&mut self.chain);
        let served = serve_chains(queue, &mut chain, |memory, chain| {
            let mut request = [0; REQUEST];
            chain.readable.copy_out(memory, 0, &mut request)?;
            if chain.writable.bytes() < RESPONSE as u64 {
                return Err(Malformed::TooShort);
            }
            let (answer, state) = self.request(&request);
            let mut response = [0; RESPONSE];
            for (to, from) in response.iter_mut().zip(answer.to_le_bytes()) {
                *to = from;
            }
            for (to, from) in response.iter_mut().skip(8).zip(state.to_le_bytes()) {
                *to = from;
            }
            chain.writable.copy_in(memory, 0, &response)?;
            Ok(Answer::Written(RESPONSE as u32))
        });
        self.chain = chain;
        served
    }

    fn change(&mut self, change: Change) -> io::Result<Seen> {
        let Change::Memory(bytes) = change else { return Err(unknown()) };
        let bytes = self.gauge.check(bytes)?;
        Ok(self.gauge.requested.swap(bytes, SeqCst) != bytes)
    }

    fn power_on(&mut self) {
        self.unplug(0..self.gauge.size / BLOCK);
    }

    fn save(&mut self) -> serde_json::Value {
        let mut plugged: Vec<(u64, u64)> = Vec::new();
        let there = self.presence();
        for number in
            (0..self.gauge.size / BLOCK).filter(|number| there.is_some_and(|there| there.has(*number)))
        {
            match plugged.last_mut() {
                Some((first, count)) if *first + *count == number => *count += 1,
                _ => plugged.push((number, 1)),
            }
        }
        let requested = self.gauge.requested.load(SeqCst);
        serde_json::to_value(SavedBlocks { requested, plugged }).unwrap_or_default()
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        let SavedBlocks { requested, plugged } = serde_json::from_value(saved)?;
        let requested = self.gauge.check(requested)?;
        let blocks = self.gauge.size / BLOCK;
        let outside = |(first, count): &(u64, u64)| first.checked_add(*count).is_none_or(|end| end > blocks);
        if plugged.iter().any(outside) {
            return Err(io::Error::other("it has memory outside of its region"));
        }
        self.set(0..blocks, false);
        plugged.into_iter().for_each(|(first, count)| self.set(first..first + count, true));
        self.count();
        self.gauge.requested.store(requested, SeqCst);
        Ok(())
    }
}

impl Blocks {
    fn presence(&self) -> Option<&Presence> {
        memory::presence(&self.memory, self.gauge.base)
    }

    fn set(&self, blocks: Range<u64>, there: bool) {
        if let Some(presence) = self.presence() {
            blocks.for_each(|number| presence.set(number, there));
        }
    }

    /// Counts what is plugged.
    fn count(&self) {
        let blocks = 0..self.gauge.size / BLOCK;
        let plugged = blocks.filter(|number| self.presence().is_some_and(|there| there.has(*number))).count();
        self.gauge.plugged.store(plugged as u64 * BLOCK, SeqCst);
    }

    /// Answer and state.
    fn request(&self, request: &[u8; REQUEST]) -> (u16, u16) {
        let [k0, k1, _, _, _, _, _, _, address @ .., c0, c1, _, _, _, _, _, _] = *request;
        let count = u64::from(u16::from_le_bytes([c0, c1]));
        let blocks = self.blocks(u64::from_le_bytes(address), count);
        let kind = u16::from_le_bytes([k0, k1]);
        if kind == UNPLUG_ALL {
            self.unplug(0..self.gauge.size / BLOCK);
            return (ACK, 0);
        }
        let (Some(blocks), Some(presence)) = (blocks, self.presence()) else { return (ERROR, 0) };
        let there = blocks.clone().filter(|number| presence.has(*number)).count() as u64;
        match kind {
            PLUG if there > 0 => (ERROR, 0),
            PLUG => {
                let then = self.gauge.plugged.load(SeqCst) + count * BLOCK;
                if then > self.gauge.requested.load(SeqCst) {
                    return (NACK, 0);
                }
                self.set(blocks, true);
                self.count();
                (ACK, 0)
            }
            UNPLUG if there < count => (ERROR, 0),
            UNPLUG => {
                self.unplug(blocks);
                (ACK, 0)
            }
            STATE if there == count => (ACK, PLUGGED),
            STATE if there == 0 => (ACK, UNPLUGGED),
            STATE => (ACK, MIXED),
            _ => (ERROR, 0),
        }
    }

    /// The numbers of `count` blocks from `address` on, if there are any, all in the region.
    fn blocks(&self, address: u64, count: u64) -> Option<Range<u64>> {
        let offset = address.checked_sub(self.gauge.base).filter(|offset| offset.is_multiple_of(BLOCK))?;
        let first = offset / BLOCK;
        let end = first.checked_add(count).filter(|end| *end <= self.gauge.size / BLOCK)?;
        (count > 0).then_some(first..end)
    }

    /// Takes blocks away; the host has their memory again.
    fn unplug(&self, blocks: Range<u64>) {
        self.set(blocks.clone(), false);
        self.count();
        let (at, length) = (self.gauge.base + blocks.start * BLOCK, (blocks.end - blocks.start) * BLOCK);
        if memory::discard(&self.memory, at, length).is_err() {
            self.counters.error();
        }
    }
}

#[cfg(test)]
#[path = "mem_tests.rs"]
mod tests;
