//! From the configuration to the machine's end.
//!
//! ```text
//!  read configuration ─▶ open everything ─▶ jail ─▶ system call filters ─▶ vCPU threads ─▶ control loop ─▶ exit record
//!  (privileged)                             └────────────── nothing is opened any more ──────────────┘
//! ```

use crate::{
    boot::{Boot, BootSource},
    change::Slots,
    config,
    console::Console,
    control::{Attached, Begin, Leased, Server, Sources},
    disk::{self, Disk, room::Room},
    exit, firmware,
    guest::Notifier,
    inventory::Inventory,
    jail,
    lease::fence::Fence,
    machine::{self, Builder, Display, Parts, cpuid, kvm},
    memory::{self, Backing, SharedMemory, Wanted},
    pci::root::{self, Placement},
    plug,
    seccomp::{self, Filters, Mode},
    smbios::Identity,
    stats::DeviceCounters,
    thread, tpm, vfio,
    virtio::{
        DeviceType, VirtioDevice, VirtioPci,
        balloon::Balloon,
        blk::Holds,
        input::{Pointer, Tablet},
        mem::Mem,
        net,
        rng::Rng,
        scsi::Cdroms,
        vhost_user::{self, VhostUser},
        vsock::Vsock,
    },
    watchdog,
};
use lq_api::{
    image::ImageFormat,
    local::{
        paths,
        vmm::{
            BootConfig, BootDevice, CdromConfig, DiskImage, ExitReason, ExitRecord, IoStats, MemoryConfig,
            Restore, Start, VmmConfig, WatchdogAction,
        },
    },
};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use vm_memory::GuestAddressSpace;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// What becomes of system calls that are not on the lists.
    pub seccomp: Mode,
}

/// Why a machine cannot be started.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("the configuration is of a machine on QEMU: `lq-vmm qemu` runs it")]
    Qemu,
    #[error("cannot open the {what} {path}")]
    Open { what: String, path: String, source: io::Error },
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("cannot make a {kind:?} device")]
    Virtio { kind: DeviceType, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("devices.vhost_user {name:?} cannot be used")]
    VhostUser { name: String, source: vhost_user::Error },
    #[error(transparent)]
    Passthrough(#[from] vfio::Error),
    #[error("devices.tpm.socket cannot be used")]
    Tpm(#[from] tpm::swtpm::Error),
    #[error("cannot make the watchdog")]
    Watchdog(#[from] watchdog::Error),
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error("cannot {what}")]
    Host { what: &'static str, source: io::Error },
    #[error(transparent)]
    Jail(#[from] jail::Error),
    #[error("cannot prepare the system call filters")]
    Seccomp(#[from] seccomp::Error),
}

impl Error {
    fn reason(&self) -> ExitReason {
        match self {
            Self::Disk(disk::Error::Busy { .. }) => ExitReason::Busy,
            Self::Config(_)
            | Self::Qemu
            | Self::Open { .. }
            // One that refuses or hangs may be another one's for a moment still: its directory is locked.
            | Self::Tpm(tpm::swtpm::Error::Connect { .. } | tpm::swtpm::Error::TooOld { .. })
            | Self::VhostUser { .. }
            | Self::Passthrough(vfio::Error::Refused(_) | vfio::Error::Function { .. })
            | Self::Disk(_)
            | Self::Machine(
                machine::Error::Boot(_)
                | machine::Error::Firmware(_)
                | machine::Error::Cpuid(cpuid::Error::Model { .. }),
            ) => ExitReason::Config,
            _ => ExitReason::Host,
        }
    }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}

/// Runs the machine to its end, writes the exit record and returns it.
pub fn run(options: &Options) -> ExitRecord {
    prepare_process();
    let end = match start(options) {
        Ok((server, begin)) => server.run(begin),
        Err(error) => ExitRecord { reason: error.reason(), detail: exit::chain(&error) },
    };
    exit::record(&end);
    end
}

/// One process serves one machine: nothing inherited stays open, and no memory pool per thread.
pub(crate) fn prepare_process() {
    // SAFETY: closes descriptors nobody here has opened yet; the others only set limits of this process.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
    }
}

fn start(options: &Options) -> Result<(Server, Begin), Error> {
    let mut config = config::begin(&options.config)?;
    let directory = Path::new(&config.run_dir);
    if config.qemu.is_some() {
        return Err(Error::Qemu);
    }
    let control = listen(&directory.join(paths::VM_CONTROL))?;
    let console_socket = listen(&directory.join(paths::VM_CONSOLE))?;
    let display = config.display.then(|| listen(&directory.join(paths::VM_DISPLAY))).transpose()?;
    let vsock = config.devices.vsock.map(|_| listen(&directory.join(paths::VM_VSOCK))).transpose()?;
    let tpm = config.devices.tpm.as_ref().map(|tpm| tpm::Connection::open(Path::new(&tpm.socket)));
    let tpm = tpm.transpose()?;
    let sources = Sources::new(control, console_socket).map_err(host("set up the sockets"))?;

    let boot = open_boot(&config.boot)?;
    let begin = match &config.start {
        Start::Boot => Begin::Boot,
        Start::Restore(Restore { path, copy }) => {
            Begin::Restore { file: open("saved machine", path)?, path: path.clone(), copy: *copy }
        }
        Start::Incoming => Begin::Incoming,
    };
    let bus = match boot {
        Boot::Direct(_) => root::Kind::Assigned,
        Boot::Firmware(_) => root::Kind::ByFirmware,
    };
    let most_cpus = config.devices.cpus.map(|cpus| cpus.most);
    let kvm = kvm::open(most_cpus.unwrap_or(config.vcpus))?;
    let pluggable = config.devices.memory.map_or(0, |memory| memory.most_bytes);
    // Memory that nobody else is to have stays where the host has it cheapest.
    let backing = if config.devices.vhost_user.is_empty() { Backing::Private } else { Backing::Shared };
    let pinned = !config.devices.passthrough.is_empty();
    let wanted = Wanted { ram: config.memory_bytes.get(), pluggable, backing, pinned };
    let mut builder = Builder::new(kvm, config.vcpus, wanted, bus)?;
    let fence = Arc::<Fence>::default();
    let leased = Leased::new(config.lease.as_ref(), Arc::clone(&fence)).map_err(host("begin the lease"))?;
    let notifier = Arc::new(Notifier::new().map_err(host("make an event"))?);
    let holds = Holds { lease: fence, room: Arc::new(Room::new(Arc::clone(&notifier))) };
    let made = add_devices(&mut builder, &config, vsock, &holds, &notifier)?;
    let console = Console::new().map_err(host("make the console"))?;

    if let Some(jail) = config.jail {
        jail::enter(jail, directory)?;
    }
    let filters = Filters::new(options.seccomp)?;
    thread::start_spawner(filters.clone()).map_err(host("start the spawner"))?;
    let machine = builder.build(Parts {
        identity: Identity { vm: config.vm, name: config.name.clone() },
        boot,
        output: console.output(),
        notifier: Arc::clone(&notifier),
        boot_order: made.boot_order,
        cpu: config.cpu,
        panic: config.devices.panic,
        hotplug: config.devices.hotplug.is_some(),
        most_cpus,
        tpm,
        display: display.map(|socket| Display { socket, name: config.name.clone(), pointer: made.pointer }),
    })?;
    let vm = config.vm;
    for (device, slot) in config.devices.vhost_user.iter_mut().zip(made.vhost_user) {
        device.slot = u8::try_from(slot).ok();
    }
    for (function, slot) in config.devices.passthrough.iter_mut().zip(made.passthrough) {
        function.slot = u8::try_from(slot).ok();
    }
    let inventory = Inventory::new(config, made.slots, made.counters, made.others);
    let attached = Attached { inventory, watchdog: made.watchdog, room: holds.room };
    let server = Server::new(vm, machine, sources, console, notifier, attached, leased);
    let server = server.map_err(host("set up the control loop"))?;
    seccomp::install(&filters.control)?;
    Ok((server, begin))
}

fn open_error(what: &str, path: &Path, source: io::Error) -> Error {
    Error::Open { what: what.to_owned(), path: path.display().to_string(), source }
}

fn open(what: &str, path: &str) -> Result<File, Error> {
    File::open(path).map_err(|source| open_error(what, Path::new(path), source))
}

fn open_boot(boot: &BootConfig) -> Result<Boot, Error> {
    Ok(match boot {
        BootConfig::Direct(files) => Boot::Direct(BootSource {
            kernel: open("kernel", &files.kernel)?,
            initrd: files.initrd.as_deref().map(|path| open("initial RAM disk", path)).transpose()?,
            cmdline: files.cmdline.clone(),
        }),
        BootConfig::Firmware(files) => {
            let vars = File::options().read(true).write(true).open(&files.vars);
            let log = |path: &String| {
                let log = File::options().append(true).create(true).open(path);
                log.map_err(|source| open_error("firmware's debug log", Path::new(path), source))
            };
            Boot::Firmware(firmware::Sources {
                code: open("firmware", &files.code)?,
                vars: vars
                    .map_err(|source| open_error("firmware variables", Path::new(&files.vars), source))?,
                debug_log: files.debug_log.as_ref().map(log).transpose()?,
            })
        }
        BootConfig::Bios => return Err(Error::Qemu),
    })
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
    listen_at(path).map_err(|source| open_error("socket", path, source))
}

/// A socket only its owner (root, at this time) may connect to. One left by an earlier run is replaced.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        _ => {}
    }
    // SAFETY: changes a number of this process, which has one thread.
    let old = unsafe { libc::umask(0o177) };
    let listener = UnixListener::bind(path);
    // SAFETY: as above.
    unsafe { libc::umask(old) };
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What came of putting the devices on the bus.
#[derive(Default)]
struct Made {
    counters: DeviceCounters,
    slots: Slots,
    /// Slots of what is neither disk nor interface.
    others: BTreeSet<usize>,
    /// Slots of the devices other programs serve, in the order of the configuration.
    vhost_user: Vec<usize>,
    /// Slots of the host's functions, in the order of the configuration.
    passthrough: Vec<usize>,
    /// OpenFirmware paths.
    boot_order: Vec<String>,
    pointer: Option<Arc<Pointer>>,
    watchdog: Option<(Arc<watchdog::Shared>, WatchdogAction)>,
}

/// What firmware tries to boot, as it names things.
fn boot_order(config: &VmmConfig, slots: &Slots) -> Vec<String> {
    let count = |slots: &[usize]| 0..slots.len() as u32;
    let all = count(&slots.disks).map(BootDevice::Disk);
    let all = all.chain(count(&slots.cdroms).map(BootDevice::Cdrom));
    let all = all.chain(count(&slots.nics).map(BootDevice::Nic));
    let wanted = if config.boot_order.is_empty() { all.collect() } else { config.boot_order.clone() };
    let slot = |slots: &[usize], number: u32| slots.get(number as usize).copied();
    let path = |device: &BootDevice| match *device {
        BootDevice::Disk(number) => slot(&slots.disks, number).map(firmware::files::disk_path),
        BootDevice::Nic(number) => slot(&slots.nics, number).map(firmware::files::nic_path),
        BootDevice::Cdrom(number) => {
            slot(&slots.cdroms, number).map(|slot| firmware::files::cdrom_path(slot, number as usize))
        }
    };
    wanted.iter().filter_map(path).collect()
}

/// Disks, then interfaces, then the random number source, the pointer, CD drives: their order on the bus is their order in
/// the guest. What is new comes last, so that old machines keep their slots.
fn add_devices(
    builder: &mut Builder,
    config: &VmmConfig,
    vsock: Option<UnixListener>,
    holds: &Holds,
    notifier: &Arc<Notifier>,
) -> Result<Made, Error> {
    let memory = SharedMemory::new(builder.memory().clone());
    let mut made = Made::default();
    let slots = config.disks.iter().filter_map(|disk| disk.slot);
    let slots = slots.chain(config.nics.iter().filter_map(|nic| nic.slot));
    let slots = slots.chain(config.devices.vhost_user.iter().filter_map(|device| device.slot));
    let slots = slots.chain(config.devices.passthrough.iter().filter_map(|function| function.slot));
    builder.keep_empty(slots.chain(config.empty_slots.iter().copied()).map(usize::from).collect());
    let removable = |slot: Option<u8>| Placement { slot: slot.map(usize::from), removable: true };
    let fixed = Placement::default();
    let mut add = |device: Box<dyn VirtioDevice>, place| -> Result<(crate::stats::Counter, usize), Error> {
        let counters = device.counters();
        let kind = device.device_type();
        let function = VirtioPci::new(device, memory.clone(), builder.platform())
            .map_err(|source| Error::Virtio { kind, source: source.into() })?;
        let slot = builder.add(Box::new(function), place)?;
        Ok((Box::new(move || IoStats::from(&*counters)), slot))
    };
    for disk in &config.disks {
        // A machine that is still another monitor's has its disks there.
        let hold = config.start != Start::Incoming;
        let opened = disk::movable::open(&disk.image, disk.read_only, hold, Arc::clone(&holds.lease))?;
        let device = plug::disk(opened, disk, holds);
        let (counter, slot) = add(Box::new(device), removable(disk.slot))?;
        made.slots.disks.push(slot);
        made.counters.disks.push(counter);
    }
    for nic in &config.nics {
        let opened = net::open_taps(&nic.tap, nic.queues).and_then(|taps| plug::nic(taps, nic));
        let device = opened.map_err(|source| open_error("tap", Path::new(&nic.tap), source))?;
        let (counter, slot) = add(Box::new(device), removable(nic.slot))?;
        made.counters.nics.push(counter);
        made.slots.nics.push(slot);
    }
    if config.rng {
        made.others.insert(add(Box::new(Rng::new()), fixed)?.1);
    }
    if config.display {
        let (tablet, pointer) = Tablet::new().map_err(host("make the pointer"))?;
        made.pointer = Some(pointer);
        made.others.insert(add(Box::new(tablet), fixed)?.1);
    }
    let cdroms = &config.devices.cdroms;
    if !cdroms.is_empty() {
        let medium = |cdrom: &CdromConfig| -> Result<Option<Box<dyn Disk>>, Error> {
            let Some(path) = &cdrom.image else { return Ok(None) };
            let image = DiskImage { path: path.clone(), format: ImageFormat::Raw, backing: None };
            let hold = config.start != Start::Incoming;
            Ok(Some(Box::new(disk::movable::open(&image, true, hold, Arc::clone(&holds.lease))?)))
        };
        let media = cdroms.iter().map(medium).collect::<Result<_, _>>()?;
        let mut device = Cdroms::new(media, Arc::clone(&holds.lease), Arc::clone(notifier));
        made.slots.loaded = device.loaded().map_err(host("set up CD drives"))?;
        let (_, slot) = add(Box::new(device), fixed)?;
        made.others.insert(slot);
        made.slots.cdroms = vec![slot; cdroms.len()];
    }
    if let Some(balloon) = &config.devices.balloon {
        let ram = config.memory_bytes.get();
        let (device, gauge) = match config::pinned(config) {
            Some(_) => Balloon::pinned(ram),
            None => Balloon::new(ram, balloon.target_bytes),
        };
        let (_, slot) = add(Box::new(device), fixed)?;
        made.others.insert(slot);
        made.slots.balloon = Some((slot, gauge));
    }
    if let Some(action) = config.devices.watchdog {
        let (device, shared) = watchdog::Device::new()?;
        made.others.insert(builder.add(Box::new(device), fixed)?);
        made.watchdog = Some((shared, action));
    }
    let mut add = |device: Box<dyn VirtioDevice>, place| -> Result<usize, Error> {
        let kind = device.device_type();
        let function = VirtioPci::new(device, memory.clone(), builder.platform())
            .map_err(|source| Error::Virtio { kind, source: source.into() })?;
        Ok(builder.add(Box::new(function), place)?)
    };
    if let (Some(config), Some(listener)) = (config.devices.vsock, vsock) {
        let device = Vsock::new(listener, config.cid).map_err(host("make the device for streams"))?;
        made.others.insert(add(Box::new(device), fixed)?);
    }
    if let Some(MemoryConfig { most_bytes, requested_bytes }) = config.devices.memory {
        let base = memory::pluggable(config.memory_bytes.get(), most_bytes).start;
        let made_device = Mem::new(&memory.memory(), base, most_bytes, requested_bytes);
        let (device, gauge) = made_device.map_err(host("make the device for memory that can be plugged"))?;
        let slot = add(Box::new(device), fixed)?;
        made.others.insert(slot);
        made.slots.memory = Some((slot, gauge));
    }
    for config in &config.devices.vhost_user {
        let device = VhostUser::connect(config, Arc::clone(notifier));
        let device = device.map_err(|source| Error::VhostUser { name: config.name.clone(), source })?;
        let place = Placement { slot: config.slot.map(usize::from), removable: false };
        let slot = add(Box::new(device), place)?;
        made.others.insert(slot);
        made.vhost_user.push(slot);
    }
    let (shown, platform) = (builder.device_memory(), builder.platform());
    let functions = vfio::open(&config.devices.passthrough, &memory.memory(), &shown, &platform)?;
    for (config, function) in config.devices.passthrough.iter().zip(functions) {
        let place = Placement { slot: config.slot.map(usize::from), removable: false };
        let slot = builder.add(Box::new(function), place)?;
        made.others.insert(slot);
        made.passthrough.push(slot);
    }
    made.boot_order = boot_order(config, &made.slots);
    Ok(made)
}
