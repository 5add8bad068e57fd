//! The peers' port: what other hosts may ask of this one.

use super::{
    book::{Page, Stranger},
    epochs::Relation,
    link::SnapshotHead,
};
use crate::cluster::{
    Cluster, Command, Outcome, join, pairing,
    state::{Position, Told},
    types::{Snapshot, Types},
};
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper::body::Body as _;
use lq_api::{
    HostId,
    problem::{Kind, MEDIA_TYPE, Problem},
};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::{Deserialize, Serialize};

/// Asked by a host of an older epoch what became of its cluster.
pub(in crate::cluster) const FORMATION: &str = "/cluster/formation";

/// Largest application of a host that joins.
const MAX_APPLICATION: usize = 64 << 20;
/// The same of one that has not said a token of this cluster before it: a host of an earlier release, or anybody at all.
const MAX_UNPROVEN: usize = 256 << 10;
/// The token of an application, said before it: whoever has none is not let fill memory with one.
pub(super) const TOKEN: &str = "x-lq-join-token";

/// Who is at the other end: a host of the cluster, or someone without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From(pub Option<HostId>);

/// Answer to a forwarded write.
#[derive(Serialize, Deserialize)]
pub(in crate::cluster) enum Written {
    /// Applied at this log position.
    Done { index: u64, outcome: Outcome },
    /// Not proposed: this host does not lead.
    NotLeading,
    /// It was proposed, and what became of it is not known.
    Unknown { reason: String },
}

/// What a host of an older epoch is told.
#[derive(Serialize, Deserialize)]
pub(in crate::cluster) struct Formed {
    pub(in crate::cluster) told: Told,
    /// Whom it is to follow, where it is a member.
    pub(in crate::cluster) page: Option<Page>,
}

/// Where the log of a host ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::cluster) struct End {
    pub(in crate::cluster) last: Option<Position>,
}

/// A refusal in the words of the API.
pub(in crate::cluster) struct No(Box<Problem>);

impl No {
    pub(in crate::cluster) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(kind, why)))
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(axum::http::header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

type Answer<T> = Result<Json<T>, No>;

fn unavailable(e: &impl std::fmt::Display) -> No {
    No::new(Kind::Unavailable, e.to_string())
}

/// What members and those who join may ask; `more` is what else members may ask.
pub(in crate::cluster) fn router(cluster: Cluster, more: Router) -> Router {
    let members = Router::new()
        .route("/raft/append", post(append))
        .route("/raft/vote", post(vote))
        .route("/raft/pre-vote", post(pre_vote))
        .route("/raft/transfer", post(transfer))
        .route("/raft/snapshot", post(snapshot))
        .route("/cluster/write", post(write))
        .route("/cluster/read-index", post(read_index))
        .route("/cluster/health", post(health))
        .route("/cluster/book", post(book))
        .route("/cluster/end", post(end))
        .route(FORMATION, post(formation))
        .layer(DefaultBodyLimit::disable())
        .with_state(cluster.clone())
        .merge(more)
        .layer(middleware::from_fn_with_state(cluster.clone(), members_only));
    let strangers = Router::new()
        .route("/join/preview", post(preview))
        .route("/join/admit", post(admit))
        .layer(middleware::from_fn_with_state(cluster.clone(), applicants))
        .with_state(cluster.clone());
    members.merge(strangers).merge(pairing::router(cluster))
}

/// Also closes the door to a host that was removed while its connection was open.
async fn members_only(
    State(cluster): State<Cluster>,
    Extension(From(from)): Extension<From>,
    req: Request,
    next: Next,
) -> Response {
    match from {
        Some(host) if !cluster.wire.book.is_removed(host) => {
            let mut response = in_epoch(&cluster, host, req, next).await;
            cluster.wire.epochs.say(response.headers_mut());
            response
        }
        Some(host) => No::new(Kind::Forbidden, Stranger::Removed(host).to_string()).into_response(),
        None => No::new(Kind::Unauthenticated, "this is for hosts of the cluster").into_response(),
    }
}

/// Reads no more than a little of an application without a token of this cluster: nobody here has shown a certificate. Whether
/// the token may still be used is decided with what is asked.
async fn applicants(State(cluster): State<Cluster>, mut req: Request, next: Next) -> Response {
    let proven = match req.headers().get(TOKEN).and_then(|secret| secret.to_str().ok()) {
        Some(secret) => join::is_known(&cluster, secret).await,
        None => false,
    };
    let limit = if proven { MAX_APPLICATION } else { MAX_UNPROVEN };
    if req.body().size_hint().lower() > limit as u64 {
        let why = if proven { "" } else { ", or its join token is not (or no longer) one of this cluster" };
        let why = format!("the application is larger than {limit} bytes{why}");
        return No::new(Kind::TooLarge, why).into_response();
    }
    DefaultBodyLimit::max(limit).apply(&mut req);
    next.run(req).await
}

/// Carries out only what a host of the same epoch asks, and nothing of the agreement where this host is out.
async fn in_epoch(cluster: &Cluster, from: HostId, req: Request, next: Next) -> Response {
    let epochs = &cluster.wire.epochs;
    let path = req.uri().path();
    let why = match epochs.hear(from, req.headers()) {
        Relation::Same => match epochs.outdated() {
            Some(outdated) if path.starts_with("/raft/") || path.starts_with("/cluster/") => {
                outdated.to_string()
            }
            _ => return next.run(req).await,
        },
        Relation::Older(_) if path == FORMATION => return next.run(req).await,
        Relation::Older(theirs) => {
            format!("epoch {theirs} of the cluster is over, it was formed anew as epoch {}", epochs.own())
        }
        Relation::Newer(_) => format!("this host is of epoch {} still", epochs.own()),
    };
    No::new(Kind::Unavailable, why).into_response()
}

async fn append(State(c): State<Cluster>, Json(rpc): Json<AppendEntriesRequest<Types>>) -> Response {
    answer(c.raft.append_entries(rpc).await)
}

async fn vote(State(c): State<Cluster>, Json(rpc): Json<VoteRequest<Types>>) -> Response {
    answer(c.raft.vote(rpc).await)
}

async fn pre_vote(State(c): State<Cluster>, Json(rpc): Json<VoteRequest<Types>>) -> Response {
    answer(c.raft.pre_vote(rpc).await)
}

async fn transfer(State(c): State<Cluster>, Json(rpc): Json<TransferLeaderRequest<Types>>) -> Response {
    answer(c.raft.handle_transfer_leader(rpc).await)
}

fn answer<T: Serialize, E: std::fmt::Display>(done: Result<T, E>) -> Response {
    match done {
        Ok(answer) => Json(answer).into_response(),
        Err(e) => unavailable(&e).into_response(),
    }
}

async fn snapshot(State(c): State<Cluster>, body: Bytes) -> Response {
    let malformed = |why: &str| No::new(Kind::Malformed, why).into_response();
    let Some(end) = body.iter().position(|b| *b == b'\n') else { return malformed("it has no head") };
    let Ok(head) = serde_json::from_slice::<SnapshotHead>(body.get(..end).unwrap_or_default()) else {
        return malformed("its head cannot be parsed");
    };
    let state = body.get(end + 1..).unwrap_or_default();
    if state.len() as u64 != head.length {
        return malformed("it is not whole");
    }
    // openraft stops for good when a snapshot cannot be installed; what cannot be read is refused before it.
    if let Err(e) = crate::cluster::state::read_state(state) {
        return unavailable(&format!("this host cannot read the state: {e}")).into_response();
    }
    let snapshot = Snapshot { meta: head.meta, snapshot: state.to_vec() };
    answer(c.raft.install_full_snapshot(head.vote, snapshot).await)
}

async fn write(State(c): State<Cluster>, Json(command): Json<Command>) -> Json<Written> {
    Json(c.propose(command).await)
}

async fn read_index(State(c): State<Cluster>) -> Answer<u64> {
    c.leader_read_index().await.map(Json).map_err(|e| unavailable(&e))
}

async fn health(State(c): State<Cluster>) -> Answer<crate::cluster::Health> {
    c.leader_health().map(Json).ok_or_else(|| unavailable(&"this host does not lead"))
}

async fn book(State(c): State<Cluster>) -> Answer<Page> {
    c.wire.book.page().map(Json).ok_or_else(|| unavailable(&"this host knows nothing yet"))
}

async fn end(State(c): State<Cluster>) -> Json<End> {
    Json(End { last: c.last_position() })
}

async fn formation(
    State(c): State<Cluster>,
    Extension(From(from)): Extension<From>,
    Json(epoch): Json<u64>,
) -> Answer<Formed> {
    let told = from.and_then(|host| c.read(|s| s.told_of(host, epoch)));
    let told = told.ok_or_else(|| unavailable(&"this host knows of no newer epoch"))?;
    let page = c.wire.book.page().filter(|_| told.member);
    Ok(Json(Formed { told, page }))
}

async fn preview(
    State(c): State<Cluster>,
    Json(ask): Json<join::Ask>,
) -> Answer<lq_api::cluster::JoinPreview> {
    join::preview(&c, &ask).await.map(Json)
}

async fn admit(State(c): State<Cluster>, Json(ask): Json<join::Ask>) -> Answer<Page> {
    join::admit(&c, ask).await.map(Json)
}
