//! The words about the cluster: how it stands, joining, what to do without a majority, backups of its state.

use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// State of the cluster as the host sees it, with every host's part in it.
    #[command(visible_alias = "status")]
    Show,
    /// High availability: how hosts and protected machines stand, and why.
    Ha {
        /// Change whether machines of a lost host are started elsewhere.
        #[arg(value_enum)]
        wanted: Option<Arming>,
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
