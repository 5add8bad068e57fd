//! Making an empty image.
//!
//! Layout: header, refcount table, refcount blocks, L1 table. The header is written last, so that a file half made is no
//! qcow2 file.

use crate::{
    Error, MAX_CLUSTER_BITS, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES, MIN_CLUSTER_BITS,
    header::{EXTENSION_BACKING_FORMAT, MAGIC, MAX_BACKING_NAME},
    io,
    refcounts::encode,
};
use std::fs::File;

/// Refcounts of new images have 16 bits.
const REFCOUNT_ORDER: u32 = 4;
/// Header length written: version 3 with the compression type (padded to 8 bytes).
const HEADER_LENGTH: u32 = 112;

/// A new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Size of the disk, bytes; a multiple of 512, not 0.
    pub virtual_size: u64,
    /// log2 of the cluster size, 9 to 21; [`crate::DEFAULT_CLUSTER_BITS`] unless there is a reason.
    pub cluster_bits: u32,
    /// Name and format of the backing file, as written into the header. It is not opened. A clone must be at least as large
    /// as what is under it.
    pub backing: Option<(String, BackingFormat)>,
}

/// Format of a backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingFormat {
    /// Byte for byte.
    Raw,
    /// qcow2.
    Qcow2,
}

impl BackingFormat {
    /// As the header says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Makes an image in `file`, which must be empty and open for reading and writing. Durable when it returns.
///
/// # Errors
/// The options are impossible, the file is not empty, or writing failed (then the file is no qcow2 file).
pub fn create(file: &File, options: &CreateOptions) -> Result<(), Error> {
    let length = io::length(file)?;
    if length != 0 {
        return Err(Error::NotEmpty { length });
    }
    let plan = Plan::new(options)?;
    let header = plan.header(options)?;
    let size = plan.cluster_size();

    let total = plan.total();
    file.set_len(total * size).map_err(|source| Error::Io { what: "extend the new image", source })?;
    let mut table = vec![0; (plan.blocks * 8) as usize];
    let mut block = vec![0; size as usize];
    let per_block = (size * 8) >> REFCOUNT_ORDER;
    for (n, entry) in (0..plan.blocks).zip(table.as_chunks_mut::<8>().0) {
        let at = (plan.first_block() + n) * size;
        *entry = at.to_be_bytes();
        block.fill(0);
        for used in 0..per_block.min(total.saturating_sub(n * per_block)) {
            encode(&mut block, used, REFCOUNT_ORDER, 1);
        }
        io::write(file, "write a refcount block", &block, at)?;
    }
    io::write(file, "write the refcount table", &table, size)?;
    io::sync(file)?;
    io::write(file, "write the qcow2 header", &header, 0)?;
    io::sync(file)
}

/// Where everything goes, in clusters: header 0, refcount table from 1, then blocks, then L1.
struct Plan {
    cluster_bits: u32,
    table: u64,
    blocks: u64,
    l1: u64,
    l1_entries: u32,
}

impl Plan {
    fn new(options: &CreateOptions) -> Result<Self, Error> {
        let (size, bits) = (options.virtual_size, options.cluster_bits);
        if !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&bits) {
            return Err(Error::field("cluster_bits", bits, "must be 9 to 21"));
        }
        if size == 0 || !size.is_multiple_of(512) {
            return Err(Error::field("virtual_size", size, "must be a multiple of 512 and not 0"));
        }
        let entries = size.div_ceil(1 << (2 * bits - 3));
        let l1_entries = u32::try_from(entries).ok().filter(|n| u64::from(*n) * 8 <= MAX_L1_BYTES);
        let l1_entries = l1_entries
            .ok_or_else(|| Error::field("virtual_size", size, "too large for clusters of this size"))?;
        let cluster = 1_u64 << bits;
        let per_block = (cluster * 8) >> REFCOUNT_ORDER;
        let mut plan =
            Self { cluster_bits: bits, table: 1, blocks: 1, l1: (entries * 8).div_ceil(cluster), l1_entries };
        // Blocks count themselves and the table: repeat until it fits. Each round only grows, by ever less.
        loop {
            let blocks = plan.total().div_ceil(per_block);
            let table = (blocks * 8).div_ceil(cluster);
            if (blocks, table) == (plan.blocks, plan.table) {
                break;
            }
            (plan.blocks, plan.table) = (blocks.max(plan.blocks), table.max(plan.table));
        }
        if plan.table << bits > MAX_REFCOUNT_TABLE_BYTES {
            return Err(Error::field("virtual_size", size, "too large for clusters of this size"));
        }
        Ok(plan)
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }
    fn first_block(&self) -> u64 {
        1 + self.table
    }
    fn first_l1(&self) -> u64 {
        self.first_block() + self.blocks
    }
    fn total(&self) -> u64 {
        self.first_l1() + self.l1
    }

    fn header(&self, options: &CreateOptions) -> Result<Vec<u8>, Error> {
        let mut extensions = Vec::new();
        if let Some((name, format)) = &options.backing {
            if name.is_empty() || name.len() > MAX_BACKING_NAME as usize {
                return Err(Error::field(
                    "backing file name",
                    format!("{name:?}"),
                    "must have 1 to 1023 bytes",
                ));
            }
            let format = format.name().as_bytes();
            extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
            extensions.extend((format.len() as u32).to_be_bytes());
            extensions.extend(format);
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        extensions.extend([0; 8]);

        let name = options.backing.as_ref().map_or("", |(name, _)| name);
        let name_offset = u64::from(HEADER_LENGTH) + extensions.len() as u64;
        let mut header = Vec::with_capacity(256);
        header.extend(MAGIC.to_be_bytes());
        header.extend(3_u32.to_be_bytes());
        header.extend(if name.is_empty() { 0 } else { name_offset }.to_be_bytes());
        header.extend((name.len() as u32).to_be_bytes());
        header.extend(self.cluster_bits.to_be_bytes());
        header.extend(options.virtual_size.to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // crypt_method
        header.extend(self.l1_entries.to_be_bytes());
        header.extend((self.first_l1() << self.cluster_bits).to_be_bytes());
        header.extend(self.cluster_size().to_be_bytes()); // refcount_table_offset: cluster 1
        header.extend((self.table as u32).to_be_bytes());
        header.extend([0; 12]); // nb_snapshots, snapshots_offset
        header.extend([0; 24]); // incompatible, compatible, autoclear features
        header.extend(REFCOUNT_ORDER.to_be_bytes());
        header.extend(HEADER_LENGTH.to_be_bytes());
        header.extend([0; 8]); // compression_type and padding
        header.extend(extensions);
        header.extend(name.as_bytes());
        if header.len() as u64 > self.cluster_size() {
            return Err(Error::field(
                "backing file name",
                format!("{name:?}"),
                "too long for clusters of this size",
            ));
        }
        Ok(header)
    }
}
