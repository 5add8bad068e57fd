//! Sessions, the keys their tokens are signed with, API tokens.
//!
//! ```text
//!  begin ──▶ generation 0 ──refresh(n = generation)──▶ generation + 1
//!                │  refresh(n = generation - 1), at most GRACE later ──▶ stays (another tab of the same client)
//!                └─ refresh(n < generation) ──▶ ended: a token was stolen, by the one or by the other
//! ```

use super::{
    super::{
        Kind, Outcome, Refusal, Reply, State, TokenRecord,
        apply::{Context, check_new},
    },
    Factor,
};
use jiff::{SignedDuration, Timestamp};
use lq_api::{SessionId, TokenId, UserId, auth::Token};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// How long after a refresh the token it used up still gets an access token: requests of one browser cross each other.
pub const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Most sessions of a user; the one refreshed longest ago makes room.
const MAX_SESSIONS: usize = 50;
/// Most tokens of a user.
const MAX_TOKENS: usize = 100;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Identity.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// When they logged in.
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When it ends if it is not refreshed.
    pub expires_at: Timestamp,
    /// Address they logged in from.
    pub from: String,
    /// How often it was refreshed.
    pub generation: u64,
}

/// Keys the tokens of sessions are signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeys {
    /// Signs.
    pub current: Option<SigningKey>,
    /// Only checks what it signed.
    pub previous: Option<SigningKey>,
}

/// A key (HMAC-SHA-256).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Identity; in the tokens it signed.
    pub id: Uuid,
    /// 32 bytes, base 64.
    pub secret: String,
    /// Since when it signs.
    pub since: Timestamp,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).field("since", &self.since).finish_non_exhaustive()
    }
}

impl State {
    /// Takes a new signing key in the place of `replaces`; whoever comes second keeps the first one's.
    pub(in super::super) fn set_signing_key(
        &mut self,
        ctx: &Context<'_>,
        id: Uuid,
        secret: &str,
        replaces: Option<Uuid>,
    ) -> Outcome {
        if self.signing.current.as_ref().map(|k| k.id) == replaces {
            self.signing.previous = self.signing.current.take();
            self.signing.current = Some(SigningKey { id, secret: secret.to_owned(), since: ctx.at });
        }
        Ok(Reply::Done)
    }

    pub(in super::super) fn begin_session(
        &mut self,
        ctx: &mut Context<'_>,
        session: &SessionRecord,
        factor: Option<&Factor>,
    ) -> Outcome {
        let user = session.user;
        let record = self.users.get_mut(&user).ok_or_else(|| Refusal::not_found("user", user))?;
        if record.user.spec.disabled {
            return Err(Refusal::Conflict("the user is disabled".into()));
        }
        if self.sessions.contains_key(&session.id) {
            return Err(Refusal::Conflict(format!("the id {} is taken", session.id)));
        }
        let mut new = (**record).clone();
        Self::take_factor(&mut new, factor)?;
        new.user.status.last_login_at = Some(ctx.at);
        *record = Arc::new(new);
        let over: Vec<_> = self.sessions.values().filter(|s| s.expires_at <= ctx.at).map(|s| s.id).collect();
        for id in over {
            self.sessions.remove(&id);
            ctx.changed(Kind::Session, id.0);
        }
        let own = || self.sessions.values().filter(|s| s.user == user);
        if own().count() >= MAX_SESSIONS
            && let Some(oldest) = own().min_by_key(|s| (s.refreshed_at, s.id)).map(|s| s.id)
        {
            self.sessions.remove(&oldest);
            ctx.changed(Kind::Session, oldest.0);
        }
        self.sessions.insert(session.id, Arc::new(session.clone()));
        ctx.changed(Kind::Session, session.id.0);
        Ok(Reply::Done)
    }

    pub(in super::super) fn refresh_session(
        &mut self,
        ctx: &mut Context<'_>,
        id: SessionId,
        generation: u64,
        expires_at: Timestamp,
    ) -> Outcome {
        let session = self.sessions.get_mut(&id).ok_or_else(|| Refusal::not_found("session", id))?;
        if session.expires_at <= ctx.at || generation > session.generation {
            return Err(Refusal::not_found("session", id));
        }
        if generation == session.generation {
            let session = Arc::make_mut(session);
            session.generation += 1;
            session.refreshed_at = ctx.at;
            session.expires_at = expires_at;
            ctx.changed(Kind::Session, id.0);
            return Ok(Reply::Refreshed { generation: Some(generation + 1) });
        }
        if generation + 1 == session.generation && ctx.at.duration_since(session.refreshed_at) <= GRACE {
            return Ok(Reply::Refreshed { generation: None });
        }
        self.sessions.remove(&id);
        ctx.changed(Kind::Session, id.0);
        Ok(Reply::Reused)
    }

    pub(in super::super) fn end_session(&mut self, ctx: &mut Context<'_>, id: SessionId) -> Outcome {
        self.sessions.remove(&id).ok_or_else(|| Refusal::not_found("session", id))?;
        ctx.changed(Kind::Session, id.0);
        Ok(Reply::Done)
    }

    /// Ends all sessions of a user, but for one.
    pub(super) fn end_sessions_of(&mut self, ctx: &mut Context<'_>, user: UserId, keep: Option<SessionId>) {
        let ended = self.sessions.values().filter(|s| s.user == user && Some(s.id) != keep);
        let ended: Vec<_> = ended.map(|s| s.id).collect();
        for id in ended {
            self.sessions.remove(&id);
            ctx.changed(Kind::Session, id.0);
        }
    }

    pub(in super::super) fn create_token(
        &mut self,
        ctx: &mut Context<'_>,
        token: &Token,
        hash: &str,
    ) -> Outcome {
        let own = || self.tokens.values().filter(|t| t.token.owner == token.owner);
        check_new(&token.name, &BTreeMap::new(), own().map(|t| t.token.name.as_str()))?;
        let owner = self.users.get(&token.owner).ok_or_else(|| Refusal::not_found("user", token.owner))?;
        if owner.user.spec.disabled {
            return Err(Refusal::Conflict("the user is disabled: enable them first".into()));
        }
        if let Some(limit) = &token.limit
            && self.role(limit.role).is_none()
        {
            return Err(Refusal::field("limit.role", format!("there is no role {}", limit.role)));
        }
        if own().count() >= MAX_TOKENS {
            return Err(Refusal::Conflict(format!(
                "a user has at most {MAX_TOKENS} tokens: revoke some first"
            )));
        }
        if self.tokens.contains_key(&token.id) {
            return Err(Refusal::Conflict(format!("the id {} is taken", token.id)));
        }
        self.tokens.insert(token.id, Arc::new(TokenRecord { token: token.clone(), hash: hash.to_owned() }));
        ctx.changed(Kind::Token, token.id.0);
        Ok(Reply::Done)
    }

    /// Revokes all tokens of a user.
    pub(super) fn revoke_tokens_of(&mut self, ctx: &mut Context<'_>, user: UserId) {
        let tokens: Vec<_> =
            self.tokens.values().filter(|t| t.token.owner == user).map(|t| t.token.id).collect();
        for token in tokens {
            self.tokens.remove(&token);
            ctx.changed(Kind::Token, token.0);
        }
    }

    pub(in super::super) fn delete_token(&mut self, ctx: &mut Context<'_>, id: TokenId) -> Outcome {
        self.tokens.remove(&id).ok_or_else(|| Refusal::not_found("token", id))?;
        ctx.changed(Kind::Token, id.0);
        Ok(Reply::Done)
    }
}
