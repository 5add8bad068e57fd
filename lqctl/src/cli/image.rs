//! The words about images.

use super::{Listing, NewMeta, Watching, label};
use clap::{Args, Subcommand, ValueEnum};
use lq_api::image::{ImageFormat, ImageKind};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Every image.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One image.
    Show {
        /// Name or id.
        image: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Upload a file as a new image.
    Upload(UploadImage),
    /// Change an image's name and labels.
    Set {
        /// Name or id.
        image: String,
        #[command(flatten)]
        meta: NewMeta,
    },
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
