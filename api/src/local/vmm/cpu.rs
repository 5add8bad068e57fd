//! CPU models.

use serde::{Deserialize, Serialize};

/// What a guest sees of the host's processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CpuModel {
    /// All that can move at all: to hosts with the same features.
    #[default]
    #[serde(rename = "host")]
    Host,
    /// Level 2 of the x86-64 psABI: to nearly every host.
    #[serde(rename = "x86-64-v2")]
    V2,
    /// Level 3 of the x86-64 psABI (AVX2): to hosts since about 2015.
    #[serde(rename = "x86-64-v3")]
    V3,
}

impl CpuModel {
    /// The one that requires most.
    pub const HIGHEST: Self = Self::V3;

    /// Whatever the host has.
    #[must_use]
    pub fn is_host(&self) -> bool {
        *self == Self::Host
    }

    /// The features it requires beyond those of every 64-bit processor, as `/proc/cpuinfo` names them.
    #[must_use]
    pub const fn features(self) -> &'static [&'static str] {
        // Level 2, then what level 3 has besides.
        const ALL: &[&str] = &[
            "pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm", "fma", "movbe", "xsave", "avx",
            "f16c", "bmi1", "avx2", "bmi2", "abm",
        ];
        match self {
            Self::Host => &[],
            Self::V2 => ALL.split_at(7).0,
            Self::V3 => ALL,
        }
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        }
    }
}
