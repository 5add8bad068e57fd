//! Kernels that are started by their PVH entry.

use crate::{
    guest_image,
    nested::{self, Tree},
    runner::Ctx,
    vmlinux::vmlinux,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::local::{
    paths::VM_CONSOLE,
    vmm::{BootFiles, VmmConfig},
};
use std::fs;

/// Debian's kernel, unpacked, starts by its PVH entry to its user space, and finds the maker of the machine in SMBIOS.
pub(super) async fn boot(ctx: &mut Ctx) -> Result<()> {
    let images = guest_image::ensure(&ctx.paths).await?;
    let dir = ctx.dir.join("nested");
    let tree = Tree::new(&ctx.paths, &images, &dir)?;
    let unpacked = dir.join("vmlinux");
    let packed = fs::read(images.kernel()).context("reading the guests' kernel")?;
    fs::write(&unpacked, vmlinux(&packed)?).context("unpacking the guests' kernel")?;
    tree.place(&unpacked, "guest/vmlinux")?;
    let files = BootFiles {
        kernel: "/guest/vmlinux".into(),
        initrd: Some("/guest/initrd".into()),
        // Not quiet: the kernel says what it found in SMBIOS.
        cmdline: format!("console=ttyS0 panic=-1 tiny=off {}", ctx.accel.kernel_words()),
    };
    let config = VmmConfig { vcpus: 2, rng: true, ..nested::config("pvh", 256, files) };
    tree.write("pvh.json", &serde_json::to_string(&config)?)?;
    let start = format!("--socket /run/lq/{VM_CONSOLE} -- /lq-vmm run --config /pvh.json");
    let script = format!(
        "export PATH=/bin\nbusybox mkdir -p /run/lq\n\
         echo \"DMI $(/lq-fault measure 'DMI: LimiQuantix LimiQuantix Virtual Machine' 256 {start} 2>&1 | busybox tail -n 1)\"\n\
         echo \"PVH $(/lq-fault measure 'tiny: user space' 256 {start} 2>&1 | busybox tail -n 1)\"\n"
    );
    let machine = tree.host(&images, ctx.accel, &script, 512).await?;
    let mut running = machine.start().await?;
    running.serial.expect("bench: end", 600).await?;
    let said = running.serial.all();
    running.wait_end(60).await?;
    for word in ["DMI", "PVH"] {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(word)?.strip_prefix(' '));
        let line = line.with_context(|| format!("nothing was said of {word}"))?;
        ensure!(line.starts_with("seconds="), "{word}: {line}");
    }
    Ok(())
}
