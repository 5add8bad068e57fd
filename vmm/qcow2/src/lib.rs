//! `lq-qcow2`: the gate every qcow2 file passes before the product trusts it, and the maker of new ones.
//!
//! What it owns: the on-disk format (QEMU's `docs/interop/qcow2.txt`, versions 2 and 3) as far as inspection, full
//! validation, creation and growth need it. It does not read or write guest data; the monitor's `disk` module does.
//!
//! Invariants
//! - Everything begins at an opened descriptor. No name found in a file is ever opened.
//! - A file is hostile until [`check`] has said otherwise: all arithmetic is checked, all allocation bounded by [`Limits`].
//! - Every refusal names the field (or table entry) and its value.
//! - [`create`] writes only empty files; [`grow`] and [`prepare_for_writing`] order their writes so that a crash leaves at worst leaked clusters.
//!
//! Three depths of looking: [`inspect`] reads what the header says, [`check_header`] adds what can be refused without
//! walking tables (constant time: what the monitor does at every start), [`check`] walks all metadata (what an upload must
//! pass once).

mod check;
mod create;
mod error;
mod grow;
mod header;
mod io;
mod refcounts;

pub use check::{Limits, check, check_header};
pub use create::{BackingFormat, CreateOptions, create};
pub use error::Error;
pub use grow::{grow, prepare_for_writing};
pub use header::{Compression, Info, Layout};
pub use refcounts::{decode as refcount, encode as set_refcount};

use std::fs::File;

/// Smallest cluster: 512 bytes.
pub const MIN_CLUSTER_BITS: u32 = 9;
/// Largest cluster: 2 MiB.
pub const MAX_CLUSTER_BITS: u32 = 21;
/// What new images get: 64 KiB clusters.
pub const DEFAULT_CLUSTER_BITS: u32 = 16;
/// Largest L1 table anyone accepts (as QEMU): 32 MiB.
pub const MAX_L1_BYTES: u64 = 32 << 20;
/// Largest refcount table anyone accepts (as QEMU): 8 MiB.
pub const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;

/// Where the tables of an image are, for one that only reads it. Checks as [`check_header`] does.
///
/// # Errors
/// Those of [`check_header`].
pub fn layout(file: &File, limits: &Limits) -> Result<(Info, Layout), Error> {
    let header = check::accepted_header(file, limits)?;
    let layout = Layout::from(&header);
    Ok((header.info, layout))
}

/// Reads what the header of a qcow2 file says. Refuses only what is no readable qcow2 header; says nothing about whether
/// the image is safe or usable.
///
/// # Errors
/// The file cannot be read or its header is malformed.
pub fn inspect(file: &File) -> Result<Info, Error> {
    Ok(header::Header::read(file)?.info)
}
