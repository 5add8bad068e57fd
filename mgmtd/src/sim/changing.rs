//! What a simulated machine has, and how it is changed: at once, but for what its guest clings to.

use crate::{
    compute::{Desired, Error, Notice, adjust::Step},
    hardware::Hardware,
};
use lq_api::{VolumeId, image::ImageFormat, local::vmm::DiskImage};
use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, watch};

/// What the guest did that waits for being told.
const NOTICES: usize = 16;

/// What it has.
pub(super) struct Slots {
    has: watch::Sender<Option<Hardware>>,
    tell: mpsc::Sender<Notice>,
    notices: Mutex<Option<mpsc::Receiver<Notice>>>,
    /// The files of its disks.
    files: Mutex<BTreeMap<VolumeId, DiskImage>>,
    /// What the guest was asked for while it clings.
    clings: Mutex<Option<Vec<Step>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    pub(super) fn new(desired: &Desired) -> Self {
        let (tell, notices) = mpsc::channel(NOTICES);
        let files = desired.spec.disks.iter().zip(&desired.launch.disks);
        let mut has = desired.starts_with();
        // One that moves here has what it had.
        take_memory(&mut has);
        Self {
            has: watch::Sender::new(Some(has)),
            tell,
            notices: Mutex::new(Some(notices)),
            files: Mutex::new(files.map(|(disk, config)| (disk.volume, config.image.clone())).collect()),
            clings: Mutex::default(),
        }
    }

    pub(super) fn get(&self) -> Hardware {
        self.has.borrow().clone().unwrap_or_else(|| Hardware::of(&lq_api::vm::VmSpec::default()))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Hardware>> {
        self.has.subscribe()
    }

    pub(super) fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        lock(&self.notices).take()
    }

    pub(super) fn notice(&self, notice: Notice) {
        let _ = self.tell.try_send(notice);
    }

    fn change(&self, change: impl FnOnce(&mut Hardware)) {
        self.has.send_modify(|has| {
            if let Some(has) = has {
                change(has);
            }
        });
    }

    pub(super) fn adjust(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Memory(_) => {
                self.change(|has| has.take_up(step));
                match lock(&self.clings).as_mut() {
                    Some(asked) => asked.push(step.clone()),
                    None => self.change(take_memory),
                }
                return Ok(());
            }
            Step::UnplugDisk(_) | Step::UnplugNic(_) | Step::Eject(_) => {
                if let Some(asked) = lock(&self.clings).as_mut() {
                    asked.push(step.clone());
                    return Err(Error::Refused("the guest has not let go of it".into()));
                }
            }
            Step::PlugDisk(_, config) if !Path::new(&config.image.path).is_file() => {
                return Err(Error::Refused(format!("{} is not there", config.image.path)));
            }
            Step::PlugDisk(disk, config) => {
                lock(&self.files).insert(disk.volume, config.image.clone());
            }
            Step::Grow(volume, size) => {
                let gone = || Error::Refused("the machine does not have the disk any more".into());
                let image = lock(&self.files).get(volume).cloned().ok_or_else(gone)?;
                grow(&image, size.get()).map_err(|e| Error::Refused(e.to_string()))?;
            }
            _ => {}
        }
        self.change(|has| has.take_up(step));
        Ok(())
    }

    /// The guest ejects the medium of its first CD drive.
    pub(super) fn eject(&self) {
        self.change(|has| has.cdroms.first_mut().into_iter().for_each(|drive| drive.loaded = false));
    }

    pub(super) fn cling(&self) {
        lock(&self.clings).get_or_insert_default();
    }

    pub(super) fn release(&self) {
        let asked = lock(&self.clings).take().unwrap_or_default();
        self.change(|has| {
            // Only the last word about memory counts, which is written down.
            asked.iter().filter(|step| !matches!(step, Step::Memory(_))).for_each(|step| has.take_up(step));
            take_memory(has);
        });
    }
}

/// The guest takes the memory it is asked to have, or gives it back.
fn take_memory(has: &mut Hardware) {
    has.plugged.iter_mut().for_each(|region| region.taken = region.asked);
}

/// Makes a disk's file larger, as a monitor does.
fn grow(image: &DiskImage, size: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(&image.path)?;
    match image.format {
        ImageFormat::Raw => file.set_len(file.metadata()?.len().max(size)),
        ImageFormat::Qcow2 => lq_qcow2::grow(&file, size).map_err(io::Error::other),
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = self.get();
        let loaded = has.cdroms.iter().filter(|drive| drive.loaded).count();
        let (disks, nics, memory) = (has.disks.len(), has.nics.len(), has.memory_with(|region| region.taken));
        write!(f, "disks {disks} nics {nics} media {loaded} memory {memory}\r\n")
    }
}
