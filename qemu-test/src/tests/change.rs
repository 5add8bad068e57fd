//! A Debian guest is changed while it runs, through the API, and sees it; the daemon dies in the middle.

use crate::{
    guest_console::GuestConsole,
    host::explain,
    runner::Ctx,
    scale,
    site::{self, Site, Wish, patience},
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    Bytes, ImageId, VmId, VolumeId,
    image::{ImageFormat, ImageKind},
    local::vmm::{IoLimits, Rate},
    vm::{Cdrom, Disk, Nic, PowerState, UpdateVm, Vm, VmSpec, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

const SIZE: Bytes = Bytes::mib(64);
const GROWN: Bytes = Bytes::mib(96);
const MEMORY: Bytes = Bytes::mib(512);
const MEMORY_GROWN: Bytes = Bytes::mib(640);
const MEMORY_MOST: Bytes = Bytes::mib(1024);

pub(super) async fn vm(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let image = site.debian_image().await?;
    let iso = iso(&site).await?;
    let made = site::create_debian(site.api(), "change", image, Wish::default()).await?;
    let id = made.meta.id;
    change(&site, id, |spec| {
        spec.cdroms = vec![Cdrom { image: Some(iso) }];
        spec.vcpus_max = Some(2);
        spec.memory_bytes = MEMORY;
        spec.memory_max_bytes = Some(MEMORY_MOST);
    })
    .await?;
    let started = site.start_vm(id).await?;
    let mut console = site.console(&started).await?;
    console.log_in().await.context("logging in on the guest's console")?;
    let data = volume(&site).await?;

    // A disk and an interface come.
    let network = site::default_network(site.api()).await?;
    let more = change(&site, id, |spec| {
        spec.disks.push(Disk::of(data));
        spec.nics.push(Nic::on(network));
    })
    .await?;
    let mac = more.spec.nics.last().and_then(|nic| nic.mac).context("the new interface has no address")?;
    // Letters are given in the order of coming; the seed of cloud-init is a disk, too.
    let of_size = format!("grep -lx {} /sys/block/*/size", sectors(SIZE));
    sees(&mut console, &format!("{of_size} | wc -l"), "1").await.context("the disk that was plugged in")?;
    let disk = console.shell(&format!("basename $(dirname $({of_size}))"), 60).await?;
    sees(&mut console, "ls /sys/class/net | grep -vc lo", "2")
        .await
        .context("the interface that was plugged in")?;
    let write = format!("dd if=/dev/urandom of=/dev/{disk} bs=1M count=16 conv=fsync 2>/dev/null");
    let sum = format!("head -c 16M /dev/{disk} | sha256sum");
    let written =
        console.shell(&format!("{write}; {sum}"), 300).await.context("writing to the disk that came")?;

    // Limits and the cable, with the daemon killed in between.
    let limits = IoLimits { operations: Some(Rate { per_second: 500, burst: 0 }), bandwidth: None };
    change(&site, id, |spec| spec.disks.iter_mut().skip(1).for_each(|disk| disk.limits = limits)).await?;
    let cable = format!(
        "n=$(dirname $(grep -l {mac} /sys/class/net/*/address)); ip link set $(basename $n) up; cat $n/carrier"
    );
    sees(&mut console, &cable, "1").await.context("the cable of the new interface")?;
    let mut fault = site.host.fault().await?;
    let daemon = fault.process("mgmtd").await?;
    fault.kill(daemon.pid).await?;
    site.host.wait_ready().await.context("mgmtd did not come back")?;
    // The daemon carried the console.
    console = site.console(&started).await?;
    console.resume().await?;
    change(&site, id, |spec| spec.nics.iter_mut().skip(1).for_each(|nic| nic.connected = false)).await?;
    sees(&mut console, &cable, "0").await.context("the cable that was pulled")?;

    // The medium goes, the disk grows.
    change(&site, id, |spec| spec.cdroms = vec![Cdrom::default()]).await?;
    let task = site.api().grow_volume(data, GROWN).await.map_err(explain)?;
    site.api()
        .wait_task(task.id, patience(120), |_| {})
        .await
        .map_err(explain)
        .context("growing the disk")?;
    sees(&mut console, &format!("cat /sys/block/{disk}/size"), &sectors(GROWN))
        .await
        .context("the disk that was grown")?;
    let read = console.shell(&format!("echo 3 >/proc/sys/vm/drop_caches; {sum}"), 300).await?;
    ensure!(written == read, "16 MB were written as {written} and read as {read}");

    grows_and_shrinks(&site, &mut console, id).await?;

    // Both go, and the disk is free.
    let last = change(&site, id, |spec| {
        spec.disks.truncate(1);
        spec.nics.truncate(1);
    })
    .await?;
    sees(&mut console, &format!("ls /sys/block | grep -cx {disk}"), "0")
        .await
        .context("the disk that was unplugged")?;
    let free = site.api().volume(data).await.map_err(explain)?;
    ensure!(free.status.attached_to.is_none(), "the disk that was unplugged is the machine's still");
    ensure!(last.status.pid == started.status.pid, "the machine was started anew in the middle");
    site.api().delete_volume(data).await.map_err(explain).context("deleting the volume that is free")?;
    site.remove(&last).await?;
    ctx.give_back(site);
    Ok(())
}

/// A processor and memory come, are used, and go.
async fn grows_and_shrinks(site: &Site, console: &mut GuestConsole, id: VmId) -> Result<()> {
    // Debian's kernel leaves it to the administrator how memory that comes is used.
    let movable = "echo online_movable >/sys/devices/system/memory/auto_online_blocks";
    let total = "awk '/^MemTotal/ {print $2}' /proc/meminfo";
    let before: u64 = console.shell(&format!("{movable}; {total}"), 60).await?.parse().context("MemTotal")?;
    change(site, id, |spec| (spec.vcpus, spec.memory_bytes) = (2, MEMORY_GROWN)).await?;
    let online = "cat /sys/devices/system/cpu/online";
    sees(console, &format!("echo 1 >/sys/devices/system/cpu/cpu1/online; {online}"), "0-1")
        .await
        .context("the processor that came")?;
    sees(console, "taskset 2 nproc", "1").await.context("working on the processor that came")?;
    // The kernel describes each page of what came, in 64 bytes of it.
    let more = before + (MEMORY_GROWN.get() - MEMORY.get()) / 1024 * 15 / 16;
    sees(console, &format!("[ $({total}) -ge {more} ] && echo more"), "more")
        .await
        .context("the memory that came")?;

    change(site, id, |spec| (spec.vcpus, spec.memory_bytes) = (1, MEMORY)).await?;
    sees(console, online, "0").await.context("the processor that goes")?;
    sees(console, &format!("[ $({total}) -lt {more} ] && echo less"), "less")
        .await
        .context("the memory that goes")
}

fn sectors(size: Bytes) -> String {
    (size.get() / 512).to_string()
}

/// A CD without files.
async fn iso(site: &Site) -> Result<ImageId> {
    let path = site.file("empty.iso");
    let mut content = vec![0_u8; 64 << 10];
    let mark = content.get_mut(0x8001..0x8006).context("it is too short")?;
    mark.copy_from_slice(b"CD001");
    std::fs::write(&path, content).context("writing the CD")?;
    site::upload(site.api(), "empty-cd", ImageKind::Iso, &path, None, |_, _| {}).await
}

async fn volume(site: &Site) -> Result<VolumeId> {
    let spec = VolumeSpec { size_bytes: Some(SIZE), pool: None, format: ImageFormat::Qcow2, source: None };
    let request = CreateVolume { name: "change-data".into(), labels: BTreeMap::new(), spec };
    let volume = site.api().create_volume(&request).await.map_err(explain).context("creating a volume")?;
    let ready = site.api().wait_volume(volume.meta.id, patience(60)).await.map_err(explain)?;
    Ok(ready.meta.id)
}

/// Changes the machine, and waits until it is so and nothing waits.
async fn change(site: &Site, vm: VmId, change: impl FnOnce(&mut VmSpec)) -> Result<Vm> {
    let before = site.api().vm(vm).await.map_err(explain)?;
    let mut spec = before.spec.clone();
    change(&mut spec);
    let runs = spec.power == PowerState::Running;
    let update = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
    let changed =
        site.api().update_vm(vm, &update, None).await.map_err(explain).context("changing the machine")?;
    let deadline = Instant::now() + scale::seconds(120);
    loop {
        let now = site.api().vm(vm).await.map_err(explain)?;
        let seen = now.status.observed_generation >= changed.meta.generation;
        if seen && now.status.pending.is_empty() {
            let expected = if runs { VmState::Running } else { VmState::Stopped };
            ensure!(now.status.state == expected, "the machine is {:?} after a change", now.status.state);
            return Ok(now);
        }
        if Instant::now() > deadline {
            bail!("the change does not take effect: {:?}", now.status);
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Waits until the guest answers so.
async fn sees(console: &mut GuestConsole, command: &str, answer: &str) -> Result<()> {
    let wait = format!(
        "for i in $(seq 120); do a=$({command} 2>/dev/null); [ \"$a\" = {answer} ] && break; sleep 0.5; done; echo \"$a\""
    );
    let said = console.shell(&wait, 180).await?;
    ensure!(said == answer, "`{command}` says `{said}`, not `{answer}`");
    Ok(())
}
