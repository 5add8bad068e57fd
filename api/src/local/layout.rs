//! How an installed disk and the boot medium are laid out. One source for `lq-image` (which makes them), the installer
//! and `lq-init` (which find them).
//!
//! GPT of an installed disk, in this order:
//!
//! | # | label | size | content |
//! |---|---|---|---|
//! | 1 | `lq-bios` | 1 MiB | GRUB core image for BIOS boot (type 21686148-6449-6E6F-744E-656564454649) |
//! | 2 | `lq-esp` | 256 MiB | FAT32: GRUB for UEFI; `/lq/grub.cfg`; `/lq/a/`, `/lq/b/` with `vmlinuz`, `initrd`, `slot.cfg` |
//! | 3 | `lq-slot-a` | 512 MiB | root image: squashfs followed by its dm-verity hash tree |
//! | 4 | `lq-slot-b` | 512 MiB | the other slot |
//! | 5 | `lq-state` | 512 MiB | ext4 |
//! | 6 | `lq-data` | the rest | ext4 |
//!
//! The ISO (volume id [`ISO_LABEL`]) carries under `/lq/`: `vmlinuz`, `initrd`, `root.img` (squashfs + hash tree),
//! `root.json` (a [`RootManifest`]), `boot.img` and `core.img` (GRUB for BIOS), `bootx64.efi` (GRUB for UEFI, searching
//! the ESP), and optionally `answer.toml`.

use serde::{Deserialize, Serialize};

/// Volume id of the ISO.
pub const ISO_LABEL: &str = "LIMIQUANTIX";
/// Volume label of a medium that carries an answer file as `/answer.toml`.
pub const ANSWER_LABEL: &str = "LQ-ANSWER";
/// Name of the answer file on such a medium; on the ISO it is `/lq/answer.toml`.
pub const ANSWER_FILE: &str = "answer.toml";

/// GPT partition labels.
pub const PART_BIOS: &str = "lq-bios";
/// EFI system partition.
pub const PART_ESP: &str = "lq-esp";
/// Slot A.
pub const PART_SLOT_A: &str = "lq-slot-a";
/// Slot B.
pub const PART_SLOT_B: &str = "lq-slot-b";
/// State.
pub const PART_STATE: &str = "lq-state";
/// Data.
pub const PART_DATA: &str = "lq-data";

/// Sizes in MiB.
pub const BIOS_MIB: u64 = 1;
/// ESP.
pub const ESP_MIB: u64 = 256;
/// Each slot.
pub const SLOT_MIB: u64 = 512;
/// State.
pub const STATE_MIB: u64 = 512;
/// Smallest useful data partition.
pub const DATA_MIN_MIB: u64 = 1024;
/// Smallest disk that can be installed to, in MiB (with room for GPT and alignment).
pub const DISK_MIN_MIB: u64 = BIOS_MIB + ESP_MIB + 2 * SLOT_MIB + STATE_MIB + DATA_MIN_MIB + 8;

/// What a root image is and how it is verified (`/lq/root.json` on the ISO).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootManifest {
    /// LimiQuantix version.
    pub version: String,
    /// Kernel release, e.g. `6.1.0-40-amd64`.
    pub kernel: String,
    /// Length of the squashfs, a multiple of 4096; the hash tree (with its superblock) begins here.
    pub data_bytes: u64,
    /// Length of the whole image.
    pub image_bytes: u64,
    /// dm-verity root hash, SHA-256, hexadecimal.
    pub root_hash: String,
    /// dm-verity salt, hexadecimal.
    pub salt: String,
}

/// Words on the kernel command line. Values hold no spaces.
pub mod cmdline {
    /// `lq.mode=live|disk|install`. `install`: like live, then install as the answer file says.
    pub const MODE: &str = "lq.mode";
    /// `lq.root=<data_bytes>:<root hash>:<salt>`: how to verify the root image.
    pub const ROOT: &str = "lq.root";
    /// `lq.slot=a|b`: the slot booted (mode `disk`).
    pub const SLOT: &str = "lq.slot";
    /// `lq.disk=<GPT disk GUID>`: the disk booted from (mode `disk`).
    pub const DISK: &str = "lq.disk";
    /// `lq.answer=<base64 of an answer file, URL-safe alphabet, no padding>`.
    pub const ANSWER: &str = "lq.answer";
    /// `lq.console=<tty names, comma separated>`: where the status screen goes; `tty1,ttyS0` where absent.
    pub const CONSOLE: &str = "lq.console";
}
