//! Balancing: which machine would better run elsewhere, why, and what that costs.

use crate::{Bytes, HostId, Timestamp, VmId, problem::FieldError};
use serde::{Deserialize, Serialize};

/// Most machines that balancing moves at a time.
pub const MOST_AT_ONCE: u32 = 8;

/// What is wanted of balancing: `PUT /cluster/balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BalanceSpec {
    /// Who decides.
    #[serde(default)]
    pub mode: BalanceMode,
    /// Most machines moved at a time, whoever moves them, 1 to 8.
    #[serde(default = "two")]
    pub at_once: u32,
}

fn two() -> u32 {
    2
}

impl Default for BalanceSpec {
    fn default() -> Self {
        Self { mode: BalanceMode::default(), at_once: two() }
    }
}

impl BalanceSpec {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let fits = (1..=MOST_AT_ONCE).contains(&self.at_once);
        if fits {
            return vec![];
        }
        vec![FieldError::new("at_once", format!("is not between 1 and {MOST_AT_ONCE}"))]
    }
}

/// Who decides about moves for balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BalanceMode {
    /// Nobody: nothing is recommended.
    Off,
    /// A person: moves are recommended.
    #[default]
    Advise,
    /// The cluster: what is recommended is done.
    Automatic,
}

/// A move that is recommended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recommendation {
    /// The machine. To follow the recommendation: `POST /vms/{id}/migrate` with the host.
    pub vm: VmId,
    /// Its name.
    pub vm_name: String,
    /// Where it is.
    pub from: HostId,
    /// Its name.
    pub from_name: String,
    /// Where it would better be.
    pub to: HostId,
    /// Its name.
    pub to_name: String,
    /// What the cluster gains in balance, in thousandths: how much less the squares of the loads of all hosts are in sum.
    pub gain: i64,
    /// What the move costs, in the same measure. The gain is greater by a margin at least.
    pub cost: i64,
    /// Bytes of memory that go over the network, at least.
    pub memory_bytes: Bytes,
    /// Why, in words.
    pub reason: String,
}

/// How much of a host is promised to machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BalanceHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Promised memory, in hundredths of what it has for machines.
    pub memory_percent: u32,
    /// Virtual processors per hundred threads.
    pub vcpu_percent: u32,
    /// Machines that run there or are to.
    pub machines: u32,
    /// Why balancing leaves it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
}

/// `GET /cluster/recommendations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Balance {
    /// What is wanted.
    pub spec: BalanceSpec,
    /// Moves, the best first; each is meant after those before it.
    pub items: Vec<Recommendation>,
    /// Every host.
    pub hosts: Vec<BalanceHost>,
    /// When the leader may move the next machine, where it waits with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<Timestamp>,
    /// Why nothing is recommended, or nothing done, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
