//! Listening: TLS on TCP, plain HTTP on the Unix socket. One place for every limit on connections.

use super::linger::Lingering;
use crate::cluster::{Cluster, PeerFrom};
use axum::{Router, extract::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Connections at a time, of all clients.
const CONNECTIONS: usize = 1024;
/// Longest a client may take for the TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest an answer may take to end when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Someone on the network.
    Remote(SocketAddr),
    /// A user of this host, by the Unix socket.
    Local {
        /// User id.
        uid: u32,
    },
    /// Not known (only in tests of the router alone).
    Unknown,
}

impl Peer {
    /// Root, or the user the daemon itself runs as.
    #[must_use]
    pub fn is_local_root(&self) -> bool {
        matches!(self, Self::Local { uid } if *uid == 0 || *uid == nix::unistd::geteuid().as_raw())
    }
    /// The address limits on guessing are kept for.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Remote(address) => Some(address.ip()),
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => address.ip().to_canonical().fmt(f),
            Self::Local { uid } => write!(f, "this host (uid {uid})"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// Serves connections until told to end.
#[derive(Clone)]
pub struct Server {
    router: Router,
    connections: Arc<Semaphore>,
    running: TaskTracker,
    ending: CancellationToken,
}

impl Server {
    /// A server of `router`; it ends when `ending` begins.
    #[must_use]
    pub fn new(router: Router, ending: CancellationToken) -> Self {
        Self {
            router,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            running: TaskTracker::new(),
            ending,
        }
    }

    /// Serves TLS on this listener.
    pub fn listen_tls(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        let this = self.clone();
        let acceptor = TlsAcceptor::from(tls);
        self.running.spawn(async move {
            loop {
                let Some((stream, address)) = this.next(|| listener.accept()).await else { return };
                let Ok(place) = this.connections.clone().try_acquire_owned() else {
                    tracing::warn!(%address, "too many connections; one was refused");
                    continue;
                };
                let (server, acceptor) = (this.clone(), acceptor.clone());
                this.running.spawn(async move {
                    let _place = place;
                    // Small answers are not held back for more.
                    let _ = stream.set_nodelay(true);
                    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => server.serve(stream, Peer::Remote(address), None).await,
                        Ok(Err(e)) => tracing::debug!(%address, error = %e, "no TLS"),
                        Err(_) => tracing::debug!(%address, "no TLS in time"),
                    }
                });
            }
        });
    }

    /// Serves the other hosts of the cluster on this listener, which take `tls` and show their certificates.
    pub fn listen_peers(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, cluster: Cluster) {
        let this = self.clone();
        let acceptor = TlsAcceptor::from(tls);
        self.running.spawn(async move {
            loop {
                let Some((stream, address)) = this.next(|| listener.accept()).await else { return };
                let Ok(place) = this.connections.clone().try_acquire_owned() else {
                    tracing::warn!(%address, "too many connections of hosts; one was refused");
                    continue;
                };
                let (server, acceptor, cluster) = (this.clone(), acceptor.clone(), cluster.clone());
                this.running.spawn(async move {
                    let _place = place;
                    let _ = stream.set_nodelay(true);
                    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
                            let from = PeerFrom(shown.and_then(|c| cluster.peer_of(c)));
                            server.serve(stream, Peer::Remote(address), Some(from)).await;
                        }
                        Ok(Err(e)) => tracing::debug!(%address, error = %e, "no TLS of a host"),
                        Err(_) => tracing::debug!(%address, "no TLS of a host in time"),
                    }
                });
            }
        });
    }

    /// Serves plain HTTP on a Unix socket that only its owner may open.
    pub fn listen_local(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let this = self.clone();
        self.running.spawn(async move {
            loop {
                let Some((stream, _)) = this.next(|| listener.accept()).await else { return };
                let Ok(place) = this.connections.clone().try_acquire_owned() else { continue };
                let peer = stream.peer_cred().map_or(Peer::Unknown, |c| Peer::Local { uid: c.uid() });
                let server = this.clone();
                this.running.spawn(async move {
                    let _place = place;
                    server.serve(stream, peer, None).await;
                });
            }
        });
        Ok(())
    }

    /// The next connection; `None` at the end.
    async fn next<T, F: Future<Output = io::Result<T>>>(&self, accept: impl Fn() -> F) -> Option<T> {
        loop {
            tokio::select! {
                () = self.ending.cancelled() => return None,
                accepted = accept() => match accepted {
                    Ok(stream) => return Some(stream),
                    Err(e) => {
                        // Out of descriptors, or the client was gone already: neither ends the server.
                        tracing::warn!(error = %e, "a connection could not be taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        from: Option<PeerFrom>,
    ) {
        let service = self.router.clone().map_request(move |req: Request<hyper::body::Incoming>| {
            let mut req = req.map(|body| axum::body::Body::new(Lingering::from(body)));
            req.extensions_mut().insert(peer);
            if let Some(from) = from {
                req.extensions_mut().insert(from);
            }
            req
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(60))
            .max_concurrent_streams(128)
            .max_header_list_size(64 * 1024);
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            tracing::debug!(%peer, error = %e, "a connection broke");
        }
    }

    /// Waits until every connection has ended, or the time for it is over.
    pub async fn end(&self) {
        self.ending.cancel();
        self.running.close();
        let _ = tokio::time::timeout(FAREWELL, self.running.wait()).await;
    }
}
