//! The words of the command line: one module per noun; what they do is in `commands`, by the same names.

mod access;
mod alert;
mod apply;
mod bmc;
mod cluster;
mod devices;
mod host;
mod image;
mod network;
mod past;
mod pool;
mod provider;
mod shared;
mod vm;
mod volume;
mod watch;

pub(crate) use access::{Audit, Group, Role, Session, Totp, User};
pub(crate) use alert::{Alert, Channel, NewChannel, SetChannel, SetRule};
pub(crate) use apply::{Apply, Export};
pub(crate) use bmc::{Bmc, SetBmc};
pub(crate) use cluster::{Arming, Balancing, Cluster, JoinToken, StateBackup};
pub(crate) use devices::{CdText, DiskText, NicText, limits_text};
pub(crate) use host::{Host, HostNetworkChange, Switch};
pub(crate) use image::{DiskFormat, Image, Kind, UploadImage};
pub(crate) use network::{Dhcp, Network};
pub(crate) use past::{Past, Span};
pub(crate) use pool::{CreatePool, Pool};
pub(crate) use provider::{NewProvider, Provider};
use shared::label;
pub(crate) use shared::{Filter, Listing, NewMeta, Watching};
pub(crate) use vm::{CreateVm, Rules, SetVm, Vm};
pub(crate) use volume::Volume;
pub(crate) use watch::{Changes, Event, Task, What, Which};

use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use lq_api::client::Fingerprint;
use std::path::PathBuf;

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
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Which saved host; the one that `profile use` chose where absent, else `default`.
    #[arg(long, global = true, env = "LQ_PROFILE")]
    pub(crate) profile: Option<String>,
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
    /// Tell every request to the host on standard error.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Wait until an order is carried out. That is the default; it takes back an earlier --no-wait.
    #[arg(long, global = true, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Return as soon as the host has taken the order, instead of waiting until it is carried out.
    #[arg(long, global = true, overrides_with = "wait")]
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
    /// Saved hosts.
    #[command(subcommand)]
    Profile(ProfileCommand),
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
    /// Changes of machines, images, volumes, networks, pools, hosts and alerts as they happen. Ctrl-C ends it.
    Watch(Changes),
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

/// Each has an address, the fingerprint of its certificate and, when one is logged in, a session.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Every saved host; `*` is the one that is used.
    #[command(visible_alias = "ls")]
    List,
    /// Use this one where no other is named.
    Use {
        /// Its name.
        name: String,
    },
    /// End its session, where the host can be reached, and forget the host and its certificate.
    Delete {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Every token, without its secret.
    #[command(visible_alias = "ls")]
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
    fn the_last_word_on_waiting_counts() {
        let waits = |line: &str| {
            let common = Cli::try_parse_from(line.split(' ')).unwrap().common;
            common.wait || !common.no_wait
        };
        assert!(waits("lqctl vm start web") && waits("lqctl vm start web --wait"));
        assert!(!waits("lqctl vm start web --no-wait") && !waits("lqctl vm start web --wait --no-wait"));
        assert!(waits("lqctl --no-wait vm start web --wait"));
    }

    #[test]
    fn a_machine_in_one_go() {
        let line = "lqctl vm create web1 --cpus 2 --memory 1G --disk-from-image debian --disk-size 10G --kernel k \
                    --initrd i --network default --start -o json";
        let words = line.split_whitespace().chain(["--cmdline", "-x console=ttyS0"]);
        let cli = Cli::try_parse_from(words).unwrap();
        match cli.command {
            Command::Vm(Vm::Create(vm)) => {
                assert_eq!((vm.cpus, vm.memory, vm.start), (2, lq_api::Bytes::gib(1), true));
                assert_eq!(vm.cmdline, "-x console=ttyS0");
            }
            other => panic!("{other:?}"),
        }
        assert!(Cli::try_parse_from(["lqctl", "vm", "create", "x", "--memory", "1X"]).is_err());
        assert!(Cli::try_parse_from(["lqctl", "--url", "h", "vm", "list"]).is_err(), "no fingerprint");
    }
}
