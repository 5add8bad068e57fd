//! Images of one pool that another needs: brought into it, checked, and kept while they are needed.
//!
//! A clone's image is in the clone's own pool, as itself or as a copy, so that a disk depends on one pool alone. What a machine
//! boots from is copied to its host only from another host's pool; in a shared pool it is read where it is.

use super::Node;
use crate::{
    causes,
    cluster::{Op, State},
    storage::{Declared, Pool},
};
use axum::body::Body;
use bytes::Bytes as Chunk;
use futures::StreamExt as _;
use hyper::{Request, header};
use lq_api::{
    Bytes, HostId, ImageId, PoolId,
    event::EventLevel,
    image::{Image, ImageState},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

/// Pause before an image is asked for again.
const RETRY: Duration = Duration::from_secs(5);
/// Longest pause of a transfer.
const STALLED: Duration = Duration::from_secs(30);
/// Read from a pool at once.
const BLOCK: usize = Bytes::MIB as usize;

/// Images this host needs in its own pool that are in pools of others: what its machines boot or have in their drives, what its
/// volumes are clones of.
pub(super) fn needed(state: &State, me: HostId) -> BTreeSet<ImageId> {
    let mine = state.machines_of(me).filter(|(r, _)| !r.deleting);
    let mut ids: BTreeSet<ImageId> = mine.flat_map(|(r, _)| r.vm.spec.images()).collect();
    ids.retain(|id| elsewhere(state, me, *id));
    let own = state.pools.keys().filter(|pool| state.only_on(Some(**pool), me));
    ids.extend(own.flat_map(|pool| sources(state, *pool)));
    ids
}

/// Copies to be kept in a pool.
pub(super) fn kept_in(state: &State, pool: PoolId) -> BTreeSet<ImageId> {
    state.pool_host(pool).map_or_else(|| sources(state, pool), |host| needed(state, host))
}

/// Images of other pools of which there are clones in this one.
fn sources(state: &State, pool: PoolId) -> BTreeSet<ImageId> {
    let clones = state.volumes.values().filter(|v| v.spec.pool == Some(pool));
    let images = clones.filter_map(|v| v.spec.source);
    images.filter(|image| in_other_pool(state, Some(pool), *image)).collect()
}

/// Whether the image is whole, and in a pool of another host.
fn elsewhere(state: &State, me: HostId, image: ImageId) -> bool {
    state.images.get(&image).is_some_and(|r| {
        r.image.status.state == ImageState::Ready
            && r.image.spec.pool.and_then(|p| state.pool_host(p)).is_some_and(|host| host != me)
    })
}

/// Whether the image is whole, and in another pool than this.
pub(super) fn in_other_pool(state: &State, pool: Option<PoolId>, image: ImageId) -> bool {
    state
        .images
        .get(&image)
        .is_some_and(|r| r.image.status.state == ImageState::Ready && r.image.spec.pool != pool)
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
    /// Path of the copy of an image of another pool; else why the last try to bring it failed, where one did.
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
        let own = self.own_pools().first().copied();
        match self.bring_into(own, self.pool.as_ref(), image).await {
            Ok(()) => {
                self.copies().insert(image, Copied::Here);
            }
            Err(reason) => {
                self.copies().insert(image, Copied::Failed(reason.clone()));
                let text = format!("it could not be brought here from its pool, trying again: {reason}");
                self.events.system(EventLevel::Warning, "image.failed", format!("image/{image}"), text);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Brings an image into a pool unless it is there already. What has its final name in a pool is whole.
    /// That a copy is begun is in the state before its first byte: only what is known to be a copy is removed as one.
    pub(super) async fn bring_into(
        &self,
        id: Option<PoolId>,
        pool: &dyn Pool,
        image: ImageId,
    ) -> Result<(), String> {
        if pool.has_image(image).await.map_err(|e| causes::chain(&e))? {
            return Ok(());
        }
        let record = self.cluster.read(|s| s.images.get(&image).map(|r| r.image.clone()));
        let record = record.ok_or("it does not exist any more")?;
        let id = id.ok_or("this host has no pool of its own yet")?;
        if !self.cluster.read(|s| s.images.get(&image).is_some_and(|r| r.copies.contains(&id))) {
            self.cluster.write(Op::CopyImage { id: image, pool: id }).await.map_err(|e| e.to_string())?;
        }
        match record.spec.pool.and_then(|from| self.pool(from)) {
            Some(from) => copy_between(from.as_ref(), pool, &record).await,
            None => self.fetch(pool, &record).await,
        }
    }

    /// Brings it from a host that reaches its pool.
    async fn fetch(&self, pool: &dyn Pool, image: &Image) -> Result<(), String> {
        let host = self.cluster.read(|s| s.holder(image.spec.pool?, None));
        let host = host.filter(|h| *h != self.id()).ok_or("no host reaches its pool now")?;
        let request = Request::post(format!("/store/images/{}", image.meta.id))
            .header(header::HOST, "peer")
            .body(Body::empty())
            .map_err(|e| e.to_string())?;
        let answer = self.cluster.pass(host, request).await.map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("its host answered {}", answer.status()));
        }
        let mut writer = pool.receive_image(declared(image)).await.map_err(|e| causes::chain(&e))?;
        let mut body = Body::new(answer.into_body()).into_data_stream();
        loop {
            let next = tokio::time::timeout(STALLED, body.next()).await;
            match next.map_err(|_| "its host sent nothing for a while".to_owned())? {
                None => break,
                Some(Ok(chunk)) => writer.write(chunk).await.map_err(|e| causes::chain(&e))?,
                Some(Err(e)) => return Err(e.to_string()),
            }
        }
        writer.finish().await.map(drop).map_err(|e| causes::chain(&e))
    }
}

fn declared(image: &Image) -> Declared {
    Declared {
        image: image.meta.id,
        kind: image.spec.kind,
        format: image.spec.format,
        length: Some(Bytes(image.status.size_bytes.get())),
        sha256: image.status.sha256.clone(),
    }
}

async fn copy_between(from: &dyn Pool, to: &dyn Pool, image: &Image) -> Result<(), String> {
    let mut writer = to.receive_image(declared(image)).await.map_err(|e| causes::chain(&e))?;
    let mut offset = 0;
    loop {
        let read = from.read_image(image.meta.id, offset, BLOCK).await;
        let chunk: Chunk = read.map_err(|e| causes::chain(&e))?;
        if chunk.is_empty() {
            return writer.finish().await.map(drop).map_err(|e| causes::chain(&e));
        }
        offset += chunk.len() as u64;
        writer.write(chunk).await.map_err(|e| causes::chain(&e))?;
    }
}
