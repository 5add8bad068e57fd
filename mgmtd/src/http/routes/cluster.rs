//! The cluster, and the description of the API itself.

use super::super::{
    Api,
    extract::{Answer, Id, Json, OptionalJson},
    openapi, peer,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Cluster as Agreed, Health, Op, Standing, State as AgreedState},
};
use axum::{
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::SignedDuration;
use lq_api::{
    HostId, Timestamp, TokenId,
    access::ObjectKind,
    cluster::{
        Cluster, CreateJoinToken, CreatedJoinToken, JoinCluster, JoinPreview, JoinToken, Member, MemberRole,
    },
    event::EventLevel,
    ha::{HaSpec, HaStatus},
    recovery::{Formed, MissingHost, Outdated, QuorumLoss, RefusedMember},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Between the answer to a join and the new start of the daemon.
const FAREWELL: Duration = Duration::from_millis(300);

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(cluster))
        .routes(routes!(ha, set_ha))
        .routes(routes!(tokens, create_token))
        .routes(routes!(delete_token))
        .routes(routes!(preview))
        .routes(routes!(join))
        .route("/openapi.json", axum::routing::get(document))
}

/// The cluster as this host sees it.
#[utoipa::path(get, path = "/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
async fn cluster(State(api): State<Arc<Api>>) -> Answer<Cluster> {
    let cluster = &api.node.cluster;
    let standing = cluster.standing();
    let health = cluster.health().await;
    let mut warnings = Vec::new();
    if cluster.is_removed() {
        warnings.push("this host was removed from the cluster; it shows what it knew last".to_owned());
    }
    let outdated = cluster.outdated().map(|o| Outdated {
        reason: o.to_string(),
        epoch: o.told.epoch,
        at: o.told.at,
        by: o.told.by,
    });
    warnings.extend(outdated.as_ref().map(|o| format!("{}; machines run on", o.reason)));
    let (refused, heard) = (cluster.refused(), cluster.heard());
    let quorum = health.as_ref().is_some_and(|h| h.quorum) && outdated.is_none();
    // Who led last is known also where the others are not reached; whether they still do is not.
    let leader = standing.leader.filter(|_| quorum);
    let answer = cluster.read_at(|s, revision| {
        let members: Vec<Member> = s
            .hosts
            .values()
            .map(|record| {
                let host = record.meta.id;
                let behind = health.as_ref().is_some_and(|h| h.behind.contains(&host));
                Member {
                    host,
                    name: record.meta.name.clone(),
                    address: record.peer.as_ref().map(|p| p.address.clone()),
                    role: match () {
                        () if record.lost.is_some() => MemberRole::Lost,
                        () if leader == Some(host) => MemberRole::Leader,
                        () if standing.voters.contains(&host) => MemberRole::Voter,
                        () if behind || !standing.members.contains(&host) => MemberRole::Joining,
                        () => MemberRole::Follower,
                    },
                    // One that has never said where it is cannot be missed, nor one that is lost.
                    reachable: health
                        .as_ref()
                        .filter(|_| record.peer.is_some() && record.lost.is_none())
                        .map(|h| h.reachable.contains(&host)),
                    lag: health.as_ref().and_then(|h| h.lag.get(&host).copied()),
                    lost_at: record.lost.map(|l| l.at),
                    refused: refused.get(&host).map(|r| RefusedMember { epoch: r.epoch, at: r.at }),
                }
            })
            .collect();
        for member in members.iter().filter(|m| m.reachable == Some(false)) {
            warnings.push(format!("the host `{}` does not answer the leader", member.name));
        }
        for member in &members {
            if let Some(refused) = &member.refused {
                warnings.push(format!(
                    "the host `{}` belongs to epoch {} and is refused, the cluster is in epoch {}: let it join again",
                    member.name,
                    refused.epoch,
                    s.epoch()
                ));
            }
        }
        let lost = (!quorum && outdated.is_none() && !cluster.is_removed())
            .then(|| loss(cluster, s, &standing, health.as_ref(), &heard));
        if lost.is_some() {
            warnings.push(
                "no majority of the voters is reached: machines run on, but nothing can be changed until more of the \
                 voting hosts are back"
                    .to_owned(),
            );
        }
        Cluster {
            id: s.cluster.as_ref().map_or_else(|| cluster.identity().cluster, |c| c.id),
            this_host: cluster.identity().host,
            leader,
            term: standing.term,
            voters: standing.voters.clone(),
            revision,
            quorum,
            epoch: cluster.identity().epoch,
            formed: s.cluster.as_ref().and_then(|c| c.formations.last()).map(|f| Formed {
                at: f.at,
                by: s.host_name(f.by),
                restored: f.restored,
            }),
            lost,
            outdated,
            warnings,
            members,
        }
    });
    Answer(StatusCode::OK, answer)
}

/// A host not heard for longer does not answer. Without a majority every host is asked each two seconds.
const SILENT: SignedDuration = SignedDuration::from_secs(8);

/// What is lost while there is no majority.
fn loss(
    cluster: &Agreed,
    state: &AgreedState,
    standing: &Standing,
    health: Option<&Health>,
    heard: &BTreeMap<HostId, Timestamp>,
) -> QuorumLoss {
    let (me, now) = (cluster.identity().host, Timestamp::now());
    let silent = |host: HostId| match health {
        Some(health) => !health.reachable.contains(&host),
        None => heard.get(&host).is_none_or(|at| now.duration_since(*at) > SILENT),
    };
    let others = state.hosts.values().filter(|r| r.meta.id != me && r.peer.is_some() && r.lost.is_none());
    let missing = others.filter(|r| silent(r.meta.id)).map(|r| MissingHost {
        host: r.meta.id,
        name: r.meta.name.clone(),
        last_heard: heard.get(&r.meta.id).copied(),
        voter: standing.voters.contains(&r.meta.id),
    });
    QuorumLoss {
        since: cluster.no_quorum_since(),
        missing: missing.collect(),
        means: vec![
            "machines that run go on running, and are started again on their host if they fail; protected ones stand still until \
             their host has a lease again"
                .into(),
            "nothing can be changed: no machine made, started, stopped or moved, no user, volume or network changed".into(),
            "machines of a host that restarts now are not started before a majority is back".into(),
            "logging in makes a session of the asked host alone".into(),
        ],
        remedy: "bring back enough of the voting hosts; if they are gone for good, log in at the host with the newest state \
                 and form the cluster anew from it (`lqctl cluster reform`)"
            .into(),
    }
}

/// High availability: what is wanted, how every host and every protected machine stands, and why.
#[utoipa::path(get, path = "/cluster/ha", tag = "cluster", responses((status = 200, body = HaStatus)))]
async fn ha(State(api): State<Arc<Api>>, caller: Caller) -> Answer<HaStatus> {
    let mut status = peer::watched(&api).await;
    api.node.cluster.read(|s| {
        let sees =
            |kind, id| s.labels(kind, id).is_some() && caller.may(kind.read_permission(), s.object(kind, id));
        status.hosts.retain(|host| sees(ObjectKind::Host, host.host.0));
        status.machines.retain(|machine| sees(ObjectKind::Vm, machine.vm.0));
    });
    Answer(StatusCode::OK, status)
}

/// Arms or disarms high availability. Disarmed, machines of a lost host wait for it; leases go on all the same.
#[utoipa::path(
    put, path = "/cluster/ha", tag = "cluster", request_body = HaSpec, responses((status = 200, body = HaSpec))
)]
async fn set_ha(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(spec): Json<HaSpec>,
) -> Result<Answer<HaSpec>, Failure> {
    api.node.cluster.write(Op::SetHa { spec }).await?;
    let (kind, word) = if spec.armed { ("ha.armed", "armed") } else { ("ha.disarmed", "disarmed") };
    let id = api.node.cluster.identity().cluster;
    let text = format!("{} {word} high availability", caller.actor);
    api.node.events.system(EventLevel::Warning, kind, format!("cluster/{id}"), text);
    Ok(Answer(StatusCode::OK, spec))
}

/// Join tokens that can be used, without their texts.
#[utoipa::path(
    get, path = "/cluster/join-tokens", tag = "cluster", responses((status = 200, body = Vec<JoinToken>))
)]
async fn tokens(State(api): State<Arc<Api>>) -> Answer<Vec<JoinToken>> {
    // Used up, one only tells who comes with it why it is refused.
    let usable = |s: &AgreedState| {
        let tokens = s.join_tokens.values().map(|t| &t.token);
        tokens.filter(|t| t.uses_left > 0).cloned().collect()
    };
    let tokens = api.node.cluster.read(usable);
    Answer(StatusCode::OK, tokens)
}

/// Makes a join token. Its text is shown this once.
#[utoipa::path(
    post, path = "/cluster/join-tokens", tag = "cluster", request_body = Option<CreateJoinToken>,
    responses((status = 201, body = CreatedJoinToken))
)]
async fn create_token(
    State(api): State<Arc<Api>>,
    OptionalJson(new): OptionalJson<CreateJoinToken>,
) -> Result<Answer<CreatedJoinToken>, Failure> {
    Failure::check(new.validate())?;
    Ok(Answer(StatusCode::CREATED, api.node.cluster.create_join_token(&new).await?))
}

/// Revokes a join token at once.
#[utoipa::path(
    delete, path = "/cluster/join-tokens/{id}", tag = "cluster", params(("id" = TokenId, Path)),
    responses((status = 204))
)]
async fn delete_token(State(api): State<Arc<Api>>, Id(id): Id<TokenId>) -> Result<StatusCode, Failure> {
    api.node.cluster.write(Op::DeleteJoinToken { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What it would mean for this host to join the token's cluster. Nothing is changed.
#[utoipa::path(
    post, path = "/cluster/join/preview", tag = "cluster", request_body = JoinCluster,
    responses((status = 200, body = JoinPreview))
)]
async fn preview(
    State(api): State<Arc<Api>>,
    Json(join): Json<JoinCluster>,
) -> Result<Answer<JoinPreview>, Failure> {
    Ok(Answer(StatusCode::OK, api.node.cluster.preview_join(&join.token).await?))
}

/// This host joins the token's cluster with everything it has; machines that run go on running. Its users, passwords and
/// tokens end: from then on those of the cluster hold. Answered with what was done; the daemon then starts again.
#[utoipa::path(
    post, path = "/cluster/join", tag = "cluster", request_body = JoinCluster,
    responses((status = 202, body = JoinPreview))
)]
async fn join(
    State(api): State<Arc<Api>>,
    Json(join): Json<JoinCluster>,
) -> Result<Answer<JoinPreview>, Failure> {
    let preview = api.node.cluster.preview_join(&join.token).await?;
    api.node.cluster.join(&join.token, join.rename).await?;
    start_again(&api);
    Ok(Answer(StatusCode::ACCEPTED, preview))
}

/// Lets the daemon start again.
pub(super) fn start_again(api: &Api) {
    let again = api.node.again.clone();
    tokio::spawn(async move {
        // The answer goes out first.
        tokio::time::sleep(FAREWELL).await;
        again.cancel();
    });
}

/// Made once: anybody may ask for it as often as they like, and it takes a while.
async fn document() -> Result<Response, Failure> {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    let text = match MADE.get() {
        Some(made) => made.clone(),
        None => {
            let text = openapi::document().map_err(|e| Failure::internal(&e))?;
            MADE.get_or_init(|| text.into()).clone()
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
