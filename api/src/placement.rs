//! Where a machine may run, and why not elsewhere.

use crate::{HostId, VmId, problem::FieldError, vm::VmSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a machine asks of its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// On the hosts of machines with these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Affinity>,
    /// Not on the hosts of machines with these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<Affinity>,
}

impl Placement {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }

    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let all = [("near", &self.near), ("apart", &self.apart)];
        let mut errors = Vec::new();
        for (field, rules) in all {
            if rules.len() > 16 {
                errors.push(FieldError::new(format!("spec.placement.{field}"), "has more than 16 rules"));
            }
            for (n, rule) in rules.iter().enumerate().filter(|(_, r)| r.pair().is_none()) {
                let reason = format!("`{}` is not of the form key=value", rule.label);
                errors.push(FieldError::new(format!("spec.placement.{field}[{n}].label"), reason));
            }
        }
        errors
    }
}

/// Machines another one is to be near to, or apart from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// Those with this label, `key=value`.
    pub label: String,
    /// Rather not at all than otherwise. Where absent it is only preferred.
    #[serde(default)]
    pub strict: bool,
}

impl Affinity {
    /// Key and value of the label.
    #[must_use]
    pub fn pair(&self) -> Option<(&str, &str)> {
        self.label.split_once('=').filter(|(key, _)| !key.is_empty())
    }
}

/// `POST /placement`: what if this machine were made, or moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PlacementQuery {
    /// The machine, where it exists already: where it could go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What would be wanted.
    pub spec: VmSpec,
}

/// Where a machine would be placed, with the word on every host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlacementDecision {
    /// The host that fits best; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Every host, the best first, those that do not fit last.
    pub hosts: Vec<Verdict>,
}

/// What was found of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verdict {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// How well it fits; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    /// Why it does not fit; or what moved its score.
    pub reasons: Vec<String>,
}
