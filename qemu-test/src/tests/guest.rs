//! A real guest does what guests do.

use crate::{
    guest_console::GuestConsole,
    guest_image,
    host::explain,
    media::{self, DHCP_RANGE},
    outside::Outside,
    process::{command, run},
    runner::Ctx,
    site::{self, Site, Wish, patience},
};
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use lq_api::{
    local::vmm::MachineType,
    vm::{FirmwareKind, MigrateVm, StopVm, Vm, VmState},
};
use std::net::Ipv4Addr;

pub(super) async fn life(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let outside = Outside::serve(8 << 20).await?;
    let vm = site.debian("debian", Wish::default()).await?;
    let mut console = site.console(&vm).await?;
    console.log_in().await.context("logging in on the guest's console")?;
    let release = console.shell("cat /etc/debian_version", 60).await?;
    ensure!(release.starts_with("12"), "the guest is Debian {release}");

    let address = address(&mut console).await?;
    let (first, last) = DHCP_RANGE;
    ensure!(
        (first..=last).contains(&address.octets()[3]),
        "the guest's address {address} is not of the network's own DHCP (10.0.2.{first} to 10.0.2.{last})"
    );
    let seen = site.api().vm(vm.meta.id).await.map_err(explain)?.status.addresses;
    ensure!(seen.contains(&address), "the API says the guest has {seen:?}; it has {address}");

    let fetched =
        console.shell(&format!("curl -sS --max-time 120 {} | sha256sum", outside.url()), 150).await?;
    ensure!(fetched.starts_with(outside.sha256()), "what was fetched over HTTP has the checksum {fetched}");

    // What cloud-init would look for, by its label.
    let seed = "modprobe vfat; mkdir -p /seed && mount -o ro LABEL=CIDATA /seed && cat /seed/meta-data /seed/user-data";
    let seed = console.shell(seed, 60).await.context("the medium for cloud-init")?;
    let name = format!("\"local-hostname\":\"{}\"", vm.meta.name);
    ensure!(seed.contains(&name) && seed.ends_with(site::USER_DATA.trim_end()), "on it is: {seed}");
    console.shell("umount /seed", 60).await?;

    // Written through to the disk, forgotten, read again.
    let write = "dd if=/dev/urandom of=/data bs=1M count=100 conv=fsync 2>/dev/null; sha256sum </data";
    let written = console.shell(write, 300).await.context("writing 100 MB")?;
    let read = console.shell("echo 3 >/proc/sys/vm/drop_caches; sha256sum </data", 300).await?;
    ensure!(written == read, "100 MB were written as {written} and read as {read}");

    // The power button: systemd shuts down, and the monitor ends because the guest switched itself off.
    stop_by_button(&site, &mut console, &vm).await?;
    let stopped = site.wait_state(vm.meta.id, VmState::Stopped, 60).await?;
    site.remove(&stopped).await?;
    ctx.give_back(site);
    Ok(())
}

/// A variable of the test's own: attributes (non-volatile, for boot and run time), then its value.
const VARIABLE: &str = "/sys/firmware/efi/efivars/LqTest-6a3f4c1e-52d0-4f6b-9f5b-0d6c5c7b1a11";

pub(super) async fn uefi(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site.debian_uefi("uefi", Wish { tpm: true, ..Wish::default() }).await?;
    greeted(&site, &vm).await.context("the guest's screen")?;
    let mut console = site.console(&vm).await?;
    console.log_in().await.context("logging in after boot by firmware")?;
    let entries = console.shell("efibootmgr", 60).await?;
    ensure!(entries.contains("BootCurrent"), "efibootmgr says: {entries}");
    let product = console.shell("cat /sys/class/dmi/id/product_name", 60).await?;
    ensure!(product == "LimiQuantix Virtual Machine", "SMBIOS says the machine is `{product}`");
    let generation = console.shell("ls -d /sys/bus/acpi/devices/LIMQ0001:*", 60).await?;
    ensure!(generation.starts_with("/sys"), "ACPI knows of no generation id: `{generation}`");
    tpm(&mut console).await?;
    console.shell(&format!("printf '\\007\\000\\000\\000kept' >{VARIABLE}"), 60).await?;
    stop_by_button(&site, &mut console, &vm).await?;

    let vm = site.start_vm(vm.meta.id).await?;
    console.said.skip();
    console.log_in().await.context("logging in after the second start")?;
    // By a pipe: these files cannot be sought in.
    let value = console.shell(&format!("cat {VARIABLE} | tail -c +5"), 60).await?;
    ensure!(value == "kept", "the firmware variable holds `{value}` after a stop and a start");
    tpm(&mut console).await.context("after a stop and a start")?;
    stop_by_button(&site, &mut console, &vm).await?;
    let stopped = site.wait_state(vm.meta.id, VmState::Stopped, 60).await?;
    site.remove(&stopped).await?;
    ctx.give_back(site);
    Ok(())
}

/// What the same machine does on QEMU, by a legacy BIOS that our own monitor does not have.
pub(super) async fn bios(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let outside = Outside::serve(1 << 20).await?;
    let vm = site.debian_on_qemu("bios", FirmwareKind::Bios).await?;
    ensure!(vm.spec.machine == Some(MachineType::I440fxV7_2), "its board is {:?}", vm.spec.machine);
    greeted(&site, &vm).await.context("the guest's screen")?;
    let mut console = site.console(&vm).await?;
    console.log_in().await.context("logging in after boot by a BIOS")?;
    let by = console.shell("test ! -e /sys/firmware/efi && cat /sys/class/dmi/id/bios_vendor", 60).await?;
    ensure!(by == "SeaBIOS", "the guest was booted by `{by}`");
    let product = console.shell("cat /sys/class/dmi/id/product_name", 60).await?;
    ensure!(product == "LimiQuantix Virtual Machine", "SMBIOS says the machine is `{product}`");
    let seen = address(&mut console).await?;
    let told = site.api().vm(vm.meta.id).await.map_err(explain)?.status.addresses;
    ensure!(told.contains(&seen), "the API says the guest has {told:?}; it has {seen}");
    let fetched =
        console.shell(&format!("curl -sS --max-time 120 {} | sha256sum", outside.url()), 150).await?;
    ensure!(fetched.starts_with(outside.sha256()), "what was fetched over HTTP has the checksum {fetched}");
    let write = "dd if=/dev/urandom of=/data bs=1M count=20 conv=fsync 2>/dev/null; sha256sum </data";
    let written = console.shell(write, 300).await.context("writing 20 MB")?;
    let read = console.shell("echo 3 >/proc/sys/vm/drop_caches; sha256sum </data", 300).await?;
    ensure!(written == read, "20 MB were written as {written} and read as {read}");

    // The counters are those of QEMU and of the host's tap.
    let stats = site.api().vm_stats(vm.meta.id).await.map_err(explain)?;
    let (disk, nic) = (stats.disks.first().context("no disk is counted")?, stats.nics.first());
    let nic = nic.context("no interface is counted")?;
    ensure!(disk.written_bytes >= 20 << 20 && disk.reads > 0 && disk.errors == 0, "{disk:?}");
    ensure!(nic.read_bytes >= 1 << 20 && nic.writes > 0, "{nic:?}");
    ensure!(stats.exits > 0, "no exit is counted");

    site.api().pause_vm(vm.meta.id).await.map_err(explain)?;
    site.wait_state(vm.meta.id, VmState::Paused, 60).await?;
    site.api().resume_vm(vm.meta.id).await.map_err(explain)?;
    site.wait_state(vm.meta.id, VmState::Running, 60).await?;
    console.shell("true", 60).await.context("after a pause")?;

    // The daemon dies: the guest does not notice, and its serial line has its scroll-back.
    let mut fault = site.host.fault().await?;
    let daemon = fault.process("mgmtd").await?;
    fault.kill(daemon.pid).await?;
    super::crash::wait_new_daemon(&mut fault, daemon.pid).await?;
    site.host.wait_ready().await.context("mgmtd did not come back")?;
    let after = site.api().vm(vm.meta.id).await.map_err(explain)?;
    ensure!(
        (after.status.state, after.status.pid) == (VmState::Running, vm.status.pid),
        "after mgmtd's crash it is {:?}, its process {:?}",
        after.status.state,
        after.status.pid
    );
    let mut console = site.console(&after).await?;
    console.shell("true", 60).await.context("after mgmtd's crash")?;
    greeted(&site, &after).await.context("the guest's screen after mgmtd's crash")?;

    // A move while it runs is refused for what it is.
    let why = site.api().migrate_vm(vm.meta.id, &MigrateVm::default()).await.map_err(explain);
    let why = why.err().context("a machine on QEMU was moved")?;
    ensure!(format!("{why:#}").contains("QEMU"), "a move is refused with: {why:#}");

    stop_by_button(&site, &mut console, &vm).await?;
    let vm = site.start_vm(vm.meta.id).await?;
    console.said.skip();
    console.log_in().await.context("logging in after the second start")?;
    let kept = console.shell("sha256sum </data", 300).await?;
    ensure!(kept == written, "after a stop and a start 20 MB are read as {kept}, written as {written}");
    stop_by_button(&site, &mut console, &vm).await?;
    let stopped = site.wait_state(vm.meta.id, VmState::Stopped, 60).await?;
    site.remove(&stopped).await?;
    ctx.give_back(site);
    Ok(())
}

/// The guest has a TPM 2.0, and the firmware has measured itself into it.
async fn tpm(console: &mut GuestConsole) -> Result<()> {
    let seen =
        "test -c /dev/tpm0; cat /sys/class/tpm/tpm0/tpm_version_major; cat /sys/class/tpm/tpm0/pcr-sha256/0";
    let seen = console.shell(seen, 60).await.context("the TPM")?;
    let (version, measured) = seen.split_once('\n').with_context(|| format!("the TPM says `{seen}`"))?;
    ensure!(version.trim() == "2", "the TPM has the version `{version}`");
    let measured = measured.trim();
    let nothing = measured.bytes().all(|digit| digit == b'0');
    ensure!(measured.len() == 64 && !nothing, "the firmware measured `{measured}`");
    Ok(())
}

/// The page of the host in a browser, with a guest's serial console and screen in it. What is done there is told in
/// `webui/e2e/guest.real.ts`; in the end the guest is off, by what was typed on its screen.
pub(super) async fn in_a_browser(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site.debian_uefi("page", Wish::default()).await?;
    let mut browser = command("npm");
    browser.args(["run", "--silent", "e2e-real"]).current_dir(ctx.paths.repo.join("webui"));
    browser.env("LQ_URL", format!("https://127.0.0.1:{}", site.host.machine.port(443)?));
    browser.env("LQ_PASSWORD", media::PASSWORD).env("LQ_VM", vm.meta.id.to_string());
    browser.env("LQ_GUEST_PASSWORD", guest_image::PASSWORD);
    let said = run(browser, "the page in a browser").await?;
    std::fs::write(ctx.dir.join("browser.log"), said).context("writing what the browser's test said")?;
    let stopped = site.wait_state(vm.meta.id, VmState::Stopped, 60).await?;
    site.remove(&stopped).await?;
    ctx.give_back(site);
    Ok(())
}

/// The screen's server speaks through the API.
async fn greeted(site: &Site, vm: &Vm) -> Result<()> {
    let mut display = site.api().display(vm.meta.id).await.map_err(explain)?;
    let greeting = display.next().await.context("it closed at once")?.map_err(explain)?;
    ensure!(greeting.as_ref() == b"RFB 003.008\n", "it greets with {greeting:?}");
    Ok(())
}

async fn stop_by_button(site: &Site, console: &mut GuestConsole, vm: &Vm) -> Result<()> {
    let stop = StopVm { force: false, timeout_seconds: 240 };
    let task = site.api().stop_vm(vm.meta.id, &stop).await.map_err(explain)?;
    console.said.expect("Power down", 180).await.context("the guest does not react to its power button")?;
    site.api().wait_task(task.id, patience(60), |_| {}).await.map_err(explain)?;
    site.wait_state(vm.meta.id, VmState::Stopped, 60).await.map(drop)
}

/// The guest's address, as soon as it has one.
pub(super) async fn address(console: &mut GuestConsole) -> Result<Ipv4Addr> {
    let wait = "for i in $(seq 240); do ip -4 -o addr show scope global | grep -q inet && break; sleep 0.5; done; \
                ip -4 -o addr show scope global";
    let line = console.shell(wait, 180).await?;
    line.split_whitespace()
        .skip_while(|w| *w != "inet")
        .nth(1)
        .and_then(|a| a.split('/').next()?.parse().ok())
        .with_context(|| format!("the guest has no address: `{line}`"))
}
