//! Devices that are changed while their driver uses them.

use super::{
    blk::{Block, Holds},
    testing::Driver,
    tests::{DATA, DISK, HEADER, STATUS, request},
};
use crate::{
    change::Change,
    disk::movable,
    lease::{Lease, fence, fence::Fence},
    pci::PciDevice,
};
use lq_api::{
    image::ImageFormat,
    local::vmm::{DiskImage, IoLimits, Rate},
};
use lq_qcow2::CreateOptions;
use proptest::prelude::*;
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

fn image(directory: &TempDir, format: ImageFormat) -> DiskImage {
    let path = directory.path().join("disk");
    let file = File::create_new(&path).unwrap();
    match format {
        ImageFormat::Raw => file.set_len(DISK).unwrap(),
        ImageFormat::Qcow2 => {
            let options = CreateOptions { virtual_size: DISK, cluster_bits: 12, backing: None };
            lq_qcow2::create(&file, &options).unwrap();
        }
    }
    DiskImage { path: path.display().to_string(), format, backing: None }
}

fn disk(image: &DiskImage, limits: IoLimits, lease: &Arc<Fence>) -> Driver {
    let disk = movable::open(image, false, true, Arc::clone(lease)).unwrap();
    Driver::new(Block::limited(
        Box::new(disk),
        "one",
        false,
        1,
        limits,
        Holds { lease: Arc::clone(lease), ..Holds::default() },
    ))
}

#[test]
fn a_disk_grows_under_its_driver() {
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        let directory = tempfile::tempdir().unwrap();
        let image = image(&directory, format);
        let mut driver = disk(&image, IoLimits::default(), &Arc::default());
        driver.start(0, 16);
        driver.write(DATA, &[7; 512]);
        assert_eq!(request(&mut driver, 1, 5, &[(DATA, 512, false)]).0, 0);
        let last = 3 * DISK / 512 - 1;
        assert_eq!(request(&mut driver, 1, last, &[(DATA, 512, false)]).0, 1, "outside of the disk");
        for bad in [DISK - 512, DISK + 1] {
            assert!(driver.pci.change(Change::Size(bad)).is_err());
        }
        assert!(driver.pci.change(Change::Link(true)).is_err());
        assert_eq!(driver.config(0, 8), DISK / 512);
        driver.pci.change(Change::Size(3 * DISK)).unwrap();
        assert!(driver.interrupted(0, Duration::from_secs(10)), "the driver is told");
        assert_eq!(driver.config(0, 8), 3 * DISK / 512);
        assert_eq!(request(&mut driver, 1, last, &[(DATA, 512, false)]), (0, 1));
        driver.write(DATA, &[0xff; 1024]);
        assert_eq!(request(&mut driver, 0, last - 1, &[(DATA, 1024, true)]), (0, 1025));
        assert_eq!(driver.read(DATA, 1024), [[0; 512], [7; 512]].concat());
        assert_eq!(request(&mut driver, 0, 5, &[(DATA, 512, true)]), (0, 513));
        assert_eq!(driver.read(DATA, 512), [7; 512]);
        assert_eq!(request(&mut driver, 4, 0, &[]).0, 0);
        // Whoever opens it next finds it so; nobody could meanwhile.
        assert!(movable::open(&image, false, true, Arc::default()).is_err());
        drop(driver);
        let again = disk(&image, IoLimits::default(), &Arc::default()).config(0, 8);
        assert_eq!(again, 3 * DISK / 512);
    }
}

fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

#[test]
fn a_disk_keeps_its_limits_which_can_be_changed_at_any_time() {
    let directory = tempfile::tempdir().unwrap();
    let limits = IoLimits { bandwidth: None, operations: rate(100, 1) };
    let mut driver = disk(&image(&directory, ImageFormat::Raw), limits, &Arc::default());
    driver.start(0, 64);
    driver.write(HEADER, &[0; 16]);
    let chain = [(HEADER, 16, false), (DATA, 4096, true), (STATUS, 1, true)];
    let run = |driver: &mut Driver, count: u32| {
        let begin = Instant::now();
        for _ in 0..count {
            driver.offer(0, &chain);
        }
        driver.ring(0);
        for _ in 0..count {
            assert_eq!(driver.wait_used(0).1, 4097);
        }
        begin.elapsed()
    };
    let took = run(&mut driver, 16);
    assert!(took >= Duration::from_millis(149), "{took:?}");
    // 16 times 4 KiB at 64 KiB a second, the first at once.
    let limits = IoLimits { bandwidth: rate(65536, 4096), operations: None };
    driver.pci.change(Change::DiskLimits(limits)).unwrap();
    let took = run(&mut driver, 9);
    assert!(took >= Duration::from_millis(499), "{took:?}");
    // One that would wait for ever goes on as soon as it may.
    driver.pci.change(Change::DiskLimits(IoLimits { bandwidth: rate(1, 1), operations: None })).unwrap();
    driver.offer(0, &chain);
    driver.offer(0, &chain);
    driver.ring(0);
    assert_eq!(driver.wait_used(0).1, 4097);
    assert_eq!(driver.try_wait_used(0, Duration::from_millis(50)), None);
    driver.pci.change(Change::DiskLimits(IoLimits::default())).unwrap();
    assert_eq!(driver.wait_used(0).1, 4097);
}

#[test]
fn a_request_that_waits_costs_no_time_of_the_processor() {
    let directory = tempfile::tempdir().unwrap();
    let limits = IoLimits { bandwidth: None, operations: rate(2, 1) };
    let mut driver = disk(&image(&directory, ImageFormat::Raw), limits, &Arc::default());
    driver.start(0, 16);
    request(&mut driver, 4, 0, &[]);
    // The thread of the device is the newest of its name.
    let spent = || -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| {
                let path = task.ok()?.path();
                std::fs::read_to_string(path.join("comm")).ok()?.starts_with("virtio-blk").then_some(())?;
                let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
                text.split(' ').next()?.parse::<u64>().ok()
            })
            .sum()
    };
    driver.offer(0, &[(HEADER, 16, false), (STATUS, 1, true)]);
    driver.ring(0);
    std::thread::sleep(Duration::from_millis(20));
    let before = spent();
    std::thread::sleep(Duration::from_millis(300));
    // Other tests' devices are in the sum too: a thread that spins would take all of it.
    assert!(spent().saturating_sub(before) < 250_000_000);
    driver.wait_used(0);
}

#[test]
fn requests_are_held_while_the_lease_is_out_and_served_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let fence = Arc::<Fence>::default();
    let mut lease = Lease::none(Duration::from_secs(3600), Duration::from_secs(3600));
    let mut driver = disk(&image(&directory, ImageFormat::Raw), IoLimits::default(), &fence);
    driver.start(0, 16);
    let now = fence::now();
    lease.set(now, 1, crate::lease::Moment(now.0 + 7_200_000_000_000)).unwrap();
    fence.follow(&lease);
    assert_eq!(request(&mut driver, 4, 0, &[]).0, 0);
    lease.release(now, 1, false).unwrap();
    fence.follow(&lease);
    driver.write(HEADER, &[&1_u32.to_le_bytes()[..], &[0; 12]].concat());
    driver.write(DATA, &[9; 512]);
    driver.offer(0, &[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
    driver.ring(0);
    assert_eq!(driver.try_wait_used(0, Duration::from_millis(100)), None);
    let content = || std::fs::read(directory.path().join("disk")).unwrap()[..512].to_vec();
    assert_eq!(content(), [0; 512]);
    lease.set(now, 2, crate::lease::Moment(now.0 + 7_200_000_000_000)).unwrap();
    fence.follow(&lease);
    assert_eq!(driver.wait_used(0).1, 1);
    assert_eq!(content(), [9; 512]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is changed between and under requests, each is answered once and right.
    #[test]
    fn changes_never_lose_a_request(steps in prop::collection::vec((0_u8..5, any::<u8>()), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        let mut driver = disk(&image(&directory, ImageFormat::Qcow2), IoLimits::default(), &Arc::default());
        driver.start(0, 16);
        let mut size = DISK;
        for (step, value) in steps {
            driver.write(DATA, &[value; 512]);
            driver.write(HEADER, &[&1_u32.to_le_bytes()[..], &[0; 4], &(size / 512 - 1).to_le_bytes()].concat());
            let head = driver.offer(0, &[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
            driver.ring(0);
            match step {
                0 => {
                    size += 65536;
                    driver.pci.change(Change::Size(size)).unwrap();
                }
                1 => {
                    let limits = IoLimits { bandwidth: rate(1 << 20, 512), operations: rate(1000, 1) };
                    driver.pci.change(Change::DiskLimits(limits)).unwrap();
                }
                2 => driver.pci.change(Change::DiskLimits(IoLimits::default())).unwrap(),
                3 => {
                    driver.pci.pause();
                    driver.pci.resume();
                }
                _ => {}
            }
            prop_assert_eq!(driver.wait_used(0), (head, 1));
            prop_assert_eq!(driver.read(STATUS, 1)[0], 0);
        }
    }
}
