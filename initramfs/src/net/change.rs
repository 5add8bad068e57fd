//! The management network changed while the host runs: another uplink in the bridge, another address. A handful of ioctls; what
//! fails leaves the rest undone, and the caller takes the change back.

use super::{BRIDGE, choose, link, nics, write_resolv_conf};
use crate::error::{Error, Result};
use lq_api::answer::HostNetwork;
use std::{net::Ipv4Addr, path::Path};

/// Puts settings into force. Of the uplinks the first is the one in use, the second the one to be used where the settings name
/// none; the answer is the one in use from now on. Where the address comes by DHCP, the bridge is left without one: the client
/// is started by the caller.
pub fn change(
    sys: &Path,
    resolv_conf: &Path,
    (old, preferred): (Option<&str>, Option<&str>),
    wanted: &HostNetwork,
) -> Result<Option<String>> {
    let found = nics(sys);
    let nic = match wanted.interface {
        Some(mac) => Some(
            found
                .iter()
                .find(|n| n.mac == mac.0)
                .ok_or_else(|| Error::wrong(format!("the interface {mac} is not in this machine")))?,
        ),
        None => {
            found.iter().find(|n| Some(n.name.as_str()) == preferred).or_else(|| choose(&found, None, true))
        }
    };
    let name = nic.map(|n| n.name.clone());
    if name.as_deref() != old || name.as_deref().is_some_and(|n| !link::is_port(sys, BRIDGE, n)) {
        if let Some(old) = old.filter(|n| link::is_port(sys, BRIDGE, n)) {
            link::release(BRIDGE, old)?;
        }
        if let Some(nic) = nic {
            link::set_mac(BRIDGE, nic.mac)?;
            link::enslave(BRIDGE, &nic.name)?;
            link::up(&nic.name)?;
        }
    }
    // The routes over it go with the address.
    link::set_address(BRIDGE, Ipv4Addr::UNSPECIFIED, 0)?;
    link::drop_default_routes(BRIDGE)?;
    if let Some(address) = wanted.static_address() {
        let (address, prefix) = address.map_err(Error::Wrong)?;
        link::set_address(BRIDGE, address, prefix)?;
        if let Some(gateway) = wanted.gateway {
            link::set_default_route(BRIDGE, gateway)?;
        }
        write_resolv_conf(resolv_conf, &wanted.dns, None)?;
    }
    Ok(name)
}
