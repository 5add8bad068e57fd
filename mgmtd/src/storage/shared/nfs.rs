//! NFS mounted by ourselves: mount(2) with what mount.nfs(8) would have found out, as there is no such helper in the image.
//!
//! `hard`: a guest's write is repeated until the server has it, never failed because the server restarts. Locks are the
//! server's, so that hosts keep each other from a disk; a client that lost its locks because it was silent too long has its
//! writes refused, which is the last line against two writers. For that the server must tell hosts apart: each names itself by
//! its id ([`IDENTIFIER`]), as two with the same host name would be one client to it.

use super::{super::Error, Mounter};
use lq_api::{HostId, PoolId, local::paths, pool::NfsSpec};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// What the kernel calls itself by to servers, beside the host name.
const IDENTIFIER: &str = "/sys/fs/nfs/net/nfs_client/identifier";
/// Longest a server may take to accept a connection before a mount is tried.
const CONNECT: Duration = Duration::from_secs(5);
/// Tenths of a second until a request is repeated.
const TIMEO: u16 = 150;
/// Repetitions until the server counts as silent.
const RETRANS: u8 = 3;

/// Mounts NFS below a directory.
pub struct NfsMounter {
    parent: PathBuf,
}

impl NfsMounter {
    /// Mounts below `parent`, [`paths::POOLS`] on an appliance.
    #[must_use]
    pub fn new(parent: PathBuf) -> Self {
        Self { parent }
    }

    fn target(&self, pool: PoolId) -> PathBuf {
        self.parent.join(pool.to_string())
    }
}

impl Default for NfsMounter {
    fn default() -> Self {
        Self::new(paths::POOLS.into())
    }
}

impl Mounter for NfsMounter {
    fn mount(&self, host: HostId, pool: PoolId, spec: &NfsSpec) -> Result<PathBuf, Error> {
        let target = self.target(pool);
        let source = source(spec);
        match mounts()?.into_iter().rfind(|m| Path::new(&m.target) == target) {
            Some(found) if found.source == source && fs::metadata(&target).is_ok() => return Ok(target),
            // Of another export, or the server knows it no more.
            Some(_) => umount2(&target, MntFlags::MNT_DETACH)
                .map_err(|e| failed(format!("detaching {}", target.display()), e))?,
            None => {}
        }
        fs::create_dir_all(&target)
            .map_err(|source| Error::Io { context: format!("making {}", target.display()), source })?;
        load_driver()?;
        call_ourselves(host)?;
        let address = answering(spec)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        let data = data(spec, address.ip());
        tracing::info!(%pool, source, data, "mounting");
        mount(Some(source.as_str()), &target, Some("nfs4"), flags, Some(data.as_str()))
            .map_err(|e| refused(spec, e))?;
        Ok(target)
    }

    fn ask(&self, pool: PoolId, _spec: &NfsSpec) -> Result<(), Error> {
        // Never answered from a cache.
        let target = self.target(pool);
        nix::sys::statfs::statfs(&target)
            .map(drop)
            .map_err(|e| failed(format!("asking the server of {}", target.display()), e))
    }

    fn unmount(&self, pool: PoolId) -> Result<(), Error> {
        let target = self.target(pool);
        while mounts()?.iter().any(|m| Path::new(&m.target) == target) {
            // Requests under way fail, so that threads waiting for them end.
            let _ = umount2(&target, MntFlags::MNT_FORCE);
            match umount2(&target, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(e) => return Err(failed(format!("unmounting {}", target.display()), e)),
            }
        }
        match fs::remove_dir(&target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { context: format!("removing {}", target.display()), source: e })
            }
            _ => Ok(()),
        }
    }

    fn mounted(&self) -> Vec<PoolId> {
        let mounts = mounts().unwrap_or_default();
        let below = mounts.iter().filter_map(|m| Path::new(&m.target).strip_prefix(&self.parent).ok());
        below.filter_map(|name| name.to_str()?.parse().ok()).collect()
    }
}

fn failed(context: String, errno: Errno) -> Error {
    Error::Io { context, source: errno.into() }
}

/// The server's export as the kernel wants it.
fn source(spec: &NfsSpec) -> String {
    match spec.server.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{}", spec.export),
        _ => format!("{}:{}", spec.server, spec.export),
    }
}

/// The mount's options, for nfs(5) as the kernel reads it.
fn data(spec: &NfsSpec, address: IpAddr) -> String {
    let o = &spec.options;
    let proto = if address.is_ipv6() { "tcp6" } else { "tcp" };
    // Names that are not there are not remembered (`lookupcache`): another host may just have made them.
    let mut data = format!(
        "vers={},proto={proto},addr={address},port={},sec=sys,hard,lookupcache=positive,timeo={},retrans={}",
        spec.version,
        spec.port,
        o.timeo.unwrap_or(TIMEO),
        o.retrans.unwrap_or(RETRANS),
    );
    let chosen = [("nconnect", o.nconnect.map(u32::from)), ("rsize", o.rsize), ("wsize", o.wsize)];
    for (name, value) in chosen.into_iter().filter_map(|(n, v)| Some((n, v?))) {
        data.push_str(&format!(",{name}={value}"));
    }
    data
}

/// The first address of the server that accepts a connection.
fn answering(spec: &NfsSpec) -> Result<SocketAddr, Error> {
    let server = &spec.server;
    let unreached = |why: String| Error::Unfit(format!("the server `{server}` {why}"));
    let found = (server.as_str(), spec.port).to_socket_addrs();
    let found = found.map_err(|e| unreached(format!("is not known: {e}")))?;
    let mut last = "has no address".to_owned();
    for address in found {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(address),
            Err(e) => last = format!("does not answer at {address}: {e}"),
        }
    }
    Err(unreached(last))
}

/// A mount that was refused, and what to do.
fn refused(spec: &NfsSpec, errno: Errno) -> Error {
    let (server, export, version) = (&spec.server, &spec.export, spec.version);
    Error::Unfit(match errno {
        Errno::ENOENT => {
            format!("the server `{server}` has no export `{export}`: write it as NFS version 4 shows it")
        }
        Errno::EACCES | Errno::EPERM => {
            format!(
                "the server `{server}` does not let this host mount `{export}`: allow its address in the export"
            )
        }
        Errno::EPROTONOSUPPORT | Errno::EPROTO => {
            format!(
                "the server `{server}` does not speak NFS {version}: choose another version, or switch it on there"
            )
        }
        Errno::ETIMEDOUT => format!("the server `{server}` did not answer while `{export}` was mounted"),
        Errno::ENODEV => "the kernel has no NFS: its modules are not in the image".into(),
        other => return failed(format!("mounting `{export}` of the server `{server}`"), other),
    })
}

/// Loads the kernel's NFS by naming it: nothing is mounted.
fn load_driver() -> Result<(), Error> {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name ends in zero; the call makes a descriptor and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, c"nfs4".as_ptr(), FSOPEN_CLOEXEC) };
    match i32::try_from(Errno::result(fd).map_err(|e| match e {
        Errno::ENODEV => Error::Unfit("the kernel has no NFS: its modules are not in the image".into()),
        other => failed("loading the kernel's NFS".into(), other),
    })?) {
        // SAFETY: a descriptor we were just given and nobody else has.
        Ok(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(_) => tracing::error!("a descriptor out of range"),
    }
    Ok(())
}

/// Names this host to servers by its id.
fn call_ourselves(host: HostId) -> Result<(), Error> {
    let name = host.to_string();
    let now = fs::read_to_string(IDENTIFIER).unwrap_or_default();
    if now.trim() == name {
        return Ok(());
    }
    fs::write(IDENTIFIER, &name).map_err(|source| Error::Io {
        context: format!("naming this host to NFS servers ({IDENTIFIER})"),
        source,
    })
}

/// A mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    target: String,
    source: String,
}

fn mounts() -> Result<Vec<Mount>, Error> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|source| Error::Io { context: "reading the mounts of this host".into(), source })?;
    Ok(text.lines().filter_map(mount_line).collect())
}

/// A line of mountinfo, proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn mount_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let target = unescaped(before.split(' ').nth(4)?);
    let source = unescaped(after.split(' ').nth(1)?);
    Some(Mount { target, source })
}

/// Octal escapes of spaces and the like, undone.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let value =
            octal.and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok());
        match value {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(server: &str) -> NfsSpec {
        serde_json::from_str(&format!(r#"{{"server":"{server}","export":"/srv/vm x"}}"#)).unwrap()
    }

    #[test]
    fn options_are_those_that_keep_data_safe() {
        let mut nfs = spec("nas");
        assert_eq!(source(&nfs), "nas:/srv/vm x");
        assert_eq!(source(&spec("fd00::1")), "[fd00::1]:/srv/vm x");
        assert_eq!(
            data(&nfs, "10.0.0.9".parse().unwrap()),
            "vers=4.2,proto=tcp,addr=10.0.0.9,port=2049,sec=sys,hard,lookupcache=positive,timeo=150,retrans=3"
        );
        nfs.options.nconnect = Some(4);
        nfs.options.wsize = Some(65536);
        let v6 = data(&nfs, "fd00::1".parse().unwrap());
        assert!(v6.contains("proto=tcp6,addr=fd00::1") && v6.ends_with(",nconnect=4,wsize=65536"), "{v6}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (errno, part) in [
            (Errno::ENOENT, "no export `/srv/vm x`"),
            (Errno::EACCES, "allow its address"),
            (Errno::EPROTONOSUPPORT, "does not speak NFS 4.2"),
        ] {
            let text = refused(&spec("nas"), errno).to_string();
            assert!(text.contains(part) && text.contains("`nas`"), "{text}");
        }
        let closed = NfsSpec { port: 1, ..spec("127.0.0.1") };
        let text = answering(&closed).unwrap_err().to_string();
        assert!(text.contains("does not answer at 127.0.0.1:1"), "{text}");
    }

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let line = r"36 35 0:40 / /run/limiquantix/pools/x\040y rw,nosuid shared:1 - nfs4 nas:/srv/vm\040x rw,vers=4.2";
        let mount = Mount { target: "/run/limiquantix/pools/x y".into(), source: "nas:/srv/vm x".into() };
        assert_eq!(mount_line(line), Some(mount));
        assert_eq!(mount_line("36 35"), None);
        assert!(!mounts().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(line in ".{0,80}") {
            let _ = mount_line(&line);
        }
    }
}
