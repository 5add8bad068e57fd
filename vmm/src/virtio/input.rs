//! virtio-input (virtio 1.2, 5.8) as a tablet: an absolute pointer with three buttons and a wheel. Keys go by the i8042.
//!
//! ```text
//!  viewer ─▶ Pointer::moved ─▶ waiting events ─ eventfd ─▶ worker ─▶ event queue ─▶ guest
//! ```
//! Invariant: whole reports only (they end with EV_SYN); of those that find no room or no driver, the oldest are dropped.

use super::{
    DeviceType, F_COMMON, Queues,
    chain::Chain,
    queue::{Broken, Pop},
    read_config,
    served::{Answer, Config, Facts, Served, serve_chains},
    worker::{BUDGET, Handler, Progress},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Largest coordinate, in both directions.
pub const MAX: u16 = 0x7fff;
const EVENTS: usize = 0;
/// Reports that may wait.
const ROOM: usize = 256;

const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const EV_REL: u16 = 2;
const EV_ABS: u16 = 3;
const REL_WHEEL: u16 = 8;
const ABS_X: u16 = 0;
const ABS_Y: u16 = 1;
/// Buttons by the bits of RFB: left, middle, right.
const BUTTONS: [u16; 3] = [0x110, 0x112, 0x111];
const WHEEL_UP: u8 = 1 << 3;
const WHEEL_DOWN: u8 = 1 << 4;

const SELECT_NAME: u8 = 1;
const SELECT_IDS: u8 = 3;
const SELECT_EVENTS: u8 = 0x11;
const SELECT_AXIS: u8 = 0x12;
const NAME: &[u8] = b"LimiQuantix tablet";
/// Bus "virtual", vendor, product, version.
const IDS: [u16; 4] = [6, 0x1af4, 1, 1];

/// type, code, value.
type Event = (u16, u16, u32);

/// Most events of a report.
const LONGEST_REPORT: usize = 8;

/// What a stopped tablet still has in its hands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTablet {
    /// The two selectors of its configuration.
    selected: [u8; 2],
    /// What is left of the report being sent.
    report: VecDeque<Event>,
    /// Reports that wait.
    waiting: VecDeque<Vec<Event>>,
    /// Buttons down, bits as in RFB.
    buttons: u8,
}

#[derive(Default)]
struct Waiting {
    reports: VecDeque<Vec<Event>>,
    buttons: u8,
}

/// Where the pointer is told to be; any thread.
pub struct Pointer {
    waiting: Mutex<Waiting>,
    event: EventFd,
}

impl Pointer {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pointer is at (`x`, `y`), 0 to [`MAX`], with these buttons down (bits as in RFB).
    pub fn moved(&self, x: u16, y: u16, buttons: u8) {
        let mut waiting = self.waiting();
        let changed = waiting.buttons ^ buttons;
        waiting.buttons = buttons;
        let mut report = vec![(EV_ABS, ABS_X, x.min(MAX).into()), (EV_ABS, ABS_Y, y.min(MAX).into())];
        for (bit, code) in BUTTONS.into_iter().enumerate() {
            if changed >> bit & 1 != 0 {
                report.push((EV_KEY, code, (buttons >> bit & 1).into()));
            }
        }
        // A turn of the wheel is a press of its button.
        for (bit, turn) in [(WHEEL_UP, 1_i32), (WHEEL_DOWN, -1)] {
            if changed & buttons & bit != 0 {
                report.push((EV_REL, REL_WHEEL, turn.cast_unsigned()));
            }
        }
        report.push((EV_SYN, 0, 0));
        if waiting.reports.len() == ROOM {
            waiting.reports.pop_front();
        }
        waiting.reports.push_back(report);
        // Fails only when a signal is already waiting.
        let _ = self.event.write(1);
    }
}

/// The device.
pub type Tablet = Served<Events>;

/// Its work.
pub struct Events {
    pointer: Arc<Pointer>,
    selection: Arc<Selection>,
    chain: Chain,
    /// What is left of the report being sent.
    report: VecDeque<Event>,
}

impl Served<Events> {
    /// A stopped device, and the handle that moves it.
    ///
    /// # Errors
    /// The host gave no event.
    pub fn new() -> io::Result<(Self, Arc<Pointer>)> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let pointer = Arc::new(Pointer { waiting: Mutex::default(), event });
        let selection = Arc::<Selection>::default();
        let facts = Facts {
            kind: DeviceType::Input,
            features: F_COMMON,
            queue_sizes: vec![64, 64],
            config: Arc::clone(&selection) as _,
            written: None,
        };
        let handle = Arc::clone(&pointer);
        let tablet = Self::build(facts, |_| Events {
            pointer,
            selection,
            chain: Chain::default(),
            report: VecDeque::new(),
        });
        Ok((tablet, handle))
    }
}

/// The configuration: what the two selectors say is shown.
#[derive(Default)]
struct Selection {
    select: AtomicU8,
    subselect: AtomicU8,
}

impl Selection {
    fn get(&self) -> [u8; 2] {
        [&self.select, &self.subselect].map(|selector| selector.load(Ordering::Relaxed))
    }

    /// What is selected: nothing where that does not exist.
    fn shown(&self) -> Vec<u8> {
        let bits = |codes: &[u16]| {
            let bytes = codes.iter().max().map_or(0, |code| usize::from(code / 8) + 1);
            let mut bitmap = vec![0_u8; bytes];
            for code in codes {
                if let Some(byte) = bitmap.get_mut(usize::from(code / 8)) {
                    *byte |= 1 << (code % 8);
                }
            }
            bitmap
        };
        let [select, subselect] = self.get();
        match (select, u16::from(subselect)) {
            (SELECT_NAME, 0) => NAME.to_vec(),
            (SELECT_IDS, 0) => IDS.iter().flat_map(|id| id.to_le_bytes()).collect(),
            (SELECT_EVENTS, EV_KEY) => bits(&BUTTONS),
            (SELECT_EVENTS, EV_REL) => bits(&[REL_WHEEL]),
            (SELECT_EVENTS, EV_ABS) => bits(&[ABS_X, ABS_Y]),
            (SELECT_AXIS, ABS_X | ABS_Y) => {
                // Least, most, fuzz, flat, resolution.
                [0, u32::from(MAX), 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect()
            }
            _ => vec![],
        }
    }
}

impl Config for Selection {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let (shown, [select, subselect]) = (self.shown(), self.get());
        let mut config = vec![select, subselect, shown.len() as u8, 0, 0, 0, 0, 0];
        config.extend(shown);
        read_config(&config, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            match at {
                0 => self.select.store(*byte, Ordering::Relaxed),
                1 => self.subselect.store(*byte, Ordering::Relaxed),
                _ => {}
            }
        }
    }
}

impl Events {
    fn next(&mut self) -> Option<Event> {
        if self.report.is_empty() {
            let mut waiting = self.pointer.waiting();
            self.report.extend(waiting.reports.pop_front().into_iter().flatten());
        }
        self.report.front().copied()
    }

    /// Gives events to the driver for as long as it has room for them.
    fn send(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(EVENTS) else { return Ok(Progress::Idle) };
        let memory = queue.memory();
        for _ in 0..BUDGET {
            let Some((kind, code, value)) = self.next() else {
                queue.announce(&memory)?;
                return Ok(Progress::Idle);
            };
            match queue.pop(&memory, &mut self.chain)? {
                Pop::Empty => {
                    queue.announce(&memory)?;
                    return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
                }
                Pop::Malformed => {}
                Pop::Chain => {
                    let mut bytes = [0; 8];
                    bytes[0..2].copy_from_slice(&kind.to_le_bytes());
                    bytes[2..4].copy_from_slice(&code.to_le_bytes());
                    bytes[4..8].copy_from_slice(&value.to_le_bytes());
                    match self.chain.writable.copy_in(&memory, 0, &bytes) {
                        Ok(()) => {
                            self.report.pop_front();
                            queue.complete(&memory, self.chain.head, bytes.len() as u32)?;
                        }
                        Err(why) => queue.refuse(&memory, self.chain.head, why)?,
                    }
                }
            }
        }
        queue.announce(&memory)?;
        Ok(Progress::More)
    }
}

impl Handler for Events {
    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        if index == EVENTS {
            return self.send(queues);
        }
        // What the driver says of its LEDs: there are none.
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        serve_chains(queue, &mut self.chain, |_, _| Ok(Answer::Written(0)))
    }

    fn save(&mut self) -> serde_json::Value {
        let waiting = self.pointer.waiting();
        serde_json::json!(SavedTablet {
            selected: self.selection.get(),
            report: self.report.clone(),
            waiting: waiting.reports.clone(),
            buttons: waiting.buttons,
        })
    }

    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        let saved: SavedTablet = serde_json::from_value(saved)?;
        let longest = saved.waiting.iter().map(Vec::len).fold(saved.report.len(), usize::max);
        if saved.waiting.len() > ROOM || longest > LONGEST_REPORT {
            let problem = format!("{} reports wait, the longest of {longest} events", saved.waiting.len());
            return Err(io::Error::other(problem));
        }
        self.selection.write(0, &saved.selected);
        self.report = saved.report;
        let mut waiting = self.pointer.waiting();
        (waiting.reports, waiting.buttons) = (saved.waiting, saved.buttons);
        Ok(())
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.pointer.event.as_raw_fd())
    }

    fn source_ready(&mut self, queues: &mut Queues) -> Result<Progress, Broken> {
        // Empty only if someone else has read it: what waits is looked at all the same.
        let _ = self.pointer.event.read();
        self.send(queues)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::{
        VirtioDevice,
        testing::{BUFFERS, Driver},
    };
    use std::time::Duration;

    #[test]
    fn the_driver_learns_what_it_is_and_gets_whole_reports_in_order() {
        let (tablet, pointer) = Tablet::new().unwrap();
        let mut driver = Driver::new(tablet);
        let structure = |driver: &mut Driver, select: u8, subselect: u8| {
            driver.write_config(0, &[select]);
            driver.write_config(1, &[subselect]);
            let size = driver.config(2, 1);
            (0..size).map(|at| driver.config(8 + at, 1) as u8).collect::<Vec<_>>()
        };
        assert_eq!(structure(&mut driver, SELECT_NAME, 0), NAME);
        assert_eq!(structure(&mut driver, SELECT_EVENTS, EV_ABS as u8), [3]);
        assert_eq!(structure(&mut driver, SELECT_EVENTS, EV_REL as u8), [0, 1]);
        assert_eq!(structure(&mut driver, SELECT_EVENTS, EV_KEY as u8)[34], 7);
        assert_eq!(structure(&mut driver, SELECT_AXIS, 1)[4..8], [0xff, 0x7f, 0, 0]);
        assert_eq!(structure(&mut driver, SELECT_AXIS, 2), [] as [u8; 0]);
        assert_eq!(structure(&mut driver, 0xff, 0xff), [] as [u8; 0]);

        driver.start(0, 64);
        // Before there is room, and after.
        pointer.moved(5, MAX, 1);
        for n in 0..16 {
            driver.offer(EVENTS, &[(BUFFERS + 8 * n, 8, true)]);
        }
        driver.ring(EVENTS);
        pointer.moved(6, 7, WHEEL_DOWN);
        let mut events = Vec::new();
        for n in 0..9 {
            assert_eq!(driver.wait_used(EVENTS).1, 8);
            let bytes = driver.read(BUFFERS + 8 * n, 8);
            let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            let value = i32::from_le_bytes(bytes[4..8].try_into().unwrap());
            events.push((short(0), short(2), value));
        }
        assert_eq!(
            events,
            [
                (EV_ABS, ABS_X, 5),
                (EV_ABS, ABS_Y, 0x7fff),
                (EV_KEY, 0x110, 1),
                (EV_SYN, 0, 0),
                (EV_ABS, ABS_X, 6),
                (EV_ABS, ABS_Y, 7),
                (EV_KEY, 0x110, 0),
                (EV_REL, REL_WHEEL, -1),
                (EV_SYN, 0, 0),
            ]
        );
        // A status is taken and nothing comes of it.
        assert_eq!(driver.request(1, &[(BUFFERS, 8, false)]), 0);
        assert!(driver.try_wait_used(EVENTS, Duration::from_millis(20)).is_none());
    }

    #[test]
    fn what_waits_and_what_is_held_down_goes_along_when_the_machine_moves() {
        let (mut one, pointer) = Tablet::new().unwrap();
        one.config_write(0, &[SELECT_NAME]);
        pointer.moved(1, 2, 1);
        pointer.moved(3, 4, 1);
        let saved = one.save().unwrap();
        let (mut two, pointer) = Tablet::new().unwrap();
        two.load(saved.clone()).unwrap();
        assert_eq!(two.save().unwrap(), saved);
        let mut driver = Driver::new(two);
        assert_eq!(driver.config(2, 1), NAME.len() as u64);
        driver.start(0, 64);
        for n in 0..16 {
            driver.offer(EVENTS, &[(BUFFERS + 8 * n, 8, true)]);
        }
        driver.ring(EVENTS);
        pointer.moved(5, 6, 0);
        // Two reports from before, of four and three events, then one that lets the button go.
        for _ in 0..11 {
            driver.wait_used(EVENTS);
        }
        assert_eq!(driver.read(BUFFERS + 8 * 9, 8), [1, 0, 0x10, 1, 0, 0, 0, 0]);
        let mut endless = saved;
        endless["report"] = serde_json::json!(vec![(0, 0, 0); LONGEST_REPORT + 1]);
        let (mut three, _) = Tablet::new().unwrap();
        assert!(three.load(endless).unwrap_err().to_string().contains("9 events"));
    }

    #[test]
    fn a_guest_without_a_driver_costs_bounded_room() {
        let (_tablet, pointer) = Tablet::new().unwrap();
        for n in 0..10_000_u16 {
            pointer.moved(n, n, 0);
        }
        let waiting = pointer.waiting.lock().unwrap();
        assert_eq!(waiting.reports.len(), ROOM);
        assert_eq!(waiting.reports.back().unwrap()[0].2, 9_999, "the newest is there");
    }
}
