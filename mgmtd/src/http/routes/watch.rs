//! Following the objects and the tasks, as server-sent events: every change from a revision on, and what happens to tasks.

mod tasks;

use super::{
    super::{Api, extract::Query, problem::Failure},
    alerts::visible as visible_alert,
    pools::visible,
    users::sees,
};
use crate::{
    auth::Caller,
    cluster::{Change, Cluster, Kind},
};
use axum::{
    extract::State,
    response::sse::{Event as Message, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use lq_api::{
    access::{Permission, User},
    alert::Alert,
    host::Host,
    image::Image,
    network::Network,
    pool::Pool,
    problem,
    task::Task,
    vm::Vm,
    volume::Volume,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tasks::Tasks;
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// Longest a host is waited for that is not yet where the watcher was.
const CATCH_UP: Duration = Duration::from_secs(5);

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// Parameters of the watch.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// Changes after this revision, e.g. the `revision` of a list; from now on where absent.
    since: Option<u64>,
}

/// An object as it is now, or the news that it is gone.
#[derive(Serialize, ToSchema)]
struct Notice {
    /// Revision of the change; of a task, which has none, the revision to go on from.
    revision: u64,
    /// Identity of the object.
    id: Uuid,
    /// The object; absent when it was deleted, or is not to be seen any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Told>,
}

/// What is told of.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Told {
    /// An object, with its kind.
    Object(Box<Object>),
    /// A task; its `kind` is that of what is done.
    Task(Box<Task>),
}

/// An object, by its kind.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Object {
    /// A host.
    Host(Host),
    /// A pool.
    Pool(Pool),
    /// A machine.
    Vm(Vm),
    /// An image.
    Image(Image),
    /// A volume.
    Volume(Volume),
    /// A network.
    Network(Network),
    /// An alert.
    Alert(Alert),
    /// A user.
    User(User),
}

/// Changes of objects, as server-sent events named after the object's kind (`vm`, `image`, …), the event's id being the
/// revision to go on from. Several changes of one object may come as one. Status of hosts, room in pools and leased addresses are
/// not watched; of a user the user's own record, not what groups and roles give them. An object that leaves what the caller may see comes as one that is gone. Where `since` is too long ago the answer is 409: read the lists anew.
///
/// Events named `task` are about tasks, of every host that is reached and at most four a second of each. Tasks are in no log: told is what
/// happens from the beginning of the answer on, so their list is read after that, each time the watch begins anew. What the list had may come once more.
#[utoipa::path(
    get, path = "/watch", tag = "watch", params(WatchQuery),
    responses((status = 200, content_type = "text/event-stream", body = Notice))
)]
async fn watch(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<WatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Failure> {
    let cluster = api.node.cluster.clone();
    let now = cluster.read_at(|_, revision| revision);
    let since = query.since.unwrap_or(now);
    // The watcher may come from a host that was ahead of this one.
    let mut revision = cluster.watch();
    let reached = tokio::time::timeout(CATCH_UP, revision.wait_for(|r| *r >= since)).await.is_ok();
    if !reached || cluster.changes_since(since).is_none() {
        let why =
            format!("the changes since {since} are not known any more: read the lists and watch from {now}");
        return Err(Failure::new(problem::Kind::Conflict, why));
    }
    // Before the answer begins: what happens to a task after that is told.
    let tasks = Tasks::follow(&api, &caller);
    let following = Following { changes: cluster.watch(), reached: since, first: true, tasks, api, caller };
    let batches = stream::unfold(following, |mut following| async move {
        let messages = following.next().await?;
        Some((stream::iter(messages.into_iter().map(Ok)), following))
    });
    Ok(Sse::new(batches.flatten()).keep_alive(KeepAlive::default()))
}

/// Where a watcher is.
struct Following {
    changes: watch::Receiver<u64>,
    /// Changes up to this revision were told.
    reached: u64,
    first: bool,
    tasks: Tasks,
    api: Arc<Api>,
    caller: Caller,
}

impl Following {
    /// What is told next, which may be nothing; `None` where the watch is over.
    async fn next(&mut self) -> Option<Vec<Message>> {
        let Self { changes, tasks, api, caller, .. } = self;
        if !std::mem::take(&mut self.first) {
            tokio::select! {
                () = api.ending.cancelled() => return None,
                // Following ends with the session, also while nothing changes.
                () = api.auth.over(caller) => return None,
                changed = changes.changed() => changed.ok()?,
                () = tasks.news() => {}
            }
        }
        changes.borrow_and_update();
        // Rights are those of this moment.
        *caller = api.auth.renew(caller)?;
        // A watcher so slow that changes were forgotten is cut off; it comes back and is told to read anew.
        let new = api.node.cluster.changes_since(self.reached)?;
        api.former.follow(&api.node.cluster);
        let mut messages = notices(api, caller, self.reached, &new);
        self.reached = new.last().map_or(self.reached, |c| c.revision);
        for (id, task) in tasks.take(api, caller)? {
            let notice = Notice {
                revision: self.reached,
                id: id.0,
                object: task.map(|task| Told::Task(Box::new(task))),
            };
            messages.extend(message("task", &notice));
        }
        Some(messages)
    }
}

fn notices(api: &Api, caller: &Caller, since: u64, changes: &[Change]) -> Vec<Message> {
    let cluster = &api.node.cluster;
    // The last change of each object, in the order of the log.
    let mut latest = BTreeMap::new();
    for change in changes {
        latest.insert(change.id, *change);
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort_by_key(|c| c.revision);
    latest
        .into_iter()
        .filter_map(|change| {
            match change.kind {
                Kind::Alert => return alert(cluster, caller, change),
                Kind::User => return user(cluster, caller, change),
                _ => {}
            }
            let kind = change.kind.object()?;
            let seen = cluster.read(|s| caller.may(kind.read_permission(), s.object(kind, change.id)));
            // That an object is gone is told also when it was moved out of sight, but only to those who could see it.
            if !seen && !api.former.was_seen(caller, (kind, change.id), since) {
                return None;
            }
            of_object(change, object(cluster, caller, change).filter(|_| seen))
        })
        .collect()
}

fn of_object(change: Change, object: Option<Object>) -> Option<Message> {
    let notice = Notice {
        revision: change.revision,
        id: change.id,
        object: object.map(|o| Told::Object(Box::new(o))),
    };
    message(serde_json::to_value(change.kind).ok()?.as_str()?, &notice)
}

fn message(name: &str, notice: &Notice) -> Option<Message> {
    Message::default().event(name).id(notice.revision.to_string()).json_data(notice).ok()
}

/// An alert is seen by those who may see what it is about; that one is forgotten is told to those who may see all of them.
fn alert(cluster: &Cluster, caller: &Caller, change: Change) -> Option<Message> {
    let (known, found) = cluster.read(|s| {
        let id = change.id.into();
        (s.alerting.alerts.contains_key(&id), visible_alert(s, caller, id))
    });
    match found {
        Some(found) => of_object(change, Some(Object::Alert(found))),
        None => {
            (!known && caller.may_all(Permission::ClusterRead)).then(|| of_object(change, None)).flatten()
        }
    }
}

/// A user is seen by themselves and by those who may see all of them.
fn user(cluster: &Cluster, caller: &Caller, change: Change) -> Option<Message> {
    let id = change.id.into();
    let found = cluster.read(|s| s.users.get(&id).map(|r| Object::User(r.shown(s))));
    sees(caller, id).then(|| of_object(change, found)).flatten()
}

fn object(cluster: &Cluster, caller: &Caller, Change { kind, id, .. }: Change) -> Option<Object> {
    cluster.read(|s| match kind {
        Kind::Host => s.hosts.get(&id.into()).map(|r| Object::Host(r.shown(None))),
        Kind::Pool => s.pools.get(&id.into()).map(|r| Object::Pool(visible(s, caller, r))),
        Kind::Vm => s.vms.get(&id.into()).map(|r| Object::Vm(r.vm.clone())),
        Kind::Image => s.images.get(&id.into()).map(|r| Object::Image(r.image.clone())),
        Kind::Volume => s.volumes.get(&id.into()).map(|v| Object::Volume((**v).clone())),
        Kind::Network => s.networks.get(&id.into()).map(|n| Object::Network((**n).clone())),
        Kind::Alert | Kind::Token | Kind::User | Kind::Group | Kind::Role | Kind::Session => None,
    })
}
