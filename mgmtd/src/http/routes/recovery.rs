//! When the majority is gone: forming the cluster anew, backups of its state, restoring one.

use super::{
    super::{
        Api,
        extract::{Answer, Id, Json, Query},
        problem::Failure,
    },
    cluster::start_again,
};
use crate::{
    auth::{By, Caller},
    cluster::{MAX_BACKUP, PeerFrom},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lq_api::{
    event::EventLevel,
    problem::Kind,
    recovery::{BackupReason, NewEpoch, ReformCluster, ReformPreview, RestoreAs, Restored, StateBackup},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    let whole = OpenApiRouter::new().routes(routes!(restore)).layer(DefaultBodyLimit::max(MAX_BACKUP));
    OpenApiRouter::new()
        .routes(routes!(preview_reform, reform))
        .routes(routes!(backups, back_up))
        .routes(routes!(backup_content))
        .merge(whole)
}

/// What forming the cluster anew from this host would mean. Nothing is changed.
#[utoipa::path(get, path = "/cluster/reform", tag = "cluster", responses((status = 200, body = ReformPreview)))]
async fn preview_reform(State(api): State<Arc<Api>>) -> Answer<ReformPreview> {
    Answer(StatusCode::OK, api.node.cluster.preview_reform().await)
}

/// Refuses whoever is not logged in at this very host for the time without a majority: nobody else can mean this host.
fn must_be_here(api: &Api, caller: &Caller, peer: Option<&Extension<PeerFrom>>) -> Result<(), Failure> {
    let here = match caller.by {
        By::Local => true,
        By::Session(id) => api.auth.is_local(id),
        By::Token(_) => false,
    };
    if here && peer.is_none() {
        return Ok(());
    }
    let why = "this takes a login at this very host, made while no majority is reached, or root on it: log in here anew \
               (a session of the cluster, or an API token, will not do)";
    Err(Failure::new(Kind::Forbidden, why))
}

/// Forms the cluster anew from this host, without the hosts that are lost: it is the only voter, under a new epoch, by its own
/// log. Hosts that are lost are refused from then on, and come back by joining anew; machines placed on them stay placed
/// there and are not started elsewhere. Only without a majority, and only for root on this host or in a session begun at it
/// while there was none. Answered with what was done; the daemon then starts again.
#[utoipa::path(
    post, path = "/cluster/reform", tag = "cluster", request_body = ReformCluster,
    responses((status = 202, body = NewEpoch))
)]
async fn reform(
    State(api): State<Arc<Api>>,
    caller: Caller,
    peer: Option<Extension<PeerFrom>>,
    Json(wanted): Json<ReformCluster>,
) -> Result<Answer<NewEpoch>, Failure> {
    must_be_here(&api, &caller, peer.as_ref())?;
    let begun = api.node.cluster.reform(&wanted).await?;
    let text = format!("{} forms the cluster anew from this host, as epoch {}", caller.actor, begun.epoch);
    api.node.events.system(EventLevel::Warning, "cluster.reformed", format!("host/{}", api.node.id()), text);
    start_again(&api);
    Ok(Answer(StatusCode::ACCEPTED, begun))
}

/// Backups of the state on this host, newest first.
#[utoipa::path(
    get, path = "/cluster/backups", tag = "cluster", responses((status = 200, body = Vec<StateBackup>))
)]
async fn backups(State(api): State<Arc<Api>>) -> Result<Answer<Vec<StateBackup>>, Failure> {
    Ok(Answer(StatusCode::OK, api.node.cluster.backups().await?))
}

/// Makes a backup of the state on this host, now.
#[utoipa::path(post, path = "/cluster/backups", tag = "cluster", responses((status = 201, body = StateBackup)))]
async fn back_up(State(api): State<Arc<Api>>) -> Result<Answer<StateBackup>, Failure> {
    let id = api.node.cluster.backup(BackupReason::Manual).await?;
    let made = api.node.cluster.backups().await?.into_iter().find(|b| b.id == id);
    let made = made.ok_or_else(|| Failure::not_found("backup", &id))?;
    Ok(Answer(StatusCode::CREATED, made))
}

/// The file of a backup. It holds every secret of the cluster: hashes of passwords, keys of sessions, the key of its authority
/// and that of this host.
#[utoipa::path(
    get, path = "/cluster/backups/{id}/content", tag = "cluster", params(("id" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"))
)]
async fn backup_content(State(api): State<Arc<Api>>, Id(id): Id<String>) -> Result<Response, Failure> {
    let bytes = api.node.cluster.read_backup(&id).await?;
    // The name is one of ours: digits, letters and a hyphen.
    let name = format!("attachment; filename=\"{id}.lqb\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from(bytes)).into_response())
}

/// Parameters of a restore.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RestoreQuery {
    /// Name of this host, whose state is replaced.
    confirm: String,
    /// As whom this host takes the state over.
    #[serde(default, rename = "as")]
    #[param(inline)]
    as_whom: RestoreAs,
}

/// Brings back a backup of the state under a new epoch, on a host that is alone and has nothing of its own, or whose cluster was
/// formed anew. The body is the file. Every other host of the backup is lost until it joins again. Sessions and join tokens do
/// not come back; passwords and API tokens are those of the backup. Answered with what was done; the daemon then starts again.
#[utoipa::path(
    post, path = "/cluster/restore", tag = "cluster", params(RestoreQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, body = Restored))
)]
async fn restore(
    State(api): State<Arc<Api>>,
    caller: Caller,
    peer: Option<Extension<PeerFrom>>,
    Query(query): Query<RestoreQuery>,
    body: Bytes,
) -> Result<Answer<Restored>, Failure> {
    if peer.is_some() {
        return Err(Failure::new(
            Kind::Forbidden,
            "a state is restored on the host that is asked, and on no other",
        ));
    }
    let restored = api.node.cluster.restore(body.into(), &query.confirm, query.as_whom).await?;
    let text = format!("{} restores a backup of the state, as epoch {}", caller.actor, restored.epoch);
    api.node.events.system(EventLevel::Warning, "cluster.restored", format!("host/{}", api.node.id()), text);
    start_again(&api);
    Ok(Answer(StatusCode::ACCEPTED, restored))
}
