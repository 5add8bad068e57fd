//! How much the cluster did, and who did it. Of hosts and machines the caller may not see nothing is told, nor counted.

use super::super::{
    Api,
    extract::{Answer, Query},
    list::sees,
    peer,
    problem::Failure,
};
use crate::{auth::Caller, telemetry::usage};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    HostId, VmId,
    access::ObjectKind,
    problem::FieldError,
    usage::{MachineUsage, Usage, UsageQuery},
};
use std::{collections::HashSet, sync::Arc};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Machines of each kind of load.
const TOP: u32 = 10;
const MOST: u32 = 100;

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(cluster_usage))
}

/// How much the hosts and machines the caller may see did: sums over time, each host, and the machines that did most. A machine
/// counts where it is; what it did on another host before is not asked for.
#[utoipa::path(
    get, path = "/cluster/usage", tag = "cluster", params(UsageQuery), responses((status = 200, body = Usage))
)]
async fn cluster_usage(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<UsageQuery>,
) -> Result<Answer<Usage>, Failure> {
    let top = query.top.unwrap_or(TOP);
    if !(1..=MOST).contains(&top) {
        Failure::check(vec![FieldError::new("top", format!("has to be from 1 to {MOST}"))])?;
    }
    let (sees_host, sees_vm) = (sees(&caller, ObjectKind::Host), sees(&caller, ObjectKind::Vm));
    let (asked, seen, vms) = api.node.cluster.read(|s| {
        let vms: HashSet<VmId> =
            s.vms.values().map(|r| &r.vm.meta).filter(|m| sees_vm(m)).map(|m| m.id).collect();
        let seen: HashSet<HostId> =
            s.hosts.values().map(|r| &r.meta).filter(|m| sees_host(m)).map(|m| m.id).collect();
        let with_vms = s.vms.iter().filter(|(id, _)| vms.contains(id)).filter_map(|(_, r)| r.vm.status.host);
        let asked: HashSet<HostId> =
            with_vms.chain(seen.iter().copied()).filter(|host| s.hosts.contains_key(host)).collect();
        (asked.into_iter().collect::<Vec<_>>(), seen, vms)
    });
    let (mut told, mut silent) = peer::usages(&api, &asked, query.span.unwrap_or_default()).await;
    let machines: Vec<MachineUsage> = told
        .iter_mut()
        .flat_map(|t| std::mem::take(&mut t.machines))
        .filter(|m| vms.contains(&m.vm))
        .collect();
    told.retain(|t| seen.contains(&t.host.host));
    silent.retain(|host| seen.contains(host));
    let usage = Usage {
        history: usage::total(&told),
        machines: usage::most(&machines, usize::try_from(top).unwrap_or(usize::MAX)),
        hosts: told.into_iter().map(|t| t.host).collect(),
        silent,
    };
    Ok(Answer(StatusCode::OK, usage))
}
