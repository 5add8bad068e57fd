//! What the BMCs said last: the leader asks each every few minutes, so that one that does not do is told while nobody needs it.
//!
//! A BMC that says that a host is off which beats all the same belongs to another machine, or lies: that is a failure, and its word
//! does not count until it was asked again and made sense.

use super::test_of;
use crate::{
    cluster::{Cluster, state::BmcRecord},
    ha::{BEAT, leader::Leader},
};
use futures::{StreamExt as _, stream};
use lq_api::{
    HostId, Timestamp,
    bmc::{BmcPower, BmcStatus, BmcTest},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Between two looks at whom to ask.
const LOOK: Duration = Duration::from_secs(2);
/// Between two questions to a BMC that does.
const EVERY: Duration = Duration::from_secs(180);
/// Between two questions to one that does not.
const SOONER: Duration = Duration::from_secs(60);
/// Most that are asked at a time.
const ABREAST: usize = 8;

/// A BMC as it was last seen.
#[derive(Clone, Debug)]
struct Seen {
    /// With which settings.
    record: BmcRecord,
    at: Instant,
    status: BmcStatus,
    /// It said what cannot be true.
    absurd: bool,
}

/// What the BMCs said last. Known only where this host leads.
pub struct Boards {
    cluster: Cluster,
    seen: Mutex<BTreeMap<HostId, Seen>>,
}

impl Boards {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(cluster: Cluster) -> Arc<Self> {
        Arc::new(Self { cluster, seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<HostId, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the BMC of a host does.
    pub(crate) fn status(&self, host: HostId) -> Option<BmcStatus> {
        self.seen().get(&host).map(|seen| seen.status.clone())
    }

    /// Why the word of a host's BMC does not count, where it said what cannot be true when it was last asked.
    pub(crate) fn distrusted(&self, host: HostId) -> Option<String> {
        self.seen().get(&host).filter(|seen| seen.absurd).and_then(|seen| seen.status.failure.clone())
    }

    /// How all do.
    pub(crate) fn statuses(&self) -> BTreeMap<HostId, BmcStatus> {
        self.seen().iter().map(|(host, seen)| (*host, seen.status.clone())).collect()
    }

    /// Asks until `end`, where this host leads.
    pub async fn run(self: Arc<Self>, leader: Arc<Leader>, end: CancellationToken) {
        loop {
            let asking = async {
                if self.cluster.leading().is_some() {
                    self.look(&leader).await;
                } else {
                    self.seen().clear();
                }
                tokio::time::sleep(LOOK).await;
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = asking => {}
            }
        }
    }

    async fn look(&self, leader: &Leader) {
        let boards: BTreeMap<HostId, BmcRecord> = self
            .cluster
            .read(|s| s.hosts.iter().filter_map(|(id, host)| Some((*id, host.bmc.clone()?))).collect());
        let due: Vec<_> = {
            let mut seen = self.seen();
            seen.retain(|host, seen| boards.get(host) == Some(&seen.record));
            let due = |host: &HostId| {
                seen.get(host).is_none_or(|seen| {
                    let pause = if seen.status.failure.is_some() { SOONER } else { EVERY };
                    seen.at.elapsed() >= pause
                })
            };
            boards.into_iter().filter(|(host, _)| due(host)).collect()
        };
        let asking = due.into_iter().map(|(host, record)| async move {
            let test = test_of(&self.cluster, host, &record).await;
            let (test, absurd) = self.believe(leader, host, test).await;
            let mut seen = self.seen();
            let before = seen.get(&host).map(|seen| &seen.status);
            let status = follows(before, &test, Timestamp::now());
            seen.insert(host, Seen { record, at: Instant::now(), status, absurd });
        });
        stream::iter(asking).buffer_unordered(ABREAST).collect::<()>().await;
    }

    /// What is said, unless it cannot be true.
    async fn believe(&self, leader: &Leader, host: HostId, test: BmcTest) -> (BmcTest, bool) {
        if test.power != Some(BmcPower::Off) {
            return (test, false);
        }
        // One that has just been switched off was heard a moment ago. So it is heard a moment later, or it is not.
        tokio::time::sleep(Duration::from_millis(4 * BEAT)).await;
        if leader.heard_ago(host).is_none_or(|ago| ago > 2 * BEAT) {
            return (test, false);
        }
        let why = "it says that the host is off, but the host answers: it is the BMC of another machine, or cannot be trusted. Correct \
                   its address, or its `system`";
        (BmcTest { failure: Some(why.into()), power: None, ..test }, true)
    }
}

/// How a BMC does after this.
fn follows(before: Option<&BmcStatus>, test: &BmcTest, now: Timestamp) -> BmcStatus {
    BmcStatus {
        checked_at: now,
        power: test.power,
        failing_since: test.failure.is_some().then(|| before.and_then(|b| b.failing_since).unwrap_or(now)),
        failure: test.failure.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_it_fails_is_kept() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let failing = BmcTest { failure: Some("x".into()), ..BmcTest::default() };
        let first = follows(None, &failing, at(1));
        let second = follows(Some(&first), &failing, at(2));
        assert_eq!((second.checked_at, second.failing_since), (at(2), Some(at(1))));
        let well = BmcTest { power: Some(BmcPower::On), ..BmcTest::default() };
        let third = follows(Some(&second), &well, at(3));
        assert_eq!(
            (third.failing_since, third.failure.clone(), third.power),
            (None, None, Some(BmcPower::On))
        );
        assert_eq!(follows(Some(&third), &failing, at(4)).failing_since, Some(at(4)));
    }
}
