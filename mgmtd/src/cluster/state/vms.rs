//! Virtual machines.
//!
//! ```text
//!  CreateVm ──▶ (PowerVm | UpdateVm | ObserveVm)* ──▶ DeleteVm ──▶ ForgetVm
//!               while it runs, too (`hardware`)            only while stopped
//! ```

use super::{
    Kind, Outcome, Power, Refusal, Reply, State, Unplugged, VmRecord,
    apply::{Context, check_expected, check_new, patched},
};
use crate::placement::{self, Request};
use lq_api::{
    Bytes, HostId, ImageId, PoolId, VmId, VolumeId,
    image::ImageKind,
    local::vmm::Hypervisor,
    meta::MetadataPatch,
    problem::FieldError,
    vm::{
        Boot, CreateVm, MIN_FIRMWARE_MEMORY, Mac, PowerState, RestartPolicy, StopVm, UpdateVm, Vm, VmSpec,
        VmState, VmStatus,
    },
    volume::VolumeState,
};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// First octets of the addresses we give: locally administered, unicast. The other four are a hash, not a counter, so that
/// two clusters on one wire do not give the same.
const MAC_PREFIX: [u8; 2] = [0x52, 0x4c];

impl State {
    pub(super) fn create_vm(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        host: HostId,
        create: &CreateVm,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.vms.values().map(|r| r.vm.meta.name.as_str()))?;
        if create.spec.power == PowerState::Paused {
            return Err(Refusal::field("spec.power", "a new machine is `stopped` or `running`"));
        }
        if self.vms.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let record = self.hosts.get(&host).ok_or_else(|| Refusal::not_found("host", host))?;
        let spec = self.completed(id, &create.spec, None)?;
        // The claim: what the placement decided may not hold any more.
        let request = Request::new(&create.labels, &spec);
        let reasons = placement::refusals(self, record, request);
        if !reasons.is_empty() {
            return Err(Refusal::NoRoom(reasons.join("; ")));
        }
        let vm = Vm {
            meta: ctx.meta(id, &create.name, create.labels.clone()),
            spec,
            status: VmStatus { host: Some(host), ..VmStatus::default() },
        };
        self.attach(ctx, id, &[], &disks_of(&vm.spec));
        let vars = self.place_of_vars(&vm.spec);
        let mut record = VmRecord { vars, ..VmRecord::new(vm) };
        record.guard_new(ctx.revision);
        Ok(self.put(ctx, record))
    }

    /// The pool of what a machine's firmware and TPM keep, where it is not the host's own: with its first disk in a shared pool all of
    /// the machine is to be reached by every host.
    fn place_of_vars(&self, spec: &VmSpec) -> Option<PoolId> {
        let first = spec.disks.first().and_then(|d| self.volumes.get(&d.volume)?.spec.pool);
        let shared = |pool: &PoolId| self.pools.get(pool).is_some_and(|p| p.spec.is_shared());
        first.filter(|pool| (keeps_variables(spec) || spec.tpm) && shared(pool))
    }

    pub(super) fn update_vm(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        expect: Option<u64>,
        update: &UpdateVm,
    ) -> Outcome {
        let old = self.usable(id)?;
        check_expected(&old.vm.meta, expect)?;
        let patch = MetadataPatch { name: update.name.clone(), labels: update.labels.clone() };
        let mut new = (*old).clone();
        new.vm.meta = patched(&old.vm.meta, &patch, self.vms.values().map(|r| r.vm.meta.name.as_str()))?;
        if let Some(spec) = &update.spec {
            new.vm.spec = self.completed(id, spec, Some(&old.vm.spec))?;
            self.check_reach(&new.vm)?;
            self.check_growth(&old, &new.vm)?;
        }
        check_board(&old, &new.vm.spec)?;
        // Of a machine booted directly, or by a BIOS, nothing was kept till now.
        let kept_nothing = old.vars.is_none() && !keeps_variables(&old.vm.spec) && !old.vm.spec.tpm;
        if kept_nothing && keeps_variables(&new.vm.spec) && old.vm.spec.boot.is_none() {
            new.vars = self.place_of_vars(&new.vm.spec);
        }
        if new.vm.spec.passthrough != old.vm.spec.passthrough {
            self.check_functions(&old, &new.vm)?;
        }
        if new.vm.spec.tpm != old.vm.spec.tpm {
            if !old.at_rest() {
                let why = "a TPM comes and goes only while the machine is off: stop it, then change this";
                return Err(Refusal::field("spec.tpm", why));
            }
            if kept_nothing {
                new.vars = self.place_of_vars(&new.vm.spec);
            }
        }
        if new == *old {
            return Ok(Reply::Vm(Arc::new(new.vm)));
        }
        if old.moving.is_some() && new.vm.spec != old.vm.spec {
            return Err(being_moved());
        }
        match (old.vm.spec.power, new.vm.spec.power) {
            (from, to) if from == to => {}
            (from, PowerState::Running) => {
                self.check_startable(&new.vm.spec)?;
                if from == PowerState::Stopped {
                    self.check_served(&old.vm)?;
                }
            }
            (PowerState::Stopped, PowerState::Paused) => return Err(not_running()),
            (_, PowerState::Stopped) => new.stop = StopVm::default(),
            _ => {}
        }
        if new.vm.spec != old.vm.spec {
            new.vm.meta.generation += 1;
        }
        new.guard_by(&old.vm.spec, ctx.revision);
        new.cut(&old);
        self.attach(ctx, id, &old.volumes(), &new.volumes());
        Ok(self.put(ctx, new))
    }

    pub(super) fn power_vm(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        expect: Option<u64>,
        power: &Power,
    ) -> Outcome {
        let old = self.usable(id)?;
        check_expected(&old.vm.meta, expect)?;
        let mut new = (*old).clone();
        let state = old.vm.status.state;
        let settled = old.vm.status.observed_generation == old.vm.meta.generation;
        match power {
            Power::Start => {
                self.check_startable(&old.vm.spec)?;
                if old.vm.spec.power == PowerState::Stopped {
                    self.check_served(&old.vm)?;
                }
                new.vm.spec.power = PowerState::Running;
                // A machine that failed although it is wanted running is tried anew.
                new.vm.meta.generation += u64::from(settled && state == VmState::Failed);
            }
            Power::Stop(stop) => {
                if stop.timeout_seconds == 0 || stop.timeout_seconds > 3600 {
                    return Err(Refusal::field("timeout_seconds", "is not between 1 and 3600"));
                }
                new.vm.spec.power = PowerState::Stopped;
                // What is to stop need not be moved first.
                new.call_off_move();
                if !(settled && state == VmState::Stopped) && new.stop != *stop {
                    new.stop = stop.clone();
                    new.vm.meta.generation += u64::from(old.vm.spec.power == PowerState::Stopped);
                }
            }
            Power::Reset => {
                if !matches!(state, VmState::Running | VmState::Paused)
                    || old.vm.spec.power == PowerState::Stopped
                {
                    return Err(not_running());
                }
                new.reset_count += 1;
                new.vm.meta.generation += 1;
            }
            Power::Pause => {
                if !matches!(state, VmState::Running | VmState::Paused)
                    || old.vm.spec.power == PowerState::Stopped
                {
                    return Err(not_running());
                }
                new.vm.spec.power = PowerState::Paused;
            }
            Power::Resume => {
                if old.vm.spec.power == PowerState::Stopped {
                    return Err(Refusal::Conflict("the machine is not paused: start it instead".into()));
                }
                new.vm.spec.power = PowerState::Running;
            }
        }
        if new == *old {
            return Ok(Reply::Vm(Arc::new(new.vm)));
        }
        if old.moving.is_some() && !matches!(power, Power::Stop(_)) {
            return Err(being_moved());
        }
        new.vm.meta.generation += u64::from(new.vm.spec != old.vm.spec);
        Ok(self.put(ctx, new))
    }

    pub(super) fn delete_vm(&mut self, ctx: &mut Context<'_>, id: VmId, expect: Option<u64>) -> Outcome {
        let old = self.vms.get(&id).ok_or_else(|| Refusal::not_found("vm", id))?.clone();
        check_expected(&old.vm.meta, expect)?;
        if old.deleting {
            return Ok(Reply::Vm(Arc::new(old.vm.clone())));
        }
        if !matches!(old.vm.status.state, VmState::Stopped | VmState::Failed) {
            return Err(Refusal::Conflict("the machine is running: stop it first".into()));
        }
        let mut new = (*old).clone();
        new.deleting = true;
        new.stop = StopVm { force: true, ..StopVm::default() };
        if new.vm.spec.power != PowerState::Stopped {
            new.vm.spec.power = PowerState::Stopped;
            new.vm.meta.generation += 1;
        }
        Ok(self.put(ctx, new))
    }

    pub(super) fn forget_vm(&mut self, ctx: &mut Context<'_>, id: VmId) -> Outcome {
        let Some(old) = self.vms.get(&id).cloned() else { return Ok(Reply::Done) };
        if !old.deleting {
            return Err(Refusal::Conflict("the machine is not being deleted".into()));
        }
        self.attach(ctx, id, &old.volumes(), &[]);
        self.vms.remove(&id);
        if old.epoch > 0 {
            // It has been on other hosts, which have variables of its firmware.
            let pools: Vec<_> =
                self.pools.values().filter(|p| !p.spec.is_shared()).map(|p| p.meta.id).collect();
            pools.into_iter().for_each(|pool| self.discard_vars(pool, id));
        }
        ctx.changed(Kind::Vm, id.0);
        Ok(Reply::Done)
    }

    pub(super) fn observe_vm(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        status: &VmStatus,
        host_ends: bool,
        by: Option<(HostId, u64)>,
    ) -> Outcome {
        let Some(old) = self.vms.get(&id).cloned() else { return Ok(Reply::Done) };
        if by.is_some_and(|by| (Some(by.0), by.1) != (old.vm.status.host, old.epoch)) {
            return Ok(Reply::Done);
        }
        let mut new = (*old).clone();
        new.vm.status = old.with_place(status.clone());
        // What does not run any more cannot be moved while it runs.
        if !matches!(status.state, VmState::Running | VmState::Paused) {
            new.call_off_move();
        }
        // The guest switched itself off and its policy leaves it so: from now on this is what is wanted. Only where the
        // driver knew the present wish, so that a wish under way is not undone.
        let ended_itself = !host_ends
            && status.state == VmState::Stopped
            && !matches!(old.vm.status.state, VmState::Stopped | VmState::Failed)
            && old.vm.spec.power != PowerState::Stopped
            && old.vm.spec.restart != RestartPolicy::Always
            && status.observed_generation == old.vm.meta.generation;
        if ended_itself {
            new.vm.spec.power = PowerState::Stopped;
            new.vm.meta.generation += 1;
        }
        if new == *old {
            return Ok(Reply::Vm(Arc::new(new.vm)));
        }
        Ok(self.put(ctx, new))
    }

    /// The host booted: none of its machines runs. Those with autostart run again if they did before.
    pub(super) fn host_booted(&mut self, ctx: &mut Context<'_>, host: HostId) -> Vec<(VmId, String)> {
        let mut told = Vec::new();
        self.stop_moves_to(ctx, host);
        let maintenance = self.in_maintenance(host);
        let records: Vec<_> = self.vms.values().filter(|r| r.vm.status.host == Some(host)).cloned().collect();
        for old in records {
            let mut new = (*old).clone();
            // Of one that came at the last moment nothing is left either.
            new.end_move();
            new.vm.status = VmStatus { host: Some(host), ..VmStatus::default() };
            new.unplugged = Unplugged::default();
            self.attach(ctx, old.vm.meta.id, &old.volumes(), &new.volumes());
            if old.vm.spec.power != PowerState::Stopped {
                let never =
                    old.vm.status.state == VmState::Failed && old.vm.spec.restart == RestartPolicy::Never;
                new.vm.spec.power = if maintenance {
                    told.push((
                        old.vm.meta.id,
                        "left stopped after the host's boot (the host is in maintenance)".to_owned(),
                    ));
                    PowerState::Stopped
                } else if old.vm.spec.autostart && !never {
                    told.push((old.vm.meta.id, "started again after the host's boot".to_owned()));
                    PowerState::Running
                } else {
                    told.push((
                        old.vm.meta.id,
                        "left stopped after the host's boot (no autostart)".to_owned(),
                    ));
                    PowerState::Stopped
                };
            }
            if new != *old {
                new.vm.meta.generation += u64::from(new.vm.spec != old.vm.spec);
                self.put(ctx, new);
            }
        }
        told
    }

    /// The machine, unless it is being deleted.
    pub(super) fn usable(&self, id: VmId) -> Result<Arc<VmRecord>, Refusal> {
        let record = self.vms.get(&id).ok_or_else(|| Refusal::not_found("vm", id))?;
        if record.deleting {
            return Err(Refusal::Conflict("the machine is being deleted".into()));
        }
        Ok(record.clone())
    }

    pub(super) fn put(&mut self, ctx: &mut Context<'_>, mut record: VmRecord) -> Reply {
        let id = record.vm.meta.id;
        record.vm.meta.revision = ctx.revision;
        let reply = Reply::Vm(Arc::new(record.vm.clone()));
        self.vms.insert(id, Arc::new(record));
        ctx.changed(Kind::Vm, id.0);
        reply
    }

    /// Checks a specification against the other objects and fills in what was left to us: boot and hardware addresses.
    fn completed(&self, id: VmId, spec: &VmSpec, old: Option<&VmSpec>) -> Result<VmSpec, Refusal> {
        let mut errors = spec.validate();
        let mut new = spec.clone();
        for (n, disk) in spec.disks.iter().enumerate() {
            let field = format!("spec.disks[{n}].volume");
            match self.volumes.get(&disk.volume) {
                None => errors.push(FieldError::new(field, format!("there is no volume {}", disk.volume))),
                Some(v) if v.status.attached_to.is_some_and(|other| other != id) => {
                    let why = self.held_by(v).unwrap_or_else(|| {
                        format!(
                            "the volume `{}` belongs to another machine; detach it there first",
                            v.meta.name
                        )
                    });
                    return Err(Refusal::Conflict(format!("{field}: {why}")));
                }
                Some(v) if matches!(v.status.state, VolumeState::Deleting | VolumeState::Failed) => {
                    errors
                        .push(FieldError::new(field, format!("the volume `{}` is not usable", v.meta.name)));
                }
                Some(_) => {}
            }
        }
        match spec.hypervisor {
            Hypervisor::LqVmm if new.boot.is_none() => new.boot = self.default_boot(spec),
            Hypervisor::LqVmm => {}
            // It boots by firmware, and keeps the board it was made with.
            Hypervisor::Qemu => {
                let kept = old.filter(|old| old.firmware == spec.firmware).and_then(|old| old.machine);
                new.machine = spec.machine.or(kept).or(Some(spec.firmware.machine()));
            }
        }
        match &new.boot {
            Some(boot) => {
                self.check_boot("spec.boot", boot, &mut errors);
                if spec.display == Some(true) {
                    let reason = "needs boot by firmware: a kernel booted directly has nothing to show on";
                    errors.push(FieldError::new("spec.display", reason));
                }
            }
            None if new.memory_bytes < MIN_FIRMWARE_MEMORY => errors.push(FieldError::new(
                "spec.memory_bytes",
                format!(
                    "{} is less than the {MIN_FIRMWARE_MEMORY} that boot by firmware needs",
                    new.memory_bytes
                ),
            )),
            None => {}
        }
        new.display = Some(spec.display.unwrap_or(new.boot.is_none()));
        for (n, nic) in spec.nics.iter().enumerate() {
            if !self.networks.contains_key(&nic.network) {
                let reason = format!("there is no network {}", nic.network);
                errors.push(FieldError::new(format!("spec.nics[{n}].network"), reason));
            }
        }
        for (n, image) in spec.cdroms.iter().enumerate().filter_map(|(n, c)| Some((n, c.image?))) {
            errors.extend(self.check_image(format!("spec.cdroms[{n}].image"), image, ImageKind::Iso));
        }
        self.give_macs(id, &mut new, old, &mut errors);
        if errors.is_empty() { Ok(new) } else { Err(Refusal::Validation(errors)) }
    }

    /// Whether the machine can have the functions of its host that it is to have now.
    fn check_functions(&self, old: &VmRecord, vm: &Vm) -> Result<(), Refusal> {
        if !old.at_rest() {
            let why =
                "functions of the host come and go only while the machine is off: stop it, then change this";
            return Err(Refusal::field("spec.passthrough", why));
        }
        let Some(host) = vm.status.host.and_then(|host| self.hosts.get(&host)) else { return Ok(()) };
        let reasons = placement::passthrough::refusals(self, host, Some(vm.meta.id), &vm.spec);
        if reasons.is_empty() {
            return Ok(());
        }
        let name = &host.meta.name;
        Err(Refusal::field("spec.passthrough", format!("the host `{name}` refuses: {}", reasons.join("; "))))
    }

    /// Whether the machine's host has what the machine is to have now.
    fn check_reach(&self, vm: &Vm) -> Result<(), Refusal> {
        let Some(host) = vm.status.host else { return Ok(()) };
        if vm.spec.placement.host.is_some_and(|wanted| wanted != host) {
            let why = "the machine is on another host: it has to be moved there";
            return Err(Refusal::field("spec.placement.host", why));
        }
        for (n, disk) in vm.spec.disks.iter().enumerate() {
            let pool = self.volumes.get(&disk.volume).and_then(|v| v.spec.pool);
            // A shared pool that is not ready there now will be again.
            if pool.and_then(|p| self.pool_host(p)).is_some_and(|of| of != host) {
                let why = "the volume is in a pool of another host";
                return Err(Refusal::field(format!("spec.disks[{n}].volume"), why));
            }
        }
        Ok(())
    }

    fn default_boot(&self, spec: &VmSpec) -> Option<Boot> {
        let volume = self.volumes.get(&spec.disks.first()?.volume)?;
        self.images.get(&volume.spec.source?)?.image.spec.boot.clone()
    }

    /// Checks that kernel and initrd exist and are what they are used as.
    pub(super) fn check_boot(&self, field: &str, boot: &Boot, errors: &mut Vec<FieldError>) {
        errors.extend(self.check_image(format!("{field}.kernel"), boot.kernel, ImageKind::Kernel));
        if let Some(initrd) = boot.initrd {
            errors.extend(self.check_image(format!("{field}.initrd"), initrd, ImageKind::Initrd));
        }
    }

    fn check_image(&self, field: String, id: ImageId, kind: ImageKind) -> Option<FieldError> {
        let reason = match self.images.get(&id) {
            None => format!("there is no image {id}"),
            Some(r) if r.image.spec.kind != kind => {
                format!("the image `{}` is not of the kind `{}`", r.image.meta.name, kind.name())
            }
            Some(_) => return None,
        };
        Some(FieldError::new(field, reason))
    }

    fn give_macs(&self, id: VmId, spec: &mut VmSpec, old: Option<&VmSpec>, errors: &mut Vec<FieldError>) {
        let others = self.vms.values().filter(|r| r.vm.meta.id != id);
        // An address a guest has not let go of is on the wire still.
        let macs = |r: &'_ Arc<VmRecord>| {
            let specified = r.vm.spec.nics.iter().filter_map(|n| n.mac);
            specified.chain(r.unplugged.nics.keys().copied()).collect::<Vec<_>>()
        };
        let mut taken: BTreeSet<Mac> = others.flat_map(macs).collect();
        for (n, nic) in spec.nics.iter().enumerate() {
            if let Some(mac) = nic.mac
                && !taken.insert(mac)
            {
                errors.push(FieldError::new(format!("spec.nics[{n}].mac"), format!("{mac} is in use")));
            }
        }
        for (n, nic) in spec.nics.iter_mut().enumerate() {
            if nic.mac.is_some() {
                continue;
            }
            // An interface that stays on its network keeps its address.
            let kept = old
                .and_then(|o| o.nics.get(n))
                .filter(|o| o.network == nic.network)
                .and_then(|o| o.mac)
                .filter(|mac| !taken.contains(mac));
            let mac = kept.unwrap_or_else(|| {
                let mut candidates = (0u64..).map(|attempt| derived_mac(id, n, attempt));
                candidates.find(|mac| !taken.contains(mac)).unwrap_or_else(|| derived_mac(id, n, 0))
            });
            taken.insert(mac);
            nic.mac = Some(mac);
        }
    }

    /// Whether the machine's host starts machines at all.
    fn check_served(&self, vm: &Vm) -> Result<(), Refusal> {
        let host = vm.status.host.and_then(|h| self.hosts.get(&h));
        match host.filter(|h| h.maintenance.is_some()) {
            Some(host) => Err(Refusal::Conflict(format!(
                "its host `{}` is in maintenance: move the machine to another host, or end the maintenance",
                host.meta.name
            ))),
            None => Ok(()),
        }
    }

    /// The claim for a machine that is to have more memory while it runs: its host has to have as much.
    fn check_growth(&self, old: &VmRecord, new: &Vm) -> Result<(), Refusal> {
        let more = new.spec.memory_bytes.saturating_sub(old.memory());
        if more == Bytes(0) || new.spec.memory_max_bytes.is_none() || old.at_rest() {
            return Ok(());
        }
        let Some(host) = new.status.host.and_then(|host| self.hosts.get(&host)) else { return Ok(()) };
        match placement::free(self, host) {
            Some((free, room)) if more > free => Err(Refusal::Conflict(format!(
                "spec.memory_bytes: {more} more are needed than the machine has, but of {room} for machines its host `{}` has only \
                 {free} left: move the machine to another host first, or have it take less",
                host.meta.name
            ))),
            _ => Ok(()),
        }
    }

    fn check_startable(&self, spec: &VmSpec) -> Result<(), Refusal> {
        for disk in &spec.disks {
            let Some(volume) = self.volumes.get(&disk.volume) else { continue };
            let name = &volume.meta.name;
            if volume.status.state == VolumeState::Creating {
                return Err(Refusal::Conflict(format!(
                    "the volume `{name}` is still being made: wait for it"
                )));
            }
            if volume.spec.size_bytes.is_some_and(|wanted| wanted != volume.status.size_bytes) {
                return Err(Refusal::Conflict(format!("the volume `{name}` is being grown: wait for it")));
            }
        }
        Ok(())
    }

    /// Makes `attached_to` of the volumes that were and are the machine's say so.
    pub(super) fn attach(&mut self, ctx: &mut Context<'_>, id: VmId, old: &[VolumeId], new: &[VolumeId]) {
        for (volume, to) in old
            .iter()
            .filter(|v| !new.contains(v))
            .map(|v| (v, None))
            .chain(new.iter().filter(|v| !old.contains(v)).map(|v| (v, Some(id))))
        {
            if let Some(record) = self.volumes.get_mut(volume) {
                let record = Arc::make_mut(record);
                record.status.attached_to = to;
                record.meta.revision = ctx.revision;
                ctx.changed(Kind::Volume, volume.0);
            }
        }
    }
}

impl VmRecord {
    /// A new machine.
    #[must_use]
    pub fn new(vm: Vm) -> Self {
        Self {
            vm,
            stop: StopVm::default(),
            reset_count: 0,
            deleting: false,
            epoch: 0,
            moving: None,
            returned: None,
            vars: None,
            guard: None,
            unplugged: Unplugged::default(),
            hardware: None,
        }
    }

    /// Memory it takes of its host where it runs: what it is to have, or still has.
    #[must_use]
    pub fn memory(&self) -> Bytes {
        self.vm.spec.memory_bytes.max(self.vm.status.memory_bytes.unwrap_or_default())
    }

    /// Whether nothing of the machine runs and nothing of it is about to.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        matches!(self.vm.status.state, VmState::Stopped | VmState::Failed)
            && self.vm.spec.power == PowerState::Stopped
            && self.moving.is_none()
    }
}

/// Whether its firmware remembers anything.
fn keeps_variables(spec: &VmSpec) -> bool {
    spec.boot.is_none() && spec.firmware.is_uefi()
}

/// What a machine is made of changes only while it is off.
fn check_board(old: &VmRecord, new: &VmSpec) -> Result<(), Refusal> {
    let was = &old.vm.spec;
    let changed = [
        ("spec.hypervisor", was.hypervisor != new.hypervisor),
        ("spec.machine", was.machine != new.machine),
        ("spec.firmware", was.firmware != new.firmware),
        ("spec.device_model", was.device_model != new.device_model),
    ];
    let why = "changes only while the machine is off: stop it, then change this";
    let refused = changed.into_iter().filter(|(_, changed)| *changed && !old.at_rest());
    let errors: Vec<_> = refused.map(|(field, _)| FieldError::new(field, why)).collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Validation(errors)) }
}

fn being_moved() -> Refusal {
    Refusal::Conflict("the machine is being moved to another host: wait for it, or cancel the move".into())
}

fn not_running() -> Refusal {
    Refusal::Conflict("the machine is not running: start it first".into())
}

pub(super) fn disks_of(spec: &VmSpec) -> Vec<VolumeId> {
    spec.disks.iter().map(|d| d.volume).collect()
}

fn derived_mac(vm: VmId, nic: usize, attempt: u64) -> Mac {
    let hash = Sha256::new()
        .chain_update(vm.0.as_bytes())
        .chain_update((nic as u64).to_le_bytes())
        .chain_update(attempt.to_le_bytes())
        .finalize();
    let [p0, p1] = MAC_PREFIX;
    let at = |n: usize| hash.get(n).copied().unwrap_or_default();
    Mac([p0, p1, at(0), at(1), at(2), at(3)])
}
