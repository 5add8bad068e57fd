//! The nightly backups of the agreed state, and how the backups of this host stand, for whoever watches over them.
//!
//! Owns the loop that makes them and [`KeptBackups`]. A backup that failed, for whatever reason it was wanted, is made up for at the
//! next look; until then the failure stands.

use super::{
    Cluster,
    backup::{BackupError, failed},
};
use lq_api::{
    Timestamp,
    recovery::{BackupReason, StateBackup},
};
use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How old the last nightly backup becomes.
const NIGHT: Duration = Duration::from_secs(24 * 3600);
/// Pause between two looks whether one is due.
const LOOK: Duration = Duration::from_secs(600);
/// Holds the release that ran last.
const RELEASE_FILE: &str = "release";
/// This release.
pub(super) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// How the backups of this host stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBackups {
    /// When the newest that can be read was made.
    pub newest: Option<Timestamp>,
    /// Since when none could be made, and why the last attempt failed.
    pub failing: Option<(Timestamp, String)>,
    /// The newest file, where it cannot be read: its name, and why.
    pub damaged: Option<(String, String)>,
}

/// What is known of them; nothing before they were looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Option<KeptBackups>>>);

impl Watch {
    fn change(&self, change: impl FnOnce(&mut KeptBackups)) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kept.get_or_insert_default());
    }

    fn get(&self) -> Option<KeptBackups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One was made.
    pub(super) fn made(&self, at: Timestamp) {
        self.change(|kept| *kept = KeptBackups { newest: Some(at), ..KeptBackups::default() });
    }

    /// One was not.
    pub(super) fn failed(&self, at: Timestamp, why: String) {
        self.change(|kept| {
            let since = kept.failing.as_ref().map_or(at, |(since, _)| *since);
            kept.failing = Some((since, why));
        });
    }

    /// These are there, newest first.
    fn seen(&self, backups: &[StateBackup]) {
        let newest = backups.iter().find(|b| b.damaged.is_none()).map(|b| b.created_at);
        let damaged = backups.first().and_then(|b| Some((b.id.clone(), b.damaged.clone()?)));
        self.change(|kept| (kept.newest, kept.damaged) = (newest, damaged));
    }
}

/// Whether the nightly backup is due. A clock that was set back makes it due as well.
fn due(last: Option<Timestamp>, now: Timestamp) -> bool {
    let Some(last) = last else { return true };
    let age = now.duration_since(last);
    age.is_negative() || age.unsigned_abs() >= NIGHT
}

impl Cluster {
    /// How the backups of this host stand; `None` before they were looked at.
    #[must_use]
    pub fn kept_backups(&self) -> Option<KeptBackups> {
        self.backups.get()
    }

    /// Makes the backup of a first start of another release, and one each night, until the cluster is stopped. `told` is
    /// called with what went wrong, once for each fault.
    pub async fn keep_backups(&self, told: impl Fn(String)) {
        let mut fault = None;
        loop {
            match self.look_at_backups().await {
                Ok(()) => fault = None,
                Err(e) => {
                    let text = crate::causes::chain(&e);
                    self.backups.failed(Timestamp::now(), text.clone());
                    if fault.as_ref() != Some(&text) {
                        tracing::error!(error = text, "the state could not be backed up");
                        told(format!("the state could not be backed up: {text}"));
                        fault = Some(text);
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look_at_backups(&self) -> Result<(), BackupError> {
        if self.read(|s| s.cluster.is_none()) {
            return Ok(());
        }
        let mark = self.dir.join(RELEASE_FILE);
        let before = fs::read_to_string(&mark).unwrap_or_default();
        if before != RELEASE {
            // A first start has nothing of an older release.
            if !before.is_empty() {
                self.backup(BackupReason::Upgrade).await?;
            }
            crate::durable::write(&mark, 0o600, RELEASE.as_bytes()).map_err(|e| failed(&mark, e))?;
        }
        let backups = self.backups().await?;
        self.backups.seen(&backups);
        // One that cannot be read is none.
        let good = |b: &&StateBackup| b.reason == BackupReason::Nightly && b.damaged.is_none();
        let last = backups.iter().find(good).map(|b| b.created_at);
        let make_up = self.kept_backups().is_some_and(|k| k.failing.is_some() || k.damaged.is_some());
        if make_up || due(last, Timestamp::now()) {
            self.backup(BackupReason::Nightly).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{HostKey, Op, backup::Reason};
    use lq_api::{NetworkId, PoolId};
    use proptest::prelude::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_that_failed_stands_until_it_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::open(dir.path()).await.unwrap();
        let identity = cluster.identity();
        let op = Op::Initialise {
            cluster: identity.cluster,
            host: identity.host,
            host_name: "h1".into(),
            pool: PoolId::new(),
            network: NetworkId::new(),
            dhcp: None,
        };
        assert!(cluster.look_at_backups().await.is_ok());
        assert_eq!(cluster.kept_backups(), None, "there is no state yet");
        cluster.write(op).await.unwrap();
        // Who has no authority yet has made no key.
        HostKey::load(dir.path()).unwrap();
        cluster.look_at_backups().await.unwrap();
        let kept = cluster.kept_backups().unwrap();
        assert!(kept.newest.is_some() && kept.failing.is_none() && kept.damaged.is_none(), "{kept:?}");
        // A file where the directory is to be, as after a slip or on a damaged disk.
        let (place, away) = (dir.path().join("backups"), dir.path().join("away"));
        fs::rename(&place, &away).unwrap();
        fs::write(&place, "x").unwrap();
        assert!(cluster.backup(Reason::Removal).await.is_err());
        let failing = cluster.kept_backups().unwrap().failing.unwrap();
        assert!(failing.1.contains("backups"), "{failing:?}");
        assert!(cluster.look_at_backups().await.is_err());
        assert_eq!(cluster.kept_backups().unwrap().failing.unwrap().0, failing.0, "since the first");
        fs::remove_file(&place).unwrap();
        fs::rename(&away, &place).unwrap();
        cluster.look_at_backups().await.unwrap();
        assert_eq!(cluster.kept_backups().unwrap().failing, None, "the next look makes up for it");
        // The newest is damaged, and another one is made.
        let newest = cluster.backups().await.unwrap().remove(0);
        fs::write(place.join(format!("{}.lqb", newest.id)), "rubbish").unwrap();
        let before = cluster.backups().await.unwrap();
        cluster.backups.seen(&before);
        assert_eq!(cluster.kept_backups().unwrap().damaged.unwrap().0, newest.id);
        cluster.look_at_backups().await.unwrap();
        let kept = cluster.kept_backups().unwrap();
        assert!(kept.damaged.is_none() && cluster.backups().await.unwrap().len() > before.len(), "{kept:?}");
        cluster.shutdown().await;
    }

    proptest! {
        #[test]
        fn one_a_day(last in 0i64..2_000_000, now in 0i64..2_000_000) {
            let at = |n| Timestamp::from_second(n).unwrap();
            prop_assert_eq!(due(Some(at(last)), at(now)), now < last || now - last >= 86_400);
            prop_assert!(due(None, at(now)));
        }
    }
}
