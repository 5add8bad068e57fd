//! What the console of a machine does to its own host, and whoever may do it from elsewhere: the management network, the
//! certificate, the support bundle, the factory reset.

use super::super::{
    Api,
    extract::{Answer, Id, Json},
    peer,
    problem::Failure,
};
use crate::{
    auth::Caller, cluster::State as Agreed, reconcile::host::HostError, removable, telemetry::bundle::Bundle,
};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lq_api::{
    Bytes, HostId, Timestamp,
    event::EventLevel,
    host::{FactoryReset, NewCertificate},
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    problem::{FieldError, Kind},
    removable::{LOOKS, RemovableDrives, SupportBundleWritten, WRITES, WriteSupportBundle},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Time for the answer to leave before the daemon starts again or the host goes down.
const FAREWELL: Duration = Duration::from_millis(500);
/// Events of the bundle.
const EVENTS: usize = 2000;

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(network, try_network))
        .routes(routes!(keep_network))
        .routes(routes!(revert_network))
        .routes(routes!(test_network))
        .routes(routes!(certificate))
        .routes(routes!(factory_reset))
        .routes(routes!(support_bundle, write_support_bundle))
        .routes(routes!(removable_drives))
}

/// Refuses what is asked of another host than this one: requests were passed on before.
pub(super) fn here(api: &Api, id: HostId) -> Result<(), Failure> {
    if !api.node.cluster.read(|s| s.hosts.contains_key(&id)) {
        return Err(Failure::not_found("host", id));
    }
    if id != api.node.id() {
        return Err(Failure::new(Kind::Unavailable, "that host cannot be asked from here"));
    }
    Ok(())
}

/// What the host itself says against it.
fn refused(e: HostError) -> Failure {
    let kind = match e {
        HostError::Refused(_) => Kind::Conflict,
        HostError::Unreachable { .. } => Kind::Unavailable,
    };
    Failure::new(kind, crate::causes::chain(&e))
}

/// Refuses where the word is not the host's name.
fn confirmed(api: &Api, id: HostId, word: &str) -> Result<(), Failure> {
    let name = api.node.cluster.read(|s| s.hosts.get(&id).map(|r| r.meta.name.clone()));
    if name.as_deref() == Some(word) {
        return Ok(());
    }
    Failure::check(vec![FieldError::new("confirm", "is not the name of the host")])
}

/// The management network of a host.
#[utoipa::path(
    get, path = "/hosts/{id}/network", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, body = ManagementNetwork))
)]
async fn network(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
) -> Result<Answer<ManagementNetwork>, Failure> {
    here(&api, id)?;
    Ok(Answer(StatusCode::OK, api.node.host.network().await.map_err(refused)?))
}

/// Tries other settings of the management network. The host takes them back by itself unless they are kept in time; nothing
/// is written down before that.
#[utoipa::path(
    put, path = "/hosts/{id}/network", tag = "hosts", params(("id" = HostId, Path)), request_body = TryNetwork,
    responses((status = 202, body = ManagementNetwork, description = "They come into force"))
)]
async fn try_network(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    Json(wanted): Json<TryNetwork>,
) -> Result<Answer<ManagementNetwork>, Failure> {
    here(&api, id)?;
    Failure::check(wanted.validate())?;
    api.node.host.try_network(wanted).await.map_err(refused)?;
    told(&api, id, &caller, "tries another management network");
    Ok(Answer(StatusCode::ACCEPTED, api.node.host.network().await.map_err(refused)?))
}

/// Keeps the settings on trial.
#[utoipa::path(
    post, path = "/hosts/{id}/network/keep", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, body = ManagementNetwork))
)]
async fn keep_network(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
) -> Result<Answer<ManagementNetwork>, Failure> {
    here(&api, id)?;
    api.node.host.keep_network().await.map_err(refused)?;
    told(&api, id, &caller, "keeps the new management network");
    Ok(Answer(StatusCode::OK, api.node.host.network().await.map_err(refused)?))
}

/// Takes back the settings on trial.
#[utoipa::path(
    post, path = "/hosts/{id}/network/revert", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, body = ManagementNetwork))
)]
async fn revert_network(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
) -> Result<Answer<ManagementNetwork>, Failure> {
    here(&api, id)?;
    api.node.host.revert_network().await.map_err(refused)?;
    Ok(Answer(StatusCode::OK, api.node.host.network().await.map_err(refused)?))
}

/// Whether the management network works, seen from the host. Takes some seconds where something does not answer.
#[utoipa::path(
    post, path = "/hosts/{id}/network/test", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, body = NetworkTest))
)]
async fn test_network(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
) -> Result<Answer<NetworkTest>, Failure> {
    here(&api, id)?;
    let host = api.node.host.clone();
    let tested = tokio::task::spawn_blocking(move || host.test_network()).await;
    Ok(Answer(StatusCode::OK, tested.map_err(|e| Failure::internal(&e))?))
}

/// Makes a new certificate for the API and the page. The daemon starts again with it; machines and sessions go on.
#[utoipa::path(
    post, path = "/hosts/{id}/certificate", tag = "hosts", params(("id" = HostId, Path)),
    request_body = NewCertificate,
    responses((status = 202, description = "The daemon starts again; the console shows the new fingerprint"))
)]
async fn certificate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    Json(new): Json<NewCertificate>,
) -> Result<StatusCode, Failure> {
    here(&api, id)?;
    confirmed(&api, id, &new.confirm)?;
    let dir = api.places.state.clone();
    let forgotten = tokio::task::spawn_blocking(move || super::super::tls::forget(&dir)).await;
    forgotten.map_err(|e| Failure::internal(&e))?.map_err(|e| Failure::internal(&e))?;
    told(&api, id, &caller, "had a new certificate made");
    let again = api.node.again.clone();
    tokio::spawn(async move {
        tokio::time::sleep(FAREWELL).await;
        again.cancel();
    });
    Ok(StatusCode::ACCEPTED)
}

/// Erases what a host has kept, and its images and volumes too if wanted, and restarts it. Its guests are stopped first. Where
/// it is one of several it should be removed from the cluster before; the others keep its name and id else.
#[utoipa::path(
    post, path = "/hosts/{id}/factory-reset", tag = "hosts", params(("id" = HostId, Path)),
    request_body = FactoryReset,
    responses((status = 202, description = "It restarts and begins anew"))
)]
async fn factory_reset(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    Json(reset): Json<FactoryReset>,
) -> Result<StatusCode, Failure> {
    here(&api, id)?;
    confirmed(&api, id, &reset.confirm)?;
    api.node.host.factory_reset(reset.data).await.map_err(refused)?;
    let reason = format!("{} asked for a factory reset", caller.actor);
    told(&api, id, &caller, "asked for a factory reset");
    api.node.host.power(true, reason).await.map_err(refused)?;
    Ok(StatusCode::ACCEPTED)
}

fn told(api: &Api, id: HostId, caller: &Caller, what: &str) {
    let text = format!("{} {what}", caller.actor);
    api.node.events.system(EventLevel::Warning, "host.changed", format!("host/{id}"), text);
}

/// What somebody needs to understand a host they cannot look at: logs, inventory, the objects of the cluster; without secrets.
#[utoipa::path(
    get, path = "/hosts/{id}/support-bundle", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, content_type = "application/gzip", body = Vec<u8>, description = "A tar archive"))
)]
async fn support_bundle(State(api): State<Arc<Api>>, Id(id): Id<HostId>) -> Result<Response, Failure> {
    here(&api, id)?;
    let (name, packed) = packed(&api, id).await?;
    let file = format!("attachment; filename=\"limiquantix-{name}-support.tar.gz\"");
    let headers =
        [(header::CONTENT_TYPE, "application/gzip".to_owned()), (header::CONTENT_DISPOSITION, file)];
    Ok((headers, packed).into_response())
}

/// Writes the support bundle to a removable drive of the host. Nothing half written is left on it; once this answers it can be
/// pulled out.
#[utoipa::path(
    post, path = "/hosts/{id}/support-bundle", tag = "hosts", params(("id" = HostId, Path)),
    request_body = WriteSupportBundle, responses((status = 200, body = SupportBundleWritten))
)]
async fn write_support_bundle(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    Json(wanted): Json<WriteSupportBundle>,
) -> Result<Answer<SupportBundleWritten>, Failure> {
    here(&api, id)?;
    let (name, packed) = packed(&api, id).await?;
    let size_bytes = Bytes(packed.len() as u64);
    let (prefix, at) = (removable::PREFIX, Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let file = format!("{prefix}{name}-support-{at}.tar.gz");
    let (device, host) = (wanted.device, api.node.host.clone());
    let (to, named) = (device.clone(), file.clone());
    patiently(WRITES, move || host.write_removable(&to, &named, &packed)).await?;
    told(&api, id, &caller, &format!("wrote a support bundle to the removable drive {device}"));
    Ok(Answer(StatusCode::OK, SupportBundleWritten { device, file, size_bytes }))
}

/// The removable drives plugged into a host: where a file of it can be written to, and where not and why.
#[utoipa::path(
    get, path = "/hosts/{id}/removable", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 200, body = RemovableDrives))
)]
async fn removable_drives(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
) -> Result<Answer<RemovableDrives>, Failure> {
    here(&api, id)?;
    let host = api.node.host.clone();
    let drives = patiently(LOOKS, move || host.removable()).await?;
    Ok(Answer(StatusCode::OK, RemovableDrives { drives }))
}

/// Does what a drive may be slow at, or never come back from.
async fn patiently<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, removable::Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::time::timeout(patience, tokio::task::spawn_blocking(work)).await;
    let done = done.map_err(|_| {
        let text = "the removable drive does not answer; what was being written to it is not whole. Pull it out and \
                    take another";
        Failure::new(Kind::Unavailable, text)
    })?;
    Ok(done.map_err(|e| Failure::internal(&e))??)
}

/// The name of the host and its bundle.
async fn packed(api: &Arc<Api>, id: HostId) -> Result<(String, Vec<u8>), Failure> {
    let (name, objects, mut bundle) = api.node.cluster.read(|s| {
        let name = s.hosts.get(&id).map(|r| r.meta.name.clone()).unwrap_or_default();
        (name, objects(s), Bundle::new(s))
    });
    let hosts: Vec<HostId> = api.node.cluster.read(|s| s.hosts.keys().copied().collect());
    let statuses = peer::statuses(api, &hosts).await;
    let network = api.node.host.network().await.map_err(|e| crate::causes::chain(&e));
    let (node, run) = (api.node.clone(), api.places.run.clone());
    let packed = tokio::task::spawn_blocking(move || {
        bundle.text("README.txt", "A support bundle of LimiQuantix. Secrets are left out.\n");
        for (name, object) in objects {
            bundle.object(&format!("cluster/{name}.json"), &object);
        }
        let standing = node.cluster.standing();
        bundle.text("cluster/standing.txt", &format!("{standing:#?}\n"));
        bundle.object("hosts.json", &statuses);
        match network {
            Ok(network) => bundle.object("network.json", &network),
            Err(e) => bundle.text("network.txt", &e),
        }
        bundle.object("tasks.json", &node.tasks.all());
        match node.events.list(|_| true, None, EVENTS) {
            Ok((events, _)) => bundle.object("events.json", &events),
            Err(e) => bundle.text("events.txt", &e.to_string()),
        }
        bundle.host(&run);
        bundle.finish()
    });
    Ok((name, packed.await.map_err(|e| Failure::internal(&e))?))
}

/// The objects of the cluster as the API shows them. Users, tokens and sessions are left out, and so are the command lines of
/// guests, which are for people to fill in.
fn objects(state: &Agreed) -> Vec<(&'static str, Value)> {
    let vms = state.vms.values().map(|r| {
        let mut vm = json!(r.vm);
        if let Some(line) = vm.pointer_mut("/spec/boot/cmdline") {
            *line = json!("[left out]");
        }
        vm
    });
    vec![
        ("hosts", state.hosts.values().map(|r| json!({"meta": r.meta, "boot": r.boot})).collect()),
        ("vms", vms.collect()),
        ("volumes", state.volumes.values().map(|v| json!(**v)).collect()),
        (
            "images",
            state.images.values().map(|r| json!({"meta": r.image.meta, "status": r.image.status})).collect(),
        ),
        ("networks", state.networks.values().map(|n| json!(**n)).collect()),
        ("pools", state.pools.values().map(|p| json!({"meta": p.meta})).collect()),
    ]
}
