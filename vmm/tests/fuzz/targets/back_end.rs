//! The back end of a device: what it answers at its greeting, while its device is started, and while that is stopped.

use super::{super::reader::Reader, queues};
use lq_api::local::vmm::{VhostUserBlock, VhostUserDevice};
use lq_vmm::{
    guest::Notifier,
    memory::{Backing, SharedMemory, Wanted},
    pci::PciDevice,
    virtio::vhost_user::VhostUser,
};
use std::{
    io::Write,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, OnceLock},
};

/// What a disk of one queue asks, in its order, and the bytes of each answer: the greeting, a start, a stop.
pub const ASKED: [(u32, usize); 13] = [
    (1, 8),
    (15, 8),
    (17, 8),
    (24, 72),
    (2, 8),
    (5, 8),
    (8, 8),
    (9, 8),
    (10, 8),
    (13, 8),
    (12, 8),
    (18, 8),
    (11, 8),
];

/// What is said to all that is asked. Of each answer a byte says how: 0 to 254, the right header and a body; 255, its length and
/// bytes of any kind.
fn said(input: &[u8]) -> Vec<u8> {
    let (mut reader, mut said) = (Reader(input), Vec::new());
    // A driver starts twice: the memory is known then.
    for (code, size) in ASKED.into_iter().chain(ASKED.into_iter().skip(4).filter(|(code, _)| *code != 5)) {
        if reader.is_empty() {
            break;
        }
        if reader.u8() == 255 {
            let length = reader.u8().into();
            said.extend(reader.take(length));
            continue;
        }
        said.extend([code, 5, size as u32].into_iter().flat_map(u32::to_ne_bytes));
        let mut body = reader.take(size).to_vec();
        body.resize(size, 0);
        said.extend(body);
    }
    said
}

/// The target.
pub fn back_end(input: &[u8]) {
    static MEMORY: OnceLock<SharedMemory> = OnceLock::new();
    let memory = MEMORY.get_or_init(|| {
        let wanted = Wanted { ram: 2 << 20, backing: Backing::Shared, ..Wanted::default() };
        SharedMemory::new(wanted.create().unwrap())
    });
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&said(input)).unwrap();
    // It listens on, and says no more.
    theirs.shutdown(Shutdown::Write).unwrap();
    let device = VhostUserDevice::Block(VhostUserBlock { queues: 1 });
    let notifier = Arc::new(Notifier::new().unwrap());
    let Ok(device) = VhostUser::connected(ours, "fuzzed", &device, notifier) else { return };
    let mut pci = queues::function(device, memory.clone());
    for _ in 0..2 {
        let mut common = |offset: u64, bytes: &[u8]| pci.bar_write(0, queues::COMMON + offset, bytes);
        for status in [0, 1, 3] {
            common(0x14, &[status]);
        }
        common(8, &1_u32.to_le_bytes());
        common(0xc, &1_u32.to_le_bytes());
        common(0x14, &[11]);
        for (offset, address) in [(0x20, 0x1_0000_u64), (0x28, 0x1_1000), (0x30, 0x1_2000)] {
            common(offset, &address.to_le_bytes());
        }
        common(0x1c, &1_u16.to_le_bytes());
        common(0x14, &[15]);
        pci.bar_read(0, 0x2000, &mut [0; 8]);
        pci.pause();
        pci.resume();
    }
    pci.bar_write(0, queues::COMMON + 0x14, &[0]);
    let mut status = [0xff];
    pci.bar_read(0, queues::COMMON + 0x14, &mut status);
    assert_eq!(status, [0], "a reset always ends");
}
