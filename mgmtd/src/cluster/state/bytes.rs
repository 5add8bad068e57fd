//! What the state says of bytes in pools beyond its objects: what is to be removed, which copies were made, what was adopted.
//!
//! ```text
//!  image:  DeleteImage ──▶ discarded in each pool it has bytes in ──(its holder removes them)──▶ Discarded
//!  copy:   CopyImage (before the first byte) ──▶ known ──(its host needs it no more, and removes it)──▶ DropCopies
//!  volume: stays, `Deleting`, until its bytes are gone; needs nothing of this
//! ```
//! Invariant: bytes are removed only because the state says of them, by their id, that they are to go. What it does not know
//! is kept: it may be older than the bytes, or not of the cluster that made them.

use super::{
    ImageRecord, Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_new},
};
use lq_api::{
    Bytes, ImageId, PoolId, VmId, VolumeId,
    image::{Image, ImageFormat, ImageKind, ImageSpec, ImageState, ImageStatus},
    volume::{Volume, VolumeSpec, VolumeState, VolumeStatus, check_size},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Bytes in a pool that are to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Of images that were deleted, copies among them.
    #[serde(default)]
    pub images: BTreeSet<ImageId>,
    /// Variables of the firmware of machines that were deleted.
    #[serde(default)]
    pub vms: BTreeSet<VmId>,
}

impl Discarded {
    fn is_empty(&self) -> bool {
        self.images.is_empty() && self.vms.is_empty()
    }
}

/// Content of a pool that becomes an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are the parts of the objects they are named after")]
pub enum Adopted {
    Volume {
        id: VolumeId,
        format: ImageFormat,
        size: Bytes,
        source: Option<ImageId>,
    },
    Image {
        id: ImageId,
        kind: ImageKind,
        format: ImageFormat,
        size: Bytes,
        virtual_size: Bytes,
        sha256: String,
    },
}

impl State {
    /// Whether bytes of this image are still to be removed somewhere.
    pub(super) fn is_discarded(&self, image: ImageId) -> bool {
        self.discarded.values().any(|d| d.images.contains(&image))
    }

    /// The bytes of an image that leaves the state are to go, wherever they are.
    pub(super) fn discard_image(&mut self, record: &ImageRecord) {
        for pool in record.copies.iter().copied().chain(record.image.spec.pool) {
            if self.pools.contains_key(&pool) {
                self.discarded.entry(pool).or_default().images.insert(record.image.meta.id);
            }
        }
    }

    /// The variables of a machine's firmware are to go from this pool.
    pub(super) fn discard_vars(&mut self, pool: PoolId, vm: VmId) {
        if self.pools.contains_key(&pool) {
            self.discarded.entry(pool).or_default().vms.insert(vm);
        }
    }

    /// Notes that the variables of a machine that is being deleted could not be removed from a pool yet.
    pub(super) fn leave_vars(&mut self, pool: PoolId, vm: VmId) -> Outcome {
        if self.vms.get(&vm).is_some_and(|r| r.deleting) {
            self.discard_vars(pool, vm);
            return Ok(Reply::Done);
        }
        Err(Refusal::Conflict("the machine is not being deleted".into()))
    }

    /// Bytes that were to be removed are gone.
    pub(super) fn bytes_gone(&mut self, pool: PoolId, gone: &Discarded) -> Outcome {
        if let Some(left) = self.discarded.get_mut(&pool) {
            left.images.retain(|id| !gone.images.contains(id));
            left.vms.retain(|id| !gone.vms.contains(id));
            if left.is_empty() {
                self.discarded.remove(&pool);
            }
        }
        Ok(Reply::Done)
    }

    /// A pool is gone, and what was to be done in it.
    pub(super) fn forget_bytes_in(&mut self, pool: PoolId) {
        self.discarded.remove(&pool);
        for record in self.images.values_mut().filter(|r| r.copies.contains(&pool)) {
            Arc::make_mut(record).copies.remove(&pool);
        }
    }

    /// Images come with the host that has them: they are not to go any more, and only copies in pools that are here count.
    pub(super) fn keep_images(&mut self, images: impl IntoIterator<Item = ImageId>) {
        for image in images {
            self.discarded.values_mut().for_each(|d| {
                d.images.remove(&image);
            });
            // Pools that are gone by now.
            let pools = &self.pools;
            if let Some(record) = self.images.get_mut(&image)
                && record.copies.iter().any(|p| !pools.contains_key(p))
            {
                Arc::make_mut(record).copies.retain(|p| pools.contains_key(p));
            }
        }
        self.discarded.retain(|_, d| !d.is_empty());
    }

    /// A copy of an image is about to be made in another pool.
    pub(super) fn copy_image(&mut self, id: ImageId, pool: PoolId) -> Outcome {
        if !self.pools.contains_key(&pool) {
            return Err(Refusal::not_found("pool", pool));
        }
        let record = self.images.get_mut(&id).ok_or_else(|| Refusal::not_found("image", id))?;
        if record.image.spec.pool != Some(pool) && !record.copies.contains(&pool) {
            Arc::make_mut(record).copies.insert(pool);
        }
        Ok(Reply::Done)
    }

    /// Copies that their host did not need any more are gone.
    pub(super) fn drop_copies(&mut self, pool: PoolId, images: &BTreeSet<ImageId>) -> Outcome {
        for id in images {
            if let Some(record) = self.images.get_mut(id).filter(|r| r.copies.contains(&pool)) {
                Arc::make_mut(record).copies.remove(&pool);
            }
        }
        Ok(Reply::Done)
    }

    /// Makes an object of what is in a pool and belongs to none.
    pub(super) fn adopt(
        &mut self,
        ctx: &mut Context<'_>,
        pool: PoolId,
        name: &str,
        labels: &BTreeMap<String, String>,
        adopted: &Adopted,
    ) -> Outcome {
        self.pool_for_new(Some(pool))?;
        match adopted {
            Adopted::Volume { id, format, size, source } => {
                check_new(name, labels, self.volumes.values().map(|v| v.meta.name.as_str()))?;
                if let Some(volume) = self.volumes.get(id) {
                    return Err(belongs_to("volume", &volume.meta.name));
                }
                if let Some(error) = check_size("file", *size) {
                    return Err(Refusal::Validation(vec![error]));
                }
                let usable = |r: &Arc<ImageRecord>| {
                    r.image.spec.kind == ImageKind::Disk && r.image.status.state == ImageState::Ready
                };
                if let Some(image) = source.filter(|image| !self.images.get(image).is_some_and(usable)) {
                    return Err(Refusal::Conflict(format!(
                        "the volume is a clone of the image {image}, which the cluster does not have: adopt that first"
                    )));
                }
                let spec = VolumeSpec {
                    size_bytes: Some(*size),
                    pool: Some(pool),
                    format: *format,
                    source: *source,
                };
                let status = VolumeStatus {
                    state: VolumeState::Ready,
                    reason: None,
                    size_bytes: *size,
                    attached_to: None,
                };
                let volume = Arc::new(Volume { meta: ctx.meta(*id, name, labels.clone()), spec, status });
                self.volumes.insert(*id, volume.clone());
                ctx.changed(Kind::Volume, id.0);
                Ok(Reply::Volume(volume))
            }
            Adopted::Image { id, kind, format, size, virtual_size, sha256 } => {
                check_new(name, labels, self.images.values().map(|r| r.image.meta.name.as_str()))?;
                if let Some(record) = self.images.get(id) {
                    return Err(belongs_to("image", &record.image.meta.name));
                }
                if self.is_discarded(*id) {
                    return Err(Refusal::Conflict("the image was deleted, and is being removed".into()));
                }
                let spec =
                    ImageSpec { kind: *kind, format: *format, pool: Some(pool), sha256: None, boot: None };
                let status = ImageStatus {
                    state: ImageState::Ready,
                    reason: None,
                    size_bytes: *size,
                    virtual_size_bytes: *virtual_size,
                    sha256: Some(sha256.clone()),
                };
                let image = Image { meta: ctx.meta(*id, name, labels.clone()), spec, status };
                let reply = Reply::Image(Arc::new(image.clone()));
                self.images.insert(*id, Arc::new(ImageRecord::new(image)));
                ctx.changed(Kind::Image, id.0);
                Ok(reply)
            }
        }
    }
}

fn belongs_to(kind: &str, name: &str) -> Refusal {
    Refusal::Conflict(format!(
        "the cluster has the {kind} `{name}` of the same id: the file cannot be another"
    ))
}
