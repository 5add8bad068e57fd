//! The OpenAPI document, made from the handlers.

use super::{Api, routes};
use axum::Router;
use lq_api::problem::{MEDIA_TYPE, Problem};
use std::sync::Arc;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder, SecurityRequirement, ServerBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "LimiQuantix",
        description = "Every host serves this API for the whole cluster. Objects have a wanted `spec` and an observed \
            `status`; what takes long is a task. Errors are problem documents (RFC 9457). `ETag` is the object's revision; \
            send it as `If-Match` to change only what you saw. A browser's session cookie changes things only together \
            with the header `X-LQ-Request: 1` or our own `Origin`. What is read is what the host asked knows: always its own \
            writes, maybe not yet the last of other hosts; with the header `LQ-Consistency: strong` everything that was \
            acknowledged anywhere before is seen, or the answer is 503.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem, lq_api::ChannelId, lq_api::alert::AlertState, lq_api::history::Span))
)]
struct Document;

/// Handlers below `/api/v1`, and the document that describes them.
pub(super) fn parts() -> (Router<Arc<Api>>, utoipa::openapi::OpenApi) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(Document::openapi()).merge(routes::v1()).split_for_parts();
    document.info.version = "1".into();
    document.servers = Some(vec![ServerBuilder::new().url("/api/v1").build()]);
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::new(super::guard::COOKIE);
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let none: [&str; 0] = [];
    document.security =
        Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("cookie", none)]);
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let problem = ResponseBuilder::new()
        .description("Refused or failed: why, and what to do")
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build())
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            // Handlers are called `list` and `get` in many a module; generated clients need one name each.
            if let (Some(tag), Some(id)) =
                (operation.tags.iter().flatten().next(), operation.operation_id.as_mut())
            {
                *id = format!("{}_{id}", tag.replace('-', "_"));
            }
            operation.responses.responses.insert("default".into(), RefOr::T(problem.clone()));
        }
    }
    (router, document)
}

/// The document as it is checked in at `api/openapi.json`.
pub fn document() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&parts().1)?;
    text.push('\n');
    Ok(text)
}
