//! Streams, driven from the guest's driver's side and from the host's programs'.

use super::{
    Vsock,
    connection::BUFFER,
    hub::MAX_STREAMS,
    packet::{HEADER, Op},
};
use crate::{
    pci::PciDevice,
    state::State,
    virtio::testing::{BUFFERS, Driver},
};
use proptest::prelude::*;
use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

const CID: u32 = 7;
const OUT: u64 = BUFFERS + 0x40_0000;
/// Bytes of a buffer for packets to the guest.
const PAGE: u64 = 0x1000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest's driver, and where the host's programs come.
struct Bench {
    driver: Driver,
    path: PathBuf,
    _directory: tempfile::TempDir,
    /// What the guest says of its room.
    buffer: u32,
    forwarded: u32,
}

/// A packet to the guest.
#[derive(Debug, PartialEq)]
struct Seen {
    op: u16,
    /// The host's, the guest's.
    ports: (u32, u32),
    flags: u32,
    /// The host's room: buffer, forwarded.
    room: (u32, u32),
    data: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock.sock");
        let device = Vsock::new(UnixListener::bind(&path).unwrap(), CID).unwrap();
        let mut bench =
            Self { driver: Driver::new(device), path, _directory: directory, buffer: 1 << 20, forwarded: 0 };
        bench.start();
        bench
    }

    fn start(&mut self) {
        self.driver.start(0, 64);
        assert_eq!(self.driver.config(0, 8), u64::from(CID));
        (0..32).for_each(|_| self.give());
    }

    /// Gives a buffer for a packet.
    fn give(&mut self) {
        let at = BUFFERS + u64::from(self.driver.next_head(0)) * PAGE;
        self.driver.offer(0, &[(at, PAGE as u32, true)]);
        self.driver.ring(0);
    }

    fn send(&mut self, op: u16, (host, guest): (u32, u32), flags: u32, data: &[u8]) {
        self.send_as(u64::from(CID), op, (host, guest), flags, data);
    }

    fn send_as(&mut self, cid: u64, op: u16, (host, guest): (u32, u32), flags: u32, data: &[u8]) {
        let mut bytes = [cid.to_le_bytes(), 2_u64.to_le_bytes()].concat();
        for word in [guest, host, data.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([1, 0]);
        bytes.extend(op.to_le_bytes());
        for word in [flags, self.buffer, self.forwarded] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(data);
        self.driver.write(OUT, &bytes);
        self.driver.request(1, &[(OUT, 20, false), (OUT + 20, bytes.len() as u32 - 20, false)]);
    }

    fn try_see(&mut self, limit: Duration) -> Option<Seen> {
        let (head, length) = self.driver.try_wait_used(0, limit)?;
        let bytes = self.driver.read(BUFFERS + u64::from(head) * PAGE, length as usize);
        self.give();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes[..16], [2_u64.to_le_bytes(), u64::from(CID).to_le_bytes()].concat());
        assert_eq!(word(24) as usize, bytes.len() - HEADER);
        Some(Seen {
            op: u16::from_le_bytes([bytes[30], bytes[31]]),
            ports: (word(16), word(20)),
            flags: word(32),
            room: (word(36), word(40)),
            data: bytes[HEADER..].to_vec(),
        })
    }

    fn see(&mut self) -> Seen {
        self.try_see(PATIENCE).expect("the guest is told something")
    }

    fn see_op(&mut self, op: Op) -> Seen {
        let seen = self.see();
        assert_eq!(seen.op, op as u16, "{seen:?}");
        seen
    }

    fn program(&self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    }

    /// A program of the host, connected to the guest's port 1234.
    fn connected(&mut self) -> (UnixStream, (u32, u32)) {
        let mut stream = self.program("CONNECT 1234\n");
        let asked = self.see_op(Op::Request);
        assert_eq!((asked.ports.1, asked.room), (1234, (BUFFER, 0)));
        self.send(Op::Response as u16, asked.ports, 0, &[]);
        assert_eq!(line(&mut stream), format!("OK {}\n", asked.ports.0));
        (stream, asked.ports)
    }
}

fn line(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "after {text:?}");
        text.push(byte[0].into());
    }
    text
}

#[test]
fn a_program_of_the_host_speaks_with_the_guest() {
    let mut bench = Bench::new();
    let (mut stream, ports) = bench.connected();
    stream.write_all(b"hello guest").unwrap();
    let seen = bench.see_op(Op::Data);
    assert_eq!((seen.ports, &seen.data[..]), (ports, &b"hello guest"[..]));
    bench.send(Op::Data as u16, ports, 0, b"hello host");
    let mut heard = [0; 10];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello host");
    // Asked for its room, the host says how much it passed on.
    bench.send(Op::CreditRequest as u16, ports, 0, &[]);
    assert_eq!(bench.see_op(Op::CreditUpdate).room, (BUFFER, 10));
    // The program has said all it has to, and still hears the guest.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bench.see_op(Op::Shutdown).flags, 2);
    bench.send(Op::Data as u16, ports, 0, b"bye");
    bench.send(Op::Shutdown as u16, ports, 3, &[]);
    assert_eq!(bench.see_op(Op::Reset).ports, ports);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye");
    bench.send(Op::Data as u16, ports, 0, b"?");
    assert_eq!(bench.see_op(Op::Reset).ports, ports, "there is no connection any more");
}

#[test]
fn a_guest_reaches_who_waits_for_it_and_nobody_else() {
    let mut bench = Bench::new();
    bench.send(Op::Request as u16, (80, 5000), 0, &[]);
    assert_eq!(bench.see_op(Op::Reset).ports, (80, 5000));
    let mut waiting = bench.program("ACCEPT 80\n");
    let other = bench.program("ACCEPT 81\n");
    // Until it has been looked at the guest may be refused.
    let deadline = Instant::now() + PATIENCE;
    loop {
        bench.send(Op::Request as u16, (80, 5001), 0, &[]);
        match bench.see() {
            Seen { op: 2, ports: (80, 5001), .. } => break,
            Seen { op: 3, .. } if Instant::now() < deadline => {}
            seen => panic!("{seen:?}"),
        }
    }
    assert_eq!(line(&mut waiting), "OK 5001\n");
    waiting.write_all(b"served").unwrap();
    assert_eq!(bench.see_op(Op::Data).data, b"served");
    // One waits for one; who goes away waits no more.
    bench.send(Op::Request as u16, (80, 5002), 0, &[]);
    assert_eq!(bench.see_op(Op::Reset).ports, (80, 5002));
    drop(other);
    std::thread::sleep(Duration::from_millis(50));
    bench.send(Op::Request as u16, (81, 5003), 0, &[]);
    assert_eq!(bench.see_op(Op::Reset).ports, (81, 5003));
    // The program is gone: the guest may let go, and a guest that writes on is told that there is nobody.
    drop(waiting);
    assert_eq!(bench.see_op(Op::Shutdown).flags, 3);
    bench.send(Op::Data as u16, (80, 5001), 0, b"late");
    assert_eq!(bench.see_op(Op::Reset).ports, (80, 5001));
}

#[test]
fn each_side_gets_no_more_than_it_has_room_for() {
    let mut bench = Bench::new();
    bench.buffer = 100;
    let (mut stream, ports) = bench.connected();
    stream.write_all(&[7; 300]).unwrap();
    assert_eq!(bench.see_op(Op::Data).data.len(), 100);
    // It is asked how it fares, and gets nothing until it says.
    assert_eq!(bench.see_op(Op::CreditRequest).ports, ports);
    assert_eq!(bench.try_see(Duration::from_millis(100)), None);
    bench.forwarded = 60;
    bench.send(Op::CreditUpdate as u16, ports, 0, &[]);
    assert_eq!(bench.see_op(Op::Data).data.len(), 60);
    assert_eq!(bench.see_op(Op::CreditRequest).ports, ports);
    // Nonsense gives it no more.
    bench.forwarded = 5000;
    bench.send(Op::CreditUpdate as u16, ports, 0, &[]);
    assert_eq!(bench.try_see(Duration::from_millis(50)), None);
    // A program that does not read: what the kernel does not take waits here, and a guest that sends beyond is cut off.
    let data = vec![1; 3000];
    let mut sent = 0_u32;
    loop {
        bench.send(Op::Data as u16, ports, 0, &data);
        sent += 3000;
        assert!(sent < 16 << 20);
        let Some(seen) = bench.try_see(Duration::from_millis(1)) else { continue };
        if seen.op == Op::Reset as u16 {
            break;
        }
        assert_eq!(seen.op, Op::CreditUpdate as u16, "{seen:?}");
        assert!(sent - seen.room.1 <= BUFFER, "what waits fits");
    }
    drop(stream);
}

#[test]
fn who_is_not_answered_or_not_understood_is_let_go() {
    let mut bench = Bench::new();
    for bad in ["HELLO\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967295\n", "CONNECT 4294967296\n", "\n"] {
        let mut stream = bench.program(bad);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{bad:?}");
    }
    let mut stream = bench.program(&"A".repeat(40));
    // Closed with bytes unread, the kernel may say that it was reset.
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    // In pieces, with what follows in the same breath.
    let mut stream = bench.program("CONN");
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(b"ECT 9\r\nearly").unwrap();
    let asked = bench.see_op(Op::Request);
    bench.send(Op::Reset as u16, asked.ports, 0, &[]);
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the guest refused");
    let mut stream = bench.program("CONNECT 9\nearly");
    let asked = bench.see_op(Op::Request);
    bench.send(Op::Response as u16, asked.ports, 0, &[]);
    line(&mut stream);
    assert_eq!(bench.see_op(Op::Data).data, b"early");
    // More than there is room for: the others go on.
    let many: Vec<_> = (0..MAX_STREAMS + 8).map(|_| UnixStream::connect(&bench.path).unwrap()).collect();
    stream.write_all(b"on").unwrap();
    assert_eq!(bench.see_op(Op::Data).data, b"on");
    drop(many);
}

#[test]
fn a_guest_that_breaks_the_rules_harms_itself_alone() {
    let mut bench = Bench::new();
    let (mut stream, ports) = bench.connected();
    bench.send_as(9, Op::Data as u16, ports, 0, b"not mine");
    bench.driver.write(OUT, &[0; 64]);
    assert_eq!(bench.driver.request(1, &[(OUT, 43, false)]), 0, "half a header");
    assert_eq!(bench.try_see(Duration::from_millis(20)), None);
    for op in [0, 8, 0xffff] {
        bench.send(op, (1, 2), 0, &[]);
        assert_eq!(bench.see_op(Op::Reset).ports, (1, 2));
    }
    // Without buffers, what it asks for is not kept for ever.
    let mut flood = Bench::new();
    flood.driver.start(0, 64);
    for port in 0..2000 {
        flood.send(Op::Request as u16, (port, 1), 0, &[]);
    }
    (0..32).for_each(|_| flood.give());
    let told = (0..).take_while(|_| flood.try_see(Duration::from_millis(200)).is_some()).count();
    assert!((1..=300).contains(&told), "{told}");
    stream.write_all(b"still here").unwrap();
    assert_eq!(bench.see_op(Op::Data).data, b"still here");
    assert_eq!(bench.driver.status(), 15);
}

#[test]
fn a_guest_that_was_moved_is_told_that_its_connections_are_gone() {
    let mut bench = Bench::new();
    let (mut stream, ports) = bench.connected();
    bench.driver.pci.pause();
    stream.write_all(b"meanwhile").unwrap();
    let mut state = State::default();
    bench.driver.pci.save(1, &mut state).unwrap();
    bench.driver.pci.resume();
    assert_eq!(bench.see_op(Op::Data).data, b"meanwhile", "one that was only halted has them still");
    let event = OUT + 0x1000;
    bench.driver.write(event, &[0xee; 8]);
    bench.driver.offer(2, &[(event, 8, true)]);
    bench.driver.ring(2);
    assert!(bench.driver.try_wait_used(2, Duration::from_millis(50)).is_none());
    bench.driver.pci.pause();
    let mut state = State::default();
    bench.driver.pci.save(1, &mut state).unwrap();
    bench.driver.pci.load(1, &mut state).unwrap();
    bench.driver.pci.resume();
    assert_eq!(bench.driver.wait_used(2).1, 4);
    assert_eq!(bench.driver.read(event, 8), [0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
    // A driver that begins anew has none.
    bench.start();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    bench.send(Op::Data as u16, ports, 0, b"?");
    assert_eq!(bench.see_op(Op::Reset).ports, ports);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn bytes_arrive_whole_and_in_order(
        down in prop::collection::vec(1_usize..5000, 1..12), up in prop::collection::vec(1_usize..3000, 1..12), room in 50_u32..9000,
    ) {
        let mut bench = Bench::new();
        bench.buffer = room;
        let (mut stream, ports) = bench.connected();
        let bytes = |lengths: &[usize]| (0..lengths.iter().sum()).map(|n: usize| (n * 7 + n / 256) as u8).collect::<Vec<_>>();
        let (wanted_down, wanted_up) = (bytes(&down), bytes(&up));
        let (mut reader, all) = (stream.try_clone().unwrap(), wanted_up.len());
        let heard = std::thread::spawn(move || {
            let mut heard = vec![0; all];
            reader.read_exact(&mut heard).map(|()| heard)
        });
        stream.write_all(&wanted_down).unwrap();
        let (mut got, mut at) = (Vec::new(), 0);
        for length in up {
            bench.send(Op::Data as u16, ports, 0, &wanted_up[at..at + length]);
            at += length;
        }
        while got.len() < wanted_down.len() {
            let seen = bench.see();
            got.extend(seen.data);
            prop_assert!(got.len() as u32 - bench.forwarded <= room, "never more than there is room for");
            bench.forwarded = got.len() as u32;
            if seen.op == Op::CreditRequest as u16 || seen.op == Op::Data as u16 {
                bench.send(Op::CreditUpdate as u16, ports, 0, &[]);
            }
        }
        prop_assert_eq!(got, wanted_down);
        prop_assert_eq!(heard.join().unwrap().unwrap(), wanted_up);
    }
}
