//! Joining: how a host that was a cluster by itself becomes a member of another.
//!
//! ```text
//!  joining host                                   any host of the cluster
//!  token ─▶ TLS to an address of the token,
//!           authority checked by its hash
//!        ──── /join/preview (what it brings) ───▶ what would come of it; nothing changes
//!        ──── freeze ── /join/admit ────────────▶ raft: Admit (token, host, objects)
//!        ◀─── address book, authority ───────────
//!  `join.json` on disk ─▶ restart ─▶ old log and snapshots moved to `left/`, an empty log of the new cluster
//!        ◀═══ the leader brings the log ═════════ learner, caught up, maybe voter (keeper)
//! ```
//! Invariants: the secret is sent to nobody who does not prove to be of the token's cluster; from the moment it is sent with
//! what the host brings until the outcome is known, the host's own state takes no change; an admission whose answer was lost
//! may be repeated.

use super::{
    Cluster, Objects, Op, Refusal, WriteError,
    backup::{BackupError, Reason},
    state::{Application, STRANGE_TOKEN},
    wire::{
        CallError, SeedCaller,
        book::{self, Page},
        pki,
        serve::No,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use lq_api::{
    HostId, TokenId,
    cluster::{CreateJoinToken, CreatedJoinToken, JoinPreview, JoinToken},
    join_token::{TokenFault, TokenText},
    problem::{Kind, Problem},
};
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, io, path::Path, time::Duration};

/// Addresses in a token.
const ADDRESSES: usize = 8;
/// Longest an admission may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The admission that is carried out at the next start.
pub(super) const PENDING: &str = "join.json";

/// Why a host did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token's text is not one.
    #[error("this is not a join token: {0}; copy the whole text that `lqctl cluster token create` showed")]
    NotAToken(#[from] TokenFault),
    /// The host has company.
    #[error(
        "this host is a member of a cluster of {0} hosts: only a host that is alone can join; remove it there first"
    )]
    NotAlone(usize),
    /// It is one of its members.
    #[error("this host is a member of that cluster already")]
    Member,
    /// No address of the token was reached, or what was reached is not the token's cluster.
    #[error("no host of the cluster could be asked: {0}")]
    Unreachable(String),
    /// The cluster refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The outcome is not known.
    #[error("the cluster did not say whether it admitted this host ({0}): try again with the same token")]
    Unknown(String),
    /// A file.
    #[error("the admission could not be stored: {0}")]
    Store(#[from] io::Error),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The state could not be kept before it is left.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// This host cannot answer for itself.
    #[error("this host is not ready to join: {0}")]
    NotReady(String),
}

/// What a joining host sends.
#[derive(Serialize, Deserialize)]
pub(super) struct Ask {
    secret: String,
    application: Application,
}

fn secret_hash(secret: &str) -> String {
    pki::hash(secret.as_bytes())
}

/// Makes a join token.
pub(super) async fn create_token(
    cluster: &Cluster,
    new: &CreateJoinToken,
) -> Result<CreatedJoinToken, WriteError> {
    let unavailable = |e: &dyn std::fmt::Display| WriteError::Unavailable(e.to_string());
    let page = cluster
        .wire
        .book
        .page()
        .ok_or_else(|| unavailable(&"the cluster has no hosts that can be joined yet"))?;
    let addresses = addresses(cluster, &page);
    if addresses.is_empty() {
        return Err(unavailable(&"no host has an address for its peers yet"));
    }
    let mut bytes = [0u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| unavailable(&e))?;
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    let hash = secret_hash(&secret);
    let authority = pki::authority_hash(&page.authority).map_err(|e| unavailable(&e))?;
    let text =
        TokenText::new(page.cluster, addresses, authority, secret).text().map_err(|e| unavailable(&e))?;
    let now = Timestamp::now();
    let life = jiff::SignedDuration::from_mins(new.minutes.into());
    let token = JoinToken {
        id: TokenId::new(),
        created_at: now,
        expires_at: now.saturating_add(life).unwrap_or(Timestamp::MAX),
        uses_left: new.uses,
    };
    cluster.write(Op::CreateJoinToken { token: token.clone(), hash }).await?;
    Ok(CreatedJoinToken { token, text })
}

/// Where the cluster of a token is found: at this host, which answers now, before all others. A host that is lost is of an older
/// epoch, and does not know the token.
fn addresses(cluster: &Cluster, page: &Page) -> Vec<String> {
    let me = cluster.identity().host;
    let lost: BTreeSet<HostId> =
        cluster.read(|s| s.hosts.values().filter(|r| r.lost.is_some()).map(|r| r.meta.id).collect());
    let mut there: Vec<_> = page.hosts.iter().filter(|(id, _)| !lost.contains(id)).collect();
    there.sort_by_key(|(id, _)| **id != me);
    there.into_iter().map(|(_, peer)| peer.address.clone()).take(ADDRESSES).collect()
}

/// On the cluster's side: whether there is a token with this secret, be it used up or expired.
pub(super) async fn is_known(cluster: &Cluster, secret: &str) -> bool {
    let hash = secret_hash(secret);
    let known = || cluster.read(|s| s.join_token(&hash).is_some());
    // It may have been made a moment ago on another host.
    known() || (cluster.barrier().await.is_ok() && known())
}

/// On the cluster's side: what would come of it.
pub(super) async fn preview(cluster: &Cluster, ask: &Ask) -> Result<JoinPreview, No> {
    // The token may have been made a moment ago on another host.
    cluster.barrier().await.map_err(|e| No::new(Kind::Unavailable, e.to_string()))?;
    let hash = secret_hash(&ask.secret);
    let judged = cluster.read(|s| {
        s.usable_join_token(&hash, Timestamp::now())?;
        let plan = s.judge(&ask.application)?;
        let hosts = s.hosts.values().map(|r| r.meta.name.clone()).collect();
        Ok((plan, hosts, s.cluster.as_ref().map(|c| c.id)))
    });
    let (plan, hosts, id) = judged.map_err(refused)?;
    let objects = &ask.application.objects;
    let left_out = objects.networks.iter().filter(|n| plan.left_out.contains(&n.meta.id));
    Ok(JoinPreview {
        cluster: id.unwrap_or_else(|| cluster.identity().cluster),
        hosts,
        left_out: left_out.map(|n| n.meta.name.clone()).collect(),
        // Of one that comes back those are told too that the cluster knows already.
        machines: objects.vms.iter().map(|r| r.vm.meta.name.clone()).collect(),
        renamings: plan.renamings,
    })
}

/// On the cluster's side: the admission.
pub(super) async fn admit(cluster: &Cluster, ask: Ask) -> Result<Page, No> {
    let host = ask.application.host;
    let op = Op::Admit { token: secret_hash(&ask.secret), application: Box::new(ask.application) };
    match cluster.write(op).await {
        Ok(_) => {}
        Err(WriteError::Refused(refusal)) => return Err(refused(refusal)),
        Err(e) => return Err(No::new(Kind::Unavailable, e.to_string())),
    }
    tracing::info!(%host, "a host was admitted");
    cluster.wire.book.page().ok_or_else(|| No::new(Kind::Unavailable, "this host knows nothing yet"))
}

fn refused(refusal: Refusal) -> No {
    No::new(Kind::Conflict, refusal.to_string())
}

/// On the joining host: what joining would do.
pub(super) async fn ask_preview(cluster: &Cluster, token: &str) -> Result<JoinPreview, JoinError> {
    let said = TokenText::parse(token)?;
    let application = application(cluster, &said, true)?;
    call(&said, "/join/preview", application).await
}

/// On the joining host: joins. What is left to do is done by the next start.
pub(super) async fn join(cluster: &Cluster, dir: &Path, token: &str, rename: bool) -> Result<(), JoinError> {
    let said = TokenText::parse(token)?;
    application(cluster, &said, rename)?;
    cluster.backup(Reason::Join).await?;
    let frozen = cluster.freeze().await;
    let application = application(cluster, &said, rename)?;
    let page: Page = match call(&said, "/join/admit", application).await {
        Ok(page) => page,
        // It may have been admitted: asked again the cluster says so.
        Err(JoinError::Unknown(first)) => {
            tracing::warn!(reason = first, "the admission is asked for again");
            let again = self::application(cluster, &said, rename)?;
            call(&said, "/join/admit", again).await?
        }
        Err(e) => return Err(e),
    };
    store(dir, page).await?;
    // From here on only the next start takes changes.
    frozen.for_good();
    Ok(())
}

/// Keeps an admission, or the address book of an epoch to follow, for the next start.
pub(super) async fn store(dir: &Path, page: Page) -> Result<(), io::Error> {
    let file = dir.join(PENDING);
    tokio::task::spawn_blocking(move || book::store(&file, &page)).await.map_err(io::Error::other)?
}

fn application(cluster: &Cluster, said: &TokenText, rename: bool) -> Result<Application, JoinError> {
    let identity = cluster.identity();
    cluster.read(|s| {
        let from = s.cluster.as_ref().map_or(identity.cluster, |c| c.id);
        // One whose cluster went on without it brings what is on it.
        let back = cluster.outdated().filter(|_| from == said.cluster).map(|_| identity.epoch);
        if back.is_none() && from == said.cluster {
            return Err(JoinError::Member);
        }
        if back.is_none() && s.hosts.len() != 1 {
            return Err(JoinError::NotAlone(s.hosts.len()));
        }
        let me = s
            .hosts
            .get(&identity.host)
            .ok_or_else(|| JoinError::NotReady("it does not know itself".into()))?;
        let peer = me.peer.clone();
        let holds = !(s.vms.is_empty() && s.volumes.is_empty() && s.images.is_empty());
        if me.is_witness() && back.is_none() && holds {
            let why = "a witness brings nothing with it: delete its machines, volumes and images";
            return Err(JoinError::NotReady(why.into()));
        }
        Ok(Application {
            host: identity.host,
            name: me.meta.name.clone(),
            from,
            peer: peer.ok_or_else(|| JoinError::NotReady("it has no address for its peers yet".into()))?,
            capacity: me.capacity.clone(),
            boot: me.boot,
            objects: match back {
                Some(_) => Objects::held_by(s, identity.host),
                None if me.is_witness() => Objects::default(),
                None => Objects::of(s),
            },
            rename,
            back,
        })
    })
}

/// Asks the first host of the token that answers for its cluster: not this one, nor one that does not know the token, as a host
/// of an older epoch does not.
async fn call<T: serde::de::DeserializeOwned>(
    said: &TokenText,
    path: &str,
    application: Application,
) -> Result<T, JoinError> {
    let caller = SeedCaller::new(said.cluster, &said.authority)?.with_token(&said.secret);
    let me = application.peer.address.clone();
    let ask = Ask { secret: said.secret.clone(), application };
    let mut reasons = Vec::new();
    let mut strange = None;
    for address in said.addresses.iter().filter(|address| **address != me) {
        match caller.call(address, path, &ask, PATIENCE).await {
            Ok(answer) => return Ok(answer),
            // A host that does not know the token does not even read a large application.
            Err(CallError::Refused(problem))
                if problem.detail == STRANGE_TOKEN || problem.status == Kind::TooLarge.parts().2 =>
            {
                strange = Some(problem);
            }
            Err(CallError::Refused(problem)) if problem.status != Kind::Unavailable.parts().2 => {
                return Err(JoinError::Refused(problem));
            }
            Err(CallError::Broken { reason, .. }) => return Err(JoinError::Unknown(reason)),
            Err(e) => reasons.push(e.to_string()),
        }
    }
    let silent = reasons.join("; ");
    match strange {
        // A host that could not be asked may know it.
        Some(mut problem) if !silent.is_empty() => {
            problem.detail =
                format!("{}; not all hosts of the token could be asked: {silent}", problem.detail);
            Err(JoinError::Refused(problem))
        }
        Some(problem) => Err(JoinError::Refused(problem)),
        None if silent.is_empty() => {
            Err(JoinError::Unreachable("the token names no other host than this one: make a new one".into()))
        }
        None => Err(JoinError::Unreachable(silent)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token that says something else.
    pub(in crate::cluster) fn changed(text: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut said = serde_json::to_value(TokenText::parse(text).unwrap()).unwrap();
        change(&mut said);
        // What was changed does not fit its check letters, and is to be refused for another reason.
        said.as_object_mut().unwrap().remove("k");
        serde_json::from_value::<TokenText>(said).unwrap().text().unwrap()
    }
}
