//! The words about storage pools.

use super::{DiskFormat, Kind, Listing, NewMeta, Watching, label};
use clap::{Args, Subcommand, ValueEnum};
use lq_api::pool::{NFS_PORT, NfsVersion};

#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Every pool.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One pool, and how each host stands to it.
    Show {
        /// Name or id.
        pool: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Create a shared pool.
    Create(CreatePool),
    /// Give a pool another name.
    Rename {
        /// Name or id.
        pool: String,
        /// New name.
        name: String,
    },
    /// Change a pool's name and labels.
    Set {
        /// Name or id.
        pool: String,
        #[command(flatten)]
        meta: NewMeta,
    },
    /// Make a volume or an image of a file in the pool that belongs to nothing (`pool show` tells of them).
    Adopt {
        /// Name or id.
        pool: String,
        /// The file, e.g. `volumes/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a.qcow2`.
        file: String,
        /// Name of the volume or image.
        #[arg(long)]
        name: String,
        /// Of an image: what it is for; a disk where absent.
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// Of an image: its format.
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Delete a file in the pool that belongs to nothing.
    DeleteForeign {
        /// Name or id.
        pool: String,
        /// The file.
        file: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Delete a shared pool nothing is in.
    Delete {
        /// Name or id.
        pool: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreatePool {
    /// Its name.
    pub(crate) name: String,
    /// An export of an NFS server.
    #[arg(long, value_name = "SERVER:/EXPORT")]
    pub(crate) nfs: String,
    /// Version of NFS.
    #[arg(long, value_enum, default_value = "4.2")]
    pub(crate) version: Version,
    /// TCP port of the server.
    #[arg(long, default_value_t = NFS_PORT)]
    pub(crate) port: u16,
    /// Connections to the server, 1 to 16.
    #[arg(long)]
    pub(crate) nconnect: Option<u8>,
    /// Most bytes of one read.
    #[arg(long)]
    pub(crate) rsize: Option<u32>,
    /// Most bytes of one write.
    #[arg(long)]
    pub(crate) wsize: Option<u32>,
    /// Tenths of a second until a request is repeated.
    #[arg(long)]
    pub(crate) timeo: Option<u16>,
    /// Repetitions until the server counts as silent.
    #[arg(long)]
    pub(crate) retrans: Option<u8>,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// [`NfsVersion`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Version {
    #[value(name = "4.1")]
    V4_1,
    #[value(name = "4.2")]
    V4_2,
}

impl From<Version> for NfsVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V4_1 => Self::V4_1,
            Version::V4_2 => Self::V4_2,
        }
    }
}
