//! The port for the other hosts of the cluster: opened as soon as this host has a certificate, its address told to the
//! cluster and kept true while it changes.

use crate::{
    cluster::{
        Capacity, Cluster, JoinError, Op, Peer, WriteError,
        state::{HostFunction, Release},
    },
    config::Config,
    http::{Api, peer, server::Server, tls},
    reconcile::Node,
};
use lq_api::{event::EventLevel, host::PciFunction};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Pause between two looks at this host's addresses.
const LOOK: Duration = Duration::from_secs(15);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Pause between two attempts to join.
const JOIN_RETRY: Duration = Duration::from_secs(5);
/// Largest file with a join token.
const MAX_TOKEN: u64 = 16 * 1024;

/// The port for the other hosts.
pub(crate) struct PeerPort {
    server: Server,
    stop: CancellationToken,
}

impl PeerPort {
    /// Opens the port in the background, and goes on to tell where it is.
    pub(crate) fn start(api: Arc<Api>, config: &Config) -> Self {
        let node = api.node.clone();
        let server = Server::new(node.cluster.peer_router(peer::router(api.clone())), api.ending.clone());
        let stop = CancellationToken::new();
        let this = Self { server: server.clone(), stop: stop.clone() };
        let (listen, advertise) = (config.peer_listen, config.advertise.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = run(&node, &server, listen, advertise) => {}
            }
        });
        this
    }

    /// Closes it.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.server.end().await;
    }
}

async fn run(node: &Node, server: &Server, listen: SocketAddr, advertise: Option<String>) {
    let mut told = false;
    let (listener, bound) = loop {
        match open(node, listen) {
            Ok(open) => break open,
            Err(e) => {
                tracing::error!(address = %listen, error = %e, "the port for the other hosts cannot be opened; trying again");
                if !std::mem::replace(&mut told, true) {
                    let text = format!("the port {listen} for the other hosts cannot be opened: {e}");
                    node.events.system(EventLevel::Error, "host.alone", format!("host/{}", node.id()), text);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    let tls = loop {
        if let Some(tls) = node.cluster.peer_tls() {
            break tls;
        }
        if let Err(e) = node.cluster.ensure_authority().await {
            tracing::debug!(error = %e, "there is no certificate for the other hosts yet");
        }
        tokio::time::sleep(RETRY).await;
    };
    server.listen_peers(listener, tls, node.cluster.clone());
    tracing::info!(address = %bound, "serving the other hosts");
    loop {
        let pause = match tell(node, bound, advertise.as_deref()).await {
            Ok(()) => LOOK,
            Err(e) => {
                tracing::debug!(error = %e, "the cluster could not be told where this host is");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn open(node: &Node, listen: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    // The same port as before: the others know it.
    let before = node.cluster.read(|s| {
        let peer = s.hosts.get(&node.id())?.peer.clone()?;
        peer.address.rsplit_once(':')?.1.parse().ok()
    });
    let listener = match before {
        Some(port) if listen.port() == 0 => {
            let known = SocketAddr::new(listen.ip(), port);
            crate::daemon::bind(known, &[known]).or_else(|_| crate::daemon::bind(listen, &[listen]))?
        }
        _ => crate::daemon::bind(listen, &[listen])?,
    };
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Where the other hosts reach what is bound to `bound`.
fn reached_at(bound: SocketAddr, own: &[IpAddr]) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let outside = || own.iter().filter(|ip| !ip.is_loopback());
    let best = outside().find(|ip| ip.is_ipv4()).or_else(|| outside().next());
    SocketAddr::new(best.copied().unwrap_or(IpAddr::from([127, 0, 0, 1])), bound.port())
}

async fn tell(node: &Node, bound: SocketAddr, advertise: Option<&str>) -> Result<(), WriteError> {
    let address = match advertise {
        Some(given) => given.to_owned(),
        None => reached_at(bound, &tls::own_addresses()).to_string(),
    };
    let pin = node.cluster.pin().map_err(|e| WriteError::Unavailable(e.to_string()))?;
    let host = node.host.clone();
    let status = tokio::task::spawn_blocking(move || host.status()).await;
    let capacity = status.ok().map(|s| Capacity {
        threads: s.cpu.threads,
        memory: s.memory.total_bytes,
        lacks: s.cpu.lacks,
        release: Release::parse(&s.version),
        witness: node.host.is_witness(),
        functions: s.pci.into_iter().map(host_function).collect(),
    });
    let peer = Peer { pin, address };
    let known = node.cluster.read(|s| {
        s.hosts.get(&node.id()).is_some_and(|r| r.peer.as_ref() == Some(&peer) && r.capacity == capacity)
    });
    if known {
        return Ok(());
    }
    node.cluster.write(Op::DescribeHost { host: node.id(), peer, capacity }).await.map(drop)
}

fn host_function(function: PciFunction) -> HostFunction {
    let PciFunction { address, iommu_group, together_with, obstacle, .. } = function;
    HostFunction { address, group: iommu_group, together_with, obstacle }
}

/// Joins by the token the installer left, again and again until it is done or will never be.
pub(crate) fn join_by_file(node: &Arc<Node>, file: &Path) {
    let token = match std::fs::metadata(file) {
        Ok(meta) if meta.len() <= MAX_TOKEN => std::fs::read_to_string(file),
        Ok(_) => Err(std::io::Error::other("it is too large")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
        Err(e) => Err(e),
    };
    let token = match token {
        Ok(token) => token,
        Err(e) => {
            tracing::error!(file = %file.display(), error = %e, "the join token cannot be read");
            return;
        }
    };
    let (node, file) = (node.clone(), file.to_owned());
    tokio::spawn(async move {
        let target = format!("host/{}", node.id());
        let stopping = node.stopping();
        let mut told = None;
        loop {
            match join(&node.cluster, &token).await {
                Ok(()) => {
                    remove(&file);
                    node.events.system(
                        EventLevel::Info,
                        "host.joined",
                        target,
                        "joined by the token of the installer",
                    );
                    node.again.cancel();
                    return;
                }
                Err(JoinError::Member) => return remove(&file),
                Err(e) => {
                    let text = e.to_string();
                    tracing::warn!(
                        error = text,
                        "this host could not join by the token of the installer yet"
                    );
                    if told.as_ref() != Some(&text) {
                        let level = EventLevel::Warning;
                        node.events.system(
                            level,
                            "host.alone",
                            target.clone(),
                            format!("could not join yet: {text}"),
                        );
                        told = Some(text);
                    }
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(JOIN_RETRY) => {}
            }
        }
    });
}

/// A host that was just installed has nothing whose name could matter.
async fn join(cluster: &Cluster, token: &str) -> Result<(), JoinError> {
    cluster.join(token, true).await
}

fn remove(file: &Path) {
    if let Err(e) = crate::durable::remove(file) {
        tracing::error!(file = %file.display(), error = %e, "the join token cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_told_is_one_that_others_can_reach() {
        let own: Vec<IpAddr> =
            ["127.0.0.1", "::1", "2001:db8::1", "192.0.2.7"].map(|a| a.parse().unwrap()).into();
        let at = |bound: &str| reached_at(bound.parse().unwrap(), &own).to_string();
        assert_eq!(at("[::]:7443"), "192.0.2.7:7443");
        assert_eq!(at("127.0.0.1:9000"), "127.0.0.1:9000");
        let six: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap()];
        assert_eq!(reached_at("[::]:1".parse().unwrap(), &six).to_string(), "[2001:db8::1]:1");
    }
}
