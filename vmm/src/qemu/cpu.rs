//! CPU models in QEMU's words, for machines that run on it: the same levels as of our own ([`crate::machine::cpu_model`]).

use kvm_bindings::kvm_cpuid_entry2;
use lq_api::local::vmm::CpuModel;

/// The oldest 64-bit processor QEMU has, without virtualization in it, as level 1; what the levels have besides.
const LEVEL_1: &str = "qemu64-v1,-svm";
const LEVEL_2: &str = ",+pni,+ssse3,+cx16,+sse4.1,+sse4.2,+popcnt,+lahf-lm";
const LEVEL_3: &str = ",+fma,+movbe,+xsave,+avx,+f16c,+bmi1,+avx2,+bmi2,+abm";
/// What KVM makes itself.
const KVM: &str = ",+x2apic,+tsc-deadline,+tsc_adjust";

/// Answers of the host to attacks on speculation: leaf, register (0: EBX, 1: EDX), bit, QEMU's name.
const ANSWERS: [(u32, u8, u32, &str); 10] = [
    (7, 1, 10, "md-clear"),
    (7, 1, 26, "spec-ctrl"),
    (7, 1, 27, "stibp"),
    (7, 1, 28, "flush-l1d"),
    (7, 1, 29, "arch-capabilities"),
    (7, 1, 31, "ssbd"),
    (0x8000_0008, 0, 12, "ibpb"),
    (0x8000_0008, 0, 15, "amd-stibp"),
    (0x8000_0008, 0, 24, "amd-ssbd"),
    (0x8000_0008, 0, 25, "virt-ssbd"),
];

/// Of what KVM offers, the answers to attacks, by QEMU's names.
#[must_use]
pub fn kept(entries: &[kvm_cpuid_entry2]) -> Vec<&'static str> {
    let has = |leaf, register, bit: u32| {
        let found = entries.iter().find(|entry| (entry.function, entry.index) == (leaf, 0));
        found.is_some_and(|entry| [entry.ebx, entry.edx][usize::from(register == 1)] & 1 << bit != 0)
    };
    ANSWERS
        .iter()
        .filter(|(leaf, register, bit, _)| has(*leaf, *register, *bit))
        .map(|(.., name)| *name)
        .collect()
}

/// What is said of the processor. On KVM a feature of the level that the host lacks ends QEMU's start; without it, it is what QEMU
/// can do.
#[must_use]
pub fn model(model: CpuModel, kvm: bool, kept: &[&str]) -> String {
    let levels = match model {
        CpuModel::Host if kvm => return "host,migratable=on".to_owned(),
        CpuModel::Host => return "max".to_owned(),
        CpuModel::V2 => format!("{LEVEL_1}{LEVEL_2}"),
        CpuModel::V3 => format!("{LEVEL_1}{LEVEL_2}{LEVEL_3}"),
    };
    if !kvm {
        return levels;
    }
    let kept: String = kept.iter().map(|name| format!(",+{name}")).collect();
    format!("{levels}{KVM}{kept},enforce")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_said_whole() {
        assert_eq!(model(CpuModel::Host, true, &["ibpb"]), "host,migratable=on");
        assert_eq!(
            model(CpuModel::V2, true, &["ibpb"]),
            "qemu64-v1,-svm,+pni,+ssse3,+cx16,+sse4.1,+sse4.2,+popcnt,+lahf-lm,+x2apic,+tsc-deadline,+tsc_adjust,+ibpb,enforce"
        );
        assert!(model(CpuModel::V3, false, &[]).ends_with(",+bmi2,+abm"));
    }

    #[test]
    fn answers_the_host_has_are_kept() {
        let entry = |function, ebx, edx| kvm_cpuid_entry2 { function, ebx, edx, ..Default::default() };
        let offered = [entry(7, 0, 1 << 26 | 1 << 31), entry(0x8000_0008, 1 << 12, 1 << 15)];
        assert_eq!(kept(&offered), ["spec-ctrl", "ssbd", "ibpb"]);
        assert_eq!(kept(&[]), Vec::<&str>::new());
    }
}
