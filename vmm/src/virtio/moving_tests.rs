//! Devices that are saved and go on as another one: their driver must not notice.

use super::{
    VirtioPci,
    blk::Block,
    testing::{self, Driver, FakePlatform},
    tests::{DATA, DISK, HEADER, STATUS, request},
};
use crate::{disk::Raw, pci::PciDevice, state::State};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};
use tempfile::NamedTempFile;

fn empty_disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK).unwrap();
    disk
}

fn device(disk: &NamedTempFile) -> Block {
    Block::new(Box::new(Raw::new(disk.reopen().unwrap(), DISK)), "one", false)
}

/// Moves the device to another of its kind, as a migration does; the driver does not notice.
fn move_device(driver: &mut Driver, disk: &NamedTempFile) {
    let saved = |pci: &mut VirtioPci| {
        let mut state = State::default();
        pci.save(1, &mut state).unwrap();
        state
    };
    driver.pci.pause();
    let mut state = saved(&mut driver.pci);
    let text = serde_json::to_string(&state).unwrap();
    let platform = Arc::new(FakePlatform::default());
    let mut other =
        VirtioPci::new(Box::new(device(disk)), driver.memory.clone(), Arc::clone(&platform) as _).unwrap();
    assert_eq!(other.describe(), driver.pci.describe());
    other.load(1, &mut state).unwrap();
    assert!(state.finish().is_ok());
    assert_eq!(serde_json::to_string(&saved(&mut other)).unwrap(), text, "the state is the same again");
    other.bar_moved(0, Some(testing::BAR_BASE)).unwrap();
    driver.pci = other;
    driver.platform = platform;
    driver.pci.resume();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_device_goes_on_where_it_was_saved(steps in prop::collection::vec((any::<u8>(), any::<bool>()), 1..12)) {
        let disk = empty_disk();
        let mut driver = Driver::new(device(&disk));
        // Before the driver has begun there is a state too.
        move_device(&mut driver, &disk);
        driver.start(0, 16);
        for (value, moves) in steps {
            driver.write(DATA, &[value; 512]);
            // Asked for, and the device moves before or after it is served.
            let head = {
                driver.write(HEADER, &[&1_u32.to_le_bytes()[..], &[0; 12]].concat());
                driver.offer(0, &[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)])
            };
            driver.ring(0);
            if moves {
                move_device(&mut driver, &disk);
                prop_assert!(driver.interrupted(1, Duration::from_secs(20)), "an interrupt may have been on its way");
            }
            prop_assert_eq!(driver.wait_used(0).0, head);
            prop_assert_eq!(request(&mut driver, 0, 0, &[(DATA + 512, 512, true)]).0, 0);
            prop_assert_eq!(driver.read(DATA + 512, 512), vec![value; 512]);
        }
    }
}

#[test]
fn a_state_that_is_no_devices_is_refused() {
    let disk = empty_disk();
    let mut driver = Driver::new(device(&disk));
    driver.start(0, 16);
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    let good = serde_json::to_value(&state).unwrap();
    let fields = "/components/0/fields";
    for (place, value) in [
        ("/config", serde_json::json!([1, 2, 3])),
        ("/config/0", 0x55.into()),
        ("/common/queues", serde_json::json!([])),
        ("/common/queues/0/size", 3.into()),
        ("/common/device_features", u64::MAX.into()),
        ("/msix/table", serde_json::json!([])),
        ("/queues", serde_json::json!([null, null])),
        ("/device", serde_json::json!({"surprise": 1})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(&format!("{fields}{place}")).unwrap() = value;
        let mut state: State = serde_json::from_value(bad).unwrap();
        let platform = Arc::new(FakePlatform::default());
        let mut other = VirtioPci::new(Box::new(device(&disk)), driver.memory.clone(), platform).unwrap();
        let error = other.load(1, &mut state).unwrap_err().to_string();
        assert!(error.contains("virtio-pci"), "{place}: {error}");
    }
}
