//! Running virtual machines on this host.
//!
//! Owns: the life of every monitor process of this host. One driver task per VM owns every transition of its VM; it is told
//! the desired state (level-triggered) and reports what it observes. It knows nothing of the cluster or of HTTP.
//!
//! A machine that moves to another host goes as a byte stream from [`Machine::move_out`] there to [`Machine::move_in`] here. What
//! goes between the hosts, and who may run the machine when, is not decided here: a driver is told its [`Part`].
//!
//! [`Hypervisor`] is what a driver needs of a kind of monitor: `lq-vmm` through PID 1 on a real host, a simulation in `sim`. QEMU is
//! no third one: `lq-vmm qemu` stands before it and is asked as any monitor is.

pub mod adjust;
mod changing;
mod driver;
mod fittings;
mod fleet;
pub mod frames;
mod init_client;
pub(crate) mod life;
mod lines;
pub mod lqvmm;
mod machine;
mod monitor_client;
mod passthrough;
mod place;
mod seed;
mod tpm;

pub use fleet::{Fleet, Remains};
pub use life::Arrival;
pub use place::Firmware;

use crate::{
    hardware::Hardware,
    inventory::{self, Measured},
};
use adjust::Step;
use async_trait::async_trait;
use lq_api::{
    ImageId, Timestamp, VmId, VolumeId,
    local::vmm::{
        BootFiles, DiskConfig, ExitRecord, LeaseConfig, LeaseGrant, MigrateOptions, MigrationStatus,
        NicLimits, Stats, WatchdogAction,
    },
    vm::{Mac, VmSpec, VmStatus},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
};
use uuid::Uuid;

/// A VM as this host is to run it: the desired state with everything resolved to what the host knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Generation of the specification, echoed in the status.
    pub generation: u64,
    /// Grows each time the machine becomes another host's.
    pub epoch: u64,
    /// What this host has to do with it.
    pub part: Part,
    /// It came back from another host without having run there: what was let go of is taken up again.
    pub returned: bool,
    /// It runs only under leases, and is not started without one.
    pub leased: bool,
    /// What is wanted. Its power state says whether it is to run.
    pub spec: VmSpec,
    /// What the machine has that moves here: what waits for it is made so, and `spec` and `launch` are of it.
    pub hardware: Option<Hardware>,
    /// How an orderly stop is done when `spec.power` becomes `Stopped`.
    pub stop: lq_api::vm::StopVm,
    /// Grows when the guest is to be reset; the driver resets once per growth seen while running.
    pub reset_count: u64,
    /// Why the VM cannot start, where it cannot.
    pub fault: Option<Fault>,
    /// What to start it with.
    pub launch: Launch,
}

impl Desired {
    /// The epoch in which what is started for it runs: one that waits for a machine that moves here runs in the next.
    #[must_use]
    pub fn runs_in(&self) -> u64 {
        self.epoch + u64::from(matches!(self.part, Part::Arriving(_)))
    }

    /// What it has when it is started.
    #[must_use]
    pub fn starts_with(&self) -> Hardware {
        self.hardware.clone().unwrap_or_else(|| Hardware::of(&self.spec))
    }
}

/// What a host has to do with a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It runs it as is wanted.
    #[default]
    Owner,
    /// It runs it as is wanted while it moves away; what it let go of is not taken back.
    Leaving,
    /// It has a machine wait for the one that moves here, once for each move.
    Arriving(Uuid),
    /// What there is of it is left as it is, and nothing is started: it may run on the other host.
    Still,
}

/// What was found while resolving that keeps a VM from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something is being made or brought; nobody needs to do anything.
    Wait(String),
    /// Something is missing or broken (an image …).
    Broken(String),
}

impl<T: Into<String>> From<T> for Fault {
    fn from(why: T) -> Self {
        Self::Broken(why.into())
    }
}

/// What a machine is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// What it boots.
    pub boot: LaunchBoot,
    /// Disks in guest order.
    pub disks: Vec<DiskConfig>,
    /// Interfaces in guest order.
    pub nics: Vec<LaunchNic>,
    /// What is in the CD drives, in guest order.
    pub cdroms: Vec<Option<String>>,
    /// The directory of what its TPM keeps, where it has one.
    pub tpm: Option<String>,
    /// The lease it begins with. Known only when it is started.
    pub lease: Option<LeaseConfig>,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchBoot {
    /// A kernel, directly.
    Direct(BootFiles),
    /// Firmware, with this file for its variables. It is made where it is not there.
    Firmware {
        /// The machine's own file.
        vars: String,
    },
    /// A legacy BIOS, which keeps nothing.
    Bios,
}

impl Default for LaunchBoot {
    fn default() -> Self {
        Self::Firmware { vars: String::new() }
    }
}

/// An interface a machine is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchNic {
    /// Name of the network's bridge on this host.
    pub bridge: String,
    /// Hardware address.
    pub mac: Mac,
    /// Its cable is in.
    pub connected: bool,
    /// How much it may do.
    pub limits: NicLimits,
    /// Pairs of queues.
    pub queues: u8,
    /// Its slot on the bus, where that is given.
    pub slot: Option<u8>,
}

/// A kind of monitor.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// Starts a machine. On error nothing is left behind.
    async fn launch(&self, desired: &Desired) -> Result<Arc<dyn Machine>, Error>;
    /// Starts a machine that waits for the one that moves here. On error nothing is left behind.
    async fn receive(&self, _desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        Err(cannot_move())
    }
    /// Machines that run already (this daemon was restarted), and the ends of those that ended meanwhile.
    async fn adopt(&self) -> Result<Vec<Found>, Error>;
    /// The end of a machine needs no longer be remembered: its log and exit record may go.
    async fn forget(&self, _vm: VmId) {}
    /// Becomes true once the host is going down: from then on nothing is started and ends are not failures.
    fn going_down(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }
}

/// A machine found by [`Hypervisor::adopt`].
pub enum Found {
    /// It runs.
    Running(Arc<dyn Machine>),
    /// It ended while nobody looked. The epoch of the lease it was started with, where it had one.
    Ended(VmId, ExitRecord, Option<u64>),
}

/// A running machine.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Which.
    fn vm(&self) -> VmId;
    /// Process id on the host.
    fn pid(&self) -> Option<u32>;
    /// When it was started, where that is known.
    fn started_at(&self) -> Option<Timestamp> {
        None
    }
    /// The epoch of the lease it was found with, where it had one.
    fn epoch(&self) -> Option<u64> {
        None
    }
    /// Its state, kept up to date; [`MachineState::Ended`] is the last.
    fn state(&self) -> watch::Receiver<MachineState>;
    /// Asks for something.
    async fn act(&self, action: Action) -> Result<(), Error>;
    /// Processor seconds it used, and bytes of the host's memory it has.
    fn usage(&self) -> (Measured, Measured) {
        self.pid().map_or((Measured::Unknown, Measured::Unknown), inventory::process)
    }
    /// Extends its lease, or gives it its first.
    async fn lease(&self, _grant: LeaseGrant) -> Result<(), Error> {
        Err(cannot_lease())
    }
    /// It needs no lease any more and runs on. `grant` wakes it up first where its lease has run out.
    async fn unlease(&self, _grant: Option<LeaseGrant>) -> Result<(), Error> {
        Err(cannot_lease())
    }
    /// What it has, kept up to date; `None` where that is not known, and nothing of it can be changed.
    fn hardware(&self) -> watch::Receiver<Option<Hardware>> {
        watch::channel(None).1
    }
    /// What it has at this moment, with all that is needed to make a place for it.
    async fn inventory(&self) -> Result<Option<Hardware>, Error> {
        Ok(self.hardware().borrow().clone())
    }
    /// Changes it. Whatever the answer: what it has is told by [`Machine::hardware`].
    async fn adjust(&self, _step: &Step) -> Result<(), Error> {
        Err(Error::Refused("this kind of machine cannot be changed while it runs".into()))
    }
    /// What its guest does that is worth telling. There is one receiver.
    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        None
    }
    /// Counters since its start.
    async fn stats(&self) -> Result<Stats, Error>;
    /// A connection to the guest's serial console: first the scroll-back, then what comes.
    async fn console(&self) -> Result<Box<dyn Console>, Error>;
    /// A connection to the guest's screen: RFB.
    async fn display(&self) -> Result<Box<dyn Console>, Error> {
        Err(Error::Refused("this kind of machine has no display".into()))
    }
    /// Begins to send the machine; what comes from this stream is for the one that waits elsewhere, and the other way round.
    async fn move_out(&self, _options: MigrateOptions) -> Result<Box<dyn Console>, Error> {
        Err(cannot_move())
    }
    /// Begins to take in the machine that moves here.
    async fn move_in(&self) -> Result<Incoming, Error> {
        Err(cannot_move())
    }
    /// How its last move goes.
    async fn migration(&self) -> Result<MigrationStatus, Error> {
        Err(cannot_move())
    }
}

fn cannot_move() -> Error {
    Error::Refused("this kind of machine cannot be moved".into())
}

/// A machine being taken in.
pub struct Incoming {
    /// What is sent by the one that moves, and what it is answered.
    pub stream: Box<dyn Console>,
    /// It runs here now; or it never ran here and never will. Without a word nothing is known.
    pub outcome: oneshot::Receiver<Result<(), Error>>,
}

fn cannot_lease() -> Error {
    Error::Refused("this kind of machine knows no leases".into())
}

/// A byte stream to a guest's console or screen.
pub trait Console: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Console for T {}

/// What a machine can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Halt the virtual CPUs.
    Pause,
    /// Go on.
    Resume,
    /// Restart the guest.
    Reset,
    /// Press the power button.
    PowerButton,
    /// End at once (asks the monitor, then kills it).
    Kill,
    /// Stay, though it was to move.
    CancelMove,
    /// Go on, though it was let go of: it never ran elsewhere and never will.
    Reclaim,
}

/// State of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// Runs.
    Running,
    /// Halted.
    Paused,
    /// It waits for one that moves here, and has never run.
    Incoming,
    /// It was let go of, and stands still: it is another host's, as far as the monitor knows.
    Away,
    /// Its process has ended.
    Ended(ExitRecord),
}

/// Something a guest did, or that befell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Its kernel panicked.
    Panicked,
    /// It did not feed its watchdog any more, and this becomes of it.
    Watchdog(WatchdogAction),
    /// Its disks wait for room, or go on.
    Room {
        /// They wait.
        short: bool,
        /// A daemon sees again what one before it has told.
        known: bool,
    },
    /// Its TPM has failed, until it is started anew.
    TpmFailed {
        /// In words.
        why: String,
        /// A daemon sees again what one before it has told.
        known: bool,
    },
}

/// The devices of a machine on this host, as of what was wanted in one generation of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Of the machine.
    pub epoch: u64,
    /// What is plugged in later is wanted in a later one.
    pub generation: u64,
    /// Volumes of disks.
    pub volumes: BTreeSet<VolumeId>,
    /// Addresses of interfaces.
    pub nics: BTreeSet<Mac>,
}

/// Receives what the drivers observe.
#[async_trait]
pub trait Observer: Send + Sync {
    /// The VM's status is now this. Called at each change, in order; must not be lost, so it waits until stored.
    /// `epoch` is that of [`Desired`].
    async fn observed(&self, vm: VmId, epoch: u64, status: VmStatus);
    /// Something worth an entry in the event log happened to the VM.
    async fn event(&self, vm: VmId, level: lq_api::event::EventLevel, kind: &'static str, message: String);
    /// The machine has only these devices. Called before others may have what it had; must not be lost.
    async fn holds(&self, _vm: VmId, _holds: Holds) {}
    /// The guest ejected this medium of a CD drive; must not be lost.
    async fn ejected(&self, _vm: VmId, _epoch: u64, _drive: usize, _image: ImageId) {}
    /// The lease this host has for the machine in that epoch, asked for before it is started.
    fn lease(&self, _vm: VmId, _epoch: u64) -> Option<LeaseConfig> {
        None
    }
}

/// Why something could not be done to a machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition or a file it names is at fault.
    #[error("{0}")]
    Refused(String),
    /// A file it needs is in use by another process, maybe on another host, which may let go of it.
    #[error("{0}")]
    Busy(String),
    /// The monitor, PID 1 or the kernel failed us.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
    /// The machine has ended.
    #[error("the machine is not running")]
    NotRunning,
    /// It may run only under a lease, and this host has none for it.
    #[error("this host has no lease for the machine: it is not sure that no other host runs it")]
    NoLease,
}
