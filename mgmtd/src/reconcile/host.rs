//! The host itself: its name, its boot, its power.

use crate::{
    ha::{self, Watchdog},
    inventory::{self, HostLoad},
    removable::{self, Drives},
};
use async_trait::async_trait;
use lq_api::{
    host::{DiskHealth, HostStatus},
    local::init::{BootFacts, InitAnswer, InitRequest},
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    network::Dhcp,
    removable::RemovableDrive,
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};
use uuid::Uuid;

/// What the daemon needs of the host it runs on.
#[async_trait]
pub trait HostControl: Send + Sync {
    /// Its name.
    fn name(&self) -> String;
    /// Identity of the present boot.
    fn boot(&self) -> Uuid;
    /// Whether the run before this one was cut off: by a power cut, a reset, a kernel that failed.
    fn was_cut_off(&self) -> bool {
        false
    }
    /// Whether what it is told lasts: not where it runs from its medium.
    fn keeps(&self) -> bool;
    /// Whether it only votes: no machine, pool or network is ever on it.
    fn is_witness(&self) -> bool {
        false
    }
    /// DHCP the default network begins with.
    fn guest_dhcp(&self) -> Option<Dhcp>;
    /// What it is and how it is. May take some milliseconds of the calling thread.
    fn status(&self) -> HostStatus;
    /// How much it does. May take some milliseconds of the calling thread.
    fn load(&self) -> HostLoad;
    /// What its disks say of their health, by name. May take seconds of the calling thread.
    fn disk_health(&self) -> Vec<(String, DiskHealth)>;
    /// Whether something sets its clock; `None` where the kernel cannot be asked.
    fn clock_is_set(&self) -> Option<bool>;
    /// What resets it should it hang.
    fn watchdog(&self) -> Watchdog;
    /// Has a hardware watchdog reset it within the time that other hosts wait for, or only later.
    async fn watch(&self, closely: bool) -> Result<(), HostError>;
    /// Switches off or restarts; guests are stopped first.
    async fn power(&self, reboot: bool, reason: String) -> Result<(), HostError>;
    /// Its management network.
    async fn network(&self) -> Result<ManagementNetwork, HostError>;
    /// Tries other settings; taken back after their time unless they are kept.
    async fn try_network(&self, wanted: TryNetwork) -> Result<(), HostError>;
    /// Keeps the settings on trial: durable when this returns.
    async fn keep_network(&self) -> Result<(), HostError>;
    /// Takes back what is on trial.
    async fn revert_network(&self) -> Result<(), HostError>;
    /// Whether the network in use works. May take some seconds of the calling thread.
    fn test_network(&self) -> NetworkTest;
    /// Forgets everything at its next start; certain when this returns.
    async fn factory_reset(&self, data: bool) -> Result<(), HostError>;
    /// The removable drives that are plugged in. May take seconds of the calling thread.
    fn removable(&self) -> Result<Vec<RemovableDrive>, removable::Error>;
    /// Writes a file to one of them, durably, and lets go of it. May take minutes of the calling thread.
    fn write_removable(&self, device: &str, name: &str, content: &[u8]) -> Result<(), removable::Error>;
}

/// The host did not do it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// PID 1 did not answer.
    #[error("PID 1 cannot be reached at {path}")]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// A real host, seen through `/proc`, `/sys` and PID 1.
pub struct RealHost {
    facts: BootFacts,
    boot: Uuid,
    init: PathBuf,
    drives: Drives,
}

impl RealHost {
    /// The host we run on. `facts` is the file PID 1 left; without one (not our PID 1) the kernel's host name stands in.
    #[must_use]
    pub fn new(facts: &Path, init: PathBuf) -> Self {
        let facts = match std::fs::read(facts).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(facts)) => facts,
            Ok(Err(e)) => {
                tracing::error!(file = %facts.display(), error = %e, "the boot facts cannot be read");
                BootFacts::default()
            }
            Err(e) => {
                tracing::warn!(file = %facts.display(), error = %e, "there are no boot facts");
                BootFacts::default()
            }
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        // Without the kernel's word every start counts as a boot, which is the safe side: nothing is taken for running.
        let boot = boot.and_then(|id| id.trim().parse().ok()).unwrap_or_else(Uuid::new_v4);
        Self { facts, boot, init, drives: Drives::default() }
    }

    /// The interface guests are bridged to.
    #[must_use]
    pub fn uplink(&self) -> Option<String> {
        self.facts.uplink.clone()
    }
}

/// The kernel's host name, made fit for the name of an object.
#[must_use]
pub fn kernel_name() -> String {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = raw
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        .take(63)
        .collect();
    let name = name.trim_start_matches(['.', '_', '-']).to_owned();
    if name.is_empty() || name == "localhost" { "limiquantix".into() } else { name }
}

#[async_trait]
impl HostControl for RealHost {
    fn name(&self) -> String {
        self.facts.host.name.clone().unwrap_or_else(kernel_name)
    }
    fn boot(&self) -> Uuid {
        self.boot
    }
    fn was_cut_off(&self) -> bool {
        self.facts.cut_off
    }
    fn keeps(&self) -> bool {
        self.facts.mode == "disk"
    }
    fn guest_dhcp(&self) -> Option<Dhcp> {
        self.facts.host.guest_dhcp.clone()
    }
    fn status(&self) -> HostStatus {
        inventory::read()
    }
    fn load(&self) -> HostLoad {
        inventory::load()
    }
    fn disk_health(&self) -> Vec<(String, DiskHealth)> {
        inventory::disk_health()
    }
    fn clock_is_set(&self) -> Option<bool> {
        inventory::clock_is_set()
    }
    fn watchdog(&self) -> Watchdog {
        ha::host::watchdog()
    }
    async fn watch(&self, closely: bool) -> Result<(), HostError> {
        self.done(InitRequest::Watch { closely }).await
    }
    async fn power(&self, reboot: bool, reason: String) -> Result<(), HostError> {
        self.done(InitRequest::Shutdown { reboot, reason }).await
    }
    async fn network(&self) -> Result<ManagementNetwork, HostError> {
        match self.ask(&InitRequest::Network).await? {
            InitAnswer::Network(network) => Ok(*network),
            other => Err(unexpected(other)),
        }
    }
    async fn try_network(&self, wanted: TryNetwork) -> Result<(), HostError> {
        self.done(InitRequest::TryNetwork(wanted)).await
    }
    async fn keep_network(&self) -> Result<(), HostError> {
        self.done(InitRequest::KeepNetwork).await
    }
    async fn revert_network(&self) -> Result<(), HostError> {
        self.done(InitRequest::RevertNetwork).await
    }
    fn test_network(&self) -> NetworkTest {
        inventory::test_network()
    }
    async fn factory_reset(&self, data: bool) -> Result<(), HostError> {
        self.done(InitRequest::FactoryReset { data }).await
    }
    fn removable(&self) -> Result<Vec<RemovableDrive>, removable::Error> {
        self.drives.list()
    }
    fn write_removable(&self, device: &str, name: &str, content: &[u8]) -> Result<(), removable::Error> {
        self.drives.write(device, name, content)
    }
}

fn unexpected(answer: InitAnswer) -> HostError {
    HostError::Refused(match answer {
        InitAnswer::Error { reason } => reason,
        other => format!("PID 1 gave an answer that does not fit: {other:?}"),
    })
}

impl RealHost {
    /// Asks PID 1 for what it answers with `Done`.
    async fn done(&self, request: InitRequest) -> Result<(), HostError> {
        match self.ask(&request).await? {
            InitAnswer::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, request: &InitRequest) -> Result<InitAnswer, HostError> {
        let unreachable = |source| HostError::Unreachable { path: self.init.clone(), source };
        let asked = tokio::time::timeout(Duration::from_secs(10), async {
            let mut stream = BufReader::new(UnixStream::connect(&self.init).await?);
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut answer = String::new();
            stream.read_line(&mut answer).await?;
            Ok::<InitAnswer, io::Error>(serde_json::from_str(&answer)?)
        });
        asked.await.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)
    }
}
