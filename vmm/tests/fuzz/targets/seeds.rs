//! Inputs that are whole: what a good driver, image, viewer or controller says. Mutations begin here.

use super::{
    super::reader::Reader,
    back_end::ASKED,
    queues::{COMMON, NOTIFY},
};
use lq_vmm::state::frame::{self, Kind};
use std::{fs::File, io::Read};

/// Steps of the queue targets, written down.
#[derive(Default)]
pub struct Script(Vec<u8>);

impl Script {
    fn memory(&mut self, address: u32, bytes: &[u8]) {
        self.0.push(0);
        self.0.extend(address.to_le_bytes());
        self.0.extend((bytes.len() as u16).to_le_bytes());
        self.0.extend(bytes);
    }

    fn bar(&mut self, offset: u64, bytes: &[u8]) {
        self.0.push(1);
        self.0.extend((offset as u16).to_le_bytes());
        self.0.push(bytes.len().trailing_zeros() as u8);
        self.0.extend(bytes);
    }

    fn common(&mut self, offset: u64, bytes: &[u8]) {
        self.bar(COMMON + offset, bytes);
    }

    /// Negotiates all features, or only the one that must be, and starts queues of 8 entries, 16 KiB apart from 64 KiB on.
    fn start(queues: u16, all: bool) -> Self {
        let mut script = Self::default();
        for status in [0, 1, 3] {
            script.common(0x14, &[status]);
        }
        for (half, features) in [(0_u32, if all { u32::MAX } else { 0 }), (1, 1)] {
            script.common(8, &half.to_le_bytes());
            script.common(0xc, &features.to_le_bytes());
        }
        script.common(0x14, &[11]);
        for queue in 0..queues {
            let base = ring(queue);
            script.common(0x16, &queue.to_le_bytes());
            script.common(0x18, &8_u16.to_le_bytes());
            for (offset, address) in [(0x20, base), (0x28, base + 0x1000), (0x30, base + 0x2000)] {
                script.common(offset, &u64::from(address).to_le_bytes());
            }
            script.common(0x1c, &1_u16.to_le_bytes());
        }
        script.common(0x14, &[15]);
        script
    }

    /// A chain of (address, length, written by the device) from descriptor 0, made available and told of.
    fn chain(&mut self, queue: u16, parts: &[(u64, u32, bool)]) {
        let mut table = Vec::new();
        for (n, (address, length, writable)) in (1_u16..).zip(parts) {
            let more = usize::from(n) < parts.len();
            table.extend(address.to_le_bytes());
            table.extend(length.to_le_bytes());
            table.extend((u16::from(more) | u16::from(*writable) << 1).to_le_bytes());
            table.extend(n.to_le_bytes());
        }
        self.memory(ring(queue), &table);
        // Flags, one entry, heads.
        self.memory(ring(queue) + 0x1000, &[0, 0, 1, 0, 0, 0, 0, 0]);
        self.0.extend([3, queue as u8]);
    }

    fn done(mut self) -> Vec<u8> {
        // Halted and going on, then read the status.
        self.0.extend([4, 2, 0x14, 0, 1]);
        self.0
    }
}

fn ring(queue: u16) -> u32 {
    0x1_0000 + 0x4000 * u32::from(queue)
}

const HEADER: u64 = 0x1000;
const DATA: u64 = 0x8_0000;
const STATUS: u64 = 0x2000;

pub fn queues_blk() -> Vec<Vec<u8>> {
    requests(0)
}

pub fn queues_blk_several() -> Vec<Vec<u8>> {
    (0..4).flat_map(requests).collect()
}

/// Each kind of request to a disk, on a queue.
fn requests(queue: u16) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    // Read, write, flush, get the id, discard, write zeros.
    for (kind, length, reads) in [
        (0_u32, 4096, true),
        (1, 4096, false),
        (4, 0, false),
        (8, 20, true),
        (11, 16, false),
        (13, 16, false),
    ] {
        for all in [false, true] {
            let mut script = Script::start(queue + 1, all);
            let mut header = kind.to_le_bytes().to_vec();
            header.extend([0; 4]);
            header.extend(8_u64.to_le_bytes());
            script.memory(HEADER as u32, &header);
            script.memory(DATA as u32, &[8, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0]);
            let mut parts = vec![(HEADER, 16, false)];
            if length > 0 {
                parts.push((DATA, length, reads));
            }
            parts.push((STATUS, 1, true));
            script.chain(queue, &parts);
            seeds.push(script.done());
        }
    }
    // A table of descriptors elsewhere.
    let mut script = Script::start(queue + 1, true);
    script.memory(0x3000, &[0; 64]);
    script.memory(ring(queue), &[0, 0x30, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 4, 0, 0, 0]);
    script.memory(ring(queue) + 0x1000, &[0, 0, 1, 0]);
    script.0.extend([3, queue as u8]);
    seeds.push(script.done());
    seeds
}

pub fn queues_scsi() -> Vec<Vec<u8>> {
    let commands: [&[u8]; 14] = [
        &[0x00],
        &[0x12, 0, 0, 0, 96],
        &[0x12, 1, 0x80, 0, 96],
        &[0x03, 0, 0, 0, 18],
        &[0x25],
        &[0x28, 0, 0, 0, 0, 1, 0, 0, 2],
        &[0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 2],
        &[0x43, 2, 0, 0, 0, 0, 0, 0, 96],
        &[0x46, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 96],
        &[0x1b, 0, 0, 0, 2],
        &[0x1e, 0, 0, 0, 1],
        &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 96],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 96],
    ];
    let mut seeds = Vec::new();
    for command in commands {
        for target in [0, 1] {
            let mut script = Script::start(3, false);
            let mut request = vec![1, target, 0x40, 0, 0, 0, 0, 0];
            request.extend([0; 11]);
            request.extend(command);
            request.resize(51, 0);
            script.memory(HEADER as u32, &request);
            script.chain(2, &[(HEADER, 51, false), (STATUS, 108, true), (DATA, 4096, true)]);
            seeds.push(script.done());
        }
    }
    // A task management request.
    let mut script = Script::start(3, true);
    script.memory(HEADER as u32, &[0; 24]);
    script.chain(0, &[(HEADER, 24, false), (STATUS, 1, true)]);
    seeds.push(script.done());
    seeds
}

pub fn queues_balloon() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for queue in 0..5 {
        let mut script = Script::start(5, true);
        script.memory(DATA as u32, &[9, 0, 0, 0, 10, 0, 0, 0, 0xff, 1, 0, 0]);
        script.chain(queue, &[(DATA, 12, queue >= 3)]);
        seeds.push(script.done());
    }
    seeds
}

pub fn queues_rng() -> Vec<Vec<u8>> {
    let mut script = Script::start(1, true);
    script.chain(0, &[(DATA, 64, true), (HEADER, 1 << 20, true)]);
    vec![script.done()]
}

pub fn queues_input() -> Vec<Vec<u8>> {
    let mut script = Script::start(2, true);
    script.chain(0, &[(DATA, 8, true)]);
    // What it can do.
    script.bar(0x2000, &[0x11, 3]);
    vec![script.done()]
}

pub fn queues_net() -> Vec<Vec<u8>> {
    let mut send = Script::start(2, true);
    send.memory(DATA as u32, &[0xff; 128]);
    send.chain(1, &[(HEADER, 12, false), (DATA, 60, false)]);
    let mut receive = Script::start(2, false);
    receive.chain(0, &[(DATA, 2048, true)]);
    receive.bar(NOTIFY, &[0, 0]);
    vec![send.done(), receive.done()]
}

pub fn queues_net_several() -> Vec<Vec<u8>> {
    let mut seeds = queues_net();
    for all in [false, true] {
        let mut control = Script::start(5, all);
        control.memory(DATA as u32, &[4, 0, 2, 0, 0]);
        control.chain(4, &[(DATA, 4, false), (STATUS, 1, true)]);
        control.memory(DATA as u32 + 16, &[0xff; 128]);
        control.chain(3, &[(HEADER, 12, false), (DATA + 16, 60, false)]);
        control.chain(2, &[(DATA + 0x1000, 2048, true)]);
        seeds.push(control.done());
    }
    seeds
}

pub fn queues_vsock() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    // Each kind of packet, for the connection the host asks for, one the guest asks for, and none.
    for op in 1_u16..8 {
        for (guest, host) in [(1_u32, 1_u32 << 30), (5, 2), (9, 9)] {
            let mut script = Script::start(3, op & 1 == 0);
            script.chain(0, &[(DATA + 0x1000, 4096, true)]);
            script.chain(2, &[(DATA + 0x3000, 8, true)]);
            let mut packet = [3_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
            for word in [guest, host, 4] {
                packet.extend(word.to_le_bytes());
            }
            packet.extend([1, 0]);
            packet.extend(op.to_le_bytes());
            packet.extend([3, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]);
            packet.extend(*b"data");
            script.memory(DATA as u32, &packet);
            script.chain(1, &[(DATA, 44, false), (DATA + 44, 4, false)]);
            seeds.push(script.done());
        }
    }
    seeds
}

pub fn queues_mem() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0_u64..4 {
        let mut script = Script::start(1, true);
        // The region begins at 5 GiB.
        for (kind, count) in [(0_u64, 3_u64), (kind, 2)] {
            script.memory(DATA as u32, &[kind, 5 << 30, count].map(u64::to_le_bytes).concat());
            script.chain(0, &[(DATA, 24, false), (DATA + 64, 10, true)]);
        }
        seeds.push(script.done());
    }
    seeds
}

pub fn registers() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in [0, 1] {
        let mut input = vec![kind];
        // Each slot: read its id, place its BAR, let it decode; then registers of the BAR, and let go of two devices.
        for slot in 0..6_u32 {
            input.push(0b1000_0010);
            input.extend((slot << 11).to_le_bytes());
            input.push(0b1000_0011);
            input.extend((slot << 11 | 0x10).to_le_bytes());
            input.extend((0xc000_0000 + (slot << 15)).to_le_bytes());
            input.push(0b0100_0011);
            input.extend((slot << 11 | 4).to_le_bytes());
            input.extend([6, 0]);
            for offset in [0_u32, 0x14, 0x2000, 0x4000] {
                input.push(0b1000_0100);
                input.extend(((slot << 15) + offset).to_le_bytes());
                input.push(0b0000_0101);
                input.extend(((slot << 15) + offset).to_le_bytes());
                input.push(1);
            }
        }
        for (port, bytes) in [
            (0x628_u16, 0b1010_u32),
            (0x620, 0),
            (0x600, 0x34),
            (0x604, 0),
            (0x505, 1),
            (0x640, 0),
            (0x648, 0),
            (0x658, 7),
            (0x65c, 1),
        ] {
            input.push(0b1000_0000);
            input.extend(port.to_le_bytes());
            input.push(0b1000_0001);
            input.extend(port.to_le_bytes());
            input.extend(bytes.to_le_bytes());
        }
        input.extend([7, 15, 14]);
        seeds.push(input);
    }
    seeds
}

/// A back end that does all that is asked, and one that cannot do more than it must.
pub fn back_end() -> Vec<Vec<u8>> {
    let with = |protocol: u64| {
        let mut said = Vec::new();
        for (code, size) in ASKED {
            let number: u64 = match code {
                1 => 1 << 32 | 1 << 30 | 1 << 9,
                15 => protocol,
                17 => 1,
                // The part from 0 on, of 60 bytes.
                24 => 60 << 32,
                _ => 0,
            };
            let mut body = number.to_ne_bytes().to_vec();
            body.resize(size, 0);
            said.push(0);
            said.extend(body);
        }
        said
    };
    vec![with(0x209), with(u64::MAX), with(0x200)]
}

pub fn passthrough() -> Vec<Vec<u8>> {
    // BAR 0 of 16 KiB.
    let mut input = vec![14, 0, 0, 0, 0, 0];
    let mut config = [0; 0x200];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10]);
    (config[6], config[0x10], config[0x34]) = (0x10, 4, 0x40);
    // MSI-X of five vectors, MSI of eight, PCI Express that resets; a serial number.
    config[0x40..0x4c].copy_from_slice(&[0x11, 0x50, 4, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0]);
    config[0x50..0x5e].copy_from_slice(&[5, 0x70, 0x86, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    config[0x70..0x7a].copy_from_slice(&[0x10, 0, 2, 0, 0xc0, 0x8f, 0, 0x10, 0x10, 0x28]);
    config[0x100..0x10c].copy_from_slice(&[3, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    input.extend(config);
    let mut write = |place: u8, near: u32, value: u32| {
        input.push(0b1000_0001 | place << 2);
        input.extend(near.to_le_bytes());
        input.extend(value.to_le_bytes());
    };
    // A vector, MSI-X on, bus master, off, MSI on, off, the BAR elsewhere, reset by the driver.
    for (offset, value) in [(0x2000, 0xfee0_1000), (0x2008, 0x41), (0x200c, 0)] {
        write(1, offset, value);
    }
    let config =
        [(0x40, 0x8004_0000), (4, 6), (0x40, 0x4_0000), (0x54, 0xfee0_0000), (0x50, 0x31_0000), (0x50, 0)];
    for (offset, value) in config.into_iter().chain([(0x10, 0xd000_0000), (0x78, 0x8000)]) {
        write(0, offset, value);
    }
    input.extend([3, 0, 0, 0, 0]);
    vec![input]
}

pub fn tpm() -> Vec<Vec<u8>> {
    let mut input = Vec::new();
    let mut write = |offset: u16, value: u32| {
        input.push(0b1000_0001);
        input.extend(offset.to_le_bytes());
        input.extend(value.to_le_bytes());
    };
    // The locality, ready, a command that starts it up, start, cancel.
    for (offset, value) in
        [(8, 1), (0x40, 1), (0x80, 0x180), (0x84, 0xc00), (0x88, 0x4401), (0x4c, 1), (0x48, 1)]
    {
        write(offset, value);
    }
    // Its answer, a look at that, saved, idle, nothing any more.
    input.extend([5, 5, 0, 0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]);
    input.extend([0b1100_0000, 0x80, 0, 7, 0, 0, 0b1000_0001, 0x40, 0, 2, 0, 0, 0, 14, 0, 0, 6, 0, 0]);
    vec![input]
}

pub fn fw_cfg() -> Vec<Vec<u8>> {
    let mut input = vec![1, 0, 0, 2, 0x19, 0, 0, 1, 0, 255];
    for (control, item) in [(0x0a_u32, 0x20_u32), (0x0a, 0x22), (0x18, 0x21), (0x0a, 0x19)] {
        // A request at 0x100: select and read or write 64 bytes at 0x200.
        input.extend([2, 0, 1, 16]);
        input.extend((item << 16 | control).to_be_bytes());
        input.extend(64_u32.to_be_bytes());
        input.extend(0x200_u64.to_be_bytes());
        input.push(3);
        input.extend(0x100_u64.to_le_bytes());
    }
    vec![input]
}

pub fn keyboard() -> Vec<Vec<u8>> {
    vec![
        vec![
            0, 0xaa, 2, 0, 0x20, 2, 0, 0x60, 1, 0x47, 1, 0xff, 2, 2, 1, 0xf2, 2, 4, 30, 0, 2, 4, 30, 1, 2, 3,
        ],
        vec![0, 0xd4, 1, 0xf3, 1, 100, 2, 0, 0xa7, 0, 0xa9, 2, 1, 0xed, 1, 7, 2],
    ]
}

pub fn qcow2() -> Vec<Vec<u8>> {
    let small = |virtual_size, cluster_bits| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let options = lq_qcow2::CreateOptions { virtual_size, cluster_bits, backing: None };
        lq_qcow2::create(&file, &options).unwrap();
        let mut bytes = vec![0, 8, 1, 0, 0, 0];
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    vec![small(1 << 20, 9), small(64 << 10, 12), small(1 << 30, 10)]
}

pub fn rfb() -> Vec<Vec<u8>> {
    let mut input = vec![255];
    for message in [
        &b"RFB 003.008\n"[..],
        &[1],
        &[1],
        // 32 bits a pixel; raw, ZRLE, sizes, keys; the whole screen; a key; the pointer; a text.
        &[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
        &[2, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 16, 255, 255, 255, 33, 255, 255, 254, 254],
        &[3, 0, 0, 0, 0, 0, 3, 32, 2, 88],
        &[4, 1, 0, 0, 0, 0, 255, 13],
        &[5, 1, 0, 10, 0, 20],
        &[6, 0, 0, 0, 0, 0, 0, 2, 104, 105],
        &[255, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0, 30],
        &[251, 0, 3, 32, 2, 88, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 32, 2, 88, 0, 0, 0, 0],
    ] {
        input.extend(message);
    }
    vec![input]
}

pub fn control() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        r#""status""#,
        r#"{"migrate-out":{"bandwidth":1048576,"max_pause_ms":300}}"#,
        r#"{"disk-plug":{"disk":{"serial":"a","image":{"path":"/a","format":"qcow2","backing":{"path":"/b","format":"raw"}},"slot":5}}}"#,
        r#"{"nic-plug":{"nic":{"tap":"t0","mac":"52:54:00:00:00:01","link_down":true}}}"#,
        r#"{"unplug":{"device":{"nic":"52:54:00:00:00:01"},"force":true}}"#,
        r#"{"disk-limits":{"disk":0,"limits":{"operations":{"per_second":20,"burst":1}}}}"#,
        r#"{"lease-set":{"epoch":3,"until":{"boot-ms":12345}}}"#,
        r#"{"cpu-target":{"count":3}}"#,
        r#"{"memory-target":{"bytes":2097152}}"#,
        r#"{"cdrom-eject":{"cdrom":0,"force":true}}"#,
    ]
    .iter()
    .map(|command| format!("{{\"version\":1,\"id\":7,\"command\":{command}}}\n").into_bytes())
    .collect();
    seeds.push(
        br#"{"version":1,"vm":"018f3a5e-0000-7000-8000-000000000001","name":"web-1","vcpus":2,"memory_bytes":536870912,"boot":{"direct":{"kernel":"/k","cmdline":"quiet"}},"disks":[{"serial":"root","image":{"path":"/d","format":"qcow2"},"slot":3}],"nics":[{"tap":"tap0","mac":"52:54:00:00:00:01"}],"run_dir":"/run/vm","devices":{"cdroms":[{}],"hotplug":{}},"boot_order":[{"disk":0}],"empty_slots":[1,2]}"#
            .to_vec(),
    );
    seeds
}

pub fn stream() -> Vec<Vec<u8>> {
    let mut golden = include_bytes!("../../golden/machine-1.lq").as_slice();
    let mut seeds = Vec::new();
    while let Ok((kind, payload)) = frame::read(&mut golden) {
        let kind = match kind {
            Kind::Hello => 1,
            Kind::State => 2,
            _ => 0,
        };
        seeds.push([&[kind][..], Reader(&payload).take(32 << 10)].concat());
    }
    let mut framed = Vec::new();
    frame::write(&mut framed, Kind::Memory, &[1, 2, 3]).unwrap();
    seeds.push(framed);
    seeds
}
