//! The jail: after it, the process can reach nothing but the descriptors it opened before.
//!
//! ```text
//!  new mount, network, IPC and host name namespaces ─▶ empty read-only root ─▶ capabilities out of reach
//!    ─▶ unprivileged user and group ─▶ no new privileges
//! ```
//! Order matters: each step needs a privilege that a later one gives up. Called while the process has one thread, because
//! namespaces and capabilities belong to threads. The PID namespace is made by whoever starts the monitor.
//!
//! The process behind a TPM is locked in the same way, but for a few things of the host that are [shown](Shown) in its root.

use lq_api::local::vmm::Jail;
use std::{
    ffi::{CStr, CString},
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt, symlink},
        },
    },
    path::{Path, PathBuf},
    ptr::null,
};

/// Highest capability number a kernel may know.
const CAPABILITIES: libc::c_ulong = 63;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// What the root is mounted with.
const HARDENED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock the monitor in: {step}")]
pub struct Error {
    step: &'static str,
    source: io::Error,
}

fn check(step: &'static str, result: libc::c_long) -> Result<(), Error> {
    if result == -1 { Err(Error { step, source: io::Error::last_os_error() }) } else { Ok(()) }
}

/// Something of the host that is to be seen in the jail.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The directory, of the host.
    pub from: PathBuf,
    /// Its name in the root of the jail.
    pub name: &'static str,
    /// It can be written to, and nothing in it can be executed; else the other way round.
    pub writable: bool,
}

/// Locks the process in. `directory` is an existing directory to put the empty root over; nobody outside sees that.
///
/// # Errors
/// The step that failed. The process is not to go on then.
pub fn enter(jail: Jail, directory: &Path) -> Result<(), Error> {
    enter_with(jail, directory, &[], &[])
}

/// A character device that can be opened in the jail, by its user alone.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its name in `/dev` of the jail.
    pub name: &'static str,
    /// Its number.
    pub number: libc::dev_t,
}

/// The same, with these in the root, where one that is a link there is one in the jail too, and with a `/dev` of these devices.
///
/// # Errors
/// As of [`enter`].
pub fn enter_with(jail: Jail, directory: &Path, shown: &[Shown], devices: &[Device]) -> Result<(), Error> {
    let place = name_of(directory)?;
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: changes the namespaces of the one thread there is.
    check("make namespaces", unsafe { libc::unshare(namespaces) }.into())?;
    mount("keep mounts to itself", c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE, c"")?;
    // Held before anything is put over them.
    let held = shown.iter().map(Held::new).collect::<Result<Vec<_>, _>>()?;
    // An inode for itself, one for the devices, and one for each that is shown.
    let size = format!("size=4k,nr_inodes={},mode=0555", shown.len() + 3);
    let size = CString::new(size).map_err(|e| Error { step: "size the root", source: e.into() })?;
    mount("mount an empty root", c"none", &place, c"tmpfs", HARDENED, &size)?;
    for one in &held {
        one.show(directory)?;
    }
    drop(held);
    if !devices.is_empty() {
        make_devices(jail, &directory.join("dev"), devices)?;
    }
    change_root(&place)?;
    drop_privileges(jail)
}

/// Makes them in a file system of their own, the only one devices can be opened in.
fn make_devices(jail: Jail, at: &Path, devices: &[Device]) -> Result<(), Error> {
    const FLAGS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NOEXEC;
    let failed = |source| Error { step: "make a directory for devices", source };
    DirBuilder::new().mode(0o555).create(at).map_err(failed)?;
    let place = name_of(at)?;
    let size = CString::new(format!("size=4k,nr_inodes={},mode=0555", devices.len() + 2));
    let size = size.map_err(|e| Error { step: "size the place of devices", source: e.into() })?;
    mount("mount a place for devices", c"none", &place, c"tmpfs", FLAGS, &size)?;
    for device in devices {
        let name = name_of(&at.join(device.name))?;
        // SAFETY: the string ends in zero and outlives the calls.
        unsafe {
            check("make a device", libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o600, device.number).into())?;
            check("give a device away", libc::chown(name.as_ptr(), jail.uid, jail.gid).into())?;
        }
    }
    let flags = FLAGS | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    mount("make devices read-only", c"none", &place, c"none", flags, c"")
}

fn name_of(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|e| Error { step: "name the root", source: io::Error::other(e) })
}

/// Something that is to be shown, as it was found.
struct Held<'a> {
    shown: &'a Shown,
    what: Found,
}

enum Found {
    Link(PathBuf),
    Directory(File),
}

impl<'a> Held<'a> {
    fn new(shown: &'a Shown) -> Result<Self, Error> {
        let failed = |source| Error { step: "find what is to be seen in the root", source };
        let what = match fs::read_link(&shown.from) {
            Ok(to) => Found::Link(to),
            Err(_) => {
                let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                Found::Directory(
                    File::options().read(true).custom_flags(flags).open(&shown.from).map_err(failed)?,
                )
            }
        };
        Ok(Self { shown, what })
    }

    /// Makes it seen in the root that is at `directory` still.
    fn show(&self, directory: &Path) -> Result<(), Error> {
        let at = directory.join(self.shown.name);
        let failed = |step| move |source| Error { step, source };
        let from = match &self.what {
            Found::Link(to) => return symlink(to, &at).map_err(failed("make a link in the root")),
            Found::Directory(from) => {
                name_of(&Path::new("/proc/self/fd").join(from.as_raw_fd().to_string()))?
            }
        };
        DirBuilder::new().mode(0o555).create(&at).map_err(failed("make a directory in the root"))?;
        let at = name_of(&at)?;
        mount("show a directory", &from, &at, c"none", libc::MS_BIND, c"")?;
        let access = if self.shown.writable { libc::MS_NOEXEC } else { libc::MS_RDONLY };
        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV | access;
        mount("harden a directory", c"none", &at, c"none", flags, c"")
    }
}

fn mount(
    step: &'static str,
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> Result<(), Error> {
    // SAFETY: all strings end in zero and outlive the call.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    check(step, result.into())
}

fn change_root(place: &CStr) -> Result<(), Error> {
    let here = c".";
    // SAFETY: strings end in zero; the calls change the one thread's view of the file system.
    unsafe {
        check("enter the empty root", libc::chdir(place.as_ptr()).into())?;
        if libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) == 0 {
            // The old root lies on top of the new one now.
            check("detach the old root", libc::umount2(here.as_ptr(), libc::MNT_DETACH).into())?;
        } else {
            // A root that is the kernel's initial file system cannot be pivoted away: it is covered, and without
            // privileges there is no way under the cover.
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(Error { step: "change to the empty root", source: error });
            }
            mount("cover the old root", here, c"/", c"none", libc::MS_MOVE, c"")?;
            check("change to the empty root", libc::chroot(here.as_ptr()).into())?;
        }
        check("enter the empty root", libc::chdir(c"/".as_ptr()).into())?;
    }
    let read_only = HARDENED | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    mount("make the root read-only", c"none", c"/", c"none", read_only, c"")
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

fn drop_privileges(jail: Jail) -> Result<(), Error> {
    // SAFETY: each call only takes privileges from this process; pointers are to live, correctly sized values.
    unsafe {
        for capability in 0..=CAPABILITIES {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == -1 {
                let error = io::Error::last_os_error();
                if error.raw_os_error() == Some(libc::EINVAL) {
                    // Past the last one this kernel knows.
                    break;
                }
                return Err(Error { step: "drop the capability bounding set", source: error });
            }
        }
        check("drop supplementary groups", libc::setgroups(0, null()).into())?;
        check("change the group", libc::setresgid(jail.gid, jail.gid, jail.gid).into())?;
        check("change the user", libc::setresuid(jail.uid, jail.uid, jail.uid).into())?;
        let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
        let nothing = [0_u32; 6];
        check("drop capabilities", libc::syscall(libc::SYS_capset, &raw const header, nothing.as_ptr()))?;
        check("forbid new privileges", libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())
    }
}
