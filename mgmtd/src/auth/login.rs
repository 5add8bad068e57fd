//! The first password, logging in, going on, logging out.

use super::{Auth, AuthError, By, Caller, clock, jwt, local, secret, setup, totp};
use crate::cluster::{
    Op, Refusal, Reply, WriteError,
    state::{SessionRecord, UserRecord, access::Factor},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use lq_api::{
    SessionId, Timestamp, UserId,
    auth::{ACCESS_SECONDS, FIRST_USER, Login, MAX_PASSWORD, Session},
};
use std::{net::IpAddr, time::Duration};
use uuid::Uuid;

/// How long an access token counts.
pub const ACCESS_FOR: Duration = Duration::from_secs(ACCESS_SECONDS as u64);
/// A session that is not refreshed for this long ends.
pub const SESSION_IDLE: Duration = Duration::from_secs(12 * 3600);
/// A session ends this long after its login, however it is used.
pub const SESSION_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The signing key is replaced when it is older.
const KEY_AGE: Duration = Duration::from_secs(60 * 24 * 3600);
/// Longest a login waits for the cluster, an election included, before its session is one of this host alone.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(6);
/// Account the set-up code's limits are kept for: no user can have this name.
const SETUP: &str = " set-up";

impl Auth {
    /// Sessions not yet ended.
    #[must_use]
    pub fn session_count(&self) -> usize {
        let now = self.clock.now();
        self.cluster.read(|s| s.sessions.values().filter(|s| s.expires_at > now).count())
    }

    /// Whether the first password is still to be set.
    #[must_use]
    pub fn setup_needed(&self) -> bool {
        self.cluster.read(|s| !s.has_administrator())
    }

    /// Makes the key that sessions are signed with, where there is none or it is old.
    pub async fn prepare(&self) -> Result<(), AuthError> {
        let current = self.cluster.read(|s| s.signing.current.as_ref().map(|k| (k.id, k.since)));
        let old = |since: Timestamp| self.clock.now().duration_since(since).unsigned_abs() > KEY_AGE;
        if current.is_some_and(|(_, since)| !old(since)) {
            return Ok(());
        }
        let mut key = [0u8; 32];
        secret::fill(&mut key);
        let op = Op::SetSigningKey {
            id: Uuid::new_v4(),
            secret: STANDARD.encode(key),
            replaces: current.map(|(id, _)| id),
        };
        self.cluster.write(op).await?;
        Ok(())
    }

    /// Sets the first password, proven by the code on the console.
    pub async fn set_up(
        &self,
        source: Option<IpAddr>,
        from: String,
        code: &str,
        password: &str,
    ) -> Result<Session, AuthError> {
        if !self.setup_needed() {
            return Err(AuthError::SetupDone);
        }
        let attempt = self.attempt(source, SETUP).await?;
        if !self.setup.matches(code) {
            return Err(AuthError::WrongCode);
        }
        attempt.succeeded();
        self.first_password(password).await?;
        self.setup.forget();
        self.begin_session(FIRST_USER, from, None).await
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
        self.first_password(&password).await?;
        setup::remove_file(file);
        Ok(true)
    }

    async fn first_password(&self, password: &str) -> Result<(), AuthError> {
        let hash = self.hash_new("password", password).await?;
        let op = Op::SetPassword { hash, only_first: true, user: FIRST_USER, must_change: false, keep: None };
        match self.cluster.write(op).await {
            Ok(_) => Ok(()),
            Err(WriteError::Refused(Refusal::Conflict(_))) => Err(AuthError::SetupDone),
            Err(e) => Err(e.into()),
        }
    }

    /// Shows the set-up code on the console while it is needed.
    pub fn offer_setup(&self) -> std::io::Result<()> {
        if self.setup_needed() {
            return self.setup.offer();
        }
        self.setup.forget();
        Ok(())
    }

    /// Takes the set-up code from the console, where others decide whether it is needed.
    pub fn withdraw_setup(&self) {
        self.setup.forget();
    }

    /// Logs in.
    pub async fn login(
        &self,
        source: Option<IpAddr>,
        from: String,
        login: &Login,
    ) -> Result<Session, AuthError> {
        let name = login.username.as_str();
        if self.setup_needed() {
            return Err(AuthError::SetupNeeded);
        }
        if let Some((provider, name)) = self.directory_of(login)? {
            return self.log_in_by(source, from, &provider, &name, &login.password).await;
        }
        let attempt = self.attempt(source, name).await?;
        let record = self.cluster.read(|s| s.user_named(name).cloned());
        let record = record.filter(|r| !r.user.spec.disabled);
        if !self.password_fits(record.as_deref(), &login.password).await? {
            return Err(AuthError::Wrong);
        }
        let Some(record) = record else { return Err(AuthError::Wrong) };
        let factor = match (&record.totp.secret, &login.code) {
            (None, _) => None,
            (Some(_), None) => {
                attempt.excused();
                return Err(AuthError::CodeNeeded);
            }
            (Some(secret), Some(code)) => match factor(&record, secret, code, self.clock.now()) {
                Some(factor) => Some(factor),
                None => return Err(AuthError::WrongOneTimeCode),
            },
        };
        match self.begin_session(record.user.meta.id, from, factor).await {
            // The code was used a moment ago, or the user was disabled.
            Err(
                AuthError::WrongOneTimeCode | AuthError::Write(WriteError::Refused(Refusal::Conflict(_))),
            ) => Err(AuthError::WrongOneTimeCode),
            Ok(session) => {
                attempt.logged_in();
                Ok(session)
            }
            other => {
                attempt.excused();
                other
            }
        }
    }

    /// How long a session of this user may last in all.
    fn longest(&self, user: UserId) -> Duration {
        self.cluster.read(|s| {
            let provider = s.users.get(&user).and_then(|r| r.external.as_ref()?.provider);
            provider
                .and_then(|id| s.providers.get(&id))
                .map_or(SESSION_LONGEST, |p| Duration::from_secs(u64::from(p.spec.session_hours) * 3600))
        })
    }

    /// Whether the password is the user's. Takes as long where there is no such user.
    pub(super) async fn password_fits(
        &self,
        record: Option<&UserRecord>,
        password: &str,
    ) -> Result<bool, AuthError> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        match record.and_then(|r| r.password.as_ref()) {
            Some(stored) => Ok(self.hasher.verify(password, stored.hash.clone()).await?),
            None => {
                self.hasher.hash(password).await?;
                Ok(false)
            }
        }
    }

    pub(super) async fn begin_session(
        &self,
        user: UserId,
        from: String,
        factor: Option<Factor>,
    ) -> Result<Session, AuthError> {
        let now = self.clock.now();
        let mut session = SessionRecord {
            id: SessionId::new(),
            user,
            created_at: now,
            refreshed_at: now,
            expires_at: self.clock.after(SESSION_IDLE.min(self.longest(user))),
            from,
            generation: 0,
        };
        let write = async {
            self.prepare().await?;
            let op = Op::BeginSession { session: session.clone(), factor: factor.clone() };
            self.cluster.write(op).await.map_err(AuthError::from)
        };
        match tokio::time::timeout(WRITE_PATIENCE, write).await {
            Ok(Ok(_)) => self.tokens_of(&session, Some(0), ACCESS_FOR),
            Ok(Err(AuthError::Write(WriteError::Refused(refusal)))) => Err(refusal.into()),
            Ok(Err(AuthError::Write(_))) | Err(_) => {
                tracing::warn!("the cluster takes no changes: this session counts on this host alone");
                session.expires_at = self.clock.after(local::LASTS);
                if !self.cluster.read(|s| self.local.begin(s, &session, factor.as_ref(), now)) {
                    return Err(AuthError::WrongOneTimeCode);
                }
                self.tokens_of(&session, None, local::LASTS)
            }
            Ok(Err(e)) => Err(e),
        }
    }

    /// The tokens of a session; with the next refresh token where it is in this generation.
    fn tokens_of(
        &self,
        session: &SessionRecord,
        refresh: Option<u64>,
        access: Duration,
    ) -> Result<Session, AuthError> {
        let end = self.clock.after(access).min(session.expires_at);
        let claims = |purpose, generation, end: Timestamp| jwt::Claims {
            sub: session.user,
            sid: session.id,
            purpose,
            generation,
            iat: self.clock.now().as_second(),
            exp: end.as_second(),
        };
        self.cluster.read(|s| {
            let record = s.users.get(&session.user).ok_or(AuthError::Ended)?;
            let sign = |claims| jwt::sign(&s.signing, &claims).ok_or(AuthError::NoKey);
            let refresh_token =
                refresh.map(|g| sign(claims(jwt::Use::Refresh, g, session.expires_at))).transpose()?;
            Ok(Session {
                token: sign(claims(jwt::Use::Access, session.generation, end))?,
                username: record.user.meta.name.clone(),
                expires_at: end,
                refresh_expires_at: refresh_token.as_ref().map(|_| session.expires_at),
                refresh_token,
                must_change_password: record.user.status.must_change_password,
            })
        })
    }

    /// Goes on with a session. Answers with whose it was, for the audit, also where it is refused.
    pub async fn refresh(&self, token: &str) -> (Option<String>, Result<Session, AuthError>) {
        let now = self.clock.now();
        let found = self.cluster.read(|s| {
            let claims = jwt::verify(&s.signing, token, jwt::Use::Refresh, now)?;
            let user = s.users.get(&claims.sub).filter(|r| !r.user.spec.disabled)?;
            let session = s.sessions.get(&claims.sid).filter(|s| s.user == claims.sub)?;
            Some((claims, session.clone(), user.user.meta.name.clone()))
        });
        let Some((claims, session, name)) = found else { return (None, Err(AuthError::Ended)) };
        let last = clock::later(session.created_at, self.longest(session.user));
        let expires_at = self.clock.after(SESSION_IDLE).min(last);
        let op = Op::RefreshSession { id: session.id, generation: claims.generation, expires_at };
        let done = match self.cluster.write(op).await {
            Ok(Reply::Refreshed { generation: Some(generation) }) => {
                let session = SessionRecord { expires_at, generation, ..(*session).clone() };
                self.tokens_of(&session, Some(generation), ACCESS_FOR)
            }
            Ok(Reply::Refreshed { generation: None }) => self.tokens_of(&session, None, ACCESS_FOR),
            Ok(_) => Err(AuthError::Reused),
            Err(WriteError::Refused(_)) => Err(AuthError::Ended),
            Err(e) => Err(e.into()),
        };
        (Some(name), done)
    }

    /// Ends the caller's session.
    pub async fn end_session(&self, caller: &Caller) -> Result<(), AuthError> {
        if let By::Session(id) = caller.by
            && !self.local.end(id)
        {
            match self.cluster.write(Op::EndSession { id }).await {
                // It has ended meanwhile.
                Err(WriteError::Refused(_)) | Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// The second factor a code stands for: a one-time code, else a recovery code.
fn factor(record: &UserRecord, secret: &str, code: &str, now: Timestamp) -> Option<Factor> {
    let secret = hex::decode(secret).ok()?;
    if let Some(step) = totp::step_of(&secret, code, now) {
        return Some(Factor::Step(step));
    }
    let hash = secret::hash(&secret::plain(code));
    record.totp.recovery.contains(&hash).then_some(Factor::Recovery(hash))
}
