//! A shared pool on a real NFS server, mounted by our own code. It takes root, a kernel that has NFS, and a server:
//! `LQ_NFS=SERVER:PORT:/EXPORT` names an empty export. Without these it says that it was skipped.
//!
//! `LQ_NFS_CUT` and `LQ_NFS_MEND` are programs with arguments that take the server away and bring it back. `LQ_NFS_HOLD=1` makes
//! a volume, keeps it locked as a monitor would, and waits; `LQ_NFS_TRY=VOLUME` is then tried from another machine, which must
//! be refused. The end-to-end test `pool-nfs` does all of it with booted hosts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

use lq_api::{
    Bytes, HostId, PoolId, VolumeId,
    image::ImageFormat,
    pool::{CreatePool, PoolSpec},
};
use lq_mgmtd::storage::{
    Error, NewVolume, Pool as _, patient,
    shared::{self, Mounter as _, Opening, mark::Mark, nfs::NfsMounter},
};
use std::{
    fs::{self, File},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Longest the pool may keep a caller waiting, with room for a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server that is named, where this can be tested.
fn place() -> Option<PoolSpec> {
    let Ok(named) = std::env::var("LQ_NFS") else {
        eprintln!("skipped: LQ_NFS=SERVER:PORT:/EXPORT names no server");
        return None;
    };
    let parts: Vec<_> = named.splitn(3, ':').collect();
    let [server, port, export] = parts[..] else { panic!("LQ_NFS={named}") };
    let json = format!(
        r#"{{"name":"p","spec":{{"driver":"nfs","server":"{server}","port":{port},"export":"{export}",
            "options":{{"nconnect":2,"timeo":10,"retrans":2}}}}}}"#
    );
    let pool: CreatePool = serde_json::from_str(&json).unwrap();
    assert_eq!(pool.validate(), []);
    Some(pool.spec)
}

fn run(variable: &str) {
    let words = std::env::var(variable).unwrap();
    for command in words.split(';') {
        let mut words = command.split_ascii_whitespace();
        let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
        assert!(status.success(), "{command}");
    }
}

fn raw(volume: VolumeId) -> NewVolume {
    NewVolume { volume, format: ImageFormat::Raw, size: Bytes::mib(1), source: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_is_mounted_used_cut_and_heals() {
    let Some(PoolSpec::Nfs(spec)) = place() else { return };
    let parent = tempfile::tempdir().unwrap();
    let mounter = Arc::new(NfsMounter::new(parent.path().to_owned()));
    let (cluster, pool) = (Uuid::from_u128(1), PoolId(Uuid::from_u128(2)));
    let opening = Opening {
        host: HostId::new(),
        pool,
        spec: spec.clone(),
        mark: Mark::new(cluster, pool),
        claimed: false,
    };
    if let Ok(volume) = std::env::var("LQ_NFS_TRY") {
        let opened = shared::open(mounter.as_ref(), &opening, None).unwrap();
        let volume: VolumeId = volume.parse().unwrap();
        let refused = opened.grow_volume(volume, ImageFormat::Raw, Bytes::mib(2)).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        let path = opened.disk_image(volume, ImageFormat::Raw, None).path;
        let file = File::options().read(true).write(true).open(path).unwrap();
        assert!(matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(file);
        mounter.unmount(pool).unwrap();
        println!("REFUSED as it must be");
        return;
    }
    let opened = shared::open(mounter.as_ref(), &opening, None).unwrap();
    assert_eq!(mounter.mounted(), [pool]);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    println!("{}", mounts.lines().find(|l| l.contains(" nfs4 ")).unwrap());
    // What an earlier run of the daemon mounted is found again.
    let again = shared::open(mounter.as_ref(), &opening, Some(opened.clone())).unwrap();
    assert!(Arc::ptr_eq(&opened, &again));
    let other = Opening { mark: Mark::new(Uuid::new_v4(), pool), ..opening.clone() };
    let refused = shared::open(mounter.as_ref(), &other, None).err().unwrap().to_string();
    assert!(refused.contains("another cluster"), "{refused}");

    let volume = VolumeId::new();
    opened.create_volume(raw(volume)).await.unwrap();
    // Once more is done already; another under its name is refused, by a file system that cannot rename without replacing.
    opened.create_volume(raw(volume)).await.unwrap();
    let other = NewVolume { size: Bytes::mib(3), ..raw(volume) };
    assert!(opened.create_volume(other).await.is_err());
    let qcow2 = NewVolume { format: ImageFormat::Qcow2, ..raw(VolumeId::new()) };
    opened.create_volume(qcow2).await.unwrap();
    opened.grow_volume(volume, ImageFormat::Raw, Bytes::mib(2)).await.unwrap();
    let room = opened.status().await.unwrap();
    assert!(room.capacity_bytes >= room.free_bytes && room.free_bytes.get() > 0);
    assert_eq!(opened.find().await.unwrap().volumes.len(), 2);

    if std::env::var_os("LQ_NFS_HOLD").is_some() {
        let path = opened.disk_image(volume, ImageFormat::Raw, None).path;
        let file = File::options().read(true).write(true).open(path).unwrap();
        file.try_lock().unwrap();
        println!("HOLDING {volume}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(file);
        return;
    }

    run("LQ_NFS_CUT");
    let began = Instant::now();
    let cut = opened.create_volume(raw(VolumeId::new())).await;
    assert!(matches!(cut, Err(Error::Silent { .. })), "{cut:?}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let (asker, asked) = (mounter.clone(), spec.clone());
    let mut told = patient::spawn(move || asker.ask(pool, &asked)).unwrap();
    let early = tokio::time::timeout(Duration::from_secs(5), &mut told).await;
    assert!(early.is_err(), "a hard mount waits: {early:?}");
    println!("cut: silent after {:?}, and nobody waits", began.elapsed());
    run("LQ_NFS_MEND");
    let began = Instant::now();
    tokio::time::timeout(PATIENCE * 3, told).await.expect("it heals").unwrap().unwrap();
    println!("mended: answers after {:?}", began.elapsed());
    let after = VolumeId::new();
    opened.create_volume(raw(after)).await.unwrap();
    for volume in opened.find().await.unwrap().volumes {
        opened.delete_volume(volume).await.unwrap();
    }
    assert!(opened.find().await.unwrap().volumes.is_empty());

    // A server that is away for good does not keep the mount.
    run("LQ_NFS_CUT");
    let (asker, asked) = (mounter.clone(), spec.clone());
    let stuck = patient::spawn(move || asker.ask(pool, &asked)).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let by_force = mounter.clone();
    let unmounted = patient::spawn(move || by_force.unmount(pool)).unwrap();
    tokio::time::timeout(PATIENCE, unmounted).await.expect("it ends").unwrap().unwrap();
    let ended = tokio::time::timeout(PATIENCE, stuck).await.expect("the stuck thread ends");
    println!("unmounted by force; what waited got {ended:?}");
    assert_eq!(mounter.mounted(), []);
    run("LQ_NFS_MEND");
}
