//! As long as this host waits to be paired, it can be found; codes are renewed and wrong ones told.

use super::{Announced, respond};
use crate::reconcile::Node;
use lq_api::event::EventLevel;
use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// After it could not be announced, until it is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// Where this host is reached by others, and whether by IPv4, which is what it is found by.
pub(crate) fn own_address(node: &Node) -> Option<SocketAddrV4> {
    let address = node.cluster.read(|s| s.hosts.get(&node.id())?.peer.clone())?.address;
    match address.parse() {
        Ok(SocketAddr::V4(v4)) => Some(v4),
        _ => None,
    }
}

/// Sees to it until the daemon ends. Without a `port` the host waits, but cannot be found.
pub(crate) async fn run(node: Arc<Node>, port: Option<u16>, end: CancellationToken) {
    let version = node.host.status().version;
    let mut answering: Option<(Announced, DropGuard)> = None;
    let mut wrong = node.cluster.wrong_codes();
    loop {
        let waits = node.cluster.look_at_pairing().is_ok();
        let heard = node.cluster.wrong_codes();
        if heard > wrong {
            let text = match heard - wrong {
                1 => "a wrong pairing code was tried at this host".to_owned(),
                many => format!("{many} wrong pairing codes were tried at this host"),
            };
            let target = format!("host/{}", node.id());
            node.events.system(EventLevel::Warning, "host.pairing", target, text);
            wrong = heard;
        }
        let wanted = own_address(&node).filter(|_| waits).map(|address| Announced {
            id: node.id().0,
            name: node.cluster.read(|s| s.host_name(node.id())),
            version: version.clone(),
            address,
        });
        if answering.as_ref().map(|(announced, _)| announced) != wanted.as_ref() {
            // What is said no more is taken back by the guard's end.
            answering = wanted.zip(port).map(|(announced, port)| {
                let stop = end.child_token();
                tokio::spawn(answer(announced.clone(), port, stop.clone()));
                (announced, stop.drop_guard())
            });
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn answer(announced: Announced, port: u16, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match respond(announced.clone(), port, stop.clone()).await {
            Ok(()) => return,
            Err(e) => tracing::warn!(
                address = %announced.address, error = %e,
                "this host cannot be found by others that look for waiting hosts; by its address it can be paired"
            ),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
