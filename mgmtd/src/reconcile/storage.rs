//! Keepers of images and volumes: they bring the pool to what the state says.

use super::{AtWork, Node, copies, lock};
use crate::{
    causes,
    cluster::{Op, Reply, WriteError},
    compute::{self, Machine, adjust::Step},
    storage::{self, Declared, NewVolume},
    tasks::NewTask,
};
use bytes::Bytes as Chunk;
use futures::{Stream, StreamExt as _};
use lq_api::{
    Bytes, ImageId, VolumeId,
    event::EventLevel,
    image::Image,
    task::Task,
    volume::{Volume, VolumeState},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Longest a volume may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Pause after a failed removal.
const RETRY: Duration = Duration::from_secs(30);

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The state refused it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The pool refused or failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The client went away, or its body did not come.
    #[error("the upload broke off: {0}")]
    Broken(String),
    /// Too many at a time.
    #[error("{} uploads are under way: try again when one has ended", super::UPLOADS)]
    Busy,
    /// The pool is not there.
    #[error(
        "the image's pool is not reached by this host now: see the pool, and upload again when it is ready"
    )]
    Elsewhere,
}

impl Node {
    /// What a crash left half done is ended: uploads are failed, copies nobody needs removed.
    pub(super) async fn recover(self: &Arc<Self>) {
        // Requests come in already: what was begun since the start is not broken.
        let broken = self.cluster.read(|s| s.broken_uploads(self.id(), &lock(&self.receiving)));
        for (id, upload) in broken {
            let reason = "the upload was interrupted by a restart of the host: upload again".into();
            if let Err(e) = self.cluster.write(Op::FailUpload { id, upload, reason }).await {
                tracing::warn!(image = %id, error = %e, "an interrupted upload could not be ended");
            }
        }
        for id in self.own_pools() {
            self.drop_copies(id).await;
            self.tidy_pool(id).await;
        }
    }

    /// Receives the content of an image. Goes on to a clean end when the caller goes away.
    pub async fn upload<E: std::fmt::Display + Send>(
        self: &Arc<Self>,
        id: ImageId,
        length: Option<u64>,
        body: impl Stream<Item = Result<Chunk, E>> + Send + Unpin + 'static,
    ) -> Result<Image, UploadError> {
        let place = self.uploads.clone().try_acquire_owned().map_err(|_| UploadError::Busy)?;
        let upload = Uuid::new_v4();
        let receiving = AtWork::begin(self, |node| &node.receiving, upload);
        let reply = self.cluster.write(Op::BeginUpload { id, upload, receiver: Some(self.id()) }).await?;
        let node = self.clone();
        let work = tokio::spawn(async move {
            let _held = (place, receiving);
            let received = node.receive(reply, length, body).await;
            let op = match &received {
                Ok(facts) => Op::FinishUpload {
                    id,
                    upload,
                    size: facts.size,
                    virtual_size: facts.virtual_size,
                    sha256: facts.sha256.clone(),
                },
                Err(e) => Op::FailUpload { id, upload, reason: e.to_string() },
            };
            let written = node.cluster.write(op).await;
            received?;
            match written? {
                Reply::Image(image) => Ok((*image).clone()),
                _ => Err(WriteError::Unavailable("an unexpected answer of the state".into()).into()),
            }
        });
        work.await.unwrap_or_else(|e| Err(UploadError::Broken(e.to_string())))
    }

    async fn receive<E: std::fmt::Display>(
        &self,
        begun: Reply,
        length: Option<u64>,
        mut body: impl Stream<Item = Result<Chunk, E>> + Unpin,
    ) -> Result<storage::ImageFacts, UploadError> {
        let Reply::Image(image) = begun else {
            return Err(WriteError::Unavailable("an unexpected answer of the state".into()).into());
        };
        let pool = image.spec.pool.and_then(|p| self.pool(p)).ok_or(UploadError::Elsewhere)?;
        let mut writer = pool
            .receive_image(Declared {
                image: image.meta.id,
                kind: image.spec.kind,
                format: image.spec.format,
                length: length.map(Bytes),
                sha256: image.spec.sha256.clone(),
            })
            .await?;
        loop {
            match body.next().await {
                None => return Ok(writer.finish().await?),
                Some(Ok(chunk)) => writer.write(chunk).await?,
                Some(Err(e)) => return Err(UploadError::Broken(e.to_string())),
            }
        }
    }

    /// Deletes an image; its bytes follow.
    pub async fn delete_image(self: &Arc<Self>, id: ImageId, expect: Option<u64>) -> Result<(), WriteError> {
        let pool = self.cluster.read(|s| s.images.get(&id).and_then(|r| r.image.spec.pool));
        // What is noted of it later needs its name.
        self.events.names().of(&format!("image/{id}"));
        self.cluster.write(Op::DeleteImage { id, expect }).await?;
        // Where this fails, or a crash comes before it, it is done again.
        if let Some(pool) = pool.filter(|p| self.pools_with_waste().contains(p))
            && let Err(e) = self.remove_waste(pool).await
        {
            let text = format!("its bytes could not be removed yet: {e}");
            self.events.system(EventLevel::Warning, "image.failed", format!("image/{id}"), text);
        }
        Ok(())
    }

    /// Grows a volume. The task ends when it has the size.
    pub async fn grow_volume(
        self: &Arc<Self>,
        id: VolumeId,
        expect: Option<u64>,
        size: Bytes,
        actor: &str,
    ) -> Result<Task, WriteError> {
        self.cluster.write(Op::GrowVolume { id, expect, size }).await?;
        Ok(self.volume_task("volume.grow", id, actor, move |volume| match volume {
            None => Some(Err("the volume was deleted meanwhile".into())),
            Some(v) if v.status.size_bytes >= size => Some(Ok(())),
            Some(v) if v.spec.size_bytes != Some(v.status.size_bytes) => None,
            Some(v) => Some(Err(v.status.reason.clone().unwrap_or_else(|| "it was not grown".into()))),
        }))
    }

    /// Deletes a volume and what is on it.
    pub async fn delete_volume(
        self: &Arc<Self>,
        id: VolumeId,
        expect: Option<u64>,
        actor: &str,
    ) -> Result<Task, WriteError> {
        self.events.names().of(&format!("volume/{id}"));
        self.cluster.write(Op::DeleteVolume { id, expect }).await?;
        Ok(self.volume_task("volume.delete", id, actor, |volume| volume.is_none().then_some(Ok(()))))
    }

    fn volume_task(
        self: &Arc<Self>,
        kind: &'static str,
        id: VolumeId,
        actor: &str,
        done: impl Fn(Option<&Volume>) -> Option<Result<(), String>> + Send + Sync + 'static,
    ) -> Task {
        let new = NewTask { kind, target: format!("volume/{id}"), actor: actor.into(), cancellable: false };
        let node = self.clone();
        self.tasks.start(new, |_| async move {
            let found = node.wait_for(PATIENCE, |s| done(s.volumes.get(&id).map(AsRef::as_ref))).await;
            found.unwrap_or_else(|| Err("it takes too long; it is still being tried".into())).map(|()| None)
        })
    }

    /// Brings a volume on the pool to what the state says; returns when there is nothing left to do, or nothing more can be.
    pub(super) async fn settle_volume(self: &Arc<Self>, id: VolumeId) {
        loop {
            let me = self.id();
            let Some((volume, source)) = self.cluster.read(|s| {
                let volume = s.volumes.get(&id).filter(|v| s.maker(v) == Some(me))?;
                let source = volume.spec.source.and_then(|i| Some((i, s.images.get(&i)?.image.spec.format)));
                Some((volume.clone(), source))
            }) else {
                return;
            };
            let Some(pool) = volume.spec.pool.and_then(|p| self.pool(p)) else { return };
            let (format, wanted) = (volume.spec.format, volume.spec.size_bytes.unwrap_or_default());
            let op = match volume.status.state {
                VolumeState::Creating => {
                    if let Some((image, _)) = source
                        && self.cluster.read(|s| copies::in_other_pool(s, volume.spec.pool, image))
                        && let Err(reason) = self.bring_into(volume.spec.pool, pool.as_ref(), image).await
                    {
                        let text = format!("its source could not be brought here, trying again: {reason}");
                        let target = format!("volume/{id}");
                        self.events.system(EventLevel::Warning, "volume.failed", target, text);
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                    match pool.create_volume(NewVolume { volume: id, format, size: wanted, source }).await {
                        Ok(()) => Op::VolumeReady { id, size: wanted, by: Some(me) },
                        Err(e) if e.passes() => {
                            self.wait_for_volume(id, "made", &e).await;
                            continue;
                        }
                        Err(e) => Op::VolumeFailed { id, reason: causes::chain(&e), by: Some(me) },
                    }
                }
                VolumeState::Ready if wanted != volume.status.size_bytes => {
                    // What a machine has open is grown by the monitor, which tells the guest.
                    let grown = match self.user_of(&volume) {
                        Some(machine) => grow_in(machine.as_ref(), id, wanted).await,
                        None => pool.grow_volume(id, format, wanted).await,
                    };
                    match grown {
                        Ok(()) => Op::VolumeReady { id, size: wanted, by: Some(me) },
                        Err(e) if e.passes() => {
                            self.wait_for_volume(id, "grown", &e).await;
                            continue;
                        }
                        Err(e) => {
                            let reason = format!("it could not be grown: {}", causes::chain(&e));
                            Op::VolumeFailed { id, reason, by: Some(me) }
                        }
                    }
                }
                VolumeState::Deleting => match pool.delete_volume(id).await {
                    Ok(()) => Op::ForgetVolume { id },
                    Err(e) => {
                        self.wait_for_volume(id, "deleted", &e).await;
                        continue;
                    }
                },
                VolumeState::Ready | VolumeState::Failed => return,
            };
            if let Op::VolumeFailed { reason, .. } = &op {
                let target = format!("volume/{id}");
                self.events.system(EventLevel::Error, "volume.failed", target, reason.clone());
            }
            match self.cluster.write(op).await {
                Ok(_) | Err(WriteError::Refused(_)) => {}
                Err(e) => {
                    tracing::warn!(volume = %id, error = %e, "its state could not be stored; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The machine of this host that has the volume open. What is found wrongly not to have it has its file locked.
    fn user_of(&self, volume: &Volume) -> Option<Arc<dyn Machine>> {
        let machine = self.fleet.machine(volume.status.attached_to?).ok()?;
        let has = machine.hardware().borrow().as_ref().is_some_and(|has| has.disk(volume.meta.id).is_some());
        has.then_some(machine)
    }

    /// Says that something could not be done to a volume yet, and waits before it is tried again.
    async fn wait_for_volume(&self, id: VolumeId, what: &str, e: &storage::Error) {
        let text = format!("it could not be {what}, trying again: {}", causes::chain(e));
        self.events.system(EventLevel::Warning, "volume.failed", format!("volume/{id}"), text);
        tokio::time::sleep(RETRY).await;
    }
}

/// Has a machine grow a disk it has open.
async fn grow_in(machine: &dyn Machine, volume: VolumeId, size: Bytes) -> Result<(), storage::Error> {
    match machine.adjust(&Step::Grow(volume, size)).await {
        Ok(()) => Ok(()),
        Err(compute::Error::Refused(why)) => {
            Err(storage::Error::BadContent(format!("the machine that has it says: {why}")))
        }
        // It may have ended meanwhile, or be busy.
        Err(e) => Err(storage::Error::Busy(format!("the volume {volume} ({})", causes::chain(&e)))),
    }
}
