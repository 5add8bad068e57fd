//! The header: parsing without trust. Pure but for [`Header::read`].

use crate::{
    Error, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS,
    io::{self, be32, be64},
};
use std::fs::File;

/// "QFI\xfb".
pub(crate) const MAGIC: u32 = 0x5146_49fb;
/// Length of the version 2 header.
pub(crate) const V2_LENGTH: usize = 72;
/// Length of the version 3 header without the compression type.
pub(crate) const V3_LENGTH: usize = 104;
/// Longest backing file name the format allows.
pub(crate) const MAX_BACKING_NAME: u32 = 1023;

/// Incompatible feature: refcounts may be wrong.
pub(crate) const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
/// Incompatible feature: known to be corrupt.
pub(crate) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
/// Incompatible feature: guest data is in another file.
pub(crate) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
/// Incompatible feature: the compression type is not deflate.
pub(crate) const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
/// Incompatible feature: L2 entries of 128 bits.
pub(crate) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
/// Compatible feature: refcounts are updated lazily.
const COMPATIBLE_LAZY: u64 = 1 << 0;

/// Header extension: format of the backing file.
pub(crate) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_END: u32 = 0;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate.
    Deflate,
    /// Zstandard.
    Zstd,
    /// A number the specification does not know.
    Unknown(u8),
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Size of the disk, bytes.
    pub virtual_size: u64,
    /// Length of the file, bytes.
    pub file_size: u64,
    /// The name it gives of its backing file. Only to be shown and compared, never to be opened.
    pub backing_file: Option<String>,
    /// The format it gives of its backing file.
    pub backing_format: Option<String>,
    /// Internal snapshots.
    pub snapshots: u32,
    /// Guest data is encrypted.
    pub encrypted: bool,
    /// Guest data is in another file.
    pub external_data: bool,
    /// L2 entries have subclusters.
    pub extended_l2: bool,
    /// Refcounts may be wrong: it was not closed cleanly.
    pub dirty: bool,
    /// Marked as corrupt.
    pub corrupt: bool,
    /// Refcounts are updated lazily.
    pub lazy_refcounts: bool,
    /// How clusters are compressed, where they are.
    pub compression: Compression,
    /// Bits of a refcount, a power of two from 1 to 64.
    pub refcount_bits: u32,
    /// Incompatible feature bits the specification (as known here) does not name.
    pub unknown_features: u64,
}

/// Where the tables of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the L1 table.
    pub l1_offset: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Offset of the refcount table.
    pub refcount_table_offset: u64,
    /// Clusters of the refcount table.
    pub refcount_table_clusters: u32,
    /// log2 of the bits of a refcount.
    pub refcount_order: u32,
}

impl From<&Header> for Layout {
    fn from(header: &Header) -> Self {
        Self {
            l1_offset: header.l1_offset,
            l1_entries: header.l1_entries,
            refcount_table_offset: header.refcount_table_offset,
            refcount_table_clusters: header.refcount_table_clusters,
            refcount_order: header.refcount_order,
        }
    }
}

/// The header with what only this crate needs.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) info: Info,
    pub(crate) l1_entries: u32,
    pub(crate) l1_offset: u64,
    pub(crate) refcount_table_offset: u64,
    pub(crate) refcount_table_clusters: u32,
    pub(crate) refcount_order: u32,
}

impl Header {
    /// Reads and parses the header of `file`.
    pub(crate) fn read(file: &File) -> Result<Self, Error> {
        let length = io::length(file)?;
        // The header, its extensions and the backing name lie in the first cluster; 64 KiB of it hold all anyone writes.
        let mut first = vec![0; usize::try_from(length.min(65536)).unwrap_or(65536)];
        io::read(file, "read the qcow2 header", &mut first, 0)?;
        Self::parse(&first, length)
    }

    /// Parses `first`, the first bytes of a file of `file_size` bytes.
    pub(crate) fn parse(first: &[u8], file_size: u64) -> Result<Self, Error> {
        if first.len() < 8 {
            return Err(Error::TooShort { length: file_size });
        }
        let magic = be32(first, 0);
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let version = be32(first, 4);
        let minimum = match version {
            2 => V2_LENGTH,
            3 => V3_LENGTH,
            _ => return Err(Error::field("version", version, "only 2 and 3 exist")),
        };
        if first.len() < minimum {
            return Err(Error::TooShort { length: file_size });
        }
        let cluster_bits = be32(first, 20);
        if !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&cluster_bits) {
            return Err(Error::field("cluster_bits", cluster_bits, "must be 9 to 21"));
        }
        let (incompatible, compatible, refcount_order, header_length) = if version == 2 {
            (0, 0, 4, V2_LENGTH as u32)
        } else {
            (be64(first, 72), be64(first, 80), be32(first, 96), be32(first, 100))
        };
        if (header_length as usize) < minimum
            || header_length % 8 != 0 && version == 3
            || header_length as usize > first.len()
            || u64::from(header_length) > 1 << cluster_bits
        {
            return Err(Error::field(
                "header_length",
                header_length,
                "outside the file, or no multiple of 8",
            ));
        }
        if refcount_order > 6 {
            return Err(Error::field("refcount_order", refcount_order, "must be 0 to 6"));
        }
        let compression = match first.get(V3_LENGTH).filter(|_| header_length as usize > V3_LENGTH) {
            None | Some(0) => Compression::Deflate,
            Some(1) => Compression::Zstd,
            Some(other) => Compression::Unknown(*other),
        };
        let (compression_bit, is_deflate) =
            (incompatible & INCOMPATIBLE_COMPRESSION != 0, compression == Compression::Deflate);
        if compression_bit == is_deflate {
            return Err(Error::field(
                "compression_type",
                format!("{compression:?}"),
                "contradicts its bit in incompatible_features",
            ));
        }
        let known = INCOMPATIBLE_DIRTY
            | INCOMPATIBLE_CORRUPT
            | INCOMPATIBLE_DATA_FILE
            | INCOMPATIBLE_COMPRESSION
            | INCOMPATIBLE_EXTENDED_L2;
        let mut info = Info {
            version,
            cluster_bits,
            virtual_size: be64(first, 24),
            file_size,
            backing_file: None,
            backing_format: None,
            snapshots: be32(first, 60),
            encrypted: be32(first, 32) != 0,
            external_data: incompatible & INCOMPATIBLE_DATA_FILE != 0,
            extended_l2: incompatible & INCOMPATIBLE_EXTENDED_L2 != 0,
            dirty: incompatible & INCOMPATIBLE_DIRTY != 0,
            corrupt: incompatible & INCOMPATIBLE_CORRUPT != 0,
            lazy_refcounts: compatible & COMPATIBLE_LAZY != 0,
            compression,
            refcount_bits: 1 << refcount_order,
            unknown_features: incompatible & !known,
        };
        let (name, name_start) = backing_name(first, cluster_bits, header_length)?;
        info.backing_file = name;
        info.backing_format = backing_format(first, header_length as usize, name_start)?;
        Ok(Self {
            info,
            l1_entries: be32(first, 36),
            l1_offset: be64(first, 40),
            refcount_table_offset: be64(first, 48),
            refcount_table_clusters: be32(first, 56),
            refcount_order,
        })
    }

    pub(crate) fn cluster_size(&self) -> u64 {
        1 << self.info.cluster_bits
    }

    /// L1 entries a disk of `virtual_size` bytes needs.
    pub(crate) fn l1_needed(&self, virtual_size: u64) -> u64 {
        virtual_size.div_ceil(1 << (2 * self.info.cluster_bits - 3))
    }
}

/// The backing file's name and where the header extensions must end.
fn backing_name(
    first: &[u8],
    cluster_bits: u32,
    header_length: u32,
) -> Result<(Option<String>, usize), Error> {
    let (offset, length) = (be64(first, 8), be32(first, 16));
    let end_of_cluster = first.len().min(1 << cluster_bits);
    if offset == 0 {
        return Ok((None, end_of_cluster));
    }
    if length == 0 || length > MAX_BACKING_NAME {
        return Err(Error::field("backing_file_size", length, "must be 1 to 1023"));
    }
    let wrong = || Error::field("backing_file_offset", offset, "the name lies outside the first cluster");
    let start = usize::try_from(offset).map_err(|_| wrong())?;
    let end = start.checked_add(length as usize).ok_or_else(wrong)?;
    if start < header_length as usize || end > end_of_cluster {
        return Err(wrong());
    }
    let name = first.get(start..end).ok_or_else(wrong)?;
    let name = std::str::from_utf8(name)
        .map_err(|_| Error::field("backing_file", String::from_utf8_lossy(name), "is not UTF-8"))?;
    Ok((Some(name.to_owned()), start))
}

/// Walks the header extensions for the format of the backing file.
fn backing_format(first: &[u8], mut at: usize, end: usize) -> Result<Option<String>, Error> {
    let mut format = None;
    // The area may end without an end marker where the name or the cluster begins.
    while at.checked_add(8).is_some_and(|header_end| header_end <= end) {
        let (kind, length) = (be32(first, at), be32(first, at + 4) as usize);
        if kind == EXTENSION_END {
            break;
        }
        let start = at + 8;
        let data =
            start.checked_add(length).filter(|e| *e <= end).and_then(|e| first.get(start..e)).ok_or_else(
                || {
                    Error::field(
                        "header extension length",
                        length,
                        "it runs past the end of the header's cluster",
                    )
                },
            )?;
        if kind == EXTENSION_BACKING_FORMAT {
            format = Some(String::from_utf8_lossy(data).into_owned());
        }
        at = start + length.next_multiple_of(8);
    }
    Ok(format)
}
