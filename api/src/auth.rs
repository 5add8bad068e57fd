//! Logging in.

use crate::{Timestamp, TokenId};
use serde::{Deserialize, Serialize};

/// Shortest admin password, in characters.
pub const MIN_PASSWORD: usize = 8;
/// Longest admin password, in bytes: hashing has a price.
pub const MAX_PASSWORD: usize = 256;

/// `POST /session`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `admin`.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// A session. The token is sent as `Authorization: Bearer …` or, by browsers, as the cookie `lq_session`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// The secret; shown once.
    pub token: String,
    /// Who.
    pub username: String,
    /// When it ends if unused.
    pub expires_at: Timestamp,
}

/// `GET /session`: who am I.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// Who.
    pub username: String,
    /// By session or by token.
    pub by: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// `GET /setup`: whether the first password is still to be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Setup {
    /// No admin password is set yet: `POST /setup` sets it.
    pub needed: bool,
}

/// `POST /setup`: sets the first admin password. Refused for ever once one is set.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The set-up code shown on the host's console: proof that the caller can see the machine.
    pub code: String,
    /// 8 to 256 characters.
    pub password: String,
}

/// `POST /session/password`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    pub old: String,
    /// 8 to 256 characters.
    pub new: String,
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Identity.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// It may only read.
    pub read_only: bool,
}

/// `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for; unique.
    pub name: String,
    /// Days it lasts, 1 to 3650; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// It may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// A new token with its secret, shown once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// Its secret, sent as `Authorization: Bearer …`.
    pub secret: String,
}
