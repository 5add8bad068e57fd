//! Functions of the host's PCI bus: taken from their drivers before a machine starts, and given back after it has ended.
//!
//! ```text
//!  its driver ── take: driver_override = vfio-pci, unbind, probe ─▶ vfio-pci ── give back: override off, unbind, probe ─▶ its driver
//! ```
//! Invariant: nothing is taken that the host needs by now, whatever was agreed before; what belongs to no machine that runs is given
//! back. What another than us bound to `vfio-pci` looks the same and is given back too: on this host there is nobody else.

use super::Error;
use crate::inventory::pci;
use lq_api::pci::{PciAddress, VFIO_DRIVER};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// The bus as the kernel shows it.
const BUS: &str = "/sys/bus/pci";

/// Takes functions for a machine.
///
/// # Errors
/// All because of which they cannot be given; what was taken is given back.
pub(super) async fn take(addresses: Vec<PciAddress>) -> Result<(), Error> {
    if addresses.is_empty() {
        return Ok(());
    }
    let taken = tokio::task::spawn_blocking(move || {
        let faults = faults(&pci::functions(), &addresses);
        if !faults.is_empty() {
            return Err(Error::Refused(faults.join("; ")));
        }
        let bus = Path::new(BUS);
        for (n, address) in addresses.iter().enumerate() {
            if let Err(source) = bind(bus, *address) {
                addresses.iter().take(n + 1).for_each(|address| release(bus, *address));
                let context = format!("taking the PCI function {address} from its driver");
                return Err(Error::Io { context, source });
            }
        }
        Ok(())
    });
    taken.await.map_err(|e| Error::Io {
        context: "taking functions of the host".into(),
        source: io::Error::other(e),
    })?
}

/// Gives functions back to their drivers. Whoever has them must have closed them.
pub(super) async fn give_back(addresses: Vec<PciAddress>) {
    if addresses.is_empty() {
        return;
    }
    let given = tokio::task::spawn_blocking(move || {
        addresses.into_iter().for_each(|address| release(Path::new(BUS), address));
    });
    if let Err(error) = given.await {
        tracing::warn!(%error, "functions of the host were not given back");
    }
}

/// Gives back all that no machine in `kept` has.
pub(super) async fn sweep(kept: &BTreeSet<PciAddress>) {
    let all = tokio::task::spawn_blocking(pci::functions).await.unwrap_or_default();
    let stray = all.iter().filter(|f| pci::is_given(f) && !kept.contains(&f.address));
    give_back(stray.map(|function| function.address).collect()).await;
}

/// Why functions cannot be given, as the host is now.
fn faults(all: &[lq_api::host::PciFunction], wanted: &[PciAddress]) -> Vec<String> {
    let fault = |address: &PciAddress| {
        let Some(function) = all.iter().find(|f| f.address == *address) else {
            return Some(format!("spec.passthrough {address}: this host has no such PCI function"));
        };
        if let Some(obstacle) = &function.obstacle {
            return Some(format!("spec.passthrough {address}: {obstacle}"));
        }
        let missing: Vec<_> = function.together_with.iter().filter(|other| !wanted.contains(other)).collect();
        (!missing.is_empty()).then(|| {
            let driver = |other: &PciAddress| {
                let found = all.iter().find(|f| f.address == *other).and_then(|f| f.driver.clone());
                format!("{other} (driver {})", found.as_deref().unwrap_or("none"))
            };
            let missing: Vec<_> = missing.into_iter().map(driver).collect();
            format!(
                "spec.passthrough {address}: its IOMMU group {} also holds {}, which the machine has to have too",
                function.iommu_group.map(|group| group.to_string()).unwrap_or_default(),
                missing.join(", ")
            )
        })
    };
    wanted.iter().filter_map(fault).collect()
}

fn device(bus: &Path, address: PciAddress) -> PathBuf {
    bus.join("devices").join(address.to_string())
}

fn driver(bus: &Path, address: PciAddress) -> Option<String> {
    fs::read_link(device(bus, address).join("driver")).ok()?.file_name()?.to_str().map(str::to_owned)
}

fn unbind(bus: &Path, address: PciAddress) -> io::Result<()> {
    match fs::write(device(bus, address).join("driver/unbind"), address.to_string()) {
        // It has none.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn bind(bus: &Path, address: PciAddress) -> io::Result<()> {
    fs::write(device(bus, address).join("driver_override"), VFIO_DRIVER)?;
    if driver(bus, address).as_deref() == Some(VFIO_DRIVER) {
        return Ok(());
    }
    unbind(bus, address)?;
    fs::write(bus.join("drivers_probe"), address.to_string())?;
    match driver(bus, address) {
        Some(driver) if driver == VFIO_DRIVER => Ok(()),
        other => Err(io::Error::other(format!(
            "it is bound to {} now, not to {VFIO_DRIVER}: that module is not loaded, or refuses the function (look at the kernel's messages)",
            other.as_deref().unwrap_or("no driver")
        ))),
    }
}

fn release(bus: &Path, address: PciAddress) {
    let back = || -> io::Result<()> {
        // A newline is the word for none.
        fs::write(device(bus, address).join("driver_override"), "\n")?;
        if driver(bus, address).as_deref() == Some(VFIO_DRIVER) {
            unbind(bus, address)?;
        }
        if driver(bus, address).is_none() {
            fs::write(bus.join("drivers_probe"), address.to_string())?;
        }
        Ok(())
    };
    if let Err(error) = back() {
        tracing::warn!(%address, %error, "the PCI function was not given back to its driver");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::host::PciFunction;

    #[test]
    fn what_the_host_needs_by_now_is_not_taken() {
        let function = |address: &str, together: &[&str], obstacle: Option<&str>| PciFunction {
            address: address.parse().unwrap(),
            name: String::new(),
            class: String::new(),
            vendor: String::new(),
            device: String::new(),
            driver: Some("igb".into()),
            iommu_group: Some(7),
            together_with: together.iter().map(|a| a.parse().unwrap()).collect(),
            obstacle: obstacle.map(str::to_owned),
        };
        let all = [
            function("03:00.0", &["03:00.1"], None),
            function("03:00.1", &["03:00.0"], None),
            function("04:00.0", &[], Some("the host itself needs it")),
        ];
        let faults =
            |wanted: &[&str]| faults(&all, &wanted.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(faults(&["03:00.0", "03:00.1"]), Vec::<String>::new());
        let all = faults(&["03:00.0", "04:00.0", "05:00.0"]);
        assert_eq!(all.len(), 3);
        assert!(all[0].contains("group 7 also holds 0000:03:00.1 (driver igb)"), "{all:?}");
        assert!(all[1].contains("0000:04:00.0: the host itself needs it"), "{all:?}");
        assert!(all[2].contains("no such PCI function"), "{all:?}");
    }

    #[test]
    fn a_function_that_does_not_come_is_told() {
        let bus = tempfile::tempdir().unwrap();
        let address = "0000:03:00.0".parse().unwrap();
        let device = device(bus.path(), address);
        fs::create_dir_all(&device).unwrap();
        // Nobody answers the probe, as where the module is missing.
        let error = bind(bus.path(), address).unwrap_err().to_string();
        assert!(error.contains("bound to no driver now, not to vfio-pci"), "{error}");
        assert_eq!(fs::read_to_string(device.join("driver_override")).unwrap(), "vfio-pci");
        assert_eq!(fs::read_to_string(bus.path().join("drivers_probe")).unwrap(), "0000:03:00.0");
        std::os::unix::fs::symlink("../../drivers/vfio-pci", device.join("driver")).unwrap();
        bind(bus.path(), address).unwrap();
    }

    /// `LQ_PCI_FUNCTION=0000:00:03.0`, as root on a computer with an IOMMU that can do without that function for a moment.
    #[tokio::test]
    #[ignore = "takes a function of this computer from its driver, and gives it back"]
    async fn a_function_of_this_computer_comes_and_goes() {
        let address: PciAddress = std::env::var("LQ_PCI_FUNCTION").unwrap().parse().unwrap();
        let bus = Path::new(BUS);
        let before = driver(bus, address);
        assert!(before.is_some() && before.as_deref() != Some(VFIO_DRIVER), "{before:?}");
        for function in pci::functions() {
            println!("{function:?}");
        }
        take(vec![address]).await.unwrap();
        assert_eq!(driver(bus, address).as_deref(), Some(VFIO_DRIVER));
        // As after a restart of the daemon: what a machine has stays its own, the rest goes back.
        sweep(&BTreeSet::from([address])).await;
        assert_eq!(driver(bus, address).as_deref(), Some(VFIO_DRIVER));
        sweep(&BTreeSet::new()).await;
        assert_eq!(driver(bus, address), before);
        // And what cannot be taken stays where it is.
        let bad = "0000:7f:1f.7".parse().unwrap();
        assert!(take(vec![address, bad]).await.unwrap_err().to_string().contains("no such PCI function"));
        assert_eq!(driver(bus, address), before);
    }
}
