//! Who may do what.
//!
//! Owns sessions, the check of passwords and tokens, the limits on guessing. One administrator (`admin`) with a password,
//! sessions made by logging in, API tokens that may be read-only, and root on the host itself by its Unix socket.
//!
//! Invariants: a secret is stored only as a hash and compared in constant time; sessions live in memory and end when unused
//! for [`SESSION_IDLE`], when the password changes or when the daemon restarts; password hashing never runs on the async
//! threads and never more than twice at a time.

mod limit;
mod password;
mod secret;
mod setup;

pub use password::PasswordError;
pub use setup::SetupCode;

use crate::cluster::{Cluster, Op, Refusal, WriteError};
use limit::Limiter;
use lq_api::{
    Timestamp, TokenId,
    auth::{CreateToken, CreatedToken, Identity, MAX_PASSWORD, MIN_PASSWORD, Session, Token},
    problem::FieldError,
};
use password::Hasher;
use secret::Secret;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The one account.
pub const ADMIN: &str = "admin";
/// A session unused for this long ends.
pub const SESSION_IDLE: Duration = Duration::from_secs(12 * 3600);
/// Most sessions at a time; the one unused longest makes room.
const MAX_SESSIONS: usize = 1000;

/// Who asks. Hosts tell each other when they pass a request on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// For the audit: `admin`, `admin (token backup)`, `root (local)`.
    pub actor: String,
    /// How they are known.
    pub by: By,
    /// They may only read.
    pub read_only: bool,
    /// When the credential ends.
    pub expires_at: Option<Timestamp>,
}

/// How a caller is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// A session; the hash of its secret.
    Session([u8; 32]),
    /// An API token.
    Token(TokenId),
    /// Root on this host.
    Local,
}

impl Caller {
    /// Root on this host.
    #[must_use]
    pub fn local() -> Self {
        Self { actor: "root (local)".into(), by: By::Local, read_only: false, expires_at: None }
    }

    /// As the API shows it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let by = match self.by {
            By::Session(_) => "session",
            By::Token(_) => "token",
            By::Local => "local",
        };
        let username = if self.by == By::Local { "root" } else { ADMIN };
        Identity { username: username.into(), by: by.into(), expires_at: self.expires_at }
    }
}

/// Why someone is turned away.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong name or password; not said which.
    #[error("the user name or the password is wrong")]
    Wrong,
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
    /// The new password or a field is not acceptable.
    #[error("refused")]
    Invalid(Vec<FieldError>),
    /// Hashing failed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The cluster took no change.
    #[error(transparent)]
    Write(#[from] WriteError),
}

struct Live {
    used: Instant,
}

/// Checks credentials and keeps sessions.
pub struct Auth {
    cluster: Cluster,
    sessions: Mutex<HashMap<[u8; 32], Live>>,
    hasher: Hasher,
    limiter: Mutex<Limiter>,
    setup: SetupCode,
}

impl Auth {
    /// Checks against the state of `cluster`.
    #[must_use]
    pub fn new(cluster: Cluster, setup: SetupCode) -> Self {
        Self {
            cluster,
            sessions: Mutex::default(),
            hasher: Hasher::default(),
            limiter: Mutex::new(Limiter::default()),
            setup,
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<[u8; 32], Live>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions not yet ended.
    pub fn session_count(&self) -> usize {
        self.sessions().values().filter(|s| s.used.elapsed() < SESSION_IDLE).count()
    }

    /// Whether the first password is still to be set.
    #[must_use]
    pub fn setup_needed(&self) -> bool {
        self.cluster.read(|s| s.admin.is_none())
    }

    /// Sets the first password, proven by the code on the console.
    pub async fn set_up(
        &self,
        source: Option<IpAddr>,
        code: &str,
        password: &str,
    ) -> Result<Session, AuthError> {
        self.admit(source)?;
        if !self.setup_needed() {
            return Err(AuthError::SetupDone);
        }
        if !self.setup.matches(code) {
            self.limiter().failed(source, Instant::now());
            return Err(AuthError::WrongCode);
        }
        self.store_password("password", password, true).await?;
        self.setup.forget();
        self.limiter().succeeded(source);
        Ok(self.begin_session())
    }

    /// Takes the password the installer left, once: the file is removed as soon as the hash is stored, or where it was not
    /// needed.
    pub async fn take_over(&self, file: &std::path::Path) -> Result<bool, AuthError> {
        let Some(password) = setup::read_file(file) else { return Ok(false) };
        if !self.setup_needed() {
            setup::remove_file(file);
            tracing::warn!(file = %file.display(), "a password was left here although one is set; it was ignored");
            return Ok(false);
        }
        self.store_password("password", &password, true).await?;
        setup::remove_file(file);
        Ok(true)
    }

    /// Shows the set-up code on the console while it is needed.
    pub fn offer_setup(&self) -> std::io::Result<()> {
        if self.setup_needed() {
            return self.setup.offer();
        }
        self.setup.forget();
        Ok(())
    }

    /// Logs in.
    pub async fn login(
        &self,
        source: Option<IpAddr>,
        user: &str,
        password: &str,
    ) -> Result<Session, AuthError> {
        self.admit(source)?;
        let Some(hash) = self.cluster.read(|s| s.admin.as_ref().map(|a| a.hash.clone())) else {
            return Err(AuthError::SetupNeeded);
        };
        // The hash is computed for a wrong name too, so that both take the same time.
        let right = password.len() <= MAX_PASSWORD && self.hasher.verify(password, hash).await?;
        if !right || user != ADMIN {
            self.limiter().failed(source, Instant::now());
            return Err(AuthError::Wrong);
        }
        self.limiter().succeeded(source);
        Ok(self.begin_session())
    }

    /// Changes the password. All other sessions end.
    pub async fn change_password(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        old: &str,
        new: &str,
    ) -> Result<(), AuthError> {
        self.admit(source)?;
        let Some(hash) = self.cluster.read(|s| s.admin.as_ref().map(|a| a.hash.clone())) else {
            return Err(AuthError::SetupNeeded);
        };
        // Root on the host may have forgotten it.
        if caller.by != By::Local && !(old.len() <= MAX_PASSWORD && self.hasher.verify(old, hash).await?) {
            self.limiter().failed(source, Instant::now());
            return Err(AuthError::Invalid(vec![FieldError::new("old", "is not the present password")]));
        }
        self.store_password("new", new, false).await?;
        self.sessions().retain(|hash, _| caller.by == By::Session(*hash));
        Ok(())
    }

    async fn store_password(&self, field: &str, password: &str, only_first: bool) -> Result<(), AuthError> {
        if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
            let reason = format!("must have {MIN_PASSWORD} to {MAX_PASSWORD} characters");
            return Err(AuthError::Invalid(vec![FieldError::new(field, reason)]));
        }
        let hash = self.hasher.hash(password).await?;
        match self.cluster.write(Op::SetPassword { hash, only_first }).await {
            Ok(_) => Ok(()),
            Err(WriteError::Refused(Refusal::Conflict(_))) => Err(AuthError::SetupDone),
            Err(e) => Err(e.into()),
        }
    }

    fn admit(&self, source: Option<IpAddr>) -> Result<(), AuthError> {
        self.limiter().admit(source, Instant::now()).map_err(AuthError::Limited)
    }

    fn begin_session(&self) -> Session {
        let secret = Secret::new(secret::Kind::Session);
        let mut sessions = self.sessions();
        sessions.retain(|_, s| s.used.elapsed() < SESSION_IDLE);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used).map(|(h, _)| *h)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(secret.hash(), Live { used: Instant::now() });
        Session { token: secret.into_text(), username: ADMIN.into(), expires_at: in_future(SESSION_IDLE) }
    }

    /// Ends the caller's session.
    pub fn end_session(&self, caller: &Caller) {
        if let By::Session(hash) = caller.by {
            self.sessions().remove(&hash);
        }
    }

    /// Who holds this credential.
    pub fn check(&self, credential: &str) -> Option<Caller> {
        let hash = secret::hash(credential);
        match secret::kind(credential)? {
            secret::Kind::Session => {
                // Looked up by hash: what can be timed says nothing about the secret.
                let mut sessions = self.sessions();
                let session = sessions.get_mut(&hash)?;
                if session.used.elapsed() >= SESSION_IDLE {
                    sessions.remove(&hash);
                    return None;
                }
                session.used = Instant::now();
                Some(Caller {
                    actor: ADMIN.into(),
                    by: By::Session(hash),
                    read_only: false,
                    expires_at: Some(in_future(SESSION_IDLE)),
                })
            }
            secret::Kind::Token => {
                let text = hex::encode(hash);
                let token = self.cluster.read(|s| {
                    let found = s.tokens.values().find(|t| secret::same(t.hash.as_bytes(), text.as_bytes()));
                    found.map(|t| t.token.clone())
                })?;
                if token.expires_at.is_some_and(|end| end <= Timestamp::now()) {
                    return None;
                }
                Some(Caller {
                    actor: format!("{ADMIN} (token {})", token.name),
                    by: By::Token(token.id),
                    read_only: token.read_only,
                    expires_at: token.expires_at,
                })
            }
        }
    }

    /// Makes an API token.
    pub async fn create_token(&self, new: CreateToken) -> Result<CreatedToken, AuthError> {
        if new.days.is_some_and(|d| !(1..=3650).contains(&d)) {
            return Err(AuthError::Invalid(vec![FieldError::new("days", "is not between 1 and 3650")]));
        }
        let secret = Secret::new(secret::Kind::Token);
        let token = Token {
            id: TokenId::new(),
            name: new.name,
            created_at: Timestamp::now(),
            expires_at: new.days.map(|d| in_future(Duration::from_secs(u64::from(d) * 86_400))),
            read_only: new.read_only,
        };
        let hash = hex::encode(secret.hash());
        self.cluster.write(Op::CreateToken { token: token.clone(), hash }).await?;
        Ok(CreatedToken { token, secret: secret.into_text() })
    }
}

fn in_future(after: Duration) -> Timestamp {
    let after = jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX);
    Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX)
}
