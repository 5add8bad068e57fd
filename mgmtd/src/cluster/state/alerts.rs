//! Alerts, how rules are set, and notification channels.
//!
//! ```text
//!  RaiseAlert ──▶ active ──(RaiseAlert again: changed │ Acknowledge │ Silence)──▶ ClearAlert ──▶ resolved (the newest are kept)
//!      │             └── got worse ──┐          end of a silence ──┐                  │
//!      └────── notice ◀──────────────┴─────────────────────────────┴──────────────────┘
//!  channel: delivered = the last notice it took; what is beyond waits for it
//! ```
//! Invariants: of rule, object and part there is at most one active alert, whoever raises it; notices are numbered without
//! gaps and bounded; an alert that nobody was told of is not told when it is over.

use super::{
    Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected, check_new, patched},
};
use jiff::{Timestamp, ToSpan as _};
use lq_api::{
    AlertId, ChannelId, HostId, Metadata,
    alert::{Acknowledgement, Alert, AlertRule, RuleSettings, Severity, Silence},
    channel::{Channel, ChannelSpec, ChannelStatus, CreateChannel, UpdateChannel, check_secret},
    meta::MetadataPatch,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

/// Resolved alerts that are kept.
const KEPT: usize = 500;
/// Most active alerts at a time.
const MAX_ACTIVE: usize = 2000;
/// Notices kept for channels that do not take them.
const MAX_NOTICES: usize = 500;
/// Most channels.
const MAX_CHANNELS: usize = 50;

/// Everything about alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerting {
    /// Active and resolved ones.
    #[serde(default)]
    pub alerts: BTreeMap<AlertId, Arc<AlertRecord>>,
    /// Rules that were changed.
    #[serde(default)]
    pub rules: BTreeMap<AlertRule, RuleSettings>,
    /// Channels.
    #[serde(default)]
    pub channels: BTreeMap<ChannelId, Arc<ChannelRecord>>,
    /// What channels are to be told, oldest first.
    #[serde(default)]
    pub notices: VecDeque<Arc<Notice>>,
    /// Number of the last notice.
    #[serde(default)]
    pub last_notice: u64,
}

/// An alert with what only the daemon needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// As the API shows it.
    pub alert: Alert,
    /// The gravest that was told; nobody was told of it where absent.
    #[serde(default)]
    pub told: Option<Severity>,
}

/// Why someone is told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It was raised.
    Raised,
    /// It got worse.
    Worsened,
    /// A silence ended and it is still there.
    Reminded,
    /// It is over.
    Resolved,
    /// Someone tries the channel.
    Test,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raised => "raised",
            Self::Worsened => "worsened",
            Self::Reminded => "still there",
            Self::Resolved => "resolved",
            Self::Test => "test",
        })
    }
}

/// What channels are to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number.
    pub number: u64,
    /// When it came up.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// The gravest the alert was.
    pub worst: Severity,
    /// The alert as it was.
    pub alert: Alert,
}

/// A channel with what only the daemon needs to know of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Identity and name.
    pub meta: Metadata<ChannelId>,
    /// What is wanted.
    pub spec: ChannelSpec,
    /// Its secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// Number of the last notice it took, or that was given up.
    #[serde(default)]
    pub delivered: u64,
    /// When it last took one.
    #[serde(default)]
    pub delivered_at: Option<Timestamp>,
    /// Since when it takes none, and why.
    #[serde(default)]
    pub failing: Option<(Timestamp, String)>,
    /// Notices given up.
    #[serde(default)]
    pub dropped: u64,
}

impl fmt::Debug for ChannelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelRecord({}, secret hidden)", self.meta.name)
    }
}

/// An alert that is to be raised, or is there and to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Identity, where it is a new one.
    pub id: AlertId,
    /// The rule.
    pub rule: AlertRule,
    /// How grave.
    pub severity: Severity,
    /// About which object.
    pub target: String,
    /// Its name.
    pub target_name: String,
    /// Which part of it.
    #[serde(default)]
    pub part: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
    /// The host that sees it.
    #[serde(default)]
    pub source: Option<HostId>,
}

/// What came of an attempt to tell a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The last notice it took or that was given up; it stays where this is less than before.
    pub delivered: u64,
    /// It took one.
    pub took: bool,
    /// Notices given up.
    #[serde(default)]
    pub dropped: u64,
    /// Why it takes none.
    #[serde(default)]
    pub failure: Option<String>,
}

impl ChannelRecord {
    /// Whether it is to be told of this.
    #[must_use]
    pub fn wants(&self, notice: &Notice) -> bool {
        notice.number > self.delivered && notice.worst >= self.spec.min_severity
    }
}

impl Alerting {
    /// How a rule is set.
    #[must_use]
    pub fn settings(&self, rule: AlertRule) -> RuleSettings {
        self.rules.get(&rule).copied().unwrap_or(rule.defaults())
    }

    /// Alerts that are not over.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().map(|r| &r.alert).filter(|a| a.resolved_at.is_none())
    }

    /// A channel as the API shows it.
    #[must_use]
    pub fn show(&self, record: &ChannelRecord) -> Channel {
        let waiting = self.notices.iter().filter(|n| record.spec.enabled && record.wants(n)).count();
        let (since, why) = record.failing.clone().unzip();
        Channel {
            meta: record.meta.clone(),
            spec: record.spec.clone(),
            has_secret: record.secret.is_some(),
            status: ChannelStatus {
                delivered_at: record.delivered_at,
                failing_since: since,
                failure: why,
                waiting: waiting as u64,
                dropped: record.dropped,
            },
        }
    }

    fn tell(&mut self, at: Timestamp, cause: Cause, record: &mut AlertRecord) {
        let worst = record.told.max(Some(record.alert.severity)).unwrap_or(record.alert.severity);
        record.told = Some(worst);
        self.last_notice += 1;
        let number = self.last_notice;
        let someone = self.channels.values().any(|c| c.spec.enabled && worst >= c.spec.min_severity);
        if !someone {
            return;
        }
        self.notices.push_back(Arc::new(Notice { number, at, cause, worst, alert: record.alert.clone() }));
        while self.notices.len() > MAX_NOTICES {
            let Some(gone) = self.notices.pop_front() else { break };
            // Whoever has not taken it by now never will.
            for channel in self.channels.values_mut().filter(|c| c.delivered < gone.number) {
                let lost = channel.spec.enabled && channel.wants(&gone);
                let channel = Arc::make_mut(channel);
                channel.delivered = gone.number;
                channel.dropped += u64::from(lost);
            }
        }
    }
}

fn is_silenced(alert: &Alert, at: Timestamp) -> bool {
    alert.silenced.as_ref().is_some_and(|s| s.until > at)
}

impl State {
    pub(super) fn raise_alert(&mut self, ctx: &mut Context<'_>, new: &Raised) -> Outcome {
        if new.source.is_some_and(|host| !self.hosts.contains_key(&host)) {
            return Err(Refusal::Conflict("the host that sees it is not of this cluster".into()));
        }
        let all = &self.alerting.alerts;
        let same = |a: &Alert| a.rule == new.rule && a.target == new.target && a.part == new.part;
        // Ids are as exact as the clocks of hosts: the active one counts, whatever is newer.
        let mut alike = all.values().rev().filter(|r| same(&r.alert));
        let before = alike.clone().find(|r| r.alert.resolved_at.is_none()).or_else(|| alike.next());
        let mut record = match before {
            Some(old) if old.alert.resolved_at.is_none() => {
                let worse = new.severity > old.alert.severity;
                if old.alert.severity == new.severity && old.alert.message == new.message {
                    return Ok(Reply::Alert(Arc::new(old.alert.clone())));
                }
                let mut record = (**old).clone();
                record.alert.severity = new.severity;
                record.alert.message.clone_from(&new.message);
                record.alert.changed_at = ctx.at;
                record.alert.source = new.source;
                if worse {
                    // What someone took note of was less grave.
                    record.alert.acknowledged = None;
                }
                if worse && !is_silenced(&record.alert, ctx.at) {
                    self.alerting.tell(ctx.at, Cause::Worsened, &mut record);
                }
                record
            }
            before => {
                if all.contains_key(&new.id) {
                    return Err(Refusal::Conflict(format!("the id {} is taken", new.id)));
                }
                if self.alerting.active().count() >= MAX_ACTIVE {
                    return Err(Refusal::Conflict(format!("there are {MAX_ACTIVE} alerts already")));
                }
                // The same again: a silence that has not ended goes on.
                let silenced = before.and_then(|r| r.alert.silenced.clone()).filter(|s| s.until > ctx.at);
                let alert = Alert {
                    id: new.id,
                    rule: new.rule,
                    severity: new.severity,
                    target: new.target.clone(),
                    target_name: new.target_name.clone(),
                    part: new.part.clone(),
                    message: new.message.clone(),
                    source: new.source,
                    local: false,
                    raised_at: ctx.at,
                    changed_at: ctx.at,
                    resolved_at: None,
                    acknowledged: None,
                    silenced,
                };
                let mut record = AlertRecord { alert, told: None };
                if !is_silenced(&record.alert, ctx.at) {
                    self.alerting.tell(ctx.at, Cause::Raised, &mut record);
                }
                record
            }
        };
        record.alert.local = false;
        Ok(self.put_alert(ctx, record))
    }

    pub(super) fn clear_alert(&mut self, ctx: &mut Context<'_>, id: AlertId) -> Outcome {
        let Some(old) = self.alerting.alerts.get(&id) else { return Ok(Reply::Done) };
        if old.alert.resolved_at.is_some() {
            return Ok(Reply::Done);
        }
        let mut record = (**old).clone();
        record.alert.resolved_at = Some(ctx.at);
        if record.told.is_some() {
            self.alerting.tell(ctx.at, Cause::Resolved, &mut record);
        }
        let reply = self.put_alert(ctx, record);
        let over = self.alerting.alerts.values().filter(|r| r.alert.resolved_at.is_some());
        let over: Vec<AlertId> = over.map(|r| r.alert.id).collect();
        for old in over.iter().take(over.len().saturating_sub(KEPT)) {
            self.alerting.alerts.remove(old);
            ctx.changed(Kind::Alert, old.0);
        }
        Ok(reply)
    }

    pub(super) fn acknowledge_alert(
        &mut self,
        ctx: &mut Context<'_>,
        id: AlertId,
        by: &str,
        comment: &str,
    ) -> Outcome {
        let mut record = self.active_alert(id)?;
        record.alert.acknowledged =
            Some(Acknowledgement { at: ctx.at, by: by.to_owned(), comment: comment.to_owned() });
        Ok(self.put_alert(ctx, record))
    }

    pub(super) fn silence_alert(
        &mut self,
        ctx: &mut Context<'_>,
        id: AlertId,
        until: Option<Timestamp>,
        by: &str,
        comment: &str,
    ) -> Outcome {
        let mut record = self.active_alert(id)?;
        record.alert.silenced = until.filter(|u| *u > ctx.at).map(|until| Silence {
            until,
            by: by.to_owned(),
            comment: comment.to_owned(),
        });
        // What came up or got worse meanwhile.
        if record.alert.silenced.is_none() && record.told < Some(record.alert.severity) {
            self.alerting.tell(ctx.at, Cause::Reminded, &mut record);
        }
        Ok(self.put_alert(ctx, record))
    }

    fn active_alert(&self, id: AlertId) -> Result<AlertRecord, Refusal> {
        let record = self.alerting.alerts.get(&id).ok_or_else(|| Refusal::not_found("alert", id))?;
        if record.alert.resolved_at.is_some() {
            return Err(Refusal::Conflict("the alert is over".into()));
        }
        Ok((**record).clone())
    }

    fn put_alert(&mut self, ctx: &mut Context<'_>, record: AlertRecord) -> Reply {
        let id = record.alert.id;
        let reply = Reply::Alert(Arc::new(record.alert.clone()));
        self.alerting.alerts.insert(id, Arc::new(record));
        ctx.changed(Kind::Alert, id.0);
        reply
    }

    pub(super) fn set_alert_rule(&mut self, rule: AlertRule, settings: Option<&RuleSettings>) -> Outcome {
        match settings {
            Some(settings) => {
                let errors = settings.validate(rule);
                if !errors.is_empty() {
                    return Err(Refusal::Validation(errors));
                }
                self.alerting.rules.insert(rule, *settings);
            }
            None => drop(self.alerting.rules.remove(&rule)),
        }
        Ok(Reply::Done)
    }

    pub(super) fn create_channel(
        &mut self,
        ctx: &mut Context<'_>,
        id: ChannelId,
        create: &CreateChannel,
    ) -> Outcome {
        let channels = &self.alerting.channels;
        check_new(&create.name, &create.labels, channels.values().map(|c| c.meta.name.as_str()))?;
        let errors = create.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if channels.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        if channels.len() >= MAX_CHANNELS {
            let why = format!("there are {MAX_CHANNELS} channels already: delete those no longer needed");
            return Err(Refusal::Conflict(why));
        }
        let record = ChannelRecord {
            meta: ctx.meta(id, &create.name, create.labels.clone()),
            spec: create.spec.clone(),
            secret: create.secret.clone().filter(|s| !s.is_empty()),
            // What was before it was there is not its business.
            delivered: self.alerting.last_notice,
            delivered_at: None,
            failing: None,
            dropped: 0,
        };
        Ok(self.put_channel(record))
    }

    pub(super) fn update_channel(
        &mut self,
        ctx: &mut Context<'_>,
        id: ChannelId,
        expect: Option<u64>,
        update: &UpdateChannel,
    ) -> Outcome {
        let old = self.channel(id)?;
        check_expected(&old.meta, expect)?;
        let patch = MetadataPatch { name: update.name.clone(), labels: update.labels.clone() };
        let names = self.alerting.channels.values().map(|c| c.meta.name.as_str());
        let mut new = ChannelRecord { meta: patched(&old.meta, &patch, names)?, ..(*old).clone() };
        if let Some(spec) = &update.spec {
            new.spec = spec.clone();
        }
        let mut errors: Vec<_> = update.secret.as_deref().and_then(check_secret).into_iter().collect();
        match &update.secret {
            Some(secret) => new.secret = Some(secret.clone()).filter(|s| !s.is_empty()),
            None if new.secret.is_some() && new.spec.target.place() != old.spec.target.place() => {
                let why = "the channel is to speak to another server: give its secret again, or an empty one";
                errors.push(lq_api::problem::FieldError::new("secret", why));
            }
            None => {}
        }
        errors.extend(new.spec.validate(new.secret.is_some()));
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if new == *old {
            return Ok(Reply::Channel(Arc::new(self.alerting.show(&new))));
        }
        if new.spec.enabled && !old.spec.enabled {
            // What came up while it was off is not told late.
            new.delivered = self.alerting.last_notice;
        }
        new.failing = None;
        new.meta.generation += u64::from(new.spec != old.spec);
        new.meta.revision = ctx.revision;
        Ok(self.put_channel(new))
    }

    pub(super) fn delete_channel(&mut self, id: ChannelId, expect: Option<u64>) -> Outcome {
        check_expected(&self.channel(id)?.meta, expect)?;
        self.alerting.channels.remove(&id);
        Ok(Reply::Done)
    }

    pub(super) fn observe_channel(&mut self, ctx: &Context<'_>, id: ChannelId, attempt: &Attempt) -> Outcome {
        let Some(record) = self.alerting.channels.get_mut(&id) else { return Ok(Reply::Done) };
        let record = Arc::make_mut(record);
        record.delivered = record.delivered.max(attempt.delivered);
        record.dropped += attempt.dropped;
        if attempt.took {
            record.delivered_at = Some(ctx.at);
        }
        record.failing = attempt.failure.as_ref().map(|why| {
            let since = record.failing.as_ref().map_or(ctx.at, |(since, _)| *since);
            (since, why.clone())
        });
        // What every channel has taken is not needed any more.
        let taken = self.alerting.channels.values().filter(|c| c.spec.enabled).map(|c| c.delivered).min();
        let taken = taken.unwrap_or(self.alerting.last_notice);
        self.alerting.notices.retain(|n| n.number > taken);
        Ok(Reply::Done)
    }

    fn channel(&self, id: ChannelId) -> Result<Arc<ChannelRecord>, Refusal> {
        let found = self.alerting.channels.get(&id).cloned();
        found.ok_or_else(|| Refusal::not_found("notification channel", id))
    }

    fn put_channel(&mut self, record: ChannelRecord) -> Reply {
        let reply = Reply::Channel(Arc::new(self.alerting.show(&record)));
        self.alerting.channels.insert(record.meta.id, Arc::new(record));
        reply
    }

    /// Alerts whose silence has ended.
    #[must_use]
    pub fn silences_over(&self, now: Timestamp) -> Vec<AlertId> {
        let over = |a: &&Alert| a.silenced.as_ref().is_some_and(|s| s.until <= now);
        self.alerting.active().filter(over).map(|a| a.id).collect()
    }
}

/// When a silence of so many minutes ends.
#[must_use]
pub fn silence_end(now: Timestamp, minutes: u32) -> Option<Timestamp> {
    (minutes > 0).then(|| now.checked_add(i64::from(minutes).minutes()).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
#[path = "alerts_tests.rs"]
mod tests;
