//! What a function is made of: its configuration space as it was found, its BARs, and which areas of them can be memory.
//!
//! Pure but for the first reading. The table and the pending bits of MSI-X are ours, so their pages are in no area.

use super::{
    Backend, Place,
    space::{self, Bar, MsixFacts, Space, Unfit},
};
use std::ops::Range;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a function's configuration space at most.
pub const CONFIG: u64 = 4096;
/// Largest BAR that fits any window of the bus.
const LARGEST: u64 = 1 << 46;

/// What a region is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Bytes; 0: there is none.
    pub size: u64,
    /// Areas that can be mapped.
    pub areas: Vec<Range<u64>>,
}

impl Region {
    /// Of `size` bytes, all of which can be mapped.
    #[must_use]
    pub fn mappable(size: u64) -> Self {
        Self { size, areas: std::iter::once(0..size).collect() }
    }
}

/// An area of a BAR that the guest can have as memory: whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The BAR.
    pub bar: u8,
    /// Inside it.
    pub range: Range<u64>,
}

/// A function.
pub struct Layout {
    /// What the guest sees.
    pub space: Space,
    /// What can be memory.
    pub areas: Vec<Area>,
}

impl Layout {
    /// Looks at a function.
    ///
    /// # Errors
    /// It cannot be shown to a guest.
    pub fn read(backend: &dyn Backend) -> Result<Self, Unfit> {
        let size = backend.region(Place::Config).size.min(CONFIG);
        let mut bytes = vec![0xff; size as usize];
        for (offset, word) in (0..).step_by(4).zip(bytes.chunks_exact_mut(4)) {
            backend
                .read(Place::Config, offset, word)
                .map_err(|error| Unfit::Unreadable(error.to_string()))?;
        }
        let bars = (0..6).map(|bar| backend.region(Place::Bar(bar)).size);
        let space = Space::new(&bytes, &bars.collect::<Vec<_>>())?;
        for Bar { bar, size, .. } in space.bars() {
            if !size.is_power_of_two() || !(16..=LARGEST).contains(size) {
                return Err(Unfit::Bar { bar: *bar, size: *size });
            }
        }
        let areas = areas(space.bars(), space.msix(), |bar| backend.region(Place::Bar(bar)).areas);
        Ok(Self { space, areas })
    }
}

/// The areas of `bars` that can be memory, of those `mappable` offers.
fn areas(bars: &[Bar], msix: Option<&MsixFacts>, mappable: impl Fn(u8) -> Vec<Range<u64>>) -> Vec<Area> {
    let pages = |range: Range<u64>| range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE);
    let ours: Vec<_> = msix
        .into_iter()
        .flat_map(|msix| [(msix.table_bar, msix.table.clone()), (msix.pending_bar, msix.pending.clone())])
        .map(|(bar, range)| (bar, pages(range)))
        .collect();
    let mut areas = Vec::new();
    for Bar { bar, size, .. } in bars {
        // A smaller one may share its page with others.
        if *size < PAGE {
            continue;
        }
        for offered in mappable(*bar) {
            let start = offered.start.next_multiple_of(PAGE);
            let whole = start..offered.end.min(*size) & !(PAGE - 1);
            let mut rest = Vec::from([whole]);
            for (_, hole) in ours.iter().filter(|(of, _)| of == bar) {
                rest = rest
                    .into_iter()
                    .flat_map(|area| {
                        [area.start..area.end.min(hole.start), area.start.max(hole.end)..area.end]
                    })
                    .collect();
            }
            let whole = rest.into_iter().filter(|area| area.start < area.end);
            areas.extend(whole.map(|range| Area { bar: *bar, range }));
        }
    }
    areas
}

/// The part of BAR `bar` that the access at `offset` of `length` bytes is to, where it is all of MSI-X's table.
#[must_use]
pub fn table_offset(space: &space::Space, bar: u8, offset: u64, length: usize) -> Option<u64> {
    let msix = space.msix().filter(|msix| msix.table_bar == bar)?;
    let end = offset.checked_add(length as u64)?;
    (msix.table.start < end && offset < msix.table.end).then(|| offset.wrapping_sub(msix.table.start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bar(bar: u8, size: u64) -> Bar {
        Bar { bar, size, wide: true, flags: 4 }
    }

    #[test]
    fn pages_of_the_vector_table_are_no_memory() {
        let msix = MsixFacts {
            capability: 0x40,
            vectors: 5,
            table_bar: 0,
            table: 0x2000..0x2050,
            pending_bar: 0,
            pending: 0x3000..0x3008,
        };
        let all = |_| Region::mappable(0x4000).areas;
        let found = areas(&[bar(0, 0x4000), bar(2, 0x4000), bar(4, 0x100)], Some(&msix), all);
        assert_eq!(found, [Area { bar: 0, range: 0..0x2000 }, Area { bar: 2, range: 0..0x4000 }]);
    }

    proptest! {
        #[test]
        fn areas_are_whole_pages_apart_from_what_is_ours(
            offered in prop::collection::vec((0_u64..0x9000, 0_u64..0x9000), 0..4),
            table in 0_u64..0x8000, pending in 0_u64..0x8000,
        ) {
            let msix = MsixFacts {
                capability: 0x40, vectors: 4, table_bar: 0, table: table..table + 64,
                pending_bar: 0, pending: pending..pending + 8,
            };
            let offered: Vec<_> = offered.into_iter().map(|(start, length)| start..start + length).collect();
            for Area { range, .. } in areas(&[bar(0, 0x8000)], Some(&msix), |_| offered.clone()) {
                prop_assert!(range.start < range.end && range.end <= 0x8000);
                prop_assert!(range.start % PAGE == 0 && range.end % PAGE == 0);
                prop_assert!(offered.iter().any(|o| o.start <= range.start && range.end <= o.end));
                for ours in [&msix.table, &msix.pending] {
                    prop_assert!(range.end <= ours.start || ours.end <= range.start);
                }
            }
        }
    }
}
