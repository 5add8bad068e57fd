//! Images against a model in memory, against QEMU's tools where they are installed, and through imagined power cuts.

use super::{Disk, Error, file::ImageFile, open, qcow2::Qcow2};
use crate::memory::{self, Slice};
use lq_api::{image::ImageFormat, local::vmm::DiskImage};
use lq_qcow2::{BackingFormat, CreateOptions, Limits};
use proptest::prelude::*;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

/// Something done to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Punch(u64, u64),
    Sync,
}

pub(super) fn bytes(buffers: &[Slice<'_>]) -> Vec<u8> {
    let copy = |buffer: &Slice<'_>| {
        let mut bytes = vec![0; buffer.len()];
        buffer.copy_to(&mut bytes);
        bytes
    };
    buffers.iter().flat_map(copy).collect()
}

fn read(disk: &mut dyn Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0xaa; length];
    // In two pieces, so that requests have borders.
    let (a, b) = data.split_at_mut(length / 3);
    disk.read(&[memory::buffer(a), memory::buffer(b)], offset).unwrap();
    data
}

fn write(disk: &mut dyn Disk, offset: u64, data: &[u8]) {
    let mut data = data.to_vec();
    let half = data.len() / 2;
    let (a, b) = data.split_at_mut(half);
    disk.write(&[memory::buffer(a), memory::buffer(b)], offset).unwrap();
}

fn image(path: &Path, format: ImageFormat, backing: Option<DiskImage>) -> DiskImage {
    DiskImage { path: path.to_str().unwrap().to_owned(), format, backing: backing.map(Box::new) }
}

fn create(path: &Path, size: u64, cluster_bits: u32, backing: Option<(&Path, BackingFormat)>) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let backing = backing.map(|(path, format)| (path.to_str().unwrap().to_owned(), format));
    lq_qcow2::create(&file, &CreateOptions { virtual_size: size, cluster_bits, backing }).unwrap();
}

fn check(path: &Path) {
    let limits = Limits { allow_backing: true, ..Limits::default() };
    lq_qcow2::check(&File::open(path).unwrap(), &limits).unwrap();
}

/// Runs a QEMU tool; `None` where it is not installed.
fn qemu(tool: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(tool).args(arguments).output() {
        Ok(out) => {
            Some((out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into()))
        }
        Err(_) => {
            println!("skipped: {tool} is not installed");
            None
        }
    }
}

fn qemu_agrees(path: &Path, content: &[u8], dir: &Path) {
    let path = path.to_str().unwrap();
    if let Some((good, said)) = qemu("qemu-img", &["check", "-f", "qcow2", path]) {
        assert!(good && said.contains("No errors were found"), "{said}");
        let expected = dir.join("expected");
        std::fs::write(&expected, content).unwrap();
        let arguments = ["compare", "-f", "qcow2", "-F", "raw", path, expected.to_str().unwrap()];
        let (good, said) = qemu("qemu-img", &arguments).unwrap();
        assert!(good, "{said}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, usize, u8),
    Discard(u64, u64),
    Zero(u64, u64, bool),
    Flush,
    Reopen,
}

/// Carries out `op` on the disk and on the model. Discarded ranges are zeroed in both: what they read as is undefined.
fn apply(disk: &mut dyn Disk, model: &mut [u8], op: &Op) {
    let size = model.len() as u64;
    match *op {
        Op::Write(offset, length, seed) => {
            let offset = offset % size;
            let length = length.min((size - offset) as usize);
            let data: Vec<u8> =
                (0..length).map(|n| seed.wrapping_add((n / 512) as u8).wrapping_mul(31) | 1).collect();
            write(disk, offset, &data);
            model[offset as usize..][..length].copy_from_slice(&data);
        }
        Op::Discard(offset, length) => {
            let offset = offset % size;
            let length = length.min(size - offset);
            disk.discard(offset, length).unwrap();
            disk.write_zeroes(offset, length, true).unwrap();
            model[offset as usize..][..length as usize].fill(0);
        }
        Op::Zero(offset, length, unmap) => {
            let offset = offset % size;
            let length = length.min(size - offset);
            disk.write_zeroes(offset, length, unmap).unwrap();
            model[offset as usize..][..length as usize].fill(0);
        }
        Op::Flush => disk.flush().unwrap(),
        Op::Reopen => {}
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let sectors = |max: u64| (0..max).prop_map(|n| n * 512);
    let op = prop_oneof![
        6 => (sectors(4096), 1_usize..200, any::<u8>()).prop_map(|(at, n, seed)| Op::Write(at, n * 512, seed)),
        2 => (any::<u64>(), 1_usize..5000, any::<u8>()).prop_map(|(at, n, seed)| Op::Write(at, n, seed)),
        2 => (sectors(4096), sectors(400)).prop_map(|(at, n)| Op::Discard(at, n)),
        2 => (sectors(4096), sectors(400), any::<bool>()).prop_map(|(at, n, unmap)| Op::Zero(at, n, unmap)),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..40)
}

const BASE: u64 = 1 << 20;
const SIZE: u64 = (2 << 20) - 512;

/// A backing image with content: raw, qcow2, or qcow2 compressed by QEMU.
fn backing(dir: &Path, kind: u8) -> (Option<DiskImage>, Option<BackingFormat>, Vec<u8>) {
    let mut content: Vec<u8> = (0..BASE).map(|n| ((n / 4096) * 7 % 251) as u8).collect();
    content[300_000..500_000].fill(0);
    let raw = dir.join("base.raw");
    std::fs::write(&raw, &content).unwrap();
    let qcow2 = dir.join("base.qcow2");
    match kind {
        0 => (None, None, Vec::new()),
        1 => (Some(image(&raw, ImageFormat::Raw, None)), Some(BackingFormat::Raw), content),
        2 => {
            create(&qcow2, BASE, 12, None);
            let under = image(&qcow2, ImageFormat::Qcow2, None);
            write(&mut *open(&under, false).unwrap(), 0, &content);
            (Some(under), Some(BackingFormat::Qcow2), content)
        }
        _ => {
            let (from, to) = (raw.to_str().unwrap(), qcow2.to_str().unwrap());
            match qemu("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-c", from, to]) {
                Some((true, _)) => {
                    (Some(image(&qcow2, ImageFormat::Qcow2, None)), Some(BackingFormat::Qcow2), content)
                }
                _ => (None, None, Vec::new()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn qcow2_behaves_like_memory(ops in ops(), cluster_bits in prop_oneof![Just(9_u32), Just(12), Just(16)], under in 0_u8..4) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        let (under, format, content) = backing(dir.path(), under);
        create(&path, SIZE, cluster_bits, under.as_ref().zip(format).map(|(under, format)| (Path::new(&under.path), format)));
        let mut model = content;
        model.resize(SIZE as usize, 0);
        let config = image(&path, ImageFormat::Qcow2, under.clone());
        let mut disk = Some(open(&config, false).unwrap());
        for op in &ops {
            if matches!(op, Op::Reopen) {
                drop(disk.take());
                check(&path);
                disk = Some(open(&config, false).unwrap());
            }
            apply(disk.as_deref_mut().unwrap(), &mut model, op);
            if let Op::Write(at, ..) = op {
                let at = at % SIZE;
                let length = (SIZE - at).min(70_000) as usize;
                prop_assert!(read(disk.as_deref_mut().unwrap(), at, length) == model[at as usize..][..length]);
            }
        }
        prop_assert!(read(disk.as_deref_mut().unwrap(), 0, SIZE as usize) == model);
        drop(disk);
        check(&path);
        qemu_agrees(&path, &model, dir.path());
        prop_assert!(read(&mut *open(&config, true).unwrap(), 0, SIZE as usize) == model);
    }

    /// Cuts the power at any point: what was done after the last sync may be on disk or not, in any combination. The image
    /// must be sound, and every byte must be what it was at the last flush or something written since.
    #[test]
    fn a_power_cut_leaves_a_sound_image(
        ops in ops(), cluster_bits in prop_oneof![Just(9_u32), Just(12), Just(16)], cut in any::<prop::sample::Index>(),
        kept in prop::collection::vec(any::<bool>(), 64), based in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        let (under, format, content) = backing(dir.path(), u8::from(based));
        create(&path, SIZE, cluster_bits, under.as_ref().zip(format).map(|(under, format)| (Path::new(&under.path), format)));
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let limits = Limits { allow_backing: true, ..Limits::default() };
        let (info, layout) = lq_qcow2::prepare_for_writing(&file, &limits).unwrap();
        let before = std::fs::read(&path).unwrap();

        let log = Arc::new(Mutex::new(Vec::new()));
        let mut file = ImageFile::new(file, Arc::default());
        file.log = Some(Arc::clone(&log));
        let below = under.as_ref().map(|under| open(under, true).unwrap());
        let mut disk = Qcow2::new(file, info, &layout, below, false).unwrap();
        let mut model = content;
        model.resize(SIZE as usize, 0);
        // States of the disk: (changes logged by then, is it durable from then on, content).
        let mut states = vec![(0, true, model.clone())];
        for op in &ops {
            apply(&mut disk, &mut model, op);
            states.push((log.lock().unwrap().len(), matches!(op, Op::Flush), model.clone()));
        }
        drop(disk);
        let log = log.lock().unwrap().clone();
        let cut = cut.index(log.len() + 1);
        let synced = log[..cut].iter().rposition(|change| matches!(change, Change::Sync)).map_or(0, |at| at + 1);

        let crashed = dir.path().join("crashed.qcow2");
        std::fs::write(&crashed, &before).unwrap();
        let file = File::options().write(true).open(&crashed).unwrap();
        for (n, change) in log[..cut].iter().enumerate() {
            if n >= synced && !kept[n % kept.len()] {
                continue;
            }
            match change {
                Change::Write(at, data) => file.write_all_at(data, *at).unwrap(),
                Change::Punch(at, length) => {
                    // Beyond the end there is nothing to punch.
                    let end = (*at + *length).min(file.metadata().unwrap().len());
                    file.write_all_at(&vec![0; end.saturating_sub(*at) as usize], *at).unwrap();
                }
                Change::Sync => {}
            }
        }
        check(&crashed);
        let found = read(&mut *open(&image(&crashed, ImageFormat::Qcow2, under), false).unwrap(), 0, SIZE as usize);
        let flushed = states.iter().rposition(|(at, flushed, _)| *flushed && *at <= cut).unwrap_or(0);
        for (sector, found) in found.chunks(512).enumerate() {
            let at = sector * 512;
            let possible = |n: usize| states[flushed..].iter().any(|(_, _, content)| content.get(at + n) == found.get(n));
            let whole = states[flushed..].iter().any(|(_, _, content)| content[at..].starts_with(found));
            prop_assert!(whole || (0..found.len()).all(possible), "sector {sector} is neither old nor new");
        }
    }
}

#[test]
fn chains_are_only_what_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let (base, clone, plain) = (dir.path().join("base"), dir.path().join("clone"), dir.path().join("plain"));
    std::fs::write(&base, [7; 4096]).unwrap();
    create(&clone, 8192, 16, Some((&base, BackingFormat::Raw)));
    create(&plain, 8192, 16, None);
    let raw = || Some(image(&base, ImageFormat::Raw, None));
    let refusal = |image: DiskImage| open(&image, false).map(drop).unwrap_err().to_string();
    assert!(refusal(image(&clone, ImageFormat::Qcow2, None)).contains("the configuration none"));
    assert!(refusal(image(&plain, ImageFormat::Qcow2, raw())).contains("its header none"));
    let as_qcow2 = Some(image(&plain, ImageFormat::Qcow2, None));
    assert!(refusal(image(&clone, ImageFormat::Qcow2, as_qcow2)).contains("\"raw\""));
    assert!(refusal(image(&plain, ImageFormat::Raw, raw())).contains("cannot have a backing file"));
    // What the header names may be gone; the configuration decides.
    let moved = dir.path().join("moved");
    std::fs::rename(&base, &moved).unwrap();
    let mut disk =
        open(&image(&clone, ImageFormat::Qcow2, Some(image(&moved, ImageFormat::Raw, None))), false).unwrap();
    assert_eq!(read(&mut *disk, 0, 8192), [[7; 4096], [0; 4096]].concat());
}

#[test]
fn one_writer_per_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    create(&path, 1 << 20, 16, None);
    let config = image(&path, ImageFormat::Qcow2, None);
    let reader = open(&config, true).unwrap();
    let _second_reader = open(&config, true).unwrap();
    assert!(matches!(open(&config, false), Err(Error::Busy { .. })));
    drop((reader, _second_reader));
    let writer = open(&config, false).unwrap();
    assert!(matches!(open(&config, true), Err(Error::Busy { read_only: true, .. })));
    drop(writer);
    open(&config, false).unwrap();
}

#[test]
fn ranges_outside_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&raw, [0; 4096]).unwrap();
    create(&qcow2, 4096, 16, None);
    for config in [image(&raw, ImageFormat::Raw, None), image(&qcow2, ImageFormat::Qcow2, None)] {
        let mut disk = open(&config, false).unwrap();
        let mut sector = [0_u8; 512];
        for offset in [4096, 3585, u64::MAX - 100, u64::MAX] {
            assert!(disk.read(&[memory::buffer(&mut sector[..])], offset).is_err());
            assert!(disk.write(&[memory::buffer(&mut sector[..])], offset).is_err());
            assert!(disk.discard(offset, 512).is_err());
            assert!(disk.write_zeroes(offset, 512, true).is_err());
        }
        drop(disk);
        let mut disk = open(&config, true).unwrap();
        assert!(disk.write(&[memory::buffer(&mut sector[..])], 0).is_err());
    }
    std::fs::write(&raw, [0; 1000]).unwrap();
    assert!(matches!(open(&image(&raw, ImageFormat::Raw, None), false), Err(Error::Config { .. })));
}
