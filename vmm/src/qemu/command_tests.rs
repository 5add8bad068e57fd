use super::*;
use lq_api::local::vmm::DeviceModel;

fn config(more: Value) -> VmmConfig {
    let mut config = json!({
        "version": 1, "vm": "018f3a5e-0000-7000-8000-000000000001", "name": "old, but good", "vcpus": 2,
        "memory_bytes": 512 << 20, "boot": "bios", "rng": true, "display": true, "run_dir": "/run/vm",
        "disks": [
            {"serial": "root", "image": {"path": "/data/root.qcow2", "format": "qcow2", "backing": {"path": "/data/base.raw", "format": "raw"}}, "queues": 2},
            {"serial": "cidata", "image": {"path": "/run/vm/seed.img", "format": "raw"}, "read_only": true},
        ],
        "nics": [{"tap": "tap0", "mac": "52:54:00:00:00:01", "queues": 2}],
        "devices": {"cdroms": [{"image": "/data/cd.iso"}, {}], "panic": true, "watchdog": "reset"},
        "qemu": {"machine": "pc-i440fx-7.2"},
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

fn file(descriptor: RawFd) -> Handed {
    Handed { descriptor, direct: true, device: false }
}

fn words(config: &VmmConfig, descriptors: &Descriptors) -> Vec<String> {
    let cpu = Cpu::new(config, Accelerator::Kvm, &[]);
    arguments(config, config.qemu.unwrap(), &cpu, Accelerator::Kvm, descriptors)
}

fn descriptors() -> Descriptors {
    Descriptors {
        monitor: 3,
        serial: 4,
        disks: vec![vec![file(10), file(11)], vec![Handed { direct: false, ..file(12) }]],
        media: vec![Some(file(13)), None],
        taps: vec![vec![14, 15]],
        ..Descriptors::default()
    }
}

/// Options in their order, each with its value on one line.
fn lines(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        let before = if word.starts_with('-') { "\n" } else { " " };
        text.push_str(before);
        text.push_str(word);
    }
    text.trim_start().to_owned()
}

#[test]
fn a_machine_with_a_bios_is_said_whole() {
    let expected = include_str!("../../tests/golden/qemu-bios.txt");
    assert_eq!(lines(&words(&config(json!({})), &descriptors())), expected.trim_end());
}

#[test]
fn a_machine_with_uefi_has_its_firmware_in_flash() {
    let with = config(json!({
        "boot": {"firmware": {"code": "/c", "vars": "/v"}}, "qemu": {"machine": "pc-q35-7.2"}, "display": false,
        "cpu": "x86-64-v3", "boot_order": [{"cdrom": 0}], "disks": [],
    }));
    let given = Descriptors { firmware: Some([20, 21]), tpm: Some(22), disks: vec![], ..descriptors() };
    let text = lines(&words(&with, &given));
    for part in [
        "-machine pc-q35-7.2,accel=kvm,usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off,mem-merge=off,graphics=off,pflash0=code,pflash1=vars",
        "-add-fd fd=20,set=20",
        r#""filename":"/dev/fdset/20","locking":"off","node-name":"code-file","read-only":true"#,
        r#""filename":"/dev/fdset/21","locking":"off","node-name":"vars-file","read-only":false"#,
        "-cpu qemu64-v1,-svm,",
        ",+avx2,",
        ",enforce",
        "-tpmdev emulator,id=tpm,chardev=tpm\n-device tpm-crb,tpmdev=tpm",
        "-chardev socket,id=tpm,fd=22",
        "ide-cd,id=cd0,drive=medium0,werror=report,rerror=report,bootindex=1,bus=ide.0",
        "ide-cd,id=cd1,werror=report,rerror=report,bus=ide.1",
        "netdev=nic0-tap,mac=52:54:00:00:00:01,mq=on",
    ] {
        assert!(text.contains(part), "{part} missing in:\n{text}");
    }
    assert!(!text.contains("-vnc") && !text.contains("VGA") && !text.contains("usb-tablet"), "{text}");
}

#[test]
fn old_guests_have_their_disks_on_the_boards_controller() {
    for (machine, places) in [
        ("pc-i440fx-7.2", ["bus=ide.0,unit=0", "bus=ide.0,unit=1", "bus=ide.1,unit=0", "bus=ide.1,unit=1"]),
        ("pc-q35-7.2", ["bus=ide.0", "bus=ide.1", "bus=ide.2", "bus=ide.3"]),
    ] {
        let with = config(json!({"qemu": {"machine": machine, "devices": "legacy"}}));
        assert_eq!(with.qemu.unwrap().devices, DeviceModel::Legacy);
        let text = lines(&words(&with, &descriptors()));
        for (device, place) in
            ["ide-hd,id=disk0", "ide-hd,id=disk1", "ide-cd,id=cd0", "ide-cd,id=cd1"].iter().zip(places)
        {
            let line = text.lines().find(|line| line.contains(device)).unwrap();
            assert!(line.ends_with(place), "{line}");
        }
        assert!(text.contains("-device e1000,id=nic0,") && !text.contains("virtio-blk"), "{text}");
    }
}

#[test]
fn places_on_the_bus_are_all_different_however_many_there_are() {
    let disk = |n: usize| json!({"serial": format!("d{n}"), "image": {"path": "/d", "format": "raw"}});
    let mut disks: Vec<_> = (0..16).map(disk).collect();
    disks.push(json!({"serial": "cidata", "image": {"path": "/s", "format": "raw"}, "read_only": true}));
    let nic = |n: usize| json!({"tap": format!("t{n}"), "mac": format!("52:54:00:00:00:{n:02x}")});
    let with = config(json!({"disks": disks, "nics": (0..8).map(nic).collect::<Vec<_>>()}));
    let given = Descriptors {
        disks: (100..117).map(|n| vec![file(n)]).collect(),
        taps: (200..208).map(|n| vec![n]).collect(),
        ..descriptors()
    };
    let words = words(&with, &given);
    let slots: Vec<_> = words.iter().filter_map(|word| word.split(",addr=").nth(1)).collect();
    let different: std::collections::BTreeSet<_> = slots.iter().collect();
    assert_eq!((slots.len(), different.len()), (29, 29), "{slots:?}");
    // The last is the one of what is in the board's own bridge.
    assert!(slots.iter().all(|slot| u8::from_str_radix(&slot[2..], 16).unwrap() < 31), "{slots:?}");
}

#[test]
fn limits_of_before_are_taken_back() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    assert_eq!(
        limits(&IoLimits { bandwidth: rate(1000, 10), operations: rate(5, 50) }),
        json!({"bps-total": 1000, "bps-total-max": 1000, "iops-total": 5, "iops-total-max": 50})
    );
    assert_eq!(
        limits(&IoLimits::default()),
        json!({"bps-total": 0, "bps-total-max": 0, "iops-total": 0, "iops-total-max": 0})
    );
    let most = limits(&IoLimits { bandwidth: rate(u64::MAX, u64::MAX), operations: None });
    assert_eq!(most["bps-total-max"], json!(1_000_000_000_000_000_u64));
}
