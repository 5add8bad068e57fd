//! Hosts.

use super::super::{
    Api,
    extract::{Answer, Id, Json, Query, tagged},
    list::{Wanted, sees},
    problem::Failure,
};
use crate::{auth::Caller, cluster::state::HostRecord};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    HostId,
    access::ObjectKind,
    event::EventLevel,
    host::{Host, HostPower, HostPowerAction, HostStatus},
    list::{ListQuery, Page},
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(power))
}

/// Read off the async threads: it looks at many small files.
async fn status(api: &Api) -> Option<HostStatus> {
    let host = api.node.host.clone();
    tokio::task::spawn_blocking(move || host.status()).await.ok()
}

fn show(record: &HostRecord, this: HostId, status: Option<&HostStatus>) -> Host {
    let mine = record.meta.id == this;
    Host { meta: record.meta.clone(), status: status.filter(|_| mine).cloned() }
}

/// Hosts of the cluster.
#[utoipa::path(get, path = "/hosts", tag = "hosts", params(ListQuery), responses((status = 200, body = Page<Host>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Host>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let status = status(&api).await;
    let this = api.node.id();
    let page = api.node.cluster.read_at(|s, revision| {
        let may_see = sees(&caller, ObjectKind::Host);
        wanted.page(&s.hosts, revision, |r| &r.meta, may_see, |r| show(r, this, status.as_ref()))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// A host.
#[utoipa::path(
    get, path = "/hosts/{id}", tag = "hosts", params(("id" = HostId, Path)), responses((status = 200, body = Host))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<HostId>) -> Result<Response, Failure> {
    let status = status(&api).await;
    let this = api.node.id();
    let host = api.node.cluster.read(|s| s.hosts.get(&id).map(|r| show(r, this, status.as_ref())));
    let host = host.ok_or_else(|| Failure::not_found("host", id))?;
    Ok(tagged(StatusCode::OK, &host.meta, &host))
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
    if !api.node.cluster.read(|s| s.hosts.contains_key(&id)) {
        return Err(Failure::not_found("host", id));
    }
    if id != api.node.id() {
        return Err(Failure::new(Kind::Unavailable, "that host cannot be asked from here"));
    }
    let (reboot, word) = match power.action {
        HostPowerAction::Reboot => (true, "restart"),
        HostPowerAction::PowerOff => (false, "switch off"),
    };
    let reason = format!("{} asked to {word}", caller.actor);
    api.node.events.system(EventLevel::Warning, "host.power", format!("host/{id}"), reason.clone());
    let done = api.node.host.power(reboot, reason).await;
    done.map_err(|e| Failure::new(Kind::Unavailable, super::super::problem::chain(&e)))?;
    Ok(StatusCode::ACCEPTED)
}
