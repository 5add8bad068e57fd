//! The decision: may this caller do this to that object? Pure; the properties are in `tests.rs`.

use lq_api::{
    access::{ObjectKind, Permission, Scope},
    auth::Right,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What something is to be done to.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    /// The cluster as a whole: users, settings, the audit log.
    Cluster,
    /// One object.
    Of {
        /// Its kind.
        kind: ObjectKind,
        /// Its id; of one that is still to be made, the id it will have.
        id: Uuid,
        /// Its labels.
        labels: &'a BTreeMap<String, String>,
    },
}

/// What a caller may do: what was granted, less what their token leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Allowed is what one of these allows…
    granted: Vec<Right>,
    /// …and this too, where it is there.
    limit: Option<Right>,
    /// …and what one of these allows, where they are there.
    #[serde(default)]
    pinned: Option<Vec<Right>>,
    /// Only permissions that read.
    read_only: bool,
}

impl Rights {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        let permissions = Permission::ALL.iter().copied().collect();
        Self::of(vec![Right { scope: Scope::Cluster, permissions }])
    }

    /// What any of these allows.
    #[must_use]
    pub fn of(granted: Vec<Right>) -> Self {
        Self { granted, limit: None, pinned: None, read_only: false }
    }

    /// No more than `limit`, and with `read_only` only what reads.
    #[must_use]
    pub fn limited(self, limit: Option<Right>, read_only: bool) -> Self {
        Self { limit, read_only, ..self }
    }

    /// No more than any of these allows, where there are such.
    #[must_use]
    pub fn pinned(self, pinned: Option<Vec<Right>>) -> Self {
        Self { pinned, ..self }
    }

    /// Whether nothing that changes anything is allowed, whatever was granted.
    #[must_use]
    pub fn only_read(&self) -> bool {
        self.read_only
    }

    fn holds(&self, permission: Permission, inside: impl Fn(&Scope) -> bool) -> bool {
        let holds = |right: &Right| right.permissions.contains(&permission) && inside(&right.scope);
        (permission.reads() || !self.read_only)
            && self.limit.as_ref().is_none_or(holds)
            && self.pinned.as_ref().is_none_or(|pinned| pinned.iter().any(holds))
            && self.granted.iter().any(holds)
    }

    /// Whether the caller may do this to the object.
    #[must_use]
    pub fn may(&self, permission: Permission, object: Object<'_>) -> bool {
        self.holds(permission, |scope| match (scope, object) {
            (Scope::Cluster, _) => true,
            (Scope::Labels { labels: wanted }, Object::Of { labels, .. }) => {
                !wanted.is_empty() && wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
            }
            (Scope::Object { object, id: wanted }, Object::Of { kind, id, .. }) => {
                *object == kind && *wanted == id
            }
            (_, Object::Cluster) => false,
        })
    }

    /// Whether the caller may do this to anything at all.
    #[must_use]
    pub fn somewhere(&self, permission: Permission) -> bool {
        self.holds(permission, |_| true)
    }

    /// Whether the caller may do all of this everywhere in the scope: only then may they give it to others.
    #[must_use]
    pub fn covers(&self, right: &Right) -> bool {
        right.permissions.iter().all(|p| self.holds(*p, |scope| contains(scope, &right.scope)))
    }

    /// The same as permissions on scopes, for people. Where a grant on one object meets a token's limit to labels, the object
    /// is shown although its labels decide.
    #[must_use]
    pub fn shown(&self) -> Vec<Right> {
        let readable = |set: BTreeSet<Permission>| -> BTreeSet<Permission> {
            set.into_iter().filter(|p| p.reads() || !self.read_only).collect()
        };
        let both = |a: &Right, b: &Right| {
            Some(Right {
                scope: common(&a.scope, &b.scope)?,
                permissions: a.permissions.intersection(&b.permissions).copied().collect(),
            })
        };
        let limited = self.granted.iter().filter_map(|right| match &self.limit {
            None => Some(right.clone()),
            Some(limit) => both(right, limit),
        });
        let rights = limited.flat_map(|right| match &self.pinned {
            None => vec![right],
            Some(pinned) => pinned.iter().filter_map(|pin| both(&right, pin)).collect(),
        });
        let rights = rights.map(|r| Right { permissions: readable(r.permissions), ..r });
        rights.filter(|r| !r.permissions.is_empty()).collect()
    }
}

/// Whether every object in `inner` is in `outer`.
fn contains(outer: &Scope, inner: &Scope) -> bool {
    match (outer, inner) {
        (Scope::Cluster, _) => true,
        (Scope::Labels { labels: outer }, Scope::Labels { labels: inner }) => {
            !outer.is_empty() && outer.iter().all(|(k, v)| inner.get(k) == Some(v))
        }
        (Scope::Object { .. }, Scope::Object { .. }) => outer == inner,
        // What labels an object has may change.
        _ => false,
    }
}

/// The scope of objects that are in both; `None` where there are none.
fn common(a: &Scope, b: &Scope) -> Option<Scope> {
    match (a, b) {
        (Scope::Cluster, other) | (other, Scope::Cluster) => Some(other.clone()),
        (Scope::Labels { labels: a }, Scope::Labels { labels: b }) => {
            let contradict = a.iter().any(|(k, v)| b.get(k).is_some_and(|other| other != v));
            let labels = a.iter().chain(b).map(|(k, v)| (k.clone(), v.clone())).collect();
            (!contradict).then_some(Scope::Labels { labels })
        }
        (Scope::Object { .. }, Scope::Object { .. }) => (a == b).then(|| a.clone()),
        (object @ Scope::Object { .. }, _) | (_, object @ Scope::Object { .. }) => Some(object.clone()),
    }
}
