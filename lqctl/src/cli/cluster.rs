//! The words about the cluster: how it stands, joining, what to do without a majority, backups of its state.

use super::Span;
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

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
    #[command(visible_alias = "ls")]
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
    #[command(visible_alias = "ls")]
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
