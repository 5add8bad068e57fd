//! Identity providers. Their secrets come in and never go out. Who changes one decides who is believed to be whom: that takes
//! every permission.

use super::super::{
    Api,
    extract::{Answer, Id, IfMatch, Json, OptionalJson, Query, tagged},
    list::Wanted,
    problem::Failure,
};
use crate::{
    auth::check_provider,
    cluster::{Op, Reply},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    ProviderId,
    list::{ListQuery, Page},
    problem::Kind,
    provider::{CreateProvider, Provider, ProviderTest, TestProvider, UpdateProvider},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(test))
}

/// Identity providers.
#[utoipa::path(
    get, path = "/identity-providers", tag = "providers", params(ListQuery),
    responses((status = 200, body = Page<Provider>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Provider>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        wanted.page(&s.providers, revision, |r| &r.meta, |_| true, |r| s.show_provider(r))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes an identity provider: one can log in by it at once, if it is enabled.
#[utoipa::path(
    post, path = "/identity-providers", tag = "providers", request_body = CreateProvider,
    responses((status = 201, body = Provider))
)]
async fn create(
    State(api): State<Arc<Api>>,
    Json(create): Json<CreateProvider>,
) -> Result<Response, Failure> {
    let mut errors = create.validate();
    if errors.is_empty() {
        errors = check_provider(&create.spec);
    }
    Failure::check(errors)?;
    let op = Op::CreateProvider { id: ProviderId::new(), create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Provider(provider) => Ok(tagged(status, &provider.meta, &*provider)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// An identity provider.
#[utoipa::path(
    get, path = "/identity-providers/{id}", tag = "providers", params(("id" = ProviderId, Path)),
    responses((status = 200, body = Provider))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<ProviderId>) -> Result<Response, Failure> {
    let provider = api.node.cluster.read(|s| s.providers.get(&id).map(|r| s.show_provider(r)));
    let provider = provider.ok_or_else(|| Failure::not_found("identity provider", id))?;
    Ok(tagged(StatusCode::OK, &provider.meta, &provider))
}

/// Changes an identity provider. Switched off, the sessions and tokens of its users end.
#[utoipa::path(
    patch, path = "/identity-providers/{id}", tag = "providers", params(("id" = ProviderId, Path)),
    request_body = UpdateProvider, responses((status = 200, body = Provider))
)]
async fn update(
    State(api): State<Arc<Api>>,
    Id(id): Id<ProviderId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateProvider>,
) -> Result<Response, Failure> {
    Failure::check(update.spec.as_ref().map(check_provider).unwrap_or_default())?;
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateProvider { id, expect, update }).await?)
}

/// Deletes an identity provider and its users, with their sessions and tokens.
#[utoipa::path(
    delete, path = "/identity-providers/{id}", tag = "providers", params(("id" = ProviderId, Path)),
    responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    Id(id): Id<ProviderId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    api.node.cluster.write(Op::DeleteProvider { id, expect }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries an identity provider, from the host that was asked: whether it can be asked, whether it finds a user, whether a password
/// is theirs. Nobody is logged in by it. Takes up to half a minute.
#[utoipa::path(
    post, path = "/identity-providers/{id}/test", tag = "providers", params(("id" = ProviderId, Path)),
    request_body = Option<TestProvider>, responses((status = 200, body = ProviderTest))
)]
async fn test(
    State(api): State<Arc<Api>>,
    Id(id): Id<ProviderId>,
    OptionalJson(test): OptionalJson<TestProvider>,
) -> Result<Answer<ProviderTest>, Failure> {
    let result = api.auth.test_provider(id, &test).await;
    result.map(|r| Answer(StatusCode::OK, r)).ok_or_else(|| Failure::not_found("identity provider", id))
}
