//! Full validation of a hostile file.
//!
//! Walks header → refcount table → refcount blocks → L1 → L2 once, noting in a map of one byte per cluster of the file what
//! each is used for. Metadata must be used exactly once; a data cluster exactly once; compressed data may share clusters.
//! What passes can neither make a reader leave the file nor make a write to guest data hit metadata.

use crate::{
    Compression, Error, Info, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES,
    header::Header,
    io::{self, entries},
    refcounts::{decode, entry_offset},
};
use std::fs::File;

/// What is accepted at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest disk, bytes.
    pub max_virtual_size: u64,
    /// Largest number of clusters in the file; the check needs one byte of memory for each.
    pub max_clusters: u64,
    /// A backing file may be named (it still is never opened).
    pub allow_backing: bool,
}

impl Default for Limits {
    /// Disks to 64 TiB, files to 64 Mi clusters (4 TiB at 64 KiB; 64 MiB of memory), no backing file.
    fn default() -> Self {
        Self { max_virtual_size: 64 << 40, max_clusters: 64 << 20, allow_backing: false }
    }
}

/// Refuses what can be refused by the header alone: unknown or refused features, absurd sizes, tables outside the file.
/// Constant time.
///
/// # Errors
/// Names the field and its value.
pub fn check_header(file: &File, limits: &Limits) -> Result<Info, Error> {
    Ok(accepted_header(file, limits)?.info)
}

/// Validates all metadata of `file`: what an image from outside must pass before anything else reads it.
///
/// # Errors
/// Names the field or table entry and its value.
pub fn check(file: &File, limits: &Limits) -> Result<Info, Error> {
    let header = accepted_header(file, limits)?;
    let mut map = Map::new(&header)?;
    map.claim_metadata("header", 0, 0, 1)?;
    let blocks = walk_refcounts(file, &header, &mut map)?;
    walk_mapping(file, &header, &mut map)?;
    compare_refcounts(file, &header, &map, &blocks)?;
    Ok(header.info)
}

pub(crate) fn accepted_header(file: &File, limits: &Limits) -> Result<Header, Error> {
    let header = Header::read(file)?;
    accept(&header, limits)?;
    Ok(header)
}

fn accept(header: &Header, limits: &Limits) -> Result<(), Error> {
    let info = &header.info;
    refuse_features(info, limits)?;
    let size = info.virtual_size;
    if size == 0 {
        return Err(Error::field("size", size, "a disk must not be empty"));
    }
    if !size.is_multiple_of(512) {
        return Err(Error::field("size", size, "must be a multiple of 512"));
    }
    if size > limits.max_virtual_size {
        return Err(Error::field("size", size, format!("at most {} is accepted", limits.max_virtual_size)));
    }
    let clusters = info.file_size.div_ceil(header.cluster_size());
    if clusters > limits.max_clusters {
        let most = limits.max_clusters;
        return Err(Error::field("file size in clusters", clusters, format!("at most {most} is accepted")));
    }
    let (needed, have) = (header.l1_needed(size), u64::from(header.l1_entries));
    if have < needed {
        return Err(Error::field("l1_size", have, format!("the disk's size needs {needed}")));
    }
    if have * 8 > MAX_L1_BYTES {
        return Err(Error::field("l1_size", have, format!("at most {} is accepted", MAX_L1_BYTES / 8)));
    }
    table_in_file("l1_table_offset", header, header.l1_offset, have * 8)?;
    let clusters = u64::from(header.refcount_table_clusters);
    let bytes = clusters << info.cluster_bits;
    if clusters == 0 || bytes > MAX_REFCOUNT_TABLE_BYTES {
        let reason = format!("must be 1 to {}", MAX_REFCOUNT_TABLE_BYTES >> info.cluster_bits);
        return Err(Error::field("refcount_table_clusters", clusters, reason));
    }
    table_in_file("refcount_table_offset", header, header.refcount_table_offset, bytes)
}

fn refuse_features(info: &Info, limits: &Limits) -> Result<(), Error> {
    let refused = |feature: &str, advice| Err(Error::Refused { feature: feature.to_owned(), advice });
    const CONVERT: &str = "convert it with `qemu-img convert -O qcow2`";
    const REPAIR: &str = "repair it with `qemu-img check -r all`";
    if info.unknown_features != 0 {
        let feature =
            format!("needs unknown features (incompatible_features bits {:#x})", info.unknown_features);
        return Err(Error::Refused { feature, advice: CONVERT });
    }
    if info.encrypted {
        return refused("is encrypted (crypt_method)", "decrypt it with `qemu-img convert -O qcow2`");
    }
    if info.external_data {
        return refused("keeps its data in another file (incompatible_features bit 2)", CONVERT);
    }
    if info.extended_l2 {
        return refused("has extended L2 entries (incompatible_features bit 4)", CONVERT);
    }
    if info.compression != Compression::Deflate {
        let feature = format!("is compressed by {:?} (compression_type)", info.compression);
        return Err(Error::Refused { feature, advice: CONVERT });
    }
    if info.corrupt {
        return refused("is marked as corrupt (incompatible_features bit 1)", REPAIR);
    }
    if info.dirty {
        return refused("was not closed cleanly (incompatible_features bit 0)", REPAIR);
    }
    if info.snapshots != 0 {
        let feature = format!("has {} internal snapshots (nb_snapshots)", info.snapshots);
        return Err(Error::Refused { feature, advice: "remove them with `qemu-img snapshot -d`" });
    }
    match &info.backing_file {
        Some(name) if !limits.allow_backing => Err(Error::Refused {
            feature: format!("depends on a backing file ({name:?})"),
            advice: "flatten it with `qemu-img convert -O qcow2`",
        }),
        _ => Ok(()),
    }
}

fn table_in_file(field: &'static str, header: &Header, offset: u64, bytes: u64) -> Result<(), Error> {
    if offset == 0 || !offset.is_multiple_of(header.cluster_size()) {
        return Err(Error::field(field, offset, "must be a multiple of the cluster size and not 0"));
    }
    if offset.checked_add(bytes).is_none_or(|end| end > header.info.file_size) {
        let reason =
            format!("the table of {bytes} bytes ends past the end of the file at {}", header.info.file_size);
        return Err(Error::field(field, offset, reason));
    }
    Ok(())
}

/// Use of each cluster of the file.
struct Map {
    bits: u32,
    uses: Vec<u8>,
}

const UNUSED: u8 = 0;
const METADATA: u8 = 1;
const DATA: u8 = 2;
/// From here: compressed data, `use - COMPRESSED + 1` times (saturating).
const COMPRESSED: u8 = 3;

impl Map {
    fn new(header: &Header) -> Result<Self, Error> {
        let clusters = header.info.file_size.div_ceil(header.cluster_size());
        let clusters = usize::try_from(clusters)
            .map_err(|_| Error::field("file size", clusters, "too many clusters"))?;
        Ok(Self { bits: header.info.cluster_bits, uses: vec![UNUSED; clusters] })
    }

    fn slot(&mut self, offset: u64) -> Option<&mut u8> {
        self.uses.get_mut(usize::try_from(offset >> self.bits).ok()?)
    }

    /// Claims `count` clusters from `offset` for metadata named `table`, entry `index`.
    fn claim_metadata(
        &mut self,
        table: &'static str,
        index: u64,
        offset: u64,
        count: u64,
    ) -> Result<(), Error> {
        for n in 0..count {
            let at = offset.saturating_add(n << self.bits);
            self.claim(table, index, at, at, METADATA)?;
        }
        Ok(())
    }

    fn claim(&mut self, table: &'static str, index: u64, value: u64, at: u64, kind: u8) -> Result<(), Error> {
        let wrong = |reason| Err(Error::Entry { table, index, value, reason });
        match self.slot(at) {
            None => wrong("points past the end of the file"),
            Some(used) if *used == UNUSED => {
                *used = kind;
                Ok(())
            }
            Some(used) if kind == COMPRESSED && *used >= COMPRESSED => {
                *used = used.saturating_add(1);
                Ok(())
            }
            Some(used) if *used == METADATA => wrong("points at metadata"),
            Some(_) => wrong("points at a cluster that is in use already"),
        }
    }
}

/// Claims refcount table and blocks; returns the blocks' offsets (0: none).
fn walk_refcounts(file: &File, header: &Header, map: &mut Map) -> Result<Vec<u64>, Error> {
    let clusters = u64::from(header.refcount_table_clusters);
    map.claim_metadata("refcount table", 0, header.refcount_table_offset, clusters)?;
    let mut table = vec![0; (clusters << header.info.cluster_bits) as usize];
    io::read(file, "read the refcount table", &mut table, header.refcount_table_offset)?;
    let blocks: Vec<u64> = entries(&table).collect();
    for (index, block) in (0..).zip(&blocks).filter(|(_, block)| **block != 0) {
        claim_table(header, map, "refcount table", index, *block, *block)?;
    }
    Ok(blocks)
}

fn aligned(header: &Header, table: &'static str, index: u64, value: u64, offset: u64) -> Result<(), Error> {
    if offset.is_multiple_of(header.cluster_size()) {
        return Ok(());
    }
    Err(Error::Entry { table, index, value, reason: "is not aligned to a cluster, or has reserved bits" })
}

/// Claims the cluster at `offset` for a table that must lie whole in the file.
fn claim_table(
    header: &Header,
    map: &mut Map,
    table: &'static str,
    index: u64,
    value: u64,
    offset: u64,
) -> Result<(), Error> {
    aligned(header, table, index, value, offset)?;
    if offset.checked_add(header.cluster_size()).is_none_or(|end| end > header.info.file_size) {
        return Err(Error::Entry { table, index, value, reason: "ends past the end of the file" });
    }
    map.claim(table, index, value, offset, METADATA)
}

/// Bits 9 to 55: the offset in an L1 or standard L2 entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED_FLAG: u64 = 1 << 62;
const ZERO: u64 = 1;

fn walk_mapping(file: &File, header: &Header, map: &mut Map) -> Result<(), Error> {
    let bytes = u64::from(header.l1_entries) * 8;
    let size = header.cluster_size();
    map.claim_metadata("L1 table", 0, header.l1_offset, bytes.div_ceil(size))?;
    let mut l1 = vec![0; bytes as usize];
    io::read(file, "read the L1 table", &mut l1, header.l1_offset)?;
    let mut l2 = vec![0; size as usize];
    let per_table = size / 8;
    for (index, entry) in (0..).zip(entries(&l1)) {
        let reason = "has reserved bits";
        if entry & !(OFFSET | COPIED) != 0 {
            return Err(Error::Entry { table: "L1 table", index, value: entry, reason });
        }
        let offset = entry & OFFSET;
        if offset == 0 {
            continue;
        }
        claim_table(header, map, "L1 table", index, entry, offset)?;
        io::read(file, "read an L2 table", &mut l2, offset)?;
        for (n, entry) in (0..).zip(entries(&l2)).filter(|(_, entry)| *entry != 0) {
            claim_data(header, map, index * per_table + n, entry)?;
        }
    }
    Ok(())
}

fn claim_data(header: &Header, map: &mut Map, index: u64, entry: u64) -> Result<(), Error> {
    let table = "L2 table";
    let wrong = |reason| Err(Error::Entry { table, index, value: entry, reason });
    if entry & COMPRESSED_FLAG != 0 {
        if entry & COPIED != 0 {
            return wrong("is compressed and claims to be writable in place");
        }
        // Offset in the low bits, above it the number of further 512-byte sectors it touches.
        let x = 62 - (header.info.cluster_bits - 8);
        let offset = entry & ((1 << x) - 1);
        let sectors = (entry & (COMPRESSED_FLAG - 1)) >> x;
        let end = (offset & !511) + (sectors + 1) * 512;
        let mut at = offset & !(header.cluster_size() - 1);
        while at < end {
            map.claim(table, index, entry, at, COMPRESSED)?;
            at += header.cluster_size();
        }
        return Ok(());
    }
    let zero = if header.info.version >= 3 { ZERO } else { 0 };
    if entry & !(OFFSET | COPIED | zero) != 0 {
        return wrong("has reserved bits");
    }
    let offset = entry & OFFSET;
    if offset == 0 {
        return Ok(());
    }
    aligned(header, table, index, entry, offset)?;
    map.claim(table, index, entry, offset, DATA)
}

/// A cluster in use must have a refcount of at least its uses. More (a leak) only wastes room.
fn compare_refcounts(file: &File, header: &Header, map: &Map, blocks: &[u64]) -> Result<(), Error> {
    let per_block = (header.cluster_size() * 8) >> header.refcount_order;
    let mut block = vec![0; header.cluster_size() as usize];
    let mut blocks = blocks.iter();
    for (first, uses) in (0..).step_by(per_block as usize).zip(map.uses.chunks(per_block as usize)) {
        match blocks.next() {
            Some(offset) if *offset != 0 => io::read(file, "read a refcount block", &mut block, *offset)?,
            _ => block.fill(0),
        }
        for (n, kind) in (0..).zip(uses) {
            let used = match *kind {
                UNUSED => continue,
                METADATA | DATA => 1,
                shared => u64::from(shared - COMPRESSED) + 1,
            };
            let stored = decode(&block, n, header.refcount_order);
            if stored < used {
                let offset = entry_offset(first, n, header.info.cluster_bits);
                return Err(Error::Refcount { offset, stored, used });
            }
        }
    }
    Ok(())
}
