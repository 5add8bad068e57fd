//! What a machine needs to know that runs on QEMU (`lq-vmm qemu`).

use serde::{Deserialize, Serialize};

/// The program that runs a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Hypervisor {
    /// Our own monitor: everything the product does.
    #[default]
    LqVmm,
    /// QEMU: for guests that need a legacy BIOS or devices of old machines. It does less; what it does not is refused by name.
    Qemu,
}

impl Hypervisor {
    /// Our own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::LqVmm
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LqVmm => "lq-vmm",
            Self::Qemu => "qemu",
        }
    }
}

/// The board of a machine on QEMU, with the version whose behaviour it keeps whatever QEMU it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MachineType {
    /// PCI Express, SATA: of 2009.
    #[serde(rename = "pc-q35-7.2")]
    Q35V7_2,
    /// PCI, IDE: of 1996.
    #[serde(rename = "pc-i440fx-7.2")]
    I440fxV7_2,
}

impl MachineType {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Q35V7_2, Self::I440fxV7_2];

    /// As QEMU and we write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q35V7_2 => "pc-q35-7.2",
            Self::I440fxV7_2 => "pc-i440fx-7.2",
        }
    }

    /// Places for disks and CD drives on its own controller.
    #[must_use]
    pub const fn drives(self) -> usize {
        match self {
            Self::Q35V7_2 => 6,
            Self::I440fxV7_2 => 4,
        }
    }
}

/// What disks and interfaces look like to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceModel {
    /// Made for virtual machines, and fast; the guest needs drivers for them.
    #[default]
    Virtio,
    /// Those of old machines, for guests without such drivers: disks on the board's own controller (SATA or IDE), interfaces
    /// as Intel 82540EM (e1000).
    Legacy,
}

impl DeviceModel {
    /// Virtio.
    #[must_use]
    pub fn is_virtio(&self) -> bool {
        *self == Self::Virtio
    }
}

/// How QEMU runs a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuConfig {
    /// Its board.
    pub machine: MachineType,
    /// What its disks and interfaces look like.
    #[serde(default)]
    pub devices: DeviceModel,
}
