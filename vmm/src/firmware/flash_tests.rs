use super::*;
use proptest::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

const SIZE: u64 = 16 * BLOCK;

#[derive(Clone, Default)]
struct Window(Arc<AtomicBool>);

impl ReadWindow for Window {
    fn map(&self, base: u64, mapping: &Mapping) -> io::Result<()> {
        assert_eq!((base, mapping.bytes().len() as u64), (0xffc0_0000, SIZE));
        assert!(!self.0.swap(true, Ordering::SeqCst), "mapped twice");
        Ok(())
    }
    fn unmap(&self) -> io::Result<()> {
        assert!(self.0.swap(false, Ordering::SeqCst), "unmapped twice");
        Ok(())
    }
}

fn flash() -> (Flash, File, Window) {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![0xee; SIZE as usize], 0).unwrap();
    let window = Window::default();
    let flash = Flash::new(file.try_clone().unwrap(), SIZE, 0xffc0_0000, Box::new(window.clone())).unwrap();
    (flash, file, window)
}

fn byte(flash: &Flash, offset: u64) -> u8 {
    let mut data = [0];
    assert!(flash.read(offset, &mut data));
    data[0]
}

fn stored(file: &File, offset: u64) -> u8 {
    let mut data = [0];
    file.read_exact_at(&mut data, offset).unwrap();
    data[0]
}

#[test]
fn firmware_that_looks_for_flash_finds_it() {
    let (mut flash, _, window) = flash();
    assert!(window.0.load(Ordering::SeqCst));
    assert_eq!(byte(&flash, 0), 0xee);
    flash.write(0, &[0x50]);
    assert_ne!(byte(&flash, 0), 0x50, "not RAM");
    flash.write(0, &[0x70]);
    assert_eq!(byte(&flash, 0), 0, "the cleared status");
    assert!(!window.0.load(Ordering::SeqCst));
    flash.write(0, &[0xff]);
    assert_eq!(byte(&flash, 0), 0xee);
    assert!(window.0.load(Ordering::SeqCst));
}

#[test]
fn what_is_programmed_and_erased_is_in_the_file_once_the_array_is_read_again() {
    let (mut flash, file, _) = flash();
    for (at, value) in [(5, 1), (6, 2), (BLOCK + 1, 3)] {
        flash.write(at, &[0x10]);
        flash.write(at, &[value]);
        assert_eq!(byte(&flash, at), STATUS_READY);
    }
    assert_eq!(stored(&file, 5), 0xee, "not before the barrier");
    flash.write(6, &[0xff]);
    assert_eq!([5, 6, BLOCK + 1].map(|at| stored(&file, at)), [1, 2, 3]);
    flash.write(7, &[0x20]);
    flash.write(7, &[0xd0]);
    flash.write(7, &[0xff]);
    assert_eq!([0, 5, BLOCK - 1, BLOCK, BLOCK + 1].map(|at| stored(&file, at)), [0xff, 0xff, 0xff, 0xee, 3]);
    assert_eq!(byte(&flash, 5), 0xff);
}

#[test]
fn a_buffered_write_needs_its_confirmation() {
    let (mut flash, file, _) = flash();
    for (confirmation, expected) in [(0x00, 0xee), (0xd0, 4)] {
        flash.write(0x100, &[0xe8]);
        assert_eq!(byte(&flash, 0x100) & STATUS_READY, STATUS_READY);
        flash.write(0x100, &[2]);
        for at in 0x100..0x103 {
            flash.write(at, &[4]);
        }
        flash.write(0x100, &[confirmation]);
        flash.write(0x100, &[0x50]);
        flash.write(0x100, &[0xff]);
        assert_eq!([0x100, 0x102].map(|at| stored(&file, at)), [expected; 2]);
        assert_eq!(stored(&file, 0x103), 0xee);
    }
}

#[test]
fn an_erase_without_confirmation_fails_and_erases_nothing() {
    let (mut flash, _, _) = flash();
    flash.write(0, &[0x20]);
    flash.write(0, &[0x10]);
    assert_eq!(byte(&flash, 0), STATUS_READY | STATUS_ERASE_FAILED | STATUS_PROGRAM_FAILED);
    flash.write(0, &[0xff]);
    assert_eq!(byte(&flash, 0), 0xee);
}

#[test]
fn tables_tell_what_it_is() {
    let (mut flash, _, _) = flash();
    flash.write(0, &[0x98]);
    let query: Vec<u8> = (0x10..0x13).map(|at| byte(&flash, at)).collect();
    assert_eq!(query, b"QRY");
    assert_eq!(byte(&flash, 0x27), 16);
    flash.write(0, &[0x90]);
    assert_eq!((byte(&flash, 0), byte(&flash, 1)), (MANUFACTURER, DEVICE));
}

#[test]
fn a_file_that_takes_nothing_is_seen_in_the_status() {
    let (_, file, _) = flash();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let read_only = File::open(path).unwrap();
    let mut flash = Flash::new(read_only, SIZE, 0xffc0_0000, Box::<Window>::default()).unwrap();
    flash.write(3, &[0x40]);
    flash.write(3, &[9]);
    flash.write(3, &[0xff]);
    flash.write(3, &[0x70]);
    assert_eq!(byte(&flash, 3) & STATUS_PROGRAM_FAILED, STATUS_PROGRAM_FAILED);
    flash.write(3, &[0xff]);
    assert_eq!(byte(&flash, 3), 9, "what was written is not lost while the machine lives");
}

#[test]
fn a_flash_of_another_size_is_refused_by_its_name() {
    let (mut one, _, _) = flash();
    let good = one.save();
    for contents in [
        vec![],
        vec![0xff; 40],
        lz4_flex::block::compress(&[0; 2 * SIZE as usize]),
        lz4_flex::block::compress(&[1]),
    ] {
        let bad = SavedFlash { contents, ..good.clone() };
        assert!(one.load(&bad).unwrap_err().to_string().contains("variable-flash"));
    }
    one.load(&good).unwrap();
    assert_eq!(byte(&one, 0), 0xee);
}

proptest! {
    #[test]
    fn no_guest_access_breaks_it_and_a_saved_state_goes_on(
        writes in prop::collection::vec((0..SIZE + 9, prop_oneof![
            any::<u8>(), prop::sample::select(vec![0x10_u8, 0x20, 0xd0, 0xe8, 0x50, 0x60, 0x70, 0x90, 0x98, 0xff])], 1_usize..9), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut flash, mut file, window) = flash();
        let at = if writes.is_empty() { 0 } else { cut.index(writes.len()) };
        for (n, (offset, value, width)) in writes.iter().enumerate() {
            if n == at {
                let saved = flash.save();
                let text = serde_json::to_string(&saved).unwrap();
                // Another file, with something else in it.
                file = tempfile::tempfile().unwrap();
                file.write_all_at(&vec![0x33; SIZE as usize], 0).unwrap();
                flash = Flash::new(file.try_clone().unwrap(), SIZE, 0xffc0_0000, Box::<Window>::default()).unwrap();
                flash.load(&serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(stored(&file, 0), 0x33, "left alone until the machine is ours");
                prop_assert_eq!(flash.save(), saved);
            }
            prop_assert_eq!(flash.write(*offset, &vec![*value; *width]), *offset < SIZE);
            prop_assert_eq!(flash.read(*offset, &mut vec![0; *width]), *offset < SIZE);
        }
        flash.reset();
        drop(window);
        for at in (0..SIZE).step_by(37) {
            prop_assert_eq!(byte(&flash, at), stored(&file, at));
        }
    }
}
