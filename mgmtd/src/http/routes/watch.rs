//! Following the objects: every change from a revision on, as server-sent events.

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
    vm::Vm,
    volume::Volume,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
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
    /// Revision of the change.
    revision: u64,
    /// Identity of the object.
    id: Uuid,
    /// The object; absent when it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object>,
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
    let state = (cluster.watch(), api, caller, since, true);
    let batches = stream::unfold(state, |(mut changes, api, caller, since, first)| async move {
        if !first {
            tokio::select! {
                () = api.ending.cancelled() => return None,
                // Following ends with the session, also while nothing changes.
                () = api.auth.over(&caller) => return None,
                changed = changes.changed() => changed.ok()?,
            }
        }
        changes.borrow_and_update();
        let cluster = &api.node.cluster;
        // Rights are those of this moment.
        let caller = api.auth.renew(&caller)?;
        // A watcher so slow that changes were forgotten is cut off; it comes back and is told to read anew.
        let new = cluster.changes_since(since)?;
        let reached = new.last().map_or(since, |c| c.revision);
        api.former.follow(cluster);
        let messages = notices(&api, &caller, since, &new);
        Some((stream::iter(messages.into_iter().map(Ok)), (changes, api, caller, reached, false)))
    });
    Ok(Sse::new(batches.flatten()).keep_alive(KeepAlive::default()))
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
            message(change, object(cluster, caller, change).filter(|_| seen))
        })
        .collect()
}

fn message(change: Change, object: Option<Object>) -> Option<Message> {
    let notice = Notice { revision: change.revision, id: change.id, object };
    let name = serde_json::to_value(change.kind).ok()?;
    let message = Message::default().event(name.as_str()?).id(change.revision.to_string());
    message.json_data(&notice).ok()
}

/// An alert is seen by those who may see what it is about; that one is forgotten is told to those who may see all of them.
fn alert(cluster: &Cluster, caller: &Caller, change: Change) -> Option<Message> {
    let (known, found) = cluster.read(|s| {
        let id = change.id.into();
        (s.alerting.alerts.contains_key(&id), visible_alert(s, caller, id))
    });
    match found {
        Some(found) => message(change, Some(Object::Alert(found))),
        None => (!known && caller.may_all(Permission::ClusterRead)).then(|| message(change, None)).flatten(),
    }
}

/// A user is seen by themselves and by those who may see all of them.
fn user(cluster: &Cluster, caller: &Caller, change: Change) -> Option<Message> {
    let id = change.id.into();
    let found = cluster.read(|s| s.users.get(&id).map(|r| Object::User(r.shown(s))));
    sees(caller, id).then(|| message(change, found)).flatten()
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
