//! Devices driven from their driver's side, through the PCI transport.

use super::{
    Counters, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1,
    blk::Block,
    rng::Rng,
    testing::{BAR_BASE, BUFFERS, Driver, F_INDIRECT, F_NEXT, F_WRITE, MEMORY_SIZE, write_descriptor},
};
use crate::{
    disk::{Disk, Raw},
    memory::Slice,
    pci::{ConfigEffect, PciDevice},
};
use proptest::prelude::*;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

pub(super) const DISK: u64 = 1 << 20;
pub(super) const HEADER: u64 = BUFFERS;
pub(super) const DATA: u64 = BUFFERS + 0x1000;
pub(super) const STATUS: u64 = BUFFERS + 0x800;
const F_FLUSH: u64 = 1 << 9;

fn block(read_only: bool) -> (Driver, File) {
    let file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..DISK).map(|n| (n / 512) as u8).collect();
    file.write_all_at(&content, 0).unwrap();
    let disk = Raw::new(file.try_clone().unwrap(), DISK);
    (Driver::new(Block::new(Box::new(disk), "serial-number-of-a-disk", read_only)), file)
}

/// Carries out one request; returns (status, answered length).
pub(super) fn request(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
    driver.write(HEADER, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
    driver.write(STATUS, &[0xee]);
    let chain = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
    let length = driver.request(0, &chain);
    (driver.read(STATUS, 1)[0], length)
}

#[test]
fn a_disk_reads_writes_and_tells_of_itself() {
    for without in [0, F_EVENT_IDX | F_INDIRECT_DESC] {
        let (mut driver, file) = block(false);
        driver.start(without, 16);
        assert_eq!(driver.config(0, 8), DISK / 512);
        assert_eq!(driver.config(20, 4), 512);
        assert_eq!(request(&mut driver, 0, 3, &[(DATA, 1024, true)]), (0, 1025));
        assert_eq!(driver.read(DATA, 1024), [[3; 512], [4; 512]].concat());

        let new: Vec<u8> = (0..3000_u32).map(|n| (n * 7) as u8).chain([9; 72]).collect();
        driver.write(DATA, &new);
        // Split at odd places.
        let parts = [(DATA, 1, false), (DATA + 1, 2998, false), (DATA + 2999, 73, false)];
        assert_eq!(request(&mut driver, 1, 100, &parts), (0, 1));
        let mut stored = vec![0; new.len()];
        file.read_exact_at(&mut stored, 51200).unwrap();
        assert_eq!(stored, new);

        assert_eq!(request(&mut driver, 4, 0, &[]), (0, 1));
        assert_eq!(request(&mut driver, 8, 0, &[(DATA, 20, true)]), (0, 21));
        assert_eq!(driver.read(DATA, 20), b"serial-number-of-a-d");
        assert!(driver.interrupted(1, Duration::from_secs(10)));
    }
}

#[test]
fn a_request_may_cross_regions_of_memory() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    let border = MEMORY_SIZE / 2 - 512;
    assert_eq!(request(&mut driver, 0, 10, &[(border, 1024, true)]), (0, 1025));
    assert_eq!(driver.read(border, 1024), [[10; 512], [11; 512]].concat());
}

#[test]
fn discard_and_write_zeroes_give_zeros() {
    let (mut driver, file) = block(false);
    driver.start(0, 16);
    for (kind, sector, flags) in [(11, 8_u64, 0_u32), (13, 24, 0), (13, 40, 1)] {
        let range = [&sector.to_le_bytes()[..], &8_u32.to_le_bytes(), &flags.to_le_bytes()].concat();
        driver.write(DATA, &range);
        assert_eq!(request(&mut driver, kind, 0, &[(DATA, 16, false)]), (0, 1));
        let mut sectors = vec![1; 4096];
        file.read_exact_at(&mut sectors, sector * 512).unwrap();
        assert!(sectors.iter().all(|byte| *byte == 0), "kind {kind} flags {flags}");
    }
    // A flag of a discard, too many sectors, outside of the disk, half a range: refused, nothing done.
    for (kind, sector, count, flags, status) in
        [(11, 0_u64, 8_u32, 1_u32, 2), (13, 0, 8, 2, 2), (13, 0, u32::MAX, 0, 1), (11, u64::MAX, 8, 0, 1)]
    {
        driver.write(DATA, &[&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat());
        assert_eq!(request(&mut driver, kind, 0, &[(DATA, 16, false)]).0, status);
    }
    assert_eq!(request(&mut driver, 13, 0, &[(DATA, 15, false)]).0, 1);
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 512).unwrap();
    assert_eq!(sector, [1; 512]);
}

#[test]
fn bad_requests_get_a_status_and_harm_nothing() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    let end = DISK / 512;
    for (kind, sector, data, status) in [
        (0, end, (DATA, 512, true), 1),
        (0, u64::MAX / 2, (DATA, 512, true), 1),
        (0, end - 1, (DATA, 1024, true), 1),
        (0, 0, (DATA, 100, true), 1),
        (1, end, (DATA, 512, false), 1),
        (77, 0, (DATA, 512, true), 2),
    ] {
        assert_eq!(request(&mut driver, kind, sector, &[data]).0, status, "{kind} {sector} {data:?}");
    }
    let (mut driver, _file) = block(true);
    driver.start(0, 16);
    assert_eq!(driver.device_features() >> 5 & 1, 1);
    assert_eq!(request(&mut driver, 1, 0, &[(DATA, 512, false)]).0, 1);
    assert_eq!(request(&mut driver, 0, 1, &[(DATA, 512, true)]).0, 0);
}

#[test]
fn malformed_chains_are_answered_with_length_zero() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    driver.write(HEADER, &[0; 16]);
    let outside = MEMORY_SIZE - 8;
    let cases: &[&[(u64, u32, bool)]] = &[
        &[(HEADER, 16, false)],
        &[(STATUS, 1, true)],
        &[(HEADER, 15, false), (STATUS, 1, true)],
        &[(STATUS, 1, true), (HEADER, 16, false)],
        &[(HEADER, 16, false), (outside, 512, true), (STATUS, 1, true)],
        &[(HEADER, 16, false), (u64::MAX - 3, 512, true), (STATUS, 1, true)],
        &[(HEADER, 16, false), (DATA, u32::MAX, true), (STATUS, 1, true)],
    ];
    for case in cases {
        assert_eq!(driver.request(0, case), 0, "{case:?}");
    }
    // A circle, a next that does not exist, an empty indirect table, one in itself.
    let shapes = [
        [(HEADER, 16, F_NEXT, 1), (DATA, 512, F_WRITE | F_NEXT, 0)],
        [(HEADER, 16, F_NEXT, 99), (0, 0, 0, 0)],
        [(DATA, 0, F_INDIRECT, 0), (0, 0, 0, 0)],
        [(DATA, 17, F_INDIRECT, 0), (0, 0, 0, 0)],
        [(0x10000, 32, F_INDIRECT, 0), (0, 0, 0, 0)],
    ];
    for shape in shapes {
        for (at, (address, length, flags, next)) in (0..).zip(shape) {
            driver.descriptor(0, at, address, length, flags, next);
        }
        driver.publish(0, 0);
        driver.ring(0);
        assert_eq!(driver.wait_used(0), (0, 0), "{shape:?}");
    }
    assert_eq!(driver.status(), 15, "the device lives on");
    assert_eq!(request(&mut driver, 0, 3, &[(DATA, 512, true)]), (0, 513));
}

#[test]
fn indirect_descriptors_work() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    driver.write(HEADER, &[&[0; 8][..], &5_u64.to_le_bytes()].concat());
    let table = BUFFERS + 0x4000;
    let chain = [(HEADER, 16, F_NEXT, 1), (DATA, 512, F_WRITE | F_NEXT, 2), (STATUS, 1, F_WRITE, 0)];
    for (at, descriptor) in (0..).zip(chain) {
        write_descriptor(&driver.memory(), table, at, descriptor);
    }
    driver.descriptor(0, 4, table, 48, F_INDIRECT, 0);
    driver.publish(0, 4);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (4, 513));
    assert_eq!(driver.read(DATA, 512), [5; 512]);
}

#[test]
fn a_broken_ring_needs_a_reset_which_helps() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    driver.publish(0, 16); // a head that does not exist
    driver.ring(0);
    driver.wait_needs_reset();
    assert!(driver.interrupted(0, Duration::from_secs(10)), "the driver is told");
    driver.start(0, 16);
    assert_eq!(request(&mut driver, 0, 3, &[(DATA, 512, true)]), (0, 513));
    // An index that jumps.
    let avail = driver.rings[0].avail();
    driver.write(avail + 2, &9999_u16.to_le_bytes());
    driver.ring(0);
    driver.wait_needs_reset();
    // Rings outside of memory.
    driver.start(0, 16);
    driver.set_status(0);
    driver.set_status(3);
    driver.accept_features(F_VERSION_1);
    driver.set_status(11);
    driver.common_write(0x20, 8, MEMORY_SIZE);
    driver.common_write(0x1c, 2, 1);
    driver.set_status(15);
    assert_eq!(driver.status(), 15 | 0x40);
}

#[test]
fn negotiation_follows_the_state_machine() {
    let (mut driver, _file) = block(false);
    assert_eq!(driver.status(), 0);
    driver.set_status(7);
    assert_eq!(driver.status(), 3, "no DRIVER_OK before FEATURES_OK");
    driver.accept_features(F_FLUSH);
    driver.set_status(11);
    assert_eq!(driver.status(), 3, "no FEATURES_OK without VERSION_1");
    driver.accept_features(F_VERSION_1 | 1 << 60);
    driver.set_status(11);
    assert_eq!(driver.status(), 3, "no FEATURES_OK with unknown features");
    driver.accept_features(F_VERSION_1);
    driver.set_status(11);
    assert_eq!(driver.status(), 11);
    driver.accept_features(0);
    driver.common_write(8, 4, 1);
    assert_eq!(driver.common_read(0xc, 4), 1, "features are fixed now");
    driver.common_write(0x18, 2, 13);
    assert_eq!(driver.common_read(0x18, 2), 256, "not a power of two");
    driver.common_write(0x16, 2, 5);
    assert_eq!(driver.common_read(0x18, 2), 0, "there is no queue 5");
    driver.common_write(0x1a, 2, 1);
    assert_eq!(driver.common_read(0x1a, 2), 0xffff);
    driver.common_write(0x10, 2, 500);
    assert_eq!(driver.common_read(0x10, 2), 0xffff, "there is no vector 500");
}

#[test]
fn doorbells_follow_the_bar() {
    let (mut driver, _file) = block(false);
    let at = |driver: &Driver| driver.platform.doorbells.lock().unwrap().keys().copied().collect::<Vec<_>>();
    assert_eq!(at(&driver), [BAR_BASE + 0x3000]);
    driver.pci.bar_moved(0, Some(0x1_0000_0000)).unwrap();
    assert_eq!(at(&driver), [0x1_0000_3000]);
    driver.pci.bar_moved(0, None).unwrap();
    assert!(at(&driver).is_empty());
    driver.pci.bar_moved(0, Some(BAR_BASE)).unwrap();
    driver.pci.reset();
    assert!(at(&driver).is_empty());
    assert_eq!(driver.pci.config_write(4, &[6, 0]), ConfigEffect::BarsChanged);
}

#[test]
fn pause_and_resume_lose_nothing() {
    let (mut driver, _file) = block(false);
    driver.start(0, 16);
    assert_eq!(request(&mut driver, 0, 1, &[(DATA, 512, true)]), (0, 513));
    for n in 0..20_u8 {
        driver.pci.pause();
        driver.pci.pause();
        driver.write(HEADER, &[&[0; 8][..], &u64::from(n).to_le_bytes()].concat());
        driver.offer(0, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
        driver.ring(0);
        assert_eq!(driver.try_wait_used(0, Duration::from_millis(5)), None, "nothing happens while paused");
        driver.pci.resume();
        assert_eq!(driver.wait_used(0).1, 513);
        assert_eq!(driver.read(DATA, 1), [n]);
    }
}

/// A disk that counts flushes and takes its time.
struct Slow(Arc<AtomicU64>);

impl Disk for Slow {
    fn size(&self) -> u64 {
        DISK
    }
    fn granularity(&self) -> u32 {
        512
    }
    fn read(&mut self, buffers: &[Slice<'_>], _offset: u64) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(30));
        buffers.iter().for_each(|buffer| buffer.copy_from(&vec![0x77_u8; buffer.len()]));
        Ok(())
    }
    fn write(&mut self, _buffers: &[Slice<'_>], _offset: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.fetch_add(1, SeqCst);
        Ok(())
    }
    fn discard(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn write_zeroes(&mut self, _offset: u64, _length: u64, _unmap: bool) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_reset_waits_for_io_under_way_and_nothing_is_touched_after() {
    let mut driver = Driver::new(Block::new(Box::new(Slow(Arc::default())), "slow", false));
    for _ in 0..5 {
        driver.start(0, 16);
        driver.write(HEADER, &[0; 16]);
        for _ in 0..4 {
            driver.offer(0, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
        }
        driver.ring(0);
        driver.wait_used(0);
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
        driver.write(DATA, &[0x11; 512]);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(driver.read(DATA, 512), [0x11; 512]);
    }
}

#[test]
fn a_stopped_disk_can_be_made_durable_and_a_running_one_not() {
    let flushes = Arc::<AtomicU64>::default();
    let mut driver = Driver::new(Block::new(Box::new(Slow(Arc::clone(&flushes))), "slow", false));
    driver.start(0, 16);
    assert_eq!(request(&mut driver, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert!(driver.pci.sync().is_err());
    driver.pci.pause();
    driver.pci.sync().unwrap();
    assert_eq!(flushes.load(SeqCst), 1);
    driver.pci.resume();
    assert_eq!(request(&mut driver, 0, 0, &[(DATA, 512, true)]).0, 0);
}

#[test]
fn without_flush_every_write_is_durable() {
    let flushes = Arc::<AtomicU64>::default();
    let mut driver = Driver::new(Block::new(Box::new(Slow(Arc::clone(&flushes))), "slow", false));
    driver.start(0, 16);
    assert_eq!(request(&mut driver, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert_eq!(flushes.load(SeqCst), 0);
    assert_eq!(request(&mut driver, 4, 0, &[]).0, 0);
    assert_eq!(flushes.load(SeqCst), 1);
    driver.start(F_FLUSH, 16);
    assert_eq!(request(&mut driver, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert_eq!(flushes.load(SeqCst), 2);
}

#[test]
fn counters_count() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK).unwrap();
    let device = Block::new(Box::new(Raw::new(file, DISK)), "one", false);
    let counters: Arc<Counters> = super::VirtioDevice::counters(&device);
    let mut driver = Driver::new(device);
    driver.start(0, 16);
    request(&mut driver, 0, 0, &[(DATA, 512, true)]);
    request(&mut driver, 1, 0, &[(DATA, 1024, false)]);
    request(&mut driver, 0, DISK, &[(DATA, 512, true)]);
    let stats = counters.stats();
    assert_eq!((stats.reads, stats.read_bytes), (1, 512));
    assert_eq!((stats.writes, stats.written_bytes, stats.errors), (1, 1024, 1));
}

#[test]
fn rng_gives_bytes_up_to_its_cap() {
    let mut driver = Driver::new(Rng::new());
    driver.start(0, 16);
    assert_eq!(driver.request(0, &[(DATA, 64, true), (DATA + 64, 36, true)]), 100);
    let bytes = driver.read(DATA, 100);
    assert!(bytes.iter().any(|byte| *byte != 0));
    assert_ne!(bytes[..50], bytes[50..]);
    assert_eq!(driver.request(0, &[(DATA, 1 << 20, true)]), 4096);
    assert_eq!(driver.request(0, &[(DATA, 16, false)]), 0);
}

#[test]
fn the_window_capability_reaches_the_bar() {
    let (mut driver, _file) = block(false);
    let mut at = [0];
    driver.pci.config_read(0x34, &mut at);
    loop {
        let mut head = [0; 4];
        driver.pci.config_read(u16::from(at[0]), &mut head);
        if head[0] == 9 && head[3] == 5 {
            break;
        }
        at[0] = head[1];
    }
    let window = u16::from(at[0]);
    let mut data = [0; 4];
    for (offset, length, expected) in [(0x12_u32, 2_u32, 1_u32), (0x2000, 4, (DISK / 512) as u32)] {
        driver.pci.config_write(window + 8, &offset.to_le_bytes());
        driver.pci.config_write(window + 12, &length.to_le_bytes());
        driver.pci.config_read(window + 16, &mut data);
        assert_eq!(u32::from_le_bytes(data), expected);
    }
    driver.pci.config_write(window + 8, &0x14_u32.to_le_bytes());
    driver.pci.config_write(window + 12, &1_u32.to_le_bytes());
    driver.pci.config_write(window + 16, &[3]);
    assert_eq!(driver.status(), 3);
    for (offset, length) in [(u32::MAX, 4_u32), (0x7fff, 2), (0, 3), (0x9000, 4)] {
        driver.pci.config_write(window + 8, &offset.to_le_bytes());
        driver.pci.config_write(window + 12, &length.to_le_bytes());
        driver.pci.config_read(window + 16, &mut data);
        driver.pci.config_write(window + 16, &data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Random descriptors: each published head is answered or the device asks for a reset; it never hangs or panics, and
    /// after a reset it works.
    #[test]
    fn garbage_in_the_ring_is_survived(
        descriptors in prop::collection::vec(
            (prop_oneof![0_u64..MEMORY_SIZE, any::<u64>()], prop_oneof![0_u32..4096, any::<u32>()], 0_u16..8, 0_u16..20), 16),
        heads in prop::collection::vec(0_u16..17, 1..12),
        noise in prop::collection::vec(any::<u8>(), 2048),
    ) {
        let (mut driver, _file) = block(false);
        driver.start(0, 16);
        // Where many of the addresses lead; nothing of the rings.
        for page in 0..64 {
            driver.write(BUFFERS + page * 2048, &noise);
        }
        for (at, (address, length, flags, next)) in (0..).zip(descriptors) {
            // The device may write where it is told to; keep it off the rings, which would only break the test's own view.
            let clear_of_rings = address >= BUFFERS || address.saturating_add(u64::from(length)) < 0x10000;
            let address = if clear_of_rings { address } else { address + BUFFERS };
            driver.descriptor(0, at, address, length, flags, next);
        }
        let count = heads.len();
        for head in heads {
            driver.publish(0, head);
        }
        driver.ring(0);
        for _ in 0..count {
            loop {
                if driver.try_wait_used(0, Duration::from_millis(1)).is_some() {
                    break;
                }
                if driver.status() & 0x40 != 0 {
                    break;
                }
            }
        }
        driver.start(0, 16);
        prop_assert_eq!(request(&mut driver, 4, 0, &[]).0, 0);
    }

    /// Any access to the BAR and to configuration space is answered.
    #[test]
    fn any_register_access_is_answered(
        accesses in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..0x9000, 0_usize..9, any::<u64>()), 0..200),
        near in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..0x40, 0_usize..9, 0_u64..40), 0..200),
    ) {
        let (mut driver, _file) = block(false);
        for (config, write, offset, length, value) in accesses.into_iter().chain(near) {
            let mut data = value.to_le_bytes();
            let data = &mut data[..length.min(8)];
            match (config, write) {
                (true, true) => drop(driver.pci.config_write(offset as u16, data)),
                (true, false) => driver.pci.config_read(offset as u16, data),
                (false, true) => driver.pci.bar_write(0, offset, data),
                (false, false) => driver.pci.bar_read(0, offset, data),
            }
        }
        driver.start(0, 16);
        prop_assert_eq!(request(&mut driver, 4, 0, &[]).0, 0);
    }
}
