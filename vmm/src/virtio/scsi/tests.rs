//! CD drives driven from their driver's side.

use super::*;
use crate::{
    pci::PciDevice,
    state::State,
    virtio::{
        VirtioPci,
        testing::{self, BUFFERS, Driver, FakePlatform},
    },
};
use proptest::prelude::*;
use std::io::Write;

const COMMANDS: usize = 2;
const HEADER: u64 = BUFFERS;
const ANSWER: u64 = BUFFERS + 0x1000;
const DATA: u64 = BUFFERS + 0x10000;
const RESPONSE_SIZE: u32 = 108;

/// A medium of `blocks` and a half, each filled with its number.
fn medium(blocks: u8) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for block in 0..blocks {
        file.write_all(&[block; 2048]).unwrap();
    }
    file.write_all(&[blocks; 1024]).unwrap();
    file
}

fn device(media: Vec<Option<File>>, notifier: &Arc<Notifier>) -> Cdroms {
    let lease = Arc::default();
    let media = media
        .into_iter()
        .map(|file| file.map(|file| Box::new(open(file, &lease).unwrap()) as Box<dyn Disk>))
        .collect();
    Cdroms::new(media, lease, Arc::clone(notifier))
}

fn started(media: Vec<Option<File>>) -> (Driver, Arc<Notifier>) {
    let notifier = Arc::new(Notifier::new().unwrap());
    let mut driver = Driver::new(device(media, &notifier));
    driver.start(0, 64);
    (driver, notifier)
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    response: u8,
    status: u8,
    /// Key, code, qualifier.
    sense: (u8, u8, u8),
    residual: u32,
}

const GOOD: Outcome = Outcome { response: 0, status: 0, sense: (0, 0, 0), residual: 0 };

/// Carries a command out with room for `room` bytes of data, at [`DATA`].
fn command(driver: &mut Driver, target: u8, lun: u16, cdb: &[u8], room: u32) -> Outcome {
    let [high, low] = (0x4000 | lun).to_be_bytes();
    let mut request = vec![1, target, high, low, 0, 0, 0, 0];
    request.resize(REQUEST, 7);
    request.extend(cdb);
    request.resize(REQUEST + 32, 0);
    driver.write(HEADER, &request);
    driver.write(ANSWER, &[0xee; RESPONSE_SIZE as usize]);
    let mut chain = vec![(HEADER, 51, false), (ANSWER, RESPONSE_SIZE, true)];
    if room > 0 {
        chain.push((DATA, room, true));
    }
    let written = driver.request(COMMANDS, &chain);
    let answer = driver.read(ANSWER, RESPONSE_SIZE as usize);
    let number = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
    assert_eq!(written, RESPONSE_SIZE + room - number(4));
    assert_eq!(number(0), if answer[10] == 2 { 18 } else { 0 });
    Outcome {
        response: answer[11],
        status: answer[10],
        sense: (answer[14], answer[24], answer[25]),
        residual: number(4),
    }
}

fn check(sense: (u8, u8, u8), residual: u32) -> Outcome {
    Outcome { response: 0, status: 2, sense, residual }
}

#[test]
fn an_installer_reads_its_medium() {
    let (mut driver, _notifier) = started(vec![Some(medium(100)), None]);
    assert_eq!(driver.config(0, 4), 1, "one queue of commands");
    assert_eq!(driver.config(30, 2), 1, "two targets");
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((6, 0x29, 0), 0));
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), GOOD);
    assert_eq!(command(&mut driver, 0, 0, &[0x25], 8), GOOD);
    // Half a block counts as one.
    assert_eq!(driver.read(DATA, 8), [0, 0, 0, 100, 0, 0, 8, 0]);
    assert_eq!(command(&mut driver, 0, 0, &[0x28, 0, 0, 0, 0, 98, 0, 0, 3], 6144), GOOD);
    let end = [[98; 2048], [99; 2048]].concat();
    assert_eq!(driver.read(DATA, 6144), [&end[..], &[100; 1024], &[0; 1024]].concat());
    // Less room than is asked for, and more.
    assert_eq!(command(&mut driver, 0, 0, &[0x28, 0, 0, 0, 0, 5, 0, 0, 2], 2048), GOOD);
    let outcome = command(&mut driver, 0, 0, &[0x12, 0, 0, 0, 36], 100);
    assert_eq!(outcome, Outcome { residual: 64, ..GOOD });
    assert_eq!(driver.read(DATA, 2), [5, 0x80]);
    assert_eq!(command(&mut driver, 0, 0, &[0x28, 0, 0, 0, 0, 100, 0, 0, 2], 512), check((5, 0x21, 0), 512));
    // The empty drive, a unit and a target that are not there.
    assert_eq!(command(&mut driver, 1, 0, &[0x25], 8), check((6, 0x29, 0), 8));
    assert_eq!(command(&mut driver, 1, 0, &[0x25], 8), check((2, 0x3a, 0), 8));
    assert_eq!(command(&mut driver, 0, 3, &[0], 0), check((5, 0x25, 0), 0));
    assert_eq!(command(&mut driver, 2, 0, &[0], 0).response, BAD_TARGET);
    // Too short to be a command, or to be answered.
    assert_eq!(driver.request(COMMANDS, &[(HEADER, 50, false), (ANSWER, 108, true)]), 0);
    assert_eq!(driver.request(COMMANDS, &[(HEADER, 51, false), (ANSWER, 107, true)]), 0);
    // Smaller sense data, where the driver wants that; silly sizes are kept within bounds.
    driver.write_config(20, &12_u32.to_le_bytes());
    assert_eq!(driver.config(20, 4), 12);
    driver.write(HEADER, &[1, 1, 0x40, 0]);
    assert_eq!(driver.request(COMMANDS, &[(HEADER, 51, false), (ANSWER, 24, true)]), 24);
    driver.write_config(24, &u32::MAX.to_le_bytes());
    assert_eq!(driver.config(24, 4), 256);
    assert_eq!(driver.status(), 15);
}

#[test]
fn resets_are_answered() {
    let (mut driver, _notifier) = started(vec![Some(medium(4))]);
    command(&mut driver, 0, 0, &[0], 0);
    let mut reset = |target: u8| {
        let request =
            [&0_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), &[1, target, 0x40, 0], &[0; 12]].concat();
        driver.write(HEADER, &request);
        assert_eq!(driver.request(CONTROL, &[(HEADER, 24, false), (ANSWER, 1, true)]), 1);
        driver.read(ANSWER, 1)[0]
    };
    assert_eq!((reset(9), reset(0)), (BAD_TARGET, 0));
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((6, 0x29, 0), 0));
    driver.write(HEADER, &2_u32.to_le_bytes());
    assert_eq!(driver.request(CONTROL, &[(HEADER, 16, false), (ANSWER, 5, true)]), 5);
    driver.write(HEADER, &77_u32.to_le_bytes());
    assert_eq!(driver.request(CONTROL, &[(HEADER, 16, false), (ANSWER, 5, true)]), 0);
}

#[test]
fn media_are_changed_by_host_and_guest() {
    let (mut driver, notifier) = started(vec![None]);
    command(&mut driver, 0, 0, &[0], 0);
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((2, 0x3a, 0), 0));
    assert!(driver.pci.change(Change::Insert(1, medium(1))).is_err(), "no such drive");
    assert!(driver.pci.change(Change::Insert(0, tempfile::tempfile().unwrap())).is_err(), "no medium");
    driver.pci.change(Change::Insert(0, medium(9))).unwrap();
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((6, 0x28, 0), 0));
    assert_eq!(command(&mut driver, 0, 0, &[0x28, 0, 0, 0, 0, 7, 0, 0, 1], 2048), GOOD);
    assert_eq!(driver.read(DATA, 1), [7]);
    command(&mut driver, 0, 0, &[0x1e, 0, 0, 0, 1], 0);
    for change in [Change::Eject(0, false), Change::Insert(0, medium(1))] {
        assert!(driver.pci.change(change).unwrap_err().to_string().contains("locked"));
    }
    driver.pci.change(Change::Eject(0, true)).unwrap();
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((6, 0x28, 0), 0));
    assert_eq!(command(&mut driver, 0, 0, &[0], 0), check((2, 0x3a, 0), 0));
    driver.pci.change(Change::Insert(0, medium(2))).unwrap();
    command(&mut driver, 0, 0, &[0], 0);
    assert_eq!(notifier.take(), []);
    assert_eq!(command(&mut driver, 0, 0, &[0x1b, 0, 0, 0, 2], 0), GOOD);
    assert_eq!(notifier.take(), [GuestEvent::Ejected(0)]);
    assert_eq!(command(&mut driver, 0, 0, &[0x25], 8), check((2, 0x3a, 0), 8));
}

#[test]
fn drives_go_on_where_they_were_saved() {
    let (mut driver, notifier) = started(vec![Some(medium(9)), Some(medium(3)), None]);
    for target in 0..3 {
        command(&mut driver, target, 0, &[0], 0);
    }
    driver.pci.change(Change::Eject(1, false)).unwrap();
    driver.pci.pause();
    let mut state = State::default();
    driver.pci.save(1, &mut state).unwrap();
    // The first has the same medium here, the second one that was ejected, the third one that was not there.
    let other = device(vec![Some(medium(9)), Some(medium(3)), Some(medium(1))], &notifier);
    let platform = Arc::new(FakePlatform::default());
    let mut other =
        VirtioPci::new(Box::new(other), driver.memory.clone(), Arc::clone(&platform) as _).unwrap();
    other.load(1, &mut state).unwrap();
    other.bar_moved(0, Some(testing::BAR_BASE)).unwrap();
    (driver.pci, driver.platform) = (other, platform);
    driver.pci.resume();
    assert_eq!(command(&mut driver, 0, 0, &[0x28, 0, 0, 0, 0, 8, 0, 0, 1], 2048), GOOD);
    assert_eq!(driver.read(DATA, 1), [8]);
    assert_eq!(command(&mut driver, 1, 0, &[0], 0), check((6, 0x28, 0), 0));
    assert_eq!(command(&mut driver, 1, 0, &[0], 0), check((2, 0x3a, 0), 0));
    assert_eq!(command(&mut driver, 2, 0, &[0], 0), check((2, 0x3a, 0), 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Any request on any queue is answered, and the device lives on.
    #[test]
    fn any_request_is_answered(
        requests in prop::collection::vec((
            prop_oneof![Just(CONTROL), Just(COMMANDS)], prop::collection::vec(any::<u8>(), 0..80),
            any::<bool>(), prop_oneof![0_u32..200, 4000_u32..5000],
        ), 1..20),
    ) {
        let (mut driver, _notifier) = started(vec![Some(medium(30))]);
        for (queue, mut request, well, room) in requests {
            if well && request.len() > 3 {
                request[..4].copy_from_slice(if queue == CONTROL { &[0; 4] } else { &[1, 0, 0x40, 0] });
            }
            driver.write(HEADER, &request);
            let chain = [(HEADER, request.len() as u32, false), (ANSWER, room, true)];
            driver.request(queue, &chain);
        }
        prop_assert_eq!(driver.status(), 15);
        command(&mut driver, 0, 0, &[0x12, 0, 0, 0, 36], 36);
        prop_assert_eq!(driver.read(DATA, 2), [5, 0x80]);
    }
}
