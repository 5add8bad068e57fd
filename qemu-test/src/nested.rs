//! A nested host: a kernel with busybox whose disk holds programs and files, and the script `/bench.sh` that it runs to its end.

use crate::{
    accel::Accel,
    guest_image::{self, GuestImages},
    media,
    paths::{Paths, need},
    process::{command, run},
    qemu::{Bus, Disk, Format, Machine},
};
use anyhow::{Context as _, Result};
use lq_api::{
    Bytes, VmId,
    local::vmm::{BootConfig, BootFiles, CpuModel, MoreDevices, Start, VERSION, VmmConfig},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

const INIT: &str = include_str!("../guest/bench-init");

/// The files of a host's disk, before it is made.
pub(crate) struct Tree {
    dir: PathBuf,
    root: PathBuf,
}

impl Tree {
    /// With busybox, `lq-vmm`, `lq-fault`, and the guests' kernel and tiny initial RAM disk.
    pub(crate) fn new(paths: &Paths, images: &GuestImages, dir: &Path) -> Result<Self> {
        let (vmm, fault) = (paths.program("lq-vmm"), paths.program("lq-fault"));
        need(&vmm, "build it with `just build`")?;
        need(&fault, "build it with `just test-iso`")?;
        let root = dir.join("tree");
        let _ = fs::remove_dir_all(&root);
        for name in ["bin", "dev", "proc", "sys", "run", "tmp", "guest"] {
            fs::create_dir_all(root.join(name)).with_context(|| format!("making {}", root.display()))?;
        }
        let tree = Self { dir: dir.to_owned(), root };
        tree.place(Path::new("/bin/busybox"), "bin/busybox")?;
        std::os::unix::fs::symlink("busybox", tree.root.join("bin/sh"))?;
        tree.place(&vmm, "lq-vmm")?;
        tree.place(&fault, "lq-fault")?;
        tree.place(&images.kernel(), "guest/vmlinuz")?;
        tree.place(&images.tiny_initrd(), "guest/initrd")?;
        Ok(tree)
    }

    /// Copies a file in.
    pub(crate) fn place(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.root.join(to.trim_start_matches('/'));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    }

    /// Writes a file.
    pub(crate) fn write(&self, to: &str, content: &str) -> Result<()> {
        fs::write(self.root.join(to), content).with_context(|| format!("writing {to}"))
    }

    /// The host: runs `script`, says `bench: end`, and switches itself off. Its disk has `mib`.
    pub(crate) async fn host(
        &self,
        images: &GuestImages,
        accel: Accel,
        script: &str,
        mib: u32,
    ) -> Result<Machine> {
        let path = self.root.join("bench.sh");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let image = self.dir.join("disk.raw");
        let _ = fs::remove_file(&image);
        let mut make = command("mke2fs");
        make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"]);
        make.arg(&self.root).arg(&image).arg(format!("{mib}M"));
        run(make, "mke2fs").await?;
        let initrd = self.dir.join("initrd");
        fs::write(&initrd, guest_image::busybox_initrd(&images.modules(), "order-host", INIT)?)?;
        let words = format!("console=ttyS0 quiet panic=-1 {}", accel.kernel_words());
        Ok(Machine {
            disks: vec![Disk { path: image, format: Format::Raw, bus: Bus::Virtio, serial: "BENCH".into() }],
            direct: Some((images.kernel(), initrd, words)),
            forward: vec![],
            ..media::bare_metal(&self.dir, accel)
        })
    }
}

/// A machine of one CPU and `mib` MiB that boots `files` directly, and has nothing else.
pub(crate) fn config(name: &str, mib: u64, files: BootFiles) -> VmmConfig {
    VmmConfig {
        version: VERSION,
        vm: VmId::new(),
        name: name.into(),
        vcpus: 1,
        memory_bytes: Bytes::mib(mib),
        boot: BootConfig::Direct(files),
        disks: vec![],
        nics: vec![],
        rng: false,
        display: false,
        run_dir: "/run/lq".into(),
        jail: None,
        start: Start::Boot,
        cpu: CpuModel::default(),
        devices: MoreDevices::default(),
        boot_order: vec![],
        lease: None,
        empty_slots: vec![],
        qemu: None,
    }
}
