//! Identity providers and the users they vouch for.
//!
//! ```text
//!  Provision (someone logged in) ──▶ user@realm, with the groups of the provider that are mapped
//!  ObserveProvider (asked again) ──▶ changed groups │ gone: sessions and tokens end
//! ```
//! Invariants: a user of a provider has no password here; whom a provider takes for whom is by its own unchanging subject, never by
//! name; names that end in `@realm` are those of its users alone; what is mapped counts only as long as the provider is switched on
//! and knows the user.

use super::{
    super::{
        Kind, Outcome, Refusal, Reply, State,
        apply::{Context, check_expected, check_new, patched},
    },
    External, UserRecord,
};
use jiff::Timestamp;
use lq_api::{
    GroupId, Metadata, ProviderId, UserId,
    access::{User, UserSource, UserSpec, UserStatus, check_user_name},
    meta::MetadataPatch,
    problem::FieldError,
    provider::{
        CreateProvider, Provider, ProviderSource, ProviderSpec, ProviderStatus, UpdateProvider, check_secret,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most providers.
const MAX_PROVIDERS: usize = 20;
/// Most users of a provider.
const MAX_USERS: usize = 20_000;

/// A provider with what only the daemon needs to know of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Identity and name.
    pub meta: Metadata<ProviderId>,
    /// What is wanted.
    pub spec: ProviderSpec,
    /// Its secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// When it was last asked whether its users are still there.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// Since when it cannot be asked, and why.
    #[serde(default)]
    pub failing: Option<(Timestamp, String)>,
}

impl std::fmt::Debug for ProviderRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProviderRecord({}, secret hidden)", self.meta.name)
    }
}

/// Someone as a provider knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What never changes there.
    pub subject: String,
    /// Their name there.
    pub name: String,
    /// Their name for people.
    #[serde(default)]
    pub full_name: String,
    /// Of the groups there that are mapped, those they are in, as the mappings write them.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

impl ProviderRecord {
    /// Where its users' credentials are kept.
    #[must_use]
    pub fn user_source(&self) -> UserSource {
        match self.spec.source {
            ProviderSource::Ldap(_) => UserSource::Ldap,
            ProviderSource::Oidc(_) => UserSource::Oidc,
        }
    }

    /// Full name of a user.
    #[must_use]
    pub fn user_name(&self, name: &str) -> String {
        format!("{name}@{}", self.meta.name)
    }

    /// Groups of the cluster that these groups of the provider stand for.
    pub fn groups<'a>(&'a self, external: &'a BTreeSet<String>) -> impl Iterator<Item = GroupId> + 'a {
        self.spec.groups.iter().filter(|m| external.contains(&m.external)).map(|m| m.group)
    }
}

impl State {
    /// The provider of this name.
    #[must_use]
    pub fn provider_named(&self, name: &str) -> Option<&Arc<ProviderRecord>> {
        self.providers.values().find(|p| p.meta.name.eq_ignore_ascii_case(name))
    }

    /// The provider a user is of, as long as its word counts.
    fn vouching<'a>(&'a self, record: &'a UserRecord) -> Option<(&'a ProviderRecord, &'a BTreeSet<String>)> {
        let external = record.external.as_ref().filter(|e| !e.gone)?;
        let provider = self.providers.get(&external.provider?).filter(|p| p.spec.enabled)?;
        Some((provider, &external.groups))
    }

    /// Groups a user is in by the word of their provider.
    #[must_use]
    pub fn groups_by_provider(&self, user: UserId) -> BTreeSet<GroupId> {
        let vouched = self.users.get(&user).and_then(|r| self.vouching(r));
        vouched.map(|(provider, external)| provider.groups(external).collect()).unwrap_or_default()
    }

    /// The user a provider means.
    #[must_use]
    pub fn user_of(&self, provider: ProviderId, subject: &str) -> Option<&Arc<UserRecord>> {
        self.users.values().find(|r| {
            r.external.as_ref().is_some_and(|e| e.provider == Some(provider) && e.subject == subject)
        })
    }

    /// Whether a name may only be that of a user of a provider.
    pub(super) fn is_of_a_realm(&self, name: &str) -> Option<&str> {
        let (_, realm) = name.rsplit_once('@')?;
        self.provider_named(realm).map(|p| p.meta.name.as_str())
    }

    /// A provider as the API shows it.
    #[must_use]
    pub fn show_provider(&self, record: &ProviderRecord) -> Provider {
        let (failing_since, failure) = record.failing.clone().unzip();
        let users = self.users_of(record.meta.id).count() as u64;
        Provider {
            meta: record.meta.clone(),
            spec: record.spec.clone(),
            has_secret: record.secret.is_some(),
            status: ProviderStatus { users, checked_at: record.checked_at, failing_since, failure },
        }
    }

    /// Users of a provider.
    pub fn users_of(&self, provider: ProviderId) -> impl Iterator<Item = &Arc<UserRecord>> {
        self.users.values().filter(move |r| r.external.as_ref().is_some_and(|e| e.provider == Some(provider)))
    }

    fn provider(&self, id: ProviderId) -> Result<Arc<ProviderRecord>, Refusal> {
        self.providers.get(&id).cloned().ok_or_else(|| Refusal::not_found("identity provider", id))
    }

    fn put_provider(&mut self, record: ProviderRecord) -> Reply {
        let reply = Reply::Provider(Arc::new(self.show_provider(&record)));
        self.providers.insert(record.meta.id, Arc::new(record));
        reply
    }

    fn check_mappings(&self, spec: &ProviderSpec) -> Vec<FieldError> {
        let missing = spec.groups.iter().enumerate().filter(|(_, m)| !self.groups.contains_key(&m.group));
        let error = |(n, m): (usize, &lq_api::provider::GroupMapping)| {
            FieldError::new(format!("spec.groups[{n}].group"), format!("there is no group {}", m.group))
        };
        missing.map(error).collect()
    }

    pub(in super::super) fn create_provider(
        &mut self,
        ctx: &mut Context<'_>,
        id: ProviderId,
        create: &CreateProvider,
    ) -> Outcome {
        let names = self.providers.values().map(|p| p.meta.name.as_str());
        check_new(&create.name, &create.labels, names)?;
        let mut errors = create.validate();
        errors.extend(self.check_mappings(&create.spec));
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.provider_named(&create.name).is_some() {
            return Err(Refusal::Conflict(format!(
                "the name `{}` is taken, letter case aside: choose another",
                create.name
            )));
        }
        if self.providers.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        if self.providers.len() >= MAX_PROVIDERS {
            let why = format!("there are {MAX_PROVIDERS} identity providers already: delete one first");
            return Err(Refusal::Conflict(why));
        }
        let suffix =
            |name: &str| name.rsplit_once('@').is_some_and(|(_, r)| r.eq_ignore_ascii_case(&create.name));
        if let Some(user) = self.users.values().find(|r| suffix(&r.user.meta.name)) {
            let why = format!(
                "the user `{}` has a name as its users would: rename them first",
                user.user.meta.name
            );
            return Err(Refusal::Conflict(why));
        }
        let record = ProviderRecord {
            meta: ctx.meta(id, &create.name, create.labels.clone()),
            spec: create.spec.clone(),
            secret: create.secret.clone().filter(|s| !s.is_empty()),
            checked_at: None,
            failing: None,
        };
        Ok(self.put_provider(record))
    }

    pub(in super::super) fn update_provider(
        &mut self,
        ctx: &mut Context<'_>,
        id: ProviderId,
        expect: Option<u64>,
        update: &UpdateProvider,
    ) -> Outcome {
        let old = self.provider(id)?;
        check_expected(&old.meta, expect)?;
        let patch = MetadataPatch { name: None, labels: update.labels.clone() };
        let mut new = ProviderRecord { meta: patched(&old.meta, &patch, [])?, ..(*old).clone() };
        let mut errors: Vec<_> = update.secret.as_deref().and_then(check_secret).into_iter().collect();
        if let Some(spec) = &update.spec {
            if !spec.source.same_kind(&old.spec.source) {
                let why = "the kind of a provider stays: make another one";
                errors.push(FieldError::new("spec.source.kind", why));
            }
            errors.extend(self.check_mappings(spec));
            new.spec = spec.clone();
        }
        match &update.secret {
            Some(secret) => new.secret = Some(secret.clone()).filter(|s| !s.is_empty()),
            None if new.secret.is_some() && new.spec.source.place() != old.spec.source.place() => {
                let why = "another server is to be spoken to, or in another way: give the secret again, or an empty one";
                errors.push(FieldError::new("secret", why));
            }
            None => {}
        }
        errors.extend(new.spec.validate(new.secret.is_some()));
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if new == *old {
            return Ok(Reply::Provider(Arc::new(self.show_provider(&new))));
        }
        new.failing = None;
        new.meta.generation += u64::from(new.spec != old.spec);
        new.meta.revision = ctx.revision;
        if !new.spec.enabled && old.spec.enabled {
            let users: Vec<_> = self.users_of(id).map(|r| r.user.meta.id).collect();
            for user in users {
                self.end_sessions_of(ctx, user, None);
                self.revoke_tokens_of(ctx, user);
            }
        }
        Ok(self.put_provider(new))
    }

    pub(in super::super) fn delete_provider(
        &mut self,
        ctx: &mut Context<'_>,
        id: ProviderId,
        expect: Option<u64>,
    ) -> Outcome {
        check_expected(&self.provider(id)?.meta, expect)?;
        let users: Vec<_> = self.users_of(id).map(|r| r.user.meta.id).collect();
        for user in users {
            self.delete_user(ctx, user, None)?;
        }
        self.providers.remove(&id);
        Ok(Reply::Done)
    }

    /// Takes someone whom a provider vouches for, who is about to log in.
    pub(in super::super) fn provision(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        provider: ProviderId,
        known: &Known,
    ) -> Outcome {
        let record = self.provider(provider)?;
        if !record.spec.enabled {
            return Err(Refusal::Conflict(format!(
                "the identity provider `{}` is switched off",
                record.meta.name
            )));
        }
        if let Some(user) = self.user_of(provider, &known.subject).map(|r| r.user.meta.id) {
            self.take_word(ctx, user, &record, known)?;
            return Ok(self.users.get(&user).map_or(Reply::Done, |r| Reply::User(Arc::new(r.shown(self)))));
        }
        let name = record.user_name(&known.name);
        if let Some(error) = check_user_name("username", &name) {
            return Err(Refusal::Conflict(format!(
                "`{name}` cannot be the name of a user: it {}",
                error.reason
            )));
        }
        self.check_name_is_free(&record, &name)?;
        if self.users.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        if self.users_of(provider).count() >= MAX_USERS {
            let why =
                format!("there are {MAX_USERS} users of `{}` already: delete some first", record.meta.name);
            return Err(Refusal::Conflict(why));
        }
        let user = User {
            meta: ctx.meta(id, &name, BTreeMap::new()),
            spec: UserSpec { full_name: known.full_name.clone(), ..UserSpec::default() },
            status: UserStatus {
                source: record.user_source(),
                provider: Some(provider),
                ..UserStatus::default()
            },
        };
        let external = External {
            subject: known.subject.clone(),
            provider: Some(provider),
            groups: known.groups.clone(),
            gone: false,
        };
        let new =
            UserRecord { user, password: None, totp: super::TotpRecord::default(), external: Some(external) };
        self.users.insert(id, Arc::new(new));
        ctx.changed(Kind::User, id.0);
        Ok(self.users.get(&id).map_or(Reply::Done, |r| Reply::User(Arc::new(r.shown(self)))))
    }

    fn check_name_is_free(&self, provider: &ProviderRecord, name: &str) -> Result<(), Refusal> {
        if self.users.values().any(|r| r.user.meta.name.eq_ignore_ascii_case(name)) {
            return Err(Refusal::Conflict(format!(
                "by the name `{name}` the provider `{}` knew someone else before: delete that user first",
                provider.meta.name
            )));
        }
        Ok(())
    }

    /// Takes over what a provider says of someone the cluster knows.
    fn take_word(
        &mut self,
        ctx: &mut Context<'_>,
        id: UserId,
        provider: &ProviderRecord,
        known: &Known,
    ) -> Result<(), Refusal> {
        let Some(old) = self.users.get(&id).cloned() else { return Ok(()) };
        let mut new = (*old).clone();
        let name = provider.user_name(&known.name);
        if !name.eq_ignore_ascii_case(&old.user.meta.name) && check_user_name("username", &name).is_none() {
            self.check_name_is_free(provider, &name)?;
            new.user.meta.name = name;
        }
        new.user.spec.full_name.clone_from(&known.full_name);
        if let Some(external) = &mut new.external {
            external.groups.clone_from(&known.groups);
            external.gone = false;
        }
        if new != *old {
            new.user.meta.generation += u64::from(new.user.spec != old.user.spec);
            new.user.meta.revision = ctx.revision;
            self.users.insert(id, Arc::new(new));
            ctx.changed(Kind::User, id.0);
        }
        Ok(())
    }

    /// A provider was asked about these users, or could not be.
    pub(in super::super) fn observe_provider(
        &mut self,
        ctx: &mut Context<'_>,
        id: ProviderId,
        failure: Option<&str>,
        seen: &BTreeMap<UserId, Option<Known>>,
    ) -> Outcome {
        // Deleted or switched off meanwhile: nothing of it counts any more.
        let Some(old) = self.providers.get(&id).filter(|p| p.spec.enabled).cloned() else {
            return Ok(Reply::Done);
        };
        let mut record = (*old).clone();
        match failure {
            Some(why) => {
                let since = record.failing.as_ref().map_or(ctx.at, |(since, _)| *since);
                record.failing = Some((since, why.to_owned()));
            }
            None => (record.failing, record.checked_at) = (None, Some(ctx.at)),
        }
        self.providers.insert(id, Arc::new(record));
        for (user, known) in seen {
            let subject =
                self.users.get(user).and_then(|r| r.external.as_ref()).filter(|e| e.provider == Some(id));
            let Some(subject) = subject.map(|e| e.subject.clone()) else { continue };
            match known.as_ref().filter(|k| k.subject == subject) {
                // A name that is taken stays as it was.
                Some(known) => drop(self.take_word(ctx, *user, &old, known)),
                None => self.is_gone(ctx, *user),
            }
        }
        Ok(Reply::Done)
    }

    fn is_gone(&mut self, ctx: &mut Context<'_>, id: UserId) {
        if let Some(record) = self.users.get_mut(&id) {
            let record = Arc::make_mut(record);
            record.user.meta.revision = ctx.revision;
            if let Some(external) = &mut record.external {
                external.gone = true;
            }
            ctx.changed(Kind::User, id.0);
        }
        // For good, like of one who is disabled: a later login is a new one.
        self.end_sessions_of(ctx, id, None);
        self.revoke_tokens_of(ctx, id);
    }
}
