//! The network device on a real tap in a network namespace of the test's own; needs root and `/dev/net/tun`, and says so where
//! it has to skip.

use super::{
    net::{Net, announcement, open_taps},
    testing::{BUFFERS, Driver},
};
use crate::{change::Change, pci::PciDevice};
use lq_api::{
    local::vmm::{IoLimits, IoStats, NicLimits, Rate},
    vm::Mac,
};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
/// An Ethernet type for experiments: nobody else sends it.
const ETHERTYPE: u16 = 0x88b5;
const F_MRG_RXBUF: u64 = 1 << 15;
const RX: usize = 0;
const TX: usize = 1;
const SIOCSIFFLAGS: libc::c_ulong = 0x8914;

/// The host's end of a tap: a packet socket bound to it.
struct Host(OwnedFd);

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A device on a tap that is up, in a namespace of this thread; `None` (and a word): not possible here.
fn setup() -> Option<(Driver, Host, Arc<super::Counters>)> {
    limited(NicLimits::default())
}

fn limited(limits: NicLimits) -> Option<(Driver, Host, Arc<super::Counters>)> {
    with_queues(1, limits)
}

fn with_queues(queues: u8, limits: NicLimits) -> Option<(Driver, Host, Arc<super::Counters>)> {
    // SAFETY: affects this thread only, which ends with the test.
    if let Err(error) = check(unsafe { libc::unshare(libc::CLONE_NEWNET) }) {
        println!("skipped: no network namespace: {error}");
        return None;
    }
    // The host's own IPv6 would be in between when the tap comes up. Where there is none, there is no file either.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let taps = match open_taps("lqtest0", queues) {
        Ok(taps) => taps,
        Err(error) => {
            println!("skipped: no tap: {error}");
            return None;
        }
    };
    // SAFETY: plain system calls; each structure is valid and outlives its call; the descriptor is new and owned.
    let host = unsafe {
        let socket =
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(ETHERTYPE.to_be()));
        let socket = OwnedFd::from_raw_fd(check(socket).unwrap());
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lqtest0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS as _, &raw mut request)).unwrap();
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETHERTYPE.to_be();
        address.sll_ifindex = libc::if_nametoindex(c"lqtest0".as_ptr()) as i32;
        let length = size_of_val(&address) as u32;
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)).unwrap();
        Host(socket)
    };
    let device = Net::limited(taps, MAC, limits, true).unwrap();
    let counters = super::VirtioDevice::counters(&device);
    Some((Driver::new(device), host, counters))
}

impl Host {
    fn send(&self, frame: &[u8]) {
        // SAFETY: all zeros is a valid address; buffer and address are valid for their lengths.
        let sent = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            // What the kernel takes the frame for.
            address.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
            address.sll_ifindex = libc::if_nametoindex(c"lqtest0".as_ptr()) as i32;
            let length = size_of_val(&address) as u32;
            let (to, socket) = (&raw const address, self.0.as_raw_fd());
            libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to.cast(), length)
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame from the guest.
    fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; 65536];
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // SAFETY: the buffer is valid for its length.
            let got = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            if let Ok(got) = usize::try_from(got) {
                frame.truncate(got);
                return frame;
            }
            assert!(Instant::now() < deadline, "the guest's frame arrives");
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

fn frame(length: usize, seed: u8) -> Vec<u8> {
    let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9], &ETHERTYPE.to_be_bytes()].concat();
    frame.extend((frame.len()..length).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed)));
    frame
}

/// Receives the next frame of ours into buffers of `size` bytes that are offered here; others are passed over.
fn receive(driver: &mut Driver, size: u32) -> (u16, Vec<u8>) {
    loop {
        let (head, length) = driver.wait_used(RX);
        let at = |head: u16| BUFFERS + u64::from(head) * 0x1000;
        let mut packet = driver.read(at(head), length as usize);
        let buffers = u16::from_le_bytes([packet[10], packet[11]]);
        let mut heads = vec![head];
        for _ in 1..buffers {
            let (head, length) = driver.wait_used(RX);
            packet.extend(driver.read(at(head), length as usize));
            heads.push(head);
        }
        for _ in heads {
            offer(driver, size);
        }
        if packet.get(24..26) == Some(&ETHERTYPE.to_be_bytes()[..]) {
            return (buffers, packet.split_off(12));
        }
    }
}

fn offer(driver: &mut Driver, size: u32) {
    // Heads go round in order, each with a page of its own.
    let head = driver.next_head(RX);
    driver.offer(RX, &[(BUFFERS + u64::from(head) * 0x1000, size, true)]);
    driver.ring(RX);
}

#[test]
fn frames_go_both_ways() {
    let Some((mut driver, host, counters)) = setup() else { return };
    driver.start(0, 64);
    assert_eq!(driver.config(0, 6).to_le_bytes()[..6], MAC.0);
    for _ in 0..64 {
        offer(&mut driver, 256);
    }
    // One buffer, several buffers; more frames than buffers.
    for (n, length) in [60, 244, 245, 1000, 1514].into_iter().cycle().take(200).enumerate() {
        let sent = frame(length, n as u8);
        host.send(&sent);
        let (buffers, got) = receive(&mut driver, 256);
        assert_eq!(got, sent);
        assert_eq!(usize::from(buffers), (12 + length).div_ceil(256));
    }
    let stats: IoStats = counters.stats();
    assert!(stats.reads >= 200 && stats.read_bytes >= 200 * 60, "{stats:?}");
    assert_eq!(stats.errors, 0);

    let out = BUFFERS + 0x8_0000;
    for (n, length) in [60, 700, 1514].into_iter().enumerate() {
        let sent = frame(length, n as u8);
        driver.write(out, &[&[0; 12][..], &sent].concat());
        let split = [(out, 12, false), (out + 12, 3, false), (out + 15, length as u32 - 3, false)];
        assert_eq!(driver.request(TX, &split), 0);
        assert_eq!(host.receive(), sent);
    }
    assert_eq!(counters.stats().writes, 3);
    // Nothing behind the header, too much, nothing readable: refused; the device lives on.
    driver.write(out, &[0; 12]);
    for bad in [&[(out, 12, false)][..], &[(out, 1 << 20, false)], &[(out, 100, true)]] {
        assert_eq!(driver.request(TX, bad), 0);
    }
    assert_eq!(counters.stats().errors, 3);
    assert_eq!(driver.status(), 15);
}

#[test]
fn frames_wait_for_buffers_and_survive_a_pause() {
    use crate::pci::PciDevice;
    let Some((mut driver, host, _counters)) = setup() else { return };
    driver.start(0, 64);
    let frames: Vec<_> = (0..10).map(|n| frame(500, n)).collect();
    for (n, frame) in frames.iter().enumerate() {
        host.send(frame);
        if n == 5 {
            driver.pci.pause();
            driver.pci.resume();
        }
    }
    // Too few for a frame of 500 bytes: nothing is answered, and nothing lost.
    offer(&mut driver, 128);
    driver.pci.pause();
    driver.pci.resume();
    for _ in 0..20 {
        offer(&mut driver, 128);
    }
    for frame in frames {
        assert_eq!(receive(&mut driver, 128).1, frame);
    }
}

#[test]
fn without_mergeable_buffers_a_frame_must_fit_one() {
    let Some((mut driver, host, counters)) = setup() else { return };
    driver.start(F_MRG_RXBUF, 64);
    for _ in 0..32 {
        offer(&mut driver, 600);
    }
    host.send(&frame(1000, 1));
    host.send(&frame(500, 2));
    loop {
        let (head, length) = driver.wait_used(RX);
        if length == 0 {
            continue;
        }
        let packet = driver.read(BUFFERS + u64::from(head) * 0x1000, length as usize);
        if packet.get(24..26) == Some(&ETHERTYPE.to_be_bytes()[..]) {
            assert_eq!(packet[12..], frame(500, 2));
            break;
        }
    }
    assert!(counters.stats().errors >= 1);
}

#[test]
fn an_announcement_tells_everyone_where_the_guests_address_is_now() {
    let packet = announcement(MAC);
    let (header, frame) = packet.split_at(12);
    assert_eq!(header, [0; 12], "nothing is left to the kernel");
    assert_eq!(frame.len(), 60, "the shortest frame there is");
    assert_eq!(frame[..14], [&[0xff; 6][..], &MAC.0, &[0x80, 0x35]].concat());
    // RFC 903: who asks is the one asked about.
    assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 3]);
    assert_eq!((&frame[22..28], &frame[32..38]), (&MAC.0[..], &MAC.0[..]));
}

#[test]
fn a_cable_that_is_out_lets_nothing_through_and_the_driver_sees_it() {
    let Some((mut driver, host, _counters)) = setup() else { return };
    driver.start(0, 64);
    for _ in 0..32 {
        offer(&mut driver, 2048);
    }
    assert_eq!(driver.config(6, 2), 1);
    let generation = driver.common_read(0x15, 1);
    driver.pci.change(Change::Link(false)).unwrap();
    assert!(driver.interrupted(0, Duration::from_secs(10)), "the driver is told");
    assert_eq!(driver.config(6, 2), 0);
    assert_ne!(driver.common_read(0x15, 1), generation);
    host.send(&frame(100, 1));
    let out = BUFFERS + 0x8_0000;
    driver.write(out, &[&[0; 12][..], &frame(60, 2)].concat());
    assert_eq!(driver.request(TX, &[(out, 72, false)]), 0, "it is taken, and goes nowhere");
    assert_eq!(driver.try_wait_used(RX, Duration::from_millis(50)), None);
    // It stays so over a pause, and comes back.
    driver.pci.pause();
    driver.pci.change(Change::Link(true)).unwrap();
    driver.pci.resume();
    assert!(driver.interrupted(0, Duration::from_secs(10)));
    assert_eq!(driver.config(6, 2), 1);
    host.send(&frame(100, 3));
    assert_eq!(receive(&mut driver, 2048).1, frame(100, 3));
    driver.write(out, &[&[0; 12][..], &frame(60, 4)].concat());
    assert_eq!(driver.request(TX, &[(out, 72, false)]), 0);
    assert_eq!(host.receive(), frame(60, 4), "the one before did not leave");
}

#[test]
fn both_directions_keep_their_limits_and_lose_nothing() {
    let operations = Some(Rate { per_second: 100, burst: 5 });
    let limits = IoLimits { bandwidth: None, operations };
    let Some((mut driver, host, _counters)) = limited(NicLimits { receive: limits, transmit: limits }) else {
        return;
    };
    driver.start(0, 64);
    for _ in 0..60 {
        offer(&mut driver, 2048);
    }
    let frames: Vec<_> = (0..25).map(|n| frame(100, n)).collect();
    let begin = Instant::now();
    frames.iter().for_each(|frame| host.send(frame));
    for frame in &frames {
        assert_eq!(receive(&mut driver, 2048).1, *frame);
    }
    // 20 beyond the burst (other frames may have taken part of that).
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let out = BUFFERS + 0x8_0000;
    for n in 0..25 {
        let at = out + n * 0x1000;
        driver.write(at, &[&[0; 12][..], &frames[n as usize]].concat());
        driver.offer(TX, &[(at, 112, false)]);
    }
    driver.ring(TX);
    for frame in &frames {
        assert_eq!(host.receive(), *frame);
    }
    assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
}

/// Asks for so many queue pairs; true: it was acknowledged.
fn use_pairs(driver: &mut Driver, control: usize, count: u16) -> bool {
    let at = BUFFERS + 0x9_0000;
    driver.write(at, &[&[4, 0][..], &count.to_le_bytes(), &[0xee]].concat());
    assert_eq!(driver.request(control, &[(at, 2, false), (at + 2, 2, false), (at + 4, 1, true)]), 1);
    match driver.read(at + 4, 1)[0] {
        0 => true,
        1 => false,
        other => panic!("acknowledged with {other}"),
    }
}

/// A datagram to the guest; the kernel tells flows apart by the port.
fn datagram(port: u16) -> Vec<u8> {
    let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9], &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9, 0, 16, 0, 0]);
    frame.extend(port.to_le_bytes());
    frame.resize(60, 0);
    frame
}

/// Sends a datagram from each port; by port, the pair that received it. Heads go round in order, each with a page of its own.
fn spread(driver: &mut Driver, host: &Host, ports: std::ops::Range<u16>, pairs: u64) -> Vec<u64> {
    let mut found: Vec<_> = ports.clone().map(|_| u64::MAX).collect();
    ports.clone().for_each(|port| host.send(&datagram(port)));
    let deadline = Instant::now() + Duration::from_secs(20);
    while found.contains(&u64::MAX) {
        assert!(Instant::now() < deadline, "every datagram arrives: {found:?}");
        for pair in 0..pairs {
            let queue = 2 * pair as usize;
            let Some((head, length)) = driver.try_wait_used(queue, Duration::from_millis(1)) else {
                continue;
            };
            let at = BUFFERS + pair * 0x4_0000 + u64::from(head) * 0x1000;
            let packet = driver.read(at, length as usize);
            let next = BUFFERS + pair * 0x4_0000 + u64::from(driver.next_head(queue)) * 0x1000;
            driver.offer(queue, &[(next, 2048, true)]);
            driver.ring(queue);
            if packet.get(24..26) == Some(&[8, 0]) {
                let port = u16::from_be_bytes([packet[46], packet[47]]);
                let place = &mut found[usize::from(port - ports.start)];
                assert_eq!(*place, u64::MAX, "each once");
                *place = pair;
            }
        }
    }
    found
}

#[test]
fn packets_come_by_as_many_pairs_as_the_driver_uses() {
    let Some((mut driver, host, _counters)) = with_queues(2, NicLimits::default()) else { return };
    driver.start(0, 64);
    assert_eq!(driver.rings.len(), 5);
    assert_eq!(driver.config(8, 2), 2, "max_virtqueue_pairs");
    for pair in 0..2 {
        for head in 0..32 {
            driver.offer(2 * pair, &[(BUFFERS + pair as u64 * 0x4_0000 + head * 0x1000, 2048, true)]);
        }
        driver.ring(2 * pair);
    }
    assert!(spread(&mut driver, &host, 1000..1040, 2).iter().all(|pair| *pair == 0), "one until it says so");
    for bad in [0, 3, 0xffff] {
        assert!(!use_pairs(&mut driver, 4, bad), "{bad}");
    }
    assert!(use_pairs(&mut driver, 4, 2));
    let found = spread(&mut driver, &host, 2000..2064, 2);
    assert!(found.contains(&0) && found.contains(&1), "{found:?}");
    // It stays so over a pause, and in what is saved.
    driver.pci.pause();
    let mut state = crate::state::State::default();
    driver.pci.save(1, &mut state).unwrap();
    let saved = serde_json::to_value(&state).unwrap();
    assert_eq!(saved.pointer("/components/0/fields/device/0/pairs").unwrap(), 2);
    assert_eq!(saved.pointer("/components/0/fields/device").unwrap().as_array().unwrap().len(), 2);
    driver.pci.load(1, &mut state).unwrap();
    driver.pci.resume();
    let again = spread(&mut driver, &host, 2000..2064, 2);
    assert!(again.contains(&1), "{again:?}");
    // The second pair sends.
    let out = BUFFERS + 0x8_0000;
    driver.write(out, &[&[0; 12][..], &frame(60, 4)].concat());
    assert_eq!(driver.request(3, &[(out, 72, false)]), 0);
    assert_eq!(host.receive(), frame(60, 4));
    assert!(use_pairs(&mut driver, 4, 1));
    assert!(spread(&mut driver, &host, 3000..3040, 1).iter().all(|pair| *pair == 0));
    // What is no command is refused; what has no room for an answer is answered with nothing.
    let at = BUFFERS + 0x9_0000;
    driver.write(at, &[1, 0, 1, 0xee]);
    assert_eq!(driver.request(4, &[(at, 3, false), (at + 3, 1, true)]), 1);
    assert_eq!(driver.read(at + 3, 1), [1]);
    assert_eq!(driver.request(4, &[(at, 3, false)]), 0);
    assert_eq!(driver.request(4, &[(at, 1, false), (at + 3, 1, true)]), 0);
    assert!(use_pairs(&mut driver, 4, 2));
    // Another driver, which uses one pair: the kernel is told so.
    driver.start(1 << 22, 64);
    for head in 0..32 {
        driver.offer(0, &[(BUFFERS + head * 0x1000, 2048, true)]);
    }
    driver.ring(0);
    assert!(spread(&mut driver, &host, 4000..4040, 1).iter().all(|pair| *pair == 0));
    assert!(!use_pairs(&mut driver, 2, 3), "the control queue comes after the one pair");
    assert!(use_pairs(&mut driver, 2, 1));
}

#[test]
fn a_tap_of_several_queues_serves_an_interface_of_one() {
    let Some((_driver, _host, _)) = with_queues(2, NicLimits::default()) else { return };
    let refused = open_taps("lqtest0", 1).map(|taps| taps.len());
    assert_eq!(refused.unwrap(), 1);
    let single = open_taps("lqtest1", 1).unwrap();
    drop(single);
}
