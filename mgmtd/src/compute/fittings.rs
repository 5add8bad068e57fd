//! What one machine that runs has, kept beside it.
//!
//! Invariant: what may have come is written down before it comes, and what goes is struck out after it went. So after a restart of
//! this daemon more may be written than the machine has, which its monitor tells ([`Fittings::told`]), but never less.

use crate::hardware::{Fitted, Hardware, Told};
use lq_api::{Bytes, vm::Mac};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// What a machine has.
pub(super) struct Fittings {
    path: PathBuf,
    has: watch::Sender<Option<Hardware>>,
    /// What is on its way in: a monitor that does not know it yet may know it soon.
    coming: Mutex<Hardware>,
}

impl Fittings {
    /// Of a machine that is about to be started.
    pub(super) fn new(path: PathBuf, has: Hardware) -> io::Result<Self> {
        let fittings = Self::with(path, None);
        fittings.write(&has)?;
        fittings.has.send_replace(Some(has));
        Ok(fittings)
    }

    /// Of a machine that runs. Where nothing is written down, an earlier release started it.
    pub(super) fn found(path: PathBuf) -> Self {
        let read = || -> io::Result<Hardware> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        let has = read().inspect_err(|error| {
            tracing::warn!(%error, "what a running machine has is not known: its changes wait for its next start");
        });
        Self::with(path, has.ok())
    }

    fn with(path: PathBuf, has: Option<Hardware>) -> Self {
        let nothing = Hardware::of(&lq_api::vm::VmSpec::default());
        Self { path, has: watch::Sender::new(has), coming: Mutex::new(nothing) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Hardware>> {
        self.has.subscribe()
    }

    pub(super) fn get(&self) -> Option<Hardware> {
        self.has.borrow().clone()
    }

    /// Writes a change down, then tells it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Hardware)) -> io::Result<()> {
        // Changes come from the driver and from the watcher.
        let _one = self.coming();
        self.changed(change)
    }

    fn changed(&self, change: impl FnOnce(&mut Hardware)) -> io::Result<()> {
        let Some(mut has) = self.get() else { return Ok(()) };
        change(&mut has);
        if Some(&has) == self.has.borrow().as_ref() {
            return Ok(());
        }
        self.write(&has)?;
        self.has.send_replace(Some(has));
        Ok(())
    }

    /// Something is about to come: written down, and kept until [`Self::arrived`] whatever the monitor says.
    pub(super) fn comes(&self, change: impl Fn(&mut Hardware)) -> io::Result<()> {
        let mut coming = self.coming();
        self.changed(&change)?;
        change(&mut coming);
        Ok(())
    }

    /// What was about to come has, or never will: from now on the monitor's word counts.
    pub(super) fn arrived(&self) {
        let mut coming = self.coming();
        coming.disks.clear();
        coming.nics.clear();
    }

    /// Takes up what the monitor says; the interfaces that are gone.
    pub(super) fn told(&self, told: &Told) -> Vec<Mac> {
        let coming = self.coming();
        let Some(before) = self.get() else { return vec![] };
        let changed = self.changed(|has| {
            *has = has.as_told(told);
            let new = |of: &Fitted<lq_api::vm::Disk>| has.disk(of.device.volume).is_none();
            let disks: Vec<_> = coming.disks.iter().filter(|d| new(d)).cloned().collect();
            let new = |of: &Fitted<lq_api::vm::Nic>| of.device.mac.is_some_and(|mac| has.nic(mac).is_none());
            let nics: Vec<_> = coming.nics.iter().filter(|n| new(n)).cloned().collect();
            has.disks.extend(disks);
            has.nics.extend(nics);
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "what a machine has could not be written down");
        }
        let now = self.get();
        let gone = |mac: &Mac| now.as_ref().is_some_and(|has| has.nic(*mac).is_none());
        before.nics.iter().filter_map(|n| n.device.mac).filter(gone).collect()
    }

    /// The guest has taken so much of the memory that comes and goes.
    pub(super) fn took(&self, taken: Bytes) {
        let changed = self.change(|has| has.plugged.iter_mut().for_each(|region| region.taken = taken));
        if let Err(error) = changed {
            tracing::warn!(%error, "how much memory a guest has taken could not be written down");
        }
    }

    fn coming(&self) -> MutexGuard<'_, Hardware> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, has: &Hardware) -> io::Result<()> {
        let half = self.path.with_extension("half");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(&serde_json::to_vec(has)?)?;
        fs::rename(&half, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{
        NetworkId, VolumeId,
        vm::{Disk, Nic, VmSpec},
    };
    use serde_json::json;

    fn told(disks: &[VolumeId], nics: &[Mac]) -> Told {
        let serial = |v: &VolumeId| json!({"serial": crate::hardware::serial(*v), "image": {"path": "/d", "format": "raw"}});
        let config = serde_json::from_value(json!({
            "version": 1, "vm": lq_api::VmId::new(), "name": "web-1", "vcpus": 1, "memory_bytes": 64 << 20,
            "boot": {"direct": {"kernel": "/k"}}, "run_dir": "/run/vm", "devices": {"hotplug": {}},
            "disks": disks.iter().map(serial).collect::<Vec<_>>(),
            "nics": nics.iter().map(|mac| json!({"tap": "t", "mac": mac})).collect::<Vec<_>>(),
        }))
        .unwrap();
        Told { config, loaded: vec![], memory: None }
    }

    #[test]
    fn more_may_be_written_than_there_is_but_never_less() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hardware.json");
        let (root, more) = (VolumeId::new(), VolumeId::new());
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let nic = Nic { mac: Some(mac), ..Nic::on(NetworkId::new()) };
        let spec = VmSpec { disks: vec![Disk::of(root)], nics: vec![nic], ..VmSpec::default() };
        let fittings = Fittings::new(path.clone(), Hardware::of(&spec)).unwrap();
        fittings.comes(|has| has.disks.push(Fitted::new(Disk::of(more), 1))).unwrap();
        // The daemon dies here: the monitor may have the disk or not.
        let again = Fittings::found(path.clone());
        assert!(again.get().unwrap().disk(more).is_some());
        // It does not know it yet, but may be about to.
        assert_eq!(fittings.told(&told(&[root], &[mac])), []);
        assert!(fittings.get().unwrap().disk(more).is_some());
        fittings.arrived();
        assert_eq!(fittings.told(&told(&[root], &[])), [mac]);
        assert!(fittings.get().unwrap().disk(more).is_none());
        assert_eq!(Fittings::found(path).get(), fittings.get());
        assert_eq!(Fittings::found(dir.path().join("none")).get(), None);
    }
}
