//! What a host serves to the other hosts of its cluster, beside what the agreement needs: its API for requests passed on by
//! one that was asked, and what it alone knows.

use super::{
    Api,
    extract::Id,
    forward::CALLER,
    openapi,
    problem::{self, Failure},
};
use crate::{
    auth::Caller,
    cluster::{Cluster, PeerFrom},
    ha::{self, Beat},
    storage,
    tasks::asked_by,
};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{future::join_all, stream};
use lq_api::{
    HostId, ImageId, PoolId, Timestamp, ha::HaStatus, host::HostStatus, network::Lease, pool::PoolStatus,
    problem::Kind,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};

/// Bytes of an image read at once.
const BLOCK: usize = 1 << 18;
/// Longest another host may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reached only by hosts of the cluster.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let (v1, _) = openapi::parts();
    let v1 = v1
        .layer(middleware::from_fn(known))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method);
    Router::new()
        .nest("/api/v1", v1)
        .route("/ha/beat", post(beat))
        .route("/ha/status", post(ha_status))
        .route("/host/status", post(status))
        .route("/host/leases", post(leases))
        .route("/host/clock", post(clock))
        .route("/host/pool", post(pool))
        .route("/store/images/{id}", post(image))
        .layer(DefaultBodyLimit::max(super::MAX_BODY))
        .with_state(api)
}

/// The caller, as the host that was asked knows them.
async fn known(mut req: Request, next: Next) -> Response {
    let told = req.headers_mut().remove(CALLER);
    let caller = told.and_then(|value| URL_SAFE_NO_PAD.decode(value.as_bytes()).ok());
    match caller.and_then(|json| serde_json::from_slice::<Caller>(&json).ok()) {
        Some(caller) => {
            let user = caller.user;
            req.extensions_mut().insert(caller);
            asked_by(user, next.run(req)).await
        }
        None => Failure::new(Kind::Unauthenticated, "the other host did not say who asks").into_response(),
    }
}

async fn status(State(api): State<Arc<Api>>) -> Json<Option<HostStatus>> {
    Json(own_status(&api).await)
}

/// A host says that it is there.
async fn beat(
    State(api): State<Arc<Api>>,
    Extension(PeerFrom(from)): Extension<PeerFrom>,
    Json(beat): Json<Beat>,
) -> Result<Json<ha::Answer>, Failure> {
    let from = from.ok_or_else(|| Failure::new(Kind::Unauthenticated, "this is for hosts of the cluster"))?;
    Ok(Json(api.ha.beat(from, &beat)))
}

async fn ha_status(State(api): State<Arc<Api>>) -> Json<HaStatus> {
    Json(ha::status::status(&api.node.cluster, &api.ha))
}

/// High availability as the host that watches sees it; where it cannot be asked, as this one does.
pub(super) async fn watched(api: &Api) -> HaStatus {
    let leader = api.node.cluster.standing().leader.filter(|leader| *leader != api.node.id());
    let asked = match leader {
        Some(leader) => ask::<HaStatus>(&api.node.cluster, leader, "/ha/status", &()).await,
        None => None,
    };
    asked.unwrap_or_else(|| ha::status::status(&api.node.cluster, &api.ha))
}

async fn leases(State(api): State<Arc<Api>>) -> Json<Vec<Lease>> {
    Json(api.node.fabric.leases().await)
}

async fn pool(State(api): State<Arc<Api>>, Json(id): Json<PoolId>) -> Json<Option<PoolStatus>> {
    Json(own_pool(&api, id).await)
}

/// What time it is here.
async fn clock() -> Json<Timestamp> {
    Json(Timestamp::now())
}

/// The bytes of an image in a pool of this host.
async fn image(State(api): State<Arc<Api>>, Id(id): Id<ImageId>) -> Result<Response, Failure> {
    let missing = || Failure::not_found("image", id);
    let pool = api.node.cluster.read(|s| s.images.get(&id).and_then(|r| r.image.spec.pool));
    let pool = pool.and_then(|p| api.node.pool(p)).ok_or_else(missing)?;
    if !pool.has_image(id).await.is_ok_and(|there| there) {
        return Err(missing());
    }
    let blocks = stream::try_unfold(0, move |offset| {
        let pool = pool.clone();
        async move {
            let block = pool.read_image(id, offset, BLOCK).await?;
            let next = offset + block.len() as u64;
            Ok::<_, storage::Error>((!block.is_empty()).then_some((block, next)))
        }
    });
    Ok(Body::from_stream(blocks).into_response())
}

/// What this host is. Read off the async threads: it looks at many small files.
pub(super) async fn own_status(api: &Api) -> Option<HostStatus> {
    let host = api.node.host.clone();
    let mut status = tokio::task::spawn_blocking(move || host.status()).await.ok()?;
    for disk in &mut status.disks {
        disk.health = api.alerts.disk_health(&disk.name);
    }
    Some(status)
}

/// Room in a pool of this host.
pub(super) async fn own_pool(api: &Api, id: PoolId) -> Option<PoolStatus> {
    let room = tokio::time::timeout(PATIENCE, api.node.pool(id)?.status()).await.ok()?;
    room.inspect_err(|e| tracing::warn!(pool = %id, error = %e, "its room is not known")).ok()
}

/// Asks another host; `None` where it cannot be asked.
async fn ask<T: DeserializeOwned>(
    cluster: &Cluster,
    host: HostId,
    path: &str,
    body: &impl Serialize,
) -> Option<T> {
    let asked = cluster.ask(host, path, body, PATIENCE).await;
    asked.inspect_err(|e| tracing::debug!(error = %e, path, "a host could not be asked")).ok()
}

/// What each host says of itself.
pub(super) async fn statuses(api: &Api, hosts: &[HostId]) -> Vec<(HostId, HostStatus)> {
    let one = |host: HostId| async move {
        let status = if host == api.node.id() {
            own_status(api).await
        } else {
            ask::<Option<HostStatus>>(&api.node.cluster, host, "/host/status", &()).await.flatten()
        };
        Some((host, status?))
    };
    join_all(hosts.iter().map(|h| one(*h))).await.into_iter().flatten().collect()
}

/// Leases of every host's DHCP.
pub(super) async fn all_leases(api: &Api) -> Vec<Lease> {
    let others: Vec<HostId> =
        api.node.cluster.read(|s| s.hosts.keys().copied().filter(|h| *h != api.node.id()).collect());
    let asked = others.iter().map(|h| ask::<Vec<Lease>>(&api.node.cluster, *h, "/host/leases", &()));
    let mut leases = api.node.fabric.leases().await;
    leases.extend(join_all(asked).await.into_iter().flatten().flatten());
    leases
}

/// Room in a pool, wherever it is.
pub(super) async fn pool_room(api: &Api, id: PoolId) -> Option<PoolStatus> {
    match api.node.cluster.read(|s| s.holder(id, Some(api.node.id()))) {
        Some(host) if host != api.node.id() => {
            ask::<Option<PoolStatus>>(&api.node.cluster, host, "/host/pool", &id).await.flatten()
        }
        _ => own_pool(api, id).await,
    }
}
