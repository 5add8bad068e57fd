//! The cluster's state and the one way it changes.
//!
//! Pure: no I/O, no clock, no randomness. [`State::apply`] is a function of the state, the log position and the command;
//! time and fresh ids come inside the command, so every host that applies the same log has the same state.
//!
//! Invariants, kept by every command (property-tested in `tests.rs`):
//! - names are unique per kind, hardware addresses unique in the cluster, ids never reused;
//! - a volume belongs to at most one machine, and `Volume::status.attached_to` says exactly to which: one that has it in its
//!   specification, or one whose guest has not let go of it yet;
//! - what an object names (image, volume, network, pool) exists as long as the object does;
//! - a host that was removed never comes back under its id;
//! - a refused command changes nothing;
//! - `meta.revision` of an object is the log position of its last change, `meta.generation` grows with its `spec`.

pub mod access;
pub mod alerts;
pub mod apply;
mod bmc;
pub mod bytes;
pub mod command;
pub mod epoch;
mod ha;
mod hardware;
mod hosts;
pub mod merge;
mod moves;
mod networks;
mod pools;
mod storage;
#[cfg(test)]
mod tests;
mod upgrade;
mod vms;

pub use access::{Object, Rights, SessionRecord, SigningKeys, UserRecord};
pub use bmc::BmcRecord;
pub use bytes::{Adopted, Discarded};
pub use command::{Command, Op, Outcome, Power, Refusal, Reply};
pub use epoch::{Formation, Position, Told};
pub use ha::Guard;
pub use hardware::Unplugged;
pub use hosts::Application;
pub use moves::{HostRole, Move};
pub use upgrade::{UpgradeError, read as read_state};

use crate::hardware::Hardware;
use jiff::Timestamp;
use lq_api::{
    Bytes, GroupId, HostId, ImageId, Metadata, NetworkId, PoolId, ProviderId, RoleId, SessionId, TokenId,
    UserId, VmId, VolumeId,
    access::{Group, ObjectKind, Role},
    auth::Token,
    balance::BalanceSpec,
    cluster::JoinToken,
    ha::HaSpec,
    image::Image,
    network::Network,
    pci::PciAddress,
    pool::{PoolHost, PoolSpec},
    settings::UserSettings,
    time::TimeSpec,
    vm::{StopVm, Vm},
    volume::Volume,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// Version of the stored form of [`State`]; grows when a reader of the old form could not read the new one.
pub const FORMAT: u32 = 2;

/// Everything the cluster has agreed on. Objects are shared, so a clone is cheap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster; absent until it was initialised.
    pub cluster: Option<ClusterRecord>,
    /// Hosts.
    pub hosts: BTreeMap<HostId, Arc<HostRecord>>,
    /// Storage pools.
    pub pools: BTreeMap<PoolId, Arc<PoolRecord>>,
    /// Machines.
    pub vms: BTreeMap<VmId, Arc<VmRecord>>,
    /// Images.
    pub images: BTreeMap<ImageId, Arc<ImageRecord>>,
    /// Volumes.
    pub volumes: BTreeMap<VolumeId, Arc<Volume>>,
    /// Networks.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// API tokens.
    pub tokens: BTreeMap<TokenId, Arc<TokenRecord>>,
    /// Users.
    pub users: BTreeMap<UserId, Arc<UserRecord>>,
    /// Groups of users.
    #[serde(default)]
    pub groups: BTreeMap<GroupId, Arc<Group>>,
    /// Roles beside the built-in ones.
    #[serde(default)]
    pub roles: BTreeMap<RoleId, Arc<Role>>,
    /// Sessions: one that is not here any more is revoked.
    #[serde(default)]
    pub sessions: BTreeMap<SessionId, Arc<SessionRecord>>,
    /// What their tokens are signed with.
    #[serde(default)]
    pub signing: SigningKeys,
    /// What users keep for themselves.
    #[serde(default)]
    pub settings: BTreeMap<UserId, Arc<UserSettings>>,
    /// Hosts that were removed. Their ids never come back.
    #[serde(default)]
    pub removed: BTreeMap<HostId, RemovedHost>,
    /// Join tokens.
    #[serde(default)]
    pub join_tokens: BTreeMap<TokenId, Arc<JoinTokenRecord>>,
    /// How each host was admitted, so that an admission can be repeated.
    #[serde(default)]
    pub admitted_with: BTreeMap<HostId, Admission>,
    /// Bytes in pools that are to be removed.
    #[serde(default)]
    pub discarded: BTreeMap<PoolId, Discarded>,
    /// Alerts, their rules, and whom they are told to.
    #[serde(default)]
    pub alerting: alerts::Alerting,
    /// Identity providers.
    #[serde(default)]
    pub providers: BTreeMap<ProviderId, Arc<access::ProviderRecord>>,
}

/// How a host was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Hash of the join token.
    pub token: String,
    /// [`Objects::digest`](merge::Objects::digest) of what it brought.
    pub brought: String,
}

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Identity.
    pub id: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its certificate authority; absent only until the first start of a release that knows it.
    #[serde(default)]
    pub authority: Option<Authority>,
    /// Grows when the cluster is formed anew without a majority.
    #[serde(default = "epoch::first")]
    pub epoch: u64,
    /// How each epoch after the first began, oldest first.
    #[serde(default)]
    pub formations: Vec<Formation>,
    /// What is wanted of high availability.
    #[serde(default)]
    pub ha: HaSpec,
    /// What is wanted of balancing.
    #[serde(default)]
    pub balance: BalanceSpec,
    /// What the clocks follow.
    #[serde(default)]
    pub time: TimeSpec,
}

/// The cluster's certificate authority. Every host issues its own certificates with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM. Never leaves the hosts of the cluster.
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(key hidden)")
    }
}

/// How a host is known to its peers and reached by them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// SHA-256 of its public key, hexadecimal. Never changes.
    pub pin: String,
    /// Where its peers reach it, `address:port`.
    pub address: String,
}

/// What a host can carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Logical processors.
    pub threads: u32,
    /// Memory in all.
    pub memory: Bytes,
    /// Features of the highest CPU model that its processors have not.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// The version it runs.
    #[serde(default)]
    pub release: Option<Release>,
    /// It only votes: no machine, pool or network is ever on it.
    #[serde(default)]
    pub witness: bool,
    /// Functions on its PCI bus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<HostFunction>,
}

/// A function on a host's PCI bus, as far as it matters to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFunction {
    /// Where it is.
    pub address: PciAddress,
    /// Its IOMMU group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The others of its group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together_with: Vec<PciAddress>,
    /// Why it cannot be given to a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// A version of the product: machines move while they run to the same or a later one only, whose monitor knows all that they
/// bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release(pub [u16; 3]);

impl Release {
    /// From `1.2.3`; what follows after that says nothing here.
    #[must_use]
    pub fn parse(version: &str) -> Option<Self> {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self([parts.next()??, parts.next()??, parts.next()??]))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// A host that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedHost {
    /// Its last name.
    pub name: String,
    /// When.
    pub at: Timestamp,
}

/// A join token with the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRecord {
    /// As the API shows it.
    pub token: JoinToken,
    /// SHA-256 of the secret (256 random bits), hexadecimal.
    pub hash: String,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Identity and name.
    pub meta: Metadata<HostId>,
    /// Boot the host last reported; another one means that nothing from before still runs.
    #[serde(default)]
    pub boot: Option<Uuid>,
    /// It is about to be removed and does not vote any more.
    #[serde(default)]
    pub leaving: bool,
    /// Its name was given in the cluster and is not the one it calls itself by.
    #[serde(default)]
    pub named: bool,
    /// How its peers know and reach it.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// What it can carry, as it last said.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// It is in maintenance: no machine is placed on it.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// The cluster was formed anew without it. It comes back by joining anew.
    #[serde(default)]
    pub lost: Option<epoch::Lost>,
    /// The boot in which it is known to have been switched off, without having said so itself.
    #[serde(default)]
    pub off: Option<Uuid>,
    /// Its BMC said so, and no person.
    #[serde(default)]
    pub off_by_bmc: bool,
    /// What switches it on and off from outside.
    #[serde(default)]
    pub bmc: Option<BmcRecord>,
}

/// That a host is in maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Machines that cannot be moved away are shut down.
    pub shut_down: bool,
}

/// A storage pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Identity and name.
    pub meta: Metadata<PoolId>,
    /// Driver and place.
    pub spec: PoolSpec,
    /// Of a shared pool: how each host stands to it, as it last said.
    #[serde(default)]
    pub hosts: BTreeMap<HostId, PoolHost>,
    /// A host has put the pool's mark into it: one that is empty now is not it.
    #[serde(default)]
    pub claimed: bool,
    /// It is to disappear as soon as its mark is gone.
    #[serde(default)]
    pub deleting: bool,
}

impl PoolRecord {
    /// A new pool.
    #[must_use]
    pub fn new(meta: Metadata<PoolId>, spec: PoolSpec) -> Self {
        Self { meta, spec, hosts: BTreeMap::new(), claimed: false, deleting: false }
    }
}

/// A machine with what only the daemon needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// The machine as the API shows it.
    pub vm: Vm,
    /// How it is stopped when its power state becomes `Stopped`.
    #[serde(default)]
    pub stop: StopVm,
    /// Grows with each reset asked for.
    #[serde(default)]
    pub reset_count: u64,
    /// It is to disappear as soon as its process is gone.
    #[serde(default)]
    pub deleting: bool,
    /// Grows each time the machine becomes another host's.
    #[serde(default)]
    pub epoch: u64,
    /// It moves to another host.
    #[serde(default)]
    pub moving: Option<Move>,
    /// The epoch in which it last came back from a host that never ran it.
    #[serde(default)]
    pub returned: Option<u64>,
    /// The shared pool its firmware's variables are in; its host's own where absent. Never changes.
    #[serde(default)]
    pub vars: Option<PoolId>,
    /// It is to run only under leases, because it is protected.
    #[serde(default)]
    pub guard: Option<Guard>,
    /// What was cut from it while it runs, and may be in its guest's hands still.
    #[serde(default)]
    pub unplugged: Unplugged,
    /// What it has, while it moves: as its old host said when the move began.
    #[serde(default)]
    pub hardware: Option<Arc<Hardware>>,
}

/// An image with what only the daemon needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The image as the API shows it.
    pub image: Image,
    /// The upload under way; only its end counts.
    #[serde(default)]
    pub upload: Option<Uuid>,
    /// The host that receives it.
    #[serde(default)]
    pub receiver: Option<HostId>,
    /// Other pools in which a copy was begun.
    #[serde(default)]
    pub copies: BTreeSet<PoolId>,
}

impl ImageRecord {
    /// One that nobody is uploading.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self { image, upload: None, receiver: None, copies: BTreeSet::new() }
    }
}

/// An API token with the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The token as the API shows it.
    pub token: Token,
    /// SHA-256 of the secret (256 random bits, so no slow hash is needed), hexadecimal.
    pub hash: String,
}

/// Kind of an object, for change notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`HostRecord`]
    Host,
    /// [`PoolRecord`]
    Pool,
    /// [`VmRecord`]
    Vm,
    /// [`ImageRecord`]
    Image,
    /// [`Volume`]
    Volume,
    /// [`Network`]
    Network,
    /// [`alerts::AlertRecord`]
    Alert,
    /// [`UserRecord`]
    User,
    /// [`TokenRecord`]; like all that follow never sent to watchers.
    Token,
    /// [`Group`]
    Group,
    /// [`Role`]
    Role,
    /// [`SessionRecord`]
    Session,
}

impl Kind {
    /// The kind as grants know it, of what is watched.
    #[must_use]
    pub fn object(self) -> Option<ObjectKind> {
        Some(match self {
            Self::Host => ObjectKind::Host,
            Self::Pool => ObjectKind::Pool,
            Self::Vm => ObjectKind::Vm,
            Self::Image => ObjectKind::Image,
            Self::Volume => ObjectKind::Volume,
            Self::Network => ObjectKind::Network,
            Self::Alert | Self::Token | Self::User | Self::Group | Self::Role | Self::Session => return None,
        })
    }
}

/// An object was made, changed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Log position.
    pub revision: u64,
    /// Kind of the object.
    pub kind: Kind,
    /// The object.
    pub id: Uuid,
}

impl State {
    /// An empty state of the present format.
    #[must_use]
    pub fn new() -> Self {
        Self { format: FORMAT, ..Self::default() }
    }

    /// Machines that boot from an image or have it in a drive, volumes cloned from it, images that name it as a boot default.
    pub fn image_users(&self, id: ImageId) -> (Vec<VmId>, Vec<VolumeId>, Vec<ImageId>) {
        let boots = |boot: &Option<lq_api::vm::Boot>| {
            boot.as_ref().is_some_and(|b| b.kernel == id || b.initrd == Some(id))
        };
        (
            self.vms.values().filter(|r| r.vm.spec.images().any(|i| i == id)).map(|r| r.vm.meta.id).collect(),
            self.volumes.values().filter(|v| v.spec.source == Some(id)).map(|v| v.meta.id).collect(),
            self.images.values().filter(|r| boots(&r.image.spec.boot)).map(|r| r.image.meta.id).collect(),
        )
    }
}
