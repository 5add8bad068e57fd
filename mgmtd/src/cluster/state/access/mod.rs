//! Who may do what: users, groups, roles, sessions, tokens in the state.
//!
//! Invariants, beside those of the whole state:
//! - once there was an administrator with a password, there always is one: enabled, with the role `administrator` on the
//!   cluster, directly or by a group;
//! - users of an identity provider have no password here, and are in its groups only as long as it knows them;
//! - a role that someone has, and a built-in one, is not removed; what a removed user had (sessions, tokens, places in groups)
//!   goes with them;
//! - a one-time code and a recovery code count once.

mod groups;
mod providers;
mod rights;
mod sessions;
mod users;

#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod tests;

pub use providers::{Known, ProviderRecord};
pub use rights::{Object, Rights};
pub use sessions::{GRACE, SessionRecord, SigningKey, SigningKeys};
pub use users::{External, Factor, PasswordRecord, TotpChange, TotpRecord, UserRecord};

use super::{Refusal, State};
use lq_api::{
    RoleId, UserId,
    access::{ADMINISTRATOR, Grant, Group, ObjectKind, Role, Scope},
    auth::Right,
};
use std::{collections::BTreeMap, sync::LazyLock};
use uuid::Uuid;

static BUILTIN: LazyLock<[Role; 4]> = LazyLock::new(Role::builtin);

impl State {
    /// A role, built in or not.
    #[must_use]
    pub fn role(&self, id: RoleId) -> Option<&Role> {
        BUILTIN.iter().find(|r| r.meta.id == id).or_else(|| self.roles.get(&id).map(|r| &**r))
    }

    /// Every role, the built-in ones first, which is by id too.
    pub fn all_roles(&self) -> impl Iterator<Item = &Role> {
        BUILTIN.iter().chain(self.roles.values().map(|r| &**r))
    }

    /// The grant with its role's permissions; nothing where the role is gone.
    #[must_use]
    pub fn right(&self, grant: &Grant) -> Option<Right> {
        let role = self.role(grant.role)?;
        Some(Right { scope: grant.scope.clone(), permissions: role.spec.permissions.clone() })
    }

    /// Groups a user is in, by having been put there or by the word of their provider.
    pub fn groups_of(&self, user: UserId) -> impl Iterator<Item = &Group> {
        let vouched = self.groups_by_provider(user);
        self.groups
            .values()
            .filter(move |g| g.spec.members.contains(&user) || vouched.contains(&g.meta.id))
            .map(|g| &**g)
    }

    /// Own grants of a user and those of their groups.
    pub fn grants_of(&self, user: UserId) -> impl Iterator<Item = &Grant> {
        let own = self.users.get(&user).into_iter().flat_map(|r| &r.user.spec.grants);
        own.chain(self.groups_of(user).flat_map(|g| &g.spec.grants))
    }

    /// What a user may do; nothing when they are disabled.
    #[must_use]
    pub fn rights_of(&self, user: UserId) -> Rights {
        if self.users.get(&user).is_none_or(|r| r.user.spec.disabled) {
            return Rights::none();
        }
        Rights::of(self.grants_of(user).filter_map(|g| self.right(g)).collect())
    }

    /// Whether someone can log in with a password kept here and do everything.
    #[must_use]
    pub fn has_administrator(&self) -> bool {
        let able = self.users.values().filter(|r| !r.user.spec.disabled && r.password.is_some());
        able.into_iter().any(|r| {
            self.grants_of(r.user.meta.id).any(|g| g.role == ADMINISTRATOR && g.scope == Scope::Cluster)
        })
    }

    /// Labels and name of an object; `None` where it does not exist.
    #[must_use]
    pub fn labels(&self, kind: ObjectKind, id: Uuid) -> Option<(&BTreeMap<String, String>, &str)> {
        let parts = match kind {
            ObjectKind::Vm => self.vms.get(&id.into()).map(|r| (&r.vm.meta.labels, &r.vm.meta.name)),
            ObjectKind::Image => {
                self.images.get(&id.into()).map(|r| (&r.image.meta.labels, &r.image.meta.name))
            }
            ObjectKind::Volume => self.volumes.get(&id.into()).map(|v| (&v.meta.labels, &v.meta.name)),
            ObjectKind::Network => self.networks.get(&id.into()).map(|n| (&n.meta.labels, &n.meta.name)),
            ObjectKind::Pool => self.pools.get(&id.into()).map(|p| (&p.meta.labels, &p.meta.name)),
            ObjectKind::Host => self.hosts.get(&id.into()).map(|h| (&h.meta.labels, &h.meta.name)),
        };
        parts.map(|(labels, name)| (labels, name.as_str()))
    }

    /// The name of what `kind/id` is, where it is something that has one.
    #[must_use]
    pub fn name_of(&self, target: &str) -> Option<String> {
        let (kind, id) = target.split_once('/')?;
        let id: Uuid = id.parse().ok()?;
        if let Ok(kind) = kind.parse::<ObjectKind>() {
            return self.labels(kind, id).map(|(_, name)| name.to_owned());
        }
        match kind {
            "user" => self.users.get(&id.into()).map(|r| r.user.meta.name.clone()),
            "group" => self.groups.get(&id.into()).map(|g| g.meta.name.clone()),
            "role" => self.role(id.into()).map(|r| r.meta.name.clone()),
            "identity-provider" => self.providers.get(&id.into()).map(|p| p.meta.name.clone()),
            "token" => self.tokens.get(&id.into()).map(|t| t.token.name.clone()),
            _ => None,
        }
    }

    /// An object as a decision looks at it; one that is gone has no labels any more.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, id: Uuid) -> Object<'_> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = self.labels(kind, id).map_or(&NONE, |(labels, _)| labels);
        Object::Of { kind, id, labels }
    }

    /// Refuses grants of roles that do not exist.
    fn check_roles(&self, grants: &[Grant]) -> Result<(), Refusal> {
        let missing = grants.iter().enumerate().find(|(_, g)| self.role(g.role).is_none());
        match missing {
            Some((n, grant)) => Err(Refusal::field(
                format!("spec.grants[{n}].role"),
                format!("there is no role {}", grant.role),
            )),
            None => Ok(()),
        }
    }

    /// Makes the change, unless it would leave nobody who can administer.
    fn keeping_an_administrator<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let had = self.has_administrator();
        // Maps of shared records: cheap.
        let (users, groups) = (self.users.clone(), self.groups.clone());
        let done = change(self)?;
        if had && !self.has_administrator() {
            (self.users, self.groups) = (users, groups);
            return Err(Refusal::Conflict(
                "nobody could administer the cluster any more: give another enabled user with a password the role \
                 `administrator` on the cluster first"
                    .into(),
            ));
        }
        Ok(done)
    }
}
