//! CPU models.

use serde::{Deserialize, Serialize};

/// What a guest sees of the host's processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
