//! What a machine is while it stands still: saved, checked, carried over and taken up again.
//!
//! ```text
//!  stream (a file or a connection):  hello ─ memory… ─ state
//!                                      │        │        └ components: (kind, id, version, fields by name), JSON
//!                                      │        └ runs of pages: zeros or LZ4 blocks        (pages)
//!                                      └ description: what the taker must be able to be    (description)
//!  each in a frame with its length and checksum                                             (frame)
//! ```
//! Invariants
//! - Everything is checked before it is used: a stream comes from a file or a peer and may hold anything.
//! - A component's fields have names. A new field has a default; any other change is a new version with an upgrade from
//!   each older one. What a monitor does not know is refused by its name, never skipped: it would be lost.
//! - Nothing of a component depends on where the other side is: no addresses of ours, no descriptors.

pub mod description;
pub mod file;
pub mod frame;
pub mod pages;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of the stream. Components have their own.
pub const FORMAT: u32 = 1;

/// Why a state cannot be saved or taken up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part is not there.
    #[error("the state holds no {kind} {id}")]
    Missing {
        /// Its kind.
        kind: &'static str,
        /// Which one.
        id: u32,
    },
    /// A part is of a newer monitor.
    #[error(
        "{kind} {id} is saved in version {version}, this monitor knows up to {known}; use a newer lq-vmm"
    )]
    Newer {
        /// Its kind.
        kind: &'static str,
        /// Which one.
        id: u32,
        /// Its version.
        version: u32,
        /// The newest known.
        known: u32,
    },
    /// A part makes no sense.
    #[error("{kind} {id} cannot be taken up: {problem}")]
    Invalid {
        /// Its kind.
        kind: String,
        /// Which one.
        id: u32,
        /// What is wrong.
        problem: String,
    },
    /// A part nobody here knows.
    #[error("the state holds {kind} {id}, which this machine does not have")]
    Unknown {
        /// Its kind.
        kind: String,
        /// Which one.
        id: u32,
    },
    /// A device is not in a state that can be saved.
    #[error("{0}")]
    Unsettled(String),
}

/// One kind of component.
pub trait Saved: Serialize + DeserializeOwned {
    /// Its name in the state, for ever.
    const KIND: &'static str;
    /// Its newest version, counted from 1.
    const VERSION: u32 = 1;
    /// Brings the fields of an older `version` to [`Saved::VERSION`].
    ///
    /// # Errors
    /// There was no such version.
    fn upgrade(version: u32, fields: serde_json::Value) -> Result<serde_json::Value, String> {
        let _ = fields;
        Err(format!("there never was a version {version}"))
    }
}

/// A saved part of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its kind.
    pub kind: String,
    /// Which of its kind: the number of a processor, the slot of a device.
    pub id: u32,
    /// Version of its fields.
    pub version: u32,
    /// Its fields by name.
    pub fields: serde_json::Value,
}

/// All parts of a machine but its memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    components: Vec<Component>,
}

impl State {
    /// Adds a part.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn put<T: Saved>(&mut self, id: u32, part: &T) -> Result<(), Error> {
        let invalid =
            |e: serde_json::Error| Error::Invalid { kind: T::KIND.into(), id, problem: e.to_string() };
        let fields = serde_json::to_value(part).map_err(invalid)?;
        self.components.push(Component { kind: T::KIND.into(), id, version: T::VERSION, fields });
        Ok(())
    }

    /// Takes a part out, brought to the newest version.
    ///
    /// # Errors
    /// It is not there, is too new, or makes no sense.
    pub fn take<T: Saved>(&mut self, id: u32) -> Result<T, Error> {
        let kind = T::KIND;
        let found = self.components.iter().position(|c| c.kind == kind && c.id == id);
        let Component { version, mut fields, .. } =
            self.components.swap_remove(found.ok_or(Error::Missing { kind, id })?);
        if version > T::VERSION {
            return Err(Error::Newer { kind, id, version, known: T::VERSION });
        }
        let invalid = |problem| Error::Invalid { kind: kind.into(), id, problem };
        if version < T::VERSION {
            fields = T::upgrade(version, fields).map_err(invalid)?;
        }
        serde_json::from_value(fields).map_err(|e| invalid(e.to_string()))
    }

    /// The parts that were not taken.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// All parts must have been taken: one that is left would be lost.
    ///
    /// # Errors
    /// One is left.
    pub fn finish(self) -> Result<(), Error> {
        match self.components.into_iter().next() {
            None => Ok(()),
            Some(Component { kind, id, .. }) => Err(Error::Unknown { kind, id }),
        }
    }
}
