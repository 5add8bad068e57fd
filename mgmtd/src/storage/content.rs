//! Is a file what it was declared to be? Called once, on a received image, before it becomes visible.

use super::Error;
use lq_api::{
    Bytes,
    image::{ImageFormat, ImageKind},
};
use lq_qcow2::Limits;
use std::{fs::File, io, os::unix::fs::FileExt};

/// Largest disk.
const MAX_DISK: u64 = 64 * 1024 * Bytes::GIB;
/// Largest kernel or initial RAM disk.
const MAX_BOOT_FILE: u64 = Bytes::GIB;

/// Begins of other formats people upload as `raw` by mistake.
const NOT_RAW: [(&[u8], &str); 5] = [
    (b"QFI\xfb", "a qcow2 image"),
    (b"KDMV", "a VMDK image"),
    (b"vhdxfile", "a VHDX image"),
    (b"conectix", "a VHD image"),
    (b"\xfd7zXZ\0", "compressed by xz"),
];

/// Checks a file of `length` bytes; the size of a disk made from it.
pub(super) fn check(file: &File, kind: ImageKind, format: ImageFormat, length: u64) -> Result<u64, Error> {
    if length == 0 {
        return Err(Error::BadContent("the upload is empty".into()));
    }
    let mut start = [0u8; 0x210];
    let read = read_start(file, &mut start)
        .map_err(|source| Error::Io { context: "reading the uploaded image".into(), source })?;
    let start = start.get(..read).unwrap_or_default();
    match (kind, format) {
        (ImageKind::Disk, ImageFormat::Qcow2) => qcow2(file),
        (ImageKind::Disk, ImageFormat::Raw) => raw(start, length),
        (ImageKind::Kernel, _) => kernel(start, length),
        (ImageKind::Initrd, _) => boot_file(length, "an initial RAM disk").map(|()| length),
        (ImageKind::Iso, _) => iso(file, length),
    }
}

fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, read as u64)? {
            0 => break,
            n => read += n,
        }
    }
    Ok(read)
}

fn qcow2(file: &File) -> Result<u64, Error> {
    let limits = Limits { max_virtual_size: MAX_DISK, ..Limits::default() };
    let info = lq_qcow2::check(file, &limits).map_err(|e| refused(e, "the upload is refused"))?;
    Ok(info.virtual_size)
}

/// A fault of a qcow2 file in words of this room.
pub(super) fn refused(error: lq_qcow2::Error, context: &str) -> Error {
    match error {
        lq_qcow2::Error::Io { what, source } => Error::Io { context: format!("{context}: {what}"), source },
        other => Error::BadContent(format!("{context}: {other}")),
    }
}

fn raw(start: &[u8], length: u64) -> Result<u64, Error> {
    if let Some((_, what)) = NOT_RAW.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Error::BadContent(format!(
            "the upload was declared `raw` but is {what}: convert it to raw or qcow2 (e.g. `qemu-img convert -O qcow2`) \
             and declare that format"
        )));
    }
    if !length.is_multiple_of(512) {
        return Err(Error::BadContent(format!(
            "a raw disk has a multiple of 512 bytes, the upload has {length}: it is cut off or no disk"
        )));
    }
    if length > MAX_DISK {
        return Err(Error::BadContent(format!(
            "a disk has at most {}, the upload has {length}",
            Bytes(MAX_DISK)
        )));
    }
    Ok(length)
}

/// Volume descriptors begin at sector 16, of 2048 bytes each (ECMA-119 section 6.2.1, ECMA-167 section 2/8.3.1).
const DESCRIPTORS: u64 = 16 * 2048;

fn iso(file: &File, length: u64) -> Result<u64, Error> {
    let mut id = [0u8; 5];
    let read = file.read_exact_at(&mut id, DESCRIPTORS + 1);
    if let Err(source) = read
        && source.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(Error::Io { context: "reading the uploaded image".into(), source });
    }
    if !matches!(&id, b"CD001" | b"BEA01") {
        let reason = "the upload is no CD image: neither ISO 9660 nor UDF is found in it (a disk image goes as `disk`)";
        return Err(Error::BadContent(reason.into()));
    }
    if length > MAX_DISK {
        let reason = format!("a CD image has at most {}, the upload has {}", Bytes(MAX_DISK), Bytes(length));
        return Err(Error::BadContent(reason));
    }
    Ok(length)
}

fn boot_file(length: u64, what: &str) -> Result<(), Error> {
    if length > MAX_BOOT_FILE {
        let reason = format!("{what} has at most {}, the upload has {}", Bytes(MAX_BOOT_FILE), Bytes(length));
        return Err(Error::BadContent(reason));
    }
    Ok(())
}

fn kernel(start: &[u8], length: u64) -> Result<u64, Error> {
    boot_file(length, "a kernel")?;
    let bytes = |range: std::ops::Range<usize>| start.get(range).unwrap_or_default();
    // Linux x86 boot protocol: 0x55AA at 0x1fe, "HdrS" at 0x202, version at 0x206.
    if bytes(0x1fe..0x200) == [0x55, 0xaa] && bytes(0x202..0x206) == b"HdrS" {
        let version = bytes(0x206..0x208).iter().rev().fold(0u16, |v, b| v << 8 | u16::from(*b));
        if version < 0x0206 {
            return Err(Error::BadContent(format!(
                "the kernel speaks boot protocol {}.{:02}; at least 2.06 (Linux 2.6.22) is needed",
                version >> 8,
                version & 0xff
            )));
        }
        return Ok(length);
    }
    // ELF: 64 bit, little endian; executable or position-independent, for x86-64.
    if bytes(0..4) == b"\x7fELF" {
        let fits = bytes(4..6) == [2, 1]
            && matches!(bytes(0x10..0x12), [2 | 3, 0])
            && bytes(0x12..0x14) == [0x3e, 0];
        return if fits {
            Ok(length)
        } else {
            Err(Error::BadContent("the kernel is an ELF file, but not a 64-bit x86 executable".into()))
        };
    }
    Err(Error::BadContent(format!(
        "the upload is no kernel this product can boot: neither a bzImage nor an ELF file (it begins with {})",
        hex::encode(bytes(0..8.min(start.len())))
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn checked(content: &[u8], kind: ImageKind, format: ImageFormat) -> Result<u64, String> {
        check(&file(content), kind, format, content.len() as u64).map_err(|e| e.to_string())
    }

    fn bzimage(version: u16) -> Vec<u8> {
        let mut kernel = vec![0u8; 4096];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        kernel
    }

    #[test]
    fn kernels() {
        let kernel = |content: &[u8]| checked(content, ImageKind::Kernel, ImageFormat::Raw);
        assert_eq!(kernel(&bzimage(0x20f)), Ok(4096));
        assert!(kernel(&bzimage(0x203)).unwrap_err().contains("2.03"));
        let mut elf = vec![0u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x10..0x14].copy_from_slice(&[2, 0, 0x3e, 0]);
        assert_eq!(kernel(&elf), Ok(64));
        elf[0x12] = 0xb7;
        assert!(kernel(&elf).unwrap_err().contains("not a 64-bit x86"));
        assert!(kernel(b"\x1f\x8b\x08").unwrap_err().contains("1f8b08"));
        assert!(kernel(b"").unwrap_err().contains("empty"));
    }

    #[test]
    fn raw_disks() {
        let raw = |content: &[u8]| checked(content, ImageKind::Disk, ImageFormat::Raw);
        assert_eq!(raw(&[0; 1024]), Ok(1024));
        assert!(raw(&[0; 1000]).unwrap_err().contains("multiple of 512"));
        assert!(raw(b"QFI\xfb").unwrap_err().contains("is a qcow2 image"));
    }

    #[test]
    fn cd_images() {
        let iso = |content: &[u8]| checked(content, ImageKind::Iso, ImageFormat::Raw);
        for id in [b"CD001", b"BEA01"] {
            let mut image = vec![0u8; 17 * 2048];
            image[16 * 2048 + 1..][..5].copy_from_slice(id);
            assert_eq!(iso(&image), Ok(17 * 2048));
        }
        assert!(iso(&[0; 17 * 2048]).unwrap_err().contains("neither ISO 9660 nor UDF"));
        assert!(iso(b"CD001").unwrap_err().contains("no CD image"), "too short to be one");
    }

    #[test]
    fn a_backing_file_is_refused_by_name() {
        let image = tempfile::tempfile().unwrap();
        let backing = Some(("/etc/shadow".to_owned(), lq_qcow2::BackingFormat::Raw));
        let options = lq_qcow2::CreateOptions { virtual_size: 1 << 20, cluster_bits: 16, backing };
        lq_qcow2::create(&image, &options).unwrap();
        let length = image.metadata().unwrap().len();
        let refused = check(&image, ImageKind::Disk, ImageFormat::Qcow2, length).unwrap_err();
        assert!(matches!(&refused, Error::BadContent(r) if r.contains("/etc/shadow")), "{refused}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn nothing_uploaded_can_break_the_check(content in prop::collection::vec(any::<u8>(), 0..1200), k in 0..4) {
            let (kind, format) = [
                (ImageKind::Disk, ImageFormat::Raw),
                (ImageKind::Disk, ImageFormat::Qcow2),
                (ImageKind::Kernel, ImageFormat::Raw),
                (ImageKind::Initrd, ImageFormat::Raw),
            ][k as usize];
            let _ = checked(&content, kind, format);
        }
    }
}
