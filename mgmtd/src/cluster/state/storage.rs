//! Images and volumes.
//!
//! ```text
//!  image:  Pending ──BeginUpload──▶ Uploading ──FinishUpload──▶ Ready ──DeleteImage──▶ (gone; its bytes: `bytes`)
//!             ▲                        │
//!             └──────FailUpload────────┘
//!  volume: Creating ──VolumeReady──▶ Ready ⟲ GrowVolume, VolumeReady | VolumeFailed
//!             └──VolumeFailed──▶ Failed          any of them ──DeleteVolume──▶ Deleting ──ForgetVolume──▶ (gone)
//! ```
//! A volume is being grown while `spec.size_bytes` differs from `status.size_bytes`.

use super::{
    ImageRecord, Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected, check_new, patched},
};
use lq_api::{
    Bytes, HostId, ImageId, VolumeId,
    image::{CreateImage, Image, ImageKind, ImageState, ImageStatus},
    meta::MetadataPatch,
    volume::{CreateVolume, Volume, VolumeState, VolumeStatus, check_size},
};
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

impl State {
    pub(super) fn create_image(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        create: &CreateImage,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.images.values().map(|r| r.image.meta.name.as_str()))?;
        let mut errors = create.validate();
        if let Some(boot) = &create.spec.boot {
            self.check_boot("spec.boot", boot, &mut errors);
        }
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.images.contains_key(&id) || self.is_discarded(id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let mut spec = create.spec.clone();
        spec.pool = Some(self.pool_for_new(spec.pool)?);
        spec.sha256 = spec.sha256.map(|sum| sum.to_ascii_lowercase());
        let status = ImageStatus {
            state: ImageState::Pending,
            reason: None,
            size_bytes: Bytes(0),
            virtual_size_bytes: Bytes(0),
            sha256: None,
        };
        let image = Image { meta: ctx.meta(id, &create.name, create.labels.clone()), spec, status };
        Ok(self.put_image(ctx, ImageRecord::new(image)))
    }

    pub(super) fn update_image(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        expect: Option<u64>,
        patch: &MetadataPatch,
    ) -> Outcome {
        let old = self.image(id)?;
        check_expected(&old.image.meta, expect)?;
        let mut new = (*old).clone();
        let names = self.images.values().map(|r| r.image.meta.name.as_str());
        new.image.meta = patched(&old.image.meta, patch, names)?;
        if new == *old {
            return Ok(Reply::Image(Arc::new(new.image)));
        }
        Ok(self.put_image(ctx, new))
    }

    pub(super) fn begin_upload(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        upload: Uuid,
        receiver: Option<HostId>,
    ) -> Outcome {
        let mut new = (*self.image(id)?).clone();
        match new.image.status.state {
            ImageState::Ready => {
                return Err(Refusal::Conflict(
                    "the image has its content already: make another image for other content".into(),
                ));
            }
            ImageState::Uploading => {
                return Err(Refusal::Conflict("its content is being uploaded by someone else".into()));
            }
            ImageState::Pending => {}
        }
        new.upload = Some(upload);
        new.receiver = receiver.filter(|host| self.hosts.contains_key(host));
        new.image.status.state = ImageState::Uploading;
        new.image.status.reason = None;
        Ok(self.put_image(ctx, new))
    }

    /// The uploads `host` would have to receive, but for those it is at work on.
    #[must_use]
    pub fn broken_uploads(&self, host: HostId, under_way: &HashSet<Uuid>) -> Vec<(ImageId, Uuid)> {
        // Of a release that did not say who receives, only the one host of the pool can have received into it.
        let receives = |r: &ImageRecord| match r.receiver {
            Some(receiver) => receiver == host,
            None => self.only_on(r.image.spec.pool, host),
        };
        let all = self.images.values().filter(|r| receives(r));
        let uploads = all.filter_map(|r| Some((r.image.meta.id, r.upload?)));
        uploads.filter(|(_, upload)| !under_way.contains(upload)).collect()
    }

    pub(super) fn finish_upload(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        upload: Uuid,
        size: Bytes,
        virtual_size: Bytes,
        sha256: &str,
    ) -> Outcome {
        let mut new = self.uploading(id, upload)?;
        (new.upload, new.receiver) = (None, None);
        new.image.status = ImageStatus {
            state: ImageState::Ready,
            reason: None,
            size_bytes: size,
            virtual_size_bytes: virtual_size,
            sha256: Some(sha256.to_owned()),
        };
        Ok(self.put_image(ctx, new))
    }

    pub(super) fn fail_upload(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        upload: Uuid,
        reason: &str,
    ) -> Outcome {
        let mut new = self.uploading(id, upload)?;
        (new.upload, new.receiver) = (None, None);
        new.image.status.state = ImageState::Pending;
        new.image.status.reason = Some(reason.to_owned());
        Ok(self.put_image(ctx, new))
    }

    pub(super) fn delete_image(
        &mut self,
        ctx: &mut Context<'_>,
        id: ImageId,
        expect: Option<u64>,
    ) -> Outcome {
        let old = self.image(id)?;
        check_expected(&old.image.meta, expect)?;
        if old.image.status.state == ImageState::Uploading {
            return Err(Refusal::Conflict("its content is being uploaded: end the upload first".into()));
        }
        let (vms, volumes, images) = self.image_users(id);
        let names = (vms.iter().filter_map(|v| self.vms.get(v)).map(|r| format!("vm `{}`", r.vm.meta.name)))
            .chain(
                volumes
                    .iter()
                    .filter_map(|v| self.volumes.get(v))
                    .map(|v| format!("volume `{}`", v.meta.name)),
            )
            .chain(
                images
                    .iter()
                    .filter_map(|i| self.images.get(i))
                    .map(|r| format!("image `{}`", r.image.meta.name)),
            );
        let users: Vec<_> = names.take(10).collect();
        if !users.is_empty() {
            return Err(Refusal::Conflict(format!("it is used by {}: delete these first", users.join(", "))));
        }
        self.images.remove(&id);
        self.discard_image(&old);
        ctx.changed(Kind::Image, id.0);
        Ok(Reply::Done)
    }

    pub(super) fn create_volume(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        create: &CreateVolume,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.volumes.values().map(|v| v.meta.name.as_str()))?;
        let errors = create.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.volumes.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let mut spec = create.spec.clone();
        let pool = self.pool_for_new(spec.pool)?;
        spec.pool = Some(pool);
        if let Some(source) = spec.source {
            let missing = || Refusal::field("spec.source", format!("there is no image {source}"));
            let image = &self.images.get(&source).ok_or_else(missing)?.image;
            let name = &image.meta.name;
            if image.spec.kind != ImageKind::Disk {
                return Err(Refusal::field(
                    "spec.source",
                    format!("the image `{name}` is not of the kind `disk`"),
                ));
            }
            if image.status.state != ImageState::Ready {
                let reason = format!("the image `{name}` has no content yet: upload it first");
                return Err(Refusal::Conflict(reason));
            }
            let least = image.status.virtual_size_bytes;
            match spec.size_bytes {
                Some(size) if size < least => {
                    let reason = format!("{size} is less than the image's {least}");
                    return Err(Refusal::field("spec.size_bytes", reason));
                }
                Some(_) => {}
                None => spec.size_bytes = Some(least),
            }
        }
        // A size taken from an image is checked as well: an image may be smaller than the smallest volume.
        if let Some(size) = spec.size_bytes {
            let size = Bytes(size.get().max(Bytes::MIB).checked_next_multiple_of(512).unwrap_or(u64::MAX));
            spec.size_bytes = Some(size);
            if let Some(error) = check_size("spec.size_bytes", size) {
                return Err(Refusal::Validation(vec![error]));
            }
        }
        let status = VolumeStatus {
            state: VolumeState::Creating,
            reason: None,
            size_bytes: Bytes(0),
            attached_to: None,
        };
        let volume = Volume { meta: ctx.meta(id, &create.name, create.labels.clone()), spec, status };
        Ok(self.put_volume(ctx, volume))
    }

    pub(super) fn update_volume(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        expect: Option<u64>,
        patch: &MetadataPatch,
    ) -> Outcome {
        let old = self.volume(id)?;
        check_expected(&old.meta, expect)?;
        let mut new = (*old).clone();
        new.meta = patched(&old.meta, patch, self.volumes.values().map(|v| v.meta.name.as_str()))?;
        if new == *old {
            return Ok(Reply::Volume(old));
        }
        Ok(self.put_volume(ctx, new))
    }

    pub(super) fn grow_volume(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        expect: Option<u64>,
        size: Bytes,
    ) -> Outcome {
        let mut new = (*self.volume(id)?).clone();
        check_expected(&new.meta, expect)?;
        if let Some(error) = check_size("size_bytes", size) {
            return Err(Refusal::Validation(vec![error]));
        }
        if new.status.state != VolumeState::Ready {
            return Err(Refusal::Conflict("the volume is not ready".into()));
        }
        if size < new.status.size_bytes {
            let reason = format!("a volume never shrinks: it has {} now", new.status.size_bytes);
            return Err(Refusal::field("size_bytes", reason));
        }
        if new.spec.size_bytes != Some(new.status.size_bytes) {
            return Err(Refusal::Conflict("the volume is being grown already: wait for it".into()));
        }
        self.check_growable(&new)?;
        if size == new.status.size_bytes {
            return Ok(Reply::Volume(Arc::new(new)));
        }
        new.spec.size_bytes = Some(size);
        new.meta.generation += 1;
        new.status.reason = None;
        Ok(self.put_volume(ctx, new))
    }

    pub(super) fn volume_ready(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        size: Bytes,
        by: Option<HostId>,
    ) -> Outcome {
        let mut new = (*self.volume(id)?).clone();
        self.check_maker(&new, by)?;
        if !matches!(new.status.state, VolumeState::Creating | VolumeState::Ready) {
            return Err(Refusal::Conflict("the volume is not being made".into()));
        }
        new.status.state = VolumeState::Ready;
        new.status.size_bytes = size;
        new.status.reason = None;
        Ok(self.put_volume(ctx, new))
    }

    pub(super) fn volume_failed(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        reason: &str,
        by: Option<HostId>,
    ) -> Outcome {
        let mut new = (*self.volume(id)?).clone();
        self.check_maker(&new, by)?;
        match new.status.state {
            VolumeState::Creating => new.status.state = VolumeState::Failed,
            // It could not be grown: it stays as it is.
            VolumeState::Ready => {
                new.spec.size_bytes = Some(new.status.size_bytes);
                new.meta.generation += 1;
            }
            VolumeState::Deleting | VolumeState::Failed => {}
        }
        new.status.reason = Some(reason.to_owned());
        Ok(self.put_volume(ctx, new))
    }

    pub(super) fn delete_volume(
        &mut self,
        ctx: &mut Context<'_>,
        id: VolumeId,
        expect: Option<u64>,
    ) -> Outcome {
        let old = self.volume(id)?;
        check_expected(&old.meta, expect)?;
        if let Some(why) = self.held_by(&old) {
            return Err(Refusal::Conflict(why));
        }
        if let Some(vm) = old.status.attached_to {
            let name = self.vms.get(&vm).map_or_else(|| vm.to_string(), |r| r.vm.meta.name.clone());
            return Err(Refusal::Conflict(format!(
                "it belongs to the machine `{name}`: detach it there first"
            )));
        }
        if old.status.state == VolumeState::Deleting {
            return Ok(Reply::Volume(old));
        }
        let mut new = (*old).clone();
        new.status.state = VolumeState::Deleting;
        Ok(self.put_volume(ctx, new))
    }

    pub(super) fn forget_volume(&mut self, ctx: &mut Context<'_>, id: VolumeId) -> Outcome {
        let Some(old) = self.volumes.get(&id) else { return Ok(Reply::Done) };
        if old.status.state != VolumeState::Deleting {
            return Err(Refusal::Conflict("the volume is not being deleted".into()));
        }
        self.volumes.remove(&id);
        ctx.changed(Kind::Volume, id.0);
        Ok(Reply::Done)
    }

    fn image(&self, id: ImageId) -> Result<Arc<ImageRecord>, Refusal> {
        self.images.get(&id).cloned().ok_or_else(|| Refusal::not_found("image", id))
    }

    fn uploading(&self, id: ImageId, upload: Uuid) -> Result<ImageRecord, Refusal> {
        let record = self.image(id)?;
        if record.upload != Some(upload) {
            return Err(Refusal::Conflict("this upload is not under way any more".into()));
        }
        Ok((*record).clone())
    }

    fn volume(&self, id: VolumeId) -> Result<Arc<Volume>, Refusal> {
        self.volumes.get(&id).cloned().ok_or_else(|| Refusal::not_found("volume", id))
    }

    /// Refuses the word of a host on a volume that has become another's task.
    fn check_maker(&self, volume: &Volume, by: Option<HostId>) -> Result<(), Refusal> {
        match by {
            Some(by) if self.maker(volume) != Some(by) => {
                Err(Refusal::Conflict("the volume has become the task of another host".into()))
            }
            _ => Ok(()),
        }
    }

    fn put_image(&mut self, ctx: &mut Context<'_>, mut record: ImageRecord) -> Reply {
        let id = record.image.meta.id;
        record.image.meta.revision = ctx.revision;
        let reply = Reply::Image(Arc::new(record.image.clone()));
        self.images.insert(id, Arc::new(record));
        ctx.changed(Kind::Image, id.0);
        reply
    }

    fn put_volume(&mut self, ctx: &mut Context<'_>, mut volume: Volume) -> Reply {
        let id = volume.meta.id;
        volume.meta.revision = ctx.revision;
        let volume = Arc::new(volume);
        self.volumes.insert(id, volume.clone());
        ctx.changed(Kind::Volume, id.0);
        Reply::Volume(volume)
    }
}
