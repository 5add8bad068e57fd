//! Several hosts on one segment.

use crate::{
    guest_console::GuestConsole,
    guest_image,
    host::explain,
    runner::Ctx,
    scale,
    several::{HOSTS, until},
    site::{self, Wish, patience, upload},
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    HostId, ImageId, VmId,
    auth::CreateToken,
    client::Client,
    cluster::Cluster,
    host::HostMaintenance,
    image::ImageKind,
    placement::Placement,
    vm::{Boot, CreateVm, MigrateVm, UpdateVm, VmState},
};
use std::{collections::BTreeMap, path::Path, time::Instant};

/// Writes after the leader is gone.
const WRITES: usize = 10;

/// From blank disks to a quorate cluster by one token; a machine made, started and watched through a host that has nothing to
/// do with it; the leader's power is cut, the others go on, and it comes back to what it missed.
pub(super) async fn three(ctx: &mut Ctx) -> Result<()> {
    let mut cluster = ctx.take_several().await?;
    until(&cluster.hosts[0].api, "a leader", 60, |c| c.leader.is_some()).await?;
    let seen = cluster.hosts[0].api.cluster().await.map_err(explain)?;
    let leader = seen.leader.context("there is no leader")?;
    let ids = cluster.ids().await?;
    let leading = ids.iter().position(|id| *id == leader).context("the leader is none of the hosts")?;
    let others: Vec<usize> = (0..HOSTS).filter(|n| *n != leading).collect();
    let [asked, holder] = others[..] else { bail!("two hosts follow") };
    let (id, console) = counting_guest(ctx, &cluster.hosts[asked].api, ids[holder]).await?;

    cluster.cut_power(leading).await;
    let began = Instant::now();
    let left = &cluster.hosts;
    // Another may have begun to lead meanwhile: then the two still have to find out that this one is gone.
    let silent = |c: &Cluster| c.members.iter().any(|m| m.host == leader && m.reachable == Some(false));
    let new = |c: &Cluster| c.quorum && c.leader.is_some_and(|l| l != leader) && silent(c);
    until(&left[0].api, "another leader that misses the old one", 120, new).await?;
    println!("        another leader after {:.1} s", began.elapsed().as_secs_f64());
    let mut written = Vec::new();
    for n in 0..WRITES {
        let name = format!("after-{n}");
        let request =
            CreateToken { name: name.clone(), days: Some(1), read_only: true, limit: None, owner: None };
        let made = left[n % 2].api.create_token(&request).await;
        made.map_err(explain).context("writing without the old leader")?;
        written.push(name);
    }
    console.said.expect("tick", 60).await.context("the guest after the leader's end")?;

    cluster.switch_on(leading).await?;
    let back = &cluster.hosts[leading].api;
    let tokens = back.tokens().await.map_err(explain)?;
    let lost: Vec<_> = written.iter().filter(|name| !tokens.iter().any(|t| t.name == **name)).collect();
    ensure!(lost.is_empty(), "acknowledged writes are missing on the host that is back: {lost:?}");
    site::remove_vm(back, id).await.context("through the host that is back")?;
    ctx.give_back_several(cluster);
    Ok(())
}

/// A guest on memory only counts on its console. It moves to the other host, called for through the host it is not on, and back
/// because its host is put in maintenance; neither is a tick left out, nor said twice.
pub(super) async fn migrate(ctx: &mut Ctx) -> Result<()> {
    let cluster = ctx.take_several().await?;
    let [here, there, third] = [0, 1, 2].map(|n| &cluster.hosts[n].api);
    let ids = cluster.ids().await?;
    let (home, away) = (ids[0], ids[1]);

    let (id, console) = counting_guest(ctx, here, home).await?;
    let mut spec = here.vm(id).await.map_err(explain)?.spec;
    spec.placement = Placement::default();
    let free = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
    here.update_vm(id, &free, None).await.map_err(explain).context("letting the VM go anywhere")?;

    let wish = MigrateVm { host: Some(away), ..MigrateVm::default() };
    let task = there.migrate_vm(id, &wish).await.map_err(explain).context("asking for the move")?;
    let task = there.wait_task(task.id, patience(600), |_| {}).await.map_err(explain).context("the move")?;
    let stood =
        task.migration.and_then(|m| m.pause_micros).context("nobody knows how long it stood still")?;
    println!("        moved; the guest stood still for {} ms", stood.div_ceil(1000));
    let console = counts_on(ctx, here, id, |host| host == away, &console, "there").await?;

    maintenance(third, away, true).await?;
    counts_on(ctx, there, id, |host| host != away, &console, "back").await?;
    maintenance(third, away, false).await?;
    site::remove_vm(here, id).await?;
    ctx.give_back_several(cluster);
    Ok(())
}

/// Puts a host in maintenance, or ends that.
async fn maintenance(api: &Client, host: HostId, on: bool) -> Result<()> {
    let wish = HostMaintenance { on, shut_down: false };
    let task = api.host_maintenance(host, &wish).await.map_err(explain).context("asking for maintenance")?;
    let done = api.wait_task(task.id, patience(600), |_| {}).await;
    done.map_err(explain).with_context(|| format!("maintenance: {on}")).map(drop)
}

/// A guest that was moved counts on on a host as is wanted, from where it was; its console there.
async fn counts_on(
    ctx: &Ctx,
    api: &Client,
    vm: VmId,
    wanted: impl Fn(HostId) -> bool,
    before: &GuestConsole,
    name: &str,
) -> Result<GuestConsole> {
    let seen = api.vm(vm).await.map_err(explain)?.status;
    ensure!(
        seen.host.is_some_and(wanted) && seen.state == VmState::Running,
        "after the move the VM is {seen:?}"
    );
    // The scroll-back begins with what the guest said here first.
    let console = GuestConsole::open(api, vm, &ctx.dir.join(format!("console-{name}.log"))).await?;
    for _ in 0..5 {
        console.said.expect("tick ", 120).await.context("the guest after its move")?;
    }
    console.said.expect("\n", 120).await?;
    // It ends with the process it is of.
    let _ = tokio::time::timeout(scale::seconds(60), before.said.watch(&["\0"])).await;
    // A line may have begun on the one and ended on the other.
    let all = ticks(&(before.said.all() + &console.said.all()));
    ensure!(all.windows(2).all(|w| matches!(w, [a, b] if *b == a + 1)), "it did not count on: {all:?}");
    Ok(console)
}

/// The numbers of whole lines `tick N`.
fn ticks(said: &str) -> Vec<u64> {
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.trim().strip_prefix("tick ")?.parse().ok()).collect()
}

/// The image of this name, uploaded by whoever needs it first.
async fn image(api: &Client, name: &str, kind: ImageKind, path: &Path) -> Result<ImageId> {
    let images = api.images().await.map_err(explain)?;
    match images.iter().find(|image| image.meta.name == name) {
        Some(image) => Ok(image.meta.id),
        None => upload(api, name, kind, path, None, |_, _| {}).await,
    }
}

/// Makes and starts a tiny guest on `holder` through the host of `api`, and waits until it counts.
async fn counting_guest(ctx: &Ctx, api: &Client, holder: HostId) -> Result<(VmId, GuestConsole)> {
    let files = guest_image::ensure(&ctx.paths).await?;
    let kernel = image(api, "counting-kernel", ImageKind::Kernel, &files.kernel()).await?;
    let initrd = image(api, "counting-initrd", ImageKind::Initrd, &files.tiny_initrd()).await?;
    let cmdline = format!("console=ttyS0 quiet panic=-1 tiny=tick {}", ctx.accel.kernel_words());
    let mut spec = site::spec(
        128,
        Some(Boot { kernel, initrd: Some(initrd), cmdline }),
        vec![],
        vec![],
        Wish::default(),
    );
    spec.placement = Placement { host: Some(holder), ..Placement::default() };
    let request = CreateVm { name: "counts".into(), labels: BTreeMap::new(), spec };
    let vm = api.create_vm(&request).await.map_err(explain).context("creating a VM through a follower")?;
    ensure!(vm.status.host == Some(holder), "the VM was placed on {:?}", vm.status.host);
    api.start_vm(vm.meta.id).await.map_err(explain).context("starting a VM through a follower")?;
    api.wait_vm_state(vm.meta.id, VmState::Running, patience(300)).await.map_err(explain)?;
    let console = GuestConsole::open(api, vm.meta.id, &ctx.dir.join("console.log")).await?;
    console.said.expect("tick 3\n", 180).await.context("the guest on another host's console")?;
    Ok((vm.meta.id, console))
}
