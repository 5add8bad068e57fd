//! The waiting host's side, at the port for the other hosts: three questions of one who is not known yet.

use super::{
    Cluster,
    exchange::{Inviter, VERSION, Waiter},
    in_use,
    waiting::Refused,
};
use crate::cluster::{JoinError, wire::serve::No};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use lq_api::problem::Kind;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Nothing of an exchange is larger.
const MAX_BODY: usize = 16 << 10;
/// Between the last answer and the new start of the daemon.
const FAREWELL: Duration = Duration::from_millis(300);

#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) inviter: Inviter,
    pub(super) message: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HelloBack {
    pub(super) waiter: Waiter,
    pub(super) session: Uuid,
    pub(super) message: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) session: Uuid,
    pub(super) proof: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProofBack {
    pub(super) proof: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Join {
    pub(super) session: Uuid,
    pub(super) sealed: Vec<u8>,
}

/// What is sealed in [`Join`].
#[derive(Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) token: String,
    pub(super) rename: bool,
}

/// What one who joined says of itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Joined {
    /// Its name so far.
    pub(super) name: String,
}

fn refused(why: Refused) -> No {
    No::new(
        match why {
            Refused::NotWaiting | Refused::Taken => Kind::Conflict,
            Refused::Resting => Kind::RateLimited,
            Refused::Unknown => Kind::NotFound,
            Refused::Wrong { .. } => Kind::Forbidden,
            Refused::Malformed => Kind::Malformed,
        },
        why.to_string(),
    )
}

/// Where a host is asked that waits.
pub(in crate::cluster) fn router(cluster: Cluster) -> Router {
    Router::new()
        .route("/pair/whois", post(whois))
        .route("/pair/hello", post(hello))
        .route("/pair/confirm", post(confirm))
        .route("/pair/join", post(join))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(cluster)
}

/// Says its id: what the exchange is bound to, beside the key of the connection. Only of one who waits.
async fn whois(State(cluster): State<Cluster>) -> Result<Json<Waiter>, No> {
    cluster.look_at_pairing().map_err(|e| No::new(Kind::Conflict, e.to_string()))?;
    waiter(&cluster).map(Json)
}

fn waiter(cluster: &Cluster) -> Result<Waiter, No> {
    cluster.as_waiter().map_err(|e| No::new(Kind::Unavailable, e.to_string()))
}

async fn hello(State(cluster): State<Cluster>, Json(hello): Json<Hello>) -> Result<Json<HelloBack>, No> {
    if hello.inviter.version != VERSION {
        return Err(No::new(
            Kind::Conflict,
            format!(
                "this host pairs by version {VERSION}, the other by version {}: bring both to the same release",
                hello.inviter.version
            ),
        ));
    }
    cluster.look_at_pairing().map_err(|e| No::new(Kind::Conflict, e.to_string()))?;
    let waiter = waiter(&cluster)?;
    let mut waiting = cluster.pairing.waiting();
    let begun = waiting.hello(Instant::now(), hello.inviter, &waiter, &hello.message);
    let (session, message) = begun.map_err(refused)?;
    Ok(Json(HelloBack { waiter, session, message }))
}

async fn confirm(State(cluster): State<Cluster>, Json(proof): Json<Proof>) -> Result<Json<ProofBack>, No> {
    let heard = cluster.pairing.waiting().confirm(Instant::now(), proof.session, &proof.proof);
    match heard {
        Ok((proof, inviter)) => {
            tracing::info!(cluster = %inviter.cluster, host = %inviter.host, "another host knows the pairing code");
            Ok(Json(ProofBack { proof }))
        }
        Err(why) => {
            // Whoever reaches this port may send nonsense for long: the log must not be filled by it.
            if why.is_guess() {
                tracing::warn!(reason = %why, "a pairing was refused");
            } else {
                tracing::debug!(reason = %why, "a pairing was refused");
            }
            Err(refused(why))
        }
    }
}

async fn join(State(cluster): State<Cluster>, Json(join): Json<Join>) -> Result<Json<Joined>, No> {
    let opened = cluster.pairing.waiting().open(Instant::now(), join.session, &join.sealed);
    let opened = opened.map_err(refused)?;
    // Whoever asked may go away: what was begun is carried out.
    let work = tokio::spawn(carry_out(cluster, opened));
    work.await.map_err(|e| No::new(Kind::Internal, e.to_string()))?
}

async fn carry_out(cluster: Cluster, opened: Vec<u8>) -> Result<Json<Joined>, No> {
    let done = async {
        let sealed: Sealed =
            serde_json::from_slice(&opened).map_err(|e| No::new(Kind::Malformed, e.to_string()))?;
        // Nothing of a host without things of its own was named by a person.
        let rename = sealed.rename || !cluster.read(in_use);
        let me = cluster.identity().host;
        let name = cluster.read(|s| s.host_name(me));
        cluster.join(&sealed.token, rename).await.map_err(|e| {
            let kind = match &e {
                JoinError::Unreachable(_) | JoinError::Unknown(_) => Kind::Unavailable,
                _ => Kind::Conflict,
            };
            No::new(kind, e.to_string())
        })?;
        Ok(Json(Joined { name }))
    }
    .await;
    match &done {
        Ok(_) => {
            let again = cluster.again.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL).await;
                again.cancel();
            });
        }
        Err(_) => cluster.pairing.waiting().failed(),
    }
    done
}
