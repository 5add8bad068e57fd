//! What users do with their own account, and administrators with those of others: passwords and second factors.

use super::{Auth, AuthError, By, Caller, secret, totp};
use crate::cluster::{
    Op,
    state::{UserRecord, access::TotpChange},
};
use lq_api::{
    UserId,
    access::{CreateUser, SetPassword},
    auth::{ChangePassword, MAX_PASSWORD, MIN_PASSWORD, RecoveryCodes, TotpEnrolment},
    problem::FieldError,
};
use std::{net::IpAddr, sync::Arc};

/// Recovery codes made at a time.
const RECOVERY_CODES: usize = 10;
/// Who asks for the code, in the authenticator's list.
const ISSUER: &str = "LimiQuantix";

impl Auth {
    /// The hash of a new password, if it is acceptable.
    pub(super) async fn hash_new(&self, field: &str, password: &str) -> Result<String, AuthError> {
        if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
            let reason =
                format!("must have at least {MIN_PASSWORD} characters and at most {MAX_PASSWORD} bytes");
            return Err(AuthError::Invalid(vec![FieldError::new(field, reason)]));
        }
        Ok(self.hasher.hash(password).await?)
    }

    /// The caller's own record. Only people at a session manage their account: a token that leaked must not become more
    /// than a token.
    fn own(&self, caller: &Caller) -> Result<Arc<UserRecord>, AuthError> {
        let own = match (caller.by, caller.user) {
            (By::Session(_), Some(user)) => self.cluster.read(|s| s.users.get(&user).cloned()),
            _ => None,
        };
        own.ok_or(AuthError::NotHere("only a user who has logged in can do this: log in"))
    }

    /// Whether the password is the caller's own; wrong ones count as guesses.
    async fn confirm(
        &self,
        source: Option<IpAddr>,
        record: &UserRecord,
        field: &str,
        password: &str,
    ) -> Result<(), AuthError> {
        if record.password.is_none() {
            return Err(AuthError::NotHere("your password is kept elsewhere: change it there"));
        }
        let attempt = self.attempt(source, &record.user.meta.name).await?;
        if !self.password_fits(Some(record), password).await? {
            return Err(AuthError::Invalid(vec![FieldError::new(field, "is not the present password")]));
        }
        attempt.succeeded();
        Ok(())
    }

    /// Changes the caller's own password. All other sessions of theirs end.
    pub async fn change_password(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        change: &ChangePassword,
    ) -> Result<(), AuthError> {
        let record = self.own(caller)?;
        self.confirm(source, &record, "old", &change.old).await?;
        if change.old == change.new {
            let same = FieldError::new("new", "is the present password: choose another");
            return Err(AuthError::Invalid(vec![same]));
        }
        let hash = self.hash_new("new", &change.new).await?;
        let keep = match caller.by {
            By::Session(id) => Some(id),
            _ => None,
        };
        let user = record.user.meta.id;
        let op = Op::SetPassword { hash, only_first: false, user, must_change: false, keep };
        self.cluster.write(op).await?;
        Ok(())
    }

    /// Sets the password of a user. All sessions of theirs end.
    pub async fn set_password(&self, user: UserId, set: &SetPassword) -> Result<(), AuthError> {
        let hash = self.hash_new("password", &set.password).await?;
        let must_change = set.must_change_password;
        let op = Op::SetPassword { hash, only_first: false, user, must_change, keep: None };
        self.cluster.write(op).await?;
        Ok(())
    }

    /// The order that makes a user.
    pub async fn new_user(&self, id: UserId, create: CreateUser) -> Result<Op, AuthError> {
        let password = match &create.password {
            Some(password) => Some(self.hash_new("password", password).await?),
            None => None,
        };
        let new = crate::cluster::state::command::NewUser {
            name: create.name,
            labels: create.labels,
            spec: create.spec,
            source: lq_api::access::UserSource::Local,
            external: None,
            password,
            must_change_password: create.must_change_password,
        };
        Ok(Op::CreateUser { id, new })
    }

    /// A fresh secret for the caller's authenticator. Takes the password: whoever finds a screen unlocked must not lock its
    /// owner out.
    pub async fn offer_totp(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        password: &str,
    ) -> Result<TotpEnrolment, AuthError> {
        let record = self.own(caller)?;
        if record.password.is_none() {
            return Err(AuthError::NotHere("your logins are checked elsewhere: set up one-time codes there"));
        }
        self.confirm(source, &record, "password", password).await?;
        let mut bytes = [0u8; totp::SECRET];
        secret::fill(&mut bytes);
        let change = TotpChange::Offer { secret: hex::encode(bytes) };
        self.cluster.write(Op::ChangeTotp { id: record.user.meta.id, change }).await?;
        let url = totp::url(&bytes, &record.user.meta.name, ISSUER);
        Ok(TotpEnrolment { secret: totp::base32(&bytes), url })
    }

    /// The caller's authenticator has the secret: one-time codes are asked for from now on.
    pub async fn confirm_totp(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        code: &str,
    ) -> Result<RecoveryCodes, AuthError> {
        let record = self.own(caller)?;
        let pending = record.totp.pending.clone();
        let secret = pending.ok_or(AuthError::NotHere("no secret waits for a code: ask for one first"))?;
        let bytes = hex::decode(&secret).unwrap_or_default();
        let attempt = self.attempt(source, &record.user.meta.name).await?;
        let Some(step) = totp::step_of(&bytes, code, self.clock.now()) else {
            let reason = "is not what the authenticator shows now: check the clock of both";
            return Err(AuthError::Invalid(vec![FieldError::new("code", reason)]));
        };
        attempt.excused();
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| secret::code(4)).collect();
        let recovery = codes.iter().map(|c| secret::hash(&secret::plain(c))).collect();
        let change = TotpChange::Confirm { secret, step, recovery };
        self.cluster.write(Op::ChangeTotp { id: record.user.meta.id, change }).await?;
        Ok(RecoveryCodes { codes })
    }

    /// The caller logs in without one-time codes from now on.
    pub async fn remove_totp(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        password: &str,
    ) -> Result<(), AuthError> {
        let record = self.own(caller)?;
        self.confirm(source, &record, "password", password).await?;
        self.cluster.write(Op::ChangeTotp { id: record.user.meta.id, change: TotpChange::Remove }).await?;
        Ok(())
    }
}
