//! Hosts.

use super::super::{
    Api,
    access::with_labels,
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::{Wanted, sees},
    peer,
    problem::Failure,
    rules::missing,
};
use super::management::here;
use crate::{
    auth::Caller,
    cluster::{Op, Reply, state::HostRecord},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    HostId,
    access::{ObjectKind, Permission},
    event::EventLevel,
    ha::HaHostState,
    host::{Host, HostMaintenance, HostPower, HostPowerAction, HostStatus},
    list::{ListQuery, Page},
    meta::MetadataPatch,
    problem::Kind,
    task::Task,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, update, remove))
        .routes(routes!(power))
        .routes(routes!(maintenance))
        .routes(routes!(confirm_off))
}

fn show(record: &HostRecord, statuses: &[(HostId, HostStatus)]) -> Host {
    let status = statuses.iter().find(|(id, _)| *id == record.meta.id).map(|(_, s)| s.clone());
    record.shown(status)
}

/// Hosts of the cluster.
#[utoipa::path(get, path = "/hosts", tag = "hosts", params(ListQuery), responses((status = 200, body = Page<Host>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Host>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let may_see = sees(&caller, ObjectKind::Host);
    let hosts: Vec<HostId> = api.node.cluster.read(|s| s.hosts.keys().copied().collect());
    let statuses = peer::statuses(&api, &hosts).await;
    let page = api
        .node
        .cluster
        .read_at(|s, revision| wanted.page(&s.hosts, revision, |r| &r.meta, may_see, |r| show(r, &statuses)));
    Ok(Answer(StatusCode::OK, page))
}

/// A host.
#[utoipa::path(
    get, path = "/hosts/{id}", tag = "hosts", params(("id" = HostId, Path)), responses((status = 200, body = Host))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<HostId>) -> Result<Response, Failure> {
    let own: Vec<_> = (id == api.node.id()).then_some(id).into_iter().collect();
    let statuses = peer::statuses(&api, &own).await;
    let host = api.node.cluster.read(|s| s.hosts.get(&id).map(|r| show(r, &statuses)));
    let host = host.ok_or_else(|| Failure::not_found("host", id))?;
    Ok(tagged(StatusCode::OK, &host.meta, &host))
}

/// Changes a host's name and labels. The name holds from then on, whatever the host calls itself.
#[utoipa::path(
    patch, path = "/hosts/{id}", tag = "hosts", params(("id" = HostId, Path)), request_body = MetadataPatch,
    responses((status = 200, body = Host))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
    Json(patch): Json<MetadataPatch>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Host, id.0), patch.labels.as_ref(), Permission::ClusterWrite)
    })?;
    match api.node.cluster.write(Op::UpdateHost { id, expect, patch }).await? {
        Reply::Host(meta) => {
            let shown = api.node.cluster.read(|s| s.hosts.get(&id).map(|record| record.shown(None)));
            let mut host =
                shown.ok_or_else(|| Failure::new(Kind::NotFound, "the host was removed meanwhile"))?;
            host.meta = (*meta).clone();
            Ok(tagged(StatusCode::OK, &host.meta, &host))
        }
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// Parameters of the removal of a host.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RemoveQuery {
    /// Give up what only this host holds: its machines, volumes and images. Without it a host that holds anything is not
    /// removed.
    #[serde(default)]
    force: bool,
}

/// Removes a host from the cluster for ever: its id and its key never come back. What runs on it runs on.
#[utoipa::path(
    delete, path = "/hosts/{id}", tag = "hosts", params(("id" = HostId, Path), RemoveQuery),
    responses((status = 204))
)]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, Failure> {
    let given_up = [Permission::VmWrite, Permission::StorageWrite];
    if query.force
        && let Some(lacking) = given_up.into_iter().find(|p| !caller.may_all(*p))
    {
        return Err(missing(lacking, "the cluster, because machines and volumes may be given up"));
    }
    api.node.cluster.remove_host(id, expect, query.force).await?;
    api.node.events.system(
        EventLevel::Warning,
        "host.removed",
        format!("host/{id}"),
        format!("{} removed it from the cluster", caller.actor),
    );
    Ok(StatusCode::NO_CONTENT)
}

/// Says for certain that a silent host is off: its protected machines are started elsewhere at once, without waiting for its
/// lease to end. Said of a host that still runs, machines would run twice; of one that answers it is refused.
#[utoipa::path(
    post, path = "/hosts/{id}/confirm-off", tag = "hosts", params(("id" = HostId, Path)),
    responses((status = 204, description = "Noted"))
)]
async fn confirm_off(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    if !api.node.cluster.read(|s| s.hosts.contains_key(&id)) {
        return Err(Failure::not_found("host", id));
    }
    let watched = peer::watched(&api).await;
    let state = watched.hosts.iter().find(|host| host.host == id).map(|host| host.state);
    if !matches!(state, Some(HaHostState::Silent | HaHostState::Lost)) {
        let why = match state {
            Some(HaHostState::Present) => "the host answers: it is not off",
            _ => {
                "it is not known whether the host is silent: wait until the cluster has a leader that watches it"
            }
        };
        return Err(Failure::new(Kind::Conflict, why));
    }
    api.node.cluster.write(Op::ConfirmOff { id, expect }).await?;
    let text = format!("{} confirmed that it is off", caller.actor);
    api.node.events.system(EventLevel::Warning, "host.confirmed-off", format!("host/{id}"), text);
    Ok(StatusCode::NO_CONTENT)
}

/// Restarts a host or switches it off. Its guests are asked to power off first.
#[utoipa::path(
    post, path = "/hosts/{id}/power", tag = "hosts", params(("id" = HostId, Path)), request_body = HostPower,
    responses((status = 202, description = "It is going down"))
)]
async fn power(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    Json(power): Json<HostPower>,
) -> Result<StatusCode, Failure> {
    here(&api, id)?;
    let (reboot, word) = match power.action {
        HostPowerAction::Reboot => (true, "restart"),
        HostPowerAction::PowerOff => (false, "switch off"),
    };
    let reason = format!("{} asked to {word}", caller.actor);
    api.node.events.system(EventLevel::Warning, "host.power", format!("host/{id}"), reason.clone());
    let done = api.node.host.power(reboot, reason).await;
    done.map_err(|e| Failure::new(Kind::Unavailable, crate::causes::chain(&e)))?;
    Ok(StatusCode::ACCEPTED)
}

/// Puts a host in maintenance, or ends it. In maintenance no machine is placed or started on it; the task moves those that run
/// there to other hosts, one result each. With `shut_down` those that cannot be moved are shut down; else they run on, and the
/// task fails. The host is in maintenance in any case, across restarts, until it is ended.
#[utoipa::path(
    post, path = "/hosts/{id}/maintenance", tag = "hosts", params(("id" = HostId, Path)), request_body = HostMaintenance,
    responses((status = 202, body = Task))
)]
async fn maintenance(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
    Json(wish): Json<HostMaintenance>,
) -> Result<Answer<Task>, Failure> {
    if !api.node.cluster.read(|s| s.hosts.contains_key(&id)) {
        return Err(Failure::not_found("host", id));
    }
    if id != api.node.id() {
        return Err(Failure::new(Kind::Unavailable, "that host cannot be asked from here"));
    }
    Ok(Answer(StatusCode::ACCEPTED, api.node.set_maintenance(expect, wish, &caller.actor).await?))
}
