//! Users of identity providers: which realm a name is of, taking those in whom a provider vouches for, and asking again whether it
//! still does.
//!
//! ```text
//!  name, password ──▶ realm ──▶ directory ──▶ Person ──known()──▶ Provision ──▶ session
//!                                 ▲ every minute, by the leader: ObserveProvider ──▶ gone: sessions and tokens end
//! ```
//! Invariants: whoever ends up with no rights is not taken in; what a directory cannot be asked about stays as it is; an attempt at a
//! directory counts like one at the cluster's own users.

use super::{
    Attempt, Auth, AuthError,
    ldap::{self, Directory, DirectoryError},
    oidc,
};
use crate::{
    causes::chain,
    cluster::{
        Cluster, Op, Reply, State, WriteError,
        state::access::{Known, ProviderRecord},
    },
};
use lq_api::{
    ProviderId, Timestamp, UserId,
    auth::{Login, MAX_PASSWORD, Session},
    meta::is_unseen,
    problem::FieldError,
    provider::{
        LOCAL_REALM, LdapSource, ProviderSource, ProviderSpec, ProviderTest, Realm, RealmKind, TestProvider,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks at which providers are to be asked.
const LOOK: Duration = Duration::from_secs(1);
/// Between two questions whether users are still there.
const EVERY: Duration = Duration::from_secs(60);
/// That it was asked is noted at least this often.
const NOTED: Duration = Duration::from_secs(600);
/// Users looked up over one connection.
const AT_ONCE: usize = 50;
/// Longest name for people, characters.
const MAX_FULL_NAME: usize = 255;

/// Someone as a provider tells of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    /// What never changes there.
    pub(super) subject: String,
    /// What they log in with.
    pub(super) name: String,
    /// Their name for people.
    pub(super) full_name: String,
    /// Their groups there, by name or distinguished name.
    pub(super) groups: Vec<String>,
}

/// How names of groups are compared: letter case and blanks around the parts of a distinguished name aside.
fn folded(group: &str) -> String {
    let parts: Vec<_> = group.split(',').map(|part| part.trim().to_lowercase()).collect();
    parts.join(",")
}

/// The name alone of a group with a distinguished name, folded already.
fn first_value(dn: &str) -> Option<&str> {
    let (_, value) = dn.split(',').next()?.split_once('=')?;
    Some(value)
}

/// Whether a group there is what a mapping means.
fn is_meant(wanted: &str, group: &str) -> bool {
    let (wanted, group) = (folded(wanted), folded(group));
    wanted == group || (!wanted.contains('=') && first_value(&group) == Some(wanted.as_str()))
}

/// What the cluster keeps of someone.
pub(super) fn known(spec: &ProviderSpec, person: &Person) -> Known {
    let meant = |external: &str| external == "*" || person.groups.iter().any(|g| is_meant(external, g));
    let groups: BTreeSet<_> = spec.groups.iter().map(|m| &m.external).filter(|e| meant(e)).cloned().collect();
    let full_name = person.full_name.chars().filter(|c| !is_unseen(*c)).take(MAX_FULL_NAME).collect();
    Known { subject: person.subject.clone(), name: person.name.clone(), full_name, groups }
}

fn ldap_of(record: &ProviderRecord) -> Option<&LdapSource> {
    match &record.spec.source {
        ProviderSource::Ldap(source) => Some(source),
        ProviderSource::Oidc(_) => None,
    }
}

/// Faults of a provider that only taking it apart shows.
#[must_use]
pub fn check_provider(spec: &ProviderSpec) -> Vec<FieldError> {
    match &spec.source {
        ProviderSource::Ldap(source) => ldap::check(source),
        ProviderSource::Oidc(_) => vec![],
    }
}

/// The directory a name is of, and the name there; `None` for the cluster's own users.
fn realm(state: &State, login: &Login) -> Result<Option<(Arc<ProviderRecord>, String)>, AuthError> {
    let directory =
        |name: &str| state.provider_named(name).filter(|p| p.spec.enabled && ldap_of(p).is_some()).cloned();
    let suffix = login.username.rsplit_once('@');
    match login.realm.as_deref() {
        Some(LOCAL_REALM) => Ok(None),
        Some(realm) => {
            let found = directory(realm).ok_or_else(|| {
                let why = format!("there is no directory `{realm}` that one could log in to");
                AuthError::Invalid(vec![FieldError::new("realm", why)])
            })?;
            let name = suffix.filter(|(_, r)| r.eq_ignore_ascii_case(realm)).map(|(name, _)| name);
            let name = name.unwrap_or(&login.username).to_owned();
            Ok(Some((found, name)))
        }
        None => Ok(suffix.and_then(|(name, realm)| Some((directory(realm)?, name.to_owned())))),
    }
}

impl Auth {
    /// Ways to log in, the cluster's own first.
    #[must_use]
    pub fn realms(&self) -> Vec<Realm> {
        let own = Realm { name: LOCAL_REALM.into(), title: "This cluster".into(), kind: RealmKind::Password };
        self.cluster.read(|s| {
            let providers = s.providers.values().filter(|p| p.spec.enabled).map(|p| Realm {
                name: p.meta.name.clone(),
                title: if p.spec.title.is_empty() { p.meta.name.clone() } else { p.spec.title.clone() },
                kind: match p.spec.source {
                    ProviderSource::Ldap(_) => RealmKind::Password,
                    ProviderSource::Oidc(_) => RealmKind::Redirect,
                },
            });
            std::iter::once(own).chain(providers).collect()
        })
    }

    /// The directory someone wants to log in by; `None` for the cluster's own users.
    pub(super) fn directory_of(
        &self,
        login: &Login,
    ) -> Result<Option<(Arc<ProviderRecord>, String)>, AuthError> {
        self.cluster.read(|s| realm(s, login))
    }

    /// Logs in by a directory.
    pub(super) async fn log_in_by(
        &self,
        source: Option<IpAddr>,
        from: String,
        provider: &ProviderRecord,
        name: &str,
        password: &str,
    ) -> Result<Session, AuthError> {
        let account = provider.user_name(&name.to_lowercase());
        let attempt = self.attempt(source, &account).await?;
        let Some(ldap) = ldap_of(provider).filter(|_| password.len() <= MAX_PASSWORD) else {
            return Err(AuthError::Wrong);
        };
        let asked = {
            let _turn = self.asking.acquire().await;
            Directory { source: ldap, secret: provider.secret.as_deref() }.log_in(name, password).await
        };
        match asked {
            Ok(Some(found)) => self.admit(attempt, from, provider, &found.person).await,
            Ok(None) => Err(AuthError::Wrong),
            Err(e) => {
                attempt.excused();
                tracing::warn!(provider = provider.meta.name, error = %chain(&e), "a directory could not be asked");
                Err(AuthError::NotAsked(provider.meta.name.clone()))
            }
        }
    }

    /// Begins a session of someone a provider vouches for.
    pub(super) async fn admit(
        &self,
        attempt: Attempt<'_>,
        from: String,
        provider: &ProviderRecord,
        person: &Person,
    ) -> Result<Session, AuthError> {
        let admitted = self.take_in(provider, person).await;
        let user = match admitted {
            Ok(user) => user,
            Err(e) => {
                // Who they are was proven: that was no guess.
                attempt.excused();
                return Err(e);
            }
        };
        let session = self.begin_session(user, from, None).await;
        if session.is_ok() {
            attempt.logged_in();
        } else {
            attempt.excused();
        }
        session
    }

    async fn take_in(&self, provider: &ProviderRecord, person: &Person) -> Result<UserId, AuthError> {
        let known = known(&provider.spec, person);
        let (before, same) = self.cluster.read(|s| {
            let record = s.user_of(provider.meta.id, &known.subject);
            if record.is_some_and(|r| r.user.spec.disabled) {
                return Err(AuthError::Wrong);
            }
            let id = record.map(|r| r.user.meta.id);
            let granted = id.is_some_and(|id| {
                let member = s.groups.values().any(|g| g.spec.members.contains(&id));
                member || record.is_some_and(|r| !r.user.spec.grants.is_empty())
            });
            if known.groups.is_empty() && !granted {
                return Err(AuthError::NotGranted(provider.meta.name.clone()));
            }
            Ok((id, record.is_some_and(|r| says_nothing_new(r, provider, &known))))
        })?;
        if let Some(user) = before.filter(|_| same) {
            return Ok(user);
        }
        let op = Op::Provision { id: UserId::new(), provider: provider.meta.id, known };
        match tokio::time::timeout(super::login::WRITE_PATIENCE, self.cluster.write(op)).await {
            Ok(Ok(Reply::User(user))) => Ok(user.meta.id),
            Ok(Err(WriteError::Refused(refusal))) => Err(refusal.into()),
            // The cluster takes no changes: someone it knows gets in as they were.
            _ => before.ok_or(AuthError::NotAsked(provider.meta.name.clone())),
        }
    }

    /// Tries a provider: whether it can be asked, whether it finds a user, whether a password is theirs.
    pub async fn test_provider(&self, id: ProviderId, test: &TestProvider) -> Option<ProviderTest> {
        let provider = self.cluster.read(|s| s.providers.get(&id).cloned())?;
        let source = match &provider.spec.source {
            ProviderSource::Ldap(source) => source,
            ProviderSource::Oidc(source) => return Some(oidc::test(source).await),
        };
        let directory = Directory { source, secret: provider.secret.as_deref() };
        let mut result = ProviderTest::default();
        let tried = async {
            let steps = &mut result.steps;
            directory.look(&[]).await?;
            steps.push(match &source.bind_dn {
                Some(dn) => format!("connected with TLS, as `{dn}`"),
                None => "connected with TLS, as nobody in particular".into(),
            });
            let Some(user) = test.username.as_ref().filter(|u| !u.is_empty()) else { return Ok(None) };
            let mut found = None;
            if directory.can_look() {
                found = directory.look(std::slice::from_ref(user)).await?.pop().flatten();
                match &found {
                    Some(found) if found.disabled => {
                        steps.push(format!("found `{}`", found.dn));
                        return Err(TestFailure(format!("the directory has `{user}` disabled")));
                    }
                    Some(found) => steps.push(format!("found `{}`", found.dn)),
                    None => return Err(TestFailure(format!("no user `{user}` is found"))),
                }
            }
            if let Some(password) = &test.password {
                let Some(by_password) = directory.log_in(user, password).await? else {
                    let why = "the password is wrong, or the directory does not let them in";
                    return Err(TestFailure(why.into()));
                };
                steps.push("the password is right".into());
                found = Some(by_password);
            }
            Ok(found)
        };
        let found = tried.await;
        match found {
            Ok(found) => {
                result.passed = true;
                if let Some(found) = found {
                    describe(&provider, &found.person, &mut result);
                }
            }
            Err(TestFailure(why)) => result.failure = Some(why),
        }
        Some(result)
    }
}

/// Why a test did not pass.
struct TestFailure(String);

impl From<DirectoryError> for TestFailure {
    fn from(e: DirectoryError) -> Self {
        Self(chain(&e))
    }
}

/// Says who was found and what they would get.
pub(super) fn describe(provider: &ProviderRecord, person: &Person, result: &mut ProviderTest) {
    let known = known(&provider.spec, person);
    result.username = Some(provider.user_name(&known.name));
    result.groups = provider.groups(&known.groups).collect::<BTreeSet<_>>().into_iter().collect();
    result.full_name = Some(known.full_name);
    result.external_groups = person.groups.clone();
    if result.groups.is_empty() {
        result
            .steps
            .push("none of their groups is mapped: without grants of their own they are not let in".into());
    }
}

fn says_nothing_new(
    record: &crate::cluster::state::UserRecord,
    provider: &ProviderRecord,
    known: &Known,
) -> bool {
    record.external.as_ref().is_some_and(|e| !e.gone && e.groups == known.groups)
        && record.user.spec.full_name == known.full_name
        && record.user.meta.name.eq_ignore_ascii_case(&provider.user_name(&known.name))
}

/// What is to be asked of a provider: who has sessions or tokens.
fn to_ask(state: &State, provider: &ProviderRecord) -> Vec<(UserId, String)> {
    let live: BTreeSet<UserId> =
        state.sessions.values().map(|s| s.user).chain(state.tokens.values().map(|t| t.token.owner)).collect();
    let suffix = provider.user_name("");
    let users = state.users_of(provider.meta.id).filter(|r| live.contains(&r.user.meta.id));
    let named = users.map(|r| {
        let name = &r.user.meta.name;
        (r.user.meta.id, name.strip_suffix(&suffix).unwrap_or(name).to_owned())
    });
    named.collect()
}

/// Asks directories, while this host leads, whether the users with sessions and tokens are still there. One that was changed is
/// asked at once.
pub async fn follow(cluster: Cluster, end: CancellationToken) {
    let mut asked: BTreeMap<ProviderId, (u64, Instant)> = BTreeMap::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if cluster.standing().leader != Some(cluster.identity().host) || cluster.is_removed() {
            asked.clear();
            continue;
        }
        let due: Vec<_> = cluster.read(|s| {
            let enabled = s.providers.values().filter(|p| p.spec.enabled);
            let due = enabled.filter(|p| {
                let before = asked.get(&p.meta.id);
                before.is_none_or(|(revision, at)| *revision != p.meta.revision || at.elapsed() >= EVERY)
            });
            due.cloned().collect()
        });
        for provider in due {
            asked.insert(provider.meta.id, (provider.meta.revision, Instant::now()));
            if let Some(op) = ask(&cluster, &provider).await
                && let Err(e) = cluster.write(op).await
            {
                tracing::debug!(error = %e, "it could not be noted what a directory says");
            }
        }
    }
}

/// Asks one directory; answers with what is to be noted, if anything is.
async fn ask(cluster: &Cluster, provider: &ProviderRecord) -> Option<Op> {
    let directory = Directory { source: ldap_of(provider)?, secret: provider.secret.as_deref() };
    if !directory.can_look() {
        return None;
    }
    let users = cluster.read(|s| to_ask(s, provider));
    let mut seen = BTreeMap::new();
    let mut failure = None;
    // Without users too: that it does not answer is to be known before someone needs it.
    let chunks: Vec<&[_]> = if users.is_empty() { vec![&[][..]] } else { users.chunks(AT_ONCE).collect() };
    for chunk in chunks {
        let names: Vec<_> = chunk.iter().map(|(_, name)| name.clone()).collect();
        match directory.look(&names).await {
            Ok(found) => {
                let known = found
                    .into_iter()
                    .map(|f| Some(known(&provider.spec, &f.filter(|f| !f.disabled)?.person)));
                seen.extend(chunk.iter().map(|(id, _)| *id).zip(known));
            }
            Err(e) => {
                failure = Some(chain(&e));
                break;
            }
        }
    }
    cluster.read(|s| {
        seen.retain(|id, known: &mut Option<Known>| {
            let record = s.users.get(id);
            match known {
                Some(known) => !record.is_some_and(|r| says_nothing_new(r, provider, known)),
                None => true,
            }
        });
    });
    let now = Timestamp::now();
    let noted = provider.checked_at.is_some_and(|at| now.duration_since(at).unsigned_abs() < NOTED);
    let told = provider.failing.as_ref().map(|(_, why)| why.clone());
    let nothing_new = seen.is_empty() && told == failure && (noted || failure.is_some());
    if let Some(why) = failure.as_ref().filter(|_| told != failure) {
        tracing::warn!(provider = provider.meta.name, error = why, "a directory cannot be asked");
    }
    (!nothing_new).then_some(Op::ObserveProvider { id: provider.meta.id, failure, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_meant_by_name_or_by_distinguished_name() {
        let dn = "CN=VM Admins, OU=Groups,DC=example,DC=org";
        for (wanted, group, meant) in [
            ("cn=vm admins,ou=groups,dc=example,dc=org", dn, true),
            ("vm admins", dn, true),
            ("VM Admins", "vm admins", true),
            ("admins", dn, false),
            ("cn=vm admins", dn, false),
            ("ops", "/ops", false),
        ] {
            assert_eq!(is_meant(wanted, group), meant, "{wanted} {group}");
        }
    }

    #[test]
    fn a_star_means_everyone() {
        let spec: ProviderSpec = serde_json::from_value(serde_json::json!({
            "groups": [
                {"external": "*", "group": uuid::Uuid::from_u128(1)},
                {"external": "ops", "group": uuid::Uuid::from_u128(2)},
            ],
            "source": {"kind": "oidc", "issuer": "https://x", "client_id": "c"},
        }))
        .unwrap();
        let person = Person { full_name: "E\u{202e}ve".into(), ..Person::default() };
        let all = known(&spec, &person);
        assert_eq!((all.groups, all.full_name.as_str()), (BTreeSet::from(["*".to_owned()]), "Eve"));
    }
}
