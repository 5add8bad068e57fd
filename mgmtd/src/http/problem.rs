//! Every refusal as a problem document (RFC 9457).

use crate::{
    auth::AuthError,
    causes::chain,
    cluster::{BackupError, JoinError, ReformError, Refusal, RestoreError, WriteError},
    compute,
    reconcile::{ForeignError, storage::UploadError},
    removable, storage,
};
use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use lq_api::problem::{FieldError, Kind, MEDIA_TYPE, Problem};
use std::time::Duration;

/// A request that failed.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the rejection of extractors of public types")]
pub struct Failure {
    problem: Box<Problem>,
    retry_after: Option<u64>,
}

impl Failure {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem::new(kind, detail).into()
    }
    pub(super) fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {kind} {id}"))
    }
    pub(super) fn internal(e: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(e), "a request failed by a fault of ours");
        Self::new(Kind::Internal, chain(e))
    }
    /// Something is in use; it is to be tried again soon.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(10), ..Self::new(Kind::RateLimited, detail) }
    }
    /// Too many; it is to be tried again after so long.
    pub(super) fn limited(detail: impl Into<String>, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        Self { retry_after: u64::try_from(seconds).ok(), ..Self::new(Kind::RateLimited, detail) }
    }
    /// Refuses where there are faults.
    pub(super) fn check(errors: Vec<FieldError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors).into()) }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry_after: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self.problem);
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { kind, id } => Self::not_found(&kind, id),
            Refusal::Stale { .. } => Self::new(Kind::Stale, refusal.to_string()),
            Refusal::NoRoom(_) => Self::new(Kind::Conflict, refusal.to_string()),
            Refusal::Conflict(reason) => Self::new(Kind::Conflict, reason),
            Refusal::Validation(errors) => Problem::validation(errors).into(),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            other => Self::new(Kind::Unavailable, other.to_string()),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let text = error.to_string();
        match error {
            JoinError::NotAToken(_) => Problem::validation(vec![FieldError::new("token", text)]).into(),
            JoinError::NotAlone(_) | JoinError::Member => Self::new(Kind::Conflict, text),
            JoinError::Refused(problem) => (*problem).into(),
            JoinError::Unreachable(_) | JoinError::Unknown(_) | JoinError::NotReady(_) => {
                Self::new(Kind::Unavailable, text)
            }
            JoinError::Backup(e) => e.into(),
            JoinError::Store(_) | JoinError::Pki(_) => Self::internal(&error),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let text = crate::causes::chain(&error);
        match error {
            BackupError::NotFound(_) => Self::new(Kind::NotFound, text),
            BackupError::Nothing => Self::new(Kind::Unavailable, text),
            BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(Kind::NoSpace, text)
            }
            BackupError::Io { .. } => Self::internal(&error),
            BackupError::Foreign
            | BackupError::Newer { .. }
            | BackupError::Damaged { .. }
            | BackupError::State(_) => Self::new(Kind::Malformed, text),
        }
    }
}

impl From<ReformError> for Failure {
    fn from(error: ReformError) -> Self {
        let text = crate::causes::chain(&error);
        match error {
            ReformError::Obstacles(_) => Self::new(Kind::Conflict, text),
            ReformError::NotConfirmed(..) => {
                Problem::validation(vec![FieldError::new("confirm", text)]).into()
            }
            ReformError::Hosts(_) => Problem::validation(vec![FieldError::new("lost", text)]).into(),
            ReformError::Backup(e) => e.into(),
            ReformError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let text = crate::causes::chain(&error);
        match error {
            RestoreError::Backup(e) | RestoreError::Before(e) => e.into(),
            RestoreError::NotConfirmed(..) => {
                Problem::validation(vec![FieldError::new("confirm", text)]).into()
            }
            RestoreError::NotHere(_) => Self::new(Kind::Conflict, text),
            RestoreError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<removable::Error> for Failure {
    fn from(error: removable::Error) -> Self {
        let text = chain(&error);
        match error {
            removable::Error::NoSuch { .. } => {
                Problem::validation(vec![FieldError::new("device", text)]).into()
            }
            removable::Error::Full { .. } => Self::new(Kind::NoSpace, text),
            removable::Error::Unfit { .. } | removable::Error::Busy | removable::Error::Failed { .. } => {
                Self::new(Kind::Conflict, text)
            }
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let text = error.to_string();
        match error {
            AuthError::Wrong
            | AuthError::WrongCode
            | AuthError::NotBelieved(..)
            | AuthError::NotBegun
            | AuthError::WrongOneTimeCode
            | AuthError::Ended
            | AuthError::Reused => Self::new(Kind::Unauthenticated, text),
            AuthError::CodeNeeded => Self::new(Kind::SecondFactor, text),
            AuthError::NotHere(_) | AuthError::NotGranted(_) => Self::new(Kind::Forbidden, text),
            AuthError::NotAsked(_) | AuthError::KeysChanged(..) => Self::new(Kind::Unavailable, text),
            AuthError::NoKey => Self::internal(&error),
            AuthError::Limited(wait) => Self::limited(text, wait),
            AuthError::SetupNeeded | AuthError::SetupDone => Self::new(Kind::Conflict, text),
            AuthError::Invalid(errors) => Problem::validation(errors).into(),
            AuthError::Password(e) => Self::internal(&e),
            AuthError::Write(e) => e.into(),
        }
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match &error {
            storage::Error::NoSpace { .. } => Self::new(Kind::NoSpace, error.to_string()),
            storage::Error::BadContent(reason) => Self::new(Kind::Validation, reason.clone()),
            storage::Error::Io { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Self::new(Kind::NoSpace, chain(&error))
            }
            storage::Error::Busy(_) => Self::new(Kind::Conflict, error.to_string()),
            storage::Error::Silent { .. } | storage::Error::Unfit(_) => {
                Self::new(Kind::Unavailable, error.to_string())
            }
            storage::Error::Missing(_) | storage::Error::Io { .. } => Self::internal(&error),
        }
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let text = error.to_string();
        match error {
            UploadError::Write(e) => e.into(),
            UploadError::Storage(e) => e.into(),
            UploadError::Broken(_) => Self::new(Kind::Malformed, text),
            UploadError::Busy => Self::busy(text),
            UploadError::Elsewhere => Self::new(Kind::Unavailable, text),
        }
    }
}

impl From<ForeignError> for Failure {
    fn from(error: ForeignError) -> Self {
        let text = error.to_string();
        match error {
            ForeignError::Write(e) => e.into(),
            ForeignError::Storage(e) => e.into(),
            ForeignError::Field { field, reason } => {
                Problem::validation(vec![FieldError::new(field, reason)]).into()
            }
            ForeignError::Elsewhere => Self::new(Kind::Unavailable, text),
            ForeignError::NotForeign(_) | ForeignError::Needed { .. } => Self::new(Kind::Conflict, text),
        }
    }
}

impl From<compute::Error> for Failure {
    fn from(error: compute::Error) -> Self {
        match &error {
            compute::Error::Refused(reason) => Self::new(Kind::Conflict, reason.clone()),
            compute::Error::NotRunning => {
                Self::new(Kind::Conflict, "the machine is not running: start it first")
            }
            compute::Error::NoLease | compute::Error::Busy(_) => Self::new(Kind::Conflict, error.to_string()),
            compute::Error::Io { .. } => Self::internal(&error),
        }
    }
}

/// Answers a path that does not exist.
pub(super) async fn no_such_path(uri: Uri) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no `{}`; see /api/v1/openapi.json", uri.path()))
}

/// Answers a method a path does not have.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let mut problem = Problem::new(Kind::Malformed, format!("`{}` does not take {method}", uri.path()));
    problem.kind = "/problems/method-not-allowed".into();
    problem.title = "The method is not allowed here".into();
    problem.status = 405;
    problem.into()
}
