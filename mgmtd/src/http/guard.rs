//! What holds for every request: it is numbered, counted, limited ([`super::rate`]) and logged; on `/api/v1` its caller is known, may do it ([`rules`]),
//! was not tricked into it by another site, and every change is in the audit log ([`super::note`]).

use super::{
    Api, MAX_OPEN_BODY, Peer,
    extract::{Bodies, Largest},
    note::Note,
    problem::{self, Failure},
    rules::{self, Rule},
    server::Seat,
};
use crate::{
    auth::{Caller, LOGIN_TAKES},
    tasks::asked_by,
};
use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use lq_api::{
    access::Permission,
    problem::{Kind, MEDIA_TYPE, Problem},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Name of the session cookie.
pub(super) const COOKIE: &str = "lq_session";
/// Name of the cookie that refreshes it.
pub(super) const REFRESH_COOKIE: &str = "lq_refresh";
/// Name of the cookie of a login at an identity provider.
pub(super) const OIDC_COOKIE: &str = "lq_oidc";
/// Header that says a browser's request comes from our own page.
const OURS: &str = "x-lq-request";
/// What another site's request is told.
pub(super) const FORGED: &str = "this came from another site; our own page sends `X-LQ-Request: 1`";

/// Outermost: numbers, counts and logs every request, and puts the number into problems.
pub(super) async fn envelope(State(api): State<Arc<Api>>, mut req: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = uuid::Uuid::new_v4().simple().to_string();
    req.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (req.method().clone(), req.uri().path().to_owned());
    let from = req.extensions().get::<Peer>().and_then(Peer::address);
    let mut response = match from.map_or(Ok(()), |from| api.requests.of_address(from, began)) {
        Ok(()) => next.run(req).await,
        Err(wait) => too_many("this address", wait).into_response(),
    };
    if let Some(mut problem) = response.extensions_mut().remove::<Box<Problem>>() {
        problem.request_id = Some(id.clone());
        if let Ok(body) = serde_json::to_vec(&problem) {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(body);
        }
    } else if response.status().is_client_error()
        && response.headers().get(header::CONTENT_TYPE).is_none_or(plain)
    {
        // A refusal of the framework's own.
        response = Failure::new(Kind::Malformed, "the request could not be understood").into_response();
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    api.metrics.answered(method.as_str(), status, began.elapsed());
    tracing::debug!(request_id = id, %method, path, status, micros = began.elapsed().as_micros(), "answered");
    response
}

fn too_many(whose: &str, wait: Duration) -> Failure {
    Failure::limited(format!("too many requests of {whose}: go on more slowly"), wait)
}

fn plain(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"text/plain") && value.as_bytes() != MEDIA_TYPE.as_bytes()
}

/// Number of a request.
#[derive(Clone, Default)]
pub(super) struct RequestId(String);

/// Around `/api/v1`: who asks, may they, and what became of it.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut req: Request, next: Next) -> Response {
    let method = req.method().clone();
    let path = req.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned()).unwrap_or_default();
    let path = path.strip_prefix("/api/v1").unwrap_or(&path).to_owned();
    let Some(rule) = rules::rule(method.as_str(), &path) else {
        // Nothing runs without a rule.
        return if rules::RULES.iter().any(|(_, known, _)| *known == path) {
            problem::no_such_method(method, req.uri().clone()).await.into_response()
        } else {
            Failure::new(Kind::Forbidden, "nobody may use this: it has no rule").into_response()
        };
    };
    let open = rule == Rule::Open;
    let (caller, cookie) = match identify(&api, &req) {
        Ok(Some((caller, cookie))) => (Some(caller), cookie),
        Ok(None) if open => (None, false),
        Ok(None) => {
            return Failure::new(Kind::Unauthenticated, "this needs a session or an API token")
                .into_response();
        }
        Err(_) if open => (None, false),
        Err(failure) => return failure.into_response(),
    };
    if let Some(caller) = &caller
        && let Err(wait) = api.requests.of_caller(caller, Instant::now())
    {
        return too_many(&caller.actor, wait).into_response();
    }
    let safe = matches!(method, Method::GET | Method::HEAD);
    let changes = !safe || req.headers().contains_key(header::UPGRADE);
    // Root's socket is no browser's; a bearer token is never sent by a browser on its own.
    let forged = changes && cookie && !from_our_page(req.headers(), req.uri());
    let id = path_id(&path, req.uri().path());
    let note = changes.then(|| Note::of(&api, &req, caller.as_ref(), &path, id.as_deref()));
    let allowed = match &caller {
        _ if forged => Err(Failure::new(Kind::Forbidden, FORGED)),
        Some(caller) if caller.must_change_password && !open => {
            if rules::BEFORE_PASSWORD_CHANGE.contains(&(method.as_str(), path.as_str())) {
                Ok(())
            } else {
                let why = "set a new password first: `POST /session/password`";
                Err(Failure::new(Kind::PasswordChange, why))
            }
        }
        // A console changes nothing by itself, and yet whoever is at it can.
        Some(caller) if (changes || !rule.reads()) && caller.rights.only_read() => {
            Err(Failure::new(Kind::Forbidden, "this token may only read"))
        }
        Some(caller) => rules::check(&api.node.cluster, caller, rule, id.as_deref()),
        None => Ok(()),
    };
    let user = caller.as_ref().and_then(|c| c.user);
    match caller {
        Some(caller) => {
            req.extensions_mut().insert(Bodies(api.bodies.clone(), caller.user));
            req.extensions_mut().insert(caller);
        }
        None => Largest(MAX_OPEN_BODY).limit(&mut req),
    }
    match (allowed, note) {
        (Ok(()), None) => next.run(req).await,
        (Err(failure), None) => failure.into_response(),
        (Err(failure), Some(note)) => {
            let mut response = failure.into_response();
            note.write(&api, &mut response).await;
            response
        }
        // In a task of its own: a client that hangs up must not take the record of its change with it.
        (Ok(()), Some(note)) => {
            let noted = tokio::spawn(asked_by(user, async move {
                let mut response = next.run(req).await;
                note.write(&api, &mut response).await;
                response
            }));
            noted.await.unwrap_or_else(|e| Failure::internal(&e).into_response())
        }
    }
}

/// What stands in the path where its pattern has `{id}`.
fn path_id(pattern: &str, path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let mut pairs = pattern.split('/').zip(path.split('/'));
    pairs.find(|(wanted, _)| *wanted == "{id}").map(|(_, found)| found.to_owned())
}

/// Who asks, and whether by cookie. A credential that is sent but wrong is an error, even where none is needed. The connection
/// is no stranger's any more.
fn identify(api: &Api, req: &Request) -> Result<Option<(Caller, bool)>, Failure> {
    let found = credential(api, req)?;
    if found.is_some()
        && let Some(seat) = req.extensions().get::<Seat>()
    {
        seat.0.know();
    }
    Ok(found)
}

fn credential(api: &Api, req: &Request) -> Result<Option<(Caller, bool)>, Failure> {
    let wrong =
        || Failure::new(Kind::Unauthenticated, "the session or token is not valid (any more): log in again");
    if let Some(value) = req.headers().get(header::AUTHORIZATION) {
        let credential = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(wrong)?;
        return api.auth.check(credential.trim()).map(|c| Some((c, false))).ok_or_else(wrong);
    }
    if let Some(credential) = cookie(req.headers(), COOKIE) {
        return api.auth.check(credential).map(|c| Some((c, true))).ok_or_else(wrong);
    }
    if req.extensions().get::<Peer>().is_some_and(Peer::is_local_root) {
        return Ok(Some((Caller::local(), false)));
    }
    Ok(None)
}

/// Refuses those who may not read the metrics, which lie outside `/api/v1`.
pub(super) fn may_read_metrics(api: &Api, req: &Request) -> Result<(), Failure> {
    match identify(api, req)? {
        Some((caller, _)) if caller.must_change_password => {
            Err(Failure::new(Kind::PasswordChange, "set a new password first"))
        }
        Some((caller, _)) if caller.may_all(Permission::ClusterRead) => Ok(()),
        Some(_) => Err(rules::missing(Permission::ClusterRead, "the cluster")),
        None => Err(Failure::new(
            Kind::Unauthenticated,
            "this needs a session or an API token with `cluster.read`",
        )),
    }
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
    })
}

/// A page of another site can neither set our header nor hide its origin.
pub(super) fn from_our_page(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(origin) = text(header::ORIGIN) {
        // HTTP/2 carries the host in the request's target.
        let host = uri.authority().map(|a| a.as_str()).or_else(|| text(header::HOST));
        return host.is_some() && origin.strip_prefix("https://") == host;
    }
    headers.get(OURS).is_some_and(|v| v.as_bytes() == b"1")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let none = || Failure::new(Kind::Unauthenticated, "this needs a session or an API token");
        parts.extensions.get::<Self>().cloned().ok_or_else(none)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self::Unknown))
    }
}

/// The cookie that carries an access token; empty to take it away.
pub(super) fn session_cookie(token: &str) -> String {
    let age = if token.is_empty() { "; Max-Age=0" } else { "" };
    format!("{COOKIE}={token}; Path=/; HttpOnly; Secure; SameSite=Strict{age}")
}

/// The cookie that carries a refresh token; sent to `/api/v1/session` only.
pub(super) fn refresh_cookie(token: &str) -> String {
    let age = if token.is_empty() { "; Max-Age=0" } else { "" };
    format!("{REFRESH_COOKIE}={token}; Path=/api/v1/session; HttpOnly; Secure; SameSite=Strict{age}")
}

/// The cookie of a login at an identity provider; empty to take it away.
pub(super) fn oidc_cookie(sealed: &str) -> String {
    let age = if sealed.is_empty() { 0 } else { LOGIN_TAKES.as_secs() };
    format!(
        "{OIDC_COOKIE}={sealed}; Path=/api/v1/session/oidc; HttpOnly; Secure; SameSite=Strict; Max-Age={age}"
    )
}

/// The address by which the page was opened, `https://host[:port]`.
pub(super) fn own_origin(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let host = uri.authority().map(|a| a.as_str());
    let host = host.or_else(|| headers.get(header::HOST).and_then(|v| v.to_str().ok()))?;
    Some(format!("https://{host}"))
}

impl RequestId {
    pub(super) fn of(req: &Request) -> String {
        req.extensions().get::<Self>().cloned().unwrap_or_default().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(k, v): &(&str, &str)| {
            (header::HeaderName::from_bytes(k.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let both = headers(&[("cookie", "a=b; lq_session=x.y; c=d"), ("cookie", "lq_refresh=z")]);
        assert_eq!(cookie(&both, COOKIE), Some("x.y"));
        assert_eq!(cookie(&both, REFRESH_COOKIE), Some("z"));
        assert_eq!(cookie(&headers(&[("cookie", "xlq_session=1")]), COOKIE), None);
    }

    #[test]
    fn the_id_is_found_in_the_path() {
        assert_eq!(path_id("/vms/{id}/start", "/api/v1/vms/17/start").as_deref(), Some("17"));
        assert_eq!(path_id("/vms", "/api/v1/vms"), None);
    }

    #[test]
    fn other_sites_are_seen() {
        let ours = |pairs: &[(&str, &str)]| from_our_page(&headers(pairs), &Uri::from_static("/x"));
        assert!(ours(&[("origin", "https://h:8443"), ("host", "h:8443")]));
        assert!(!ours(&[("origin", "https://evil"), ("host", "h"), ("x-lq-request", "1")]));
        assert!(!ours(&[("origin", "null"), ("host", "h")]));
        assert!(!ours(&[("origin", "https://h")]));
        assert!(ours(&[("x-lq-request", "1")]));
        assert!(!ours(&[("host", "h")]));
        let second = Uri::from_static("https://h:8443/x");
        assert!(from_our_page(&headers(&[("origin", "https://h:8443")]), &second));
        assert!(!from_our_page(&headers(&[("origin", "https://g:8443")]), &second));
    }
}
