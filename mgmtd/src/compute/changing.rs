//! How a step is carried out on one running `lq-vmm`: what the monitor is asked, what comes with it, and what is written down when.
//!
//! Devices are counted by the monitor in the order of its present configuration, so they are looked up in it each time.

use super::{
    Error, LaunchNic,
    adjust::Step,
    fittings::Fittings,
    machine::LqMachine,
    monitor_client::Monitor,
    place::{Place, remove_taps},
};
use crate::{
    hardware::{Drive, Hardware, serial},
    network::{link::Links, tap},
    storage::{self, patient},
};
use lq_api::{
    Bytes,
    local::vmm::{
        CdromEject, CdromInsert, Command, DeviceName, DiskConfig, DiskImage, DiskLimitsChange, DiskPlug,
        DiskResize, MemoryTarget, NicLimitsChange, NicLink, NicPlug, Unplug,
    },
    vm::{Disk, Mac, Nic},
};
use std::{fs::File, io, time::Duration};

/// Longest a change may take that waits for no guest; requests to disks under way are finished first.
const CHANGE: Duration = Duration::from_secs(30);
/// How long a guest has to let go of a device before it is asked again later.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest until what it wrote is durable after that.
const DURABLE: Duration = Duration::from_secs(30);

fn failed(context: &str) -> impl FnOnce(io::Error) -> Error {
    let context = context.to_owned();
    |source| Error::Io { context, source }
}

fn unwritten(source: io::Error) -> Error {
    failed("writing down what the machine has")(source)
}

/// Opens files, which may be on a server that does not answer.
async fn open<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Error> {
    let opened = patient::within(CHANGE, move || {
        work().map_err(|source| storage::Error::Io {
            context: "opening what is to be plugged in".into(),
            source,
        })
    });
    opened.await.map_err(|e| failed("having the pool answer")(io::Error::other(e)))
}

fn gone(what: &str) -> Error {
    Error::Refused(format!("the machine does not have the {what} any more"))
}

impl LqMachine {
    pub(super) async fn change(&self, step: &Step) -> Result<(), Error> {
        let command = match step {
            Step::Memory(asked) => return self.ask_memory(*asked, step).await,
            Step::PlugDisk(disk, config) => return self.plug_disk(disk, config, step).await,
            Step::PlugNic(nic, launch) => return self.plug_nic(nic, launch, step).await,
            Step::UnplugDisk(volume) => return self.unplug(DeviceName::Disk(serial(*volume)), step).await,
            Step::UnplugNic(mac) => {
                self.unplug(DeviceName::Nic(*mac), step).await?;
                return drop_taps(&self.place, &[*mac]).await;
            }
            Step::Insert(n, image, path) => return self.insert(*n, Drive::of(Some(*image)), path).await,
            Step::Rewire(mac, _, bridge) => return self.rewire(*mac, bridge, step).await,
            Step::Eject(n) => {
                let loaded =
                    self.fittings.get().and_then(|has| has.cdroms.get(*n).copied()).is_some_and(|d| d.loaded);
                let Some(cdrom) = u32::try_from(*n).ok().filter(|_| loaded) else { return self.done(step) };
                Command::CdromEject(CdromEject { cdrom, force: false })
            }
            Step::DiskLimits(volume, limits) => {
                let disk = self.disk_number(&serial(*volume)).await?;
                Command::DiskLimits(DiskLimitsChange { disk, limits: *limits })
            }
            Step::Grow(volume, size) => {
                let disk = self.disk_number(&serial(*volume)).await?;
                Command::DiskResize(DiskResize { disk, size_bytes: size.get() })
            }
            Step::NicLimits(mac, limits) => {
                Command::NicLimits(NicLimitsChange { nic: self.nic_number(*mac).await?, limits: *limits })
            }
            Step::Link(mac, up) => Command::NicLink(NicLink { nic: self.nic_number(*mac).await?, up: *up }),
        };
        self.monitor.change(command, &[], CHANGE).await?;
        self.done(step)
    }

    /// Asks the guest for so much memory besides its own. It may take it at once, so that it must be allowed to before.
    async fn ask_memory(&self, asked: Bytes, step: &Step) -> Result<(), Error> {
        self.done(step)?;
        self.fittings.get().iter().for_each(|has| self.place.limit(has));
        let command = Command::MemoryTarget(MemoryTarget { bytes: asked.get() });
        let done = self.monitor.change(command, &[], CHANGE).await;
        self.look().await;
        done
    }

    fn done(&self, step: &Step) -> Result<(), Error> {
        self.fittings.change(|has| has.take_up(step)).map_err(unwritten)
    }

    async fn disk_number(&self, serial: &str) -> Result<u32, Error> {
        let config = self.monitor.config().await?;
        let at = config.disks.iter().position(|disk| disk.serial == serial);
        at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| gone("disk"))
    }

    async fn nic_number(&self, mac: Mac) -> Result<u32, Error> {
        let config = self.monitor.config().await?;
        let at = config.nics.iter().position(|nic| nic.mac == mac);
        at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| gone("interface"))
    }

    async fn plug_disk(&self, disk: &Disk, config: &DiskConfig, step: &Step) -> Result<(), Error> {
        let chain: Vec<DiskImage> = config.image.chain().cloned().collect();
        let read_only = disk.read_only;
        let opened = open(move || {
            let open = |(n, image): (usize, &DiskImage)| {
                let file = File::options().read(true).write(n == 0 && !read_only).open(&image.path);
                file.map_err(|e| io::Error::new(e.kind(), format!("opening {}: {e}", image.path)))
            };
            chain.iter().enumerate().map(open).collect::<io::Result<Vec<_>>>()
        });
        let files = opened.await?;
        let command = Command::DiskPlug(DiskPlug { disk: config.clone() });
        self.come(command, &files, step).await
    }

    async fn plug_nic(&self, nic: &Nic, launch: &LaunchNic, step: &Step) -> Result<(), Error> {
        let mac = launch.mac;
        let made = async {
            let config = self.place.make_tap(launch).await?;
            let opened =
                tap::open(&config.tap, config.queues).map_err(failed("opening the interface's tap"))?;
            self.come(Command::NicPlug(NicPlug { nic: config }), &opened, step).await
        };
        let made = made.await;
        if made.is_err() && self.fittings.get().is_some_and(|has| has.nic(mac).is_none()) {
            drop_taps(&self.place, &[mac]).await?;
        }
        tracing::debug!(vm = %self.vm, ?nic, ok = made.is_ok(), "an interface was plugged in");
        made
    }

    /// Has a device come. Where it is not known whether it has, what the monitor says counts; where that says nothing either,
    /// the device counts as there.
    async fn come(&self, command: Command, files: &[File], step: &Step) -> Result<(), Error> {
        self.fittings.comes(|has| has.take_up(step)).map_err(unwritten)?;
        let come = self.monitor.change(command, files, CHANGE).await;
        self.fittings.arrived();
        if come.is_err() {
            self.look().await;
        }
        come
    }

    async fn unplug(&self, device: DeviceName, step: &Step) -> Result<(), Error> {
        let timeout_ms = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        let command = Command::Unplug(Unplug { device, force: false, timeout_ms });
        let gone = self.monitor.change(command, &[], PATIENCE + DURABLE).await;
        match gone {
            Ok(()) => self.done(step),
            Err(error) => {
                // It may have let go of it all the same, in the last moment or by itself.
                self.look().await;
                Err(error)
            }
        }
    }

    async fn insert(&self, n: usize, drive: Drive, path: &str) -> Result<(), Error> {
        let path = path.to_owned();
        let opened = open(move || {
            File::open(&path).map_err(|e| io::Error::new(e.kind(), format!("opening {path}: {e}")))
        });
        let file = opened.await?;
        let cdrom = u32::try_from(n).map_err(|_| gone("CD drive"))?;
        let set = |drive: Drive| {
            move |has: &mut Hardware| has.cdroms.get_mut(n).into_iter().for_each(|d| *d = drive)
        };
        // Should this daemon die now, it is not known which medium is in the drive.
        self.fittings.change(set(Drive { image: None, loaded: true })).map_err(unwritten)?;
        let inserted =
            self.monitor.change(Command::CdromInsert(CdromInsert { cdrom }), &[file], CHANGE).await;
        match inserted {
            Ok(()) => self.fittings.change(set(drive)).map_err(unwritten),
            Err(error) => {
                if matches!(error, Error::Refused(_)) {
                    self.fittings.change(set(Drive::default())).map_err(unwritten)?;
                }
                Err(error)
            }
        }
    }

    async fn rewire(&self, mac: Mac, bridge: &str, step: &Step) -> Result<(), Error> {
        let failed =
            |e: crate::network::Error| failed("connecting the interface to its network")(io::Error::other(e));
        Links::open().map_err(failed)?.attach(&self.place.tap(mac), bridge).await.map_err(failed)?;
        let connected = self.fittings.get().and_then(|has| has.nic(mac).map(|n| n.connected));
        if connected.unwrap_or_default() {
            // So that the guest notices, and asks for another address.
            let nic = self.nic_number(mac).await?;
            for up in [false, true] {
                self.monitor.change(Command::NicLink(NicLink { nic, up }), &[], CHANGE).await?;
            }
        }
        self.done(step)
    }

    /// Takes up what the monitor says of the machine.
    pub(super) async fn look(&self) {
        look(&self.place, &self.monitor, &self.fittings).await;
    }
}

/// Takes up what the monitor says of its machine.
pub(super) async fn look(place: &Place, monitor: &Monitor, fittings: &Fittings) {
    match monitor.told().await {
        Ok(told) => {
            if let Err(error) = drop_taps(place, &fittings.told(&told)).await {
                tracing::warn!(vm = %place.vm, %error, "interfaces that are gone left something behind");
            }
            // What is still on its way here is not known, and must have its room.
            if told.memory.is_some() {
                fittings.get().iter().for_each(|has| place.limit(has));
            }
        }
        Err(error) => tracing::warn!(vm = %place.vm, %error, "the monitor does not say what the machine has"),
    }
}

/// Removes the taps of interfaces that are gone.
pub(super) async fn drop_taps(place: &Place, gone: &[Mac]) -> Result<(), Error> {
    let taps: Vec<_> = gone.iter().map(|mac| place.tap(*mac)).collect();
    remove_taps(&taps).await.map_err(|e| failed("removing the interface's tap")(io::Error::other(e)))
}

impl Fittings {
    /// A device is gone.
    pub(super) fn gone(&self, device: &DeviceName) {
        let changed = self.change(|has| match device {
            DeviceName::Disk(name) => has.disks.retain(|d| serial(d.device.volume) != *name),
            DeviceName::Nic(mac) => has.nics.retain(|n| n.device.mac != Some(*mac)),
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "that a device is gone could not be written down");
        }
    }

    /// The guest has ejected the medium of a CD drive.
    pub(super) fn ejected(&self, cdrom: u32) {
        let drive = usize::try_from(cdrom).ok();
        let changed = self.change(|has| {
            drive.and_then(|n| has.cdroms.get_mut(n)).into_iter().for_each(|d| d.loaded = false);
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "that a medium was ejected could not be written down");
        }
    }
}
