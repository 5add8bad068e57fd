//! Clusters that lose their majority, in one process: formed anew, followed, joined again, restored, with a crash at each step.

use super::{
    crash::tests::at_each_point,
    many_tests::{Host, three},
    state::Formation,
    *,
};
use lq_api::{
    Timestamp,
    join_token::TokenText,
    recovery::{ReformCluster, ReformFate, RestoreAs},
};
use std::net::SocketAddr;
use uuid::Uuid;

/// What is read of a cluster that is opened and shut again.
async fn seen(dir: &Path) -> (Identity, State, Standing) {
    let cluster = Cluster::open(dir).await.unwrap();
    let seen = (cluster.identity(), cluster.read(State::clone), cluster.standing());
    cluster.shutdown().await;
    drop(cluster);
    drop(open_store(dir).await.unwrap());
    seen
}

fn names(state: &State) -> Vec<&str> {
    let mut names: Vec<_> = state.networks.values().map(|n| n.meta.name.as_str()).collect();
    names.sort_unstable();
    names
}

async fn alone_without_majority(host: &Host) {
    host.until("it knows that there is no majority", |c| c.no_quorum_since().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_and_who_was_lost_joins_again() {
    let [first, second, third] = three().await;
    first.write("before").await.unwrap();
    third.until("it has come to the survivor", |c| c.read(|s| names(s).contains(&"before"))).await;
    let quorate = third.cluster.preview_reform().await;
    assert!(quorate.obstacles[0].contains("takes changes as it is"), "{quorate:?}");
    let lost = vec![first.id(), second.id()];
    let (first, second) = (first.stop().await, second.stop().await);
    alone_without_majority(&third).await;

    let preview = third.cluster.preview_reform().await;
    assert!(preview.obstacles.is_empty(), "{preview:?}");
    assert!(
        preview.hosts.iter().all(|h| h.fate == ReformFate::Silent && h.last_heard.is_some()),
        "{preview:?}"
    );
    let confirm = preview.confirm.clone();
    let wanted =
        |confirm: &str, lost: &[HostId]| ReformCluster { confirm: confirm.into(), lost: lost.into() };
    let refused = third.cluster.reform(&wanted("else", &lost)).await.unwrap_err();
    assert!(matches!(refused, ReformError::NotConfirmed(..)));
    let refused = third.cluster.reform(&wanted(&confirm, &lost[..1])).await.unwrap_err();
    assert!(refused.to_string().contains("does not answer and is not named"), "{refused}");
    let begun = third.cluster.reform(&wanted(&confirm, &lost)).await.unwrap();
    assert_eq!(begun.epoch, 2);
    assert!(matches!(third.write("between").await, Err(WriteError::Unavailable(_))));
    let third = third.restart().await;
    assert_eq!(third.cluster.standing().voters, [third.id()]);
    assert_eq!(third.cluster.read(State::epoch), 2);
    assert!(third.cluster.read(|s| lost.iter().all(|h| s.hosts[h].lost.is_some())));
    third.write("after").await.unwrap();
    let backups = third.cluster.backups().await.unwrap();
    assert!(backups.iter().any(|b| b.id == begun.backup && b.content.as_ref().unwrap().epoch == 1));

    // Two of the old epoch together have its majority, but learn of the new one and change nothing, also later.
    let first = Host::start(first.0, first.1).await;
    first.until("it learns that it is out", |c| c.outdated().is_some()).await;
    let refused = first.write("ghost").await.unwrap_err().to_string();
    assert!(refused.contains("belongs to epoch 1") && refused.contains("as epoch 2"), "{refused}");
    assert_eq!(third.cluster.refused()[&first.id()].epoch, 1);
    let (second, first) = (Host::start(second.0, second.1).await, first.restart().await);
    assert!(first.cluster.outdated().is_some());
    second.until("it learns that it is out too", |c| c.outdated().is_some()).await;
    assert!(second.write("ghost").await.is_err());
    assert!(!third.has("ghost"));

    // An invitation of the new epoch brings it back under its id.
    let id = first.id();
    let first = first.joined(&third.token().await).await;
    assert_eq!((first.id(), first.cluster.identity().epoch), (id, 2));
    first.until("it has what was changed without it", |c| c.read(|s| names(s).contains(&"after"))).await;
    assert!(first.cluster.outdated().is_none());
    first.write("together").await.unwrap();
    third.until("both change the same", |c| c.read(|s| names(s).contains(&"together"))).await;
    assert!(third.cluster.read(|s| s.hosts[&id].lost.is_none()));
    third.until("it is refused no more", |c| c.refused().keys().all(|h| *h != id)).await;
    // The one that stays lost can be removed for good.
    third.cluster.remove_host(second.id(), None, false).await.unwrap();
    second.until("it learns that it is removed", Cluster::is_removed).await;
    for host in [first, second, third] {
        host.stop().await;
    }
}

/// Of two hosts the first alone votes: started again it leads its old epoch by itself, and answers whoever asks for an admission.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_host_joins_again_what_the_second_formed_anew() {
    let first = Host::new().await;
    let second = Host::new().await.joined(&first.token().await).await;
    second.until("it knows the cluster", |c| c.read(|s| s.hosts.len() == 2)).await;
    let id = first.id();
    let stopped = first.stop().await;
    alone_without_majority(&second).await;
    let confirm = second.cluster.preview_reform().await.confirm;
    second.cluster.reform(&ReformCluster { confirm, lost: vec![id] }).await.unwrap();
    let second = second.restart().await;
    let first = Host::start(stopped.0, stopped.1).await;
    first.until("it learns that it is out", |c| c.outdated().is_some()).await;

    let token = second.token().await;
    let named = TokenText::parse(&token).unwrap().addresses;
    assert_eq!(named, [second.address.to_string()], "not the one that is lost");
    // A token of before it was lost names the joining host first; by another name for it, it even asks itself.
    let SocketAddr::V4(own) = first.address else { panic!("{}", first.address) };
    let disguised = SocketAddr::from((own.ip().to_ipv6_mapped(), own.port()));
    for itself in [first.address, disguised] {
        let old = join::tests::changed(&token, |said| {
            said["a"] = serde_json::json!([itself.to_string(), second.address.to_string()]);
        });
        let preview = first.cluster.preview_join(&old).await.unwrap();
        assert_eq!(preview.cluster, second.cluster.identity().cluster);
    }
    // Where nobody else can be asked, the host says what it was told, and by whom it was not told anything.
    let silent = join::tests::changed(&token, |said| {
        said["a"] = serde_json::json!([disguised.to_string(), "127.0.0.1:1"]);
    });
    let refused = first.cluster.preview_join(&silent).await.unwrap_err().to_string();
    assert!(refused.contains("not (or no longer)") && refused.contains("127.0.0.1:1"), "{refused}");

    let first = first.joined(&token).await;
    assert_eq!((first.id(), first.cluster.identity().epoch), (id, 2));
    second.until("it is back", |c| c.read(|s| s.hosts[&id].lost.is_none())).await;
    first.write("together").await.unwrap();
    for host in [first, second] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_lacks_nothing_follows_by_itself() {
    let [first, second, third] = three().await;
    let fourth = Host::new().await.joined(&first.token().await).await;
    first.write("before").await.unwrap();
    for host in [&third, &fourth] {
        host.until("it has come to both", |c| c.read(|s| names(s).contains(&"before"))).await;
    }
    let lost = vec![first.id(), second.id()];
    first.stop().await;
    second.stop().await;
    alone_without_majority(&third).await;
    // Which of the two has more may differ by what the last leader could still send.
    let (third, fourth) = {
        let preview = third.cluster.preview_reform().await;
        let newer = preview.hosts.iter().any(|h| h.fate == ReformFate::Newer);
        if newer { (fourth, third) } else { (third, fourth) }
    };
    alone_without_majority(&third).await;
    let preview = third.cluster.preview_reform().await;
    let fate = |id: HostId| preview.hosts.iter().find(|h| h.host == id).unwrap().fate;
    assert_eq!(fate(fourth.id()), ReformFate::Follows, "{preview:?}");
    let mut all = lost.clone();
    all.push(fourth.id());
    let wanted = |lost| ReformCluster { confirm: preview.confirm.clone(), lost };
    let refused = third.cluster.reform(&wanted(all)).await.unwrap_err();
    assert!(refused.to_string().contains("comes along by itself"), "{refused}");
    third.cluster.reform(&wanted(lost)).await.unwrap();
    let third = third.restart().await;
    third.write("after").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), fourth.cluster.wants_restart()).await.unwrap();
    let fourth = fourth.restart().await;
    assert_eq!(fourth.cluster.identity().epoch, 2);
    fourth.until("it has what was changed", |c| c.read(|s| names(s).contains(&"after"))).await;
    assert!(fourth.cluster.outdated().is_none());
    fourth.stop().await;
    third.stop().await;
}

/// The founder of a cluster that joins its next epoch is brought the log from its beginning, where it was the only voter.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_a_voter_in_the_log_it_is_just_brought_does_not_lead_by_it() {
    let (dir, identity) = one().await;
    let (log, _) = open_store(dir.path()).await.unwrap();
    log.pretend_joined(2).unwrap();
    drop(log);
    let cluster = Cluster::open(dir.path()).await.unwrap();
    assert_eq!(cluster.identity(), Identity { joined: true, epoch: 2, ..identity });
    // Longer than any election takes.
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        assert_eq!(cluster.standing().leader, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!cluster.has_arrived());
    cluster.shutdown().await;
}

/// A cluster of one, shut, with what is in it.
async fn one() -> (tempfile::TempDir, Identity) {
    let host = Host::new().await;
    host.write("kept").await.unwrap();
    let identity = host.cluster.identity();
    let (dir, _) = host.stop().await;
    drop(open_store(dir.path()).await.unwrap());
    (dir, identity)
}

fn copied(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to)
            } else {
                fs::copy(entry.path(), to).map(drop).unwrap()
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_forming_anew_leaves_the_old_or_the_new() {
    let (dir, identity) = one().await;
    let (_, before, _) = seen(dir.path()).await;
    let formation = Formation {
        epoch: 2,
        at: Timestamp::now(),
        by: identity.host,
        base: None,
        lost: vec![],
        restored: false,
    };
    // Before the intention has its name there is none.
    let half = copied(dir.path());
    fs::write(half.path().join("reform.json.new"), "{\"epoch\":2").unwrap();
    assert_eq!(seen(half.path()).await.0.epoch, 1);
    let mut left = Vec::new();
    let points = at_each_point(
        || {
            let dir = copied(dir.path());
            reform::intend(&dir.path().join(reform::PENDING), &formation).unwrap();
            dir
        },
        |dir| reform::carry_out(dir.path()),
        |dir| left.push(dir),
    );
    assert_eq!(points, 3);
    for dir in left {
        let (after, state, standing) = seen(dir.path()).await;
        assert_eq!((after.epoch, after.host, standing.voters), (2, identity.host, vec![identity.host]));
        assert_eq!(state.epoch(), 2);
        assert_eq!(state.cluster.as_ref().unwrap().formations.len(), 1);
        assert_eq!(names(&state), names(&before));
        assert!(!dir.path().join(reform::PENDING).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_whole_whatever_crashes() {
    let origin = Host::new().await;
    for name in ["a", "b"] {
        origin.write(name).await.unwrap();
    }
    origin.token().await;
    let id = origin.cluster.backup(backup::Reason::Manual).await.unwrap();
    origin.write("later").await.unwrap();
    let bytes = origin.cluster.read_backup(&id).await.unwrap();
    let kept = backup::decode(&bytes).unwrap();
    let identity = origin.cluster.identity();
    let pin = origin.cluster.pin().unwrap();
    origin.stop().await;

    // A host installed anew knows nothing of it.
    let fresh = Host::new().await;
    let name = fresh.cluster.read(|s| s.host_name(fresh.id()));
    let refused = fresh.cluster.restore(bytes.clone(), "else", RestoreAs::Origin).await.unwrap_err();
    assert!(matches!(refused, RestoreError::NotConfirmed(..)));
    let refused = fresh.cluster.restore(b"rubbish".to_vec(), &name, RestoreAs::Origin).await.unwrap_err();
    assert!(crate::causes::chain(&refused).contains("not a backup"));
    let told = fresh.cluster.restore(bytes, &name, RestoreAs::Origin).await.unwrap();
    assert_eq!((told.epoch, told.host, told.lost.len()), (2, identity.host, 0));
    assert!(fresh.write("between").await.is_err());
    let (dir, _) = fresh.stop().await;
    drop(open_store(dir.path()).await.unwrap());
    let mut left = Vec::new();
    let points =
        at_each_point(|| copied(dir.path()), |dir| restore::carry_out(dir.path()), |dir| left.push(dir));
    assert!(points >= 9, "{points}");
    for dir in left {
        let (after, state, standing) = seen(dir.path()).await;
        assert_eq!((after.host, after.cluster, after.epoch), (identity.host, identity.cluster, 2));
        assert_eq!(standing.voters, [identity.host]);
        assert_eq!(state.epoch(), 2);
        // All objects are there as they were; invitations are not.
        assert_eq!(state.hosts, kept.state.hosts);
        assert_eq!(state.networks, kept.state.networks);
        assert_eq!(state.pools, kept.state.pools);
        assert_eq!(state.users, kept.state.users);
        assert!(state.join_tokens.is_empty() && !kept.state.join_tokens.is_empty());
        assert_eq!(HostKey::load(dir.path()).unwrap().pin(), pin);
        for gone in [restore::PENDING, "restore.lqb", "raft.redb.new", "snapshots.new"] {
            assert!(!dir.path().join(gone).exists(), "{gone}");
        }
        // And it goes on from there.
        let cluster = Cluster::open(dir.path()).await.unwrap();
        let op = Op::CreateRole {
            id: lq_api::RoleId(Uuid::now_v7()),
            create: lq_api::access::CreateRole {
                name: "on".into(),
                labels: BTreeMap::new(),
                spec: lq_api::access::RoleSpec::default(),
            },
        };
        cluster.write(op).await.unwrap();
        assert!(cluster.read(|s| s.roles.values().any(|r| r.meta.revision > kept.content.revision)));
        cluster.shutdown().await;
    }
}
