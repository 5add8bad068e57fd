//! Compressed clusters: read only, raw deflate. The one read last is kept, as guests read a cluster in parts.

use super::super::file::ImageFile;
use miniz_oxide::inflate::core::{
    DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use std::io;

pub(super) struct Compressed {
    cluster_size: usize,
    /// Where the cluster in `data` came from.
    held: Option<u64>,
    data: Vec<u8>,
    packed: Vec<u8>,
}

impl Compressed {
    pub(super) fn new(cluster_size: usize) -> Self {
        Self { cluster_size, held: None, data: Vec::new(), packed: Vec::new() }
    }

    /// The content of the cluster packed into the `length` bytes at `host`.
    pub(super) fn read(&mut self, file: &ImageFile, host: u64, length: u64) -> io::Result<&[u8]> {
        if self.held != Some(host) {
            self.held = None;
            // At most a cluster and some sectors, by the width of the field.
            self.packed.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            let got = file.read_up_to(&mut self.packed, host)?;
            self.data.resize(self.cluster_size, 0);
            let packed = self.packed.get(..got).unwrap_or_default();
            let mut state = Box::<DecompressorOxide>::default();
            let (_, _, made) =
                decompress(&mut state, packed, &mut self.data, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
            if made != self.cluster_size {
                let why = format!(
                    "the compressed cluster at {host:#x} gives {made} of {} bytes",
                    self.cluster_size
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            self.held = Some(host);
        }
        Ok(&self.data)
    }

    /// Forgets the cluster kept; called when its place in the file may be reused.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }
}
