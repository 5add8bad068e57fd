//! The simulated host and its networks.

use super::network::SimManagement;
use crate::{
    ha::Watchdog,
    inventory::{HostLoad, Measured},
    network::{Error, Fabric, WantedNetwork},
    reconcile::host::{HostControl, HostError, kernel_name},
    removable,
};
use async_trait::async_trait;
use lq_api::{
    Bytes, NetworkId, Timestamp,
    host::{BlockDevice, Cpu, DiskHealth, HostStatus, Interface, Memory, PciFunction, Virtualization},
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    network::{Dhcp, Lease},
    removable::RemovableDrive,
};
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Networks that are only remembered; ports get the addresses of their network's DHCP in turn.
#[derive(Default)]
pub struct SimFabric {
    wanted: Mutex<Vec<WantedNetwork>>,
}

#[async_trait]
impl Fabric for SimFabric {
    async fn apply(&self, wanted: &[WantedNetwork]) -> Result<(), Error> {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted.to_vec();
        Ok(())
    }

    fn bridge(&self, network: NetworkId) -> String {
        let id = network.0.simple().to_string();
        format!("sim{}", id.get(24..).unwrap_or_default())
    }

    async fn leases(&self) -> Vec<Lease> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let served = wanted.iter().filter_map(|n| Some((n.dhcp.as_ref()?, &n.ports)));
        served
            .flat_map(|(dhcp, ports)| {
                let range = u32::from(dhcp.first)..=u32::from(dhcp.last);
                range.zip(ports).map(|(address, port)| Lease {
                    mac: port.mac,
                    address: address.into(),
                    hostname: None,
                })
            })
            .collect()
    }
}

/// Functions of a bus that does not exist: the host's own interface, a card of two functions, and one that cannot be given.
fn functions() -> Vec<PciFunction> {
    let all = [
        ("01:00.0", "Ethernet controller", "020000", "1521", "igb", 1, ""),
        ("02:00.0", "display controller", "030000", "56a0", "", 2, "02:00.1"),
        ("02:00.1", "multimedia device", "040300", "4f90", "", 2, "02:00.0"),
        ("03:00.0", "NVMe controller", "010802", "0a54", "nvme", 3, ""),
        ("04:00.0", "Ethernet controller", "020000", "1572", "i40e", 4, ""),
    ];
    let function =
        |(address, name, class, device, driver, group, with): (&str, &str, &str, &str, &str, u32, &str)| {
            let host_needs = "the host itself needs it: its network interface sim0 is in use";
            Some(PciFunction {
                address: address.parse().ok()?,
                name: name.into(),
                class: class.into(),
                vendor: "8086".into(),
                device: device.into(),
                driver: Some(driver.to_owned()).filter(|driver| !driver.is_empty()),
                iommu_group: Some(group),
                together_with: with.parse().into_iter().collect(),
                obstacle: (group == 1).then(|| host_needs.into()),
            })
        };
    all.into_iter().filter_map(function).collect()
}

/// A host that does not exist. Every start of the daemon is a boot of it: nothing ran before.
pub struct SimHost {
    boot: Uuid,
    booted_at: Timestamp,
    end: CancellationToken,
    network: SimManagement,
}

impl SimHost {
    /// Asked to switch off or restart, it begins `end`.
    #[must_use]
    pub fn new(end: CancellationToken) -> Self {
        Self { boot: Uuid::new_v4(), booted_at: Timestamp::now(), end, network: SimManagement::default() }
    }
}

#[async_trait]
impl HostControl for SimHost {
    fn name(&self) -> String {
        kernel_name()
    }
    fn boot(&self) -> Uuid {
        self.boot
    }
    fn keeps(&self) -> bool {
        true
    }
    fn guest_dhcp(&self) -> Option<Dhcp> {
        Some(Dhcp {
            subnet: "192.0.2.0/24".into(),
            first: [192, 0, 2, 100].into(),
            last: [192, 0, 2, 199].into(),
            gateway: Some([192, 0, 2, 1].into()),
            dns: vec![[192, 0, 2, 1].into()],
            lease_seconds: 3600,
        })
    }
    fn status(&self) -> HostStatus {
        HostStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: "simulated".into(),
            booted_at: self.booted_at,
            boot: "simulated".into(),
            cpu: Cpu {
                model: "Simulated processor".into(),
                threads: 8,
                cores: 4,
                sockets: 1,
                lacks: vec![],
                usage: 0.1,
            },
            memory: Memory { total_bytes: Bytes::gib(32), available_bytes: Bytes::gib(24) },
            virtualization: Virtualization { available: true, reason: None },
            interfaces: vec![Interface {
                name: "sim0".into(),
                mac: "52:54:00:00:00:01".into(),
                up: true,
                addresses: vec!["192.0.2.2/24".into()],
            }],
            disks: vec![BlockDevice {
                name: "simdisk".into(),
                size_bytes: Bytes::gib(500),
                model: Some("Simulated disk".into()),
                serial: Some("SIM-0001".into()),
                health: None,
            }],
            pci: functions(),
            simulated: true,
            certificate: None,
            warnings: vec!["This host is simulated: its machines only pretend to run.".into()],
        }
    }
    fn load(&self) -> HostLoad {
        // Waves of different lengths, so that charts of a simulated host show something.
        let seconds = Timestamp::now().duration_since(self.booted_at).as_secs_f64();
        let wave = |length: f64| (seconds / length).sin().mul_add(0.5, 0.5);
        HostLoad {
            cpu: Measured::Level(wave(60.0) * 0.6),
            memory_used: Measured::Level(Bytes::gib(8).0 as f64 * (1.0 + wave(300.0) * 0.2)),
            received: Measured::Counter(seconds * 2e6),
            sent: Measured::Counter(seconds * 1e6),
            read: Measured::Counter(seconds * 5e6),
            written: Measured::Counter(seconds * 3e6),
        }
    }
    fn disk_health(&self) -> Vec<(String, DiskHealth)> {
        vec![("simdisk".into(), DiskHealth::Healthy)]
    }
    fn clock_is_set(&self) -> Option<bool> {
        Some(true)
    }
    fn watchdog(&self) -> Watchdog {
        Watchdog::Simulated
    }
    async fn watch(&self, _closely: bool) -> Result<(), HostError> {
        Ok(())
    }
    async fn power(&self, reboot: bool, reason: String) -> Result<(), HostError> {
        tracing::warn!(reboot, reason, "a simulated host ends with its daemon");
        self.end.cancel();
        Ok(())
    }
    async fn network(&self) -> Result<ManagementNetwork, HostError> {
        Ok(self.network.state())
    }
    async fn try_network(&self, wanted: TryNetwork) -> Result<(), HostError> {
        self.network.try_out(wanted)
    }
    async fn keep_network(&self) -> Result<(), HostError> {
        self.network.keep()
    }
    async fn revert_network(&self) -> Result<(), HostError> {
        self.network.revert();
        Ok(())
    }
    fn test_network(&self) -> NetworkTest {
        self.network.test()
    }
    async fn factory_reset(&self, _data: bool) -> Result<(), HostError> {
        Err(HostError::Refused("a simulated host keeps nothing of its own: remove its directory".into()))
    }
    fn removable(&self) -> Result<Vec<RemovableDrive>, removable::Error> {
        let drive = |device: &str, file_system: Option<&str>, unfit: Option<&str>| RemovableDrive {
            device: device.into(),
            size_bytes: Bytes::gib(4),
            model: Some("Simulated Stick".into()),
            file_system: file_system.map(str::to_owned),
            label: file_system.map(|_| "STICK".into()),
            unfit: unfit.map(str::to_owned),
        };
        Ok(vec![drive("sdy1", None, Some("is write-protected")), drive("sdz1", Some("FAT"), None)])
    }
    /// What is written is gone.
    fn write_removable(&self, device: &str, _name: &str, _content: &[u8]) -> Result<(), removable::Error> {
        let device = device.to_owned();
        match self.removable()?.into_iter().find(|d| d.device == device) {
            None => Err(removable::Error::NoSuch { device, there: "there are sdy1, sdz1".into() }),
            Some(RemovableDrive { unfit: Some(why), .. }) => Err(removable::Error::Unfit { device, why }),
            Some(_) => Ok(()),
        }
    }
}
