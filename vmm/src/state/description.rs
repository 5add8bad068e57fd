//! What a machine is, so that whoever is to take it up can say beforehand, and by name, what it lacks.

use super::FORMAT;
use crate::machine::cpuid;
use kvm_bindings::kvm_cpuid_entry2;
use lq_api::VmId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far two time stamp counters may differ without scaling, in millionths.
const TSC_TOLERANCE: u64 = 250;

/// The description at the begin of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Version of the stream.
    pub format: u32,
    /// Version of the monitor that wrote it, for people.
    pub monitor: String,
    /// The machine.
    pub vm: VmId,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory.
    pub memory_bytes: u64,
    /// The first processor's leaves.
    pub cpuid: Vec<Leaf>,
    /// Frequency of the time stamp counter, where KVM tells it.
    pub tsc_khz: Option<u32>,
    /// Devices by slot.
    pub devices: Vec<Device>,
    /// Its firmware; none: it boots a kernel directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// It has a port for panics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
    /// Its guest was told that devices may come and go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hotplug: bool,
    /// So many virtual CPUs at most, where they come and go; how many there are is in the state then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u8>,
    /// It has a TPM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tpm: bool,
    /// It moves with a lease, and needs one where it goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leased: bool,
}

/// What of a machine's firmware decides where things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Bytes of its code.
    pub code_bytes: u64,
    /// Bytes of its variables.
    pub vars_bytes: u64,
}

/// One leaf of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// EAX it is asked with.
    pub function: u32,
    /// ECX it is asked with.
    pub index: u32,
    /// KVM's flags of the leaf.
    pub flags: u32,
    /// EAX, EBX, ECX, EDX of the answer.
    pub registers: [u32; 4],
}

impl From<&kvm_cpuid_entry2> for Leaf {
    fn from(entry: &kvm_cpuid_entry2) -> Self {
        let registers = [entry.eax, entry.ebx, entry.ecx, entry.edx];
        Self { function: entry.function, index: entry.index, flags: entry.flags, registers }
    }
}

impl From<&Leaf> for kvm_cpuid_entry2 {
    fn from(leaf: &Leaf) -> Self {
        let [eax, ebx, ecx, edx] = leaf.registers;
        let (function, index, flags) = (leaf.function, leaf.index, leaf.flags);
        Self { function, index, flags, eax, ebx, ecx, edx, ..Self::default() }
    }
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its slot, from 1; absent: the one after that of the device before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// What it is.
    pub kind: String,
    /// What it offers its driver.
    pub features: u64,
    /// The largest size of each of its queues.
    pub queue_sizes: Vec<u16>,
    /// What its driver reads of it at the start: the size of a disk, an interface's address.
    pub config: Vec<u8>,
}

/// Devices by their slots.
fn by_slot(devices: &[Device]) -> BTreeMap<u32, &Device> {
    let mut next = 1_u32;
    let mut by_slot = BTreeMap::new();
    for device in devices {
        let slot = device.slot.unwrap_or(next);
        next = slot.saturating_add(1);
        by_slot.insert(slot, device);
    }
    by_slot
}

impl Description {
    /// Everything because of which `self`, a machine that waits, cannot become `other`. Empty: it can.
    #[must_use]
    pub fn obstacles(&self, other: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut differ = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                faults.push(format!("{what} is {theirs} in the saved machine, {ours} here"));
            }
        };
        differ("the version of the stream", FORMAT.to_string(), other.format.to_string());
        differ("the machine", self.vm.to_string(), other.vm.to_string());
        let most = |of: Option<u8>| of.map_or("absent".to_owned(), |most| most.to_string());
        differ("devices.cpus.most", most(self.cpus), most(other.cpus));
        if self.cpus.is_none() {
            differ("the number of virtual CPUs", self.vcpus.to_string(), other.vcpus.to_string());
        }
        differ("memory_bytes", self.memory_bytes.to_string(), other.memory_bytes.to_string());
        let firmware = |of: &Option<Firmware>| {
            of.as_ref().map_or("none".to_owned(), |Firmware { code_bytes, vars_bytes }| {
                format!("{code_bytes} bytes of code and {vars_bytes} bytes of variables")
            })
        };
        differ("the firmware", firmware(&self.firmware), firmware(&other.firmware));
        differ("devices.panic", self.panic.to_string(), other.panic.to_string());
        differ("devices.hotplug", self.hotplug.to_string(), other.hotplug.to_string());
        let tpm = |has| if has { "present" } else { "absent" }.to_owned();
        differ("devices.tpm", tpm(self.tpm), tpm(other.tpm));
        differ("the number of devices", self.devices.len().to_string(), other.devices.len().to_string());
        let (ours, theirs) = (by_slot(&self.devices), by_slot(&other.devices));
        for slot in ours.keys().chain(theirs.keys()).copied().collect::<BTreeSet<_>>() {
            let kind = |of: Option<&&Device>| of.map_or("none".to_owned(), |device| device.kind.clone());
            let (ours, theirs) = (ours.get(&slot), theirs.get(&slot));
            differ(&format!("the device in slot {slot}"), kind(ours), kind(theirs));
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            if ours.kind != theirs.kind {
                continue;
            }
            let kind = &ours.kind;
            let show = |value: &[u16]| format!("{value:?}");
            differ(
                &format!("the queues of {kind} {slot}"),
                show(&ours.queue_sizes),
                show(&theirs.queue_sizes),
            );
            let lacking = theirs.features & !ours.features;
            differ(&format!("missing features of {kind} {slot}"), "0x0".to_owned(), format!("{lacking:#x}"));
            let show = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect();
            differ(&format!("the configuration of {kind} {slot}"), show(&ours.config), show(&theirs.config));
        }
        let missing = cpuid::missing(&self.cpuid, &other.cpuid);
        if !missing.is_empty() {
            faults.push(format!("this host's processor lacks {}", missing.join(", ")));
        }
        // Firmware may have put devices as high as addresses go.
        let (ours, theirs) = (cpuid::address_bits(&self.cpuid), cpuid::address_bits(&other.cpuid));
        if self.firmware.is_some() && ours < theirs {
            faults.push(format!("the saved machine has {theirs} address bits, this host's processor {ours}"));
        }
        faults
    }

    /// The counters run at different speeds, beyond what a guest does not notice.
    #[must_use]
    pub fn needs_tsc_scaling(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.tsc_khz, other.tsc_khz) else { return false };
        u64::from(ours.abs_diff(theirs)) * 1_000_000 > u64::from(theirs) * TSC_TOLERANCE
    }
}
