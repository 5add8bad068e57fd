//! Disks with several queues: each is served, none waits for another that could go on, all together are one disk.

use super::{
    VirtioPci,
    blk::{Block, Holds},
    testing::{self, BUFFERS, Driver, FakePlatform},
    tests::DISK,
};
use crate::{
    change::Change,
    disk::{Disk, Parallel, Raw, movable},
    memory::Slice,
    pci::PciDevice,
    state::State,
};
use lq_api::{
    image::ImageFormat,
    local::vmm::{DiskImage, IoLimits, Rate},
};
use proptest::prelude::*;
use std::{
    fs::File,
    io,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const QUEUES: u8 = 4;
const SECTOR: u64 = 512;

fn image(directory: &TempDir, format: ImageFormat) -> DiskImage {
    let path = directory.path().join("disk");
    let file = File::create_new(&path).unwrap();
    match format {
        ImageFormat::Raw => file.set_len(DISK).unwrap(),
        ImageFormat::Qcow2 => {
            let options = lq_qcow2::CreateOptions { virtual_size: DISK, cluster_bits: 12, backing: None };
            lq_qcow2::create(&file, &options).unwrap();
        }
    }
    DiskImage { path: path.display().to_string(), format, backing: None }
}

fn limited(image: &DiskImage, limits: IoLimits) -> Block {
    let disk = movable::open(image, false, true, Arc::default()).unwrap();
    Block::limited(Box::new(disk), "one", false, QUEUES, limits, Holds::default())
}

/// Memory of request `n`: header, data, status.
fn places(n: u64) -> (u64, u64, u64) {
    let base = BUFFERS + n * 0x1000;
    (base, base + 0x200, base + 0x100)
}

/// Offers request `n` on a queue: a sector full of `byte`, or the sector is to be read.
fn offer(driver: &mut Driver, queue: usize, n: u64, kind: u32, sector: u64, byte: u8) -> u16 {
    let (header, data, status) = places(n);
    driver.write(header, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
    driver.write(data, &[byte; SECTOR as usize]);
    driver.write(status, &[0xee]);
    let head =
        driver.offer(queue, &[(header, 16, false), (data, SECTOR as u32, kind == 0), (status, 1, true)]);
    driver.ring(queue);
    head
}

fn done(driver: &mut Driver, queue: usize, n: u64) -> Vec<u8> {
    driver.wait_used(queue);
    let (_, data, status) = places(n);
    assert_eq!(driver.read(status, 1), [0], "request {n}");
    driver.read(data, SECTOR as usize)
}

fn move_device(driver: &mut Driver, device: Block) {
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    // The image has one monitor: the old device gives it up.
    driver.pci.release().unwrap();
    let platform = Arc::new(FakePlatform::default());
    let mut other =
        VirtioPci::new(Box::new(device), driver.memory.clone(), Arc::clone(&platform) as _).unwrap();
    other.load(1, &mut state).unwrap();
    assert!(state.finish().is_ok());
    other.acquire().unwrap();
    other.bar_moved(0, Some(testing::BAR_BASE)).unwrap();
    driver.pci = other;
    driver.platform = platform;
    driver.pci.resume();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn all_queues_are_one_disk_wherever_it_moves(
        steps in prop::collection::vec((0..usize::from(QUEUES), 1_u8.., 0..8_u64, any::<bool>()), 1..20),
        qcow2 in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let image = image(&directory, if qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw });
        let mut driver = Driver::new(limited(&image, IoLimits::default()));
        driver.start(0, 16);
        prop_assert_eq!(driver.config(34, 2), u64::from(QUEUES), "num_queues");
        for (n, (queue, byte, sector, moves)) in (0..).zip(steps) {
            offer(&mut driver, queue, n, 1, sector, byte);
            if moves {
                let disk = movable::open(&image, false, false, Arc::default()).unwrap();
                let other = Block::limited(Box::new(disk), "one", false, QUEUES, IoLimits::default(), Holds::default());
                move_device(&mut driver, other);
            }
            done(&mut driver, queue, n);
            // What one queue was answered, every other one sees.
            let other = (queue + 1) % usize::from(QUEUES);
            offer(&mut driver, other, 100 + n, 0, sector, 0);
            prop_assert_eq!(done(&mut driver, other, 100 + n), vec![byte; SECTOR as usize]);
        }
    }
}

/// A disk on which a read ends only when all queues are in one.
struct Meeting(Barrier);

impl Parallel for Meeting {
    fn read(&self, _: &[Slice<'_>], _: u64) -> io::Result<()> {
        self.0.wait();
        Ok(())
    }
    fn write(&self, _: &[Slice<'_>], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Meeting {
    fn size(&self) -> u64 {
        DISK
    }
    fn granularity(&self) -> u32 {
        512
    }
    fn parallel(&self) -> Option<&dyn Parallel> {
        Some(self)
    }
    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        Parallel::read(self, buffers, offset)
    }
    fn write(&mut self, _: &[Slice<'_>], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&mut self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn requests_on_several_queues_are_under_way_at_once() {
    let disk = Meeting(Barrier::new(QUEUES.into()));
    let disk = Box::new(disk);
    let device = Block::limited(disk, "one", false, QUEUES, IoLimits::default(), Holds::default());
    let mut driver = Driver::new(device);
    driver.start(0, 16);
    for queue in 0..usize::from(QUEUES) {
        offer(&mut driver, queue, queue as u64, 0, 0, 0);
    }
    for queue in 0..usize::from(QUEUES) {
        done(&mut driver, queue, queue as u64);
        assert!(driver.interrupted(queue as u16 + 1, Duration::from_secs(20)), "each has its own vector");
    }
}

#[test]
fn a_limit_is_of_the_disk_and_not_of_a_queue() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(&directory, ImageFormat::Raw);
    let mut driver = Driver::new(limited(&image, IoLimits::default()));
    driver.start(0, 32);
    let operations = Some(Rate { per_second: 100, burst: 4 });
    driver.pci.change(Change::DiskLimits(IoLimits { bandwidth: None, operations })).unwrap();
    let begin = Instant::now();
    for n in 0..24 {
        offer(&mut driver, n as usize % usize::from(QUEUES), n, 1, n, n as u8);
    }
    for n in 0..24 {
        done(&mut driver, n as usize % usize::from(QUEUES), n);
    }
    assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
    driver.pci.change(Change::Size(2 * DISK)).unwrap();
    offer(&mut driver, 3, 0, 0, DISK / SECTOR, 1);
    assert_eq!(done(&mut driver, 3, 0), [0; SECTOR as usize], "every queue sees the new size");
}

#[test]
fn a_broken_queue_or_a_driver_that_uses_one_stops_none_of_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(&directory, ImageFormat::Raw);
    let mut driver = Driver::new(limited(&image, IoLimits::default()));
    driver.start(0, 16);
    // An index that jumped: the device needs a reset, the others' requests are answered all the same.
    driver.write(driver.rings[2].avail() + 2, &0x7777_u16.to_le_bytes());
    driver.ring(2);
    driver.wait_needs_reset();
    offer(&mut driver, 1, 0, 1, 0, 9);
    done(&mut driver, 1, 0);
    driver.start(1 << 12, 16);
    offer(&mut driver, 0, 0, 0, 0, 0);
    assert_eq!(done(&mut driver, 0, 0), [9; SECTOR as usize]);
    assert_eq!(driver.status(), 15);
}

#[test]
fn a_flat_file_with_one_queue_says_what_it_always_said() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK).unwrap();
    let mut driver = Driver::new(Block::new(Box::new(Raw::new(file, DISK)), "one", false));
    driver.start(0, 16);
    assert_eq!(driver.device_features() & 1 << 12, 0);
    assert_eq!(driver.config(34, 2), 1);
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    let saved = serde_json::to_value(&state).unwrap();
    assert!(saved.pointer("/components/0/fields/device").unwrap().is_null());
}
