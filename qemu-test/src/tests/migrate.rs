//! Guests that move between monitors.

use crate::{
    guest_image,
    nested::{self, Tree},
    runner::Ctx,
};
use anyhow::{Result, ensure};
use lq_api::{
    image::ImageFormat,
    local::vmm::{BootFiles, DiskConfig, DiskImage, IoLimits, VmmConfig},
};

/// Moves of each guest.
const ROUNDS: u32 = 5;

/// PID 1 of the Debian guest: writes to its disk, reads that back past every cache, and counts. Without double quotes: the
/// kernel's command line has them around it.
const COUNTING: &str = "mount -t proc proc /proc; mount -o remount,rw /; n=0; while :; do n=$((n+1)); \
    dd if=/dev/urandom of=/x bs=64k count=4 conv=fsync 2>/dev/null; cp /x /y; sync; echo 3 >/proc/sys/vm/drop_caches; \
    cmp /x /y || echo BAD; echo tick $n; done";

/// A Debian guest on its qcow2 disk, then a small one, move between monitors of one nested host while they count.
pub(super) async fn moves(ctx: &mut Ctx) -> Result<()> {
    let images = guest_image::ensure(&ctx.paths).await?;
    let dir = ctx.dir.join("nested");
    let tree = Tree::new(&ctx.paths, &images, &dir)?;
    tree.place(&images.initrd(), "guest/debian-initrd")?;
    tree.place(&images.disk(), "guest/debian.qcow2")?;
    let words = ctx.accel.kernel_words();
    let tiny =
        config("/guest/initrd", format!("console=ttyS0 quiet panic=-1 tiny=tick {words}"), 128, vec![]);
    let disk = DiskConfig {
        serial: "root".into(),
        image: DiskImage { path: "/guest/debian.qcow2".into(), format: ImageFormat::Qcow2, backing: None },
        read_only: false,
        limits: IoLimits::default(),
        queues: 1,
        slot: None,
    };
    let line =
        format!("console=ttyS0 quiet panic=-1 root=/dev/vda rw {words} init=/bin/sh -- -c \"{COUNTING}\"");
    let debian = config("/guest/debian-initrd", line, 384, vec![disk]);
    for (name, config) in [("tiny", tiny), ("debian", debian)] {
        let text = serde_json::to_string(&config)?;
        tree.write(&format!("{name}.json"), &text.replace("\"start\":\"boot\"", "\"start\":\"START\""))?;
    }
    let script = format!(
        "export PATH=/bin\nfor guest in tiny debian; do echo \"GUEST $guest\"; \
         /lq-fault moves {ROUNDS} /lq-vmm /$guest.json; done\n"
    );
    let machine = tree.host(&images, ctx.accel, &script, 1536).await?;
    let mut running = machine.start().await?;
    running.serial.expect("bench: end", 1200).await?;
    let said = running.serial.all();
    running.wait_end(60).await?;
    let told = |line: &&str| ["MOVE", "GUEST", "SAID"].iter().any(|word| line.starts_with(word));
    for line in said.lines().filter(told) {
        println!("  {line}");
    }
    let good = said.matches("moves: good").count();
    let bad: Vec<_> = said.lines().filter(|line| line.contains("moves: bad")).collect();
    ensure!(good == 2, "{good} of 2 guests moved well: {}", bad.join("; "));
    Ok(())
}

fn config(initrd: &str, cmdline: String, mib: u64, disks: Vec<DiskConfig>) -> VmmConfig {
    let files = BootFiles { kernel: "/guest/vmlinuz".into(), initrd: Some(initrd.into()), cmdline };
    VmmConfig { disks, rng: true, run_dir: "RUN".into(), ..nested::config("moving", mib, files) }
}
