//! What a guest is told at its first start: cloud-init's NoCloud data, on a small medium beside its disks.
//!
//! Whatever is in it can be read by whoever may read the machine, and by every process of the guest: put hashes of passwords in,
//! never passwords.

use crate::problem::FieldError;
use serde::{Deserialize, Serialize};

/// Longest text, bytes: the state of the cluster is held in memory by every host.
pub const MAX_TEXT: usize = 64 * 1024;
/// Label of the medium, by which cloud-init finds it.
pub const LABEL: &str = "CIDATA";

/// Beginnings by which cloud-init tells what user data is.
/// <https://cloudinit.readthedocs.io/en/latest/explanation/format.html>
const KINDS: [&str; 8] = [
    "#cloud-config",
    "#!",
    "#include",
    "#part-handler",
    "#cloud-boothook",
    "## template: jinja",
    "Content-Type: multipart/mixed",
    "MIME-Version:",
];

/// What a guest with cloud-init (or another program that reads NoCloud media) sets itself up by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// User data, at most 64 KiB: `#cloud-config` and YAML, or a script. Empty: the guest learns its name only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
    /// Network configuration in cloud-init's YAML, at most 64 KiB. Where absent the guest asks for addresses by DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
}

impl CloudInit {
    /// Every fault that can be seen without understanding YAML. Fields are named from `cloud_init` on.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let texts = [("user_data", Some(&self.user_data)), ("network_config", self.network_config.as_ref())];
        let mut errors: Vec<FieldError> = texts
            .into_iter()
            .filter_map(|(field, text)| Some((field, fault(text?)?)))
            .map(|(field, why)| FieldError::new(format!("cloud_init.{field}"), why))
            .collect();
        let kind = |text: &str| KINDS.iter().any(|kind| text.starts_with(kind));
        if !self.user_data.is_empty() && !kind(&self.user_data) {
            let why = "cloud-init would ignore it: it has to begin with `#cloud-config`, `#!`, or another mark of its kind";
            errors.push(FieldError::new("cloud_init.user_data", why));
        }
        if self.network_config.as_ref().is_some_and(|text| text.trim().is_empty()) {
            errors.push(FieldError::new("cloud_init.network_config", "is empty: leave it out"));
        }
        errors
    }
}

fn fault(text: &str) -> Option<String> {
    if text.len() > MAX_TEXT {
        return Some(format!("has {} bytes; at most {MAX_TEXT} are kept", text.len()));
    }
    text.contains('\0').then(|| "holds a NUL character".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(user: &str, network: Option<&str>) -> Vec<String> {
        let given = CloudInit { user_data: user.into(), network_config: network.map(Into::into) };
        given.validate().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn what_cloud_init_would_ignore_is_refused() {
        assert!(faults("", None).is_empty());
        assert!(faults("#cloud-config\nusers: []\n", Some("version: 2\n")).is_empty());
        assert!(faults("#!/bin/sh\ntrue\n", None).is_empty());
        assert_eq!(faults("users: []\n", None), ["cloud_init.user_data"]);
        assert_eq!(faults("", Some(" \n")), ["cloud_init.network_config"]);
        let long = format!("#!{}", "x".repeat(MAX_TEXT));
        assert_eq!(faults(&long, Some("a\0b")), ["cloud_init.user_data", "cloud_init.network_config"]);
    }
}
