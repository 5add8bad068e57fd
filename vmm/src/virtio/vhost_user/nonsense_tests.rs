//! Back ends that are broken or mean harm: at worst their device stands still, and that is told.

use super::{peer_tests::memory, *};
use crate::{
    control::passing,
    pci::PciDevice,
    virtio::{F_COMMON, testing::Driver},
};
use lq_api::local::vmm::VhostUserBlock;
use proptest::prelude::*;
use std::{
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};
use vhost::vhost_user::message::FrontendReq;

/// How long a device waits for a back end that is to keep silent. It may run out before, which reads the same.
const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Clone, Debug)]
enum Say {
    /// As it should be.
    Right,
    /// A number in its place.
    Number(u64),
    /// These bytes, and then no more.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays.
    Nothing,
    /// As it should be, and then something nobody asked for.
    Chatter,
}

/// The right answer to `request` with `body`; none: there is none.
fn right(request: u32, body: &[u8]) -> Option<Vec<u8>> {
    let is = |other: FrontendReq| request == u32::from(other);
    Some(if is(FrontendReq::GET_FEATURES) {
        (F_COMMON | 1 << 30 | 1 << 9).to_ne_bytes().to_vec()
    } else if is(FrontendReq::GET_PROTOCOL_FEATURES) {
        // Queues, answers, configuration.
        0x209_u64.to_ne_bytes().to_vec()
    } else if is(FrontendReq::GET_QUEUE_NUM) {
        1_u64.to_ne_bytes().to_vec()
    } else if is(FrontendReq::GET_CONFIG) || is(FrontendReq::GET_VRING_BASE) {
        body.to_vec()
    } else {
        return None;
    })
}

/// Leaves nothing in these events, and has whoever reads one wait.
fn meddle(descriptors: &[OwnedFd]) {
    for descriptor in descriptors {
        let mut value = [0_u8; 8];
        // SAFETY: changes a flag of an open file; reads into a buffer of that length without waiting.
        unsafe {
            libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
            libc::read(descriptor.as_raw_fd(), value.as_mut_ptr().cast(), value.len());
            libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, 0);
        }
    }
}

/// A back end that answers as `plan` says, and rightly when that is over. It meddles with what it was given.
fn answers(plan: Vec<Say>) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || -> io::Result<()> {
        let (mut plan, mut descriptors) = (plan.into_iter(), Vec::new());
        loop {
            let mut header = [0_u32; 3];
            for word in &mut header {
                let mut bytes = [0; 4];
                // With the first byte come descriptors.
                let came = passing::receive(&theirs, &mut bytes, &mut descriptors)?;
                if came == 0 {
                    return Ok(());
                }
                theirs.read_exact(&mut bytes[came..])?;
                *word = u32::from_ne_bytes(bytes);
            }
            let [request, flags, size] = header;
            let mut body = vec![0; size as usize];
            theirs.read_exact(&mut body)?;
            if request == u32::from(FrontendReq::GET_VRING_BASE) {
                meddle(&descriptors);
            }
            let confirmation = (flags & 8 != 0).then(|| 0_u64.to_ne_bytes().to_vec());
            let Some(answer) = right(request, &body).or(confirmation) else { continue };
            let message = |body: &[u8]| {
                let words = [request, 5, body.len() as u32];
                [&words.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<_>>()[..], body].concat()
            };
            match plan.next().unwrap_or(Say::Right) {
                Say::Right => theirs.write_all(&message(&answer))?,
                Say::Number(number) => {
                    let mut body = answer;
                    body.iter_mut().zip(number.to_ne_bytes()).for_each(|(to, from)| *to = from);
                    theirs.write_all(&message(&body))?;
                }
                Say::Bytes(bytes) => return theirs.write_all(&bytes),
                Say::Nothing => {}
                Say::Chatter => theirs.write_all(&[message(&answer), message(&answer)].concat())?,
            }
        }
    });
    ours
}

fn device(plan: Vec<Say>) -> (Result<VhostUser, Error>, Arc<Notifier>) {
    let notifier = Arc::new(Notifier::new().unwrap());
    let patience = if plan.iter().any(|say| matches!(say, Say::Nothing)) { SHORT } else { PATIENCE };
    let channel = Channel::over(answers(plan), patience).unwrap();
    let block = VhostUserDevice::Block(VhostUserBlock { queues: 1 });
    (VhostUser::over(channel, "bad", &block, Arc::clone(&notifier)), notifier)
}

/// Answers until a device is there: features, protocol features, queues, configuration.
const GREETING: usize = 4;
/// Confirmations until its queue is served: features, memory, size, addresses, base, call, kick, enable.
const START: usize = 8;

fn after(right: usize, then: Say) -> Vec<Say> {
    let mut plan = vec![Say::Right; right];
    plan.push(then);
    plan
}

fn lost(notifier: &Notifier) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match &notifier.take()[..] {
            [GuestEvent::BackEndLost(name, why)] if name == "bad" => return why.clone(),
            [] => assert!(Instant::now() < deadline, "it is told"),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn one_that_cannot_be_used_is_refused_at_the_start() {
    for (plan, word) in [
        (vec![Say::Number(1)], "too old"),
        (after(1, Say::Number(0)), "does not tell the device's configuration"),
        (after(2, Say::Number(0)), "serves 0 queues"),
        (after(3, Say::Number(7)), "another part"),
        (after(3, Say::Bytes(Vec::new())), "cannot be reached any more (GET_CONFIG)"),
        (after(1, Say::Bytes(vec![1; 64])), "another message"),
        (after(1, Say::Bytes([15_u32, 5, 4096].map(u32::to_ne_bytes).concat())), "4096 bytes, not 8"),
        (after(1, Say::Nothing), "within 300 ms"),
    ] {
        let (made, notifier) = device(plan.clone());
        let error = exit::chain(&made.map(drop).unwrap_err());
        assert!(error.contains(word), "{plan:?}: {error}");
        assert_eq!(notifier.take(), []);
    }
}

#[test]
fn one_that_fails_later_is_lost_and_nobody_waits_for_long() {
    for (plan, word) in [
        (after(GREETING + 1, Say::Number(5)), "refused SET_MEM_TABLE (error 5)"),
        (after(GREETING + 6, Say::Nothing), "within 300 ms"),
        (after(GREETING + START - 1, Say::Chatter), "spoke without being asked"),
        (after(GREETING + START - 1, Say::Bytes(Vec::new())), "SET_VRING_ENABLE"),
    ] {
        let (made, notifier) = device(plan.clone());
        let mut driver = Driver::with_memory(made.unwrap(), memory());
        driver.begin(0, 16);
        driver.wait_needs_reset();
        let why = lost(&notifier);
        assert!(why.contains(word), "{plan:?}: {why}");
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
    }
    // While it stops.
    for (plan, word) in [
        (after(GREETING + START, Say::Nothing), "within 300 ms"),
        (after(GREETING + START, Say::Number(0x1_0000 << 32)), "GET_VRING_BASE with 0x10000 of queue 0"),
        (after(GREETING + START, Say::Number(3)), "of queue 3"),
    ] {
        let (made, notifier) = device(plan.clone());
        let mut driver = Driver::with_memory(made.unwrap(), memory());
        driver.start(0, 16);
        driver.pci.pause();
        let why = lost(&notifier);
        assert!(why.contains(word), "{plan:?}: {why}");
        driver.pci.resume();
        driver.wait_needs_reset();
    }
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        6 => Just(Say::Right),
        2 => any::<u64>().prop_map(Say::Number),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Say::Bytes),
        1 => Just(Say::Chatter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_one_says_the_device_is_stopped_in_the_end(plan in prop::collection::vec(say(), 0..30)) {
        let (made, _notifier) = device(plan);
        let Ok(device) = made else { return Ok(()) };
        let mut driver = Driver::with_memory(device, memory());
        for _ in 0..2 {
            let missing = F_COMMON & !driver.device_features();
            driver.begin(missing, 16);
            driver.pci.pause();
            driver.pci.resume();
            driver.set_status(0);
            prop_assert_eq!(driver.status(), 0);
        }
    }
}
