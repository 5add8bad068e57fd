//! The gate from outside: what it makes, what it refuses, and that nothing can make it panic. Where `qemu-img` is installed
//! its word is asked too.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert by panicking")]

use lq_qcow2::{
    BackingFormat, CreateOptions, Error, Limits, check, check_header, create, grow, inspect,
    prepare_for_writing,
};
use proptest::prelude::*;
use std::{fs::File, os::unix::fs::FileExt, path::Path, process::Command};

fn options(virtual_size: u64, cluster_bits: u32) -> CreateOptions {
    CreateOptions { virtual_size, cluster_bits, backing: None }
}

fn made(options: &CreateOptions) -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create_new(dir.path().join("image")).unwrap();
    drop(file);
    let file = File::options().read(true).write(true).open(dir.path().join("image")).unwrap();
    create(&file, options).unwrap();
    (dir, file)
}

fn any_backing() -> Limits {
    Limits { allow_backing: true, ..Limits::default() }
}

/// Runs a QEMU tool; `None` (and a word) where it is not installed.
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

fn qemu_finds_no_fault(path: &Path) {
    if let Some((good, said)) = qemu("qemu-img", &["check", "-f", "qcow2", path.to_str().unwrap()]) {
        assert!(good && said.contains("No errors were found"), "{said}");
    }
}

#[test]
fn a_new_image_is_what_was_asked_for() {
    for (size, bits) in [(512, 9), (1 << 20, 9), (32 << 30, 16), (1 << 30, 12), (8 << 40, 16), (64 << 40, 21)]
    {
        let (dir, file) = made(&options(size, bits));
        let info = check(&file, &Limits::default()).unwrap();
        assert_eq!((info.virtual_size, info.cluster_bits, info.version), (size, bits, 3));
        assert_eq!(info.backing_file, None);
        qemu_finds_no_fault(&dir.path().join("image"));
    }
}

#[test]
fn a_clone_names_its_backing_file_and_needs_leave_for_it() {
    let (dir, _) = made(&options(1 << 20, 16));
    let name = dir.path().join("image").to_str().unwrap().to_owned();
    let file =
        File::options().create_new(true).read(true).write(true).open(dir.path().join("clone")).unwrap();
    let backing = Some((name.clone(), BackingFormat::Qcow2));
    create(&file, &CreateOptions { backing, ..options(2 << 20, 16) }).unwrap();
    let info = inspect(&file).unwrap();
    assert_eq!(info.backing_file.as_ref(), Some(&name));
    assert_eq!(info.backing_format.as_deref(), Some("qcow2"));
    check(&file, &any_backing()).unwrap();
    let refusal = check(&file, &Limits::default()).unwrap_err().to_string();
    assert!(refusal.contains(&name), "{refusal}");
    qemu_finds_no_fault(&dir.path().join("clone"));
}

#[test]
fn nothing_is_created_over_content() {
    let (_dir, file) = made(&options(1 << 20, 16));
    assert!(matches!(create(&file, &options(1 << 20, 16)), Err(Error::NotEmpty { .. })));
}

#[test]
fn impossible_options_are_named() {
    let file = tempfile::tempfile().unwrap();
    for (size, bits, field) in [
        (0, 16, "virtual_size"),
        (513, 16, "virtual_size"),
        (512, 8, "cluster_bits"),
        (1 << 60, 16, "virtual_size"),
    ] {
        let error = create(&file, &options(size, bits)).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn growing_keeps_the_image_sound() {
    // The last step outgrows the L1 table, the blocks that count it, and (at 512 bytes) the refcount table.
    for (bits, sizes) in [
        (9, [1 << 20, 2 << 20, 2 << 30]),
        (12, [1 << 20, 1 << 30, 2 << 40]),
        (16, [1 << 30, 1 << 40, 60 << 40]),
    ] {
        let (dir, file) = made(&options(512, bits));
        for size in sizes {
            grow(&file, size).unwrap();
            assert_eq!(check(&file, &Limits::default()).unwrap().virtual_size, size);
            qemu_finds_no_fault(&dir.path().join("image"));
        }
        grow(&file, 512).unwrap();
        assert_eq!(inspect(&file).unwrap().virtual_size, sizes[2], "never smaller");
    }
}

#[test]
fn growing_keeps_the_content_qemu_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let path = path.to_str().unwrap();
    let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=1", path, "1M"];
    let Some((true, _)) = qemu("qemu-img", &create) else { return };
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 7 0 1M", path]).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    grow(&file, 1 << 30).unwrap();
    check(&file, &Limits::default()).unwrap();
    qemu_finds_no_fault(Path::new(path));
    let (good, said) =
        qemu("qemu-io", &["-f", "qcow2", "-c", "read -P 7 0 1M", "-c", "read -P 0 1M 100M", path]).unwrap();
    assert!(good && !said.contains("verification failed"), "{said}");
}

#[test]
fn what_qemu_makes_is_accepted_or_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let raw = path("raw");
    let content: Vec<u8> = (0..4_u32 << 20).map(|n| (n / 3) as u8).collect();
    std::fs::write(&raw, content).unwrap();
    let cases: [(&str, &[&str], &str); 9] = [
        ("v2", &["-o", "compat=0.10"], ""),
        ("v3", &["-o", "compat=1.1"], ""),
        ("small", &["-o", "cluster_size=512"], ""),
        ("large", &["-o", "cluster_size=2M,refcount_bits=64"], ""),
        ("deflate", &["-c"], ""),
        ("allocated", &["-o", "preallocation=metadata,lazy_refcounts=on"], ""),
        ("zstd", &["-c", "-o", "compression_type=zstd"], "compression_type"),
        ("subclusters", &["-o", "extended_l2=on"], "extended L2"),
        ("elsewhere", &["-o", &format!("data_file={}", path("data")), "-n"], "another file"),
    ];
    for (name, how, refusal) in cases {
        let target = path(name);
        let made = if name == "elsewhere" {
            qemu("qemu-img", &["create", "-q", "-f", "qcow2", how[0], how[1], &target, "4M"])
        } else {
            qemu("qemu-img", &[&["convert", "-f", "raw", "-O", "qcow2"], how, &[&raw, &target]].concat())
        };
        let Some((good, said)) = made else { return };
        assert!(good, "{name}: {said}");
        match check(&File::open(&target).unwrap(), &Limits::default()) {
            Ok(info) => assert!(refusal.is_empty() && info.virtual_size == 4 << 20, "{name} must be refused"),
            Err(error) => {
                let error = error.to_string();
                assert!(!refusal.is_empty() && error.contains(refusal), "{name}: {error}");
            }
        }
    }
    qemu("qemu-img", &["snapshot", "-c", "one", &path("v3")]).unwrap();
    let error = check(&File::open(path("v3")).unwrap(), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("snapshots"), "{error}");
}

/// An image with one data cluster, made by hand: L2 table and data behind the L1 table.
fn with_data() -> (tempfile::TempDir, File) {
    let (dir, file) = made(&options(1 << 20, 16));
    let be = u64::to_be_bytes;
    file.set_len(6 << 16).unwrap();
    file.write_all_at(&be(1 << 63 | 4 << 16), 3 << 16).unwrap();
    file.write_all_at(&be(1 << 63 | 5 << 16), 4 << 16).unwrap();
    file.write_all_at(&[0, 1, 0, 1], (2 << 16) + 8).unwrap();
    check(&file, &Limits::default()).unwrap();
    (dir, file)
}

#[test]
fn hostile_fields_and_entries_are_named() {
    // (offset, bytes, what the refusal must say)
    let be = |value: u64| value.to_be_bytes().to_vec();
    let cases: Vec<(u64, Vec<u8>, &str)> = vec![
        (0, vec![1], "magic"),
        (4, vec![0, 0, 0, 4], "version is 4"),
        (20, vec![0, 0, 0, 63], "cluster_bits is 63"),
        (24, be(0), "size is 0"),
        (24, be(u64::MAX), "size is"),
        (24, be(1 << 62), "size is"),
        (32, vec![0, 0, 0, 1], "encrypted"),
        (36, vec![0, 0, 0, 0], "l1_size is 0"),
        (36, vec![0xff; 4], "l1_size is 4294967295"),
        (40, be(0), "l1_table_offset is 0"),
        (40, be(1 << 50), "l1_table_offset"),
        (40, be(0xffff_ffff_ffff_0000), "l1_table_offset"),
        (40, be(65537), "l1_table_offset is 65537"),
        (40, be(65536), "L1 table"),
        (48, be(1 << 50), "refcount_table_offset"),
        (56, vec![0; 4], "refcount_table_clusters is 0"),
        (56, vec![0xff; 4], "refcount_table_clusters"),
        (72, be(1 << 7), "unknown features"),
        (72, be(1), "not closed cleanly"),
        (72, be(2), "corrupt"),
        (96, vec![0, 0, 0, 7], "refcount_order is 7"),
        (100, vec![0xff; 4], "header_length"),
        (8, [be(200), vec![0, 0, 4, 0]].concat(), "backing_file_size is 1024"),
        (8, [be(1 << 40), vec![0, 0, 0, 9]].concat(), "backing_file_offset"),
        (112, vec![0xe2, 0x79, 0x2a, 0xca, 0xff, 0xff, 0xff, 0xff], "header extension length"),
        (1 << 16, be(1 << 40), "refcount table entry 0"),
        (1 << 16, be(0), "refcount of the cluster at 0x0 is 0"),
        ((1 << 16) + 8, be(2 << 16), "refcount table entry 1"),
        (2 << 16, vec![0, 0], "refcount of the cluster at 0x0 is 0"),
        (3 << 16, be(1 << 63 | 1 << 40), "L1 table entry 0"),
        (3 << 16, be(1 << 63 | 1 << 16), "metadata"),
        (3 << 16, be(4 << 16 | 1), "reserved"),
        (4 << 16, be(1 << 63), ""),
        (4 << 16, be(1 << 63 | 3 << 16), "L2 table entry 0 is 0x8000000000030000: points at metadata"),
        (4 << 16, be(1 << 63 | 6 << 16), "past the end"),
        (4 << 16, be(1 << 63 | 5 << 16 | 512), "aligned"),
        ((4 << 16) + 8, be(1 << 63 | 5 << 16), "L2 table entry 1"),
        ((4 << 16) + 8, be(1 << 62 | 1 << 30), "past the end"),
        ((4 << 16) + 8, be(1 << 62 | 4 << 16), "metadata"),
        ((4 << 16) + 8, be(3 << 62 | 5 << 16), "writable in place"),
    ];
    for (at, bytes, said) in cases {
        let (_dir, file) = with_data();
        file.write_all_at(&bytes, at).unwrap();
        match check(&file, &Limits::default()) {
            Ok(_) => assert!(said.is_empty(), "{bytes:x?} at {at} passed"),
            Err(error) => {
                let error = error.to_string();
                assert!(!said.is_empty() && error.contains(said), "{bytes:x?} at {at}: {error}");
            }
        }
    }
}

/// Found by fuzzing: with a table like this, what looks free is the header, and a writer went round for ever.
#[test]
fn nobody_writes_an_image_whose_own_clusters_are_not_counted() {
    let be = |value: u64| value.to_be_bytes();
    for (at, bytes, said) in [
        (1 << 16, be(0), "refcount table entry 0 is 0x0000000000000000: it must count the header"),
        (1 << 16, be(32), "entry 0 is 0x0000000000000020: no refcount block can be there"),
        (1 << 16, be(1 << 16), "no refcount block can be there"),
        (1 << 16, be(3 << 16), "no refcount block can be there"),
        ((1 << 16) + 8, be(2 << 16), "entry 1 is 0x0000000000020000: another entry names the same block"),
        ((1 << 16) + 8, be(1 << 40), "the block itself is counted nowhere"),
    ] {
        let (_dir, file) = with_data();
        let before = file.metadata().unwrap().len();
        file.write_all_at(&bytes, at).unwrap();
        for error in
            [prepare_for_writing(&file, &Limits::default()).unwrap_err(), grow(&file, 1 << 40).unwrap_err()]
        {
            assert!(error.to_string().contains(said), "{bytes:x?} at {at}: {error}");
        }
        assert_eq!(file.metadata().unwrap().len(), before);
    }
}

#[test]
fn other_files_are_refused() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(inspect(&file), Err(Error::TooShort { length: 0 })));
    file.write_all_at(&[0; 4096], 0).unwrap();
    assert!(matches!(inspect(&file), Err(Error::Magic(0))));
    assert!(matches!(inspect(&File::open("/dev/null").unwrap()), Err(Error::NotRegular)));
    assert!(check_header(&File::open("/").unwrap(), &Limits::default()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is changed in an image: an answer, no panic; what passes can be grown and passes again.
    #[test]
    fn no_bytes_make_it_panic(changes in prop::collection::vec((0_u64..400_000, any::<u8>()), 0..8), near in any::<bool>(),
                              length in prop::option::of(0_u64..400_000), size in 1_u64..1 << 42) {
        let (_dir, file) = with_data();
        for (at, byte) in changes {
            // Half of the runs hit the header and the beginnings of tables.
            let at = if near { ((at % 6) << 16) + at / 6 % 120 } else { at };
            file.write_all_at(&[byte], at).unwrap();
        }
        if let Some(length) = length {
            file.set_len(length).unwrap();
        }
        let _ = inspect(&file);
        let _ = check_header(&file, &any_backing());
        if check(&file, &any_backing()).is_ok() && grow(&file, size / 512 * 512).is_ok() {
            check(&file, &any_backing()).unwrap();
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_size_and_growth_is_sound(first in 1_u64..1 << 32, second in 1_u64..1 << 40, bits in 9_u32..=21) {
        let file = tempfile::tempfile().unwrap();
        if create(&file, &options(first * 512, bits)).is_ok() {
            check(&file, &Limits::default()).unwrap();
            if first < 1 << 26 {
                prepare_for_writing(&file, &Limits::default()).unwrap();
                check(&file, &Limits::default()).unwrap();
            }
            if grow(&file, second * 512).is_ok() {
                let info = check(&file, &Limits { max_virtual_size: u64::MAX, ..Limits::default() }).unwrap();
                prop_assert_eq!(info.virtual_size, 512 * first.max(second));
            }
        }
    }
}
