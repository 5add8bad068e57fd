//! Queues: a driver that sets its device up as the input says, and writes anything anywhere.

use super::super::reader::Reader;
use lq_api::{
    image::ImageFormat,
    local::vmm::{DiskImage, IoLimits, NicLimits},
    vm::Mac,
};
use lq_vmm::{
    disk::{Disk, movable::Movable},
    guest::Notifier,
    memory::{self, Memory, SharedMemory},
    pci::{MsiVectors, PciDevice, Platform},
    state::State,
    virtio::{
        VirtioDevice, VirtioPci, balloon::Balloon, blk::Block, input::Tablet, mem::Mem, net, rng::Rng,
        scsi::Cdroms, vsock::Vsock,
    },
};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Where the parts of BAR 0 are.
pub const COMMON: u64 = 0;
pub const NOTIFY: u64 = 0x3000;
/// Guest memory, in two regions that touch.
const MEMORY_SIZE: usize = 2 << 20;
/// How long a worker has to come to its doorbell.
const REACTION: Duration = Duration::from_micros(300);

/// A platform without any.
pub struct Nowhere;

impl Platform for Nowhere {
    fn attach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn detach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>> {
        let events = (0..vectors).map(|_| EventFd::new(EFD_NONBLOCK)).collect::<io::Result<Vec<_>>>()?;
        Ok(Arc::new(Vectors(events)))
    }
}

struct Vectors(Vec<EventFd>);

impl MsiVectors for Vectors {
    fn route(&self, _: u16, _: u64, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn unroute(&self, _: u16) -> io::Result<()> {
        Ok(())
    }
    fn event(&self, vector: u16) -> Option<&EventFd> {
        self.0.get(usize::from(vector))
    }
}

/// A function on no bus.
pub fn function(device: impl VirtioDevice + 'static, memory: SharedMemory) -> VirtioPci {
    VirtioPci::new(Box::new(device), memory, Arc::new(Nowhere)).unwrap()
}

/// A raw disk of 1 MiB, new for each input.
pub fn disk(read_only: bool) -> Box<dyn Disk> {
    let file = super::in_memory();
    file.set_len(1 << 20).unwrap();
    let image = DiskImage { path: "fuzzed".into(), format: ImageFormat::Raw, backing: None };
    Box::new(Movable::new(&image, vec![file], read_only, true, Arc::default()).unwrap())
}

/// Drives a device: see [`super::seeds::Script`] for what the bytes mean.
fn drive(device: impl VirtioDevice + 'static, input: &[u8]) {
    let half = MEMORY_SIZE / 2;
    let memory = Memory::from_ranges(&[(GuestAddress(0), half), (GuestAddress(half as u64), half)]).unwrap();
    drive_in(&memory, device, input);
}

/// As [`drive`], in a memory of at least [`MEMORY_SIZE`].
fn drive_in(memory: &Memory, device: impl VirtioDevice + 'static, input: &[u8]) {
    let mut pci = function(device, SharedMemory::new(memory.clone()));
    let mut reader = Reader(input);
    while !reader.is_empty() {
        match reader.u8() % 8 {
            0 => {
                let (address, length) = (reader.u32(), usize::from(reader.u16()));
                let address = u64::from(address) % MEMORY_SIZE as u64;
                // What goes past the end is cut off.
                let _ = memory.write(reader.take(length), GuestAddress(address));
            }
            1 => {
                let (offset, length) = (reader.u16(), [1, 2, 4, 8][usize::from(reader.u8() % 4)]);
                let mut data = [0; 8];
                let taken = reader.take(length);
                data[..taken.len()].copy_from_slice(taken);
                pci.bar_write(0, u64::from(offset), &data[..length]);
            }
            2 => {
                let (offset, length) = (reader.u16(), usize::from(reader.u8() % 9));
                pci.bar_read(0, u64::from(offset), &mut [0; 8][..length]);
            }
            3 => {
                let queue = u64::from(reader.u8() % 8);
                pci.bar_write(0, NOTIFY + 4 * queue, &[0; 2]);
                thread::sleep(REACTION);
            }
            4 => {
                pci.pause();
                let mut state = State::default();
                // What stands still can be saved, and taken up as it was saved.
                pci.save(1, &mut state).unwrap();
                pci.resume();
            }
            5 => {
                let (offset, length) = (reader.u16() & 0xfff, usize::from(reader.u8() % 5));
                let _ = pci.config_write(offset, reader.take(length));
            }
            6 => pci.config_read(reader.u16() & 0xfff, &mut [0; 4]),
            _ => pci.reset(),
        }
    }
    // Whatever its worker still does, it does before this returns.
    pci.pause();
    pci.sync().unwrap();
}

/// A disk.
pub fn queues_blk(input: &[u8]) {
    drive(Block::new(disk(false), "fuzzed", false), input);
}

/// A disk with several queues.
pub fn queues_blk_several(input: &[u8]) {
    drive(Block::limited(disk(false), "fuzzed", false, 4, IoLimits::default(), Arc::default()), input);
}

/// CD drives: one with a medium, one without.
pub fn queues_scsi(input: &[u8]) {
    let notifier = Arc::new(Notifier::new().unwrap());
    drive(Cdroms::new(vec![Some(disk(true)), None], Arc::default(), notifier), input);
}

/// A balloon.
pub fn queues_balloon(input: &[u8]) {
    drive(Balloon::new(MEMORY_SIZE as u64, 1 << 20).0, input);
}

/// A source of random numbers.
pub fn queues_rng(input: &[u8]) {
    drive(Rng::new(), input);
}

/// A pointer that moves meanwhile.
pub fn queues_input(input: &[u8]) {
    let (tablet, pointer) = Tablet::new().unwrap();
    pointer.moved(100, 200, 1);
    drive(tablet, input);
}

/// Taps in a network namespace of their own; without the right to make one: none.
fn taps(queues: u8) -> Option<Vec<File>> {
    let made = thread::spawn(move || {
        // SAFETY: changes the namespace of this thread alone, which ends with this function.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        net::open_taps("lqfuzz0", queues)
    });
    made.join().unwrap().inspect_err(|error| eprintln!("SKIPPED: no tap can be made here: {error}")).ok()
}

fn interface(taps: Option<&Vec<File>>, input: &[u8]) {
    let Some(taps) = taps else { return };
    let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    let taps: Vec<_> = taps.iter().map(|tap| tap.try_clone().unwrap()).collect();
    drive(net::Net::limited(taps, mac, NicLimits::default(), true).unwrap(), input);
}

/// An interface.
pub fn queues_net(input: &[u8]) {
    static TAPS: OnceLock<Option<Vec<File>>> = OnceLock::new();
    interface(TAPS.get_or_init(|| taps(1)).as_ref(), input);
}

/// An interface with two queue pairs and a control queue.
pub fn queues_net_several(input: &[u8]) {
    // Each device lets go of the second queue: it needs a tap that has it.
    interface(taps(2).as_ref(), input);
}

/// Streams: one program of the host is connected, one waits.
pub fn queues_vsock(input: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v");
    let device = Vsock::new(UnixListener::bind(&path).unwrap(), 3).unwrap();
    let programs: Vec<_> = ["CONNECT 1\nhello", "ACCEPT 2\nhello", "ACC"]
        .iter()
        .map(|line| {
            let mut program = UnixStream::connect(&path).unwrap();
            program.write_all(line.as_bytes()).unwrap();
            program
        })
        .collect();
    drive(device, input);
    drop(programs);
}

/// Memory that comes and goes.
pub fn queues_mem(input: &[u8]) {
    let most = 64 << 20;
    let memory = memory::create_with(MEMORY_SIZE as u64, most).unwrap();
    let base = memory::pluggable(MEMORY_SIZE as u64, most).start;
    let (device, gauge) = Mem::new(&memory, base, most, most / 2).unwrap();
    drive_in(&memory, device, input);
    assert!(gauge.status().plugged_bytes <= most / 2, "more than was wanted");
}
