//! From what is found at one moment to alerts: a fault has to last before it is one, and to be gone for a while before it is
//! none.
//!
//! ```text
//!  fine ──fault──▶ pending ──hold──▶ raised ──fine──▶ leaving ──clear──▶ resolved
//!          ▲───fine───┘                 ▲────fault──────┘
//! ```
//! Pure: time comes in as a value. What is raised is not kept here but in the state, so nothing is lost or raised twice when
//! this begins anew; only holds begin anew too. What is not known neither raises nor resolves.

use crate::cluster::state::alerts::Alerting;
use lq_api::{
    AlertId,
    alert::{Alert, AlertRule, RuleSettings, Severity},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What alerts are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) rule: AlertRule,
    /// `kind/id`, or `cluster`.
    pub(super) target: String,
    pub(super) part: Option<String>,
}

impl Key {
    pub(super) fn of(alert: &Alert) -> Self {
        Self { rule: alert.rule, target: alert.target.clone(), part: alert.part.clone() }
    }
}

/// How something is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// Wrong: how grave, and in words.
    Fault(Severity, String),
    /// It cannot be said.
    Unknown,
}

/// A look at one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) key: Key,
    /// Name of the object.
    pub(super) name: String,
    pub(super) verdict: Verdict,
}

/// Shortest time between two changes of words alone: each is an entry in the cluster's log.
const WORDS: Duration = Duration::from_secs(600);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Raise it, or say that it is otherwise than before.
    Raise(Finding),
    /// It is over.
    Clear(AlertId),
}

/// How rules are set.
pub(super) type Settings<'a> = &'a dyn Fn(AlertRule) -> RuleSettings;

impl Alerting {
    /// How grave the active alert of this kind is.
    pub(super) fn severity_of(&self, key: &Key) -> Option<Severity> {
        self.active().find(|a| Key::of(a) == *key).map(|a| a.severity)
    }
}

/// Holds under way.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Faults that are not raised yet, since when.
    pending: BTreeMap<Key, Duration>,
    /// Raised ones that are fine now, since when.
    leaving: BTreeMap<Key, Duration>,
    /// Raised ones, since when their words stand.
    worded: BTreeMap<Key, Duration>,
}

impl Holds {
    /// Looks at everything this evaluator is there for. `active` are its own alerts that are not over; what they are about and
    /// is not found any more is gone. `now` is any clock that never goes back.
    pub(super) fn step(
        &mut self,
        now: Duration,
        settings: Settings<'_>,
        findings: &[Finding],
        active: &[Alert],
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let seen: BTreeSet<&Key> = findings.iter().map(|f| &f.key).collect();
        let raised: BTreeMap<Key, &Alert> = active.iter().map(|a| (Key::of(a), a)).collect();
        self.pending.retain(|key, _| seen.contains(key));
        self.leaving.retain(|key, _| raised.contains_key(key));
        self.worded.retain(|key, _| raised.contains_key(key));
        for (key, alert) in &raised {
            if !seen.contains(key) || !settings(key.rule).enabled {
                steps.push(Step::Clear(alert.id));
            }
        }
        for finding in findings {
            let settings = settings(finding.key.rule);
            if !settings.enabled {
                self.pending.remove(&finding.key);
                continue;
            }
            let seconds = |n: u32| Duration::from_secs(n.into());
            match (&finding.verdict, raised.get(&finding.key)) {
                (Verdict::Unknown, _) => {}
                (Verdict::Fine, None) => drop(self.pending.remove(&finding.key)),
                (Verdict::Fine, Some(alert)) => {
                    let since = *self.leaving.entry(finding.key.clone()).or_insert(now);
                    if now.saturating_sub(since) >= seconds(settings.clear_seconds) {
                        self.leaving.remove(&finding.key);
                        steps.push(Step::Clear(alert.id));
                    }
                }
                (Verdict::Fault(severity, message), Some(alert)) => {
                    self.leaving.remove(&finding.key);
                    self.pending.remove(&finding.key);
                    let since = *self.worded.entry(finding.key.clone()).or_insert(now);
                    let late = alert.message != *message && now.saturating_sub(since) >= WORDS;
                    if alert.severity != *severity || late {
                        self.worded.insert(finding.key.clone(), now);
                        steps.push(Step::Raise(finding.clone()));
                    }
                }
                (Verdict::Fault(..), None) => {
                    let since = *self.pending.entry(finding.key.clone()).or_insert(now);
                    if now.saturating_sub(since) >= seconds(settings.hold_seconds) {
                        steps.push(Step::Raise(finding.clone()));
                    }
                }
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::Timestamp;

    fn finding(verdict: Verdict) -> Finding {
        let key = Key { rule: AlertRule::MemoryPressure, target: "host/h".into(), part: None };
        Finding { key, name: "h".into(), verdict }
    }

    fn fault(severity: Severity) -> Finding {
        finding(Verdict::Fault(severity, severity.to_string()))
    }

    fn alert(severity: Severity) -> Alert {
        Alert {
            id: AlertId::new(),
            rule: AlertRule::MemoryPressure,
            severity,
            target: "host/h".into(),
            target_name: "h".into(),
            part: None,
            message: severity.to_string(),
            source: None,
            local: false,
            raised_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
            resolved_at: None,
            acknowledged: None,
            silenced: None,
        }
    }

    /// Held for 10 seconds, gone for 20.
    fn settings(_: AlertRule) -> RuleSettings {
        RuleSettings { enabled: true, hold_seconds: 10, clear_seconds: 20, warning: None, critical: None }
    }

    fn at(holds: &mut Holds, second: u64, findings: &[Finding], active: &[Alert]) -> Vec<Step> {
        holds.step(Duration::from_secs(second), &settings, findings, active)
    }

    #[test]
    fn a_fault_has_to_last() {
        let mut holds = Holds::default();
        let bad = fault(Severity::Warning);
        assert_eq!(at(&mut holds, 0, std::slice::from_ref(&bad), &[]), []);
        assert_eq!(at(&mut holds, 9, std::slice::from_ref(&bad), &[]), []);
        assert_eq!(at(&mut holds, 9, &[finding(Verdict::Fine)], &[]), []);
        assert_eq!(at(&mut holds, 11, std::slice::from_ref(&bad), &[]), [], "it began anew");
        assert_eq!(at(&mut holds, 20, &[finding(Verdict::Unknown)], &[]), [], "not known says nothing");
        // Until it is in the state it is raised again and again.
        for second in [21, 22] {
            assert_eq!(at(&mut holds, second, std::slice::from_ref(&bad), &[]), [Step::Raise(bad.clone())]);
        }
    }

    #[test]
    fn an_alert_is_over_when_it_is_fine_for_a_while() {
        let mut holds = Holds::default();
        let active = [alert(Severity::Warning)];
        let fine = [finding(Verdict::Fine)];
        assert_eq!(at(&mut holds, 0, &fine, &active), []);
        assert_eq!(at(&mut holds, 19, &fine, &active), []);
        assert_eq!(at(&mut holds, 20, &[fault(Severity::Warning)], &active), []);
        assert_eq!(at(&mut holds, 25, &fine, &active), []);
        assert_eq!(at(&mut holds, 44, &[finding(Verdict::Unknown)], &active), []);
        assert_eq!(at(&mut holds, 45, &fine, &active), [Step::Clear(active[0].id)]);
    }

    #[test]
    fn what_got_worse_is_told_at_once() {
        let mut holds = Holds::default();
        let worse = fault(Severity::Critical);
        let steps = at(&mut holds, 0, std::slice::from_ref(&worse), &[alert(Severity::Warning)]);
        assert_eq!(steps, [Step::Raise(worse)]);
    }

    #[test]
    fn new_words_alone_are_not_told_all_the_time() {
        let mut holds = Holds::default();
        let active = [alert(Severity::Warning)];
        let other = finding(Verdict::Fault(Severity::Warning, "other".into()));
        for (second, steps) in [(0, 0), (599, 0), (600, 1), (1199, 0), (1200, 1)] {
            assert_eq!(
                at(&mut holds, second, std::slice::from_ref(&other), &active).len(),
                steps,
                "{second}"
            );
        }
    }

    #[test]
    fn what_is_gone_and_what_is_switched_off_is_over() {
        let mut holds = Holds::default();
        let active = [alert(Severity::Warning)];
        assert_eq!(at(&mut holds, 0, &[], &active), [Step::Clear(active[0].id)]);
        let off = |_| RuleSettings { enabled: false, ..settings(AlertRule::HostLost) };
        let steps = holds.step(Duration::ZERO, &off, &[fault(Severity::Critical)], &active);
        assert_eq!(steps, [Step::Clear(active[0].id)]);
        assert_eq!(holds.step(Duration::MAX, &off, &[fault(Severity::Critical)], &[]), []);
    }

    #[test]
    fn holds_begin_anew_with_the_evaluator_and_nothing_is_raised_twice() {
        let active = [alert(Severity::Warning)];
        assert_eq!(at(&mut Holds::default(), 0, &[fault(Severity::Warning)], &active), []);
    }
}
