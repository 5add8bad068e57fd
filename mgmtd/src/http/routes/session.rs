//! First password, logging in and out.

use super::super::{
    Api, Peer,
    extract::{Answer, Json},
    guard,
    problem::Failure,
};
use crate::auth::Caller;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lq_api::auth::{ChangePassword, Identity, Login, Session, Setup, SetupRequest};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(setup, set_up))
        .routes(routes!(log_in, identity, log_out))
        .routes(routes!(change_password))
}

/// Whether the first password is still to be set.
#[utoipa::path(get, path = "/setup", tag = "session", security(()), responses((status = 200, body = Setup)))]
async fn setup(State(api): State<Arc<Api>>) -> Answer<Setup> {
    Answer(StatusCode::OK, Setup { needed: api.auth.setup_needed() })
}

/// Sets the first password, with the code shown on the host's console, and logs in.
#[utoipa::path(
    post, path = "/setup", tag = "session", security(()), request_body = SetupRequest,
    responses((status = 201, body = Session))
)]
async fn set_up(
    State(api): State<Arc<Api>>,
    peer: Peer,
    Json(request): Json<SetupRequest>,
) -> Result<Response, Failure> {
    let session = api.auth.set_up(peer.address(), &request.code, &request.password).await?;
    Ok(with_cookie(session))
}

/// Logs in. The answer carries the session's secret, and the cookie `lq_session` for browsers.
#[utoipa::path(
    post, path = "/session", tag = "session", security(()), request_body = Login,
    responses((status = 201, body = Session))
)]
async fn log_in(
    State(api): State<Arc<Api>>,
    peer: Peer,
    Json(login): Json<Login>,
) -> Result<Response, Failure> {
    let session = api.auth.login(peer.address(), &login.username, &login.password).await?;
    Ok(with_cookie(session))
}

fn with_cookie(session: Session) -> Response {
    let cookie = guard::session_cookie(&session.token);
    ([(header::SET_COOKIE, cookie)], Answer(StatusCode::CREATED, session)).into_response()
}

/// Who am I.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Identity)))]
async fn identity(caller: Caller) -> Answer<Identity> {
    Answer(StatusCode::OK, caller.identity())
}

/// Logs out: the session ends.
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204)))]
async fn log_out(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    api.auth.end_session(&caller);
    let cookie = guard::session_cookie("");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Changes the password. All other sessions end.
#[utoipa::path(
    post, path = "/session/password", tag = "session", request_body = ChangePassword, responses((status = 204))
)]
async fn change_password(
    State(api): State<Arc<Api>>,
    peer: Peer,
    caller: Caller,
    Json(change): Json<ChangePassword>,
) -> Result<StatusCode, Failure> {
    if !guard::may_change_password(&caller) {
        let why = "an API token cannot change the password: log in";
        return Err(Failure::new(lq_api::problem::Kind::Forbidden, why));
    }
    api.auth.change_password(peer.address(), &caller, &change.old, &change.new).await?;
    Ok(StatusCode::NO_CONTENT)
}
