//! The words about hosts.

use super::{Bmc, Listing, NewMeta, Past, Watching};
use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// Every host.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One host.
    Show {
        /// Name or id.
        host: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// How much it did, over time.
    History {
        /// Name or id.
        host: String,
        #[command(flatten)]
        past: Past,
    },
    /// Give a host another name.
    Rename {
        /// Name or id.
        host: String,
        /// The new name.
        name: String,
    },
    /// Change a host's name and labels.
    Set {
        /// Name or id.
        host: String,
        #[command(flatten)]
        meta: NewMeta,
    },
    /// The management network: show it, or change it. A change is tried for a minute and taken back unless it is kept.
    Network {
        /// Name or id.
        host: String,
        #[command(flatten)]
        change: HostNetworkChange,
    },
    /// Logs, inventory and the objects of the cluster in one archive, without secrets.
    SupportBundle {
        /// Name or id.
        host: String,
        /// File to write; support-NAME.tar.gz where absent.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
        /// Write it to this removable drive of the host instead, as `host removable` calls it: sdb1.
        #[arg(long, conflicts_with = "out")]
        drive: Option<String>,
    },
    /// The removable drives plugged into a host, and whether they can be written to.
    Removable {
        /// Name or id.
        host: String,
    },
    /// Remove a host from the cluster for ever. What runs on it runs on, without the cluster.
    Remove {
        /// Name or id.
        host: String,
        /// Give up the machines, volumes and images that only this host holds.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Move the machines away and let none be placed on the host, or end that.
    Maintenance {
        /// Name or id.
        host: String,
        /// Begin or end it.
        #[arg(value_enum)]
        state: Switch,
        /// Shut down the machines that cannot be moved.
        #[arg(long)]
        shut_down: bool,
    },
    /// Say for certain that a silent host is off, so that its protected machines are started elsewhere at once.
    ConfirmOff {
        /// Name or id.
        host: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// The BMC of a host: what switches it off from outside when it is lost.
    #[command(subcommand)]
    Bmc(Bmc),
    /// Make a new certificate for the host's API and page. Whoever trusts the old one has to look at the new one.
    Certificate {
        /// Name or id.
        host: String,
        /// Do not ask for the name of the host.
        #[arg(short, long)]
        yes: bool,
    },
    /// Erase what the host has kept, as if it were installed anew. Remove it from the cluster first where it is one of several.
    FactoryReset {
        /// Name or id.
        host: String,
        /// Erase the images and volumes on its data partition too.
        #[arg(long)]
        data: bool,
        /// Do not ask for the name of the host.
        #[arg(short, long)]
        yes: bool,
    },
    /// Whether the host this command is sent to answers, and what it still waits for; the exit code is 1 while it is not ready.
    Health,
    /// The metrics of the host this command is sent to, as Prometheus reads them.
    Metrics,
    /// Stop the guests, then restart the host.
    Reboot {
        /// Name or id.
        host: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Stop the guests, then switch the host off.
    PowerOff {
        /// Name or id.
        host: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// What to do to a management network; nothing shows it.
#[derive(Debug, clap::Args)]
#[group(multiple = true)]
pub(crate) struct HostNetworkChange {
    /// Try this address, with its prefix: 192.168.1.10/24.
    #[arg(long, conflicts_with_all = ["dhcp", "keep", "revert", "test"])]
    pub(crate) address: Option<String>,
    /// Try an address by DHCP.
    #[arg(long, conflicts_with_all = ["keep", "revert", "test"])]
    pub(crate) dhcp: bool,
    /// Default gateway.
    #[arg(long, requires = "address")]
    pub(crate) gateway: Option<std::net::Ipv4Addr>,
    /// Name server; may be given more than once.
    #[arg(long, requires = "address")]
    pub(crate) dns: Vec<std::net::Ipv4Addr>,
    /// Interface, by its hardware address; the first with a link where absent.
    #[arg(long, conflicts_with_all = ["keep", "revert", "test"])]
    pub(crate) interface: Option<lq_api::vm::Mac>,
    /// Seconds until it is taken back, 10 to 600.
    #[arg(long, default_value_t = lq_api::management::TRIAL_SECONDS)]
    pub(crate) seconds: u32,
    /// Keep what is being tried.
    #[arg(long, conflicts_with_all = ["revert", "test"])]
    pub(crate) keep: bool,
    /// Take back what is being tried.
    #[arg(long, conflicts_with = "test")]
    pub(crate) revert: bool,
    /// Whether it works, seen from the host.
    #[arg(long)]
    pub(crate) test: bool,
}

/// Begin or end something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Begin it.
    On,
    /// End it.
    Off,
}
