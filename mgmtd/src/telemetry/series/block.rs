//! How values over time are laid out: rings of blocks. Pure.
//!
//! A subject (a host, a machine) has one ring per [`Resolution`]. A ring has a fixed number of slots; the block of a time goes to the
//! slot `number % blocks`, over the one that was there a whole turn ago, so a ring never grows. A block knows its own number:
//! one of an earlier turn is as good as none.
//!
//! ```text
//! block = number u64 · values f32[per_block][metrics], little endian; NaN = nothing measured
//! ```

/// How finely, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolution {
    /// First byte of its keys.
    pub tag: u8,
    /// Seconds from value to value.
    pub step: u64,
    /// Values per block.
    pub per_block: u64,
    /// Blocks in the ring.
    pub blocks: u64,
}

/// An hour of every 5 seconds.
pub(super) const FINE: Resolution = Resolution { tag: b'f', step: 5, per_block: 12, blocks: 61 };
/// A day of every minute.
pub(super) const MINUTES: Resolution = Resolution { tag: b'm', step: 60, per_block: 60, blocks: 25 };
/// A year of every hour.
pub(super) const HOURS: Resolution = Resolution { tag: b'h', step: 3600, per_block: 24, blocks: 367 };

impl Resolution {
    /// Number of the block a time (seconds since the epoch) falls into, and the place in it.
    pub(super) const fn place(self, at: u64) -> (u64, usize) {
        let step = at / self.step;
        // Below `per_block`, which is small.
        #[allow(clippy::cast_possible_truncation)]
        (step / self.per_block, (step % self.per_block) as usize)
    }

    /// Slot of a block.
    pub(super) const fn slot(self, number: u64) -> u16 {
        // Below `blocks`, which is small.
        #[allow(clippy::cast_possible_truncation)]
        {
            (number % self.blocks) as u16
        }
    }
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub number: u64,
    metrics: usize,
    values: Vec<f32>,
}

impl Block {
    /// One with nothing in it.
    pub(super) fn empty(resolution: Resolution, number: u64, metrics: usize) -> Self {
        let places = usize::try_from(resolution.per_block).unwrap_or(0);
        Self { number, metrics, values: vec![f32::NAN; places * metrics] }
    }

    /// What was stored, if it is of this number. Of a block with fewer metrics (an older version's) the others are empty; what
    /// is no block at all is none.
    pub(super) fn decode(bytes: &[u8], resolution: Resolution, number: u64, metrics: usize) -> Option<Self> {
        let (head, body) = bytes.split_first_chunk::<8>()?;
        let places = usize::try_from(resolution.per_block).ok()?;
        if u64::from_le_bytes(*head) != number || body.is_empty() || body.len() % (places * 4) != 0 {
            return None;
        }
        let stored = body.len() / (places * 4);
        let mut block = Self::empty(resolution, number, metrics);
        for (index, row) in body.chunks_exact(stored * 4).enumerate() {
            for (value, bytes) in block.row_mut(index).iter_mut().zip(row.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Some(block)
    }

    /// As it is stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        let values = self.values.iter().flat_map(|v| v.to_le_bytes());
        self.number.to_le_bytes().into_iter().chain(values).collect()
    }

    /// Values at a place, one per metric.
    pub(super) fn row(&self, index: usize) -> &[f32] {
        let begin = (index * self.metrics).min(self.values.len());
        &self.values[begin..(begin + self.metrics).min(self.values.len())]
    }

    fn row_mut(&mut self, index: usize) -> &mut [f32] {
        let begin = (index * self.metrics).min(self.values.len());
        let end = (begin + self.metrics).min(self.values.len());
        &mut self.values[begin..end]
    }

    /// Puts the values of a place.
    pub(super) fn set(&mut self, index: usize, row: &[f32]) {
        for (value, new) in self.row_mut(index).iter_mut().zip(row) {
            *value = *new;
        }
    }

    /// Mean of each metric over what was measured.
    pub(super) fn means(&self) -> Vec<f32> {
        means(self.values.chunks_exact(self.metrics.max(1)), self.metrics)
    }
}

/// Mean of each metric over the rows in which it was measured; NaN where it never was.
pub(super) fn means<'a>(rows: impl Iterator<Item = &'a [f32]>, metrics: usize) -> Vec<f32> {
    let mut sums = vec![(0.0_f64, 0_u32); metrics];
    for row in rows {
        for ((sum, n), value) in sums.iter_mut().zip(row) {
            if value.is_finite() {
                *sum += f64::from(*value);
                *n += 1;
            }
        }
    }
    // Means of f32 fit into f32.
    #[allow(clippy::cast_possible_truncation)]
    sums.into_iter().map(|(sum, n)| if n == 0 { f32::NAN } else { (sum / f64::from(n)) as f32 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rings_reach_as_far_back_as_they_claim() {
        for (ring, seconds) in [(FINE, 3600), (MINUTES, 86_400), (HOURS, 365 * 86_400)] {
            // One block more than the span: the one that is being written leaves the oldest whole.
            assert_eq!(
                ring.step * ring.per_block * (ring.blocks - 1),
                seconds.max(366 * 86_400 * u64::from(ring.tag == b'h'))
            );
        }
    }

    #[test]
    fn means_leave_out_what_was_not_measured() {
        let mut block = Block::empty(FINE, 1, 3);
        block.set(0, &[1.0, f32::NAN, f32::NAN]);
        block.set(11, &[3.0, 5.0, f32::NAN]);
        let means = block.means();
        assert_eq!(means[..2], [2.0, 5.0]);
        assert!(means[2].is_nan());
    }

    #[test]
    fn an_older_block_has_fewer_metrics() {
        let mut old = Block::empty(FINE, 9, 1);
        old.set(2, &[7.0]);
        let new = Block::decode(&old.encode(), FINE, 9, 2).unwrap();
        assert_eq!(new.row(2)[0], 7.0);
        assert!(new.row(2)[1].is_nan());
        assert_eq!(Block::decode(&old.encode(), FINE, 10, 1), None, "of another turn");
    }

    proptest! {
        #[test]
        fn round_trip(number: u64, index in 0_usize..60, row in prop::collection::vec(-1e30_f32..1e30, 4)) {
            let mut block = Block::empty(MINUTES, number, 4);
            block.set(index, &row);
            let read = Block::decode(&block.encode(), MINUTES, number, 4).unwrap();
            prop_assert_eq!(read.row(index), &row[..]);
            prop_assert!(read.row((index + 1) % 60).iter().all(|v| v.is_nan()));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), metrics in 0_usize..20) {
            if let Some(block) = Block::decode(&bytes, FINE, 1, metrics) {
                let _ = block.means();
            }
        }

        #[test]
        fn neighbours_in_time_are_neighbours_in_place(at in 0_u64..1 << 40) {
            for ring in [FINE, MINUTES, HOURS] {
                let (block, place) = ring.place(at);
                let (next_block, next_place) = ring.place(at + ring.step);
                prop_assert!((next_block, next_place) == (block, place + 1) || (next_block, next_place) == (block + 1, 0));
                prop_assert!(u64::from(ring.slot(block)) < ring.blocks);
            }
        }
    }
}
