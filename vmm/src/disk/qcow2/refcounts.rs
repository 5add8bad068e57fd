//! Reference counts: finding free clusters, counting and uncounting them.
//!
//! Counting up may reach the disk at any time (a crash leaks). Counting down must not reach the disk before the entries that
//! named the cluster are gone from it: such clusters wait in `let_go` until [`Refcounts::release`].

use super::{
    super::file::{Fallocate, ImageFile},
    cache::{self, Cache},
};
use lq_qcow2::{Info, Layout, refcount, set_refcount};
use std::io;

/// Clusters let go of before they are released.
const MAX_LET_GO: usize = 8192;

pub(super) struct Refcounts {
    cluster_bits: u32,
    order: u32,
    /// Offsets of the blocks; 0: none.
    table: Vec<u64>,
    table_offset: u64,
    cache: Cache,
    /// No cluster below this is known to be free.
    hint: u64,
    /// From here on no cluster of the file has ever been written: it reads as zeros.
    virgin: u64,
    let_go: Vec<u64>,
}

impl Refcounts {
    pub(super) fn new(file: &ImageFile, info: &Info, layout: &Layout) -> io::Result<Self> {
        let mut bytes = vec![0; (layout.refcount_table_clusters as usize) << info.cluster_bits];
        file.read_exact_at(&mut bytes, layout.refcount_table_offset)?;
        let mut table: Vec<u64> = cache::entries(&bytes).collect();
        table.shrink_to_fit();
        Ok(Self {
            cluster_bits: info.cluster_bits,
            order: layout.refcount_order,
            table,
            table_offset: layout.refcount_table_offset,
            cache: Cache::new(1 << info.cluster_bits, cache::REFCOUNT_SLICES),
            hint: 0,
            virgin: file.length()?.div_ceil(1 << info.cluster_bits),
            let_go: Vec::new(),
        })
    }

    /// Clusters one block counts, as a power of two.
    fn block_bits(&self) -> u32 {
        self.cluster_bits + 3 - self.order
    }

    /// Offset of the slice that counts `cluster`, and its index in it. `None`: there is no block.
    fn position(&self, cluster: u64) -> Option<(u64, u64)> {
        let block = usize::try_from(cluster >> self.block_bits()).ok()?;
        let block = self.table.get(block).copied().filter(|offset| *offset != 0)?;
        let index = cluster & ((1 << self.block_bits()) - 1);
        let per_slice = (self.cache.slice() as u64 * 8) >> self.order;
        Some((block + index / per_slice * self.cache.slice() as u64, index % per_slice))
    }

    fn get(&mut self, file: &ImageFile, cluster: u64) -> io::Result<Option<u64>> {
        let Some((slice, index)) = self.position(cluster) else { return Ok(None) };
        self.make_room(file)?;
        Ok(Some(refcount(self.cache.get(file, slice)?, index, self.order)))
    }

    fn set(&mut self, file: &ImageFile, cluster: u64, value: u64) -> io::Result<()> {
        let Some((slice, index)) = self.position(cluster) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the image is corrupt: no refcount block",
            ));
        };
        self.make_room(file)?;
        set_refcount(self.cache.get_mut(file, slice)?, index, self.order, value);
        Ok(())
    }

    /// What is in the cache may be written at any time.
    fn make_room(&mut self, file: &ImageFile) -> io::Result<()> {
        if self.cache.is_full() { self.cache.write(file) } else { Ok(()) }
    }

    /// Counts up to `most` adjoining free clusters; returns the first and how many (at least one).
    pub(super) fn allocate(&mut self, file: &ImageFile, most: u64) -> io::Result<(u64, u64)> {
        loop {
            let first = self.hint;
            match self.get(file, first)? {
                None => self.new_block(file, first >> self.block_bits())?,
                Some(0) => {
                    let mut count = 1;
                    while count < most && self.get(file, first + count)? == Some(0) {
                        count += 1;
                    }
                    for n in 0..count {
                        if let Err(error) = self.set(file, first + n, 1) {
                            self.give_back(file, first, n);
                            return Err(error);
                        }
                    }
                    self.hint = first + count;
                    return Ok((first, count));
                }
                Some(_) => self.hint += 1,
            }
        }
    }

    /// Makes the refcount block with number `block`, in the first of the clusters it counts: all are free.
    fn new_block(&mut self, file: &ImageFile, block: u64) -> io::Result<()> {
        let slot = usize::try_from(block).ok().filter(|slot| *slot < self.table.len());
        let slot =
            slot.ok_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "the refcount table is full"))?;
        let cluster = block << self.block_bits();
        let offset = cluster << self.cluster_bits;
        let mut content = vec![0; 1 << self.cluster_bits];
        set_refcount(&mut content, 0, self.order, 1);
        file.write_all_at(&content, offset)?;
        file.sync()?;
        file.write_all_at(&offset.to_be_bytes(), self.table_offset + block * 8)?;
        if let Some(entry) = self.table.get_mut(slot) {
            *entry = offset;
        }
        self.virgin = self.virgin.max(cluster + 1);
        Ok(())
    }

    /// Whether the cluster, just allocated, reads as zeros in the file because nothing was ever written there.
    pub(super) fn is_virgin(&self, cluster: u64) -> bool {
        cluster >= self.virgin
    }

    /// Clusters before `end` may have been written.
    pub(super) fn written(&mut self, end: u64) {
        self.virgin = self.virgin.max(end);
    }

    /// Uncounts clusters that were allocated and not used.
    pub(super) fn give_back(&mut self, file: &ImageFile, first: u64, count: u64) {
        for cluster in first..first + count {
            if let Err(error) = self.set(file, cluster, 0) {
                eprintln!("lq-vmm: a cluster of a qcow2 image is lost: {error}");
            }
        }
        self.hint = self.hint.min(first);
    }

    /// No entry in memory names `cluster` any more (one of its uses).
    pub(super) fn let_go(&mut self, cluster: u64) {
        self.let_go.push(cluster);
    }

    pub(super) fn has_let_go(&self) -> bool {
        !self.let_go.is_empty()
    }

    pub(super) fn must_release(&self) -> bool {
        self.let_go.len() >= MAX_LET_GO
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.cache.is_dirty()
    }

    /// Uncounts what was let go of, and gives its room back to the file system. Only when no entry on disk names it any more.
    pub(super) fn release(&mut self, file: &ImageFile) -> io::Result<()> {
        self.let_go.sort_unstable();
        let mut hole: Option<(u64, u64)> = None;
        while let Some(cluster) = self.let_go.last().copied() {
            let count = self.get(file, cluster)?.unwrap_or(0);
            self.set(file, cluster, count.saturating_sub(1))?;
            self.let_go.pop();
            if count > 1 {
                continue;
            }
            self.hint = self.hint.min(cluster);
            hole = match hole {
                Some((first, count)) if cluster + 1 == first => Some((cluster, count + 1)),
                other => {
                    self.punch(file, other);
                    Some((cluster, 1))
                }
            };
        }
        self.punch(file, hole);
        Ok(())
    }

    /// A hint: where it fails the room is reused all the same.
    fn punch(&self, file: &ImageFile, hole: Option<(u64, u64)>) {
        if let Some((first, count)) = hole {
            let bits = self.cluster_bits;
            let _ = file.fallocate(Fallocate::Punch, first << bits, count << bits);
        }
    }

    /// Writes what is dirty.
    pub(super) fn write(&mut self, file: &ImageFile) -> io::Result<()> {
        self.cache.write(file)
    }
}
