//! A host is lost, its protected machine is not.

use super::pool::{guest, image, shared, stands, ticking};
use crate::{
    ganesha::{self, Ganesha},
    guest_console::GuestConsole,
    guest_image,
    host::explain,
    runner::Ctx,
    scale,
    several::HOSTS,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    HostId, VmId,
    client::Client,
    ha::{HaMachineState, HaPriority, VmHa},
    image::ImageKind,
    pool::PoolState,
    vm::{UpdateVm, Vm, VmState},
};
use std::time::{Duration, Instant};

/// Longest until the machine runs on another host, seconds: 11 to 15 by design, and a machine's start.
const ELSEWHERE: u64 = 30;

/// A protected machine with its disk on an NFS server: the power of its host is cut, it runs on another, and stays there when
/// the host comes back.
pub(super) async fn power_cut(ctx: &mut Ctx) -> Result<()> {
    if !ganesha::available() {
        println!("        skipped: this takes root, and Debian's nfs-ganesha and nfs-ganesha-vfs");
        return Ok(());
    }
    let server = Ganesha::start(&ctx.dir).await?;
    let mut cluster = ctx.take_several().await?;
    let hosts = &cluster.hosts;
    let pool = shared(&hosts[0].api, &server).await?;
    stands(&hosts[0].api, pool, "ready on all", 300, |s| s == [PoolState::Ready; HOSTS]).await?;
    let files = guest_image::ensure(&ctx.paths).await?;
    let kernel = image(&hosts[0].api, pool, "kernel", ImageKind::Kernel, &files.kernel()).await?;
    let initrd = image(&hosts[0].api, pool, "initrd", ImageKind::Initrd, &files.tiny_initrd()).await?;
    let before = guest(ctx, &hosts[0].api, pool, ("counts", None), ticking(ctx, kernel, initrd)).await?;
    let vm = hosts[0].api.find_vm("counts").await.map_err(explain)?;
    let (id, home) = (vm.meta.id, vm.status.host.context("it runs nowhere")?);
    protect(&hosts[0].api, &vm).await?;
    before.said.expect("tick 30\n", 120).await.context("the guest under its lease")?;
    drop(before);

    let cut = cluster.ids().await?.iter().position(|host| *host == home);
    let cut = cut.context("it is on none of the hosts")?;
    cluster.cut_power(cut).await;
    let began = Instant::now();
    let api = cluster.hosts[0].api.clone();
    let api = &api;
    let elsewhere = running_on(api, id, |host| host != home).await?;
    println!("        a lost host's machine runs elsewhere after {:.1} s", began.elapsed().as_secs_f64());
    let after = GuestConsole::open(api, id, &ctx.dir.join("after.log")).await?;
    after.said.expect("tick 3\n", 180).await.context("the guest on its other host")?;

    cluster.switch_on(cut).await.context("the host that was lost")?;
    let seen = cluster.hosts[cut].api.vm(id).await.map_err(explain)?;
    ensure!(
        seen.status.host == Some(elsewhere),
        "the machine is on {:?} after its host came back",
        seen.status.host
    );
    after.said.expect("tick 30\n", 120).await.context("the guest after its former host came back")?;
    state(api, id, HaMachineState::Protected).await.context("after the host came back")?;
    drop(cluster);
    server.end().await;
    Ok(())
}

/// Protects the machine, and waits until it is.
async fn protect(api: &Client, vm: &Vm) -> Result<()> {
    let mut spec = vm.spec.clone();
    spec.ha = Some(VmHa { priority: HaPriority::High });
    let update = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
    api.update_vm(vm.meta.id, &update, None).await.map_err(explain).context("protecting the machine")?;
    state(api, vm.meta.id, HaMachineState::Protected).await
}

/// Waits until high availability sees the machine so.
async fn state(api: &Client, vm: VmId, wanted: HaMachineState) -> Result<()> {
    let end = Instant::now() + scale::seconds(120);
    loop {
        let seen = api.ha().await.map_err(explain)?;
        let machine = seen.machines.iter().find(|m| m.vm == vm);
        if machine.is_some_and(|m| m.state == wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "waited in vain for the machine to be {wanted:?}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until the machine runs on such a host; which.
async fn running_on(api: &Client, vm: VmId, wanted: impl Fn(HostId) -> bool) -> Result<HostId> {
    let end = Instant::now() + scale::seconds(ELSEWHERE);
    loop {
        // The host asked may just be without a leader.
        let seen = api.vm(vm).await;
        if let Ok(vm) = &seen
            && vm.status.state == VmState::Running
            && let Some(host) = vm.status.host.filter(|host| wanted(*host))
        {
            return Ok(host);
        }
        ensure!(
            Instant::now() < end,
            "it runs nowhere else: {:?}, {:?}",
            seen.map(|vm| vm.status),
            api.ha().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
