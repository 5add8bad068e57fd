//! The words about volumes.

use super::{DiskFormat, Listing, NewMeta, Watching, label};
use crate::size;
use clap::Subcommand;
use lq_api::Bytes;

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Every volume.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One volume.
    Show {
        /// Name or id.
        volume: String,
        #[command(flatten)]
        watching: Watching,
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
    /// Change a volume's name and labels.
    Set {
        /// Name or id.
        volume: String,
        #[command(flatten)]
        meta: NewMeta,
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
