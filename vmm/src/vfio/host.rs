//! What the host says of its functions, and why one cannot be given away.

use lq_api::pci::{Neighbour, PciAddress, VFIO_DRIVER, group_obstacle};
use std::{collections::BTreeSet, fs, io, path::Path};

/// Where the kernel tells it.
pub const SYSFS: &str = "/sys";
/// Base class of bridges.
const BRIDGE: u8 = 6;

/// A function as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// Base class.
    pub class: u8,
    /// Its IOMMU group, and all others in it.
    pub group: Option<(u32, Vec<Neighbour>)>,
}

fn last_name(link: &Path) -> Option<String> {
    fs::read_link(link).ok()?.file_name()?.to_str().map(str::to_owned)
}

/// Looks at a function; none: there is no such one.
///
/// # Errors
/// sysfs cannot be read.
pub fn look(sysfs: &Path, address: PciAddress) -> io::Result<Option<Found>> {
    let devices = sysfs.join("bus/pci/devices");
    let directory = devices.join(address.to_string());
    let class = match fs::read_to_string(directory.join("class")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        class => class?,
    };
    let class = u32::from_str_radix(class.trim().trim_start_matches("0x"), 16).map_err(io::Error::other)?;
    let driver = last_name(&directory.join("driver"));
    let number = last_name(&directory.join("iommu_group")).and_then(|name| name.parse().ok());
    let group = number.map(|number| {
        let mut others = Vec::new();
        for entry in fs::read_dir(directory.join("iommu_group/devices"))? {
            let name = entry?.file_name();
            // What is not on the PCI bus is no function.
            let Some(other) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if other != address {
                let driver = last_name(&devices.join(name).join("driver"));
                others.push(Neighbour { address: other, driver });
            }
        }
        others.sort_by_key(|other| other.address);
        Ok::<_, io::Error>((number, others))
    });
    Ok(Some(Found { driver, class: (class >> 16) as u8, group: group.transpose()? }))
}

/// Everything because of which `addresses` cannot be given to a machine. Empty: they can.
#[must_use]
pub fn faults(sysfs: &Path, addresses: &[PciAddress]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut told = BTreeSet::new();
    for address in addresses {
        let mut fault = |why: String| faults.push(format!("devices.passthrough {address}: {why}"));
        let found = match look(sysfs, *address) {
            Ok(Some(found)) => found,
            Ok(None) => {
                fault("this host has no such PCI function".to_owned());
                continue;
            }
            Err(error) => {
                fault(format!("cannot look at it in {}: {error}", sysfs.display()));
                continue;
            }
        };
        if found.class == BRIDGE {
            fault("it is a bridge: only what is behind it can be given to a machine".to_owned());
            continue;
        }
        match found.driver.as_deref() {
            Some(VFIO_DRIVER) => {}
            Some(driver) => {
                fault(format!("it is bound to the driver {driver}, and must be to {VFIO_DRIVER}"))
            }
            None => fault(format!("it is bound to no driver, and must be to {VFIO_DRIVER}")),
        }
        match &found.group {
            None => fault(
                "it is in no IOMMU group, so that nothing would keep it from the host's memory: switch the IOMMU (VT-d, AMD-Vi) on in the host's firmware".to_owned(),
            ),
            // Said once for each group: functions of one would only name each other.
            Some((group, others)) if told.insert(*group) => {
                let others: Vec<_> =
                    others.iter().filter(|other| !addresses.contains(&other.address)).cloned().collect();
                group_obstacle(*group, &others).into_iter().for_each(fault);
            }
            Some(_) => {}
        }
    }
    faults
}
