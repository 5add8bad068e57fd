//! Refcount entries: reading and writing one in a block. Pure.

/// The `index`-th entry of a refcount block with entries of `1 << order` bits; 0 outside the block.
#[must_use]
pub fn decode(block: &[u8], index: u64, order: u32) -> u64 {
    if order < 3 {
        let bit = index << order;
        let byte = block.get((bit / 8) as usize).copied().unwrap_or(0);
        // Entries smaller than a byte begin at the least significant bit.
        return u64::from(byte >> (bit % 8)) & ((1 << (1 << order)) - 1);
    }
    let bytes = 1_usize << (order - 3);
    let start = (index as usize).saturating_mul(bytes);
    block
        .get(start..start.saturating_add(bytes))
        .map_or(0, |entry| entry.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

/// Sets the `index`-th entry of a refcount block to `value`, cut to its width; nothing outside the block.
pub fn encode(block: &mut [u8], index: u64, order: u32, value: u64) {
    if order < 3 {
        let bit = index << order;
        let mask = ((1_u32 << (1 << order)) - 1) as u8;
        if let Some(byte) = block.get_mut((bit / 8) as usize) {
            let shift = bit % 8;
            *byte = (*byte & !(mask << shift)) | ((value as u8 & mask) << shift);
        }
        return;
    }
    let bytes = 1_usize << (order - 3);
    let start = (index as usize).saturating_mul(bytes);
    if let Some(entry) = block.get_mut(start..start.saturating_add(bytes)) {
        entry.copy_from_slice(&value.to_be_bytes()[8 - bytes..]);
    }
}

/// Offset in the file of cluster `first + n`.
pub(crate) fn entry_offset(first: u64, n: u64, cluster_bits: u32) -> u64 {
    (first + n) << cluster_bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_do_not_disturb_each_other(order in 0_u32..=6, values in prop::collection::vec(any::<u64>(), 64)) {
            let mut block = vec![0; 512];
            let mask = if order == 6 { u64::MAX } else { (1 << (1 << order)) - 1 };
            for (n, value) in (0..).zip(&values) {
                encode(&mut block, n, order, *value);
            }
            for (n, value) in (0..).zip(&values) {
                prop_assert_eq!(decode(&block, n, order), value & mask);
            }
        }
    }
}
