//! Requests that only one host can answer are passed to it, so that any host serves the whole cluster.
//!
//! The host that was asked checks who asks and what they may do, and tells the other one with the request
//! ([`CALLER`]); the other one trusts it because it is a host of the cluster ([`super::peer`]).

use super::{Api, problem::Failure, server::Seat};
use crate::{
    auth::Caller,
    cluster::{CallError, State as Agreed},
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::rt::TokioIo;
use lq_api::{
    HostId, ImageId, PoolId, TaskId, VmId,
    access::{ObjectKind, Permission},
    problem::{Kind, MEDIA_TYPE, Problem},
};
use std::sync::Arc;

/// Who asks, told by one host to another: base64 of JSON.
pub(super) const CALLER: &str = "x-lq-caller";

/// Asks with `strong` that everything acknowledged anywhere before the request is seen by it.
const CONSISTENCY: &str = "lq-consistency";

/// Largest refusal of another host.
const MAX_PROBLEM: usize = 64 << 10;

/// Where a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// By whoever was asked.
    Anywhere,
    /// Only by this host.
    Only(HostId),
    /// By this host, or with less to tell by whoever was asked.
    Better(HostId),
    /// By the host that has this task.
    Task(TaskId),
}

/// Where a request to this path below `/api/v1` is to be answered.
fn place(state: &Agreed, me: HostId, method: &Method, path: &str) -> Place {
    let mut parts = path.trim_start_matches('/').split('/');
    let (Some(kind), Some(id)) = (parts.next(), parts.next()) else { return Place::Anywhere };
    let rest = parts.next();
    let of_image = |id: &str| {
        let record = state.images.get(&id.parse::<ImageId>().ok()?)?;
        state.holder(record.image.spec.pool?, Some(me))
    };
    let only = |host: Option<HostId>| host.map_or(Place::Anywhere, Place::Only);
    let better = |host: Option<HostId>| host.map_or(Place::Anywhere, Place::Better);
    match (kind, rest) {
        ("vms", Some("console" | "display" | "history" | "migrate" | "stats")) => {
            let vm = id.parse::<VmId>().ok().and_then(|id| state.vms.get(&id));
            only(vm.and_then(|r| r.vm.status.host))
        }
        ("images", Some("content")) => only(of_image(id)),
        ("images", None) if *method == Method::DELETE => better(of_image(id)),
        (
            "hosts",
            Some(
                "certificate" | "factory-reset" | "history" | "maintenance" | "network" | "power"
                | "removable" | "support-bundle",
            ),
        ) => only(id.parse().ok().filter(|id| state.hosts.contains_key(id))),
        ("hosts", None) if *method == Method::GET => {
            better(id.parse().ok().filter(|id| state.hosts.contains_key(id)))
        }
        ("pools", None) if *method == Method::GET => {
            better(id.parse::<PoolId>().ok().and_then(|id| state.holder(id, Some(me))))
        }
        ("pools", Some("foreign")) => {
            only(id.parse::<PoolId>().ok().and_then(|id| state.holder(id, Some(me))))
        }
        ("tasks", _) => id.parse().map_or(Place::Anywhere, Place::Task),
        _ => Place::Anywhere,
    }
}

/// Passes a request on where another host has to answer it.
pub(super) async fn forward(State(api): State<Arc<Api>>, req: Request, next: Next) -> Response {
    if req.headers().get(CONSISTENCY).is_some_and(|v| v.as_bytes() == b"strong")
        && let Err(e) = api.node.cluster.barrier().await
    {
        return Failure::from(e).into_response();
    }
    let me = api.node.id();
    let place = api.node.cluster.read(|s| place(s, me, req.method(), req.uri().path()));
    match place {
        Place::Only(host) if host != me => {
            let caller = req.extensions().get::<Caller>().cloned();
            match pass(&api, host, req).await {
                Ok(response) => response,
                Err(e) => away(&api, caller.as_ref(), host, &e).into_response(),
            }
        }
        Place::Better(host) if host != me => {
            // These carry no body, so the request can be made twice.
            let (parts, body) = req.into_parts();
            let again = Request::from_parts(parts.clone(), Body::empty());
            match pass(&api, host, again).await {
                Ok(response) => response,
                Err(e) => {
                    tracing::debug!(%host, error = %e, "answered in its place");
                    next.run(Request::from_parts(parts, body)).await
                }
            }
        }
        Place::Task(id) if api.node.tasks.get(id).is_none() => {
            let (parts, body) = req.into_parts();
            let hosts: Vec<HostId> = api.node.cluster.read(|s| s.hosts.keys().copied().collect());
            for host in hosts.into_iter().filter(|h| *h != me) {
                let again = Request::from_parts(parts.clone(), Body::empty());
                match pass(&api, host, again).await {
                    Ok(response) if response.status() != StatusCode::NOT_FOUND => return response,
                    _ => {}
                }
            }
            next.run(Request::from_parts(parts, body)).await
        }
        _ => next.run(req).await,
    }
}

fn away(api: &Api, caller: Option<&Caller>, host: HostId, e: &CallError) -> Failure {
    let name = api.node.cluster.read(|s| {
        let seen = caller.is_some_and(|c| c.may(Permission::HostRead, s.object(ObjectKind::Host, host.0)));
        s.hosts.get(&host).filter(|_| seen).map(|r| r.meta.name.clone())
    });
    let why = match name {
        Some(name) => format!("the host `{name}`, which has to answer this, cannot be asked: {e}"),
        // Nor is said where it is.
        None => "the host that has to answer this cannot be asked".to_owned(),
    };
    Failure::new(Kind::Unavailable, why)
}

async fn pass(api: &Arc<Api>, host: HostId, mut req: Request) -> Result<Response, CallError> {
    let fail = |reason: &dyn std::fmt::Display| CallError::Unreachable {
        host: host.to_string(),
        reason: reason.to_string(),
    };
    let caller = req.extensions().get::<Caller>().ok_or_else(|| fail(&"it is not known who asks"))?;
    let caller = URL_SAFE_NO_PAD.encode(serde_json::to_vec(caller).map_err(|e| fail(&e))?);
    let upgrading = req.headers().contains_key(header::UPGRADE);
    let seat = req.extensions().get::<Seat>().cloned();
    let ours = upgrading.then(|| hyper::upgrade::on(&mut req));
    let (parts, body) = req.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward =
        Request::builder().method(parts.method).uri(format!("/api/v1{path}")).version(Version::HTTP_11);
    if let Some(headers) = onward.headers_mut() {
        *headers = kept(&parts.headers, upgrading);
        headers.insert(header::HOST, HeaderValue::from_static("peer"));
        headers.insert(CALLER, HeaderValue::from_str(&caller).map_err(|e| fail(&e))?);
    }
    let onward = onward.body(body).map_err(|e| fail(&e))?;
    let mut answer = api.node.cluster.pass(host, onward).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let theirs = hyper::upgrade::on(&mut answer);
        let ending = api.ending.clone();
        tokio::spawn(async move {
            // Kept as long as the two are connected.
            let _seat = seat;
            let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else { return };
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            tokio::select! {
                () = ending.cancelled() => {}
                _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => {}
            }
        });
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        *response.headers_mut() = answer.headers().clone();
        return Ok(response);
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers = kept(&parts.headers, false);
    parts.version = Version::default();
    if parts.headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes() == MEDIA_TYPE.as_bytes()) {
        // As if it were our own: it gets the number of this request, and the audit log its reason.
        let text = axum::body::to_bytes(Body::new(body), MAX_PROBLEM).await.map_err(|e| fail(&e))?;
        if let Ok(problem) = serde_json::from_slice::<Problem>(&text) {
            parts.extensions.insert(Box::new(problem));
        }
        return Ok(Response::from_parts(parts, Body::from(text)));
    }
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Headers that are for the other end and not for this connection. Credentials stay here.
fn kept(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut kept = headers.clone();
    for name in [
        header::HOST,
        header::AUTHORIZATION,
        header::COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::PROXY_AUTHORIZATION,
    ] {
        kept.remove(name);
    }
    kept.remove(CALLER);
    kept.remove("keep-alive");
    if !upgrading {
        kept.remove(header::CONNECTION);
        kept.remove(header::UPGRADE);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_what_is_for_one_connection_stay() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "host", "connection", "upgrade", "x-lq-caller", "if-match"] {
            headers.insert(header::HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let names =
            |upgrading| kept(&headers, upgrading).keys().map(|k| k.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(false), ["if-match"]);
        let mut all = names(true);
        all.sort();
        assert_eq!(all, ["connection", "if-match", "upgrade"]);
    }

    #[test]
    fn what_nobody_holds_is_answered_by_whoever_was_asked() {
        let state = Agreed::new();
        for path in ["/vms", "/vms/x/console", "/cluster/join", "/hosts/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a"]
        {
            assert_eq!(place(&state, HostId::new(), &Method::GET, path), Place::Anywhere, "{path}");
        }
    }
}
