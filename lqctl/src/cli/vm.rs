//! The words for virtual machines.

use super::{
    CdText, DiskText, Listing, NewMeta, NicText, Past, Switch, Watching,
    devices::{DISK, NIC},
    label,
};
use crate::size;
use clap::{Args, Subcommand, ValueEnum};
use lq_api::{
    Bytes,
    ha::{HaPriority, VmHa},
    local::vmm::{CpuModel, DeviceModel, Hypervisor, MachineType, WatchdogAction},
    pci::PciAddress,
    vm::{FirmwareKind, RestartPolicy},
};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Every machine.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One machine.
    Show {
        /// Name or id.
        vm: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Create a machine, with its disk where wanted.
    Create(Box<CreateVm>),
    /// Change a machine; what is not given stays. Hardware that cannot be changed while it runs is new at the next start.
    Set(Box<SetVm>),
    /// Where a machine could be, host by host, and why not elsewhere. For a machine to be made: `vm create --preview`.
    Placement {
        /// Name or id.
        vm: String,
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
    /// As many as it can have while it runs, up to 64; its number is fixed where absent.
    #[arg(long, value_name = "COUNT")]
    pub(crate) cpus_max: Option<u8>,
    /// Memory, e.g. 512M or 2G.
    #[arg(long, default_value = "512M", value_parser = size::parse)]
    pub(crate) memory: Bytes,
    /// As far as its memory can be raised while it runs, e.g. 8G; not at all where absent.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory_max: Option<Bytes>,
    /// Make a volume from this image and let it be the first disk.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) disk_from_image: Option<String>,
    /// Size of the new volume; the image's own where absent. Without an image, the volume is empty.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) disk_size: Option<Bytes>,
    /// Pool of the new volume; that of the machine's host where absent.
    #[arg(long, value_name = "POOL")]
    pub(crate) disk_pool: Option<String>,
    /// Attach an existing volume, with settings where wanted: data,ro,bandwidth=50M/200M,ops=500; may be repeated.
    #[arg(long = "volume", value_name = DISK)]
    pub(crate) volumes: Vec<DiskText>,
    /// Kernel image to boot; the disk image's own defaults where absent, else UEFI firmware boots the disks.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) kernel: Option<String>,
    /// Initial RAM disk image.
    #[arg(long, value_name = "IMAGE", requires = "kernel")]
    pub(crate) initrd: Option<String>,
    /// Kernel command line.
    #[arg(long, requires = "kernel", default_value = "", allow_hyphen_values = true)]
    pub(crate) cmdline: String,
    /// Network to connect to, with settings where wanted: default,cable=out,receive=10M; may be repeated.
    #[arg(long = "network", value_name = NIC)]
    pub(crate) networks: Vec<NicText>,
    /// A CD drive with this `iso` image in it, or `none`; may be repeated. Firmware boots from it where no disk can be booted.
    #[arg(long = "cdrom", value_name = "IMAGE")]
    pub(crate) cdroms: Vec<String>,
    /// File with cloud-init's user data (`#cloud-config …` or a script); `-` for standard input. Put no passwords there.
    #[arg(long, value_name = "FILE")]
    pub(crate) user_data: Option<PathBuf>,
    /// File with cloud-init's network configuration; by DHCP where absent. `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) network_config: Option<PathBuf>,
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
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// What runs it: `qemu` for guests that need a legacy BIOS or devices of old machines.
    #[arg(long, value_enum, default_value = "lq-vmm")]
    pub(crate) hypervisor: HypervisorWord,
    /// What it boots by; a legacy BIOS only with `--hypervisor qemu`.
    #[arg(long, value_enum, default_value = "uefi")]
    pub(crate) boot_by: FirmwareWord,
    /// Its board, only with `--hypervisor qemu`; where absent, the one that fits what it boots by.
    #[arg(long, value_enum)]
    pub(crate) machine: Option<MachineWord>,
    /// What disks and interfaces look like to the guest; `legacy` (SATA or IDE, e1000) only with `--hypervisor qemu`.
    #[arg(long, value_enum, default_value = "virtio")]
    pub(crate) devices: DevicesWord,
    /// What becomes of the guest when it does not feed its watchdog any more; no watchdog where absent.
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) watchdog: Watchdog,
    /// A TPM 2.0, which Windows 11 asks for. A machine with one is not moved while it runs.
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) tpm: Switch,
    /// A function of its host's PCI bus, as `host show` lists them: 0000:03:00.0; may be repeated. The machine stays on that host.
    #[arg(long = "passthrough", value_name = "ADDRESS", requires = "host")]
    pub(crate) passthrough: Vec<PciAddress>,
    /// A screen: with firmware there is one, else none, where absent.
    #[arg(long, value_enum)]
    pub(crate) display: Option<Switch>,
    /// A virtio random number source.
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) rng: Switch,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Start it at once.
    #[arg(long)]
    pub(crate) start: bool,
    /// Only say where it would be placed, and why not elsewhere. Nothing is made.
    #[arg(long, conflicts_with = "start")]
    pub(crate) preview: bool,
}

/// A number of virtual CPUs, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MostCpus(pub(crate) Option<u8>);

fn most_cpus(text: &str) -> Result<MostCpus, String> {
    let count =
        || text.parse().map_err(|_| format!("`{text}` is neither a number of virtual CPUs nor `none`"));
    if text == "none" { Ok(MostCpus(None)) } else { count().map(|count| MostCpus(Some(count))) }
}

/// A size, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MostMemory(pub(crate) Option<Bytes>);

fn most_memory(text: &str) -> Result<MostMemory, String> {
    if text == "none" { Ok(MostMemory(None)) } else { size::parse(text).map(|most| MostMemory(Some(most))) }
}

/// Rules about the hosts of other machines.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// On a host of a machine with this label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) near: Vec<(String, String)>,
    /// The same, where it can be.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) prefer_near: Vec<(String, String)>,
    /// Not on a host of a machine with this label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) apart_from: Vec<(String, String)>,
    /// The same, where it can be.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) prefer_apart: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct SetVm {
    /// Name or id.
    pub(crate) vm: String,
    #[command(flatten)]
    pub(crate) meta: NewMeta,
    /// Virtual CPUs. A machine that runs is changed at once up to its --cpus-max.
    #[arg(long)]
    pub(crate) cpus: Option<u8>,
    /// As many as it can have while it runs, from its next start on; `none`: its number is fixed.
    #[arg(long, value_name = "COUNT", value_parser = most_cpus)]
    pub(crate) cpus_max: Option<MostCpus>,
    /// Memory, e.g. 512M or 2G. A machine that runs is changed at once up to its --memory-max.
    #[arg(long, value_parser = size::parse)]
    pub(crate) memory: Option<Bytes>,
    /// As far as its memory can be raised while it runs, from its next start on; `none`: not at all.
    #[arg(long, value_name = "SIZE", value_parser = most_memory)]
    pub(crate) memory_max: Option<MostMemory>,
    /// What the guest sees of the processor.
    #[arg(long, value_enum)]
    pub(crate) cpu: Option<Cpu>,
    /// Boot this kernel.
    #[arg(long, value_name = "IMAGE", conflicts_with = "firmware")]
    pub(crate) kernel: Option<String>,
    /// With this initial RAM disk; `none` for none.
    #[arg(long, value_name = "IMAGE", conflicts_with = "firmware")]
    pub(crate) initrd: Option<String>,
    /// And this kernel command line.
    #[arg(long, allow_hyphen_values = true, conflicts_with = "firmware")]
    pub(crate) cmdline: Option<String>,
    /// Boot no kernel, but by UEFI firmware.
    #[arg(long)]
    pub(crate) firmware: bool,
    /// Attach a volume; may be repeated.
    #[arg(long, value_name = DISK)]
    pub(crate) attach: Vec<DiskText>,
    /// Change how a volume is attached; may be repeated.
    #[arg(long = "disk", value_name = DISK)]
    pub(crate) disks: Vec<DiskText>,
    /// Detach a volume, which stays; may be repeated.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) detach: Vec<String>,
    /// Add an interface on a network; may be repeated.
    #[arg(long = "add-nic", value_name = NIC)]
    pub(crate) add_nics: Vec<NicText>,
    /// Change an interface, named by its number from 0 or its address, e.g. `0,network=lan,cable=in`; may be repeated.
    #[arg(long = "nic", value_name = "NIC[,network=NETWORK][,…]")]
    pub(crate) nics: Vec<NicText>,
    /// Remove an interface, named by its number from 0 or its address; may be repeated.
    #[arg(long = "remove-nic", value_name = "NIC")]
    pub(crate) remove_nics: Vec<String>,
    /// Put an image into a CD drive, which is named by its number from 0; `none` takes it out: 0=debian, 0=none.
    #[arg(long = "cdrom", value_name = "DRIVE=IMAGE")]
    pub(crate) cdroms: Vec<CdText>,
    /// Add a CD drive with this image in it, or `none`; may be repeated.
    #[arg(long = "add-cdrom", value_name = "IMAGE")]
    pub(crate) add_cdroms: Vec<String>,
    /// Remove a CD drive, named by its number from 0; may be repeated.
    #[arg(long = "remove-cdrom", value_name = "DRIVE")]
    pub(crate) remove_cdroms: Vec<usize>,
    /// Give it a function of its host's PCI bus, while it is off; may be repeated. Say --host too where it is not bound to it yet.
    #[arg(long = "add-passthrough", value_name = "ADDRESS")]
    pub(crate) add_passthrough: Vec<PciAddress>,
    /// Take a function of its host's PCI bus away, while it is off; may be repeated.
    #[arg(long = "remove-passthrough", value_name = "ADDRESS")]
    pub(crate) remove_passthrough: Vec<PciAddress>,
    /// File with cloud-init's user data (`#cloud-config …` or a script); `-` for standard input. Put no passwords there.
    #[arg(long, value_name = "FILE", conflicts_with = "no_cloud_init")]
    pub(crate) user_data: Option<PathBuf>,
    /// File with cloud-init's network configuration; by DHCP where absent. `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "no_cloud_init")]
    pub(crate) network_config: Option<PathBuf>,
    /// Nothing for cloud-init any more.
    #[arg(long)]
    pub(crate) no_cloud_init: bool,
    /// A screen, or none; `auto`: with firmware one, else none.
    #[arg(long, value_enum)]
    pub(crate) display: Option<Display>,
    /// What runs it. It changes only while the machine is off.
    #[arg(long, value_enum)]
    pub(crate) hypervisor: Option<HypervisorWord>,
    /// What it boots by; a legacy BIOS only on QEMU. It changes only while the machine is off.
    #[arg(long, value_enum)]
    pub(crate) boot_by: Option<FirmwareWord>,
    /// Its board, only on QEMU. It changes only while the machine is off.
    #[arg(long, value_enum)]
    pub(crate) machine: Option<MachineWord>,
    /// What disks and interfaces look like to the guest; `legacy` only on QEMU. It changes only while the machine is off.
    #[arg(long, value_enum)]
    pub(crate) devices: Option<DevicesWord>,
    /// What becomes of the guest when it does not feed its watchdog any more; `off`: no watchdog.
    #[arg(long, value_enum)]
    pub(crate) watchdog: Option<Watchdog>,
    /// A TPM 2.0. It comes and goes only while the machine is off; what it keeps stays until the machine is deleted.
    #[arg(long, value_enum)]
    pub(crate) tpm: Option<Switch>,
    /// A virtio random number source.
    #[arg(long, value_enum)]
    pub(crate) rng: Option<Switch>,
    /// What to do when the machine ends by itself.
    #[arg(long, value_enum)]
    pub(crate) restart: Option<Restart>,
    /// Start it when its host starts.
    #[arg(long, value_enum)]
    pub(crate) autostart: Option<Switch>,
    /// Start it elsewhere when its host is lost: before others, with them, after them; or not.
    #[arg(long, value_enum)]
    pub(crate) ha: Option<Ha>,
    /// Only this host may have it.
    #[arg(long, conflicts_with = "any_host")]
    pub(crate) host: Option<String>,
    /// Any host may have it.
    #[arg(long)]
    pub(crate) any_host: bool,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// Drop the rules about machines with this label; may be repeated.
    #[arg(long = "drop-rule", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) drop_rules: Vec<(String, String)>,
}

/// [`WatchdogAction`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Watchdog {
    /// It is restarted.
    Reset,
    /// It is halted, to be looked at.
    Pause,
    /// It is ended.
    PowerOff,
    /// Nothing but an event.
    Report,
    /// There is no watchdog.
    Off,
}

impl From<Watchdog> for Option<WatchdogAction> {
    fn from(watchdog: Watchdog) -> Self {
        match watchdog {
            Watchdog::Reset => Some(WatchdogAction::Reset),
            Watchdog::Pause => Some(WatchdogAction::Pause),
            Watchdog::PowerOff => Some(WatchdogAction::PowerOff),
            Watchdog::Report => Some(WatchdogAction::Report),
            Watchdog::Off => None,
        }
    }
}

/// Whether there is a screen.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Display {
    On,
    Off,
    Auto,
}

impl From<Display> for Option<bool> {
    fn from(display: Display) -> Self {
        match display {
            Display::On => Some(true),
            Display::Off => Some(false),
            Display::Auto => None,
        }
    }
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

/// What runs a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HypervisorWord {
    /// Our own monitor.
    LqVmm,
    /// QEMU.
    Qemu,
}

impl From<HypervisorWord> for Hypervisor {
    fn from(word: HypervisorWord) -> Self {
        match word {
            HypervisorWord::LqVmm => Self::LqVmm,
            HypervisorWord::Qemu => Self::Qemu,
        }
    }
}

/// What a machine boots by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FirmwareWord {
    /// UEFI.
    Uefi,
    /// A legacy BIOS.
    Bios,
}

impl From<FirmwareWord> for FirmwareKind {
    fn from(word: FirmwareWord) -> Self {
        match word {
            FirmwareWord::Uefi => Self::Uefi,
            FirmwareWord::Bios => Self::Bios,
        }
    }
}

/// The board of a machine on QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MachineWord {
    /// PCI Express, SATA.
    #[value(name = "pc-q35-7.2")]
    Q35,
    /// PCI, IDE.
    #[value(name = "pc-i440fx-7.2")]
    I440fx,
}

impl From<MachineWord> for MachineType {
    fn from(word: MachineWord) -> Self {
        match word {
            MachineWord::Q35 => Self::Q35V7_2,
            MachineWord::I440fx => Self::I440fxV7_2,
        }
    }
}

/// What disks and interfaces look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DevicesWord {
    /// Made for virtual machines.
    Virtio,
    /// Those of old machines.
    Legacy,
}

impl From<DevicesWord> for DeviceModel {
    fn from(word: DevicesWord) -> Self {
        match word {
            DevicesWord::Virtio => Self::Virtio,
            DevicesWord::Legacy => Self::Legacy,
        }
    }
}
