//! Notification channels. Their secrets come in and never go out.

use super::super::{
    Api,
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::Wanted,
    problem::Failure,
};
use crate::cluster::{Op, Reply};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    ChannelId,
    channel::{Channel, ChannelTest, CreateChannel, UpdateChannel},
    list::{ListQuery, Page},
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(test))
}

/// Notification channels.
#[utoipa::path(
    get, path = "/notification-channels", tag = "channels", params(ListQuery),
    responses((status = 200, body = Page<Channel>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Channel>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let all = &s.alerting.channels;
        wanted.page(all, revision, |r| &r.meta, |_| true, |r| s.alerting.show(r))
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a notification channel.
#[utoipa::path(
    post, path = "/notification-channels", tag = "channels", request_body = CreateChannel,
    responses((status = 201, body = Channel))
)]
async fn create(State(api): State<Arc<Api>>, Json(create): Json<CreateChannel>) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let op = Op::CreateChannel { id: ChannelId::new(), create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Channel(channel) => Ok(tagged(status, &channel.meta, &*channel)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A notification channel.
#[utoipa::path(
    get, path = "/notification-channels/{id}", tag = "channels", params(("id" = ChannelId, Path)),
    responses((status = 200, body = Channel))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<ChannelId>) -> Result<Response, Failure> {
    let channel = api.node.cluster.read(|s| s.alerting.channels.get(&id).map(|r| s.alerting.show(r)));
    let channel = channel.ok_or_else(|| Failure::not_found("notification channel", id))?;
    Ok(tagged(StatusCode::OK, &channel.meta, &channel))
}

/// Changes a notification channel. One that failed is tried again at once.
#[utoipa::path(
    patch, path = "/notification-channels/{id}", tag = "channels", params(("id" = ChannelId, Path)),
    request_body = UpdateChannel, responses((status = 200, body = Channel))
)]
async fn update(
    State(api): State<Arc<Api>>,
    Id(id): Id<ChannelId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateChannel>,
) -> Result<Response, Failure> {
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateChannel { id, expect, update }).await?)
}

/// Deletes a notification channel, with what waits for it.
#[utoipa::path(
    delete, path = "/notification-channels/{id}", tag = "channels", params(("id" = ChannelId, Path)),
    responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    Id(id): Id<ChannelId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    api.node.cluster.write(Op::DeleteChannel { id, expect }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test to a channel, from the host that was asked, and says what came of it. Takes up to half a minute.
#[utoipa::path(
    post, path = "/notification-channels/{id}/test", tag = "channels", params(("id" = ChannelId, Path)),
    responses((status = 200, body = ChannelTest))
)]
async fn test(State(api): State<Arc<Api>>, Id(id): Id<ChannelId>) -> Result<Answer<ChannelTest>, Failure> {
    let record = api.node.cluster.read(|s| s.alerting.channels.get(&id).cloned());
    let record = record.ok_or_else(|| Failure::not_found("notification channel", id))?;
    Ok(Answer(StatusCode::OK, api.alerts.test(&record).await))
}
