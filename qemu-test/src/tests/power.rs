//! The end of power, sudden and orderly.

use crate::{
    disk_image::DiskImageFile,
    host::explain,
    media,
    process::{command, run},
    runner::Ctx,
    site::{Site, Wish},
};
use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, stream};
use lq_api::{
    auth::CreateToken,
    client::Client,
    local::layout,
    vm::{RestartPolicy, VmState},
};
use std::{cell::RefCell, time::Duration};

/// Acknowledged writes after which the power is cut.
const WRITES: usize = 40;

pub(super) async fn cut(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let stays = site
        .tiny("comes-back", Wish { restart: RestartPolicy::OnFailure, autostart: true, ..Wish::default() })
        .await?;
    let down = site
        .tiny("stays-down", Wish { restart: RestartPolicy::OnFailure, autostart: false, ..Wish::default() })
        .await?;
    site.console(&stays).await?.said.expect("tick 3\n", 120).await?;

    let acknowledged = RefCell::new(Vec::new());
    // Four writers that never stop; the power goes while they write.
    let writers = stream::iter(0..4)
        .for_each_concurrent(None, async |writer| write_on(site.api(), writer, &acknowledged).await);
    tokio::select! {
        () = writers => bail!("every writer failed after {} writes", acknowledged.borrow().len()),
        () = enough(&acknowledged) => {}
    }
    let acknowledged = acknowledged.into_inner();
    let disk = site.disk.clone();
    site = restart_after_cut(site, disk).await?;

    let tokens = site.api().tokens().await.map_err(explain)?;
    let lost: Vec<&String> =
        acknowledged.iter().filter(|name| !tokens.iter().any(|t| t.name == **name)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );

    let back =
        site.wait_state(stays.meta.id, VmState::Running, 180).await.context("a guest with autostart")?;
    site.console(&back).await?.said.expect("tick 3\n", 120).await?;
    let other = site.api().vm(down.meta.id).await.map_err(explain)?;
    ensure!(other.status.state != VmState::Running, "a guest without autostart was started");
    site.remove(&back).await?;
    site.remove(&other).await?;
    ctx.give_back(site);
    Ok(())
}

async fn restart_after_cut(mut site: Site, disk: crate::qemu::Disk) -> Result<Site> {
    site.host.machine.kill().await;
    site.start_again(disk).await.context("the host after the power cut")?;
    Ok(site)
}

async fn write_on(api: &Client, writer: u32, acknowledged: &RefCell<Vec<String>>) {
    for n in 0.. {
        let name = format!("cut-{writer}-{n}");
        let request =
            CreateToken { name: name.clone(), days: Some(1), read_only: true, limit: None, owner: None };
        if api.create_token(&request).await.is_err() {
            return;
        }
        acknowledged.borrow_mut().push(name);
    }
}

async fn enough(acknowledged: &RefCell<Vec<String>>) {
    while acknowledged.borrow().len() < WRITES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The power button of the host while a Debian guest runs.
pub(super) async fn orderly(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site
        .debian("sleeper", Wish { restart: RestartPolicy::Always, autostart: true, ..Wish::default() })
        .await?;
    let mut console = site.console(&vm).await?;
    console.log_in().await?;
    console.shell("echo kept >/kept", 60).await?;

    site.host.machine.press_power().await?;
    let guest = console.said.expect("Power down", 300);
    guest.await.context("the guest was not switched off by its own power button")?;
    site.host.machine.wait_end(180).await.context("the host did not switch off")?;

    let flat = media::flatten_disk(&site.disk, &ctx.dir.join("flat.raw")).await?;
    let image = DiskImageFile::open(&flat.path)?;
    for label in [layout::PART_STATE, layout::PART_DATA] {
        let offset = image.partition(label)?.start;
        let mut look = command("dumpe2fs");
        look.arg("-h").arg(format!("{}?offset={offset}", flat.path.display()));
        let facts = run(look, "dumpe2fs").await?;
        let state =
            facts.lines().find_map(|l| l.strip_prefix("Filesystem state:")).unwrap_or_default().trim();
        ensure!(state == "clean", "the file system of {label} is `{state}` after an orderly shutdown");
        ensure!(!facts.contains("needs_recovery"), "the file system of {label} was not unmounted");
    }
    drop(std::fs::remove_file(&flat.path));

    // And it comes back, because it ran: desired states are kept as they were.
    let disk = site.disk.clone();
    site.start_again(disk).await?;
    let vm = site.wait_state(vm.meta.id, VmState::Running, 180).await?;
    let mut console = site.console(&vm).await?;
    console.log_in().await?;
    let kept = console.shell("cat /kept; dmesg | grep -c 'recovery complete' || true", 60).await?;
    ensure!(kept == "kept\n0", "the guest's disk after its host's shutdown: `{kept}`");
    site.remove(&vm).await?;
    ctx.give_back(site);
    Ok(())
}
