//! Making an image larger.
//!
//! Where the L1 table is large enough, only the size in the header changes. Otherwise a larger L1 table is put behind the
//! end of the file, with the refcount blocks (and, where it is full, the refcount table) that cover it:
//!
//! 1. write the new L1 table, new refcount blocks, new refcount table; fsync (nothing refers to them)
//! 2. count the new clusters: existing blocks, then table entries or the header's table fields; fsync (leak at worst)
//! 3. header: size, L1 size and offset in one write within one sector; fsync (now it is larger)
//! 4. uncount the old tables (a crash before leaks them)

use crate::{
    Error, Limits, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES,
    check::accepted_header,
    header::Header,
    io::{self, entries},
    refcounts::{decode, encode},
};
use std::fs::File;

/// Makes the disk in `file` `new_size` bytes large. Large enough already: nothing is done. Nothing else may have the file
/// open. The bytes added read as zeros, provided that no backing file is larger than the disk was. Durable when it returns.
///
/// # Errors
/// The image is one that [`crate::check_header`] would refuse, the size is impossible, or I/O failed (the image then is as
/// it was, save for leaked clusters).
pub fn grow(file: &File, new_size: u64) -> Result<(), Error> {
    let limits = Limits { max_virtual_size: u64::MAX, max_clusters: u64::MAX, allow_backing: true };
    let mut header = accepted_header(file, &limits)?;
    if new_size <= header.info.virtual_size {
        return Ok(());
    }
    if !new_size.is_multiple_of(512) {
        return Err(Error::field("new size", new_size, "must be a multiple of 512"));
    }
    let needed = header.l1_needed(new_size);
    let entries = u32::try_from(needed).ok().filter(|n| u64::from(*n) * 8 <= MAX_L1_BYTES);
    let entries =
        entries.ok_or_else(|| Error::field("new size", new_size, "too large for clusters of this size"))?;
    let old = header.clone();
    if entries > header.l1_entries {
        Relocation::plan(file, &header, Some(entries), 0)?.carry_out(file, &mut header)?;
    }
    header.info.virtual_size = new_size;
    write_geometry(file, &header)?;
    io::sync(file)?;
    if old.l1_offset != header.l1_offset {
        uncount(file, &header, old.l1_offset, (u64::from(old.l1_entries) * 8).div_ceil(old.cluster_size()))?;
    }
    if old.refcount_table_offset != header.refcount_table_offset {
        uncount(file, &header, old.refcount_table_offset, u64::from(old.refcount_table_clusters))?;
    }
    io::sync(file)
}

/// Makes an image ready to be written: its refcount table covers all clusters the disk can ever need, so that a writer never
/// has to move it, and what older writers noted about content that now changes (autoclear features) is void.
///
/// # Errors
/// The image is one that [`crate::check_header`] would refuse, or I/O failed.
pub fn prepare_for_writing(file: &File, limits: &Limits) -> Result<(crate::Info, crate::Layout), Error> {
    let mut header = accepted_header(file, limits)?;
    if header.info.version >= 3 {
        io::write(file, "clear autoclear_features", &[0; 8], 88)?;
    }
    let size = header.cluster_size();
    let per_block = (size * 8) >> header.refcount_order;
    let end = (header.info.file_size.div_ceil(size)).max(end_of_counted(
        file,
        &header,
        &read_table(file, &header)?,
    )?);
    let disk = header.info.virtual_size.div_ceil(size);
    // Everything once more than there is, and room for clusters freed but not yet reusable.
    let clusters = end + disk + disk.div_ceil(size / 8) + SPARE_CLUSTERS;
    let blocks = clusters.div_ceil(per_block - 1);
    let table = (blocks * 8).div_ceil(size);
    if table > u64::from(header.refcount_table_clusters) {
        let old = header.clone();
        Relocation::plan(file, &header, None, table)?.carry_out(file, &mut header)?;
        uncount(file, &header, old.refcount_table_offset, u64::from(old.refcount_table_clusters))?;
    }
    io::sync(file)?;
    header = accepted_header(file, limits)?;
    let layout = crate::Layout::from(&header);
    Ok((header.info, layout))
}

/// Clusters a writer may have freed that it cannot reuse yet.
const SPARE_CLUSTERS: u64 = 65536;

/// Writes size, crypt method (none), L1 size and L1 offset: bytes 24 to 48 of the header.
fn write_geometry(file: &File, header: &Header) -> Result<(), Error> {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&header.info.virtual_size.to_be_bytes());
    bytes[12..16].copy_from_slice(&header.l1_entries.to_be_bytes());
    bytes[16..].copy_from_slice(&header.l1_offset.to_be_bytes());
    io::write(file, "write the new size", &bytes, 24)
}

/// The new clusters behind the end of the file, all in clusters: L1, then refcount blocks, then the refcount table.
struct Relocation {
    /// First new cluster.
    first: u64,
    /// Clusters of the new L1 table; 0: the old one is kept.
    l1: u64,
    l1_entries: u32,
    /// Indexes in the refcount table of the new blocks.
    new_blocks: Vec<u64>,
    /// Clusters of the new refcount table; 0: the old one is kept.
    table: u64,
    /// Offsets of all refcount blocks, the new ones included.
    blocks: Vec<u64>,
}

impl Relocation {
    /// Plans a new L1 table of `l1_entries` and a refcount table of at least `table` clusters (0: as it is).
    fn plan(file: &File, header: &Header, l1_entries: Option<u32>, table: u64) -> Result<Self, Error> {
        let size = header.cluster_size();
        let per_block = (size * 8) >> header.refcount_order;
        let old = read_table(file, header)?;
        let first = header.info.file_size.div_ceil(size).max(end_of_counted(file, header, &old)?);
        let l1 = (u64::from(l1_entries.unwrap_or(0)) * 8).div_ceil(size);
        let l1_entries = l1_entries.unwrap_or(header.l1_entries);
        let mut plan = Self { first, l1, l1_entries, new_blocks: Vec::new(), table, blocks: old.clone() };
        // New blocks and a new table need to be counted themselves: repeat until it fits. Each round only grows.
        loop {
            let total = plan.total();
            let (from, to) = (first / per_block, (first + total - 1) / per_block);
            let missing = |n: &u64| old.get(*n as usize).is_none_or(|block| *block == 0);
            plan.new_blocks = (from..=to).filter(missing).collect();
            if to >= old.len() as u64 {
                plan.table = ((to + 1) * 8).div_ceil(size).max(plan.table);
            }
            if plan.total() == total {
                break;
            }
        }
        if plan.table * size > MAX_REFCOUNT_TABLE_BYTES {
            return Err(Error::field(
                "refcount_table_clusters",
                plan.table,
                "the image is too large to grow",
            ));
        }
        if plan.table != 0 {
            plan.blocks.resize((plan.table * size / 8) as usize, 0);
        }
        for (n, index) in (0..).zip(&plan.new_blocks) {
            if let Some(block) = plan.blocks.get_mut(*index as usize) {
                *block = (first + l1 + n) * size;
            }
        }
        Ok(plan)
    }

    fn total(&self) -> u64 {
        self.l1 + self.new_blocks.len() as u64 + self.table
    }

    fn carry_out(self, file: &File, header: &mut Header) -> Result<(), Error> {
        let size = header.cluster_size();
        let per_block = (size * 8) >> header.refcount_order;
        if self.l1 != 0 {
            let mut l1 = vec![0; (self.l1 * size) as usize];
            if let Some(old) = l1.get_mut(..header.l1_entries as usize * 8) {
                io::read(file, "read the L1 table", old, header.l1_offset)?;
            }
            io::write(file, "write the new L1 table", &l1, self.first * size)?;
        }

        let table_bytes: Vec<u8> = self.blocks.iter().flat_map(|block| block.to_be_bytes()).collect();
        let table_offset = (self.first + self.l1 + self.new_blocks.len() as u64) * size;
        if self.table != 0 {
            io::write(file, "write the new refcount table", &table_bytes, table_offset)?;
        }
        // New blocks are written before anything refers to them; existing ones only afterwards.
        let (mut block, end) = (vec![0; size as usize], self.first + self.total());
        for existing in [false, true] {
            for index in self.first / per_block..=(end - 1) / per_block {
                if existing == self.new_blocks.contains(&index) {
                    continue;
                }
                let at = self.blocks.get(index as usize).copied().unwrap_or(0);
                block.fill(0);
                if existing {
                    io::read(file, "read a refcount block", &mut block, at)?;
                }
                for cluster in self.first.max(index * per_block)..end.min((index + 1) * per_block) {
                    encode(&mut block, cluster % per_block, header.refcount_order, 1);
                }
                io::write(file, "write a refcount block", &block, at)?;
            }
            io::sync(file)?;
        }
        if self.table != 0 {
            header.refcount_table_offset = table_offset;
            header.refcount_table_clusters = self.table as u32;
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&table_offset.to_be_bytes());
            bytes[8..].copy_from_slice(&header.refcount_table_clusters.to_be_bytes());
            io::write(file, "switch to the new refcount table", &bytes, 48)?;
        } else {
            io::write(file, "write the refcount table", &table_bytes, header.refcount_table_offset)?;
        }
        io::sync(file)?;
        if self.l1 != 0 {
            header.l1_entries = self.l1_entries;
            header.l1_offset = self.first * size;
        }
        Ok(())
    }
}

/// The cluster after the last one with a refcount: clusters may be allocated that were never written.
fn end_of_counted(file: &File, header: &Header, table: &[u64]) -> Result<u64, Error> {
    let per_block = (header.cluster_size() * 8) >> header.refcount_order;
    let mut block = vec![0; header.cluster_size() as usize];
    for (index, at) in table.iter().enumerate().rev().filter(|(_, at)| **at != 0) {
        io::read(file, "read a refcount block", &mut block, *at)?;
        let last = (0..per_block).rev().find(|n| decode(&block, *n, header.refcount_order) != 0);
        if let Some(last) = last {
            return Ok(index as u64 * per_block + last + 1);
        }
    }
    Ok(0)
}

/// The refcount table. Whoever writes relies on it, so it is looked at: blocks lie in clusters of their own, and all clusters
/// with metadata are counted somewhere. Otherwise what looks free would be the header or a table.
fn read_table(file: &File, header: &Header) -> Result<Vec<u64>, Error> {
    let mut bytes = vec![0; (u64::from(header.refcount_table_clusters) << header.info.cluster_bits) as usize];
    io::read(file, "read the refcount table", &mut bytes, header.refcount_table_offset)?;
    let table: Vec<u64> = entries(&bytes).collect();
    let size = header.cluster_size();
    let per_block = (size * 8) >> header.refcount_order;
    let wrong = |index, value, reason| Err(Error::Entry { table: "refcount table", index, value, reason });
    let counted = |cluster: u64| {
        usize::try_from(cluster / per_block)
            .ok()
            .and_then(|index| table.get(index))
            .is_some_and(|at| *at != 0)
    };
    let clusters = |offset: u64, bytes: u64| offset / size..offset.saturating_add(bytes).div_ceil(size);
    let l1 = clusters(header.l1_offset, u64::from(header.l1_entries) * 8);
    let own = clusters(header.refcount_table_offset, bytes.len() as u64);
    for cluster in (0..1).chain(l1.clone()).chain(own.clone()) {
        if !counted(cluster) {
            return wrong(cluster / per_block, 0, "it must count the header or a table of the image");
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, at) in (0..).zip(&table).filter(|(_, at)| **at != 0) {
        let cluster = at / size;
        if !at.is_multiple_of(size) || cluster == 0 || l1.contains(&cluster) || own.contains(&cluster) {
            return wrong(index, *at, "no refcount block can be there");
        }
        if !counted(cluster) {
            return wrong(index, *at, "the block itself is counted nowhere");
        }
        if !seen.insert(cluster) {
            return wrong(index, *at, "another entry names the same block");
        }
    }
    Ok(table)
}

/// Takes one off the refcounts of `count` clusters from `offset`.
fn uncount(file: &File, header: &Header, offset: u64, count: u64) -> Result<(), Error> {
    let size = header.cluster_size();
    let per_block = (size * 8) >> header.refcount_order;
    let table = read_table(file, header)?;
    let mut block = vec![0; size as usize];
    for cluster in offset / size..offset / size + count {
        let at = table.get((cluster / per_block) as usize).copied().unwrap_or(0);
        if at == 0 {
            continue;
        }
        io::read(file, "read a refcount block", &mut block, at)?;
        let stored = decode(&block, cluster % per_block, header.refcount_order);
        encode(&mut block, cluster % per_block, header.refcount_order, stored.saturating_sub(1));
        io::write(file, "write a refcount block", &block, at)?;
    }
    Ok(())
}
