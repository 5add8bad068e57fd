//! Virtual machines.
//!
//! `spec` is what is wanted, `status` what is; one driver task per VM on its host brings the second to the first.

use crate::{
    Bytes, HostId, ImageId, Metadata, NetworkId, Timestamp, VmId, VolumeId,
    cloud_init::CloudInit,
    ha::{HaPriority, VmHa},
    local::vmm::{CpuModel, DeviceModel, Hypervisor, IoLimits, MachineType, NicLimits, WatchdogAction},
    meta::check_name,
    pci::PciAddress,
    placement::Placement,
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vm {
    /// Identity.
    pub meta: Metadata<VmId>,
    /// What is wanted.
    pub spec: VmSpec,
    /// What is.
    pub status: VmStatus,
}

/// The wanted virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// What runs it. It changes only while the machine is off. Of a machine on QEMU some fields are refused: what it cannot do.
    #[serde(default, skip_serializing_if = "Hypervisor::is_own")]
    pub hypervisor: Hypervisor,
    /// Its board, of a machine on QEMU only. Where absent at creation, the one that fits `firmware` is taken; it then stays,
    /// whatever QEMU an update brings, and changes only while the machine is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineType>,
    /// What it boots by where it boots no kernel directly. A legacy BIOS only on QEMU. It changes only while the machine is off.
    #[serde(default, skip_serializing_if = "FirmwareKind::is_uefi")]
    pub firmware: FirmwareKind,
    /// What disks and interfaces look like to the guest. Those of old machines only on QEMU, where disks and CD drives then share
    /// the board's controller: 6 places with `pc-q35-7.2`, 4 with `pc-i440fx-7.2`. It changes only while the machine is off.
    #[serde(default, skip_serializing_if = "DeviceModel::is_virtio")]
    pub device_model: DeviceModel,
    /// Virtual CPUs, 1 to 64.
    pub vcpus: u8,
    /// As many as `vcpus` can be while the machine runs, up to 64: those that come are there at once, those that go are released by
    /// the guest. Where absent, a change of `vcpus` waits for the next start. A change of this one always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_max: Option<u8>,
    /// Memory, 64 MiB to 1 TiB, a multiple of 1 MiB; of 128 MiB where `memory_max_bytes` is given.
    pub memory_bytes: Bytes,
    /// As far as `memory_bytes` can be raised while the machine runs, and lowered again to what it was started with: up to 1 TiB,
    /// a multiple of 128 MiB. The guest takes and gives back by virtio-mem, in its own time. Where absent, a change of
    /// `memory_bytes` waits for the next start. A change of this one always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<Bytes>,
    /// Kernel to boot directly. Where absent at creation, the boot defaults of the first disk's source image are taken;
    /// where there are none, the machine boots by UEFI firmware from its disks in their order, then from its interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// A screen, reached by RFB (VNC). Where absent: as the machine boots, by firmware with one, directly without. Only with
    /// firmware: a kernel booted directly has nothing to show on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<bool>,
    /// Disks in the order the guest sees them, at most 16.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Network interfaces in the order the guest sees them, at most 8.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// CD drives in the order the guest sees them, at most 4. Firmware boots from them where no disk can be booted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cdroms: Vec<Cdrom>,
    /// What the guest sets itself up by, on a small read-only disk behind the others. Where absent there is no such disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// What the guest sees of the host's processor. With a level the machine can move to every host that has it; a host that
    /// lacks a feature of it is refused.
    #[serde(default, skip_serializing_if = "CpuModel::is_host")]
    pub cpu: CpuModel,
    /// A watchdog (6300ESB), and what becomes of the guest when it does not feed it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<WatchdogAction>,
    /// A TPM 2.0, which Windows 11 asks for and disks are encrypted by. What it keeps is made at the first start, lies where the
    /// firmware's variables lie, and goes with the machine; without it, what was sealed by it is lost. It comes and goes only while
    /// the machine is off. A machine with one is not moved while it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tpm: bool,
    /// Functions of its host's PCI bus that the machine has for itself, at most 8, in the order the guest sees them. Those of an
    /// IOMMU group are given together. `placement.host` says which host is meant: the machine stays there, is neither moved while it runs nor
    /// protected, and its memory is taken whole at its start. They come and go only while it is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<Passthrough>,
    /// A virtio random number source.
    #[serde(default = "yes")]
    pub rng: bool,
    /// What to do when the machine ends without being told to.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Start the machine when its host starts, if it was running (or never started by hand) before.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// Wanted power state.
    #[serde(default)]
    pub power: PowerState,
    /// What it asks of the host it is placed on. Looked at when the machine is made.
    #[serde(default, skip_serializing_if = "Placement::is_free")]
    pub placement: Placement,
    /// Start it on another host when its own is lost. Where absent it waits for its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ha: Option<VmHa>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// UEFI, with variables of the machine's own.
    #[default]
    Uefi,
    /// A legacy BIOS.
    Bios,
}

impl FirmwareKind {
    /// UEFI.
    #[must_use]
    pub fn is_uefi(&self) -> bool {
        *self == Self::Uefi
    }

    /// The board such a machine on QEMU gets where none is asked for: that of its time.
    #[must_use]
    pub const fn machine(self) -> MachineType {
        match self {
            Self::Uefi => MachineType::Q35V7_2,
            Self::Bios => MachineType::I440fxV7_2,
        }
    }
}

/// Direct Linux boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Image of kind `kernel`: a bzImage or an ELF file with a PVH entry.
    pub kernel: ImageId,
    /// Image of kind `initrd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<ImageId>,
    /// Kernel command line, at most 2047 bytes.
    #[serde(default)]
    pub cmdline: String,
}

/// A disk of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The volume; attached to at most one VM.
    pub volume: VolumeId,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
    /// How much it may do.
    #[serde(default, skip_serializing_if = "IoLimits::is_none")]
    pub limits: IoLimits,
}

impl Disk {
    /// A volume, to be written to as fast as can be.
    #[must_use]
    pub fn of(volume: VolumeId) -> Self {
        Self { volume, read_only: false, limits: IoLimits::default() }
    }
}

/// A CD drive of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Cdrom {
    /// Image of kind `iso` in it; absent: it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
}

/// A function of the host's PCI bus that a VM has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Passthrough {
    /// Where it is on the host, as `GET /hosts/{id}` lists it: `0000:03:00.0`.
    pub address: PciAddress,
}

/// A network interface of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// The network it is connected to.
    pub network: NetworkId,
    /// Hardware address. Given by the cluster where absent; stable from then on, unique in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its cable is in.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub connected: bool,
    /// How much it may do.
    #[serde(default, skip_serializing_if = "NicLimits::is_none")]
    pub limits: NicLimits,
}

impl Nic {
    /// On a network, with an address the cluster gives.
    #[must_use]
    pub fn on(network: NetworkId) -> Self {
        Self { network, mac: None, connected: true, limits: NicLimits::default() }
    }
}

/// An Ethernet address, written `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it can be the address of one interface: neither of a group nor all zeros.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Mac {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut octets = [0u8; 6];
        let mut parts = s.split(':');
        for octet in &mut octets {
            *octet = parts
                .next()
                .filter(|p| p.len() == 2)
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| format!("`{s}` is not a hardware address like 52:54:00:12:34:56"))?;
        }
        if parts.next().is_some() {
            return Err(format!("`{s}` is not a hardware address like 52:54:00:12:34:56"));
        }
        if octets[0] & 1 != 0 {
            return Err(format!("`{s}` is a multicast address"));
        }
        Ok(Self(octets))
    }
}
impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What to do when a VM ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Leave it stopped.
    Never,
    /// Start it again, with back-off, when its monitor failed; leave it stopped when the guest powered itself off.
    #[default]
    OnFailure,
    /// Start it again, with back-off, however it ended, until it is told to stop.
    Always,
}

/// Wanted power state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// Not running.
    #[default]
    Stopped,
    /// Running.
    Running,
    /// In memory, its virtual CPUs halted.
    Paused,
}

/// The observed virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VmStatus {
    /// Where it is in its life.
    pub state: VmState,
    /// Why it is in this state, where that needs words: a failure's reason, what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The host it is placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// That host cannot be asked: the rest is what it said last, and whether it still holds nobody knows. Said where machines are
    /// read, not where they are watched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_silent: bool,
    /// The host it is moving to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<HostId>,
    /// When its present run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Restarts by policy since it was last started by a person.
    #[serde(default)]
    pub restarts: u32,
    /// Process id of its monitor on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Addresses leased by the network's own DHCP, in the order of the interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<Ipv4Addr>,
    /// Memory the machine that runs has: what it was started with, and what its guest has taken since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<Bytes>,
    /// What of the specification the machine that runs does not have yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingChange>,
    /// `meta.generation` this status answers to.
    #[serde(default)]
    pub observed_generation: u64,
}

/// A change of a machine that runs which has not taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PendingChange {
    /// The field of the specification, e.g. `spec.memory_bytes`.
    pub field: String,
    /// The device of that field it is about: the volume of a disk, the hardware address of an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// In words.
    pub reason: String,
}

/// What a change of a machine that runs waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// Its next start: a machine that runs cannot be changed so. A restart of the guest is none.
    Start,
    /// Its guest, which has to let go of something.
    Guest,
    /// Its host, which is at it, or tries again.
    Host,
}

impl VmStatus {
    /// Where it is in its life, as far as that is known: of a machine that was at something when its host was last heard nobody
    /// knows whether it still is.
    #[must_use]
    pub const fn known_state(&self) -> Option<VmState> {
        self.state.known(self.host_silent)
    }
}

impl VmState {
    /// The same of the state a host has told of, which cannot be asked now where it is silent.
    #[must_use]
    pub const fn known(self, host_silent: bool) -> Option<Self> {
        if host_silent && !self.at_rest() { None } else { Some(self) }
    }

    /// Whether nothing runs of it, so that losing its host makes it no other.
    #[must_use]
    pub const fn at_rest(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

impl Default for VmStatus {
    fn default() -> Self {
        Self {
            state: VmState::Stopped,
            reason: None,
            host: None,
            host_silent: false,
            moving_to: None,
            started_at: None,
            restarts: 0,
            pid: None,
            addresses: vec![],
            memory_bytes: None,
            pending: vec![],
            observed_generation: 0,
        }
    }
}

/// Where a VM is in its life.
///
/// ```text
///            start                ready            pause
///  Stopped ────────▶ Starting ──────────▶ Running ───────▶ Paused
///     ▲                 │  ▲               │   ▲             │
///     │                 │  └──back-off─────┤   └───resume────┘
///     │◀──── Stopping ◀─┼──────stop────────┤
///     │                 ▼                  ▼
///     └─────stop───── Failed ◀────────(monitor died, no restart allowed)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VmState {
    /// Not running, as wanted or because the guest powered off.
    #[default]
    Stopped,
    /// The monitor is being started, or waits: for its back-off, or for what is being made or brought (`reason` says so).
    Starting,
    /// The guest runs.
    Running,
    /// The guest is halted in memory.
    Paused,
    /// The guest was asked to power off.
    Stopping,
    /// The monitor could not be started or died, and is not started again; `reason` says why.
    Failed,
}

/// Creates a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    /// Its name, unique among VMs.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: VmSpec,
}

/// Changes a VM; what is absent stays. A machine that runs is changed where it can be; what waits is said in `status.pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateVm {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New set of labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// New wanted machine, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<VmSpec>,
}

/// `POST /vms/{id}/stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StopVm {
    /// Do not ask the guest: end the machine at once.
    #[serde(default)]
    pub force: bool,
    /// Seconds the guest has after the power button before it is ended by force, 1 to 3600.
    #[serde(default = "default_stop_timeout")]
    pub timeout_seconds: u32,
}

fn default_stop_timeout() -> u32 {
    90
}

impl Default for StopVm {
    fn default() -> Self {
        Self { force: false, timeout_seconds: default_stop_timeout() }
    }
}

/// `POST /vms/{id}/restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestartVm {
    /// Seconds the guest has to power off, 1 to 3600. One that does not goes on running.
    #[serde(default = "default_stop_timeout")]
    pub timeout_seconds: u32,
}

impl Default for RestartVm {
    fn default() -> Self {
        Self { timeout_seconds: default_stop_timeout() }
    }
}

/// `POST /vms/{id}/migrate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MigrateVm {
    /// Where to. Where absent the host that fits best is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Most bytes sent in a second while the guest runs, at least 1 MiB; absent: no limit. What is left when it stands still
    /// is sent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes: Option<Bytes>,
}

/// Least of [`MigrateVm::bandwidth_bytes`].
pub const MIN_BANDWIDTH: Bytes = Bytes(Bytes::MIB);

impl MigrateVm {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let low = self.bandwidth_bytes.filter(|b| *b < MIN_BANDWIDTH);
        low.map(|b| FieldError::new("bandwidth_bytes", format!("{b} is less than {MIN_BANDWIDTH}")))
            .into_iter()
            .collect()
    }
}

/// Least memory of a machine that boots by firmware.
pub const MIN_FIRMWARE_MEMORY: Bytes = Bytes(128 * Bytes::MIB);

/// What memory that comes and goes while a machine runs is counted in.
pub const PLUGGABLE_MEMORY: Bytes = Bytes(128 * Bytes::MIB);

/// Most memory of a machine.
pub const MAX_MEMORY: Bytes = Bytes(1024 * Bytes::GIB);

/// Most CD drives of a machine.
pub const MAX_CDROMS: usize = 4;

/// Most functions of its host's PCI bus a machine can have.
pub const MAX_PASSTHROUGH: usize = 8;

/// Longest kernel command line, in bytes.
pub const MAX_CMDLINE: usize = 2047;

impl CreateVm {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(crate::meta::check_labels("labels", &self.labels));
        errors.extend(self.spec.validate());
        errors
    }
}

impl Default for VmSpec {
    /// The least of everything, as where a field is absent.
    fn default() -> Self {
        Self {
            hypervisor: Hypervisor::default(),
            machine: None,
            firmware: FirmwareKind::default(),
            device_model: DeviceModel::default(),
            vcpus: 1,
            vcpus_max: None,
            memory_bytes: MIN_FIRMWARE_MEMORY,
            memory_max_bytes: None,
            boot: None,
            display: None,
            disks: vec![],
            nics: vec![],
            cdroms: vec![],
            cloud_init: None,
            cpu: CpuModel::default(),
            watchdog: None,
            tpm: false,
            passthrough: vec![],
            rng: yes(),
            restart: RestartPolicy::default(),
            autostart: yes(),
            power: PowerState::default(),
            placement: Placement::default(),
            ha: None,
        }
    }
}

impl VmSpec {
    /// The images the machine needs beside those of its disks: what it boots, and what is in its CD drives.
    pub fn images(&self) -> impl Iterator<Item = ImageId> {
        let boot = self.boot.iter().flat_map(|b| std::iter::once(b.kernel).chain(b.initrd));
        boot.chain(self.cdroms.iter().filter_map(|c| c.image))
    }

    /// Its order among the machines of a lost host, where it is protected.
    #[must_use]
    pub fn protection(&self) -> Option<HaPriority> {
        self.ha.filter(|ha| ha.is_on()).map(|ha| ha.priority)
    }

    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut refuse =
            |field: &str, reason: String| errors.push(FieldError::new(format!("spec.{field}"), reason));
        if !(1..=64).contains(&self.vcpus) {
            refuse("vcpus", format!("{} is not between 1 and 64", self.vcpus));
        }
        if let Some(most) = self.vcpus_max
            && !(self.vcpus.max(1)..=64).contains(&most)
        {
            refuse("vcpus_max", format!("{most} is not between vcpus ({}) and 64", self.vcpus));
        }
        let memory = self.memory_bytes.get();
        if !(64 * Bytes::MIB..=MAX_MEMORY.get()).contains(&memory) {
            refuse("memory_bytes", format!("{} is not between 64 MiB and 1 TiB", self.memory_bytes));
        } else if !memory.is_multiple_of(Bytes::MIB) {
            refuse("memory_bytes", format!("{memory} is not a multiple of 1 MiB (1048576)"));
        } else if self.memory_max_bytes.is_some() && !memory.is_multiple_of(PLUGGABLE_MEMORY.get()) {
            refuse(
                "memory_bytes",
                format!(
                    "{} is not a multiple of {PLUGGABLE_MEMORY}, which memory that can be changed while the machine runs has to be",
                    self.memory_bytes
                ),
            );
        }
        if let Some(most) = self.memory_max_bytes {
            if most < self.memory_bytes {
                refuse(
                    "memory_max_bytes",
                    format!("{most} is less than memory_bytes ({})", self.memory_bytes),
                );
            } else if most > MAX_MEMORY {
                refuse("memory_max_bytes", format!("{most} is more than {MAX_MEMORY}"));
            }
            if !most.get().is_multiple_of(PLUGGABLE_MEMORY.get()) {
                refuse("memory_max_bytes", format!("{most} is not a multiple of {PLUGGABLE_MEMORY}"));
            }
        }
        if let Some(boot) = &self.boot {
            if boot.cmdline.len() > MAX_CMDLINE {
                refuse("boot.cmdline", format!("{} bytes, at most {MAX_CMDLINE}", boot.cmdline.len()));
            }
            if boot.cmdline.chars().any(char::is_control) {
                refuse("boot.cmdline", "contains a control character".into());
            }
        }
        if self.disks.len() > 16 {
            refuse("disks", format!("{} disks, at most 16", self.disks.len()));
        }
        for (n, disk) in self.disks.iter().enumerate() {
            if self.disks[..n].iter().any(|other| other.volume == disk.volume) {
                refuse(&format!("disks[{n}].volume"), "is attached twice".into());
            }
            for (part, reason) in disk.limits.faults() {
                refuse(&format!("disks[{n}].limits.{part}"), reason);
            }
        }
        if self.cdroms.len() > MAX_CDROMS {
            refuse("cdroms", format!("{} CD drives, at most {MAX_CDROMS}", self.cdroms.len()));
        }
        if self.nics.len() > 8 {
            refuse("nics", format!("{} interfaces, at most 8", self.nics.len()));
        }
        for (n, nic) in self.nics.iter().enumerate() {
            if nic.mac.is_some_and(|mac| !mac.is_unicast()) {
                refuse(
                    &format!("nics[{n}].mac"),
                    "is not the address of one interface: choose another, or leave it out".into(),
                );
            }
            if nic.mac.is_some() && self.nics[..n].iter().any(|other| other.mac == nic.mac) {
                refuse(&format!("nics[{n}].mac"), "is used twice in this machine".into());
            }
            for (direction, limits) in [("receive", nic.limits.receive), ("transmit", nic.limits.transmit)] {
                for (part, reason) in limits.faults() {
                    refuse(&format!("nics[{n}].limits.{direction}.{part}"), reason);
                }
            }
        }
        match self.hypervisor {
            Hypervisor::LqVmm => {
                self.check_own(&mut refuse);
                self.check_passthrough(&mut refuse);
            }
            Hypervisor::Qemu => self.check_qemu(&mut refuse),
        }
        let cloud_init = self.cloud_init.iter().flat_map(CloudInit::validate);
        errors.extend(cloud_init.map(|e| FieldError::new(format!("spec.{}", e.field), e.reason)));
        errors.extend(self.placement.validate());
        errors
    }

    /// What only QEMU does.
    fn check_own(&self, refuse: &mut impl FnMut(&str, String)) {
        if self.firmware == FirmwareKind::Bios {
            refuse("firmware", "a legacy BIOS needs `hypervisor` to be `qemu`".into());
        }
        if self.device_model == DeviceModel::Legacy {
            refuse("device_model", "devices of old machines need `hypervisor` to be `qemu`".into());
        }
        if self.machine.is_some() {
            refuse(
                "machine",
                "only a machine whose `hypervisor` is `qemu` has a choice: leave it out".into(),
            );
        }
    }

    /// What functions of a host's PCI bus exclude.
    fn check_passthrough(&self, refuse: &mut impl FnMut(&str, String)) {
        if self.passthrough.len() > MAX_PASSTHROUGH {
            refuse("passthrough", format!("{} functions, at most {MAX_PASSTHROUGH}", self.passthrough.len()));
        }
        for (n, one) in self.passthrough.iter().enumerate() {
            if self.passthrough[..n].contains(one) {
                refuse(&format!("passthrough[{n}].address"), format!("{} is given twice", one.address));
            }
        }
        if !self.passthrough.is_empty() {
            if self.placement.host.is_none() {
                refuse(
                    "placement.host",
                    "has to say whose functions `spec.passthrough` means: an address is one of each host"
                        .into(),
                );
            }
            if self.protection().is_some() {
                refuse(
                    "ha",
                    "a machine with `spec.passthrough` cannot be protected: its functions are on its host alone, so it waits for that"
                        .into(),
                );
            }
            if self.memory_max_bytes.is_some() {
                refuse(
                    "memory_max_bytes",
                    "the memory of a machine with `spec.passthrough` stays as it is while it runs: its functions write to it at any moment"
                        .into(),
                );
            }
        }
    }

    /// What QEMU does not do, or not as it is driven here.
    fn check_qemu(&self, refuse: &mut impl FnMut(&str, String)) {
        let instead = "leave it out, or have `lq-vmm` run the machine";
        if self.boot.is_some() {
            refuse("boot", format!("a machine on QEMU boots by firmware, not a kernel directly: {instead}"));
        }
        if self.vcpus_max.is_some() {
            refuse("vcpus_max", format!("virtual CPUs do not come and go on QEMU: {instead}"));
        }
        if self.memory_max_bytes.is_some() {
            refuse("memory_max_bytes", format!("memory does not come and go on QEMU: {instead}"));
        }
        if self.protection().is_some() {
            let why = "nothing makes QEMU stop writing the moment its host is given up, so such a machine is not started elsewhere";
            refuse("ha", format!("{why}: {instead}"));
        }
        if !self.passthrough.is_empty() {
            refuse(
                "passthrough",
                format!("functions of the host's PCI bus are not given to machines on QEMU: {instead}"),
            );
        }
        for (n, _) in self.nics.iter().enumerate().filter(|(_, nic)| !nic.limits.is_none()) {
            refuse(&format!("nics[{n}].limits"), format!("interfaces are not limited on QEMU: {instead}"));
        }
        let board = self.machine.unwrap_or(self.firmware.machine());
        let seed = usize::from(self.cloud_init.is_some());
        let drives = self.disks.len() + self.cdroms.len() + seed;
        if self.device_model == DeviceModel::Legacy && drives > board.drives() {
            let with = if seed > 0 { " with the one of `cloud_init`" } else { "" };
            refuse(
                "device_model",
                format!(
                    "{drives} disks and CD drives{with} do not fit on the controller of {}, which has {} places",
                    board.name(),
                    board.drives()
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trip_and_refusals() {
        assert_eq!("52:54:00:aB:01:ff".parse::<Mac>().unwrap().to_string(), "52:54:00:ab:01:ff");
        for bad in [
            "",
            "52:54:00:ab:01",
            "52:54:00:ab:01:ff:00",
            "5254:00:ab:01:ff",
            "01:00:5e:00:00:01",
            "zz:54:00:ab:01:ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let spec: VmSpec = serde_json::from_str(r#"{"vcpus":0,"memory_bytes":1}"#).unwrap();
        let fields: Vec<_> = spec.validate().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["spec.vcpus", "spec.memory_bytes"]);
        for (most, fault) in [(1, true), (2, false), (64, false), (65, true)] {
            let spec = VmSpec { vcpus: 2, vcpus_max: Some(most), ..VmSpec::default() };
            assert_eq!(spec.validate().iter().any(|e| e.field == "spec.vcpus_max"), fault, "{most}");
        }
        let mib = Bytes::mib;
        let memory = |memory_bytes, most| {
            let spec = VmSpec { memory_bytes, memory_max_bytes: Some(most), ..VmSpec::default() };
            spec.validate().into_iter().map(|e| e.field).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(memory(mib(256), mib(256)), "");
        assert_eq!(memory(mib(200), mib(1000)), "spec.memory_bytes spec.memory_max_bytes");
        assert_eq!(memory(mib(512), mib(384)), "spec.memory_max_bytes");
        assert_eq!(memory(mib(512), mib(2 << 20)), "spec.memory_max_bytes");
    }

    #[test]
    fn what_a_hypervisor_cannot_do_is_refused_by_name_and_all_at_once() {
        let fields =
            |spec: &VmSpec| spec.validate().into_iter().map(|e| e.field).collect::<Vec<_>>().join(" ");
        let own: VmSpec = serde_json::from_str(
            r#"{"vcpus":1,"memory_bytes":134217728,"firmware":"bios","device_model":"legacy","machine":"pc-q35-7.2"}"#,
        )
        .unwrap();
        assert_eq!(fields(&own), "spec.firmware spec.device_model spec.machine");
        let mut qemu = VmSpec { hypervisor: Hypervisor::Qemu, ..own };
        assert_eq!(fields(&qemu), "");
        qemu.cdroms = vec![Cdrom::default(); 4];
        qemu.disks = vec![Disk::of(VolumeId::new()), Disk::of(VolumeId::new())];
        assert_eq!(fields(&qemu), "");
        qemu.cloud_init = Some(CloudInit::default());
        assert_eq!(fields(&qemu), "spec.device_model");
        qemu.device_model = DeviceModel::Virtio;
        assert_eq!(fields(&qemu), "");
        let limits = NicLimits {
            receive: IoLimits {
                bandwidth: Some(crate::local::vmm::Rate { per_second: 1, burst: 0 }),
                operations: None,
            },
            ..NicLimits::default()
        };
        let nic = Nic { limits, ..Nic::on(NetworkId::new()) };
        let more = VmSpec {
            vcpus_max: Some(4),
            memory_max_bytes: Some(Bytes::mib(256)),
            boot: Some(Boot { kernel: ImageId::new(), initrd: None, cmdline: String::new() }),
            nics: vec![Nic::on(NetworkId::new()), nic],
            ha: Some(VmHa::default()),
            passthrough: vec![Passthrough { address: "0000:03:00.0".parse().unwrap() }],
            ..qemu
        };
        assert_eq!(
            fields(&more),
            "spec.boot spec.vcpus_max spec.memory_max_bytes spec.ha spec.passthrough spec.nics[1].limits"
        );
        let text = serde_json::to_value(VmSpec::default()).unwrap();
        assert!(
            text.get("hypervisor").is_none()
                && text.get("firmware").is_none()
                && text.get("machine").is_none()
        );
    }

    #[test]
    fn what_a_function_of_a_host_excludes_is_named() {
        let one = Passthrough { address: "0000:03:00.0".parse().unwrap() };
        let spec = VmSpec {
            passthrough: vec![one, one],
            memory_bytes: Bytes::mib(128),
            memory_max_bytes: Some(Bytes::mib(256)),
            ha: serde_json::from_str(r#"{"priority":"high"}"#).unwrap(),
            ..VmSpec::default()
        };
        let fields: Vec<_> = spec.validate().into_iter().map(|e| e.field).collect();
        let expected =
            ["spec.passthrough[1].address", "spec.placement.host", "spec.ha", "spec.memory_max_bytes"];
        assert_eq!(fields, expected);
        let placement = Placement { host: Some(HostId::new()), ..Placement::default() };
        let spec = VmSpec { passthrough: vec![one], placement, ..VmSpec::default() };
        assert_eq!(spec.validate(), []);
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<VmSpec>(r#"{"vcpus":1,"memory_bytes":67108864,"memroy":1}"#).is_err());
    }
}
