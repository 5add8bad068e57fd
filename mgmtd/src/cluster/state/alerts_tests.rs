//! The alerts' part of the state.

use super::*;
use crate::cluster::state::{Change, Command, Op};
use lq_api::{NetworkId, PoolId};
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(1));

struct Bench {
    state: State,
    revision: u64,
    second: i64,
    changes: Vec<Change>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { state: State::new(), revision: 0, second: 1000, changes: vec![] };
        let op = Op::Initialise {
            cluster: Uuid::nil(),
            host: HOST,
            host_name: "h".into(),
            pool: PoolId(Uuid::from_u128(2)),
            network: NetworkId(Uuid::from_u128(3)),
            dhcp: None,
        };
        bench.ok(op);
        bench
    }

    fn apply(&mut self, op: Op) -> Outcome {
        self.revision += 1;
        self.second += 1;
        let at = Timestamp::from_second(self.second).unwrap();
        let before = self.state.clone();
        let outcome = self.state.apply(self.revision, &Command { at, op }, &mut self.changes);
        if outcome.is_err() {
            assert_eq!(self.state, before, "a refusal changes nothing");
        }
        // What is stored is read back.
        if self.revision < 50 {
            let text = serde_json::to_vec(&self.state).unwrap();
            assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), self.state);
        }
        outcome
    }

    fn ok(&mut self, op: Op) -> Reply {
        self.apply(op).unwrap()
    }

    fn raise(&mut self, severity: Severity, message: &str) -> Alert {
        let raised = Raised {
            id: AlertId::new(),
            rule: AlertRule::PoolFilling,
            severity,
            target: "pool/x".into(),
            target_name: "x".into(),
            part: None,
            message: message.into(),
            source: Some(HOST),
        };
        let Reply::Alert(alert) = self.ok(Op::RaiseAlert { alert: raised }) else { panic!() };
        (*alert).clone()
    }

    fn causes(&self) -> Vec<Cause> {
        self.state.alerting.notices.iter().map(|n| n.cause).collect()
    }

    fn channel(&mut self, min: &str) -> ChannelId {
        let id = ChannelId::new();
        let create = serde_json::json!({"name": format!("c{}", self.revision), "secret": "s", "spec": {
            "min_severity": min, "target": {"kind": "webhook", "url": "https://x/"}}});
        self.ok(Op::CreateChannel { id, create: serde_json::from_value(create).unwrap() });
        id
    }

    fn shown(&self, id: ChannelId) -> Channel {
        self.state.alerting.show(&self.state.alerting.channels[&id])
    }
}

#[test]
fn one_alert_of_a_kind_whoever_raises_it() {
    let mut b = Bench::new();
    b.channel("info");
    let first = b.raise(Severity::Warning, "86 %");
    let again = b.raise(Severity::Warning, "87 %");
    assert_eq!((first.id, "87 %"), (again.id, again.message.as_str()));
    let worse = b.raise(Severity::Critical, "96 %");
    assert_eq!((worse.id, worse.severity), (first.id, Severity::Critical));
    assert_eq!(b.raise(Severity::Warning, "90 %").severity, Severity::Warning);
    b.ok(Op::ClearAlert { id: first.id });
    b.ok(Op::ClearAlert { id: first.id });
    assert_eq!(b.causes(), [Cause::Raised, Cause::Worsened, Cause::Resolved]);
    assert_eq!(b.state.alerting.notices.back().unwrap().worst, Severity::Critical, "as grave as it ever was");
    assert_ne!(b.raise(Severity::Warning, "86 %").id, first.id, "what is over is over");
}

#[test]
fn an_acknowledgement_is_of_what_was_seen() {
    let mut b = Bench::new();
    let id = b.raise(Severity::Warning, "a").id;
    b.ok(Op::AcknowledgeAlert { id, by: "eve".into(), comment: "on it".into() });
    assert_eq!(b.raise(Severity::Warning, "b").acknowledged.unwrap().by, "eve");
    assert_eq!(b.raise(Severity::Critical, "c").acknowledged, None);
    b.ok(Op::ClearAlert { id });
    assert!(matches!(
        b.apply(Op::AcknowledgeAlert { id, by: "eve".into(), comment: String::new() }),
        Err(Refusal::Conflict(_))
    ));
}

#[test]
fn what_is_silenced_is_told_when_the_silence_ends() {
    let mut b = Bench::new();
    b.channel("info");
    let id = b.raise(Severity::Warning, "a").id;
    let until = Timestamp::from_second(b.second + 5).ok();
    b.ok(Op::SilenceAlert { id, until, by: "eve".into(), comment: String::new() });
    b.raise(Severity::Critical, "b");
    assert_eq!(b.causes(), [Cause::Raised]);
    b.second += 10;
    let now = Timestamp::from_second(b.second).unwrap();
    assert_eq!(b.state.silences_over(now), [id]);
    b.ok(Op::SilenceAlert { id, until: None, by: String::new(), comment: String::new() });
    assert_eq!(b.causes(), [Cause::Raised, Cause::Reminded]);
    assert_eq!(b.state.silences_over(now), []);

    // One that comes again within its silence stays silent, and is not told when it is over.
    let until = Timestamp::from_second(b.second + 100).ok();
    b.ok(Op::SilenceAlert { id, until, by: "eve".into(), comment: String::new() });
    b.ok(Op::ClearAlert { id });
    assert_eq!(b.causes().last(), Some(&Cause::Resolved), "someone was told of it");
    let again = b.raise(Severity::Critical, "c");
    assert!(again.silenced.is_some());
    b.ok(Op::ClearAlert { id: again.id });
    assert_eq!(b.causes().len(), 3);
}

#[test]
fn what_is_over_is_forgotten_in_the_end() {
    let mut b = Bench::new();
    b.channel("info");
    for _ in 0..(KEPT + 3) {
        let id = b.raise(Severity::Warning, "a").id;
        b.ok(Op::ClearAlert { id });
    }
    assert_eq!(b.state.alerting.alerts.len(), KEPT);
    assert_eq!(b.state.alerting.notices.len(), MAX_NOTICES);
}

#[test]
fn a_channel_is_told_what_came_after_it_and_is_grave_enough() {
    let mut b = Bench::new();
    b.raise(Severity::Critical, "before");
    let (all, grave) = (b.channel("info"), b.channel("critical"));
    b.raise(Severity::Warning, "less");
    assert_eq!((b.shown(all).status.waiting, b.shown(grave).status.waiting), (0, 0), "it got no worse");
    let id = b.state.alerting.active().next().unwrap().id;
    b.ok(Op::ClearAlert { id });
    assert_eq!((b.shown(all).status.waiting, b.shown(grave).status.waiting), (1, 1), "it was critical once");
    b.raise(Severity::Warning, "again");
    assert_eq!((b.shown(all).status.waiting, b.shown(grave).status.waiting), (2, 1));
    let last = b.state.alerting.last_notice;
    let failed = |why: &str| Attempt { delivered: 0, took: false, dropped: 0, failure: Some(why.into()) };
    b.ok(Op::ObserveChannel { id: all, attempt: failed("a") });
    let since = b.shown(all).status.failing_since.unwrap();
    b.ok(Op::ObserveChannel { id: all, attempt: failed("b") });
    let status = b.shown(all).status;
    assert_eq!(
        (status.failing_since, status.failure.as_deref(), status.waiting),
        (Some(since), Some("b"), 2)
    );
    for id in [all, grave] {
        let attempt = Attempt { delivered: last, took: true, dropped: 0, failure: None };
        b.ok(Op::ObserveChannel { id, attempt });
    }
    assert_eq!(b.shown(all).status.failure, None);
    assert!(b.state.alerting.notices.is_empty(), "everybody took them");
}

#[test]
fn what_never_arrives_is_counted() {
    let mut b = Bench::new();
    let id = b.channel("info");
    for _ in 0..=(MAX_NOTICES / 2) {
        let id = b.raise(Severity::Warning, "a").id;
        b.ok(Op::ClearAlert { id });
    }
    let status = b.shown(id).status;
    assert_eq!((status.waiting, status.dropped), (MAX_NOTICES as u64, 2));
}

#[test]
fn a_secret_does_not_go_to_another_server() {
    let mut b = Bench::new();
    let id = b.channel("info");
    let update =
        |json: &str| Op::UpdateChannel { id, expect: None, update: serde_json::from_str(json).unwrap() };
    let there = r#""spec":{"target":{"kind":"webhook","url":"https://evil/"}}"#;
    let refused = b.apply(update(&format!("{{{there}}}")));
    assert!(matches!(refused, Err(Refusal::Validation(e)) if e[0].field == "secret"));
    b.ok(update(&format!(r#"{{{there},"secret":""}}"#)));
    assert!(!b.shown(id).has_secret);
    b.ok(update(r#"{"name":"other"}"#));
    assert_eq!(b.shown(id).meta.name, "other");
    b.ok(Op::DeleteChannel { id, expect: None });
    assert!(matches!(b.apply(update("{}")), Err(Refusal::NotFound { .. })));
}

#[test]
fn rules_are_set_and_go_back() {
    let mut b = Bench::new();
    let rule = AlertRule::PoolFilling;
    let mut settings = rule.defaults();
    settings.warning = Some(50.0);
    b.ok(Op::SetAlertRule { rule, settings: Some(settings) });
    assert_eq!(b.state.alerting.settings(rule), settings);
    settings.critical = Some(10.0);
    assert!(b.apply(Op::SetAlertRule { rule, settings: Some(settings) }).is_err());
    b.ok(Op::SetAlertRule { rule, settings: None });
    assert_eq!(b.state.alerting.settings(rule), rule.defaults());
}
