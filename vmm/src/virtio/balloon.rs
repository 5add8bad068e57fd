//! virtio-balloon (virtio 1.2, 5.5): memory the guest gives up goes back to the host.
//!
//! | queue | carries |
//! |---|---|
//! | 0, 1 | pages given up, and taken back: these come back by being touched |
//! | 2 | how the guest's memory fares: a buffer that stays in the ring until new numbers are wanted |
//! | 3 | hints about free pages: never asked for |
//! | 4 | free pages as they become free; 3 where the driver has no hints and counts its queues without gaps |
//!
//! Hints are offered so that every driver finds the last queue at the same place. Invariant: only memory of the guest's own
//! is ever given back, in whole pages.

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::{Broken, DeviceQueue, Pop},
    read_config,
    served::{Answer, Config, Facts, Served, serve_chains},
    worker::{Handler, Progress},
};
use crate::{
    change::{Change, Seen, unknown},
    memory::{self, Memory, dirty::PAGE},
};
use lq_api::local::vmm::{BalloonStatus, GuestMemory};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATS: usize = 2;
const HINTS: usize = 3;
const QUEUE_SIZES: [u16; 5] = [128, 128, 16, 16, 32];

/// Feature: the driver tells how memory fares.
const F_STATS: u64 = 1 << 1;
/// Feature: the driver takes pages back when memory runs out.
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// Feature: the driver can be asked for free pages.
const F_HINTS: u64 = 1 << 3;
/// Feature: the driver tells of free pages.
const F_REPORTING: u64 = 1 << 5;

/// Bytes of page numbers in one request at most.
const MAX_NUMBERS: u64 = 64 << 10;
/// Entries of the numbers about memory that are read at most.
const MAX_STATS: u64 = 64;
/// Bytes of such an entry.
const STAT: u64 = 10;
/// How often new numbers are wanted.
const PERIOD: Duration = Duration::from_secs(10);
/// Offset of the pages given up in the configuration.
const ACTUAL: u64 = 4;

/// The device.
pub type Balloon = Served<Pages>;

/// What others see of it; also the configuration (virtio 1.2, 5.5.4).
#[derive(Debug, Default)]
pub struct Gauge {
    /// Pages that are to be given up, and that are.
    target: AtomicU32,
    actual: AtomicU32,
    /// Bytes told to be free since the start.
    reported: AtomicU64,
    guest: Mutex<Option<GuestMemory>>,
}

impl Gauge {
    /// As the control protocol says it.
    #[must_use]
    pub fn status(&self) -> BalloonStatus {
        let bytes = |pages: &AtomicU32| u64::from(pages.load(SeqCst)) * PAGE;
        BalloonStatus {
            target_bytes: bytes(&self.target),
            actual_bytes: bytes(&self.actual),
            reported_bytes: self.reported.load(SeqCst),
            guest: *self.guest.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Config for Gauge {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let words = [self.target.load(SeqCst), self.actual.load(SeqCst), 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read_config(&bytes, offset, data);
    }
    fn identity(&self, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        if let (ACTUAL, Ok(value)) = (offset, <[u8; 4]>::try_from(data)) {
            self.actual.store(u32::from_le_bytes(value), SeqCst);
        }
    }
}

/// The work of the device.
pub struct Pages {
    gauge: Arc<Gauge>,
    /// Pages of the machine.
    most: u32,
    features: u64,
    /// When new numbers about memory are wanted; none: the driver has given no buffer.
    stats_due: Option<Instant>,
    last_stats: Option<Instant>,
    chain: Chain,
    counters: Arc<Counters>,
}

/// The device, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedBalloon {
    target: u32,
    actual: u32,
}

impl Served<Pages> {
    /// A stopped device of a machine with `ram` bytes, of which the guest is to give up `target`; and what others see of it.
    #[must_use]
    pub fn new(ram: u64, target: u64) -> (Self, Arc<Gauge>) {
        Self::with(ram, target, F_REPORTING)
    }

    /// One of a machine whose memory is pinned: it tells how memory fares, and none is asked for.
    #[must_use]
    pub fn pinned(ram: u64) -> (Self, Arc<Gauge>) {
        Self::with(ram, 0, 0)
    }

    fn with(ram: u64, target: u64, reporting: u64) -> (Self, Arc<Gauge>) {
        let gauge = Arc::<Gauge>::default();
        let most = pages(ram);
        gauge.target.store(pages(target).min(most), SeqCst);
        let facts = Facts {
            kind: DeviceType::Balloon,
            features: F_COMMON | F_STATS | F_DEFLATE_ON_OOM | F_HINTS | reporting,
            queue_sizes: QUEUE_SIZES.to_vec(),
            config: Arc::clone(&gauge) as Arc<dyn Config>,
            written: None,
        };
        let shared = Arc::clone(&gauge);
        let device = Self::build(facts, |counters| Pages {
            gauge,
            most,
            features: 0,
            stats_due: None,
            last_stats: None,
            chain: Chain::default(),
            counters,
        });
        (device, shared)
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
}

impl Handler for Pages {
    fn begin(&mut self, features: u64) -> io::Result<()> {
        self.features = features;
        self.stats_due = None;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        match index {
            INFLATE => self.inflate(queue),
            // Nothing has to be done for a page to come back, and hints are not asked for.
            DEFLATE => serve_chains(queue, &mut self.chain, |_, _| Ok(Answer::Written(0))),
            HINTS if self.features & F_HINTS != 0 => {
                serve_chains(queue, &mut self.chain, |_, _| Ok(Answer::Written(0)))
            }
            STATS => self.stats(queue),
            _ => self.reported(queue),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.stats_due
    }

    fn change(&mut self, change: Change) -> io::Result<Seen> {
        let Change::Balloon(bytes) = change else { return Err(unknown()) };
        if pages(bytes) > self.most {
            let ram = u64::from(self.most) * PAGE;
            return Err(io::Error::other(format!("{bytes} bytes are more than the machine has: {ram}")));
        }
        Ok(self.gauge.target.swap(pages(bytes), SeqCst) != pages(bytes))
    }

    fn save(&mut self) -> serde_json::Value {
        let (target, actual) = (self.gauge.target.load(SeqCst), self.gauge.actual.load(SeqCst));
        serde_json::to_value(SavedBalloon { target, actual }).unwrap_or_default()
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        let SavedBalloon { target, actual } = serde_json::from_value(saved)?;
        self.gauge.target.store(target.min(self.most), SeqCst);
        self.gauge.actual.store(actual, SeqCst);
        Ok(())
    }
}

impl Pages {
    fn inflate(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let counters = &self.counters;
        serve_chains(queue, &mut self.chain, |memory, chain| {
            let bytes = chain.readable.bytes();
            if bytes > MAX_NUMBERS {
                return Err(Malformed::TooLong);
            }
            let mut numbers = vec![0; bytes as usize & !3];
            chain.readable.copy_out(memory, 0, &mut numbers)?;
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let mut numbers: Vec<u64> = numbers.chunks(4).map(number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            for run in numbers.chunk_by(|one, next| *next == one + 1) {
                let first = run.first().copied().unwrap_or_default();
                give_back(memory, counters, first * PAGE, run.len() as u64 * PAGE);
            }
            Ok(Answer::Written(0))
        })
    }

    fn reported(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let (counters, gauge) = (&self.counters, &self.gauge);
        serve_chains(queue, &mut self.chain, |memory, chain| {
            chain.writable.each(|address, length| give_back(memory, counters, address, length.into()));
            gauge.reported.fetch_add(chain.writable.bytes(), SeqCst);
            Ok(Answer::Written(0))
        })
    }

    /// Reads the numbers in the driver's buffer. Once they are old it is answered, and the driver fills it anew.
    fn stats(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let memory = queue.memory();
        for _ in 0..QUEUE_SIZES[STATS] {
            match queue.pop(&memory, &mut self.chain)? {
                Pop::Empty => {
                    self.stats_due = None;
                    queue.announce(&memory)?;
                    return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
                }
                Pop::Malformed => {}
                Pop::Chain => {
                    let now = Instant::now();
                    if let Some(due) = self.last_stats.map(|last| last + PERIOD).filter(|due| *due > now) {
                        // It is the one that was read already, or comes too soon.
                        self.read_stats(&memory);
                        queue.unpop();
                        self.stats_due = Some(due);
                        queue.announce(&memory)?;
                        return Ok(Progress::Idle);
                    }
                    self.read_stats(&memory);
                    self.last_stats = Some(now);
                    queue.complete(&memory, self.chain.head, 0)?;
                }
            }
        }
        queue.announce(&memory)?;
        Ok(Progress::Idle)
    }

    fn read_stats(&mut self, memory: &Memory) {
        let count = (self.chain.readable.bytes() / STAT).min(MAX_STATS);
        let mut bytes = vec![0; (count * STAT) as usize];
        if count == 0 || self.chain.readable.copy_out(memory, 0, &mut bytes).is_err() {
            return;
        }
        let mut told = GuestMemory::default();
        for entry in bytes.chunks_exact(STAT as usize) {
            let [t0, t1, value @ ..] = entry else { continue };
            let value = value.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let field = match u16::from_le_bytes([*t0, *t1]) {
                0 => &mut told.swapped_in_bytes,
                1 => &mut told.swapped_out_bytes,
                2 => &mut told.major_faults,
                3 => &mut told.minor_faults,
                4 => &mut told.free_bytes,
                5 => &mut told.total_bytes,
                6 => &mut told.available_bytes,
                7 => &mut told.cache_bytes,
                _ => continue,
            };
            *field = value;
        }
        *self.gauge.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }
}

/// Gives memory back to the host; what is not the guest's is left alone.
fn give_back(memory: &Memory, counters: &Counters, address: u64, length: u64) {
    if memory::discard(memory, address, length).is_err() {
        counters.error();
    }
}

#[cfg(test)]
#[path = "balloon_tests.rs"]
mod tests;
