//! How much the cluster did, and who did it.

use crate::{
    Bytes, HostId, VmId,
    history::{MetricHistory, Span},
};
use serde::{Deserialize, Serialize};

/// Parameters of `GET /cluster/usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct UsageQuery {
    /// How far back; an hour where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// How many machines of each kind of load, 1 to 100; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<u32>,
}

/// How much the hosts and machines the caller may see did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Sums over the hosts that were measured at a time. `cpu` is in processors.
    pub history: MetricHistory,
    /// Each host over the span.
    pub hosts: Vec<HostUsage>,
    /// Machines that did most: of each kind of load as many as were asked for, in no order.
    pub machines: Vec<MachineUsage>,
    /// Hosts that could not be asked: what they and their machines did is missing.
    #[serde(default)]
    pub silent: Vec<HostId>,
}

/// A host over a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostUsage {
    /// Which.
    pub host: HostId,
    /// Logical processors it has.
    pub processors: u32,
    /// Memory it has.
    pub memory_bytes: Bytes,
    /// What it did.
    pub load: Load,
}

/// A machine over a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineUsage {
    /// Which.
    pub vm: VmId,
    /// Where it was measured.
    pub host: HostId,
    /// What it did.
    pub load: Load,
}

/// Means over a span, of the time in which something was measured; absent where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Load {
    /// Processors in use, so 1.5 is one and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// Memory in use on the host, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<f32>,
    /// Read from and written to disks, in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<f32>,
    /// Received and sent, in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<f32>,
}

impl Load {
    /// CPU, memory, disk, network.
    #[must_use]
    pub const fn kinds(&self) -> [Option<f32>; 4] {
        [self.cpu, self.memory, self.disk, self.network]
    }
}
