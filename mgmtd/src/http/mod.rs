//! The API: `/api/v1` over TLS and, for root on the same host, over a Unix socket; probes, metrics and the web UI beside it.
//!
//! Handlers are thin: parse, call a use case, answer. What holds for every request is in [`guard`] (who asks, may they, is
//! it forged, is it noted) and in [`extract`] (every refusal is a problem document). The OpenAPI document is made from the
//! handlers; `api/openapi.json` is a copy that a test keeps equal.

mod access;
mod elsewhere;
mod extract;
mod former;
mod forward;
mod guard;
mod linger;
mod list;
mod note;
pub mod openapi;
pub(crate) mod peer;
mod places;
mod problem;
mod rate;
mod routes;
mod rules;
pub mod server;
pub mod tls;
mod turns;
mod ui;

use crate::{
    alerts::Alerts,
    auth::{Audit, Auth},
    ha::{self, fence::Boards, leader::Leader},
    placement::balancer::Balancer,
    reconcile::Node,
    telemetry::{Metrics, Series},
};
use axum::{Router, extract::DefaultBodyLimit, middleware};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

use elsewhere::Elsewhere;
use former::Former;
use rate::Counter;
pub use rate::{Rate, Rates};
pub use server::Peer;
use turns::Turns;

/// Largest body, but for the content of images.
pub const MAX_BODY: usize = 1 << 20;
/// Largest body of somebody who is not known: it is read before it is looked at, and whoever sends it need not exist.
pub const MAX_OPEN_BODY: usize = 16 << 10;

/// Uploads of one user at a time: fewer than there are in all, so that others have their turn.
const UPLOADS_OF_A_USER: usize = 2;

/// Bodies of one user beyond [`MAX_OPEN_BODY`] that are read at a time: however many they send, so much memory is theirs.
const BODIES_OF_A_USER: usize = 16;

/// Directories of the daemon.
#[derive(Clone, Debug)]
pub struct Places {
    /// Of what lasts, the certificate among it.
    pub state: PathBuf,
    /// Of what is gone at each boot, the logs among it.
    pub run: PathBuf,
}

/// What handlers work with.
pub struct Api {
    /// This host.
    pub node: Arc<Node>,
    /// Who may do what.
    pub auth: Auth,
    /// Who did what.
    pub audit: Audit,
    /// Counters.
    pub metrics: Metrics,
    /// Values over time.
    pub series: Arc<Series>,
    /// What is wrong.
    pub alerts: Arc<Alerts>,
    /// Watches the other hosts where this one leads.
    pub ha: Arc<Leader>,
    /// Asks the BMCs of the hosts where this one leads.
    pub boards: Arc<Boards>,
    /// Balances where this host leads.
    pub balancer: Arc<Balancer>,
    /// Begins when the daemon ends: long answers end with it.
    pub ending: CancellationToken,
    /// The host follows the state.
    pub following: AtomicBool,
    /// Where the daemon keeps things.
    pub places: Places,
    /// Port of multicast DNS; where absent, hosts that wait to be paired are not found.
    pub discovery_port: Option<u16>,
    elsewhere: Arc<Elsewhere>,
    former: Arc<Former>,
    uploads: Turns,
    bodies: Turns,
    requests: Counter,
}

impl Api {
    /// An API of this host. Called where a runtime is: it follows the state from now on.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        auth: Auth,
        audit: Audit,
        series: Arc<Series>,
        places: Places,
        discovery_port: Option<u16>,
        rates: Rates,
    ) -> Arc<Self> {
        let (former, ending) = (Arc::new(Former::default()), CancellationToken::new());
        let boards = Boards::new(node.cluster.clone());
        let alerts = Alerts::new(node.clone(), series.clone(), places.state.clone(), boards.clone());
        tokio::spawn(former.clone().keep_up(node.cluster.clone(), ending.clone()));
        let ha = Leader::start(node.cluster.clone(), node.events.clone(), boards.clone(), ending.clone());
        tokio::spawn(boards.clone().run(ha.clone(), ending.clone()));
        let balancer = Balancer::start(node.clone(), ending.clone());
        tokio::spawn(ha::host::run(node.clone(), ha.clone(), ending.clone()));
        Arc::new(Self {
            node,
            auth,
            audit,
            metrics: Metrics::default(),
            series,
            alerts,
            ha,
            boards,
            balancer,
            ending,
            following: AtomicBool::new(false),
            places,
            discovery_port,
            elsewhere: Arc::default(),
            former,
            uploads: Turns::new(UPLOADS_OF_A_USER),
            bodies: Turns::new(BODIES_OF_A_USER),
            requests: Counter::new(rates),
        })
    }

    /// What is still missing before every request can be served.
    pub fn waiting_for(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.node.cluster.is_removed() {
            missing.push("this host was removed from its cluster".into());
        }
        if let Some(outdated) = self.node.cluster.outdated() {
            missing.push(outdated.to_string());
        } else if let Some(since) = self.node.cluster.no_quorum_since() {
            missing.push(format!(
                "a majority of the voters: none is reached since {since}, nothing can be changed"
            ));
        }
        if self.node.cluster.standing().leader.is_none() {
            missing.push("the cluster has no leader".into());
        }
        if !self.following.load(Ordering::Relaxed) {
            missing.push("the host has not looked at its machines yet".into());
        }
        if self.ending.is_cancelled() {
            missing.push("the daemon is ending".into());
        }
        missing
    }
}

/// Everything this daemon serves.
pub fn router(api: Arc<Api>) -> Router {
    let (v1, _) = openapi::parts();
    let v1 = v1
        .layer(middleware::from_fn_with_state(api.clone(), forward::forward))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method);
    Router::new()
        .nest("/api/v1", v1)
        .merge(routes::probes::router(api.clone()))
        .fallback(ui::serve)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), guard::envelope))
        .with_state(api)
}
