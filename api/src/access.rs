//! Users, groups and roles: who may do what, and where.
//!
//! ```text
//!  user ──member of──▶ group
//!    └──────┬────────────┘
//!        grants: (role, scope)      role = set of permissions     scope = cluster | labels | one object
//! ```
//! A caller may do something to an object when one of its grants has a role with the permission and a scope the object is in.
//! There is no "deny": what nothing grants is refused. What a caller may not read is answered as if it did not exist.

use crate::{
    GroupId, Metadata, ProviderId, RoleId, Timestamp, UserId,
    meta::{check_labels, check_name},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};
use uuid::Uuid;

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// Something one may do. Written like `vm.power`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {$(
            $(#[doc = $doc])+
            #[serde(rename = $text)]
            $name,
        )*}

        impl Permission {
            /// Every permission there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is written.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {$(Self::$name => $text,)*}
            }

            /// What it allows, in words.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {$(Self::$name => concat!($($doc),+).trim_start(),)*}
            }
        }
    };
}
permissions! {
    /// See machines, their counters, tasks and events.
    VmRead = "vm.read",
    /// Create, change and delete machines.
    VmWrite = "vm.write",
    /// Start, stop, reset, pause and resume machines.
    VmPower = "vm.power",
    /// Use the consoles of machines.
    VmConsole = "vm.console",
    /// See pools, volumes and images; clone and boot from images; put volumes and images into pools.
    StorageRead = "storage.read",
    /// Create, change and delete volumes and images; give volumes to machines.
    StorageWrite = "storage.write",
    /// See networks; connect machines to them.
    NetworkRead = "network.read",
    /// Create, change and delete networks.
    NetworkWrite = "network.write",
    /// See hosts.
    HostRead = "host.read",
    /// Restart hosts and switch them off.
    HostPower = "host.power",
    /// See the state of the cluster and the metrics.
    ClusterRead = "cluster.read",
    /// Change the cluster: hosts that join and leave, settings.
    ClusterWrite = "cluster.write",
    /// Acknowledge and silence alerts. They are seen by those who may see what they are about.
    AlertWrite = "alert.write",
    /// See users, groups, roles, and the tokens and sessions of all.
    UserRead = "user.read",
    /// Create, change and delete users, groups and roles; end sessions and revoke tokens of others.
    UserWrite = "user.write",
    /// Read the audit log.
    AuditRead = "audit.read",
}

impl Permission {
    /// Whether it only lets one see.
    #[must_use]
    pub fn reads(self) -> bool {
        self.text().ends_with(".read")
    }
}

// Derived, it would have the variants' names: the derive does not see through a macro's literals.
#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Permission {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("Something one may do."))
            .enum_values(Some(Self::ALL.iter().map(|p| p.text())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Permission {}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Permission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|p| p.text() == text);
        found.copied().ok_or_else(|| format!("there is no permission `{text}`"))
    }
}

/// A permission, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PermissionInfo {
    /// The permission.
    pub name: Permission,
    /// What it allows, in words.
    pub description: String,
}

/// Kinds of object a grant can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A machine.
    Vm,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// A storage pool.
    Pool,
    /// A host.
    Host,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Vm, Self::Image, Self::Volume, Self::Network, Self::Pool, Self::Host];

    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Host => "host",
        }
    }

    /// What one may do to an object of this kind.
    pub fn permissions(self) -> impl Iterator<Item = Permission> {
        let domain = |p: Permission| p.text().split_once('.').map(|(domain, _)| domain);
        let own = domain(self.read_permission());
        Permission::ALL.iter().copied().filter(move |p| domain(*p) == own)
    }

    /// What it takes to see an object of this kind.
    #[must_use]
    pub const fn read_permission(self) -> Permission {
        match self {
            Self::Vm => Permission::VmRead,
            Self::Image | Self::Volume | Self::Pool => Permission::StorageRead,
            Self::Network => Permission::NetworkRead,
            Self::Host => Permission::HostRead,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for ObjectKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|k| k.text() == text);
        found.copied().ok_or_else(|| format!("there is no kind of object `{text}`"))
    }
}

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scope {
    /// Everywhere. `cluster.*`, `alert.*`, `user.*` and `audit.*` hold only here.
    Cluster,
    /// On objects that have all of these labels, e.g. `folder=prod`.
    Labels {
        /// At least one.
        labels: BTreeMap<String, String>,
    },
    /// On one object.
    Object {
        /// Its kind.
        object: ObjectKind,
        /// Its id.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Uuid))]
        id: Uuid,
    },
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Labels { labels } => {
                let pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                f.write_str(&pairs.join(","))
            }
            Self::Object { object, id } => write!(f, "{object}/{id}"),
        }
    }
}

/// `cluster`, `key=value[,key=value…]` or `kind/id`.
impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "cluster" {
            return Ok(Self::Cluster);
        }
        let wrong = || format!("`{text}` is not `cluster`, `KEY=VALUE[,…]` or `KIND/ID`");
        if text.contains('=') {
            let pairs = text.split(',').map(|pair| pair.split_once('=').ok_or_else(wrong));
            let labels = pairs
                .map(|pair| pair.map(|(k, v)| (k.to_owned(), v.to_owned())))
                .collect::<Result<_, _>>()?;
            return Ok(Self::Labels { labels });
        }
        let (kind, id) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self::Object { object: kind.parse()?, id: id.parse().map_err(|_| wrong())? })
    }
}

/// A role on a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role.
    pub role: RoleId,
    /// Where it holds.
    pub scope: Scope,
}

/// Most grants of a user or group.
pub const MAX_GRANTS: usize = 256;
/// Most members of a group.
pub const MAX_MEMBERS: usize = 10_000;

/// Checks grants in themselves: whether the roles exist is the state's to say.
#[must_use]
pub fn check_grants(field: &str, grants: &[Grant]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if grants.len() > MAX_GRANTS {
        errors.push(FieldError::new(field, format!("at most {MAX_GRANTS} grants")));
    }
    for (n, grant) in grants.iter().enumerate() {
        if let Scope::Labels { labels } = &grant.scope {
            let field = format!("{field}[{n}].scope.labels");
            if labels.is_empty() {
                errors
                    .push(FieldError::new(field.clone(), "name at least one label, or grant on the cluster"));
            }
            errors.extend(check_labels(&field, labels));
        }
    }
    errors
}

/// The built-in role with every permission.
pub const ADMINISTRATOR: RoleId = RoleId(Uuid::from_u128(0x7000_8000_0000_0000_0001));
/// The built-in role that runs everything but neither users nor the cluster itself.
pub const OPERATOR: RoleId = RoleId(Uuid::from_u128(0x7000_8000_0000_0000_0002));
/// The built-in role that uses machines others make.
pub const VM_USER: RoleId = RoleId(Uuid::from_u128(0x7000_8000_0000_0000_0003));
/// The built-in role that sees everything and changes nothing.
pub const AUDITOR: RoleId = RoleId(Uuid::from_u128(0x7000_8000_0000_0000_0004));

/// A set of permissions with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Role {
    /// Identity.
    pub meta: Metadata<RoleId>,
    /// What it allows.
    pub spec: RoleSpec,
    /// It comes with the product and cannot be changed.
    #[serde(default)]
    pub builtin: bool,
}

/// What a role allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What one may do with it.
    pub permissions: BTreeSet<Permission>,
}

impl Role {
    /// The roles that come with the product.
    #[must_use]
    pub fn builtin() -> [Self; 4] {
        use Permission as P;
        let all = || P::ALL.iter().copied();
        let make = |id, name: &str, description: &str, permissions: BTreeSet<Permission>| Self {
            meta: Metadata {
                id,
                name: name.into(),
                labels: BTreeMap::new(),
                generation: 1,
                revision: 0,
                created_at: Timestamp::UNIX_EPOCH,
            },
            spec: RoleSpec { description: description.into(), permissions },
            builtin: true,
        };
        let beyond = [P::ClusterWrite, P::UserRead, P::UserWrite, P::AuditRead];
        [
            make(ADMINISTRATOR, "administrator", "May do everything", all().collect()),
            make(
                OPERATOR,
                "operator",
                "Runs machines, storage, networks and hosts",
                all().filter(|p| !beyond.contains(p)).collect(),
            ),
            make(
                VM_USER,
                "vm-user",
                "Sees, switches and uses machines",
                [P::VmRead, P::VmPower, P::VmConsole].into(),
            ),
            make(
                AUDITOR,
                "auditor",
                "Sees everything, the audit log too, and changes nothing",
                all().filter(|p| p.reads()).collect(),
            ),
        ]
    }
}

/// `POST /roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateRole {
    /// Unique among roles.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it allows.
    pub spec: RoleSpec,
}

/// `PATCH /roles/{id}`; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateRole {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New labels, replacing the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// New permissions, replacing the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<RoleSpec>,
}

/// Users with common grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// Identity.
    pub meta: Metadata<GroupId>,
    /// What is wanted.
    pub spec: GroupSpec,
}

/// Who is in a group and what that grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Users in it.
    #[serde(default)]
    pub members: BTreeSet<UserId>,
    /// What members may do.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

impl GroupSpec {
    /// Faults of its fields.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = check_text("spec.description", &self.description);
        if self.members.len() > MAX_MEMBERS {
            errors.push(FieldError::new("spec.members", format!("at most {MAX_MEMBERS} members")));
        }
        errors.extend(check_grants("spec.grants", &self.grants));
        errors
    }
}

/// `POST /groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// Unique among groups.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Members and grants.
    #[serde(default)]
    pub spec: GroupSpec,
}

/// `PATCH /groups/{id}`; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateGroup {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New labels, replacing the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// New members and grants, replacing the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<GroupSpec>,
}

/// Where a user's credentials are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum UserSource {
    /// In the cluster itself.
    #[default]
    Local,
    /// In an LDAP directory.
    Ldap,
    /// At an OpenID Connect provider.
    Oidc,
}

/// Someone who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    /// Identity; the name is what they log in with.
    pub meta: Metadata<UserId>,
    /// What is wanted.
    pub spec: UserSpec,
    /// What is so.
    pub status: UserStatus,
}

/// The wanted user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Name for people, at most 255 characters.
    #[serde(default)]
    pub full_name: String,
    /// They cannot log in, and their tokens and sessions count for nothing.
    #[serde(default)]
    pub disabled: bool,
    /// What they may do, beside what their groups grant.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

impl UserSpec {
    /// Faults of its fields.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = check_text("spec.full_name", &self.full_name);
        errors.extend(check_grants("spec.grants", &self.grants));
        errors
    }
}

fn check_text(field: &str, text: &str) -> Vec<FieldError> {
    let long = text.chars().count() > 255;
    long.then(|| FieldError::new(field, "has at most 255 characters")).into_iter().collect()
}

impl RoleSpec {
    /// Faults of its fields.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        check_text("spec.description", &self.description)
    }
}

/// The observed user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserStatus {
    /// Where their credentials are kept.
    #[serde(default)]
    pub source: UserSource,
    /// The identity provider they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderId>,
    /// The provider does not know them any more, or has disabled them: they cannot log in.
    #[serde(default)]
    pub gone: bool,
    /// Groups they are in, by what the provider says too.
    #[serde(default)]
    pub groups: Vec<GroupId>,
    /// They log in with a one-time code too.
    #[serde(default)]
    pub totp: bool,
    /// Recovery codes not used yet.
    #[serde(default)]
    pub recovery_codes: u32,
    /// They have to set a new password at their next login.
    #[serde(default)]
    pub must_change_password: bool,
    /// When the password was set; absent where there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_set_at: Option<Timestamp>,
    /// When they last logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<Timestamp>,
}

/// Checks a user's name: like any name, and `@` may be in it.
#[must_use]
pub fn check_user_name(field: &str, name: &str) -> Option<FieldError> {
    let error = check_name(field, &name.replace('@', "_"))?;
    Some(FieldError { reason: error.reason.replace(". _ -", ". _ - @"), ..error })
}

/// `POST /users`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// What they log in with; unique among users.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    #[serde(default)]
    pub spec: UserSpec,
    /// First password, 8 characters to 256 bytes. Absent: they cannot log in until one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// They have to set a new password at their first login.
    #[serde(default = "yes")]
    pub must_change_password: bool,
}

fn yes() -> bool {
    true
}

/// `PATCH /users/{id}`; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New labels, replacing the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// New spec, replacing the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<UserSpec>,
}

/// `POST /users/{id}/password`: someone else sets it. All sessions of the user end.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// 8 characters to 256 bytes.
    pub password: String,
    /// They have to set a new one at their next login.
    #[serde(default = "yes")]
    pub must_change_password: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_and_read() {
        for permission in Permission::ALL {
            assert_eq!(permission.text().parse(), Ok(*permission));
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.text());
            assert!(permission.description().ends_with('.'), "{permission}");
        }
        assert!("vm.fly".parse::<Permission>().is_err());
    }

    #[test]
    fn scopes_are_written_and_read() {
        let labels = BTreeMap::from([("folder".to_owned(), "prod".to_owned()), ("tier".into(), "1".into())]);
        let scopes = [
            Scope::Cluster,
            Scope::Labels { labels },
            Scope::Object { object: ObjectKind::Vm, id: Uuid::from_u128(7) },
        ];
        for scope in scopes {
            assert_eq!(scope.to_string().parse(), Ok(scope.clone()));
            let json = serde_json::to_string(&scope).unwrap();
            assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope);
        }
        assert!("prod".parse::<Scope>().is_err());
        assert!("dog/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a".parse::<Scope>().is_err());
    }

    #[test]
    fn built_in_roles_are_what_they_say() {
        let [administrator, operator, vm_user, auditor] = Role::builtin();
        assert_eq!(administrator.spec.permissions.len(), Permission::ALL.len());
        assert!(!operator.spec.permissions.contains(&Permission::UserWrite));
        assert!(operator.spec.permissions.contains(&Permission::HostPower));
        assert!(!vm_user.spec.permissions.contains(&Permission::VmWrite));
        assert!(auditor.spec.permissions.iter().all(|p| p.reads()));
        assert!(auditor.spec.permissions.contains(&Permission::AuditRead));
    }

    #[test]
    fn user_names_may_be_addresses() {
        assert!(check_user_name("name", "eve@example.org").is_none());
        assert!(check_user_name("name", "@eve").is_some());
        assert!(check_user_name("name", "eve eve").unwrap().reason.contains('@'));
    }
}
