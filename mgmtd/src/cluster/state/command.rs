//! What can be asked of the state, and its answers. Stored in the log: fields are only ever added, with a default.

use super::{
    Adopted, Application, Authority, Capacity, Discarded, Formation, Maintenance, Peer,
    access::{External, Factor, Known, SessionRecord, TotpChange},
    alerts::{Attempt, Raised},
};
use crate::hardware::Hardware;
use jiff::Timestamp;
use lq_api::{
    AlertId, Bytes, ChannelId, GroupId, HostId, ImageId, Metadata, NetworkId, PoolId, ProviderId, RoleId,
    SessionId, TokenId, UserId, VmId, VolumeId,
    access::{
        CreateGroup, CreateRole, Group, Role, UpdateGroup, UpdateRole, UpdateUser, User, UserSource, UserSpec,
    },
    alert::{Alert, AlertRule, RuleSettings},
    auth::{FIRST_USER, Token},
    balance::BalanceSpec,
    bmc::SetBmc,
    channel::{Channel, CreateChannel, UpdateChannel},
    cluster::JoinToken,
    ha::HaSpec,
    image::{CreateImage, Image},
    meta::MetadataPatch,
    network::{CreateNetwork, Dhcp, Network, UpdateNetwork},
    pool::{CreatePool, Pool, PoolState},
    problem::FieldError,
    provider::{CreateProvider, Provider, UpdateProvider},
    settings::SavedFilter,
    time::TimeSpec,
    vm::{CreateVm, Mac, StopVm, UpdateVm, Vm, VmStatus},
    volume::{CreateVolume, Volume},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// When it was proposed: the only clock the state knows.
    pub at: Timestamp,
    /// What is to change.
    pub op: Op,
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only the name of the operation: commands may carry hashes of secrets.
        let text = format!("{:?}", self.op);
        f.write_str(text.split([' ', '(', '{']).next().unwrap_or_default())
    }
}

impl Op {
    /// The term this counts in alone, where it is bound to one.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        match self {
            Self::FailOver { term, .. } | Self::ProveOff { term, .. } => Some(*term),
            _ => None,
        }
    }
}

/// A change. `expect` is the revision the caller saw, where it told one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are the parts of the objects they are named after")]
pub enum Op {
    /// First start: the cluster, its first host, pool `local` and network `default`.
    Initialise {
        cluster: Uuid,
        host: HostId,
        host_name: String,
        pool: PoolId,
        network: NetworkId,
        dhcp: Option<Dhcp>,
    },
    /// Gives the cluster its certificate authority. One that has one keeps it.
    SetAuthority { authority: Authority },
    /// A new epoch begins. Only ever written by the host it begins from, into its own log, before it takes part again.
    Reform { formation: Formation },
    /// A host tells its name and boot. A new boot means that none of its machines runs.
    HostStarted { host: HostId, name: String, boot: Uuid },
    /// A host says how it is reached and what it can carry.
    DescribeHost { host: HostId, peer: Peer, capacity: Option<Capacity> },
    /// Changes a host's name and labels.
    UpdateHost { id: HostId, expect: Option<u64>, patch: MetadataPatch },
    /// Says what switches a host on and off from outside.
    SetBmc { id: HostId, expect: Option<u64>, set: SetBmc },
    /// Forgets that.
    ClearBmc { id: HostId, expect: Option<u64> },
    /// Makes a join token.
    CreateJoinToken { token: JoinToken, hash: String },
    /// Removes a join token.
    DeleteJoinToken { id: TokenId },
    /// Takes a host in, with everything it brings. `token` is the hash of the join token.
    Admit { token: String, application: Box<Application> },
    /// The first step of a removal: the host gives up its vote. Checked like the removal itself.
    LeaveHost { id: HostId, expect: Option<u64>, force: bool },
    /// Removes a host for ever. What only it holds is given up where `force` says so.
    RemoveHost { id: HostId, expect: Option<u64>, force: bool },

    /// Adds hosts that only a simulation has. What exists stays.
    SimulateHosts { hosts: Vec<(HostId, String)> },

    /// Makes a machine on `host`.
    CreateVm { id: VmId, host: HostId, create: CreateVm },
    /// Changes a machine.
    UpdateVm { id: VmId, expect: Option<u64>, update: UpdateVm },
    /// Changes a machine's power state.
    PowerVm { id: VmId, expect: Option<u64>, power: Power },
    /// Begins to remove a machine.
    DeleteVm { id: VmId, expect: Option<u64> },
    /// Its process is gone: the machine is removed.
    ForgetVm { id: VmId },
    /// A driver saw this. Where the host is going down, the machine's end is not its own wish.
    /// What is seen of a machine that is another host's by now counts for nothing: `by` says whose driver it was and in which epoch.
    ObserveVm {
        id: VmId,
        status: VmStatus,
        #[serde(default)]
        host_ends: bool,
        #[serde(default)]
        by: Option<(HostId, u64)>,
    },
    /// As of what was wanted in this generation there are only these devices of the machine on its host.
    LetGo {
        id: VmId,
        /// Whose driver says so, and in which epoch.
        by: (HostId, u64),
        generation: u64,
        volumes: BTreeSet<VolumeId>,
        nics: BTreeSet<Mac>,
    },
    /// The guest ejected this medium of a CD drive.
    MediumEjected { id: VmId, by: (HostId, u64), drive: u32, image: ImageId },
    /// A machine that runs begins to move; `moving` names the move. The claim of room on the other host.
    BeginMove {
        id: VmId,
        expect: Option<u64>,
        moving: Uuid,
        to: HostId,
        /// What the machine has, which is not always what is wanted of it.
        #[serde(default)]
        hardware: Option<Arc<Hardware>>,
    },
    /// The machine is the other host's from now on.
    SwitchMove { id: VmId, moving: Uuid },
    /// A move that was not switched is over: the machine stays. It can never be switched after that.
    EndMove { id: VmId, moving: Uuid },
    /// The machine is known to run on its new host, or it can be nowhere else any more.
    ConfirmMove { id: VmId, moving: Uuid },
    /// The machine never ran on its new host and never will: it is the old one's again.
    ReturnMove { id: VmId, moving: Uuid },
    /// A machine at rest becomes another host's.
    ReassignVm { id: VmId, expect: Option<u64>, to: HostId },
    /// Puts a host in maintenance, or ends it.
    SetMaintenance { id: HostId, expect: Option<u64>, maintenance: Option<Maintenance> },
    /// Arms or disarms high availability.
    SetHa { spec: HaSpec },
    /// Says which servers the clocks follow.
    SetTime { spec: TimeSpec },
    /// Says what is wanted of balancing.
    SetBalance { spec: BalanceSpec },
    /// Nothing of the machine runs without a lease on its host, in this epoch, since protection was asked for.
    GuardVm { id: VmId, host: HostId, epoch: u64, since: u64 },
    /// A machine of a lost host becomes another's. Counts only in the term it was decided in.
    FailOver {
        id: VmId,
        from: HostId,
        epoch: u64,
        to: HostId,
        term: u64,
        /// It runs there in the epoch past the one in which a place waits for it. Not so in logs from before machines moved: they
        /// mean the next epoch, and have to go on meaning it.
        #[serde(default)]
        past_places: bool,
    },
    /// A host that is silent is off, for certain.
    ConfirmOff { id: HostId, expect: Option<u64> },
    /// A host's BMC says that it is off since that boot. Counts only in the term it was asked in.
    ProveOff { id: HostId, boot: Uuid, term: u64 },
    /// It is not: it was heard in that boot.
    RevokeOff { id: HostId, boot: Uuid },

    /// Declares an image.
    CreateImage { id: ImageId, create: CreateImage },
    /// Changes its name and labels.
    UpdateImage { id: ImageId, expect: Option<u64>, patch: MetadataPatch },
    /// An upload begins.
    BeginUpload {
        id: ImageId,
        upload: Uuid,
        /// The host it comes through.
        #[serde(default)]
        receiver: Option<HostId>,
    },
    /// An upload succeeded.
    FinishUpload { id: ImageId, upload: Uuid, size: Bytes, virtual_size: Bytes, sha256: String },
    /// An upload failed.
    FailUpload { id: ImageId, upload: Uuid, reason: String },
    /// Removes an image.
    DeleteImage { id: ImageId, expect: Option<u64> },
    /// A copy of an image is about to be made in another pool.
    CopyImage { id: ImageId, pool: PoolId },
    /// Copies that a host did not need any more are gone from its pool.
    DropCopies { pool: PoolId, images: BTreeSet<ImageId> },

    /// Makes a volume.
    CreateVolume { id: VolumeId, create: CreateVolume },
    /// Changes its name and labels.
    UpdateVolume { id: VolumeId, expect: Option<u64>, patch: MetadataPatch },
    /// Asks for a larger size.
    GrowVolume { id: VolumeId, expect: Option<u64>, size: Bytes },
    /// It exists on the pool with this size.
    VolumeReady {
        id: VolumeId,
        size: Bytes,
        /// The host that made it: the word of one whose task it is no longer does not count.
        #[serde(default)]
        by: Option<HostId>,
    },
    /// It could not be made, or not be grown.
    VolumeFailed {
        id: VolumeId,
        reason: String,
        /// As of `VolumeReady`.
        #[serde(default)]
        by: Option<HostId>,
    },
    /// Begins to remove a volume.
    DeleteVolume { id: VolumeId, expect: Option<u64> },
    /// Its bytes are gone.
    ForgetVolume { id: VolumeId },

    /// Makes a shared pool.
    CreatePool { id: PoolId, create: CreatePool },
    /// Changes its name and labels.
    UpdatePool { id: PoolId, expect: Option<u64>, patch: MetadataPatch },
    /// Begins to remove a shared pool.
    DeletePool { id: PoolId, expect: Option<u64> },
    /// Its mark is gone.
    ForgetPool { id: PoolId },
    /// The variables of a machine that is being deleted could not be removed from a pool yet.
    LeaveVars { pool: PoolId, vm: VmId },
    /// Bytes that were to be removed are gone.
    BytesGone { pool: PoolId, gone: Discarded },
    /// Makes an object of what is in a pool and belongs to none.
    Adopt { pool: PoolId, name: String, labels: BTreeMap<String, String>, adopted: Adopted },
    /// A host says how it stands to a shared pool; the leader, that a host is silent.
    ObservePool { id: PoolId, host: HostId, state: PoolState, reason: Option<String> },

    /// Makes a network.
    CreateNetwork { id: NetworkId, create: CreateNetwork },
    /// Changes a network.
    UpdateNetwork { id: NetworkId, expect: Option<u64>, update: UpdateNetwork },
    /// Removes a network.
    DeleteNetwork { id: NetworkId, expect: Option<u64> },

    /// Sets a user's password (Argon2id PHC string). `only_first`: makes the user `admin` with it, at set-up.
    SetPassword {
        hash: String,
        only_first: bool,
        #[serde(default = "first_user")]
        user: UserId,
        #[serde(default)]
        must_change: bool,
        /// The session that goes on; all others of the user end.
        #[serde(default)]
        keep: Option<SessionId>,
    },
    /// Makes a user.
    CreateUser { id: UserId, new: NewUser },
    /// Changes a user.
    UpdateUser { id: UserId, expect: Option<u64>, update: UpdateUser },
    /// Removes a user, their sessions and tokens.
    DeleteUser { id: UserId, expect: Option<u64> },
    /// Changes a user's second factor.
    ChangeTotp { id: UserId, change: TotpChange },
    /// Makes a group.
    CreateGroup { id: GroupId, create: CreateGroup },
    /// Changes a group.
    UpdateGroup { id: GroupId, expect: Option<u64>, update: UpdateGroup },
    /// Removes a group.
    DeleteGroup { id: GroupId, expect: Option<u64> },
    /// Makes a role.
    CreateRole { id: RoleId, create: CreateRole },
    /// Changes a role.
    UpdateRole { id: RoleId, expect: Option<u64>, update: UpdateRole },
    /// Removes a role nobody has.
    DeleteRole { id: RoleId, expect: Option<u64> },

    /// Takes a key for sessions (base 64) in the place of `replaces`.
    SetSigningKey { id: Uuid, secret: String, replaces: Option<Uuid> },
    /// Someone logged in.
    BeginSession { session: SessionRecord, factor: Option<Factor> },
    /// A refresh token of this generation was presented.
    RefreshSession { id: SessionId, generation: u64, expires_at: Timestamp },
    /// Ends a session.
    EndSession { id: SessionId },
    /// Makes an API token.
    CreateToken { token: Token, hash: String },
    /// Removes an API token.
    DeleteToken { id: TokenId },
    /// Replaces what a user keeps for themselves.
    SetUserSettings { user: UserId, expect: Option<u64>, filters: Vec<SavedFilter> },

    /// Something is wrong, or is wrong in another way than before.
    RaiseAlert { alert: Raised },
    /// It is over.
    ClearAlert { id: AlertId },
    /// Someone takes note of it.
    AcknowledgeAlert { id: AlertId, by: String, comment: String },
    /// Nobody is notified of it until then; without a time they are again.
    SilenceAlert { id: AlertId, until: Option<Timestamp>, by: String, comment: String },
    /// Sets a rule, or sets it back.
    SetAlertRule { rule: AlertRule, settings: Option<RuleSettings> },
    /// Makes a notification channel.
    CreateChannel { id: ChannelId, create: CreateChannel },
    /// Changes a notification channel.
    UpdateChannel { id: ChannelId, expect: Option<u64>, update: UpdateChannel },
    /// Removes a notification channel.
    DeleteChannel { id: ChannelId, expect: Option<u64> },
    /// A channel was told something, or could not be.
    ObserveChannel { id: ChannelId, attempt: Attempt },

    /// Makes an identity provider.
    CreateProvider { id: ProviderId, create: CreateProvider },
    /// Changes an identity provider.
    UpdateProvider { id: ProviderId, expect: Option<u64>, update: UpdateProvider },
    /// Removes an identity provider and its users.
    DeleteProvider { id: ProviderId, expect: Option<u64> },
    /// A provider vouches for someone; `id` is theirs if they are new.
    Provision { id: UserId, provider: ProviderId, known: Known },
    /// A provider was asked about these users (nothing of those it does not know), or could not be.
    ObserveProvider { id: ProviderId, failure: Option<String>, seen: BTreeMap<UserId, Option<Known>> },
}

fn first_user() -> UserId {
    FIRST_USER
}

/// A new user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewUser {
    /// What they log in with.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    #[serde(default)]
    pub spec: UserSpec,
    /// Where their credentials are kept.
    #[serde(default)]
    pub source: UserSource,
    /// Who they are there.
    #[serde(default)]
    pub external: Option<External>,
    /// Argon2id in PHC string form.
    #[serde(default)]
    pub password: Option<String>,
    /// They have to set a new password at their first login.
    #[serde(default)]
    pub must_change_password: bool,
}

/// A change of power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Run.
    Start,
    /// Stop in this way.
    Stop(StopVm),
    /// Press the reset button.
    Reset,
    /// Halt the virtual CPUs.
    Pause,
    /// Go on.
    Resume,
}

/// Outcome of a command.
pub type Outcome = Result<Reply, Refusal>;

/// What a carried out command answers: the object as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// A machine.
    Vm(Arc<Vm>),
    /// An image.
    Image(Arc<Image>),
    /// A volume.
    Volume(Arc<Volume>),
    /// A pool.
    Pool(Arc<Pool>),
    /// A network.
    Network(Arc<Network>),
    /// A host.
    Host(Arc<Metadata<HostId>>),
    /// A user.
    User(Arc<User>),
    /// A group.
    Group(Arc<Group>),
    /// A role.
    Role(Arc<Role>),
    /// An alert.
    Alert(Arc<Alert>),
    /// A notification channel.
    Channel(Arc<Channel>),
    /// An identity provider.
    Provider(Arc<Provider>),
    /// A session goes on, in this generation; without one, only its access token is made anew.
    Refreshed {
        /// Of the next refresh token.
        generation: Option<u64>,
    },
    /// A used up refresh token was presented: the session was ended.
    Reused,
    /// A host that started: what happened to its machines, in words.
    Started(Vec<(VmId, String)>),
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The object does not exist.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// Kind of object.
        kind: String,
        /// Which.
        id: String,
    },
    /// The object was changed since the caller saw it.
    #[error("it has revision {found} now, not {expected}: read it again and repeat the change")]
    Stale {
        /// Revision the caller saw.
        expected: u64,
        /// Revision it has.
        found: u64,
    },
    /// The host cannot take the machine.
    #[error("the host cannot take the machine: {0}")]
    NoRoom(String),
    /// The object's state, or another object, forbids it.
    #[error("{0}")]
    Conflict(String),
    /// Fields are at fault.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Validation(Vec<FieldError>),
}

impl Refusal {
    /// `field` is refused because of `reason`.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(field, reason)])
    }
    /// There is no `kind` with this id.
    pub fn not_found(kind: &str, id: impl ToString) -> Self {
        Self::NotFound { kind: kind.into(), id: id.to_string() }
    }
}
