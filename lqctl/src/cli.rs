//! The words of the command line.

mod access;
mod alert;
mod apply;
mod pool;
mod provider;
mod vm;

pub(crate) use access::{Audit, Group, Role, Session, Totp, User};
pub(crate) use alert::{Alert, Channel, NewChannel, SetRule};
pub(crate) use apply::{Apply, Export};
pub(crate) use pool::{CreatePool, Pool};
pub(crate) use provider::{NewProvider, Provider};
pub(crate) use vm::{CreateVm, Vm};

use crate::{output::Format, size};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lq_api::{
    Bytes,
    client::Fingerprint,
    history::{self, HistoryQuery},
    image::{ImageFormat, ImageKind},
};
use std::{net::Ipv4Addr, path::PathBuf};

/// Command line client of LimiQuantix.
///
/// Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the host cannot be reached or is not the expected one;
/// 4 not logged in. Objects are named by name or id.
#[derive(Debug, Parser)]
#[command(name = "lqctl", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Which saved host.
    #[arg(long, global = true, env = "LQ_PROFILE", default_value = "default")]
    pub(crate) profile: String,
    /// Address of the host, instead of the saved one.
    #[arg(long, global = true, env = "LQ_URL", requires = "pin")]
    pub(crate) url: Option<String>,
    /// SHA-256 fingerprint of the host's certificate, instead of the saved one.
    #[arg(id = "pin", long = "fingerprint", global = true, env = "LQ_FINGERPRINT", value_name = "SHA256")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// API token, instead of the saved session. Better in the environment than on the command line.
    #[arg(long, global = true, env = "LQ_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Path of the daemon's socket, on the host itself.
    #[arg(long, global = true, env = "LQ_SOCKET", conflicts_with = "url")]
    pub(crate) socket: Option<PathBuf>,
    /// Return as soon as the host has taken the order, instead of waiting until it is carried out.
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
    /// Seconds to wait at most.
    #[arg(long, global = true, default_value_t = 600, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to a host and remember it. The password is asked for, or read from LQ_PASSWORD or standard input.
    Login {
        /// Its address: https://host[:port].
        address: String,
        /// Who.
        #[arg(long, default_value = "admin")]
        username: String,
        /// The one-time code; asked for where it is needed and absent.
        #[arg(long)]
        code: Option<String>,
        /// The realm the user is of: `local`, or the name of a directory. USER@REALM says the same.
        #[arg(long)]
        realm: Option<String>,
    },
    /// End the session and forget it.
    Logout,
    /// Who I am.
    Whoami,
    /// Set the first admin password of a new host, with the code its console shows, and log in.
    Setup {
        /// Its address: https://host[:port].
        address: String,
        /// The set-up code; asked for where absent.
        #[arg(long)]
        code: Option<String>,
    },
    /// Change your own password. Asks for the old and the new one.
    Password,
    /// One-time codes for your own logins.
    #[command(subcommand)]
    Totp(Totp),
    /// Users.
    #[command(subcommand)]
    User(User),
    /// Groups of users.
    #[command(subcommand)]
    Group(Group),
    /// Roles: named sets of permissions.
    #[command(subcommand)]
    Role(Role),
    /// Identity providers: directories and OpenID Connect.
    #[command(subcommand)]
    Provider(Provider),
    /// Sessions of those who logged in.
    #[command(subcommand)]
    Session(Session),
    /// The audit log: every change asked for at the host, newest first.
    Audit(Audit),
    Apply(Apply),
    Export(Export),
    /// Virtual machines.
    #[command(subcommand)]
    Vm(Vm),
    /// Images: what volumes are cloned from and machines boot with.
    #[command(subcommand)]
    Image(Image),
    /// Volumes: the disks of virtual machines.
    #[command(subcommand)]
    Volume(Volume),
    /// Networks.
    #[command(subcommand)]
    Network(Network),
    /// Hosts.
    #[command(subcommand)]
    Host(Host),
    /// Storage pools.
    #[command(subcommand)]
    Pool(Pool),
    /// Long operations.
    #[command(subcommand)]
    Task(Task),
    /// What happened.
    #[command(subcommand)]
    Event(Event),
    /// Alerts: what is wrong, and the rules that find it.
    #[command(subcommand)]
    Alert(Alert),
    /// Notification channels.
    #[command(subcommand)]
    Channel(Channel),
    /// API tokens.
    #[command(subcommand)]
    Token(Token),
    /// The cluster.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Print the completion script of a shell, e.g. for `/etc/bash_completion.d/lqctl`.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command.
    Man {
        /// Existing directory, e.g. `/usr/local/share/man/man1`.
        directory: PathBuf,
    },
}

/// Filters of a list.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only objects with this label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Every image.
    List(Filter),
    /// One image.
    Show {
        /// Name or id.
        image: String,
    },
    /// Upload a file as a new image.
    Upload(UploadImage),
    /// Delete an image.
    Delete {
        /// Name or id.
        image: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UploadImage {
    /// The file.
    pub(crate) file: PathBuf,
    /// Name of the image; the file's where absent.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What it is for.
    #[arg(long, value_enum, default_value = "disk")]
    pub(crate) kind: Kind,
    /// Format of the bytes; by the file's ending (.qcow2, .raw, .img) where absent. The host checks it.
    #[arg(long, value_enum)]
    pub(crate) format: Option<DiskFormat>,
    /// SHA-256 the content must have.
    #[arg(long)]
    pub(crate) sha256: Option<String>,
    /// Kernel that machines with this disk boot.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) boot_kernel: Option<String>,
    /// Their initial RAM disk.
    #[arg(long, value_name = "IMAGE", requires = "boot_kernel")]
    pub(crate) boot_initrd: Option<String>,
    /// Their kernel command line.
    #[arg(long, requires = "boot_kernel", default_value = "", allow_hyphen_values = true)]
    pub(crate) boot_cmdline: String,
    /// Pool to put it into; the cluster's choice where absent.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// [`ImageKind`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Disk,
    Kernel,
    Initrd,
    /// What goes into a CD drive.
    Iso,
}

impl From<Kind> for ImageKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Disk => Self::Disk,
            Kind::Kernel => Self::Kernel,
            Kind::Initrd => Self::Initrd,
            Kind::Iso => Self::Iso,
        }
    }
}

/// [`ImageFormat`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiskFormat {
    Raw,
    Qcow2,
}

impl From<DiskFormat> for ImageFormat {
    fn from(format: DiskFormat) -> Self {
        match format {
            DiskFormat::Raw => Self::Raw,
            DiskFormat::Qcow2 => Self::Qcow2,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Every volume.
    List(Filter),
    /// One volume.
    Show {
        /// Name or id.
        volume: String,
    },
    /// Create a volume.
    Create {
        /// Its name.
        name: String,
        /// Its size; the image's where absent.
        #[arg(long, value_parser = size::parse, required_unless_present = "from_image")]
        size: Option<Bytes>,
        /// Clone this image.
        #[arg(long, value_name = "IMAGE")]
        from_image: Option<String>,
        /// Format on the pool.
        #[arg(long, value_enum, default_value = "qcow2")]
        format: DiskFormat,
        /// Pool to put it into; the cluster's choice where absent.
        #[arg(long)]
        pool: Option<String>,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Make a volume larger.
    Grow {
        /// Name or id.
        volume: String,
        /// New size.
        #[arg(value_parser = size::parse)]
        size: Bytes,
    },
    /// Delete a volume and what is on it.
    Delete {
        /// Name or id.
        volume: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Every network.
    List(Filter),
    /// One network.
    Show {
        /// Name or id.
        network: String,
    },
    /// Create a bridged network.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        dhcp: Dhcp,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Change a network.
    Update {
        /// Name or id.
        network: String,
        /// New name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        dhcp: Dhcp,
        /// Give no addresses any more.
        #[arg(long, conflicts_with = "dhcp_subnet")]
        no_dhcp: bool,
    },
    /// Delete a network.
    Delete {
        /// Name or id.
        network: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// The network's own DHCP.
#[derive(Debug, Args)]
pub(crate) struct Dhcp {
    /// Give addresses of this subnet to guests, e.g. 192.168.1.0/24.
    #[arg(long, value_name = "SUBNET", requires_all = ["dhcp_first", "dhcp_last"])]
    pub(crate) dhcp_subnet: Option<String>,
    /// First address given.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_first: Option<Ipv4Addr>,
    /// Last address given.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_last: Option<Ipv4Addr>,
    /// Default gateway told to guests.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_gateway: Option<Ipv4Addr>,
    /// Name server told to guests; may be repeated.
    #[arg(long = "dhcp-dns", value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_dns: Vec<Ipv4Addr>,
    /// Seconds a lease lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) dhcp_lease: u32,
}

/// What of the past.
#[derive(Debug, Args)]
pub(crate) struct Past {
    /// How far back.
    #[arg(long, value_enum, default_value = "hour")]
    pub(crate) span: Span,
    /// Only this metric; may be repeated.
    #[arg(long = "metric", value_name = "NAME")]
    pub(crate) metrics: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Span {
    /// Every 5 seconds.
    Hour,
    /// Every minute.
    Day,
    /// 7 days, every hour.
    Week,
    /// 30 days, every hour.
    Month,
    /// 365 days, every hour.
    Year,
}

impl From<Span> for history::Span {
    fn from(span: Span) -> Self {
        match span {
            Span::Hour => Self::Hour,
            Span::Day => Self::Day,
            Span::Week => Self::Week,
            Span::Month => Self::Month,
            Span::Year => Self::Year,
        }
    }
}

impl From<Past> for HistoryQuery {
    fn from(Past { span, metrics }: Past) -> Self {
        Self { span: Some(span.into()), metric: (!metrics.is_empty()).then(|| metrics.join(",")) }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// Every host.
    List,
    /// One host.
    Show {
        /// Name or id.
        host: String,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Every task the host remembers.
    List,
    /// One task.
    Show {
        /// Its id.
        task: String,
    },
    /// Ask a task to end.
    Cancel {
        /// Its id.
        task: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// The last events, newest first.
    List {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Events as they happen.
    Follow,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Every token, without its secret.
    List,
    /// Make a token. Its secret is shown once.
    Create {
        /// What it is for.
        name: String,
        /// Days it lasts; for ever where absent.
        #[arg(long)]
        days: Option<u32>,
        /// It may only read.
        #[arg(long)]
        read_only: bool,
        /// It may do no more than this: ROLE@SCOPE, of what its owner may.
        #[arg(long, value_name = "ROLE@SCOPE")]
        limit: Option<String>,
        /// User it acts for; yourself where absent.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
    /// Revoke a token.
    Delete {
        /// Name or id. Not called `token`: that is what every command may log in with.
        #[arg(value_name = "TOKEN")]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// State of the cluster as the host sees it, with every host's part in it.
    #[command(visible_alias = "status")]
    Show,
    /// How much the cluster did, and which hosts and machines did most.
    Usage {
        /// How far back.
        #[arg(long, value_enum, default_value = "hour")]
        span: Span,
        /// How many machines of each kind of load.
        #[arg(long, value_name = "NUMBER", default_value_t = 10)]
        top: u32,
    },
    /// High availability: how hosts and protected machines stand, and why.
    Ha {
        /// Change whether machines of a lost host are started elsewhere.
        #[arg(value_enum)]
        wanted: Option<Arming>,
    },
    /// Balancing: how hosts are loaded, which machines would better run elsewhere, and who decides about it.
    Balance {
        /// Change who decides.
        #[arg(value_enum)]
        mode: Option<Balancing>,
        /// Most machines moved at a time, 1 to 8.
        #[arg(long)]
        at_once: Option<u32>,
        /// Move this machine as is recommended.
        #[arg(long, value_name = "VM", conflicts_with_all = ["mode", "at_once"])]
        apply: Option<String>,
    },
    /// Time: the servers the clocks of all hosts follow, and how they do.
    Time {
        /// The servers from now on, by name or address; with a port where it is not 123.
        #[arg(long = "server", value_name = "SERVER")]
        servers: Vec<String>,
        /// No servers from now on: nothing sets the clocks.
        #[arg(long, conflicts_with = "servers")]
        none: bool,
    },
    /// Join tokens: what a host needs to join.
    #[command(subcommand)]
    Token(JoinToken),
    /// Let the host this command is sent to join another cluster, with its machines. They run on.
    Join {
        /// The token, as the cluster showed it. Better by LQ_JOIN_TOKEN than on the command line.
        #[arg(env = "LQ_JOIN_TOKEN", hide_env_values = true, value_name = "JOIN_TOKEN")]
        join_token: String,
        /// Objects of this host whose names are taken in the cluster may be given others.
        #[arg(long)]
        rename: bool,
        /// Only say what it would do.
        #[arg(long)]
        preview: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Hosts that wait to be brought in, on the network of the host this command is sent to.
    Waiting,
    /// Bring in a waiting host by the code on its console, with its machines. They run on.
    Pair {
        /// Its name or id as `cluster waiting` shows it, or its address.
        host: String,
        /// The code on its console. Asked for where it is absent.
        #[arg(long, env = "LQ_PAIRING_CODE", hide_env_values = true)]
        code: Option<String>,
        /// Objects of that host whose names are taken in the cluster may be given others.
        #[arg(long)]
        rename: bool,
    },
    /// How the host this command is sent to stands to being brought in, with its code.
    Pairing {
        /// Wait for an hour although the host has machines, volumes or images of its own, or end that.
        #[arg(long, value_name = "BOOL")]
        open: Option<bool>,
    },
    /// Form the cluster anew from the host this command is sent to, when the majority of the voters is gone for good.
    Reform {
        /// A host that is lost, by name or id. Without any: all that do not answer.
        #[arg(long, value_name = "HOST")]
        lost: Vec<String>,
        /// Only say what it would do.
        #[arg(long)]
        preview: bool,
        /// Do not ask for the name of the host.
        #[arg(short, long)]
        yes: bool,
    },
    /// Backups of the cluster's state on the host.
    #[command(subcommand)]
    Backup(StateBackup),
    /// Restore a backup of the state on the host this command is sent to, which has to be alone.
    Restore {
        /// The file.
        file: PathBuf,
        /// The host becomes the one that made the backup: it was installed anew, with the old data.
        #[arg(long)]
        as_origin: bool,
        /// Do not ask for the name of the host.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Who decides about moves for balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balancing {
    /// Nobody: nothing is recommended.
    Off,
    /// A person: moves are recommended.
    Advise,
    /// The cluster: what is recommended is done.
    Automatic,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateBackup {
    /// Every backup.
    List,
    /// Make one now.
    Create,
    /// Get the file of one. It holds every secret of the cluster.
    Download {
        /// Its id, as `list` shows it.
        id: String,
        /// Where to; `ID.lqb` where absent.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Whether machines of a lost host are started elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arming {
    /// They are.
    Arm,
    /// They wait for their host.
    Disarm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JoinToken {
    /// Every join token, without its text.
    List,
    /// Make a join token. Its text is shown once.
    Create {
        /// Minutes it lasts.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080))]
        minutes: u32,
        /// How many hosts may join with it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        uses: u32,
    },
    /// Revoke a join token.
    Delete {
        /// Its id.
        id: String,
    },
}

/// Begin or end something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Begin it.
    On,
    /// End it.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_words_are_consistent() {
        Cli::command().debug_assert();
    }

    /// A positional of a command must not take the place of an option of all commands.
    #[test]
    fn no_word_is_used_twice() {
        fn walk(command: &clap::Command, common: &[String]) {
            for sub in command.get_subcommands() {
                for argument in sub.get_arguments().filter(|a| !a.is_global_set()) {
                    let id = argument.get_id().to_string();
                    assert!(!common.contains(&id), "`{}` of `{}`", id, sub.get_name());
                }
                walk(sub, common);
            }
        }
        let command = Cli::command();
        let common: Vec<_> = command.get_arguments().map(|a| a.get_id().to_string()).collect();
        assert!(common.contains(&"token".to_owned()));
        walk(&command, &common);
    }

    #[test]
    fn a_machine_in_one_go() {
        let line = "lqctl vm create web1 --cpus 2 --memory 1G --disk-from-image debian --disk-size 10G --kernel k \
                    --initrd i --network default --start -o json";
        let words = line.split_whitespace().chain(["--cmdline", "-x console=ttyS0"]);
        let cli = Cli::try_parse_from(words).unwrap();
        match cli.command {
            Command::Vm(Vm::Create(vm)) => {
                assert_eq!((vm.cpus, vm.memory, vm.start), (2, Bytes::gib(1), true));
                assert_eq!(vm.cmdline, "-x console=ttyS0");
            }
            other => panic!("{other:?}"),
        }
        assert!(Cli::try_parse_from(["lqctl", "vm", "create", "x", "--memory", "1X"]).is_err());
        assert!(Cli::try_parse_from(["lqctl", "--url", "h", "vm", "list"]).is_err(), "no fingerprint");
    }
}
