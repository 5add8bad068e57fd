//! One QEMU process that stands for a machine: its arguments, its serial line, its control socket, its end.
//!
//! ```text
//! Machine::start ──► Running ──► wait_end / quit ──► gone
//!                      └── dropped, or the harness dies ──► killed
//! ```
//! Invariant: the serial line is read from the very first byte (the processor starts only when the reader stands).

use crate::{
    accel::{Accel, patient_emulator},
    process::{Core, command, detached, kill, log_file},
    qmp::Qmp,
    scale,
    transcript::Transcript,
};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedWriteHalf},
    process::Child,
};

/// Firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, with its variables in the machine's directory.
    Uefi,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    /// virtio-blk.
    Virtio,
    /// AHCI.
    Sata,
    /// NVMe.
    Nvme,
    /// NVMe whose health log says that errors degrade its reliability.
    FailingNvme,
}

/// Format of a disk's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Sparse file.
    Raw,
    /// qcow2.
    Qcow2,
}

/// A disk of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Format of the file.
    pub(crate) format: Format,
    /// How it is attached.
    pub(crate) bus: Bus,
    /// Serial number the host sees.
    pub(crate) serial: String,
}

/// How the ISO is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// In a CD drive.
    Cd,
    /// Written to a USB stick.
    Usb,
}

/// The watchdog of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watchdog {
    /// That of the chipset of today's boards (TCO), which QEMU 7.2 lets do nothing.
    Chipset,
    /// A device of its own, an Intel 6300ESB.
    Device,
    /// None: the board is one of before.
    Missing,
}

/// The program.
const QEMU: &str = "qemu-system-x86_64";

/// Where a machine is plugged into a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plug {
    /// The port here.
    pub(crate) port: u16,
    /// Which machine of the segment it is.
    pub(crate) number: u8,
}

/// An IOMMU, and behind it what the host can do without: an NVMe disk on a file, and a card with an interface on a network of its own and
/// a random number source, which are one IOMMU group.
#[derive(Clone, Debug)]
pub(crate) struct Spare {
    /// File of the disk.
    pub(crate) disk: PathBuf,
}

impl Spare {
    /// This computer as seen from the network of the interface.
    pub(crate) const GATEWAY: &str = "10.0.3.2";

    fn arguments(&self) -> [String; 10] {
        let disk = format!("if=none,id=spare,format=raw,file={}", self.disk.display());
        [
            "-drive",
            &disk,
            "-device",
            "nvme,drive=spare,serial=SPARE",
            "-netdev",
            "user,id=spare,net=10.0.3.0/24",
            "-device",
            "virtio-net-pci,netdev=spare,mac=52:54:00:4c:52:01,disable-legacy=on,iommu_platform=on,\
             addr=0x10.0,multifunction=on",
            "-device",
            "virtio-rng-pci,disable-legacy=on,iommu_platform=on,addr=0x10.1",
        ]
        .map(str::to_owned)
    }
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Where its sockets and logs are.
    pub(crate) dir: PathBuf,
    /// How it runs.
    pub(crate) accel: Accel,
    /// Firmware.
    pub(crate) firmware: Firmware,
    /// Processors.
    pub(crate) cpus: u8,
    /// All of its threads share one of our processors (see [`Accel::guests_on_one_core`]).
    pub(crate) one_core: bool,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// Disks, in boot order behind the medium.
    pub(crate) disks: Vec<Disk>,
    /// The ISO, where one is inserted.
    pub(crate) medium: Option<(Medium, PathBuf)>,
    /// A kernel to start directly instead of the firmware's way: kernel, initrd, command line.
    pub(crate) direct: Option<(PathBuf, PathBuf, String)>,
    /// Ports of the machine (TCP) to be reached from here, at a free port.
    pub(crate) forward: Vec<u16>,
    /// Ports of the machine and the ports here that stand for them.
    pub(crate) forward_fixed: Vec<(u16, u16)>,
    /// Its place on a segment; a network of its own where absent, which alone knows of forwarded ports.
    pub(crate) segment: Option<Plug>,
    /// What can be given to its guests.
    pub(crate) spare: Option<Spare>,
    /// The machine goes on when the harness ends; its sockets are in its directory.
    pub(crate) detached: bool,
    /// A restart of the machine ends QEMU.
    pub(crate) restart_ends: bool,
    /// What restarts it should it hang.
    pub(crate) watchdog: Watchdog,
    /// Its clock begins so many seconds ahead of the truth.
    pub(crate) clock_ahead: i64,
}

/// A running machine.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    qmp: Qmp,
    serial_in: OwnedWriteHalf,
    /// What it said on its serial line.
    pub(crate) serial: Transcript,
    /// Port of the machine → port here.
    forwarded: Vec<(u16, u16)>,
    dir: PathBuf,
    _core: Option<Core>,
}

/// A free port of the loopback interface that this process has not given out before. It lies below those the kernel gives
/// to connections, so that none of them takes it before its server opens it.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    // Where two processes begin differs.
    let begin = std::process::id() % u32::from(PORTS);
    for _ in 0..PORTS {
        let next = begin + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(next % u32::from(PORTS))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of 127.0.0.1 from {FIRST} on is free")
}

/// QEMU's word for a clock that is so far ahead.
fn clock_base(ahead: i64) -> Result<String> {
    if ahead == 0 {
        return Ok("utc".into());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let begin: libc::time_t = i64::try_from(now)?.checked_add(ahead).context("no such time")?;
    // SAFETY: an all-zero `tm` is a valid value of that plain structure; both references live through the call.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&raw const begin, &raw mut parts);
        parts
    };
    let (year, month, day) = (parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
    let (hour, minute, second) = (parts.tm_hour, parts.tm_min, parts.tm_sec);
    Ok(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
}

impl Machine {
    fn arguments(&self, sockets: &Path, forwarded: &[(u16, u16)]) -> Result<Vec<String>> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|w| (*w).to_owned()));
        add(self.accel.arguments());
        let board = match (self.watchdog, &self.spare) {
            (Watchdog::Missing, _) => "pc",
            (_, Some(_)) => "q35,kernel-irqchip=split",
            _ => "q35",
        };
        add(&["-name", "lq-host", "-M", board, "-nodefaults", "-no-user-config", "-display", "none", "-S"]);
        if self.spare.is_some() {
            // Before all that is behind it.
            add(&["-device", "intel-iommu,intremap=on"]);
        }
        add(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        add(&["-device", "VGA", "-device", "virtio-rng-pci"]);
        add(&["-rtc", &format!("base={}", clock_base(self.clock_ahead)?)]);
        if self.watchdog == Watchdog::Device {
            add(&["-device", "i6300esb", "-watchdog-action", "reset"]);
        }
        if self.restart_ends {
            add(&["-no-reboot"]);
        }
        let (control, serial) = (sockets.join("qmp"), sockets.join("serial"));
        add(&["-qmp", &format!("unix:{},server=on,wait=off", control.display())]);
        let log = self.dir.join("serial.log");
        add(&[
            "-chardev",
            &format!(
                "socket,id=serial,path={},server=on,wait=off,logfile={},logappend=on",
                serial.display(),
                log.display()
            ),
        ]);
        add(&["-serial", "chardev:serial"]);

        let number = match self.segment {
            Some(plug) => {
                add(&["-netdev", &format!("socket,id=net0,connect=127.0.0.1:{}", plug.port)]);
                plug.number + 1
            }
            None => {
                let rules = forwarded.iter();
                let rules = rules.map(|(there, here)| format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}"));
                add(&["-netdev", &format!("user,id=net0{}", rules.collect::<String>())]);
                1
            }
        };
        add(&["-device", &format!("virtio-net-pci,netdev=net0,mac=52:54:00:4c:51:{number:02x}")]);

        if self.firmware == Firmware::Uefi {
            let vars = self.dir.join("uefi-vars.fd");
            if !vars.exists() {
                std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars)
                    .context("copying OVMF's variables")?;
            }
            add(&["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]);
            add(&["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
        }
        add(&["-device", "qemu-xhci,id=usb"]);
        if let Some((medium, iso)) = &self.medium {
            let drive = format!("if=none,id=medium,format=raw,readonly=on,file={}", iso.display());
            match medium {
                Medium::Cd => {
                    add(&["-drive", &format!("{drive},media=cdrom")]);
                    add(&["-device", "ide-cd,drive=medium,bus=ide.2,bootindex=0"]);
                }
                Medium::Usb => {
                    add(&["-drive", &drive]);
                    add(&["-device", "usb-storage,drive=medium,bus=usb.0,removable=on,bootindex=0"]);
                }
            }
        }
        for (n, disk) in self.disks.iter().enumerate() {
            let format = if disk.format == Format::Raw { "raw" } else { "qcow2" };
            add(&[
                "-drive",
                &format!(
                    "if=none,id=disk{n},format={format},discard=unmap,cache=writeback,file={}",
                    disk.path.display()
                ),
            ]);
            let device = match disk.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Sata => format!("ide-hd,bus=ide.{n}"),
                Bus::Nvme => "nvme".to_owned(),
                Bus::FailingNvme => "nvme,smart_critical_warning=4".to_owned(),
            };
            add(&["-device", &format!("{device},drive=disk{n},serial={},bootindex={}", disk.serial, n + 1)]);
        }
        if let Some(spare) = &self.spare {
            add(&spare.arguments().each_ref().map(String::as_str));
        }
        if let Some((kernel, initrd, words)) = &self.direct {
            add(&["-kernel", &kernel.display().to_string(), "-initrd", &initrd.display().to_string()]);
            add(&["-append", words]);
        }
        Ok(args)
    }

    /// Starts it.
    pub(crate) async fn start(&self) -> Result<Running> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        // Socket paths have a length limit (108 bytes) that a build directory may exceed. Once connected they are not needed.
        let temporary =
            tempfile::Builder::new().prefix("lq-e2e-").tempdir().context("making a directory for sockets")?;
        let sockets = if self.detached { self.dir.as_path() } else { temporary.path() };
        let mut forwarded = self.forward_fixed.clone();
        for port in &self.forward {
            forwarded.push((*port, free_port()?));
        }
        let arguments = self.arguments(sockets, &forwarded)?;
        let errors = self.dir.join("qemu.log");
        std::fs::write(self.dir.join("qemu.args"), format!("{QEMU} {}\n", arguments.join(" ")))?;
        let core = self.one_core.then(Core::take).transpose()?;
        let program = if core.is_some() { "taskset" } else { QEMU };
        let mut qemu = if self.detached { detached(program) } else { command(program) };
        qemu.args(core.iter().flat_map(|core| core.arguments(QEMU)));
        qemu.args(&arguments).stdout(log_file(&errors)?).stderr(log_file(&errors)?);
        let modules = self.dir.join("qemu-modules");
        if self.accel == Accel::Tcg && patient_emulator(&modules)? {
            qemu.env("QEMU_MODULE_DIR", &modules);
        }
        let mut child = qemu.spawn().context("starting qemu-system-x86_64")?;

        let control = sockets.join("qmp");
        let deadline = tokio::time::Instant::now() + scale::seconds(30);
        let mut qmp = loop {
            // QEMU makes its sockets after its start and tells nobody when.
            if let Ok(qmp) = Qmp::connect(&control).await {
                break qmp;
            }
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(&errors).unwrap_or_default();
                bail!("QEMU ended at once ({status}): {}", said.trim_end());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("QEMU did not open its control socket");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let serial = Transcript::new(&format!("serial line ({})", self.dir.display()));
        let line =
            UnixStream::connect(sockets.join("serial")).await.context("connecting to the serial line")?;
        let (mut read, serial_in) = line.into_split();
        let sink = serial.clone();
        tokio::spawn(async move {
            let mut chunk = vec![0; 16 << 10];
            loop {
                match read.read(&mut chunk).await {
                    Ok(n @ 1..) => sink.push(chunk.get(..n).unwrap_or_default()),
                    _ => return sink.close("the machine was switched off or QEMU ended"),
                }
            }
        });
        qmp.execute("cont", json!({})).await?;
        Ok(Running { child, qmp, serial_in, serial, forwarded, dir: self.dir.clone(), _core: core })
    }
}

impl Running {
    /// Where a port of the machine is reached from here.
    pub(crate) fn port(&self, there: u16) -> Result<u16> {
        self.forwarded
            .iter()
            .find(|(t, _)| *t == there)
            .map(|(_, here)| *here)
            .with_context(|| format!("port {there} is not forwarded"))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Types on the serial line.
    pub(crate) async fn type_serial(&mut self, text: &str) -> Result<()> {
        self.serial_in.write_all(text.as_bytes()).await.context("typing on the serial line")
    }

    /// Presses the power button.
    pub(crate) async fn press_power(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Waits until the machine has switched itself off (or restarted, where that ends QEMU).
    pub(crate) async fn wait_end(&mut self, seconds: u64) -> Result<()> {
        match tokio::time::timeout(scale::seconds(seconds), self.child.wait()).await {
            Ok(status) => {
                let status = status.context("waiting for QEMU")?;
                if !status.success() {
                    let said = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
                    bail!("QEMU failed ({status}): {}", said.trim_end());
                }
                Ok(())
            }
            Err(_) => bail!(
                "the machine did not switch off within {} s; serial line:\n{}",
                scale::seconds(seconds).as_secs(),
                self.serial.tail(30)
            ),
        }
    }

    /// Cuts the power: what the machine had not written is lost. What it had given to its disk is kept by this computer.
    pub(crate) async fn cut_power(mut self) {
        self.kill().await;
    }

    /// The same, leaving the logs at hand.
    pub(crate) async fn kill(&mut self) {
        kill(&mut self.child).await;
    }
}
