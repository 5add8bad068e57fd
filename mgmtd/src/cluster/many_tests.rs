//! Clusters of several hosts in one process: real stores, real TLS over loopback, faults of the network in between.

use super::{state::Refusal, wire::faults::Fault, *};
use crate::http::server::Server;
use lq_api::{
    ImageId, NetworkId, PoolId, Timestamp, TokenId,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    network::{CreateNetwork, NetworkKind, NetworkSpec},
    problem::Problem,
};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use uuid::Uuid;

#[path = "../../tests/common/loopback.rs"]
mod loopback;

/// A port that nobody else takes while its host is stopped.
fn anywhere() -> SocketAddr {
    loopback::own_port()
}

/// Longest a condition is waited for; only ever reached by a fault.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Host {
    pub(super) dir: tempfile::TempDir,
    pub(super) cluster: Cluster,
    server: Server,
    pub(super) address: SocketAddr,
}

impl Host {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start(dir, anywhere()).await
    }

    pub(super) async fn start(dir: tempfile::TempDir, address: SocketAddr) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::open(dir.path()).await.unwrap();
        let me = cluster.identity();
        let fresh = !me.joined && cluster.read(|s| s.cluster.is_none());
        if fresh {
            let op = Op::Initialise {
                cluster: me.cluster,
                host: me.host,
                host_name: "h".into(),
                pool: PoolId::new(),
                network: NetworkId::new(),
                dhcp: None,
            };
            cluster.write(op).await.unwrap();
            cluster.ensure_authority().await.unwrap();
        }
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(cluster.peer_router(Router::new()), CancellationToken::new());
        server.listen_peers(listener, cluster.peer_tls().unwrap(), cluster.clone());
        let peer = Peer { pin: cluster.pin().unwrap(), address: address.to_string() };
        let told = cluster.clone();
        let tell = async move {
            let op = Op::DescribeHost { host: me.host, peer, capacity: None };
            while told.write(op.clone()).await.is_err() && !told.stop.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if fresh {
            tell.await;
        } else {
            // It may need the others, which are yet to come up.
            tokio::spawn(tell);
        }
        Self { dir, cluster, server, address }
    }

    pub(super) async fn stop(self) -> (tempfile::TempDir, SocketAddr) {
        let (dir, address) = (self.dir, self.address);
        self.cluster.shutdown().await;
        self.server.end().await;
        drop(self.cluster);
        (dir, address)
    }

    pub(super) async fn restart(self) -> Self {
        let (dir, address) = self.stop().await;
        Self::start(dir, address).await
    }

    pub(super) fn id(&self) -> HostId {
        self.cluster.identity().host
    }

    pub(super) async fn token(&self) -> String {
        self.cluster.create_join_token(&CreateJoinToken::default()).await.unwrap().text
    }

    pub(super) async fn joined(self, token: &str) -> Self {
        self.cluster.join(token, false).await.unwrap();
        self.restart().await
    }

    /// Neither calls nor is called by the others.
    fn cut(&self, others: &[&Host], fault: Option<Fault>) {
        for other in others.iter().filter(|o| o.id() != self.id()) {
            self.cluster.wire.faults.set(other.id(), fault);
            other.cluster.wire.faults.set(self.id(), fault);
        }
    }

    pub(super) async fn write(&self, name: &str) -> Result<Reply, WriteError> {
        self.cluster.write(network(name)).await
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.cluster.read(|s| s.networks.values().any(|n| n.meta.name == name))
    }

    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Cluster) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(&self.cluster) {
            assert!(Instant::now() < end, "waited in vain: {what}; {:?}", self.cluster.standing());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn network(name: &str) -> Op {
    let spec = NetworkSpec { kind: NetworkKind::Bridged, dhcp: None };
    Op::CreateNetwork {
        id: NetworkId::new(),
        create: CreateNetwork { name: name.into(), labels: BTreeMap::new(), spec },
    }
}

/// A cluster of three, all voting.
pub(super) async fn three() -> [Host; 3] {
    let first = Host::new().await;
    let second = Host::new().await.joined(&first.token().await).await;
    // Any host takes others in.
    second.until("the second knows the cluster", |c| c.read(|s| s.hosts.len() == 2)).await;
    let third = Host::new().await.joined(&second.token().await).await;
    for host in [&first, &second, &third] {
        host.until("three vote", |c| c.standing().voters.len() == 3).await;
    }
    [first, second, third]
}

fn refusal(error: &JoinError) -> &Problem {
    match error {
        JoinError::Refused(problem) => problem,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_become_one_and_outlive_their_leader() {
    let hosts = three().await;
    let all: Vec<&Host> = hosts.iter().collect();
    // Written anywhere, read at once where it was written, and everywhere after a barrier.
    for (n, host) in hosts.iter().enumerate() {
        host.write(&format!("n{n}")).await.unwrap();
        assert!(host.has(&format!("n{n}")));
    }
    for host in &hosts {
        host.cluster.barrier().await.unwrap();
        assert!((0..3).all(|n| host.has(&format!("n{n}"))));
        assert_eq!(host.cluster.read(|s| s.hosts.len()), 3);
    }
    // Names were taken; each got one of its own.
    let names = hosts[0].cluster.read(|s| s.hosts.values().map(|r| r.meta.name.clone()).collect::<Vec<_>>());
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{names:?}");
    let health = hosts[1].cluster.health().await.unwrap();
    assert!(health.quorum && health.reachable.len() == 3, "{health:?}");

    // A watcher elsewhere goes on where it was, across the change of the leader.
    let leader = hosts[0].cluster.standing().leader.unwrap();
    let (old, rest): (Vec<&Host>, Vec<&Host>) = all.iter().partition(|h| h.id() == leader);
    let old = old[0];
    let since = rest[1].cluster.read_at(|_, revision| revision);
    old.cut(&all, Some(Fault::Cut));
    rest[0].until("another leads", |c| c.standing().leader.is_some_and(|l| l != leader)).await;
    for n in 0..20 {
        rest[n % 2].write(&format!("after-{n}")).await.unwrap();
    }
    rest[1].cluster.barrier().await.unwrap();
    let seen = rest[1].cluster.changes_since(since).unwrap();
    assert_eq!(seen.iter().filter(|c| c.kind == Kind::Network).count(), 20);
    // The old leader can neither write nor promise that what it reads is new.
    assert!(old.cluster.barrier().await.is_err());
    assert!(!old.has("after-0"));
    let lost = old.write("lost").await;
    let undone = |e: &WriteError| {
        use WriteError::{NoMajority, Timeout, Unavailable, Unknown};
        matches!(e, NoMajority | Timeout | Unknown(_) | Unavailable(_))
    };
    assert!(lost.as_ref().is_err_and(undone), "{lost:?}");
    old.cut(&all, None);
    old.until("it has caught up", |_| old.has("after-19")).await;
    old.cluster.barrier().await.unwrap();
    for host in hosts {
        host.stop().await;
    }
}

/// What has no majority is refused at once, before it is proposed, by who led and by who followed.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_change_is_refused_at_once() {
    let mut hosts = Vec::from(three().await);
    hosts.sort_by_key(|h| h.cluster.leading().is_none());
    let [leader, second, third] = <[Host; 3]>::try_from(hosts).ok().unwrap();
    assert!(leader.cluster.leading().is_some());
    let at_once = async |host: &Host, name: &str| {
        let begun = Instant::now();
        let refused = host.write(name).await.unwrap_err();
        assert!(matches!(refused, WriteError::NoMajority), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
        assert!(refused.to_string().contains("no majority of the voters is reached"), "{refused}");
    };
    leader.cut(&[&second, &third], Some(Fault::Cut));
    second.stop().await;
    leader.until("it hears nobody", Cluster::lacks_majority).await;
    third.until("it is alone as well", Cluster::lacks_majority).await;
    at_once(&leader, "by-who-led").await;
    at_once(&third, "by-who-followed").await;

    for host in [leader, third] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_host_does_not_hold_up_the_others_and_a_late_one_is_brought_a_snapshot() {
    let [first, second, third] = three().await;
    third.cut(&[&first, &second], Some(Fault::Slow(Duration::from_secs(1))));
    let began = Instant::now();
    for n in 0..5 {
        second.write(&format!("slow-{n}")).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    third.cut(&[&first, &second], None);
    // Away while the log it lacks is dropped.
    let (dir, address) = third.stop().await;
    for n in 0..20 {
        first.write(&format!("away-{n}")).await.unwrap();
    }
    for host in [&first, &second] {
        let last = host.cluster.raft.metrics().borrow_watched().last_applied.unwrap();
        host.cluster.raft.trigger().snapshot().await.unwrap();
        let wait = host.cluster.raft.wait(Some(PATIENCE));
        wait.metrics(|m| m.snapshot >= Some(last), "snapshot").await.unwrap();
        host.cluster.raft.trigger().purge_log(last.index).await.unwrap();
        let wait = host.cluster.raft.wait(Some(PATIENCE));
        wait.metrics(|m| m.purged.is_some(), "purged").await.unwrap();
    }
    let third = Host::start(dir, address).await;
    third.until("it has caught up", |_| third.has("away-19")).await;
    // Everyone stops and comes back: nothing is lost, and one leads again.
    let homes = [first.stop().await, second.stop().await, third.stop().await];
    let mut back = Vec::new();
    for (dir, address) in homes {
        back.push(Host::start(dir, address).await);
    }
    for host in &back {
        host.until("one leads", |c| c.standing().leader.is_some()).await;
    }
    back[2].write("again").await.unwrap();
    assert!(back[2].has("away-19") && back[2].has("slow-4"));
    for host in back {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_is_told_why() {
    let first = Host::new().await;
    let one = first.token().await;
    let second = Host::new().await.joined(&one).await;
    second.until("the second is there", |c| c.read(|s| s.hosts.len() == 2)).await;
    let candidate = Host::new().await;
    let ask = |token: String| {
        let cluster = candidate.cluster.clone();
        async move { cluster.join(&token, false).await.err().unwrap() }
    };

    // Used up.
    let error = ask(one.clone()).await;
    assert!(refusal(&error).detail.contains("used up"), "{error}");
    // Not a token at all, and one with another secret.
    assert!(matches!(ask("lqj_rubbish".into()).await, JoinError::NotAToken(_)));
    let forged = join::tests::changed(&first.token().await, |said| said["s"] = "guess".into());
    let error = ask(forged).await;
    assert!(refusal(&error).detail.contains("not (or no longer)"), "{error}");
    // The authority is not the one of the token: the secret is not even sent.
    let foreign = join::tests::changed(&first.token().await, |said| said["h"] = "00".repeat(32).into());
    let error = ask(foreign).await;
    assert!(matches!(&error, JoinError::Unreachable(why) if why.contains("not of the cluster")), "{error}");
    // Revoked.
    let made = first.cluster.create_join_token(&CreateJoinToken::default()).await.unwrap();
    first.cluster.write(Op::DeleteJoinToken { id: made.token.id }).await.unwrap();
    let error = ask(made.text).await;
    assert!(refusal(&error).detail.contains("not (or no longer)"), "{error}");
    // Expired.
    let made = first.cluster.create_join_token(&CreateJoinToken::default()).await.unwrap();
    let hash = first.cluster.read(|s| s.join_tokens[&made.token.id].hash.clone());
    first.cluster.write(Op::DeleteJoinToken { id: made.token.id }).await.unwrap();
    let brief = lq_api::cluster::JoinToken {
        id: TokenId::new(),
        expires_at: Timestamp::now() + jiff::SignedDuration::from_millis(1500),
        ..made.token
    };
    first.cluster.write(Op::CreateJoinToken { token: brief, hash }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let error = ask(made.text).await;
    assert!(refusal(&error).detail.contains("expired"), "{error}");
    // A member of this cluster, and of another one with company.
    let token = first.token().await;
    assert!(matches!(second.cluster.join(&token, false).await, Err(JoinError::Member)));
    let other = candidate.token().await;
    assert!(matches!(second.cluster.join(&other, false).await, Err(JoinError::NotAlone(2))));
    // A name that is taken.
    first.write("lan").await.unwrap();
    let vm_network = NetworkId::new();
    let lan = Op::CreateNetwork {
        id: vm_network,
        create: CreateNetwork {
            name: "lan".into(),
            labels: BTreeMap::new(),
            spec: NetworkSpec { kind: NetworkKind::Bridged, dhcp: None },
        },
    };
    candidate.cluster.write(lan).await.unwrap();
    let preview = candidate.cluster.preview_join(&token).await.unwrap();
    assert_eq!(preview.left_out, ["default", "lan"]);
    assert_eq!(preview.hosts.len(), 2);
    assert!(preview.renamings.iter().any(|r| r.kind == "pool" && r.from == "local" && r.to == "local-h-2"));
    // Refused many times, and still itself.
    candidate.write("still-mine").await.unwrap();
    for host in [first, second, candidate] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_host_gets_nowhere() {
    let [first, second, third] = three().await;
    let gone = third.id();
    // What only it holds is not given up by chance.
    let pool = first.cluster.read(|s| s.pools.keys().copied().find(|p| s.pool_host(*p) == Some(gone)));
    let spec = ImageSpec { kind: ImageKind::Disk, format: ImageFormat::Raw, pool, sha256: None, boot: None };
    let create = CreateImage { name: "precious".into(), labels: BTreeMap::new(), spec };
    first.cluster.write(Op::CreateImage { id: ImageId::new(), create }).await.unwrap();
    let kept = first.cluster.remove_host(gone, None, false).await;
    assert!(
        matches!(&kept, Err(WriteError::Refused(Refusal::Conflict(why))) if why.contains("1 images")),
        "{kept:?}"
    );
    first.cluster.remove_host(gone, None, true).await.unwrap();
    for host in [&first, &second] {
        host.until("it is no member", |c| !c.standing().members.contains(&gone)).await;
        host.until("one leads", |c| c.standing().leader.is_some_and(|l| l != gone)).await;
    }
    // Its certificate is still good for days, and its key that of old; the door stays closed.
    let refused = third.cluster.wire.call::<Page>(first.id(), "/cluster/book", &(), ASK_TIMEOUT).await;
    assert!(refused.is_err());
    let fresh = third.restart().await;
    fresh.until("it learns that it is out", Cluster::is_removed).await;
    // It cannot be admitted under its old id either.
    let application = Application {
        host: gone,
        name: "h".into(),
        from: Uuid::now_v7(),
        peer: Peer { pin: fresh.cluster.pin().unwrap(), address: fresh.address.to_string() },
        capacity: None,
        boot: None,
        objects: Objects::default(),
        rename: true,
        back: None,
    };
    let made = first.cluster.create_join_token(&CreateJoinToken::default()).await.unwrap();
    let token = first.cluster.read(|s| s.join_tokens[&made.token.id].hash.clone());
    let again = first.cluster.write(Op::Admit { token, application: Box::new(application) }).await;
    assert!(
        matches!(&again, Err(WriteError::Refused(Refusal::Conflict(why))) if why.contains("was removed"))
    );
    // The others go on, also when the one that leads, and alone votes, is removed.
    second.write("on").await.unwrap();
    let leader = second.cluster.standing().leader.unwrap();
    let (leads, stays) = if leader == first.id() { (&first, &second) } else { (&second, &first) };
    leads.cluster.remove_host(leader, None, true).await.unwrap();
    stays
        .until("it is alone and leads", |c| {
            let standing = c.standing();
            standing.leader == Some(stays.id()) && standing.voters == [stays.id()]
        })
        .await;
    stays.until("the other is gone", |c| c.read(|s| s.removed.contains_key(&leader))).await;
    stays.until("the other is no member", |c| c.standing().members == [stays.id()]).await;
    stays.write("alone").await.unwrap();
    for host in [first, second, fresh] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing_at_the_peers_door() {
    let first = Host::new().await;
    // A host of another cluster, which thinks that the first one is of its own.
    let rogue = Host::new().await;
    let book = first.cluster.wire.book.page().unwrap();
    let mut page = rogue.cluster.wire.book.page().unwrap();
    page.revision += 1000;
    page.hosts.extend(book.hosts);
    rogue.cluster.wire.book.tell(page).unwrap();
    let error =
        rogue.cluster.wire.call::<Page>(first.id(), "/cluster/book", &(), ASK_TIMEOUT).await.err().unwrap();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    // One that stole the authority's key, but not the key of the host it claims to be.
    let epochs = Epochs::open(rogue.dir.path(), 1).unwrap();
    let (cluster, book) = (first.cluster.identity().cluster, first.cluster.wire.book.clone());
    let wire = Wire::new(first.id(), cluster, book, epochs);
    let key = HostKey::load(rogue.dir.path()).unwrap();
    wire.certify(key, first.cluster.wire.book.page().unwrap().authority).unwrap();
    let error = wire.call::<Page>(first.id(), "/cluster/book", &(), ASK_TIMEOUT).await.err().unwrap();
    assert!(!matches!(error, CallError::Refused(_)), "{error}");
    // Without a certificate only /join answers, and it wants a token.
    let hash = pki::authority_hash(&first.cluster.wire.book.page().unwrap().authority).unwrap();
    let caller = wire::SeedCaller::new(first.cluster.identity().cluster, &hash).unwrap();
    for path in ["/cluster/book", "/cluster/write", "/raft/append", "/api/v1/vms"] {
        let answer = caller.call::<Page>(&first.address.to_string(), path, &(), ASK_TIMEOUT).await;
        match answer {
            Err(CallError::Refused(problem)) => assert_eq!(problem.status, 401, "{path}"),
            // What is not served at all here.
            Err(CallError::Broken { reason, .. }) => assert!(reason.contains("404"), "{path}: {reason}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    // Nor does it read much of what comes without one: anybody can send that.
    let address = first.address.to_string();
    let large = "x".repeat(300 << 10);
    for caller in [caller, wire::SeedCaller::new(cluster, &hash).unwrap().with_token("guess")] {
        let answer = caller.call::<Page>(&address, "/join/preview", &large, ASK_TIMEOUT).await;
        assert!(matches!(&answer, Err(CallError::Refused(p)) if p.status == 413), "{answer:?}");
    }
    let said = lq_api::join_token::TokenText::parse(&first.token().await).unwrap();
    let caller = wire::SeedCaller::new(cluster, &hash).unwrap().with_token(&said.secret);
    let answer = caller.call::<Page>(&address, "/join/preview", &large, ASK_TIMEOUT).await;
    // It was read, and is no application.
    assert!(matches!(&answer, Err(CallError::Broken { reason, .. }) if reason.contains("422")), "{answer:?}");
    for host in [first, rogue] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_moves_to_another_address_and_name_while_it_runs() {
    let [first, second, third] = three().await;
    let id = second.id();
    let (dir, _) = second.stop().await;
    let second = Host::start(dir, anywhere()).await;
    let address = second.address.to_string();
    first
        .until("its new address is known", |c| {
            c.read(|s| s.hosts[&id].peer.as_ref().is_some_and(|p| p.address == address))
        })
        .await;
    let patch = lq_api::meta::MetadataPatch { name: Some("renamed".into()), labels: None };
    third.cluster.write(Op::UpdateHost { id, expect: None, patch }).await.unwrap();
    // What the host calls itself does not undo it.
    let op = Op::HostStarted { host: id, name: "h".into(), boot: Uuid::new_v4() };
    second.cluster.write(op).await.unwrap();
    assert_eq!(second.cluster.read(|s| s.hosts[&id].meta.name.clone()), "renamed");
    second.until("it follows", |c| c.standing().leader.is_some()).await;
    for host in [first, second, third] {
        host.stop().await;
    }
}
