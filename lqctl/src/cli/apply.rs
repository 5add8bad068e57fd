//! The words of what is described in files.

use clap::Args;
use std::path::PathBuf;

/// Bring objects to what documents describe: kind (role, group, network, pool, volume, vm), name, labels and spec as the API has
/// them, with names in place of ids and sizes like 2GiB. What a document does not say stays; `null` takes away.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// File with YAML or JSON documents, `-` for standard input; may be repeated.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing, say what would be changed.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Describe objects in documents that `lqctl apply` takes.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// `KIND` or `KIND/NAME`; everything where absent.
    #[arg(value_name = "KIND[/NAME]")]
    pub(crate) objects: Vec<String>,
}
