//! `run`: the product for a person. Installs the ISO to a virtual disk once, boots the host, creates one demonstration VM, says
//! how to reach everything, and keeps the host running until Ctrl-C.
//!
//! All state is in `target/run`: the disk, the password, and which ISO it was installed from.

use crate::{
    accel::{self, Accel},
    guest_image,
    host::{Host, explain},
    media,
    paths::{Paths, need},
    qemu::{Bus, Disk, Format, Machine, Medium},
    scale,
    site::{self, Wish},
};
use anyhow::{Context as _, Result, bail};
use lq_api::{
    client::Client,
    image::ImageKind,
    vm::{Boot, RestartPolicy, VmState},
};
use std::{
    fs,
    io::{IsTerminal as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What a person may choose.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Leave the host running in the background; `--stop` ends it.
    #[arg(long)]
    detach: bool,
    /// Switch off a host left running in the background.
    #[arg(long)]
    stop: bool,
    /// Install anew: everything on the virtual disk is lost.
    #[arg(long)]
    fresh: bool,
    /// Create no demonstration VM.
    #[arg(long)]
    no_demo: bool,
    /// Memory of the host, MiB.
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// Size of its disk, GiB (takes only what is used).
    #[arg(long, default_value_t = 16)]
    disk: u64,
    /// Port of this computer for the host's web page and API; another where it is taken.
    #[arg(long, default_value_t = 8443)]
    port: u16,
}

/// Name of the demonstration VM.
const DEMO: &str = "demo";

/// Runs the product.
pub(crate) async fn run(paths: &Paths, options: Options) -> Result<()> {
    let dir = paths.run();
    if options.stop {
        return stop(&dir).await;
    }
    if let Some(pid) = running_pid(&dir) {
        bail!("a host runs already (process {pid}): end it with `./just stop`");
    }
    let accel = accel::decide().await?;
    let iso = paths.iso();
    need(&iso, "make it with `just iso`")?;
    announce(accel, &dir, &options);
    let images = guest_image::ensure(paths).await?;
    if options.fresh && dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let password = password(&dir)?;
    let disk = install_once(paths, accel, &iso, &dir, &password, &options).await?;

    let machine = Machine {
        memory_mib: options.memory,
        disks: vec![disk],
        forward: vec![],
        forward_fixed: vec![(443, port(options.port)?)],
        detached: options.detach,
        restart_ends: false,
        ..media::bare_metal(&dir, accel)
    };
    let step = Step::begin("starting the host");
    let host = Host::boot(machine).await?;
    step.end();
    if let (true, Some(pid)) = (options.detach, host.machine.pid()) {
        fs::write(dir.join("qemu.pid"), pid.to_string())?;
    }
    host.login(&password).await?;
    if !options.no_demo {
        demo(&host.api, accel, &images).await?;
    }
    tell(&host, &password, &dir, &paths.program("lqctl"), &options)?;
    if options.detach { leave(host) } else { stay(host).await }
}

fn announce(accel: Accel, dir: &Path, options: &Options) {
    let (how, time) = match accel {
        Accel::Kvm => ("hardware virtualization", "about 1 minute the first time, 20 seconds after that"),
        Accel::Tcg => (
            "emulated processors, because this computer offers no nested hardware virtualization: everything is slow",
            "about 8 minutes the first time, 4 after that",
        ),
    };
    println!("LimiQuantix in a virtual machine");
    println!(
        "  needs    {} MiB of free memory, up to 6 GB of disk under {}, no root",
        options.memory,
        dir.display()
    );
    println!("  takes    {time}");
    println!("  runs by  {how}");
}

/// A line that says what goes on, and how long it took.
struct Step {
    what: String,
    start: Instant,
}

impl Step {
    fn begin(what: &str) -> Self {
        println!("… {what}");
        Self { what: what.to_owned(), start: Instant::now() }
    }
    fn end(self) {
        println!("✓ {} ({:.0} s)", self.what, self.start.elapsed().as_secs_f64());
    }
}

/// The administrator's password: made once, kept where only this user reads it.
fn password(dir: &Path) -> Result<String> {
    let path = dir.join("password");
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text.trim().to_owned());
    }
    let mut bytes = [0; 9];
    fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    let password = hex::encode(bytes);
    let mut file = fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("writing {}", path.display()))?;
    writeln!(file, "{password}")?;
    Ok(password)
}

async fn install_once(
    paths: &Paths,
    accel: Accel,
    iso: &Path,
    dir: &Path,
    password: &str,
    options: &Options,
) -> Result<Disk> {
    let (path, marker) = (dir.join("disk.raw"), dir.join("installed-from"));
    let this = media::sha256(iso)?;
    let disk = Disk { path: path.clone(), format: Format::Raw, bus: Bus::Virtio, serial: "LQRUN0001".into() };
    match fs::read_to_string(&marker) {
        Ok(from) if path.exists() => {
            if from.trim() != this {
                println!(
                    "! the disk was installed from an older ISO; `./just run --fresh` installs the new one"
                );
            }
            println!("✓ the installed disk is used again: {}", path.display());
            return Ok(disk);
        }
        _ => {}
    }
    let step = Step::begin("installing to a new virtual disk");
    let disk = Disk { serial: disk.serial, ..media::empty_disk(&path, options.disk * 1024, Bus::Virtio)? };
    let answer = media::answer_with(&media::install_part("auto", "power-off"), "demo-host", password);
    let medium = dir.join("install.iso");
    media::prepare_iso(paths, accel, iso, &medium, Some(&answer)).await?;
    // The answer file holds the password.
    let _ = fs::remove_file(medium.with_extension("toml"));
    let machine = Machine {
        memory_mib: options.memory,
        disks: vec![disk.clone()],
        medium: Some((Medium::Cd, medium.clone())),
        forward: vec![],
        ..media::bare_metal(dir, accel)
    };
    media::install(machine).await?;
    let _ = fs::remove_file(&medium);
    fs::write(&marker, &this)?;
    step.end();
    Ok(disk)
}

/// The wanted port of this computer, or a free one.
fn port(wanted: u16) -> Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => crate::qemu::free_port(),
    }
}

/// Makes what of the demonstration is missing, and starts it.
async fn demo(api: &Client, accel: Accel, images: &guest_image::GuestImages) -> Result<()> {
    let vm = match api.vms().await.map_err(explain)?.into_iter().find(|vm| vm.meta.name == DEMO) {
        Some(vm) => vm,
        None => {
            let image =
                match api.images().await.map_err(explain)?.into_iter().find(|i| i.meta.name == "debian-12") {
                    Some(image) => image.meta.id,
                    None => upload_demo(api, accel, images).await?,
                };
            let wish = Wish { restart: RestartPolicy::OnFailure, autostart: true, ..Wish::default() };
            site::create_debian(api, DEMO, image, wish).await?
        }
    };
    let step = Step::begin("starting the demonstration VM");
    // On a host that was used before it may run already.
    if api.vm(vm.meta.id).await.map_err(explain)?.status.state != VmState::Running {
        api.start_vm(vm.meta.id).await.map_err(explain)?;
    }
    api.wait_vm_state(vm.meta.id, VmState::Running, site::patience(120)).await.map_err(explain)?;
    step.end();
    Ok(())
}

async fn upload_demo(
    api: &Client,
    accel: Accel,
    images: &guest_image::GuestImages,
) -> Result<lq_api::ImageId> {
    let step = Step::begin("uploading the Debian 12 image");
    let kernel =
        site::upload(api, "debian-kernel", ImageKind::Kernel, &images.kernel(), None, |_, _| {}).await?;
    let initrd =
        site::upload(api, "debian-initrd", ImageKind::Initrd, &images.initrd(), None, |_, _| {}).await?;
    let boot = Boot { kernel, initrd: Some(initrd), cmdline: site::debian_words(accel) };
    let (terminal, mut shown) = (std::io::stdout().is_terminal(), u64::MAX);
    let progress = move |sent: u64, total: u64| {
        let percent = sent * 100 / total.max(1);
        if terminal && percent != shown {
            shown = percent;
            print!("\r  {percent:3} % of {} MB ", total / 1_000_000);
            let _ = std::io::stdout().flush();
        }
        if terminal && sent == total {
            print!("\r\x1b[K");
        }
    };
    let image = site::upload(api, "debian-12", ImageKind::Disk, &images.disk(), Some(boot), progress).await?;
    step.end();
    Ok(image)
}

fn tell(host: &Host, password: &str, dir: &Path, lqctl: &Path, options: &Options) -> Result<()> {
    let fingerprint = host.api.fingerprint().context("the host presented no certificate")?;
    println!();
    println!("The host is ready.");
    println!("  web page and API  {}", host.api.url());
    println!(
        "  fingerprint       {fingerprint}  (SHA-256 of the certificate: compare it with what the browser shows)"
    );
    println!("  log in as         admin / {password}");
    let lqctl = lqctl.display();
    println!("  command line      {lqctl} login {} --fingerprint {fingerprint}", host.api.url());
    if !options.no_demo {
        println!("  demonstration VM  {DEMO}: open its console, log in as root / {}", guest_image::PASSWORD);
        println!(
            "                    (it shows its login prompt when it has booted), or {lqctl} vm console {DEMO}"
        );
    }
    println!("  host's serial log {}", dir.join("serial.log").display());
    println!(
        "  end it            {}",
        if options.detach { "./just stop" } else { "Ctrl-C (guests are switched off first)" }
    );
    Ok(())
}

fn leave(host: Host) -> Result<()> {
    // Its process must not be ended with its handle.
    std::mem::forget(host);
    Ok(())
}

async fn stay(mut host: Host) -> Result<()> {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        end = host.machine.wait_end(u64::from(u32::MAX)) => {
            println!("the host has switched itself off");
            return end;
        }
    }
    println!("\nswitching the host off (Ctrl-C again: at once) …");
    host.machine.press_power().await?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        end = host.machine.wait_end(180) => end,
    }
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("qemu.pid")
}

/// The process of a host left in the background, where it still runs.
fn running_pid(dir: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(pid_file(dir)).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&command).contains("qemu-system").then_some(pid)
}

async fn stop(dir: &Path) -> Result<()> {
    let Some(pid) = running_pid(dir) else { bail!("no host runs in the background") };
    let step = Step::begin("switching the host off");
    let mut qmp = crate::qmp::Qmp::connect(&dir.join("qmp")).await?;
    qmp.execute("system_powerdown", serde_json::json!({})).await?;
    let deadline = Instant::now() + scale::seconds(180);
    while running_pid(dir).is_some() {
        if Instant::now() > deadline {
            bail!("it did not switch off; end the process {pid} by hand");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let _ = fs::remove_file(pid_file(dir));
    step.end();
    Ok(())
}
