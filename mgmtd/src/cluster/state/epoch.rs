//! Epochs: what is agreed of a cluster that was formed anew without a majority, and what a host of an older epoch makes of it.
//!
//! ```text
//!  epoch 1 ── majority lost ──▶ Reform (survivor) ──▶ epoch 2 ── … a host of epoch 1 comes back:
//!                                                       member, lacks nothing it had agreed to ──▶ follows by itself
//!                                                       declared lost, or had agreed to more   ──▶ out, until it joins anew
//! ```
//! Invariants: the epoch only grows; hosts of different epochs change nothing together; a host never throws away by itself
//! what it had agreed to with others; what is placed on a lost host stays there.

use super::{ClusterRecord, Kind, Outcome, Refusal, Reply, State, apply::Context};
use jiff::Timestamp;
use lq_api::HostId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The epoch of a cluster that was never formed anew.
pub(in crate::cluster) const FIRST: u64 = 1;

pub(in crate::cluster) fn first() -> u64 {
    FIRST
}

/// A position in the log. Of two the greater one holds everything that was agreed up to the smaller: a leader of a later term
/// has all that was agreed before it was elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// That leader.
    pub leader: HostId,
    /// Index.
    pub index: u64,
}

/// How an epoch began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// The epoch.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
    /// From the log, or the restored backup, of this host.
    pub by: HostId,
    /// Where that log ended; `None` where it was a backup, or empty.
    pub base: Option<Position>,
    /// Hosts that were declared lost.
    pub lost: Vec<HostId>,
    /// From a backup: nobody's log leads up to it.
    #[serde(default)]
    pub restored: bool,
}

/// A host went on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Since when.
    pub at: Timestamp,
    /// In which epoch.
    pub epoch: u64,
}

/// What a host of an older epoch is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The present epoch.
    pub epoch: u64,
    /// When it began.
    pub at: Timestamp,
    /// Name of the host it was formed from.
    pub by: String,
    /// Whether the host that asks is one of its members.
    pub member: bool,
    /// Where the log ended by which the first epoch after that of the host that asks began.
    pub base: Option<Position>,
}

/// What a host makes of a newer epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is none that is newer.
    Nothing,
    /// It lacks nothing: leave the old log and take the new one.
    Follow,
    /// The cluster goes on without this host.
    Lost,
    /// It goes on with this host, but without something it had agreed to.
    Ahead,
}

/// What a host of `epoch` that has `applied` so much makes of what it is told.
#[must_use]
pub fn judge(epoch: u64, applied: Option<Position>, told: &Told) -> Verdict {
    match () {
        () if told.epoch <= epoch => Verdict::Nothing,
        () if !told.member => Verdict::Lost,
        // `None` is less than any position.
        () if told.base.is_some() && applied <= told.base => Verdict::Follow,
        () => Verdict::Ahead,
    }
}

impl State {
    /// The present epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.cluster.as_ref().map_or(FIRST, |c| c.epoch)
    }

    /// What a host of `epoch` is told; `None` where nothing is newer.
    #[must_use]
    pub fn told_of(&self, host: HostId, epoch: u64) -> Option<Told> {
        let formations = &self.cluster.as_ref()?.formations;
        let last = formations.last().filter(|f| f.epoch > epoch)?;
        let next = formations.iter().find(|f| f.epoch > epoch)?;
        Some(Told {
            epoch: last.epoch,
            at: last.at,
            by: self.host_name(last.by),
            member: self.hosts.get(&host).is_some_and(|r| r.lost.is_none()),
            base: next.base,
        })
    }

    /// The name of a host, or its id where it is not known any more.
    #[must_use]
    pub fn host_name(&self, id: HostId) -> String {
        let known = self.hosts.get(&id).map(|r| r.meta.name.clone());
        known.or_else(|| self.removed.get(&id).map(|r| r.name.clone())).unwrap_or_else(|| id.to_string())
    }

    pub(super) fn reform(&mut self, ctx: &mut Context<'_>, formation: &Formation) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(|| Refusal::not_found("cluster", "yet"))?;
        if formation.epoch <= cluster.epoch {
            let why = format!("the cluster is in epoch {} already", cluster.epoch);
            return Err(Refusal::Conflict(why));
        }
        begin(cluster, formation);
        // Invitations of the cluster that was would let in hosts nobody thought of.
        self.join_tokens.clear();
        let mark = Lost { at: formation.at, epoch: formation.epoch };
        for host in &formation.lost {
            self.admitted_with.remove(host);
            if let Some(record) = self.hosts.get_mut(host).filter(|r| r.lost.is_none()) {
                let record = Arc::make_mut(record);
                record.lost = Some(mark);
                record.meta.revision = ctx.revision;
                ctx.changed(Kind::Host, host.0);
            }
        }
        Ok(Reply::Done)
    }
}

fn begin(cluster: &mut ClusterRecord, formation: &Formation) {
    cluster.epoch = formation.epoch;
    cluster.formations.push(formation.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    fn position(term: u64, index: u64) -> Position {
        Position { term, leader: host(u128::from(term)), index }
    }

    #[test]
    fn only_who_lacks_nothing_follows_by_itself() {
        let told = |member, base| Told { epoch: 2, at: Timestamp::UNIX_EPOCH, by: "a".into(), member, base };
        let base = Some(position(3, 10));
        for (epoch, applied, member, base, expected) in [
            (2, Some(position(3, 9)), true, base, Verdict::Nothing),
            (3, None, false, base, Verdict::Nothing),
            (1, Some(position(3, 10)), true, base, Verdict::Follow),
            (1, Some(position(2, 99)), true, base, Verdict::Follow),
            (1, None, true, base, Verdict::Follow),
            (1, Some(position(3, 11)), true, base, Verdict::Ahead),
            (1, Some(position(4, 1)), true, base, Verdict::Ahead),
            (1, None, true, None, Verdict::Ahead),
            (1, Some(position(3, 1)), false, base, Verdict::Lost),
        ] {
            assert_eq!(judge(epoch, applied, &told(member, base)), expected, "{epoch} {applied:?} {member}");
        }
    }

    proptest! {
        /// Whatever epochs there were: a host follows only over the first one it missed, and nobody goes back.
        #[test]
        fn nobody_throws_away_what_was_agreed(
            bases in proptest::collection::vec(proptest::option::of((1u64..5, 1u64..50)), 1..5),
            epoch in 1u64..7,
            applied in proptest::option::of((1u64..5, 1u64..50)),
        ) {
            let cluster = ClusterRecord {
                id: Uuid::from_u128(1),
                created_at: Timestamp::UNIX_EPOCH,
                authority: None,
                ha: lq_api::ha::HaSpec::default(),
                balance: lq_api::balance::BalanceSpec::default(),
                time: lq_api::time::TimeSpec::default(),
                epoch: FIRST,
                formations: vec![],
            };
            let mut state = State { cluster: Some(cluster), ..State::new() };
            let me = host(7);
            let mut changes = Vec::new();
            state.add_host(&mut Context::new(1, Timestamp::UNIX_EPOCH, &mut changes), me, "me");
            for (n, base) in (2u64..).zip(&bases) {
                let base = base.map(|(term, index)| position(term, index));
                let formation =
                    Formation { epoch: n, at: Timestamp::UNIX_EPOCH, by: host(1), base, lost: vec![], restored: base.is_none() };
                let ctx = &mut Context::new(n, Timestamp::UNIX_EPOCH, &mut changes);
                prop_assert!(state.reform(ctx, &formation).is_ok());
                let again = state.reform(ctx, &formation);
                prop_assert!(matches!(again, Err(Refusal::Conflict(_))));
            }
            prop_assert_eq!(state.epoch(), 1 + bases.len() as u64);
            let applied = applied.map(|(term, index)| position(term, index));
            match state.told_of(me, epoch) {
                None => prop_assert!(epoch >= state.epoch()),
                Some(told) => {
                    let next = bases[usize::try_from(epoch - 1).unwrap()];
                    let base = next.map(|(term, index)| position(term, index));
                    let follows = judge(epoch, applied, &told) == Verdict::Follow;
                    prop_assert_eq!(follows, base.is_some() && applied <= base);
                }
            }
        }
    }
}
