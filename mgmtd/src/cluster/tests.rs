//! Tests of the store and of a cluster of one.

use super::{
    machine::{Machine, Shared},
    state::{Op, Power, Refusal},
    store::LogStore,
    types::Types,
    *,
};
use lq_api::{NetworkId, PoolId};
use openraft::{StorageError, testing::log::StoreBuilder};
use std::io::{Seek as _, Write as _};

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = LogStore::open(dir.path()).unwrap();
        let shared = Shared::load(dir.path().join("snapshots")).unwrap();
        Ok((dir, log, Machine(shared)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_own_suite_for_stores() {
    openraft::testing::log::Suite::test_all(Builder).await.unwrap();
}

fn initialise(cluster: &Cluster) -> Op {
    let identity = cluster.identity();
    Op::Initialise {
        cluster: identity.cluster,
        host: identity.host,
        host_name: "h1".into(),
        pool: PoolId::new(),
        network: NetworkId::new(),
        dhcp: None,
    }
}

fn role(n: usize) -> Op {
    let create = lq_api::access::CreateRole {
        name: format!("r{n}"),
        labels: BTreeMap::new(),
        spec: lq_api::access::RoleSpec::default(),
    };
    Op::CreateRole { id: lq_api::RoleId::new(), create }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_are_there_after_a_restart_and_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path()).await.unwrap();
    let identity = cluster.identity();
    cluster.write(initialise(&cluster)).await.unwrap();
    for n in 0..20 {
        cluster.write(role(n)).await.unwrap();
    }
    cluster.raft.trigger().snapshot().await.unwrap();
    let wait = cluster.raft.wait(Some(Duration::from_secs(20)));
    wait.metrics(|m| m.snapshot.is_some(), "snapshot").await.unwrap();
    for n in 20..30 {
        cluster.write(role(n)).await.unwrap();
    }
    let before = cluster.read(State::clone);
    cluster.shutdown().await;
    drop(cluster);

    let cluster = Cluster::open(dir.path()).await.unwrap();
    assert_eq!(cluster.identity(), identity);
    assert_eq!(cluster.read(State::clone), before);
    assert_eq!(cluster.standing().leader, Some(identity.host));
    assert_eq!(cluster.standing().voters, [identity.host]);
    assert!(matches!(
        cluster.write(initialise(&cluster)).await,
        Err(WriteError::Refused(Refusal::Conflict(_)))
    ));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_told_and_late_ones_sent_back() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path()).await.unwrap();
    let mut watch = cluster.watch();
    let before = *watch.borrow_and_update();
    cluster.write(initialise(&cluster)).await.unwrap();
    watch.changed().await.unwrap();
    let kinds: Vec<_> = cluster.changes_since(before).unwrap().iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [Kind::Host, Kind::Pool, Kind::Network]);
    let missing = Op::PowerVm { id: lq_api::VmId::new(), expect: None, power: Power::Start };
    assert!(matches!(cluster.write(missing).await, Err(WriteError::Refused(Refusal::NotFound { .. }))));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path()).await.unwrap();
    cluster.write(initialise(&cluster)).await.unwrap();
    cluster.shutdown().await;
    drop(cluster);
    drop(open_store(dir.path()).await.unwrap());
    let path = dir.path().join("raft.redb");
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Everything but the file's own header.
    file.seek(io::SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(length).unwrap() - 4096]).unwrap();
    drop(file);
    let error = Cluster::open(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("raft.redb is damaged"), "{error}");
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_beside_snapshots_is_not_recreated() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("snapshots")).unwrap();
    fs::write(dir.path().join("snapshots/state-00000000000000000001.json"), "x").unwrap();
    let error = Cluster::open(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("raft.redb is missing"), "{error}");
    assert!(!dir.path().join("raft.redb").exists());
}
