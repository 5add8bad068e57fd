//! The watchdog: a 6300ESB (Intel 6300ESB datasheet, 16), which Linux and Windows drive. A guest that hangs does not feed it
//! any more, and the machine acts.
//!
//! ```text
//!  guest ─ registers ─▶ Device (on the bus) ─┐
//!                                            ├─ Shared: the watchdog and the timer of what is next
//!  control thread ── the timer has come ─────┘ ─▶ expired: GuestEvent::Watchdog
//! ```

mod timer;

use crate::{
    pci::{
        BarRequest, ConfigEffect, PciDevice,
        config::{ConfigSpace, Identity, LayoutError},
    },
    state::{self, State, description::Device as Described},
    timer::Timer,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use timer::{CONFIG, LOCK, Watchdog};

const BAR: BarRequest = BarRequest::wide(0, 4096);
const KIND: &str = "i6300esb";

/// What device and control thread share.
pub struct Shared {
    watchdog: Mutex<Watchdog>,
    timer: Timer,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watchdog> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, action: impl FnOnce(&mut Watchdog, Instant) -> T) -> T {
        let mut watchdog = self.lock();
        let (before, now) = (watchdog.due(), Instant::now());
        let result = action(&mut watchdog, now);
        if watchdog.due() != before {
            let after = watchdog.due().map(|due| due.saturating_duration_since(now));
            if let Err(error) = self.timer.after(after) {
                eprintln!("lq-vmm: the timer of the watchdog cannot be set: {error}");
            }
        }
        result
    }

    /// Readable when the time has come.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// The time has come. True: the guest has not fed it.
    #[must_use]
    pub fn expired(&self) -> bool {
        // It may have been set anew meanwhile: the clock decides.
        let _ = self.timer.take();
        self.with(Watchdog::tick)
    }
}

/// The device on the bus.
pub struct Device {
    config: ConfigSpace,
    shared: Arc<Shared>,
}

/// The device, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDevice {
    config: Vec<u8>,
    watchdog: timer::Saved,
}

impl state::Saved for SavedDevice {
    const KIND: &'static str = KIND;
}

/// Why there is no watchdog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no timer.
    #[error("cannot make a timer")]
    Timer(#[from] io::Error),
    /// Its registers do not fit.
    #[error("cannot lay out the configuration space of the watchdog")]
    Layout(#[from] LayoutError),
}

impl Device {
    /// A watchdog that is off, and what is shared with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new() -> Result<(Self, Arc<Shared>), Error> {
        let shared = Arc::new(Shared { watchdog: Mutex::new(Watchdog::new()), timer: Timer::monotonic()? });
        let mut config = ConfigSpace::new(Identity {
            vendor: 0x8086,
            device: 0x25ab,
            class: [8, 0x80, 0],
            ..Identity::default()
        });
        config.add_bar(BAR)?;
        config.set_writable(CONFIG, &[0x27, 0]);
        config.set_writable(LOCK, &[7]);
        Ok((Self { config, shared: Arc::clone(&shared) }, shared))
    }

    fn byte(&self, at: u16) -> u8 {
        let mut byte = [0];
        self.config.read(at, &mut byte);
        byte[0]
    }
}

impl PciDevice for Device {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect {
        let effect = self.config.write(offset, data);
        let covers = |register: u16, bytes: u16| {
            offset < register + bytes && usize::from(offset) + data.len() > usize::from(register)
        };
        if covers(CONFIG, 2) {
            let value = self.config.read_u16(CONFIG);
            self.shared.with(|watchdog, _| watchdog.set_config(value));
        }
        if covers(LOCK, 1) {
            let value = self.byte(LOCK);
            let lock = self.shared.with(|watchdog, now| watchdog.set_lock(value, now));
            self.config.set(LOCK, &[lock]);
        }
        effect
    }

    fn bars(&self) -> Vec<BarRequest> {
        self.config.bars().to_vec()
    }

    fn bar_moved(&mut self, _: u8, _: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    fn bar_read(&mut self, _: u8, offset: u64, data: &mut [u8]) {
        self.shared.lock().read(offset, data);
    }

    fn bar_write(&mut self, _: u8, offset: u64, data: &[u8]) {
        self.shared.with(|watchdog, now| watchdog.write(offset, data, now));
    }

    fn pause(&mut self) {
        self.shared.with(Watchdog::pause);
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn resume(&mut self) {
        self.shared.with(Watchdog::resume);
    }

    fn reset(&mut self) {
        self.config.reset();
        self.shared.with(|watchdog, _| watchdog.reset());
    }

    fn describe(&self) -> Described {
        Described { kind: KIND.to_owned(), ..Described::default() }
    }

    fn save(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        let watchdog = self.shared.lock().save();
        state.put(slot, &SavedDevice { config: self.config.bytes().to_vec(), watchdog })
    }

    fn load(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        let saved: SavedDevice = state.take(slot)?;
        let invalid = |problem| state::Error::Invalid { kind: KIND.into(), id: slot, problem };
        self.config.load(&saved.config).map_err(invalid)?;
        self.shared.with(|watchdog, _| watchdog.load(&saved.watchdog));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn write(device: &mut Device, offset: u64, value: u32) {
        for (offset, value) in [(12, 0x80), (12, 0x86), (offset, value)] {
            device.bar_write(0, offset, &u32::to_le_bytes(value));
        }
    }

    fn wait(shared: &Shared) -> bool {
        let mut poll = libc::pollfd { fd: shared.timer().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 10_000) == 1 }
    }

    #[test]
    fn a_driver_feeds_it_until_it_hangs() {
        let (mut device, shared) = Device::new().unwrap();
        let mut id = [0; 4];
        device.config_read(0, &mut id);
        assert_eq!(u32::from_le_bytes(id), 0x25ab_8086);
        // As Linux does: slow ticks, no interrupt, two stages of about 40 milliseconds.
        device.config_write(0x60, &[3, 0]);
        write(&mut device, 0, 40);
        write(&mut device, 4, 40);
        device.config_write(0x68, &[2]);
        for _ in 0..5 {
            assert!(wait(&shared) && !shared.expired(), "the first stage");
            write(&mut device, 12, 0x100);
        }
        device.pause();
        let mut saved = State::default();
        device.save(3, &mut saved).unwrap();
        let (mut device, shared) = Device::new().unwrap();
        device.load(3, &mut saved).unwrap();
        device.resume();
        let mut lock = [0];
        device.config_read(0x68, &mut lock);
        assert_eq!(lock, [2]);
        assert!(wait(&shared) && !shared.expired());
        assert!(wait(&shared) && shared.expired());
        let mut status = [0; 2];
        device.reset();
        device.bar_read(0, 12, &mut status);
        assert_eq!(status, [0, 2], "the next guest sees why it was started");
    }
}
