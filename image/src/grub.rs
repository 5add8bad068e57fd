//! GRUB: images for the ISO and for installed disks, and the menu of the ISO.
//!
//! | image | firmware | started from | looks for |
//! |---|---|---|---|
//! | `eltorito.img` | BIOS | the ISO (CD, or USB stick by its MBR) | `/lq/id/<build>` on any medium, first its own |
//! | `efiboot.img` (FAT) | UEFI | the ISO (CD, or USB stick by its ESP) | the same |
//! | `boot.img`, `core.img` | BIOS | an installed disk | `/lq/disk.id`, first on its own disk |
//! | `bootx64.efi` | UEFI | the ESP of an installed disk | the same |
//!
//! Every image has its modules inside: nothing is loaded from a module directory. What is embedded runs before GRUB
//! knows `if`; when it ends, GRUB reads `$prefix/grub.cfg`.

use crate::progress::{Step, note};
use crate::{tool, util};
use anyhow::{Context, Result, ensure};
use lq_api::local::layout::{self, RootManifest, cmdline};
use std::path::{Path, PathBuf};

/// Where Debian keeps GRUB's modules; the package that has them.
const BIOS_DIR: (&str, &str) = ("/usr/lib/grub/i386-pc", "grub-pc-bin");
const EFI_DIR: (&str, &str) = ("/usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin");

const MODULES: &[&str] = &[
    "part_gpt",
    "part_msdos",
    "fat",
    "iso9660",
    "search",
    "search_fs_file",
    "search_label",
    "normal",
    "linux",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "test",
    "true",
    "all_video",
    "loadenv",
    "sleep",
    "reboot",
    "halt",
    "ls",
    "cat",
    "minicmd",
    "probe",
    "regexp",
];
const BIOS_MODULES: &[&str] = &["biosdisk"];
const EFI_MODULES: &[&str] = &["efi_gop", "efi_uga", "efifwsetup"];

/// Kernel words of every start: for people to see what happens on screen and on the first serial port; for the IOMMU to keep devices apart
/// that are given to machines, and to leave those of the host alone.
const WORDS: &str = "console=tty0 console=ttyS0,115200 quiet loglevel=3 panic=10 intel_iommu=on iommu=pt";

/// GRUB images in a directory.
#[derive(Debug)]
pub struct Images {
    dir: PathBuf,
}

impl Images {
    /// The image called `name`; see the table of this module.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The MBR that starts `eltorito.img` from a stick.
    pub fn hybrid_mbr() -> PathBuf {
        Path::new(BIOS_DIR.0).join("boot_hybrid.img")
    }

    /// Makes all images in `out/grub`, unless they are there already. `id` names this build of the ISO.
    pub fn build(out: &Path, id: &str, epoch: u64) -> Result<Self> {
        tool::require(&["grub-mkimage", "mformat", "mmd", "mcopy"])?;
        for (dir, package) in [BIOS_DIR, EFI_DIR] {
            let found = Path::new(dir).join("moddep.lst").exists();
            ensure!(
                found,
                "{dir} is missing. Install it with `apt-get install --no-install-recommends {package}`"
            );
        }
        let dir = out.join("grub");
        util::make_dir(&dir)?;
        let images = Self { dir };
        let kernel = |d: (&str, &str)| util::hash_file(&Path::new(d.0).join("kernel.img"));
        let modules = format!("{MODULES:?} {BIOS_MODULES:?} {EFI_MODULES:?}");
        let (iso, disk) = (embedded_iso(id), embedded_disk());
        let inputs = util::hash_of(&[
            iso.as_bytes(),
            disk.as_bytes(),
            modules.as_bytes(),
            kernel(BIOS_DIR)?.as_bytes(),
            kernel(EFI_DIR)?.as_bytes(),
            &epoch.to_le_bytes(),
        ]);
        let names = ["eltorito.img", "efiboot.img", "boot.img", "core.img", "bootx64.efi"];
        let paths: Vec<PathBuf> = names.iter().map(|n| images.path(n)).collect();
        let stamp = images.path("stamp");
        if util::fresh(&stamp, &inputs, &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>()) {
            note("grub", "GRUB images are up to date");
            return Ok(images);
        }
        let step = Step::begin("grub", "making GRUB images");
        images.make("i386-pc-eltorito", "eltorito.img", &iso)?;
        images.make("x86_64-efi", "iso.efi", &iso)?;
        images.make("i386-pc", "core.img", &disk)?;
        images.make("x86_64-efi", "bootx64.efi", &disk)?;
        util::write(&images.path("boot.img"), &util::read(&Path::new(BIOS_DIR.0).join("boot.img"))?)?;
        let room = layout::BIOS_MIB << 20;
        let size = util::size(&images.path("core.img"))?;
        ensure!(size <= room, "core.img has {}, its partition {}", util::mib(size), util::mib(room));
        images.efi_partition(epoch)?;
        util::stamp(&stamp, &inputs)?;
        step.end("");
        Ok(images)
    }

    fn make(&self, format: &str, name: &str, embedded: &str) -> Result<()> {
        let config = self.path(&format!("{name}.cfg"));
        util::write(&config, embedded.as_bytes())?;
        let (dir, extra) =
            if format == "x86_64-efi" { (EFI_DIR.0, EFI_MODULES) } else { (BIOS_DIR.0, BIOS_MODULES) };
        let to = self.path(name);
        let mut args: Vec<&std::ffi::OsStr> =
            ["-O", format, "-d", dir, "-p", "/lq/grub", "-c"].map(AsRef::as_ref).into();
        args.extend([config.as_os_str(), "-o".as_ref(), to.as_os_str()]);
        args.extend(MODULES.iter().chain(extra).map(std::ffi::OsStr::new));
        tool::run("grub-mkimage", &args, None)?;
        Ok(())
    }

    /// The FAT file system that UEFI starts from on the ISO, just large enough.
    fn efi_partition(&self, epoch: u64) -> Result<()> {
        let program = self.path("iso.efi");
        let sectors = (util::size(&program)? + (256 << 10)).next_multiple_of(64 << 10) / 512;
        let image = self.path("efiboot.img");
        util::write(&image, &vec![0u8; usize::try_from(sectors * 512)?])?;
        let (file, program) =
            (image.to_str().context("path is not UTF-8")?, program.to_str().context("path is not UTF-8")?);
        let run = |tool: &str, args: &[&str]| tool::run_at(tool, args, None, Some(epoch));
        let total = sectors.to_string();
        run(
            "mformat",
            &["-i", file, "-T", &total, "-h", "64", "-s", "32", "-N", "4c514546", "-v", "LQ-BOOT", "::"],
        )?;
        run("mmd", &["-i", file, "::/EFI", "::/EFI/BOOT"])?;
        run("mcopy", &["-i", file, program, "::/EFI/BOOT/BOOTX64.EFI"])?;
        Ok(())
    }
}

/// Runs first when the ISO is started: finds its own file system, whatever the firmware calls the device.
fn embedded_iso(id: &str) -> String {
    format!(
        "search --no-floppy --file --set=root --hint=$root --hint=$root,msdos1 --hint=$root,gpt1 {file}\n\
         set prefix=($root)/lq/grub\n",
        file = id_file(id)
    )
}

/// Runs first when an installed disk is started: finds its ESP, first on the disk it was started from.
fn embedded_disk() -> String {
    "search --no-floppy --file --set=root --hint=$root --hint=$root,gpt2 /lq/disk.id\n\
     set prefix=($root)/lq\n"
        .to_owned()
}

/// The (empty) file of the ISO by which GRUB knows that it found the very medium it belongs to.
pub fn id_file(id: &str) -> String {
    format!("/lq/id/{id}")
}

/// The menu of the ISO (`/lq/grub/grub.cfg`). [`words_config`] and [`mode_config`] can be replaced on a made ISO.
pub fn iso_config(root: &RootManifest) -> String {
    let RootManifest { data_bytes, root_hash, salt, version, .. } = root;
    let (mode, verify) = (cmdline::MODE, cmdline::ROOT);
    format!(
        r#"set timeout=3
set default=0
set lq_mode=live
set lq_words=
source ($root)/lq/grub/mode.cfg
source ($root)/lq/grub/words.cfg
if serial --unit=0 --speed=115200; then
  terminal_input --append serial
  terminal_output --append serial
fi
function lq_start {{
  echo "LimiQuantix {version}: loading ..."
  linux ($root)/lq/vmlinuz {mode}=$lq_mode {verify}={data_bytes}:{root_hash}:{salt} {WORDS} $lq_words $1
  initrd ($root)/lq/initrd
}}
menuentry "LimiQuantix {version} live/installer" {{
  lq_start
}}
menuentry "LimiQuantix {version} live/installer, with all kernel messages" {{
  lq_start "loglevel=7 ignore_loglevel"
}}
if [ "$grub_platform" = efi ]; then
  menuentry "Firmware settings" {{
    fwsetup
  }}
fi
menuentry "Restart" {{
  reboot
}}
menuentry "Power off" {{
  halt
}}
"#
    )
}

/// `/lq/grub/words.cfg`: further kernel words.
pub fn words_config(words: &str) -> Result<String> {
    for c in words.chars() {
        let good = c == ' ' || c.is_ascii_graphic() && !"'\"\\$`;&|<>{}*?[]".contains(c);
        ensure!(good, "kernel words may not hold {c:?}: {words:?}");
    }
    ensure!(words.len() <= 1024, "kernel words are longer than 1024 characters");
    Ok(format!("set lq_words='{words}'\n"))
}

/// `/lq/grub/mode.cfg`: whether the ISO installs by itself.
pub fn mode_config(install: bool) -> String {
    format!("set lq_mode={}\n", if install { "install" } else { "live" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> RootManifest {
        RootManifest {
            version: "1.2.3".into(),
            kernel: "6.1.0-1-amd64".into(),
            data_bytes: 40960,
            image_bytes: 45056,
            root_hash: "ab".repeat(32),
            salt: "cd".repeat(32),
        }
    }

    #[test]
    fn the_menu_starts_our_kernel_with_our_words() {
        let c = iso_config(&root());
        let line = c.lines().find(|l| l.trim_start().starts_with("linux ")).unwrap();
        let verify = format!("lq.root=40960:{}:{}", "ab".repeat(32), "cd".repeat(32));
        for word in [
            "($root)/lq/vmlinuz",
            "lq.mode=$lq_mode",
            &verify,
            "console=tty0 console=ttyS0,115200",
            "$lq_words",
        ] {
            assert!(line.contains(word), "{word} is not in {line}");
        }
        assert!(
            line.find("$lq_words").unwrap() > line.find("quiet").unwrap(),
            "own words come last and so win"
        );
        assert!(c.contains("set timeout=3\n") && c.contains("LimiQuantix 1.2.3"));
        assert_eq!(c.matches('{').count(), c.matches('}').count());
    }

    #[test]
    fn words_cannot_leave_their_quotes() {
        let good = "no_timer_check tsc=reliable tsc_early_khz=2600000 lq.answer=ab-_ net.ifnames=0";
        assert_eq!(words_config(good).unwrap(), format!("set lq_words='{good}'\n"));
        for bad in ["a'b", "$x", "a;halt", "a\nb", "tür", "a\\b", "x{"] {
            assert!(words_config(bad).is_err(), "{bad}");
        }
        assert!(words_config(&"x".repeat(2000)).is_err());
    }

    #[test]
    fn embedded_settings_use_nothing_that_needs_the_shell() {
        for text in [embedded_iso("0123"), embedded_disk()] {
            assert!(text.lines().all(|l| l.starts_with("search ") || l.starts_with("set prefix=")), "{text}");
        }
        assert!(embedded_disk().contains("/lq/disk.id"));
        assert!(embedded_iso("0123").contains("/lq/id/0123"));
    }
}
