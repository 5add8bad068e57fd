//! The control thread's part of the lease: it follows requests and the clock, moves the fence, and has the operator halt the
//! machine and let it go on.

use super::{
    operator::{Job, Ticket},
    server::Server,
};
use crate::{
    lease::{
        Effect, Lease, Moment, Refusal,
        fence::{self, Fence},
    },
    timer::Timer,
};
use lq_api::local::vmm::{
    Event, ExitReason, ExitRecord, LeaseConfig, LeaseEnd, LeaseGrant, LeaseRelease, LeaseStatus, Outcome,
    default_grace, default_margin,
};
use std::{io, sync::Arc, time::Duration};

/// The lease, its fence, and the timer of what is next.
pub struct Leased {
    lease: Lease,
    fence: Arc<Fence>,
    timer: Timer,
}

fn end(until: LeaseEnd) -> Moment {
    match until {
        LeaseEnd::BootMs(millis) => Moment::of_millis(millis),
        LeaseEnd::RemainingMs(millis) => Moment(fence::now().0.saturating_add(Moment::of_millis(millis).0)),
    }
}

impl Leased {
    /// With what the configuration says; `fence` is what the disks look at.
    ///
    /// # Errors
    /// The first grant is past already, or there is no timer.
    pub fn new(config: Option<&LeaseConfig>, fence: Arc<Fence>) -> io::Result<Self> {
        let millis = |millis: u32| Duration::from_millis(millis.into());
        let margin = millis(config.map_or(default_margin(), |config| config.margin_ms));
        let grace = millis(config.map_or(default_grace(), |config| config.grace_ms));
        let mut lease = Lease::none(margin, grace);
        if let Some(LeaseConfig { grant: LeaseGrant { epoch, until }, .. }) = config {
            lease.set(fence::now(), *epoch, end(*until)).map_err(io::Error::other)?;
        }
        let leased = Self { lease, fence, timer: Timer::boot()? };
        leased.follow()?;
        Ok(leased)
    }

    fn follow(&self) -> io::Result<()> {
        self.fence.follow(&self.lease);
        self.timer.at(self.lease.next())
    }

    /// Readable when something is to be done.
    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    pub(super) fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    pub(super) fn status(&self) -> Option<LeaseStatus> {
        self.lease.status()
    }
}

impl Server {
    /// A grant came. `None`: the answer comes later.
    pub(super) fn lease_set(&mut self, grant: LeaseGrant, ticket: Ticket) -> Option<Outcome> {
        let LeaseGrant { epoch, until } = grant;
        let effect = self.leased.lease.set(fence::now(), epoch, end(until));
        self.lease_changed(effect, ticket)
    }

    /// The lease is given back. `None`: the answer comes later.
    pub(super) fn lease_release(&mut self, release: LeaseRelease, ticket: Ticket) -> Option<Outcome> {
        let effect = self.leased.lease.release(fence::now(), release.epoch, release.run_on);
        self.lease_changed(effect, ticket)
    }

    fn lease_changed(&mut self, effect: Result<Effect, Refusal>, ticket: Ticket) -> Option<Outcome> {
        match effect {
            Ok(Effect::None) => {
                self.follow_lease();
                Some(Outcome::Done)
            }
            Ok(effect) => {
                // A request never ends the monitor at once.
                drop(self.lease_effect(effect, Some(ticket)));
                None
            }
            Err(refusal) => Some(Outcome::Error(refusal.to_string())),
        }
    }

    /// The lease's time has come. A record: the process ends now.
    pub(super) fn lease_timer(&mut self) -> Option<ExitRecord> {
        // Whether it came or was moved meanwhile: the clock decides.
        let _ = self.leased.timer.take();
        let effect = self.leased.lease.tick(fence::now());
        self.lease_effect(effect, None)
    }

    /// The machine is another host's, or is back from there.
    pub(super) fn lease_away(&mut self, away: bool) {
        self.leased.lease.set_away(away);
        self.follow_lease();
    }

    fn lease_effect(&mut self, effect: Effect, ticket: Option<Ticket>) -> Option<ExitRecord> {
        // Before anyone is asked to act on it.
        self.follow_lease();
        match effect {
            Effect::None => return None,
            Effect::Stop(deadline) => self.submit(Job::Fence(deadline), ticket),
            Effect::GoOn => self.submit(Job::Unfence, ticket),
            // No disk is touched any more, nor waited for.
            Effect::End => {
                let detail = "the lease of the machine ran out and was not granted again".to_owned();
                return Some(ExitRecord { reason: ExitReason::LeaseLost, detail });
            }
        }
        if let Some(status) = self.leased.status() {
            self.tell(&Event::Lease(status));
        }
        None
    }

    fn follow_lease(&mut self) {
        if let Err(error) = self.leased.follow() {
            // The fence has moved all the same: only the halt would come late.
            eprintln!("lq-vmm: the timer of the lease cannot be set: {error}");
        }
    }
}
