//! What `lq-init disks` prints, and what `lq-init install FILE` takes and leaves: the installer as a person at the console uses
//! it. Both are programs run once; `FILE` is an answer file with an `[install]` part. What the installation says goes to
//! standard output, a line a step; its exit status is 0 where the disk is installed.

use serde::{Deserialize, Serialize};

/// A disk that could be installed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallDisk {
    /// Its device node.
    pub node: String,
    /// Node, size, model, serial number, for people.
    pub text: String,
    /// What is on it, for people; empty where it is blank.
    pub found: Vec<String>,
    /// It has an installation of this product on it.
    #[serde(default)]
    pub ours: bool,
    /// Why it cannot be installed to.
    #[serde(default)]
    pub unfit: Option<String>,
}
