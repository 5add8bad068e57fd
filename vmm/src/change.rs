//! What can be changed of a device while its machine runs.
//!
//! A change is carried out by the operator: the device's worker is stopped (requests under way are finished), the change
//! made, the worker started again, and the driver told where it sees a difference. So a change never meets a request, and it
//! works as well on a machine that is paused.

use crate::{
    config,
    virtio::{balloon::Gauge, mem},
};
use lq_api::local::vmm::{
    BalloonStatus, BalloonTarget, CdromEject, CdromInsert, Command, DiskLimitsChange, DiskResize, IoLimits,
    MemoryStatus, MemoryTarget, NicLimits, NicLimitsChange, NicLink,
};
use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// A change of one device.
#[derive(Debug)]
pub enum Change {
    /// A disk's limits.
    DiskLimits(IoLimits),
    /// An interface's limits.
    NicLimits(NicLimits),
    /// A disk has so many bytes from now on.
    Size(u64),
    /// An interface's cable is in, or not.
    Link(bool),
    /// The guest is to give up so many bytes of memory.
    Balloon(u64),
    /// So many bytes of memory are to be plugged in.
    Memory(u64),
    /// A medium comes into the CD drive of this number.
    Insert(usize, File),
    /// The medium is to leave the CD drive of this number; true: even if the guest has locked it.
    Eject(usize, bool),
}

/// Where on the bus the devices are that can be changed, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    /// Disks.
    pub disks: Vec<usize>,
    /// Interfaces.
    pub nics: Vec<usize>,
    /// The balloon.
    pub balloon: Option<(usize, Arc<Gauge>)>,
    /// Memory that can be plugged.
    pub memory: Option<(usize, Arc<mem::Gauge>)>,
    /// CD drives: all on one device.
    pub cdroms: Vec<usize>,
    /// Whether there is a medium in each.
    pub loaded: Vec<Arc<AtomicBool>>,
}

fn find(what: &str, slots: &[usize], number: u32) -> Result<usize, String> {
    let slot = usize::try_from(number).ok().and_then(|number| slots.get(number)).copied();
    slot.ok_or_else(|| {
        format!("there is no {what} {number}: the machine has {}, counted from 0", slots.len())
    })
}

fn refuse(faults: Vec<String>) -> Result<(), String> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

impl Slots {
    /// The change a command asks for, and where.
    ///
    /// # Errors
    /// There is no such device, or the command asks for no change.
    pub fn change(&self, command: &Command) -> Result<(usize, Change), String> {
        Ok(match *command {
            Command::DiskLimits(DiskLimitsChange { disk, limits }) => {
                refuse(config::limit_faults("limits", &limits))?;
                (find("disk", &self.disks, disk)?, Change::DiskLimits(limits))
            }
            Command::DiskResize(DiskResize { disk, size_bytes }) => {
                (find("disk", &self.disks, disk)?, Change::Size(size_bytes))
            }
            Command::NicLimits(NicLimitsChange { nic, limits }) => {
                refuse(config::nic_limit_faults(&limits))?;
                (find("interface", &self.nics, nic)?, Change::NicLimits(limits))
            }
            Command::NicLink(NicLink { nic, up }) => (find("interface", &self.nics, nic)?, Change::Link(up)),
            Command::CdromEject(CdromEject { cdrom, force }) => {
                (find("CD drive", &self.cdroms, cdrom)?, Change::Eject(cdrom as usize, force))
            }
            Command::BalloonTarget(BalloonTarget { bytes }) => {
                let (slot, _) = self.balloon.as_ref().ok_or_else(no_balloon)?;
                (*slot, Change::Balloon(bytes))
            }
            Command::MemoryTarget(MemoryTarget { bytes }) => {
                let (slot, _) = self.memory.as_ref().ok_or_else(no_memory)?;
                (*slot, Change::Memory(bytes))
            }
            _ => return Err("this changes no device".to_owned()),
        })
    }
}

fn no_balloon() -> String {
    "the machine has no balloon".to_owned()
}

fn no_memory() -> String {
    "the machine was started without memory that can be plugged (`devices.memory`)".to_owned()
}

impl Slots {
    /// How the memory that can be plugged stands.
    ///
    /// # Errors
    /// There is none.
    pub fn memory(&self) -> Result<MemoryStatus, String> {
        Ok(self.memory.as_ref().ok_or_else(no_memory)?.1.status())
    }

    /// How the balloon stands.
    ///
    /// # Errors
    /// There is none.
    pub fn balloon(&self) -> Result<BalloonStatus, String> {
        Ok(self.balloon.as_ref().ok_or_else(no_balloon)?.1.status())
    }

    /// The change that puts `file` into a CD drive, and where.
    ///
    /// # Errors
    /// There is no such drive.
    pub fn insert(&self, CdromInsert { cdrom }: CdromInsert, file: File) -> Result<(usize, Change), String> {
        Ok((find("CD drive", &self.cdroms, cdrom)?, Change::Insert(cdrom as usize, file)))
    }

    /// Whether there is a medium in each CD drive.
    #[must_use]
    pub fn loaded(&self) -> Vec<bool> {
        self.loaded.iter().map(|loaded| loaded.load(SeqCst)).collect()
    }
}

/// The driver sees a difference in the device's configuration.
pub type Seen = bool;

/// The device knows no such change.
#[must_use]
pub fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this device cannot be changed so")
}
