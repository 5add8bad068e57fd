//! The management network: the bridge `lqbr0` over the uplink, and how it gets its address.
//!
//! [`set_up`] runs once at boot, before the services: it makes the bridge, so that the uplink's name is known to `mgmtd`, and
//! sets a static address. DHCP runs as a process of its own (`lq-init dhcp`), supervised by PID 1, so that neither a
//! hostile answer nor a fault of ours there can touch PID 1.

pub mod change;
pub mod dhcp;
pub mod dhcp_run;
pub mod link;
pub mod packet;

use crate::{
    error::{Error, Result, chain},
    say,
};
use lq_api::answer::HostNetwork;
use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

/// The management bridge.
pub const BRIDGE: &str = "lqbr0";
/// The resolver's configuration.
pub const RESOLV_CONF: &str = "/run/limiquantix/resolv.conf";
/// Longest wait for a link on any interface.
const LINK_WAIT: Duration = Duration::from_secs(10);

/// A physical network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// A cable is in and the other side answers.
    pub link: bool,
}

/// The physical Ethernet interfaces, in the order the kernel found them.
pub fn nics(sys: &Path) -> Vec<Nic> {
    let mut found: Vec<(u32, Nic)> = fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let dir = entry.path();
            let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
            // Physical: with a device behind it; Ethernet: ARPHRD_ETHER, and not wireless.
            if !dir.join("device").exists() || text("type") != "1" || dir.join("wireless").exists() {
                return None;
            }
            let mac: lq_api::vm::Mac = text("address").parse().ok()?;
            let nic =
                Nic { name: entry.file_name().into_string().ok()?, mac: mac.0, link: text("carrier") == "1" };
            Some((text("ifindex").parse().unwrap_or(u32::MAX), nic))
        })
        .collect();
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, nic)| nic).collect()
}

/// The uplink among `nics`: the one asked for, else the first with a link; after the wait, the first at all.
pub fn choose(nics: &[Nic], wanted: Option<[u8; 6]>, waited: bool) -> Option<&Nic> {
    match wanted {
        Some(mac) => nics.iter().find(|n| n.mac == mac),
        None => nics.iter().find(|n| n.link).or_else(|| nics.first().filter(|_| waited)),
    }
}

/// What [`set_up`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The uplink's kernel name.
    pub uplink: Option<String>,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// DHCP is to be run on [`BRIDGE`].
    pub dhcp: bool,
    /// What went wrong.
    pub warnings: Vec<String>,
}

/// Brings the management network up as far as it can; what fails is a warning, never the end of the boot.
pub fn set_up(config: &HostNetwork) -> Network {
    let mut network = Network::default();
    let mut note = |step: Result<()>| {
        if let Err(e) = step {
            say::warn(&chain(&e));
            network.warnings.push(chain(&e));
        }
    };
    note(link::up("lo"));
    let wanted = config.interface.map(|mac| mac.0);
    let start = Instant::now();
    let mut raised: Vec<String> = Vec::new();
    let nic = loop {
        let found = nics(Path::new("/sys"));
        for nic in &found {
            // A link is only seen on an interface that is up.
            if !raised.contains(&nic.name) {
                note(link::up(&nic.name));
                raised.push(nic.name.clone());
            }
        }
        let waited = start.elapsed() > LINK_WAIT;
        if let Some(nic) = choose(&found, wanted, waited) {
            break Some(nic.clone());
        }
        if waited {
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    note(make_bridge(nic.as_ref()));
    match &nic {
        Some(nic) => {
            if !nic.link && wanted.is_none() {
                note(Err(Error::wrong(format!("no interface has a link; {} is used", nic.name))));
            }
            network.uplink = Some(nic.name.clone());
            network.mac = Some(nic.mac);
        }
        None => {
            let text = match config.interface {
                Some(mac) => format!("the interface {mac} of the settings is not in this machine"),
                None => "no network interface was found".into(),
            };
            say::warn(&text);
            network.warnings.push(text);
        }
    }
    match config.static_address() {
        Some(Ok((address, prefix))) => {
            let step = link::set_address(BRIDGE, address, prefix)
                .and_then(|()| {
                    config.gateway.map_or(Ok(()), |gateway| link::set_default_route(BRIDGE, gateway))
                })
                .and_then(|()| write_resolv_conf(Path::new(RESOLV_CONF), &config.dns, None));
            match step {
                Ok(()) => say::info(&format!("address {address}/{prefix} on {BRIDGE}")),
                Err(e) => {
                    say::warn(&chain(&e));
                    network.warnings.push(chain(&e));
                }
            }
        }
        Some(Err(reason)) => network.warnings.push(format!("host.network.address: {reason}")),
        None => network.dhcp = network.uplink.is_some(),
    }
    network
}

fn make_bridge(nic: Option<&Nic>) -> Result<()> {
    link::add_bridge(BRIDGE)?;
    if let Some(nic) = nic {
        link::set_mac(BRIDGE, nic.mac)?;
        link::enslave(BRIDGE, &nic.name)?;
        link::up(&nic.name)?;
    }
    link::up(BRIDGE)
}

/// Writes the resolver's configuration, whole or not at all.
pub fn write_resolv_conf(path: &Path, dns: &[Ipv4Addr], domain: Option<&str>) -> Result<()> {
    use crate::error::Doing;
    let mut text = String::new();
    if let Some(domain) = domain.filter(|d| is_domain(d)) {
        text += &format!("search {domain}\n");
    }
    for server in dns.iter().take(3) {
        text += &format!("nameserver {server}\n");
    }
    write_whole(path, text.as_bytes()).doing(|| format!("write {}", path.display()))
}

/// Writes a file of which others see the old or the new. In memory: nothing is made durable.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, path)
}

/// A domain from the network may hold anything; only what a domain may hold gets into the file.
fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 254
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, last: u8, link: bool) -> Nic {
        Nic { name: name.into(), mac: [2, 0, 0, 0, 0, last], link }
    }

    #[test]
    fn the_uplink_is_the_one_asked_for_or_the_first_with_a_link() {
        let nics = [nic("eth0", 1, false), nic("eth1", 2, true)];
        assert_eq!(choose(&nics, None, false).unwrap().name, "eth1");
        assert_eq!(choose(&nics, Some([2, 0, 0, 0, 0, 1]), false).unwrap().name, "eth0");
        assert_eq!(choose(&nics, Some([2, 0, 0, 0, 0, 9]), true), None);
        assert_eq!(choose(&nics[..1], None, false), None);
        assert_eq!(choose(&nics[..1], None, true).unwrap().name, "eth0");
    }

    #[test]
    fn a_hostile_domain_does_not_get_into_the_file() {
        assert!(is_domain("example.net"));
        for bad in ["", "a\nnameserver 1.2.3.4", "a b", &"x".repeat(300)] {
            assert!(!is_domain(bad), "{bad:?}");
        }
    }
}
