//! virtio-scsi (virtio 1.2, 5.6) with CD drives, each a target with unit 0. Firmware boots from them, and every installer
//! reads them without a driver of its own.
//!
//! | queue | carries |
//! |---|---|
//! | 0 | task management: everything is done by the time it is asked for |
//! | 1 | events: none, drives tell of media in their own way |
//! | 2 | commands |
//!
//! A medium is a file that is only read, straight into guest memory. The file can be changed while the machine runs.

mod drive;

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::{Broken, DeviceQueue},
    read_config,
    report::Report,
    served::{Answer, Config, Facts, Served, serve_chains},
    worker::{Handler, Progress},
};
use crate::{
    change::{Change, Seen, unknown},
    disk::{Disk, Raw},
    guest::{GuestEvent, Notifier},
    lease::fence::{Fence, is_over},
    memory::Memory,
};
use drive::{Drive, Reply, Sense};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// Most drives of a machine.
pub const MAX_DRIVES: usize = 4;
const CONTROL: usize = 0;
const EVENTS: usize = 1;
const QUEUE_SIZES: [u16; 3] = [64, 16, 128];
/// Data segments of a request: a queue's worth without header and response.
const MAX_SEGMENTS: u32 = 126;
/// Most data of one request, as told in sectors and as held to.
const MAX_SECTORS: u32 = 32768;
const MAX_BYTES: u64 = MAX_SECTORS as u64 * 512;
/// Bytes of unit, id and attributes, before the command.
const REQUEST: usize = 19;
/// Bytes of a response without its sense data.
const RESPONSE: usize = 12;
/// Bytes of sense data and of a command, unless the driver says otherwise, and at most.
const SENSE_SIZE: u32 = 96;
const CDB_SIZE: u32 = 32;
const MOST_SIZE: u32 = 256;
/// Offsets of both in the configuration.
const SENSE_AT: u64 = 20;
const CDB_AT: u64 = 24;

const CHECK_CONDITION: u8 = 2;
/// Response: no such target.
const BAD_TARGET: u8 = 3;
/// How often a command held by the lease looks at it again.
const LEASE_LOOK: Duration = Duration::from_millis(10);

/// The device.
pub type Cdroms = Served<Drives>;

/// The configuration (virtio 1.2, 5.6.4), of which the driver writes two sizes.
struct Sizes {
    targets: u16,
    /// Of sense data, of a command.
    sizes: Mutex<(u32, u32)>,
}

impl Sizes {
    fn get(&self) -> (u32, u32) {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, (sense, cdb): (u32, u32)) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        *sizes = (sense.min(MOST_SIZE), cdb.clamp(1, MOST_SIZE));
    }

    fn bytes(&self, (sense, cdb): (u32, u32)) -> Vec<u8> {
        // Queues for commands, segments, sectors, commands of a unit, bytes of an event, the two sizes.
        let words = [1, MAX_SEGMENTS, MAX_SECTORS, 64, 16, sense, cdb];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(0_u16.to_le_bytes()); // max_channel
        bytes.extend(self.targets.saturating_sub(1).to_le_bytes());
        bytes.extend(0_u32.to_le_bytes()); // max_lun
        bytes
    }
}

impl Config for Sizes {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.bytes(self.get()), offset, data);
    }
    fn identity(&self, data: &mut [u8]) {
        read_config(&self.bytes((SENSE_SIZE, CDB_SIZE)), 0, data);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data) else { return };
        let (value, (sense, cdb)) = (u32::from_le_bytes(value), self.get());
        match offset {
            SENSE_AT => self.set((value, cdb)),
            CDB_AT => self.set((sense, value)),
            _ => {}
        }
    }
}

/// What others see of a drive: a medium is in.
pub type Loaded = Arc<AtomicBool>;

struct Bay {
    drive: Drive,
    medium: Option<Box<dyn Disk>>,
    loaded: Loaded,
}

impl Bay {
    fn settle(&mut self) {
        if !self.drive.is_loaded() {
            self.medium = None;
        }
        self.loaded.store(self.drive.is_loaded(), SeqCst);
    }
}

/// The work of the device.
pub struct Drives {
    bays: Vec<Bay>,
    config: Arc<Sizes>,
    lease: Arc<Fence>,
    held_until: Option<Instant>,
    notifier: Arc<Notifier>,
    chain: Chain,
    counters: Arc<Counters>,
    report: Report,
}

/// The device, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDrives {
    sense_size: u32,
    cdb_size: u32,
    drives: Vec<Drive>,
}

impl Served<Drives> {
    /// A stopped device with a drive for each of `media`, empty where there is none. Media are read while `lease` allows;
    /// `notifier` is told when the guest ejects one.
    #[must_use]
    pub fn new(media: Vec<Option<Box<dyn Disk>>>, lease: Arc<Fence>, notifier: Arc<Notifier>) -> Self {
        let config =
            Arc::new(Sizes { targets: media.len() as u16, sizes: Mutex::new((SENSE_SIZE, CDB_SIZE)) });
        let facts = Facts {
            kind: DeviceType::Scsi,
            features: F_COMMON,
            queue_sizes: QUEUE_SIZES.to_vec(),
            config: Arc::clone(&config) as Arc<dyn Config>,
            written: None,
        };
        let bay = |(number, medium): (u8, Option<Box<dyn Disk>>)| Bay {
            drive: Drive::new(number, medium.as_ref().map(|medium| medium.size())),
            loaded: Arc::new(AtomicBool::new(medium.is_some())),
            medium,
        };
        let bays = (0..).zip(media).map(bay).collect();
        Self::build(facts, |counters| Drives {
            bays,
            config,
            lease,
            held_until: None,
            notifier,
            chain: Chain::default(),
            counters,
            report: Report::new("CD drive"),
        })
    }

    /// Whether a medium is in, for each drive.
    ///
    /// # Errors
    /// The device runs.
    pub fn loaded(&mut self) -> io::Result<Vec<Loaded>> {
        self.idle(|drives| drives.bays.iter().map(|bay| Arc::clone(&bay.loaded)).collect())
    }
}

impl Handler for Drives {
    fn begin(&mut self, _: u64) -> io::Result<()> {
        self.held_until = None;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        match index {
            CONTROL => self.control(queue),
            // The driver's buffers stay where they are.
            EVENTS => Ok(Progress::Idle),
            _ => self.commands(queue),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.held_until
    }

    fn woken(&mut self, _: &Queues) {
        self.held_until = None;
    }

    fn change(&mut self, change: Change) -> io::Result<Seen> {
        let missing = || io::Error::other("there is no such drive");
        match change {
            Change::Insert(number, file) => {
                let bay = self.bays.get_mut(number).ok_or_else(missing)?;
                let medium = open(file, &self.lease)?;
                if bay.drive.is_loaded() && !bay.drive.eject(false) {
                    return Err(io::Error::other("the guest has locked the medium; it is asked to eject it"));
                }
                bay.drive.insert(medium.size());
                bay.medium = Some(Box::new(medium));
                bay.settle();
            }
            Change::Eject(number, force) => {
                let bay = self.bays.get_mut(number).ok_or_else(missing)?;
                if !bay.drive.eject(force) {
                    return Err(io::Error::other("the guest has locked the medium; it is asked to eject it"));
                }
                bay.settle();
            }
            _ => return Err(unknown()),
        }
        Ok(false)
    }

    fn release(&mut self) -> io::Result<()> {
        self.bays.iter_mut().filter_map(|bay| bay.medium.as_mut()).try_for_each(|medium| medium.release())
    }

    fn acquire(&mut self) -> io::Result<()> {
        self.bays.iter_mut().filter_map(|bay| bay.medium.as_mut()).try_for_each(|medium| medium.acquire())
    }

    fn save(&mut self) -> serde_json::Value {
        let (sense_size, cdb_size) = self.config.get();
        let drives = self.bays.iter().map(|bay| bay.drive.clone()).collect();
        serde_json::to_value(SavedDrives { sense_size, cdb_size, drives }).unwrap_or_default()
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        let SavedDrives { sense_size, cdb_size, drives } = serde_json::from_value(saved)?;
        if drives.len() != self.bays.len() {
            return Err(io::Error::other(format!("{} drives, not {}", drives.len(), self.bays.len())));
        }
        self.config.set((sense_size, cdb_size));
        for (bay, drive) in self.bays.iter_mut().zip(drives) {
            let before = bay.drive.clone();
            bay.drive = drive;
            match &bay.medium {
                // Another one, or none, than there was: to the guest it was changed.
                None if bay.drive.is_loaded() => drop(bay.drive.eject(true)),
                Some(medium) if bay.drive.is_loaded() && !bay.drive.same_medium(&before) => {
                    bay.drive.insert(medium.size());
                }
                _ => {}
            }
            bay.settle();
        }
        Ok(())
    }
}

/// A medium in `file`.
fn open(file: File, lease: &Arc<Fence>) -> io::Result<Raw> {
    let length = file.metadata()?.len();
    if length == 0 || !length.is_multiple_of(512) {
        let problem =
            format!("the file of {length} bytes is no medium: its size must be a positive multiple of 512");
        return Err(io::Error::other(problem));
    }
    file.try_lock_shared().map_err(|_| io::Error::other("the file is being written by another process"))?;
    Ok(Raw::leased(file, length, Arc::clone(lease)))
}

/// The target a command is for; the error says whether the target or its unit does not exist.
fn target(lun: [u8; 8], bays: usize) -> Result<usize, Option<Sense>> {
    let [1, target, high, low, ..] = lun else { return Err(None) };
    let target = usize::from(target);
    if target >= bays {
        return Err(None);
    }
    if (u16::from_be_bytes([high, low]) & 0x3fff) == 0 { Ok(target) } else { Err(Some(Sense::NO_UNIT)) }
}

impl Drives {
    fn control(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        const MANAGEMENT: u32 = 0;
        const LAST_QUERY: u32 = 2;
        // Resets: of a target, of a unit, of both.
        const RESETS: std::ops::RangeInclusive<u32> = 3..=5;
        let bays = &mut self.bays;
        serve_chains(queue, &mut self.chain, |memory, chain| {
            let mut kind = [0; 4];
            chain.readable.copy_out(memory, 0, &mut kind)?;
            match u32::from_le_bytes(kind) {
                MANAGEMENT => {
                    let mut request = [0; 24];
                    chain.readable.copy_out(memory, 0, &mut request)?;
                    let [_, _, _, _, s0, s1, s2, s3, lun @ .., _, _, _, _, _, _, _, _] = request;
                    let found = target(lun, bays.len());
                    if let (Ok(number), true) =
                        (&found, RESETS.contains(&u32::from_le_bytes([s0, s1, s2, s3])))
                        && let Some(bay) = bays.get_mut(*number)
                    {
                        bay.drive.reset();
                    }
                    // Complete: nothing is ever under way. Otherwise "incorrect unit" or "bad target".
                    let response = match found {
                        Ok(_) => 0,
                        Err(Some(_)) => 12,
                        Err(None) => BAD_TARGET,
                    };
                    chain.writable.copy_in(memory, 0, &[response])?;
                    Ok(Answer::Written(1))
                }
                // No events are known, none is subscribed to.
                1..=LAST_QUERY => {
                    chain.writable.copy_in(memory, 0, &[0; 5])?;
                    Ok(Answer::Written(5))
                }
                _ => Err(Malformed::TooShort),
            }
        })
    }

    fn commands(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let (sense_size, cdb_size) = self.config.get();
        let sizes = (sense_size as usize, cdb_size as usize);
        let mut chain = std::mem::take(&mut self.chain);
        let served = serve_chains(queue, &mut chain, |memory, chain| self.command(memory, chain, sizes));
        self.chain = chain;
        served
    }

    fn command(
        &mut self,
        memory: &Memory,
        chain: &Chain,
        (sense_size, cdb_size): (usize, usize),
    ) -> Result<Answer, Malformed> {
        let mut request = vec![0; REQUEST + cdb_size];
        chain.readable.copy_out(memory, 0, &mut request)?;
        let header = (RESPONSE + sense_size) as u64;
        let room = chain.writable.bytes().checked_sub(header).ok_or(Malformed::TooShort)?;
        if !self.lease.is_open() {
            self.held_until = Some(Instant::now() + LEASE_LOOK);
            return Ok(Answer::Hold);
        }
        let (mut lun, mut cdb) = ([0; 8], [0; 32]);
        lun.iter_mut().zip(&request).for_each(|(to, from)| *to = *from);
        cdb.iter_mut().zip(request.iter().skip(REQUEST)).for_each(|(to, from)| *to = *from);
        let (mut response, mut sense, mut written) = (0, None, 0);
        match target(lun, self.bays.len()) {
            Err(None) => response = BAD_TARGET,
            Err(Some(unit)) => sense = Some(unit),
            Ok(number) => match self.carry_out(memory, chain, number, &cdb, header, room) {
                Ok(count) => written = count,
                Err(Failure::Held) => {
                    self.held_until = Some(Instant::now() + LEASE_LOOK);
                    return Ok(Answer::Hold);
                }
                Err(Failure::Malformed(why)) => return Err(why),
                Err(Failure::Sense(why)) => sense = Some(why),
            },
        }
        if response != 0 || sense == Some(Sense::READ_ERROR) {
            self.counters.error();
        }
        let bytes = sense.map(Sense::bytes);
        let bytes =
            bytes.as_ref().and_then(|bytes| bytes.get(..bytes.len().min(sense_size))).unwrap_or_default();
        let mut answer = (bytes.len() as u32).to_le_bytes().to_vec();
        answer.extend(u32::try_from(room - written).unwrap_or(u32::MAX).to_le_bytes());
        answer.extend([0, 0, if sense.is_some() { CHECK_CONDITION } else { 0 }, response]);
        answer.extend(bytes);
        answer.resize(header as usize, 0);
        chain.writable.copy_in(memory, 0, &answer)?;
        Ok(Answer::Written(u32::try_from(header + written).unwrap_or(u32::MAX)))
    }

    /// Carries a command out; returns the bytes of data written behind `header`.
    fn carry_out(
        &mut self,
        memory: &Memory,
        chain: &Chain,
        number: usize,
        cdb: &[u8; 32],
        header: u64,
        room: u64,
    ) -> Result<u64, Failure> {
        let Some(bay) = self.bays.get_mut(number) else { return Ok(0) };
        match bay.drive.command(cdb) {
            Reply::Check(sense) => Err(Failure::Sense(sense)),
            Reply::Data(data) => {
                let count = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                let part = data.get(..count).unwrap_or_default();
                chain.writable.copy_in(memory, header, part)?;
                Ok(count as u64)
            }
            Reply::Ejected => {
                bay.settle();
                self.notifier.send(GuestEvent::Ejected(number));
                Ok(0)
            }
            Reply::Read { offset, length } => {
                let length = length.min(room).min(MAX_BYTES);
                let buffers = chain.writable.slices(memory, header..header + length)?;
                let medium = bay.medium.as_mut().ok_or(Failure::Sense(Sense::READ_ERROR))?;
                // The last block may be longer than the file; what is past its end reads as zeros.
                let whole = length.min(medium.size().saturating_sub(offset));
                let (now, past) = split(&buffers, whole);
                match medium.read(&now, offset) {
                    Ok(()) => {}
                    Err(error) if is_over(&error) => return Err(Failure::Held),
                    Err(error) => {
                        self.report.say(format_args!("cannot read {length} bytes at {offset}: {error}"));
                        return Err(Failure::Sense(Sense::READ_ERROR));
                    }
                }
                past.iter().for_each(|slice| slice.copy_from(&vec![0_u8; slice.len()]));
                self.counters.read(length);
                Ok(length)
            }
        }
    }
}

/// Why a command is not answered well.
enum Failure {
    Held,
    Malformed(Malformed),
    Sense(Sense),
}

impl From<Malformed> for Failure {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

type Slices<'a> = Vec<crate::memory::Slice<'a>>;

/// The first `count` bytes, and the rest.
fn split<'a>(buffers: &[crate::memory::Slice<'a>], count: u64) -> (Slices<'a>, Slices<'a>) {
    let (mut first, mut rest) = (Vec::with_capacity(buffers.len()), Vec::new());
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    for buffer in buffers {
        let now = left.min(buffer.len());
        left -= now;
        if let (1.., Ok(part)) = (now, buffer.subslice(0, now)) {
            first.push(part);
        }
        if let (1.., Ok(part)) = (buffer.len() - now, buffer.subslice(now, buffer.len() - now)) {
            rest.push(part);
        }
    }
    (first, rest)
}

#[cfg(test)]
mod tests;
