use super::*;
use std::process::Command;

const NAME: &str = "limiquantix-node1-support-20260102-100000.tar.gz";

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_there_whole_and_what_was_left_unfinished_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(format!("limiquantix-node1-support-1.tar.gz{UNFINISHED}"));
    fs::write(&left, "half").unwrap();
    fs::write(dir.path().join(format!("mine{UNFINISHED}")), "not ours").unwrap();
    deliver("sdb1", dir.path(), NAME, b"all of it", || Ok(())).unwrap();
    assert_eq!(names(dir.path()), [NAME, &format!("mine{UNFINISHED}")]);
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), b"all of it");
    // What is there is not written over.
    let again = deliver("sdb1", dir.path(), NAME, b"other", || Ok(())).unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), b"all of it");
}

#[test]
fn a_link_on_the_drive_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "as it was").unwrap();
    for name in [NAME.to_owned(), format!("{NAME}{UNFINISHED}")] {
        std::os::unix::fs::symlink(&victim, dir.path().join(&name)).unwrap();
        deliver("sdb1", dir.path(), NAME, b"content", || Ok(())).unwrap_err();
        let _ = fs::remove_file(dir.path().join(&name));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
}

/// A drive that takes bytes and loses them tells so only when they are made durable.
#[test]
fn a_drive_that_fails_at_the_end_is_left_without_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let gone = || Err(io::Error::from_raw_os_error(libc::EIO));
    let error = deliver("sdb1", dir.path(), NAME, b"content", gone).unwrap_err();
    assert!(error.to_string().contains("pulled out"), "{error}");
    assert!(names(dir.path()).is_empty());
    let full = || Err(io::Error::from_raw_os_error(libc::ENOSPC));
    let error = deliver("sdb1", dir.path(), NAME, b"content", full).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

/// A loop device over an image with a file system; none where this user or this machine has no loop devices.
struct Stick {
    node: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stick {
    fn new(mebibytes: u64, losetup: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("stick.img");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
        let attached = Command::new("losetup").args(losetup).args(["--find", "--show"]).arg(&image).output();
        match (made, attached) {
            (Ok(made), Ok(attached)) if made.success() && attached.status.success() => {
                let node = String::from_utf8(attached.stdout).unwrap().trim().into();
                Some(Self { node, _dir: dir })
            }
            _ => {
                eprintln!("there are no loop devices here: not tested");
                None
            }
        }
    }

    /// Whether it is mounted nowhere: whoever mounts a device has it for themselves.
    fn unused(&self) -> bool {
        File::options().read(true).custom_flags(libc::O_EXCL).open(&self.node).is_ok()
    }

    /// What is on it, read in a mount of its own.
    fn names(&self) -> Vec<String> {
        let mounted = mount(&self.node, FileSystem::Ext).unwrap();
        let mut names = names(&PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd())));
        names.retain(|n| n != "lost+found");
        names
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn a_real_file_system_is_mounted_for_nobody_else_and_unmounted_again() {
    let Some(stick) = Stick::new(16, &[]) else { return };
    let content = vec![7_u8; 3 << 20];
    to_drive("sdb1", &stick.node, FileSystem::Ext, NAME, &content).unwrap();
    assert!(!mounts().contains(stick.node.to_str().unwrap()), "{}", mounts());
    assert!(stick.unused(), "it is unmounted");
    assert_eq!(stick.names(), [NAME]);
    let mounted = mount(&stick.node, FileSystem::Ext).unwrap();
    let path = format!("/proc/self/fd/{}/{NAME}", mounted.as_raw_fd());
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(!stick.unused() && !mounts().contains(stick.node.to_str().unwrap()));
    // What is in use stays so.
    drop(mounted);
    assert!(stick.unused());
}

#[test]
fn a_full_drive_says_how_much_is_missing_and_keeps_nothing() {
    let Some(stick) = Stick::new(8, &[]) else { return };
    let error = to_drive("sdb1", &stick.node, FileSystem::Ext, NAME, &vec![7; 20 << 20]).unwrap_err();
    assert!(error.to_string().contains("is full: 20 MiB are needed"), "{error}");
    assert!(stick.unused() && stick.names().is_empty());
}

#[test]
fn what_is_write_protected_or_no_file_system_is_told() {
    let Some(stick) = Stick::new(8, &["--read-only"]) else { return };
    let error = to_drive("sdb1", &stick.node, FileSystem::Ext, NAME, b"x").unwrap_err();
    assert!(error.to_string().contains("write-protected"), "{error}");
    assert!(stick.unused());
    let Some(stick) = Stick::new(8, &[]) else { return };
    // Its superblock is gone.
    let mut device = File::options().write(true).open(&stick.node).unwrap();
    device.write_all(&[0; 8192]).unwrap();
    device.sync_all().unwrap();
    drop(device);
    let error = to_drive("sdb1", &stick.node, FileSystem::Ext, NAME, b"x").unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    let error = to_drive("sdb1", Path::new("/dev/lq-not-there"), FileSystem::Ext, NAME, b"x").unwrap_err();
    assert!(error.to_string().contains("pulled out"), "{error}");
}
