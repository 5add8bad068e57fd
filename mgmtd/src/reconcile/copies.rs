//! Images of other hosts that this host needs: brought into its own pool, checked, and kept while they are needed.

use super::Node;
use crate::{cluster::State, storage::Declared};
use axum::body::Body;
use futures::StreamExt as _;
use hyper::{Request, header};
use lq_api::{Bytes, HostId, ImageId, event::EventLevel, image::ImageState};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

/// Pause before an image is asked for again.
const RETRY: Duration = Duration::from_secs(5);
/// Longest pause of a transfer.
const STALLED: Duration = Duration::from_secs(30);

/// Images this host needs that are in pools of others: what its machines boot, what its volumes are clones of.
pub(super) fn needed(state: &State, me: HostId) -> BTreeSet<ImageId> {
    let mine = state.vms.values().filter(|r| r.vm.status.host == Some(me) && !r.deleting);
    let boots = mine.filter_map(|r| r.vm.spec.boot.as_ref());
    let mut ids: BTreeSet<ImageId> = boots.flat_map(|b| std::iter::once(b.kernel).chain(b.initrd)).collect();
    let here = state.volumes.values().filter(|v| state.is_on(v.spec.pool, me));
    ids.extend(here.filter_map(|v| v.spec.source));
    ids.retain(|id| elsewhere(state, me, *id));
    ids
}

/// Whether the image is whole, and in a pool of another host.
pub(super) fn elsewhere(state: &State, me: HostId, image: ImageId) -> bool {
    state.images.get(&image).is_some_and(|r| {
        r.image.status.state == ImageState::Ready
            && r.image.spec.pool.and_then(|p| state.pool_host(p)).is_some_and(|host| host != me)
    })
}

/// What has come of bringing an image here.
#[derive(Clone, Debug)]
pub(super) enum Copied {
    /// It is here.
    Here,
    /// The last try failed, for this reason.
    Failed(String),
}

impl Node {
    /// Path of the copy of an image of another host; else why the last try to bring it failed, where one did.
    pub(super) fn copy(&self, image: ImageId) -> Result<String, Option<String>> {
        match self.copies().get(&image) {
            Some(Copied::Here) => Ok(self.pool.image_path(image)),
            Some(Copied::Failed(reason)) => Err(Some(reason.clone())),
            None => Err(None),
        }
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<ImageId, Copied>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that there is a copy; one that cannot be had now is asked for again by the next look.
    pub(super) async fn keep_copy(self: &Arc<Self>, image: ImageId) {
        if let Err(reason) = self.bring(image).await {
            self.copies().insert(image, Copied::Failed(reason.clone()));
            let text = format!("it could not be brought here from its host, trying again: {reason}");
            self.events.system(EventLevel::Warning, "image.failed", format!("image/{image}"), text);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Brings an image here unless it is already. What has its final name in the pool is whole.
    pub(super) async fn bring(self: &Arc<Self>, image: ImageId) -> Result<(), String> {
        if self.copy(image).is_ok() {
            return Ok(());
        }
        if !tokio::fs::try_exists(self.pool.image_path(image)).await.unwrap_or(false) {
            self.fetch(image).await?;
        }
        self.copies().insert(image, Copied::Here);
        Ok(())
    }

    async fn fetch(&self, image: ImageId) -> Result<(), String> {
        let (spec, status, host) = self
            .cluster
            .read(|s| {
                let image = &s.images.get(&image)?.image;
                let host = image.spec.pool.and_then(|p| s.pool_host(p))?;
                Some((image.spec.clone(), image.status.clone(), host))
            })
            .ok_or("it does not exist any more")?;
        let request = Request::post(format!("/store/images/{image}"))
            .header(header::HOST, "peer")
            .body(Body::empty())
            .map_err(|e| e.to_string())?;
        let answer = self.cluster.pass(host, request).await.map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("its host answered {}", answer.status()));
        }
        let declared = Declared {
            image,
            kind: spec.kind,
            format: spec.format,
            length: Some(Bytes(status.size_bytes.get())),
            sha256: status.sha256,
        };
        let mut writer = self.pool.receive_image(declared).await.map_err(|e| e.to_string())?;
        let mut body = Body::new(answer.into_body()).into_data_stream();
        loop {
            let next = tokio::time::timeout(STALLED, body.next()).await;
            match next.map_err(|_| "its host sent nothing for a while".to_owned())? {
                None => break,
                Some(Ok(chunk)) => writer.write(chunk).await.map_err(|e| e.to_string())?,
                Some(Err(e)) => return Err(e.to_string()),
            }
        }
        writer.finish().await.map(drop).map_err(|e| e.to_string())
    }
}
