//! The answer file: unattended installation and first settings of a host. TOML, read once.
//!
//! ```toml
//! version = 1
//!
//! [install]                  # absent: nothing is installed
//! disk = "serial:S3Z9NB0K"   # "auto", "/dev/sda", "serial:…", "wwn:…", "smallest", "largest"
//! erase = "yes, erase everything on it"    # needed only where the disk holds foreign data
//! then = "reboot"            # or "power-off"
//! again = false              # true: also where this very answer file has installed before
//!
//! [host]
//! name = "rack1-node3"
//!
//! [host.network]
//! interface = "52:54:00:12:34:56"  # hardware address; the first with a link where absent
//! address = "192.168.1.10/24"      # absent: DHCP
//! gateway = "192.168.1.1"
//! dns = ["192.168.1.1"]
//!
//! [host.guest_dhcp]          # the default network's own DHCP for guests; absent: the uplink's serves them
//! subnet = "192.168.1.0/24"
//! first = "192.168.1.100"
//! last = "192.168.1.199"
//! gateway = "192.168.1.1"
//! dns = ["192.168.1.1"]
//!
//! [cluster]
//! join = "lqj_…"              # text of a join token; absent: the host is a cluster by itself
//!
//! [admin]
//! password = "at least eight characters"   # absent: set at first login with the code on the console
//! ```

use crate::{auth, meta::check_name, network::Dhcp, problem::FieldError, vm::Mac};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The words that allow data to be overwritten.
pub const ERASE_WORD: &str = "yes, erase everything on it";
/// How the text of a join token begins.
pub const JOIN_TOKEN: &str = "lqj_";
/// Largest answer file.
pub const MAX_BYTES: usize = 64 * 1024;

/// An answer file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// 1.
    pub version: u32,
    /// Install to a disk.
    #[serde(default)]
    pub install: Option<Install>,
    /// The host's settings.
    #[serde(default)]
    pub host: HostConfig,
    /// The cluster it is to join.
    #[serde(default)]
    pub cluster: Option<ClusterConfig>,
    /// First administrator.
    #[serde(default)]
    pub admin: Option<Admin>,
}

/// The cluster a host is to join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Text of a join token.
    pub join: String,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterConfig(token hidden)")
    }
}

/// Installation to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// Which disk; see [`DiskChoice`].
    pub disk: String,
    /// [`ERASE_WORD`] where the disk may hold data that is not ours to keep.
    #[serde(default)]
    pub erase: Option<String>,
    /// What follows.
    #[serde(default)]
    pub then: AfterInstall,
    /// Install also over what this very answer file has installed before: a medium that stays in the machine then erases
    /// it at each start.
    #[serde(default)]
    pub again: bool,
}

/// What follows an installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterInstall {
    /// Restart into the installed system.
    #[default]
    Reboot,
    /// Switch off.
    PowerOff,
}

/// Which disk to install to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskChoice {
    /// The only disk that is large enough and is not the boot medium; more than one is an error.
    Auto,
    /// The smallest that is large enough.
    Smallest,
    /// The largest.
    Largest,
    /// This device node.
    Path(String),
    /// The disk with this serial number.
    Serial(String),
    /// The disk with this world-wide name.
    Wwn(String),
}

impl std::str::FromStr for DiskChoice {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "auto" => Ok(Self::Auto),
            "smallest" => Ok(Self::Smallest),
            "largest" => Ok(Self::Largest),
            _ => match s.split_once(':') {
                Some(("serial", v)) if !v.is_empty() => Ok(Self::Serial(v.into())),
                Some(("wwn", v)) if !v.is_empty() => Ok(Self::Wwn(v.into())),
                _ if s.starts_with("/dev/") && s.len() > 5 => Ok(Self::Path(s.into())),
                _ => Err(format!(
                    "`{s}` is not one of auto, smallest, largest, /dev/NAME, serial:NUMBER, wwn:NAME"
                )),
            },
        }
    }
}

/// Settings a host keeps for itself, outside the cluster's state, because it needs them to reach the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Host name; made from the machine's serial or hardware address where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Management network; DHCP on the first interface with a link where absent.
    #[serde(default)]
    pub network: HostNetwork,
    /// Own DHCP of the default network for guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_dhcp: Option<Dhcp>,
}

/// Management network of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostNetwork {
    /// Hardware address of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Mac>,
    /// Address with prefix; DHCP where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, at most three.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub dns: Vec<Ipv4Addr>,
}

/// First administrator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Password of `admin`.
    pub password: String,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin(password hidden)")
    }
}

impl HostNetwork {
    /// The static address, where one is set: address and prefix length.
    pub fn static_address(&self) -> Option<Result<(Ipv4Addr, u8), String>> {
        let text = self.address.as_deref()?;
        Some(
            text.split_once('/')
                .and_then(|(a, p)| Some((a.parse().ok()?, p.parse().ok().filter(|p| (1..=32).contains(p))?)))
                .ok_or_else(|| format!("`{text}` is not an address with prefix like 192.168.1.10/24")),
        )
    }
}

/// Takes out of the file what could not be read. Answers with the fault, and whether anything was taken out.
fn taken_out(
    file: &mut toml::Value,
    error: &serde_path_to_error::Error<toml::de::Error>,
) -> (FieldError, bool) {
    use serde_path_to_error::Segment;
    let reason = error.inner().message().to_owned();
    let mut steps: Vec<String> = Vec::new();
    for segment in error.path() {
        match segment {
            Segment::Map { key } => steps.push(key.clone()),
            Segment::Seq { index } => steps.push(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    // The path of a word that is not known is that of what it stands in.
    let named = |what: &str| reason.strip_prefix(what)?.split('`').nth(1).map(str::to_owned);
    let missing = named("missing field");
    if let Some(unknown) = named("unknown field")
        && steps.last() != Some(&unknown)
    {
        steps.push(unknown);
    }
    let field = steps.iter().chain(&missing).map(String::as_str).collect::<Vec<_>>().join(".");
    let field = if field.is_empty() { "answer file".to_owned() } else { field };
    let taken = match (steps.split_last(), missing) {
        (Some((last, parents)), _) => {
            let place = parents.iter().try_fold(&mut *file, |value, step| within(value, step));
            place.is_some_and(|value| match value {
                toml::Value::Table(table) => table.remove(last).is_some(),
                toml::Value::Array(items) => {
                    let index = last.parse().ok().filter(|n| *n < items.len());
                    index.map(|n: usize| items.remove(n)).is_some()
                }
                _ => false,
            })
        }
        // Without its version the rest can still be looked at.
        (None, Some(name)) if name == "version" => {
            let version = toml::Value::Integer(1);
            file.as_table_mut().is_some_and(|table| table.insert(name, version).is_none())
        }
        _ => false,
    };
    (FieldError::new(field, reason), taken)
}

fn within<'a>(value: &'a mut toml::Value, step: &str) -> Option<&'a mut toml::Value> {
    match value {
        toml::Value::Table(table) => table.get_mut(step),
        toml::Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}

impl Answer {
    /// Reads and checks an answer file; every fault is named.
    pub fn parse(text: &str) -> Result<Self, Vec<FieldError>> {
        if text.len() > MAX_BYTES {
            return Err(vec![FieldError::new("answer file", format!("larger than {MAX_BYTES} bytes"))]);
        }
        let table: toml::Table = toml::from_str(text)
            .map_err(|e| vec![FieldError::new("answer file", e.to_string().trim_end().to_owned())])?;
        let mut rest = toml::Value::Table(table);
        let mut errors: Vec<FieldError> = Vec::new();
        // What is at fault is taken out and the rest read again, so that every fault is named at once. Each turn takes
        // something out; the file is short.
        let answer = loop {
            match serde_path_to_error::deserialize::<_, Self>(rest.clone()) {
                Ok(answer) => break Some(answer),
                Err(e) => {
                    let (fault, left) = taken_out(&mut rest, &e);
                    // What was taken out is not missing.
                    if errors.iter().all(|e| e.field != fault.field) {
                        errors.push(fault);
                    }
                    if !left {
                        break None;
                    }
                }
            }
        };
        let Some(answer) = answer else { return Err(errors) };
        // Beside what was taken out others may look wrong that are not.
        let beside = |field: &str| {
            let parent = |field: &str| field.rsplit_once('.').map(|(parent, _)| parent.to_owned());
            errors.iter().any(|e| parent(&e.field) == parent(field) && parent(field).is_some())
        };
        let wrong: Vec<_> = answer.validate().into_iter().filter(|e| !beside(&e.field)).collect();
        errors.extend(wrong);
        if errors.is_empty() { Ok(answer) } else { Err(errors) }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.version != 1 {
            errors.push(FieldError::new(
                "version",
                format!("{} is unknown; this release reads 1", self.version),
            ));
        }
        if let Some(install) = &self.install {
            if let Err(reason) = install.disk.parse::<DiskChoice>() {
                errors.push(FieldError::new("install.disk", reason));
            }
            if install.erase.as_deref().is_some_and(|word| word != ERASE_WORD) {
                errors.push(FieldError::new(
                    "install.erase",
                    format!("must be exactly \"{ERASE_WORD}\" or absent"),
                ));
            }
        }
        errors.extend(self.host.name.as_ref().and_then(|name| check_name("host.name", name)));
        errors.extend(self.host.network.validate("host.network"));
        if let Some(dhcp) = &self.host.guest_dhcp {
            errors.extend(
                dhcp.validate()
                    .into_iter()
                    .map(|e| FieldError::new(e.field.replacen("spec.dhcp", "host.guest_dhcp", 1), e.reason)),
            );
        }
        if self.cluster.as_ref().is_some_and(|c| !c.join.trim().starts_with(JOIN_TOKEN)) {
            let reason = format!("is not the text of a join token, which begins with {JOIN_TOKEN}");
            errors.push(FieldError::new("cluster.join", reason));
        }
        if let Some(admin) = &self.admin
            && (admin.password.chars().count() < auth::MIN_PASSWORD
                || admin.password.len() > auth::MAX_PASSWORD)
        {
            let reason = format!("must have {} to {} characters", auth::MIN_PASSWORD, auth::MAX_PASSWORD);
            errors.push(FieldError::new("admin.password", reason));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_read() {
        let source = include_str!("answer.rs");
        let example: String = source
            .lines()
            .skip_while(|l| *l != "//! ```toml")
            .skip(1)
            .take_while(|l| *l != "//! ```")
            .map(|l| l.trim_start_matches("//!").trim_start().to_owned() + "\n")
            .collect();
        let answer = Answer::parse(&example).unwrap();
        assert_eq!(answer.host.network.static_address(), Some(Ok(([192, 168, 1, 10].into(), 24))));
    }

    #[test]
    fn faults_are_named() {
        let text = "version = 2\n[install]\ndisk = \"sda\"\nerase = \"yes\"\n[host]\nname = \"-x\"\n[admin]\npassword = \"short\"";
        let fields: Vec<_> = Answer::parse(text).unwrap_err().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["version", "install.disk", "install.erase", "host.name", "admin.password"]);
    }

    #[test]
    fn a_misspelt_word_is_refused() {
        let errors = Answer::parse("version = 1\n[host]\nnaem = \"x\"").unwrap_err();
        assert!(errors[0].reason.contains("naem"), "{}", errors[0].reason);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = r#"
            verion = 1
            [install]
            dsik = "auto"
            thne = "reboot"
            [host]
            naem = "x"
            name = "-x"
            [host.network]
            adress = "192.168.1.10/24"
            gateway = "192.168.1.1"
            dns = ["192.168.1.1", "one"]
            [admin]
            password = "short"
            [clutser]
            join = "x"
        "#;
        let errors = Answer::parse(text).unwrap_err();
        let mut fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "admin.password",
                "clutser",
                "host.naem",
                "host.network.adress",
                "host.network.dns.1",
                "install.disk",
                "install.dsik",
                "install.thne",
                "verion",
                "version",
            ],
            "{errors:?}"
        );
        assert_eq!(Answer::parse("version = ").unwrap_err().len(), 1, "what is no TOML is told as such");
        let errors = Answer::parse("version = \"1\"\nhost = 3").unwrap_err();
        assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["host", "version"]);
    }
}
