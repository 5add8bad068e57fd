//! What a virtual CPU says it is: the host's features as KVM can give them, with the machine's own topology.
//!
//! One socket, one thread per core. Nested virtualization and the performance counters are taken away: neither can move
//! to another host. Intel SDM volume 2A and AMD APM volume 3 (CPUID), KVM `cpuid.rst`.

use super::cpu_model;
use crate::state::description::Leaf;
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};
use lq_api::local::vmm::CpuModel;

/// Leaf 1, ECX.
const VMX: u32 = 1 << 5;
const PDCM: u32 = 1 << 15;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX.
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001, ECX.
const CMP_LEGACY: u32 = 1 << 1;
const SVM: u32 = 1 << 2;
const PERFCTR_CORE: u32 = 1 << 23;
const PERFCTR_LLC: u32 = 1 << 28;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
/// Kinds of topology level.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Where bits are features: leaf, index, register (EAX to EDX), and bits that are none.
const FEATURES: [(u32, u32, usize, u32); 14] = [
    // OSXSAVE follows what the guest has switched on.
    (1, 0, 2, 1 << 27),
    (1, 0, 3, HTT),
    (7, 0, 1, 0),
    (7, 0, 2, 0),
    (7, 0, 3, 0),
    (7, 1, 0, 0),
    (0xd, 0, 0, 0),
    (0xd, 0, 3, 0),
    (0xd, 1, 0, 0),
    (0x4000_0001, 0, 0, 0),
    (0x8000_0001, 0, 2, 0),
    (0x8000_0001, 0, 3, 0),
    (0x8000_0007, 0, 3, 0),
    (0x8000_0008, 0, 1, 0),
];

/// Names people know, of some features: leaf, register, bit, name.
const NAMES: [(u32, usize, u32, &str); 28] = [
    (1, 2, 0, "sse3"),
    (1, 2, 1, "pclmulqdq"),
    (1, 2, 9, "ssse3"),
    (1, 2, 12, "fma"),
    (1, 2, 13, "cx16"),
    (1, 2, 19, "sse4.1"),
    (1, 2, 20, "sse4.2"),
    (1, 2, 21, "x2apic"),
    (1, 2, 22, "movbe"),
    (1, 2, 23, "popcnt"),
    (1, 2, 24, "tsc-deadline"),
    (1, 2, 25, "aes"),
    (1, 2, 26, "xsave"),
    (1, 2, 28, "avx"),
    (1, 2, 29, "f16c"),
    (1, 2, 30, "rdrand"),
    (7, 1, 0, "fsgsbase"),
    (7, 1, 3, "bmi1"),
    (7, 1, 5, "avx2"),
    (7, 1, 7, "smep"),
    (7, 1, 8, "bmi2"),
    (7, 1, 10, "invpcid"),
    (7, 1, 16, "avx512f"),
    (7, 1, 18, "rdseed"),
    (7, 1, 20, "smap"),
    (7, 1, 29, "sha"),
    (0x8000_0001, 2, 0, "lahf"),
    (0x8000_0001, 2, 5, "lzcnt"),
];

/// The features of `theirs` that `ours` lacks, by name.
#[must_use]
pub fn missing(ours: &[Leaf], theirs: &[Leaf]) -> Vec<String> {
    let mut names = Vec::new();
    for (leaf, index, register, ignored) in FEATURES {
        let bits = |leaves: &[Leaf]| {
            let found = leaves.iter().find(|l| l.function == leaf && l.index == index);
            found.and_then(|l| l.registers.get(register)).copied().unwrap_or(0)
        };
        let lacking = bits(theirs) & !bits(ours) & !ignored;
        for bit in (0..32).filter(|bit| lacking & 1 << bit != 0) {
            let name = NAMES.iter().find(|n| (n.0, n.1, n.2) == (leaf, register, bit));
            names.push(name.map_or_else(
                || {
                    let register = ["eax", "ebx", "ecx", "edx"].get(register).unwrap_or(&"?");
                    format!("CPUID {leaf:#x}.{index} {register} bit {bit}")
                },
                |name| name.3.to_owned(),
            ));
        }
    }
    names
}

/// Why a virtual CPU cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot be the model.
    #[error("this host's processor lacks {} for the model `{model}`; choose a lower one, or another host", missing.join(", "))]
    Model {
        /// The model.
        model: String,
        /// Names of features.
        missing: Vec<String>,
    },
    /// Too many leaves.
    #[error("too many leaves: {0}")]
    Leaves(String),
}

/// The leaves of virtual CPU `id` of `vcpus`, of what KVM supports what the model has.
pub fn leaves(kvm: &Kvm, supported: &CpuId, id: u8, vcpus: u8, model: CpuModel) -> Result<CpuId, Error> {
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let mut entries = supported.as_slice().to_vec();
    shape(&mut entries, id, vcpus, deadline);
    cpu_model::restrict(&mut entries, model).map_err(|missing| {
        let model = serde_json::to_value(model).ok();
        let model = model.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Error::Model { model, missing }
    })?;
    CpuId::from_entries(&entries).map_err(|error| Error::Leaves(error.to_string()))
}

/// Address bits of a processor with these leaves.
#[must_use]
pub fn address_bits(leaves: &[Leaf]) -> u32 {
    const LEAST: u32 = 36;
    let sizes = leaves.iter().find(|leaf| leaf.function == 0x8000_0008);
    sizes.map_or(LEAST, |leaf| (leaf.registers[0] & 0xff).clamp(LEAST, 52))
}

/// Bits of an APIC id that number the cores of the socket.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

fn shape(entries: &mut Vec<kvm_cpuid_entry2>, id: u8, vcpus: u8, deadline: bool) {
    let amd = entries.iter().any(|e| e.function == 0 && e.ebx == u32::from_le_bytes(*b"Auth"));
    let (id, count, bits) = (u32::from(id), u32::from(vcpus), core_bits(vcpus));
    // Topology is written below; performance counters, nested virtualization and memory encryption go.
    entries.retain(|e| !matches!(e.function, 0xa | 0xb | 0x1f | 0x8000_000a | 0x8000_001f | 0x8000_0022));
    for entry in entries.iter_mut() {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0x0000_ffff | id << 24 | count << 16;
                entry.ecx = entry.ecx & !(VMX | PDCM | TSC_DEADLINE) | HYPERVISOR;
                if deadline {
                    entry.ecx |= TSC_DEADLINE;
                }
                entry.edx = if count > 1 { entry.edx | HTT } else { entry.edx & !HTT };
            }
            // Caches: level 1 and 2 belong to one core, the rest to the socket. Cores per socket in bits 26 to 31.
            4 if entry.eax & 0x1f != 0 => {
                let level = entry.eax >> 5 & 7;
                let sharing = if level >= 3 { (1 << bits) - 1 } else { 0 };
                let cores = ((1 << bits) - 1_u32).min(63);
                entry.eax = entry.eax & 0x3fff | sharing << 14 | cores << 26;
            }
            0x8000_0001 => {
                entry.ecx &= !(SVM | PERFCTR_CORE | PERFCTR_LLC | CMP_LEGACY);
                if amd && count > 1 {
                    entry.ecx |= CMP_LEGACY;
                }
                if amd {
                    entry.ecx |= TOPOLOGY_EXTENSIONS;
                }
            }
            0x8000_0008 if amd => entry.ecx = entry.ecx & 0xffff_0f00 | bits << 12 | (count - 1),
            0x8000_001d if entry.eax & 0x1f != 0 => {
                let level = entry.eax >> 5 & 7;
                let sharing = if level >= 3 { count - 1 } else { 0 };
                entry.eax = entry.eax & 0x3fff | sharing << 14;
            }
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
            _ => {}
        }
    }
    let level = |index, eax, ebx, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | kind << 8,
        edx: id,
        ..Default::default()
    };
    if entries.iter().any(|e| e.function == 0 && e.eax >= 0xb) {
        entries.push(level(0, 0, 1, LEVEL_THREAD));
        entries.push(level(1, bits, count, LEVEL_CORE));
        entries.push(level(2, 0, 0, 0));
    }
    if amd && !entries.iter().any(|e| e.function == 0x8000_001e) {
        entries.push(kvm_cpuid_entry2 { function: 0x8000_001e, eax: id, ebx: id, ..Default::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn amd() -> Vec<kvm_cpuid_entry2> {
        vec![
            entry(0, 0, [0x10, u32::from_le_bytes(*b"Auth"), 0, 0]),
            entry(1, 0, [0, 0x0701_0800, VMX, HTT]),
            entry(0xa, 0, [7, 0, 0, 0]),
            entry(0x8000_0001, 0, [0, 0, SVM | PERFCTR_CORE, 0]),
            entry(0x8000_0008, 0, [0x3028, 0, 0x7007, 0]),
            entry(0x8000_000a, 0, [1, 1, 0, 1]),
        ]
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        entries.iter().find(|e| (e.function, e.index) == (function, index)).copied()
    }

    #[test]
    fn missing_features_are_named() {
        let leaf = |function, registers| Leaf { function, index: 0, flags: 0, registers };
        let theirs = [leaf(1, [0, 0, 1 << 28 | 1 << 27, 0]), leaf(7, [0, 1 << 5 | 1 << 31, 0, 0])];
        assert_eq!(missing(&theirs, &theirs), Vec::<String>::new());
        assert_eq!(missing(&[leaf(1, [0; 4])], &theirs), ["avx", "avx2", "CPUID 0x7.0 ebx bit 31"]);
    }

    #[test]
    fn topology_is_one_socket_of_cores() {
        for (id, vcpus, bits) in [(0, 1, 0), (1, 2, 1), (2, 3, 2), (63, 64, 6)] {
            let mut entries = amd();
            shape(&mut entries, id, vcpus, true);
            let one = find(&entries, 1, 0).unwrap();
            assert_eq!(one.ebx >> 24, u32::from(id));
            assert_eq!(one.ebx >> 16 & 0xff, u32::from(vcpus));
            assert_eq!(one.ebx & 0xffff, 0x0800);
            let core = find(&entries, 0xb, 1).unwrap();
            assert_eq!((core.eax, core.ebx, core.edx), (bits, u32::from(vcpus), u32::from(id)));
            let sizes = find(&entries, 0x8000_0008, 0).unwrap();
            assert_eq!((sizes.ecx >> 12, sizes.ecx & 0xff), (bits, u32::from(vcpus) - 1));
            assert_eq!(sizes.eax, 0x3028);
            assert_eq!(find(&entries, 0x8000_001e, 0).unwrap().eax, u32::from(id));
        }
    }

    #[test]
    fn what_cannot_move_is_taken_away() {
        let mut entries = amd();
        shape(&mut entries, 0, 2, false);
        assert_eq!(find(&entries, 0x8000_0001, 0).unwrap().ecx & (SVM | PERFCTR_CORE), 0);
        let one = find(&entries, 1, 0).unwrap();
        assert_eq!(one.ecx & (VMX | TSC_DEADLINE), 0);
        assert_ne!(one.ecx & HYPERVISOR, 0);
        assert_eq!(find(&entries, 0xa, 0), None);
        assert_eq!(find(&entries, 0x8000_000a, 0), None);
    }
}
