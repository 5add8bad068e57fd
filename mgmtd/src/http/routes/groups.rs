//! Groups and roles. As with users, nobody gives, takes or changes what they do not have themselves.

use super::super::{
    Api,
    access::covers,
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::Wanted,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, State as Agreed},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    GroupId, RoleId,
    access::{CreateGroup, CreateRole, Group, Permission, Role, RoleSpec, Scope, UpdateGroup, UpdateRole},
    auth::Right,
    list::{ListQuery, Page},
    problem::Kind,
};
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(list_roles, create_role))
        .routes(routes!(get_role, update_role, delete_role))
}

fn sees(state: &Agreed, caller: &Caller, id: GroupId) -> bool {
    let member = || caller.user.is_some_and(|user| state.groups_of(user).any(|g| g.meta.id == id));
    caller.may_all(Permission::UserRead) || member()
}

/// Groups; without `user.read` only one's own.
#[utoipa::path(get, path = "/groups", tag = "groups", params(ListQuery), responses((status = 200, body = Page<Group>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Group>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        wanted.page(&s.groups, revision, |g| &g.meta, |m| sees(s, &caller, m.id), |g| (**g).clone())
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a group.
#[utoipa::path(
    post, path = "/groups", tag = "groups", request_body = CreateGroup, responses((status = 201, body = Group))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreateGroup>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| covers(s, &caller, &create.spec.grants))?;
    let op = Op::CreateGroup { id: GroupId::new(), create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Group(group) => Ok(tagged(status, &group.meta, &*group)),
        Reply::Role(role) => Ok(tagged(status, &role.meta, &*role)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A group.
#[utoipa::path(
    get, path = "/groups/{id}", tag = "groups", params(("id" = GroupId, Path)), responses((status = 200, body = Group))
)]
async fn get(State(api): State<Arc<Api>>, caller: Caller, Id(id): Id<GroupId>) -> Result<Response, Failure> {
    let group = api.node.cluster.read(|s| s.groups.get(&id).filter(|_| sees(s, &caller, id)).cloned());
    let group = group.ok_or_else(|| Failure::not_found("group", id))?;
    Ok(tagged(StatusCode::OK, &group.meta, &*group))
}

/// Refuses a change of a group that may do more than the caller; answers with the revision that was looked at.
fn rules_over(state: &Agreed, caller: &Caller, id: GroupId) -> Result<u64, Failure> {
    let group = state.groups.get(&id).filter(|_| sees(state, caller, id));
    let group = group.ok_or_else(|| Failure::not_found("group", id))?;
    covers(state, caller, &group.spec.grants)?;
    Ok(group.meta.revision)
}

/// Changes a group.
#[utoipa::path(
    patch, path = "/groups/{id}", tag = "groups", params(("id" = GroupId, Path)), request_body = UpdateGroup,
    responses((status = 200, body = Group))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<GroupId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateGroup>,
) -> Result<Response, Failure> {
    let seen = api.node.cluster.read(|s| {
        covers(s, &caller, update.spec.iter().flat_map(|s| &s.grants))?;
        rules_over(s, &caller, id)
    })?;
    let op = Op::UpdateGroup { id, expect: expect.or(Some(seen)), update };
    answer(StatusCode::OK, api.node.cluster.write(op).await?)
}

/// Deletes a group. Its members stay, without what it granted.
#[utoipa::path(
    delete, path = "/groups/{id}", tag = "groups", params(("id" = GroupId, Path)), responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<GroupId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    let seen = api.node.cluster.read(|s| rules_over(s, &caller, id))?;
    api.node.cluster.write(Op::DeleteGroup { id, expect: expect.or(Some(seen)) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn sees_role(state: &Agreed, caller: &Caller, id: RoleId) -> bool {
    caller.may_all(Permission::UserRead)
        || caller.user.is_some_and(|user| state.grants_of(user).any(|g| g.role == id))
}

/// Roles; without `user.read` only those one has.
#[utoipa::path(get, path = "/roles", tag = "roles", params(ListQuery), responses((status = 200, body = Page<Role>)))]
async fn list_roles(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Role>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let all: BTreeMap<RoleId, &Role> = s.all_roles().map(|r| (r.meta.id, r)).collect();
        wanted.page(&all, revision, |r| &r.meta, |m| sees_role(s, &caller, m.id), |r| (*r).clone())
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Refuses a role that may do more than the caller.
fn has_all_of(caller: &Caller, spec: &RoleSpec) -> Result<(), Failure> {
    if caller.rights.covers(&Right { scope: Scope::Cluster, permissions: spec.permissions.clone() }) {
        return Ok(());
    }
    let why = "only who has every permission of a role on the cluster may make or change it";
    Err(Failure::new(Kind::Forbidden, why))
}

/// Makes a role.
#[utoipa::path(
    post, path = "/roles", tag = "roles", request_body = CreateRole, responses((status = 201, body = Role))
)]
async fn create_role(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreateRole>,
) -> Result<Response, Failure> {
    has_all_of(&caller, &create.spec)?;
    let op = Op::CreateRole { id: RoleId::new(), create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

/// A role.
#[utoipa::path(
    get, path = "/roles/{id}", tag = "roles", params(("id" = RoleId, Path)), responses((status = 200, body = Role))
)]
async fn get_role(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<RoleId>,
) -> Result<Response, Failure> {
    let role = api.node.cluster.read(|s| s.role(id).filter(|_| sees_role(s, &caller, id)).cloned());
    let role = role.ok_or_else(|| Failure::not_found("role", id))?;
    Ok(tagged(StatusCode::OK, &role.meta, &role))
}

/// Refuses a change of a role that may do more than the caller; answers with the revision that was looked at.
fn rules_over_role(state: &Agreed, caller: &Caller, id: RoleId) -> Result<u64, Failure> {
    let role = state.role(id).filter(|_| sees_role(state, caller, id));
    let role = role.ok_or_else(|| Failure::not_found("role", id))?;
    has_all_of(caller, &role.spec)?;
    Ok(role.meta.revision)
}

/// Changes a role, for all who have it. Not a built-in one.
#[utoipa::path(
    patch, path = "/roles/{id}", tag = "roles", params(("id" = RoleId, Path)), request_body = UpdateRole,
    responses((status = 200, body = Role))
)]
async fn update_role(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<RoleId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateRole>,
) -> Result<Response, Failure> {
    update.spec.as_ref().map_or(Ok(()), |spec| has_all_of(&caller, spec))?;
    let seen = api.node.cluster.read(|s| rules_over_role(s, &caller, id))?;
    let op = Op::UpdateRole { id, expect: expect.or(Some(seen)), update };
    answer(StatusCode::OK, api.node.cluster.write(op).await?)
}

/// Deletes a role nobody has.
#[utoipa::path(
    delete, path = "/roles/{id}", tag = "roles", params(("id" = RoleId, Path)), responses((status = 204))
)]
async fn delete_role(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<RoleId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    let seen = api.node.cluster.read(|s| rules_over_role(s, &caller, id))?;
    api.node.cluster.write(Op::DeleteRole { id, expect: expect.or(Some(seen)) }).await?;
    Ok(StatusCode::NO_CONTENT)
}
