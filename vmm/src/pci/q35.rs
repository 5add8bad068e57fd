//! The two functions stock firmware for Q35 looks for: host bridge 00:00.0 and LPC bridge 00:1f.0.
//!
//! Registers keep what is written; two of them do something: PCIEXBAR moves the ECAM, and the ACPI registers of the LPC
//! bridge always decode at [`PM_BASE`], which is where stock firmware puts them. The shadow RAM registers (PAM) do
//! nothing: there is RAM below 1 MiB. Intel 3 Series Express Chipset datasheet 5.1, ICH9 datasheet 13.1.

use super::config::{ConfigSpace, Identity};
use std::ops::Range;

const INTEL: u16 = 0x8086;
/// Device number of the LPC bridge.
pub const LPC_SLOT: usize = 31;
/// Port of the ACPI registers.
pub const PM_BASE: u16 = 0x600;

const PCIEXBAR: u16 = 0x60;
const PCIEXBAR_ENABLE: u32 = 1;
/// 256, 128 and 64 MiB of ECAM, by bits 1 and 2.
const PCIEXBAR_SIZES: [u64; 3] = [256 << 20, 128 << 20, 64 << 20];

/// The host bridge (memory controller).
pub fn host_bridge() -> ConfigSpace {
    let class = [6, 0, 0];
    let mut config =
        ConfigSpace::new(Identity { vendor: INTEL, device: 0x29c0, class, ..Identity::default() });
    // PCIEXBAR, shadow RAM, SMRAM.
    config.set_writable(PCIEXBAR, &[0x07, 0, 0, 0xfc, 0x0f, 0, 0, 0]);
    config.set_writable(0x90, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]);
    config.set_writable(0x9d, &[0x70, 0x07]);
    config
}

/// The LPC bridge. To a driver it is an ISA bridge, behind which are the old devices.
pub fn lpc_bridge() -> ConfigSpace {
    let class = [6, 1, 0];
    let identity = Identity { vendor: INTEL, device: 0x2918, revision: 2, class, ..Identity::default() };
    let mut config = ConfigSpace::new(identity);
    // Always decodes I/O and memory and is bus master: firmware looks for consoles behind it only then.
    config.set_writable(4, &[0; 2]);
    config.set_initial(4, &[7]);
    // Bit 0 says "an I/O address".
    config.set_initial(0x40, &[1]);
    config.set_writable(0x40, &[0x80, 0xff]);
    // ACPI control; routing of PIRQ A to D and E to H (off at power-on); RCBA.
    config.set_writable(0x44, &[0x87]);
    config.set_initial(0x60, &[0x80; 4]);
    config.set_writable(0x60, &[0x8f; 4]);
    config.set_initial(0x68, &[0x80; 4]);
    config.set_writable(0x68, &[0x8f; 4]);
    config.set_writable(0xf0, &[1, 0xc0, 0xff, 0xff]);
    config
}

/// Where the host bridge's registers put the ECAM; empty: nowhere.
pub fn ecam(host_bridge: &ConfigSpace) -> Range<u64> {
    let low = host_bridge.read_u32(PCIEXBAR);
    let size = PCIEXBAR_SIZES.get((low >> 1 & 3) as usize).copied();
    let (Some(size), true) = (size, low & PCIEXBAR_ENABLE != 0) else { return 0..0 };
    let base = u64::from(host_bridge.read_u32(PCIEXBAR + 4)) << 32 | u64::from(low);
    let base = base & !(size - 1);
    base..base + size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ecam_follows_its_register() {
        let mut bridge = host_bridge();
        assert_eq!(ecam(&bridge), 0..0);
        bridge.write(PCIEXBAR + 4, &[0; 4]);
        bridge.write(PCIEXBAR, &0xb000_0001_u32.to_le_bytes());
        assert_eq!(ecam(&bridge), 0xb000_0000..0xc000_0000);
        bridge.write(PCIEXBAR, &0xe400_0005_u32.to_le_bytes());
        assert_eq!(ecam(&bridge), 0xe400_0000..0xe800_0000);
        bridge.write(PCIEXBAR, &[0xff; 8]);
        assert_eq!(ecam(&bridge), 0..0, "a reserved size");
        bridge.reset();
        assert_eq!(ecam(&bridge), 0..0);
    }

    #[test]
    fn firmware_finds_what_it_programs() {
        let mut lpc = lpc_bridge();
        assert_eq!(lpc.read_u32(0), 0x2918_8086);
        assert_eq!(lpc.read_u32(8) >> 8, 0x06_01_00);
        lpc.write(4, &[0; 2]);
        assert_eq!(lpc.read_u16(4), 7);
        lpc.write(0x40, &u32::from(PM_BASE).to_le_bytes());
        assert_eq!(lpc.read_u32(0x40), u32::from(PM_BASE) | 1);
        lpc.write(0x44, &[0x80]);
        assert_eq!(lpc.read_u32(0x44), 0x80);
        lpc.write(0xf0, &0xfed1_c001_u32.to_le_bytes());
        assert_eq!(lpc.read_u32(0xf0), 0xfed1_c001);
    }
}
