//! The daemon put together: state, host, API. [`Daemon::start`] brings it up, [`Daemon::stop`] down; machines run on.

use crate::{
    auth::{self, Audit, AuditError, Auth, SetupCode},
    cluster::{Cluster, Op, OpenError, WriteError},
    compute::lqvmm::LqVmm,
    config::{Config, HostKind},
    discovery,
    http::{
        self, Api, Places,
        server::Server,
        tls::{self, TlsError},
    },
    network::bridge::BridgeFabric,
    peers::{self, PeerPort},
    reconcile::{
        Node, Parts,
        host::{HostControl, RealHost},
        measure,
    },
    sim,
    storage::{self, dir::DirPool, shared::nfs::NfsMounter},
    tasks::Tasks,
    telemetry::{Events, History, HistoryError, Series, SeriesError},
    time::Time,
    witness,
};
use lq_api::{NetworkId, PoolId, event::EventLevel};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};
use tokio::{net::TcpListener, net::TcpSocket, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Why the daemon did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster's state.
    #[error("the cluster's state cannot be opened")]
    State(#[from] OpenError),
    /// Its first entry.
    #[error("the cluster cannot be initialised")]
    Initialise(#[from] WriteError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The values over time.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The pool.
    #[error("the storage pool {path} cannot be opened")]
    Pool {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: storage::Error,
    },
    /// The certificate.
    #[error("the certificate")]
    Tls(#[from] TlsError),
    /// An address or socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// A file or directory.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// The first password.
    #[error("the first password cannot be set")]
    Password(#[from] crate::auth::AuthError),
}

/// Why a daemon is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// The host itself asked it to end.
    Asked,
    /// The host has joined another cluster, or another epoch of its own began: the daemon is to start again.
    Again,
    /// It cannot go on.
    Failed(String),
}

/// A running daemon.
pub struct Daemon {
    api: Arc<Api>,
    server: Server,
    peers: PeerPort,
    history: Arc<History>,
    series: Arc<Series>,
    measuring: JoinHandle<()>,
    alerting: JoinHandle<()>,
    following: JoinHandle<()>,
    addresses: Vec<SocketAddr>,
    fingerprint: String,
    /// Begins when the host itself asks the daemon to end.
    asked_to_end: CancellationToken,
}

impl Daemon {
    /// Brings the daemon up. Returns when it serves.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        // Whoever started us may have done this; one provider for the whole process is what matters.
        let _ = rustls::crypto::ring::default_provider().install_default();
        http::server::raise_descriptors();
        make_dir(&config.state)?;
        let asked_to_end = CancellationToken::new();
        let parts = parts(&config, &asked_to_end)?;
        let cluster = Cluster::open(&config.state).await?;
        let me = cluster.identity();
        // A host that joined others gets its state from them, in its time.
        let first = !me.joined && cluster.read(|s| s.cluster.is_none());
        if first {
            initialise(&cluster, parts.host.as_ref()).await?;
        }
        let leads = cluster.standing().leader == Some(me.host);
        if leads && let Err(e) = cluster.ensure_authority().await {
            tracing::error!(error = %e, "the cluster has no certificate authority; other hosts cannot join");
        }
        let history = Arc::new(History::open(&config.state)?);
        let series = Arc::new(Series::open(&config.state)?);
        let events = Events::new(history.clone());
        let agreed = cluster.clone();
        events.names().read_from(move |target| agreed.read(|s| s.name_of(target)));
        let target = format!("host/{}", me.host);
        let text = if first { "the first start: the cluster was made" } else { "the daemon started" };
        events.system(EventLevel::Info, "host.started", target.clone(), text);
        let tasks = Tasks::open(history.clone(), events.clone())
            .map_err(|source| StartError::File { path: config.state.join("history.redb"), source })?;
        let audit = Audit::open(&config.state.join("audit"))?;
        let auth =
            Auth::new(cluster.clone(), SetupCode::new(config.setup_code.clone()), config.clock.clone());
        if cluster.read(|s| s.cluster.is_some()) {
            match auth.take_over(&config.admin_password).await {
                Ok(true) => {
                    let text = "the installer's password was taken over";
                    events.system(EventLevel::Info, "auth.password", target, text);
                }
                Ok(false) => {}
                // Without the others it waits for the next start.
                Err(e) if !leads => {
                    tracing::error!(error = %e, "the installer's password was not taken over")
                }
                Err(e) => return Err(e.into()),
            }
            auth.offer_setup()
                .map_err(|source| StartError::File { path: config.setup_code.clone(), source })?;
        } else {
            // The users are those of the cluster it joined.
            auth.withdraw_setup();
        }
        // The next login tries again.
        if leads && let Err(e) = auth.prepare().await {
            tracing::error!(error = %e, "there is no key for sessions yet");
        }
        let name = parts.host.name();
        let node = Node::new(cluster, events, tasks, parts);
        let greeted = leads && node.greet().await.is_ok();
        let tls = tls::load(&config.state, &name, &tls::own_addresses())?;
        let run = config.api_socket.parent().unwrap_or(&config.state).to_owned();
        let places = Places { state: config.state.clone(), run };
        let api =
            Api::new(node.clone(), auth, audit, series.clone(), places, config.discovery_port, config.rates);
        let server = Server::new(http::router(api.clone()), api.ending.clone());
        let peers = PeerPort::start(api.clone(), &config);
        let mut addresses = Vec::new();
        for address in &config.listen {
            let refused = |source| StartError::Listen { address: address.to_string(), source };
            let listener = bind(*address, &config.listen).map_err(refused)?;
            addresses.push(listener.local_addr().map_err(refused)?);
            server.listen_tls(listener, tls.config.clone());
        }
        server.listen_local(&config.api_socket).map_err(|source| StartError::Listen {
            address: config.api_socket.display().to_string(),
            source,
        })?;
        fs::write(&config.fingerprint, format!("{}\n", tls.fingerprint))
            .map_err(|source| StartError::File { path: config.fingerprint.clone(), source })?;
        tracing::info!(?addresses, fingerprint = tls.fingerprint, host = name, "serving");
        let following = {
            let (node, api) = (node.clone(), api.clone());
            tokio::spawn(async move {
                node.run(greeted, || api.following.store(true, Ordering::Relaxed)).await;
            })
        };
        let measuring = tokio::spawn(measure::follow(node.clone(), series.clone(), api.ending.clone()));
        {
            let (cluster, events) = (node.cluster.clone(), node.events.clone());
            let target = format!("host/{}", me.host);
            tokio::spawn(async move {
                let told = |text| events.system(EventLevel::Error, "cluster.backup", target.clone(), text);
                cluster.keep_backups(told).await;
            });
        }
        let alerting = tokio::spawn(api.alerts.clone().run(api.ending.clone()));
        tokio::spawn(auth::follow_directories(node.cluster.clone(), api.ending.clone()));
        peers::join_by_file(&api.node, &config.join_token);
        if node.host.keeps() {
            node.cluster.may_be_paired();
        }
        tokio::spawn(node.time.clone().run(node.cluster.clone(), api.ending.clone()));
        tokio::spawn(discovery::run(node.clone(), config.discovery_port, api.ending.clone()));
        if let HostKind::Simulated { crowd } = config.host {
            // It has no console to show it on.
            if let Ok(code) = fs::read_to_string(&config.setup_code) {
                tracing::info!(code = code.trim(), "first login: set a password with this set-up code");
            }
            tokio::spawn(sim::crowd(node.cluster.clone(), crowd, api.ending.clone()));
        }
        let fingerprint = tls.fingerprint;
        Ok(Self {
            api,
            server,
            peers,
            history,
            series,
            measuring,
            alerting,
            following,
            addresses,
            fingerprint,
            asked_to_end,
        })
    }

    /// Addresses it serves HTTPS on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Ends when the daemon cannot go on, when the host itself asks it to end, or when it is to start again.
    pub async fn over(&self) -> Over {
        tokio::select! {
            reason = self.api.node.cluster.failed() => Over::Failed(reason),
            () = self.asked_to_end.cancelled() => Over::Asked,
            () = self.api.node.again.cancelled() => Over::Again,
            () = self.api.node.cluster.wants_restart() => Over::Again,
        }
    }

    /// Brings the daemon down. Machines run on; what was acknowledged is on the disk.
    pub async fn stop(self) {
        self.api.ending.cancel();
        self.api.node.stop();
        self.server.end().await;
        self.peers.end().await;
        if let Err(e) = self.following.await {
            tracing::error!(error = %e, "following the state ended by a fault of ours");
        }
        if let Err(e) = self.measuring.await {
            tracing::error!(error = %e, "measuring ended by a fault of ours");
        }
        if let Err(e) = self.alerting.await {
            tracing::error!(error = %e, "alerts ended by a fault of ours");
        }
        let series = self.series;
        match tokio::task::spawn_blocking(move || series.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "the last minute of the metric history is lost"),
            Err(e) => tracing::error!(error = %e, "the metric history ended by a fault of ours"),
        }
        self.history.flush().await;
        self.api.node.cluster.shutdown().await;
    }
}

fn make_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

fn parts(config: &Config, asked_to_end: &CancellationToken) -> Result<Parts, StartError> {
    let broken = |source| StartError::Pool { path: config.pool.clone(), source };
    let pool = Arc::new(DirPool::open(config.pool.clone()).map_err(broken)?);
    Ok(match &config.host {
        HostKind::Simulated { .. } => Parts {
            hypervisor: Arc::new(sim::SimHypervisor::default()),
            pool,
            mounter: Arc::new(sim::SimMounter::new(config.shared.clone())),
            fabric: Arc::new(sim::SimFabric::default()),
            host: Arc::new(sim::SimHost::new(asked_to_end.clone())),
            time: Time::simulated(),
        },
        HostKind::Witness => Parts {
            hypervisor: Arc::new(witness::NoMachines),
            pool,
            mounter: Arc::new(witness::NoMounts),
            fabric: Arc::new(witness::NoNetworks),
            host: Arc::new(witness::WitnessHost::default()),
            time: Time::of_somebody_else(),
        },
        HostKind::Real { init_socket, boot_facts } => {
            let host = RealHost::new(boot_facts, init_socket.clone());
            Parts {
                hypervisor: Arc::new(LqVmm::new(init_socket.clone())),
                pool,
                mounter: Arc::new(NfsMounter::new(config.shared.clone())),
                fabric: Arc::new(BridgeFabric::new(host.uplink())),
                host: Arc::new(host),
                time: Time::of_the_kernel(),
            }
        }
    })
}

async fn initialise(cluster: &Cluster, host: &dyn HostControl) -> Result<(), WriteError> {
    let identity = cluster.identity();
    let op = Op::Initialise {
        cluster: identity.cluster,
        host: identity.host,
        host_name: host.name(),
        pool: PoolId::new(),
        network: NetworkId::new(),
        dhcp: host.guest_dhcp(),
    };
    cluster.write(op).await.map(drop)
}

pub(crate) fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        // Alone it takes IPv4 too; beside an IPv4 address of the same port it leaves that to it.
        let only = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &only)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}
