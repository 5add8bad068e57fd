//! `lq-vmm qemu`: from a configuration to a machine on QEMU, and to its end.
//!
//! ```text
//!  read configuration ─▶ open and lock everything ─▶ jail ─▶ QEMU ─▶ supervise ─▶ exit record
//!  (privileged)                                      └──── nothing of the host is opened any more ────┘
//! ```
//! QEMU has its own filter of system calls, the supervisor one that leaves it nothing but its descriptors and its child.
//! The jail is empty but for the host's programs and libraries, read-only, and `/dev/kvm`.

use super::{
    command::{self, Accelerator, Cpu, Descriptors, Handed},
    config, cpu,
    supervisor::{Machine, Supervisor},
    traffic::Traffic,
};
use crate::{
    config as common,
    console::Console,
    control::Sources,
    disk, exit,
    jail::{self, Device, Shown},
    machine::{cpu_model, kvm},
    run,
    seccomp::{self, Filters, Mode},
    virtio::net,
};
use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use lq_api::{
    image::ImageFormat,
    local::{
        paths,
        vmm::{BootConfig, CpuModel, DiskImage, ExitReason, ExitRecord, Jail, VmmConfig},
    },
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::UnixStream,
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// QEMU.
    pub program: PathBuf,
    /// Who executes the guest's instructions.
    pub accelerator: Accelerator,
    /// What becomes of system calls of the supervisor's that are not on its list.
    pub seccomp: Mode,
}

impl Options {
    /// From the words of a command line.
    ///
    /// # Errors
    /// What about them is not understood, in words.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let (mut config, mut program) = (None, PathBuf::from(paths::QEMU));
        let (mut accelerator, mut seccomp) = (Accelerator::Kvm, Mode::Kill);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match *word {
                "--config" => config = Some(PathBuf::from(value)),
                "--program" => program = PathBuf::from(value),
                "--accelerator" => {
                    accelerator = match *value {
                        "kvm" => Accelerator::Kvm,
                        "tcg" => Accelerator::Tcg,
                        other => return Err(format!("--accelerator {other}: kvm or tcg is possible")),
                    }
                }
                "--seccomp" => seccomp = value.parse()?,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(Self { config: config.ok_or("--config is missing")?, program, accelerator, seccomp })
    }
}

/// Why a machine cannot be started.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] common::Error),
    #[error("the configuration cannot be used: {}", .0.join("; "))]
    Faults(Vec<String>),
    #[error("cannot open the {what} {path}")]
    Open { what: String, path: String, source: io::Error },
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the host's processor lacks {} of the model {}", .missing.join(", "), .model.name())]
    Model { model: CpuModel, missing: Vec<String> },
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    #[error("cannot {what}")]
    Host { what: &'static str, source: io::Error },
    #[error(transparent)]
    Jail(#[from] jail::Error),
    #[error("cannot prepare the system call filter")]
    Seccomp(#[from] seccomp::Error),
    #[error("{program} cannot be started")]
    Program { program: String, source: io::Error },
}

impl Error {
    fn reason(&self) -> ExitReason {
        match self {
            Self::Config(_) | Self::Faults(_) | Self::Open { .. } | Self::Disk(_) | Self::Model { .. } => {
                ExitReason::Config
            }
            _ => ExitReason::Host,
        }
    }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}

fn open_error(what: &str, path: &Path, source: io::Error) -> Error {
    Error::Open { what: what.to_owned(), path: path.display().to_string(), source }
}

/// Runs the machine to its end, writes the exit record and returns it.
pub fn run(options: &Options) -> ExitRecord {
    run::prepare_process();
    let end = match start(options) {
        Ok(supervisor) => supervisor.run(),
        Err(error) => ExitRecord { reason: error.reason(), detail: exit::chain(&error) },
    };
    exit::record(&end);
    end
}

fn start(options: &Options) -> Result<Supervisor, Error> {
    let config = common::begin(&options.config)?;
    let directory = Path::new(&config.run_dir);
    let faults = config::faults(&config);
    let Some(qemu) = config.qemu.filter(|_| faults.is_empty()) else { return Err(Error::Faults(faults)) };
    let listen = |name: &str| {
        let path = directory.join(name);
        run::listen_at(&path).map_err(|source| open_error("socket", &path, source))
    };
    let (control, console_socket) = (listen(paths::VM_CONTROL)?, listen(paths::VM_CONSOLE)?);
    let display = config.display.then(|| listen(paths::VM_DISPLAY)).transpose()?;
    let sources = Sources::new(control, console_socket).map_err(host("set up the sockets"))?;

    let opened = Opened::new(&config)?;
    let kept = match options.accelerator {
        Accelerator::Kvm => check_cpu(config.cpu)?,
        Accelerator::Tcg => Vec::new(),
    };
    let traffic = config.nics.iter().map(|nic| Traffic::open(&nic.tap)).collect();
    let pair = || UnixStream::pair().map_err(host("make a stream"));
    let ((monitor, monitor_end), (serial, serial_end)) = (pair()?, pair()?);
    let console = Console::new().map_err(host("make the console"))?;
    let nothing = File::open("/dev/null").map_err(host("open /dev/null"))?;
    if let Some(jail) = config.jail {
        lock_in(jail, directory, options.accelerator)?;
    }

    let descriptors = opened.descriptors(monitor_end.as_raw_fd(), serial_end.as_raw_fd());
    let cpu = Cpu::new(&config, options.accelerator, &kept);
    let arguments = command::arguments(&config, qemu, &cpu, options.accelerator, &descriptors);
    let media = descriptors.media.iter().map(|medium| medium.map(|file| file.descriptor)).collect();
    hand_on(&descriptors).map_err(host("hand descriptors on"))?;
    let child = spawn(&options.program, &arguments, nothing)?;
    // They are QEMU's alone from now on.
    drop((opened, monitor_end, serial_end));
    let machine = Machine { child, monitor, serial, media, traffic };
    let supervisor = Supervisor::new(config, machine, sources, display, console);
    let supervisor = supervisor.map_err(host("set up the control loop"))?;
    seccomp::install(&Filters::new(options.seccomp)?.supervisor)?;
    Ok(supervisor)
}

/// Has what the level needs, and what is kept besides.
fn check_cpu(model: CpuModel) -> Result<Vec<&'static str>, Error> {
    let kvm = kvm::open(1)?;
    let offered =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(kvm::refused("list CPU features"))?;
    let mut entries = offered.as_slice().to_vec();
    let kept = cpu::kept(&entries);
    cpu_model::restrict(&mut entries, model).map_err(|missing| Error::Model { model, missing })?;
    Ok(kept)
}

/// Everything QEMU is given, in the order of the configuration.
struct Opened {
    firmware: Option<[File; 2]>,
    disks: Vec<Vec<File>>,
    media: Vec<Option<File>>,
    taps: Vec<Vec<File>>,
    tpm: Option<UnixStream>,
}

impl Opened {
    fn new(config: &VmmConfig) -> Result<Self, Error> {
        let firmware = match &config.boot {
            BootConfig::Firmware(files) => {
                let open = |what: &str, path: &str, write: bool| {
                    let opened = File::options().read(true).write(write).open(path);
                    opened.map_err(|source| open_error(what, Path::new(path), source))
                };
                Some([open("firmware", &files.code, false)?, open("firmware variables", &files.vars, true)?])
            }
            BootConfig::Bios | BootConfig::Direct(_) => None,
        };
        // The gate of our own monitor: locked, of the format that is said, and no word about another file followed.
        let hold = |image: &DiskImage, read_only: bool| {
            disk::movable::open(image, read_only, true, Arc::default())
                .map(disk::movable::Movable::into_files)
        };
        let disks =
            config.disks.iter().map(|disk| hold(&disk.image, disk.read_only)).collect::<Result<_, _>>()?;
        let medium = |path: &String| {
            let image = DiskImage { path: path.clone(), format: ImageFormat::Raw, backing: None };
            Ok::<_, disk::Error>(hold(&image, true)?.pop())
        };
        let drives = config.devices.cdroms.iter();
        let media = drives.map(|drive| Ok(drive.image.as_ref().map(medium).transpose()?.flatten()));
        let media = media.collect::<Result<_, disk::Error>>()?;
        let taps = config.nics.iter().map(|nic| {
            let opened = net::open_taps(&nic.tap, nic.queues);
            opened.map_err(|source| open_error("tap", Path::new(&nic.tap), source))
        });
        let taps = taps.collect::<Result<_, _>>()?;
        let connect = |socket: &str| {
            UnixStream::connect(socket)
                .map_err(|source| open_error("control socket of the TPM", Path::new(socket), source))
        };
        let tpm = config.devices.tpm.as_ref().map(|tpm| connect(&tpm.socket)).transpose()?;
        Ok(Self { firmware, disks, media, taps, tpm })
    }

    fn descriptors(&self, monitor: RawFd, serial: RawFd) -> Descriptors {
        let raw = |files: &Vec<File>| files.iter().map(AsRawFd::as_raw_fd).collect();
        Descriptors {
            monitor,
            serial,
            firmware: self.firmware.as_ref().map(|[code, vars]| [code.as_raw_fd(), vars.as_raw_fd()]),
            disks: self.disks.iter().map(|chain| chain.iter().map(handed).collect()).collect(),
            media: self.media.iter().map(|medium| medium.as_ref().map(handed)).collect(),
            taps: self.taps.iter().map(raw).collect(),
            tpm: self.tpm.as_ref().map(AsRawFd::as_raw_fd),
        }
    }
}

/// How a file can be used.
pub(super) fn handed(file: &File) -> Handed {
    let device = file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
    let descriptor = file.as_raw_fd();
    // SAFETY: an open descriptor; its flag is set where the file system can, and taken back.
    let direct = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        let can = flags != -1 && libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_DIRECT) == 0;
        can && libc::fcntl(descriptor, libc::F_SETFL, flags) == 0
    };
    Handed { descriptor, direct, device }
}

/// Has the descriptors survive the start of QEMU. There is one thread, and nothing else is started.
fn hand_on(descriptors: &Descriptors) -> io::Result<()> {
    let files = descriptors.disks.iter().flatten().chain(descriptors.media.iter().flatten());
    let all = files.map(|file| file.descriptor).chain(descriptors.taps.iter().flatten().copied());
    let all = all.chain(descriptors.firmware.iter().flatten().copied()).chain(descriptors.tpm);
    for descriptor in all.chain([descriptors.monitor, descriptors.serial]) {
        // SAFETY: an open descriptor of ours; nothing but its flag is changed.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn lock_in(jail: Jail, directory: &Path, accelerator: Accelerator) -> Result<(), Error> {
    // Libraries are found by the names they have on the host.
    let system = ["usr", "lib", "lib64"].map(|name| (Path::new("/").join(name), name));
    let system = system.into_iter().filter(|(from, _)| from.exists());
    let shown: Vec<_> = system.map(|(from, name)| Shown { from, name, writable: false }).collect();
    let mut devices = Vec::new();
    if accelerator == Accelerator::Kvm {
        let path = Path::new("/dev/kvm");
        let found = fs::metadata(path).map_err(|source| open_error("device", path, source))?;
        devices.push(Device { name: "kvm", number: found.rdev() });
    }
    Ok(jail::enter_with(jail, directory, &shown, &devices)?)
}

/// Starts QEMU, which ends when this process does.
fn spawn(program: &Path, arguments: &[String], nothing: File) -> Result<Child, Error> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::from(nothing));
    let parent = std::process::id();
    let before = move || {
        // SAFETY: system calls about this process alone, which is the child, with plain numbers and an empty set of signals.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent.cast_signed() {
                return Err(io::Error::other("its supervisor has ended"));
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: only system calls are made between the fork and the program, and no memory is allocated where all goes well.
    unsafe { command.pre_exec(before) };
    command.spawn().map_err(|source| Error::Program { program: program.display().to_string(), source })
}

/// A descriptor of a process: readable once it has ended.
pub(super) fn follow(child: &Child) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain numbers; the descriptor is new, checked, and owned here alone.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, child.id(), 0);
        let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(descriptor)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_named() {
        let options = Options::parse(&["--config", "/c", "--accelerator", "tcg"]).unwrap();
        assert_eq!(
            (options.program.as_path(), options.accelerator),
            (Path::new(paths::QEMU), Accelerator::Tcg)
        );
        for (words, says) in [
            (&[][..], "--config is missing"),
            (&["--config"], "--config needs a value"),
            (&["--config", "/c", "--accelerator", "hvf"], "hvf"),
            (&["--other", "x"], "--other"),
        ] {
            assert!(Options::parse(words).unwrap_err().contains(says), "{words:?}");
        }
    }

    #[test]
    fn what_a_file_can_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let before = flags(&file);
        let can = handed(&file);
        assert_eq!((can.descriptor, can.device), (file.as_raw_fd(), false));
        assert_eq!(flags(&file), before);
        let memory = File::open("/proc/self/maps").unwrap();
        assert!(!handed(&memory).direct);
    }

    fn flags(file: &File) -> i32 {
        // SAFETY: an open descriptor.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
    }
}
