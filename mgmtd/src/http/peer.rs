//! What a host serves to the other hosts of its cluster, beside what the agreement needs: its API for requests passed on by
//! one that was asked, and what it alone knows.

use super::{
    Api, elsewhere,
    extract::Id,
    forward::CALLER,
    openapi,
    problem::{self, Failure},
    routes::tasks::{Asked, own as own_tasks},
};
use crate::{
    auth::Caller,
    certificate,
    cluster::{Cluster, PeerFrom, state::BmcRecord},
    ha::{self, Beat, fence},
    placement::balancer::{MoveOrder, ORDER_PATH, obey},
    reconcile::moves::PROTOCOL,
    storage,
    tasks::asked_by,
    telemetry::usage::{self, Size, Told},
};
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{future::join_all, stream};
use hyper_util::rt::TokioIo;
use lq_api::{
    HostId, ImageId, PoolId, Timestamp, VmId,
    balance::Balance,
    bmc::{BmcStatus, BmcTest},
    ha::HaStatus,
    history::Span,
    host::HostStatus,
    network::Lease,
    pool::PoolStatus,
    problem::Kind,
    task::Task,
    time::TimeStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
use uuid::Uuid;

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
        .route(fence::TEST_PATH, post(test_bmc))
        .route("/ha/bmc", post(bmc_status))
        .route("/balance/status", post(balance_status))
        .route(ORDER_PATH, post(order))
        .route("/host/status", post(status))
        .route("/host/leases", post(leases))
        .route("/host/tasks", post(tasks))
        .route(elsewhere::PATH, post(elsewhere::tell))
        .route("/host/usage", post(host_usage))
        .route("/host/clock", post(clock))
        .route("/host/time", post(time))
        .route("/host/pool", post(pool))
        .route("/store/images/{id}", post(image))
        .route("/store/vars/{id}", post(vars))
        .route("/store/tpm/{id}", post(tpm))
        .route("/move/{vm}/{moving}", post(arrive))
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

/// The host that was asked of a BMC cannot, or should not, ask it itself.
async fn test_bmc(Json(record): Json<BmcRecord>) -> Json<BmcTest> {
    Json(fence::test(&record).await)
}

async fn bmc_status(State(api): State<Arc<Api>>, Json(host): Json<HostId>) -> Json<Option<BmcStatus>> {
    Json(api.boards.status(host))
}

/// How the BMC of a host does, as the host that leads sees it.
pub(super) async fn bmc(api: &Api, host: HostId) -> Option<BmcStatus> {
    match api.node.cluster.standing().leader.filter(|leader| *leader != api.node.id()) {
        Some(leader) => ask::<Option<BmcStatus>>(&api.node.cluster, leader, "/ha/bmc", &host).await.flatten(),
        None => api.boards.status(host),
    }
}

async fn balance_status(State(api): State<Arc<Api>>) -> Json<Balance> {
    Json(api.balancer.status().await)
}

/// Balance as the host that leads sees it; where it cannot be asked, as this one does.
pub(super) async fn balance(api: &Api) -> Balance {
    let leader = api.node.cluster.standing().leader.filter(|leader| *leader != api.node.id());
    let asked = match leader {
        Some(leader) => ask::<Balance>(&api.node.cluster, leader, "/balance/status", &()).await,
        None => None,
    };
    match asked {
        Some(balance) => balance,
        None => api.balancer.status().await,
    }
}

/// The leader has a machine of this host moved.
async fn order(State(api): State<Arc<Api>>, Json(order): Json<MoveOrder>) -> Result<Json<Task>, Failure> {
    let begun = obey(&api.node, order).await;
    begun.map(Json).map_err(|e| Failure::new(Kind::Conflict, e.to_string()))
}

async fn leases(State(api): State<Arc<Api>>) -> Json<Vec<Lease>> {
    Json(api.node.fabric.leases().await)
}

async fn tasks(State(api): State<Arc<Api>>, Json(asked): Json<Asked>) -> Json<Vec<Task>> {
    Json(own_tasks(&api, &asked))
}

async fn pool(State(api): State<Arc<Api>>, Json(id): Json<PoolId>) -> Json<Option<PoolStatus>> {
    Json(own_pool(&api, id).await)
}

async fn host_usage(State(api): State<Arc<Api>>, Json(span): Json<Span>) -> Json<Option<Told>> {
    Json(own_usage(&api, span).await)
}

/// What time it is here.
async fn clock() -> Json<Timestamp> {
    Json(Timestamp::now())
}

async fn time(State(api): State<Arc<Api>>) -> Json<TimeStatus> {
    Json(api.node.time.status())
}

/// How the clocks of these hosts do, as far as they can be asked.
pub(super) async fn times(api: &Api, hosts: &[HostId]) -> Vec<(HostId, TimeStatus)> {
    let one = |host: HostId| async move {
        if host == api.node.id() {
            return Some((host, api.node.time.status()));
        }
        Some((host, ask::<TimeStatus>(&api.node.cluster, host, "/host/time", &()).await?))
    };
    join_all(hosts.iter().map(|h| one(*h))).await.into_iter().flatten().collect()
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

/// The firmware variables of a machine that is to be this host's, from the host it is on.
async fn vars(
    State(api): State<Arc<Api>>,
    Id(id): Id<VmId>,
    Extension(PeerFrom(from)): Extension<PeerFrom>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    let target = PathBuf::from(api.node.local_pool().vars_path(id));
    keep(&api, id, from, move || storage::vars::replace(&target, &body)).await
}

/// What the TPM of such a machine keeps.
async fn tpm(
    State(api): State<Arc<Api>>,
    Id(id): Id<VmId>,
    Extension(PeerFrom(from)): Extension<PeerFrom>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    let target = PathBuf::from(api.node.local_pool().tpm_path(id));
    keep(&api, id, from, move || storage::tpm::replace(&target, &body)).await
}

/// Keeps something of a machine that is to be this host's, where it is at rest on the host that sends it.
async fn keep(
    api: &Api,
    id: VmId,
    from: Option<HostId>,
    keep: impl FnOnce() -> Result<(), storage::Error> + Send + 'static,
) -> Result<StatusCode, Failure> {
    let theirs = api.node.cluster.read(|s| {
        let record = s.vms.get(&id)?;
        Some(record.at_rest() && record.vm.status.host.is_some() && record.vm.status.host == from)
    });
    if theirs != Some(true) || from == Some(api.node.id()) {
        return Err(Failure::new(Kind::Conflict, "the machine is not at rest on the host that sends this"));
    }
    let made = tokio::task::spawn_blocking(keep).await;
    made.map_err(|e| Failure::new(Kind::Internal, e.to_string()))?
        .map_err(|e| Failure::new(Kind::Unavailable, crate::causes::chain(&e)))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A machine that moves here, as a stream. Answered once a machine waits for it.
async fn arrive(
    State(api): State<Arc<Api>>,
    Path((vm, moving)): Path<(VmId, Uuid)>,
    Extension(PeerFrom(from)): Extension<PeerFrom>,
    mut req: Request,
) -> Result<Response, Failure> {
    let from = from.ok_or_else(|| Failure::new(Kind::Unauthenticated, "this is for hosts of the cluster"))?;
    if req.headers().get(header::UPGRADE).is_none_or(|p| p.as_bytes() != PROTOCOL.as_bytes()) {
        return Err(Failure::new(Kind::Malformed, format!("this is a stream: ask for `{PROTOCOL}`")));
    }
    let upgrade = hyper::upgrade::on(&mut req);
    let waiting = api.node.expect_machine(vm, moving, from).await;
    let machine = waiting.map_err(|why| Failure::new(Kind::Conflict, why))?;
    let (node, ending) = (api.node.clone(), api.ending.clone());
    tokio::spawn(async move {
        let stream = match upgrade.await {
            Ok(stream) => TokioIo::new(stream),
            Err(e) => {
                return tracing::warn!(%vm, error = %e, "the stream of a machine that moves here did not open");
            }
        };
        tokio::select! {
            () = ending.cancelled() => {}
            () = node.take_in(vm, moving, machine, stream) => {}
        }
    });
    let head = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, head).into_response())
}

/// What this host is. Read off the async threads: it looks at many small files.
pub(super) async fn own_status(api: &Api) -> Option<HostStatus> {
    let host = api.node.host.clone();
    let mut status = tokio::task::spawn_blocking(move || host.status()).await.ok()?;
    let path = api.places.state.join(certificate::FILE);
    status.certificate = tokio::task::spawn_blocking(move || certificate::read(&path)).await.ok().flatten();
    for disk in &mut status.disks {
        disk.health = api.alerts.disk_health(&disk.name);
    }
    Some(status)
}

/// How much this host and its machines did. Read off the async threads.
async fn own_usage(api: &Api, span: Span) -> Option<Told> {
    let me = api.node.id();
    let machines: Vec<VmId> = api.node.cluster.read(|s| {
        let own = s.vms.iter().filter(|(_, record)| record.vm.status.host == Some(me));
        own.map(|(id, _)| *id).collect()
    });
    let (series, host) = (api.series.clone(), api.node.host.clone());
    let read = tokio::task::spawn_blocking(move || {
        let status = host.status();
        let size = Size { processors: status.cpu.threads, memory: status.memory.total_bytes };
        usage::own(&series, me, size, &machines, span, Timestamp::now())
    });
    read.await.ok()?.inspect_err(|e| tracing::warn!(error = %e, "what was measured cannot be read")).ok()
}

/// What each of these hosts and its machines did, and which could not be asked.
pub(super) async fn usages(api: &Api, hosts: &[HostId], span: Span) -> (Vec<Told>, Vec<HostId>) {
    let one = |host: HostId| async move {
        let told = if host == api.node.id() {
            own_usage(api, span).await
        } else {
            ask::<Option<Told>>(&api.node.cluster, host, "/host/usage", &span).await.flatten()
        };
        told.ok_or(host)
    };
    let answers = join_all(hosts.iter().map(|h| one(*h))).await;
    let (told, silent): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    (told.into_iter().flatten().collect(), silent.into_iter().filter_map(Result::err).collect())
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

/// What every other host answers; nothing of those that cannot be asked.
async fn each_other<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    body: &impl Serialize,
) -> Vec<(HostId, Option<T>)> {
    let others: Vec<HostId> =
        api.node.cluster.read(|s| s.hosts.keys().copied().filter(|h| *h != api.node.id()).collect());
    let asked = others.into_iter().map(|h| async move { (h, ask(&api.node.cluster, h, path, body).await) });
    join_all(asked).await
}

/// Leases of every host's DHCP, and the hosts that cannot be asked.
pub(super) async fn all_leases(api: &Api) -> (Vec<Lease>, BTreeSet<HostId>) {
    let (mut leases, mut silent) = (api.node.fabric.leases().await, BTreeSet::new());
    for (host, told) in each_other::<Vec<Lease>>(api, "/host/leases", &()).await {
        match told {
            Some(told) => leases.extend(told),
            None => drop(silent.insert(host)),
        }
    }
    (leases, silent)
}

/// The hosts that cannot be asked: what they said of their machines may hold no more.
pub(super) async fn silent(api: &Api) -> BTreeSet<HostId> {
    let told = each_other::<Timestamp>(api, "/host/clock", &()).await;
    told.into_iter().filter(|(_, at)| at.is_none()).map(|(host, _)| host).collect()
}

/// Tasks of every host, in no order.
pub(super) async fn all_tasks(api: &Api, asked: &Asked) -> Vec<Task> {
    let mut tasks = own_tasks(api, asked);
    let told = each_other::<Vec<Task>>(api, "/host/tasks", asked).await;
    tasks.extend(told.into_iter().filter_map(|(_, tasks)| tasks).flatten());
    tasks
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
