//! What holds for every request: it is numbered, counted and logged; on `/api/v1` its caller is known, may do it, was not
//! tricked into it by another site, and every change leaves an event.

use super::{Api, Peer, problem::Failure};
use crate::{
    auth::{By, Caller},
    telemetry::NewEvent,
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use lq_api::{
    event::EventLevel,
    problem::{Kind, MEDIA_TYPE, Problem},
};
use std::{sync::Arc, time::Instant};

/// Name of the session cookie.
pub(super) const COOKIE: &str = "lq_session";
/// Header that says a browser's request comes from our own page.
const OURS: &str = "x-lq-request";

/// What may be asked without a credential. Everything else needs one.
const OPEN: [(&str, &str); 4] =
    [("GET", "/setup"), ("POST", "/setup"), ("POST", "/session"), ("GET", "/openapi.json")];

/// Outermost: numbers, counts and logs every request, and puts the number into problems.
pub(super) async fn envelope(State(api): State<Arc<Api>>, req: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let (method, path) = (req.method().clone(), req.uri().path().to_owned());
    let mut response = next.run(req).await;
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

fn plain(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"text/plain") && value.as_bytes() != MEDIA_TYPE.as_bytes()
}

/// Around `/api/v1`: who asks, and may they.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut req: Request, next: Next) -> Response {
    let open = OPEN.contains(&(req.method().as_str(), req.uri().path()));
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
    let safe = matches!(*req.method(), Method::GET | Method::HEAD);
    let upgrade = req.headers().contains_key(header::UPGRADE);
    // Root's socket is no browser's; a bearer token is never sent by a browser on its own.
    if (!safe || upgrade) && cookie && !from_our_page(req.headers(), req.uri()) {
        let why = "this came from another site; our own page sends `X-LQ-Request: 1`";
        return Failure::new(Kind::Forbidden, why).into_response();
    }
    if let Some(caller) = &caller
        && caller.read_only
        && (!safe || upgrade)
    {
        return Failure::new(Kind::Forbidden, "this token may only read").into_response();
    }
    let actor = caller.as_ref().map(|c| c.actor.clone());
    let (method, path) = (req.method().clone(), req.uri().path().to_owned());
    let peer = req.extensions().get::<Peer>().map(ToString::to_string).unwrap_or_default();
    if let Some(caller) = caller {
        req.extensions_mut().insert(caller);
    }
    let response = next.run(req).await;
    if !safe || upgrade {
        audit(&api, actor, &method, &path, &peer, &response);
    }
    response
}

fn audit(api: &Api, actor: Option<String>, method: &Method, path: &str, peer: &str, response: &Response) {
    let status = response.status();
    let good = status.is_success() || status.is_informational();
    let outcome = match response.extensions().get::<Box<Problem>>() {
        Some(problem) => format!("{} {}", status.as_u16(), problem.detail),
        None => status.as_u16().to_string(),
    };
    let mut parts = path.trim_start_matches('/').split('/');
    let (kind, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let target = match id {
        "" | "password" => kind.to_owned(),
        id => format!("{}/{id}", kind.trim_end_matches('s')),
    };
    api.node.events.note(NewEvent {
        level: if good { EventLevel::Info } else { EventLevel::Warning },
        kind: "audit".into(),
        target,
        message: format!("{method} {path} from {peer}: {outcome}"),
        actor,
    });
}

/// Who asks, and whether by cookie. A credential that is sent but wrong is an error, even where none is needed.
fn identify(api: &Api, req: &Request) -> Result<Option<(Caller, bool)>, Failure> {
    let wrong =
        || Failure::new(Kind::Unauthenticated, "the session or token is not valid (any more): log in again");
    if let Some(value) = req.headers().get(header::AUTHORIZATION) {
        let credential = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(wrong)?;
        return api.auth.check(credential.trim()).map(|c| Some((c, false))).ok_or_else(wrong);
    }
    if let Some(credential) = cookie(req.headers()) {
        return api.auth.check(credential).map(|c| Some((c, true))).ok_or_else(wrong);
    }
    if req.extensions().get::<Peer>().is_some_and(Peer::is_local_root) {
        return Ok(Some((Caller::local(), false)));
    }
    Ok(None)
}

/// Whether the caller may read what lies outside `/api/v1` but is not for everyone.
pub(super) fn may_read(api: &Api, req: &Request) -> Result<(), Failure> {
    match identify(api, req)? {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            Kind::Unauthenticated,
            "this needs a session or an API token (read-only will do)",
        )),
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// A page of another site can neither set our header nor hide its origin.
fn from_our_page(headers: &HeaderMap, uri: &Uri) -> bool {
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

/// The cookie that carries a session's secret; empty to take it away.
pub(super) fn session_cookie(secret: &str) -> String {
    let age = if secret.is_empty() { "; Max-Age=0" } else { "" };
    format!("{COOKIE}={secret}; Path=/; HttpOnly; Secure; SameSite=Strict{age}")
}

/// Whether the caller may change the password: a token that leaked must not become more than a token.
pub(super) fn may_change_password(caller: &Caller) -> bool {
    !matches!(caller.by, By::Token(_))
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
        assert_eq!(cookie(&headers(&[("cookie", "a=b; lq_session=lqs_x; c=d")])), Some("lqs_x"));
        assert_eq!(cookie(&headers(&[("cookie", "xlq_session=1")])), None);
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
