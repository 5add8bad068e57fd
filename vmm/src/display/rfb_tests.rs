use super::*;
use crate::{
    display::ramfb::Surface,
    memory::{self, Memory},
};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const SURFACE: Surface = Surface { address: 0, width: 70, height: 3, stride: 280 };

fn screen() -> (Memory, Frame) {
    let memory = memory::create(4 << 20).unwrap();
    let mut frame = Frame::default();
    frame.update(Some(SURFACE), &memory);
    (memory, frame)
}

fn sent(viewer: &mut Viewer) -> Vec<u8> {
    std::mem::take(viewer.output())
}

fn ready(frame: &Frame) -> Viewer {
    let mut viewer = Viewer::new("web-1");
    assert_eq!(sent(&mut viewer), b"RFB 003.008\n");
    viewer.take(b"RFB 003.008\n", frame).unwrap();
    assert_eq!(sent(&mut viewer), [1, 1]);
    viewer.take(&[1], frame).unwrap();
    assert_eq!(sent(&mut viewer), [0; 4]);
    viewer.take(&[1], frame).unwrap();
    let init = sent(&mut viewer);
    assert_eq!(init[..4], [0, 70, 0, 3]);
    assert_eq!(&init[20..], b"\0\0\0\x05web-1");
    viewer
}

fn encodings(list: &[i32]) -> Vec<u8> {
    let mut message = vec![2, 0];
    message.extend((list.len() as u16).to_be_bytes());
    list.iter().for_each(|e| message.extend(e.to_be_bytes()));
    message
}

const WHOLE: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 70, 0, 3];
const CHANGES: [u8; 10] = [3, 1, 0, 0, 0, 0, 0, 70, 0, 3];

#[test]
fn older_viewers_are_greeted_in_their_way() {
    let (_, frame) = screen();
    for (version, security) in [(b"RFB 003.003\n", &[0, 0, 0, 1][..]), (b"RFB 003.007\n", &[1, 1])] {
        let mut viewer = Viewer::new("m");
        sent(&mut viewer);
        viewer.take(version, &frame).unwrap();
        assert_eq!(sent(&mut viewer), security);
        let shared: &[u8] = if security.len() == 2 { &[1, 1] } else { &[1] };
        viewer.take(shared, &frame).unwrap();
        assert_eq!(sent(&mut viewer).len(), 24 + 1, "no result of the security for this version");
    }
    let mut viewer = Viewer::new("m");
    assert_eq!(viewer.take(b"GET / HTTP/1.1\r\n", &frame), Err(Fault::Version));
    let mut viewer = Viewer::new("m");
    assert_eq!(viewer.take(b"RFB 003.008\n\x02", &frame), Err(Fault::Security));
}

#[test]
fn pictures_are_sent_when_asked_for_and_then_only_changes() {
    let (memory, mut frame) = screen();
    let mut viewer = ready(&frame);
    viewer.show(&frame).unwrap();
    assert!(sent(&mut viewer).is_empty());
    viewer.take(&WHOLE, &frame).unwrap();
    assert!(viewer.waits());
    viewer.show(&frame).unwrap();
    let picture = sent(&mut viewer);
    assert_eq!(picture[..16], [0, 0, 0, 1, 0, 0, 0, 0, 0, 70, 0, 3, 0, 0, 0, 0]);
    assert_eq!(picture.len(), 16 + 70 * 3 * 4);
    viewer.take(&CHANGES, &frame).unwrap();
    viewer.show(&frame).unwrap();
    assert!(sent(&mut viewer).is_empty(), "nothing has changed");
    memory.write_obj(0x00aa_bbcc_u32, GuestAddress(280 + 65 * 4)).unwrap();
    frame.update(Some(SURFACE), &memory);
    viewer.show(&frame).unwrap();
    let picture = sent(&mut viewer);
    assert_eq!(picture[..12], [0, 0, 0, 1, 0, 64, 0, 0, 0, 6, 0, 3]);
    assert_eq!(picture[16 + (6 + 1) * 4..][..4], [0xcc, 0xbb, 0xaa, 0]);
    assert!(!viewer.waits());
}

#[test]
fn sizes_are_told_to_those_who_can_follow() {
    let (memory, mut frame) = screen();
    let mut extended = ready(&frame);
    let mut plain = ready(&frame);
    let mut fixed = ready(&frame);
    extended.take(&encodings(&[ZRLE, EXTENDED_DESKTOP_SIZE, QEMU_EXTENDED_KEYS]), &frame).unwrap();
    plain.take(&encodings(&[RAW, DESKTOP_SIZE]), &frame).unwrap();
    for viewer in [&mut extended, &mut plain, &mut fixed] {
        viewer.take(&WHOLE, &frame).unwrap();
        viewer.show(&frame).unwrap();
    }
    let first = sent(&mut extended);
    assert_eq!(first[..4], [0, 0, 0, 3], "size, keys, picture");
    assert_eq!(first[12..16], EXTENDED_DESKTOP_SIZE.to_be_bytes());
    assert_eq!(first[36 + 8..36 + 12], QEMU_EXTENDED_KEYS.to_be_bytes());
    assert_eq!(first[48 + 8..48 + 12], ZRLE.to_be_bytes());
    sent(&mut plain);
    sent(&mut fixed);
    let larger = Surface { width: 100, height: 50, stride: 400, ..SURFACE };
    frame.update(Some(larger), &memory);
    for viewer in [&mut extended, &mut plain, &mut fixed] {
        viewer.take(&CHANGES, &frame).unwrap();
        viewer.show(&frame).unwrap();
    }
    assert_eq!(sent(&mut extended)[4..12], [0, 0, 0, 0, 0, 100, 0, 50]);
    assert_eq!(sent(&mut plain)[4..16], [0, 0, 0, 0, 0, 100, 0, 50, 0xff, 0xff, 0xff, 0x21]);
    assert_eq!(sent(&mut fixed)[4..12], [0, 0, 0, 0, 0, 70, 0, 3], "it sees what fits");
    // A wish for another size is answered with a refusal.
    let mut wish = vec![251, 0, 3, 32, 2, 88, 1, 0];
    wish.extend([0; 16]);
    extended.take(&wish, &frame).unwrap();
    extended.take(&CHANGES, &frame).unwrap();
    extended.show(&frame).unwrap();
    assert_eq!(sent(&mut extended)[4..12], [0, 1, 0, 1, 0, 100, 0, 50]);
}

#[test]
fn keys_and_pointer_come_through_in_pieces_too() {
    let (_, frame) = screen();
    let mut viewer = ready(&frame);
    let mut bytes = vec![4, 1, 0, 0, 0, 0, 0, b'a'];
    bytes.extend([255, 0, 0, 1, 0, 0, 0xff, 0x52, 0, 0, 0, 0xc8]);
    bytes.extend([255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0x48]);
    bytes.extend([6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    bytes.extend([5, 5, 0, 7, 0, 2]);
    let mut inputs = Vec::new();
    for byte in bytes {
        inputs.extend(viewer.take(&[byte], &frame).unwrap());
    }
    assert_eq!(
        inputs,
        [
            Input::Key { down: true, symbol: u32::from(b'a'), code: None },
            Input::Key { down: true, symbol: 0xff52, code: Some(0xc8) },
            Input::Key { down: false, symbol: 0, code: Some(0xc8) },
            Input::Pointer { x: 7, y: 2, buttons: 5 },
        ]
    );
    assert_eq!(viewer.take(&[6, 0, 0, 0, 0x7f, 0, 0, 0], &frame), Err(Fault::TooLong));
}

proptest! {
    #[test]
    fn nothing_a_viewer_sends_breaks_the_server(
        parts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(WHOLE.to_vec()), Just(CHANGES.to_vec()),
            prop::collection::vec(any::<i32>(), 0..5).prop_map(|list| encodings(&list)),
            Just(encodings(&[ZRLE, DESKTOP_SIZE])),
            (any::<[u8; 9]>()).prop_map(|rest| { let mut m = vec![3]; m.extend(rest); m }),
        ], 0..12),
    ) {
        let (memory, mut frame) = screen();
        let mut viewer = ready(&frame);
        for part in parts {
            if viewer.take(&part, &frame).is_err() {
                break;
            }
            frame.update(Some(SURFACE), &memory);
            viewer.show(&frame).unwrap();
            prop_assert!(viewer.output().len() < 70 * 3 * 4 + 200);
            viewer.output().clear();
        }
    }
}
