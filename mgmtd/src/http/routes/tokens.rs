//! API tokens and sessions: one's own, and with the permissions for it those of others.

use super::super::{
    Api,
    access::covers,
    extract::{Answer, Id, Json, Query},
    list::Wanted,
    problem::Failure,
    rules::missing,
};
use crate::{
    auth::{By, Caller},
    cluster::Op,
};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    SessionId, TokenId, UserId,
    access::Permission,
    auth::{CreateToken, CreatedToken, SessionInfo, Token},
    list::{ListQuery, Page},
    problem::Kind,
};
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(list_sessions))
        .routes(routes!(end_session))
}

fn sees(caller: &Caller, owner: UserId) -> bool {
    caller.user == Some(owner) || caller.may_all(Permission::UserRead)
}

/// Whether the caller may end what belongs to the owner: their own only at a session, so that a token that leaked can do no
/// more than what it is for.
fn may_end(caller: &Caller, owner: UserId) -> bool {
    (caller.user == Some(owner) && matches!(caller.by, By::Session(_)))
        || caller.may_all(Permission::UserWrite)
}

/// API tokens, without their secrets; without `user.read` only one's own.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(ListQuery), responses((status = 200, body = Page<Token>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Token>>, Failure> {
    let wanted = Wanted::<TokenId>::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let none = BTreeMap::new();
        let tokens = s.tokens.values().map(|t| &t.token).filter(|t| wanted.after.is_none_or(|a| t.id > a));
        let tokens = tokens.filter(|t| wanted.wants(&t.name, &none) && sees(&caller, t.owner));
        let mut items: Vec<Token> = tokens.take(wanted.limit + 1).cloned().collect();
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
    caller: Caller,
    Json(new): Json<CreateToken>,
) -> Result<Answer<CreatedToken>, Failure> {
    let owner = api.auth.owner_of(&caller, &new)?;
    if caller.user == Some(owner) {
        if !matches!(caller.by, By::Session(_)) {
            let why = "a token cannot make further tokens of its owner: log in";
            return Err(Failure::new(Kind::Forbidden, why));
        }
    } else if caller.may_all(Permission::UserWrite) {
        api.node.cluster.read(|s| covers(s, &caller, s.grants_of(owner)))?;
    } else {
        return Err(missing(Permission::UserWrite, "the cluster, because it is for someone else"));
    }
    Ok(Answer(StatusCode::CREATED, api.auth.create_token(&caller, owner, new).await?))
}

/// Revokes a token at once.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)), responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, Failure> {
    let owner = api.node.cluster.read(|s| s.tokens.get(&id).map(|t| t.token.owner));
    let owner = owner.filter(|o| sees(&caller, *o)).ok_or_else(|| Failure::not_found("token", id))?;
    if !may_end(&caller, owner) {
        return Err(missing(Permission::UserWrite, "the cluster"));
    }
    api.node.cluster.write(Op::DeleteToken { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sessions; without `user.read` only one's own. `name` is the user's.
#[utoipa::path(
    get, path = "/sessions", tag = "session", params(ListQuery), responses((status = 200, body = Page<SessionInfo>))
)]
async fn list_sessions(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<SessionInfo>>, Failure> {
    let wanted = Wanted::<SessionId>::parse(&query)?;
    let now = api.auth.now();
    let page = api.node.cluster.read_at(|s, revision| {
        let none = BTreeMap::new();
        let sessions = s.sessions.values().filter(|x| x.expires_at > now && sees(&caller, x.user));
        let infos = sessions.filter(|x| wanted.after.is_none_or(|a| x.id > a)).filter_map(|x| {
            let username = s.users.get(&x.user)?.user.meta.name.clone();
            wanted.wants(&username, &none).then(|| SessionInfo {
                id: x.id,
                user: x.user,
                username,
                created_at: x.created_at,
                refreshed_at: x.refreshed_at,
                expires_at: x.expires_at,
                from: x.from.clone(),
                current: caller.by == By::Session(x.id),
            })
        });
        let mut items: Vec<_> = infos.take(wanted.limit + 1).collect();
        let more = items.len() > wanted.limit;
        items.truncate(wanted.limit);
        let next_cursor = items.last().filter(|_| more).map(|t| t.id.to_string());
        Page { items, next_cursor, revision }
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Ends a session at once.
#[utoipa::path(
    delete, path = "/sessions/{id}", tag = "session", params(("id" = SessionId, Path)), responses((status = 204))
)]
async fn end_session(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, Failure> {
    let owner = api.node.cluster.read(|s| s.sessions.get(&id).map(|x| x.user));
    let owner = owner.filter(|o| sees(&caller, *o)).ok_or_else(|| Failure::not_found("session", id))?;
    if !may_end(&caller, owner) {
        return Err(missing(Permission::UserWrite, "the cluster"));
    }
    api.node.cluster.write(Op::EndSession { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
