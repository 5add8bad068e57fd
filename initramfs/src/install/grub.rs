//! GRUB on an installed disk: its boot sector, its core image, and its configuration. Pure.
//!
//! The boot sector loads the first sector of the core image, and that loads the rest; both find their sectors in the block
//! lists patched here (GRUB's `boot.S` and `diskboot.S`).

use crate::cmdline::{RootParams, Slot};
use lq_api::local::layout::cmdline as word;

/// Bytes of boot code in a master boot record.
pub const BOOT_CODE: usize = 440;
const SECTOR: usize = 512;
/// In the boot sector: first sector of the core image.
const BOOT_KERNEL_SECTOR: usize = 0x5c;
/// In the first sector of the core image: first sector of the rest, its length in sectors, the segment it is loaded to.
const CORE_BLOCK_LIST: usize = 0x1f4;
const CORE_SEGMENT: u16 = 0x820;

/// The images are not what they have to be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// Not a boot sector.
    #[error("boot.img is not a boot sector of 512 bytes")]
    Boot,
    /// Not a core image, or too long for its partition.
    #[error("core.img has {0} bytes; 1 KiB to {1} are possible")]
    Core(usize, u64),
}

fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(data) {
        *slot = *byte;
    }
}

/// The boot code for a core image that begins at `core_sector` (of 512 bytes).
pub fn boot_code(image: &[u8], core_sector: u64) -> Result<[u8; BOOT_CODE], BadImage> {
    if image.len() != SECTOR || !image.ends_with(&[0x55, 0xaa]) {
        return Err(BadImage::Boot);
    }
    let mut code: [u8; BOOT_CODE] =
        image.get(..BOOT_CODE).and_then(|b| b.try_into().ok()).ok_or(BadImage::Boot)?;
    put(&mut code, BOOT_KERNEL_SECTOR, &core_sector.to_le_bytes());
    // As grub-install does for a hard disk: the jump over the check of the drive number becomes two no-operations, so that
    // the drive the BIOS names is believed.
    put(&mut code, 0x66, &[0x90, 0x90]);
    Ok(code)
}

/// The core image as it is written to `core_sector`, padded to whole sectors. `room` is its partition's length in bytes.
pub fn core_image(image: &[u8], core_sector: u64, room: u64) -> Result<Vec<u8>, BadImage> {
    let fault = BadImage::Core(image.len(), room);
    if image.len() < 2 * SECTOR || image.len() as u64 > room {
        return Err(fault);
    }
    let mut bytes = image.to_vec();
    bytes.resize(image.len().next_multiple_of(SECTOR), 0);
    let Ok(rest) = u16::try_from(bytes.len() / SECTOR - 1) else { return Err(fault) };
    put(&mut bytes, CORE_BLOCK_LIST, &(core_sector + 1).to_le_bytes());
    put(&mut bytes, CORE_BLOCK_LIST + 8, &rest.to_le_bytes());
    put(&mut bytes, CORE_BLOCK_LIST + 10, &CORE_SEGMENT.to_le_bytes());
    Ok(bytes)
}

/// What the configuration of an installed disk depends on.
#[derive(Clone, Debug)]
pub struct Config {
    /// GPT disk GUID.
    pub disk: uuid::Uuid,
    /// How to verify slot A.
    pub root: RootParams,
    /// Words of the live command line that go along.
    pub keep: Vec<String>,
    /// Version installed.
    pub version: String,
}

/// `/lq/grub.cfg`: the menu. What a slot boots is in its own `slot.cfg`, so that an update replaces one file.
pub fn menu() -> String {
    let mut text = String::from(
        "# Made by the LimiQuantix installer.\n\
         serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         set default=a\n\
         set timeout=2\n",
    );
    for slot in ["a", "b"] {
        text += &format!(
            "if [ -f ($root)/lq/{slot}/slot.cfg ]; then\n\
             \x20 menuentry 'LimiQuantix (slot {slot})' --id {slot} {{\n\
             \x20   source ($root)/lq/{slot}/slot.cfg\n\
             \x20 }}\n\
             fi\n"
        );
    }
    text
}

/// `/lq/<slot>/slot.cfg`.
pub fn slot(config: &Config, slot: Slot) -> String {
    let name = slot.name();
    let consoles = if config.keep.iter().any(|w| w.starts_with("console=")) {
        ""
    } else {
        " console=tty0 console=ttyS0,115200"
    };
    // The words come from the command line of the installation; only what a word of GRUB's may hold unquoted gets through.
    let keep: String = config
        .keep
        .iter()
        .filter(|w| w.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.,=:/@".contains(&b)))
        .map(|w| format!(" {w}"))
        .collect();
    format!(
        "# LimiQuantix {}\n\
         echo 'Starting LimiQuantix {} (slot {name}) ...'\n\
         linux ($root)/lq/{name}/vmlinuz {}=disk {}={name} {}={} {}={} quiet{consoles}{keep}\n\
         initrd ($root)/lq/{name}/initrd\n",
        config.version,
        config.version,
        word::MODE,
        word::SLOT,
        word::DISK,
        config.disk,
        word::ROOT,
        config.root
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boot_image() -> Vec<u8> {
        let mut image = vec![0x11; SECTOR];
        image[510..].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    #[test]
    fn the_boot_code_points_at_the_core_image() {
        let code = boot_code(&boot_image(), 2048).unwrap();
        assert_eq!(code[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(code[0x66..0x68], [0x90, 0x90]);
        assert_eq!(code[0], 0x11);
        assert_eq!(boot_code(&[0; 512], 1), Err(BadImage::Boot));
        assert_eq!(boot_code(&[], 1), Err(BadImage::Boot));
    }

    #[test]
    fn a_slot_boots_its_own_kernel_with_the_words_kept() {
        let config = Config {
            disk: uuid::Uuid::nil(),
            root: RootParams { data_bytes: 4096, root_hash: "ab".repeat(32), salt: "01".into() },
            keep: vec!["console=ttyS0,115200".into(), "tsc=reliable".into(), "tsc=$(reboot);'".into()],
            version: "0.1.0".into(),
        };
        let text = slot(&config, Slot::A);
        let linux = text.lines().find(|l| l.starts_with("linux ")).unwrap();
        let expected = format!(
            "linux ($root)/lq/a/vmlinuz lq.mode=disk lq.slot=a lq.disk={} lq.root=4096:{}:01 quiet console=ttyS0,115200 tsc=reliable",
            uuid::Uuid::nil(),
            "ab".repeat(32)
        );
        assert_eq!(linux, expected);
        let without = Config { keep: Vec::new(), ..config };
        assert!(
            slot(&without, Slot::B).contains("lq.slot=b")
                && slot(&without, Slot::B).contains("console=tty0 console=ttyS0")
        );
        assert_eq!(crate::cmdline::BootArgs::parse(linux).faults, Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn the_core_images_list_covers_it_whole(length in 1024usize..200_000, sector in 1u64..1 << 40) {
            let bytes = core_image(&vec![7; length], sector, 1 << 20).unwrap();
            prop_assert_eq!(bytes.len() % SECTOR, 0);
            prop_assert_eq!(&bytes[0x1f4..0x1fc], &(sector + 1).to_le_bytes());
            let rest = u16::from_le_bytes([bytes[0x1fc], bytes[0x1fd]]);
            prop_assert_eq!((usize::from(rest) + 1) * SECTOR, bytes.len());
            prop_assert_eq!(&bytes[0x1fe..0x200], &[0x20, 0x08]);
            prop_assert!(bytes.len() - length < SECTOR);
        }

        #[test]
        fn a_core_image_of_no_possible_size_is_refused(length in 0usize..1024) {
            prop_assert!(core_image(&vec![7; length], 1, 1 << 20).is_err());
            prop_assert!(core_image(&vec![7; 4096], 1, 2048).is_err());
        }
    }
}
