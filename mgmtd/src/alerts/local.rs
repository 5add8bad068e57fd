//! Alerts of this host alone: those that cannot be in the cluster's state because it takes no changes.
//!
//! Owns `alerts.json` in the state directory: what is active, and what channels have not taken yet (bounded). A file that
//! cannot be read counts as none: nothing depends on it.

use crate::cluster::state::alerts::{Cause, ChannelRecord, Notice, Raised};
use jiff::Timestamp;
use lq_api::{AlertId, ChannelId, alert::Alert};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Most notices that wait.
const MAX_WAITING: usize = 200;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    active: Vec<Alert>,
    waiting: VecDeque<(ChannelId, Notice)>,
}

/// Alerts of this host alone.
pub(super) struct Local {
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl Local {
    /// Those kept in this file.
    pub(super) fn open(path: PathBuf) -> Self {
        let kept = std::fs::read(&path).ok().and_then(|bytes| {
            let read = serde_json::from_slice(&bytes);
            read.inspect_err(|e| tracing::warn!(error = %e, "this host's own alerts cannot be read")).ok()
        });
        Self { path, kept: Mutex::new(kept.unwrap_or_default()) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Kept) -> R) -> R {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut kept);
        let written = serde_json::to_vec(&*kept)
            .map_err(std::io::Error::from)
            .and_then(|bytes| crate::durable::write(&self.path, 0o600, &bytes));
        if let Err(e) = written {
            tracing::warn!(error = %e, "this host's own alerts could not be written");
        }
        result
    }

    pub(super) fn active(&self) -> Vec<Alert> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).active.clone()
    }

    pub(super) fn raise(&self, new: Raised, at: Timestamp, channels: &[Arc<ChannelRecord>]) {
        self.change(|kept| {
            if kept.active.iter().any(|a| a.rule == new.rule && a.target == new.target) {
                return;
            }
            let alert = Alert {
                id: new.id,
                rule: new.rule,
                severity: new.severity,
                target: new.target,
                target_name: new.target_name,
                part: new.part,
                message: new.message,
                source: new.source,
                local: true,
                raised_at: at,
                changed_at: at,
                resolved_at: None,
                acknowledged: None,
                silenced: None,
            };
            tell(kept, at, Cause::Raised, &alert, channels);
            kept.active.push(alert);
        });
    }

    /// Ends one; answers with it.
    pub(super) fn clear(&self, id: AlertId, at: Timestamp, channels: &[Arc<ChannelRecord>]) -> Option<Alert> {
        self.change(|kept| {
            let place = kept.active.iter().position(|a| a.id == id)?;
            let mut alert = kept.active.remove(place);
            alert.resolved_at = Some(at);
            tell(kept, at, Cause::Resolved, &alert, channels);
            Some(alert)
        })
    }

    /// The oldest notice that waits for this channel.
    pub(super) fn waiting(&self, channel: ChannelId) -> Option<Notice> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.waiting.iter().find(|(to, _)| *to == channel).map(|(_, notice)| notice.clone())
    }

    /// A channel took this notice, or it is given up.
    pub(super) fn done(&self, channel: ChannelId, notice: &Notice) {
        self.change(|kept| {
            let place = kept.waiting.iter().position(|(to, n)| *to == channel && n == notice);
            place.and_then(|place| kept.waiting.remove(place))
        });
    }
}

fn tell(kept: &mut Kept, at: Timestamp, cause: Cause, alert: &Alert, channels: &[Arc<ChannelRecord>]) {
    let worst = alert.severity;
    for channel in channels.iter().filter(|c| c.spec.enabled && worst >= c.spec.min_severity) {
        let notice = Notice { number: 0, at, cause, worst, alert: alert.clone() };
        kept.waiting.push_back((channel.meta.id, notice));
    }
    while kept.waiting.len() > MAX_WAITING {
        kept.waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{
        Metadata,
        alert::{AlertRule, Severity},
    };

    fn lost() -> Raised {
        Raised {
            id: AlertId::new(),
            rule: AlertRule::QuorumLost,
            severity: Severity::Critical,
            target: "cluster".into(),
            target_name: "cluster".into(),
            part: None,
            message: "lost".into(),
            source: None,
        }
    }

    #[test]
    fn it_is_there_after_a_restart_until_it_is_over_and_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        let at = Timestamp::UNIX_EPOCH;
        let meta = Metadata {
            id: ChannelId::new(),
            name: "c".into(),
            labels: Default::default(),
            generation: 1,
            revision: 1,
            created_at: at,
        };
        let spec = r#"{"target":{"kind":"webhook","url":"https://x/"}}"#;
        let channel = meta.id;
        let record = ChannelRecord {
            meta,
            spec: serde_json::from_str(spec).unwrap(),
            secret: None,
            delivered: 0,
            delivered_at: None,
            failing: None,
            dropped: 0,
        };
        let channels = [Arc::new(record)];
        Local::open(path.clone()).raise(lost(), at, &channels);
        let local = Local::open(path.clone());
        local.raise(lost(), at, &channels);
        let [alert] = &local.active()[..] else { panic!() };
        assert!(alert.local && alert.resolved_at.is_none());
        assert!(local.clear(alert.id, at, &channels).is_some());
        let local = Local::open(path.clone());
        assert!(local.active().is_empty());
        for cause in [Cause::Raised, Cause::Resolved] {
            let notice = local.waiting(channel).unwrap();
            assert_eq!(notice.cause, cause);
            local.done(channel, &notice);
        }
        assert_eq!(local.waiting(channel), None);
        std::fs::write(&path, "{").unwrap();
        assert!(Local::open(path).active().is_empty());
    }
}
