//! Timers as descriptors.

use crate::lease::Moment;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

/// A timer: readable once it has come.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    fn new(clock: libc::clockid_t) -> io::Result<Self> {
        // SAFETY: plain numbers; the descriptor is new, checked, and owned here alone.
        unsafe {
            let fd = libc::timerfd_create(clock, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// On the clock that runs through suspend.
    ///
    /// # Errors
    /// The host refused.
    pub fn boot() -> io::Result<Self> {
        Self::new(libc::CLOCK_BOOTTIME)
    }

    /// On the clock of running time.
    ///
    /// # Errors
    /// The host refused.
    pub fn monotonic() -> io::Result<Self> {
        Self::new(libc::CLOCK_MONOTONIC)
    }

    /// Comes at `moment` of its clock; none: never.
    ///
    /// # Errors
    /// The host refused.
    pub fn at(&self, moment: Option<Moment>) -> io::Result<()> {
        // Zero would switch it off.
        self.set(moment.map_or(0, |moment| moment.0.max(1)), libc::TFD_TIMER_ABSTIME)
    }

    /// Comes after `time`; none: never.
    ///
    /// # Errors
    /// The host refused.
    pub fn after(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)), 0)
    }

    fn set(&self, nanoseconds: u64, flags: libc::c_int) -> io::Result<()> {
        let mut wanted = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        wanted.it_value.tv_sec = (nanoseconds / 1_000_000_000) as i64;
        wanted.it_value.tv_nsec = (nanoseconds % 1_000_000_000) as i64;
        // SAFETY: `wanted` is valid for the call; the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const wanted, std::ptr::null_mut())
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// It has come since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut count = [0_u8; 8];
        // SAFETY: reads into a buffer of the given length.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) == 8 }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::fence;

    #[test]
    fn it_comes_when_it_was_asked_to_and_not_after_it_was_called_off() {
        let wait = |timer: &Timer| {
            let mut poll = libc::pollfd { fd: timer.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd.
            unsafe { libc::poll(&raw mut poll, 1, 10_000) }
        };
        let timer = Timer::boot().unwrap();
        let goal = Moment(fence::now().0 + 20_000_000);
        timer.at(Some(goal)).unwrap();
        assert!(!timer.take());
        assert_eq!(wait(&timer), 1);
        assert!(fence::now() >= goal && timer.take() && !timer.take());
        let timer = Timer::monotonic().unwrap();
        timer.after(Some(Duration::ZERO)).unwrap();
        assert_eq!(wait(&timer), 1);
        timer.after(Some(Duration::from_secs(3600))).unwrap();
        timer.after(None).unwrap();
        assert!(!timer.take());
    }
}
