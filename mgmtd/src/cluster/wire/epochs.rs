//! What hosts of different epochs say to each other, and when each host was last heard.
//!
//! Every request between hosts, and every answer, says the epoch of its sender ([`HEADER`]; absent is the first). Where the two
//! differ nothing is carried out: the older one is told so, and asks what became of its cluster.
//! Invariant: a host that knows of an epoch that goes on without it changes nothing any more, also after a restart.

use crate::cluster::state::{Told, epoch::FIRST};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use lq_api::{HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Says the epoch of the sender.
const HEADER: HeaderName = HeaderName::from_static("lq-epoch");

/// Where a host that is out keeps what it knows of it.
const FILE: &str = "outdated.json";

/// The cluster goes on in an epoch this host is not of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outdated {
    /// The epoch of this host.
    pub epoch: u64,
    /// What it was told.
    pub told: Told,
}

impl std::fmt::Display for Outdated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { epoch, at, by, member, .. } = &self.told;
        let how = if *member { "without changes that only this host has" } else { "without this host" };
        write!(
            f,
            "this host belongs to epoch {}, the cluster was formed anew as epoch {epoch} at {at} from `{by}`, {how}: let \
             it join again",
            self.epoch
        )
    }
}

/// A host of another epoch that called, or was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its epoch.
    pub epoch: u64,
    /// When it was last refused.
    pub at: Timestamp,
}

#[derive(Default)]
struct Inner {
    outdated: Option<Outdated>,
    refused: BTreeMap<HostId, Refused>,
    heard: BTreeMap<HostId, Timestamp>,
    newer: Option<HostId>,
    no_quorum_since: Option<(Timestamp, Instant)>,
}

/// How an epoch stands to the own one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Relation {
    Same,
    /// Theirs is this older one.
    Older(u64),
    /// Theirs is this newer one.
    Newer(u64),
}

/// Epochs as this host knows them.
pub(in crate::cluster) struct Epochs {
    own: u64,
    file: PathBuf,
    inner: Mutex<Inner>,
    /// A host of a newer epoch was met: it is to be asked.
    pub(in crate::cluster) met: Notify,
}

impl Epochs {
    /// Of a host of epoch `own`; what it learnt before is in `dir`.
    pub(in crate::cluster) fn open(dir: &Path, own: u64) -> io::Result<Self> {
        let file = dir.join(FILE);
        let outdated: Option<Outdated> = match fs::read(&file) {
            // A file that cannot be read says at least that there was something to say: it is learnt again.
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).unwrap_or_else(|e| {
                tracing::error!(file = %file.display(), error = %e, "it is damaged; the other hosts are asked again");
                None
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let outdated = outdated.filter(|o| o.told.epoch > own);
        if outdated.is_none() {
            crate::durable::remove(&file)?;
        }
        let inner = Mutex::new(Inner { outdated, ..Inner::default() });
        Ok(Self { own, file, inner, met: Notify::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::cluster) fn own(&self) -> u64 {
        self.own
    }

    /// Says the own epoch.
    pub(super) fn say(&self, headers: &mut HeaderMap) {
        headers.insert(HEADER, HeaderValue::from(self.own));
    }

    /// What the other side says, which is noted.
    pub(super) fn hear(&self, from: HostId, headers: &HeaderMap) -> Relation {
        let said = headers.get(HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let relation = relation(self.own, said.unwrap_or(FIRST));
        let now = Timestamp::now();
        let mut inner = self.inner();
        match relation {
            Relation::Same => {
                inner.heard.insert(from, now);
                inner.refused.remove(&from);
            }
            Relation::Older(epoch) => {
                if inner.refused.insert(from, Refused { epoch, at: now }).is_none_or(|r| r.epoch != epoch) {
                    tracing::warn!(
                        host = %from, epoch, own = self.own,
                        "a host of an older epoch is refused: it has to join again"
                    );
                }
            }
            Relation::Newer(epoch) => {
                // Once it is known, knocking again says nothing new.
                if inner.outdated.as_ref().is_none_or(|o| o.told.epoch < epoch) {
                    inner.newer = Some(from);
                    self.met.notify_one();
                }
            }
        }
        relation
    }

    /// The leader hears these hosts.
    pub(in crate::cluster) fn note_heard(&self, hosts: &BTreeSet<HostId>) {
        let now = Timestamp::now();
        self.inner().heard.extend(hosts.iter().map(|host| (*host, now)));
    }

    /// The host of a newer epoch that was met last.
    pub(in crate::cluster) fn take_newer(&self) -> Option<HostId> {
        self.inner().newer.take()
    }

    /// From now on this host is out, also after a restart.
    pub(in crate::cluster) fn set_outdated(&self, told: Told) -> io::Result<()> {
        let outdated = Outdated { epoch: self.own, told };
        if self.outdated().as_ref() == Some(&outdated) {
            return Ok(());
        }
        tracing::error!("{outdated}");
        let bytes = serde_json::to_vec(&outdated)?;
        // It counts at once, also where the disk fails.
        self.inner().outdated = Some(outdated);
        crate::durable::write(&self.file, 0o600, &bytes)
    }

    /// The epoch that goes on without this host, where there is one.
    pub(in crate::cluster) fn outdated(&self) -> Option<Outdated> {
        self.inner().outdated.clone()
    }

    pub(in crate::cluster) fn is_outdated(&self) -> bool {
        self.inner().outdated.is_some()
    }

    /// Hosts of older epochs that were met.
    pub(in crate::cluster) fn refused(&self) -> BTreeMap<HostId, Refused> {
        self.inner().refused.clone()
    }

    /// When each host was last heard since this daemon began.
    pub(in crate::cluster) fn heard(&self) -> BTreeMap<HostId, Timestamp> {
        self.inner().heard.clone()
    }

    /// Notes whether a majority is reached.
    pub(in crate::cluster) fn note_quorum(&self, there: bool) {
        let since = &mut self.inner().no_quorum_since;
        *since = if there { None } else { since.or_else(|| Some((Timestamp::now(), Instant::now()))) };
    }

    /// Since when no majority is reached.
    pub(in crate::cluster) fn no_quorum_since(&self) -> Option<Timestamp> {
        self.inner().no_quorum_since.map(|(at, _)| at)
    }

    /// For how long no majority has been reached.
    pub(in crate::cluster) fn no_quorum_for(&self) -> Option<Duration> {
        self.inner().no_quorum_since.map(|(_, since)| since.elapsed())
    }
}

fn relation(own: u64, theirs: u64) -> Relation {
    match theirs.cmp(&own) {
        std::cmp::Ordering::Equal => Relation::Same,
        std::cmp::Ordering::Less => Relation::Older(theirs),
        std::cmp::Ordering::Greater => Relation::Newer(theirs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(epoch: u64) -> Told {
        Told { epoch, at: Timestamp::UNIX_EPOCH, by: "a".into(), member: false, base: None }
    }

    fn saying(epoch: u64) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, HeaderValue::from(epoch))])
    }

    #[test]
    fn who_is_out_stays_out_until_it_is_of_the_newer_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let epochs = Epochs::open(dir.path(), 2).unwrap();
        let other = HostId::new();
        assert_eq!(epochs.hear(other, &HeaderMap::new()), Relation::Older(1));
        assert_eq!(epochs.refused()[&other].epoch, 1);
        assert_eq!(epochs.hear(other, &saying(2)), Relation::Same);
        assert!(epochs.refused().is_empty() && epochs.heard().contains_key(&other));
        assert_eq!(epochs.hear(other, &saying(3)), Relation::Newer(3));
        assert_eq!(epochs.take_newer(), Some(other));
        epochs.set_outdated(told(3)).unwrap();
        // It is known now.
        epochs.hear(other, &saying(3));
        assert_eq!(epochs.take_newer(), None);
        drop(epochs);
        let again = Epochs::open(dir.path(), 2).unwrap();
        let text = again.outdated().unwrap().to_string();
        assert!(
            text.contains("epoch 2") && text.contains("as epoch 3") && text.contains("without this host")
        );
        drop(again);
        assert!(!Epochs::open(dir.path(), 3).unwrap().is_outdated());
        assert!(!dir.path().join(FILE).exists());
    }
}
