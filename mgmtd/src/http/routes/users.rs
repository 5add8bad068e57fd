//! Users. Who may change users may not thereby become more than they are: everything here is refused to those who do not have
//! themselves what the user has or is to get.

use super::super::{
    Api,
    access::covers,
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::Wanted,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, State as Agreed, state::access::TotpChange},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    UserId,
    access::{CreateUser, Permission, PermissionInfo, SetPassword, UpdateUser, User},
    list::{ListQuery, Page},
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(permissions))
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(set_password))
        .routes(routes!(remove_totp))
}

/// Every permission there is, explained.
#[utoipa::path(get, path = "/permissions", tag = "roles", responses((status = 200, body = Vec<PermissionInfo>)))]
async fn permissions() -> Answer<Vec<PermissionInfo>> {
    let info = |p: &Permission| PermissionInfo { name: *p, description: p.description().into() };
    Answer(StatusCode::OK, Permission::ALL.iter().map(info).collect())
}

/// Whether the caller may see the user.
pub(super) fn sees(caller: &Caller, id: UserId) -> bool {
    caller.user == Some(id) || caller.may_all(Permission::UserRead)
}

/// Users; without `user.read` only oneself.
#[utoipa::path(get, path = "/users", tag = "users", params(ListQuery), responses((status = 200, body = Page<User>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<User>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        wanted.page(&s.users, revision, |r| &r.user.meta, |m| sees(&caller, m.id), |r| r.shown(s))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a user.
#[utoipa::path(
    post, path = "/users", tag = "users", request_body = CreateUser, responses((status = 201, body = User))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreateUser>,
) -> Result<Response, Failure> {
    Failure::check(create.spec.validate())?;
    api.node.cluster.read(|s| covers(s, &caller, &create.spec.grants))?;
    let op = api.auth.new_user(UserId::new(), create).await?;
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::User(user) => Ok(tagged(status, &user.meta, &*user)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A user.
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", params(("id" = UserId, Path)), responses((status = 200, body = User))
)]
async fn get(State(api): State<Arc<Api>>, caller: Caller, Id(id): Id<UserId>) -> Result<Response, Failure> {
    let user = api.node.cluster.read(|s| s.users.get(&id).map(|r| r.shown(s)));
    let user = user.filter(|_| sees(&caller, id)).ok_or_else(|| Failure::not_found("user", id))?;
    Ok(tagged(StatusCode::OK, &user.meta, &user))
}

/// Refuses a change of a user who may do more than the caller. Answers with the revision that was looked at, so that nothing
/// else is changed.
fn rules_over(state: &Agreed, caller: &Caller, id: UserId) -> Result<u64, Failure> {
    let record = state.users.get(&id).filter(|_| sees(caller, id));
    let record = record.ok_or_else(|| Failure::not_found("user", id))?;
    covers(state, caller, state.grants_of(id))?;
    Ok(record.user.meta.revision)
}

/// Refuses to let someone do to themselves what their password is asked for elsewhere: a token that leaked, or a screen left
/// unlocked, must not take the account over.
fn not_oneself(caller: &Caller, id: UserId, instead: &str) -> Result<(), Failure> {
    if caller.user == Some(id) {
        let why = format!("this is your own account: use `{instead}`, with your present password");
        return Err(Failure::new(Kind::Forbidden, why));
    }
    Ok(())
}

/// Changes a user.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", params(("id" = UserId, Path)), request_body = UpdateUser,
    responses((status = 200, body = User))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<UserId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateUser>,
) -> Result<Response, Failure> {
    let given: Vec<_> = update.spec.iter().flat_map(|s| s.grants.clone()).collect();
    let seen = api.node.cluster.read(|s| {
        covers(s, &caller, &given)?;
        rules_over(s, &caller, id)
    })?;
    let op = Op::UpdateUser { id, expect: expect.or(Some(seen)), update };
    answer(StatusCode::OK, api.node.cluster.write(op).await?)
}

/// Deletes a user, their sessions and tokens. Not the last administrator.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", params(("id" = UserId, Path)), responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<UserId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    let seen = api.node.cluster.read(|s| rules_over(s, &caller, id))?;
    api.node.cluster.write(Op::DeleteUser { id, expect: expect.or(Some(seen)) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets the password of another user. Their sessions end.
#[utoipa::path(
    post, path = "/users/{id}/password", tag = "users", params(("id" = UserId, Path)), request_body = SetPassword,
    responses((status = 204))
)]
async fn set_password(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<UserId>,
    Json(set): Json<SetPassword>,
) -> Result<StatusCode, Failure> {
    not_oneself(&caller, id, "POST /session/password")?;
    api.node.cluster.read(|s| rules_over(s, &caller, id))?;
    api.auth.set_password(id, &set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the second factor of another user away, who has lost it.
#[utoipa::path(
    delete, path = "/users/{id}/totp", tag = "users", params(("id" = UserId, Path)), responses((status = 204))
)]
async fn remove_totp(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Failure> {
    not_oneself(&caller, id, "POST /session/totp/remove")?;
    api.node.cluster.read(|s| rules_over(s, &caller, id))?;
    api.node.cluster.write(Op::ChangeTotp { id, change: TotpChange::Remove }).await?;
    Ok(StatusCode::NO_CONTENT)
}
