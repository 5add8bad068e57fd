//! Why a file was refused.

/// Why a qcow2 file was refused or could not be handled. Each says the field and its value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
    /// A device, pipe or directory.
    #[error("not a regular file")]
    NotRegular,
    /// Too short to hold a header.
    #[error("the file has {length} bytes, too few for a qcow2 header")]
    TooShort {
        /// Its length in bytes.
        length: u64,
    },
    /// Another kind of file.
    #[error("not a qcow2 file: magic number {0:#010x} instead of 0x514649fb")]
    Magic(u32),
    /// A header field (or parameter) with an impossible or refused value.
    #[error("{field} is {value}: {reason}")]
    Field {
        /// The field, as the specification calls it.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A feature that is not accepted.
    #[error("the image {feature}; {advice}")]
    Refused {
        /// What it has or is.
        feature: String,
        /// What to do.
        advice: &'static str,
    },
    /// An entry of a table is wrong.
    #[error("{table} entry {index} is {value:#018x}: {reason}")]
    Entry {
        /// The table.
        table: &'static str,
        /// Index in the table; for L2 tables the guest cluster.
        index: u64,
        /// The entry.
        value: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stored reference count of a cluster is smaller than its use, so that it would be overwritten.
    #[error(
        "refcount of the cluster at {offset:#x} is {stored}, but it is used {used} time(s): the image is corrupt"
    )]
    Refcount {
        /// Offset of the cluster in the file.
        offset: u64,
        /// What the refcount block says.
        stored: u64,
        /// How often it is used.
        used: u64,
    },
    /// [`crate::create`] on a file with content.
    #[error("the file to create an image in is not empty ({length} bytes)")]
    NotEmpty {
        /// Its length in bytes.
        length: u64,
    },
}

impl Error {
    pub(crate) fn field(field: &'static str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::Field { field, value: value.to_string(), reason: reason.into() }
    }
}
