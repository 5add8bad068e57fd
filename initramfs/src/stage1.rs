//! The first stage, in the initramfs: finds the root image, opens it with dm-verity and hands over to PID 1 in it.
//!
//! ```text
//! mounts ─ modules ─ find the medium or disk ─ verity ─ mount root ─ move mounts ─ exec stage 2
//!                          └── nothing found within 60 s, or the image is damaged: say why, then `panic=` decides
//! ```
//! Nothing is ever written to a disk here.

use crate::{
    block::{self, Disk, Signs},
    cmdline::{BootArgs, Mode, RootParams, Slot},
    error::{Doing, Error, Result, chain},
    handover::{Handover, MEDIUM},
    modules::Loader,
    mounts, say,
    sys::{dm, loopdev::LoopDevice},
};
use lq_api::local::{layout, paths};
use nix::mount::{MsFlags, mount};
use std::{
    convert::Infallible,
    ffi::CString,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest wait for the boot device: USB sticks and RAID controllers take their time.
const DEVICE_WAIT: Duration = Duration::from_secs(60);
/// Modules no device asks for.
const FIXED_MODULES: [&str; 11] = [
    "loop",
    "dm_mod",
    "dm_verity",
    "squashfs",
    "overlay",
    "isofs",
    "ext4",
    "sd_mod",
    "sr_mod",
    "usb_storage",
    "uas",
];
const NEW_ROOT: &str = "/newroot";

/// Runs the first stage. Comes back only by an error, which has been shown.
pub fn run() -> Error {
    let error = match boot() {
        Ok(never) => match never {},
        Err(e) => e,
    };
    say::error(&format!("{}\nThis host cannot start.", chain(&error)));
    error
}

fn boot() -> Result<Infallible> {
    mounts::mount_basics()?;
    let text = fs::read_to_string("/proc/cmdline").doing(|| "read the kernel command line".into())?;
    let args = BootArgs::parse(&text);
    say::set_consoles(args.consoles.clone());
    mounts::answer_module_requests("/init");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    say::info(&format!("LimiQuantix {} starts (Linux {})", env!("CARGO_PKG_VERSION"), release.trim()));
    for fault in &args.faults {
        say::warn(&format!("kernel command line: {fault}"));
    }
    let Some(root) = &args.root else {
        return Err(Error::wrong(format!(
            "the kernel command line has no valid {}=<bytes>:<root hash>:<salt>: the root image cannot be verified",
            layout::cmdline::ROOT
        )));
    };
    let mut loader = Loader::new();
    if loader.is_empty() {
        say::warn("no kernel modules in the initramfs for this kernel");
    }
    for module in FIXED_MODULES {
        loader.load(module);
    }
    let mut handover = Handover { verified: true, warnings: args.faults.clone(), ..Handover::default() };
    let image = find_image(&args, root, &mut loader, &mut handover)?;
    open_root(&image, root)?;
    for failure in loader.failures.drain(..) {
        say::note(&failure);
    }
    handover.write()?;
    switch_root()
}

/// Waits for the device with the root image and returns the node of the image.
fn find_image(
    args: &BootArgs,
    root: &RootParams,
    loader: &mut Loader,
    handover: &mut Handover,
) -> Result<PathBuf> {
    let start = Instant::now();
    let mut told = false;
    let mut refused: Vec<String> = Vec::new();
    loop {
        let new_devices = loader.load_for_devices();
        let disks = block::scan(Path::new("/sys"));
        let found = match args.mode {
            Mode::Disk => find_slot(args, &disks)?,
            Mode::Live | Mode::Install => find_medium(root, &disks, &mut refused)?,
        };
        if let Some((disk, image)) = found {
            handover.boot_disk = disk;
            return Ok(image);
        }
        let what = match args.mode {
            Mode::Disk => format!(
                "the disk with GPT GUID {} and a partition {}",
                args.disk.as_deref().unwrap_or("(lq.disk= is missing)"),
                slot_label(args.slot)
            ),
            Mode::Live | Mode::Install => format!("the boot medium (volume {})", layout::ISO_LABEL),
        };
        if start.elapsed() > DEVICE_WAIT {
            let seen: Vec<String> = disks.iter().map(Disk::describe).collect();
            let seen = if seen.is_empty() { "none".into() } else { seen.join("; ") };
            return Err(Error::wrong(format!(
                "{what} was not found within {} s. Block devices seen: {seen}. {}",
                DEVICE_WAIT.as_secs(),
                refused.join(" ")
            )));
        }
        if !told && start.elapsed() > Duration::from_secs(5) {
            told = true;
            say::info(&format!("waiting for {what} ..."));
        }
        // New devices bring new devices: look again at once, else give the hardware time.
        std::thread::sleep(Duration::from_millis(if new_devices > 0 { 5 } else { 50 }));
    }
}

fn slot_label(slot: Slot) -> &'static str {
    match slot {
        Slot::A => layout::PART_SLOT_A,
        Slot::B => layout::PART_SLOT_B,
    }
}

fn find_slot(args: &BootArgs, disks: &[Disk]) -> Result<Option<(String, PathBuf)>> {
    let Some(guid) = &args.disk else {
        return Err(Error::wrong("the kernel command line has no lq.disk=<GPT disk GUID>"));
    };
    Ok(disks
        .iter()
        .filter_map(|disk| Some((disk, disk.partition(slot_label(args.slot))?)))
        .find(|(disk, part)| {
            part.path().exists()
                && block::disk_guid(&disk.path()).is_some_and(|g| g.eq_ignore_ascii_case(guid))
        })
        .map(|(disk, part)| (disk.name.clone(), part.path())))
}

/// Looks for our ISO on every disk and partition. One whose root image is another version's is passed over, and said so.
fn find_medium(
    root: &RootParams,
    disks: &[Disk],
    refused: &mut Vec<String>,
) -> Result<Option<(String, PathBuf)>> {
    for disk in disks.iter().filter(|d| d.size_bytes > 0) {
        let nodes = std::iter::once(disk.path()).chain(disk.partitions.iter().map(block::Partition::path));
        for node in nodes {
            let ours = Signs::read(&node).is_ok_and(|s| s.label.as_deref() == Some(layout::ISO_LABEL));
            if !ours {
                continue;
            }
            let text = format!("{}: ", node.display());
            if refused.iter().any(|r| r.starts_with(&text)) {
                continue;
            }
            match try_medium(&node, root) {
                Ok(image) => return Ok(Some((disk.name.clone(), image))),
                Err(e) => {
                    let reason = format!("{text}{}.", chain(&e));
                    say::warn(&reason);
                    refused.push(reason);
                    let _ = mounts::unmount(MEDIUM);
                }
            }
        }
    }
    Ok(None)
}

fn try_medium(node: &Path, root: &RootParams) -> Result<PathBuf> {
    mounts::mount_at(node, MEDIUM, "iso9660", MsFlags::MS_RDONLY | mounts::PLAIN, "")?;
    let manifest = read_manifest()?;
    if manifest.root_hash != root.root_hash {
        return Err(Error::wrong(format!("holds another root image (version {})", manifest.version)));
    }
    let path = Path::new(MEDIUM).join("lq/root.img");
    let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
    let device = LoopDevice::attach(&file, 0, 0, true)?;
    Ok(device.path().to_owned())
}

/// The manifest of the root image on the mounted boot medium.
pub fn read_manifest() -> Result<layout::RootManifest> {
    let path = Path::new(MEDIUM).join("lq/root.json");
    let bytes = fs::read(&path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::wrong(format!("{}: {e}", path.display())))
}

fn open_root(image: &Path, root: &RootParams) -> Result<()> {
    let verified = dm::create_verity("lq-root", image, root)?;
    mounts::mount_at(&verified, NEW_ROOT, "squashfs", MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "").map_err(|e| {
        Error::wrong(format!(
            "the root image on {} is damaged or not the one this boot entry belongs to (dm-verity): {}. Boot the other \
             slot or the installation medium",
            image.display(),
            chain(&e)
        ))
    })?;
    if !Path::new(NEW_ROOT).join(paths::LQ_INIT.trim_start_matches('/')).exists() {
        return Err(Error::wrong(format!("the root image has no {} or it cannot be read", paths::LQ_INIT)));
    }
    Ok(())
}

/// Makes the verified root the root, frees the initramfs and becomes its PID 1.
fn switch_root() -> Result<Infallible> {
    for dir in ["dev", "proc", "sys", "run"] {
        let target = format!("{NEW_ROOT}/{dir}");
        mount(Some(&*format!("/{dir}")), target.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .doing(|| format!("move /{dir} into the root image"))?;
    }
    std::env::set_current_dir(NEW_ROOT).doing(|| format!("enter {NEW_ROOT}"))?;
    if let Ok(meta) = fs::metadata("/") {
        remove_below(Path::new("/"), meta.dev());
    }
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .doing(|| "make the root image the root".into())?;
    nix::unistd::chroot(".").doing(|| "enter the root image".into())?;
    std::env::set_current_dir("/").doing(|| "enter /".into())?;
    let program = CString::new(paths::LQ_INIT).map_err(|e| Error::wrong(e.to_string()))?;
    nix::unistd::execve(&program, &[program.as_c_str(), c"--stage=2"], &[c"PATH=/usr/sbin:/usr/bin"])
        .doing(|| format!("execute {}", paths::LQ_INIT))
}

/// Removes everything below `dir` that is in the initramfs itself, to give its memory back.
fn remove_below(dir: &Path, device: u64) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            remove_below(&entry.path(), device);
            let _ = fs::remove_dir(entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What follows a fatal error of the boot: as after a panic of the kernel. Never returns.
pub fn stay_or_restart(panic: i64) -> ! {
    if panic != 0 {
        let wait = u64::try_from(panic).unwrap_or(0);
        say::error(&format!("restarting in {wait} s (panic={panic})"));
        std::thread::sleep(Duration::from_secs(wait));
        nix::unistd::sync();
        let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    }
    say::error("stopped. Press Ctrl-Alt-Del or the reset button to restart");
    let _ = nix::sys::reboot::set_cad_enabled(true);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
