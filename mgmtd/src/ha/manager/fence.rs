//! When the BMC of a silent host is asked, and what its word counts for.
//!
//! ```text
//!   Silent ──▶ Look: is it off? ── off ──────────────────────────▶ ProvenOff
//!                   │ on                                              ▲
//!                   ▼ its lease is over (what it runs stands still)   │ off
//!              Cut: switch it off ────────────────────────────────────┘
//! ```
//! Rules
//! - Only a leader whom a majority has followed for `settle` asks: the smaller part of a cluster switches nobody off.
//! - Only while high availability is armed, of a host that is not in maintenance, and for a machine that can be started elsewhere.
//! - Nothing is cut before the lease is over: until then a daemon that starts again, or a cable that is put back, costs nothing.
//! - One question to a host at a time. What is answered counts only where the host was not heard since it was asked, and only of the
//!   boot it was asked in.
//! - No answer, or no, changes nothing: the lease and all margins end as they do without a BMC.

use super::{Decision, Host, Manager, Moment, Phase, View};
use lq_api::HostId;
use uuid::Uuid;

/// Pause before a BMC that was no help is asked again, in milliseconds.
const AGAIN: u64 = 5_000;

/// What is asked of a BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whether the host is off.
    Look,
    /// To switch it off, and to say when it is.
    Cut,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// The host is off.
    Off,
    /// It is on. Only of [`Ask::Look`].
    On,
    /// It is not known, and why.
    Failed(String),
}

/// How the BMC of a host was asked in this silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence {
    /// What, since when, of which boot.
    asking: Option<(Ask, Moment, Uuid)>,
    /// Not asked again before.
    again: Moment,
    /// What it answered last.
    last: Option<Fenced>,
}

impl Host {
    /// From then on nothing it runs under a lease begins a write.
    fn lease_over(&self, watchdog: u64) -> Moment {
        Moment(self.over.0.saturating_sub(watchdog))
    }
}

impl Manager {
    /// Which BMCs are to be asked at `now`.
    pub(super) fn fence(&mut self, now: Moment, leads: bool, view: &View, out: &mut Vec<Decision>) {
        let (settle, watchdog) = (self.terms.settle, self.terms.watchdog);
        let settled = leads && self.followed.is_some_and(|f| now.since(f) >= settle);
        for (id, host) in &mut self.hosts {
            if matches!(host.phase, Phase::Present | Phase::Unheard) {
                host.fence = Fence::default();
                continue;
            }
            let Some(seen) = view.hosts.get(id).filter(|seen| seen.bmc && !seen.off && !seen.maintenance)
            else {
                continue;
            };
            let Some(boot) = seen.boot else { continue };
            // Of a lost host only what runs without a lease still waits for its being off.
            let helped = view.machines.iter().any(|m| {
                m.host == *id
                    && m.wanted
                    && m.obstacle.is_none()
                    && (host.phase == Phase::Silent || !m.guarded)
            });
            if !settled || !view.armed || !helped || host.fence.asking.is_some() || now < host.fence.again {
                continue;
            }
            let over = host.lease_over(watchdog);
            if now < over && host.fence.last == Some(Fenced::On) {
                continue;
            }
            let ask = if now < over { Ask::Look } else { Ask::Cut };
            host.fence.asking = Some((ask, now, boot));
            out.push(Decision::Fence { id: *id, boot, ask });
        }
    }

    /// Whether the host may still be switched off, asked with the power switch in hand.
    pub fn may_cut(
        &mut self,
        now: Moment,
        followed: Option<Moment>,
        id: HostId,
        boot: Uuid,
        view: &View,
    ) -> Result<(), &'static str> {
        if !self.leads(now, followed) {
            return Err("no majority of the voters follows any more");
        }
        let seen = view.hosts.get(&id).ok_or("it is no host of the cluster any more")?;
        let host = self.hosts.get(&id).ok_or("it is not watched any more")?;
        match &host.fence.asking {
            _ if !matches!(host.phase, Phase::Silent | Phase::Lost) => Err("it beats again"),
            Some((Ask::Cut, at, of)) if *of == boot => match () {
                () if host.heard.is_some_and(|heard| heard > *at) => Err("it was heard again"),
                () if seen.boot != Some(boot) => Err("it has started anew"),
                () if !view.armed => Err("high availability was disarmed"),
                () if seen.maintenance => Err("it is in maintenance"),
                () => Ok(()),
            },
            _ => Err("it was asked of another silence"),
        }
    }

    /// A BMC answered, or did not.
    pub fn fenced(&mut self, now: Moment, id: HostId, boot: Uuid, answer: Fenced) -> Vec<Decision> {
        let Some(host) = self.hosts.get_mut(&id) else { return vec![] };
        let Some((ask, at, _)) = host.fence.asking.take_if(|(_, _, of)| *of == boot) else { return vec![] };
        let heard = host.heard.is_some_and(|heard| heard > at);
        host.fence.again = match answer {
            Fenced::On => now,
            Fenced::Off | Fenced::Failed(_) => now.later(AGAIN),
        };
        host.fence.last = Some(answer.clone());
        match answer {
            // It came back meanwhile: whatever its BMC says is of a host that was there.
            _ if heard => vec![],
            Fenced::Off => vec![Decision::ProvenOff { id, boot, ask }],
            Fenced::On => vec![],
            Fenced::Failed(why) => vec![Decision::NotFenced(id, why)],
        }
    }

    /// How it stands with the BMC of a host that is silent.
    #[must_use]
    pub fn fencing(&self, id: HostId) -> Option<(Option<Ask>, Option<&Fenced>)> {
        let fence = &self.hosts.get(&id)?.fence;
        let asking = fence.asking.map(|(ask, ..)| ask);
        (asking.is_some() || fence.last.is_some()).then_some((asking, fence.last.as_ref()))
    }
}
