//! The common configuration structure (virtio 1.2, 4.1.4.3): registers, feature negotiation, status. No I/O.
//!
//! Invariants: what the guest selects is looked up, never indexed; the driver's features are a subset of the device's once
//! FEATURES_OK is set, and VERSION_1 is among them; queue settings only change while the device is not running.

use crate::virtio::{
    F_EVENT_IDX, F_VERSION_1, QueueStates,
    signals::{NEEDS_RESET, NO_VECTOR, Signals},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use virtio_queue::QueueState;

/// Bytes of the structure.
pub(super) const LENGTH: u32 = 0x38;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const FAILED: u8 = 0x80;

/// What a write asks of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Done,
    /// Status 0 was written.
    Reset,
    /// DRIVER_OK was set.
    Start,
}

/// One queue as the driver sets it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    max_size: u16,
    size: u16,
    enabled: bool,
    descriptors: u64,
    driver: u64,
    device: u64,
}

impl Setup {
    fn new(max_size: u16) -> Self {
        Self { max_size, size: max_size, enabled: false, descriptors: 0, driver: 0, device: 0 }
    }
}

/// The registers, saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedCommon {
    device_features: u64,
    device_feature_select: u32,
    driver_features: u64,
    driver_feature_select: u32,
    queue_select: u16,
    queues: Vec<Setup>,
}

pub(super) struct Common {
    device_features: u64,
    device_feature_select: u32,
    driver_features: u64,
    driver_feature_select: u32,
    queue_select: u16,
    queues: Vec<Setup>,
    vectors: u16,
    signals: Arc<Signals>,
}

impl Common {
    pub(super) fn new(device_features: u64, sizes: &[u16], vectors: u16, signals: Arc<Signals>) -> Self {
        Self {
            device_features,
            device_feature_select: 0,
            driver_features: 0,
            driver_feature_select: 0,
            queue_select: 0,
            queues: sizes.iter().map(|size| Setup::new(*size)).collect(),
            vectors,
            signals,
        }
    }

    pub(super) fn save(&self) -> SavedCommon {
        SavedCommon {
            device_features: self.device_features,
            device_feature_select: self.device_feature_select,
            driver_features: self.driver_features,
            driver_feature_select: self.driver_feature_select,
            queue_select: self.queue_select,
            queues: self.queues.clone(),
        }
    }

    /// Takes up saved registers; status and vectors are in [`Signals`].
    pub(super) fn load(&mut self, saved: SavedCommon) -> Result<(), String> {
        let sizes = |queues: &[Setup]| queues.iter().map(|queue| queue.max_size).collect::<Vec<_>>();
        let valid = |queue: &Setup| queue.size.is_power_of_two() && queue.size <= queue.max_size;
        if sizes(&saved.queues) != sizes(&self.queues) || !saved.queues.iter().all(valid) {
            return Err("its queues are not those of such a device".to_owned());
        }
        let lacking = saved.device_features & !self.device_features;
        if lacking != 0 || saved.driver_features & !saved.device_features != 0 {
            return Err(format!("its features {lacking:#x} cannot be had here"));
        }
        // The driver goes on to see what it was offered, not what could be offered here.
        self.device_features = saved.device_features;
        self.device_feature_select = saved.device_feature_select;
        self.driver_features = saved.driver_features;
        self.driver_feature_select = saved.driver_feature_select;
        self.queue_select = saved.queue_select;
        self.queues = saved.queues;
        Ok(())
    }

    pub(super) fn driver_features(&self) -> u64 {
        self.driver_features
    }

    /// States to start from, by queue.
    pub(super) fn queue_states(&self) -> QueueStates {
        let state = |queue: &Setup| QueueState {
            max_size: queue.max_size,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: self.driver_features & F_EVENT_IDX != 0,
            size: queue.size,
            ready: true,
            desc_table: queue.descriptors,
            avail_ring: queue.driver,
            used_ring: queue.device,
        };
        self.queues.iter().map(|queue| queue.enabled.then(|| state(queue))).collect()
    }

    /// Forgets what the driver has written (status and vectors are in [`Signals`]).
    pub(super) fn reset(&mut self) {
        (self.device_feature_select, self.driver_feature_select, self.queue_select) = (0, 0, 0);
        self.driver_features = 0;
        for queue in &mut self.queues {
            *queue = Setup::new(queue.max_size);
        }
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::read_config(&self.registers(), offset, data);
    }

    fn registers(&self) -> [u8; LENGTH as usize] {
        let queue = self.queues.get(usize::from(self.queue_select)).copied();
        let exists = queue.is_some();
        let queue = queue.unwrap_or(Setup::new(0));
        let fields: [&[u8]; 17] = [
            &self.device_feature_select.to_le_bytes(),
            &half(self.device_features, self.device_feature_select).to_le_bytes(),
            &self.driver_feature_select.to_le_bytes(),
            &half(self.driver_features, self.driver_feature_select).to_le_bytes(),
            &self.signals.config_vector().to_le_bytes(),
            &(self.queues.len() as u16).to_le_bytes(),
            &[self.signals.status()],
            &[self.signals.config_generation()],
            &self.queue_select.to_le_bytes(),
            &queue.size.to_le_bytes(),
            &self.signals.queue_vector(self.queue_select).to_le_bytes(),
            &u16::from(queue.enabled).to_le_bytes(),
            &if exists { self.queue_select } else { 0 }.to_le_bytes(), // queue_notify_off
            &queue.descriptors.to_le_bytes(),
            &queue.driver.to_le_bytes(),
            &queue.device.to_le_bytes(),
            &[],
        ];
        let mut bytes = [0; LENGTH as usize];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Write {
        let value = data.iter().take(8).rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        match (offset, data.len()) {
            (0x00, 4) => self.device_feature_select = value as u32,
            (0x08, 4) => self.driver_feature_select = value as u32,
            (0x0c, 4) if self.signals.status() & FEATURES_OK == 0 => self.set_driver_features(value as u32),
            (0x10, 2) => self.signals.set_config_vector(self.vector(value as u16)),
            (0x14, 1) => return self.set_status(value as u8),
            (0x16, 2) => self.queue_select = value as u16,
            (0x1a, 2) => self.signals.set_queue_vector(self.queue_select, self.vector(value as u16)),
            (0x18 | 0x1c, 2) | (0x20..LENGTH_U64, 4 | 8) => self.set_queue(offset, data.len(), value),
            _ => {}
        }
        Write::Done
    }

    fn set_driver_features(&mut self, value: u32) {
        let shift = match self.driver_feature_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.driver_features = (self.driver_features & !(0xffff_ffff << shift)) | (u64::from(value) << shift);
    }

    /// A vector that exists, or none.
    fn vector(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    fn set_status(&mut self, new: u8) -> Write {
        let old = self.signals.status();
        if new == 0 {
            return Write::Reset;
        }
        let mut added = new & !old & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
        let acceptable =
            self.driver_features & !self.device_features == 0 && self.driver_features & F_VERSION_1 != 0;
        if added & FEATURES_OK != 0 && !acceptable {
            added &= !FEATURES_OK;
        }
        // No running before features are agreed, nor after something has failed.
        let agreed = (old | added) & FEATURES_OK != 0 && (old | added) & (FAILED | NEEDS_RESET) == 0;
        if !agreed {
            added &= !DRIVER_OK;
        }
        self.signals.add_status(added);
        if added & DRIVER_OK != 0 { Write::Start } else { Write::Done }
    }

    fn set_queue(&mut self, offset: u64, length: usize, value: u64) {
        let status = self.signals.status();
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else { return };
        if queue.enabled || status & DRIVER_OK != 0 {
            return;
        }
        let field = match offset {
            0x18 => {
                let size = value as u16;
                if size.is_power_of_two() && size <= queue.max_size {
                    queue.size = size;
                }
                return;
            }
            0x1c => {
                queue.enabled = value == 1;
                return;
            }
            0x20 | 0x24 => &mut queue.descriptors,
            0x28 | 0x2c => &mut queue.driver,
            0x30 | 0x34 => &mut queue.device,
            _ => return,
        };
        *field = match (offset % 8, length) {
            (0, 8) => value,
            (0, 4) => (*field & !0xffff_ffff) | value,
            (4, 4) => (*field & 0xffff_ffff) | (value << 32),
            _ => return,
        };
    }
}

const LENGTH_U64: u64 = LENGTH as u64;

/// The selected 32 bits of a feature set; zero where there are none.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
