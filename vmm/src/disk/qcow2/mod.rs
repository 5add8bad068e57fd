//! qcow2 images: the one owner of an image's metadata while it is open.
//!
//! ```text
//!  guest range ─▶ L1 (memory) ─▶ L2 slices (cache) ─▶ data in the file │ backing image │ zeros │ compressed
//!                                      │ dirty
//!  write_back:  refcounts ─▶ fdatasync ─▶ L2 ─▶ fdatasync ─▶ L1 ─▶ fdatasync ─▶ free what L2 let go of
//!               (and data)               (only if L1 changed)      (only if something was let go)
//! ```
//! Invariants
//! - A cluster has its refcount on disk before an L2 entry on disk names it, an L2 table its content before an L1 entry names
//!   it, and a cluster is reused or punched only after no entry on disk names it. So a crash at any point leaks clusters at
//!   worst; nothing needs a repair.
//! - Data is written before metadata that makes it visible. A flush returns after both are durable.
//! - Memory is bounded: metadata in 4 KiB slices, two small caches; L1 and refcount table whole.
//! - Only images `lq_qcow2` accepts are opened: no internal snapshots, so a data cluster belongs to one entry.

mod cache;
mod compressed;
mod mapping;
mod refcounts;
mod write;

use self::{cache::Cache, compressed::Compressed, mapping::Mapping, refcounts::Refcounts};
use super::{
    Disk,
    file::{self, ImageFile},
};
use crate::memory::Slice;
use lq_qcow2::{Info, Layout};
use std::{collections::BTreeSet, io};

/// Bits of an entry that hold the offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Entry bit: the cluster belongs to this entry alone and may be written in place.
const COPIED: u64 = 1 << 63;
/// Entry bit: compressed.
const COMPRESSED: u64 = 1 << 62;
/// Entry bit: reads as zeros, whatever the cluster holds.
const ZERO: u64 = 1;

/// An open image.
pub(super) struct Qcow2 {
    file: ImageFile,
    info: Info,
    read_only: bool,
    backing: Option<Box<dyn Disk>>,
    l1: Vec<u64>,
    l1_offset: u64,
    l1_dirty: BTreeSet<usize>,
    l2: Cache,
    refcounts: Refcounts,
    compressed: Compressed,
    /// Buffers for the parts of a cluster around what is written.
    around: [Vec<u8>; 2],
}

impl Qcow2 {
    /// Opens the image in `file`, which `lq_qcow2` has accepted (and readied, unless `read_only`), on top of `backing`.
    pub(super) fn new(
        file: ImageFile,
        info: Info,
        layout: &Layout,
        backing: Option<Box<dyn Disk>>,
        read_only: bool,
    ) -> io::Result<Self> {
        let mut bytes = vec![0; layout.l1_entries as usize * 8];
        file.read_exact_at(&mut bytes, layout.l1_offset)?;
        let l1 = cache::entries(&bytes).collect();
        let refcounts = Refcounts::new(&file, &info, layout)?;
        let cluster_size = 1_usize << info.cluster_bits;
        Ok(Self {
            l2: Cache::new(cluster_size, cache::L2_SLICES),
            refcounts,
            compressed: Compressed::new(cluster_size),
            around: [Vec::new(), Vec::new()],
            l1,
            l1_offset: layout.l1_offset,
            l1_dirty: BTreeSet::new(),
            file,
            info,
            read_only,
            backing,
        })
    }

    fn cluster_size(&self) -> u64 {
        1 << self.info.cluster_bits
    }

    /// Clusters of the disk that can be mapped (the last one may be cut).
    fn cluster_of(&self, offset: u64) -> (u64, u64) {
        (offset >> self.info.cluster_bits, offset & (self.cluster_size() - 1))
    }

    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        file::check_range(offset, length, self.info.virtual_size)
    }

    /// Reads what lies under this image: the backing image as far as it reaches, zeros beyond.
    fn read_backing(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let Some(backing) = &mut self.backing else {
            buffers.iter().for_each(file::zero);
            return Ok(());
        };
        let within = usize::try_from(backing.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let below = file::slice(buffers, 0, within);
        if !below.is_empty() {
            backing.read(&below, offset)?;
        }
        file::skip(buffers, within).iter().for_each(file::zero);
        Ok(())
    }

    /// Reads a range inside one kind of mapping.
    fn read_mapped(&mut self, mapping: Mapping, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let (_, inside) = self.cluster_of(offset);
        match mapping {
            Mapping::Data { host, .. } => self.file.read(buffers, host + inside),
            Mapping::Zero { .. } => {
                buffers.iter().for_each(file::zero);
                Ok(())
            }
            Mapping::Unmapped => self.read_backing(buffers, offset),
            Mapping::Compressed { host, length } => {
                let data = self.compressed.read(&self.file, host, length)?;
                let mut rest = data.get(inside as usize..).unwrap_or_default();
                for buffer in buffers {
                    let (now, later) = rest.split_at(buffer.len().min(rest.len()));
                    buffer.copy_from(now);
                    rest = later;
                }
                Ok(())
            }
        }
    }
}

impl Disk for Qcow2 {
    fn size(&self) -> u64 {
        self.info.virtual_size
    }

    fn granularity(&self) -> u32 {
        1 << self.info.cluster_bits
    }

    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let total = file::total(buffers);
        self.check(offset, total)?;
        let mut done = 0;
        while done < total {
            let (mapping, length) = self.run(offset + done, total - done)?;
            // At most what one request holds.
            let part = file::slice(buffers, done as usize, length as usize);
            self.read_mapped(mapping, &part, offset + done)?;
            done += length;
        }
        Ok(())
    }

    fn write(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let total = file::total(buffers);
        self.check(offset, total)?;
        self.must_be_writable()?;
        let mut done = 0;
        while done < total {
            let rest = file::slice(buffers, done as usize, (total - done) as usize);
            done += self.write_some(&rest, offset + done)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.write_back()?;
        self.file.sync()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.check(offset, length)?;
        self.must_be_writable()?;
        self.unmap_clusters(offset, length).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.check(offset, length)?;
        self.must_be_writable()?;
        self.zero_range(offset, length, unmap)
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        if !self.read_only
            && let Err(error) = self.write_back().and_then(|()| self.refcounts.write(&self.file))
        {
            eprintln!("lq-vmm: closing a qcow2 image: {error}");
        }
    }
}
