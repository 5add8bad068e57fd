//! Unattended installation, and its refusals.

use crate::{
    host::explain,
    media::{self, PASSWORD, install_part},
    qemu::{Bus, Disk, Machine, Medium},
    runner::Ctx,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::local::layout::DISK_MIN_MIB;
use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

/// To an empty disk by an answer file on a medium of its own, then from the disk alone. By UEFI from a stick it is done by hand
/// ([`super::by_hand`]), and with the answer file in the ISO for every host of the other tests.
pub(super) async fn and_boot(ctx: &mut Ctx) -> Result<()> {
    let dir = ctx.dir.clone();
    let iso = dir.join("install.iso");
    let install = install_part("auto", "reboot") + &format!("erase = \"{}\"\n", lq_api::answer::ERASE_WORD);
    let disk = media::empty_disk(&dir.join("disk.raw"), DISK_MIN_MIB, Bus::Sata)?;
    let answer = media::answer_medium(&dir.join("answer.img"), &media::answer(&install)).await?;
    media::prepare_iso(&ctx.paths, ctx.accel, &ctx.paths.iso(), &iso, None).await?;
    let machine = Machine {
        disks: vec![disk.clone()],
        forward: vec![443],
        one_core: false,
        ..media::bare_metal(&dir, ctx.accel)
    };
    let again = Machine { medium: Some((Medium::Cd, iso)), disks: vec![disk, answer], ..machine.clone() };
    media::install(again.clone()).await.context("installing")?;
    not_again(&again).await.context("the medium is still in the machine")?;
    let mut host = media::boot_installed(machine).await.context("booting the disk")?;
    let status = host.status().await?;
    ensure!(!status.boot.contains("live"), "the installed host says it booted `{}`", status.boot);
    ensure!(status.warnings.is_empty(), "a fresh host warns: {:?}", status.warnings);
    let hosts = host.api.hosts().await.map_err(explain)?;
    ensure!(
        hosts.first().is_some_and(|h| h.meta.name == "e2e"),
        "the host has not the name of the answer file"
    );

    // Restarted at its console.
    let keys = &mut host.machine;
    keys.log_in(PASSWORD).await?;
    keys.type_for("p", "Power of this host", 30).await?;
    keys.type_for("r", "restart this host?", 30).await?;
    keys.serial.skip();
    keys.type_serial("y").await?;
    keys.serial.expect("lq-init: restarting", 60).await?;
    keys.wait_end(120).await.context("restarting the installed host")?;
    let _ = fs::remove_file(dir.join("disk.raw"));
    Ok(())
}

/// Started once more from the medium that installed it, a host is not erased although the answer file would allow it.
async fn not_again(machine: &Machine) -> Result<()> {
    let running = machine.clone().start().await?;
    running.serial.expect("nothing was installed", 240).await?;
    ensure!(running.serial.all().contains("has installed LimiQuantix"), "{}", running.serial.tail(15));
    running.cut_power().await;
    Ok(())
}

/// A refusal: what is wrong with answer file or disk, and the words of the message that must appear.
struct Refusal {
    name: &'static str,
    answer: String,
    disk: Disk,
    words: &'static [&'static str],
}

/// A disk that is too small is refused by hand ([`super::by_hand`]): it is the same plan.
pub(super) async fn refusals(ctx: &mut Ctx) -> Result<()> {
    let good = media::answer(&install_part("auto", "reboot"));
    let disk = |name: &str, mib| media::empty_disk(&ctx.dir.join(name).join("disk.raw"), mib, Bus::Virtio);
    let foreign = disk("foreign", DISK_MIN_MIB + 64)?;
    write_foreign(&foreign.path)?;
    let cases = [
        Refusal {
            name: "wrong-answer",
            answer: good.replace("then = \"reboot\"", "thn = \"reboot\""),
            disk: disk("wrong-answer", DISK_MIN_MIB + 64)?,
            words: &["answer file", "thn"],
        },
        Refusal { name: "foreign", answer: good, disk: foreign, words: &[lq_api::answer::ERASE_WORD] },
    ];
    for case in cases {
        refused(ctx, case).await?;
    }
    Ok(())
}

async fn refused(ctx: &Ctx, case: Refusal) -> Result<()> {
    let name = case.name;
    let dir = ctx.dir.join(name);
    let iso = dir.join("install.iso");
    let before = media::sha256(&case.disk.path)?;
    let (paths, good) = (&ctx.paths, media::answer(&install_part("auto", "reboot")));
    media::prepare_iso_with_word(paths, ctx.accel, &paths.iso(), &iso, (&good, &case.answer)).await?;
    let machine = Machine {
        medium: Some((Medium::Cd, iso)),
        disks: vec![case.disk.clone()],
        forward: vec![],
        one_core: false,
        ..media::bare_metal(&dir, ctx.accel)
    };
    let running = machine.start().await?;
    running
        .serial
        .expect("nothing was installed", 240)
        .await
        .with_context(|| format!("{name}: the installer did not refuse"))?;
    let said = running.serial.all();
    for word in case.words {
        ensure!(
            said.contains(word),
            "{name}: the message does not say `{word}`:\n{}",
            running.serial.tail(15)
        );
    }
    running.cut_power().await;
    ensure!(media::sha256(&case.disk.path)? == before, "{name}: the disk was written to");
    let _ = fs::remove_file(&case.disk.path);
    Ok(())
}

/// What a disk with an MS-DOS partition table and a file system looks like from its first bytes.
fn write_foreign(path: &Path) -> Result<()> {
    let mut file =
        fs::File::options().write(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut table = [0u8; 512];
    // One Linux partition from 1 MiB, 512 MiB long.
    table[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 0x10, 0]);
    table[510..512].copy_from_slice(&[0x55, 0xaa]);
    file.write_all(&table)?;
    // ext4's magic number in its superblock.
    file.seek(SeekFrom::Start((1 << 20) + 1024 + 56))?;
    file.write_all(&[0x53, 0xef])?;
    Ok(())
}
