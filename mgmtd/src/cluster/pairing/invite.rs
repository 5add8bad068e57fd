//! The cluster's side: asks a waiting host, proves that the code is known, and gives it a join token of one use.

use super::{
    Cluster,
    code::Code,
    exchange::{Begun, Inviter, Malformed, Side, VERSION, Waiter},
    serve::{Hello, HelloBack, Join, Joined, Proof, ProofBack, Sealed},
};
use crate::cluster::{CallError, Op, PkiError, WriteError, pki, wire::StrangerCaller};
use lq_api::{HostId, cluster::CreateJoinToken, problem::Problem};
use std::time::Duration;
use tokio::time::Instant;

/// Longest one question of the exchange may take.
const ASK: Duration = Duration::from_secs(5);
/// Longest the host may take to be admitted.
const ADMIT: Duration = Duration::from_secs(90);
/// Longest it may take to be heard as a member.
const ARRIVE: Duration = Duration::from_secs(90);
/// Minutes the token lasts.
const TOKEN_MINUTES: u32 = 5;

pub(super) struct Invitation<'a> {
    pub(super) address: &'a str,
    /// Which host was chosen, where one was.
    pub(super) expected: Option<HostId>,
    pub(super) code: &'a str,
    /// Objects of the host may be given other names.
    pub(super) rename: bool,
}

/// A host that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paired {
    /// The host.
    pub host: HostId,
    /// Its name in the cluster.
    pub name: String,
    /// Whether it was heard as a member; it may take longer.
    pub arrived: bool,
}

/// Why a host was not brought in.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The text is no code.
    #[error(
        "this is not a pairing code: it is eight letters and digits on the console of the host, without 0, O, 1 and I"
    )]
    NotACode,
    /// Another host answered.
    #[error("at {0} there is another host than the chosen one: look for waiting hosts again")]
    AnotherHost(String),
    /// It is of this cluster.
    #[error("this host is a member of the cluster already")]
    Member,
    /// It cannot be reached, or broke off.
    #[error("the waiting host cannot be asked: {0}")]
    Call(CallError),
    /// It said no.
    #[error("the waiting host refused: {}", .0.detail)]
    Refused(Box<Problem>),
    /// What answers does not know the code.
    #[error(
        "what answers at {0} did not prove that it knows the code: something stands between the hosts, or it is not the \
         host with the console you read"
    )]
    Unproven(String),
    /// The cluster does not know itself yet.
    #[error("this host is not ready to bring others in: {0}")]
    NotReady(String),
    /// Key or certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token.
    #[error("no token could be made for it: {0}")]
    Token(WriteError),
}

impl From<CallError> for PairError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Refused(problem) => Self::Refused(problem),
            other => Self::Call(other),
        }
    }
}

pub(super) async fn pair(
    cluster: &Cluster,
    invitation: Invitation<'_>,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<Paired, PairError> {
    let code = Code::parse(invitation.code).ok_or(PairError::NotACode)?;
    let address = invitation.address;
    let page = cluster.wire.book.page();
    let page = page.ok_or_else(|| PairError::NotReady("it has no hosts that can be joined yet".into()))?;
    let identity = cluster.identity();
    let inviter = Inviter {
        version: VERSION,
        cluster: identity.cluster,
        authority: pki::authority_hash(&page.authority)?,
        host: identity.host,
        pin: cluster.pin()?,
    };
    say(format!("asking the host at {address}"));
    let caller = StrangerCaller::new()?;
    let told: Waiter = caller.call(address, "/pair/whois", &(), ASK).await?;
    if invitation.expected.is_some_and(|expected| expected != told.host) {
        return Err(PairError::AnotherHost(address.to_owned()));
    }
    if cluster.read(|s| s.hosts.contains_key(&told.host)) {
        return Err(PairError::Member);
    }
    // Not the key it tells, but the one it holds: that it does was proven by TLS.
    let seen = caller.seen().ok_or_else(|| PairError::Unproven(address.to_owned()))?;
    let waiter = Waiter { version: VERSION, host: told.host, pin: seen };
    let begun = Begun::new(&code, &inviter, &waiter);
    let hello = Hello { inviter, message: begun.message.clone() };
    let back: HelloBack = caller.call(address, "/pair/hello", &hello, ASK).await?;
    let unproven = |_: Malformed| PairError::Unproven(address.to_owned());
    let keys = begun.finish(&back.message).map_err(unproven)?;
    let proof = Proof { session: back.session, proof: keys.proof(Side::Inviter) };
    let answer: ProofBack = caller.call(address, "/pair/confirm", &proof, ASK).await?;
    if !keys.proves(Side::Waiter, &answer.proof) {
        return Err(PairError::Unproven(address.to_owned()));
    }

    say("the code is right; the host is joining".into());
    let wanted = CreateJoinToken { minutes: TOKEN_MINUTES, uses: 1 };
    let made = cluster.create_join_token(&wanted).await.map_err(PairError::Token)?;
    let sealed = Sealed { token: made.text, rename: invitation.rename };
    let sealed = serde_json::to_vec(&sealed).map_err(|e| PairError::NotReady(e.to_string()))?;
    let join = Join { session: back.session, sealed: keys.seal(&sealed).map_err(unproven)? };
    let joined = caller.call::<Joined>(address, "/pair/join", &join, ADMIT).await;
    match joined {
        Ok(_) => {}
        // It may be under way all the same; the state says.
        Err(e @ CallError::Broken { .. }) => {
            if !until(ARRIVE, || cluster.read(|s| s.hosts.contains_key(&told.host))).await {
                revoke(cluster, made.token.id).await;
                return Err(PairError::Call(e));
            }
        }
        Err(e) => {
            revoke(cluster, made.token.id).await;
            return Err(e.into());
        }
    }
    say("the host was admitted and is starting again".into());
    let arrived = arrival(cluster, told.host).await;
    let name = cluster.read(|s| s.host_name(told.host));
    Ok(Paired { host: told.host, name, arrived })
}

async fn revoke(cluster: &Cluster, id: lq_api::TokenId) {
    if let Err(e) = cluster.write(Op::DeleteJoinToken { id }).await {
        tracing::debug!(error = %e, "the token of a pairing that failed lasts its minutes");
    }
}

async fn until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    true
}

/// Waits until the leader hears it.
async fn arrival(cluster: &Cluster, host: HostId) -> bool {
    let end = Instant::now() + ARRIVE;
    while Instant::now() < end {
        if cluster.health().await.is_some_and(|h| h.reachable.contains(&host)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    false
}
