//! Devices with back ends that others wrote: QEMU's storage daemon, virtiofsd, and rust-vmm's library for back ends.

use super::*;
use crate::{
    memory::{Backing, SharedMemory, Wanted},
    pci::PciDevice,
    virtio::testing::{BUFFERS, Driver, MEMORY_SIZE},
};
use lq_api::local::vmm::{VhostUserBlock, VhostUserFs, VhostUserNet};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{
    Bytes, GuestAddressSpace, GuestMemoryAtomic as Atomic, GuestMemoryLoadGuard, GuestMemoryMmap,
};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const DISK: u64 = 4 << 20;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x800;
const ANSWER: u64 = BUFFERS + 0x10_0000;

pub(super) fn memory() -> SharedMemory {
    let wanted = Wanted { ram: MEMORY_SIZE, backing: Backing::Shared, ..Wanted::default() };
    SharedMemory::new(wanted.create().unwrap())
}

fn await_socket(socket: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline, "somebody listens at {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A back end in a process of its own, ended with the test.
struct Program {
    process: Child,
    directory: TempDir,
}

impl Program {
    /// Starts `program`, of the Debian package qemu-system-common, with what `arguments` say for a directory.
    fn start(program: &str, directory: TempDir, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let arguments = arguments(directory.path());
        let process = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
        let started = Self { process: process.expect("qemu-system-common is installed"), directory };
        await_socket(&started.socket());
        started
    }

    fn storage_daemon(queues: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        File::create(directory.path().join("disk")).unwrap().set_len(DISK).unwrap();
        Self::start("qemu-storage-daemon", directory, |directory| {
            let (disk, socket) = (directory.join("disk"), directory.join("socket"));
            let file = format!("driver=file,node-name=disk,filename={}", disk.display());
            let export = format!(
                "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={},writable=on,num-queues={queues}",
                socket.display()
            );
            ["--blockdev", &file, "--export", &export].map(str::to_owned).to_vec()
        })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn device(&self, device: VhostUserDevice) -> Result<(VhostUser, Arc<Notifier>), Error> {
        connect(&self.socket(), device)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path, device: VhostUserDevice) -> Result<(VhostUser, Arc<Notifier>), Error> {
    let notifier = Arc::new(Notifier::new().unwrap());
    let socket = socket.display().to_string();
    let config = VhostUserConfig { name: "served".to_owned(), socket, device, slot: None };
    Ok((VhostUser::connect(&config, Arc::clone(&notifier))?, notifier))
}

fn block(queues: u8) -> VhostUserDevice {
    VhostUserDevice::Block(VhostUserBlock { queues })
}

/// Offers a request to a disk; head of the chain.
fn offer(driver: &mut Driver, queue: usize, kind: u32, sector: u64, data: (u64, u32, bool)) -> u16 {
    let header = BUFFERS + 32 * queue as u64;
    driver.write(header, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
    driver.write(STATUS, &[0xee]);
    let segments = [(header, 16, false), data, (STATUS, 1, true)];
    let segments = segments.into_iter().filter(|(_, length, _)| *length > 0).collect::<Vec<_>>();
    driver.offer(queue, &segments)
}

fn request(driver: &mut Driver, queue: usize, kind: u32, sector: u64, data: (u64, u32, bool)) -> u8 {
    let head = offer(driver, queue, kind, sector, data);
    driver.ring(queue);
    assert_eq!(driver.wait_used(queue).0, head);
    driver.read(STATUS, 1)[0]
}

#[test]
fn a_disk_is_served_by_qemus_storage_daemon_and_stops_and_goes_on() {
    let program = Program::storage_daemon(2);
    let too_many = program.device(block(4)).map(drop).unwrap_err().to_string();
    assert!(too_many.contains("it serves 2 queues, 4 are needed"), "{too_many}");
    let (device, notifier) = program.device(block(2)).unwrap();
    let file = File::open(program.directory.path().join("disk")).unwrap();
    let mut driver = Driver::with_memory(device, memory());
    assert_eq!(driver.config(0, 8), DISK / 512);
    assert_eq!(driver.config(34, 2), 2, "queues");
    for round in 0..3_u8 {
        driver.start(0, 16);
        for queue in 0..2 {
            let value = 16 * round + 4 * queue as u8 + 1;
            driver.write(DATA, &[value; 1024]);
            assert_eq!(request(&mut driver, queue, 1, 8 * queue as u64, (DATA, 1024, false)), 0);
            assert!(driver.interrupted(queue as u16 + 1, PATIENCE));
            assert_eq!(request(&mut driver, queue, 4, 0, (0, 0, false)), 0, "flush");
            assert_eq!(request(&mut driver, 1 - queue, 0, 8 * queue as u64, (DATA + 4096, 1024, true)), 0);
            assert_eq!(driver.read(DATA + 4096, 1024), vec![value; 1024]);
            let mut stored = vec![0; 1024];
            file.read_exact_at(&mut stored, 4096 * queue as u64).unwrap();
            assert_eq!(stored, vec![value; 1024]);
        }
        // It stands still: what is asked for meanwhile is answered when it goes on, whether it was rung for or not.
        for rung in [true, false, true] {
            driver.pci.pause();
            let head = offer(&mut driver, 0, 0, 0, (DATA + 4096, 512, true));
            if rung {
                driver.ring(0);
            }
            assert_eq!(driver.try_wait_used(0, Duration::from_millis(20)), None);
            driver.pci.resume();
            assert_eq!(driver.wait_used(0).0, head);
        }
        // A request that is refused says so.
        assert_ne!(request(&mut driver, 0, 0, DISK, (DATA, 512, true)), 0);
        // The driver is another one afterwards.
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
    }
    assert_eq!(notifier.take(), []);
    let mut state = crate::state::State::default();
    let refused = driver.pci.save(1, &mut state).unwrap_err().to_string();
    assert!(refused.contains("\"served\" is served by another program"), "{refused}");
}

#[test]
fn a_disk_whose_back_end_is_killed_asks_for_a_reset_and_that_is_told() {
    let mut program = Program::storage_daemon(1);
    let (device, notifier) = program.device(block(1)).unwrap();
    let mut driver = Driver::with_memory(device, memory());
    driver.start(0, 16);
    driver.write(DATA, &[7; 512]);
    assert_eq!(request(&mut driver, 0, 1, 0, (DATA, 512, false)), 0);
    program.process.kill().unwrap();
    driver.wait_needs_reset();
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let told = notifier.take();
        if !told.is_empty() {
            break told;
        }
        assert!(Instant::now() < deadline);
    };
    let [GuestEvent::BackEndLost(name, why)] = &told[..] else { panic!("{told:?}") };
    // It may just have been told something.
    let gone = why.contains("has ended") || why.contains("cannot be reached any more");
    assert!(name == "served" && gone, "{why}");
    // It can be paused, and never comes back.
    driver.pci.pause();
    driver.pci.resume();
    driver.set_status(0);
    assert_eq!(driver.status(), 0);
    driver.begin(0, 16);
    driver.wait_needs_reset();
    drop(driver);
    let deaf = connect(Path::new("/dev/null/socket"), block(1)).map(drop).unwrap_err().to_string();
    assert!(deaf.contains("/dev/null/socket"), "{deaf}");
}

/// A request of FUSE to node `node`, on the queue for requests; error and body of the answer.
fn fuse(driver: &mut Driver, operation: u32, node: u64, body: &[u8]) -> (i32, Vec<u8>) {
    const HEADER: u32 = 40;
    let length = HEADER + body.len() as u32;
    let fields = [&length.to_le_bytes()[..], &operation.to_le_bytes(), &9_u64.to_le_bytes()];
    let header = [&fields.concat()[..], &node.to_le_bytes(), &[0; 16]].concat();
    assert_eq!(header.len(), HEADER as usize);
    driver.write(DATA, &[&header[..], body].concat());
    let parts = [(DATA, HEADER, false), (DATA + u64::from(HEADER), body.len() as u32, false)];
    let answer = [(ANSWER, 16, true), (ANSWER + 16, 4096, true)];
    driver.request(1, &[parts, answer].concat());
    let head = driver.read(ANSWER, 16);
    let length = u32::from_le_bytes(head[..4].try_into().unwrap());
    let error = i32::from_le_bytes(head[4..8].try_into().unwrap());
    assert_eq!(u64::from_le_bytes(head[8..].try_into().unwrap()), 9);
    (error, driver.read(ANSWER + 16, length as usize - 16))
}

#[test]
fn a_directory_is_served_by_virtiofsd() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: virtiofsd locks itself in, which only root may");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let share = directory.path().join("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("greeting"), "hello, guest").unwrap();
    let program = Program::start("/usr/lib/qemu/virtiofsd", directory, |directory| {
        let socket = format!("--socket-path={}", directory.join("socket").display());
        let source = format!("source={}", share.display());
        [&socket, "-f", "-o", &source, "-o", "sandbox=chroot"].map(str::to_owned).to_vec()
    });
    let fs = VhostUserDevice::Fs(VhostUserFs { tag: "home".to_owned(), queues: 1 });
    let (device, notifier) = program.device(fs).unwrap();
    let mut driver = Driver::with_memory(device, memory());
    let mut tag = vec![0; 40];
    for (offset, byte) in (0..).zip(&mut tag) {
        *byte = driver.config(offset, 1) as u8;
    }
    assert_eq!(tag, [&b"home"[..], &[0; 32], &[1, 0, 0, 0]].concat());
    let missing = crate::virtio::F_COMMON & !driver.device_features();
    driver.begin(missing, 64);
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let (error, answer) = fuse(&mut driver, 26, 0, &numbers(&[7, 31, 0, 0]));
    assert_eq!((error, &answer[..4]), (0, &[7, 0, 0, 0][..]), "FUSE 7");
    assert_eq!(fuse(&mut driver, 1, 1, b"absent\0").0, -libc::ENOENT);
    let (error, entry) = fuse(&mut driver, 1, 1, b"greeting\0");
    assert_eq!(error, 0);
    let node = u64::from_le_bytes(entry[..8].try_into().unwrap());
    let (error, opened) = fuse(&mut driver, 14, node, &numbers(&[0, 0]));
    assert_eq!(error, 0);
    let read = [&opened[..8], &[0; 8], &numbers(&[100, 0, 0, 0, 0, 0])].concat();
    // It stands still in between.
    driver.pci.pause();
    driver.pci.resume();
    let (error, data) = fuse(&mut driver, 15, node, &read);
    assert_eq!((error, &data[..]), (0, &b"hello, guest"[..]));
    assert!(driver.interrupted(2, PATIENCE));
    // Another guest: it begins anew.
    driver.set_status(0);
    driver.begin(missing, 64);
    let (error, answer) = fuse(&mut driver, 26, 0, &numbers(&[7, 31, 0, 0]));
    assert_eq!((error, &answer[..4]), (0, &[7, 0, 0, 0][..]), "FUSE 7");
    assert_eq!(fuse(&mut driver, 1, 1, b"greeting\0").0, 0);
    assert_eq!(notifier.take(), []);
}

type Guest = GuestMemoryMmap<()>;

/// An interface that sends back what it is sent.
struct Echo {
    memory: Atomic<Guest>,
    waiting: Vec<Vec<u8>>,
}

impl Echo {
    fn next(
        &self,
        ring: &VringRwLock,
        memory: &GuestMemoryLoadGuard<Guest>,
    ) -> Option<(u16, Vec<(u64, u32)>)> {
        let mut ring = ring.get_mut();
        let chain = ring.get_queue_mut().pop_descriptor_chain(memory.clone())?;
        let head = chain.head_index();
        Some((head, chain.map(|part| (part.addr().0, part.len())).collect()))
    }

    fn work(&mut self, rings: &[VringRwLock]) {
        let memory = self.memory.memory();
        let (receive, send) = (&rings[0], &rings[1]);
        while let Some((head, parts)) = self.next(send, &memory) {
            let mut packet = Vec::new();
            for (address, length) in parts {
                let mut part = vec![0; length as usize];
                memory.read_slice(&mut part, vm_memory::GuestAddress(address)).unwrap();
                packet.extend(part);
            }
            self.waiting.push(packet);
            send.add_used(head, 0).unwrap();
            send.signal_used_queue().unwrap();
        }
        while !self.waiting.is_empty()
            && let Some((head, parts)) = self.next(receive, &memory)
        {
            let packet = self.waiting.remove(0);
            assert!(packet.len() <= parts[0].1 as usize);
            memory.write_slice(&packet, vm_memory::GuestAddress(parts[0].0)).unwrap();
            receive.add_used(head, packet.len() as u32).unwrap();
            receive.signal_used_queue().unwrap();
        }
    }
}

impl VhostUserBackendMut for Echo {
    type Bitmap = ();
    type Vring = VringRwLock<Atomic<Guest>>;

    fn num_queues(&self) -> usize {
        2
    }
    fn max_queue_size(&self) -> usize {
        256
    }
    fn features(&self) -> u64 {
        // With a feature no device of ours knows.
        crate::virtio::F_COMMON & !crate::virtio::F_EVENT_IDX | 1 << 30 | 1 << 15 | 1 << 34
    }
    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }
    fn set_event_idx(&mut self, enabled: bool) {
        assert!(!enabled);
    }
    fn update_memory(&mut self, memory: Atomic<Guest>) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some(new_event_consumer_and_notifier(EventFlag::NONBLOCK).unwrap())
    }
    fn handle_event(&mut self, _: u16, _: EventSet, rings: &[VringRwLock], _: usize) -> io::Result<()> {
        self.work(rings);
        Ok(())
    }
}

#[test]
fn an_interface_is_served_by_what_was_made_with_rust_vmms_library() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let memory_there = Atomic::new(Guest::new());
    let echo = Arc::new(Mutex::new(Echo { memory: memory_there.clone(), waiting: Vec::new() }));
    let mut daemon = VhostUserDaemon::new("echo".to_owned(), echo, memory_there).unwrap();
    let listens = socket.clone();
    let served = std::thread::spawn(move || daemon.serve(listens).map_err(|error| error.to_string()));
    await_socket(&socket);
    let mac = "52:54:00:00:00:01".parse().unwrap();
    let (device, notifier) = connect(&socket, VhostUserDevice::Net(VhostUserNet { mac })).unwrap();
    let mut driver = Driver::with_memory(device, memory());
    let features = driver.device_features();
    assert_eq!(features, crate::virtio::F_COMMON & !crate::virtio::F_EVENT_IDX | 1 << 5 | 1 << 15);
    assert_eq!(driver.config(0, 6).to_le_bytes()[..6], [0x52, 0x54, 0, 0, 0, 1]);
    for round in 0..3_u8 {
        driver.start(crate::virtio::F_EVENT_IDX, 64);
        for n in 0..20_u8 {
            let packet = vec![round * 20 + n; 12 + 60 + usize::from(n)];
            let head = driver.offer(0, &[(ANSWER, 2048, true)]);
            driver.ring(0);
            driver.write(DATA, &packet);
            driver.request(1, &[(DATA, packet.len() as u32, false)]);
            assert_eq!(driver.wait_used(0), (head, packet.len() as u32));
            assert_eq!(driver.read(ANSWER, packet.len()), packet);
            assert!(driver.interrupted(1, PATIENCE) && driver.interrupted(2, PATIENCE));
            if n % 4 == 0 {
                driver.pci.pause();
                driver.pci.resume();
            }
        }
        driver.set_status(0);
    }
    assert_eq!(notifier.take(), []);
    drop(driver);
    assert_eq!(served.join().unwrap(), Ok(()));
}
