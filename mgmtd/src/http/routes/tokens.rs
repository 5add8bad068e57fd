//! API tokens.

use super::super::{
    Api,
    extract::{Answer, Id, Json, Query},
    list::Wanted,
    problem::Failure,
};
use crate::cluster::Op;
use axum::{extract::State, http::StatusCode};
use lq_api::{
    TokenId,
    auth::{CreateToken, CreatedToken, Token},
    list::{ListQuery, Page},
};
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

/// API tokens, without their secrets.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(ListQuery), responses((status = 200, body = Page<Token>)))]
async fn list(
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Token>>, Failure> {
    let wanted = Wanted::<TokenId>::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let none = BTreeMap::new();
        let tokens = s.tokens.values().map(|t| &t.token).filter(|t| wanted.after.is_none_or(|a| t.id > a));
        let mut items: Vec<Token> =
            tokens.filter(|t| wanted.wants(&t.name, &none)).take(wanted.limit + 1).cloned().collect();
        let more = items.len() > wanted.limit;
        items.truncate(wanted.limit);
        let next_cursor = items.last().filter(|_| more).map(|t| t.id.to_string());
        Page { items, next_cursor, revision }
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a token. Its secret is shown this once.
#[utoipa::path(
    post, path = "/tokens", tag = "tokens", request_body = CreateToken, responses((status = 201, body = CreatedToken))
)]
async fn create(
    State(api): State<Arc<Api>>,
    Json(new): Json<CreateToken>,
) -> Result<Answer<CreatedToken>, Failure> {
    Ok(Answer(StatusCode::CREATED, api.auth.create_token(new).await?))
}

/// Revokes a token at once.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)), responses((status = 204))
)]
async fn delete(State(api): State<Arc<Api>>, Id(id): Id<TokenId>) -> Result<StatusCode, Failure> {
    api.node.cluster.write(Op::DeleteToken { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
