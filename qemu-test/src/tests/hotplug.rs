//! Disks that come to a Debian guest and go while it runs.

use crate::{
    guest_image,
    nested::{self, Tree},
    runner::Ctx,
};
use anyhow::{Result, ensure};
use lq_api::{
    image::ImageFormat,
    local::{
        paths::VM_CONTROL,
        vmm::{BootFiles, DiskConfig, DiskImage, HotplugConfig, IoLimits, VmmConfig},
    },
};

/// PID 1 of the guest: writes a number to each disk that comes, once. Disks are told apart by their sequence number: one may go
/// and the next come between two looks. Without double quotes: the kernel's command line has them around it.
const WATCHING: &str = "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; n=0; seen=; \
    while :; do now=$(cat /sys/block/vdb/diskseq 2>/dev/null); \
    if [ -b /dev/vdb ] && [ x$now != x$seen ]; then n=$((n+1)); seen=$now; \
    echo plugged $n | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null; fi; echo guest: $n $seen; sleep 1; done";

/// What the nested host does: `ask` is the monitor's answer, `written` waits until the guest has used the disk.
const STEPS: &str = r#"
export PATH=/bin
busybox mkdir -p /run/lq
busybox truncate -s 16M /guest/extra.raw
/lq-vmm run --config /hot.json &
ask() { /lq-vmm ask --control /run/lq/CONTROL "$1" 0<>/guest/extra.raw; }
plug='{"disk-plug":{"disk":{"serial":"extra","image":{"path":"/guest/extra.raw","format":"raw"}}}}'
unplug='{"unplug":{"device":{"disk":"extra"},"timeout_ms":240000}}'
written() {
    n=0
    while ! busybox head -c 9 /guest/extra.raw | busybox grep -q "plugged $1"; do
        n=$((n+1)); [ $n -lt 400 ] || { echo "HOT bad: the guest does not use the disk: $1"; return 1; }
        busybox sleep 1
    done
}
round() {
    ask "$plug" && written "$1" && ask "$unplug" && ! ask '"config"' | busybox grep -q extra && echo "HOT good $1"
}
n=0
while ! ask '"status"' >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 60 ] || break; busybox sleep 1; done
# The first one comes before the guest has looked at its bus, or while it does.
round 1 && round 2 && round 3
ask '"quit"'
wait
"#;

/// Three times a disk comes, is written to, and goes when the guest is asked for it.
pub(super) async fn disks(ctx: &mut Ctx) -> Result<()> {
    let images = guest_image::ensure(&ctx.paths).await?;
    let dir = ctx.dir.join("nested");
    let tree = Tree::new(&ctx.paths, &images, &dir)?;
    tree.place(&images.initrd(), "guest/debian-initrd")?;
    tree.place(&images.disk(), "guest/debian.qcow2")?;
    let root = DiskConfig {
        serial: "root".into(),
        image: DiskImage { path: "/guest/debian.qcow2".into(), format: ImageFormat::Qcow2, backing: None },
        read_only: false,
        limits: IoLimits::default(),
        queues: 1,
        slot: None,
    };
    let files = BootFiles {
        kernel: "/guest/vmlinuz".into(),
        initrd: Some("/guest/debian-initrd".into()),
        cmdline: format!(
            "console=ttyS0 quiet panic=-1 root=/dev/vda rw {} init=/bin/sh -- -c \"{WATCHING}\"",
            ctx.accel.kernel_words()
        ),
    };
    let mut config = VmmConfig { disks: vec![root], rng: true, ..nested::config("hot", 384, files) };
    config.devices.hotplug = Some(HotplugConfig::default());
    tree.write("hot.json", &serde_json::to_string(&config)?)?;
    let machine = tree.host(&images, ctx.accel, &STEPS.replace("CONTROL", VM_CONTROL), 1536).await?;
    let mut running = machine.start().await?;
    running.serial.expect("bench: end", 1000).await?;
    let said = running.serial.all();
    running.wait_end(60).await?;
    let good = said.matches("HOT good").count();
    let lines = said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>();
    ensure!(good == 3, "{good} of 3 disks came and went: {}", lines.join(" | "));
    Ok(())
}
