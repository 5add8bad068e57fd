//! Devices beside disks and interfaces.

use super::{HotplugConfig, PassthroughConfig, VhostUserConfig};
use serde::{Deserialize, Serialize};

/// Devices a machine may have besides. Adding one changes what the guest finds; machines keep those they began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoreDevices {
    /// CD drives, at most 4.
    #[serde(default)]
    pub cdroms: Vec<CdromConfig>,
    /// A balloon by which the guest gives memory back.
    #[serde(default)]
    pub balloon: Option<BalloonConfig>,
    /// A port by which the guest's kernel says that it has panicked (pvpanic).
    #[serde(default)]
    pub panic: bool,
    /// A watchdog (6300ESB), and what becomes of a guest that does not feed it any more.
    #[serde(default)]
    pub watchdog: Option<WatchdogAction>,
    /// Streams between programs of the guest and of the host, by a socket in the run directory ([`super::super::paths::VM_VSOCK`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// A TPM 2.0, with the command response buffer at 0xfed40000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmConfig>,
    /// Memory that can be plugged in and out while it runs (virtio-mem).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryConfig>,
    /// Virtual CPUs come and go while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpusConfig>,
    /// Devices whose queues other programs serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vhost_user: Vec<VhostUserConfig>,
    /// Functions of the host's PCI bus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<PassthroughConfig>,
    /// What may come and go while it runs; absent: nothing.
    #[serde(default)]
    pub hotplug: Option<HotplugConfig>,
}

/// What becomes of a guest whose watchdog has run out. It is told as an event in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// It is restarted.
    Reset,
    /// It is halted, to be looked at.
    Pause,
    /// It is ended ([`super::ExitReason::GuestFault`]).
    PowerOff,
    /// Nothing.
    Report,
}

/// A CD drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromConfig {
    /// The image in it, a raw ISO 9660 or UDF file; absent: it is empty.
    #[serde(default)]
    pub image: Option<String>,
}

/// Something firmware can boot from, by its place in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDevice {
    /// A disk.
    Disk(u32),
    /// A CD drive.
    Cdrom(u32),
    /// An interface.
    Nic(u32),
}

/// Takes a medium out of a CD drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromEject {
    /// Which, by its place in the configuration, from 0.
    pub cdrom: u32,
    /// Even if the guest has locked it. Otherwise such a guest is asked to eject it, and the request refused.
    #[serde(default)]
    pub force: bool,
}

/// Puts a medium into a CD drive: the file whose descriptor comes with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromInsert {
    /// Which, by its place in the configuration, from 0.
    pub cdrom: u32,
}

/// A memory balloon. Free pages of a guest that knows how are given back to the host by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonConfig {
    /// Bytes the guest is to give up from the start, not more than it has.
    #[serde(default)]
    pub target_bytes: u64,
}

/// Streams between programs of the guest and of the host (virtio-vsock).
///
/// A program of the host connects to the socket and says a line: `CONNECT <port>`, and is connected to the guest's port, or
/// `ACCEPT <port>`, and waits for the guest to connect to that port of the host. `OK <port of the other end>` is the answer once
/// it is; then come the other end's bytes. Connections do not move with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's address (CID), 3 to 4294967294. It need not be unique to anything but the guest.
    pub cid: u32,
}

/// A TPM 2.0 that is emulated by a swtpm process of the machine's own: `swtpm socket --tpm2 --tpmstate dir=… --ctrl
/// type=unixio,path=<socket> --terminate`, started before the monitor. It ends with the monitor. What it keeps without power is in
/// its directory; a machine that is saved or moved takes all of it along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmConfig {
    /// Its control socket, an absolute path.
    pub socket: String,
}

/// Virtual CPUs that come and go. It changes what the guest finds at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpusConfig {
    /// Virtual CPUs at most, not less than it has at the start, up to 64.
    pub most: u8,
}

/// How many virtual CPUs there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuTarget {
    /// 1 to [`CpusConfig::most`].
    pub count: u8,
}

/// How the virtual CPUs stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStatus {
    /// At most.
    pub most: u8,
    /// Wanted.
    pub wanted: u8,
    /// There. Those that come are there at once; the guest lets go of others in its own time.
    pub present: u8,
}

/// Memory besides the machine's own that its guest can be given and asked for while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Bytes at most, a multiple of 128 MiB.
    pub most_bytes: u64,
    /// Bytes wanted from the start, a multiple of 2 MiB.
    #[serde(default)]
    pub requested_bytes: u64,
}

/// How much memory is to be plugged in, besides the machine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryTarget {
    /// Bytes, a multiple of 2 MiB, up to [`MemoryConfig::most_bytes`].
    pub bytes: u64,
}

/// How the memory that can be plugged stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Bytes at most.
    pub most_bytes: u64,
    /// Bytes wanted.
    pub requested_bytes: u64,
    /// Bytes the guest has. It comes to what is wanted in its own time, and gives up only what it can.
    pub plugged_bytes: u64,
}

/// How much memory the guest is to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonTarget {
    /// Bytes, rounded down to 4 KiB, not more than it has. 0: it has all.
    pub bytes: u64,
}

/// How the balloon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonStatus {
    /// Bytes that are to be given up.
    pub target_bytes: u64,
    /// Bytes that are, as the guest says.
    pub actual_bytes: u64,
    /// Bytes of free memory the guest has told of since the start, counted each time.
    pub reported_bytes: u64,
    /// What the guest says of its memory, at most some seconds old; absent: it says nothing.
    pub guest: Option<GuestMemory>,
}

/// What a guest says of its memory. 0 where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemory {
    /// All it can use.
    pub total_bytes: u64,
    /// Not used at all.
    pub free_bytes: u64,
    /// Could be used without swapping.
    pub available_bytes: u64,
    /// Used for what could be read again.
    pub cache_bytes: u64,
    /// Read from swap since it started.
    pub swapped_in_bytes: u64,
    /// Written to swap since it started.
    pub swapped_out_bytes: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
}
