//! A machine in the hands of a person at its serial line, from the installation medium to the factory reset.

use super::boot;
use crate::{
    host::{Host, explain},
    media::{self, PASSWORD},
    qemu::{Bus, Disk, Firmware, Machine, Medium},
    runner::Ctx,
    terminal::{DOWN, ESC, F3, F4, F12, UP},
    wait::eventually,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    alert::{AlertQuery, AlertRule, Severity},
    host::DiskHealth,
    local::layout::DISK_MIN_MIB,
};
use std::os::unix::fs::MetadataExt as _;

/// The host's name, as it is typed.
const NAME: &str = "by-hand";
/// The passwords that come after the first.
const SECOND: &str = "found-again-1";
const THIRD: &str = "begun-anew-1";

pub(super) async fn life(ctx: &mut Ctx) -> Result<()> {
    let disk = media::empty_disk(&ctx.dir.join("disk.raw"), DISK_MIN_MIB, Bus::Nvme)?;
    let machine = Machine {
        firmware: Firmware::Uefi,
        disks: vec![disk],
        forward: vec![443],
        one_core: false,
        ..media::bare_metal(&ctx.dir, ctx.accel)
    };
    // Beside it one that is too small, which nobody may touch.
    let small = media::empty_disk(&ctx.dir.join("small.raw"), DISK_MIN_MIB / 2, Bus::Virtio)?;
    let mut with_both = machine.clone();
    with_both.disks.push(Disk { serial: "LQTEST0002".into(), ..small.clone() });
    let mut live = boot::live(ctx, with_both, Medium::Usb).await.context("from the medium")?;
    install(&mut live).await.context("installing")?;
    drop(live);
    let written = std::fs::metadata(&small.path)?.blocks();
    ensure!(written == 0, "{written} blocks of the disk that is too small were written to");

    let mut host = media::boot_installed(machine.clone()).await?;
    let status = host.status().await?;
    ensure!(!status.boot.contains("live"), "the installed host says it booted `{}`", status.boot);
    ensure!(name(&host).await? == NAME, "the installed host is called {}", name(&host).await?);

    disk_is(&host, |health| *health == DiskHealth::Healthy).await.context("a disk that is well")?;

    lost_password(&mut host).await.context("a lost password")?;
    factory_reset(&mut host).await.context("the factory reset")?;
    drop(host);
    // Meanwhile its disk has begun to fail.
    let mut machine = machine;
    machine.disks.iter_mut().for_each(|disk| disk.bus = Bus::FailingNvme);
    let mut host = Host::boot(machine).await.context("the host that begins anew")?;
    first_login_and_off(&mut host).await.context("after the factory reset")?;
    for path in [&small.path, &ctx.dir.join("disk.raw")] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// From the live host to the restart, with the mistakes people make.
async fn install(live: &mut Host) -> Result<()> {
    let keys = &mut live.machine;
    keys.press_for(F4, "to which disk?").await?;
    keys.sees("cannot be used: it is the medium", 30).await?;
    keys.sees("cannot be used: it is too small", 30).await?;
    // The stick is the first of all, but the fit disk is marked; what is above it is refused.
    keys.type_for("\r", "Install to /dev/nvme0n1", 30).await?;
    keys.press_for(ESC, "to which disk?").await?;
    keys.type_for(&format!("{UP}\r"), "/dev/vda is too small", 30).await?;
    keys.type_for(&format!("{UP}\r"), "/dev/sda is the medium", 30).await?;
    keys.type_for(&format!("{DOWN}{DOWN}\r"), "Install to /dev/nvme0n1", 30).await?;
    let form = |once_more: &str, disk: &str| format!("{NAME}\t{PASSWORD}\t{once_more}\t\t\t\t{disk}\r");
    keys.type_for(&form("another-one", "nvme0n1"), "not the same", 30).await?;
    keys.press_for(ESC, "to which disk?").await?;
    keys.type_for("\r", "Install to /dev/nvme0n1", 30).await?;
    keys.type_for(&form(PASSWORD, "sda"), "Type nvme0n1 in the last line", 30).await?;
    keys.press_for(ESC, "to which disk?").await?;
    keys.type_for("\r", "Install to /dev/nvme0n1", 30).await?;
    keys.type_for(&form(PASSWORD, "nvme0n1"), "Installing ...", 60).await?;
    keys.sees("Installed. Remove the installation medium", 300).await?;
    keys.type_serial("r").await?;
    keys.wait_end(120).await.context("the restart")
}

/// Waits until the host says so of its disk's health.
async fn disk_is(host: &Host, wanted: impl Fn(&DiskHealth) -> bool) -> Result<()> {
    let look = async || {
        let disks = host.status().await?.disks;
        let found = disks.iter().any(|disk| disk.health.as_ref().is_some_and(&wanted));
        ensure!(found, "the host says of its disks: {disks:?}");
        Ok(())
    };
    eventually("a disk's health", 60, look).await
}

/// The administrator is told of it.
async fn failing_disk_alert(host: &Host) -> Result<()> {
    let query = AlertQuery { rule: Some(AlertRule::DiskFailing), ..AlertQuery::default() };
    let look = async || {
        let alerts = host.api.alerts(&query).await.map_err(explain)?.items;
        alerts.into_iter().next().context("no alert")
    };
    let alert = eventually("an alert of the disk that fails", 60, look).await?;
    ensure!(alert.severity == Severity::Critical && alert.message.contains("reliability"), "{alert:?}");
    Ok(())
}

async fn name(host: &Host) -> Result<String> {
    Ok(host.api.hosts().await.map_err(explain)?.remove(0).meta.name)
}

/// F3 gives a new password without the old one, which counts no more.
async fn lost_password(host: &mut Host) -> Result<()> {
    let keys = &mut host.machine;
    keys.press_for(F3, "Type RESET").await?;
    keys.type_for(&format!("{SECOND}\t{SECOND}\treset\r"), "in capital letters", 30).await?;
    keys.press_for(ESC, "F3 lost password").await?;
    keys.press_for(F3, "Type RESET").await?;
    keys.type_for(&format!("{SECOND}\t{SECOND}\tRESET\r"), "has the new password", 60).await?;
    ensure!(host.login(PASSWORD).await.is_err(), "the old password still counts");
    host.login(SECOND).await
}

/// Everything is to go; the host restarts for it.
async fn factory_reset(host: &mut Host) -> Result<()> {
    let keys = &mut host.machine;
    keys.log_in(SECOND).await?;
    keys.type_for("f", "what is to be erased?", 30).await?;
    keys.type_for("d", "forgets EVERYTHING", 30).await?;
    keys.type_for("nearly\r", "is not the name of the host", 60).await.context("a wrong name")?;
    keys.press_for(ESC, "what is to be erased?").await?;
    keys.type_for("d", "forgets EVERYTHING", 30).await?;
    keys.serial.skip();
    keys.type_serial(&format!("{NAME}\r")).await?;
    keys.serial.expect("lq-init: restarting", 60).await?;
    keys.wait_end(120).await.context("the restart")
}

/// Nothing is left of the host before. F12 asks for the first password where there is none, and switches the host off.
async fn first_login_and_off(host: &mut Host) -> Result<()> {
    ensure!(host.api.setup().await.map_err(explain)?.needed, "there is a password after the reset");
    ensure!(host.login(SECOND).await.is_err(), "the account has outlived the reset");
    let keys = &mut host.machine;
    keys.sees("set-up code", 60).await?;
    keys.press_for(F12, "First login").await?;
    keys.type_for(&format!("{THIRD}\t{THIRD}\r"), "Power of this host", 60).await?;
    host.login(THIRD).await?;
    ensure!(name(host).await? != NAME, "the name has outlived the reset");
    disk_is(host, |health| matches!(health, DiskHealth::Failing { .. }))
        .await
        .context("a disk that fails")?;
    failing_disk_alert(host).await?;
    let keys = &mut host.machine;
    keys.type_for("s", "switch this host off?", 30).await?;
    keys.type_serial("y").await?;
    keys.wait_end(120).await.context("switching off")
}
