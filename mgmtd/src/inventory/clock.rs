//! Whether something sets this host's clock, as the kernel knows from whoever sets it (adjtimex(2)).

/// `None` where the kernel cannot be asked.
#[must_use]
pub fn clock_is_set() -> Option<bool> {
    // SAFETY: timex is plain numbers, for which zero is a value; with `modes` 0 the kernel changes nothing and fills it in.
    let (mut timex, state) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (timex, state)
    };
    timex.status &= libc::STA_UNSYNC;
    (state >= 0).then_some(timex.status == 0 && state != libc::TIME_ERROR)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        assert!(super::clock_is_set().is_some());
    }
}
