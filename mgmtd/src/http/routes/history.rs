//! How much hosts and machines did, over time.

use super::super::{
    Api,
    extract::{Answer, Id, Query},
    problem::Failure,
};
use crate::telemetry::Subject;
use axum::{extract::State, http::StatusCode};
use lq_api::{
    HostId, Timestamp, VmId,
    history::{HistoryQuery, MetricHistory},
    problem::{FieldError, Kind, Problem},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(host_history)).routes(routes!(vm_history))
}

/// How much a host did.
#[utoipa::path(
    get, path = "/hosts/{id}/history", tag = "hosts", params(("id" = HostId, Path), HistoryQuery),
    responses((status = 200, body = MetricHistory))
)]
async fn host_history(
    State(api): State<Arc<Api>>,
    Id(id): Id<HostId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Answer<MetricHistory>, Failure> {
    if !api.node.cluster.read(|s| s.hosts.contains_key(&id)) {
        return Err(Failure::not_found("host", id));
    }
    if id != api.node.id() {
        return Err(Failure::new(Kind::Unavailable, "that host cannot be asked from here"));
    }
    read(&api, Subject::Host(id), query).await
}

/// How much a machine did on this host.
#[utoipa::path(
    get, path = "/vms/{id}/history", tag = "vms", params(("id" = VmId, Path), HistoryQuery),
    responses((status = 200, body = MetricHistory))
)]
async fn vm_history(
    State(api): State<Arc<Api>>,
    Id(id): Id<VmId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Answer<MetricHistory>, Failure> {
    if !api.node.cluster.read(|s| s.vms.contains_key(&id)) {
        return Err(Failure::not_found("vm", id));
    }
    read(&api, Subject::Vm(id), query).await
}

async fn read(
    api: &Arc<Api>,
    subject: Subject,
    query: HistoryQuery,
) -> Result<Answer<MetricHistory>, Failure> {
    let wanted: Option<Vec<String>> =
        query.metric.map(|names| names.split(',').map(|name| name.trim().to_owned()).collect());
    for name in wanted.iter().flatten() {
        if !subject.metrics().iter().any(|(known, _)| known == name) {
            let known: Vec<_> = subject.metrics().iter().map(|(name, _)| *name).collect();
            let reason = format!("there is no metric `{name}`; there are {}", known.join(", "));
            return Err(Problem::validation(vec![FieldError::new("metric", reason)]).into());
        }
    }
    let series = api.series.clone();
    let span = query.span.unwrap_or_default();
    let found = tokio::task::spawn_blocking(move || {
        let wanted = |name: &str| wanted.as_ref().is_none_or(|all| all.iter().any(|each| each == name));
        series.read(subject, span, Timestamp::now(), wanted)
    });
    let found = found.await.map_err(|e| Failure::internal(&e))?.map_err(|e| Failure::internal(&e))?;
    Ok(Answer(StatusCode::OK, found))
}
