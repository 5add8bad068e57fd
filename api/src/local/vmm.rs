//! The configuration, control protocol and end of `lq-vmm`.
//!
//! Started as `lq-vmm run --config <file>`; opens all it needs, gives up every privilege, then runs the guest. The control
//! socket takes one [`Request`] a line and answers each by one [`Response`] with the same `id`; after `Subscribe`, [`Event`]s
//! follow on that connection. The console socket is the guest's serial line as plain bytes: a new client first gets the
//! kept scroll-back, then what comes; what it sends is typed. Several clients may be connected.
//!
//! On SIGTERM the monitor presses the guest's power button.

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
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootConfig {
    /// A kernel, directly.
    Direct(BootFiles),
    /// UEFI firmware, which boots from the disks in their order, then from the interfaces.
    Firmware(FirmwareFiles),
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

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicConfig {
    /// Existing persistent tap device.
    pub tap: String,
    /// Hardware address the guest sees.
    pub mac: Mac,
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

/// What a monitor can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Answer: `Status`.
    Status,
    /// Answer: `Stats`.
    Stats,
    /// Halts the virtual CPUs; block I/O under way is finished first.
    Pause,
    /// Goes on after `Pause`.
    Resume,
    /// Restarts the guest from its boot files, as a reset button does.
    Reset,
    /// Presses the ACPI power button.
    PowerButton,
    /// Ends the monitor at once, after flushing its disks.
    Quit,
    /// Events follow on this connection.
    Subscribe,
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
    /// The configuration or a file it names is at fault (status 2).
    Config,
    /// KVM refused or the host lacks something (status 3).
    Host,
    /// The guest did what no machine can go on from, e.g. a triple fault on a machine without reset (status 4).
    GuestFault,
    /// A fault of ours (status 70).
    Internal,
}

impl ExitReason {
    /// The exit status of the process.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::GuestPowerOff | Self::Told => 0,
            Self::Config => 2,
            Self::Host => 3,
            Self::GuestFault => 4,
            Self::Internal => 70,
        }
    }
}
