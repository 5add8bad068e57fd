//! The function on the bus, in front of a fake of what the host gives.

use super::{
    Backend, Function, Place, Signal, Windows, host,
    layout::{Layout, Region},
    space::tests::{EXPRESS_BODY, MSI_BODY, MSIX_BODY, SIZES, found, usual},
};
use crate::{
    memory,
    pci::{
        MsiVectors, PciDevice, Platform,
        root::{PciRoot, Placement},
    },
    state::State,
};
use lq_api::pci::PciAddress;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Mutex},
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What was asked of the host.
#[derive(Debug, Default)]
struct Host {
    config: Vec<u8>,
    bar: BTreeMap<u64, u8>,
    /// By kind: which vectors signal.
    connected: BTreeMap<u8, Vec<bool>>,
    resets: u32,
    /// Areas of BARs, by their numbers.
    shown: BTreeMap<usize, u64>,
    routes: BTreeMap<u16, (u64, u32)>,
    refuses: bool,
}

type Shared = Arc<Mutex<Host>>;

struct Fake(Shared);
struct FakeWindows(Shared);
struct FakePlatform(Shared);
struct FakeVectors(Shared, Vec<EventFd>);

impl Backend for Fake {
    fn region(&self, place: Place) -> Region {
        match place {
            Place::Config => Region { size: self.0.lock().unwrap().config.len() as u64, areas: Vec::new() },
            Place::Bar(bar) => Region::mappable(SIZES[usize::from(bar)]),
        }
    }
    fn read(&self, place: Place, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let host = self.0.lock().unwrap();
        for (at, byte) in (offset..).zip(data) {
            *byte = match place {
                Place::Config => *host.config.get(at as usize).ok_or(io::ErrorKind::InvalidInput)?,
                Place::Bar(_) => host.bar.get(&at).copied().unwrap_or(0x5a),
            };
        }
        Ok(())
    }
    fn write(&self, place: Place, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut host = self.0.lock().unwrap();
        for (at, byte) in (offset..).zip(data) {
            match place {
                Place::Config => host.config[at as usize] = *byte,
                Place::Bar(_) => drop(host.bar.insert(at, *byte)),
            }
        }
        Ok(())
    }
    fn connect(&self, signal: Signal, first: u16, events: &[Option<&EventFd>]) -> io::Result<()> {
        let mut host = self.0.lock().unwrap();
        if host.refuses {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let events: Vec<_> = events.iter().map(Option::is_some).collect();
        match host.connected.get_mut(&(signal as u8)) {
            Some(connected) => {
                let first = usize::from(first);
                connected[first..first + events.len()].copy_from_slice(&events);
            }
            None => {
                assert_eq!(first, 0, "the first call says how many there are");
                assert!(host.connected.is_empty(), "one kind at a time");
                host.connected.insert(signal as u8, events);
            }
        }
        Ok(())
    }
    fn disconnect(&self, signal: Signal) -> io::Result<()> {
        assert!(self.0.lock().unwrap().connected.remove(&(signal as u8)).is_some());
        Ok(())
    }
    fn resets(&self) -> bool {
        true
    }
    fn reset(&self) -> io::Result<()> {
        let mut host = self.0.lock().unwrap();
        assert!(host.connected.is_empty(), "a reset forgets interrupts");
        assert_eq!(host.config[4] & 4, 0, "it writes to no memory by then");
        host.resets += 1;
        Ok(())
    }
}

impl Windows for FakeWindows {
    fn show(&mut self, index: usize, base: u64) -> io::Result<()> {
        assert_eq!(self.0.lock().unwrap().shown.insert(index, base), None);
        Ok(())
    }
    fn hide(&mut self, index: usize) -> io::Result<()> {
        assert!(self.0.lock().unwrap().shown.remove(&index).is_some());
        Ok(())
    }
}

impl Platform for FakePlatform {
    fn attach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn detach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>> {
        let events = (0..vectors).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        Ok(Arc::new(FakeVectors(Arc::clone(&self.0), events)))
    }
}

impl MsiVectors for FakeVectors {
    fn route(&self, vector: u16, address: u64, data: u32) -> io::Result<()> {
        self.0.lock().unwrap().routes.insert(vector, (address, data));
        Ok(())
    }
    fn unroute(&self, vector: u16) -> io::Result<()> {
        self.0.lock().unwrap().routes.remove(&vector);
        Ok(())
    }
    fn event(&self, vector: u16) -> Option<&EventFd> {
        self.1.get(usize::from(vector))
    }
}

fn address() -> PciAddress {
    "0000:03:00.0".parse().unwrap()
}

fn function(config: Vec<u8>) -> (Function, Shared) {
    let host = Shared::default();
    host.lock().unwrap().config = config;
    let fake = Fake(Arc::clone(&host));
    let layout = Layout::read(&fake).unwrap();
    let windows = Box::new(FakeWindows(Arc::clone(&host)));
    let platform = FakePlatform(Arc::clone(&host));
    (Function::new(address(), Box::new(fake), layout, windows, &platform).unwrap(), host)
}

fn write(function: &mut Function, offset: u16, value: u32) {
    let _ = function.config_write(offset, &value.to_le_bytes());
}

fn open_vector(function: &mut Function, vector: u64) {
    function.bar_write(0, 0x2000 + vector * 16, &0xfee0_1000_u64.to_le_bytes());
    function.bar_write(0, 0x2000 + vector * 16 + 8, &(0x40 + vector).to_le_bytes()[..4]);
    function.bar_write(0, 0x2000 + vector * 16 + 12, &[0; 4]);
}

#[test]
fn msi_x_vectors_are_connected_while_they_are_open() {
    let (mut function, host) = function(usual());
    open_vector(&mut function, 1);
    assert!(host.lock().unwrap().connected.is_empty(), "not before MSI-X is on");
    let _ = function.config_write(0xa2, &[4, 0x80]);
    let msix = Signal::MsiX as u8;
    assert_eq!(host.lock().unwrap().connected[&msix], [false, true, false, false, false]);
    assert_eq!(host.lock().unwrap().routes[&1], (0xfee0_1000, 0x41));
    open_vector(&mut function, 4);
    function.bar_write(0, 0x201c, &[1, 0, 0, 0]);
    assert_eq!(host.lock().unwrap().connected[&msix], [false, false, false, false, true]);
    let _ = function.config_write(0xa2, &[4, 0xc0]);
    assert_eq!(host.lock().unwrap().connected[&msix], [false; 5], "all are masked");
    let _ = function.config_write(0xa2, &[4, 0]);
    assert!(host.lock().unwrap().connected.is_empty());
    let mut data = [0; 4];
    function.bar_read(0, 0x2048, &mut data);
    assert_eq!(u32::from_le_bytes(data), 0x44, "the table is ours");
    function.bar_read(0, 0x3000, &mut data);
    assert_eq!(data, [0x5a; 4], "the pending bits are its own");
    assert!(host.lock().unwrap().bar.is_empty(), "nothing of the table went through");
}

#[test]
fn a_host_without_interrupts_is_asked_again() {
    let (mut function, host) = function(usual());
    host.lock().unwrap().refuses = true;
    open_vector(&mut function, 0);
    let _ = function.config_write(0xa2, &[4, 0x80]);
    assert!(host.lock().unwrap().connected.is_empty());
    host.lock().unwrap().refuses = false;
    open_vector(&mut function, 2);
    assert_eq!(host.lock().unwrap().connected[&(Signal::MsiX as u8)], [true, false, true, false, false]);
}

#[test]
fn msi_follows_the_guest() {
    let (mut function, host) = function(usual());
    write(&mut function, 0xd4, 0xfee0_2000);
    write(&mut function, 0xdc, 0x0071);
    let _ = function.config_write(0xd2, &[0x11, 0]);
    let msi = Signal::Msi as u8;
    assert_eq!(host.lock().unwrap().connected[&msi], [true, true]);
    assert_eq!(host.lock().unwrap().routes[&0], (0xfee0_2000, 0x70), "the lowest bits say which");
    assert_eq!(host.lock().unwrap().routes[&1], (0xfee0_2000, 0x71));
    write(&mut function, 0xdc, 0x0080);
    assert_eq!(host.lock().unwrap().routes[&1], (0xfee0_2000, 0x81), "moved without a gap");
    // A driver may go from one kind to the other in any order.
    let _ = function.config_write(0xd2, &[0x10, 0]);
    open_vector(&mut function, 0);
    let _ = function.config_write(0xa2, &[4, 0x80]);
    let kinds: Vec<_> = host.lock().unwrap().connected.keys().copied().collect();
    assert_eq!(kinds, [Signal::MsiX as u8]);
}

#[test]
fn a_function_writes_to_memory_on_the_guests_word_until_reset() {
    let (mut function, host) = function(usual());
    assert_eq!(host.lock().unwrap().config[4..6], [2, 4], "awake, silent, no line");
    let _ = function.config_write(4, &[6, 0]);
    assert_eq!(host.lock().unwrap().config[4..6], [6, 4]);
    let _ = function.config_write(4, &[4, 0]);
    assert_eq!(
        host.lock().unwrap().config[4] & 2,
        2,
        "its memory stays decoded: the guest may have it mapped"
    );
    open_vector(&mut function, 0);
    let _ = function.config_write(0xa2, &[4, 0x80]);
    function.reset();
    assert_eq!(host.lock().unwrap().config[4..6], [2, 4]);
    assert_eq!(host.lock().unwrap().resets, 1);
    // The guest's own way.
    let _ = function.config_write(4, &[6, 0]);
    let _ = function.config_write(0x68, &[0x10, 0xa8]);
    assert_eq!(host.lock().unwrap().resets, 2);
    let mut command = [0; 2];
    function.config_read(4, &mut command);
    assert_eq!(command, [0, 0]);
}

#[test]
fn bars_are_shown_where_the_guest_puts_them() {
    let root = PciRoot::new(512 << 20);
    let (function, host) = function(usual());
    let placement = Placement::default();
    root.place(Box::new(function), placement).unwrap();
    root.assign().unwrap();
    // 0..0x2000 of BAR 0 and all of BAR 3: the table and the pending bits lie between.
    let shown = host.lock().unwrap().shown.clone();
    assert_eq!(shown.len(), 2);
    assert!(shown.values().all(|base| (memory::PCI32..memory::PCI32_END).contains(base)));
    let bar = memory::ECAM + (1 << 15) + 0x10;
    root.memory_write(bar, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(host.lock().unwrap().shown[&0], 0xd000_0000);
    assert_eq!(host.lock().unwrap().shown[&1], shown[&1], "the other one stays");
    let mut data = [0; 4];
    assert!(root.memory_read(0xd000_3004, &mut data));
    assert_eq!(data, [0x5a; 4]);
    root.memory_write(memory::ECAM + (1 << 15) + 4, &[0, 0]);
    assert!(host.lock().unwrap().shown.is_empty());
    root.memory_write(memory::ECAM + (1 << 15) + 4, &[2, 0]);
    assert_eq!(host.lock().unwrap().shown.len(), 2);
    root.reset().unwrap();
    assert_eq!(host.lock().unwrap().shown.len(), 2, "assigned anew");
    assert_eq!(host.lock().unwrap().resets, 1);
}

#[test]
fn it_is_neither_saved_nor_taken_up() {
    let (mut function, _) = function(found(&[(0x60, 0x10, EXPRESS_BODY), (0xd0, 5, MSI_BODY)], &[]));
    let mut state = State::default();
    assert!(function.save(1, &mut state).unwrap_err().to_string().contains("0000:03:00.0"));
    assert!(function.load(1, &mut state).unwrap_err().to_string().contains("passthrough"));
    let (mut function, _) = self::function(found(&[(0x40, 0x11, MSIX_BODY)], &[]));
    let mut data = [0; 2];
    function.config_read(0x1000, &mut data);
    assert_eq!(data, [0xff; 2]);
}

/// A host with functions: address, class, driver, group.
fn sysfs(root: &Path, functions: &[(&str, &str, Option<&str>, Option<u32>)]) {
    for (address, class, driver, group) in functions {
        let device = root.join("bus/pci/devices").join(address);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("class"), format!("{class}\n")).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), device.join("driver")).unwrap();
        }
        if let Some(group) = group {
            let devices = root.join(format!("kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&devices).unwrap();
            symlink(&device, devices.join(address)).unwrap();
            symlink(devices.parent().unwrap(), device.join("iommu_group")).unwrap();
        }
    }
}

#[test]
fn everything_that_forbids_it_is_told_at_once() {
    let root = tempfile::tempdir().unwrap();
    sysfs(
        root.path(),
        &[
            ("0000:00:1f.0", "0x060100", None, Some(3)),
            ("0000:00:1f.2", "0x010601", Some("ahci"), Some(3)),
            ("0000:00:1f.3", "0x0c0500", Some("vfio-pci"), Some(3)),
            ("0000:01:00.0", "0x020000", Some("vfio-pci"), Some(4)),
            ("0000:01:00.1", "0x020000", Some("vfio-pci"), Some(4)),
            ("0000:02:00.0", "0x020000", Some("igb"), Some(5)),
            ("0000:03:00.0", "0x020000", Some("vfio-pci"), None),
            ("0000:00:1c.0", "0x060400", Some("pcieport"), Some(6)),
        ],
    );
    let faults = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        host::faults(root.path(), &addresses)
    };
    assert_eq!(faults(&["0000:01:00.0", "0000:01:00.1"]), Vec::<String>::new());
    let all = faults(&["0000:00:1f.3", "0000:02:00.0", "0000:03:00.0", "0000:00:1c.0", "0000:09:00.0"]);
    let expected = [
        ("0000:00:1f.3", "group 3 also holds 0000:00:1f.2 (driver ahci):"),
        ("0000:02:00.0", "bound to the driver igb"),
        ("0000:03:00.0", "in no IOMMU group"),
        ("0000:00:1c.0", "a bridge"),
        ("0000:09:00.0", "no such PCI function"),
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (fault, (address, why)) in all.iter().zip(expected) {
        assert!(fault.contains(address) && fault.contains(why), "{fault}");
    }
}
