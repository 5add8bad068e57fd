//! Alerts: what is wrong, found out by rules, kept until it is right, told to people.
//!
//! ```text
//!  this host ──facts──▶ judge ──findings──▶ hold ──▶ RaiseAlert, ClearAlert ──▶ the cluster's state ──▶ API, page, console
//!  leader: the cluster ──▶ judge ──▶ hold ──┘             notices ──▶ leader: notify ──▶ webhook, mail, syslog
//!  no majority ──▶ judge ──▶ hold ──▶ local ──▶ this host's API, notify
//! ```
//! Every host judges itself and its own pools; the leader judges what takes the view of all. What was raised is in the state,
//! so that whoever leads next goes on from there: nothing is raised twice, nothing is forgotten, and a channel is told again
//! only where it is not known whether it took it. That the majority is lost cannot be in a state nobody can change: each host
//! keeps that for itself ([`local`]) and tells it itself.

mod facts;
mod hold;
mod judge;
mod local;
pub mod notify;

use crate::{
    cluster::{
        Health, Op, WriteError,
        state::alerts::{Alerting, ChannelRecord, Raised},
    },
    ha::fence::Boards,
    reconcile::Node,
    telemetry::Series,
};
use hold::{Finding, Holds, Step, Verdict};
use lq_api::{
    AlertId, HostId, Timestamp,
    alert::{Alert, Severity},
    channel::ChannelTest,
    event::EventLevel,
    host::DiskHealth,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// The alerts of this host.
pub struct Alerts {
    node: Arc<Node>,
    series: Arc<Series>,
    boards: Arc<Boards>,
    state_dir: PathBuf,
    local: local::Local,
    disks: Mutex<Vec<(String, DiskHealth)>>,
}

impl Alerts {
    /// Those of `node`; `state_dir` is where the daemon keeps what lasts.
    #[must_use]
    pub fn new(node: Arc<Node>, series: Arc<Series>, state_dir: PathBuf, boards: Arc<Boards>) -> Arc<Self> {
        let local = local::Local::open(state_dir.join("alerts.json"));
        Arc::new(Self { node, series, boards, state_dir, local, disks: Mutex::default() })
    }

    /// Alerts that only this host knows.
    #[must_use]
    pub fn local(&self) -> Vec<Alert> {
        self.local.active()
    }

    /// What the disks of this host said last.
    #[must_use]
    pub fn disk_health(&self, disk: &str) -> Option<DiskHealth> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.iter().find(|(name, _)| name == disk).map(|(_, health)| health.clone())
    }

    /// Tries a channel.
    pub async fn test(&self, channel: &ChannelRecord) -> ChannelTest {
        let sent = notify::send(channel, &notify::trial(&self.node), &self.sender()).await;
        ChannelTest { delivered: sent.is_ok(), failure: sent.err() }
    }

    fn sender(&self) -> notify::Sender {
        let me = self.node.id();
        self.node.cluster.read(|s| notify::Sender {
            cluster: s.cluster.as_ref().map(|c| c.id).unwrap_or_default(),
            host: s.hosts.get(&me).map_or_else(|| me.to_string(), |h| h.meta.name.clone()),
        })
    }

    /// Judges and tells until `end`.
    pub async fn run(self: Arc<Self>, end: CancellationToken) {
        let telling = tokio::spawn(notify::run(self.clone(), end.clone()));
        let begin = Instant::now();
        let mut looked = facts::Looked::default();
        let (mut of_host, mut of_cluster, mut of_quorum) =
            (Holds::default(), Holds::default(), Holds::default());
        loop {
            let cluster = &self.node.cluster;
            let member = cluster.read(|s| s.cluster.is_some() && s.hosts.contains_key(&self.node.id()));
            if member && !cluster.is_removed() {
                let now = begin.elapsed();
                let health = cluster.health().await;
                let reached = health.as_ref().is_some_and(|h| h.quorum);
                self.judge_quorum(&mut of_quorum, now, reached);
                let found = self.judge_host(&mut looked, health.as_ref()).await;
                if reached {
                    let me = self.node.id();
                    self.step(&mut of_host, now, &found, Some(me)).await;
                    if cluster.standing().leader == Some(me) {
                        let found = self.judge_cluster(health.unwrap_or_default()).await;
                        self.step(&mut of_cluster, now, &found, None).await;
                        self.end_silences().await;
                    } else {
                        of_cluster = Holds::default();
                    }
                }
            }
            tokio::select! {
                () = end.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        if let Err(e) = telling.await {
            tracing::error!(error = %e, "notifications ended by a fault of ours");
        }
    }

    async fn judge_host(&self, looked: &mut facts::Looked, health: Option<&Health>) -> Vec<Finding> {
        let me = self.node.id();
        let facts = looked.host(&self.node, &self.series, &self.state_dir, health).await;
        let found = self
            .node
            .cluster
            .read(|s| judge::host(s, me, facts, &|rule| s.alerting.settings(rule), Timestamp::now()));
        *self.disks.lock().unwrap_or_else(PoisonError::into_inner) = looked.disks().to_vec();
        found
    }

    async fn judge_cluster(&self, health: Health) -> Vec<Finding> {
        let facts = facts::cluster(&self.node, &self.boards, health).await;
        self.node
            .cluster
            .read(|s| judge::cluster(s, self.node.id(), &facts, &|rule| s.alerting.settings(rule)))
    }

    /// Carries out what follows from the findings of one evaluator: this host, or the leader (`source` is absent).
    async fn step(&self, holds: &mut Holds, now: Duration, found: &[Finding], source: Option<HostId>) {
        let steps = self.node.cluster.read(|s| {
            holds.step(now, &|rule| s.alerting.settings(rule), found, &own(&s.alerting, s, source))
        });
        for step in steps {
            let op = match &step {
                Step::Clear(id) => Op::ClearAlert { id: *id },
                Step::Raise(finding) => {
                    let Some(alert) = raised(finding, source) else { continue };
                    Op::RaiseAlert { alert }
                }
            };
            let before = self.node.cluster.read(|s| match &step {
                Step::Clear(id) => s.alerting.alerts.get(id).map(|r| r.alert.clone()),
                Step::Raise(finding) => {
                    s.alerting.active().find(|a| hold::Key::of(a) == finding.key).cloned()
                }
            });
            match self.node.cluster.write(op).await {
                Ok(_) => self.note(&step, before.as_ref()),
                Err(WriteError::Refused(e)) => {
                    tracing::warn!(error = %e, "an alert was refused by the state")
                }
                // The next look finds it again.
                Err(e) => {
                    tracing::debug!(error = %e, "the state could not be told of an alert");
                    return;
                }
            }
        }
    }

    /// What was raised or is over goes to the event log too.
    fn note(&self, step: &Step, before: Option<&Alert>) {
        let (level, kind, target, text) = match step {
            Step::Raise(Finding { key, verdict: Verdict::Fault(severity, text), .. }) => {
                if before.is_some_and(|a| a.severity >= *severity) {
                    return;
                }
                (
                    level(*severity),
                    "alert.raised",
                    key.target.clone(),
                    format!("{}: {text}", key.rule.title()),
                )
            }
            Step::Raise(_) => return,
            Step::Clear(_) => {
                let Some(alert) = before else { return };
                let text = format!("{}: this is over", alert.rule.title());
                (EventLevel::Info, "alert.resolved", alert.target.clone(), text)
            }
        };
        self.node.events.system(level, kind, target, text);
    }

    fn judge_quorum(&self, holds: &mut Holds, now: Duration, reached: bool) {
        let (settings, channels) = self.node.cluster.read(|s| {
            let channels: Vec<_> = s.alerting.channels.values().cloned().collect();
            (s.alerting.rules.clone(), channels)
        });
        let set = |rule: lq_api::alert::AlertRule| settings.get(&rule).copied().unwrap_or(rule.defaults());
        let steps = holds.step(now, &set, &[judge::quorum(reached)], &self.local.active());
        for step in steps {
            let before = match &step {
                Step::Clear(id) => self.local.clear(*id, Timestamp::now(), &channels),
                Step::Raise(finding) => {
                    if let Some(new) = raised(finding, Some(self.node.id())) {
                        self.local.raise(new, Timestamp::now(), &channels);
                    }
                    None
                }
            };
            self.note(&step, before.as_ref());
        }
    }

    async fn end_silences(&self) {
        for id in self.node.cluster.read(|s| s.silences_over(Timestamp::now())) {
            let op = Op::SilenceAlert { id, until: None, by: String::new(), comment: String::new() };
            if let Err(e) = self.node.cluster.write(op).await {
                tracing::debug!(error = %e, "a silence could not be ended yet");
            }
        }
    }
}

/// The active alerts an evaluator is there for. The leader also ends those of hosts that are of the cluster no more.
fn own(alerting: &Alerting, state: &crate::cluster::State, source: Option<HostId>) -> Vec<Alert> {
    let mine = |alert: &&Alert| match (source, alert.source) {
        (Some(me), Some(of)) => me == of,
        (None, None) => true,
        (None, Some(of)) => !state.hosts.contains_key(&of),
        (Some(_), None) => false,
    };
    alerting.active().filter(mine).cloned().collect()
}

fn raised(finding: &Finding, source: Option<HostId>) -> Option<Raised> {
    let Verdict::Fault(severity, message) = &finding.verdict else { return None };
    Some(Raised {
        id: AlertId::new(),
        rule: finding.key.rule,
        severity: *severity,
        target: finding.key.target.clone(),
        target_name: finding.name.clone(),
        part: finding.key.part.clone(),
        message: message.clone(),
        source,
    })
}

fn level(severity: Severity) -> EventLevel {
    match severity {
        Severity::Info => EventLevel::Info,
        Severity::Warning => EventLevel::Warning,
        Severity::Critical => EventLevel::Error,
    }
}
