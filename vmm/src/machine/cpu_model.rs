//! CPU models: what of the host's features a guest sees, so that it can move to every host that has the model's.
//!
//! The levels are those of the x86-64 psABI. A guest of a level sees its features, those every 64-bit processor has, those
//! KVM makes itself, and the host's answers to attacks on speculation: a host that lacks one of these is told by its name when
//! the machine is to move there.

use crate::state::description::Leaf;
use kvm_bindings::kvm_cpuid_entry2;
use lq_api::local::vmm::CpuModel;

use super::cpuid;

/// Bits of leaf 1, ECX.
mod leaf1 {
    pub(super) const SSE3: u32 = 1 << 0;
    pub(super) const SSSE3: u32 = 1 << 9;
    pub(super) const FMA: u32 = 1 << 12;
    pub(super) const CX16: u32 = 1 << 13;
    pub(super) const SSE4_1: u32 = 1 << 19;
    pub(super) const SSE4_2: u32 = 1 << 20;
    pub(super) const X2APIC: u32 = 1 << 21;
    pub(super) const MOVBE: u32 = 1 << 22;
    pub(super) const POPCNT: u32 = 1 << 23;
    pub(super) const TSC_DEADLINE: u32 = 1 << 24;
    pub(super) const XSAVE: u32 = 1 << 26;
    pub(super) const OSXSAVE: u32 = 1 << 27;
    pub(super) const AVX: u32 = 1 << 28;
    pub(super) const F16C: u32 = 1 << 29;
    pub(super) const HYPERVISOR: u32 = 1 << 31;
}

/// Leaf 1, EDX: what every 64-bit processor has, and topology.
const BASE_EDX: u32 = 0x1789_fbff | 1 << 28;
/// Leaf 7, EBX: of level 3; TSC_ADJUST is KVM's own.
const BMI1: u32 = 1 << 3;
const AVX2: u32 = 1 << 5;
const BMI2: u32 = 1 << 8;
const TSC_ADJUST: u32 = 1 << 1;
/// Leaf 7, EDX: MD_CLEAR, speculation control, STIBP, L1D_FLUSH, architectural capabilities, SSBD.
const SPECULATION: u32 = 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;
/// Leaf 0x80000001, ECX: LAHF in 64 bits, CMP_LEGACY, CR8 in 32 bits, LZCNT, topology extensions.
const LAHF: u32 = 1;
const EXTENDED_KEPT: u32 = 1 << 1 | 1 << 4 | 1 << 22;
const LZCNT: u32 = 1 << 5;
/// Leaf 0x80000001, EDX: the copy of leaf 1 that AMD has, SYSCALL, NX, long mode.
const EXTENDED_EDX: u32 = 0x0183_f3ff | 1 << 11 | 1 << 20 | 1 << 29;
/// State of x87, SSE and AVX, and its bytes in a standard area.
const AVX_STATE: u32 = 7;
const AVX_AREA: u32 = 832;

/// What a level requires and what is kept besides.
struct Level {
    one: (u32, u32),
    seven: (u32, u32),
    extended: (u32, u32),
    xsave: bool,
}

const fn level(model: CpuModel) -> Option<Level> {
    use leaf1::*;
    let kept = X2APIC | TSC_DEADLINE | HYPERVISOR;
    let two = SSE3 | SSSE3 | CX16 | SSE4_1 | SSE4_2 | POPCNT;
    match model {
        CpuModel::Host => None,
        CpuModel::V2 => Some(Level {
            one: (two, kept),
            seven: (0, TSC_ADJUST),
            extended: (LAHF, EXTENDED_KEPT),
            xsave: false,
        }),
        CpuModel::V3 => Some(Level {
            one: (two | FMA | MOVBE | XSAVE | AVX | F16C, kept | OSXSAVE),
            seven: (BMI1 | AVX2 | BMI2, TSC_ADJUST),
            extended: (LAHF | LZCNT, EXTENDED_KEPT),
            xsave: true,
        }),
    }
}

/// Takes away from `entries` what `model` has not.
///
/// # Errors
/// The names of the model's features that are missing; nothing is changed.
pub fn restrict(entries: &mut Vec<kvm_cpuid_entry2>, model: CpuModel) -> Result<(), Vec<String>> {
    let Some(level) = level(model) else { return Ok(()) };
    let leaf = |function, registers| Leaf { function, index: 0, flags: 0, registers };
    let required = [
        leaf(1, [0, 0, level.one.0, 0]),
        leaf(7, [0, level.seven.0, 0, 0]),
        leaf(0x8000_0001, [0, 0, level.extended.0, 0]),
    ];
    let ours: Vec<Leaf> = entries.iter().map(Leaf::from).collect();
    let missing = cpuid::missing(&ours, &required);
    if !missing.is_empty() {
        return Err(missing);
    }
    entries.retain(|entry| match entry.function {
        7 => entry.index == 0,
        0xd => level.xsave && entry.index <= 2,
        // Leaves of features no level has.
        0xf | 0x10 | 0x12 | 0x14 | 0x17..=0x1e | 0x20.. if entry.function < 0x4000_0000 => false,
        _ => true,
    });
    for entry in entries {
        match (entry.function, entry.index) {
            (1, _) => {
                entry.ecx &= level.one.0 | level.one.1;
                entry.edx &= BASE_EDX;
            }
            (7, _) => {
                entry.eax = 0;
                entry.ebx &= level.seven.0 | level.seven.1;
                entry.ecx = 0;
                entry.edx &= SPECULATION;
            }
            (0xd, 0) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (AVX_STATE, AVX_AREA, AVX_AREA, 0);
            }
            (0xd, 1) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            (0x8000_0001, _) => {
                entry.ecx &= level.extended.0 | level.extended.1;
                entry.edx &= EXTENDED_EDX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODELS: [CpuModel; 2] = [CpuModel::V2, CpuModel::V3];

    fn host(bits: impl Fn(u32, u32) -> [u32; 4]) -> Vec<kvm_cpuid_entry2> {
        let places = [
            (0, 0),
            (1, 0),
            (7, 0),
            (7, 1),
            (0xd, 0),
            (0xd, 1),
            (0xd, 2),
            (0xd, 9),
            (0x14, 0),
            (0x8000_0001, 0),
        ];
        let entry = |(function, index)| {
            let [eax, ebx, ecx, edx] = bits(function, index);
            kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
        };
        places.into_iter().map(entry).collect()
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        entries.iter().find(|e| (e.function, e.index) == (function, index)).copied()
    }

    #[test]
    fn a_level_shows_its_features_and_hides_newer_ones() {
        let everything = host(|_, _| [u32::MAX; 4]);
        let mut two = everything.clone();
        restrict(&mut two, CpuModel::V2).unwrap();
        let one = find(&two, 1, 0).unwrap();
        assert_eq!(one.ecx & (leaf1::AVX | leaf1::XSAVE), 0);
        assert_ne!(one.ecx & leaf1::SSE4_2, 0);
        assert_eq!(find(&two, 7, 0).unwrap().ebx, TSC_ADJUST);
        assert!(find(&two, 0xd, 0).is_none() && find(&two, 7, 1).is_none() && find(&two, 0x14, 0).is_none());
        let mut three = everything.clone();
        restrict(&mut three, CpuModel::V3).unwrap();
        assert_eq!(find(&three, 7, 0).unwrap().ebx, TSC_ADJUST | BMI1 | AVX2 | BMI2);
        assert_eq!(find(&three, 0xd, 0).unwrap().eax, 7);
        assert!(find(&three, 0xd, 9).is_none());
        let mut same = everything.clone();
        restrict(&mut same, CpuModel::Host).unwrap();
        assert_eq!(same.len(), everything.len());
    }

    #[test]
    fn what_a_host_lacks_is_named() {
        let old =
            host(|function, _| if function == 1 { [0, 0, !(leaf1::AVX | leaf1::SSSE3), 0] } else { [0; 4] });
        let missing = restrict(&mut old.clone(), CpuModel::V3).unwrap_err();
        assert_eq!(missing, ["ssse3", "avx", "bmi1", "avx2", "bmi2", "lahf", "lzcnt"]);
        assert_eq!(restrict(&mut old.clone(), CpuModel::V2).unwrap_err(), ["ssse3", "lahf"]);
    }

    proptest! {
        /// Of two hosts that have a level, guests of one can move to the other, whatever else they have, save for answers to
        /// attacks.
        #[test]
        fn guests_of_a_level_see_the_same_wherever_they_are(one in any::<[u32; 4]>(), other in any::<[u32; 4]>()) {
            for model in MODELS {
                let level = level(model).unwrap();
                let with = |extra: [u32; 4]| host(|function, index| {
                    let [a, b, c, d] = extra;
                    match (function, index) {
                        (1, _) => [a, b, c | level.one.0 | level.one.1, d | BASE_EDX],
                        (7, 0) => [a, b | level.seven.0 | level.seven.1, c, d | SPECULATION],
                        (0x8000_0001, _) => [a, b, c | level.extended.0 | level.extended.1, d | EXTENDED_EDX],
                        _ => extra,
                    }
                });
                let leaves = |extra| {
                    let mut entries = with(extra);
                    restrict(&mut entries, model).unwrap();
                    entries.iter().map(Leaf::from).collect::<Vec<_>>()
                };
                prop_assert_eq!(cpuid::missing(&leaves(one), &leaves(other)), Vec::<String>::new());
            }
        }
    }
}
