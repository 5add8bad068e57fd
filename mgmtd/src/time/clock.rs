//! This host's clock: read, slewed and set. The only place that touches it.

use super::{discipline::STEP, packet::Nanos};
use std::{
    io,
    sync::atomic::{AtomicI64, Ordering},
};

/// A clock that can be set. Tests have one of their own: they never touch the machine's.
pub(super) trait Clock: Send + Sync {
    /// What time it is, in nanoseconds since 1970.
    fn now(&self) -> Nanos;
    /// Nanoseconds by a clock that is never set and runs through suspend.
    fn steady(&self) -> Nanos;
    /// Brings it nearer by running faster or slower, `offset` within half a second; `error`: how far the truth may be from that.
    fn slew(&self, offset: Nanos, error: Nanos) -> io::Result<()>;
    /// Sets it forward by so much.
    fn step(&self, by: Nanos, error: Nanos) -> io::Result<()>;
}

/// The clock of the kernel (adjtimex(2)): its own loop learns how fast the clock runs, and says that the clock is synchronised as
/// long as it is told offsets.
pub(super) struct Kernel;

/// Time constant of the kernel's loop: it averages over some minutes.
const TIME_CONSTANT: libc::c_long = 6;
const NANOS: i128 = 1_000_000_000;

fn long(value: i128) -> libc::c_long {
    libc::c_long::try_from(value.clamp(i128::from(libc::c_long::MIN), i128::from(libc::c_long::MAX)))
        .unwrap_or_default()
}

fn adjust(change: impl FnOnce(&mut libc::timex)) -> io::Result<()> {
    // SAFETY: timex is plain numbers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    change(&mut timex);
    // SAFETY: the pointer is to a whole timex that lives through the call.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn read(clock: libc::clockid_t) -> Nanos {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a whole timespec that lives through the call; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut at) };
    i128::from(at.tv_sec) * NANOS + i128::from(at.tv_nsec)
}

/// How far the truth may be, in microseconds, as the kernel wants it.
fn errors(timex: &mut libc::timex, error: Nanos) {
    timex.modes |= libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.maxerror = long(error / 1000);
    timex.esterror = long(error / 1000);
}

impl Clock for Kernel {
    fn now(&self) -> Nanos {
        read(libc::CLOCK_REALTIME)
    }

    fn steady(&self) -> Nanos {
        read(libc::CLOCK_BOOTTIME)
    }

    fn slew(&self, offset: Nanos, error: Nanos) -> io::Result<()> {
        adjust(|timex| {
            timex.modes = libc::ADJ_OFFSET | libc::ADJ_STATUS | libc::ADJ_TIMECONST | libc::ADJ_NANO;
            // Without STA_UNSYNC: the clock is synchronised. The kernel also writes it to the hardware clock then.
            timex.status = libc::STA_PLL | libc::STA_NANO;
            timex.constant = TIME_CONSTANT;
            timex.offset = long(offset.clamp(-STEP, STEP));
            errors(timex, error);
        })
    }

    fn step(&self, by: Nanos, error: Nanos) -> io::Result<()> {
        adjust(|timex| {
            timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            timex.time.tv_sec = long(by.div_euclid(NANOS)) as libc::time_t;
            // Nanoseconds, by ADJ_NANO; never negative.
            timex.time.tv_usec = long(by.rem_euclid(NANOS)) as libc::suseconds_t;
        })?;
        self.slew(0, error)
    }
}

/// The clock of a simulated host: what is done to it is only remembered.
#[derive(Default)]
pub(super) struct Simulated(AtomicI64);

impl Clock for Simulated {
    fn now(&self) -> Nanos {
        Kernel.now() + Nanos::from(self.0.load(Ordering::Relaxed))
    }
    fn steady(&self) -> Nanos {
        Kernel.steady()
    }
    fn slew(&self, offset: Nanos, error: Nanos) -> io::Result<()> {
        self.step(offset, error)
    }
    fn step(&self, by: Nanos, _: Nanos) -> io::Result<()> {
        let by = i64::try_from(by).map_err(io::Error::other)?;
        self.0.fetch_add(by, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A clock that is off by so many nanoseconds; what is done to it is written down.
    #[derive(Default)]
    pub(in crate::time) struct Fake {
        pub(in crate::time) off: AtomicI64,
        pub(in crate::time) done: Mutex<Vec<(&'static str, Nanos)>>,
    }

    impl Clock for Fake {
        fn now(&self) -> Nanos {
            Kernel.now() + Nanos::from(self.off.load(Ordering::Relaxed))
        }
        fn steady(&self) -> Nanos {
            Kernel.steady()
        }
        fn slew(&self, offset: Nanos, _: Nanos) -> io::Result<()> {
            self.done.lock().unwrap().push(("slew", offset));
            Ok(())
        }
        fn step(&self, by: Nanos, _: Nanos) -> io::Result<()> {
            self.off.fetch_add(i64::try_from(by).unwrap(), Ordering::Relaxed);
            self.done.lock().unwrap().push(("step", by));
            Ok(())
        }
    }

    #[test]
    fn the_kernel_is_read() {
        let (a, b) = (Kernel.steady(), Kernel.steady());
        assert!(b >= a);
        assert!(Kernel.now() > 1_700_000_000 * NANOS);
    }
}
