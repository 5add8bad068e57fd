//! Error messages that a guest can cause, at a bounded rate.

use std::{
    fmt,
    time::{Duration, Instant},
};

const PERIOD: Duration = Duration::from_secs(10);
const PER_PERIOD: u32 = 5;

/// Lets through a few messages per period and counts the others.
#[derive(Debug)]
pub(crate) struct Report {
    who: String,
    period: Option<Instant>,
    said: u32,
    withheld: u64,
}

impl Report {
    pub(crate) fn new(who: impl Into<String>) -> Self {
        Self { who: who.into(), period: None, said: 0, withheld: 0 }
    }

    /// Says `message` on standard error, or counts it.
    pub(crate) fn say(&mut self, message: fmt::Arguments<'_>) {
        if let Some(withheld) = self.admit(Instant::now()) {
            let more =
                if withheld == 0 { String::new() } else { format!(" ({withheld} more were not shown)") };
            eprintln!("lq-vmm: {}: {message}{more}", self.who);
        }
    }

    /// `Some(messages withheld before)` if one may be said at `now`.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.period.is_none_or(|start| now.saturating_duration_since(start) >= PERIOD) {
            (self.period, self.said) = (Some(now), 0);
        }
        if self.said >= PER_PERIOD {
            self.withheld += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_withheld_and_counted() {
        let (mut report, start) = (Report::new("disk"), Instant::now());
        let said = (0..100).filter(|_| report.admit(start).is_some()).count();
        assert_eq!(said, 5);
        assert_eq!(report.admit(start + PERIOD), Some(95));
        assert_eq!(report.admit(start + PERIOD), Some(0));
    }
}
