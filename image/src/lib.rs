//! `lq-image`: from Debian's prebuilt packages and our static programs to the verity-protected root image, the initramfs
//! and the hybrid ISO.
//!
//! ```text
//! base.toml ─→ base (packages, unpacked) ─┬→ root.img, root.json ─┐
//! our programs ───────────────────────────┴→ initrd, vmlinuz ─────┴→ ISO ─→ ISO with an answer
//! ```
//! Each step looks at the content of what it is made from and does nothing when that is the same. Progress goes to
//! standard error; standard output has only results. No step needs root.

pub mod base;
pub mod bins;
pub mod closure;
pub mod cpio;
pub mod elf;
pub mod forbid;
pub mod glob;
pub mod grub;
pub mod initrd;
pub mod inspect;
pub mod iso;
pub mod manifest;
pub mod modules;
pub mod packages;
pub mod progress;
pub mod root;
pub mod sbom;
pub mod tool;
pub mod tree;
pub mod util;
