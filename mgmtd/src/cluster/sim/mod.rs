//! Whole clusters simulated by seed.
//!
//! Real: [`Cluster`](super::Cluster) as the daemon has it on every host, with openraft, the log in redb, `apply`, the router of
//! the peers' port, the keeper and its autopilot, snapshots. Simulated: time, the network under `Wire` ([`net`]), the disk under
//! the log ([`disk`]), and hosts that halt, lose power or lose their daemon ([`host`], [`runtime`]).
//!
//! ```text
//!  form ─▶ faults by chance, clients at work, invariants checked all along ─▶ mend ─▶ everyone agrees and takes writes
//! ```
//! Everything happens on one thread in simulated time, and all chance comes of the seed ([`rng`]; openraft's too): a run
//! repeated gives the same log, line by line.
//!
//! Demanded
//! - where one host applied an entry, no other applies another one, and the leaders' ids grow along the log;
//! - what was acknowledged is there in the end, on every host; what a host said was not done is not;
//! - registers are linearizable ([`linear`]): changes with and without a condition, and reads behind a barrier;
//! - a claim (a name only one object can have) is held by one client at a time;
//! - no host fails but by its disk; once everything is mended all agree, and each takes a write.
//!
//! A bug that is put in on purpose must be found ([`Bug`]): otherwise this proves nothing.
//!
//! Not simulated: TLS, the files of snapshots and keys under a power cut, clocks that drift, joining and new epochs.
//! Repeat a seed with `just sim 1 SEED`; `SIM_LOG=1` prints what happened.

mod clients;
pub(super) mod disk;
mod faults;
mod host;
mod linear;
pub(super) mod net;
mod rng;
pub(super) mod runtime;
#[cfg(test)]
mod tests;

use super::{
    Application, Cluster, Objects, Op, Peer, State,
    state::{Position, epoch},
    store::{self, Identity},
    types::{Entry, position},
    wire::{book, pki::HostKey},
};
use clients::Book;
use host::Host;
use jiff::{SignedDuration, Timestamp};
use lq_api::{HostId, NetworkId, PoolId, TokenId, cluster::JoinToken};
use net::Links;
use rng::Rng;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// Entries between two snapshots, and entries kept behind one: few, so that hosts that were away are brought snapshots.
pub(super) const SNAPSHOT_PACE: (u64, u64) = (40, 10);
/// How long there are faults.
const FAULTS: Duration = Duration::from_secs(20);
/// Longest everything may take to come right once nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bug put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// The store acknowledges what is not on the disk yet.
    EarlyAnswer,
    /// Readers do not wait for what was acknowledged elsewhere.
    StaleRead,
}

thread_local! {
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// What is simulated on this thread.
fn world() -> Option<Arc<World>> {
    WORLD.with(|world| world.borrow().clone())
}

pub(super) fn is_on() -> bool {
    WORLD.with(|world| world.borrow().is_some())
}

/// The wall clock of every host.
pub(super) fn now() -> Option<Timestamp> {
    world().map(|w| w.now())
}

/// A host applies this.
pub(super) fn applied(entry: &Entry) {
    if let Some((world, host)) = world().zip(runtime::here()) {
        world.applied(&host, entry);
    }
}

/// What was seen, to be compared.
#[derive(Default)]
struct Seen {
    applied: BTreeMap<u64, (Position, u64)>,
    leaders: BTreeSet<(u64, usize)>,
    violations: Vec<String>,
    log: Vec<String>,
}

/// Everything there is in one run.
struct World {
    bug: Bug,
    began: Instant,
    rng: Mutex<Rng>,
    hosts: Vec<Arc<Host>>,
    links: Mutex<Links>,
    /// Longest time of each disk, in milliseconds.
    disks: Mutex<Vec<u64>>,
    seen: Mutex<Seen>,
    book: Mutex<Book>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) violations: Vec<String>,
    /// What happened, in order, with the milliseconds since the beginning.
    pub(super) log: Vec<String>,
    /// Entries applied.
    pub(super) entries: usize,
    /// Leaders there were.
    pub(super) leaders: usize,
    /// Calls of clients that were answered.
    pub(super) answered: usize,
}

/// Time of a disk where nothing is wrong, in milliseconds.
const USUAL_DISK: u64 = 3;

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut rng = Rng::new(seed);
        let count = if rng.once_in(5) { 5 } else { 3 };
        let hosts: Vec<_> = (0..count).map(Host::new).collect();
        if bug == Bug::EarlyAnswer {
            hosts.iter().for_each(|h| h.disk.lie(6));
        }
        Self {
            bug,
            began: Instant::now(),
            rng: Mutex::new(rng),
            links: Mutex::new(Links::new(count)),
            disks: Mutex::new(vec![USUAL_DISK; count]),
            hosts,
            seen: Mutex::default(),
            book: Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        let base = Timestamp::from_second(2_000_000_000).unwrap();
        base + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    fn chance<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap())
    }

    fn draw(&self) -> u64 {
        self.chance(Rng::next)
    }

    fn number(&self, id: HostId) -> Option<usize> {
        self.hosts.iter().position(|h| h.id == id)
    }

    fn note(&self, what: String) {
        let at = self.began.elapsed().as_millis();
        self.seen.lock().unwrap().log.push(format!("{at:>6} {what}"));
    }

    fn violated(&self, what: String) {
        self.note(format!("VIOLATED: {what}"));
        self.seen.lock().unwrap().violations.push(what);
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        self.links.lock().unwrap().passes(from, to)
    }

    fn flight(&self, from: usize, to: usize) -> Duration {
        let longest = self.links.lock().unwrap().longest(from, to);
        self.chance(|rng| rng.ms(0, longest + 1))
    }

    /// Whether this connection breaks.
    fn breaks(&self) -> bool {
        let once_in = self.links.lock().unwrap().breaks;
        once_in > 0 && self.chance(|rng| rng.once_in(once_in))
    }

    fn disk_time(&self, host: usize) -> Duration {
        let longest = self.disks.lock().unwrap()[host];
        self.chance(|rng| rng.ms(0, longest + 1))
    }

    fn leads(&self, host: &Host, term: u64) {
        if self.seen.lock().unwrap().leaders.insert((term, host.number)) {
            self.note(format!("host {} leads in term {term}", host.number));
        }
    }

    fn applied(&self, host: &Host, entry: &Entry) {
        let at = position(&entry.log_id);
        let mut hasher = DefaultHasher::new();
        serde_json::to_vec(entry).unwrap().hash(&mut hasher);
        let what = (at, hasher.finish());
        let wrong = {
            let mut seen = self.seen.lock().unwrap();
            let before = seen.applied.range(..at.index).next_back().map(|(_, (p, _))| *p);
            let known = *seen.applied.entry(at.index).or_insert(what);
            if known != what {
                Some(format!(
                    "host {} applies another entry at {}: {at:?}, not {:?}",
                    host.number, at.index, known.0
                ))
            } else if before.is_some_and(|b| (b.term, b.leader) > (at.term, at.leader)) {
                Some(format!("the entry at {} is of an older leader than the one before it", at.index))
            } else {
                None
            }
        };
        if let Some(wrong) = wrong {
            self.violated(wrong);
        }
    }

    async fn wait(&self, what: &str, wanted: impl Fn(&Self) -> Result<(), String>) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            let Err(why) = wanted(self) else { return true };
            if Instant::now() >= end {
                self.violated(format!("waited in vain: {what}: {why}"));
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes the hosts one cluster, as joining does but for what is said over TLS.
    async fn form(self: &Arc<Self>) {
        let cluster = Uuid::from_u64_pair(1, 1);
        let pins: Vec<_> = self.hosts.iter().map(|h| HostKey::load(h.dir.path()).unwrap().pin()).collect();
        let peer = |n: usize| Peer { pin: pins[n].clone(), address: format!("host-{n}:7443") };
        for host in &self.hosts {
            let identity =
                Identity { format: 1, host: host.id, cluster, joined: host.number > 0, epoch: epoch::FIRST };
            store::fill(host.disk.open(), &identity, None).unwrap();
            host.disk.crash(disk::Left::All);
            // That there is a log is asked of the file system.
            fs::write(host.dir.path().join("raft.redb"), "").unwrap();
        }
        let first = &self.hosts[0];
        first.start(self);
        self.wait("the first host is up", |_| first.cluster().map(drop).ok_or("it is not".into())).await;
        let token = JoinToken {
            id: TokenId(Uuid::from_u64_pair(2, 1)),
            created_at: self.now(),
            expires_at: self.now() + SignedDuration::from_mins(5),
            uses_left: 10,
        };
        let mut ops = vec![
            Op::DescribeHost { host: first.id, peer: peer(0), capacity: None },
            Op::CreateJoinToken { token, hash: "token".into() },
        ];
        ops.extend(self.hosts.iter().skip(1).map(|host| Op::Admit {
            token: "token".into(),
            application: Box::new(Application {
                host: host.id,
                name: format!("h{}", host.number),
                from: Uuid::from_u64_pair(3, host.number as u64),
                peer: peer(host.number),
                capacity: None,
                boot: None,
                objects: Objects::default(),
                rename: true,
                back: None,
            }),
        }));
        ops.extend(clients::prepare());
        let me = first.id;
        let page = first.does(async move |c: Cluster| {
            let pool = PoolId(Uuid::from_u64_pair(2, 2));
            let network = NetworkId(Uuid::from_u64_pair(2, 3));
            let op = Op::Initialise { cluster, host: me, host_name: "h0".into(), pool, network, dhcp: None };
            c.write(op).await.unwrap();
            c.ensure_authority().await.unwrap();
            for op in ops {
                c.write(op).await.unwrap();
            }
            c.wire.book.page().unwrap()
        });
        let page = page.await.unwrap();
        for host in &self.hosts[1..] {
            book::store(&host.dir.path().join("peers.json"), &page).unwrap();
            host.start(self);
        }
        let all = self.hosts.len();
        self.wait("everyone votes", |w| {
            let voters: Vec<_> =
                w.hosts.iter().map(|h| h.cluster().map_or(0, |c| c.standing().voters.len())).collect();
            if voters.iter().all(|v| *v == all) { Ok(()) } else { Err(format!("{voters:?}")) }
        })
        .await;
        self.note("formed".into());
    }

    /// Whether all hosts follow one leader and hold the same.
    fn agree(&self) -> Result<(), String> {
        let mut held: Option<(Option<HostId>, u64, State)> = None;
        for host in &self.hosts {
            let cluster = host.cluster().ok_or_else(|| format!("host {} is not up", host.number))?;
            let leader = cluster.standing().leader;
            let (state, revision) = cluster.read_at(|s, revision| (s.clone(), revision));
            if leader.is_none() {
                return Err(format!("host {} knows no leader", host.number));
            }
            let mine = (leader, revision, state);
            match &held {
                None => held = Some(mine),
                Some(other) if *other == mine => {}
                Some(other) => {
                    return Err(format!(
                        "host {}: leader {:?}, at {}; another: leader {:?}, at {}; states equal: {}",
                        host.number,
                        mine.0,
                        mine.1,
                        other.0,
                        other.1,
                        mine.2 == other.2
                    ));
                }
            }
        }
        Ok(())
    }

    async fn play(self: &Arc<Self>) {
        self.form().await;
        if !self.seen.lock().unwrap().violations.is_empty() {
            return;
        }
        let clients = clients::begin(self);
        tokio::time::sleep(Duration::from_secs(1)).await;
        faults::play(self, FAULTS).await;
        faults::mend(self);
        self.note("mended".into());
        clients::end(self, clients).await;
        for host in &self.hosts {
            clients::last_write(self, host).await;
        }
        self.wait("all agree", Self::agree).await;
        clients::judge(self);
    }
}

/// Plays one run.
fn run(seed: u64, bug: Bug) -> Report {
    stage(seed, bug, async |world: &Arc<World>| world.play().await)
}

/// Plays what `script` says.
fn stage(seed: u64, bug: Bug, script: impl AsyncFnOnce(&Arc<World>)) -> Report {
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime::begin();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(seed, bug));
        WORLD.with(|w| *w.borrow_mut() = Some(world.clone()));
        script(&world).await;
        for host in &world.hosts {
            host.crash(disk::Left::All);
        }
        world
    });
    drop(runtime);
    WORLD.with(|w| w.borrow_mut().take());
    let seen = std::mem::take(&mut *world.seen.lock().unwrap());
    Report {
        entries: seen.applied.len(),
        leaders: seen.leaders.len(),
        answered: world.book.lock().unwrap().answered(),
        violations: seen.violations,
        log: seen.log,
    }
}
