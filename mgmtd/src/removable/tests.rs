use super::*;

/// A host with drives: files stand for `/sys` and for the devices.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for dir in ["sys/block", "dev"] {
            fs::create_dir_all(host.0.path().join(dir)).unwrap();
        }
        host
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A drive of 8 MiB whose first bytes are these.
    fn drive(&self, name: &str, removable: bool, head: &[u8]) {
        self.put(&format!("sys/block/{name}/removable"), if removable { "1\n" } else { "0\n" });
        self.put(&format!("sys/block/{name}/size"), "16384\n");
        self.put(&format!("sys/block/{name}/ro"), "0\n");
        self.put(&format!("sys/block/{name}/device/vendor"), "Make    \n");
        self.put(&format!("sys/block/{name}/device/model"), "Stick\n");
        self.put(&format!("dev/{name}"), head);
    }

    fn partition(&self, disk: &str, name: &str, sectors: u64, label: &str, head: &[u8]) {
        let dir = format!("sys/block/{disk}/{name}");
        self.put(&format!("{dir}/partition"), "1\n");
        self.put(&format!("{dir}/size"), format!("{sectors}\n"));
        self.put(&format!("{dir}/uevent"), format!("DEVTYPE=partition\nPARTNAME={label}\n"));
        self.put(&format!("dev/{name}"), head);
    }

    fn drives(&self) -> Drives {
        Drives::new(self.0.path().to_owned())
    }

    /// Names, and why not.
    fn found(&self) -> Vec<(String, Option<String>)> {
        self.drives().list().unwrap().into_iter().map(|d| (d.device, d.unfit)).collect()
    }
}

fn fat() -> Vec<u8> {
    let mut head = vec![0; 4096];
    head[510..512].copy_from_slice(&[0x55, 0xaa]);
    head[82..90].copy_from_slice(b"FAT32   ");
    head[71..82].copy_from_slice(b"DATA       ");
    head
}

#[test]
fn what_can_be_pulled_out_is_listed_and_what_cannot_is_not() {
    let host = Host::new();
    host.drive("sda", false, &fat());
    host.drive("sr0", true, &fat());
    host.drive("sdb", true, &[0; 4096]);
    host.partition("sdb", "sdb1", 16000, "data", &fat());
    host.partition("sdb", "sdb2", 2, "", &[]);
    host.drive("sdc", true, &fat());
    let found = host.drives().list().unwrap();
    assert_eq!(
        found,
        [
            RemovableDrive {
                device: "sdb1".into(),
                size_bytes: Bytes(16000 * 512),
                model: Some("Make Stick".into()),
                file_system: Some("FAT".into()),
                label: Some("DATA".into()),
                unfit: None,
            },
            RemovableDrive {
                device: "sdc".into(),
                size_bytes: Bytes::mib(8),
                model: Some("Make Stick".into()),
                file_system: Some("FAT".into()),
                label: Some("DATA".into()),
                unfit: None,
            },
        ]
    );
    // A large stick calls itself a disk, but hangs on USB.
    let place = host.0.path().join("sys/devices/pci0000:00/usb1/1-1/block");
    fs::create_dir_all(&place).unwrap();
    host.drive("sdd", false, &fat());
    fs::rename(host.0.path().join("sys/block/sdd"), place.join("sdd")).unwrap();
    std::os::unix::fs::symlink(place.join("sdd"), host.0.path().join("sys/block/sdd")).unwrap();
    assert!(host.found().contains(&("sdd".into(), None)));
}

#[test]
fn what_must_not_be_written_to_says_why() {
    let host = Host::new();
    host.drive("sdb", true, &[0; 4096]);
    host.partition("sdb", "sdb1", 16000, "lq-esp", &fat());
    host.partition("sdb", "sdb2", 16000, "mine", &fat());
    let mut medium = vec![0; 40 << 10];
    medium[32769..32774].copy_from_slice(b"CD001");
    host.drive("sdc", true, &medium);
    host.partition("sdc", "sdc2", 16000, "", &fat());
    host.drive("sdd", true, &fat());
    host.put("sys/block/sdd/ro", "1\n");
    let mut ntfs = vec![0; 4096];
    ntfs[3..11].copy_from_slice(b"NTFS    ");
    host.drive("sde", true, &ntfs);
    host.drive("sdf", true, &[0; 4096]);
    host.drive("sdg", true, &fat());
    fs::remove_file(host.0.path().join("dev/sdg")).unwrap();
    // No card is in.
    host.drive("sdh", true, &[]);
    host.put("sys/block/sdh/size", "0\n");
    let found = host.found();
    let why = |device: &str| {
        let (_, why) = found.iter().find(|(d, _)| d == device).unwrap();
        why.clone().unwrap()
    };
    for (device, word) in [
        ("sdb1", "an installation of"),
        ("sdb2", "an installation of"),
        ("sdc2", "installation medium"),
        ("sdd", "write-protected"),
        ("sde", "NTFS"),
        ("sdf", "no file system"),
        ("sdg", "cannot be read"),
    ] {
        assert!(why(device).contains(word), "{device}: {}", why(device));
    }
    assert_eq!(found.len(), 7);
    let error = host.drives().write("sde", "limiquantix-x", b"x").unwrap_err();
    assert!(error.to_string().contains("format it"), "{error}");
    for name in ["sda", "../sdd", ""] {
        let error = host.drives().write(name, "limiquantix-x", b"x").unwrap_err();
        assert!(error.to_string().contains("there are sdb1, sdb2"), "{error}");
    }
    let error = Host::new().drives().write("sda", "limiquantix-x", b"x").unwrap_err();
    assert!(error.to_string().contains("none is plugged in"), "{error}");
}

#[test]
fn one_at_a_time() {
    let drives = Host::new().drives();
    let held = drives.hold().unwrap();
    assert!(matches!(drives.list(), Err(Error::Busy)));
    drop(held);
    assert!(drives.list().is_ok());
}
