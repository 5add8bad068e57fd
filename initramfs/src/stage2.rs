//! The second stage: PID 1 in the verified root, up to the point where the services run.
//!
//! ```text
//! mounts ─ cgroups ─ modules ─ state, data ─ settings ─┬─ install ─► restart
//!                                                      └─ name, network, facts ─ pid1::run ─ unmount ─► off
//! ```
//! Nothing here ends the boot: what fails is said, kept in [`BootFacts::warnings`], and gone around. An installation that
//! fails leaves the host waiting with its message on the screen.

use crate::{
    block,
    cmdline::{BootArgs, Mode},
    error::{Result, chain},
    handover::Handover,
    install,
    modules::Loader,
    mounts, net,
    partition::{self, Look},
    pid1::{self, Outcome, network, service::Spec},
    reset, running, say, settings, sys,
};
use lq_api::{
    answer::{AfterInstall, Answer, HostConfig},
    local::{init::BootFacts, layout, paths},
};
use nix::mount::MsFlags;
use std::{fs, path::Path, path::PathBuf};

/// Modules no device asks for, of the host's own work. Those a kernel has not are passed over.
const FIXED_MODULES: [&str; 19] = [
    "button",
    "evdev",
    "af_packet",
    "bridge",
    "tun",
    "vhost_net",
    "nf_tables",
    "nf_conntrack_bridge",
    "nft_meta_bridge",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_reject_inet",
    "nft_chain_nat",
    "br_netfilter",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
];

/// Modules by which devices are given to machines.
const PASSTHROUGH_MODULES: [&str; 2] = ["vfio_iommu_type1", "vfio_pci"];

/// Runs the host. Returns only as an ordinary process (never as PID 1).
pub fn run() -> Outcome {
    std::panic::set_hook(Box::new(|info| say::error(&format!("{info}"))));
    let outcome = match boot_and_work() {
        Ok(outcome) => outcome,
        Err(e) => {
            say::error(&chain(&e));
            std::thread::sleep(std::time::Duration::from_secs(30));
            Outcome { reboot: true }
        }
    };
    finish(outcome)
}

fn boot_and_work() -> Result<Outcome> {
    let args = BootArgs::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    say::set_consoles(args.consoles.clone());
    let handover = Handover::read();
    let mut facts = BootFacts {
        mode: if args.mode == Mode::Disk { "disk" } else { "live" }.into(),
        slot: (args.mode == Mode::Disk).then(|| args.slot.name().to_owned()),
        version: env!("CARGO_PKG_VERSION").into(),
        verified: handover.verified,
        warnings: handover.warnings.clone(),
        ..BootFacts::default()
    };
    say::info(&format!("root image verified; starting the host ({})", facts.mode));
    prepare_kernel(&args);
    prepare_mounts(&mut facts.warnings);
    prepare_cgroups(&mut facts.warnings);
    load_modules();
    let plan = match args.mode {
        Mode::Disk => {
            open_partitions(&handover.boot_disk, &mut facts.warnings);
            facts.cut_off = keeps_state()
                && running::begin(Path::new(paths::STATE)).unwrap_or_else(|e| {
                    facts
                        .warnings
                        .push(format!("whether this run ends in order will not be known: {}", chain(&e)));
                    false
                });
            if facts.cut_off {
                say::warn(
                    "the run before this one was cut off: by a power cut, a reset, or a kernel that failed",
                );
            }
            Plan::Work(settings::read_host_config(&mut facts.warnings))
        }
        Mode::Live | Mode::Install => live_plan(&args, &handover, &mut facts.warnings),
    };
    match plan {
        Plan::Work(host) => {
            facts.host = host;
            Ok(work(&args, facts)?)
        }
        Plan::End(outcome) => Ok(outcome),
        // The message stays on the screen; PID 1 waits for the power button or Ctrl-Alt-Del.
        Plan::Wait => {
            say::error(
                "nothing was installed. Correct what is named above and restart (Ctrl-Alt-Del or power button)",
            );
            pid1::run(config(Vec::new()))
        }
    }
}

enum Plan {
    Work(HostConfig),
    End(Outcome),
    Wait,
}

/// Settings from an answer file, or the installation it asks for.
fn live_plan(args: &BootArgs, handover: &Handover, warnings: &mut Vec<String>) -> Plan {
    let found = match settings::find_answer(args) {
        Ok(found) => found,
        Err(e) => {
            say::error(&chain(&e));
            return Plan::Wait;
        }
    };
    let Some(found) = found else {
        if args.mode == Mode::Install {
            say::error(&chain(&settings::no_answer()));
            return Plan::Wait;
        }
        live_partitions(warnings);
        return Plan::Work(HostConfig::default());
    };
    say::info(&format!("answer file found on {}", found.place));
    match &found.answer.install {
        Some(wanted) => match install::run(&found.answer, wanted, args, &handover.boot_disk) {
            Ok(()) => Plan::End(Outcome { reboot: wanted.then == AfterInstall::Reboot }),
            Err(e) => {
                say::error(&chain(&e));
                Plan::Wait
            }
        },
        None if args.mode == Mode::Install => {
            say::error(&format!("the answer file on {} has no [install] section", found.place));
            Plan::Wait
        }
        None => {
            live_partitions(warnings);
            keep_answer(&found.answer, warnings);
            Plan::Work(found.answer.host)
        }
    }
}

fn keep_answer(answer: &Answer, warnings: &mut Vec<String>) {
    if let Err(e) = settings::write_state(Path::new(paths::STATE), answer) {
        say::warn(&chain(&e));
        warnings.push(chain(&e));
    }
}

fn prepare_kernel(args: &BootArgs) {
    mounts::answer_module_requests(paths::LQ_INIT);
    let settings = [
        // A kernel that panics restarts the host, where the command line does not say otherwise.
        ("kernel/panic", if args.panic == 0 { "10" } else { "" }),
        ("kernel/panic_on_oops", "0"),
        // The keyboard must not get at the kernel's debugger.
        ("kernel/sysrq", "0"),
        ("net/ipv4/conf/all/rp_filter", "2"),
        ("fs/suid_dumpable", "0"),
        ("kernel/core_pattern", "|/bin/false"),
        ("vm/swappiness", "10"),
    ];
    for (name, value) in settings.iter().filter(|(_, v)| !v.is_empty()) {
        let _ = fs::write(Path::new("/proc/sys").join(name), value);
    }
    let _ = nix::sys::reboot::set_cad_enabled(false);
}

fn prepare_mounts(warnings: &mut Vec<String>) {
    let nodev = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let noexec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags, data) in [
        ("tmpfs", "/tmp", nodev, "mode=1777,size=10%"),
        ("tmpfs", "/var", nodev, "mode=0755,size=10%"),
        ("devpts", "/dev/pts", noexec, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", nodev, "mode=1777,size=10%"),
        ("cgroup2", "/sys/fs/cgroup", mounts::PLAIN, "nsdelegate"),
    ] {
        if let Err(e) = mounts::mount_kernel(kind, target, flags, data) {
            say::warn(&chain(&e));
            warnings.push(chain(&e));
        }
    }
    // devtmpfs lacks these; programs told to read `-` open them (nft does).
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let _ = std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), Path::new("/dev").join(name));
    }
    let _ = fs::create_dir_all(format!("{}/log", paths::RUN));
    let _ = fs::create_dir_all(paths::RUN_VMS);
    let _ = fs::write(net::RESOLV_CONF, "");
    // The image's own file is read-only; ours is put over it, where it is not a link to ours already.
    let system = Path::new("/etc/resolv.conf");
    if system.exists() && fs::canonicalize(system).ok() != fs::canonicalize(net::RESOLV_CONF).ok() {
        let bind = MsFlags::MS_BIND;
        let _ = nix::mount::mount(Some(net::RESOLV_CONF), system, None::<&str>, bind, None::<&str>);
    }
}

fn prepare_cgroups(warnings: &mut Vec<String>) {
    let root = Path::new("/sys/fs/cgroup");
    for group in [root.to_owned(), PathBuf::from(paths::CGROUP_VMS)] {
        let _ = fs::create_dir_all(&group);
        for controller in ["cpu", "memory", "io", "pids", "cpuset"] {
            // One by one: a kernel may lack one of them.
            if let Err(e) = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))
                && controller != "cpuset"
                && controller != "io"
            {
                warnings.push(format!("the cgroup controller {controller} is not available: {e}"));
            }
        }
    }
}

/// Whether an IOMMU keeps devices apart, so that one can be given to a machine.
fn has_iommu(sys: &Path) -> bool {
    fs::read_dir(sys.join("kernel/iommu_groups")).is_ok_and(|mut groups| groups.next().is_some())
}

fn load_modules() {
    let mut loader = Loader::new();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|l| l.starts_with("flags")).unwrap_or("");
    for (flag, module) in [("svm", "kvm_amd"), ("vmx", "kvm_intel")] {
        if flags.split_ascii_whitespace().any(|f| f == flag) {
            loader.load(module);
        }
    }
    for module in FIXED_MODULES {
        loader.load(module);
    }
    // Buses bring new devices; what comes later is seen by PID 1.
    for _ in 0..5 {
        if loader.load_for_devices() == 0 {
            break;
        }
    }
    if has_iommu(Path::new("/sys")) {
        for module in PASSTHROUGH_MODULES {
            loader.load(module);
        }
    }
    if !Path::new("/dev/watchdog0").exists() {
        loader.load("softdog");
    }
    for failure in &loader.failures {
        say::note(failure);
    }
}

/// State and data of an installed host.
fn open_partitions(disk: &str, warnings: &mut Vec<String>) {
    let plain = mounts::PLAIN;
    let nodev = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let disks = block::scan(Path::new("/sys"));
    let disk = disks.iter().find(|d| d.name == disk);
    for (label, look, target, flags) in [
        (layout::PART_STATE, Look::Whole, paths::STATE, plain),
        (layout::PART_DATA, Look::Suspicions, paths::DATA, nodev),
    ] {
        let up = match disk.and_then(|d| d.partition(label)) {
            Some(part) if label == layout::PART_STATE => {
                let data = disk.and_then(|d| d.partition(layout::PART_DATA)).map(block::Partition::path);
                bring_state_up(&part.path(), data.as_deref(), warnings)
            }
            Some(part) => partition::bring_up(&part.path(), target, (label, look), flags, warnings),
            None => Err(crate::error::Error::wrong(format!("the boot disk has no partition {label}"))),
        };
        if let Err(e) = up {
            let text = format!(
                "{label} is not available: {}. The host runs with memory in its place: NOTHING written to {target} LASTS. \
                 The partition was left as it is",
                chain(&e)
            );
            say::error(&text);
            warnings.push(text);
            partition::stand_in(target, sys::memory_bytes() / 8, warnings);
        }
    }
}

/// The state partition, and before it the factory reset, where one was asked for or broken off.
fn bring_state_up(state: &Path, data: Option<&Path>, warnings: &mut Vec<String>) -> Result<()> {
    let up = |warnings: &mut Vec<String>| {
        partition::bring_up(state, paths::STATE, (layout::PART_STATE, Look::Whole), mounts::PLAIN, warnings)
    };
    if let Some(with_data) = reset::begun(state)? {
        reset::finish(state, data.filter(|_| with_data))?;
        return up(warnings);
    }
    up(warnings)?;
    let Some(with_data) = reset::asked(Path::new(paths::STATE)) else { return Ok(()) };
    mounts::unmount(paths::STATE)?;
    reset::begin(state, with_data)?;
    reset::finish(state, data.filter(|_| with_data))?;
    up(warnings)
}

/// State and data of a live host: memory.
fn live_partitions(warnings: &mut Vec<String>) {
    partition::stand_in(paths::STATE, sys::memory_bytes() / 8, warnings);
    partition::stand_in(paths::DATA, sys::memory_bytes() / 2, warnings);
}

/// Name, network, facts; then the services until the end.
fn work(args: &BootArgs, mut facts: BootFacts) -> Result<Outcome> {
    let network = net::set_up(&facts.host.network);
    let name = settings::host_name(&facts.host, network.mac);
    if let Err(e) = nix::unistd::sethostname(&name) {
        facts.warnings.push(format!("the host name {name} could not be set: {e}"));
    }
    facts.host.name = Some(name.clone());
    facts.uplink = network.uplink.clone();
    facts.warnings.extend(network.warnings.iter().cloned());
    let test_image = Path::new(paths::TEST_AGENT).exists();
    if test_image {
        facts.warnings.push("this is a test image: its agent lets anyone on the network cause faults".into());
    }
    if let Err(e) = network::write_facts(Path::new(paths::BOOT_FACTS), &facts) {
        say::warn(&format!("{}: {e}", paths::BOOT_FACTS));
    }
    let mut services = vec![service("mgmtd", &[paths::MGMTD], Some(-900))];
    if test_image {
        services.push(service("test-agent", &[paths::TEST_AGENT], None));
    }
    let mut dhcp = service(pid1::DHCP, &[paths::LQ_INIT, "dhcp", net::BRIDGE, &name], Some(-900));
    dhcp.wanted = network.dhcp;
    services.push(dhcp);
    let consoles: Vec<&String> = args.consoles.iter().filter(|n| say::is_terminal(n)).collect();
    for tty in &consoles {
        services.push(console(tty));
    }
    say::info(&format!("host {name}: starting services"));
    settle(!consoles.is_empty());
    let places = network::Places {
        sys: "/sys".into(),
        settings: paths::STATE_HOST.into(),
        facts: paths::BOOT_FACTS.into(),
        resolv_conf: net::RESOLV_CONF.into(),
    };
    let state = (facts.mode == "disk" && keeps_state()).then(|| paths::STATE.into());
    let management = Some(network::Management::new(places, facts));
    pid1::run(pid1::Config { management, state, ..config(services) })
}

fn settle(screen: bool) {
    say::quiet_kernel();
    say::screen_owns(screen);
    // SAFETY: malloc_trim only gives free memory back: that of the module index, which is not needed any more.
    unsafe { libc::malloc_trim(0) };
}

fn config(services: Vec<Spec>) -> pid1::Config {
    pid1::Config {
        socket: paths::INIT_SOCKET.into(),
        services,
        hardware: true,
        helper: paths::LQ_INIT.into(),
        management: None,
        state: None,
    }
}

fn service(name: &str, argv: &[&str], oom_score: Option<i32>) -> Spec {
    Spec {
        name: name.into(),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin".into()), ("HOME".into(), "/".into())],
        terminal: None,
        log: format!("{}/log/{name}.log", paths::RUN).into(),
        cgroup: Some(format!("/sys/fs/cgroup/services/{name}").into()),
        oom_score,
        wanted: true,
    }
}

fn console(tty: &str) -> Spec {
    let term = if tty.starts_with("ttyS") { "vt220" } else { "linux" };
    let mut spec = service(&format!("console-{tty}"), &[paths::LQ_CONSOLE], None);
    spec.env.push(("TERM".into(), term.into()));
    spec.terminal = Some(Path::new("/dev").join(tty));
    spec
}

/// The state is on the disk, not in memory that stands in for it.
fn keeps_state() -> bool {
    mounts::is_ext4(paths::STATE)
}

/// Writes everything back and ends the machine. As an ordinary process it only returns the outcome.
fn finish(outcome: Outcome) -> Outcome {
    use nix::sys::reboot::{RebootMode, reboot};
    nix::unistd::sync();
    if std::process::id() != 1 {
        return outcome;
    }
    if keeps_state()
        && let Err(e) = running::end(Path::new(paths::STATE))
    {
        say::warn(&chain(&e));
    }
    for target in [paths::DATA, paths::STATE] {
        if mounts::is_mounted(target)
            && let Err(e) = mounts::unmount_or_read_only(target)
        {
            say::warn(&chain(&e));
        }
    }
    nix::unistd::sync();
    say::info(if outcome.reboot { "restarting now" } else { "switching off now" });
    let mode = if outcome.reboot { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF };
    let refused = reboot(mode);
    say::error(&format!("the kernel refused: {refused:?}. Switch the machine off by hand"));
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
