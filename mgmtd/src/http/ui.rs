//! The web UI, built by `webui/` and embedded. Where it was not built, a plain page says so.

use super::problem::no_such_path;
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "$LQ_WEBUI_DIST"]
struct Files;

/// Nothing from elsewhere, nothing inline: what an attacker might smuggle into a page does not run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const ABSENT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>LimiQuantix</title>\
    <h1>LimiQuantix</h1><p>This daemon was built without the web pages (<code>webui/dist</code> was empty). \
    The API is at <a href=/api/v1/openapi.json>/api/v1</a>.</html>";

/// Serves a file of the UI, or its first page for the paths it routes by itself.
pub(super) async fn serve(method: Method, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if !matches!(method, Method::GET | Method::HEAD) || path == "api" || path.starts_with("api/") {
        return no_such_path(uri).await.into_response();
    }
    if !path.is_empty()
        && let Some(file) = Files::get(path)
    {
        // Built files carry a hash in their name.
        let lasting = path.starts_with("assets/");
        return answer(path, file, if lasting { "public, max-age=31536000, immutable" } else { "no-cache" });
    }
    // A missing file is missing; anything else is a place inside the UI.
    if path.rsplit('/').next().is_some_and(|last| last.contains('.')) {
        return no_such_path(uri).await.into_response();
    }
    match Files::get("index.html") {
        Some(file) => answer("index.html", file, "no-cache"),
        None => page("text/html; charset=utf-8", "no-cache", Bytes::from_static(ABSENT.as_bytes())),
    }
}

fn answer(path: &str, file: EmbeddedFile, cache: &'static str) -> Response {
    page(media_type(path), cache, content(file))
}

/// What is embedded is sent from where it is: copied, every answer that a client does not read would hold as much memory.
fn content(file: EmbeddedFile) -> Bytes {
    match file.data {
        Cow::Borrowed(embedded) => Bytes::from_static(embedded),
        // Read from the disk, in builds for development.
        Cow::Owned(read) => read.into(),
    }
}

fn page(media: &'static str, cache: &'static str, body: Bytes) -> Response {
    let mut response = (StatusCode::OK, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_of_the_ui_and_missing_files() {
        let get = |path: &'static str| serve(Method::GET, Uri::from_static(path));
        assert_eq!(get("/").await.status(), StatusCode::OK);
        assert_eq!(get("/vms/1").await.status(), StatusCode::OK);
        assert!(get("/vms").await.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        assert_eq!(get("/assets/none.js").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/api/none").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(serve(Method::POST, Uri::from_static("/")).await.status(), StatusCode::NOT_FOUND);
    }
}
