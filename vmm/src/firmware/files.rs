//! What the firmware is told: the items and files of fw_cfg.

use super::{
    Machine,
    fw_cfg::{self, FwCfg, Late},
    loader,
};
use crate::{
    display::ramfb,
    memory::{self, Memory},
    smbios,
};

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// The device with everything in it. `generation` is the page with the generation id, `tables` makes the files of [`loader::FILES`].
///
/// # Errors
/// See [`fw_cfg::Error`].
pub fn fw_cfg(
    machine: &Machine,
    guest: Memory,
    generation: Vec<u8>,
    tables: Late,
) -> Result<FwCfg, fw_cfg::Error> {
    let mut device = FwCfg::new(guest.clone());
    if let Some(screen) = machine.screen.clone() {
        let watch = move |file: &[u8]| screen.set(ramfb::Surface::parse(file, &guest));
        device.add_watched(ramfb::FILE, ramfb::SIZE, Box::new(watch))?;
    }
    device.add(fw_cfg::UUID, machine.identity.vm.0.as_bytes().to_vec());
    device.add(fw_cfg::RAM, machine.ram.to_le_bytes().to_vec());
    let present = machine.told.cpus.as_ref().map(|cpus| cpus.present().count_ones() as u16);
    device.add(fw_cfg::VCPUS, present.unwrap_or(machine.vcpus.into()).to_le_bytes().to_vec());
    device.add(fw_cfg::MAX_VCPUS, u16::from(machine.vcpus).to_le_bytes().to_vec());
    device.add_file("etc/e820", e820(machine.ram))?;
    let pluggable = memory::pluggable(machine.ram, machine.told.pluggable);
    if !pluggable.is_empty() {
        // Firmware puts nothing below.
        device.add_file("etc/reserved-memory-end", pluggable.end.to_le_bytes().to_vec())?;
    }
    device.add_file(loader::GENERATION_FILE, generation)?;
    device.add_writable(loader::GENERATION_ADDRESS_FILE, vec![0; 8])?;
    let described = smbios::Tables::new(&machine.identity, machine.vcpus, machine.ram);
    device.add_file("etc/smbios/smbios-anchor", described.entry_point(0).to_vec())?;
    device.add_file("etc/smbios/smbios-tables", described.table)?;
    if !machine.boot_order.is_empty() {
        device.add_file("bootorder", boot_order(&machine.boot_order))?;
    }
    device.with_late(&loader::FILES, tables)?;
    Ok(device)
}

/// RAM, and what KVM keeps for itself: base, length, kind.
fn e820(ram: u64) -> Vec<u8> {
    let mut ranges: Vec<_> =
        memory::ram(ram).into_iter().map(|(base, size)| (base, size, E820_RAM)).collect();
    ranges.push((memory::KVM_IDENTITY_MAP, memory::KVM_PAGES, E820_RESERVED));
    let bytes = |(base, size, kind): (u64, u64, u32)| {
        let mut entry = base.to_le_bytes().to_vec();
        entry.extend(size.to_le_bytes());
        entry.extend(kind.to_le_bytes());
        entry
    };
    ranges.into_iter().flat_map(bytes).collect()
}

/// One path a line, with a zero at the end.
fn boot_order(paths: &[String]) -> Vec<u8> {
    let mut text = paths.join("\n").into_bytes();
    text.push(0);
    text
}

/// The OpenFirmware path of a virtio disk in `slot` of bus 0.
#[must_use]
pub fn disk_path(slot: usize) -> String {
    format!("/pci@i0cf8/scsi@{slot:x}/disk@0,0")
}

/// The OpenFirmware path of a CD drive on a virtio SCSI host in `slot` of bus 0.
#[must_use]
pub fn cdrom_path(slot: usize, target: usize) -> String {
    format!("/pci@i0cf8/scsi@{slot:x}/channel@0/disk@{target:x},0")
}

/// The OpenFirmware path of a virtio interface in `slot` of bus 0.
#[must_use]
pub fn nic_path(slot: usize) -> String {
    format!("/pci@i0cf8/ethernet@{slot:x}/ethernet-phy@0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_to_the_byte() {
        let map = e820(5 << 30);
        assert_eq!(map.len(), 3 * 20);
        let ram: u64 = map
            .chunks(20)
            .filter(|e| e[16] == 1)
            .map(|e| u64::from_le_bytes(e[8..16].try_into().unwrap()))
            .sum();
        assert_eq!(ram, 5 << 30);
    }

    #[test]
    fn the_boot_order_is_lines_with_a_zero_at_the_end() {
        let order = boot_order(&[disk_path(1), nic_path(17)]);
        assert_eq!(order, b"/pci@i0cf8/scsi@1/disk@0,0\n/pci@i0cf8/ethernet@11/ethernet-phy@0\0");
    }
}
