//! The targets: functions of bytes. None keeps anything from one input to the next.

mod back_end;
mod passthrough;
mod queues;
mod registers;
pub mod seeds;

pub use back_end::back_end;
pub use passthrough::passthrough;
pub use queues::{
    queues_balloon, queues_blk, queues_blk_several, queues_input, queues_mem, queues_net, queues_net_several,
    queues_rng, queues_scsi, queues_vsock,
};
pub use registers::{fw_cfg, keyboard, registers, tpm};

use super::reader::Reader;
use lq_api::{
    image::ImageFormat,
    local::vmm::{DiskImage, VmmConfig},
};
use lq_qcow2::Limits;
use lq_vmm::{
    config,
    control::parse,
    disk::{Disk, movable::Movable},
    display::{frame::Frame, rfb::Viewer},
    memory,
    state::{State, description::Description, file::decode, frame, pages},
};
use std::{
    fs::File,
    io::Write,
    os::fd::FromRawFd,
    sync::{Arc, Mutex},
};

/// An empty file that is on no disk.
pub fn in_memory() -> File {
    // SAFETY: the name ends in zero; the descriptor is checked, new, and owned here alone.
    unsafe {
        let fd = libc::memfd_create(c"fuzzed".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    }
}

/// An image: looked at in all depths, then used as a disk.
pub fn qcow2(input: &[u8]) {
    let mut reader = Reader(input);
    let (grow, offset) = (u64::from(reader.u16()) << 9, reader.u32());
    let mut file = in_memory();
    file.write_all(reader.0).unwrap();
    let limits = Limits { allow_backing: true, ..Limits::default() };
    let looked = [
        lq_qcow2::inspect(&file).map(drop),
        lq_qcow2::check_header(&file, &limits).map(drop),
        lq_qcow2::check(&file, &limits).map(drop),
        lq_qcow2::layout(&file, &limits).map(drop),
    ];
    drop(looked);
    // What is refused is refused; what is taken must be usable without harm.
    let _ = lq_qcow2::grow(&file, grow);
    let image = DiskImage { path: "fuzzed".into(), format: ImageFormat::Qcow2, backing: None };
    for read_only in [true, false] {
        let files = vec![file.try_clone().unwrap()];
        let Ok(mut disk) = Movable::new(&image, files, read_only, true, Arc::default()) else { continue };
        let size = disk.size();
        let mut bytes = [7; 2048];
        for at in [0, u64::from(offset) << 9, size.saturating_sub(2048), size] {
            let _ = disk.read(&[memory::buffer(&mut bytes)], at);
            if !read_only {
                let _ = disk.write(&[memory::buffer(&mut bytes)], at);
                let _ = disk.write_zeroes(at, 1024, true);
                let _ = disk.discard(at, 1 << 16);
            }
        }
        let _ = disk.flush();
    }
}

/// A viewer of the screen: what it sends, in pieces.
pub fn rfb(input: &[u8]) {
    let frame = Frame::default();
    let mut viewer = Viewer::new("fuzzed");
    let mut reader = Reader(input);
    while !reader.is_empty() {
        let length = usize::from(reader.u8()) + 1;
        if viewer.take(reader.take(length), &frame).is_err() {
            return;
        }
        if viewer.waits() && viewer.show(&frame).is_err() {
            return;
        }
        viewer.output().clear();
    }
}

/// Lines on the control socket, and a configuration.
pub fn control(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        let parsed = parse(line);
        if let Ok(request) = parsed {
            // What was taken can be said again.
            let again = parse(&serde_json::to_vec(&request).unwrap());
            assert_eq!(again.as_ref(), Ok(&request));
            let _ = request.command.descriptors();
        }
        if let Ok(config) = serde_json::from_slice::<VmmConfig>(line) {
            let _ = config::faults(&config);
        }
    }
}

/// Guest memory of the next target; inputs overwrite it.
static MEMORY: Mutex<Option<memory::Memory>> = Mutex::new(None);

/// A saved machine, or one on its way here: frames, and what is in them without their checksums.
pub fn stream(input: &[u8]) {
    let mut source = input;
    while frame::read(&mut source).is_ok() {}
    let mut reader = Reader(input);
    let kind = reader.u8();
    let payload = reader.0;
    match kind % 3 {
        0 => {
            let mut kept = MEMORY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let memory = kept.get_or_insert_with(|| memory::create(4 << 20).unwrap());
            let _ = pages::apply(memory, payload, &mut Vec::new());
        }
        1 => {
            if let Ok(description) = decode::<Description>("description", payload) {
                let mut other = description.clone();
                other.devices.truncate(1);
                let _ = (description.obstacles(&other), other.obstacles(&description));
                assert_eq!(
                    description.obstacles(&description.clone()).len(),
                    usize::from(description.format != 1)
                );
            }
        }
        _ => drop(decode::<State>("state", payload)),
    }
}
