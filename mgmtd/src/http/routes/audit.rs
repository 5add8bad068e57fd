//! The audit log of this host.

use super::super::{
    Api,
    extract::{Answer, Query},
    problem::Failure,
};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    audit::{AuditQuery, AuditRecord},
    list::Page,
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Every change asked for at this host, newest first: by whom, from where, and what became of it.
#[utoipa::path(
    get, path = "/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = Page<AuditRecord>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    Query(query): Query<AuditQuery>,
) -> Result<Answer<Page<AuditRecord>>, Failure> {
    let limit = query.limit.unwrap_or(100) as usize;
    if !(1..=1000).contains(&limit) {
        return Err(Failure::new(Kind::Malformed, "`limit` is not between 1 and 1000"));
    }
    let audit = api.audit.clone();
    let found = tokio::task::spawn_blocking(move || audit.list(&query, limit)).await;
    let (items, more) = found.map_err(|e| Failure::internal(&e))?.map_err(|e| Failure::internal(&e))?;
    let next_cursor = items.last().filter(|_| more).map(|r| r.id.to_string());
    let revision = api.node.cluster.read_at(|_, revision| revision);
    Ok(Answer(StatusCode::OK, Page { items, next_cursor, revision }))
}
