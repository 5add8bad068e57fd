//! Tells channels of alerts.
//!
//! ```text
//!  notice ──▶ sent ──taken──▶ ObserveChannel (delivered)
//!    ▲          └──failed──▶ ObserveChannel (failing), pause 5 s, 10 s … 10 min ──┐
//!    └────────────────────────────────────────────────────────────────────────────┘  given up after a day
//! ```
//! The leader tells what is in the state, in order, one at a time per channel; each host tells what only it knows. The queue is
//! the state itself (bounded there), so it outlives whoever leads. Told at least once: after a crash between the sending and the
//! note of it, again.

mod mail;
mod render;
mod syslog;
mod webhook;

use super::Alerts;
use crate::{
    cluster::{
        Op,
        state::alerts::{Attempt, Cause, ChannelRecord, Notice},
    },
    reconcile::Node,
};
use lq_api::{
    AlertId, ChannelId, Timestamp,
    alert::{Alert, AlertRule, Severity},
    channel::ChannelTarget,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest that a channel may take for one notice.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// First pause after a failure; doubled at each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(600);
/// A notice that is older is given up.
const TOO_OLD: Duration = Duration::from_secs(86_400);

/// Who tells.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The cluster.
    pub cluster: Uuid,
    /// Name of the host that tells.
    pub host: String,
}

/// Sends one notice. The error is in words.
pub async fn send(channel: &ChannelRecord, notice: &Notice, sender: &Sender) -> Result<(), String> {
    let secret = channel.secret.as_deref();
    let sending = async {
        match &channel.spec.target {
            ChannelTarget::Webhook { url, ca } => {
                webhook::send(url, ca.as_deref(), secret, notice, sender).await
            }
            ChannelTarget::Mail { server, port, security, username, from, to, ca } => {
                let login = username.as_deref().zip(secret);
                let envelope = mail::Envelope { from, to };
                let place = mail::Place {
                    server,
                    port: port.unwrap_or(security.port()),
                    security: *security,
                    ca: ca.as_deref(),
                };
                mail::send(&place, login, &envelope, notice, sender).await
            }
            ChannelTarget::Syslog { server, port, tls, ca } => {
                let port = port.unwrap_or(if *tls { 6514 } else { 514 });
                syslog::send(server, port, tls.then_some(ca.as_deref()), notice, sender).await
            }
        }
    };
    match tokio::time::timeout(PATIENCE, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(format!("it did not take it within {} s", PATIENCE.as_secs())),
    }
}

/// What a channel is tried with.
#[must_use]
pub fn trial(node: &Node) -> Notice {
    let at = Timestamp::now();
    let me = node.id();
    let alert = Alert {
        id: AlertId::new(),
        rule: AlertRule::ChannelFailing,
        severity: Severity::Info,
        target: format!("host/{me}"),
        target_name: node.cluster.read(|s| s.hosts.get(&me).map(|h| h.meta.name.clone())).unwrap_or_default(),
        part: None,
        message: "this is a test: the channel works".into(),
        source: Some(me),
        local: false,
        raised_at: at,
        changed_at: at,
        resolved_at: None,
        acknowledged: None,
        silenced: None,
    };
    Notice { number: 0, at, cause: Cause::Test, worst: Severity::Info, alert }
}

/// When a channel that failed is tried again.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Of the channel as it was: one that was changed is tried at once.
    revision: u64,
    pause: Duration,
    until: Instant,
}

impl Rest {
    fn after(before: Option<&Self>, revision: u64) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |b| (b.pause * 2).min(LAST_PAUSE));
        Self { revision, pause, until: Instant::now() + pause }
    }

    fn over(&self, revision: u64) -> bool {
        self.revision != revision || Instant::now() >= self.until
    }
}

/// What was sent, and what came of it.
struct Sent {
    channel: Arc<ChannelRecord>,
    notice: Notice,
    local: bool,
    outcome: Result<(), String>,
}

/// Tells until `end`.
pub(super) async fn run(alerts: Arc<Alerts>, end: CancellationToken) {
    let node = alerts.node.clone();
    let mut rests: BTreeMap<ChannelId, Rest> = BTreeMap::new();
    let mut busy: BTreeSet<ChannelId> = BTreeSet::new();
    let mut sending: JoinSet<Sent> = JoinSet::new();
    loop {
        let leads = node.cluster.standing().leader == Some(node.id()) && !node.cluster.is_removed();
        let waiting = next(&alerts, leads, |channel| {
            let (id, revision) = (channel.meta.id, channel.meta.revision);
            !busy.contains(&id) && rests.get(&id).is_none_or(|r| r.over(revision))
        });
        let sender = alerts.sender();
        for (channel, notice, local) in waiting {
            busy.insert(channel.meta.id);
            let sender = sender.clone();
            sending.spawn(async move {
                let outcome = send(&channel, &notice, &sender).await;
                Sent { channel, notice, local, outcome }
            });
        }
        tokio::select! {
            () = end.cancelled() => return,
            Some(sent) = sending.join_next(), if !sending.is_empty() => match sent {
                Ok(sent) => {
                    let id = sent.channel.meta.id;
                    busy.remove(&id);
                    let revision = sent.channel.meta.revision;
                    match &sent.outcome {
                        Ok(()) => drop(rests.remove(&id)),
                        Err(_) => {
                            let before = rests.get(&id).filter(|r| r.revision == revision);
                            let rest = Rest::after(before, revision);
                            rests.insert(id, rest);
                        }
                    }
                    observe(&alerts, &sent, leads).await;
                }
                Err(e) => {
                    tracing::error!(error = %e, "a notification ended by a fault of ours");
                    // Which one is not known: all are tried again.
                    busy.clear();
                }
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The next notice of every channel that can be told now; whether it is one that only this host knows.
fn next(
    alerts: &Alerts,
    leads: bool,
    can: impl Fn(&ChannelRecord) -> bool,
) -> Vec<(Arc<ChannelRecord>, Notice, bool)> {
    alerts.node.cluster.read(|s| {
        let ready = s.alerting.channels.values().filter(|c| c.spec.enabled && can(c));
        let found = ready.filter_map(|channel| {
            let local = alerts.local.waiting(channel.meta.id).map(|n| (n, true));
            let agreed = || {
                let notice = s.alerting.notices.iter().find(|n| channel.wants(n)).filter(|_| leads)?;
                Some(((**notice).clone(), false))
            };
            let (notice, local) = local.or_else(agreed)?;
            Some((channel.clone(), notice, local))
        });
        found.collect()
    })
}

/// Notes what came of it.
async fn observe(alerts: &Alerts, sent: &Sent, leads: bool) {
    let id = sent.channel.meta.id;
    let old = Timestamp::now().duration_since(sent.notice.at).unsigned_abs() > TOO_OLD;
    let gone = sent.outcome.is_ok() || old;
    if let Err(e) = &sent.outcome {
        tracing::warn!(channel = sent.channel.meta.name, error = e, "a channel was not told of an alert");
    }
    if sent.local {
        if gone {
            alerts.local.done(id, &sent.notice);
        }
        return;
    }
    let known = alerts.node.cluster.read(|s| {
        let record = s.alerting.channels.get(&id)?;
        Some(record.failing.as_ref().map(|(_, why)| why.clone()))
    });
    // Of a failure that is known already nothing is noted anew.
    if !leads || known.is_none() || (!gone && known.flatten() == sent.outcome.as_ref().err().cloned()) {
        return;
    }
    let attempt = Attempt {
        delivered: if gone { sent.notice.number } else { 0 },
        took: sent.outcome.is_ok(),
        dropped: u64::from(gone && sent.outcome.is_err()),
        failure: sent.outcome.as_ref().err().cloned(),
    };
    if let Err(e) = alerts.node.cluster.write(Op::ObserveChannel { id, attempt }).await {
        tracing::debug!(error = %e, "it could not be noted how a channel does");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_a_change() {
        let mut rest = Rest::after(None, 1);
        assert!(rest.pause == FIRST_PAUSE && !rest.over(1) && rest.over(2));
        for _ in 0..20 {
            rest = Rest::after(Some(&rest), 1);
        }
        assert_eq!(rest.pause, LAST_PAUSE);
    }
}
