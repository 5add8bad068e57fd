//! Disks and interfaces out of configuration and opened files: the same at the start and while the machine runs.

use crate::{
    disk::{self, movable::Movable},
    virtio::{
        VirtioDevice,
        blk::{Block, Holds},
        net::Net,
    },
};
use lq_api::local::vmm::{DeviceName, DiskConfig, NicConfig};
use std::{fs::File, io, os::unix::fs::FileTypeExt, sync::Arc};

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A descriptor is not that of an image.
    #[error("the descriptor for disk image {path} is of neither a regular file nor a block device")]
    NoImage {
        /// The image.
        path: String,
    },
    /// The image.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The tap.
    #[error("the descriptor for tap {tap} cannot be used")]
    Tap {
        /// Its name.
        tap: String,
        /// Why.
        source: io::Error,
    },
}

/// A device to be plugged in, with what it stands on.
#[derive(Debug)]
pub enum New {
    /// A disk, and the files of its chain, the top first.
    Disk(DiskConfig, Vec<File>),
    /// An interface, and the queues of its tap.
    Nic(NicConfig, Vec<File>),
}

impl New {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> DeviceName {
        match self {
            Self::Disk(disk, _) => DeviceName::Disk(disk.serial.clone()),
            Self::Nic(nic, _) => DeviceName::Nic(nic.mac),
        }
    }

    /// The slot it is to have.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        match self {
            Self::Disk(disk, _) => disk.slot.map(usize::from),
            Self::Nic(nic, _) => nic.slot.map(usize::from),
        }
    }

    /// Makes the device; a disk is locked from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn device(self, holds: &Holds) -> Result<Box<dyn VirtioDevice>, Error> {
        match self {
            Self::Disk(config, files) => {
                for (image, file) in config.image.chain().zip(&files) {
                    let usable =
                        file.metadata().is_ok_and(|m| m.is_file() || m.file_type().is_block_device());
                    if !usable {
                        return Err(Error::NoImage { path: image.path.clone() });
                    }
                }
                let opened =
                    Movable::new(&config.image, files, config.read_only, true, Arc::clone(&holds.lease))?;
                Ok(Box::new(disk(opened, &config, holds)))
            }
            Self::Nic(config, taps) => {
                let made = Net::adopt(&taps).and_then(|()| nic(taps, &config));
                Ok(Box::new(made.map_err(|source| Error::Tap { tap: config.tap, source })?))
            }
        }
    }
}

/// The device of an opened disk.
pub fn disk(opened: Movable, config: &DiskConfig, holds: &Holds) -> Block {
    let DiskConfig { read_only, queues, limits, .. } = *config;
    Block::limited(Box::new(opened), &config.serial, read_only, queues, limits, holds.clone())
}

/// The device on the opened queues of a tap.
///
/// # Errors
/// The tap does not take virtio-net headers.
pub fn nic(taps: Vec<File>, config: &NicConfig) -> io::Result<Net> {
    Net::limited(taps, config.mac, config.limits, !config.link_down)
}
