//! Logging in: sessions, passwords, one-time codes, API tokens.
//!
//! ```text
//!  POST /session ──▶ access token (minutes, a JWT) + refresh token (one use)
//!  POST /session/refresh ──▶ the next pair; an old refresh token presented again ends the session
//! ```
//! Browsers get both as cookies that no script can read.

use crate::{
    SessionId, Timestamp, TokenId, UserId,
    access::{Grant, Permission, Scope},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Seconds an access token counts. Clients refresh it well before.
pub const ACCESS_SECONDS: u32 = 600;
/// Shortest password, in characters.
pub const MIN_PASSWORD: usize = 8;
/// Longest password, in bytes: hashing has a price.
pub const MAX_PASSWORD: usize = 256;

/// `POST /session`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the user, e.g. `admin`.
    pub username: String,
    /// Their password.
    pub password: String,
    /// The one-time code, or a recovery code, where the user has them. Without it the answer is a problem of the type
    /// `/problems/second-factor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The realm the user is of: `local` or the name of a directory. Where absent it is what follows the last `@` of the name, if
    /// there is such a directory, else `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

/// `POST /session/oidc/start`: to log in at the page of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OidcStart {
    /// The provider.
    pub realm: String,
}

/// Where the browser is to go. It comes back to `/oidc` with a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OidcRedirect {
    /// The provider's page.
    pub url: String,
}

/// `POST /session/oidc`: what the browser came back with.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OidcFinish {
    /// The code.
    pub code: String,
    /// What the login was begun with.
    pub state: String,
    /// Who it is of, where the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

/// A session. The token is sent as `Authorization: Bearer …` or, by browsers, as the cookie `lq_session`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// The access token.
    pub token: String,
    /// Who.
    pub username: String,
    /// When the access token ends.
    pub expires_at: Timestamp,
    /// Gets the next access token by `POST /session/refresh`, once. Absent in the answer to a refresh token that was used
    /// a moment ago by another request of the same client: the answer to that one has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the session ends if it is not refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_expires_at: Option<Timestamp>,
    /// Nothing is allowed before `POST /session/password`.
    #[serde(default)]
    pub must_change_password: bool,
}

/// `POST /session/refresh`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The refresh token; the cookie `lq_refresh` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

/// `GET /session`: who am I, and what may I do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// Who.
    pub username: String,
    /// `session`, `token` or `local`.
    pub by: String,
    /// When the credential ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The user; absent for root on the host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The session, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// What the caller may do, and where: own grants, those of groups, and the limits of a token taken together.
    #[serde(default)]
    pub rights: Vec<Right>,
    /// Nothing is allowed before `POST /session/password`.
    #[serde(default)]
    pub must_change_password: bool,
    /// The user logs in with a one-time code too.
    #[serde(default)]
    pub totp: bool,
    /// The password is kept here and can be changed here.
    #[serde(default)]
    pub has_password: bool,
    /// The realm they are of, where it is not the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Where one logs out at the identity provider too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout_url: Option<String>,
}

/// Permissions on a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Right {
    /// Where they hold.
    pub scope: Scope,
    /// What is allowed there.
    pub permissions: BTreeSet<Permission>,
}

/// A session as its owner and administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// Identity.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// When they logged in.
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When it ends if it is not refreshed.
    pub expires_at: Timestamp,
    /// Address they logged in from.
    pub from: String,
    /// It is the caller's own present one.
    pub current: bool,
}

/// `GET /setup`: whether the first password is still to be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Setup {
    /// There is no administrator yet: `POST /setup` makes the user `admin`.
    pub needed: bool,
}

/// `POST /setup`: makes the user `admin` with this password. Refused for ever once one was made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The set-up code shown on the host's console: proof that the caller can see the machine.
    pub code: String,
    /// 8 characters to 256 bytes.
    pub password: String,
}

/// `POST /session/password`: one's own. All other sessions end.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    pub old: String,
    /// 8 characters to 256 bytes; not the present one.
    pub new: String,
}

/// `POST /session/totp`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolTotp {
    /// The present password.
    pub password: String,
}

/// Answer to `POST /session/totp`: a secret for an authenticator. It counts once a code made with it was confirmed.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TotpEnrolment {
    /// The secret, base 32, to be typed.
    pub secret: String,
    /// The same as `otpauth://totp/…`, to be shown as a QR code.
    pub url: String,
}

/// `POST /session/totp/confirm`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmTotp {
    /// The code the authenticator shows now.
    pub code: String,
}

/// Codes for the day the authenticator is lost; each works once. Shown this once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoveryCodes {
    /// The codes.
    pub codes: Vec<String>,
}

/// `POST /session/totp/remove`: log in without a one-time code from now on.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RemoveTotp {
    /// The present password.
    pub password: String,
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
    /// User it acts for: it may never do more than they may.
    #[serde(default = "first_user")]
    pub owner: UserId,
    /// It may do no more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Grant>,
    /// What its owner might do when someone else made it for them: it may do no more than this either, whatever its owner is
    /// granted later. Absent where its owner made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Vec<Right>>,
}

/// The user `admin` that set-up makes.
pub const FIRST_USER: UserId = UserId(uuid::Uuid::from_u128(0x7000_8000_0000_0000_0001));

fn first_user() -> UserId {
    FIRST_USER
}

/// `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for; unique among the tokens of its owner.
    pub name: String,
    /// Days it lasts, 1 to 3650; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// It may only read.
    #[serde(default)]
    pub read_only: bool,
    /// It may do no more than this role on this scope, of what its owner may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Grant>,
    /// User it acts for; the caller where absent. For someone else it takes `user.write` and all they may do; it then never
    /// does more than they may at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
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
