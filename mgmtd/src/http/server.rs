//! Listening: TLS on TCP, plain HTTP on the Unix socket. One place for every limit on connections ([`Limits`]); who gets a place
//! is decided in [`super::places`].
//!
//! Before someone has logged in, every wait for them has an end: the handshake, the head of a request, its body, the
//! connection as a whole. The socket of the host itself, the other hosts and those who are known have shares of their own.

use super::{
    linger::{Lingering, Pace},
    places::{Place, Places, Share},
};
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
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Largest head of a request by HTTP/2: as many as a connection has streams may wait for their turn.
const HEAD: u32 = 16 << 10;

/// Longest an answer may take to end when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Every limit on connections.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of browsers and other clients.
    clients: Share,
    /// Of the other hosts; a stranger among them is one that joins.
    peers: Share,
    /// Of the host itself.
    local: usize,
    /// Longest a client may take for the TLS handshake.
    handshake: Duration,
    /// Longest a client may take for the head of a request, and be silent between two.
    head: Duration,
    /// Longest a client's body is waited for.
    body: Pace,
    /// How long a stranger is served: after it, it is asked to end, and after it again it is cut off.
    stranger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: Share { strangers: 512, of_a_source: 64, known: 1024 },
            peers: Share { strangers: 64, of_a_source: 16, known: 512 },
            local: 64,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Pace { stranger: Duration::from_secs(15), known: Duration::from_secs(60) },
            stranger: Duration::from_secs(60),
        }
    }
}

/// Lets the process have as many descriptors as all the places together may need.
pub fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 16_384;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= WANTED {
            return Ok(());
        }
        // Root may go beyond the hard limit; others up to it.
        setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED))
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard.min(WANTED), hard))
    });
    if let Err(e) = raised {
        tracing::warn!(error = %e, "the number of open files cannot be raised");
    }
}

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

/// The place of the connection a request came by: whatever goes on after the answer, as an upgraded connection does, keeps it.
#[derive(Clone)]
pub(super) struct Seat(pub(super) Arc<Place>);

/// Serves connections until told to end.
#[derive(Clone)]
pub struct Server {
    router: Router,
    limits: Limits,
    clients: Places,
    peers: Places,
    local: Places,
    running: TaskTracker,
    ending: CancellationToken,
}

impl Server {
    /// A server of `router`; it ends when `ending` begins.
    #[must_use]
    pub fn new(router: Router, ending: CancellationToken) -> Self {
        Self::with_limits(router, ending, Limits::default())
    }

    fn with_limits(router: Router, ending: CancellationToken, limits: Limits) -> Self {
        let local = Share { strangers: limits.local, of_a_source: limits.local, known: limits.local };
        Self {
            router,
            limits,
            clients: Places::new(limits.clients),
            peers: Places::new(limits.peers),
            local: Places::new(local),
            running: TaskTracker::new(),
            ending,
        }
    }

    /// Serves TLS on this listener.
    pub fn listen_tls(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        self.accept_tls(listener, tls, self.clients.clone(), |_, _| None);
    }

    /// Serves the other hosts of the cluster on this listener, which take `tls` and show their certificates.
    pub fn listen_peers(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, cluster: Cluster) {
        self.accept_tls(listener, tls, self.peers.clone(), move |stream, place| {
            let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
            let from = PeerFrom(shown.and_then(|c| cluster.peer_of(c)));
            if from.0.is_some() {
                place.know();
            }
            Some(from)
        });
    }

    /// Serves TLS on this listener to those who get one of the places; `from` looks at who it is.
    fn accept_tls(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        places: Places,
        from: impl Fn(&TlsStream<TcpStream>, &Place) -> Option<PeerFrom> + Clone + Send + Sync + 'static,
    ) {
        let this = self.clone();
        let acceptor = TlsAcceptor::from(tls);
        self.running.spawn(async move {
            loop {
                let Some((stream, address)) = this.next(|| listener.accept()).await else { return };
                let Some(place) = places.take(address.ip()) else { continue };
                let (server, acceptor, from) = (this.clone(), acceptor.clone(), from.clone());
                this.running.spawn(async move {
                    // Small answers are not held back for more.
                    let _ = stream.set_nodelay(true);
                    match tokio::time::timeout(server.limits.handshake, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let from = from(&stream, &place);
                            server.serve(stream, Peer::Remote(address), from, place).await;
                        }
                        Ok(Err(e)) => tracing::debug!(%address, error = %e, "no TLS"),
                        Err(_) => tracing::debug!(%address, "no TLS in time"),
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
                let Some(place) = this.local.take_local() else {
                    tracing::warn!("too many connections of this host itself; one was refused");
                    continue;
                };
                place.know();
                let peer = stream.peer_cred().map_or(Peer::Unknown, |c| Peer::Local { uid: c.uid() });
                let server = this.clone();
                this.running.spawn(async move { server.serve(stream, peer, None, place).await });
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
        place: Arc<Place>,
    ) {
        let (seat, pace) = (Seat(place.clone()), self.limits.body);
        let router = self.router.clone();
        let service = tower::service_fn(move |req: Request<hyper::body::Incoming>| {
            let mut req = req.map(|body| axum::body::Body::new(Lingering::new(body, pace, seat.0.clone())));
            req.extensions_mut().insert(peer);
            req.extensions_mut().insert(seat.clone());
            if let Some(from) = from {
                req.extensions_mut().insert(from);
            }
            let (router, place) = (router.clone(), seat.0.clone());
            async move {
                let _turn = place.turn().await;
                router.oneshot(req).await
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.head);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(60))
            .max_concurrent_streams(128)
            .max_header_list_size(HEAD);
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.stranger_is_over(&place) => {
                // What was asked for is still answered; a browser that shows the log-in page comes again by itself.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = &mut connection => ended,
                    () = self.stranger_is_over(&place) => {
                        tracing::debug!(%peer, "a stranger's connection was cut off");
                        return;
                    }
                }
            }
        };
        if let Err(e) = ended {
            tracing::debug!(%peer, error = %e, "a connection broke");
        }
    }

    /// Returns after a stranger's time, if it is still one then.
    async fn stranger_is_over(&self, place: &Place) {
        tokio::time::sleep(self.limits.stranger).await;
        if place.is_known() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until every connection has ended, or the time for it is over.
    pub async fn end(&self) {
        self.ending.cancel();
        self.running.close();
        let _ = tokio::time::timeout(FAREWELL, self.running.wait()).await;
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
