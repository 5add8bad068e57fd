//! The balloon driven from its driver's side, and what the host has of it.

use super::{
    super::{
        VirtioPci,
        testing::{BAR_BASE, BUFFERS, Driver, MEMORY_SIZE},
    },
    *,
};
use crate::{pci::PciDevice, state::State};
use proptest::prelude::*;
use std::{fs::File, os::unix::fs::FileExt};
use vm_memory::{GuestAddress, GuestMemoryBackend};

const REPORTS: usize = 4;

fn balloon(without: u64) -> (Driver, Arc<Gauge>) {
    let (device, gauge) = Balloon::new(MEMORY_SIZE, 0);
    let mut driver = Driver::new(device);
    driver.start(without, 16);
    (driver, gauge)
}

/// Pages in `range` of guest addresses that take up memory of the host.
fn resident(driver: &Driver, range: std::ops::Range<u64>) -> usize {
    let memory = driver.memory();
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let present = |address: &u64| {
        let host = memory.get_host_address(GuestAddress(*address)).unwrap() as u64;
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, host / PAGE * 8).unwrap();
        u64::from_le_bytes(entry) >> 63 != 0
    };
    range.step_by(PAGE as usize).filter(present).count()
}

fn fill(driver: &Driver, range: std::ops::Range<u64>) {
    driver.write(range.start, &vec![0x5a; (range.end - range.start) as usize]);
}

fn give_up(driver: &mut Driver, pages: &[u32]) -> u32 {
    let numbers: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    driver.write(BUFFERS, &numbers);
    driver.request(INFLATE, &[(BUFFERS, numbers.len() as u32, false)])
}

#[test]
fn memory_given_up_is_the_hosts_again() {
    let (mut driver, gauge) = balloon(0);
    driver.pci.change(Change::Balloon(2 << 20)).unwrap();
    assert!(driver.interrupted(0, Duration::from_secs(10)), "the driver is told");
    assert_eq!(driver.config(0, 4), 512);
    assert!(driver.pci.change(Change::Balloon(MEMORY_SIZE + PAGE)).is_err());
    // Across the border of two regions.
    let middle = MEMORY_SIZE / 2;
    let range = middle - (1 << 20)..middle + (1 << 20);
    fill(&driver, range.start - PAGE..range.end + PAGE);
    assert_eq!(resident(&driver, range.clone()), 512);
    let pages: Vec<u32> = (range.start / PAGE..range.end / PAGE).rev().map(|page| page as u32).collect();
    for some in pages.chunks(256) {
        give_up(&mut driver, some);
    }
    driver.write_config(4, &512_u32.to_le_bytes());
    assert_eq!(resident(&driver, range.clone()), 0);
    assert_eq!(driver.read(range.start - PAGE, 1), [0x5a], "what was not given up is as it was");
    assert_eq!(driver.read(range.end, 1), [0x5a]);
    let status = gauge.status();
    assert_eq!((status.target_bytes, status.actual_bytes, status.guest), (2 << 20, 2 << 20, None));
    // Taken back by use.
    assert_eq!(driver.request(DEFLATE, &[(BUFFERS, 1024, false)]), 0);
    fill(&driver, range.clone());
    assert_eq!(resident(&driver, range), 512);
    // Pages that are none: nothing happens, the device lives on.
    give_up(&mut driver, &[u32::MAX, (MEMORY_SIZE / PAGE) as u32, 0x7fff_ffff]);
    assert_eq!(driver.request(INFLATE, &[(BUFFERS, 1 << 20, false)]), 0);
    assert_eq!(driver.status(), 15);
}

#[test]
fn free_pages_that_are_told_of_are_the_hosts_again() {
    for (without, queue) in [(0, REPORTS), (F_HINTS, HINTS)] {
        let (mut driver, gauge) = balloon(without);
        let at = 4 << 20;
        fill(&driver, at..at + (1 << 20));
        // Not whole pages at the ends: those stay.
        let segments = [(at, 64 << 10, true), (at + (512 << 10) + 1, 256 << 10, true)];
        assert_eq!(driver.request(queue, &segments), 0);
        assert_eq!(resident(&driver, at..at + (1 << 20)), 256 - 16 - 63);
        assert_eq!(gauge.status().reported_bytes, (64 << 10) + (256 << 10));
    }
}

#[test]
fn the_guest_tells_how_its_memory_fares() {
    let (mut driver, gauge) = balloon(0);
    let stats = |free: u64| -> Vec<u8> {
        let entry = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        [entry(4, free), entry(5, 1 << 30), entry(77, 9), entry(3, 12)].concat()
    };
    driver.write(BUFFERS, &stats(1000));
    driver.offer(STATS, &[(BUFFERS, 40, false)]);
    driver.ring(STATS);
    // The first is answered at once, the next stays until it is old.
    assert_eq!(driver.wait_used(STATS).1, 0);
    driver.write(BUFFERS, &stats(2000));
    driver.offer(STATS, &[(BUFFERS, 40, false)]);
    driver.ring(STATS);
    assert_eq!(driver.try_wait_used(STATS, Duration::from_millis(100)), None);
    let told = gauge.status().guest.unwrap();
    let wanted =
        GuestMemory { free_bytes: 2000, total_bytes: 1 << 30, minor_faults: 12, ..Default::default() };
    assert_eq!(told, wanted);
    // It is still there after a move.
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    let (other, gauge) = Balloon::new(MEMORY_SIZE, 0);
    let platform = Arc::new(super::super::testing::FakePlatform::default());
    let mut other =
        VirtioPci::new(Box::new(other), driver.memory.clone(), Arc::clone(&platform) as _).unwrap();
    other.load(1, &mut state).unwrap();
    other.bar_moved(0, Some(BAR_BASE)).unwrap();
    (driver.pci, driver.platform) = (other, platform);
    driver.pci.resume();
    assert_eq!(driver.wait_used(STATS).1, 0);
    assert_eq!(gauge.status().guest.unwrap().free_bytes, 2000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_buffer_on_any_queue_is_survived(
        requests in prop::collection::vec((0_usize..5, any::<u32>(), 0_u32..8192, any::<bool>()), 1..12),
        noise in prop::collection::vec(any::<u8>(), 8192),
    ) {
        let (mut driver, _gauge) = balloon(0);
        // Page numbers anywhere but where the test's own rings are.
        let noise: Vec<u8> = noise.chunks(4).flat_map(|n| {
            let number = u32::from_le_bytes([n[0], n[1], n[2], n[3]]);
            if u64::from(number) * PAGE < BUFFERS { u32::MAX } else { number }.to_le_bytes()
        }).collect();
        for (queue, address, length, writable) in requests {
            driver.write(BUFFERS, &noise);
            // Free pages are the driver's own to name, and the rings are not free.
            let at = BUFFERS + u64::from(address) % (MEMORY_SIZE - BUFFERS - 8192);
            driver.offer(queue, &[(if writable { at } else { BUFFERS }, length, writable)]);
            driver.ring(queue);
            if queue != STATS {
                prop_assert!(driver.try_wait_used(queue, Duration::from_secs(20)).is_some());
            }
        }
        prop_assert_eq!(driver.status(), 15);
    }
}
