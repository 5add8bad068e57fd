//! ISOs and disks for tests: the product's ISO with an answer file and the words emulated machines need, empty disks,
//! and a host installed once and cloned by every test that wants one.

use crate::{
    accel::Accel,
    host::Host,
    paths::{Paths, need},
    process::{command, run},
    qemu::{Bus, Disk, Firmware, Format, Machine, Medium, Watchdog},
};
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::{fs, io::Read as _, path::Path};

/// Password of `admin` on every host the harness installs.
pub(crate) const PASSWORD: &str = "limiquantix-e2e";
/// First and last address of the networks' own DHCP. The addresses are those QEMU's user network routes, away from the
/// ones it hands out itself.
pub(crate) const DHCP_RANGE: (u8, u8) = (100, 150);

/// An answer file with this `[install]` part, for a host called `e2e`.
pub(crate) fn answer(install: &str) -> String {
    answer_with(install, "e2e", PASSWORD)
}

/// An answer file.
pub(crate) fn answer_with(install: &str, name: &str, password: &str) -> String {
    let (first, last) = DHCP_RANGE;
    format!(
        "version = 1\n\n{install}\n[host]\nname = \"{name}\"\n\n[host.guest_dhcp]\nsubnet = \"10.0.2.0/24\"\n\
         first = \"10.0.2.{first}\"\nlast = \"10.0.2.{last}\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n\n\
         [admin]\npassword = \"{password}\"\n"
    )
}

/// The `[install]` part of an answer file.
pub(crate) fn install_part(disk: &str, then: &str) -> String {
    format!("[install]\ndisk = \"{disk}\"\nthen = \"{then}\"\n")
}

/// Copies an ISO with an answer file and the kernel words `accel` needs.
pub(crate) async fn prepare_iso(
    paths: &Paths,
    accel: Accel,
    iso: &Path,
    out: &Path,
    answer: Option<&str>,
) -> Result<()> {
    remaster(paths, iso, out, answer, &accel.kernel_words()).await
}

/// The same, and another answer file on the kernel command line, where it goes before the one in the ISO and where no tool
/// of ours has looked at it.
pub(crate) async fn prepare_iso_with_word(
    paths: &Paths,
    accel: Accel,
    iso: &Path,
    out: &Path,
    answers: (&str, &str),
) -> Result<()> {
    use base64::Engine as _;
    let word = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(answers.1);
    let words = format!("{} {}={word}", accel.kernel_words(), lq_api::local::layout::cmdline::ANSWER);
    remaster(paths, iso, out, Some(answers.0), words.trim_start()).await
}

async fn remaster(paths: &Paths, iso: &Path, out: &Path, answer: Option<&str>, words: &str) -> Result<()> {
    need(iso, "make it with `just iso` (`just test-iso` for the one with the fault agent)")?;
    let tool = paths.program("lq-image");
    need(&tool, "build it with `just build`")?;
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let mut add = command(&tool);
    add.arg("--target").arg(&paths.target).arg("add-answer").arg("--iso").arg(iso).arg("--out").arg(out);
    add.current_dir(&paths.repo);
    add.args(["--append", words]);
    if let Some(text) = answer {
        let file = out.with_extension("toml");
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        add.arg("--answer").arg(&file);
    }
    run(add, "lq-image add-answer").await.map(drop)
}

/// Makes an empty disk, sparse.
pub(crate) fn empty_disk(path: &Path, mib: u64, bus: Bus) -> Result<Disk> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let file = fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
    file.set_len(mib << 20).with_context(|| format!("sizing {}", path.display()))?;
    Ok(disk_at(path, bus))
}

/// A disk whose file is there, or will be.
pub(crate) fn disk_at(path: &Path, bus: Bus) -> Disk {
    Disk { path: path.to_owned(), format: Format::Raw, bus, serial: "LQTEST0001".into() }
}

/// A small medium with an answer file, as people make them: FAT, with the label the installer looks for.
pub(crate) async fn answer_medium(path: &Path, answer: &str) -> Result<Disk> {
    let text = path.with_extension("toml");
    fs::write(&text, answer).with_context(|| format!("writing {}", text.display()))?;
    let _ = fs::remove_file(path);
    let mut format = command("mkfs.vfat");
    format.args(["-n", lq_api::local::layout::ANSWER_LABEL, "-C"]).arg(path).arg("2048");
    run(format, "mkfs.vfat").await?;
    let mut copy = command("mcopy");
    copy.arg("-i").arg(path).arg(&text).arg(format!("::{}", lq_api::local::layout::ANSWER_FILE));
    run(copy, "mcopy").await?;
    Ok(Disk { path: path.to_owned(), format: Format::Raw, bus: Bus::Virtio, serial: "LQANSWER".into() })
}

/// A disk that begins as `base` and keeps its own changes.
pub(crate) async fn clone_disk(base: &Disk, path: &Path) -> Result<Disk> {
    let mut create = command("qemu-img");
    let format = if base.format == Format::Raw { "raw" } else { "qcow2" };
    create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(&base.path).arg(path);
    run(create, "qemu-img create").await?;
    Ok(Disk { path: path.to_owned(), format: Format::Qcow2, ..base.clone() })
}

/// The whole disk as one plain file, for looking into it and damaging it.
pub(crate) async fn flatten_disk(disk: &Disk, path: &Path) -> Result<Disk> {
    let mut convert = command("qemu-img");
    let format = if disk.format == Format::Raw { "raw" } else { "qcow2" };
    convert.args(["convert", "-q", "-f", format, "-O", "raw"]).arg(&disk.path).arg(path);
    run(convert, "qemu-img convert").await?;
    Ok(Disk { path: path.to_owned(), format: Format::Raw, ..disk.clone() })
}

/// SHA-256 of a file, hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut chunk).with_context(|| format!("reading {}", path.display()))?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(chunk.get(..n).unwrap_or_default());
    }
}

/// The machine hosts are tested on: two processors, 2.5 GiB, the API's port forwarded.
pub(crate) fn bare_metal(dir: &Path, accel: Accel) -> Machine {
    Machine {
        dir: dir.to_owned(),
        accel,
        firmware: Firmware::Bios,
        cpus: 2,
        one_core: accel.guests_on_one_core(),
        memory_mib: 2560,
        disks: vec![],
        medium: None,
        direct: None,
        forward: vec![443, crate::fault::PORT],
        forward_fixed: vec![],
        segment: None,
        spare: None,
        detached: false,
        restart_ends: true,
        watchdog: Watchdog::Chipset,
        clock_ahead: 0,
    }
}

/// Size of the disk hosts are installed to, MiB: the least that can be, and room for guests.
const DISK_MIB: u64 = lq_api::local::layout::DISK_MIN_MIB + 3072;

/// A host installed unattended from the test ISO; made once per ISO and cloned by tests. Returns the pristine disk.
pub(crate) async fn installed_disk(paths: &Paths, accel: Accel) -> Result<Disk> {
    let iso = paths.test_iso();
    need(&iso, "make it with `just test-iso`")?;
    let answer = answer(&install_part("auto", "power-off"));
    let mut key = Sha256::new();
    key.update(sha256(&iso)?);
    key.update(&answer);
    key.update(DISK_MIB.to_le_bytes());
    let key: String = hex::encode(key.finalize()).chars().take(16).collect();
    let fixtures = paths.target.join("e2e-fixtures");
    let path = fixtures.join(format!("installed-{key}.raw"));
    if !path.exists() {
        // Older ones are of ISOs that are gone, and each takes about a gigabyte.
        for old in fs::read_dir(&fixtures).into_iter().flatten().flatten() {
            let _ = fs::remove_file(old.path());
        }
        let dir = paths.e2e().join("fixture-install");
        let making = fixtures.join("making.raw");
        let disk = empty_disk(&making, DISK_MIB, Bus::Virtio)?;
        let medium = dir.join("install.iso");
        prepare_iso(paths, accel, &iso, &medium, Some(&answer)).await?;
        install(Machine { medium: Some((Medium::Cd, medium)), disks: vec![disk], ..bare_metal(&dir, accel) })
            .await?;
        fs::rename(&making, &path).with_context(|| format!("naming {}", path.display()))?;
    }
    Ok(Disk { path, format: Format::Raw, bus: Bus::Virtio, serial: "LQTEST0001".into() })
}

/// Starts a machine whose medium installs unattended and waits for its end.
pub(crate) async fn install(machine: Machine) -> Result<()> {
    // No guest runs in it yet.
    let mut running = Machine { one_core: false, ..machine }.start().await?;
    // What went wrong is said on the serial line, and then the machine waits for a person.
    let failed = ["nothing was installed", "lq-init: ERROR", "Kernel panic"];
    let serial = running.serial.clone();
    tokio::select! {
        end = running.wait_end(300) => end.context("the installation did not end"),
        seen = serial.expect_any(&failed, 600) => {
            // A closed console also ends this wait; that is the machine's end, seen a moment earlier.
            match seen {
                Ok(_) => anyhow::bail!("the installation failed:\n{}", serial.tail(20)),
                Err(_) => running.wait_end(30).await,
            }
        }
    }
}

/// Boots an installed disk and logs in.
pub(crate) async fn boot_installed(machine: Machine) -> Result<Host> {
    let host = Host::boot(machine).await?;
    host.login(PASSWORD).await?;
    Ok(host)
}
