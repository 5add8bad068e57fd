//! Links, addresses and the default route, by the classic socket ioctls (netdevice(7)): a handful of calls at boot.
//!
//! The structures are `struct ifreq` (40 bytes) and `struct rtentry` of the C library.

use crate::error::{Doing, Error, Result};
use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

const SIOCBRADDBR: libc::c_ulong = 0x89a0;
const SIOCBRADDIF: libc::c_ulong = 0x89a2;
const SIOCBRDELIF: libc::c_ulong = 0x89a3;

fn socket() -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .doing(|| "open a socket".into())
}

/// An `ifreq` for an interface, the rest zero.
fn request(name: &str) -> Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(Error::wrong(format!("`{name}` cannot be the name of an interface")));
    }
    // SAFETY: all-zero is a valid value of every member of the union and of the name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    Ok(request)
}

fn call<T>(number: libc::c_ulong, argument: &mut T, doing: impl FnOnce() -> String) -> Result<()> {
    let socket = socket()?;
    // SAFETY: every caller passes the structure the call reads and writes (ifreq, rtentry, or a name of IFNAMSIZ bytes).
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(argument)) };
    nix::errno::Errno::result(rc).map(drop).doing(doing)
}

/// An IPv4 address as `struct sockaddr`.
fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0 as libc::c_char; 14];
    for (slot, byte) in data.iter_mut().skip(2).zip(address.octets()) {
        *slot = byte as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

/// Brings an interface up.
pub fn up(name: &str) -> Result<()> {
    let mut ifreq = request(name)?;
    call(libc::SIOCGIFFLAGS, &mut ifreq, || format!("look at the interface {name}"))?;
    // SAFETY: SIOCGIFFLAGS filled this member of the union.
    let flags = unsafe { ifreq.ifr_ifru.ifru_flags };
    ifreq.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    call(libc::SIOCSIFFLAGS, &mut ifreq, || format!("bring the interface {name} up"))
}

/// Makes a bridge; one that is there already is no error.
pub fn add_bridge(name: &str) -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(name).exists() {
        return Ok(());
    }
    let mut bytes = request(name)?.ifr_name;
    call(SIOCBRADDBR, &mut bytes, || format!("make the bridge {name}"))
}

/// Puts an interface into a bridge; one that is in it already is no error.
pub fn enslave(bridge: &str, name: &str) -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(bridge).join("brif").join(name).exists() {
        return Ok(());
    }
    let mut ifreq = request(bridge)?;
    let index = nix::net::if_::if_nametoindex(name).doing(|| format!("look up the interface {name}"))?;
    ifreq.ifr_ifru.ifru_ifindex = libc::c_int::try_from(index).unwrap_or(0);
    call(SIOCBRADDIF, &mut ifreq, || format!("put {name} into the bridge {bridge}"))
}

/// Whether an interface is in a bridge.
pub fn is_port(sys: &std::path::Path, bridge: &str, name: &str) -> bool {
    sys.join("class/net").join(bridge).join("brif").join(name).exists()
}

/// Takes an interface out of a bridge.
pub fn release(bridge: &str, name: &str) -> Result<()> {
    let mut ifreq = request(bridge)?;
    let index = nix::net::if_::if_nametoindex(name).doing(|| format!("look up the interface {name}"))?;
    ifreq.ifr_ifru.ifru_ifindex = libc::c_int::try_from(index).unwrap_or(0);
    call(SIOCBRDELIF, &mut ifreq, || format!("take {name} out of the bridge {bridge}"))
}

/// Sets an interface's hardware address.
pub fn set_mac(name: &str, mac: [u8; 6]) -> Result<()> {
    let mut ifreq = request(name)?;
    let mut data = [0 as libc::c_char; 14];
    for (slot, byte) in data.iter_mut().zip(mac) {
        *slot = byte as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    call(libc::SIOCSIFHWADDR, &mut ifreq, || format!("set the hardware address of {name}"))
}

/// Gives an interface its one IPv4 address, replacing the one it has. `0.0.0.0` takes it away.
pub fn set_address(name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
    let mut ifreq = request(name)?;
    ifreq.ifr_ifru.ifru_addr = sockaddr(address);
    call(libc::SIOCSIFADDR, &mut ifreq, || format!("give {name} the address {address}"))?;
    if address.is_unspecified() {
        return Ok(());
    }
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let mut ifreq = request(name)?;
    ifreq.ifr_ifru.ifru_netmask = sockaddr(Ipv4Addr::from(mask));
    call(libc::SIOCSIFNETMASK, &mut ifreq, || format!("give {name} the prefix /{prefix}"))
}

/// Sets the default route.
pub fn set_default_route(name: &str, gateway: Ipv4Addr) -> Result<()> {
    let doing = || format!("set the default route to {gateway} over {name}");
    let mut device = request(name)?.ifr_name;
    let route = |device: *mut libc::c_char| -> libc::rtentry {
        // SAFETY: all-zero is a valid rtentry.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = sockaddr(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        route.rt_dev = device;
        route
    };
    let mut add = route(device.as_mut_ptr());
    match call(libc::SIOCADDRT, &mut add, doing) {
        Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// Takes the default routes over an interface away; that there is none is no error.
pub fn drop_default_routes(name: &str) -> Result<()> {
    let mut device = request(name)?.ifr_name;
    for _ in 0..16 {
        // SAFETY: all-zero is a valid rtentry.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_flags = libc::RTF_UP;
        route.rt_dev = device.as_mut_ptr();
        if call(libc::SIOCDELRT, &mut route, String::new).is_err() {
            break;
        }
    }
    Ok(())
}
