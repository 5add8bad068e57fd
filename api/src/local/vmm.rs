//! The configuration, control protocol and end of `lq-vmm`.
//!
//! Started as `lq-vmm run --config <file>`; opens all it needs, gives up every privilege, then runs the guest. The control
//! socket takes one [`Request`] a line and answers each by one [`Response`] with the same `id`; after `Subscribe`, [`Event`]s
//! follow on that connection. The console socket is the guest's serial line as plain bytes: a new client first gets the
//! kept scroll-back, then what comes; what it sends is typed. Several clients may be connected.
//!
//! On SIGTERM the monitor presses the guest's power button.

mod cpu;
mod devices;
mod hotplug;
mod lease;
mod limits;
mod passthrough;
mod qemu;
mod vhost_user;

pub use cpu::CpuModel;
pub use devices::{
    BalloonConfig, BalloonStatus, BalloonTarget, BootDevice, CdromConfig, CdromEject, CdromInsert, CpuStatus,
    CpuTarget, CpusConfig, GuestMemory, MemoryConfig, MemoryStatus, MemoryTarget, MoreDevices, TpmConfig,
    VsockConfig, WatchdogAction,
};
pub use hotplug::{DeviceName, DiskPlug, HotplugConfig, NicPlug, Unplug, default_unplug_timeout};
pub use lease::{
    LeaseConfig, LeaseEnd, LeaseGrant, LeasePhase, LeaseRelease, LeaseStatus, default_grace, default_margin,
};

pub use passthrough::PassthroughConfig;
pub use vhost_user::{VhostUserBlock, VhostUserConfig, VhostUserDevice, VhostUserFs, VhostUserNet};

pub use limits::{DiskLimitsChange, DiskResize, IoLimits, NicLimits, NicLimitsChange, NicLink, Rate};
pub use qemu::{DeviceModel, Hypervisor, MachineType, QemuConfig};

use crate::{Bytes, VmId, image::ImageFormat, vm::Mac};
use serde::{Deserialize, Serialize};

/// Version of the configuration and of the protocol.
pub const VERSION: u32 = 1;

/// Everything a monitor is told at its start. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmmConfig {
    /// [`VERSION`].
    pub version: u32,
    /// The machine.
    pub vm: VmId,
    /// Its name, for logs and SMBIOS.
    pub name: String,
    /// Virtual CPUs, 1 to 64.
    pub vcpus: u8,
    /// Memory, a multiple of 1 MiB.
    pub memory_bytes: Bytes,
    /// What to boot.
    pub boot: BootConfig,
    /// Disks in guest order.
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// Interfaces in guest order.
    #[serde(default)]
    pub nics: Vec<NicConfig>,
    /// A random number source.
    #[serde(default)]
    pub rng: bool,
    /// A screen by ramfb, served by RFB on a socket of its own, with keyboard and pointer. Only with firmware.
    #[serde(default)]
    pub display: bool,
    /// Directory for control socket, console socket, exit record (names in [`super::paths`]).
    pub run_dir: String,
    /// Isolation; absent only in tests and benchmarks.
    #[serde(default)]
    pub jail: Option<Jail>,
    /// How the machine begins.
    #[serde(default)]
    pub start: Start,
    /// What the guest sees of the processor.
    #[serde(default)]
    pub cpu: CpuModel,
    /// More devices.
    #[serde(default)]
    pub devices: MoreDevices,
    /// What firmware tries to boot, in this order; empty: disks, then CD drives, then interfaces.
    #[serde(default)]
    pub boot_order: Vec<BootDevice>,
    /// Until when it may write to its disks; absent: for ever.
    #[serde(default)]
    pub lease: Option<LeaseConfig>,
    /// Slots of the bus nothing is put into by itself: where devices were that have been unplugged. Keeps the devices after
    /// them where their guest knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_slots: Vec<u8>,
    /// For `lq-vmm qemu`, which runs the machine on QEMU and does here what else the monitor does itself; absent: it is the
    /// monitor's own (`lq-vmm run`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<QemuConfig>,
}

/// How a machine begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From its boot files.
    #[default]
    Boot,
    /// Where a saved one stood, paused.
    Restore(Restore),
    /// As one that moves here: it waits for `MigrateIn`.
    Incoming,
}

/// A saved machine to take up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The file `Snapshot` wrote.
    pub path: String,
    /// The saved machine lives on or is taken up more than once: the guest is told that it is a copy (by its generation
    /// id), so that it makes new keys and random numbers.
    #[serde(default)]
    pub copy: bool,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootConfig {
    /// A kernel, directly.
    Direct(BootFiles),
    /// UEFI firmware, which boots from the disks in their order, then from the interfaces.
    Firmware(FirmwareFiles),
    /// A legacy BIOS, which boots as UEFI firmware does. Only on QEMU, which brings it.
    Bios,
}

/// Files of stock UEFI firmware for Q35 (OVMF).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFiles {
    /// Its code, e.g. `OVMF_CODE_4M.fd`: a multiple of 4 KiB, with `vars` at most 16 MiB.
    pub code: String,
    /// This machine's own copy of its variables' template, e.g. `OVMF_VARS_4M.fd`. Written to.
    pub vars: String,
    /// Where what it says on its debug port is appended to, up to 1 MiB a run; builds for release say nothing.
    #[serde(default)]
    pub debug_log: Option<String>,
}

/// Files for direct Linux boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFiles {
    /// bzImage or ELF with PVH entry.
    pub kernel: String,
    /// Initial RAM disk.
    #[serde(default)]
    pub initrd: Option<String>,
    /// Command line.
    #[serde(default)]
    pub cmdline: String,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Serial number shown to the guest (virtio-blk GET_ID), at most 20 bytes.
    pub serial: String,
    /// The image, top of its chain.
    pub image: DiskImage,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
    /// How much it may do.
    #[serde(default)]
    pub limits: IoLimits,
    /// Queues, each served by a thread: 1 to the number of virtual CPUs, at most 16.
    #[serde(default = "one_queue", skip_serializing_if = "is_one_queue")]
    pub queues: u8,
    /// Its slot on the bus, from 1; absent: the next free one, in the order disks, interfaces, all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

/// [`DiskConfig::queues`] and [`NicConfig::queues`] where nothing is said.
#[must_use]
pub const fn one_queue() -> u8 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one_queue(queues: &u8) -> bool {
    *queues == 1
}

/// An image file and what lies under it. A qcow2 file's own word about its backing file is never followed: only what is
/// named here is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskImage {
    /// The file.
    pub path: String,
    /// Its format.
    pub format: ImageFormat,
    /// The image under it, read only.
    #[serde(default)]
    pub backing: Option<Box<DiskImage>>,
}

impl DiskImage {
    /// It, then those under it.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |image| image.backing.as_deref())
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicConfig {
    /// Existing persistent tap device.
    pub tap: String,
    /// Hardware address the guest sees.
    pub mac: Mac,
    /// How much it may do.
    #[serde(default)]
    pub limits: NicLimits,
    /// Pairs of queues, as of a disk. More than one need a tap that was made with `multi_queue`.
    #[serde(default = "one_queue", skip_serializing_if = "is_one_queue")]
    pub queues: u8,
    /// Its cable is out at the start.
    #[serde(default)]
    pub link_down: bool,
    /// Its slot on the bus, as of a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

/// How the monitor locks itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jail {
    /// User id it runs as.
    pub uid: u32,
    /// Group id it runs as.
    pub gid: u32,
}

/// A request on the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// Repeated in the response.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// What a monitor can be asked. Devices are counted in the order of the present configuration, which `Config` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Answer: `Status`.
    Status,
    /// Answer: `Stats`.
    Stats,
    /// Answer: `Config`.
    Config,
    /// Halts the virtual CPUs; block I/O under way is finished first.
    Pause,
    /// Goes on after `Pause`.
    Resume,
    /// Restarts the guest from its boot files, as a reset button does.
    Reset,
    /// Presses the ACPI power button.
    PowerButton,
    /// Ends the monitor, after its requests to disks under way are finished and everything written is durable. Answered at
    /// once; `Exit` follows on subscribed connections. A disk that hangs in the host delays it.
    Quit,
    /// Ends the monitor at once, without waiting for disks: as if the guest's power were cut.
    ForceQuit,
    /// Writes the machine, memory and all, to the file whose descriptor comes with the request (`SCM_RIGHTS`), and makes
    /// it durable. A running guest stands still meanwhile. Whoever asks makes the file under another name and renames it
    /// when the answer is `Done`. What is on disks is not in it: they are durable as they were at that moment, and a
    /// guest that was paused before stays so, that they can be kept along.
    Snapshot,
    /// Begins to move the machine to the monitor at the other end of the stream socket whose descriptor comes with the
    /// request. Answered when it has begun; `MigrateStatus` tells how it goes. When it has moved, the monitor ends by
    /// itself ([`ExitReason::Migrated`]).
    MigrateOut(MigrateOptions),
    /// Takes in the machine from the stream socket whose descriptor comes with the request; only in state `Incoming`.
    /// Answered when the machine runs here, or is paused if it was before. Where it fails the monitor ends: the machine
    /// stayed where it was.
    MigrateIn,
    /// Answer: `Migration`, of the last `MigrateOut` or none.
    MigrateStatus,
    /// Calls a migration off (from either side); the machine stays where it is. Refused once it is the other host's.
    MigrateCancel,
    /// Gives a machine whose migration is `InDoubt` back to this host. Only for someone who knows that the other host's
    /// monitor has ended without running it: otherwise the machine runs twice.
    MigrateReclaim,
    /// Sets a disk's limits.
    DiskLimits(DiskLimitsChange),
    /// Sets an interface's limits.
    NicLimits(NicLimitsChange),
    /// Makes a disk larger, its image with it (a block device was made larger before); its driver is told.
    DiskResize(DiskResize),
    /// Puts an interface's cable in or pulls it out; its driver is told.
    NicLink(NicLink),
    /// Plugs a disk in, as the last one.
    DiskPlug(DiskPlug),
    /// Plugs an interface in, as the last one.
    NicPlug(NicPlug),
    /// Unplugs a disk or an interface; those after it move up one place.
    Unplug(Unplug),
    /// Puts a medium into a CD drive, in place of one the guest has not locked.
    CdromInsert(CdromInsert),
    /// Takes a medium out of a CD drive.
    CdromEject(CdromEject),
    /// Has the guest give up memory, or take it back; it does so in its own time.
    BalloonTarget(BalloonTarget),
    /// Answer: `Balloon`.
    BalloonStatus,
    /// Has the guest take in memory besides its own, or give it up; it does so in its own time.
    MemoryTarget(MemoryTarget),
    /// Answer: `Memory`.
    MemoryStatus,
    /// Brings virtual CPUs, or asks the guest for the highest of them.
    CpuTarget(CpuTarget),
    /// Answer: `Cpus`.
    CpuStatus,
    /// Grants or extends the lease. A machine without one is bound to it from now on, with the default margin and grace.
    LeaseSet(LeaseGrant),
    /// Gives the lease back.
    LeaseRelease(LeaseRelease),
    /// Events follow on this connection.
    Subscribe,
}

impl Command {
    /// How many descriptors come with it.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Snapshot | Self::MigrateOut(_) | Self::MigrateIn | Self::CdromInsert(_) => 1,
            Self::NicPlug(plug) => usize::from(plug.nic.queues.max(1)),
            Self::DiskPlug(plug) => plug.disk.image.chain().count(),
            _ => 0,
        }
    }
}

/// How to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateOptions {
    /// Most bytes sent in a second while the guest runs; absent: no limit. At least 1 MiB.
    #[serde(default)]
    pub bandwidth: Option<u64>,
    /// How long the guest may stand still, in milliseconds. A guest that writes faster than can be sent is slowed down
    /// until it is so.
    #[serde(default = "default_pause")]
    pub max_pause_ms: u32,
}

const fn default_pause() -> u32 {
    300
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self { bandwidth: None, max_pause_ms: default_pause() }
    }
}

/// Where a migration stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationPhase {
    /// There is none.
    #[default]
    None,
    /// The guest runs here and its memory is sent.
    Copying,
    /// The guest stands still and changes hands.
    HandingOver,
    /// It runs on the other host.
    Moved,
    /// It stayed here and runs on.
    Failed,
    /// The connection was lost in the very moment of handing over: the guest stands still here and may run there. See
    /// `MigrateReclaim`.
    InDoubt,
}

/// Answer to `MigrateStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStatus {
    /// Where it stands.
    pub phase: MigrationPhase,
    /// Passes over memory so far.
    pub passes: u32,
    /// Bytes of memory sent, as they went (compressed).
    pub sent_bytes: u64,
    /// Pages written during the last pass.
    pub dirty_pages: u64,
    /// Per cent of its time that is taken from the guest so that it can be moved.
    pub throttle_percent: u8,
    /// From the halt here to the word that it runs there, in microseconds.
    pub pause_micros: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Of the request; 0 where it could not be read.
    pub id: u64,
    /// The outcome.
    pub outcome: Outcome,
}

/// Outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Carried out.
    Done,
    /// Answer to `Status`.
    Status(Status),
    /// Answer to `Stats`.
    Stats(Stats),
    /// Answer to `Config`: with what the machine would have to be started to be as it is now: the devices it has, each disk
    /// and interface with its slot. `start` is as it was; a medium that was put into a CD drive has no name here.
    Config(Box<VmmConfig>),
    /// Answer to `MigrateStatus`.
    Migration(MigrationStatus),
    /// Answer to `BalloonStatus`.
    Balloon(BalloonStatus),
    /// Answer to `MemoryStatus`.
    Memory(MemoryStatus),
    /// Answer to `CpuStatus`.
    Cpus(CpuStatus),
    /// Refused.
    Error(String),
}

/// State of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Its virtual CPUs are halted.
    Paused,
    /// It waits for a saved machine, or is taking one up.
    Incoming,
    /// Its virtual CPUs are halted while it changes hands.
    Moving,
    /// It is another host's now, as far as is known here. It never runs here again by itself.
    MovedAway,
    /// The guest is being ended.
    Ending,
}

/// Answer to `Status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of `lq-vmm`.
    pub version: String,
    /// The machine.
    pub vm: VmId,
    /// Its state.
    pub state: RunState,
    /// Resets of the guest so far.
    pub resets: u64,
    /// The guest's kernel has panicked since it was started.
    #[serde(default)]
    pub panicked: bool,
    /// Its TPM has failed; why is told as an event and written to the log.
    #[serde(default)]
    pub tpm_failed: bool,
    /// Names of the devices whose back ends are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub back_ends_lost: Vec<String>,
    /// Whether there is a medium in each CD drive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cdroms: Vec<bool>,
    /// Its lease, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
}

/// Answer to `Stats`: counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// Exits from the guest to the monitor's user space, all virtual CPUs.
    pub exits: u64,
    /// Per disk.
    pub disks: Vec<IoStats>,
    /// Per interface.
    pub nics: Vec<IoStats>,
}

/// Counters of one device, from the guest's view (read = received for interfaces).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IoStats {
    /// Bytes read or received.
    pub read_bytes: u64,
    /// Bytes written or sent.
    pub written_bytes: u64,
    /// Requests or packets read or received.
    pub reads: u64,
    /// Requests or packets written or sent.
    pub writes: u64,
    /// Failed requests or dropped packets.
    pub errors: u64,
}

/// Something a monitor tells its subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The state changed.
    State {
        /// To this.
        state: RunState,
    },
    /// The guest restarted.
    Reset,
    /// The guest's kernel has panicked; told once until it is reset.
    Panicked,
    /// The guest did not feed its watchdog.
    Watchdog {
        /// What becomes of it.
        action: WatchdogAction,
    },
    /// The TPM has failed: all it is asked fails until the machine is started anew.
    TpmFailed {
        /// In words.
        why: String,
    },
    /// A device's back end is gone, or does not keep to the protocol: the device stands still until the machine is started anew.
    BackEndLost {
        /// Its name in the configuration.
        device: String,
        /// In words.
        why: String,
    },
    /// The guest has ejected the medium of a CD drive.
    Ejected {
        /// Which, by its place in the configuration, from 0.
        cdrom: u32,
    },
    /// A device is gone: the guest has let go of it, or it was taken away.
    Unplugged {
        /// Which.
        device: DeviceName,
    },
    /// The lease ran out, was given back, or was granted again after that.
    Lease(LeaseStatus),
    /// The last message: why the monitor ends.
    Exit(ExitRecord),
}

/// Why a monitor ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Kind of end.
    pub reason: ExitReason,
    /// In words.
    pub detail: String,
}

/// Kind of end, also the exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest switched itself off (status 0).
    GuestPowerOff,
    /// Told to by `Quit` (status 0).
    Told,
    /// The machine runs on another host now (status 0).
    Migrated,
    /// The configuration or a file it names is at fault (status 2).
    Config,
    /// KVM refused or the host lacks something (status 3).
    Host,
    /// The guest did what no machine can go on from, e.g. a triple fault on a machine without reset (status 4).
    GuestFault,
    /// The lease ran out and was not granted again: the machine may run elsewhere (status 5).
    LeaseLost,
    /// It waited for a machine that did not come: it never ran (status 6).
    NotArrived,
    /// A file it needs is in use by another process, maybe on another host that shares it, which may let go of it (status 7).
    Busy,
    /// A fault of ours (status 70).
    Internal,
}

impl ExitReason {
    /// The exit status of the process.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::GuestPowerOff | Self::Told | Self::Migrated => 0,
            Self::Config => 2,
            Self::Host => 3,
            Self::GuestFault => 4,
            Self::LeaseLost => 5,
            Self::NotArrived => 6,
            Self::Busy => 7,
            Self::Internal => 70,
        }
    }
}
