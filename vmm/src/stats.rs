//! The counters of disks and interfaces, as the control thread reads them.

use lq_api::local::vmm::IoStats;

/// Reads one device's counters.
pub type Counter = Box<dyn Fn() -> IoStats + Send>;

/// Counters of all devices, in guest order.
#[derive(Default)]
pub struct DeviceCounters {
    /// Of disks.
    pub disks: Vec<Counter>,
    /// Of interfaces.
    pub nics: Vec<Counter>,
}

impl DeviceCounters {
    /// Disks, then interfaces.
    #[must_use]
    pub fn read(&self) -> (Vec<IoStats>, Vec<IoStats>) {
        let all = |counters: &[Counter]| counters.iter().map(|counter| counter()).collect();
        (all(&self.disks), all(&self.nics))
    }
}
