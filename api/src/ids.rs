//! Identities. Every object is known by a UUID of its own type, so that one kind cannot stand where another is meant.
//! Ids are never reused; names and addresses are attributes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = Uuid))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id, ordered by time of creation (UUID version 7).
            #[must_use]
            pub fn new() -> Self { Self(Uuid::now_v7()) }
        }
        impl Default for $name { fn default() -> Self { Self::new() } }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}({})", stringify!($name), self.0) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> { Uuid::from_str(s).map(Self) }
        }
        impl From<Uuid> for $name { fn from(u: Uuid) -> Self { Self(u) } }
        impl From<$name> for Uuid { fn from(id: $name) -> Self { id.0 } }
    )*};
}

id! {
    /// A host (one machine running LimiQuantix).
    HostId,
    /// A virtual machine.
    VmId,
    /// A disk, kernel or initrd image from which volumes and boots are made.
    ImageId,
    /// A disk of a virtual machine.
    VolumeId,
    /// A network guests connect to.
    NetworkId,
    /// A storage pool.
    PoolId,
    /// A long operation.
    TaskId,
    /// An entry of the event log.
    EventId,
    /// An API token.
    TokenId,
    /// A user account.
    UserId,
    /// A group of users.
    GroupId,
    /// A role.
    RoleId,
    /// A session of a user.
    SessionId,
    /// A record of the audit log.
    AuditId,
    /// An alert.
    AlertId,
    /// A notification channel.
    ChannelId,
    /// An identity provider.
    ProviderId,
}
