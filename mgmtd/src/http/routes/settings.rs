//! What users keep for themselves.

use super::super::{
    Api,
    extract::{Answer, IfMatch, Json},
    problem::Failure,
};
use crate::{
    auth::{By, Caller},
    cluster::Op,
};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse as _, Response},
};
use lq_api::{
    UserId,
    problem::Kind,
    settings::{ReplaceUserSettings, UserSettings},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get, replace))
}

fn answer(settings: UserSettings) -> Response {
    let tag = format!("\"{}\"", settings.revision);
    (AppendHeaders([(header::ETAG, tag)]), Answer(StatusCode::OK, settings)).into_response()
}

fn of(api: &Api, user: UserId) -> UserSettings {
    api.node.cluster.read(|s| s.settings.get(&user).map(|k| (**k).clone()).unwrap_or_default())
}

/// What the caller keeps for themselves; nothing for root on the host.
#[utoipa::path(get, path = "/session/settings", tag = "session", responses((status = 200, body = UserSettings)))]
async fn get(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    answer(caller.user.map(|user| of(&api, user)).unwrap_or_default())
}

/// Replaces what the caller keeps for themselves. It takes a login: a token is not the one who looks at lists.
#[utoipa::path(
    put, path = "/session/settings", tag = "session", request_body = ReplaceUserSettings,
    responses((status = 200, body = UserSettings))
)]
async fn replace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    IfMatch(expect): IfMatch,
    Json(wanted): Json<ReplaceUserSettings>,
) -> Result<Response, Failure> {
    let user = caller.user.filter(|_| matches!(caller.by, By::Session(_)));
    let user =
        user.ok_or_else(|| Failure::new(Kind::Forbidden, "settings are kept for a user who is logged in"))?;
    Failure::check(wanted.validate())?;
    api.node.cluster.write(Op::SetUserSettings { user, expect, filters: wanted.filters }).await?;
    Ok(answer(of(&api, user)))
}
