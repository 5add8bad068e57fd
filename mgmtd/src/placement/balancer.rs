//! The loop that balances: on the host that leads, every minute, and at once when something else is wanted of it.
//!
//! ```text
//!  balanced ── the best move is worth beginning ──▶ balancing ── none is worth its cost ──▶ balanced
//!                                                     │ automatic: up to `at_once` machines move, each then rests
//! ```
//! What it knows of the past (who moved when, whether it is balancing) lasts as long as it leads. A host that begins to lead lets
//! everything rest first. Moves are carried out by the machine's own host, as those a person asks for.

use super::balance::{self, Limits};
use crate::{
    cluster::{Cluster, State},
    reconcile::{Node, moves::MoveError},
};
use lq_api::{
    HostId, Timestamp, VmId,
    balance::{Balance, BalanceMode},
    event::EventLevel,
    task::Task,
    vm::MigrateVm,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(60);
/// How long a machine is left where it is after it came there.
const REST: Duration = Duration::from_secs(600);
/// How long one is left alone whose move failed.
const FAILED: Duration = Duration::from_secs(1800);
/// How long everything is left alone by a host that begins to lead.
const FIRST_REST: Duration = Duration::from_secs(120);
/// Moves that are recommended at a time.
const SHOWN: usize = 16;
/// Longest the machine's host may take to begin a move.
const ORDER: Duration = Duration::from_secs(20);
/// Where a host is asked to move a machine of its own.
pub(crate) const ORDER_PATH: &str = "/move/order";
/// By whom moves are asked for.
const ACTOR: &str = "balancing";

/// Asked of the host of a machine: move it there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct MoveOrder {
    vm: VmId,
    to: HostId,
}

/// What is remembered while this host leads.
#[derive(Default)]
struct Past {
    term: u64,
    /// Where each machine was seen last, in which epoch, and until when it rests.
    places: BTreeMap<VmId, (u64, Option<Instant>)>,
    /// A time of balance is over.
    balancing: bool,
    /// Nothing is moved before.
    rests_until: Option<Instant>,
}

impl Past {
    /// Begins anew where this host has begun to lead, and sees who came to another host.
    fn look(&mut self, state: &State, term: u64, now: Instant) {
        if self.term != term {
            *self = Self { term, rests_until: Some(now + FIRST_REST), ..Self::default() };
        }
        self.places.retain(|id, _| state.vms.contains_key(id));
        for (id, record) in &state.vms {
            let known = self.places.get(id).copied();
            let rests = match known {
                // Every machine a host that begins to lead sees may have come a moment ago; the first rest is for that.
                None => None,
                Some((epoch, _)) if epoch != record.epoch => Some(now + REST),
                Some((_, rests)) => rests.filter(|until| *until > now),
            };
            self.places.insert(*id, (record.epoch, rests));
        }
        self.rests_until = self.rests_until.filter(|until| *until > now);
    }

    fn resting(&self) -> BTreeSet<VmId> {
        self.places.iter().filter(|(_, (_, rests))| rests.is_some()).map(|(id, _)| *id).collect()
    }

    fn failed(&mut self, vm: VmId, now: Instant) {
        if let Some((_, rests)) = self.places.get_mut(&vm) {
            *rests = Some(now + FAILED);
        }
    }

    /// Moves that are to begin now.
    fn orders(&mut self, state: &State, reachable: Option<&BTreeSet<HostId>>) -> Vec<balance::Move> {
        let spec = state.balance();
        let resting = self.resting();
        let limits = Limits { reachable, resting: Some(&resting) };
        if spec.mode != BalanceMode::Automatic || self.rests_until.is_some() {
            return vec![];
        }
        let best = balance::best_move(state, limits);
        self.balancing = best.as_ref().is_some_and(|b| self.balancing || balance::is_worth_beginning(b));
        let under_way = state.vms.values().filter(|r| r.moving.is_some()).count();
        let most = (spec.at_once as usize).saturating_sub(under_way);
        if !self.balancing || most == 0 {
            return vec![];
        }
        balance::plan(state, limits, most)
    }
}

/// Balances where this host leads.
pub struct Balancer {
    node: Arc<Node>,
    past: Mutex<Past>,
}

impl Balancer {
    /// Follows the cluster until `end`.
    #[must_use]
    pub fn start(node: Arc<Node>, end: CancellationToken) -> Arc<Self> {
        let this = Arc::new(Self { node, past: Mutex::default() });
        let working = this.clone();
        tokio::spawn(async move {
            let mut changes = working.node.cluster.watch();
            let mut wanted = None;
            loop {
                working.look().await;
                let spec = working.cluster().read(State::balance);
                let first = wanted.replace(spec);
                if first.is_some_and(|before| before != spec) {
                    continue;
                }
                let next = tokio::time::sleep(LOOK);
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        () = end.cancelled() => return,
                        () = &mut next => break,
                        changed = changes.changed() => {
                            if changed.is_err() {
                                return;
                            }
                            if working.cluster().read(State::balance) != spec {
                                // A person who has just said so means now.
                                working.past().rests_until = None;
                                break;
                            }
                        }
                    }
                }
            }
        });
        this
    }

    fn cluster(&self) -> &Cluster {
        &self.node.cluster
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(self: &Arc<Self>) {
        let Some(leading) = self.cluster().leading() else { return };
        let reachable = self.node.reachable().await;
        let state = self.cluster().read(State::clone);
        let orders = {
            let (this, reachable) = (self.clone(), reachable.clone());
            // Some milliseconds of a large cluster.
            tokio::task::spawn_blocking(move || {
                let mut past = this.past();
                past.look(&state, leading.term, Instant::now());
                past.orders(&state, reachable.as_ref())
            })
            .await
        };
        for order in orders.unwrap_or_default() {
            if let Err(why) = self.order(&order).await {
                tracing::info!(vm = %order.vm, to = %order.to, reason = why, "a machine could not be moved for balance");
                self.past().failed(order.vm, Instant::now());
            }
        }
    }

    /// Has the machine's host move it.
    async fn order(&self, order: &balance::Move) -> Result<(), String> {
        let wanted = MoveOrder { vm: order.vm, to: order.to };
        let text = self.cluster().read(|s| {
            format!(
                "it moves to `{}` for balance, which gains {} for {}",
                s.host_name(order.to),
                order.gain,
                order.cost
            )
        });
        if order.from == self.node.id() {
            obey(&self.node, wanted).await.map_err(|e| e.to_string())?;
        } else {
            let asked = self.cluster().ask::<Task>(order.from, ORDER_PATH, &wanted, ORDER).await;
            asked.map_err(|e| e.to_string())?;
        }
        self.node.events.system(EventLevel::Info, "balance.move", format!("vm/{}", order.vm), text);
        Ok(())
    }

    /// How balance stands, as this host sees it.
    pub async fn status(&self) -> Balance {
        let reachable = self.node.reachable().await;
        let state = self.cluster().read(State::clone);
        let leading = self.cluster().leading();
        let (resting, rests_until) = {
            let past = self.past();
            let leads = leading.is_some_and(|l| l.term == past.term);
            if leads { (past.resting(), past.rests_until) } else { Default::default() }
        };
        let spec = state.balance();
        let (items, hosts) = tokio::task::spawn_blocking(move || {
            let limits = Limits { reachable: reachable.as_ref(), resting: Some(&resting) };
            let most = if spec.mode == BalanceMode::Off { 0 } else { SHOWN };
            (balance::recommend(&state, limits, most), balance::hosts(&state, limits))
        })
        .await
        .unwrap_or_default();
        let at = |until: Instant| {
            let left = until.saturating_duration_since(Instant::now());
            Timestamp::now().saturating_add(jiff::SignedDuration::try_from(left).ok()?).ok()
        };
        let note = match spec.mode {
            BalanceMode::Off => Some("balancing is off".to_owned()),
            _ if hosts.iter().filter(|h| h.left_alone.is_none()).count() < 2 => {
                Some("fewer than two hosts can be balanced".into())
            }
            _ if items.is_empty() => Some("no move is worth what it costs".into()),
            _ if leading.is_none() => {
                Some("the host that leads cannot be asked; this is what this host sees".into())
            }
            _ => None,
        };
        let automatic = spec.mode == BalanceMode::Automatic;
        Balance { spec, items, hosts, rests_until: rests_until.filter(|_| automatic).and_then(at), note }
    }
}

/// Moves a machine of this host as the leader asks.
pub(crate) async fn obey(node: &Arc<Node>, order: MoveOrder) -> Result<Task, MoveError> {
    let wish = MigrateVm { host: Some(order.to), ..MigrateVm::default() };
    node.migrate_vm(order.vm, None, &wish, ACTOR).await
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use lq_api::balance::BalanceSpec;

    fn automatic(at_once: u32) -> State {
        let mut state = lopsided();
        let spec = BalanceSpec { mode: BalanceMode::Automatic, at_once };
        apply(&mut state, 900, crate::cluster::Op::SetBalance { spec }).unwrap();
        state
    }

    fn past(state: &State, now: Instant) -> Past {
        let mut past = Past::default();
        past.look(state, 1, now);
        past
    }

    #[test]
    fn a_new_leader_waits_and_a_machine_that_moved_rests() {
        let mut state = automatic(2);
        let now = Instant::now();
        let mut past = past(&state, now);
        assert!(past.orders(&state, None).is_empty(), "it has just begun to lead");
        let now = now + FIRST_REST;
        past.look(&state, 1, now);
        let orders = past.orders(&state, None);
        assert_eq!(orders.len(), 2);
        let moved = orders[0].vm;
        move_to(&mut state, moved, orders[0].to);
        past.look(&state, 1, now);
        assert!(past.resting().contains(&moved));
        assert!(past.orders(&state, None).iter().all(|o| o.vm != moved));
        past.failed(orders[1].vm, now);
        assert!(past.orders(&state, None).iter().all(|o| o.vm != orders[1].vm));
        past.look(&state, 1, now + FAILED);
        assert!(past.resting().is_empty());
        past.look(&state, 2, now);
        assert!(past.rests_until.is_some(), "another term begins anew");
    }

    #[test]
    fn no_more_machines_move_at_once_than_is_said_whoever_moves_them() {
        let mut state = automatic(1);
        let now = Instant::now();
        let mut past = past(&state, now);
        past.look(&state, 1, now + FIRST_REST);
        let first = past.orders(&state, None);
        assert_eq!(first.len(), 1);
        let op = crate::cluster::Op::BeginMove {
            id: first[0].vm,
            expect: None,
            moving: uuid::Uuid::new_v4(),
            to: first[0].to,
            hardware: None,
        };
        apply(&mut state, 901, op).unwrap();
        assert!(past.orders(&state, None).is_empty());
    }

    #[test]
    fn what_is_only_advised_is_not_done() {
        let mut state = automatic(2);
        let now = Instant::now();
        let mut past = past(&state, now);
        past.look(&state, 1, now + FIRST_REST);
        for mode in [BalanceMode::Advise, BalanceMode::Off] {
            let spec = BalanceSpec { mode, at_once: 2 };
            apply(&mut state, 902, crate::cluster::Op::SetBalance { spec }).unwrap();
            assert!(past.orders(&state, None).is_empty());
        }
    }
}
