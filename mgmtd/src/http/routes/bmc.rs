//! The BMCs of hosts. Their passwords come in and never go out.

use super::super::{
    Api,
    extract::{Answer, Id, IfMatch, Json},
    peer,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, WriteError, state::BmcRecord},
    ha::fence,
};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    HostId,
    bmc::{Bmc, BmcTest, SetBmc, TestBmc},
    event::EventLevel,
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get, set, clear)).routes(routes!(test))
}

async fn shown(api: &Api, id: HostId) -> Result<Bmc, Failure> {
    let found = api.node.cluster.read(|s| s.hosts.get(&id).map(|h| h.bmc.as_ref().map(|b| b.spec.clone())));
    let spec = found.ok_or_else(|| Failure::not_found("host", id))?;
    let status = if spec.is_some() { peer::bmc(api, id).await } else { None };
    Ok(Bmc { spec, status })
}

/// The BMC of a host, and how it does.
#[utoipa::path(
    get, path = "/hosts/{id}/bmc", tag = "bmc", params(("id" = HostId, Path)), responses((status = 200, body = Bmc))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<HostId>) -> Result<Answer<Bmc>, Failure> {
    Ok(Answer(StatusCode::OK, shown(&api, id).await?))
}

/// Sets the BMC of a host: with it the host is proven to be off when it is lost, and its protected machines are started elsewhere
/// sooner. Test the settings before.
#[utoipa::path(
    put, path = "/hosts/{id}/bmc", tag = "bmc", params(("id" = HostId, Path)), request_body = SetBmc,
    responses((status = 200, body = Bmc))
)]
async fn set(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
    Json(set): Json<SetBmc>,
) -> Result<Answer<Bmc>, Failure> {
    let text = format!("{} set its BMC to {}", caller.actor, set.spec.address);
    api.node.cluster.write(Op::SetBmc { id, expect, set }).await?;
    api.node.events.system(EventLevel::Info, "host.bmc-set", format!("host/{id}"), text);
    Ok(Answer(StatusCode::OK, shown(&api, id).await?))
}

/// Forgets the BMC of a host. When the host is lost, its machines wait for their leases to end.
#[utoipa::path(
    delete, path = "/hosts/{id}/bmc", tag = "bmc", params(("id" = HostId, Path)), responses((status = 204))
)]
async fn clear(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<HostId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    api.node.cluster.write(Op::ClearBmc { id, expect }).await?;
    let text = format!("{} removed the settings of its BMC", caller.actor);
    api.node.events.system(EventLevel::Info, "host.bmc-cleared", format!("host/{id}"), text);
    Ok(StatusCode::NO_CONTENT)
}

/// Asks the BMC of a host for its power, with these settings or those that are kept, from the host that leads or, where that is the
/// very host, from another. Nothing is switched. A certificate that the settings do not name is answered, and is sent no password.
/// Takes up to half a minute.
#[utoipa::path(
    post, path = "/hosts/{id}/bmc/test", tag = "bmc", params(("id" = HostId, Path)), request_body = TestBmc,
    responses((status = 200, body = BmcTest))
)]
async fn test(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
    Json(wanted): Json<TestBmc>,
) -> Result<Answer<BmcTest>, Failure> {
    let cluster = &api.node.cluster;
    let record = match &wanted.settings {
        None => {
            let kept = cluster.read(|s| s.hosts.get(&id).map(|h| h.bmc.clone()));
            let kept = kept.ok_or_else(|| Failure::not_found("host", id))?;
            let none = "the host has no BMC: give `settings` to test";
            kept.ok_or_else(|| Failure::new(Kind::Conflict, none))?
        }
        Some(set) => {
            Failure::check(set.validate(false))?;
            match cluster.read(|s| s.bmc_of(id, set)) {
                Ok(record) => record,
                // Nothing is sent to one whose certificate is not known yet: it is only looked at.
                Err(_)
                    if set.password.is_none()
                        && set.spec.certificate.is_none()
                        && set.spec.protocol.has_certificate() =>
                {
                    if !cluster.read(|s| s.hosts.contains_key(&id)) {
                        return Err(Failure::not_found("host", id));
                    }
                    BmcRecord { spec: set.spec.clone(), password: String::new() }
                }
                Err(refusal) => return Err(WriteError::Refused(refusal).into()),
            }
        }
    };
    Ok(Answer(StatusCode::OK, fence::test_of(cluster, id, &record).await))
}
