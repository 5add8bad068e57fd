//! A host is lost, its protected machine is not.

use super::pool::{guest, ticking};
use crate::{
    ganesha::{self, Ganesha},
    guest_console::GuestConsole,
    guest_image,
    host::explain,
    pool::{image, shared, stands},
    protection::{protect, running_on, state},
    runner::Ctx,
    several::HOSTS,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{ha::HaMachineState, image::ImageKind, pool::PoolState};
use std::time::Instant;

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
