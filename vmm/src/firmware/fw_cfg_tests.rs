use super::*;
use crate::memory;
use proptest::prelude::*;

const RAM_SIZE: u64 = 4 << 20;
const REQUEST: u64 = 0x1000;
const BUFFER: u64 = 0x2000;

fn device() -> FwCfg {
    let mut device = FwCfg::new(memory::create(RAM_SIZE).unwrap());
    device.add_file("etc/e820", vec![7; 100]).unwrap();
    device.add_writable("etc/ramfb", vec![0; 28]).unwrap();
    let count = std::sync::atomic::AtomicU8::new(0);
    let late = move || {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        vec![vec![n; 5], vec![n; 6]]
    };
    device.with_late(&["etc/acpi/rsdp", "etc/acpi/tables"], Box::new(late)).unwrap();
    device
}

fn dma(device: &mut FwCfg, control: u32, length: u32, target: u64) -> u32 {
    let mut request = control.to_be_bytes().to_vec();
    request.extend(length.to_be_bytes());
    request.extend(target.to_be_bytes());
    device.memory.write_slice(&request, GuestAddress(REQUEST)).unwrap();
    device.write(DMA_HIGH, &[0; 4]);
    device.write(DMA_LOW, &(REQUEST as u32).to_be_bytes());
    let mut answer = [0; 4];
    device.memory.read_slice(&mut answer, GuestAddress(REQUEST)).unwrap();
    u32::from_be_bytes(answer)
}

fn read(device: &mut FwCfg, key: u16, length: usize) -> Vec<u8> {
    device.write(SELECTOR, &key.to_le_bytes());
    let mut data = vec![0; length];
    device.read(DATA, &mut data);
    data
}

/// Key and size of a file, as a driver finds it.
fn find(device: &mut FwCfg, name: &str) -> (u16, u32) {
    let count = u32::from_be_bytes(read(device, DIRECTORY, 4).try_into().unwrap());
    for _ in 0..count {
        let mut entry = [0; 64];
        device.read(DATA, &mut entry);
        let found = std::str::from_utf8(&entry[8..]).unwrap().trim_end_matches('\0');
        if found == name {
            let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
            return (u16::from_be_bytes(entry[4..6].try_into().unwrap()), size);
        }
    }
    panic!("{name} is not in the directory");
}

#[test]
fn a_driver_finds_the_device_and_its_files() {
    let mut device = device();
    assert_eq!(read(&mut device, SIGNATURE, 4), b"QEMU");
    assert_eq!(read(&mut device, FEATURES, 4), [3, 0, 0, 0]);
    let mut signature = [0; 8];
    device.read(DMA_HIGH, &mut signature);
    assert_eq!(&signature, b"QEMU CFG");
    let (key, size) = find(&mut device, "etc/e820");
    assert_eq!(size, 100);
    assert_eq!(read(&mut device, key, 101)[98..], [7, 7, 0], "zeros past the end");
    assert_eq!(read(&mut device, 0x7777, 3), [0; 3]);
}

#[test]
fn dma_reads_skips_and_writes_what_may_be_written() {
    let mut device = device();
    let (key, _) = find(&mut device, "etc/e820");
    let select = u32::from(key) << 16 | CONTROL_SELECT;
    assert_eq!(dma(&mut device, select | CONTROL_SKIP, 98, 0), 0);
    assert_eq!(dma(&mut device, CONTROL_READ, 4, BUFFER), 0);
    let mut data = [9; 5];
    device.memory.read_slice(&mut data, GuestAddress(BUFFER)).unwrap();
    assert_eq!(data, [7, 7, 0, 0, 0]);
    assert_eq!(dma(&mut device, select | CONTROL_WRITE, 4, BUFFER), CONTROL_ERROR, "not writable");
    assert_eq!(dma(&mut device, select | CONTROL_READ, 4, RAM_SIZE - 2), CONTROL_ERROR, "not in RAM");

    let (key, size) = find(&mut device, "etc/ramfb");
    let select = u32::from(key) << 16 | CONTROL_SELECT;
    device.memory.write_slice(&[5; 28], GuestAddress(BUFFER)).unwrap();
    assert_eq!(dma(&mut device, select | CONTROL_WRITE, size, BUFFER), 0);
    assert_eq!(device.contents(key), Some(&[5; 28][..]));
    assert_eq!(dma(&mut device, select | CONTROL_WRITE, size + 1, BUFFER), CONTROL_ERROR, "too long");
    let state = device.save();
    device.reset();
    assert_eq!(device.contents(key), Some(&[0; 28][..]));
    device.load(state).unwrap();
    assert_eq!(device.contents(key), Some(&[5; 28][..]));
}

#[test]
fn late_files_are_made_when_first_selected_after_each_power_on() {
    let mut device = device();
    let (key, size) = find(&mut device, "etc/acpi/tables");
    assert_eq!(size, 6);
    assert_eq!(read(&mut device, key, 6), [1; 6]);
    assert_eq!(read(&mut device, key, 6), [1; 6]);
    device.reset();
    assert_eq!(read(&mut device, key, 6), [2; 6]);
}

#[test]
fn names_that_do_not_fit_are_refused() {
    let mut device = device();
    assert_eq!(device.add_file("etc/e820", vec![]), Err(Error::Name("etc/e820".to_owned())));
    assert!(device.add_file(&"x".repeat(56), vec![]).is_err());
    assert!(device.add_file(&"x".repeat(55), vec![]).is_ok());
    let refused = (0..MAX_FILES).map(|n| device.add_file(&n.to_string(), vec![])).find_map(Result::err);
    assert_eq!(refused, Some(Error::TooMany));
}

proptest! {
    #[test]
    fn no_guest_access_breaks_it(
        accesses in prop::collection::vec(
            (FIRST..=LAST, any::<bool>(), prop::collection::vec(any::<u8>(), 1..9)), 0..60),
        requests in prop::collection::vec(
            (any::<u32>(), prop_oneof![Just(0_u32), 0..200_u32, any::<u32>().prop_map(|l| l & 0xff_ffff)],
             prop_oneof![0..RAM_SIZE + 10, any::<u64>()]), 0..20),
    ) {
        let mut device = device();
        let sizes: Vec<_> = (0..0x30).map(|key| device.contents(key).map(<[u8]>::len)).collect();
        for (port, is_write, mut data) in accesses {
            if is_write { device.write(port, &data) } else { device.read(port, &mut data) }
        }
        for (control, length, target) in requests {
            // Selecting files that exist is what matters.
            let control = control & 0xffff | (control >> 16 & 0x3f) << 16;
            let answer = dma(&mut device, control, length, target);
            prop_assert!(answer == 0 || answer == CONTROL_ERROR || target < REQUEST + 16);
        }
        for (key, size) in (0..).zip(sizes) {
            prop_assert_eq!(device.contents(key).map(<[u8]>::len), size);
        }
    }
}
