//! Clients of a simulated cluster, what they saw, and whether that can be.
//!
//! A call whose outcome is not known (its host died, or said so) may have happened at any time since, or never. What a host says
//! did not happen must not have happened.

use super::{
    Bug, World,
    host::Host,
    linear::{self, Call, Step},
};
use crate::cluster::{Cluster, Op, Refusal, Reply, WriteError};
use lq_api::{
    NetworkId, RoleId,
    access::{CreateRole, RoleSpec},
    network::{CreateNetwork, NetworkKind, NetworkSpec, UpdateNetwork},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

/// Registers: networks with a value in a label.
const REGISTERS: usize = 2;
const CLIENTS: usize = 4;
/// Clients that want the same name.
const CLAIMANTS: usize = 2;
/// Longest a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(25);
/// The name that is claimed.
const CLAIM: &str = "claim";

/// What clients did.
#[derive(Default)]
pub(super) struct Book {
    events: u64,
    values: u64,
    ids: u64,
    registers: [Vec<Call>; REGISTERS],
    /// Names of objects whose creation was acknowledged.
    acknowledged: BTreeSet<String>,
    /// Names of objects of which a host said that they were not made.
    denied: BTreeSet<String>,
    holder: Option<usize>,
    /// Objects that are no claim (any more): their client does not know of them, or has given them up.
    loose: BTreeSet<NetworkId>,
    ended: bool,
    answered: usize,
}

impl Book {
    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn fresh(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u64_pair(7, self.ids)
    }
}

fn register(n: usize) -> NetworkId {
    NetworkId(Uuid::from_u64_pair(6, n as u64))
}

fn network(id: NetworkId, name: &str) -> Op {
    let spec = NetworkSpec { kind: NetworkKind::Bridged, dhcp: None };
    Op::CreateNetwork { id, create: CreateNetwork { name: name.into(), labels: BTreeMap::new(), spec } }
}

/// What the clients need.
pub(super) fn prepare() -> Vec<Op> {
    (0..REGISTERS).map(|n| network(register(n), &format!("register-{n}"))).collect()
}

/// What came of a call that changes something.
enum Came<T> {
    Done(T),
    Refused(Refusal),
    /// It did not happen.
    Not,
    Unknown,
}

impl World {
    fn book<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.book.lock().unwrap())
    }

    async fn change(&self, who: usize, host: &Arc<Host>, op: Op) -> Came<Reply> {
        if host.cluster().is_none() {
            return Came::Not;
        }
        let text = format!("{op:?}");
        let what = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.note(format!("client {who} at {}: {what}", host.number));
        let asked = timeout(LIMIT, host.does(async move |c: Cluster| c.write(op).await)).await;
        let (came, word) = match asked {
            Err(_) | Ok(None) => (Came::Unknown, "no answer".to_owned()),
            Ok(Some(Ok(reply))) => (Came::Done(reply), "done".to_owned()),
            Ok(Some(Err(WriteError::Refused(why)))) => {
                let word = format!("refused, {why}");
                (Came::Refused(why), word)
            }
            Ok(Some(Err(e @ (WriteError::Unavailable(_) | WriteError::NoMajority)))) => {
                (Came::Not, e.to_string())
            }
            Ok(Some(Err(e @ (WriteError::Timeout | WriteError::Unknown(_))))) => {
                (Came::Unknown, e.to_string())
            }
        };
        if !matches!(came, Came::Unknown) {
            self.book(|b| b.answered += 1);
        }
        self.note(format!("client {who} at {}: {what}: {word}", host.number));
        came
    }

    /// What is read of the cluster's state at a host, everything in it that was acknowledged before.
    async fn look<T: Send + 'static>(
        &self,
        host: &Arc<Host>,
        look: impl FnOnce(&super::State) -> T + Send + 'static,
    ) -> Option<T> {
        let stale = self.bug == Bug::StaleRead;
        let asked = host.does(async move |c: Cluster| {
            if !stale {
                c.barrier().await.ok()?;
            }
            Some(c.read(look))
        });
        timeout(LIMIT, asked).await.ok()??
    }

    fn somewhere(&self) -> Arc<Host> {
        self.hosts[self.chance(|rng| rng.pick(self.hosts.len()))].clone()
    }

    fn call(&self, n: usize, step: Step, invoked: u64, known: bool) {
        let call = self.book(|b| {
            let call = Call { step, invoked, returned: Some(b.event()).filter(|_| known) };
            b.registers[n].push(call);
            call
        });
        self.note(format!("register {n}: {call:?}"));
    }

    /// Value and revision of a register.
    async fn read(&self, who: usize, host: &Arc<Host>, n: usize) -> Option<(u64, u64)> {
        let invoked = self.book(Book::event);
        let seen = self.look(host, move |s| {
            let found = s.networks.get(&register(n))?;
            let value = found.meta.labels.get("value").map_or(0, |v| v.parse().unwrap());
            Some((value, found.meta.revision))
        });
        let seen = seen.await??;
        self.call(n, Step::Read(seen.0), invoked, true);
        self.book(|b| b.answered += 1);
        self.note(format!("client {who} at {}: register {n} is {}", host.number, seen.0));
        Some(seen)
    }

    async fn set(
        &self,
        who: usize,
        host: &Arc<Host>,
        n: usize,
        expect: Option<(u64, u64)>,
    ) -> Option<(u64, u64)> {
        let (invoked, value) = self.book(|b| {
            b.values += 1;
            (b.event(), b.values)
        });
        let labels = BTreeMap::from([("value".to_owned(), value.to_string())]);
        let update = UpdateNetwork { labels: Some(labels), ..UpdateNetwork::default() };
        let op = Op::UpdateNetwork { id: register(n), expect: expect.map(|(_, r)| r), update };
        let step = expect.map_or(Step::Write(value), |(from, _)| Step::Swap(from, value));
        match self.change(who, host, op).await {
            Came::Done(reply) => {
                self.call(n, step, invoked, true);
                let Reply::Network(now) = reply else { return None };
                Some((value, now.meta.revision))
            }
            Came::Refused(Refusal::Stale { .. }) => {
                self.call(n, Step::Refused(expect?.0), invoked, true);
                None
            }
            Came::Refused(why) => {
                self.violated(format!("a register was refused: {why}"));
                None
            }
            Came::Not => None,
            Came::Unknown => {
                self.call(n, step, invoked, false);
                None
            }
        }
    }

    pub(super) async fn add(&self, who: usize, host: &Arc<Host>) -> bool {
        let id = self.book(Book::fresh);
        let name = format!("r-{}", id.as_u64_pair().1);
        let create = CreateRole { name: name.clone(), labels: BTreeMap::new(), spec: RoleSpec::default() };
        match self.change(who, host, Op::CreateRole { id: RoleId(id), create }).await {
            Came::Done(_) => {
                self.book(|b| b.acknowledged.insert(name));
                true
            }
            Came::Refused(why) => {
                self.violated(format!("a role was refused: {why}"));
                false
            }
            Came::Not => {
                self.book(|b| b.denied.insert(name));
                false
            }
            Came::Unknown => false,
        }
    }

    /// Whether a host answers with everything that was acknowledged; `None` where it does not answer.
    pub(super) async fn knows_all(&self, host: &Arc<Host>) -> Option<bool> {
        let acknowledged = self.book(|b| b.acknowledged.clone());
        let there =
            self.look(host, |s| s.roles.values().map(|r| r.meta.name.clone()).collect::<BTreeSet<_>>());
        Some(acknowledged.is_subset(&there.await?))
    }

    async fn client(self: Arc<Self>, who: usize) {
        let mut known = [None; REGISTERS];
        while !self.book(|b| b.ended) {
            let think = self.chance(|rng| rng.ms(20, 800));
            sleep(think).await;
            let host = self.somewhere();
            let n = self.chance(|rng| rng.pick(REGISTERS));
            match self.chance(|rng| rng.below(10)) {
                0..=3 => known[n] = self.read(who, &host, n).await.or(known[n]),
                4..=6 => {
                    if let Some(seen) = known[n].take() {
                        known[n] = self.set(who, &host, n, Some(seen)).await;
                    }
                }
                7 => known[n] = self.set(who, &host, n, None).await,
                _ => {
                    self.add(who, &host).await;
                }
            }
        }
    }

    /// Claims the name, holds it a while, gives it up.
    async fn claimant(self: Arc<Self>, who: usize) {
        while !self.book(|b| b.ended) {
            let think = self.chance(|rng| rng.ms(50, 1_000));
            sleep(think).await;
            let host = self.somewhere();
            let id = NetworkId(self.book(Book::fresh));
            match self.change(who, &host, network(id, CLAIM)).await {
                Came::Done(_) => {
                    if let Some(other) = self.book(|b| b.holder.replace(who)) {
                        self.violated(format!("client {who} got the claim that client {other} holds"));
                    }
                    let held = self.chance(|rng| rng.ms(50, 1_500));
                    sleep(held).await;
                    self.book(|b| {
                        b.holder = b.holder.filter(|h| *h != who);
                        b.loose.insert(id);
                    });
                    let host = self.somewhere();
                    self.change(who, &host, Op::DeleteNetwork { id, expect: None }).await;
                }
                Came::Unknown => {
                    self.book(|b| b.loose.insert(id));
                }
                Came::Refused(_) => {
                    // Someone holds it, or nobody knows of it any more.
                    let found = self.look(&host, |s| {
                        s.networks.values().find(|n| n.meta.name == CLAIM).map(|n| n.meta.id)
                    });
                    if let Some(Some(id)) = found.await
                        && self.book(|b| b.loose.contains(&id))
                    {
                        self.change(who, &host, Op::DeleteNetwork { id, expect: None }).await;
                    }
                }
                Came::Not => {}
            }
        }
    }
}

pub(super) fn begin(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let clients = (0..CLIENTS).map(|who| tokio::spawn(world.clone().client(who)));
    let claimants = (CLIENTS..CLIENTS + CLAIMANTS).map(|who| tokio::spawn(world.clone().claimant(who)));
    clients.chain(claimants).collect()
}

/// Clients end what they are at.
pub(super) async fn end(world: &Arc<World>, clients: Vec<JoinHandle<()>>) {
    world.book(|b| b.ended = true);
    for client in clients {
        client.await.unwrap();
    }
}

/// Nothing is wrong any more: every host takes a write.
pub(super) async fn last_write(world: &Arc<World>, host: &Arc<Host>) {
    let end = Instant::now() + super::PATIENCE;
    while !world.add(99, host).await {
        if Instant::now() > end {
            world.violated(format!("host {} takes no writes", host.number));
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Whether what clients saw can be.
pub(super) fn judge(world: &Arc<World>) {
    let (acknowledged, denied) = world.book(|b| (b.acknowledged.clone(), b.denied.clone()));
    for host in &world.hosts {
        let Some(cluster) = host.cluster() else { continue };
        let there: BTreeSet<String> =
            cluster.read(|s| s.roles.values().map(|r| r.meta.name.clone()).collect());
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        if !lost.is_empty() {
            world.violated(format!("acknowledged and lost at host {}: {lost:?}", host.number));
        }
        let done: Vec<_> = denied.intersection(&there).collect();
        if !done.is_empty() {
            world.violated(format!("done although a host said that it was not: {done:?}"));
        }
    }
    for (n, calls) in world.book(|b| std::mem::take(&mut b.registers)).iter().enumerate() {
        if let Some(call) = linear::first_that_does_not_fit(0, calls) {
            world.violated(format!("the history of register {n} is not linearizable: {call:?} does not fit"));
        }
    }
}
