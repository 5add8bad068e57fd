//! Storage of this host.
//!
//! Owns: the bytes of images and volumes. One driver per kind of pool behind [`Pool`]; drivers know ids, sizes and formats,
//! nothing of the cluster or of HTTP. Everything is idempotent: a call repeated after a crash does no harm, and what is half
//! made is never visible under its final name.

mod content;
pub mod dir;
pub mod foreign;
pub mod patient;
pub mod room;
pub mod shared;
pub mod tpm;
mod upload;
pub mod vars;

use async_trait::async_trait;
use bytes::Bytes as Chunk;
use foreign::{Content, Examine, Examined};
use lq_api::{
    Bytes, HostId, ImageId, VmId, VolumeId,
    image::{ImageFormat, ImageKind},
    local::vmm::DiskImage,
    pool::{ForeignFile, PoolStatus},
};
use std::collections::BTreeSet;

/// A pool on this host.
#[async_trait]
pub trait Pool: Send + Sync {
    /// Room in it.
    async fn status(&self) -> Result<PoolStatus, Error>;

    /// Begins to receive an image. Until [`ImageWriter::finish`] succeeds nothing is visible; dropping the writer removes all.
    async fn receive_image(&self, declared: Declared) -> Result<Box<dyn ImageWriter>, Error>;
    /// Path of a received image, for booting from it.
    fn image_path(&self, image: ImageId) -> String;
    /// Whether an image is there, whole.
    async fn has_image(&self, image: ImageId) -> Result<bool, Error>;
    /// Bytes of a received image, at most `length`; none at its end.
    async fn read_image(&self, image: ImageId, offset: u64, length: usize) -> Result<Chunk, Error>;
    /// Removes an image. Removing what is not there is done.
    async fn delete_image(&self, image: ImageId) -> Result<(), Error>;

    /// Makes a volume, empty or as a clone by reference. Made already with the same parameters: done.
    async fn create_volume(&self, volume: NewVolume) -> Result<(), Error>;
    /// Makes a volume larger. Large enough already: done. Only while nothing has it open.
    async fn grow_volume(&self, volume: VolumeId, format: ImageFormat, size: Bytes) -> Result<(), Error>;
    /// Removes a volume. Removing what is not there is done.
    async fn delete_volume(&self, volume: VolumeId) -> Result<(), Error>;
    /// The files a monitor must open for a volume.
    fn disk_image(
        &self,
        volume: VolumeId,
        format: ImageFormat,
        source: Option<(ImageId, ImageFormat)>,
    ) -> DiskImage;

    /// Path of the variables of a machine's firmware; [`vars::provide`] makes the file.
    fn vars_path(&self, vm: VmId) -> String;
    /// Path of the directory of what a machine's TPM keeps; [`tpm::provide`] makes it.
    fn tpm_path(&self, vm: VmId) -> String;
    /// Removes the variables of a machine's firmware, and what its TPM keeps. Removing what is not there is done.
    async fn delete_vars(&self, vm: VmId) -> Result<(), Error>;

    /// What is there under final names, ours by name. What was found had its object before it was made; so what has none in a
    /// state that is younger than the finding is no host's work of the moment.
    async fn find(&self) -> Result<Found, Error>;
    /// Removes what is known to be of no use: what was deleted, and what hosts that are gone left half made. Never what is merely
    /// unknown.
    async fn remove(&self, garbage: Found) -> Result<(), Error>;

    /// Tells what was found in detail. What is gone meanwhile is left out.
    async fn describe(&self, found: Found) -> Result<Vec<ForeignFile>, Error>;
    /// Reads a file that is to become an object, all of it where it is an image.
    async fn examine(&self, what: Examine) -> Result<Examined, Error>;
    /// Removes one file that belongs to nothing; refused while something has it open.
    async fn remove_foreign(&self, file: Content) -> Result<(), Error>;
}

/// What is in a pool, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they are of")]
pub struct Found {
    pub images: BTreeSet<ImageId>,
    pub volumes: BTreeSet<VolumeId>,
    /// With variables of their firmware, or with what their TPM keeps.
    pub vms: BTreeSet<VmId>,
    /// With half made files, in a shared pool.
    pub hosts: BTreeSet<HostId>,
}

impl Found {
    /// Leaves only what is not among these.
    #[must_use]
    pub fn without(mut self, owned: &Self) -> Self {
        self.images.retain(|id| !owned.images.contains(id));
        self.volumes.retain(|id| !owned.volumes.contains(id));
        self.vms.retain(|id| !owned.vms.contains(id));
        self.hosts.retain(|id| !owned.hosts.contains(id));
        self
    }
}

/// What an upload was declared to be.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The image.
    pub image: ImageId,
    /// What it is for.
    pub kind: ImageKind,
    /// Its format.
    pub format: ImageFormat,
    /// Its length, where the client told: room is checked before the first byte.
    pub length: Option<Bytes>,
    /// The checksum it must have, lower-case hexadecimal.
    pub sha256: Option<String>,
}

/// Receives an image's bytes.
#[async_trait]
pub trait ImageWriter: Send {
    /// Appends.
    async fn write(&mut self, chunk: Chunk) -> Result<(), Error>;
    /// Checks length, checksum and format, makes it durable, then visible.
    async fn finish(self: Box<Self>) -> Result<ImageFacts, Error>;
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Bytes stored.
    pub size: Bytes,
    /// Size a disk cloned from it has at least; for a kernel or initrd, `size`.
    pub virtual_size: Bytes,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Its format.
    pub format: ImageFormat,
    /// Its size; at least the source's.
    pub size: Bytes,
    /// The image it is a clone of.
    pub source: Option<(ImageId, ImageFormat)>,
}

/// Why storage refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not enough room.
    #[error("no space left in the pool: {needed} needed, {free} free")]
    NoSpace {
        /// Bytes needed.
        needed: Bytes,
        /// Bytes free.
        free: Bytes,
    },
    /// The content is not what was declared, or is malicious.
    #[error("{0}")]
    BadContent(String),
    /// The object is not there.
    #[error("{0} is not in the pool")]
    Missing(String),
    /// Something has it open.
    #[error("{0} is in use")]
    Busy(String),
    /// A server did not answer; what was asked of it may still be done.
    #[error("the pool's server has not answered for {seconds} seconds")]
    Silent {
        /// So long was waited.
        seconds: u64,
    },
    /// A shared pool is not as it must be, and this is what to do about it.
    #[error("{0}")]
    Unfit(String),
    /// The file system failed us.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether it may go away by itself.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Busy(_))
    }
}
