//! A disk whose image finds no room: nothing fails, nothing is lost, and it goes on by itself.

use super::{
    blk::{Block, Holds},
    testing::Driver,
    tests::{DATA, DISK, HEADER, STATUS, request},
};
use crate::{
    disk::{Disk, Raw, room::Room},
    guest::{GuestEvent, Notifier},
    memory::Slice,
    pci::PciDevice,
};
use lq_api::local::vmm::IoLimits;
use std::{
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// A disk that takes nothing new while there is no room.
struct Thin(Raw, Arc<AtomicBool>);

impl Thin {
    fn room(&self) -> io::Result<()> {
        if self.1.load(SeqCst) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
    }
}

impl Disk for Thin {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn granularity(&self) -> u32 {
        self.0.granularity()
    }
    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        Disk::read(&mut self.0, buffers, offset)
    }
    fn write(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.room()?;
        Disk::write(&mut self.0, buffers, offset)
    }
    fn flush(&mut self) -> io::Result<()> {
        Disk::flush(&mut self.0)
    }
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        Disk::discard(&mut self.0, offset, length)
    }
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.room()?;
        Disk::write_zeroes(&mut self.0, offset, length, unmap)
    }
}

#[test]
fn a_write_without_room_waits_and_is_done_when_there_is_some() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK).unwrap();
    let there_is_room = Arc::new(AtomicBool::new(true));
    let thin = Thin(Raw::new(file.try_clone().unwrap(), DISK), Arc::clone(&there_is_room));
    let notifier = Arc::new(Notifier::new().unwrap());
    let room = Arc::new(Room::new(Arc::clone(&notifier)));
    let holds = Holds { room: Arc::clone(&room), ..Holds::default() };
    let mut driver = Driver::new(Block::limited(Box::new(thin), "one", false, 1, IoLimits::default(), holds));
    driver.start(0, 16);
    assert_eq!(request(&mut driver, 1, 0, &[(DATA, 512, false)]).0, 0);

    there_is_room.store(false, SeqCst);
    assert_eq!(request(&mut driver, 0, 0, &[(DATA, 512, true)]).0, 0, "what is there can be read");
    driver.write(HEADER, &[&1_u32.to_le_bytes()[..], &[0; 12]].concat());
    driver.write(DATA, &[9; 512]);
    let head = driver.offer(0, &[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
    driver.ring(0);
    // It is tried, and waits; also across a pause.
    for _ in 0..2 {
        let mut told = false;
        while !(told && room.is_short()) {
            told |= notifier.take().contains(&GuestEvent::Room);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(driver.try_wait_used(0, Duration::ZERO), None);
        driver.pci.pause();
        driver.pci.resume();
    }
    there_is_room.store(true, SeqCst);
    assert_eq!(driver.wait_used(0), (head, 1));
    assert_eq!(driver.read(STATUS, 1)[0], 0);
    assert!(!room.is_short());
    let mut content = [0; 512];
    file.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(content, [9; 512]);
}
