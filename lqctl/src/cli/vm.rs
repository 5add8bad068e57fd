//! The words for virtual machines.

use super::{Filter, Past, label};
use crate::size;
use clap::{Args, Subcommand, ValueEnum};
use lq_api::{
    Bytes,
    ha::{HaPriority, VmHa},
    local::vmm::CpuModel,
    vm::RestartPolicy,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Every machine.
    List(Filter),
    /// One machine.
    Show {
        /// Name or id.
        vm: String,
    },
    /// Create a machine, with its disk where wanted.
    Create(Box<CreateVm>),
    /// Change a machine.
    Set {
        /// Name or id.
        vm: String,
        /// Start it elsewhere when its host is lost: before others, with them, after them; or not.
        #[arg(long, value_enum)]
        ha: Ha,
    },
    /// Start.
    Start {
        /// Name or id.
        vm: String,
    },
    /// Press the power button; end it by force when the guest does not power off in time.
    Stop {
        /// Name or id.
        vm: String,
        /// End it at once.
        #[arg(long)]
        force: bool,
        /// Seconds the guest has.
        #[arg(long, default_value_t = 90, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
        grace: u32,
    },
    /// Press the reset button.
    Reset {
        /// Name or id.
        vm: String,
    },
    /// Halt the processors.
    Pause {
        /// Name or id.
        vm: String,
    },
    /// Let a paused machine run on.
    Resume {
        /// Name or id.
        vm: String,
    },
    /// Move to another host: while it runs, or at rest.
    Migrate {
        /// Name or id.
        vm: String,
        /// The host it goes to, by name or id; the one that fits best where absent.
        #[arg(long, value_name = "HOST")]
        to: Option<String>,
        /// Most sent in a second while the guest runs, e.g. 100M.
        #[arg(long, value_name = "SIZE", value_parser = size::parse)]
        bandwidth: Option<Bytes>,
    },
    /// Delete a machine.
    Delete {
        /// Name or id.
        vm: String,
        /// Delete its volumes too.
        #[arg(long)]
        volumes: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Serial console; Ctrl-] leaves it.
    Console {
        /// Name or id.
        vm: String,
    },
    /// How much it did, over time.
    History {
        /// Name or id.
        vm: String,
        #[command(flatten)]
        past: Past,
    },
    /// Let VNC viewers on this computer see the screen of a running machine; Ctrl-C ends it.
    Vnc {
        /// Name or id.
        vm: String,
        /// Port on the loopback interface; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Counters of a running machine.
    Stats {
        /// Name or id.
        vm: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateVm {
    /// Its name.
    pub(crate) name: String,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u8,
    /// Memory, e.g. 512M or 2G.
    #[arg(long, default_value = "512M", value_parser = size::parse)]
    pub(crate) memory: Bytes,
    /// Make a volume from this image and let it be the first disk.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) disk_from_image: Option<String>,
    /// Size of the new volume; the image's own where absent. Without an image, the volume is empty.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) disk_size: Option<Bytes>,
    /// Pool of the new volume; that of the machine's host where absent.
    #[arg(long, value_name = "POOL")]
    pub(crate) disk_pool: Option<String>,
    /// Attach an existing volume; may be repeated.
    #[arg(long = "volume", value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
    /// Kernel image to boot; the disk image's own defaults where absent, else UEFI firmware boots the disks.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) kernel: Option<String>,
    /// Initial RAM disk image.
    #[arg(long, value_name = "IMAGE", requires = "kernel")]
    pub(crate) initrd: Option<String>,
    /// Kernel command line.
    #[arg(long, requires = "kernel", default_value = "", allow_hyphen_values = true)]
    pub(crate) cmdline: String,
    /// Network to connect to; may be repeated.
    #[arg(long = "network", value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
    /// A CD drive with this `iso` image in it; may be repeated. Firmware boots from it where no disk can be booted.
    #[arg(long = "cdrom", value_name = "IMAGE")]
    pub(crate) cdroms: Vec<String>,
    /// What the guest sees of the processor: with a level it can move to every host that has it.
    #[arg(long, value_enum, default_value = "host")]
    pub(crate) cpu: Cpu,
    /// What to do when the machine ends by itself.
    #[arg(long, value_enum, default_value = "on-failure")]
    pub(crate) restart: Restart,
    /// Do not start it when its host starts.
    #[arg(long)]
    pub(crate) no_autostart: bool,
    /// The host it is to be on; the best one where absent.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Start it elsewhere when its host is lost: before others, with them, or after them.
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) ha: Ha,
    /// Not on a host of a machine with this label; may be repeated.
    #[arg(long = "apart-from", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) apart_from: Vec<(String, String)>,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Start it at once.
    #[arg(long)]
    pub(crate) start: bool,
}

/// [`CpuModel`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cpu {
    Host,
    #[value(name = "x86-64-v2")]
    V2,
    #[value(name = "x86-64-v3")]
    V3,
}

impl From<Cpu> for CpuModel {
    fn from(cpu: Cpu) -> Self {
        match cpu {
            Cpu::Host => Self::Host,
            Cpu::V2 => Self::V2,
            Cpu::V3 => Self::V3,
        }
    }
}

/// Protection on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Ha {
    High,
    Medium,
    Low,
    Off,
}

impl From<Ha> for Option<VmHa> {
    fn from(ha: Ha) -> Self {
        let priority = match ha {
            Ha::High => HaPriority::High,
            Ha::Medium => HaPriority::Medium,
            Ha::Low => HaPriority::Low,
            Ha::Off => return None,
        };
        Some(VmHa { priority })
    }
}

/// [`RestartPolicy`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Restart {
    Never,
    OnFailure,
    Always,
}

impl From<Restart> for RestartPolicy {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Never => Self::Never,
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
        }
    }
}
