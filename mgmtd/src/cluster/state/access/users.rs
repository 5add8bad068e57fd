//! Users: accounts, passwords, second factors.

use super::super::{
    Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected, patched},
};
use jiff::Timestamp;
use lq_api::{
    ProviderId, SessionId, UserId,
    access::{
        ADMINISTRATOR, Grant, Scope, UpdateUser, User, UserSource, UserSpec, UserStatus, check_user_name,
    },
    auth::FIRST_USER,
    meta::{MetadataPatch, check_labels},
    settings::{SavedFilter, UserSettings},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A user with what only the daemon needs to know of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The user as the API shows them, but for what [`UserRecord::shown`] adds.
    pub user: User,
    /// Their password, where it is kept here.
    #[serde(default)]
    pub password: Option<PasswordRecord>,
    /// Their second factor.
    #[serde(default)]
    pub totp: TotpRecord,
    /// Who they are at the source they come from.
    #[serde(default)]
    pub external: Option<External>,
}

/// A password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordRecord {
    /// Argon2id in PHC string form.
    pub hash: String,
    /// When it was set.
    pub set_at: Timestamp,
}

/// A second factor (RFC 6238).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotpRecord {
    /// Shared with the authenticator, hexadecimal; absent where no code is asked for.
    #[serde(default)]
    pub secret: Option<String>,
    /// Offered, but not confirmed by a code yet.
    #[serde(default)]
    pub pending: Option<String>,
    /// Time step of the last code that was taken: older ones and it count no more.
    #[serde(default)]
    pub last_step: u64,
    /// SHA-256 of the recovery codes not used yet, hexadecimal.
    #[serde(default)]
    pub recovery: Vec<String>,
}

/// A user at their source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// What never changes there: the OIDC subject, the identity in the directory.
    pub subject: String,
    /// The provider.
    #[serde(default)]
    pub provider: Option<ProviderId>,
    /// Of its groups that are mapped, those they are in, as the mappings write them.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// It does not know them any more.
    #[serde(default)]
    pub gone: bool,
}

/// What is to happen to a second factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TotpChange {
    /// Offer this secret.
    Offer {
        /// Hexadecimal.
        secret: String,
    },
    /// A code of this time step made with the offered secret was seen: it counts from now on.
    Confirm {
        /// The secret it was made with.
        secret: String,
        /// Its time step.
        step: u64,
        /// Hashes of the recovery codes.
        recovery: Vec<String>,
    },
    /// Ask for no code any more.
    Remove,
}

/// The second factor a login was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factor {
    /// A code of this time step.
    Step(u64),
    /// The recovery code with this hash.
    Recovery(String),
}

impl UserRecord {
    /// The user as the API shows them.
    #[must_use]
    pub fn shown(&self, state: &State) -> User {
        let id = self.user.meta.id;
        let mut user = self.user.clone();
        user.status.groups = state.groups_of(id).map(|g| g.meta.id).collect();
        user.status.gone = self.external.as_ref().is_some_and(|e| e.gone);
        user.status.totp = self.totp.secret.is_some();
        user.status.recovery_codes = u32::try_from(self.totp.recovery.len()).unwrap_or(u32::MAX);
        user.status.password_set_at = self.password.as_ref().map(|p| p.set_at);
        user
    }
}

impl State {
    fn check_new_user(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut errors: Vec<_> = check_user_name("name", name).into_iter().collect();
        errors.extend(check_labels("labels", labels));
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.user_named(name).is_some() {
            return Err(Refusal::Conflict(format!("the name `{name}` is taken: choose another")));
        }
        if let Some(realm) = self.is_of_a_realm(name) {
            let why = format!(
                "names that end in `@{realm}` are those of the users of the identity provider `{realm}`"
            );
            return Err(Refusal::field("name", why));
        }
        Ok(())
    }

    /// The user who logs in with this name.
    #[must_use]
    pub fn user_named(&self, name: &str) -> Option<&Arc<UserRecord>> {
        self.users.values().find(|r| r.user.meta.name == name)
    }

    pub(in super::super) fn create_user(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        new: &super::super::command::NewUser,
    ) -> Outcome {
        self.check_new_user(&new.name, &new.labels)?;
        let errors = new.spec.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        self.check_roles(&new.spec.grants)?;
        if self.users.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let status = UserStatus {
            source: new.source,
            must_change_password: new.must_change_password && new.password.is_some(),
            ..UserStatus::default()
        };
        let user = User { meta: ctx.meta(id, &new.name, new.labels.clone()), spec: new.spec.clone(), status };
        let password = new.password.clone().map(|hash| PasswordRecord { hash, set_at: ctx.at });
        let record = Arc::new(UserRecord {
            user,
            password,
            totp: TotpRecord::default(),
            external: new.external.clone(),
        });
        let shown = record.shown(self);
        self.users.insert(id, record);
        ctx.changed(Kind::User, id.0);
        Ok(Reply::User(Arc::new(shown)))
    }

    pub(in super::super) fn update_user(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        expect: Option<u64>,
        update: &UpdateUser,
    ) -> Outcome {
        let old = self.users.get(&id).ok_or_else(|| Refusal::not_found("user", id))?.clone();
        check_expected(&old.user.meta, expect)?;
        let mut new = (*old).clone();
        if let Some(name) = &update.name
            && *name != old.user.meta.name
        {
            if old.user.status.source != UserSource::Local {
                let why = "is what the identity provider calls them: change it there";
                return Err(Refusal::field("name", why));
            }
            self.check_new_user(name, &BTreeMap::new())?;
            new.user.meta.name.clone_from(name);
        }
        let patch = MetadataPatch { name: None, labels: update.labels.clone() };
        new.user.meta = patched(&new.user.meta, &patch, [])?;
        if let Some(spec) = &update.spec {
            let errors = spec.validate();
            if !errors.is_empty() {
                return Err(Refusal::Validation(errors));
            }
            self.check_roles(&spec.grants)?;
            new.user.spec = spec.clone();
        }
        if new == *old {
            return Ok(Reply::User(Arc::new(old.shown(self))));
        }
        new.user.meta.generation += u64::from(new.user.spec != old.user.spec);
        new.user.meta.revision = ctx.revision;
        let disabled = new.user.spec.disabled;
        self.keeping_an_administrator(|s| Ok(s.users.insert(id, Arc::new(new))))?;
        if disabled {
            // For good: enabling the user again must not bring back what nobody thinks of any more.
            self.end_sessions_of(ctx, id, None);
            self.revoke_tokens_of(ctx, id);
        }
        ctx.changed(Kind::User, id.0);
        Ok(self.user_reply(id))
    }

    fn user_reply(&self, id: UserId) -> Reply {
        self.users.get(&id).map_or(Reply::Done, |r| Reply::User(Arc::new(r.shown(self))))
    }

    pub(in super::super) fn delete_user(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        expect: Option<u64>,
    ) -> Outcome {
        let old = self.users.get(&id).ok_or_else(|| Refusal::not_found("user", id))?;
        check_expected(&old.user.meta, expect)?;
        let revision = ctx.revision;
        let left = self.keeping_an_administrator(|s| {
            s.users.remove(&id);
            s.settings.remove(&id);
            let mut left = Vec::new();
            for group in s.groups.values_mut().filter(|g| g.spec.members.contains(&id)) {
                let group = Arc::make_mut(group);
                group.spec.members.remove(&id);
                group.meta.generation += 1;
                group.meta.revision = revision;
                left.push(group.meta.id);
            }
            Ok(left)
        })?;
        for group in left {
            ctx.changed(Kind::Group, group.0);
        }
        self.end_sessions_of(ctx, id, None);
        self.revoke_tokens_of(ctx, id);
        ctx.changed(Kind::User, id.0);
        Ok(Reply::Done)
    }

    /// Replaces what a user keeps for themselves.
    pub(in super::super) fn set_user_settings(
        &mut self,
        ctx: &Context<'_>,
        user: UserId,
        expect: Option<u64>,
        filters: &[SavedFilter],
    ) -> Outcome {
        if !self.users.contains_key(&user) {
            return Err(Refusal::not_found("user", user));
        }
        let found = self.settings.get(&user).map_or(0, |s| s.revision);
        if let Some(expected) = expect.filter(|e| *e != found) {
            return Err(Refusal::Stale { expected, found });
        }
        let settings = UserSettings { revision: ctx.revision, filters: filters.to_vec() };
        self.settings.insert(user, Arc::new(settings));
        Ok(Reply::Done)
    }

    /// Sets a password. With `only_first` the user is `admin`, made by set-up.
    pub(in super::super) fn set_password(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        hash: &str,
        only_first: bool,
        must_change: bool,
        keep: Option<SessionId>,
    ) -> Outcome {
        let password = PasswordRecord { hash: hash.to_owned(), set_at: ctx.at };
        if only_first {
            if self.has_administrator() || self.users.contains_key(&FIRST_USER) {
                return Err(Refusal::Conflict("the administrator's password is set already".into()));
            }
            self.check_new_user("admin", &BTreeMap::new())?;
            let spec = UserSpec {
                grants: vec![Grant { role: ADMINISTRATOR, scope: Scope::Cluster }],
                ..UserSpec::default()
            };
            let user = User {
                meta: ctx.meta(FIRST_USER, "admin", BTreeMap::new()),
                spec,
                status: UserStatus::default(),
            };
            let record =
                UserRecord { user, password: Some(password), totp: TotpRecord::default(), external: None };
            self.users.insert(FIRST_USER, Arc::new(record));
            ctx.changed(Kind::User, FIRST_USER.0);
            return Ok(Reply::Done);
        }
        let record = self.users.get_mut(&id).ok_or_else(|| Refusal::not_found("user", id))?;
        if record.user.status.source != UserSource::Local {
            return Err(Refusal::Conflict(
                "the password of this user is kept elsewhere: change it there".into(),
            ));
        }
        let record = Arc::make_mut(record);
        record.password = Some(password);
        record.user.status.must_change_password = must_change;
        record.user.meta.revision = ctx.revision;
        self.end_sessions_of(ctx, id, keep);
        ctx.changed(Kind::User, id.0);
        Ok(Reply::Done)
    }

    pub(in super::super) fn change_totp(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        change: &TotpChange,
    ) -> Outcome {
        let record = self.users.get_mut(&id).ok_or_else(|| Refusal::not_found("user", id))?;
        let mut totp = record.totp.clone();
        match change {
            TotpChange::Offer { .. } if totp.secret.is_some() => {
                let why = "one-time codes are set up already: remove them first";
                return Err(Refusal::Conflict(why.into()));
            }
            TotpChange::Offer { secret } => totp.pending = Some(secret.clone()),
            TotpChange::Confirm { secret, step, recovery } => {
                if totp.pending.as_ref() != Some(secret) {
                    let why = "no secret waits for a code: ask for one first";
                    return Err(Refusal::Conflict(why.into()));
                }
                totp = TotpRecord {
                    secret: totp.pending.take(),
                    pending: None,
                    last_step: *step,
                    recovery: recovery.clone(),
                };
            }
            TotpChange::Remove => totp = TotpRecord::default(),
        }
        let record = Arc::make_mut(record);
        record.totp = totp;
        record.user.meta.revision = ctx.revision;
        ctx.changed(Kind::User, id.0);
        Ok(Reply::Done)
    }

    /// Takes a second factor; each counts once.
    pub(super) fn take_factor(record: &mut UserRecord, factor: Option<&Factor>) -> Result<(), Refusal> {
        let used = || Refusal::Conflict("this code was used already: wait for the next one".into());
        match factor {
            None if record.totp.secret.is_some() => {
                Err(Refusal::Conflict("a one-time code is needed".into()))
            }
            None => Ok(()),
            Some(Factor::Step(step)) if *step > record.totp.last_step => {
                record.totp.last_step = *step;
                Ok(())
            }
            Some(Factor::Step(_)) => Err(used()),
            Some(Factor::Recovery(hash)) => {
                let place = record.totp.recovery.iter().position(|h| h == hash).ok_or_else(used)?;
                record.totp.recovery.remove(place);
                Ok(())
            }
        }
    }
}
