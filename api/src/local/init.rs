//! The protocol of `lq-init` (PID 1) at [`super::paths::INIT_SOCKET`].
//!
//! PID 1 owns the processes of VMs so that they outlive `mgmtd`: the daemon asks for a unit to be started and is told
//! when it ends; after a crash it lists the units that still run and those that ended meanwhile.
//!
//! A connection carries requests and their answers in order. After `Subscribe` the connection carries only
//! [`InitEvent`]s, beginning with the ends not yet forgotten.

use crate::management::{ManagementNetwork, TryNetwork};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this protocol.
pub const VERSION: u32 = 1;

/// A request to PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum InitRequest {
    /// Starts a process. Answer: `Spawned` or `Error` (name in use, program missing …).
    Spawn(Unit),
    /// Sends a signal to a unit. Answer: `Done` or `Error`.
    Signal {
        /// The unit.
        name: String,
        /// Signal number, 1 to 31.
        signal: i32,
    },
    /// Answer: `Units`.
    List,
    /// Forgets the record of a unit that ended. Answer: `Done`.
    Forget {
        /// The unit.
        name: String,
    },
    /// Turns this connection into a stream of events.
    Subscribe,
    /// The management network. Answer: `Network`.
    Network,
    /// Tries settings of the management network, and takes them back after this many seconds unless they are confirmed.
    /// Answer: `Done` once it has begun, or `Error`.
    TryNetwork(TryNetwork),
    /// Keeps what is on trial. Answer: `Done` once it is on the disk, or `Error`.
    KeepNetwork,
    /// Takes back what is on trial. Answer: `Done` once it has begun; where nothing is, that changes nothing.
    RevertNetwork,
    /// Erases the host's state, and its data too if wanted, at the next start. Answer: `Done` once that is certain, or `Error`.
    FactoryReset {
        /// Images and volumes too.
        data: bool,
    },
    /// Stops guests, then everything, then switches off or restarts. Answer: `Done`, then it happens.
    Shutdown {
        /// Restart instead of switching off.
        reboot: bool,
        /// Who asked and why, for the console.
        reason: String,
    },
    /// How soon a hardware watchdog is to reset the host when it hangs. Answer: `Done`, also where there is none.
    Watch {
        /// Within the time that other hosts wait before they take over its machines.
        closely: bool,
    },
}

/// A process PID 1 owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Unique name, e.g. `vm-<id>`. Units named `vm-…` are guests: at shutdown they get SIGTERM (the monitor presses the
    /// guest's power button) and [`Unit::stop_seconds`] before SIGKILL.
    pub name: String,
    /// Absolute path of the program and its arguments.
    pub argv: Vec<String>,
    /// Environment, whole.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Directory in the cgroup file system the process is born in; made when missing.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Born as first process of a PID namespace of its own.
    #[serde(default)]
    pub new_pid_namespace: bool,
    /// File that receives standard output and error, appended.
    #[serde(default)]
    pub log: Option<String>,
    /// Seconds between SIGTERM and SIGKILL at shutdown.
    #[serde(default = "default_stop_seconds")]
    pub stop_seconds: u32,
}

fn default_stop_seconds() -> u32 {
    60
}

/// An answer of PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum InitAnswer {
    /// Started.
    Spawned {
        /// Process id in the host's namespace.
        pid: u32,
    },
    /// Carried out.
    Done,
    /// Every unit that runs or has an end not yet forgotten.
    Units {
        /// Ordered by name.
        units: Vec<UnitState>,
    },
    /// The management network.
    Network(Box<ManagementNetwork>),
    /// Refused.
    Error {
        /// Why.
        reason: String,
    },
}

/// A unit as PID 1 sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// How it ended, where it has.
    #[serde(default)]
    pub end: Option<End>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Something PID 1 tells its subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum InitEvent {
    /// A unit ended.
    Ended {
        /// Its name.
        name: String,
        /// Its process.
        pid: u32,
        /// How.
        end: End,
    },
    /// The host is going down: start nothing more, keep desired states as they are.
    GoingDown {
        /// It will come back.
        reboot: bool,
    },
}

/// What PID 1 learnt at boot ([`super::paths::BOOT_FACTS`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFacts {
    /// `live`, or `disk`.
    pub mode: String,
    /// Slot booted, where from a disk.
    #[serde(default)]
    pub slot: Option<String>,
    /// LimiQuantix version of the root image.
    pub version: String,
    /// The root image is verified by dm-verity.
    pub verified: bool,
    /// The interface that carries the host's management address; guests are bridged to it.
    #[serde(default)]
    pub uplink: Option<String>,
    /// The run before this one was cut off: by a power cut, a reset, a kernel that failed.
    #[serde(default)]
    pub cut_off: bool,
    /// Things that went wrong and what to do, e.g. a repaired state partition.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The host's settings.
    #[serde(default)]
    pub host: crate::answer::HostConfig,
}
