//! The PCI transport of virtio 1.2 (section 4.1), modern only, MSI-X only.
//!
//! Owns: the function's configuration space, its one BAR, and the life of the device behind it.
//!
//! ```text
//!  BAR 0 (32 KiB)   0x0000 common   0x1000 ISR   0x2000 device   0x3000 notify (4 bytes a queue)
//!                   0x4000 MSI-X table           0x6000 MSI-X pending bits
//!
//!           status := 0 (stops the device, forgets everything)
//!      ┌────────────────────────────┬────────────────────┬──────────────────────┐
//!      ▼                            │                    │                      │
//!   RESET ─ACKNOWLEDGE, DRIVER─▶ DRIVER ─FEATURES_OK─▶ AGREED ─DRIVER_OK─▶ RUNNING ◀─resume─ PAUSED
//!                                   │  (refused: the bit   │                 │    ───pause──▶
//!                                   │   stays clear)       │ queues do not   │ a ring breaks, the host fails
//!                                   └─FAILED: only a       ▼ start           ▼
//!                                     reset helps       NEEDS_RESET ─────────┘ (only a reset helps)
//! ```
//! Features can be chosen only before AGREED, queues set up only before RUNNING; writes at other times are ignored. A reset
//! with I/O under way waits for it: when the status reads 0, the device touches no memory.

mod common;

use self::common::{Common, SavedCommon, Write};
use super::{
    DeviceType, QueueState, QueueStates, Queues, VirtioDevice,
    queue::DeviceQueue,
    signals::{SavedSignals, Signals},
};
use crate::{
    change::Change,
    memory::SharedMemory,
    pci::{
        BarRequest, ConfigEffect, PciDevice, Platform,
        config::{ConfigSpace, Identity, LayoutError},
        msix::{self, Msix, SavedMsix},
    },
    state::{self, Saved, State, description::Device},
};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, sync::Arc};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const BAR: u8 = 0;
const BAR_SIZE: u64 = 0x8000;
const COMMON: u64 = 0;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const MSIX_TABLE: u64 = 0x4000;
const MSIX_PENDING: u64 = 0x6000;
/// Bytes between the doorbells of two queues.
const NOTIFY_STRIDE: u64 = 4;
/// Bytes of a device's configuration that its description holds: all of those there are.
const DESCRIBED_CONFIG: usize = 64;
/// Most queues that fit the layout (vectors are one more, 16 bytes each, up to the pending bits).
const MAX_QUEUES: usize = 64;

const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;
const CAP_VENDOR: u8 = 9;
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;
/// Offsets inside the PCI-access capability: BAR, offset, length, data.
const WINDOW_BAR: u16 = 4;
const WINDOW_OFFSET: u16 = 8;
const WINDOW_LENGTH: u16 = 12;
const WINDOW_DATA: u16 = 16;

/// Why a device cannot be put on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has more queues than the layout holds.
    #[error("a virtio device with {0} queues (at most {MAX_QUEUES} are possible)")]
    TooManyQueues(usize),
    /// Its capabilities do not fit.
    #[error("cannot lay out the configuration space of a virtio device")]
    Layout(#[from] LayoutError),
    /// The host gave no interrupts or events.
    #[error("cannot get interrupts and doorbells for a virtio device")]
    Host(#[from] io::Error),
}

/// A virtio device on the PCI bus, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedVirtio {
    /// Configuration space.
    config: Vec<u8>,
    msix: SavedMsix,
    common: SavedCommon,
    signals: SavedSignals,
    /// Where its queues are; none: the driver had not started it.
    queues: Option<Vec<Option<SavedQueue>>>,
    /// What the kind of device knows besides.
    device: serde_json::Value,
}

impl Saved for SavedVirtio {
    const KIND: &'static str = "virtio-pci";
}

/// A queue, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedQueue {
    size: u16,
    next_avail: u16,
    next_used: u16,
    event_idx: bool,
    descriptors: u64,
    driver: u64,
    device: u64,
}

/// A virtio device as a function on the PCI bus.
pub struct VirtioPci {
    device: Box<dyn VirtioDevice>,
    memory: SharedMemory,
    platform: Arc<dyn Platform>,
    config: ConfigSpace,
    msix: Msix,
    msix_capability: u16,
    window: u16,
    common: Common,
    signals: Arc<Signals>,
    doorbells: Vec<Arc<EventFd>>,
    /// Where the doorbells are attached.
    attached: Option<u64>,
    running: bool,
    /// Set while paused: the states to go on from.
    paused: Option<QueueStates>,
    /// It was moved here: an interrupt may have been on its way.
    moved: bool,
}

impl VirtioPci {
    /// Puts `device` behind a PCI function.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: SharedMemory,
        platform: Arc<dyn Platform>,
    ) -> Result<Self, Error> {
        let sizes = device.queue_sizes().to_vec();
        if sizes.len() > MAX_QUEUES {
            return Err(Error::TooManyQueues(sizes.len()));
        }
        let vectors = sizes.len() as u16 + 1;
        let msix = Msix::new(&*platform, vectors)?;
        let doorbells: io::Result<_> =
            sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK).map(Arc::new)).collect();
        let name = device.device_type().name();
        let signals = Arc::new(Signals::new(name, msix.interrupts(), sizes.len(), device.counters()));
        let (config, msix_capability, window) = layout(&*device, &msix)?;
        let common = Common::new(device.features(), &sizes, vectors, Arc::clone(&signals));
        Ok(Self {
            device,
            memory,
            platform,
            config,
            msix,
            msix_capability,
            window,
            common,
            signals,
            doorbells: doorbells?,
            attached: None,
            running: false,
            paused: None,
            moved: false,
        })
    }

    /// Starts the device with the given states; a device that cannot start needs a reset.
    fn start(&mut self, states: QueueStates) {
        let queues: Result<Queues, _> = (0..)
            .zip(states.into_iter().zip(&self.doorbells))
            .map(|(index, (state, doorbell))| {
                let (memory, signals) = (self.memory.clone(), Arc::clone(&self.signals));
                state
                    .map(|state| DeviceQueue::new(index, state, memory, Arc::clone(doorbell), signals))
                    .transpose()
            })
            .collect();
        let started = queues
            .map_err(io::Error::other)
            .and_then(|queues| self.device.start_queues(queues, self.common.driver_features()));
        match started {
            Ok(()) => self.running = true,
            Err(error) => {
                self.signals.say(format_args!("does not start: {error}"));
                self.signals.needs_reset();
            }
        }
    }

    /// The driver wrote status 0.
    fn reset_device(&mut self) {
        self.device.stop_queues();
        self.device.reset();
        self.running = false;
        self.paused = None;
        self.common.reset();
        self.signals.reset();
        // What was rung for is forgotten; a back end that finds nothing takes no harm.
        let own = if self.device.lends_doorbells() { &[][..] } else { &self.doorbells };
        for doorbell in own {
            // Empty already: nothing to forget.
            let _ = doorbell.read();
        }
    }

    fn detach_doorbells(&mut self) -> io::Result<()> {
        let Some(base) = self.attached.take() else { return Ok(()) };
        let mut result = Ok(());
        for (address, doorbell) in doorbell_addresses(base).zip(&self.doorbells) {
            result = result.and(self.platform.detach_doorbell(address, doorbell));
        }
        result
    }

    /// Passes what the guest wrote to MSI-X control on.
    fn update_msix(&mut self) {
        let control = self.config.read_u16(self.msix_capability + msix::CONTROL);
        if let Err(error) = self.msix.set_control(control) {
            self.signals.say(format_args!("MSI-X: {error}"));
        }
        self.signals.set_msix(self.msix.enabled());
    }

    /// The access the window capability describes: offset in the BAR and length.
    fn window_access(&self) -> Option<(u64, usize)> {
        let mut bar = [0];
        self.config.read(self.window + WINDOW_BAR, &mut bar);
        let offset = u64::from(self.config.read_u32(self.window + WINDOW_OFFSET));
        let length = self.config.read_u32(self.window + WINDOW_LENGTH);
        let valid = bar[0] == BAR && matches!(length, 1 | 2 | 4) && offset.is_multiple_of(u64::from(length));
        valid.then_some((offset, length as usize))
    }

    fn covers_window_data(&self, offset: u16, length: usize) -> bool {
        let data = self.window + WINDOW_DATA;
        offset < data + 4 && usize::from(offset) + length > usize::from(data)
    }
}

impl VirtioPci {
    fn take_up(&mut self, saved: SavedVirtio) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        self.config.load(&saved.config)?;
        self.common.load(saved.common)?;
        self.signals.load(&saved.signals);
        let control = self.config.read_u16(self.msix_capability + msix::CONTROL);
        self.msix.load(&saved.msix, control).map_err(text)?;
        self.signals.set_msix(self.msix.enabled());
        self.device.load(saved.device).map_err(text)?;
        self.running = false;
        self.moved = true;
        let Some(queues) = saved.queues else {
            self.paused = None;
            return Ok(());
        };
        let sizes = self.device.queue_sizes();
        if queues.len() != sizes.len() {
            return Err(format!("{} queues, not {}", queues.len(), sizes.len()));
        }
        let state = |(queue, max_size): (SavedQueue, u16)| QueueState {
            max_size,
            next_avail: queue.next_avail,
            next_used: queue.next_used,
            event_idx_enabled: queue.event_idx,
            size: queue.size,
            ready: true,
            desc_table: queue.descriptors,
            avail_ring: queue.driver,
            used_ring: queue.device,
        };
        let states =
            queues.into_iter().zip(sizes).map(|(queue, size)| queue.map(|queue| state((queue, *size))));
        self.paused = Some(states.collect());
        Ok(())
    }
}

fn doorbell_addresses(base: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |n| base.wrapping_add(NOTIFY + n * NOTIFY_STRIDE))
}

/// Configuration space, offset of the MSI-X capability, offset of the window capability.
fn layout(device: &dyn VirtioDevice, msix: &Msix) -> Result<(ConfigSpace, u16, u16), LayoutError> {
    let kind = device.device_type();
    let mut config = ConfigSpace::new(Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + kind as u16,
        revision: 1,
        class: match kind {
            DeviceType::Net => [2, 0, 0],
            DeviceType::Block => [1, 0x80, 0],
            DeviceType::Rng => [0xff, 0, 0],
            DeviceType::Balloon => [0, 0xff, 0],
            DeviceType::Scsi => [1, 0, 0],
            DeviceType::Fs => [1, 0x80, 0],
            DeviceType::Input => [9, 0x80, 0],
            DeviceType::Vsock => [7, 0x80, 0],
            DeviceType::Mem => [5, 0x80, 0],
        },
        subsystem_vendor: VENDOR,
        subsystem: 0x40 + kind as u16,
    });
    config.add_bar(BarRequest::wide(BAR, BAR_SIZE))?;
    let capability = |kind: u8, offset: u64, length: u32, extra: &[u8]| {
        // Length of the whole capability (with id and link), kind, BAR, id, padding, offset, length.
        let mut body = vec![16 + extra.len() as u8, kind, BAR, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(extra);
        body
    };
    let queues = device.queue_sizes().len() as u32;
    config.add_capability(CAP_VENDOR, &capability(CFG_COMMON, COMMON, common::LENGTH, &[]), &[])?;
    config.add_capability(CAP_VENDOR, &capability(CFG_ISR, ISR, 1, &[]), &[])?;
    config.add_capability(CAP_VENDOR, &capability(CFG_DEVICE, DEVICE, 0x1000, &[]), &[])?;
    let stride = (NOTIFY_STRIDE as u32).to_le_bytes();
    let notify = capability(CFG_NOTIFY, NOTIFY, queues * NOTIFY_STRIDE as u32, &stride);
    config.add_capability(CAP_VENDOR, &notify, &[])?;
    let mut writable = [0; 18];
    writable[usize::from(WINDOW_BAR) - 2] = 0xff;
    writable[usize::from(WINDOW_OFFSET) - 2..].fill(0xff);
    let window = config.add_capability(CAP_VENDOR, &capability(CFG_PCI, 0, 0, &[0; 4]), &writable)?;
    let (body, writable) = msix.capability((BAR, MSIX_TABLE as u32), (BAR, MSIX_PENDING as u32));
    let at = config.add_capability(msix::CAPABILITY_ID, &body, &writable)?;
    Ok((config, at, window))
}

impl PciDevice for VirtioPci {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.covers_window_data(offset, data.len())
            && let Some((at, length)) = self.window_access()
        {
            let mut bytes = [0; 4];
            if let Some(bytes) = bytes.get_mut(..length) {
                self.bar_read(BAR, at, bytes);
            }
            self.config.set(self.window + WINDOW_DATA, &bytes);
        }
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect {
        let effect = self.config.write(offset, data);
        self.update_msix();
        if self.covers_window_data(offset, data.len())
            && let Some((at, length)) = self.window_access()
        {
            let mut bytes = [0; 4];
            self.config.read(self.window + WINDOW_DATA, &mut bytes);
            self.bar_write(BAR, at, bytes.get(..length).unwrap_or_default());
        }
        effect
    }

    fn bars(&self) -> Vec<BarRequest> {
        self.config.bars().to_vec()
    }

    fn bar_moved(&mut self, bar: u8, base: Option<u64>) -> io::Result<()> {
        if bar != BAR || self.attached == base {
            return Ok(());
        }
        self.detach_doorbells()?;
        let Some(base) = base else { return Ok(()) };
        for (n, (address, doorbell)) in doorbell_addresses(base).zip(&self.doorbells).enumerate() {
            if let Err(error) = self.platform.attach_doorbell(address, doorbell) {
                for (address, doorbell) in doorbell_addresses(base).zip(&self.doorbells).take(n) {
                    // What cannot be undone is reported by the error that led here.
                    let _ = self.platform.detach_doorbell(address, doorbell);
                }
                return Err(error);
            }
        }
        self.attached = Some(base);
        Ok(())
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if bar != BAR {
            return;
        }
        match offset {
            COMMON..ISR => self.common.read(offset - COMMON, data),
            ISR..DEVICE => {
                data.fill(0);
                if let (ISR, Some(first)) = (offset, data.first_mut()) {
                    *first = self.signals.take_isr();
                }
            }
            DEVICE..NOTIFY => self.device.config_read(offset - DEVICE, data),
            NOTIFY..MSIX_TABLE => data.fill(0),
            MSIX_TABLE..MSIX_PENDING => self.msix.table_read(offset - MSIX_TABLE, data),
            MSIX_PENDING..BAR_SIZE => self.msix.pending_read(offset - MSIX_PENDING, data),
            _ => {}
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if bar != BAR {
            return;
        }
        match offset {
            COMMON..ISR => match self.common.write(offset - COMMON, data) {
                Write::Done => {}
                Write::Reset => self.reset_device(),
                Write::Start if self.running => {}
                Write::Start => self.start(self.common.queue_states()),
            },
            DEVICE..NOTIFY => self.device.config_write(offset - DEVICE, data),
            NOTIFY..MSIX_TABLE => {
                let queue = usize::try_from((offset - NOTIFY) / NOTIFY_STRIDE).ok();
                if let Some(doorbell) = queue.and_then(|queue| self.doorbells.get(queue)) {
                    // Fails only when the counter is full, and then it has rung.
                    let _ = doorbell.write(1);
                }
            }
            MSIX_TABLE..MSIX_PENDING => {
                if let Err(error) = self.msix.table_write(offset - MSIX_TABLE, data) {
                    self.signals.say(format_args!("MSI-X: {error}"));
                }
            }
            _ => {}
        }
    }

    fn pause(&mut self) {
        if self.running && self.paused.is_none() {
            self.paused = Some(self.device.stop_queues());
            self.running = false;
        }
    }

    fn resume(&mut self) {
        if let Some(states) = self.paused.take() {
            self.start(states);
        }
        if std::mem::take(&mut self.moved) {
            self.signals.all_queues_used();
        }
    }

    fn describe(&self) -> Device {
        let mut config = vec![0; DESCRIBED_CONFIG];
        self.device.identity(&mut config);
        Device {
            slot: None,
            kind: self.device.device_type().name().to_owned(),
            features: self.device.features(),
            queue_sizes: self.device.queue_sizes().to_vec(),
            config,
        }
    }

    fn save(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        let device = self.device.save();
        let device =
            device.map_err(|e| state::Error::Unsettled(format!("{} {slot}: {e}", SavedVirtio::KIND)))?;
        let queue = |state: &QueueState| SavedQueue {
            size: state.size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx: state.event_idx_enabled,
            descriptors: state.desc_table,
            driver: state.avail_ring,
            device: state.used_ring,
        };
        let queues = |states: &QueueStates| states.iter().map(|state| state.as_ref().map(queue)).collect();
        let saved = SavedVirtio {
            config: self.config.bytes().to_vec(),
            msix: self.msix.save(),
            common: self.common.save(),
            signals: self.signals.save(),
            queues: self.paused.as_ref().map(queues),
            device,
        };
        state.put(slot, &saved)
    }

    fn load(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        let saved: SavedVirtio = state.take(slot)?;
        self.take_up(saved).map_err(|problem| {
            let kind = format!("{} ({})", SavedVirtio::KIND, self.device.device_type().name());
            state::Error::Invalid { kind, id: slot, problem }
        })
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let states = self.running.then(|| self.device.stop_queues());
        let changed = self.device.change(change);
        if let Some(states) = states {
            self.running = false;
            self.start(states);
        }
        if changed? {
            self.signals.config_changed();
        }
        Ok(())
    }

    fn announce(&mut self) {
        self.device.announce();
    }

    fn written(&self) -> Option<&File> {
        self.device.written()
    }

    fn release(&mut self) -> io::Result<()> {
        self.device.release()
    }

    fn acquire(&mut self) -> io::Result<()> {
        self.device.acquire()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.device.sync()
    }

    fn reset(&mut self) {
        self.reset_device();
        self.device.power_on();
        if let Err(error) = self.msix.reset().and(self.detach_doorbells()) {
            self.signals.say(format_args!("reset: {error}"));
        }
        self.config.reset();
        self.signals.set_msix(false);
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        self.device.stop_queues();
        if let Err(error) = self.detach_doorbells() {
            self.signals.say(format_args!("removal: {error}"));
        }
    }
}
