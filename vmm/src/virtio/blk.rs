//! virtio-blk (virtio 1.2, 5.2): data straight between guest memory and the image, by one thread a queue.
//!
//! With several queues their threads share the disk: a raw image is read and written by all at once; one whose tables have a
//! single owner (qcow2) by one after another. Limits are of the disk, not of a queue. A flush covers what was answered on any
//! queue before.
//!
//! A request is a chain: header (16 bytes to read), data, one status byte (the last to write). Its parts may be split over
//! segments at any place. A request that has to wait (for its limits, for the machine's lease) stays in the ring, and so do
//! those behind it;
//! so does one for which there is no room where the image lies. Invariants: a request is checked whole before its data is touched; its bytes are capped; success of
//! a flush means durable; a driver that did not accept FLUSH gets every write durable before it is answered.

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::Broken,
    read_config,
    report::Report,
    served::{Answer, Config, Facts, Served, serve_chains},
    worker::{Handler, Progress},
};
use crate::{
    change::{Change, Seen, unknown},
    disk::{
        Disk,
        room::{self, Room, Waiting},
    },
    lease::fence::{Fence, is_over},
    limit::Limiter,
    memory::Memory,
};
use lq_api::local::vmm::IoLimits;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const QUEUE_SIZE: u16 = 256;
/// Data segments of a request: a queue's worth without header and status.
const MAX_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Most data of one request.
const MAX_BYTES: u64 = 32 << 20;
/// Most sectors of one discard or write-zeroes range: 2 GiB.
const MAX_RANGE_SECTORS: u32 = 4 << 20;
/// Most ranges of one discard or write-zeroes request.
const MAX_RANGES: u32 = 16;
const SECTOR: u64 = 512;
/// How often a request held by the lease looks at it again; the machine is halted soon after.
const LEASE_LOOK: Duration = Duration::from_millis(10);

/// Feature: `seg_max` is valid.
const F_SEG_MAX: u64 = 1 << 2;
/// Feature: the disk is read only.
const F_RO: u64 = 1 << 5;
/// Feature: `blk_size` is valid.
const F_BLK_SIZE: u64 = 1 << 6;
/// Feature: flush requests.
const F_FLUSH: u64 = 1 << 9;
/// Feature: `topology` is valid.
const F_TOPOLOGY: u64 = 1 << 10;
/// Feature: several queues.
const F_MQ: u64 = 1 << 12;
/// Feature: discard requests.
const F_DISCARD: u64 = 1 << 13;
/// Feature: write-zeroes requests.
const F_WRITE_ZEROES: u64 = 1 << 14;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPPORTED: u8 = 2;

const HEADER: u64 = 16;
/// Bytes of the serial number in GET_ID.
const ID: usize = 20;
const RANGE: u64 = 16;
const RANGE_UNMAP: u32 = 1;

/// What holds requests of a machine's disks back.
#[derive(Clone, Default)]
pub struct Holds {
    /// Until when disks may be used.
    pub lease: Arc<Fence>,
    /// Who waits for room.
    pub room: Arc<Room>,
}

/// The device.
pub type Block = Served<Requests>;

impl Served<Requests> {
    /// A stopped device on `disk`. `serial` (20 bytes are kept) is what the guest sees as its serial number.
    #[must_use]
    pub fn new(disk: Box<dyn Disk>, serial: &str, read_only: bool) -> Self {
        Self::limited(disk, serial, read_only, 1, IoLimits::default(), Holds::default())
    }

    /// As [`Block::new`], with so many queues (at least one), within `limits`, held as `holds` say.
    #[must_use]
    pub fn limited(
        disk: Box<dyn Disk>,
        serial: &str,
        read_only: bool,
        queues: u8,
        limits: IoLimits,
        holds: Holds,
    ) -> Self {
        let queues = queues.max(1);
        let mut features = F_COMMON | F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH;
        features |= if read_only { F_RO } else { F_DISCARD | F_WRITE_ZEROES };
        features |= if queues > 1 { F_MQ } else { 0 };
        let config = Arc::new(Geometry {
            sectors: AtomicU64::new(disk.size() / SECTOR),
            rest: geometry(&*disk, queues),
        });
        let mut id = [0; ID];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let written = disk.written();
        let facts = Facts {
            kind: DeviceType::Block,
            features,
            queue_sizes: vec![QUEUE_SIZE; queues.into()],
            config: Arc::clone(&config) as Arc<dyn Config>,
            written,
        };
        let disk = Arc::new(RwLock::new(disk));
        let limiter = Arc::new(Mutex::new(Limiter::new(limits, Instant::now())));
        Self::build_lanes(
            facts,
            queues.into(),
            |queue, _| queue,
            |_, counters| Requests {
                chain: Chain::default(),
                config: Arc::clone(&config),
                backend: Backend {
                    disk: Arc::clone(&disk),
                    limiter: Arc::clone(&limiter),
                    holds: holds.clone(),
                    held_until: None,
                    waiting: None,
                    id,
                    read_only,
                    write_through: false,
                    counters,
                    report: Report::new(format!("disk {serial}")),
                },
            },
        )
    }
}

/// The configuration structure (virtio 1.2, 5.2.4), of which only the capacity changes.
struct Geometry {
    sectors: AtomicU64,
    /// What follows it.
    rest: Vec<u8>,
}

impl Config for Geometry {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let capacity = self.sectors.load(SeqCst).to_le_bytes();
        read_config(&[&capacity[..], &self.rest].concat(), offset, data);
    }
}

fn geometry(disk: &dyn Disk, queues: u8) -> Vec<u8> {
    let sectors = (disk.granularity() / SECTOR as u32).max(1);
    let mut bytes = Vec::with_capacity(52);
    bytes.extend(0_u32.to_le_bytes()); // size_max: not offered
    bytes.extend(MAX_SEGMENTS.to_le_bytes());
    bytes.extend([0; 4]); // geometry: not offered
    bytes.extend((SECTOR as u32).to_le_bytes());
    // Topology: 4 KiB physical blocks, aligned; smallest good transfer 4 KiB, best a granule (in blocks).
    bytes.extend([3, 0]);
    bytes.extend(8_u16.to_le_bytes());
    bytes.extend(sectors.to_le_bytes());
    bytes.extend([0, 0]); // writeback, unused
    bytes.extend(u16::from(queues).to_le_bytes()); // num_queues
    bytes.extend(MAX_RANGE_SECTORS.to_le_bytes());
    bytes.extend(MAX_RANGES.to_le_bytes());
    bytes.extend(sectors.to_le_bytes()); // discard_sector_alignment
    bytes.extend(MAX_RANGE_SECTORS.to_le_bytes());
    bytes.extend(MAX_RANGES.to_le_bytes());
    bytes.extend([1, 0, 0, 0]); // write_zeroes_may_unmap
    bytes
}

/// The work of the device.
pub struct Requests {
    chain: Chain,
    config: Arc<Geometry>,
    backend: Backend,
}

type SharedDisk = Arc<RwLock<Box<dyn Disk>>>;

/// The disk for oneself.
fn alone(disk: &SharedDisk) -> RwLockWriteGuard<'_, Box<dyn Disk>> {
    disk.write().unwrap_or_else(PoisonError::into_inner)
}

/// Uses the disk with others where it can be, otherwise alone.
macro_rules! with_disk {
    ($disk:expr, $method:ident($($argument:expr),*)) => {{
        let shared = $disk.read().unwrap_or_else(PoisonError::into_inner);
        match shared.parallel() {
            Some(disk) => disk.$method($($argument),*),
            None => {
                drop(shared);
                alone(&$disk).$method($($argument),*)
            }
        }
    }};
}

/// What carries requests out.
struct Backend {
    /// Of all lanes.
    disk: SharedDisk,
    id: [u8; ID],
    read_only: bool,
    write_through: bool,
    /// Of all lanes.
    limiter: Arc<Mutex<Limiter>>,
    holds: Holds,
    /// The request that waits does so for want of room.
    waiting: Option<Waiting>,
    /// When the request that waits may be tried again.
    held_until: Option<Instant>,
    counters: Arc<Counters>,
    report: Report,
}

impl Handler for Requests {
    fn begin(&mut self, features: u64) -> io::Result<()> {
        self.backend.write_through = features & F_FLUSH == 0;
        // What waited went with the guest that asked, or is asked again.
        self.backend.waiting = None;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        self.backend.held_until = None;
        serve_chains(queue, &mut self.chain, |memory, chain| self.backend.request(memory, chain))
    }

    fn wake_at(&self) -> Option<Instant> {
        self.backend.held_until
    }

    fn woken(&mut self, _: &Queues) {
        self.backend.held_until = None;
    }

    fn change(&mut self, change: Change) -> io::Result<Seen> {
        match change {
            Change::DiskLimits(limits) => {
                let limiter = Limiter::new(limits, Instant::now());
                *self.backend.limiter.lock().unwrap_or_else(PoisonError::into_inner) = limiter;
                Ok(false)
            }
            Change::Size(size) => {
                let mut disk = alone(&self.backend.disk);
                disk.resize(size)?;
                self.config.sectors.store(disk.size() / SECTOR, SeqCst);
                Ok(true)
            }
            _ => Err(unknown()),
        }
    }

    fn release(&mut self) -> io::Result<()> {
        alone(&self.backend.disk).release()
    }

    fn acquire(&mut self) -> io::Result<()> {
        alone(&self.backend.disk).acquire()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.backend.read_only { Ok(()) } else { alone(&self.backend.disk).flush() }
    }
}

/// Why a request is answered with an error status.
enum Failure {
    Malformed(Malformed),
    Unsupported,
    Io(io::Error),
}

impl From<Malformed> for Failure {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Backend {
    /// Carries out the request in `chain`, unless it has to wait. An error: it is no request at all.
    fn request(&mut self, memory: &Memory, chain: &Chain) -> Result<Answer, Malformed> {
        let mut header = [0; HEADER as usize];
        chain.readable.copy_out(memory, 0, &mut header)?;
        let room = chain.writable.bytes().checked_sub(1).ok_or(Malformed::TooShort)?;
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([t0, t1, t2, t3]);
        if let Err(until) = self.admit(kind, chain, room) {
            self.held_until = Some(until);
            return Ok(Answer::Hold);
        }
        let (status, written) = match self.carry_out(memory, chain, kind, u64::from_le_bytes(sector), room) {
            Ok(written) => (S_OK, written),
            Err(Failure::Malformed(why)) => return Err(why),
            Err(Failure::Unsupported) => (S_UNSUPPORTED, 0),
            // Its parts were cut off by the deadline: whole, another time.
            Err(Failure::Io(error)) if is_over(&error) => {
                self.held_until = Some(Instant::now() + LEASE_LOOK);
                return Ok(Answer::Hold);
            }
            Err(Failure::Io(error)) if room::is_out_of(&error) => {
                self.waiting.get_or_insert_with(|| Waiting::new(&self.holds.room));
                self.report.say(format_args!("request of type {kind} waits for room: {error}"));
                self.held_until = Some(Instant::now() + room::LOOK);
                return Ok(Answer::Hold);
            }
            Err(Failure::Io(error)) => {
                self.counters.error();
                self.report.say(format_args!("request of type {kind}: {error}"));
                (S_IOERR, 0)
            }
        };
        self.waiting = None;
        chain.writable.copy_in(memory, room, &[status])?;
        // Only what lies before the status may be unwritten; a length that includes the status must cover all.
        let written =
            if written == room { u32::try_from(room + 1).unwrap_or(u32::MAX) } else { written as u32 };
        Ok(Answer::Written(written))
    }

    /// Whether a request may be begun now; the error is when to ask again.
    fn admit(&mut self, kind: u32, chain: &Chain, room: u64) -> Result<(), Instant> {
        if !self.holds.lease.is_open() {
            return Err(Instant::now() + LEASE_LOOK);
        }
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if !limiter.is_limited() {
            return Ok(());
        }
        let bytes = match kind {
            T_IN => room,
            T_OUT => chain.readable.bytes().saturating_sub(HEADER),
            _ => 0,
        };
        limiter.admit(Instant::now(), bytes)
    }

    /// Does what `kind` asks for; `room` are the writable bytes before the status. Returns the data bytes written.
    fn carry_out(
        &mut self,
        memory: &Memory,
        chain: &Chain,
        kind: u32,
        sector: u64,
        room: u64,
    ) -> Result<u64, Failure> {
        let data_out = chain.readable.bytes() - HEADER;
        match kind {
            T_IN => {
                let offset = self.range(sector, room)?;
                let buffers = chain.writable.slices(memory, 0..room)?;
                with_disk!(self.disk, read(&buffers, offset))?;
                self.counters.read(room);
                Ok(room)
            }
            T_OUT => {
                self.must_be_writable()?;
                let offset = self.range(sector, data_out)?;
                let buffers = chain.readable.slices(memory, HEADER..HEADER + data_out)?;
                with_disk!(self.disk, write(&buffers, offset))?;
                self.flush_if_write_through()?;
                self.counters.written(data_out);
                Ok(0)
            }
            T_FLUSH => {
                if !self.read_only {
                    with_disk!(self.disk, flush())?;
                }
                Ok(0)
            }
            T_GET_ID => {
                let count = room.min(ID as u64);
                chain.writable.copy_in(memory, 0, self.id.get(..count as usize).unwrap_or_default())?;
                Ok(count)
            }
            T_DISCARD | T_WRITE_ZEROES => {
                self.must_be_writable()?;
                self.ranges(memory, chain, kind, data_out)?;
                self.flush_if_write_through()?;
                Ok(0)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn must_be_writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn flush_if_write_through(&mut self) -> io::Result<()> {
        if self.write_through { with_disk!(self.disk, flush()) } else { Ok(()) }
    }

    /// Offset of `length` bytes from `sector`, if they are whole sectors on the disk and not too many.
    fn range(&self, sector: u64, length: u64) -> io::Result<u64> {
        if length > MAX_BYTES {
            return Err(invalid(format!("{length} bytes in one request (at most {MAX_BYTES})")));
        }
        self.sectors(sector, length)
    }

    /// Changes only while no lane runs.
    fn disk_size(&self) -> u64 {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).size()
    }

    fn sectors(&self, sector: u64, length: u64) -> io::Result<u64> {
        let offset = sector.checked_mul(SECTOR);
        let end = offset.and_then(|offset| offset.checked_add(length));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= self.disk_size() && length.is_multiple_of(SECTOR) => {
                Ok(offset)
            }
            _ => Err(invalid(format!(
                "{length} bytes at sector {sector} are outside of the disk or no whole sectors"
            ))),
        }
    }

    /// Discard and write-zeroes: the data is a list of ranges, all checked before the first is carried out.
    fn ranges(&mut self, memory: &Memory, chain: &Chain, kind: u32, length: u64) -> Result<(), Failure> {
        let count = length / RANGE;
        if count == 0 || !length.is_multiple_of(RANGE) || count > u64::from(MAX_RANGES) {
            return Err(
                invalid(format!("{length} bytes of ranges (1 to {MAX_RANGES} of {RANGE} bytes)")).into()
            );
        }
        let allowed = if kind == T_WRITE_ZEROES { RANGE_UNMAP } else { 0 };
        let mut ranges = Vec::with_capacity(count as usize);
        for n in 0..count {
            let mut bytes = [0; RANGE as usize];
            chain.readable.copy_out(memory, HEADER + n * RANGE, &mut bytes)?;
            let [sector @ .., n0, n1, n2, n3, f0, f1, f2, f3] = bytes;
            let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
            let flags = u32::from_le_bytes([f0, f1, f2, f3]);
            if flags & !allowed != 0 {
                return Err(Failure::Unsupported);
            }
            if sectors > MAX_RANGE_SECTORS {
                return Err(
                    invalid(format!("{sectors} sectors in one range (at most {MAX_RANGE_SECTORS})")).into()
                );
            }
            let bytes = u64::from(sectors) * SECTOR;
            ranges.push((self.sectors(u64::from_le_bytes(sector), bytes)?, bytes, flags & RANGE_UNMAP != 0));
        }
        for (offset, length, unmap) in ranges {
            if kind == T_DISCARD {
                with_disk!(self.disk, discard(offset, length))?;
            } else {
                with_disk!(self.disk, write_zeroes(offset, length, unmap))?;
            }
        }
        Ok(())
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
