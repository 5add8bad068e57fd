//! Time: which servers the hosts' clocks follow, and how they do.

use super::super::{
    Api,
    extract::{Answer, Json},
    peer,
    problem::Failure,
};
use crate::{auth::Caller, cluster::Op};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    HostId,
    access::ObjectKind,
    event::EventLevel,
    time::{HostTime, Time, TimeSpec},
};
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(time, set_time))
}

/// The time servers, and how the clock of every host follows them.
#[utoipa::path(get, path = "/cluster/time", tag = "cluster", responses((status = 200, body = Time)))]
async fn time(State(api): State<Arc<Api>>, caller: Caller) -> Answer<Time> {
    let (spec, hosts) = api.node.cluster.read(|s| {
        let sees = |id: HostId| {
            let kind = ObjectKind::Host;
            caller.may(kind.read_permission(), s.object(kind, id.0))
        };
        let hosts: BTreeMap<HostId, String> = s
            .hosts
            .iter()
            .filter(|(id, _)| sees(**id))
            .map(|(id, record)| (*id, record.meta.name.clone()))
            .collect();
        (s.time(), hosts)
    });
    let ids: Vec<HostId> = hosts.keys().copied().collect();
    let mut told: BTreeMap<_, _> = peer::times(&api, &ids).await.into_iter().collect();
    let hosts =
        hosts.into_iter().map(|(host, name)| HostTime { host, name, status: told.remove(&host) }).collect();
    Answer(StatusCode::OK, Time { spec, hosts })
}

/// Says which servers the clocks follow.
#[utoipa::path(
    put, path = "/cluster/time", tag = "cluster", request_body = TimeSpec, responses((status = 200, body = TimeSpec))
)]
async fn set_time(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(spec): Json<TimeSpec>,
) -> Result<Answer<TimeSpec>, Failure> {
    Failure::check(spec.validate())?;
    api.node.cluster.write(Op::SetTime { spec: spec.clone() }).await?;
    let text = match spec.servers.len() {
        0 => format!("{} removed the time servers", caller.actor),
        _ => format!("{} set the time servers to {}", caller.actor, spec.servers.join(", ")),
    };
    let id = api.node.cluster.identity().cluster;
    api.node.events.system(EventLevel::Info, "time.set", format!("cluster/{id}"), text);
    Ok(Answer(StatusCode::OK, spec))
}
