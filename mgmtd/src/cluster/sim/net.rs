//! The network between simulated hosts: under `Wire`, in the place of TLS and TCP. What is sent reaches the real router of the
//! other host after a while, or does not; nothing of the answer comes back, or it does.
//!
//! As over TCP, a message that was not lost is not changed, and who calls learns whether it may have been carried out: a
//! connection that never came up is another fault than one that broke.

use super::{host::Host, runtime, world};
use crate::cluster::wire::{CallError, broken, serve::From, unreachable};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, http::response::Parts};
use lq_api::HostId;
use std::{future::pending, sync::Arc, time::Duration};
use tower::ServiceExt as _;

/// How long someone who does not answer is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest way between two hosts where nothing is wrong, in milliseconds.
const USUAL: u64 = 4;

/// How the links are.
pub(super) struct Links {
    /// From the one to the other nothing arrives.
    cut: Vec<Vec<bool>>,
    /// Longest way from and to each host, in milliseconds.
    slow: Vec<u64>,
    /// One connection in so many breaks; 0: none.
    pub(super) breaks: u64,
}

impl Links {
    pub(super) fn new(hosts: usize) -> Self {
        Self { cut: vec![vec![false; hosts]; hosts], slow: vec![USUAL; hosts], breaks: 0 }
    }

    pub(super) fn cut(&mut self, from: usize, to: usize, cut: bool) {
        self.cut[from][to] = cut;
    }

    pub(super) fn slow(&mut self, host: usize, ms: Option<u64>) {
        self.slow[host] = ms.unwrap_or(USUAL);
    }

    pub(super) fn mend(&mut self) {
        *self = Self::new(self.slow.len());
    }

    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    pub(super) fn longest(&self, from: usize, to: usize) -> u64 {
        self.slow[from].max(self.slow[to])
    }
}

/// Carries a request to another host and its answer back.
pub(in crate::cluster) async fn carry(
    from: HostId,
    to: HostId,
    mut request: Request<Body>,
) -> Result<(Parts, Bytes), CallError> {
    let Some(world) = world() else { return Err(unreachable(to, "there is no world")) };
    let (Some(one), Some(other)) = (world.number(from), world.number(to)) else {
        return Err(unreachable(to, "nobody is there"));
    };
    let path = request.uri().path().to_owned();
    let way = format!("{one} > {other} {path}");
    if !world.passes(one, other) || !world.passes(other, one) {
        // No connection comes up over half a link.
        tokio::time::sleep(CONNECT).await;
        return Err(unreachable(to, "the line is cut"));
    }
    tokio::time::sleep(world.flight(one, other)).await;
    let host = &world.hosts[other];
    if !host.is_running() {
        return Err(unreachable(to, "nothing answers there"));
    }
    let Some(router) = host.router() else { return Err(unreachable(to, "nothing listens there yet")) };
    if !world.passes(one, other) {
        // It was sent and never arrives; the caller's patience ends it.
        return pending().await;
    }
    if world.breaks() {
        world.note(format!("{way}: breaks on its way"));
        return Err(broken(to, "the connection broke"));
    }
    request.extensions_mut().insert(From(Some(from)));
    let answering = runtime::spawn_on(host, async move {
        let Ok(response) = router.oneshot(request).await;
        let (head, body) = response.into_parts();
        body.collect().await.ok().map(|body| (head, body.to_bytes()))
    });
    let Ok(Some(answer)) = answering.await else {
        return Err(broken(to, "it died over it"));
    };
    world.note(format!("{way}: {}", answer.0.status.as_u16()));
    if world.breaks() {
        return Err(broken(to, "the connection broke"));
    }
    if !world.passes(other, one) {
        return pending().await;
    }
    tokio::time::sleep(world.flight(other, one)).await;
    Ok(answer)
}

/// Cuts a host off from another, or from all: in both directions or in one.
pub(super) fn cut_off(links: &mut Links, hosts: &[Arc<Host>], (n, other): (usize, Option<usize>), ways: u64) {
    for to in (0..hosts.len()).filter(|to| *to != n && other.is_none_or(|o| o == *to)) {
        if ways != 1 {
            links.cut(n, to, true);
        }
        if ways != 2 {
            links.cut(to, n, true);
        }
    }
}
