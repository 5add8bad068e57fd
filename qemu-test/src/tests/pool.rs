//! A shared pool on a real NFS server.

use crate::{
    ganesha::{self, Ganesha},
    guest_console::GuestConsole,
    guest_image,
    host::explain,
    pool::{image, shared, stands},
    runner::Ctx,
    scale,
    several::HOSTS,
    site::{self, Wish, patience, remove_vm},
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    Bytes, HostId, ImageId, PoolId,
    client::Client,
    image::{ImageFormat, ImageKind},
    placement::Placement,
    pool::PoolState,
    vm::{Boot, CreateVm, Disk, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::{collections::BTreeMap, time::Instant};

/// Longest the API may take for an answer while the server is silent.
const PROMPT: u64 = 10;

/// Three hosts mount one export: images are stored once, machines of two hosts use their disks there. The server falls silent: it
/// is told, all hosts go on, and it heals. What is made by one host is deleted by the other.
pub(super) async fn nfs(ctx: &mut Ctx) -> Result<()> {
    if !ganesha::available() {
        println!("        skipped: this takes root, and Debian's nfs-ganesha and nfs-ganesha-vfs");
        return Ok(());
    }
    let server = Ganesha::start(&ctx.dir).await?;
    let cluster = ctx.take_several().await?;
    let (first, second) = (&cluster.hosts[0], &cluster.hosts[1]);
    let began = Instant::now();
    let pool = shared(&first.api, &server).await?;
    stands(&second.api, pool, "ready on all", 300, |s| s == [PoolState::Ready; HOSTS]).await?;
    println!("        mounted by three hosts: {:.1} s", began.elapsed().as_secs_f64());

    // Through the one what the other then runs.
    let files = guest_image::ensure(&ctx.paths).await?;
    let kernel = image(&first.api, pool, "kernel", ImageKind::Kernel, &files.kernel()).await?;
    let initrd = image(&second.api, pool, "initrd", ImageKind::Initrd, &files.tiny_initrd()).await?;
    let mut guests = Vec::new();
    for (host, other, name) in [(first, second, "one"), (second, first, "two")] {
        let id = host.api.cluster().await.map_err(explain)?.this_host;
        let console = guest(ctx, &other.api, pool, (name, Some(id)), ticking(ctx, kernel, initrd)).await?;
        guests.push((name, console));
    }

    server.silent(true)?;
    for host in &cluster.hosts {
        stands(&host.api, pool, "unreachable on all", 180, |s| s == [PoolState::Unreachable; HOSTS]).await?;
        let asked = Instant::now();
        host.api.vms().await.map_err(explain)?;
        host.api.pools().await.map_err(explain)?;
        ensure!(asked.elapsed() < scale::seconds(PROMPT), "the API took {:?}", asked.elapsed());
    }
    for (name, console) in &guests {
        console
            .said
            .expect("tick", 60)
            .await
            .with_context(|| format!("the guest {name} during the silence"))?;
    }
    server.silent(false)?;
    stands(&first.api, pool, "ready again", 300, |s| s == [PoolState::Ready; HOSTS]).await?;

    for (n, (name, _)) in guests.iter().enumerate() {
        let api = if n == 0 { &second.api } else { &first.api };
        let vm = api.find_vm(name).await.map_err(explain)?.meta.id;
        remove_vm(api, vm).await.with_context(|| format!("removing the guest {name}"))?;
    }
    for id in [kernel, initrd] {
        first.api.delete_image(id).await.map_err(explain)?;
    }
    let task = second.api.delete_pool(pool).await.map_err(explain)?;
    second.api.wait_task(task.id, patience(180), |_| {}).await.map_err(explain)?;
    ensure!(!server.data.join("limiquantix-pool.json").exists(), "the mark stays after the pool");
    let left = std::fs::read_dir(server.data.join("volumes")).context("reading the export")?.count();
    ensure!(left == 0, "{left} files of volumes stay");
    server.end().await;
    ctx.give_back_several(cluster);
    Ok(())
}

/// What a guest that counts boots.
pub(super) fn ticking(ctx: &Ctx, kernel: ImageId, initrd: ImageId) -> Boot {
    let cmdline = format!("console=ttyS0 quiet panic=-1 tiny=tick {}", ctx.accel.kernel_words());
    Boot { kernel, initrd: Some(initrd), cmdline }
}

/// Makes and starts a tiny guest with a disk in the pool, on this host where one is named, and waits until it counts.
pub(super) async fn guest(
    ctx: &Ctx,
    api: &Client,
    pool: PoolId,
    (name, host): (&str, Option<HostId>),
    boot: Boot,
) -> Result<GuestConsole> {
    let spec = VolumeSpec {
        size_bytes: Some(Bytes::mib(64)),
        pool: Some(pool),
        format: ImageFormat::Qcow2,
        source: None,
    };
    let create = CreateVolume { name: format!("{name}-disk"), labels: BTreeMap::new(), spec };
    let volume = api.create_volume(&create).await.map_err(explain)?.meta.id;
    api.wait_volume(volume, patience(180)).await.map_err(explain)?;
    let disks = vec![Disk::of(volume)];
    let mut spec = site::spec(128, Some(boot), disks, vec![], Wish::default());
    spec.placement = Placement { host, ..Placement::default() };
    let create = CreateVm { name: name.into(), labels: BTreeMap::new(), spec };
    let vm = api.create_vm(&create).await.map_err(explain)?.meta.id;
    api.start_vm(vm).await.map_err(explain)?;
    api.wait_vm_state(vm, VmState::Running, patience(300)).await.map_err(explain)?;
    let console = GuestConsole::open(api, vm, &ctx.dir.join(format!("{name}.log"))).await?;
    console.said.expect("tick 3\n", 180).await.with_context(|| format!("the guest {name}"))?;
    Ok(console)
}
