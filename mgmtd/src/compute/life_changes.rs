//! The changes of a machine that runs: which step is tried when, what is said of those that wait, and what the machine holds.

use super::{
    Effect, Holds, Life, Notice, Now, Part, Plan, State, Step, Stop, Up, Want, event, plan,
    status::SHORT_OF_ROOM,
};
use crate::compute::Desired;
use lq_api::{
    ImageId,
    event::EventLevel,
    local::vmm::WatchdogAction,
    vm::{PendingChange, PowerState},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Pause before a step that failed is tried again; doubled each time.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause before a step is tried again.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Changes under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The step that is being done.
    trying: Option<Step>,
    /// Steps that could not be done yet.
    failed: Vec<Failed>,
    /// Media whose ejection was told.
    told: BTreeSet<(usize, ImageId)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    step: Step,
    reason: String,
    pause: Duration,
    again: Instant,
}

impl Changes {
    /// The step that was tried is over.
    pub(super) fn over(&mut self, done: Result<(), String>, now: Now, effects: &mut Vec<Effect>) {
        let Some(step) = self.trying.take() else { return };
        let before = self.failed.iter().position(|f| f.step == step).map(|at| self.failed.swap_remove(at));
        let reason = match done {
            Ok(()) => {
                effects.extend(step.done().map(|text| event(EventLevel::Info, "vm.changed", text)));
                // Not planned again but where it had no effect: then it is not repeated without end.
                "it had no effect".to_owned()
            }
            Err(reason) => {
                if before.is_none() {
                    effects.push(event(EventLevel::Warning, "vm.change-waits", step.failed(&reason)));
                }
                reason
            }
        };
        let pause = before.map_or(FIRST_PAUSE, |f| (f.pause * 2).min(LONGEST_PAUSE));
        self.failed.push(Failed { step, reason, pause, again: now.clock + pause });
    }

    /// When a step is to be tried again.
    pub(super) fn again(&self, desired: &Desired) -> Option<Instant> {
        let may = desired.part == Part::Owner && self.trying.is_none();
        self.failed.iter().map(|f| f.again).min().filter(|_| may)
    }
}

/// What is told of something a guest did; nothing where it was told before.
pub(super) fn told(notice: Notice) -> Option<Effect> {
    Some(match notice {
        Notice::Panicked => event(EventLevel::Error, "vm.panicked", "The guest's kernel panicked.".into()),
        Notice::Watchdog(action) => {
            let follows = match action {
                WatchdogAction::Reset => "it is restarted",
                WatchdogAction::Pause => "it is halted, to be looked at",
                WatchdogAction::PowerOff => "it is ended",
                WatchdogAction::Report => "nothing is done",
            };
            let message = format!("The guest did not feed its watchdog any more: {follows}.");
            event(EventLevel::Warning, "vm.watchdog", message)
        }
        Notice::Room { known: true, .. } => return None,
        Notice::Room { short: true, known: false } => event(
            EventLevel::Error,
            "vm.no-room",
            format!("A disk of the machine cannot grow: {SHORT_OF_ROOM}."),
        ),
        Notice::Room { short: false, known: false } => {
            event(EventLevel::Info, "vm.room", "There is room again: the machine's writes go on.".into())
        }
        Notice::TpmFailed { known: true, .. } => return None,
        Notice::TpmFailed { why, known: false } => {
            let message = format!(
                "The machine's TPM has failed: {why}. It works again once the machine is stopped and started."
            );
            event(EventLevel::Error, "vm.tpm-failed", message)
        }
    })
}

impl Life {
    /// A machine that runs: what of it is to be changed?
    pub(super) fn adjust(&mut self, desired: &Desired, now: Now, effects: &mut Vec<Effect>) {
        let State::Up(Up { stop: Stop::No, away: false, .. }) = &self.state else { return };
        let Some(has) = self.has.as_ref().filter(|_| desired.spec.power != PowerState::Stopped) else {
            return;
        };
        let changes = &mut self.changes;
        let ejected = has.cdroms.iter().zip(&desired.spec.cdroms).enumerate();
        let ejected = ejected.filter_map(|(n, (drive, wanted))| {
            Some((n, drive.ejected().filter(|image| wanted.image == Some(*image))?))
        });
        let ejected: BTreeSet<_> = ejected.collect();
        for (drive, image) in ejected.difference(&changes.told) {
            let message = format!("The guest ejected the medium of its CD drive {drive}.");
            effects.push(event(EventLevel::Info, "vm.ejected", message));
            effects.push(Effect::Ejected(*drive, *image));
        }
        changes.told = ejected;
        let Plan { steps, .. } = plan(has, desired);
        changes.failed.retain(|f| steps.contains(&f.step));
        if changes.trying.is_some() {
            return;
        }
        let waits = |step: &Step| changes.failed.iter().any(|f| f.step == *step && f.again > now.clock);
        if let Some(step) = steps.into_iter().find(|step| !waits(step)) {
            changes.trying = Some(step.clone());
            effects.push(Effect::Adjust(Box::new(step)));
        }
    }

    /// What of the specification the machine does not have.
    pub(super) fn pending(&self, desired: &Desired) -> Vec<PendingChange> {
        let Some(has) = self.has.as_ref().filter(|_| desired.spec.power != PowerState::Stopped) else {
            return vec![];
        };
        let Plan { steps, pending } = plan(has, desired);
        let failed =
            |step: &Step| self.changes.failed.iter().find(|f| f.step == *step).map(|f| f.reason.as_str());
        steps.iter().map(|step| step.pending(failed(step))).chain(pending).collect()
    }

    /// Whether a step is being done.
    pub(crate) fn is_adjusting(&self) -> bool {
        matches!(self.state, State::Up(_)) && self.changes.trying.is_some()
    }

    /// The devices there are of the machine; none where that is not known, or not for this host to say.
    pub(crate) fn holds(&self, want: &Want) -> Option<Holds> {
        let Want::This(desired) = want else { return None };
        if desired.part != Part::Owner {
            return None;
        }
        let mut holds = Holds {
            epoch: desired.epoch,
            generation: desired.generation,
            volumes: BTreeSet::new(),
            nics: BTreeSet::new(),
        };
        match &self.state {
            State::Launching => return None,
            State::Resting { .. } | State::Waiting { .. } | State::Ended { .. } => {}
            State::Up(_) => {
                let has = self.has.as_ref()?;
                holds.volumes.extend(has.disks.iter().map(|d| d.device.volume));
                holds.nics.extend(has.nics.iter().filter_map(|n| n.device.mac));
                match &self.changes.trying {
                    Some(Step::PlugDisk(disk, _)) => drop(holds.volumes.insert(disk.volume)),
                    Some(Step::PlugNic(nic, _)) => holds.nics.extend(nic.mac),
                    _ => {}
                }
            }
        }
        Some(holds)
    }
}
