//! Storage pools: places for images and volumes, of one host or shared by all.

use crate::{
    Bytes, HostId, ImageId, Metadata, PoolId, Timestamp,
    image::{ImageFormat, ImageKind},
    meta::{check_labels, check_name},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// Longest path of an export, bytes.
const MAX_EXPORT: usize = 1024;
/// Port of NFS.
pub const NFS_PORT: u16 = 2049;

/// A storage pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pool {
    /// Identity.
    pub meta: Metadata<PoolId>,
    /// What it is.
    pub spec: PoolSpec,
    /// Room in it, read at the time of the request; absent where no host can be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PoolStatus>,
    /// Of a shared pool: how each host stands to it. A host that has not said anything yet is not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<PoolHost>,
    /// It is being deleted: nothing new goes into it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// Files in it that belong to no object of the cluster: kept until they are adopted or deleted. Told of one pool at a time, by
    /// a host that reaches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ForeignFile>,
}

/// A file in a pool that belongs to no object of the cluster, of a host that was installed anew over its data for example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForeignFile {
    /// Where it is in the pool, e.g. `volumes/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a.qcow2`.
    pub file: String,
    /// What it was.
    pub kind: ForeignKind,
    /// Its length.
    pub size_bytes: Bytes,
    /// What it takes of the pool.
    pub used_bytes: Bytes,
    /// When its content last changed.
    pub modified_at: Timestamp,
    /// The image of which a volume is a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_of: Option<ImageId>,
}

/// What a foreign file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ForeignKind {
    /// The content of an image.
    Image,
    /// A volume.
    Volume,
    /// Variables of a machine's firmware.
    Firmware,
    /// What a machine's TPM keeps.
    Tpm,
}

impl fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Firmware => "firmware",
            Self::Tpm => "tpm",
        })
    }
}

/// Makes a volume or an image of a foreign file. It keeps its place and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AdoptFile {
    /// The file, as `foreign` names it.
    pub file: String,
    /// Name of the volume or image.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Of an image, what it is for; a disk where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ImageKind>,
    /// Of an image, its format. Needed for an image, as formats are never guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
}

/// Deletes a foreign file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteForeign {
    /// The file, as `foreign` names it.
    pub file: String,
}

/// A pool's driver and place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "driver", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PoolSpec {
    /// Files in a directory of one host. Every host makes its own at its first start.
    Dir {
        /// The host whose directory it is.
        host: HostId,
    },
    /// Files in an export of an NFS server, which every host of the cluster mounts.
    Nfs(NfsSpec),
}

/// An export of an NFS server. Never changes: another export is another pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NfsSpec {
    /// Name or address of the server. A name is resolved by each host whenever it mounts.
    pub server: String,
    /// Path of the export (or of a directory in it) as NFS version 4 shows it, e.g. `/srv/limiquantix`.
    pub export: String,
    /// Version of the protocol.
    #[serde(default)]
    pub version: NfsVersion,
    /// TCP port of the server.
    #[serde(default = "nfs_port")]
    pub port: u16,
    /// How it is mounted beyond that.
    #[serde(default)]
    pub options: NfsOptions,
}

fn nfs_port() -> u16 {
    NFS_PORT
}

/// Version of the NFS protocol. Older ones have no locks that outlive a restart of the server in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NfsVersion {
    /// RFC 8881. Space that guests discard is not given back.
    #[serde(rename = "4.1")]
    V4_1,
    /// RFC 7862.
    #[default]
    #[serde(rename = "4.2")]
    V4_2,
}

impl fmt::Display for NfsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4_1 => "4.1",
            Self::V4_2 => "4.2",
        })
    }
}

/// Mount options that may be chosen, named as in nfs(5). All others are set so that data is safe: `hard`, `nosuid`, `nodev`,
/// `noexec`, locks at the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NfsOptions {
    /// Connections to the server, 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nconnect: Option<u8>,
    /// Most bytes of one read: a power of two from 4096 to 1048576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rsize: Option<u32>,
    /// Most bytes of one write: a power of two from 4096 to 1048576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wsize: Option<u32>,
    /// Tenths of a second until a request is repeated, 10 to 6000; 150 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeo: Option<u16>,
    /// Repetitions until the server counts as silent (it is asked on without end), 1 to 10; 3 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrans: Option<u8>,
}

/// Creates a shared pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    /// Its name, unique among pools.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it is.
    pub spec: PoolSpec,
}

/// Room in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolStatus {
    /// Bytes in all.
    pub capacity_bytes: Bytes,
    /// Bytes free for new data.
    pub free_bytes: Bytes,
}

/// How a host stands to a shared pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolHost {
    /// The host.
    pub host: HostId,
    /// Whether it reaches it.
    pub state: PoolState,
    /// Since when.
    pub since: Timestamp,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a host reaches a shared pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// It is being mounted for the first time.
    Mounting,
    /// It is mounted and answers.
    Ready,
    /// It cannot be mounted, or does not answer any more. It is tried again without end.
    Unreachable,
    /// It is being unmounted.
    Unmounting,
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mounting => "mounting",
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
            Self::Unmounting => "unmounting",
        })
    }
}

impl CreatePool {
    /// What is wrong with it, apart from other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(check_labels("labels", &self.labels));
        match &self.spec {
            PoolSpec::Dir { .. } => errors.push(FieldError::new(
                "spec.driver",
                "a host makes its own directory pool: only shared pools (`nfs`) are created",
            )),
            PoolSpec::Nfs(nfs) => nfs.validate("spec", &mut errors),
        }
        errors
    }
}

impl NfsSpec {
    /// Appends what is wrong with it.
    fn validate(&self, field: &str, errors: &mut Vec<FieldError>) {
        let mut wrong = |part: &str, reason: String| {
            errors.push(FieldError::new(format!("{field}.{part}"), reason));
        };
        if !is_host(&self.server) {
            let reason = "is neither a host name nor an IP address (without brackets and port)";
            wrong("server", reason.into());
        }
        if let Some(reason) = export_fault(&self.export) {
            wrong("export", reason.into());
        }
        if self.port == 0 {
            wrong("port", "is not from 1 to 65535".into());
        }
        let options = &self.options;
        let mut range = |name: &str, value: Option<u32>, low: u32, high: u32| {
            if value.is_some_and(|v| !(low..=high).contains(&v)) {
                wrong(&format!("options.{name}"), format!("is not from {low} to {high}"));
            }
        };
        range("nconnect", options.nconnect.map(Into::into), 1, 16);
        range("timeo", options.timeo.map(Into::into), 10, 6000);
        range("retrans", options.retrans.map(Into::into), 1, 10);
        for (name, value) in [("rsize", options.rsize), ("wsize", options.wsize)] {
            if value.is_some_and(|v| !v.is_power_of_two() || !(4096..=1_048_576).contains(&v)) {
                let reason = "is not a power of two from 4096 to 1048576";
                wrong(&format!("options.{name}"), reason.into());
            }
        }
    }
}

/// Whether a text is an IP address or a name of DNS (RFC 1123).
pub(crate) fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    // What has only digits and dots but is no address is a mistyped one.
    let looks_like_address = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && !looks_like_address && text.trim_end_matches('.').split('.').all(label)
}

/// What is wrong with the path of an export.
fn export_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not begin with `/`");
    }
    if path.len() > MAX_EXPORT {
        return Some("is longer than 1024 bytes");
    }
    if path.chars().any(crate::meta::is_unseen) {
        return Some("has a character that is not seen");
    }
    if path.len() > 1 && path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Some(
            "has an empty part, `.` or `..`: write it as the server shows it, without a `/` at its end",
        );
    }
    None
}

impl PoolSpec {
    /// Whether every host may have it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Nfs(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(json: &str) -> CreatePool {
        serde_json::from_str(&format!(r#"{{"name":"p","spec":{json}}}"#)).unwrap()
    }

    fn faults(json: &str) -> Vec<String> {
        create(json).validate().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn what_is_left_out_is_safe() {
        let pool = create(r#"{"driver":"nfs","server":"nas.lan","export":"/vm"}"#);
        assert_eq!(pool.validate(), []);
        let PoolSpec::Nfs(nfs) = &pool.spec else { panic!("{pool:?}") };
        assert_eq!((nfs.version, nfs.port, nfs.options), (NfsVersion::V4_2, 2049, NfsOptions::default()));
        let again: CreatePool = serde_json::from_str(&serde_json::to_string(&pool).unwrap()).unwrap();
        assert_eq!(again, pool);
    }

    #[test]
    fn each_fault_is_named() {
        let of = |server: &str, export: &str| {
            faults(&format!(r#"{{"driver":"nfs","server":"{server}","export":"{export}"}}"#))
        };
        for good in ["10.0.0.1", "fd00::1", "nas", "nas.example.org", "nas_1.lan."] {
            assert!(of(good, "/x").is_empty(), "{good}");
        }
        for bad in ["", "a b", "nas:/x", "nas,addr=1.2.3.4", "[fd00::1]", "-nas", "a..b", "10.0.0.300", "a/b"]
        {
            assert_eq!(of(bad, "/x"), ["spec.server"], "{bad}");
        }
        for good in ["/", "/srv/vm", "/a b", "/ä,b"] {
            assert!(of("nas", good).is_empty(), "{good}");
        }
        for bad in ["", "srv", "/srv/", "/a//b", "/a/../b", "/.", "/a\\u0000b"] {
            assert_eq!(of("nas", bad), ["spec.export"], "{bad}");
        }
        let options =
            |o: &str| faults(&format!(r#"{{"driver":"nfs","server":"n","export":"/x","options":{o}}}"#));
        assert_eq!(options(r#"{"nconnect":17,"rsize":5000,"timeo":1}"#).len(), 3);
        assert!(
            options(r#"{"nconnect":16,"rsize":1048576,"wsize":4096,"timeo":10,"retrans":10}"#).is_empty()
        );
    }

    #[test]
    fn no_other_option_is_taken() {
        for bad in [
            r#"{"driver":"nfs","server":"n","export":"/x","options":{"soft":true}}"#,
            r#"{"driver":"nfs","server":"n","export":"/x","nolock":1}"#,
            r#"{"driver":"nfs","server":"n","export":"/x","version":"3"}"#,
            r#"{"driver":"smb","server":"n","export":"/x"}"#,
        ] {
            assert!(serde_json::from_str::<PoolSpec>(bad).is_err(), "{bad}");
        }
        let dir = format!(r#"{{"driver":"dir","host":"{}"}}"#, HostId::new());
        assert_eq!(faults(&dir), ["spec.driver"]);
    }
}
