//! Where memory BARs go at power-on, as firmware would place them. The guest may move them later.
//!
//! Pure: two windows, first fit, naturally aligned. Small BARs go below 4 GiB, so that a guest that wants 32-bit
//! addresses keeps them; large ones above.

use std::ops::Range;

/// BARs up to this size go into the 32-bit window.
const SMALL: u64 = 1 << 20;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// Hands out addresses; never takes them back (a reset starts a new one).
#[derive(Clone, Debug)]
pub struct Allocator {
    below_4g: Range<u64>,
    above_4g: Range<u64>,
}

impl Allocator {
    /// Over two windows.
    #[must_use]
    pub fn new(below_4g: Range<u64>, above_4g: Range<u64>) -> Self {
        Self { below_4g, above_4g }
    }

    /// An address for `size` bytes (a power of two), or `None` when both windows are full; `wide`: it may be above 4 GiB.
    pub fn place(&mut self, size: u64, wide: bool) -> Option<u64> {
        // A page is of one BAR alone, so that it can be mapped.
        let size = size.max(PAGE);
        if !wide {
            return take(&mut self.below_4g, size);
        }
        let (first, second) = if size <= SMALL {
            (&mut self.below_4g, &mut self.above_4g)
        } else {
            (&mut self.above_4g, &mut self.below_4g)
        };
        take(first, size).or_else(|| take(second, size))
    }
}

fn take(window: &mut Range<u64>, size: u64) -> Option<u64> {
    let base = window.start.checked_next_multiple_of(size)?;
    let end = base.checked_add(size).filter(|end| *end <= window.end)?;
    window.start = end;
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn placed_bars_are_aligned_apart_and_inside(shifts in prop::collection::vec((4_u32..34, any::<bool>()), 0..93)) {
            let (low, high) = (0xc000_0000..0xe000_0000, 0x10_0000_0000..0x20_0000_0000);
            let mut allocator = Allocator::new(low.clone(), high.clone());
            let mut placed: Vec<Range<u64>> = Vec::new();
            for (size, wide) in shifts.into_iter().map(|(shift, wide)| (1_u64 << shift, wide)) {
                let Some(base) = allocator.place(size, wide) else { continue };
                let bar = base..base + size.max(PAGE);
                prop_assert!(wide || bar.end <= 1 << 32);
                prop_assert_eq!(base % size, 0);
                prop_assert!([&low, &high].iter().any(|w| w.start <= bar.start && bar.end <= w.end));
                prop_assert!(placed.iter().all(|p| p.end <= bar.start || bar.end <= p.start));
                placed.push(bar);
            }
        }
    }

    #[test]
    fn a_full_window_spills_into_the_other() {
        let mut allocator = Allocator::new(0x1000..0x2000, 0x10_0000..0x10_2000);
        assert_eq!(allocator.place(0x1000, true), Some(0x1000));
        assert_eq!(allocator.place(0x2000, true), Some(0x10_0000));
        assert_eq!(allocator.place(0x1000, true), None);
    }
}
