//! The port by which a guest says that its kernel has panicked (QEMU `docs/specs/pvpanic.rst`).
//!
//! A byte: reading gives the events known, writing one says that it has happened. The DSDT has the device, so that kernels
//! find it.

use crate::guest::GuestEvent;

/// Its port.
pub const PORT: u16 = 0x505;
/// The kernel has panicked, and nothing follows.
const PANICKED: u8 = 1;
/// The kernel has panicked, and one that writes a crash dump begins.
const CRASH_LOADED: u8 = 2;

/// What is read.
#[must_use]
pub const fn read() -> u8 {
    PANICKED | CRASH_LOADED
}

/// What the guest says by writing `value`.
#[must_use]
pub const fn written(value: u8) -> Option<GuestEvent> {
    if value & (PANICKED | CRASH_LOADED) == 0 { None } else { Some(GuestEvent::Panicked) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_event_is_a_panic_and_nothing_else_is() {
        assert_eq!(read(), 3);
        for value in 0..=255 {
            assert_eq!(written(value).is_some(), value & 3 != 0, "{value}");
        }
    }
}
