//! CPU models.

use serde::{Deserialize, Serialize};

/// What a guest sees of the host's processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The level, as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        }
    }
}
