//! Several hosts on one segment.

use crate::{
    guest_console::GuestConsole,
    guest_image,
    host::{Host, explain},
    media::{self, PASSWORD, install_part},
    qemu::{Bus, Machine, Medium},
    runner::Ctx,
    scale,
    segment::{self, Segment},
    site::{self, Wish, patience, upload},
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    HostId, VmId,
    auth::CreateToken,
    client::Client,
    cluster::{Cluster, CreateJoinToken},
    host::HostMaintenance,
    image::ImageKind,
    local::layout::DISK_MIN_MIB,
    placement::Placement,
    vm::{Boot, CreateVm, MigrateVm, UpdateVm, VmState},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Room for guests' images beside the least a host needs, MiB.
const ROOM_MIB: u64 = 512;
/// Writes after the leader is gone.
const WRITES: usize = 10;

/// From blank disks to a quorate cluster by one token; a machine made, started and watched through a host that has nothing to
/// do with it; the leader's power is cut, the others go on, and it comes back to what it missed.
pub(super) async fn three(ctx: &mut Ctx) -> Result<()> {
    let segment = Segment::open(&ctx.dir, 3).await?;
    let mut hosts = formed(ctx, &segment).await?;

    let cluster = hosts[0].api.cluster().await.map_err(explain)?;
    let leader = cluster.leader.context("there is no leader")?;
    let ids = ids(&hosts).await?;
    let leading = ids.iter().position(|id| *id == leader).context("the leader is none of the hosts")?;
    let others: Vec<usize> = (0..3).filter(|n| *n != leading).collect();
    let [asked, holder] = others[..] else { bail!("two hosts follow") };
    let console = counting_guest(ctx, &hosts[asked].api, ids[holder]).await?;

    let cut = hosts.remove(leading);
    let machine = ctx_machine(ctx, &segment, leading)?;
    cut.machine.cut_power().await;
    let began = Instant::now();
    // Those behind the one taken out moved up.
    let left: Vec<&Host> = hosts.iter().collect();
    let new = |c: &Cluster| c.quorum && c.leader.is_some_and(|l| l != leader);
    until(&left[0].api, "another leader", 120, new).await?;
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
    let seen = left[0].api.cluster().await.map_err(explain)?;
    let silent = seen.members.iter().find(|m| m.host == leader).context("the lost host is not listed")?;
    ensure!(silent.reachable == Some(false), "the lost host is said to answer");
    console.said.expect("tick", 60).await.context("the guest after the leader's end")?;

    let back = media::boot_installed(machine).await.context("the host whose power was cut")?;
    for host in left.iter().copied().chain([&back]) {
        let whole = |c: &Cluster| c.quorum && c.members.iter().all(|m| m.reachable == Some(true));
        until(&host.api, "all three to answer", 300, whole).await?;
    }
    let tokens = back.api.tokens().await.map_err(explain)?;
    let lost: Vec<_> = written.iter().filter(|name| !tokens.iter().any(|t| t.name == **name)).collect();
    ensure!(lost.is_empty(), "acknowledged writes are missing on the host that is back: {lost:?}");
    drop(back);
    drop(hosts);
    segment.close().await;
    Ok(())
}

/// A guest on memory only counts on its console. It moves to the other host, called for through the host it is not on, and back
/// because its host is put in maintenance; neither is a tick left out, nor said twice.
pub(super) async fn migrate(ctx: &mut Ctx) -> Result<()> {
    let segment = Segment::open(&ctx.dir, 2).await?;
    let (first, second) = pair(ctx, &segment).await?;
    let [here, there] = [&first, &second].map(|host| &host.api);
    let ids = [here.cluster().await, there.cluster().await].map(|c| c.map(|c| c.this_host));
    let [Ok(home), Ok(away)] = ids else { bail!("the hosts do not say which they are: {ids:?}") };

    let console = counting_guest(ctx, here, home).await?;
    let vms = here.vms().await.map_err(explain)?;
    let vm = vms.into_iter().find(|vm| vm.meta.name == "counts").context("the VM is not listed")?;
    let mut spec = vm.spec.clone();
    spec.placement = Placement::default();
    let free = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
    let id = vm.meta.id;
    here.update_vm(id, &free, None).await.map_err(explain).context("letting the VM go anywhere")?;

    let wish = MigrateVm { host: Some(away), ..MigrateVm::default() };
    let task = there.migrate_vm(id, &wish).await.map_err(explain).context("asking for the move")?;
    let task = there.wait_task(task.id, patience(600), |_| {}).await.map_err(explain).context("the move")?;
    let stood =
        task.migration.and_then(|m| m.pause_micros).context("nobody knows how long it stood still")?;
    println!("        moved; the guest stood still for {} ms", stood.div_ceil(1000));
    let console = counts_on(ctx, here, id, away, &console, "there").await?;

    let wish = HostMaintenance { on: true, shut_down: false };
    let task = here.host_maintenance(away, &wish).await.map_err(explain).context("asking for maintenance")?;
    here.wait_task(task.id, patience(600), |_| {}).await.map_err(explain).context("the evacuation")?;
    counts_on(ctx, there, id, home, &console, "back").await?;
    drop(second);
    drop(first);
    segment.close().await;
    Ok(())
}

/// A guest that was moved counts on on `host`, from where it was; its console there.
async fn counts_on(
    ctx: &Ctx,
    api: &Client,
    vm: VmId,
    host: HostId,
    before: &GuestConsole,
    name: &str,
) -> Result<GuestConsole> {
    let seen = api.vm(vm).await.map_err(explain)?.status;
    ensure!(seen.host == Some(host) && seen.state == VmState::Running, "after the move the VM is {seen:?}");
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

/// Two blank disks become a cluster of two.
pub(super) async fn pair(ctx: &Ctx, segment: &Segment) -> Result<(Host, Host)> {
    let first = installed(ctx, segment, 0, None).await.context("the first host")?;
    let first = media::boot_installed(first).await.context("the first host")?;
    let token = first.api.create_join_token(&CreateJoinToken::default()).await.map_err(explain)?.text;
    let second = installed(ctx, segment, 1, Some(&token)).await.context("the host that joins")?;
    let second = Host::boot(second).await.context("the host that joins")?;
    for host in [&second, &first] {
        let whole = |c: &Cluster| c.quorum && c.members.len() == 2;
        until(&host.api, "two members", 300, whole).await?;
    }
    Ok((first, second))
}

/// Three blank disks become a quorate cluster with three votes.
pub(super) async fn formed(ctx: &Ctx, segment: &Segment) -> Result<Vec<Host>> {
    let began = Instant::now();
    let first = installed(ctx, segment, 0, None).await.context("the first host")?;
    let first = media::boot_installed(first).await.context("the first host")?;
    let wish = CreateJoinToken { uses: 2, ..CreateJoinToken::default() };
    let token = first.api.create_join_token(&wish).await.map_err(explain)?.text;
    let joining = async |n: usize| -> Result<Host> {
        let machine = installed(ctx, segment, n, Some(&token)).await?;
        let host = Host::boot(machine).await?;
        until(&host.api, "it to be a member", 300, |c| c.members.len() == 3).await?;
        Ok(host)
    };
    let (second, third) = tokio::try_join!(joining(1), joining(2)).context("a host that joins")?;
    let hosts = vec![first, second, third];
    for host in &hosts {
        until(&host.api, "three votes", 300, |c| c.quorum && c.voters.len() == 3).await?;
    }
    println!("        blank disks to a quorate cluster of three: {} s", began.elapsed().as_secs());
    Ok(hosts)
}

/// Who each is.
pub(super) async fn ids(hosts: &[Host]) -> Result<Vec<HostId>> {
    let mut ids = Vec::new();
    for host in hosts {
        ids.push(host.api.cluster().await.map_err(explain)?.this_host);
    }
    Ok(ids)
}

/// The machine of a host, from its disk alone.
pub(super) fn ctx_machine(ctx: &Ctx, segment: &Segment, n: usize) -> Result<Machine> {
    let dir = ctx.dir.join(format!("host{n}"));
    let (plug, api) = segment.plug(n)?;
    let disk = media::disk_at(&dir.join("disk.raw"), Bus::Virtio);
    Ok(Machine {
        disks: vec![disk],
        segment: Some(plug),
        forward: vec![],
        forward_fixed: vec![(443, api)],
        memory_mib: 2048,
        ..media::bare_metal(&dir, ctx.accel)
    })
}

/// Installs a host to a blank disk; it is not started yet.
pub(super) async fn installed(
    ctx: &Ctx,
    segment: &Segment,
    n: usize,
    token: Option<&str>,
) -> Result<Machine> {
    let machine = ctx_machine(ctx, segment, n)?;
    let disk = machine.disks.first().context("a host without a disk")?;
    media::empty_disk(&disk.path, DISK_MIN_MIB + ROOM_MIB, Bus::Virtio)?;
    let mut answer =
        media::answer_with(&install_part("auto", "power-off"), &format!("node{}", n + 1), PASSWORD);
    answer += &format!(
        "\n[host.network]\naddress = \"{}/24\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n",
        segment::address(n)
    );
    if let Some(token) = token {
        answer += &format!("\n[cluster]\njoin = \"{token}\"\n");
    }
    let iso = machine.dir.join("install.iso");
    media::prepare_iso(&ctx.paths, ctx.accel, &ctx.paths.iso(), &iso, Some(&answer)).await?;
    let medium = Some((Medium::Cd, iso.clone()));
    media::install(Machine { medium, ..machine.clone() }).await?;
    let _ = std::fs::remove_file(iso);
    Ok(machine)
}

/// Waits until a host sees the cluster so. It may start its daemon again meanwhile, and its accounts may become the cluster's.
pub(super) async fn until(
    api: &Client,
    what: &str,
    seconds: u64,
    wanted: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    let end = Instant::now() + scale::seconds(seconds);
    loop {
        let seen = match api.cluster().await {
            Ok(cluster) if wanted(&cluster) => return Ok(()),
            Ok(cluster) => format!("{cluster:?}"),
            Err(e) => {
                let _ = api.login("admin", PASSWORD, None).await;
                e.chain()
            }
        };
        ensure!(Instant::now() < end, "waited in vain for {what}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Makes and starts a tiny guest on `holder` through the host of `api`, and waits until it counts.
async fn counting_guest(ctx: &Ctx, api: &Client, holder: HostId) -> Result<GuestConsole> {
    let files = guest_image::ensure(&ctx.paths).await?;
    let kernel = upload(api, "kernel", ImageKind::Kernel, &files.kernel(), None, |_, _| {}).await?;
    let initrd = upload(api, "initrd", ImageKind::Initrd, &files.tiny_initrd(), None, |_, _| {}).await?;
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
    Ok(console)
}
