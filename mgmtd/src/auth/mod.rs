//! Who asks, and what they may do.
//!
//! Owns the check of passwords, one-time codes, sessions and API tokens, the limits on guessing, the audit log. Users, roles
//! and sessions themselves are in the cluster's state ([`crate::cluster::state::access`]), so every host knows them and a
//! restart of the daemon ends nothing.
//!
//! ```text
//!  password (+ code) ──▶ session in the state ──▶ access token (10 min) ─▶ Caller { rights }
//!                            ▲     │ removed = revoked          ▲
//!                            └ refresh token, one use ──────────┘
//! ```
//! Invariants: what can be presented again (passwords, recovery codes, API tokens) is stored only as a hash; a token of a session
//! counts only as long as the session is in the state (or, while the state takes no changes, in [`local`]) and its user is enabled; a caller's rights are read from the state at
//! each request; password hashing never runs on the async threads and never more than twice at a time.

mod account;
mod audit;
mod budget;
mod clock;
mod directory;
mod jwt;
mod ldap;
mod limit;
mod local;
mod login;
mod oidc;
mod password;
mod seal;
mod secret;
mod setup;
mod tokens;
mod totp;

pub use audit::{Audit, AuditError};
pub use clock::Clock;
pub use directory::{check_provider, follow as follow_directories};
pub(crate) use limit::network;
pub use login::{ACCESS_FOR, SESSION_IDLE, SESSION_LONGEST};
pub use oidc::LOGIN_TAKES;
pub use password::PasswordError;
pub use setup::SetupCode;

use crate::cluster::{
    Cluster, Refusal, State, WriteError,
    state::{Object, Rights, SessionRecord},
};
use limit::{Limiter, Outcome, Wait};
use local::LocalSessions;
use lq_api::{
    SessionId, Timestamp, TokenId, UserId, access::Permission, auth::Identity, problem::FieldError,
};
use password::Hasher;
use serde::{Deserialize, Serialize};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Who asks. Hosts tell each other when they pass a request on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// For the audit: `admin`, `admin (token backup)`, `root (local)`.
    pub actor: String,
    /// How they are known.
    pub by: By,
    /// The user; none for root on this host.
    pub user: Option<UserId>,
    /// The user's name.
    pub username: String,
    /// What they may do.
    pub rights: Arc<Rights>,
    /// When the credential ends.
    pub expires_at: Option<Timestamp>,
    /// They may do nothing before setting a new password.
    pub must_change_password: bool,
}

/// How a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// A session.
    Session(SessionId),
    /// An API token.
    Token(TokenId),
    /// Root on this host.
    Local,
}

impl Caller {
    /// Root on this host.
    #[must_use]
    pub fn local() -> Self {
        Self {
            actor: "root (local)".into(),
            by: By::Local,
            user: None,
            username: "root".into(),
            rights: Arc::new(Rights::all()),
            expires_at: None,
            must_change_password: false,
        }
    }

    /// Whether the caller may do this to the object.
    #[must_use]
    pub fn may(&self, permission: Permission, object: Object<'_>) -> bool {
        self.rights.may(permission, object)
    }

    /// Whether the caller may do this to the cluster as a whole.
    #[must_use]
    pub fn may_all(&self, permission: Permission) -> bool {
        self.rights.may(permission, Object::Cluster)
    }

    /// Whether there is nothing the caller may not do.
    #[must_use]
    pub fn may_everything(&self) -> bool {
        Permission::ALL.iter().all(|p| self.may_all(*p))
    }

    /// As the API shows it.
    #[must_use]
    pub fn identity(&self, state: &State) -> Identity {
        let (by, session) = match self.by {
            By::Session(id) => ("session", Some(id)),
            By::Token(_) => ("token", None),
            By::Local => ("local", None),
        };
        let record = self.user.and_then(|id| state.users.get(&id));
        Identity {
            username: self.username.clone(),
            by: by.into(),
            expires_at: self.expires_at,
            user: self.user,
            session,
            rights: self.rights.shown(),
            must_change_password: self.must_change_password,
            totp: record.is_some_and(|r| r.totp.secret.is_some()),
            has_password: record.is_some_and(|r| r.password.is_some()),
            realm: record.and_then(|r| {
                let provider = r.external.as_ref()?.provider?;
                Some(state.providers.get(&provider)?.meta.name.clone())
            }),
            logout_url: None,
        }
    }
}

/// Why someone is turned away.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong name or password; not said which.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// The password is right; a code is needed too.
    #[error("the password is right: send the one-time code too")]
    CodeNeeded,
    /// The one-time code is wrong.
    #[error("the one-time code is wrong or was used already: wait for the next one")]
    WrongOneTimeCode,
    /// A session is not there any more.
    #[error("the session has ended: log in again")]
    Ended,
    /// A used up refresh token was presented.
    #[error("this refresh token was used before: the session was ended, because someone may have stolen it")]
    Reused,
    /// The set-up code is wrong.
    #[error("the set-up code is wrong: it is shown on the host's console")]
    WrongCode,
    /// Too many attempts.
    #[error("too many failed attempts: try again in {} seconds", .0.as_secs().max(1))]
    Limited(Duration),
    /// No password is set yet.
    #[error("no password is set yet: set one with the code shown on the host's console")]
    SetupNeeded,
    /// A password is set already.
    #[error("a password is set already: log in with it")]
    SetupDone,
    /// The caller is no user, or one whose password is elsewhere.
    #[error("{0}")]
    NotHere(&'static str),
    /// The new password or a field is not acceptable.
    #[error("refused")]
    Invalid(Vec<FieldError>),
    /// There is no key for sessions.
    #[error("the cluster has no key for sessions: restart the daemon")]
    NoKey,
    /// The identity provider could not be asked.
    #[error(
        "the identity provider `{0}` cannot be asked right now: try again, or log in as a user of the cluster itself"
    )]
    NotAsked(String),
    /// Its answer is not believed.
    #[error("the login at `{0}` failed: {1}")]
    NotBelieved(String, String),
    /// It vouched with a key that is not known yet, and was asked for its keys a moment ago.
    #[error("the keys `{0}` signs with have changed: try again in {secs} seconds", secs = .1.as_secs().max(1))]
    KeysChanged(String, Duration),
    /// A login at a provider that this browser did not begin, or too long ago.
    #[error("this login was not begun in this browser, or took too long: log in again")]
    NotBegun,
    /// It vouches for someone who may do nothing here.
    #[error(
        "`{0}` knows you, but nothing is granted to you here: ask an administrator to map one of your groups there"
    )]
    NotGranted(String),
    /// Hashing failed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The cluster took no change.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Refusal> for AuthError {
    fn from(refusal: Refusal) -> Self {
        Self::Write(refusal.into())
    }
}

/// A booked attempt. What is not said to be anything else has failed.
struct Attempt<'a> {
    auth: &'a Auth,
    source: Option<IpAddr>,
    account: &'a str,
    outcome: Outcome,
}

impl Attempt<'_> {
    /// It was right.
    fn succeeded(mut self) {
        self.outcome = Outcome::Succeeded;
    }
    /// It was no guess.
    fn excused(mut self) {
        self.outcome = Outcome::Excused;
    }
    /// It was a login.
    fn logged_in(self) {
        self.auth.limiter().know(self.source, self.account, Instant::now());
        self.succeeded();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.auth.limiter().end(self.source, self.account, self.outcome, Instant::now());
    }
}

/// How many logins ask directories at a time.
const ASKING: usize = 16;
/// How often a long answer looks whether its credential still counts.
const LOOK: Duration = Duration::from_secs(1);
/// Longest an attempt waits for others of its source.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks credentials.
pub struct Auth {
    cluster: Cluster,
    clock: Clock,
    hasher: Hasher,
    limiter: Mutex<Limiter>,
    setup: SetupCode,
    local: LocalSessions,
    /// How many ask directories at a time.
    asking: Semaphore,
    providers: oidc::Providers,
}

impl Auth {
    /// Whether a session is of this host alone, begun while the cluster took no changes.
    #[must_use]
    pub fn is_local(&self, id: SessionId) -> bool {
        self.cluster.read(|s| self.local.get(s, id)).is_some()
    }

    /// Checks against the state of `cluster`, by this clock.
    #[must_use]
    pub fn new(cluster: Cluster, setup: SetupCode, clock: Clock) -> Self {
        Self {
            cluster,
            clock,
            hasher: Hasher::default(),
            limiter: Mutex::default(),
            setup,
            local: LocalSessions::default(),
            asking: Semaphore::new(ASKING),
            providers: oidc::Providers::default(),
        }
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books an attempt, as soon as no more than may fail are under way.
    async fn attempt<'a>(
        &'a self,
        source: Option<IpAddr>,
        account: &'a str,
    ) -> Result<Attempt<'a>, AuthError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            // Not in the match: the lock must not be held while this waits.
            let begun = self.limiter().begin(source, account, now);
            match begun {
                Ok(()) => return Ok(Attempt { auth: self, source, account, outcome: Outcome::Failed }),
                Err(Wait::For(time)) => return Err(AuthError::Limited(time)),
                Err(Wait::ForOthers) if now >= end => return Err(AuthError::Limited(PATIENCE)),
                Err(Wait::ForOthers) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Who holds this credential.
    #[must_use]
    pub fn check(&self, credential: &str) -> Option<Caller> {
        let now = self.clock.now();
        if secret::is_token(credential) {
            // Looked up by hash: what can be timed says nothing about the secret.
            let hash = secret::hash(credential);
            return self.cluster.read(|s| {
                let token = s.tokens.values().find(|t| secret::same(t.hash.as_bytes(), hash.as_bytes()))?;
                by_token(s, token.token.id, now)
            });
        }
        self.cluster.read(|s| {
            let claims = jwt::verify(&s.signing, credential, jwt::Use::Access, now)?;
            let caller = self.by_session(s, claims.sid, now).filter(|c| c.user == Some(claims.sub))?;
            Some(Caller { expires_at: Timestamp::from_second(claims.exp).ok(), ..caller })
        })
    }

    /// The caller of a long answer as they are now; `None` when their credential counts no more.
    #[must_use]
    pub fn renew(&self, caller: &Caller) -> Option<Caller> {
        let now = self.clock.now();
        match caller.by {
            By::Local => Some(caller.clone()),
            By::Session(id) => self.cluster.read(|s| self.by_session(s, id, now)),
            By::Token(id) => self.cluster.read(|s| by_token(s, id, now)),
        }
    }

    /// Returns when the credential of a long answer counts no more, a moment later at most: whatever waits for something to tell
    /// waits for this beside it, or it would go on for as long as nothing happens.
    pub async fn over(&self, caller: &Caller) {
        while self.renew(caller).is_some() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What time it is for credentials.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn by_session(&self, state: &State, id: SessionId, now: Timestamp) -> Option<Caller> {
        let here;
        let session: &SessionRecord = if let Some(session) = state.sessions.get(&id) {
            session
        } else {
            here = self.local.get(state, id)?;
            &here
        };
        if session.expires_at <= now {
            return None;
        }
        let record = state.users.get(&session.user).filter(|r| !r.user.spec.disabled)?;
        let username = record.user.meta.name.clone();
        Some(Caller {
            actor: username.clone(),
            by: By::Session(id),
            user: Some(session.user),
            username,
            rights: Arc::new(state.rights_of(session.user)),
            expires_at: Some(session.expires_at),
            must_change_password: record.user.status.must_change_password,
        })
    }
}

fn by_token(state: &State, id: TokenId, now: Timestamp) -> Option<Caller> {
    let token = &state.tokens.get(&id)?.token;
    if token.expires_at.is_some_and(|end| end <= now) {
        return None;
    }
    let record = state.users.get(&token.owner).filter(|r| !r.user.spec.disabled)?;
    let username = record.user.meta.name.clone();
    let rights = match &token.limit {
        None => state.rights_of(token.owner).limited(None, token.read_only),
        // A limit whose role is gone leaves nothing.
        Some(limit) => state.right(limit).map_or_else(Rights::none, |limit| {
            state.rights_of(token.owner).limited(Some(limit), token.read_only)
        }),
    };
    Some(Caller {
        actor: format!("{username} (token {})", token.name),
        by: By::Token(id),
        user: Some(token.owner),
        username,
        rights: Arc::new(rights.pinned(token.pinned.clone())),
        expires_at: token.expires_at,
        must_change_password: false,
    })
}
