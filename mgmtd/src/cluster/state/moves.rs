//! Machines that change their host: who may run one, at every moment, and in which epoch.
//!
//! ```text
//!             BeginMove               SwitchMove (the new host is the owner, in the next epoch)
//!   at home ────────────▶ begun ────────────────────▶ switched ── ConfirmMove ──▶ at home on the new host
//!      ▲                    │                             │
//!      └──── EndMove ◀──────┘                             └───── ReturnMove ───▶ at home on the old one, in the next epoch
//! ```
//! The state is the judge between the two hosts. Both act on these rules ([`HostRole`]):
//! - the old host lets go of the machine (passes on the monitor's last word) only after `SwitchMove` was applied;
//! - after it, the old host keeps what it has standing still, and takes it up again only after `ReturnMove`;
//! - the new host starts the machine from nothing only after `ConfirmMove`, which it asks for once it knows that the machine
//!   arrived, or cannot tell that it never ran; it gives the machine back only where it knows that it never ran and never will;
//! - each of these commands names the move, and is refused where that move is not, or not any more, at the step before: of two
//!   hosts that want different things one is refused.
//!
//! A protected machine whose owner is lost fails over ([`ha`](super::ha)), which ends the move, whatever step it is at, by a later
//! epoch than the one in which a place waits for the machine. What the old host has kept standing still is of the past then, even
//! if the machine becomes its own again: only `ReturnMove` says that it may be taken up ([`VmRecord::has_returned`]).
//!
//! While a machine moves nothing of it is changed. What waits for it is made as it is (`BeginMove::hardware`), which is not always
//! as it is wanted.
//!
//! So whatever is lost or dies, at most one host runs the machine, and always exactly one owns it.

use super::{
    Outcome, Refusal, Reply, State, Unplugged, VmRecord,
    apply::{Context, check_expected},
};
use crate::{
    hardware::Hardware,
    placement::{self, Request},
};
use lq_api::{
    HostId, VmId,
    vm::{PowerState, VmState, VmStatus},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// A move under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which; never used again.
    pub id: Uuid,
    /// From this host.
    pub from: HostId,
    /// To this one.
    pub to: HostId,
    /// The new host owns the machine.
    pub switched: bool,
}

/// What a host is to a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRole {
    /// It runs it as is wanted.
    #[default]
    Owner,
    /// It runs it as is wanted, while it moves away.
    Leaving(Uuid),
    /// It makes a place for it.
    Arriving(Uuid),
    /// It owns it, and finds out whether it has arrived.
    Settling(Uuid),
    /// It keeps what it has of it, standing still: it may have to take it back.
    Left(Uuid),
}

impl VmRecord {
    /// What a host is to the machine; `None`: nothing.
    #[must_use]
    pub fn role(&self, host: HostId) -> Option<HostRole> {
        let owns = self.vm.status.host == Some(host);
        match self.moving {
            None => owns.then_some(HostRole::Owner),
            Some(m) if !m.switched && owns => Some(HostRole::Leaving(m.id)),
            Some(m) if !m.switched && m.to == host => Some(HostRole::Arriving(m.id)),
            Some(m) if m.switched && owns => Some(HostRole::Settling(m.id)),
            Some(m) if m.switched && m.from == host => Some(HostRole::Left(m.id)),
            Some(_) => None,
        }
    }

    /// The epoch in which what a host has of the machine may run: its own, or the next one where it waits for the machine. `None`
    /// also where it stands still because it may have to be taken back.
    #[must_use]
    pub fn runs_on(&self, host: HostId) -> Option<u64> {
        match self.role(host)? {
            HostRole::Owner | HostRole::Leaving(_) | HostRole::Settling(_) => Some(self.epoch),
            HostRole::Arriving(_) => Some(self.next_epoch()),
            HostRole::Left(_) => None,
        }
    }

    /// Whether what was seen is of what is wanted now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.vm.status.observed_generation == self.vm.meta.generation
    }

    /// What was seen of the machine, with what only the state says of its place.
    #[must_use]
    pub fn with_place(&self, seen: VmStatus) -> VmStatus {
        VmStatus { host: self.vm.status.host, moving_to: self.vm.status.moving_to, ..seen }
    }

    /// Ends the move, with the machine where it is.
    pub(super) fn end_move(&mut self) {
        self.moving = None;
        self.hardware = None;
        self.vm.status.moving_to = None;
    }

    /// Ends the move, unless the machine is the other host's already.
    pub(super) fn call_off_move(&mut self) {
        if self.moving.is_some_and(|m| !m.switched) {
            self.end_move();
        }
    }

    /// The epoch in which what waits for the machine on another host is to run it.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        self.epoch + 1
    }

    /// The epoch in which a host runs the machine that gets it otherwise than by a move of the running machine. It is not the next
    /// one: a place that still waits for the machine there is of that, and would be taken for the machine.
    pub(super) fn epoch_past_places(&self) -> u64 {
        self.epoch + 2
    }

    /// Makes the machine another host's, in that later epoch. One of which nothing ran without a lease is so there too: a monitor
    /// takes in what had a lease only with one of its own.
    pub(crate) fn give_to(&mut self, host: HostId, epoch: u64) {
        let guarded = self.is_guarded();
        self.vm.status.host = Some(host);
        self.vm.status.moving_to = None;
        self.vm.status.pid = None;
        self.epoch = epoch;
        if let Some(guard) = self.guard.as_mut().filter(|_| guarded) {
            guard.held = Some(self.epoch);
        }
    }

    /// Whether the machine came back from another host without having run there, so that what its host has kept of it, standing
    /// still since the epoch before the last, is what it was.
    #[must_use]
    pub fn has_returned(&self) -> bool {
        self.returned == Some(self.epoch)
    }
}

impl State {
    pub(super) fn begin_move(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        expect: Option<u64>,
        (moving, to): (Uuid, HostId),
        hardware: Option<Arc<Hardware>>,
    ) -> Outcome {
        let old = self.usable(id)?;
        check_expected(&old.vm.meta, expect)?;
        let from = self.may_move(&old, to)?;
        let runs = matches!(old.vm.status.state, VmState::Running | VmState::Paused);
        if !runs || old.vm.spec.power == PowerState::Stopped {
            return Err(Refusal::Conflict(
                "the machine neither runs nor is it at rest: it is moved once it has started or stopped"
                    .into(),
            ));
        }
        self.check_still(&old)?;
        let mut new = (*old).clone();
        new.hardware = hardware;
        new.moving = Some(Move { id: moving, from, to, switched: false });
        new.vm.status.moving_to = Some(to);
        Ok(self.put(ctx, new))
    }

    /// Whether the machine may go to that host at all; the host it is on.
    pub fn may_move(&self, record: &VmRecord, to: HostId) -> Result<HostId, Refusal> {
        if record.moving.is_some() {
            return Err(Refusal::Conflict("the machine is being moved already".into()));
        }
        let from = record.vm.status.host.ok_or_else(|| Refusal::not_found("host", "of the machine"))?;
        let host = self.hosts.get(&to).ok_or_else(|| Refusal::not_found("host", to))?;
        if from == to {
            return Err(Refusal::field("host", "the machine is there already"));
        }
        if self.may_run_elsewhere(from) {
            return Err(Refusal::Conflict(
                "its host may go on in an older epoch of the cluster: let it join again, or confirm that it is off".into(),
            ));
        }
        let reasons = placement::refusals(self, host, Request::going_on(&record.vm));
        if reasons.is_empty() { Ok(from) } else { Err(Refusal::NoRoom(reasons.join("; "))) }
    }

    pub(super) fn switch_move(&mut self, ctx: &mut Context<'_>, id: VmId, moving: Uuid) -> Outcome {
        let old = self.usable(id)?;
        match old.moving {
            Some(m) if m.id == moving && !m.switched => {
                let mut new = (*old).clone();
                new.moving = Some(Move { switched: true, ..m });
                new.give_to(m.to, new.next_epoch());
                Ok(self.put(ctx, new))
            }
            // The answer to the first may have been lost.
            Some(m) if m.id == moving => Ok(Reply::Vm(Arc::new(old.vm.clone()))),
            _ => Err(over()),
        }
    }

    pub(super) fn end_move(&mut self, ctx: &mut Context<'_>, id: VmId, moving: Uuid) -> Outcome {
        let Some(old) = self.vms.get(&id).cloned() else { return Ok(Reply::Done) };
        match old.moving {
            Some(m) if m.id == moving && !m.switched => {
                let mut new = (*old).clone();
                new.end_move();
                Ok(self.put(ctx, new))
            }
            Some(m) if m.id == moving => {
                Err(Refusal::Conflict("the machine is the other host's already".into()))
            }
            _ => Ok(Reply::Vm(Arc::new(old.vm.clone()))),
        }
    }

    pub(super) fn confirm_move(&mut self, ctx: &mut Context<'_>, id: VmId, moving: Uuid) -> Outcome {
        let mut new = self.switched(id, moving)?;
        new.end_move();
        Ok(self.put(ctx, new))
    }

    pub(super) fn return_move(&mut self, ctx: &mut Context<'_>, id: VmId, moving: Uuid) -> Outcome {
        let mut new = self.switched(id, moving)?;
        let Some(m) = new.moving else { return Err(over()) };
        if !self.hosts.contains_key(&m.from) {
            return Err(Refusal::not_found("host", m.from));
        }
        new.end_move();
        new.give_to(m.from, new.next_epoch());
        new.returned = Some(new.epoch);
        Ok(self.put(ctx, new))
    }

    /// The machine, where this move of it was switched and is not over.
    fn switched(&self, id: VmId, moving: Uuid) -> Result<VmRecord, Refusal> {
        let record = self.vms.get(&id).filter(|r| r.moving.is_some_and(|m| m.id == moving && m.switched));
        record.map(|r| (**r).clone()).ok_or_else(over)
    }

    pub(super) fn reassign_vm(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        expect: Option<u64>,
        to: HostId,
    ) -> Outcome {
        let old = self.usable(id)?;
        check_expected(&old.vm.meta, expect)?;
        if !old.at_rest() {
            return Err(Refusal::Conflict("the machine is not at rest".into()));
        }
        // Until then its driver may be starting what was told to stop again.
        if !old.is_settled() {
            return Err(Refusal::Conflict(
                "the machine's host has not said yet that it is at rest: try again in a moment".into(),
            ));
        }
        self.may_move(&old, to)?;
        let mut new = (*old).clone();
        // Its host has said that nothing of it runs.
        new.unplugged = Unplugged::default();
        self.attach(ctx, id, &old.volumes(), &new.volumes());
        new.give_to(to, new.epoch_past_places());
        Ok(self.put(ctx, new))
    }

    /// Ends the moves to a host that can take none: it booted, or it is removed.
    pub(super) fn stop_moves_to(&mut self, ctx: &mut Context<'_>, host: HostId) {
        let to_it = |r: &&Arc<VmRecord>| r.moving.is_some_and(|m| m.to == host && !m.switched);
        let records: Vec<_> = self.vms.values().filter(to_it).cloned().collect();
        for old in records {
            let mut new = (*old).clone();
            new.end_move();
            self.put(ctx, new);
        }
    }

    /// Machines a host has anything to do with.
    pub fn machines_of(&self, host: HostId) -> impl Iterator<Item = (&VmRecord, HostRole)> {
        self.vms.values().filter_map(move |r| Some((&**r, r.role(host)?)))
    }
}

fn over() -> Refusal {
    Refusal::Conflict("this move of the machine is over".into())
}
