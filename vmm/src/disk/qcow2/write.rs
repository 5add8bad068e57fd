//! Changing an image: writing, unmapping, zeroing, and bringing metadata to disk in order.

use super::{COPIED, Mapping, Qcow2, ZERO, file};
use crate::memory::{self, Slice};
use std::io;

/// Clusters allocated for one piece of a write at most.
const MAX_NEW: u64 = 256;
/// Zeros written where nothing better is possible, at a time.
const ZEROS: usize = 65536;

impl Qcow2 {
    pub(super) fn must_be_writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Brings metadata to disk in order; see the module's diagram. After an error it can be called again.
    pub(super) fn write_back(&mut self) -> io::Result<()> {
        let mapping_changed = self.l2.is_dirty() || !self.l1_dirty.is_empty();
        if self.refcounts.is_dirty() {
            self.refcounts.write(&self.file)?;
        }
        if mapping_changed {
            self.file.sync()?;
            self.l2.write(&self.file)?;
        }
        if !self.l1_dirty.is_empty() {
            self.file.sync()?;
            while let Some(index) = self.l1_dirty.first().copied() {
                let entry = self.l1.get(index).copied().unwrap_or(0);
                self.file.write_all_at(&entry.to_be_bytes(), self.l1_offset + index as u64 * 8)?;
                self.l1_dirty.remove(&index);
            }
        }
        if self.refcounts.has_let_go() {
            self.file.sync()?;
            self.compressed.forget();
            self.refcounts.release(&self.file)?;
        }
        Ok(())
    }

    /// Makes sure that the next operation finds room in the caches.
    fn make_room(&mut self) -> io::Result<()> {
        if self.l2.is_full() || self.refcounts.must_release() { self.write_back() } else { Ok(()) }
    }

    /// Writes the beginning of `buffers` at `offset`: as far as it can be done in one piece. Returns how many bytes.
    pub(super) fn write_some(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<u64> {
        let total = file::total(buffers);
        let (mapping, length) = self.run(offset, total)?;
        if let Mapping::Data { host, own: true } = mapping {
            let (_, inside) = self.cluster_of(offset);
            self.file.write(&file::slice(buffers, 0, length as usize), host + inside)?;
            return Ok(length);
        }
        self.make_room()?;
        self.write_new(buffers, offset, length)
    }

    /// Writes into clusters that have no place of their own yet. `length` bytes are of one kind of mapping.
    fn write_new(&mut self, buffers: &[Slice<'_>], offset: u64, length: u64) -> io::Result<u64> {
        let size = self.cluster_size();
        let (first, inside) = self.cluster_of(offset);
        let slice_clusters = self.l2.slice() as u64 / 8;
        // Not past this L2 slice, so that one operation dirties one slice.
        let most = (inside + length).div_ceil(size).min(MAX_NEW).min(slice_clusters - first % slice_clusters);
        let (host_first, count) = self.refcounts.allocate(&self.file, most)?;
        let length = length.min(count * size - inside);
        let host = host_first << self.info.cluster_bits;

        let result = self.fill(buffers, offset, length, host, self.refcounts.is_virgin(host_first));
        self.refcounts.written(host_first + count);
        let result = result.and_then(|()| self.remap(first, count, |n| (host + n * size) | COPIED));
        match result {
            Ok(()) => Ok(length),
            Err((error, done)) => {
                self.refcounts.give_back(&self.file, host_first + done, count - done);
                Err(error)
            }
        }
    }

    /// Writes `length` bytes of `buffers` and what surrounds them in their clusters to `host`.
    fn fill(
        &mut self,
        buffers: &[Slice<'_>],
        offset: u64,
        length: u64,
        host: u64,
        virgin: bool,
    ) -> Result<(), (io::Error, u64)> {
        let size = self.cluster_size();
        let (_, inside) = self.cluster_of(offset);
        let end = offset + length;
        let after = (size - end % size) % size;
        let [mut head, mut tail] = std::mem::take(&mut self.around);
        let result = (|| {
            let before = self.surroundings(&mut head, offset - inside, inside, virgin)?;
            let behind = self.surroundings(&mut tail, end, after, virgin)?;
            let mut all = Vec::with_capacity(buffers.len() + 2);
            all.extend(before.then(|| memory::buffer(&mut head)));
            all.extend(file::slice(buffers, 0, length as usize));
            all.extend(behind.then(|| memory::buffer(&mut tail)));
            self.file.write(&all, if before { host } else { host + inside })
        })();
        self.around = [head, tail];
        result.map_err(|error| (error, 0))
    }

    /// Reads the `length` bytes at `offset` into `buffer`. `false`: they need not be written, as they are zero anyway.
    fn surroundings(
        &mut self,
        buffer: &mut Vec<u8>,
        offset: u64,
        length: u64,
        virgin: bool,
    ) -> io::Result<bool> {
        if length == 0 {
            return Ok(false);
        }
        let (cluster, _) = self.cluster_of(offset);
        let mapping = self.mapping(cluster)?;
        let zero = match mapping {
            Mapping::Zero { .. } => true,
            Mapping::Unmapped => self.backing.as_ref().is_none_or(|backing| backing.size() <= offset),
            Mapping::Data { .. } | Mapping::Compressed { .. } => false,
        };
        if zero && virgin {
            return Ok(false);
        }
        buffer.clear();
        buffer.resize(length as usize, 0);
        if !zero {
            self.read_mapped(mapping, &[memory::buffer(buffer)], offset)?;
        }
        Ok(true)
    }

    /// Sets the entries of `count` clusters from `first` and lets go of what they named. On error: how many were set.
    fn remap(&mut self, first: u64, count: u64, entry: impl Fn(u64) -> u64) -> Result<(), (io::Error, u64)> {
        for n in 0..count {
            let failed = |error| (error, n);
            let old = self.mapping(first + n).map_err(failed)?;
            self.set_l2_entry(first + n, entry(n)).map_err(failed)?;
            self.let_go(old);
        }
        Ok(())
    }

    fn let_go(&mut self, old: Mapping) {
        match old {
            Mapping::Unmapped | Mapping::Zero { kept: None } => {}
            Mapping::Zero { kept: Some(host) } | Mapping::Data { host, .. } => {
                self.refcounts.let_go(host >> self.info.cluster_bits);
            }
            Mapping::Compressed { host, length } => {
                let bits = self.info.cluster_bits;
                for cluster in host >> bits..=(host + length - 1) >> bits {
                    self.refcounts.let_go(cluster);
                }
            }
        }
    }

    /// Unmaps the whole clusters in a range so that they read as zeros; returns the range done. Version 2 images on a
    /// backing image cannot say "zeros here": nothing is done.
    pub(super) fn unmap_clusters(&mut self, offset: u64, length: u64) -> io::Result<(u64, u64)> {
        let size = self.cluster_size();
        let (start, mut end) = (offset.next_multiple_of(size), (offset + length) / size * size);
        if offset + length == self.info.virtual_size {
            end = self.info.virtual_size.next_multiple_of(size);
        }
        if start >= end || (self.info.version < 3 && self.backing.is_some()) {
            return Ok((offset, 0));
        }
        let entry = if self.info.version >= 3 && self.backing.is_some() { ZERO } else { 0 };
        for cluster in start / size..end / size {
            let old = self.mapping(cluster)?;
            let done = match old {
                Mapping::Unmapped => entry == 0,
                Mapping::Zero { kept } => kept.is_none(),
                Mapping::Data { .. } | Mapping::Compressed { .. } => false,
            };
            if !done {
                self.make_room()?;
                self.remap(cluster, 1, |_| entry).map_err(|(error, _)| error)?;
            }
        }
        Ok((start, end.min(offset + length) - start))
    }

    /// Makes a range read as zeros. Without `unmap`, clusters that have their place keep it.
    pub(super) fn zero_range(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let (mapping, run) = self.run(at, end - at)?;
            let keep = !unmap && matches!(mapping, Mapping::Data { own: true, .. });
            let (start, done) = if keep { (at, 0) } else { self.unmap_clusters(at, run)? };
            self.write_zero_data(at, start - at)?;
            self.write_zero_data(start + done, at + run - start - done)?;
            at += run;
        }
        Ok(())
    }

    /// Writes zeros as data, except where there are zeros already.
    fn write_zero_data(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let mut zeros = Vec::new();
        let mut done = 0;
        while done < length {
            let (mapping, run) = self.run(offset + done, length - done)?;
            let zero = match mapping {
                Mapping::Zero { .. } => true,
                Mapping::Unmapped => self.backing.is_none(),
                Mapping::Data { .. } | Mapping::Compressed { .. } => false,
            };
            if zero {
                done += run;
                continue;
            }
            zeros.resize(ZEROS, 0);
            let now = run.min(ZEROS as u64);
            let part = zeros.get_mut(..now as usize).unwrap_or_default();
            done += self.write_some(&[memory::buffer(part)], offset + done)?;
        }
        Ok(())
    }
}
