//! The jail: after it, the process can reach nothing but the descriptors it opened before.
//!
//! ```text
//!  new mount, network, IPC and host name namespaces ─▶ empty read-only root ─▶ capabilities out of reach
//!    ─▶ unprivileged user and group ─▶ no new privileges
//! ```
//! Order matters: each step needs a privilege that a later one gives up. Called while the process has one thread, because
//! namespaces and capabilities belong to threads. The PID namespace is made by whoever starts the monitor.

use lq_api::local::vmm::Jail;
use std::{
    ffi::{CStr, CString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::null,
};

/// Highest capability number a kernel may know.
const CAPABILITIES: libc::c_ulong = 63;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

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

/// Locks the process in. `directory` is an existing directory to put the empty root over; nobody outside sees that.
pub fn enter(jail: Jail, directory: &Path) -> Result<(), Error> {
    let place = CString::new(directory.as_os_str().as_bytes())
        .map_err(|e| Error { step: "name the root", source: io::Error::other(e) })?;
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: changes the namespaces of the one thread there is.
    check("make namespaces", unsafe { libc::unshare(namespaces) }.into())?;
    empty_root(&place)?;
    drop_privileges(jail)
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

fn empty_root(place: &CStr) -> Result<(), Error> {
    const HARDENED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount("keep mounts to itself", c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE, c"")?;
    mount("mount an empty root", c"none", place, c"tmpfs", HARDENED, c"size=4k,nr_inodes=2,mode=0555")?;
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
