//! High availability: machines that are started again elsewhere when their host is lost.

use crate::{HostId, VmId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a machine is protected. A machine without this is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VmHa {
    /// Which machines of a lost host come first.
    #[serde(default)]
    pub priority: HaPriority,
}

/// Order in which the machines of a lost host are started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HaPriority {
    /// First.
    High,
    /// After those of high priority.
    #[default]
    Medium,
    /// Last.
    Low,
    /// Not at all, as a machine without protection.
    Disabled,
}

impl fmt::Display for HaPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Disabled => "disabled",
        })
    }
}

/// High availability of the whole cluster, as it is wanted: `PUT /cluster/ha`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HaSpec {
    /// Machines of lost hosts are started again. Where not, they wait until this is armed again, or their host is back.
    pub armed: bool,
}

impl Default for HaSpec {
    fn default() -> Self {
        Self { armed: true }
    }
}

/// `GET /cluster/ha`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HaStatus {
    /// What is wanted.
    pub spec: HaSpec,
    /// The host that watches the others; absent where none does, or it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_by: Option<HostId>,
    /// What is wrong or weaker than it could be, in words an administrator can act on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Every host.
    pub hosts: Vec<HaHost>,
    /// Every protected machine.
    pub machines: Vec<HaMachine>,
}

/// A host, as the one that watches sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HaHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: HaHostState,
    /// Milliseconds since its last beat; absent where none was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
    /// Milliseconds until nothing it runs under a lease can write any more, all margins included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_in_ms: Option<u64>,
    /// What happens, or why nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its BMC is asked, or said, while it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,
    /// What restarts it should it hang; absent where there is nothing, or it was not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<HostWatchdog>,
    /// Why it is protected less well than it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

/// A host's watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostWatchdog {
    /// As its driver calls it.
    pub name: String,
    /// It is a device of its own, which restarts the host even where the whole kernel hangs.
    pub hardware: bool,
    /// After so many seconds. A device is quick (5 s) only while the host runs a protected machine.
    pub seconds: u32,
}

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HaHostState {
    /// Nobody watches it, or it was not heard yet.
    Unknown,
    /// It beats, and has a lease.
    Present,
    /// It does not beat; it may still run its machines.
    Silent,
    /// None of its protected machines runs any more.
    Lost,
}

/// A protected machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HaMachine {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Which come first.
    pub priority: HaPriority,
    /// Where it is.
    pub state: HaMachineState,
    /// Why, where that needs words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a protected machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HaMachineState {
    /// It is started elsewhere when its host is lost.
    Protected,
    /// It is not wanted running.
    Stopped,
    /// It would not be started elsewhere.
    NotProtectable,
    /// Its host is lost, and it is being started elsewhere.
    Restarting,
    /// Its host is silent or lost, and something is waited for.
    Waiting,
}

impl VmHa {
    /// Whether it is protected at all.
    #[must_use]
    pub fn is_on(self) -> bool {
        self.priority != HaPriority::Disabled
    }
}
