//! The leader's part: answers beats, looks at the manager's decisions four times a second, and carries them out.
//!
//! ```text
//!   this host leads (a new term) ──▶ everything of earlier terms applied ──▶ Manager ──▶ term over: it is dropped
//! ```

use super::{
    Answer, Beat, Watchdog, boot_ms,
    fence::{self, Boards},
    manager::{Ask, Decision, Fenced, Manager, Moment, Outcome, Phase, Proof, Terms, View, Wait},
    suspended_ms,
    view::{self, Planner},
};
use crate::{
    cluster::{Cluster, DecideError, Op, State},
    telemetry::Events,
};
use lq_api::{HostId, VmId, event::EventLevel};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// The leader's part. It sleeps on hosts that do not lead.
pub struct Leader {
    cluster: Cluster,
    events: Events,
    boards: Arc<Boards>,
    now: Mutex<Option<Lead>>,
}

/// A term of this host.
struct Lead {
    term: u64,
    manager: Manager,
    awake: Awake,
    watchdogs: BTreeMap<HostId, Watchdog>,
}

/// What is known of a host, for people.
#[derive(Clone, Debug)]
pub(super) struct HostReport {
    pub(super) phase: Phase,
    pub(super) heard_ago: Option<u64>,
    pub(super) over_in: Option<u64>,
    /// What its BMC does, or did.
    pub(super) fence: Option<String>,
    pub(super) watchdog: Option<Watchdog>,
}

/// What is known of a machine, for people.
#[derive(Clone, Debug)]
pub(super) struct MachineReport {
    pub(super) restarting: bool,
    pub(super) wait: Option<Wait>,
}

/// Since when this host has not been suspended. How long ago something was is counted by a clock that stands still meanwhile:
/// what was before does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Awake {
    /// How far the clock that runs through suspend is ahead, in milliseconds.
    ahead: u64,
    since: Moment,
}

/// More than two looks at clocks may differ by, in milliseconds.
const SUSPENDED: u64 = 50;

impl Awake {
    /// Of a term that began then, by the clock that runs through suspend, which was so far ahead of the one that does not.
    pub(super) fn new(ahead: u64, since: Moment) -> Self {
        Self { ahead, since }
    }

    /// The moment at which a majority followed, where that is certain.
    pub(super) fn followed(&mut self, now: Moment, ahead: u64, ago: Option<Duration>) -> Option<Moment> {
        if ahead > self.ahead.saturating_add(SUSPENDED) {
            self.since = now;
        }
        self.ahead = ahead;
        let ago = u64::try_from(ago?.as_millis()).ok()?.saturating_add(1);
        Some(Moment(now.0.saturating_sub(ago))).filter(|at| *at >= self.since)
    }
}

impl Leader {
    /// Follows `cluster` until `end`.
    #[must_use]
    pub fn start(cluster: Cluster, events: Events, boards: Arc<Boards>, end: CancellationToken) -> Arc<Self> {
        let this = Arc::new(Self { cluster, events, boards, now: Mutex::new(None) });
        let watching = this.clone();
        tokio::spawn(async move {
            loop {
                watching.look().await;
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        this
    }

    fn now(&self) -> MutexGuard<'_, Option<Lead>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host was heard.
    pub fn beat(&self, host: HostId, beat: &Beat) -> Answer {
        let (answer, told) = {
            let mut lead = self.now();
            // Asked for with the manager in hand: what follows is of one term.
            let now = Moment(boot_ms());
            let leading = self.cluster.leading();
            let (Some(lead), Some(leading)) = (lead.as_mut(), leading) else {
                return Answer::Denied("this host does not lead".into());
            };
            if lead.term != leading.term {
                return Answer::Denied("this host has just begun to lead".into());
            }
            let seen = self.cluster.read(|s| s.hosts.contains_key(&host).then(|| view::host(s, host)));
            lead.watchdogs.insert(host, beat.watchdog.clone());
            let followed = lead.awake.followed(now, suspended_ms(), leading.followed);
            lead.manager.beat(now, followed, host, beat, seen.as_ref())
        };
        for decision in told {
            self.tell(&decision);
            if let Decision::NotOff(id, boot) = decision {
                let cluster = self.cluster.clone();
                tokio::spawn(async move {
                    if let Err(e) = cluster.decide(Op::RevokeOff { id, boot }).await {
                        tracing::debug!(error = %e, "that a host is not off could not be noted yet");
                    }
                });
            }
        }
        answer
    }

    async fn look(self: &Arc<Self>) {
        let Some(leading) = self.cluster.leading() else {
            self.now().take();
            return;
        };
        let begun = Moment(boot_ms());
        if self.now().as_ref().is_none_or(|lead| lead.term != leading.term) {
            self.now().take();
            let known = match self.cluster.take_the_lead().await {
                Ok(known) => known,
                Err(e) => {
                    tracing::debug!(error = e, "this host cannot watch the others yet");
                    return;
                }
            };
            if self.cluster.leading().is_none_or(|now| now.term != leading.term) {
                return;
            }
            let manager = Manager::new(Terms::STANDARD, begun, known);
            let awake = Awake::new(suspended_ms(), begun);
            *self.now() = Some(Lead { term: leading.term, manager, awake, watchdogs: BTreeMap::new() });
        }
        let decisions = {
            let mut lead = self.now();
            let Some(Lead { term, manager, awake, .. }) = lead.as_mut() else { return };
            let now = Moment(boot_ms());
            let Some(leading) = self.cluster.leading().filter(|l| l.term == *term) else { return };
            let followed = awake.followed(now, suspended_ms(), leading.followed);
            self.cluster.read(|state| {
                let mut planner = Planner::new(state);
                let place = &mut |machine: &_, usable: &_| planner.place(machine, usable);
                manager.step(now, followed, &self.view(state), place)
            })
        };
        for decision in decisions {
            self.tell(&decision);
            if let Decision::Restart { vm, from, epoch, to } = decision {
                let op = Op::FailOver { id: vm, from, epoch, to, term: leading.term, past_places: true };
                tokio::spawn(self.clone().restart(op, vm, from));
            } else if let Decision::Fence { id, boot, ask } = decision {
                tokio::spawn(self.clone().fence(id, boot, ask, leading.term));
            }
        }
    }

    /// What the manager looks at. The host that leads is there: it is not for its own BMC.
    fn view(&self, state: &State) -> View {
        let mut view = View::of(state);
        if let Some(own) = view.hosts.get_mut(&self.cluster.identity().host) {
            own.bmc = false;
        }
        view
    }

    /// Whether the power of a host may be cut at this moment, in this term.
    fn may_cut(&self, term: u64, id: HostId, boot: Uuid) -> Result<(), &'static str> {
        let mut lead = self.now();
        let over = "this host does not lead any more";
        let leading = self.cluster.leading().filter(|leading| leading.term == term).ok_or(over)?;
        let Lead { manager, awake, .. } = lead.as_mut().filter(|lead| lead.term == term).ok_or(over)?;
        let now = Moment(boot_ms());
        let followed = awake.followed(now, suspended_ms(), leading.followed);
        let allowed = self.cluster.read(|s| manager.may_cut(now, followed, id, boot, &self.view(s)));
        drop(lead);
        if allowed.is_ok() {
            let text = "its lease is over and it is still on: its BMC is told to switch it off";
            self.events.system(EventLevel::Error, "ha.host-cut", format!("host/{id}"), text);
        }
        allowed
    }

    async fn fence(self: Arc<Self>, id: HostId, boot: Uuid, ask: Ask, term: u64) {
        let record = self.cluster.read(|s| s.hosts.get(&id).and_then(|host| host.bmc.clone()));
        let answer = match (record, self.boards.distrusted(id)) {
            (None, _) => Fenced::Failed("the host has none any more".into()),
            (_, Some(why)) => Fenced::Failed(why),
            (Some(record), None) => fence::carry_out(&record, ask, || self.may_cut(term, id, boot)).await,
        };
        let told = {
            let mut lead = self.now();
            let Some(lead) = lead.as_mut().filter(|lead| lead.term == term) else { return };
            lead.manager.fenced(Moment(boot_ms()), id, boot, answer)
        };
        for decision in told {
            self.tell(&decision);
            if let Decision::ProvenOff { id, boot, .. } = decision
                && let Err(e) = self.cluster.decide(Op::ProveOff { id, boot, term }).await
            {
                tracing::warn!(host = %id, error = %e, "that a host is off could not be noted");
            }
        }
    }

    async fn restart(self: Arc<Self>, op: Op, vm: VmId, from: HostId) {
        let Op::FailOver { to, term, .. } = op else { return };
        let decided = self.cluster.decide(op).await;
        let known = self.cluster.read_at(|_, index| index);
        let outcome = match &decided {
            Ok(_) => Outcome::Done(known),
            Err(DecideError::Refused(_)) => Outcome::Refused(known),
            // The manager goes on denying this host leases for as long as the term lasts: it is not known what happened.
            Err(DecideError::Over(e)) => {
                tracing::warn!(%vm, error = e, "it is not known whether the machine becomes another host's");
                return;
            }
        };
        if let Some(lead) = self.now().as_mut().filter(|lead| lead.term == term) {
            lead.manager.outcome(Moment(boot_ms()), vm, from, outcome);
        }
        let (level, kind, text) = match decided {
            Ok(_) => (
                EventLevel::Warning,
                "ha.restarted",
                format!("its host {} is lost: it is started on {}", self.name(from), self.name(to)),
            ),
            Err(e) => (EventLevel::Info, "ha.waiting", format!("it could not become another host's: {e}")),
        };
        self.events.system(level, kind, format!("vm/{vm}"), text);
    }

    /// Milliseconds since a host was heard; `None` where this host does not watch, or never heard it.
    pub(super) fn heard_ago(&self, host: HostId) -> Option<u64> {
        self.now().as_ref()?.manager.heard_ago(Moment(boot_ms()), host)
    }

    fn name(&self, host: HostId) -> String {
        let name = self.cluster.read(|s| s.hosts.get(&host).map(|r| r.meta.name.clone()));
        name.map_or_else(|| host.to_string(), |name| format!("`{name}`"))
    }

    fn tell(&self, decision: &Decision) {
        let host = |id: &HostId| format!("host/{id}");
        let (level, kind, target, text) = match decision {
            Decision::Silent(id) => (
                EventLevel::Warning,
                "ha.host-silent",
                host(id),
                "it does not beat any more; its protected machines are started elsewhere once its lease is over"
                    .to_owned(),
            ),
            Decision::Back(id) => (EventLevel::Info, "ha.host-back", host(id), "it beats again".to_owned()),
            Decision::Lost(id, proof) => {
                let why = match proof {
                    Proof::LeaseOver => "its lease and all margins are over",
                    Proof::Off => "it is off",
                };
                (EventLevel::Error, "ha.host-lost", host(id), format!("it is lost: {why}"))
            }
            Decision::NotOff(id, _) => {
                let text = "it was said to be off, but it answers: that does not count any more";
                (EventLevel::Error, "ha.host-not-off", host(id), text.to_owned())
            }
            Decision::Waits(vm, wait) => {
                let text = format!("its host is lost, and it is not started elsewhere: {wait}");
                (EventLevel::Warning, "ha.waiting", format!("vm/{vm}"), text)
            }
            Decision::ProvenOff { id, ask: Ask::Look, .. } => {
                (EventLevel::Warning, "ha.host-off", host(id), "its BMC says that it is off".to_owned())
            }
            Decision::ProvenOff { id, ask: Ask::Cut, .. } => {
                let text = "it is off: its BMC has cut its power. Switch it on again once it is known why it was silent";
                (EventLevel::Error, "ha.host-off", host(id), text.to_owned())
            }
            Decision::NotFenced(id, why) => {
                let text = format!("its BMC does not prove that it is off: {why}");
                (EventLevel::Warning, "ha.not-fenced", host(id), text)
            }
            Decision::Restart { .. } | Decision::Fence { .. } => return,
        };
        self.events.system(level, kind, target, text);
    }

    /// What is known of these hosts and machines; `None` where this host does not watch.
    pub(super) fn report<H, M>(
        &self,
        hosts: impl Iterator<Item = HostId>,
        machines: impl Iterator<Item = VmId>,
    ) -> Option<(H, M)>
    where
        H: FromIterator<(HostId, HostReport)>,
        M: FromIterator<(VmId, MachineReport)>,
    {
        let lead = self.now();
        let Lead { manager, watchdogs, .. } = lead.as_ref()?;
        let now = Moment(boot_ms());
        let host = |id| HostReport {
            phase: manager.phase(id),
            heard_ago: manager.heard_ago(now, id),
            over_in: manager.over_in(now, id),
            fence: manager.fencing(id).map(|(asking, last)| fencing(asking, last)),
            watchdog: watchdogs.get(&id).cloned(),
        };
        let machine =
            |vm| MachineReport { restarting: manager.is_restarting(vm), wait: manager.wait(vm).cloned() };
        Some((hosts.map(|id| (id, host(id))).collect(), machines.map(|vm| (vm, machine(vm))).collect()))
    }
}

/// How it stands with a BMC, in words.
fn fencing(asking: Option<Ask>, last: Option<&Fenced>) -> String {
    match (asking, last) {
        (Some(Ask::Look), _) => "its BMC is asked whether it is off".into(),
        (Some(Ask::Cut), _) => "its BMC is to switch it off".into(),
        (None, Some(Fenced::Off)) => "its BMC says that it is off".into(),
        (None, Some(Fenced::On) | None) => {
            "its BMC says that it is on: it is switched off once its lease is over".into()
        }
        (None, Some(Fenced::Failed(why))) => format!("its BMC does not prove that it is off: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_before_a_suspend_does_not_count() {
        let mut awake = Awake::new(100, Moment(1_000));
        let second = Some(Duration::from_secs(1));
        assert_eq!(awake.followed(Moment(5_000), 101, second), Some(Moment(3_999)));
        // An hour passes that the other clock does not know of.
        assert_eq!(awake.followed(Moment(3_605_500), 3_600_101, second), None);
        assert_eq!(awake.followed(Moment(3_605_900), 3_600_101, second), None);
        let heard = awake.followed(Moment(3_606_000), 3_600_100, Some(Duration::from_millis(200)));
        assert_eq!(heard, Some(Moment(3_605_799)));
        assert_eq!(awake.followed(Moment(3_607_000), 3_600_100, None), None);
    }
}
