//! Which blocks of a region that can be plugged there are. A region without blocks is there whole.
//!
//! Written by the one device that plugs, read by all that touch the guest's memory: atomics, so that no one waits.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Bytes of a block.
pub const BLOCK: u64 = 2 << 20;

/// The blocks of a region, one bit each.
#[derive(Debug, Default)]
pub struct Presence(OnceLock<Box<[AtomicU64]>>);

impl Presence {
    /// From now on the region, of `bytes`, is one of blocks, none of which is there.
    pub fn begin(&self, bytes: u64) {
        let words = bytes.div_ceil(BLOCK).div_ceil(64);
        self.0.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
    }

    /// Puts block `number` there, or takes it away.
    pub fn set(&self, number: u64, there: bool) {
        if let Some(word) = self.word(number) {
            let bit = 1 << (number % 64);
            if there {
                word.fetch_or(bit, SeqCst)
            } else {
                word.fetch_and(!bit, SeqCst)
            };
        }
    }

    fn word(&self, number: u64) -> Option<&AtomicU64> {
        self.0.get()?.get(usize::try_from(number / 64).ok()?)
    }

    /// Block `number` is there.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        self.0.get().is_none()
            || self.word(number).is_some_and(|word| word.load(SeqCst) >> (number % 64) & 1 == 1)
    }

    fn blocks(offset: u64, length: u64) -> std::ops::RangeInclusive<u64> {
        offset / BLOCK..=offset.saturating_add(length.saturating_sub(1)) / BLOCK
    }

    /// All of `length` bytes (at least one) from `offset` on are there.
    #[must_use]
    pub fn all(&self, offset: u64, length: u64) -> bool {
        self.0.get().is_none() || Self::blocks(offset, length).all(|number| self.has(number))
    }

    /// Some of them are.
    #[must_use]
    pub fn any(&self, offset: u64, length: u64) -> bool {
        self.0.get().is_none() || Self::blocks(offset, length).any(|number| self.has(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_region_without_blocks_is_there_whole() {
        let presence = Presence::default();
        assert!(presence.all(5, u64::MAX) && presence.any(0, 1) && presence.has(u64::MAX));
        presence.set(0, false);
        assert!(presence.has(0));
    }

    proptest! {
        #[test]
        fn blocks_are_there_as_they_were_put(
            steps in prop::collection::vec((0..200_u64, any::<bool>()), 0..50),
            offset in 0..200 * BLOCK, length in 1..9 * BLOCK,
        ) {
            let presence = Presence::default();
            presence.begin(200 * BLOCK);
            let mut model = [false; 300];
            for (block, there) in steps {
                presence.set(block, there);
                model[block as usize] = there;
            }
            let touched = &model[(offset / BLOCK) as usize..=((offset + length - 1) / BLOCK) as usize];
            prop_assert_eq!(presence.all(offset, length), touched.iter().all(|there| *there));
            prop_assert_eq!(presence.any(offset, length), touched.contains(&true));
            prop_assert!(!presence.has(100_000));
        }
    }
}
