use super::*;
use crate::block::Partition;
use proptest::prelude::*;

fn disk(name: &str, gib: u64) -> Surveyed {
    Surveyed {
        disk: Disk {
            name: name.into(),
            size_bytes: gib << 30,
            serial: Some(format!("S-{name}")),
            ..Disk::default()
        },
        is_boot_medium: false,
        sector_bytes: 512,
        found: Vec::new(),
        guid: None,
    }
}

fn install(choice: &str) -> Install {
    Install { disk: choice.into(), erase: None, then: Default::default(), again: false }
}

fn mark() -> Mark {
    Mark::of(&lq_api::answer::Answer::parse("version = 1").unwrap())
}

#[test]
fn a_medium_that_stays_in_the_machine_erases_nothing() {
    let mut used = disk("vda", 8);
    used.found = vec!["a LimiQuantix installation".into()];
    used.guid = Some(mark().disk_guid().to_string());
    let mut wanted = install("auto");
    wanted.erase = Some(ERASE_WORD.into());
    let error = plan(&[used.clone()], &wanted, mark(), 1).unwrap_err();
    assert!(error.contains("already") && error.contains("Remove the installation medium"), "{error}");
    wanted.again = true;
    assert!(plan(&[used.clone()], &wanted, mark(), 1).is_ok());
    wanted.again = false;
    used.guid = Some(uuid::Uuid::new_v4().to_string());
    assert!(plan(&[used], &wanted, mark(), 1).is_ok());
}

#[test]
fn auto_takes_the_only_fit_disk_and_never_the_boot_medium() {
    let mut disks = vec![disk("sda", 16), disk("vda", 8), disk("vdb", 1)];
    disks[0].is_boot_medium = true;
    assert_eq!(plan(&disks, &install("auto"), mark(), 1).unwrap().node, "/dev/vda");
    disks[0].is_boot_medium = false;
    let error = plan(&disks, &install("auto"), mark(), 1).unwrap_err();
    assert!(error.contains("/dev/sda (16.0 GiB, serial S-sda)") && error.contains("/dev/vda"), "{error}");
    assert!(!error.contains("vdb"), "{error}");
}

#[test]
fn disks_are_chosen_by_what_they_are() {
    let mut disks = vec![disk("sda", 16), disk("sdb", 8), disk("sdc", 32)];
    disks[1].disk.wwn = Some("naa.5".into());
    for (choice, node) in [
        ("smallest", "/dev/sdb"),
        ("largest", "/dev/sdc"),
        ("/dev/sda", "/dev/sda"),
        ("serial:S-sdc", "/dev/sdc"),
        ("wwn:naa.5", "/dev/sdb"),
    ] {
        assert_eq!(plan(&disks, &install(choice), mark(), 1).unwrap().node, node, "{choice}");
    }
    assert!(
        plan(&disks, &install("serial:none"), mark(), 1).unwrap_err().contains("Disks found:\n  /dev/sda")
    );
    disks[2].is_boot_medium = true;
    assert!(plan(&disks, &install("/dev/sdc"), mark(), 1).unwrap_err().contains("booted from"));
    disks[2].disk.serial = Some("S-sda".into());
    assert!(plan(&disks, &install("serial:S-sda"), mark(), 1).unwrap_err().contains("several disks"));
}

#[test]
fn a_small_or_read_only_disk_is_refused_with_its_size() {
    let error = plan(&[disk("sda", 1)], &install("/dev/sda"), mark(), 1).unwrap_err();
    assert!(error.contains("too small") && error.contains("1.0 GiB, at least 2.8 GiB"), "{error}");
    let error = plan(&[disk("sda", 1)], &install("auto"), mark(), 1).unwrap_err();
    assert!(
        error.contains("no disk to install to") && error.contains("2.8 GiB") && error.contains("/dev/sda"),
        "{error}"
    );
    let mut read_only = disk("sda", 8);
    read_only.disk.read_only = true;
    assert!(plan(&[read_only], &install("/dev/sda"), mark(), 1).unwrap_err().contains("read-only"));
}

#[test]
fn anything_on_the_disk_needs_the_erase_word() {
    let mut disks = vec![disk("sda", 8)];
    disks[0].found = vec!["NTFS file system".into()];
    let error = plan(&disks, &install("auto"), mark(), 1).unwrap_err();
    assert!(error.contains("Found: NTFS file system") && error.contains(ERASE_WORD), "{error}");
    let mut allowed = install("auto");
    allowed.erase = Some(ERASE_WORD.into());
    assert!(plan(&disks, &allowed, mark(), 1).unwrap().notes[1].contains("NTFS"));
}

#[test]
fn contents_are_told_precisely() {
    let mut disk = disk("sda", 8).disk;
    let blank = Signs { blank: true, ..Signs::default() };
    assert!(contents(&disk, &blank, &[0; 4096]).is_empty());
    assert!(contents(&disk, &Signs::default(), &[0; 4096])[0].contains("unknown kind"));
    let mut tail = vec![0; 4096];
    tail[3584..3592].copy_from_slice(b"EFI PART");
    assert!(contents(&disk, &blank, &tail)[0].contains("backup of a GPT"));
    for label in [layout::PART_SLOT_A, layout::PART_STATE] {
        disk.partitions.push(Partition { name: "sda1".into(), label: Some(label.into()), size_bytes: MIB });
    }
    let found = contents(&disk, &blank, &tail);
    assert_eq!(found[0], "a LimiQuantix installation");
    assert_eq!(found[1], "partitions sda1 \"lq-slot-a\" (1.0 MiB), sda1 \"lq-state\" (1.0 MiB)");
}

proptest! {
    #[test]
    fn every_layout_is_aligned_disjoint_in_order_and_inside(bytes in 0u64..1 << 44) {
        match lay_out(bytes, 100 * MIB) {
            Err(_) => prop_assert!(bytes < layout::DISK_MIN_MIB * MIB),
            Ok(parts) => {
                let mut end = MIB;
                for part in &parts {
                    prop_assert_eq!(part.offset, end);
                    prop_assert!(part.length > 0 && part.length % MIB == 0);
                    end = part.offset + part.length;
                }
                prop_assert!(end + 34 * 512 <= bytes);
                let data = parts.last().unwrap();
                prop_assert!(data.label == layout::PART_DATA && data.length >= layout::DATA_MIN_MIB * MIB);
            }
        }
    }
}
