//! Virtual machines. Power actions and deletion answer with a task that ends when the machine has followed.

use super::super::{
    Api,
    access::{may_have_parts, may_switch, with_labels},
    extract::{Answer, Id, IfMatch, Json, OptionalJson, Query, tagged},
    list::{Wanted, sees},
    peer,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{
        self, Op, Power, Refusal, Reply, WriteError,
        state::{Object, VmRecord},
    },
    placement::{self, Request},
    reconcile::moves::MoveError,
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    HostId, VmId,
    access::{ObjectKind, Permission},
    list::{ListQuery, Page},
    local::vmm::Stats,
    network::Lease,
    placement::{PlacementDecision, PlacementQuery},
    problem::Kind,
    task::Task,
    vm::{CreateVm, MigrateVm, PowerState, RestartVm, StopVm, UpdateVm, Vm, VmSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// How often a claim is tried again that others were faster with.
const CLAIMS: usize = 5;

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(reset))
        .routes(routes!(restart))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(migrate))
        .routes(routes!(stats))
        .routes(routes!(what_if))
}

/// The machine with the addresses its interfaces have now, and with whether its host is one of those that cannot be asked.
fn show(vm: &Vm, (leases, silent): &(Vec<Lease>, BTreeSet<HostId>)) -> Vm {
    let mut vm = vm.clone();
    vm.status.host_silent = vm.status.host.is_some_and(|host| silent.contains(&host));
    let macs = vm.spec.nics.iter().filter_map(|n| n.mac);
    vm.status.addresses =
        macs.filter_map(|mac| leases.iter().find(|l| l.mac == mac)).map(|l| l.address).collect();
    vm
}

/// Machines.
#[utoipa::path(get, path = "/vms", tag = "vms", params(ListQuery), responses((status = 200, body = Page<Vm>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Vm>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let heard = peer::all_leases(&api).await;
    let page = api.node.cluster.read_at(|s, revision| {
        let may_see = sees(&caller, ObjectKind::Vm);
        wanted.page(&s.vms, revision, |r: &Arc<VmRecord>| &r.vm.meta, may_see, |r| show(&r.vm, &heard))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a machine. With `spec.power` `running` it is started at once.
#[utoipa::path(post, path = "/vms", tag = "vms", request_body = CreateVm, responses((status = 201, body = Vm)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreateVm>,
) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let id = VmId::new();
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Vm, id.0), Some(&create.labels), Permission::VmWrite)
    })?;
    let object = Object::Of { kind: ObjectKind::Vm, id: id.0, labels: &create.labels };
    may_switch(&caller, object, create.spec.power, PowerState::Stopped)?;
    api.node.cluster.read(|s| may_have_parts(s, &caller, &create.spec, None))?;
    let reachable = api.node.reachable().await;
    let mut last = None;
    for _ in 0..CLAIMS {
        let decision = decide(&api, None, &create.labels, &create.spec, reachable.as_ref());
        let Some(host) = decision.host else {
            let why = || placement::explain(&api.node.cluster.read(|s| visible(s, &caller, decision)));
            return Err(last.unwrap_or_else(|| Failure::new(Kind::Conflict, why())));
        };
        let op = Op::CreateVm { id, host, create: create.clone() };
        match api.node.cluster.write(op).await {
            // Another machine was faster: decided anew.
            Err(WriteError::Refused(refusal @ Refusal::NoRoom(_))) => last = Some(refusal.into()),
            written => return answer(StatusCode::CREATED, written?),
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Kind::Conflict, "no host took the machine: try again")))
}

fn decide(
    api: &Api,
    vm: Option<VmId>,
    labels: &BTreeMap<String, String>,
    spec: &VmSpec,
    reachable: Option<&BTreeSet<HostId>>,
) -> PlacementDecision {
    api.node.cluster.read(|s| placement::decide(s, Request { vm, goes_on: true, labels, spec }, reachable))
}

/// The decision without the hosts the caller may not see.
fn visible(state: &cluster::State, caller: &Caller, mut decision: PlacementDecision) -> PlacementDecision {
    let sees = |host: HostId| caller.may(Permission::HostRead, state.object(ObjectKind::Host, host.0));
    decision.hosts.retain(|verdict| sees(verdict.host));
    decision
}

/// Where a machine would be placed if it were made or moved now, and why not elsewhere. Of hosts the caller may not see nothing is
/// said. Nothing is changed.
#[utoipa::path(
    post, path = "/placement", tag = "vms", request_body = PlacementQuery,
    responses((status = 200, body = PlacementDecision))
)]
async fn what_if(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(query): Json<PlacementQuery>,
) -> Result<Answer<PlacementDecision>, Failure> {
    Failure::check(query.spec.validate())?;
    api.node.cluster.read(|s| {
        let sees = |vm: &VmId| caller.may(Permission::VmRead, s.object(ObjectKind::Vm, vm.0));
        let record = match query.vm {
            Some(vm) => {
                Some(s.vms.get(&vm).filter(|_| sees(&vm)).ok_or_else(|| Failure::not_found("vm", vm))?)
            }
            None => None,
        };
        may_have_parts(s, &caller, &query.spec, record.map(|r| &r.vm.spec))
    })?;
    let reachable = api.node.reachable().await;
    let decision = decide(&api, query.vm, &query.labels, &query.spec, reachable.as_ref());
    Ok(Answer(StatusCode::OK, api.node.cluster.read(|s| visible(s, &caller, decision))))
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Vm(vm) => Ok(tagged(status, &vm.meta, &*vm)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A machine.
#[utoipa::path(
    get, path = "/vms/{id}", tag = "vms", params(("id" = VmId, Path)), responses((status = 200, body = Vm))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<VmId>) -> Result<Response, Failure> {
    let record = api.node.cluster.read(|s| s.vms.get(&id).cloned());
    let record = record.ok_or_else(|| Failure::not_found("vm", id))?;
    let vm = show(&record.vm, &peer::all_leases(&api).await);
    Ok(tagged(StatusCode::OK, &vm.meta, &vm))
}

/// Changes a machine, also while it runs; what waits is said in `status.pending`.
#[utoipa::path(
    patch, path = "/vms/{id}", tag = "vms", params(("id" = VmId, Path)), request_body = UpdateVm,
    responses((status = 200, body = Vm))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateVm>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Vm, id.0), update.labels.as_ref(), Permission::VmWrite)
    })?;
    api.node.cluster.read(|s| match (&update.spec, s.vms.get(&id)) {
        (Some(spec), Some(record)) => {
            may_switch(&caller, s.object(ObjectKind::Vm, id.0), spec.power, record.vm.spec.power)?;
            may_have_parts(s, &caller, spec, Some(&record.vm.spec))
        }
        _ => Ok(()),
    })?;
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateVm { id, expect, update }).await?)
}

/// Deletes a stopped machine. Its volumes stay.
#[utoipa::path(
    delete, path = "/vms/{id}", tag = "vms", params(("id" = VmId, Path)), responses((status = 202, body = Task))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    Ok(Answer(StatusCode::ACCEPTED, api.node.delete_vm(id, expect, &caller.actor).await?))
}

async fn act(
    api: &Api,
    caller: &Caller,
    id: VmId,
    expect: Option<u64>,
    power: Power,
) -> Result<Answer<Task>, Failure> {
    Ok(Answer(StatusCode::ACCEPTED, api.node.power_vm(id, expect, power, &caller.actor).await?))
}

/// Starts a machine. Running already: done.
#[utoipa::path(
    post, path = "/vms/{id}/start", tag = "vms", params(("id" = VmId, Path)), responses((status = 202, body = Task))
)]
async fn start(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    act(&api, &caller, id, expect, Power::Start).await
}

/// Stops a machine: the power button, and after the timeout by force. Stopped already: done.
#[utoipa::path(
    post, path = "/vms/{id}/stop", tag = "vms", params(("id" = VmId, Path)), request_body = Option<StopVm>,
    responses((status = 202, body = Task))
)]
async fn stop(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
    OptionalJson(how): OptionalJson<StopVm>,
) -> Result<Answer<Task>, Failure> {
    act(&api, &caller, id, expect, Power::Stop(how)).await
}

/// Resets a running machine as its reset button does.
#[utoipa::path(
    post, path = "/vms/{id}/reset", tag = "vms", params(("id" = VmId, Path)), responses((status = 202, body = Task))
)]
async fn reset(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    act(&api, &caller, id, expect, Power::Reset).await
}

/// Restarts the guest of a running machine: the power button, and a new start once it has powered off, with what waited for
/// one. A guest that does not power off in time goes on running, and the task fails.
#[utoipa::path(
    post, path = "/vms/{id}/restart", tag = "vms", params(("id" = VmId, Path)), request_body = Option<RestartVm>,
    responses((status = 202, body = Task))
)]
async fn restart(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
    OptionalJson(how): OptionalJson<RestartVm>,
) -> Result<Answer<Task>, Failure> {
    Ok(Answer(StatusCode::ACCEPTED, api.node.restart_vm(id, expect, how, &caller.actor).await?))
}

/// Halts the virtual CPUs of a running machine.
#[utoipa::path(
    post, path = "/vms/{id}/pause", tag = "vms", params(("id" = VmId, Path)), responses((status = 202, body = Task))
)]
async fn pause(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    act(&api, &caller, id, expect, Power::Pause).await
}

/// Lets a paused machine go on.
#[utoipa::path(
    post, path = "/vms/{id}/resume", tag = "vms", params(("id" = VmId, Path)), responses((status = 202, body = Task))
)]
async fn resume(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    act(&api, &caller, id, expect, Power::Resume).await
}

/// Moves a machine to another host: one that runs while it runs, one at rest by giving it to the other host, if what it has is
/// reached from there. The task can be cancelled until the machine changes hands. Refused before anything is sent where the other
/// host cannot take the machine, with the reason; whether its processor has what the guest was told to have is found out
/// before any memory is sent, and fails the task. Scroll-back of the serial console begins anew on the new host.
#[utoipa::path(
    post, path = "/vms/{id}/migrate", tag = "vms", params(("id" = VmId, Path)), request_body = Option<MigrateVm>,
    responses((status = 202, body = Task))
)]
async fn migrate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
    OptionalJson(wish): OptionalJson<MigrateVm>,
) -> Result<Answer<Task>, Failure> {
    Failure::check(wish.validate())?;
    if let Some(host) = wish.host {
        let seen =
            api.node.cluster.read(|s| caller.may(Permission::HostRead, s.object(ObjectKind::Host, host.0)));
        if !seen {
            return Err(Failure::not_found("host", host));
        }
    }
    match api.node.migrate_vm(id, expect, &wish, &caller.actor).await {
        Ok(task) => Ok(Answer(StatusCode::ACCEPTED, task)),
        Err(MoveError::Write(e)) => Err(e.into()),
        Err(MoveError::Nowhere(decision)) => {
            let decision = api.node.cluster.read(|s| visible(s, &caller, decision));
            Err(Failure::new(Kind::Conflict, placement::explain(&decision)))
        }
        Err(e @ MoveError::Silent(_)) => Err(Failure::new(Kind::Conflict, e.to_string())),
    }
}

/// Counters of a running machine since its start.
#[utoipa::path(
    get, path = "/vms/{id}/stats", tag = "vms", params(("id" = VmId, Path)), responses((status = 200, body = Stats))
)]
async fn stats(State(api): State<Arc<Api>>, Id(id): Id<VmId>) -> Result<Answer<Stats>, Failure> {
    if !api.node.cluster.read(|s| s.vms.contains_key(&id)) {
        return Err(Failure::not_found("vm", id));
    }
    Ok(Answer(StatusCode::OK, api.node.fleet.stats(id).await?))
}
