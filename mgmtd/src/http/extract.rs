//! Taking requests apart. Every refusal is a [`Failure`] that names what is wrong.

use super::{
    linger::BodyError,
    problem::Failure,
    turns::{Turn, Turns},
};
use axum::{
    Extension,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::Body as _;
use lq_api::{
    Metadata, UserId,
    problem::{FieldError, Kind, Problem},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, str::FromStr};

/// A JSON body; unknown fields are refused by the types, with the field's path.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(req: Request, state: &S) -> Result<Self, Failure> {
        let is_json =
            req.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| {
                v.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
            });
        if !is_json {
            // Also what keeps a form on another site from being taken for a request of ours.
            return Err(Failure::new(
                Kind::Malformed,
                "the body must be JSON: send `Content-Type: application/json`",
            ));
        }
        let bytes = body(req, state).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be absent.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(req: Request, state: &S) -> Result<Self, Failure> {
        let bytes = body(req, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

/// Largest body of a request, where it is not [`super::MAX_BODY`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Largest(pub(super) usize);

impl Largest {
    /// Lets no larger body be read.
    pub(super) fn limit(self, req: &mut Request) {
        DefaultBodyLimit::max(self.0).apply(req);
        req.extensions_mut().insert(self);
    }
}

/// How many large bodies a user has read at a time.
#[derive(Clone)]
pub(super) struct Bodies(pub(super) Turns, pub(super) Option<UserId>);

impl Bodies {
    fn turn(&self) -> Result<Turn, Failure> {
        let why = "you send as many large requests at once already as one user may: send one after the other";
        self.0.take(self.1).ok_or_else(|| Failure::busy(why))
    }
}

async fn body<S: Send + Sync>(req: Request, state: &S) -> Result<Bytes, Failure> {
    let _turn = match req.extensions().get::<Bodies>() {
        // One whose length is not told may be of any.
        Some(bodies) if req.body().size_hint().upper().is_none_or(|n| n > super::MAX_OPEN_BODY as u64) => {
            Some(bodies.turn()?)
        }
        _ => None,
    };
    let largest = req.extensions().get::<Largest>().map_or(super::MAX_BODY, |l| l.0);
    Bytes::from_request(req, state).await.map_err(|e| {
        if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Failure::new(Kind::TooLarge, format!("the body is larger than {largest} bytes"))
        } else if let Some(slow) = too_slow(&e) {
            Failure::new(Kind::Malformed, slow)
        } else {
            Failure::new(Kind::Malformed, e.body_text())
        }
    })
}

/// That a body came too slowly, if that is why it could not be read.
fn too_slow(e: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(e), |e| e.source());
    causes
        .find_map(|e| e.downcast_ref::<BodyError>())
        .filter(|e| matches!(e, BodyError::Slow))
        .map(ToString::to_string)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        if inner.is_data() {
            let field = if path == "." { "body".to_owned() } else { path };
            Problem::validation(vec![FieldError::new(field, inner.to_string())]).into()
        } else {
            Failure::new(Kind::Malformed, format!("the body is not JSON: {inner}"))
        }
    })?;
    reader
        .end()
        .map_err(|e| Failure::new(Kind::Malformed, format!("the body is not one JSON document: {e}")))?;
    Ok(value)
}

/// Query parameters.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|q| Self(q.0)).map_err(|e| Failure::new(Kind::Malformed, e.body_text()))
    }
}

/// The id in the path.
pub(super) struct Id<T>(pub(super) T);

/// What stands for an id in a path is none.
pub(super) fn not_an_id(text: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("`{text}` is not an id: names are looked up by `?name=`"))
}

impl<T: FromStr + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let text = path.map_err(|e| Failure::new(Kind::Malformed, e.body_text()))?.0;
        text.parse().map(Self).map_err(|_| not_an_id(&text))
    }
}

/// The revision the caller saw (`If-Match`), where it told one.
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
        inner.map(|revision| Self(Some(revision))).ok_or_else(|| {
            Failure::new(Kind::Malformed, format!("`If-Match: {text}` is not an ETag of ours like \"17\""))
        })
    }
}

/// An answer in JSON.
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => (self.0, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(e) => Failure::internal(&e).into_response(),
        }
    }
}

/// The object an answer is about, for the audit log.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) id: String,
    pub(super) name: String,
}

/// An object with its revision as ETag.
pub(super) fn tagged<Id: Display, T: Serialize>(
    status: StatusCode,
    meta: &Metadata<Id>,
    object: &T,
) -> Response {
    let tag = format!("\"{}\"", meta.revision);
    let touched = Touched { id: meta.id.to_string(), name: meta.name.clone() };
    ([(header::ETAG, tag)], Extension(touched), Answer(status, object)).into_response()
}
