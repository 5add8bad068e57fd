//! The source: a thread that copies the machine while its guest runs, and hands it over.

use super::{
    Commit, Error,
    life::{Source, SourceEvent},
    plan::{self, Next, Plan},
};
use crate::{
    exit,
    machine::{Copier, kvm},
    memory::dirty::PAGE,
    state::{
        file,
        frame::{self, Kind},
        pages::{Encoder, RUN},
    },
    thread::{self, Kind as ThreadKind},
};
use lq_api::local::vmm::{MigrateOptions, MigrationPhase, MigrationStatus};
use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// Payload at which a memory frame is sent.
const FULL: usize = 256 << 10;
/// The guest's time is taken from it in slices of this length.
const SLICE: Duration = Duration::from_millis(10);

/// A machine that stands still, its disks given up.
pub struct Halted {
    /// Its state.
    pub state: Vec<u8>,
    /// Its guest ran until then.
    pub running: bool,
}

/// What the source has done to the machine, by the one who owns it. Each call returns when it is done.
pub trait Owner: Send + 'static {
    /// Halts it and gives up its disks. On error it goes on.
    ///
    /// # Errors
    /// Why not.
    fn halt(&mut self) -> Result<Halted, String>;
    /// It is the other host's now, as far as is known here.
    fn handed_over(&mut self);
    /// It stays: takes the disks back and goes on, where it was halted.
    fn keep(&mut self);
    /// It runs on the other host: the process ends.
    fn leave(&mut self);
}

/// A migration under way, or over, as the control thread sees it.
pub struct Outgoing {
    life: Mutex<Source>,
    status: Mutex<MigrationStatus>,
    stream: UnixStream,
    /// The thread has put everything back in order, or left the machine in doubt.
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// Begins to move the machine over `stream`.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn start(
        copier: Copier,
        stream: UnixStream,
        options: MigrateOptions,
        owner: impl Owner,
    ) -> io::Result<Arc<Self>> {
        let outgoing = Arc::new(Self {
            life: Mutex::new(Source::Offering),
            status: Mutex::default(),
            stream: stream.try_clone()?,
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&outgoing);
        let work = move || Mover { copier, stream, options, owner, shared, sent: 0 }.run();
        drop(thread::spawn(ThreadKind::Migrate, "migrate", work)?);
        Ok(outgoing)
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> MigrationStatus {
        let phase = match *lock(&self.life) {
            Source::Offering | Source::Copying => MigrationPhase::Copying,
            Source::Halted | Source::HandedOver => MigrationPhase::HandingOver,
            Source::Gone => MigrationPhase::Moved,
            // Called off, and not yet in order again.
            Source::Kept if !self.is_over() => MigrationPhase::HandingOver,
            Source::Kept => MigrationPhase::Failed,
            Source::InDoubt => MigrationPhase::InDoubt,
        };
        MigrationStatus { phase, ..lock(&self.status).clone() }
    }

    /// Nothing more happens by itself, and another one may begin.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Calls it off; the machine stays.
    ///
    /// # Errors
    /// It is over, or the machine is the other host's already.
    pub fn cancel(&self) -> Result<(), String> {
        let mut life = lock(&self.life);
        if !life.can_cancel() {
            return Err(format!("it cannot be called off any more: it is {life:?}").to_lowercase());
        }
        *life = life.after(SourceEvent::Cancelled);
        drop(life);
        // Whatever the thread waits for ends with this; an error means that it has ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
        Ok(())
    }

    /// The target is known to have ended without running the machine: it may come back.
    ///
    /// # Errors
    /// There is no doubt.
    pub fn reclaim(&self) -> Result<(), String> {
        let mut life = lock(&self.life);
        if *life != Source::InDoubt {
            return Err(format!("there is no doubt where the machine is: it is {life:?}").to_lowercase());
        }
        *life = life.after(SourceEvent::Reclaimed);
        Ok(())
    }
}

struct Mover<O> {
    copier: Copier,
    stream: UnixStream,
    options: MigrateOptions,
    owner: O,
    shared: Arc<Outgoing>,
    /// Bytes of this pass.
    sent: u64,
}

impl<O: Owner> Mover<O> {
    fn run(mut self) {
        let moved = self.work();
        if let Err(error) = self.copier.log.stop() {
            eprintln!("lq-vmm: {error}");
        }
        let mut life = lock(&self.shared.life);
        if let Err(error) = &moved {
            let event =
                if matches!(error, Error::Refused(_)) { SourceEvent::Refused } else { SourceEvent::Lost };
            let error = if *life == Source::Kept { &Error::Cancelled } else { error };
            *life = life.after(event);
            let mut status = lock(&self.shared.status);
            status.error = Some(exit::chain(error));
            eprintln!("lq-vmm: the machine does not move ({:?}): {}", *life, exit::chain(error));
        }
        let end = *life;
        drop(life);
        match end {
            Source::Gone => self.owner.leave(),
            Source::Kept => self.owner.keep(),
            // In doubt: it stands still until someone knows more.
            _ => {}
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        self.shared.over.store(true, Ordering::SeqCst);
    }

    fn work(&mut self) -> Result<(), Error> {
        frame::write(&mut self.stream, Kind::Hello, &file::encode("description", &self.copier.description)?)?;
        self.expect(Kind::Accept)?;
        self.happened(SourceEvent::Accepted)?;
        self.copier.log.start().map_err(machine)?;
        let mut left = self.copy()?;
        let begin = Instant::now();
        let halted = self.owner.halt().map_err(Error::Machine)?;
        self.happened(SourceEvent::Halted)?;
        merge(&mut left, self.copier.log.take().map_err(machine)?);
        self.send(&left, &mut Encoder::new(false), None, 0)?;
        frame::write(&mut self.stream, Kind::State, &halted.state)?;
        self.expect(Kind::Ready)?;
        let commit = file::encode("last word", &Commit { running: halted.running })?;
        {
            // Under the lock: nobody calls it off between the last look and the last word.
            let mut life = lock(&self.shared.life);
            if *life != Source::Halted {
                return Err(Error::Cancelled);
            }
            frame::write(&mut self.stream, Kind::Commit, &commit)?;
            *life = life.after(SourceEvent::Committed);
        }
        self.owner.handed_over();
        self.expect(Kind::Running)?;
        self.happened(SourceEvent::Running)?;
        lock(&self.shared.status).pause_micros = Some(begin.elapsed().as_micros() as u64);
        Ok(())
    }

    fn happened(&self, event: SourceEvent) -> Result<(), Error> {
        let mut life = lock(&self.shared.life);
        let next = life.after(event);
        if next == *life {
            return Err(Error::Cancelled);
        }
        *life = next;
        Ok(())
    }

    fn expect(&mut self, wanted: Kind) -> Result<(), Error> {
        match frame::read(&mut self.stream)? {
            (kind, _) if kind == wanted => Ok(()),
            (Kind::Refuse, why) => Err(Error::Refused(String::from_utf8_lossy(&why).into_owned())),
            (kind, _) => Err(Error::Order(kind)),
        }
    }

    /// Sends memory until what is left fits into the pause; returns what is left.
    fn copy(&mut self) -> Result<Dirty, Error> {
        let mut plan = Plan::new(Duration::from_millis(self.options.max_pause_ms.into()));
        let limit = self.options.bandwidth;
        let mut encoder = Encoder::new(true);
        let mut pages = self.all();
        loop {
            let begin = Instant::now();
            self.send(&pages, &mut encoder, limit, plan.throttle())?;
            encoder.set_fresh(false);
            let rate = count(&pages) as f64 / begin.elapsed().as_secs_f64().max(1e-6);
            for disk in &self.copier.disks {
                // Only to make the halt short: then the disks are made durable for certain, or it is said that they are not.
                let _ = disk.sync_data();
            }
            pages = self.copier.log.take().map_err(machine)?;
            let dirty = count(&pages);
            let next = plan.after_pass(dirty, rate);
            let mut status = lock(&self.shared.status);
            status.passes += 1;
            status.dirty_pages = dirty;
            status.throttle_percent = plan.throttle();
            if next == Next::Halt {
                return Ok(pages);
            }
        }
    }

    /// Every page.
    fn all(&self) -> Dirty {
        let words = |pages: u64| {
            let rest = pages % 64;
            let last = (rest != 0).then_some((1_u64 << rest) - 1);
            (0..pages / 64).map(|_| !0).chain(last).collect()
        };
        let regions = self.copier.memory.iter();
        regions.map(|region| (region.start_addr().raw_value(), words(region.len() / PAGE))).collect()
    }

    fn send(
        &mut self,
        pages: &Dirty,
        encoder: &mut Encoder,
        limit: Option<u64>,
        throttle: u8,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        let mut rested = begin;
        self.sent = 0;
        let mut payload = Vec::with_capacity(FULL + RUN * PAGE as usize);
        for (base, words) in pages {
            for (first, length) in Runs::new(words) {
                encoder.add(&self.copier.memory, base + first * PAGE, length, &mut payload)?;
                if payload.len() >= FULL {
                    self.flush(&mut payload)?;
                }
                self.pace(begin, &mut rested, limit, throttle)?;
            }
        }
        self.flush(&mut payload)
    }

    fn flush(&mut self, payload: &mut Vec<u8>) -> Result<(), Error> {
        if payload.is_empty() {
            return Ok(());
        }
        frame::write(&mut self.stream, Kind::Memory, payload)?;
        self.sent += payload.len() as u64;
        lock(&self.shared.status).sent_bytes += payload.len() as u64;
        payload.clear();
        Ok(())
    }

    /// Keeps to the bandwidth, and takes the guest's time.
    fn pace(
        &self,
        begin: Instant,
        rested: &mut Instant,
        limit: Option<u64>,
        throttle: u8,
    ) -> Result<(), Error> {
        loop {
            if throttle > 0 && rested.elapsed() >= SLICE {
                self.copier.gate.rest(SLICE * u32::from(throttle) / 100);
                *rested = Instant::now();
            }
            let wait = plan::wait(limit, self.sent, begin.elapsed());
            if wait.is_zero() {
                return Ok(());
            }
            if *lock(&self.shared.life) == Source::Kept {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(wait.min(SLICE));
        }
    }
}

fn machine(error: kvm::Error) -> Error {
    Error::Machine(exit::chain(&error))
}

/// (First address of a region, one bit a page).
type Dirty = Vec<(u64, Vec<u64>)>;

fn count(pages: &Dirty) -> u64 {
    pages.iter().flat_map(|(_, words)| words).map(|word| u64::from(word.count_ones())).sum()
}

fn merge(into: &mut Dirty, from: Dirty) {
    for ((_, words), (_, more)) in into.iter_mut().zip(from) {
        words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
    }
}

/// Runs of set bits, at most [`RUN`] long: (first, length).
struct Runs<'a> {
    words: &'a [u64],
    at: usize,
}

impl<'a> Runs<'a> {
    fn new(words: &'a [u64]) -> Self {
        Self { words, at: 0 }
    }

    fn is_set(&self, bit: usize) -> bool {
        self.words.get(bit / 64).is_some_and(|word| word & 1 << (bit % 64) != 0)
    }
}

impl Iterator for Runs<'_> {
    type Item = (u64, usize);

    fn next(&mut self) -> Option<(u64, usize)> {
        loop {
            let word = self.words.get(self.at / 64)? >> (self.at % 64);
            if word == 0 {
                self.at = (self.at / 64 + 1) * 64;
                continue;
            }
            self.at += word.trailing_zeros() as usize;
            let first = self.at;
            while self.is_set(self.at) && self.at - first < RUN {
                self.at += 1;
            }
            return Some((first as u64, self.at - first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_the_set_bits(words in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 0..8)) {
            let mut found = vec![false; words.len() * 64];
            for (first, length) in Runs::new(&words) {
                prop_assert!((1..=RUN).contains(&length));
                for bit in found.iter_mut().skip(first as usize).take(length) {
                    prop_assert!(!std::mem::replace(bit, true));
                }
            }
            let set: Vec<bool> = (0..words.len() * 64).map(|bit| words[bit / 64] >> (bit % 64) & 1 == 1).collect();
            prop_assert_eq!(found, set);
        }
    }
}
