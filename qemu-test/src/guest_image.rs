//! Images of guests, made from the machine's own Debian sources and cached.
//!
//! `debian`: a real Debian 12 with systemd on one ext4 disk. `tiny`: the same kernel with busybox in its initial RAM disk, for
//! tests that only need something alive. `debian-uefi`: the same Debian on a partitioned disk, with GRUB installed by
//! Debian's own tools and started by UEFI, or by a legacy BIOS. Root's password is [`PASSWORD`].
//!
//! Invariant: a directory under the cache is complete or absent; its name is the hash of the recipe that made it.

use crate::{
    accel,
    paths::{Paths, need},
    process::{command, run},
    qemu::{Bus, Disk, Firmware, Format, Machine, Watchdog},
};
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// Root's password in the Debian guest.
pub(crate) const PASSWORD: &str = "limiquantix";

const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,linux-image-cloud-amd64,iproute2,curl,login,passwd,kmod,e2fsprogs,\
     grub-efi-amd64,grub-pc-bin,efibootmgr,dosfstools,fdisk";
const HOOKS: &str = include_str!("../guest/hooks.sh");
const TINY_INIT: &str = include_str!("../guest/tiny-init");
const UEFI_DISK: &str = include_str!("../guest/uefi-disk.sh");
/// Size of the disk that boots by UEFI.
const UEFI_DISK_MIB: u64 = 1400;

/// Files of the guests.
#[derive(Clone, Debug)]
pub(crate) struct GuestImages {
    dir: PathBuf,
}

impl GuestImages {
    /// The Debian cloud kernel.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }
    /// Its initial RAM disk for the Debian guest.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }
    /// The Debian guest's disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("debian-12.qcow2")
    }
    /// The Debian guest's disk that boots by UEFI and by a BIOS; [`ensure_uefi_disk`] makes it.
    pub(crate) fn uefi_disk(&self) -> PathBuf {
        self.dir.join("debian-12-uefi.qcow2")
    }
    /// Initial RAM disk of the tiny guest.
    pub(crate) fn tiny_initrd(&self) -> PathBuf {
        self.dir.join("tiny-initrd")
    }
    /// Modules of the kernel a virtual machine needs, with their load order in `order`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("modules")
    }
}

/// Makes the images, or finds those made before.
pub(crate) async fn ensure(paths: &Paths) -> Result<GuestImages> {
    let sources = debian_sources(Path::new("/etc/apt"))?;
    let mut hash = Sha256::new();
    for part in [SUITE, PACKAGES, HOOKS, TINY_INIT, UEFI_DISK, &sources] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let key = hex::encode(hash.finalize()).chars().take(16).collect::<String>();
    let dir = paths.guests().join(&key);
    let images = GuestImages { dir: dir.clone() };
    if !dir.exists() {
        for tool in ["/usr/bin/mmdebstrap", "/usr/bin/qemu-img", "/usr/sbin/mke2fs", "/bin/busybox"] {
            need(Path::new(tool), "`./just list` installs what the harness needs")?;
        }
        println!("guest image: building Debian 12 from packages (1 to 3 minutes, once) …");
        let start = Instant::now();
        let making = paths.guests().join(format!(".{key}.making"));
        match fs::remove_dir_all(&making) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("removing {}", making.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&making).with_context(|| format!("making {}", making.display()))?;
        build(&making, &sources).await?;
        fs::rename(&making, &dir).with_context(|| format!("naming {}", dir.display()))?;
        println!("guest image: made in {:.0} s: {}", start.elapsed().as_secs_f64(), dir.display());
    }
    // Of use to people: always the newest.
    let latest = paths.guests().join("latest");
    let _ = fs::remove_file(&latest);
    let _ = std::os::unix::fs::symlink(&key, &latest);
    Ok(images)
}

async fn build(dir: &Path, sources: &str) -> Result<()> {
    let hooks = dir.join("hooks.sh");
    fs::write(&hooks, HOOKS)?;
    fs::set_permissions(&hooks, fs::Permissions::from_mode(0o755))?;
    let list = dir.join("debian.sources");
    fs::write(&list, sources)?;
    let hook =
        |stage: &str| format!("--{stage}-hook='{}' {stage} \"$1\" '{}'", hooks.display(), dir.display());
    let mut debian = command("mmdebstrap");
    debian
        .args(["--variant=minbase", "--format=null", "--include", PACKAGES])
        .args([hook("essential"), hook("customize")])
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        // The hook's view of the tree is a bind mount, which a fake root cannot make.
        .arg(format!("--mode={}", if is_root() { "root" } else { "unshare" }))
        .args([SUITE, "/dev/null"])
        .arg(&list);
    run(debian, "mmdebstrap").await?;

    let (raw, disk) = (dir.join("disk.raw"), dir.join("debian-12.qcow2"));
    let mut convert = command("qemu-img");
    convert.args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&disk);
    run(convert, "qemu-img convert").await?;
    fs::remove_file(&raw)?;
    for name in ["vmlinuz", "initrd", "modules"] {
        fs::rename(dir.join(format!("{name}.new")), dir.join(name))
            .with_context(|| format!("naming {name}"))?;
    }
    tiny_initrd(dir)?;
    for left_over in [hooks, list] {
        fs::remove_file(left_over)?;
    }
    Ok(())
}

/// Makes the disk that boots by UEFI, or finds the one made before: the Debian guest itself installs it.
pub(crate) async fn ensure_uefi_disk(paths: &Paths, images: &GuestImages) -> Result<PathBuf> {
    let target = images.uefi_disk();
    if target.exists() {
        return Ok(target);
    }
    println!("guest image: installing Debian 12 with GRUB for UEFI (1 to 3 minutes, once) …");
    let accel = accel::decide().await?;
    let dir = paths.e2e().join("guest-image-uefi");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let disk =
        |path: PathBuf, format, serial: &str| Disk { path, format, bus: Bus::Virtio, serial: serial.into() };
    let (overlay, raw) = (dir.join("from.qcow2"), dir.join("to.raw"));
    let mut create = command("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(images.disk()).arg(&overlay);
    run(create, "qemu-img create").await?;
    fs::File::create(&raw)?.set_len(UEFI_DISK_MIB << 20)?;
    let words = accel.kernel_words();
    let boot = format!("root=/dev/vda rw console=ttyS0 quiet panic=-1 {words}");
    let machine = Machine {
        dir,
        accel,
        firmware: Firmware::Bios,
        cpus: 1,
        one_core: false,
        memory_mib: 768,
        disks: vec![disk(overlay, Format::Qcow2, "from"), disk(raw.clone(), Format::Raw, "to")],
        medium: None,
        direct: Some((images.kernel(), images.initrd(), boot)),
        forward: vec![],
        forward_fixed: vec![],
        segment: None,
        spare: None,
        detached: false,
        restart_ends: true,
        watchdog: Watchdog::Chipset,
        clock_ahead: 0,
    };
    let mut running = machine.start().await?;
    running.serial.expect("login:", 300).await?;
    running.type_serial("root\n").await?;
    running.serial.expect("Password:", 60).await?;
    running.type_serial(&format!("{PASSWORD}\n")).await?;
    running.serial.expect("# ", 60).await?;
    let script = format!("KERNEL_WORDS='{words}'\n{UEFI_DISK}");
    running.type_serial(&format!("cat >/run/uefi-disk <<'END'\n{script}END\n")).await?;
    running.type_serial("sh /run/uefi-disk; echo \"disk made: $?\"; poweroff\n").await?;
    let made = running.serial.expect("disk made: 0", 900).await;
    made.with_context(|| format!("in the guest:\n{}", running.serial.tail(30)))?;
    running.wait_end(120).await?;
    let half = target.with_extension("making");
    let mut convert = command("qemu-img");
    convert.args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&half);
    run(convert, "qemu-img convert").await?;
    fs::remove_file(&raw)?;
    fs::rename(&half, &target).with_context(|| format!("naming {}", target.display()))?;
    Ok(target)
}

/// Boots both guests directly in QEMU: the Debian guest to a shell behind its login, the tiny one to its tenth tick.
pub(crate) async fn try_boot(paths: &Paths, images: &GuestImages) -> Result<()> {
    let accel = accel::decide().await?;
    let base = Machine {
        dir: paths.e2e().join("guest-image"),
        accel,
        firmware: Firmware::Bios,
        cpus: 1,
        one_core: false,
        memory_mib: 512,
        disks: vec![],
        medium: None,
        direct: None,
        forward: vec![],
        forward_fixed: vec![],
        segment: None,
        spare: None,
        detached: false,
        restart_ends: true,
        watchdog: Watchdog::Chipset,
        clock_ahead: 0,
    };
    let words = format!("console=ttyS0 quiet panic=-1 {}", accel.kernel_words());
    let start = Instant::now();
    let tiny =
        Machine { direct: Some((images.kernel(), images.tiny_initrd(), words.clone())), ..base.clone() };
    let running = tiny.start().await?;
    running.serial.expect("tiny: user space", 60).await?;
    let up = start.elapsed();
    running.serial.expect("tick 10\n", 60).await?;
    running.cut_power().await;
    println!("guest image: tiny guest in user space after {:.1} s", up.as_secs_f64());

    let overlay = base.dir.join("try.qcow2");
    let mut create = command("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(images.disk()).arg(&overlay);
    run(create, "qemu-img create").await?;
    let start = Instant::now();
    let disk = Disk { path: overlay, format: Format::Qcow2, bus: Bus::Virtio, serial: "try".into() };
    let debian = Machine {
        direct: Some((images.kernel(), images.initrd(), format!("root=/dev/vda rw {words}"))),
        disks: vec![disk],
        ..base
    };
    let mut running = debian.start().await?;
    running.serial.expect("login:", 180).await?;
    println!("guest image: Debian guest at its login prompt after {:.1} s", start.elapsed().as_secs_f64());
    running.type_serial("root\n").await?;
    running.serial.expect("Password:", 60).await?;
    running.type_serial(&format!("{PASSWORD}\n")).await?;
    running.serial.expect("# ", 60).await?;
    running
        .type_serial("systemctl --failed --no-legend; systemctl is-system-running --wait; echo st''ate\n")
        .await?;
    let state = running.serial.expect("state", 120).await?;
    println!("guest image: {}", state.trim());
    running.press_power().await?;
    running.wait_end(60).await
}

fn is_root() -> bool {
    // SAFETY: geteuid has no arguments, no memory effects and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Writes the tiny guest's initial RAM disk.
fn tiny_initrd(dir: &Path) -> Result<()> {
    let archive = busybox_initrd(&dir.join("modules"), "order", TINY_INIT)?;
    let path = dir.join("tiny-initrd");
    fs::write(&path, archive).with_context(|| format!("writing {}", path.display()))
}

/// An initial RAM disk of busybox, the modules named in the list `order`, and `init`.
pub(crate) fn busybox_initrd(modules: &Path, order: &str, init: &str) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for name in ["bin", "dev", "proc", "sys", "modules", "mnt"] {
        cpio.add(name, 0o040_755, &[]);
    }
    cpio.add("bin/busybox", 0o100_755, &fs::read("/bin/busybox").context("reading /bin/busybox")?);
    cpio.add("bin/sh", 0o120_777, b"busybox");
    cpio.add("init", 0o100_755, init.as_bytes());
    let list = modules.join(order);
    let list = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let mut names = String::new();
    for path in list.lines() {
        let name = path.rsplit('/').next().unwrap_or(path);
        cpio.add(&format!("modules/{name}"), 0o100_644, &fs::read(modules.join(name))?);
        names += name;
        names += "\n";
    }
    cpio.add("modules/order", 0o100_644, names.as_bytes());
    Ok(cpio.finish())
}

/// An archive in the form the kernel unpacks (cpio `newc`, see the kernel's `early-userspace/buffer-format`).
#[derive(Debug, Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// Adds a file, directory or link (content = target), by `mode` as in `stat`.
    pub(crate) fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (ino, links) = (self.entries, 1);
        let size = content.len();
        let name_size = name.len() + 1;
        let header = format!(
            "070701{ino:08x}{mode:08x}{zero:08x}{zero:08x}{links:08x}{zero:08x}{size:08x}{zero:08x}{zero:08x}{zero:08x}\
             {zero:08x}{name_size:08x}{zero:08x}",
            zero = 0
        );
        self.bytes.extend(header.bytes().chain(name.bytes()).chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

/// The machine's own package sources for the suite, in the deb822 form: the same mirror, proxy and keys the machine uses.
fn debian_sources(etc_apt: &Path) -> Result<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc_apt.join("sources.list.d")) {
        files.extend(entries.flatten().map(|e| e.path()));
    }
    files.sort();
    let mut found = String::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => found += &select_deb822(&text),
            Some("list") => found += &select_one_line(&text),
            _ => {}
        }
    }
    if found.is_empty() {
        bail!(
            "no Debian sources for {SUITE} under {}: the test guest is made from the machine's own",
            etc_apt.display()
        );
    }
    Ok(found)
}

fn ours(suite: &str) -> bool {
    suite.strip_prefix(SUITE).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

/// Stanzas of binary packages with our suites, cut down to what matters.
fn select_deb822(text: &str) -> String {
    let mut out = String::new();
    let kept: String =
        text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{}\n", l.trim_end())).collect();
    for stanza in kept.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|l| {
                let (key, value) = l.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let (Some(types), Some(uris), Some(suites)) = (field("Types"), field("URIs"), field("Suites")) else {
            continue;
        };
        let suites: Vec<&str> = suites.split_whitespace().filter(|s| ours(s)).collect();
        let disabled = field("Enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
        if suites.is_empty() || disabled || !types.split_whitespace().any(|t| t == "deb") {
            continue;
        }
        out += &format!("Types: deb\nURIs: {uris}\nSuites: {}\nComponents: main\n", suites.join(" "));
        // An inline key spans lines; only the usual path to a key ring is carried over, else mmdebstrap's default is used.
        if let Some(key) = field("Signed-By").filter(|k| k.starts_with('/')) {
            out += &format!("Signed-By: {key}\n");
        }
        out.push('\n');
    }
    out
}

/// Lines `deb [options] URI SUITE COMPONENT…` with our suites.
fn select_one_line(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        if let [uri, suite, ..] = words.as_slice()
            && ours(suite)
        {
            out += &format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n");
            if let Some(key) = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")) {
                out += &format!("Signed-By: {key}\n");
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_other_suites_and_vendors_are_left_out() {
        let deb822 = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-backports \
                      bookworm-updates\nComponents: main contrib\nSigned-By: /usr/share/keyrings/k.gpg\n\n\
                      Types: deb\nURIs: http://vendor.example\nSuites: nodistro\nComponents: main\n";
        assert_eq!(
            select_deb822(deb822),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\
             Signed-By: /usr/share/keyrings/k.gpg\n\n"
        );
        let list = "# x\ndeb [arch=amd64 signed-by=/k.gpg] http://m.example bookworm-security main\n\
                    deb http://m.example trixie main\ndeb-src http://m.example bookworm main\n";
        assert_eq!(
            select_one_line(list),
            "Types: deb\nURIs: http://m.example\nSuites: bookworm-security\nComponents: main\nSigned-By: /k.gpg\n\n"
        );
    }

    #[test]
    fn archives_are_aligned_and_end_with_the_trailer() {
        let mut cpio = Cpio::default();
        cpio.add("init", 0o100_755, b"#!/bin/sh\n");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 512, 0);
        // Header of 110 bytes, name with its zero, padded to 4; then the content.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[116..126], b"#!/bin/sh\n");
        assert_eq!(&bytes[128..134], b"070701");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
