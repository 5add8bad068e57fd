//! Functions of the host's PCI bus in a guest: a disk and an interface that the host does not have meanwhile, behind the machine's
//! emulated IOMMU.

use crate::{
    guest_console::GuestConsole,
    host::explain,
    media,
    outside::Outside,
    qemu::Spare,
    runner::Ctx,
    site::{Site, Wish, create_debian},
    wait::eventually,
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    client::{Client, Error},
    host::PciFunction,
    pci::PciAddress,
    vm::{MigrateVm, Passthrough, UpdateVm, Vm, VmSpec, VmState},
};
use std::{fs::File, os::unix::fs::FileExt as _};

/// What the guest writes at the begin of its NVMe disk.
const WRITTEN: &str = "written by a guest past its host";

/// Everything, on a host of its own.
pub(super) async fn functions(ctx: &mut Ctx) -> Result<()> {
    let spare = Spare { disk: ctx.dir.join("spare.raw") };
    File::create(&spare.disk)?.set_len(64 << 20)?;
    let bare = media::bare_metal(&ctx.dir.join("host"), ctx.accel);
    let machine = crate::qemu::Machine { spare: Some(spare.clone()), ..bare };
    let mut site = Site::open_on(&ctx.paths, ctx.accel, machine).await?;
    let outside = Outside::serve(1 << 20).await?;

    let functions = site.host.status().await?.pci;
    let free = |class: &str| {
        let found = functions.iter().find(|f| f.class.starts_with(class) && f.obstacle.is_none());
        found.with_context(|| format!("no function of class {class} can be given away: {functions:#?}"))
    };
    let (disk, interface) = (free("0108")?.clone(), free("0200")?.clone());
    let image = site.debian_image().await?;
    let vm = create_debian(site.api(), "passed", image, Wish::default()).await?;
    refusals(site.api(), &vm, &functions).await?;

    let card = std::iter::once(interface.address).chain(interface.together_with);
    let all: Vec<_> = std::iter::once(disk.address).chain(card).collect();
    let vm = give(site.api(), &vm, &all).await.map_err(explain)?;
    let other = create_debian(site.api(), "other", image, Wish::default()).await?;
    let why = refusal(give(site.api(), &other, &[disk.address]).await, "a function of another machine")?;
    ensure!(why.contains("belongs to the machine `passed`"), "the refusal says: {why}");
    site.remove(&other).await?;

    let vm = site.start_vm(vm.meta.id).await?;
    driver(&site, &disk, "vfio-pci").await?;
    let mut console = site.console(&vm).await?;
    console.log_in().await.context("logging in with functions of the host")?;
    use_them(&mut console, &outside).await?;
    let why = refusal(site.api().migrate_vm(vm.meta.id, &MigrateVm::default()).await, "a move")?;
    ensure!(why.contains("spec.passthrough") || why.contains("no host"), "the refusal says: {why}");

    // A restart of the guest resets them: what was written is there, and they can be used again.
    site.api().reset_vm(vm.meta.id).await.map_err(explain).context("restarting the guest")?;
    console.said.skip();
    console.log_in().await.context("logging in after a restart")?;
    let kept = format!("head -c {} /dev/nvme0n1", WRITTEN.len());
    let kept = console.shell(&kept, 60).await?;
    ensure!(kept == WRITTEN, "after a restart the disk begins with `{kept}`");
    use_them(&mut console, &outside).await.context("after a restart")?;

    let how = lq_api::vm::StopVm { force: true, timeout_seconds: 30 };
    site.api().stop_vm(vm.meta.id, &how).await.map_err(explain)?;
    let vm = site.wait_state(vm.meta.id, VmState::Stopped, 60).await?;
    driver(&site, &disk, "nvme").await.context("after the machine has ended")?;
    let mut begin = vec![0; WRITTEN.len()];
    File::open(&spare.disk)?.read_exact_at(&mut begin, 0)?;
    ensure!(begin == WRITTEN.as_bytes(), "the disk itself begins with {:?}", String::from_utf8_lossy(&begin));
    site.remove(&vm).await
}

/// The guest writes to the disk past its caches and reads back, and fetches a file through the interface.
async fn use_them(console: &mut GuestConsole, outside: &Outside) -> Result<()> {
    let disk = format!(
        "for i in $(seq 60); do test -b /dev/nvme0n1 && break; sleep 1; done; \
         head -c 1048576 /dev/urandom >/pattern; printf '{WRITTEN}' | dd of=/pattern conv=notrunc 2>/dev/null; \
         dd if=/pattern of=/dev/nvme0n1 bs=64k oflag=direct 2>/dev/null; \
         dd if=/dev/nvme0n1 bs=64k count=16 iflag=direct 2>/dev/null | cmp - /pattern && grep -c nvme0q /proc/interrupts"
    );
    let vectors = console.shell(&disk, 180).await.context("the disk of the host")?;
    ensure!(vectors.parse::<u32>().is_ok_and(|n| n > 0), "the disk's driver has `{vectors}` interrupts");
    let fetch = format!(
        "for i in $(seq 120); do ip -4 route show default | grep -q 10.0.3.2 && break; sleep 1; done; \
         dev=$(ip -o -4 addr show | grep 10.0.3. | awk '{{ print $2 }}'); \
         curl -sS --interface $dev --max-time 120 {} | sha256sum",
        outside.url().replace(crate::outside::ADDRESS, Spare::GATEWAY)
    );
    let fetched = console.shell(&fetch, 300).await.context("the interface of the host")?;
    ensure!(fetched.starts_with(outside.sha256()), "what was fetched has the checksum {fetched}");
    Ok(())
}

/// What the host needs, what is not there, and half a group: each refused with its reason.
async fn refusals(api: &Client, vm: &Vm, functions: &[PciFunction]) -> Result<()> {
    let needed =
        functions.iter().find(|f| f.obstacle.as_deref().is_some_and(|why| why.contains("interface")));
    let needed = needed.context("the interface of the management network is not held back")?;
    let why = refusal(give(api, vm, &[needed.address]).await, "the management network")?;
    ensure!(why.contains("the host itself needs it"), "the refusal says: {why}");
    let half = functions.iter().find(|f| f.obstacle.is_none() && !f.together_with.is_empty());
    let half = half.with_context(|| format!("no group of several functions: {functions:#?}"))?;
    let why = refusal(give(api, vm, &[half.address]).await, "half a group")?;
    let group = half.iommu_group.unwrap_or_default();
    let all = half.together_with.iter().all(|other| why.contains(&other.to_string()));
    ensure!(why.contains(&format!("IOMMU group {group}")) && all, "the refusal says: {why}");
    let nowhere = "0000:7f:1f.7".parse().map_err(anyhow::Error::msg)?;
    let why = refusal(give(api, vm, &[nowhere]).await, "no function")?;
    ensure!(why.contains("has no PCI function 0000:7f:1f.7"), "the refusal says: {why}");
    Ok(())
}

/// Gives a machine functions of its host.
async fn give(api: &Client, vm: &Vm, addresses: &[PciAddress]) -> Result<Vm, Error> {
    let mut spec: VmSpec = vm.spec.clone();
    spec.placement.host = vm.status.host;
    spec.passthrough = addresses.iter().map(|address| Passthrough { address: *address }).collect();
    api.update_vm(vm.meta.id, &UpdateVm { spec: Some(spec), ..UpdateVm::default() }, None).await
}

fn refusal<T>(result: Result<T, Error>, what: &str) -> Result<String> {
    match result {
        Ok(_) => bail!("{what} was not refused"),
        Err(error @ Error::Problem(_)) => Ok(error.chain()),
        Err(error) => Err(explain(error)),
    }
}

/// Waits until a function has this driver on the host.
async fn driver(site: &Site, function: &PciFunction, wanted: &str) -> Result<()> {
    eventually("a function's driver", 30, async || {
        let all = site.host.status().await?.pci;
        let now = all.into_iter().find(|f| f.address == function.address).and_then(|f| f.driver);
        ensure!(now.as_deref() == Some(wanted), "{} has the driver {now:?}, not {wanted}", function.address);
        Ok(())
    })
    .await
}
