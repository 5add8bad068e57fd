//! The error document of the API: `application/problem+json`, RFC 9457.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request failed: what was wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable name of the kind of problem, e.g. `/problems/validation`; clients may rely on it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text, the same for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time and what to do.
    pub detail: String,
    /// The fields at fault, all of them at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Id of the request, to be found in the daemon's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One field of the request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Path of the field, e.g. `spec.disks[1].volume`.
    pub field: String,
    /// Why it was refused and what is allowed.
    pub reason: String,
}

impl FieldError {
    /// `field` was refused because of `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.status, self.detail)?;
        // A single fault is the detail already.
        for error in self.errors.iter().filter(|e| e.to_string() != self.detail) {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The kinds of problem and their fixed parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body or a parameter is not of the right form (400).
    Malformed,
    /// No or a wrong credential (401).
    Unauthenticated,
    /// The password is right, and a one-time code is needed too (401).
    SecondFactor,
    /// The caller may not do this (403).
    Forbidden,
    /// The caller may do nothing before setting a new password (403).
    PasswordChange,
    /// The object does not exist (404).
    NotFound,
    /// The object's present state, or another object, forbids it (409).
    Conflict,
    /// `If-Match` named another revision (412).
    Stale,
    /// The body is larger than allowed (413).
    TooLarge,
    /// The request was understood and one or more fields are refused (422).
    Validation,
    /// Too many requests or attempts (429).
    RateLimited,
    /// A fault of ours (500).
    Internal,
    /// The daemon or the cluster cannot do it right now (503).
    Unavailable,
    /// No room on the storage pool (507).
    NoSpace,
}

impl Kind {
    /// Stable name, title, HTTP status.
    #[must_use]
    pub const fn parts(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Malformed => ("/problems/malformed", "The request could not be read", 400),
            Self::Unauthenticated => ("/problems/unauthenticated", "Log in first", 401),
            Self::SecondFactor => ("/problems/second-factor", "A one-time code is needed", 401),
            Self::PasswordChange => ("/problems/password-change", "Set a new password first", 403),
            Self::Forbidden => ("/problems/forbidden", "Not allowed", 403),
            Self::NotFound => ("/problems/not-found", "Not found", 404),
            Self::Conflict => ("/problems/conflict", "Not possible in the present state", 409),
            Self::Stale => ("/problems/stale", "Changed by someone else meanwhile", 412),
            Self::TooLarge => ("/problems/too-large", "The request is too large", 413),
            Self::Validation => ("/problems/validation", "The request has faults", 422),
            Self::RateLimited => ("/problems/rate-limited", "Too many requests", 429),
            Self::Internal => ("/problems/internal", "A fault in LimiQuantix", 500),
            Self::Unavailable => ("/problems/unavailable", "Not available right now", 503),
            Self::NoSpace => ("/problems/no-space", "No space left in the storage pool", 507),
        }
    }
}

impl Problem {
    /// A problem of `kind` with this explanation.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (name, title, status) = kind.parts();
        Self {
            kind: name.into(),
            title: title.into(),
            status,
            detail: detail.into(),
            errors: vec![],
            request_id: None,
        }
    }
    /// A validation problem naming every refused field.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.to_string(),
            many => format!("{} fields are refused", many.len()),
        };
        Self { errors, ..Self::new(Kind::Validation, detail) }
    }
}
