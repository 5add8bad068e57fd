//! A function of the host: what it says of itself, and what a guest does to it.

use super::{super::reader::Reader, queues::Nowhere};
use lq_vmm::{
    memory,
    pci::root::{PciRoot, Placement},
    vfio::{
        Backend, Function, Place, Signal, Windows,
        layout::{Layout, Region},
    },
};
use std::{collections::BTreeSet, io, sync::Mutex};
use vmm_sys_util::eventfd::EventFd;

/// Bytes of its configuration space that an input says.
const SAID: usize = 0x200;

struct Said {
    config: Vec<u8>,
    sizes: [u64; 6],
    /// Vectors of MSI and MSI-X, while they are on.
    vectors: Mutex<[Option<usize>; 2]>,
}

impl Backend for Said {
    fn region(&self, place: Place) -> Region {
        let size = match place {
            Place::Config => self.config.len() as u64,
            Place::Bar(bar) => self.sizes[usize::from(bar)],
        };
        Region::mappable(size)
    }
    fn read(&self, place: Place, offset: u64, data: &mut [u8]) -> io::Result<()> {
        assert!(offset + data.len() as u64 <= self.region(place).size);
        for (at, byte) in (offset..).zip(data) {
            *byte = if place == Place::Config { self.config[at as usize] } else { at as u8 };
        }
        Ok(())
    }
    fn write(&self, place: Place, offset: u64, data: &[u8]) -> io::Result<()> {
        assert!(offset + data.len() as u64 <= self.region(place).size);
        // Of the header only what the machine itself decides: the command register.
        assert!(
            place != Place::Config || offset >= 0x40 || (offset == 4 && data.len() == 2 && data[0] & 2 != 0)
        );
        Ok(())
    }
    fn connect(&self, signal: Signal, first: u16, events: &[Option<&EventFd>]) -> io::Result<()> {
        let mut vectors = self.vectors.lock().unwrap();
        let end = usize::from(first) + events.len();
        let count = *vectors[signal as usize].get_or_insert(end);
        assert!(end <= count && count <= 2048);
        Ok(())
    }
    fn disconnect(&self, signal: Signal) -> io::Result<()> {
        assert!(self.vectors.lock().unwrap()[signal as usize].take().is_some());
        Ok(())
    }
    fn resets(&self) -> bool {
        true
    }
    fn reset(&self) -> io::Result<()> {
        assert_eq!(*self.vectors.lock().unwrap(), [None, None]);
        Ok(())
    }
}

#[derive(Default)]
struct Shown(BTreeSet<usize>);

impl Windows for Shown {
    fn show(&mut self, index: usize, base: u64) -> io::Result<()> {
        assert!(self.0.insert(index) && base.is_multiple_of(4096));
        Ok(())
    }
    fn hide(&mut self, index: usize) -> io::Result<()> {
        assert!(self.0.remove(&index));
        Ok(())
    }
}

/// The function says its configuration space and the sizes of its BARs (as powers of two); then come accesses.
pub fn passthrough(input: &[u8]) {
    let mut reader = Reader(input);
    let mut sizes = [0; 6];
    for size in &mut sizes {
        *size = match reader.u8() % 48 {
            0 => 0,
            shift => 1 << shift,
        };
    }
    let mut config = vec![0; 4096];
    let said = reader.take(SAID);
    config[..said.len()].copy_from_slice(said);
    let backend = Said { config, sizes, vectors: Mutex::default() };
    let Ok(layout) = Layout::read(&backend) else { return };
    let address = "0000:03:00.0".parse().unwrap();
    let function =
        Function::new(address, Box::new(backend), layout, Box::<Shown>::default(), &Nowhere).unwrap();
    let root = PciRoot::new(64 << 20);
    root.place(Box::new(function), Placement::default()).unwrap();
    if root.assign().is_err() {
        return;
    }
    while !reader.is_empty() {
        let op = reader.u8();
        let length = [1, 2, 4, 8][usize::from(op >> 6)];
        let near = u64::from(reader.u32());
        let address = match op >> 2 & 3 {
            0 => memory::ECAM + (1 << 15) + (near & 0xfff),
            1 => memory::PCI32 + (near & 0xf_ffff),
            2 => near,
            _ => reader.u64(),
        };
        match op & 3 {
            0 => drop(root.memory_read(address, &mut [0; 8][..length])),
            1 | 2 => drop(root.memory_write(address, reader.take(length))),
            _ => drop(root.reset()),
        }
    }
}
