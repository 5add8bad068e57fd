//! virtio-net (virtio 1.2, 5.1) on a tap device: one thread for each queue pair.
//!
//! | queue | is |
//! |---|---|
//! | 2 n, 2 n + 1 | what pair n receives and sends |
//! | the last | control, where there are several pairs; the driver says by it how many it uses ([`control`]). At 2 for a driver that does not use several |
//!
//! Sending goes straight from guest memory to the tap. Receiving reads one packet into a buffer of ours and spreads it over
//! as many of the driver's buffers as it needs (mergeable buffers). While the driver has given no buffers, the tap is not
//! watched, and the kernel's queue fills and drops. The same while a packet has to wait for its limits. A cable that is out
//! lets nothing through in either direction. Offloads towards the guest follow what the driver accepted.

mod control;
mod pairs;

pub use super::tap::{open_tap, open_taps};
use super::{
    Counters, DeviceType, F_COMMON, F_VERSION_1, Queues,
    chain::{Chain, Malformed},
    queue::{Broken, DeviceQueue, Pop},
    read_config,
    report::Report,
    served::{Answer, Config, Facts, Served, serve_chains},
    tap,
    worker::{BUDGET, Handler, Progress},
};
use crate::{
    change::{Change, Seen, unknown},
    limit::Limiter,
    memory::Memory,
};
use lq_api::{local::vmm::NicLimits, vm::Mac};
use pairs::Pairs;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// The header before each packet, with `num_buffers`.
const HEADER: usize = 12;
/// Offset of `num_buffers` in it.
const NUM_BUFFERS: u64 = 10;
/// The largest packet a tap gives or takes, with header: 64 KiB of IP, Ethernet and VLAN header.
const MAX_PACKET: usize = HEADER + 65535 + 18;

/// Feature: the driver may leave checksums to us.
const F_CSUM: u64 = 1 << 0;
/// Feature: the driver takes packets without checksums.
const F_GUEST_CSUM: u64 = 1 << 1;
/// Feature: the device has an address.
const F_MAC: u64 = 1 << 5;
/// Feature: the driver takes large IPv4 segments.
const F_GUEST_TSO4: u64 = 1 << 7;
/// Feature: the driver takes large IPv6 segments.
const F_GUEST_TSO6: u64 = 1 << 8;
/// Feature: the driver takes large segments with ECN.
const F_GUEST_ECN: u64 = 1 << 9;
/// Feature: the driver may give large IPv4 segments.
const F_HOST_TSO4: u64 = 1 << 11;
/// Feature: the driver may give large IPv6 segments.
const F_HOST_TSO6: u64 = 1 << 12;
/// Feature: the driver may give large segments with ECN.
const F_HOST_ECN: u64 = 1 << 13;
/// Feature: a packet may be spread over several buffers.
const F_MRG_RXBUF: u64 = 1 << 15;

/// Feature: the device tells whether its cable is in.
const F_STATUS: u64 = 1 << 16;
/// Feature: there is a control queue.
const F_CTRL_VQ: u64 = 1 << 17;
/// Feature: there are several queue pairs.
const F_MQ: u64 = 1 << 22;
/// Status in the configuration: the cable is in.
const LINK_UP: u16 = 1;

/// The device.
pub type Net = Served<Packets>;

impl Served<Packets> {
    /// Makes taps that were opened by someone else those for [`Net::limited`].
    ///
    /// # Errors
    /// One is none that can be used.
    pub fn adopt(taps: &[File]) -> io::Result<()> {
        taps.iter().try_for_each(|tap| tap::adopt(tap, taps.len() > 1))
    }

    /// A stopped device with the hardware address `mac` on `tap`, as [`open_tap`] gives it.
    ///
    /// # Errors
    /// The tap does not take virtio-net headers.
    pub fn new(tap: File, mac: Mac) -> io::Result<Self> {
        Self::limited(vec![tap], mac, NicLimits::default(), true)
    }

    /// As [`Net::new`], with a queue pair for each of `taps` (as [`open_taps`] gives them, at least one), within `limits`, with
    /// the cable in or out.
    ///
    /// # Errors
    /// As of [`Net::new`].
    pub fn limited(taps: Vec<File>, mac: Mac, limits: NicLimits, up: bool) -> io::Result<Self> {
        let pairs = Arc::new(Pairs::new(taps)?);
        let first = pairs.taps().first().ok_or(io::ErrorKind::NotFound)?;
        pairs.taps().iter().try_for_each(|tap| tap::set_header_size(tap, HEADER as i32))?;
        let mut features =
            F_COMMON | F_MAC | F_STATUS | F_MRG_RXBUF | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN;
        let guest = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN;
        if tap::set_offload(first, offload(guest)).is_ok() {
            features |= guest;
        }
        tap::set_offload(first, 0)?;
        let several = pairs.most() > 1;
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs.most())];
        if several {
            features |= F_CTRL_VQ | F_MQ;
            queue_sizes.push(CONTROL_QUEUE_SIZE);
        }
        let config = Arc::new(Card { mac, up: AtomicBool::new(up), pairs: pairs.most() });
        let facts = Facts {
            kind: DeviceType::Net,
            features,
            queue_sizes,
            config: Arc::clone(&config) as Arc<dyn Config>,
            written: None,
        };
        let limiters = limiters(limits).map(|limiter| Arc::new(Mutex::new(limiter)));
        let taps = pairs.taps().to_vec();
        let make = |lane: usize, tap: &Arc<File>, counters| Packets {
            lane,
            pairs: Arc::clone(&pairs),
            tap: Arc::clone(tap),
            packet: vec![0; MAX_PACKET].into_boxed_slice(),
            waiting: 0,
            admitted: false,
            limiters: limiters.clone(),
            held_until: None,
            config: Arc::clone(&config),
            features: 0,
            receiving: false,
            chain: Chain::default(),
            counters,
            report: Report::new(format!("interface {mac}")),
            mac,
        };
        Ok(Self::build_lanes(facts, taps.len(), lane_of, |lane, counters| {
            // There are as many lanes as taps.
            make(lane, taps.get(lane).unwrap_or(first), counters)
        }))
    }
}

/// A pair's queues are served by its own lane, the control queue by the first.
fn lane_of(queue: usize, features: u64) -> usize {
    // Past the last lane: the first.
    if features & F_MQ == 0 { 0 } else { queue / 2 }
}

fn limiters(limits: NicLimits) -> [Limiter; 2] {
    let now = Instant::now();
    [Limiter::new(limits.receive, now), Limiter::new(limits.transmit, now)]
}

/// The configuration structure (virtio 1.2, 5.1.4): the address, and whether the cable is in.
struct Card {
    mac: Mac,
    up: AtomicBool,
    pairs: u16,
}

impl Config for Card {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let status = if self.up.load(SeqCst) { LINK_UP } else { 0 };
        let pairs = if self.pairs > 1 { self.pairs } else { 0 };
        read_config(&[&self.mac.0[..], &status.to_le_bytes(), &pairs.to_le_bytes()].concat(), offset, data);
    }
    fn identity(&self, data: &mut [u8]) {
        read_config(&self.mac.0, 0, data);
    }
}

/// What the kernel may leave undone for a driver that accepted `features`.
fn offload(features: u64) -> u32 {
    if features & F_GUEST_CSUM == 0 {
        return 0;
    }
    let tso = features & (F_GUEST_TSO4 | F_GUEST_TSO6) != 0;
    let when = |condition: bool, bits: u32| if condition { bits } else { 0 };
    tap::OFFLOAD_CSUM
        | when(features & F_GUEST_TSO4 != 0, tap::OFFLOAD_TSO4)
        | when(features & F_GUEST_TSO6 != 0, tap::OFFLOAD_TSO6)
        | when(tso && features & F_GUEST_ECN != 0, tap::OFFLOAD_ECN)
}

/// The work of the device.
pub struct Packets {
    /// Which queue pair is served, from 0.
    lane: usize,
    pairs: Arc<Pairs>,
    tap: Arc<File>,
    /// The packet being received.
    packet: Box<[u8]>,
    /// Its length while the driver has not given enough buffers for it; 0: none.
    waiting: usize,
    /// It is within the limits.
    admitted: bool,
    /// Of what is received and what is sent, by all lanes.
    limiters: [Arc<Mutex<Limiter>>; 2],
    /// When a direction goes on that waits for its limits, the earlier one of both.
    held_until: Option<Instant>,
    config: Arc<Card>,
    features: u64,
    /// The driver has given buffers: the tap is worth watching.
    receiving: bool,
    chain: Chain,
    counters: Arc<Counters>,
    report: Report,
    mac: Mac,
}

/// What a stopped interface still has in its hands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPackets {
    /// The packet received that the driver had no buffers for, with its header; empty: none.
    waiting: Vec<u8>,
    /// The cable is out.
    #[serde(default)]
    link_down: bool,
    /// Queue pairs in use, said by the first lane.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pairs: u16,
}

const fn one() -> u16 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one(pairs: &u16) -> bool {
    *pairs == 1
}

impl Handler for Packets {
    fn begin(&mut self, features: u64) -> io::Result<()> {
        debug_assert!(features & F_VERSION_1 != 0);
        self.features = features;
        self.receiving = false;
        self.held_until = None;
        tap::set_offload(&self.tap, offload(features))
    }

    fn reset(&mut self) {
        self.waiting = 0;
        if self.lane == 0
            && let Err(error) = self.pairs.activate(1)
        {
            self.report.say(format_args!("cannot let go of its other queues: {error}"));
        }
    }

    fn save(&mut self) -> serde_json::Value {
        let waiting = self.packet.get(..self.waiting).unwrap_or_default().to_vec();
        let link_down = !self.config.up.load(SeqCst);
        let pairs = if self.lane == 0 { self.pairs.active() } else { 1 };
        serde_json::to_value(SavedPackets { waiting, link_down, pairs }).unwrap_or_default()
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        let SavedPackets { waiting, link_down, pairs } = serde_json::from_value(saved)?;
        if self.lane == 0 && !self.pairs.activate(pairs)? {
            return Err(io::Error::other(format!(
                "{pairs} queue pairs are in use, it has {}",
                self.pairs.most()
            )));
        }
        let room = self.packet.get_mut(..waiting.len());
        let room = room.filter(|room| room.is_empty() || room.len() > HEADER);
        room.ok_or_else(|| io::Error::other("its waiting packet has an impossible length"))?
            .copy_from_slice(&waiting);
        self.waiting = waiting.len();
        self.config.up.store(!link_down, SeqCst);
        Ok(())
    }

    fn announce(&mut self) {
        if let Err(error) = (&*self.tap).write(&announcement(self.mac)) {
            self.report.say(format_args!("cannot announce where it is now: {error}"));
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.held_until
    }

    fn woken(&mut self, queues: &Queues) {
        self.held_until = None;
        self.receiving = matches!(queues.get(self.rx()), Some(Some(_)));
    }

    fn change(&mut self, change: Change) -> io::Result<Seen> {
        match change {
            Change::NicLimits(limits) => {
                for (shared, limiter) in self.limiters.iter().zip(limiters(limits)) {
                    *lock(shared) = limiter;
                }
                Ok(false)
            }
            Change::Link(up) => Ok(self.config.up.swap(up, SeqCst) != up),
            _ => Err(unknown()),
        }
    }

    fn source(&self) -> Option<RawFd> {
        self.receiving.then(|| self.tap.as_raw_fd())
    }

    fn source_ready(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(self.rx()) else { return Ok(Progress::Idle) };
        self.receive(queue)
    }

    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        if index == self.rx() {
            self.receiving = true;
            self.receive(queue)
        } else if index == self.rx() + 1 {
            self.transmit(queue)
        } else if self.features & F_CTRL_VQ != 0 && index == self.control_queue() {
            self.control(queue)
        } else {
            // The driver has not agreed to use it.
            Ok(Progress::Idle)
        }
    }
}

/// A reverse address request (RFC 903) from the guest's address to everyone, behind an empty header: bridges and switches
/// learn from it where the address is now. It asks nobody for anything and needs no IP address.
pub(super) fn announcement(mac: Mac) -> Vec<u8> {
    const SHORTEST_FRAME: usize = 60;
    let mut packet = vec![0; HEADER];
    packet.extend([0xff; 6]);
    packet.extend(mac.0);
    packet.extend([0x80, 0x35]);
    // Ethernet, IPv4, the lengths of their addresses, "request reverse".
    packet.extend([0, 1, 8, 0, 6, 4, 0, 3]);
    for _ in 0..2 {
        packet.extend(mac.0);
        packet.extend([0; 4]);
    }
    packet.resize(HEADER + SHORTEST_FRAME, 0);
    packet
}

fn earliest(held: Option<Instant>, until: Instant) -> Instant {
    held.map_or(until, |held| held.min(until))
}

fn lock(limiter: &Mutex<Limiter>) -> MutexGuard<'_, Limiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a packet pass now, or says when to ask again.
fn admit(limiter: &Mutex<Limiter>, bytes: u64) -> Result<(), Instant> {
    let mut limiter = lock(limiter);
    if limiter.is_limited() { limiter.admit(Instant::now(), bytes) } else { Ok(()) }
}

/// How one packet fared.
#[derive(PartialEq)]
enum Delivery {
    Done,
    /// The driver has too few buffers for now.
    NoBuffers,
}

impl Packets {
    /// The queue it receives into; it sends from the next one.
    fn rx(&self) -> usize {
        2 * self.lane
    }

    fn control_queue(&self) -> usize {
        2 * usize::from(if self.features & F_MQ == 0 { 1 } else { self.pairs.most() })
    }

    fn control(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let (pairs, report) = (&self.pairs, &mut self.report);
        serve_chains(queue, &mut self.chain, |memory, chain| {
            let failed = |error| report.say(format_args!("cannot change its queues: {error}"));
            control::command(pairs, memory, chain, failed)
        })
    }

    fn transmit(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let (tap, counters, report) = (&self.tap, &self.counters, &mut self.report);
        let [_, limiter] = &self.limiters;
        let (held_until, up) = (&mut self.held_until, self.config.up.load(SeqCst));
        serve_chains(queue, &mut self.chain, |memory, chain| {
            if !up {
                counters.error();
                return Ok(Answer::Written(0));
            }
            let bytes = chain.readable.bytes().saturating_sub(HEADER as u64);
            if let Err(until) = admit(limiter, bytes) {
                *held_until = Some(earliest(*held_until, until));
                return Ok(Answer::Hold);
            }
            send(tap, memory, chain, counters, report).map(|()| Answer::Written(0))
        })
    }

    fn receive(&mut self, queue: &mut DeviceQueue) -> Result<Progress, Broken> {
        let memory = queue.memory();
        for _ in 0..BUDGET {
            if self.waiting == 0 && !self.read_packet() {
                queue.announce(&memory)?;
                return Ok(Progress::Idle);
            }
            if !self.config.up.load(SeqCst) {
                self.counters.error();
                self.waiting = 0;
                continue;
            }
            let [limiter, _] = &self.limiters;
            if !self.admitted
                && let Err(until) = admit(limiter, (self.waiting - HEADER) as u64)
            {
                // Until then the tap is left alone.
                self.held_until = Some(earliest(self.held_until, until));
                self.receiving = false;
                queue.announce(&memory)?;
                return Ok(Progress::Idle);
            }
            self.admitted = true;
            if self.deliver(queue, &memory)? == Delivery::NoBuffers {
                queue.announce(&memory)?;
                // The doorbell tells of new buffers; until then the tap is left alone.
                self.receiving = queue.listen(&memory)?;
                return Ok(if self.receiving { Progress::More } else { Progress::Idle });
            }
            self.admitted = false;
        }
        queue.announce(&memory)?;
        Ok(Progress::More)
    }

    /// Reads the next packet into `packet`. `false`: there is none.
    fn read_packet(&mut self) -> bool {
        loop {
            match (&*self.tap).read(&mut self.packet) {
                Ok(length) if length > HEADER => {
                    self.waiting = length;
                    if let (true, Some(header)) =
                        (self.features & F_GUEST_CSUM == 0, self.packet.get_mut(..2))
                    {
                        // A driver that did not accept checksum offload must not see flags about it, nor GSO types.
                        header.fill(0);
                    }
                    return true;
                }
                Ok(_) => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.report.say(format_args!("cannot receive: {error}"));
                    }
                    return false;
                }
            }
        }
    }

    /// Gives the waiting packet to the driver, or drops it if it cannot ever fit.
    fn deliver(&mut self, queue: &mut DeviceQueue, memory: &Memory) -> Result<Delivery, Broken> {
        let mergeable = self.features & F_MRG_RXBUF != 0;
        // Head and length of each buffer taken; the first one's chain, for `num_buffers`.
        let mut used: Vec<(u16, u32)> = Vec::new();
        let mut first = None;
        let mut done = 0;
        while done < self.waiting {
            match queue.pop(memory, &mut self.chain)? {
                Pop::Chain => {}
                Pop::Malformed => return self.drop_packet(queue, memory, used),
                Pop::Empty if used.len() >= usize::from(queue.size()) => {
                    self.counters.error();
                    return self.drop_packet(queue, memory, used);
                }
                Pop::Empty => {
                    used.iter().for_each(|_| queue.unpop());
                    return Ok(Delivery::NoBuffers);
                }
            }
            let head = self.chain.head;
            let room = usize::try_from(self.chain.writable.bytes()).unwrap_or(usize::MAX);
            let now = room.min(self.waiting - done);
            let fits = room > 0 && (mergeable || now == self.waiting) && (done > 0 || now >= HEADER);
            let part = self.packet.get(done..done + now).unwrap_or_default();
            if !fits || self.chain.writable.copy_in(memory, 0, part).is_err() {
                queue.refuse(memory, head, Malformed::TooShort)?;
                return self.drop_packet(queue, memory, used);
            }
            if done == 0 {
                first = Some(std::mem::take(&mut self.chain));
            }
            used.push((head, now as u32));
            done += now;
        }
        if let Some(first) = first {
            let buffers = (used.len() as u16).to_le_bytes();
            if let Err(why) = first.writable.copy_in(memory, NUM_BUFFERS, &buffers) {
                self.report.say(format_args!("{why}"));
            }
            self.chain = first;
        }
        self.counters.read((self.waiting - HEADER) as u64);
        for (head, length) in used {
            queue.complete(memory, head, length)?;
        }
        self.waiting = 0;
        Ok(Delivery::Done)
    }

    /// The driver's buffers do not suit the packet, which is counted: gives back those taken, unused.
    fn drop_packet(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &Memory,
        used: Vec<(u16, u32)>,
    ) -> Result<Delivery, Broken> {
        for (head, _) in used {
            queue.complete(memory, head, 0)?;
        }
        self.waiting = 0;
        Ok(Delivery::Done)
    }
}

/// Sends the packet in `chain`.
fn send(
    tap: &File,
    memory: &Memory,
    chain: &Chain,
    counters: &Counters,
    report: &mut Report,
) -> Result<(), Malformed> {
    let bytes = chain.readable.bytes();
    if bytes <= HEADER as u64 || bytes > MAX_PACKET as u64 {
        return Err(Malformed::TooShort);
    }
    let buffers = chain.readable.slices(memory, 0..bytes)?;
    match tap::send(tap, &buffers) {
        Ok(()) => counters.written(bytes - HEADER as u64),
        // Dropped, as a network may: the interface is down, its queue full, or the header makes no sense.
        Err(error) => {
            counters.error();
            if error.kind() != io::ErrorKind::WouldBlock {
                report.say(format_args!("packet not sent: {error}"));
            }
        }
    }
    Ok(())
}
