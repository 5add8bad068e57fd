use super::*;
use proptest::prelude::*;
use std::sync::{Arc, Mutex as StdMutex};

type Moves = Arc<StdMutex<Vec<Option<u64>>>>;

struct Fake {
    config: ConfigSpace,
    moves: Moves,
    register: u8,
}

impl Fake {
    fn on(root: &PciRoot, size: u64) -> Moves {
        let moves = Moves::default();
        let mut config = ConfigSpace::new(Identity { vendor: 0x1af4, device: 0x1044, ..Identity::default() });
        config.add_bar(BarRequest::wide(0, size)).unwrap();
        let device = Self { config, moves: Arc::clone(&moves), register: 0 };
        root.place(Box::new(device), Placement { slot: None, removable: true }).unwrap();
        moves
    }
}

impl PciDevice for Fake {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }
    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect {
        self.config.write(offset, data)
    }
    fn bars(&self) -> Vec<BarRequest> {
        self.config.bars().to_vec()
    }
    fn bar_moved(&mut self, _: u8, base: Option<u64>) -> io::Result<()> {
        self.moves.lock().unwrap().push(base);
        Ok(())
    }
    fn bar_read(&mut self, _: u8, offset: u64, data: &mut [u8]) {
        data.fill(self.register.wrapping_add(offset as u8));
    }
    fn bar_write(&mut self, _: u8, _: u64, data: &[u8]) {
        self.register = data.first().copied().unwrap_or(0);
    }
    fn pause(&mut self) {}
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn resume(&mut self) {}
    fn describe(&self) -> Device {
        Device { kind: "fake".into(), ..Device::default() }
    }
    fn save(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        state.put(
            slot,
            &SavedRoot { address: self.register.into(), bridge: self.config.bytes().to_vec(), lpc: None },
        )
    }
    fn load(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error> {
        let saved: SavedRoot = state.take(slot)?;
        self.register = saved.address as u8;
        self.config.load(&saved.bridge).map_err(state::Error::Unsettled)
    }
    fn reset(&mut self) {
        self.config.reset();
        self.register = 0;
    }
}

fn read32(root: &PciRoot, address: u64) -> u32 {
    let mut data = [0; 4];
    assert!(root.memory_read(address, &mut data));
    u32::from_le_bytes(data)
}

#[test]
fn both_ways_into_configuration_space_agree() {
    let root = PciRoot::new(512 << 20);
    Fake::on(&root, 0x1000);
    assert_eq!(read32(&root, memory::ECAM + (1 << 15)), 0x1044_1af4);
    assert_eq!(read32(&root, memory::ECAM + (2 << 15)), u32::MAX);
    assert_eq!(read32(&root, memory::ECAM), 0x0008_1b36);
    root.port_write(0xcf8, &0x8000_0800_u32.to_le_bytes());
    let mut data = [0; 2];
    root.port_read(0xcfe, &mut data);
    assert_eq!(u16::from_le_bytes(data), 0x1044);
    root.port_write(0xcf8, &0x0000_0800_u32.to_le_bytes());
    root.port_read(0xcfc, &mut data);
    assert_eq!(data, [0xff; 2]);
}

#[test]
fn a_bar_is_decoded_where_the_guest_puts_it_and_only_there() {
    let root = PciRoot::new(512 << 20);
    let moves = Fake::on(&root, 0x1000);
    root.assign().unwrap();
    assert_eq!(*moves.lock().unwrap(), [Some(memory::PCI32)]);
    assert!(root.memory_write(memory::PCI32, &[7]));
    let bar = memory::ECAM + (1 << 15) + 0x10;
    // Sizing leaves it decoded nowhere, a new address there.
    assert!(root.memory_write(bar, &[0xff; 4]));
    assert!(!root.memory_write(memory::PCI32, &[8]));
    assert!(root.memory_write(bar, &0xc123_4000_u32.to_le_bytes()));
    let mut data = [0];
    assert!(root.memory_read(0xc123_4002, &mut data));
    assert_eq!(data, [9]);
    assert!(!root.memory_read(0xc123_5000, &mut data));
    // Onto RAM: nowhere.
    assert!(root.memory_write(bar, &0x10_0000_u32.to_le_bytes()));
    assert!(!root.memory_read(0x10_0000, &mut data));
    assert_eq!(*moves.lock().unwrap(), [Some(memory::PCI32), None, Some(0xc123_4000), None]);
    root.reset().unwrap();
    assert!(root.memory_read(memory::PCI32, &mut data));
    assert_eq!(data, [0]);
}

#[test]
fn bars_on_top_of_each_other_do_not_both_decode() {
    let root = PciRoot::new(512 << 20);
    Fake::on(&root, 0x4000);
    let second = Fake::on(&root, 0x1000);
    root.assign().unwrap();
    let bar = memory::ECAM + (2 << 15) + 0x10;
    assert!(root.memory_write(bar, &(memory::PCI32 as u32 + 0x2000).to_le_bytes()));
    assert_eq!(second.lock().unwrap().last(), Some(&None));
}

#[test]
fn the_bus_has_room_for_31_devices() {
    let root = PciRoot::new(512 << 20);
    for _ in 0..MAX_DEVICES {
        Fake::on(&root, 0x1000);
    }
    let config = ConfigSpace::new(Identity::default());
    let one_more = Fake { config, moves: Moves::default(), register: 0 };
    assert!(matches!(root.place(Box::new(one_more), Placement::default()), Err(Error::Full)));
}

proptest! {
    #[test]
    fn any_access_is_answered(
        accesses in prop::collection::vec((any::<bool>(), 0_u64..0x20_0000, any::<u16>(), any::<u32>(), 0_usize..9), 0..60),
    ) {
        let root = PciRoot::new(512 << 20);
        Fake::on(&root, 0x1000);
        Fake::on(&root, 0x20_0000);
        root.assign().unwrap();
        for (write, near, port, value, length) in accesses {
            let mut data = u64::from(value).to_le_bytes();
            let data = &mut data[..length.min(8)];
            for address in [memory::ECAM + near, memory::PCI32 + near] {
                if write { root.memory_write(address, data) } else { root.memory_read(address, data) };
            }
            let port = PORT_ADDRESS + port % 8;
            if write { root.port_write(port, data) } else { root.port_read(port, data) };
        }
    }
}

#[test]
fn firmware_moves_the_ecam_and_places_bars_itself() {
    let root = PciRoot::by_firmware(4 << 30, 40);
    let moves = Fake::on(&root, 0x4000);
    root.assign().unwrap();
    assert!(moves.lock().unwrap().is_empty(), "nothing is assigned at power-on");
    let port = |register: u32| {
        root.port_write(0xcf8, &(0x8000_0000 | register).to_le_bytes());
        let mut data = [0; 4];
        root.port_read(0xcfc, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!((port(0), port(31 << 11)), (0x29c0_8086, 0x2918_8086));
    let mut data = [0; 4];
    assert!(!root.memory_read(0xb000_0000, &mut data));
    port(0x60);
    root.port_write(0xcfc, &0xb000_0001_u32.to_le_bytes());
    assert_eq!(read32(&root, 0xb000_0000), 0x29c0_8086);
    assert_eq!(read32(&root, 0xb000_0000 + (1 << 20)), u32::MAX, "there is no bus 1");
    let device = 0xb000_0000 + (1 << 15);
    for base in [0x8000_0000_u64, 0xf0_0000_0000] {
        root.memory_write(device + 0x10, &(base as u32).to_le_bytes());
        root.memory_write(device + 0x14, &((base >> 32) as u32).to_le_bytes());
        root.memory_write(device + 4, &[2]);
        assert_eq!(moves.lock().unwrap().pop(), Some(Some(base)));
        root.memory_write(device + 4, &[0]);
    }
    root.reset().unwrap();
    assert!(!root.memory_read(0xb000_0000, &mut data));
}
