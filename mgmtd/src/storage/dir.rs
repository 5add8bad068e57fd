//! A pool in a directory.

use super::{Declared, Error, ImageWriter, NewVolume, Pool};
use async_trait::async_trait;
use lq_api::{Bytes, ImageId, VolumeId, image::ImageFormat, local::vmm::DiskImage, pool::PoolStatus};
use std::path::PathBuf;

/// A pool in a directory.
pub struct DirPool {}

impl DirPool {
    /// Opens (and lays out) the pool in this directory.
    pub fn open(_path: PathBuf) -> Result<Self, Error> {
        todo!()
    }
}

#[async_trait]
impl Pool for DirPool {
    async fn status(&self) -> Result<PoolStatus, Error> {
        todo!()
    }
    async fn receive_image(&self, _declared: Declared) -> Result<Box<dyn ImageWriter>, Error> {
        todo!()
    }
    fn image_path(&self, _image: ImageId) -> String {
        todo!()
    }
    async fn delete_image(&self, _image: ImageId) -> Result<(), Error> {
        todo!()
    }
    async fn create_volume(&self, _volume: NewVolume) -> Result<(), Error> {
        todo!()
    }
    async fn grow_volume(&self, _volume: VolumeId, _format: ImageFormat, _size: Bytes) -> Result<(), Error> {
        todo!()
    }
    async fn delete_volume(&self, _volume: VolumeId) -> Result<(), Error> {
        todo!()
    }
    fn disk_image(&self, _: VolumeId, _: ImageFormat, _: Option<(ImageId, ImageFormat)>) -> DiskImage {
        todo!()
    }
    async fn collect_garbage(&self, _images: &[ImageId], _volumes: &[VolumeId]) -> Result<(), Error> {
        todo!()
    }
}
