//! Machines that are changed while they run: what was cut from them, and until when it stays theirs.
//!
//! ```text
//!   in the specification ── UpdateVm ──▶ unplugged ── LetGo ──▶ free
//!            ▲                              │
//!            └────────── UpdateVm ──────────┘
//! ```
//! A volume that is cut from a machine that runs stays the machine's until its host says that the guest has let go of it, or that
//! its process has ended: before that no other machine has it, and it is neither deleted nor grown. Invariant: such a word counts
//! only for what was cut in the generation it is said of, or before. What is put in again and cut anew is cut in a later one, so a
//! word that comes late frees nothing that is in use again.

use super::{Outcome, Refusal, Reply, State, VmRecord, apply::Context, vms::disks_of};
use lq_api::{
    HostId, ImageId, VmId, VolumeId,
    vm::Mac,
    volume::{Volume, VolumeState},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What was cut from a machine that runs, with the generation of the machine it was cut in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unplugged {
    /// Volumes of disks.
    #[serde(default)]
    pub volumes: BTreeMap<VolumeId, u64>,
    /// Addresses of interfaces.
    #[serde(default)]
    pub nics: BTreeMap<Mac, u64>,
}

impl Unplugged {
    /// Nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.nics.is_empty()
    }

    /// What is left of it where the host has only `volumes` and `nics` of the machine in this generation.
    #[must_use]
    pub fn still_held(&self, generation: u64, volumes: &BTreeSet<VolumeId>, nics: &BTreeSet<Mac>) -> Self {
        let mut left = self.clone();
        left.volumes.retain(|volume, cut| *cut > generation || volumes.contains(volume));
        left.nics.retain(|mac, cut| *cut > generation || nics.contains(mac));
        left
    }
}

impl VmRecord {
    /// The volumes that are the machine's: those of its disks, and those its guest has not let go of.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeId> {
        let unplugged = self.unplugged.volumes.keys().copied();
        disks_of(&self.vm.spec).into_iter().chain(unplugged).collect()
    }

    /// What is not in the specification any more is cut, unless nothing of the machine runs.
    pub(super) fn cut(&mut self, old: &Self) {
        let generation = self.vm.meta.generation;
        let (spec, cut) = (&self.vm.spec, &mut self.unplugged);
        if old.at_rest() && old.is_settled() {
            *cut = Unplugged::default();
            return;
        }
        let gone = |volume: &VolumeId| spec.disks.iter().all(|d| d.volume != *volume);
        cut.volumes.retain(|volume, _| gone(volume));
        for disk in old.vm.spec.disks.iter().filter(|d| gone(&d.volume)) {
            cut.volumes.insert(disk.volume, generation);
        }
        let gone = |mac: &Mac| spec.nics.iter().all(|n| n.mac != Some(*mac));
        cut.nics.retain(|mac, _| gone(mac));
        for mac in old.vm.spec.nics.iter().filter_map(|n| n.mac).filter(gone) {
            cut.nics.insert(mac, generation);
        }
    }
}

impl State {
    pub(super) fn let_go(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        by: (HostId, u64),
        generation: u64,
        (volumes, nics): &(&BTreeSet<VolumeId>, &BTreeSet<Mac>),
    ) -> Outcome {
        let Some(old) = self.vms.get(&id).cloned() else { return Ok(Reply::Done) };
        let unplugged = old.unplugged.still_held(generation, volumes, nics);
        if (Some(by.0), by.1) != (old.vm.status.host, old.epoch)
            || old.moving.is_some()
            || unplugged == old.unplugged
        {
            return Ok(Reply::Done);
        }
        let new = VmRecord { unplugged, ..(*old).clone() };
        self.attach(ctx, id, &old.volumes(), &new.volumes());
        Ok(self.put(ctx, new))
    }

    pub(super) fn medium_ejected(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        by: (HostId, u64),
        drive: u32,
        image: ImageId,
    ) -> Outcome {
        let Some(old) = self.vms.get(&id).cloned() else { return Ok(Reply::Done) };
        let mut new = (*old).clone();
        let drive = usize::try_from(drive).ok().and_then(|n| new.vm.spec.cdroms.get_mut(n));
        match drive.filter(|drive| drive.image == Some(image)) {
            Some(drive) if (Some(by.0), by.1) == (old.vm.status.host, old.epoch) => drive.image = None,
            _ => return Ok(Reply::Done),
        }
        new.vm.meta.generation += 1;
        Ok(self.put(ctx, new))
    }

    /// Why a volume is not free though it is in no machine's specification.
    pub(super) fn held_by(&self, volume: &Volume) -> Option<String> {
        let record = self.vms.get(&volume.status.attached_to?)?;
        record.unplugged.volumes.contains_key(&volume.meta.id).then(|| {
            format!(
                "the guest of the machine `{}` has not released the volume `{}` yet: wait for it, or stop the machine",
                record.vm.meta.name, volume.meta.name
            )
        })
    }

    /// Whether a volume may be grown by whoever has it.
    pub(super) fn check_growable(&self, volume: &Volume) -> Result<(), Refusal> {
        if let Some(why) = self.held_by(volume) {
            return Err(Refusal::Conflict(why));
        }
        let vm = volume.status.attached_to.and_then(|vm| self.vms.get(&vm));
        match vm.filter(|vm| vm.moving.is_some()) {
            Some(vm) => Err(Refusal::Conflict(format!(
                "the machine `{}` uses it and is being moved to another host: wait for it, or cancel the move",
                vm.vm.meta.name
            ))),
            None => Ok(()),
        }
    }

    /// Whether what the machine has stays as it is, so that it can be moved.
    pub(super) fn check_still(&self, record: &VmRecord) -> Result<(), Refusal> {
        if !record.unplugged.nics.is_empty() {
            return Err(Refusal::Conflict(format!(
                "the guest of the machine `{}` has not released an interface yet: wait for it, or stop the machine",
                record.vm.meta.name
            )));
        }
        let volumes = record.volumes();
        for volume in volumes.iter().filter_map(|id| self.volumes.get(id)) {
            if let Some(why) = self.held_by(volume) {
                return Err(Refusal::Conflict(why));
            }
            let growing = volume.status.state == VolumeState::Ready
                && volume.spec.size_bytes.is_some_and(|wanted| wanted != volume.status.size_bytes);
            if growing {
                return Err(Refusal::Conflict(format!(
                    "the volume `{}` is being grown: wait for it",
                    volume.meta.name
                )));
            }
        }
        Ok(())
    }
}
