//! The event log.

use super::super::{
    Api,
    access::sees_target,
    extract::{Answer, Query},
    problem::Failure,
};
use crate::{auth::Caller, telemetry::EventFilter};
use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event as Message, KeepAlive, Sse},
};
use futures::Stream;
use lq_api::{
    event::{Event, EventQuery},
    list::Page,
    problem::Kind,
};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(stream))
}

fn filter(query: &EventQuery) -> EventFilter {
    EventFilter { target: query.target.clone(), kind: query.kind.clone(), level: query.level }
}

/// Events, newest first. The last 10,000 are remembered.
#[utoipa::path(
    get, path = "/events", tag = "events", params(EventQuery), responses((status = 200, body = Page<Event>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Result<Answer<Page<Event>>, Failure> {
    let limit = query.limit.unwrap_or(100) as usize;
    if !(1..=1000).contains(&limit) {
        return Err(Failure::new(Kind::Malformed, "`limit` is not between 1 and 1000"));
    }
    let (events, cluster) = (api.node.events.clone(), api.node.cluster.clone());
    let (filter, cursor) = (filter(&query), query.cursor);
    let found = tokio::task::spawn_blocking(move || {
        let state = cluster.read(crate::cluster::State::clone);
        events.list(|e| filter.wants(e) && sees_target(&state, &caller, &e.target), cursor, limit)
    })
    .await;
    let (items, more) = found.map_err(|e| Failure::internal(&e))?.map_err(|e| Failure::internal(&e))?;
    let next_cursor = items.last().filter(|_| more).map(|e| e.id.to_string());
    let revision = api.node.cluster.read_at(|_, revision| revision);
    Ok(Answer(StatusCode::OK, Page { items, next_cursor, revision }))
}

/// Events from now on, as server-sent events: `data` is an event in JSON. A follower that is too slow misses some and gets
/// the event `missed` with their number.
#[utoipa::path(
    get, path = "/events/stream", tag = "events", params(EventQuery),
    responses((status = 200, content_type = "text/event-stream", body = Event))
)]
async fn stream(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let (filter, follower) = (filter(&query), api.node.events.follow());
    let messages = futures::stream::unfold((follower, filter, api), move |(mut follower, filter, api)| {
        let caller = caller.clone();
        async move {
            loop {
                let received = tokio::select! {
                    () = api.ending.cancelled() => return None,
                    // Following ends with the session, also while nothing happens.
                    () = api.auth.over(&caller) => return None,
                    received = follower.recv() => received,
                };
                let caller = api.auth.renew(&caller)?;
                let sees = |e: &Event| api.node.cluster.read(|s| sees_target(s, &caller, &e.target));
                let message = match received {
                    Ok(event) if !filter.wants(&event) || !sees(&event) => continue,
                    Ok(event) => Message::default().id(event.id.to_string()).json_data(&event),
                    Err(RecvError::Lagged(n)) => Ok(Message::default().event("missed").data(n.to_string())),
                    Err(RecvError::Closed) => return None,
                };
                let Ok(message) = message else { continue };
                return Some((Ok(message), (follower, filter, api)));
            }
        }
    });
    Sse::new(messages).keep_alive(KeepAlive::default())
}
