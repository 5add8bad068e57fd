//! Images.

use super::super::{
    Api,
    access::{may_boot, may_fill, with_labels, without_hidden},
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::{Wanted, sees},
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, state::ImageRecord},
};
use axum::{
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use lq_api::{
    ImageId,
    access::{ObjectKind, Permission},
    image::{CreateImage, Image},
    list::{ListQuery, Page},
    meta::MetadataPatch,
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    let content = OpenApiRouter::new().routes(routes!(upload)).layer(DefaultBodyLimit::disable());
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete)).merge(content)
}

/// Images.
#[utoipa::path(
    get, path = "/images", tag = "images", params(ListQuery), responses((status = 200, body = Page<Image>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Image>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let may_see = sees(&caller, ObjectKind::Image);
        wanted.page(&s.images, revision, |r: &Arc<ImageRecord>| &r.image.meta, may_see, |r| r.image.clone())
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Declares an image; its content follows.
#[utoipa::path(
    post, path = "/images", tag = "images", request_body = CreateImage, responses((status = 201, body = Image))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(mut create): Json<CreateImage>,
) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let id = ImageId::new();
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Image, id.0), Some(&create.labels), Permission::StorageWrite)
    })?;
    api.node.cluster.read(|s| may_boot(s, &caller, create.spec.boot.as_ref(), None))?;
    create.spec.pool = Some(api.node.cluster.read(|s| may_fill(s, &caller, create.spec.pool))?);
    let op = Op::CreateImage { id, create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Image(image) => Ok(tagged(status, &image.meta, &*image)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// An image.
#[utoipa::path(
    get, path = "/images/{id}", tag = "images", params(("id" = ImageId, Path)), responses((status = 200, body = Image))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<ImageId>) -> Result<Response, Failure> {
    let record = api.node.cluster.read(|s| s.images.get(&id).cloned());
    let image = &record.ok_or_else(|| Failure::not_found("image", id))?.image;
    Ok(tagged(StatusCode::OK, &image.meta, image))
}

/// Changes name and labels.
#[utoipa::path(
    patch, path = "/images/{id}", tag = "images", params(("id" = ImageId, Path)), request_body = MetadataPatch,
    responses((status = 200, body = Image))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<ImageId>,
    IfMatch(expect): IfMatch,
    Json(patch): Json<MetadataPatch>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Image, id.0), patch.labels.as_ref(), Permission::StorageWrite)
    })?;
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateImage { id, expect, patch }).await?)
}

/// Deletes an image nothing uses.
#[utoipa::path(
    delete, path = "/images/{id}", tag = "images", params(("id" = ImageId, Path)), responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<ImageId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    let deleted = api.node.delete_image(id, expect).await;
    deleted
        .map_err(|e| api.node.cluster.read(|s| without_hidden(s, &caller, (ObjectKind::Image, id.0), e)))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Uploads the content, as a stream of any length. With `Content-Length` the room for it is checked first.
#[utoipa::path(
    put, path = "/images/{id}/content", tag = "images", params(("id" = ImageId, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Image))
)]
async fn upload(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<ImageId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .map(|v| v.to_str().ok().and_then(|v| v.parse().ok()))
        .map(|v| v.ok_or_else(|| Failure::new(Kind::Malformed, "`Content-Length` is not a number")))
        .transpose()?;
    let _turn = api.uploads.take(caller.user).ok_or_else(|| {
        let why = "you upload as many images already as one user may: try again when one has ended";
        Failure::busy(why)
    })?;
    let image = api.node.upload(id, length, body.into_data_stream()).await?;
    Ok(tagged(StatusCode::OK, &image.meta, &image))
}
