//! The ACPI power management timer: 3.579545 MHz, 32 bits (ACPI 6.5, 4.8.3.3). Firmware measures its delays by it.

use crate::pci::q35;
use std::time::Instant;

/// Its first port.
pub const PORT: u16 = q35::PM_BASE + 8;
/// Its last port.
pub const LAST: u16 = PORT + 3;
const HERTZ: u128 = 3_579_545;

/// The timer; it runs from when it was made and has no other state.
pub struct Timer(Instant);

impl Timer {
    /// Counts from now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "all devices are made by `new`")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Reads at `offset` inside the register.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        fill(ticks(self.0.elapsed().as_nanos()), offset, data);
    }
}

fn ticks(nanoseconds: u128) -> u32 {
    (nanoseconds * HERTZ / 1_000_000_000) as u32
}

fn fill(ticks: u32, offset: u16, data: &mut [u8]) {
    for (at, byte) in (offset..).zip(data) {
        *byte = ticks.to_le_bytes().get(usize::from(at)).copied().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_at_its_rate_and_wraps() {
        assert_eq!(ticks(1_000_000_000), 3_579_545);
        assert_eq!(ticks(1_200_000_000_000), (3_579_545_u64 * 1200 % (1 << 32)) as u32);
        let mut data = [0; 4];
        fill(0x1234_5678, 1, &mut data);
        assert_eq!(data, [0x56, 0x34, 0x12, 0]);
        let timer = Timer::new();
        let mut read = || {
            timer.read(0, &mut data);
            u32::from_le_bytes(data)
        };
        let first = read();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(read() - first >= 17_000);
    }
}
