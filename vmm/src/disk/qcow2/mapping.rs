//! From guest offsets to what is behind them: L1, L2, and runs of clusters of one kind.

use super::{COMPRESSED, COPIED, OFFSET, Qcow2, ZERO, cache};
use std::io;

/// What is behind a guest cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Nothing here: the backing image, or zeros.
    Unmapped,
    /// Zeros. `kept` is a cluster set aside for it.
    Zero { kept: Option<u64> },
    /// A cluster of the file. `own`: it may be written in place.
    Data { host: u64, own: bool },
    /// `length` bytes from `host` unpack to it.
    Compressed { host: u64, length: u64 },
}

impl Qcow2 {
    fn decode(&self, entry: u64) -> Mapping {
        if entry & COMPRESSED != 0 {
            let x = 62 - (self.info.cluster_bits - 8);
            let host = entry & ((1 << x) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> x;
            return Mapping::Compressed { host, length: (sectors + 1) * 512 - (host & 511) };
        }
        let host = entry & OFFSET;
        if self.info.version >= 3 && entry & ZERO != 0 {
            return Mapping::Zero { kept: (host != 0).then_some(host) };
        }
        if host == 0 { Mapping::Unmapped } else { Mapping::Data { host, own: entry & COPIED != 0 } }
    }

    /// L1 index, offset of the slice inside the L2 table, index in the slice.
    fn position(&self, cluster: u64) -> (usize, u64, usize) {
        let l2_bits = self.info.cluster_bits - 3;
        let index = (cluster & ((1 << l2_bits) - 1)) as usize;
        let per_slice = self.l2.slice() / 8;
        ((cluster >> l2_bits) as usize, (index / per_slice * self.l2.slice()) as u64, index % per_slice)
    }

    /// The L2 entry of a guest cluster; 0 where there is no table.
    fn l2_entry(&mut self, cluster: u64) -> io::Result<u64> {
        let (l1, slice, index) = self.position(cluster);
        match self.l1.get(l1).copied().unwrap_or(0) & OFFSET {
            0 => Ok(0),
            table => Ok(cache::entry(self.l2.get(&self.file, self.aligned(table)? + slice)?, index)),
        }
    }

    /// Sets the L2 entry of a guest cluster, in memory. Makes the table if there is none.
    pub(super) fn set_l2_entry(&mut self, cluster: u64, entry: u64) -> io::Result<()> {
        let (l1, slice, index) = self.position(cluster);
        let table = match self.l1.get(l1).copied().unwrap_or(0) & OFFSET {
            0 => self.new_l2_table(l1)?,
            table => self.aligned(table)?,
        };
        cache::set_entry(self.l2.get_mut(&self.file, table + slice)?, index, entry);
        Ok(())
    }

    fn new_l2_table(&mut self, l1: usize) -> io::Result<u64> {
        let (first, _) = self.refcounts.allocate(&self.file, 1)?;
        let table = first << self.info.cluster_bits;
        if let Err(error) = self.file.write_zero_bytes(table, self.cluster_size()) {
            self.refcounts.give_back(&self.file, first, 1);
            return Err(error);
        }
        let Some(entry) = self.l1.get_mut(l1) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "outside of the L1 table"));
        };
        *entry = table | COPIED;
        self.l1_dirty.insert(l1);
        Ok(table)
    }

    /// An offset from a table, if it is one of a cluster.
    fn aligned(&self, offset: u64) -> io::Result<u64> {
        if offset.is_multiple_of(self.cluster_size()) {
            return Ok(offset);
        }
        let why = format!("the image is corrupt: a table points to {offset:#x}, which is no cluster");
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// What is behind one guest cluster.
    pub(super) fn mapping(&mut self, cluster: u64) -> io::Result<Mapping> {
        let entry = self.l2_entry(cluster)?;
        let mapping = self.decode(entry);
        if let Mapping::Data { host, .. } | Mapping::Zero { kept: Some(host) } = mapping {
            self.aligned(host)?;
        }
        Ok(mapping)
    }

    /// What is behind `offset`, and for how many of the next `limit` bytes it goes on (in one piece of the file).
    pub(super) fn run(&mut self, offset: u64, limit: u64) -> io::Result<(Mapping, u64)> {
        let (mut cluster, inside) = self.cluster_of(offset);
        let first = self.mapping(cluster)?;
        let mut length = self.cluster_size() - inside;
        let mut expected = first;
        while length < limit && !matches!(first, Mapping::Compressed { .. }) {
            cluster += 1;
            if let Mapping::Data { host, own } = expected {
                expected = Mapping::Data { host: host + self.cluster_size(), own };
            }
            let next = self.mapping(cluster)?;
            let same = match (first, next) {
                (Mapping::Zero { .. }, Mapping::Zero { .. }) => true,
                _ => next == expected,
            };
            if !same {
                break;
            }
            length += self.cluster_size();
        }
        Ok((first, length.min(limit)))
    }
}
