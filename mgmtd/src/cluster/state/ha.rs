//! High availability in the agreed state: who owns a protected machine, in which epoch, and since when all that runs of it
//! runs under a lease.
//!
//! ```text
//!            spec.ha set                GuardVm (its host: what runs holds a lease)
//!   free ────────────────▶ asked ─────────────────────────────────────────────────▶ held ──┐ FailOver:
//!    ▲                       │                                                      │ ▲    │ later epoch, another host
//!    └──── spec.ha unset ────┴──────────────────────────────────────────────────────┘ └────┘
//! ```
//! Invariants
//! - Only a machine that is held fails over: of one that is not, something may run that no lease ends, unless its host is off.
//! - A fail-over names owner and epoch it is decided of, and the term it is decided in; where one of them is another by then,
//!   it is refused. (The term is compared with that of the log entry, in `cluster::machine`.)
//! - A move takes the guard along ([`moves`](super::moves)): what runs of a held machine on the new host, or on the old one that
//!   took it back, runs under a lease of the next epoch. A fail-over ends the move: the host that is lost is the one that owns the
//!   machine then, so one whose new host has it already does not fail over with the old one. A place that waits for the machine
//!   is of the next epoch, so what fails over is of the one after that: nobody takes the place for the machine.
//! - Leases of an older epoch of the cluster (`state::epoch`) end for nobody here: what is placed on a host that was lost with it
//!   stays there until the host is off for certain, or joins anew.
//! - The epoch of a machine grows with each owner. A host runs a machine in the epoch it owns it in, and in no other.

use super::{
    Kind, Outcome, Refusal, Reply, State, VmRecord,
    apply::{Context, check_expected},
};
use crate::placement::{self, Request};
use lq_api::{
    HostId, VmId,
    balance::BalanceSpec,
    ha::HaSpec,
    time::TimeSpec,
    vm::{PowerState, VmSpec, VmStatus},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// That a machine is to run only under leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Log position at which it was asked for.
    pub since: u64,
    /// The epoch in which nothing of it runs without a lease, as its host said, or as it has been so from the beginning.
    pub held: Option<u64>,
}

impl VmRecord {
    /// Whether all that runs of it runs under a lease.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guard.is_some_and(|g| g.held == Some(self.epoch))
    }

    /// Whether its host is to run it under leases.
    #[must_use]
    pub fn runs_leased(&self) -> bool {
        self.guard.is_some()
    }

    /// Follows a changed specification.
    pub(super) fn guard_by(&mut self, old: &VmSpec, revision: u64) {
        match (old.protection().is_some(), self.vm.spec.protection().is_some()) {
            (false, true) => self.guard = Some(Guard { since: revision, held: None }),
            (true, false) => self.guard = None,
            _ => {}
        }
    }

    /// Of a machine that never ran.
    pub(super) fn guard_new(&mut self, revision: u64) {
        let protected = self.vm.spec.protection().is_some();
        self.guard = protected.then_some(Guard { since: revision, held: Some(self.epoch) });
    }
}

impl State {
    /// What is wanted of high availability.
    #[must_use]
    pub fn ha(&self) -> HaSpec {
        self.cluster.as_ref().map(|c| c.ha).unwrap_or_default()
    }

    pub(super) fn set_ha(&mut self, spec: HaSpec) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(|| Refusal::not_found("cluster", "yet"))?;
        cluster.ha = spec;
        Ok(Reply::Done)
    }

    /// What is wanted of balancing.
    #[must_use]
    pub fn balance(&self) -> BalanceSpec {
        self.cluster.as_ref().map(|c| c.balance).unwrap_or_default()
    }

    /// What the clocks of all hosts follow.
    #[must_use]
    pub fn time(&self) -> TimeSpec {
        self.cluster.as_ref().map(|c| c.time.clone()).unwrap_or_default()
    }

    pub(super) fn set_time(&mut self, spec: &TimeSpec) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(|| Refusal::not_found("cluster", "yet"))?;
        cluster.time = spec.clone();
        Ok(Reply::Done)
    }

    pub(super) fn set_balance(&mut self, spec: BalanceSpec) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(|| Refusal::not_found("cluster", "yet"))?;
        cluster.balance = spec;
        Ok(Reply::Done)
    }

    /// The host says that nothing of the machine runs without a lease.
    pub(super) fn guard_vm(&mut self, id: VmId, host: HostId, epoch: u64, since: u64) -> Outcome {
        let Some(record) = self.vms.get_mut(&id) else { return Ok(Reply::Done) };
        let now = record.guard.is_some_and(|g| g.since == since);
        if !now || record.epoch != epoch || record.vm.status.host != Some(host) {
            return Err(Refusal::Conflict("this is about the machine as it was before".into()));
        }
        // Nothing that anyone sees of the machine has changed.
        Arc::make_mut(record).guard = Some(Guard { since, held: Some(epoch) });
        Ok(Reply::Done)
    }

    /// The machine becomes another host's because its own is lost.
    pub(super) fn fail_over(
        &mut self,
        ctx: &mut Context<'_>,
        id: VmId,
        (from, epoch): (HostId, u64),
        to: HostId,
        past_places: bool,
    ) -> Outcome {
        let old = self.usable(id)?;
        if old.vm.status.host != Some(from) || old.epoch != epoch {
            return Err(Refusal::Conflict("the machine is another host's, or has been meanwhile".into()));
        }
        if self.may_run_elsewhere(from) {
            return Err(Refusal::Conflict("its host may go on in an older epoch of the cluster".into()));
        }
        if !old.is_guarded() && !self.is_off(from) {
            return Err(Refusal::Conflict("it may run without a lease".into()));
        }
        if old.vm.spec.power == PowerState::Stopped {
            return Err(Refusal::Conflict("the machine is not wanted running".into()));
        }
        let host = self.hosts.get(&to).ok_or_else(|| Refusal::not_found("host", to))?;
        if from == to {
            return Err(Refusal::field("host", "the machine is there already"));
        }
        let reasons = placement::refusals(self, host, Request::anew(&old.vm));
        if !reasons.is_empty() {
            return Err(Refusal::NoRoom(reasons.join("; ")));
        }
        let mut new = (*old).clone();
        // Where it was on its way, it is no longer: whoever waits for it, or keeps it standing still, has nothing to do with it.
        new.end_move();
        new.vm.status = VmStatus::default();
        new.give_to(to, if past_places { new.epoch_past_places() } else { new.next_epoch() });
        // The new host knows of the lease from the first moment.
        new.guard = new.guard.map(|g| Guard { held: Some(new.epoch), ..g });
        Ok(self.put(ctx, new))
    }

    /// A person says that the host is off since it was last heard.
    pub(super) fn confirm_off(&mut self, ctx: &mut Context<'_>, id: HostId, expect: Option<u64>) -> Outcome {
        let old = self.hosts.get(&id).ok_or_else(|| Refusal::not_found("host", id))?;
        check_expected(&old.meta, expect)?;
        let Some(boot) = old.boot else {
            return Err(Refusal::Conflict("the host has never said that it started".into()));
        };
        self.set_off(ctx, id, Some(boot), false);
        Ok(Reply::Done)
    }

    /// The host's BMC says that it is off; it was last known in this boot when that was asked.
    pub(super) fn prove_off(&mut self, ctx: &mut Context<'_>, id: HostId, boot: Uuid) -> Outcome {
        let host = self.hosts.get(&id).ok_or_else(|| Refusal::not_found("host", id))?;
        if host.boot != Some(boot) {
            return Err(Refusal::Conflict("the host has started anew since its BMC was asked".into()));
        }
        if host.off != Some(boot) {
            self.set_off(ctx, id, Some(boot), true);
        }
        Ok(Reply::Done)
    }

    /// The host was heard in this boot: it is not off.
    pub(super) fn revoke_off(&mut self, ctx: &mut Context<'_>, id: HostId, boot: Uuid) -> Outcome {
        if self.hosts.get(&id).is_some_and(|h| h.off == Some(boot)) {
            self.set_off(ctx, id, None, false);
        }
        Ok(Reply::Done)
    }

    fn set_off(&mut self, ctx: &mut Context<'_>, id: HostId, off: Option<Uuid>, by_bmc: bool) {
        if let Some(record) = self.hosts.get_mut(&id).filter(|h| h.off != off) {
            let record = Arc::make_mut(record);
            record.off = off;
            record.off_by_bmc = by_bmc;
            record.meta.revision = ctx.revision;
            ctx.changed(Kind::Host, id.0);
        }
    }

    /// Whether the host may still run its machines under leases that nobody of this epoch grants: the cluster was formed anew
    /// without it, and it, with others, may be a majority of the one before.
    #[must_use]
    pub fn may_run_elsewhere(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.lost.is_some()) && !self.is_off(id)
    }

    /// Whether the host is known to be off since its last boot.
    #[must_use]
    pub fn is_off(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.off.is_some() && h.off == h.boot)
    }
}

#[cfg(test)]
#[path = "ha_tests.rs"]
mod tests;
