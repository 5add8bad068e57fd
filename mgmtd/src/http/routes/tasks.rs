//! Tasks, newest first.

use super::super::{
    Api,
    access::{may_cancel, sees_target},
    extract::{Answer, Id, Query},
    peer::all_tasks,
    problem::Failure,
};
use crate::{auth::Caller, cluster::State as Agreed, tasks::CancelError};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    TaskId,
    list::Page,
    problem::Kind,
    task::{Task, TaskQuery, TaskState},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(cancel))
}

/// What a host is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::http) struct Asked {
    /// Most tasks wanted.
    most: usize,
    cursor: Option<TaskId>,
    state: Option<TaskState>,
    target: Option<String>,
    /// Who may see them.
    caller: Caller,
}

/// The newest tasks of this host that are asked for.
pub(in crate::http) fn own(api: &Api, asked: &Asked) -> Vec<Task> {
    let wanted = |t: &Task| {
        asked.cursor.is_none_or(|c| t.id < c)
            && asked.state.is_none_or(|s| s == t.state)
            && asked.target.as_ref().is_none_or(|o| *o == t.target)
    };
    let all = api.node.tasks.all();
    api.node.cluster.read(|s| {
        let seen = |t: &Task| wanted(t) && sees_task(s, &asked.caller, t);
        all.into_iter().rev().filter(seen).take(asked.most).collect()
    })
}

/// Tasks of every host that answers, newest first. Each host remembers its last 1000.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(TaskQuery), responses((status = 200, body = Page<Task>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<TaskQuery>,
) -> Result<Answer<Page<Task>>, Failure> {
    let TaskQuery { limit, cursor, state, target } = query;
    let limit = limit.unwrap_or(100) as usize;
    if !(1..=1000).contains(&limit) {
        return Err(Failure::new(Kind::Malformed, "`limit` is not between 1 and 1000"));
    }
    let mut items = all_tasks(&api, &Asked { most: limit + 1, cursor, state, target, caller }).await;
    items.sort_by_key(|t| std::cmp::Reverse(t.id));
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(|t| t.id.to_string());
    let revision = api.node.cluster.read_at(|_, revision| revision);
    Ok(Answer(StatusCode::OK, Page { items, next_cursor, revision }))
}

/// A task.
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path)), responses((status = 200, body = Task))
)]
async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<TaskId>,
) -> Result<Answer<Task>, Failure> {
    Ok(Answer(StatusCode::OK, seen(&api, &caller, id)?))
}

/// A task the caller may see: one they asked for, or of an object they may see.
fn seen(api: &Api, caller: &Caller, id: TaskId) -> Result<Task, Failure> {
    let task = api.node.tasks.get(id);
    let task = task.filter(|t| api.node.cluster.read(|s| sees_task(s, caller, t)));
    task.ok_or_else(|| Failure::not_found("task", id))
}

/// Whether the caller may see a task: one they asked for, or of an object they may see.
pub(super) fn sees_task(state: &Agreed, caller: &Caller, task: &Task) -> bool {
    // By id: a name may be someone else's by now.
    (task.user.is_some() && task.user == caller.user) || sees_target(state, caller, &task.target)
}

/// Ends a task early. What it waited for may still happen.
#[utoipa::path(
    post, path = "/tasks/{id}/cancel", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 202, body = Task))
)]
async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<TaskId>,
) -> Result<Answer<Task>, Failure> {
    let task = seen(&api, &caller, id)?;
    api.node.cluster.read(|s| may_cancel(s, &caller, &task.target))?;
    match api.node.tasks.cancel(id) {
        Ok(()) => {}
        Err(CancelError::NotFound) => return Err(Failure::not_found("task", id)),
        Err(CancelError::Ended) => return Err(Failure::new(Kind::Conflict, "the task has ended")),
        Err(CancelError::Refused) => {
            return Err(Failure::new(Kind::Conflict, "this task cannot be ended early: wait for it"));
        }
    }
    let task = api.node.tasks.get(id).ok_or_else(|| Failure::not_found("task", id))?;
    Ok(Answer(StatusCode::ACCEPTED, task))
}
