//! First password, logging in and out, one's own account.

use super::super::{
    Api, Peer,
    extract::{Answer, Json, OptionalJson},
    guard,
    note::Claimed,
    problem::Failure,
};
use crate::auth::Caller;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{AppendHeaders, IntoResponse as _, Response},
};
use lq_api::{
    auth::{
        ChangePassword, ConfirmTotp, EnrolTotp, Identity, Login, OidcFinish, OidcRedirect, OidcStart,
        RecoveryCodes, Refresh, RemoveTotp, Session, Setup, SetupRequest, TotpEnrolment,
    },
    problem::Kind,
    provider::{LOCAL_REALM, Realm},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(setup, set_up))
        .routes(routes!(realms))
        .routes(routes!(start_oidc))
        .routes(routes!(finish_oidc))
        .routes(routes!(log_in, identity, log_out))
        .routes(routes!(refresh))
        .routes(routes!(change_password))
        .routes(routes!(offer_totp))
        .routes(routes!(confirm_totp))
        .routes(routes!(remove_totp))
}

/// Whether the first password is still to be set.
#[utoipa::path(get, path = "/setup", tag = "session", security(()), responses((status = 200, body = Setup)))]
async fn setup(State(api): State<Arc<Api>>) -> Answer<Setup> {
    Answer(StatusCode::OK, Setup { needed: api.auth.setup_needed() })
}

/// Makes the user `admin`, with the code shown on the host's console, and logs in.
#[utoipa::path(
    post, path = "/setup", tag = "session", security(()), request_body = SetupRequest,
    responses((status = 201, body = Session))
)]
async fn set_up(State(api): State<Arc<Api>>, peer: Peer, Json(request): Json<SetupRequest>) -> Response {
    let done = api.auth.set_up(peer.address(), peer.to_string(), &request.code, &request.password).await;
    answer("admin".into(), done.map_err(Failure::from))
}

/// Logs in. The answer carries the session's tokens, and the cookies `lq_session` and `lq_refresh` for browsers.
#[utoipa::path(
    post, path = "/session", tag = "session", security(()), request_body = Login,
    responses((status = 201, body = Session))
)]
async fn log_in(State(api): State<Arc<Api>>, peer: Peer, Json(login): Json<Login>) -> Response {
    let done = api.auth.login(peer.address(), peer.to_string(), &login).await;
    let claimed = match (&done, &login.realm) {
        (Ok(session), _) => session.username.clone(),
        (Err(_), Some(realm)) if realm != LOCAL_REALM => format!("{}@{realm}", login.username),
        (Err(_), _) => login.username,
    };
    answer(claimed, done.map_err(Failure::from))
}

/// Ways to log in: the cluster's own users, directories, and providers at whose own page one logs in.
#[utoipa::path(
    get, path = "/session/realms", tag = "session", security(()), responses((status = 200, body = Vec<Realm>))
)]
async fn realms(State(api): State<Arc<Api>>) -> Answer<Vec<Realm>> {
    Answer(StatusCode::OK, api.auth.realms())
}

/// Begins to log in at the page of an identity provider. For browsers: the answer sets a cookie, and the provider sends the browser
/// back to `/oidc` of the address the page was opened by.
#[utoipa::path(
    post, path = "/session/oidc/start", tag = "session", security(()), request_body = OidcStart,
    responses((status = 201, body = OidcRedirect))
)]
async fn start_oidc(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
    Json(start): Json<OidcStart>,
) -> Response {
    let claimed = Extension(Claimed(format!("someone@{}", start.realm)));
    let origin = guard::own_origin(&headers, &uri).filter(|_| guard::from_our_page(&headers, &uri));
    let Some(origin) = origin else {
        return (claimed, Failure::new(Kind::Forbidden, guard::FORGED)).into_response();
    };
    match api.auth.begin_oidc(&start.realm, format!("{origin}/oidc")).await {
        Ok((url, cookie)) => {
            let cookie = AppendHeaders([(header::SET_COOKIE, guard::oidc_cookie(&cookie))]);
            (claimed, cookie, Answer(StatusCode::CREATED, OidcRedirect { url })).into_response()
        }
        Err(e) => (claimed, Failure::from(e)).into_response(),
    }
}

/// Logs in with the code a browser came back with from an identity provider.
#[utoipa::path(
    post, path = "/session/oidc", tag = "session", security(()), request_body = OidcFinish,
    responses((status = 201, body = Session))
)]
async fn finish_oidc(
    State(api): State<Arc<Api>>,
    peer: Peer,
    headers: HeaderMap,
    uri: Uri,
    Json(finish): Json<OidcFinish>,
) -> Response {
    if !guard::from_our_page(&headers, &uri) {
        let forged = Failure::new(Kind::Forbidden, guard::FORGED);
        return (Extension(Claimed("nobody".into())), forged).into_response();
    }
    let cookie = guard::cookie(&headers, guard::OIDC_COOKIE);
    let (realm, done) = api.auth.finish_oidc(peer.address(), peer.to_string(), cookie, &finish).await;
    let claimed = match (&done, realm) {
        (Ok(session), _) => session.username.clone(),
        (Err(_), Some(realm)) => format!("someone@{realm}"),
        (Err(_), None) => "nobody".into(),
    };
    let used = AppendHeaders([(header::SET_COOKIE, guard::oidc_cookie(""))]);
    (used, answer(claimed, done.map_err(Failure::from))).into_response()
}

/// The next access token, for a refresh token, which is used up by that. In a browser the cookie is taken. A used up token
/// presented again ends the session; for 30 seconds it is answered without a new refresh token, because requests of one
/// browser cross each other.
#[utoipa::path(
    post, path = "/session/refresh", tag = "session", security(()), request_body = Option<Refresh>,
    responses((status = 201, body = Session))
)]
async fn refresh(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
    OptionalJson(body): OptionalJson<Refresh>,
) -> Response {
    let token = match body.refresh_token {
        Some(token) => Ok(token),
        None if !guard::from_our_page(&headers, &uri) => {
            let forged = Failure::new(Kind::Forbidden, guard::FORGED);
            return (Extension(Claimed("nobody".into())), forged).into_response();
        }
        None => guard::cookie(&headers, guard::REFRESH_COOKIE)
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(Kind::Unauthenticated, "there is no session to go on with: log in")),
    };
    match token {
        Err(failure) => failure.into_response(),
        Ok(token) => match api.auth.refresh(&token).await {
            (Some(name), done) => answer(name, done.map_err(Failure::from)),
            (None, done) => done.map_or_else(|e| Failure::from(e).into_response(), with_cookies),
        },
    }
}

/// With who it claims to be, for the audit.
fn answer(claimed: String, done: Result<Session, Failure>) -> Response {
    let response = done.map_or_else(|e| e.into_response(), with_cookies);
    (Extension(Claimed(claimed)), response).into_response()
}

fn with_cookies(session: Session) -> Response {
    let mut cookies = vec![(header::SET_COOKIE, guard::session_cookie(&session.token))];
    let refresh = session.refresh_token.as_deref().map(guard::refresh_cookie);
    cookies.extend(refresh.map(|cookie| (header::SET_COOKIE, cookie)));
    (AppendHeaders(cookies), Answer(StatusCode::CREATED, session)).into_response()
}

/// Who am I, and what may I do.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Identity)))]
async fn identity(State(api): State<Arc<Api>>, caller: Caller) -> Answer<Identity> {
    let identity = api.node.cluster.read(|s| caller.identity(s));
    let logout_url = caller.user.and_then(|user| api.auth.logout_url(user));
    Answer(StatusCode::OK, Identity { logout_url, ..identity })
}

/// Logs out: the session ends.
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204)))]
async fn log_out(State(api): State<Arc<Api>>, caller: Caller) -> Result<Response, Failure> {
    api.auth.end_session(&caller).await?;
    let cookies = [guard::session_cookie(""), guard::refresh_cookie("")].map(|c| (header::SET_COOKIE, c));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(cookies)).into_response())
}

/// Changes one's own password. All other sessions of the user end.
#[utoipa::path(
    post, path = "/session/password", tag = "session", request_body = ChangePassword, responses((status = 204))
)]
async fn change_password(
    State(api): State<Arc<Api>>,
    peer: Peer,
    caller: Caller,
    Json(change): Json<ChangePassword>,
) -> Result<StatusCode, Failure> {
    api.auth.change_password(peer.address(), &caller, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A secret for one's authenticator, for the password. Logging in asks for one-time codes once a first one was confirmed.
#[utoipa::path(
    post, path = "/session/totp", tag = "session", request_body = EnrolTotp,
    responses((status = 201, body = TotpEnrolment))
)]
async fn offer_totp(
    State(api): State<Arc<Api>>,
    peer: Peer,
    caller: Caller,
    Json(enrol): Json<EnrolTotp>,
) -> Result<Answer<TotpEnrolment>, Failure> {
    let offer = api.auth.offer_totp(peer.address(), &caller, &enrol.password).await?;
    Ok(Answer(StatusCode::CREATED, offer))
}

/// Confirms that the authenticator has the secret. Answers with recovery codes, shown this once.
#[utoipa::path(
    post, path = "/session/totp/confirm", tag = "session", request_body = ConfirmTotp,
    responses((status = 200, body = RecoveryCodes))
)]
async fn confirm_totp(
    State(api): State<Arc<Api>>,
    peer: Peer,
    caller: Caller,
    Json(confirm): Json<ConfirmTotp>,
) -> Result<Answer<RecoveryCodes>, Failure> {
    let codes = api.auth.confirm_totp(peer.address(), &caller, &confirm.code).await?;
    Ok(Answer(StatusCode::OK, codes))
}

/// Logging in asks for no one-time codes any more.
#[utoipa::path(
    post, path = "/session/totp/remove", tag = "session", request_body = RemoveTotp, responses((status = 204))
)]
async fn remove_totp(
    State(api): State<Arc<Api>>,
    peer: Peer,
    caller: Caller,
    Json(remove): Json<RemoveTotp>,
) -> Result<StatusCode, Failure> {
    api.auth.remove_totp(peer.address(), &caller, &remove.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
