use super::*;
use std::io::Write;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A bzImage of one setup sector and `size` bytes of kernel.
fn bzimage(size: usize, protocol: u16) -> Vec<u8> {
    let mut image = vec![0; 1024 + size];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&protocol.to_le_bytes());
    image[0x211] = 1; // loaded high
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x236..0x238].copy_from_slice(&1_u16.to_le_bytes());
    image[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&0x40_0000_u32.to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[1024..].fill(0x90);
    image
}

fn source(kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str) -> BootSource {
    BootSource { kernel: file(kernel), initrd: initrd.map(file), cmdline: cmdline.to_owned() }
}

fn identity() -> smbios::Identity {
    smbios::Identity { vm: lq_api::VmId::new(), name: "tiny".to_owned() }
}

const RAM: u64 = 64 << 20;

#[test]
fn a_bzimage_is_loaded_twice_alike() {
    let memory = memory::create(RAM).unwrap();
    let mut source = source(&bzimage(5000, 0x20f), Some(b"initrd!"), "console=ttyS0");
    for _ in 0..2 {
        let entry = load(&mut source, &identity(), &memory, 2, RAM, Told::default()).unwrap();
        assert_eq!(entry, Entry::Linux64 { rip: 0x10_0200, zero_page: 0x7000, page_tables: 0x9000 });
        let mut initrd = [0; 7];
        memory.read_slice(&mut initrd, GuestAddress(RAM - 0x1000)).unwrap();
        assert_eq!(&initrd, b"initrd!");
        let mut cmdline = [0; 14];
        memory.read_slice(&mut cmdline, GuestAddress(COMMAND_LINE)).unwrap();
        assert_eq!(&cmdline, b"console=ttyS0\0");
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x7000 + 0x218)).unwrap(), (RAM - 0x1000) as u32);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(KERNEL + 4999)).unwrap(), 0x90);
        assert_eq!(&memory.read_obj::<[u8; 5]>(GuestAddress(0xf_0000)).unwrap(), b"_SM3_");
        memory::clear(&memory).unwrap();
    }
}

#[test]
fn what_cannot_boot_is_refused_with_the_reason() {
    let memory = memory::create(RAM).unwrap();
    let try_load = |mut source: BootSource| {
        load(&mut source, &identity(), &memory, 1, RAM, Told::default()).unwrap_err()
    };
    assert!(matches!(try_load(source(&[0; 100], None, "")), Error::Kernel(_)));
    assert!(matches!(try_load(source(&[0; 9000], None, "")), Error::Kernel(_)));
    assert!(matches!(try_load(source(&bzimage(100, 0x204), None, "")), Error::Kernel(_)));
    assert!(matches!(try_load(source(b"\x7fELF", None, "")), Error::Kernel(_)));
    assert!(matches!(try_load(source(b"", None, "")), Error::Read { what: "kernel", .. }));
    let long = "x".repeat(3000);
    assert!(matches!(try_load(source(&bzimage(100, 0x20f), None, &long)), Error::CommandLine));
    let huge = vec![0; 62 << 20];
    assert!(matches!(
        try_load(source(&bzimage(100, 0x20f), Some(&huge), "")),
        Error::TooSmall { what: "initial RAM disk", .. }
    ));
}

#[test]
fn the_map_is_in_order_and_apart() {
    for ram in [64 << 20, 3 << 30, 5 << 30, 512 << 30] {
        let map = map(ram);
        let usable: u64 = map.iter().filter(|m| m.1).map(|m| m.0.size).sum();
        assert_eq!(usable, ram - (memory::HIGH_RAM - memory::CONVENTIONAL_END));
        assert!(map.windows(2).all(|w| w[0].0.base + w[0].0.size <= w[1].0.base), "{map:x?}");
    }
}
