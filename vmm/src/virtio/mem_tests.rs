//! Memory that comes and goes, driven from its driver's side.

use super::{ACK, BLOCK, ERROR, MIXED, Mem, NACK, PLUG, PLUGGED, STATE, UNPLUG, UNPLUG_ALL, UNPLUGGED};
use crate::{
    change::Change,
    memory::{self, Memory, SharedMemory},
    pci::PciDevice,
    state::State,
    virtio::{
        Counters, VirtioDevice,
        rng::Rng,
        testing::{BUFFERS, Driver},
    },
};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use vm_memory::{Bytes, GuestAddress};

const RAM: u64 = 16 << 20;
const BLOCKS: u64 = 64;
const MOST: u64 = BLOCKS * BLOCK;

/// A machine's memory, the driver of the device, where its region is.
fn bench(requested: u64) -> (Driver, Memory, u64) {
    let memory = memory::create_with(RAM, MOST).unwrap();
    let base = memory::pluggable(RAM, MOST).start;
    let (device, gauge) = Mem::new(&memory, base, MOST, requested).unwrap();
    assert_eq!(gauge.status().most_bytes, MOST);
    let mut driver = Driver::with_memory(device, SharedMemory::new(memory.clone()));
    driver.start(0, 16);
    assert_eq!((driver.config(0, 8), driver.config(16, 8), driver.config(24, 8)), (BLOCK, base, MOST));
    (driver, memory, base)
}

/// Asks; returns answer and state.
fn ask(driver: &mut Driver, kind: u16, address: u64, count: u16) -> (u16, u16) {
    let mut request = [0; 24];
    request[..2].copy_from_slice(&kind.to_le_bytes());
    request[8..16].copy_from_slice(&address.to_le_bytes());
    request[16..18].copy_from_slice(&count.to_le_bytes());
    driver.write(BUFFERS, &request);
    assert_eq!(driver.request(0, &[(BUFFERS, 24, false), (BUFFERS + 0x100, 10, true)]), 10);
    let answer = driver.read(BUFFERS + 0x100, 10);
    (u16::from_le_bytes([answer[0], answer[1]]), u16::from_le_bytes([answer[8], answer[9]]))
}

fn plugged(driver: &mut Driver) -> u64 {
    driver.config(40, 8)
}

#[test]
fn memory_comes_as_far_as_it_is_wanted_and_goes_back_to_the_host() {
    let (mut driver, memory, base) = bench(4 * BLOCK);
    assert_eq!(driver.config(48, 8), 4 * BLOCK, "requested");
    assert_eq!(ask(&mut driver, PLUG, base, 3), (ACK, 0));
    assert_eq!(ask(&mut driver, PLUG, base + 3 * BLOCK, 2), (NACK, 0), "more than is wanted");
    assert_eq!(plugged(&mut driver), 3 * BLOCK);
    driver.pci.change(Change::Memory(8 * BLOCK)).unwrap();
    assert!(driver.interrupted(0, Duration::from_secs(20)), "the driver is told");
    assert_eq!(driver.config(48, 8), 8 * BLOCK);
    assert_eq!(ask(&mut driver, PLUG, base + 3 * BLOCK, 2), (ACK, 0));
    for bad in [MOST + BLOCK, BLOCK / 2] {
        assert!(driver.pci.change(Change::Memory(bad)).is_err());
    }
    memory.write_obj(7_u64, GuestAddress(base + BLOCK)).unwrap();
    // Less is wanted: it stays until the guest lets go of it.
    driver.pci.change(Change::Memory(BLOCK)).unwrap();
    assert_eq!(plugged(&mut driver), 5 * BLOCK);
    assert_eq!(ask(&mut driver, UNPLUG, base + BLOCK, 4), (ACK, 0));
    assert_eq!(memory.read_obj::<u64>(GuestAddress(base + BLOCK)).unwrap(), 0, "the host has it");
    assert_eq!(plugged(&mut driver), BLOCK);
    assert_eq!(ask(&mut driver, STATE, base, 2), (ACK, MIXED));
    assert_eq!(ask(&mut driver, STATE, base, 1), (ACK, PLUGGED));
    assert_eq!(ask(&mut driver, STATE, base + BLOCK, 1), (ACK, UNPLUGGED));
    assert_eq!(ask(&mut driver, UNPLUG_ALL, 0, 0), (ACK, 0));
    assert_eq!(plugged(&mut driver), 0);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (mut driver, _memory, base) = bench(8 * BLOCK);
    assert_eq!(ask(&mut driver, PLUG, base + BLOCK, 2), (ACK, 0));
    for (kind, address, count) in [
        (PLUG, base, 2),
        (PLUG, base + 1, 1),
        (PLUG, base - BLOCK, 1),
        (PLUG, base + MOST, 1),
        (PLUG, base + MOST - BLOCK, 2),
        (PLUG, base, 0),
        (PLUG, u64::MAX, 1),
        (PLUG, 0, 1),
        (UNPLUG, base, 2),
        (UNPLUG, base + MOST - BLOCK, u16::MAX),
        (STATE, 0, 1),
        (4, base, 1),
        (u16::MAX, base, 1),
    ] {
        assert_eq!(ask(&mut driver, kind, address, count).0, ERROR, "{kind} {address:#x} {count}");
        assert_eq!(plugged(&mut driver), 2 * BLOCK);
    }
    assert_eq!(driver.request(0, &[(BUFFERS, 23, false), (BUFFERS + 0x100, 10, true)]), 0);
    assert_eq!(driver.request(0, &[(BUFFERS, 24, false), (BUFFERS + 0x100, 9, true)]), 0);
    assert_eq!(driver.status(), 15);
}

#[test]
fn devices_refuse_memory_that_is_not_there() {
    let memory = memory::create_with(RAM, MOST).unwrap();
    let base = memory::pluggable(RAM, MOST).start;
    let there = memory::presence(&memory, base).unwrap();
    there.begin(MOST);
    [0, 1].iter().for_each(|block| there.set(*block, true));
    let source = Rng::new();
    let counters: Arc<Counters> = source.counters();
    let mut rng = Driver::with_memory(source, SharedMemory::new(memory.clone()));
    rng.start(0, 16);
    let end = base + 2 * BLOCK;
    assert_eq!(rng.request(0, &[(end - 512, 512, true)]), 512);
    for refused in
        [(end, 64, true), (end - 64, 128, true), (base + MOST - 8, 8, true), (end - 64, 1 << 22, true)]
    {
        assert_eq!(rng.request(0, &[refused]), 0, "{refused:?}");
    }
    assert_eq!(counters.stats().errors, 4);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(end)).unwrap(), 0);
    there.set(1, false);
    assert_eq!(rng.request(0, &[(end - 512, 512, true)]), 0, "it was there");
    assert_eq!(rng.request(0, &[(base, 16, true)]), 16);
    // Nor do rings lie there.
    rng.set_status(0);
    rng.accept_features(crate::virtio::F_COMMON);
    rng.set_status(11);
    rng.common_write(0x20, 8, base + BLOCK);
    rng.common_write(0x28, 8, base);
    rng.common_write(0x30, 8, base + 0x1000);
    rng.common_write(0x1c, 2, 1);
    rng.set_status(15);
    rng.wait_needs_reset();
}

#[test]
fn it_moves_as_it_is_outlives_its_driver_and_not_the_power() {
    let (mut driver, memory, base) = bench(8 * BLOCK);
    ask(&mut driver, PLUG, base + BLOCK, 1);
    ask(&mut driver, PLUG, base + 3 * BLOCK, 2);
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    let text = serde_json::to_value(&state).unwrap();
    assert_eq!(
        text.pointer("/components/0/fields/device").unwrap(),
        &serde_json::json!({"requested": 8 * BLOCK, "plugged": [[1, 1], [3, 2]]}),
        "as the first version saved it"
    );
    let (mut other, elsewhere, _) = bench(0);
    assert_eq!(other.pci.describe(), driver.pci.describe());
    other.pci.pause();
    other.pci.load(1, &mut state).unwrap();
    let presence = memory::presence(&elsewhere, base).unwrap();
    assert_eq!((0..BLOCKS).filter(|n| presence.has(*n)).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!((plugged(&mut other), other.config(48, 8)), (3 * BLOCK, 8 * BLOCK));
    for bad in [
        serde_json::json!({"requested": 8 * BLOCK, "plugged": [[63, 2]]}),
        serde_json::json!({"requested": 8 * BLOCK, "plugged": [[1, u64::MAX]]}),
        serde_json::json!({"requested": MOST + BLOCK, "plugged": []}),
        serde_json::json!({"requested": 1, "plugged": []}),
    ] {
        let mut text = text.clone();
        *text.pointer_mut("/components/0/fields/device").unwrap() = bad;
        let mut state: State = serde_json::from_value(text).unwrap();
        assert!(other.pci.load(1, &mut state).is_err());
    }
    driver.pci.resume();
    // Another driver finds it as it is; a reset of the machine takes it away.
    driver.start(0, 16);
    assert_eq!(plugged(&mut driver), 3 * BLOCK);
    driver.pci.reset();
    assert!(!memory::presence(&memory, base).unwrap().any(0, MOST));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blocks_are_what_a_model_says(
        steps in prop::collection::vec((0..5_u16, 0..BLOCKS + 2, 0..6_u16, 0..=BLOCKS), 1..40),
    ) {
        let (mut driver, memory, base) = bench(0);
        let (mut there, mut wanted) = (BTreeSet::new(), 0);
        for (kind, first, count, request) in steps {
            if kind == 4 {
                wanted = request;
                driver.pci.change(Change::Memory(request * BLOCK)).unwrap();
                continue;
            }
            let range: BTreeSet<u64> = (first..first + u64::from(count)).collect();
            let valid = count > 0 && first + u64::from(count) <= BLOCKS;
            let expected = match kind {
                UNPLUG_ALL => { there.clear(); ACK }
                _ if !valid => ERROR,
                PLUG if !there.is_disjoint(&range) => ERROR,
                PLUG if there.len() as u64 + u64::from(count) > wanted => NACK,
                PLUG => { there.extend(&range); ACK }
                UNPLUG if !there.is_superset(&range) => ERROR,
                UNPLUG => { there.retain(|block| !range.contains(block)); ACK }
                _ => ACK,
            };
            prop_assert_eq!(ask(&mut driver, kind, base + first * BLOCK, count).0, expected);
            prop_assert_eq!(plugged(&mut driver), there.len() as u64 * BLOCK);
            let presence = memory::presence(&memory, base).unwrap();
            prop_assert!((0..BLOCKS).all(|block| presence.has(block) == there.contains(&block)));
        }
    }
}
