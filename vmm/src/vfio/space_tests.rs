use super::*;
use proptest::prelude::*;

/// A capability of a function: where, what, and its body after id and link.
pub(super) type Capability<'a> = (usize, u8, &'a [u8]);

/// The configuration space of a function with these capabilities.
pub(crate) fn found(capabilities: &[Capability<'_>], extended: &[(usize, u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[0..4].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10]);
    // Of several functions, with an interrupt line and a ROM.
    bytes[HEADER_TYPE] = 0x80;
    bytes[0x30..0x34].copy_from_slice(&0xfea0_0001_u32.to_le_bytes());
    bytes[0x3d] = 1;
    bytes[BAR0] = 0b1100;
    bytes[BAR0 + 8] = 1;
    bytes[BAR0 + 12] = 0;
    let mut link = CAPABILITY_POINTER;
    for (at, id, body) in capabilities {
        bytes[STATUS] = STATUS_CAPABILITIES;
        bytes[link] = *at as u8;
        bytes[*at] = *id;
        bytes[at + 2..at + 2 + body.len()].copy_from_slice(body);
        link = at + 1;
    }
    let mut link = None;
    for (at, id, body) in extended {
        let header = u32::from(*id) | 1 << 16;
        bytes[*at..at + 4].copy_from_slice(&header.to_le_bytes());
        bytes[at + 4..at + 4 + body.len()].copy_from_slice(body);
        if let Some(link) = link.replace(*at) {
            let pointer = 1 | (*at as u16) << 4;
            bytes[link + 2..link + 4].copy_from_slice(&pointer.to_le_bytes());
        }
    }
    bytes
}

pub(crate) const SIZES: [u64; 6] = [0x4000, 0, 0x20, 0x1000, 0, 0];
/// Five vectors, the table at 0x2000 and the pending bits at 0x3000 of BAR 0.
pub(crate) const MSIX_BODY: &[u8] = &[4, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0];
/// Eight vectors, 64 bits, masks.
pub(crate) const MSI_BODY: &[u8] = &[0x86, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Version 2, an endpoint that resets, with a link.
pub(crate) const EXPRESS_BODY: &[u8] =
    &[2, 0, 0xc0, 0x8f, 0, 0x10, 0x10, 0x28, 0, 0, 0x41, 0xf8, 3, 0, 0x40, 0, 0x41, 0x10];

pub(crate) fn usual() -> Vec<u8> {
    found(
        &[
            (0xc8, POWER, &[0x22, 0xc8, 0, 0x20, 0, 0]),
            (0xd0, MSI, MSI_BODY),
            (0xa0, MSIX, MSIX_BODY),
            (0x60, EXPRESS, EXPRESS_BODY),
            (0x50, 0x03, &[0, 0, 1, 2, 3, 4]),
            (0x40, VENDOR, &[8, 1, 2, 3, 4, 5]),
        ],
        &[(0x100, 0x01, &[0; 0x40]), (0x150, 0x03, &[1, 2, 3, 4, 5, 6, 7, 8]), (0x160, 0x10, &[0; 0x3c])],
    )
}

fn space() -> Space {
    Space::new(&usual(), &SIZES).unwrap()
}

/// What a guest reads where the function answers `own`.
fn read(space: &Space, own: &[u8], offset: u16, data: &mut [u8]) {
    for (i, byte) in data.iter_mut().enumerate() {
        *byte = own.get(usize::from(offset) + i).copied().unwrap_or(0xff);
    }
    if !space.asks(offset, data.len()) {
        data.fill(0xee);
    }
    space.overlay(offset, data);
}

fn get(space: &Space, offset: u16) -> u32 {
    let mut data = [0; 4];
    read(space, &usual(), offset, &mut data);
    u32::from_le_bytes(data)
}

fn set(space: &mut Space, offset: u16, data: &[u8]) -> (Effect, Vec<(u16, Vec<u8>)>) {
    let mut passed = Vec::new();
    let effect = space.write(offset, data, |at, bytes| passed.push((at, bytes.to_vec())));
    (effect, passed)
}

fn list(space: &Space) -> Vec<(u16, u8)> {
    let mut at = get(space, 0x34) as u16 & 0xff;
    let mut all = Vec::new();
    while at != 0 && all.len() < 64 {
        let word = get(space, at & !3);
        all.push((at, word as u8));
        at = (word >> 8 & 0xff) as u16;
    }
    all
}

#[test]
fn a_guest_finds_one_function_without_line_and_rom() {
    let space = space();
    assert_eq!(get(&space, 0), 0x10d3_8086);
    assert_eq!(get(&space, 0x0c) >> 16 & 0xff, 0, "one function");
    assert_eq!(get(&space, 0x30), 0, "no ROM");
    assert_eq!(get(&space, 0x3c) >> 8 & 0xff, 0, "no interrupt line");
    assert_eq!(list(&space), [(0xc8, POWER), (0xd0, MSI), (0xa0, MSIX), (0x60, EXPRESS), (0x40, VENDOR)]);
    assert_eq!(
        space.bars().iter().map(|bar| (bar.bar, bar.wide)).collect::<Vec<_>>(),
        [(0, true), (3, false)]
    );
    assert_eq!(get(&space, 0x62) >> 4 & 0xf, 9, "inside the root complex");
    assert_eq!(get(&space, 0x6c), 0, "no link");
    assert_eq!(get(&space, 0x50), 0, "what is hidden reads as nothing");
}

#[test]
fn extended_capabilities_are_picked_out() {
    let space = space();
    assert_eq!(get(&space, 0x100), 0x1500_0000, "none, but where the next one is");
    assert_eq!(get(&space, 0x150), 0x0001_0003);
    assert_eq!(get(&space, 0x154), 0x0403_0201);
    assert_eq!(get(&space, 0x160), 0);
    let without = found(&[(0x40, MSIX, MSIX_BODY)], &[(0x100, 0x01, &[0; 8])]);
    let space = Space::new(&without, &SIZES).unwrap();
    assert_eq!(get(&space, 0x100), u32::MAX);
}

#[test]
fn bars_are_sized_and_moved_here() {
    let mut space = space();
    let (effect, passed) = set(&mut space, 0x10, &[0xff; 4]);
    assert!(effect.bars && passed.is_empty());
    assert_eq!(get(&space, 0x10), 0xffff_c00c);
    set(&mut space, 0x18, &[0xff; 4]);
    assert_eq!(get(&space, 0x18), 0, "ports are left out");
    set(&mut space, 0x1c, &[0xff; 4]);
    assert_eq!(get(&space, 0x1c), 0xffff_f000);
    let (effect, passed) = set(&mut space, 4, &[6, 0]);
    assert!(effect.bars && effect.bus_master && passed.is_empty() && space.bus_master());
}

#[test]
fn a_reset_through_the_capability_is_ours_to_carry_out() {
    let mut space = space();
    let (effect, passed) = set(&mut space, 0x68, &[0x10, 0xa8]);
    assert!(effect.reset && passed.is_empty());
    let (effect, passed) = set(&mut space, 0x68, &[0x10, 0x28]);
    assert!(!effect.reset);
    assert_eq!(passed, [(0x68, vec![0x10, 0x28])]);
}

#[test]
fn the_function_never_goes_to_sleep() {
    let mut space = space();
    let (_, passed) = set(&mut space, 0xcc, &[3, 0]);
    assert!(passed.is_empty());
    assert_eq!(get(&space, 0xcc) & 0xb, 0xb, "the guest believes it does, and loses nothing");
}

#[test]
fn msi_is_read_as_the_guest_sets_it() {
    let mut space = space();
    assert_eq!(space.message_set(), None);
    assert_eq!(get(&space, 0xd0) >> 16 & 0x100, 0, "no masks");
    set(&mut space, 0xd4, &0xfee0_1003_u32.to_le_bytes());
    set(&mut space, 0xd8, &1_u32.to_le_bytes());
    set(&mut space, 0xdc, &0x4041_u16.to_le_bytes());
    let (effect, passed) = set(&mut space, 0xd2, &[0x71, 0]);
    assert!(effect.msi && passed.is_empty());
    let message = Message { address: 0x1_fee0_1000, data: 0x4041, vectors: 8 };
    assert_eq!(space.message_set(), Some(message), "not more than there are");
}

#[test]
fn what_cannot_be_given_is_refused_by_its_reason() {
    let fault = |bytes: &[u8]| Space::new(bytes, &SIZES).map(drop).unwrap_err();
    assert_eq!(fault(&usual()[..128]), Unfit::Short(128));
    assert_eq!(fault(&[0xff; 256]), Unfit::Silent);
    assert_eq!(fault(&found(&[], &[])), Unfit::NoInterrupts);
    let mut bridge = usual();
    bridge[HEADER_TYPE] = 1;
    assert_eq!(fault(&bridge), Unfit::Header(1));
    let outside = [4, 0, 0, 0x40, 0, 0, 0, 0x30, 0, 0];
    assert_eq!(fault(&found(&[(0x40, MSIX, &outside)], &[])), Unfit::Msix);
}

proptest! {
    /// Whatever a function says of itself.
    #[test]
    fn any_function_is_refused_or_shown_well_formed(
        patches in prop::collection::vec((0_usize..0x200, any::<u8>()), 0..80),
        sizes in prop::collection::vec(prop::sample::select(vec![0_u64, 16, 0x1000, 0x4000, 1 << 33]), 6),
    ) {
        let mut bytes = usual();
        for (at, value) in patches {
            bytes[at] = value;
        }
        let Ok(space) = Space::new(&bytes, &sizes) else { return Ok(()) };
        let list = list(&space);
        prop_assert!(list.len() <= 48);
        prop_assert!(list.iter().all(|(_, id)| [POWER, MSI, MSIX, EXPRESS, VENDOR, SUBSYSTEM, SATA].contains(id)));
        let mut at = 0x100;
        for _ in 0..1000 {
            let header = get(&space, at);
            if header == u32::MAX || header >> 20 == 0 { break }
            at = (header >> 20) as u16;
            prop_assert!(at > 0x100 && [0x03, 0x0b, 0x23].contains(&(get(&space, at) as u16)));
        }
        prop_assert!(get(&space, at) == u32::MAX || get(&space, at) >> 20 == 0, "the list ends");
    }

    /// Whatever a guest writes.
    #[test]
    fn no_write_reaches_what_is_not_on_the_list(
        writes in prop::collection::vec((0_u16..0x110, prop::collection::vec(any::<u8>(), 0..9)), 0..60),
    ) {
        let mut space = space();
        let fresh = space.clone();
        for (offset, data) in writes {
            let (_, passed) = set(&mut space, offset, &data);
            for (at, bytes) in passed {
                for at in usize::from(at)..usize::from(at) + bytes.len() {
                    let vendor = (0x43..0x48).contains(&at);
                    let express = (0x68..0x6c).contains(&at);
                    let own = matches!(at, 0x48..0x50 | 0x58..0x60 | 0x9c..0xa0 | 0xac..0xc8 | 0xe8..0x100);
                    prop_assert!(vendor || express || own, "{:#x}", at);
                }
                // A reset is carried out by us, or not at all.
                let control = usize::from(at)..usize::from(at) + bytes.len();
                if control.contains(&0x69) {
                    prop_assert_eq!(bytes[0x69 - usize::from(at)] & 0x80, 0);
                }
            }
            let mut answer = data;
            space.overlay(offset, &mut answer);
        }
        for at in 0..space.bytes.len() {
            let fixed = !fresh.writable[at];
            prop_assert_eq!(space.bytes[at] & fixed, fresh.bytes[at] & fixed);
        }
        space.reset();
        prop_assert_eq!(&space.bytes, &fresh.bytes);
    }
}
