//! Virtual machines. Power actions and deletion answer with a task that ends when the machine has followed.

use super::super::{
    Api,
    extract::{Answer, Id, IfMatch, Json, OptionalJson, Query, tagged},
    list::Wanted,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Power, Reply, state::VmRecord},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    VmId,
    list::{ListQuery, Page},
    local::vmm::Stats,
    network::Lease,
    task::Task,
    vm::{CreateVm, StopVm, UpdateVm, Vm},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(reset))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(stats))
}

/// The machine with the addresses its interfaces have now.
fn show(vm: &Vm, leases: &[Lease]) -> Vm {
    let mut vm = vm.clone();
    let macs = vm.spec.nics.iter().filter_map(|n| n.mac);
    vm.status.addresses =
        macs.filter_map(|mac| leases.iter().find(|l| l.mac == mac)).map(|l| l.address).collect();
    vm
}

async fn leases(api: &Api) -> Vec<Lease> {
    super::super::peer::all_leases(api).await
}

/// Machines.
#[utoipa::path(get, path = "/vms", tag = "vms", params(ListQuery), responses((status = 200, body = Page<Vm>)))]
async fn list(
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Vm>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let leases = leases(&api).await;
    let page = api.node.cluster.read_at(|s, revision| {
        wanted.page(&s.vms, revision, |r: &Arc<VmRecord>| &r.vm.meta, |r| show(&r.vm, &leases))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a machine. With `spec.power` `running` it is started at once.
#[utoipa::path(post, path = "/vms", tag = "vms", request_body = CreateVm, responses((status = 201, body = Vm)))]
async fn create(State(api): State<Arc<Api>>, Json(create): Json<CreateVm>) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let op = Op::CreateVm { id: VmId::new(), host: api.node.id(), create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Vm(vm) => Ok(tagged(status, &vm.meta, &*vm)),
        _ => Err(Failure::new(lq_api::problem::Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A machine.
#[utoipa::path(
    get, path = "/vms/{id}", tag = "vms", params(("id" = VmId, Path)), responses((status = 200, body = Vm))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<VmId>) -> Result<Response, Failure> {
    let record = api.node.cluster.read(|s| s.vms.get(&id).cloned());
    let record = record.ok_or_else(|| Failure::not_found("vm", id))?;
    let vm = show(&record.vm, &leases(&api).await);
    Ok(tagged(StatusCode::OK, &vm.meta, &vm))
}

/// Changes a machine. Disks and interfaces only while it is stopped; other hardware takes effect at the next start.
#[utoipa::path(
    patch, path = "/vms/{id}", tag = "vms", params(("id" = VmId, Path)), request_body = UpdateVm,
    responses((status = 200, body = Vm))
)]
async fn update(
    State(api): State<Arc<Api>>,
    Id(id): Id<VmId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateVm>,
) -> Result<Response, Failure> {
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
