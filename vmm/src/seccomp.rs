//! System call filters, one per kind of thread: what is not on the list ends the process.
//!
//! The lists are those of the fully static binary that ships (its libc decides how a library call becomes a system call);
//! `lq-vmm run --seccomp log` runs with filters that only log, to find out what a new toolchain needs.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::{collections::BTreeMap, str::FromStr, sync::Arc};

/// What becomes of a system call that is on no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The process is killed.
    Kill,
    /// It is carried out and written to the kernel's audit log.
    Log,
    /// There are no filters.
    Off,
}

impl FromStr for Mode {
    type Err = String;

    /// The value of `--seccomp`.
    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "kill" => Ok(Self::Kill),
            "log" => Ok(Self::Log),
            "off" => Ok(Self::Off),
            other => Err(format!("--seccomp {other}: kill, log or off is possible")),
        }
    }
}

/// Why there are no filters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lists do not compile.
    #[error("the filters do not compile: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel refused.
    #[error("the kernel refused a filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// The compiled filters.
#[derive(Clone)]
pub struct Filters {
    /// For the thread that makes threads.
    pub spawner: Arc<BpfProgram>,
    /// For virtual CPUs.
    pub vcpu: Arc<BpfProgram>,
    /// For device workers.
    pub io: Arc<BpfProgram>,
    /// For device workers whose world are sockets.
    pub socket: Arc<BpfProgram>,
    /// For the operator of the machine.
    pub operator: Arc<BpfProgram>,
    /// For the thread that copies the machine to another host.
    pub migrate: Arc<BpfProgram>,
    /// For the thread that serves the screen's viewers.
    pub display: Arc<BpfProgram>,
    /// For the threads that speak with devices' back ends.
    pub back_end: Arc<BpfProgram>,
    /// For the control thread.
    pub control: Arc<BpfProgram>,
    /// For the one thread that stands before QEMU.
    pub supervisor: Arc<BpfProgram>,
}

/// Calls that are allowed with any arguments.
type List = &'static [i64];

/// Every thread: memory, locks, logging, the end.
const COMMON: List = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_read,
    libc::SYS_write,
    // The exit record.
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // A panic looks for the current directory to shorten paths.
    libc::SYS_getcwd,
];

/// Making and waiting on events: device workers are prepared by the thread that starts them.
const EVENTS: List = &[
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];

/// Disks and taps.
const FILES: List = &[
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_flock,
];

/// Sockets that are open already.
const SOCKETS: List = &[libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_shutdown];

/// Taking connections.
const LISTEN: List = &[libc::SYS_accept4];

/// The control thread's sockets.
const CONTROL: List = &[libc::SYS_recvmsg, libc::SYS_setsockopt];

/// Handing descriptors to a device's back end.
const PASSING: List = &[libc::SYS_sendmsg];

/// Making a disk durable beforehand.
const DURABLE: List = &[libc::SYS_fdatasync];

/// Kicking vCPUs.
const KICK: List = &[libc::SYS_tgkill];

/// Ending a process that was started before, and waiting for it.
const CHILD: List = &[libc::SYS_kill, libc::SYS_pidfd_send_signal, libc::SYS_wait4, libc::SYS_waitid];

/// Looking at a file that was handed in, and at counters.
const LOOK: List = &[libc::SYS_pread64, libc::SYS_fstat, libc::SYS_statx, libc::SYS_newfstatat];

/// Making threads, and what a new thread does before its own filter.
const THREADS: List = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
];

/// KVM's requests are numbered by type 0xae.
const KVM_TYPE: u64 = 0xae00;
const TYPE_MASK: u64 = 0xff00;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNSETQUEUE: u64 = 0x4004_54d9;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNGETIFF: u64 = 0x8004_54d2;
const FIONBIO: u64 = 0x5421;
const VFIO_DEVICE_SET_IRQS: u64 = crate::vfio::DEVICE_SET_IRQS;
const VFIO_DEVICE_RESET: u64 = crate::vfio::DEVICE_RESET;
const PR_SET_NAME: u64 = 15;

/// What a kind of thread may do besides its lists.
#[derive(Clone, Copy, Default)]
struct Grants {
    kvm: bool,
    tap: bool,
    /// Taps that come while the machine runs.
    new_tap: bool,
    nonblocking: bool,
    /// Interrupts and reset of functions of the host.
    vfio: bool,
    /// `prctl` and `seccomp`, to name and lock itself.
    lock_itself: bool,
    /// The flags of open files, to see what they can.
    flags: bool,
}

impl Filters {
    /// Compiles the lists.
    pub fn new(mode: Mode) -> Result<Self, Error> {
        let filter = |lists: &[List], grants| compile(mode, lists, grants).map(Arc::new);
        let kvm = Grants { kvm: true, ..Grants::default() };
        let nonblocking = Grants { nonblocking: true, ..Grants::default() };
        let all = Grants {
            kvm: true,
            tap: true,
            new_tap: true,
            nonblocking: true,
            vfio: true,
            lock_itself: true,
            ..Grants::default()
        };
        let before_qemu = Grants { flags: true, ..nonblocking };
        let supervisor: &[List] = &[COMMON, EVENTS, SOCKETS, LISTEN, CONTROL, PASSING, CHILD, LOOK];
        let operator = Grants { tap: true, new_tap: true, nonblocking: true, vfio: true, ..kvm };
        Ok(Self {
            // A new thread has its maker's filter, so this one holds all that those may.
            spawner: filter(&[COMMON, EVENTS, FILES, THREADS, SOCKETS, LISTEN, KICK, PASSING], all)?,
            vcpu: filter(&[COMMON, EVENTS, FILES], Grants { tap: true, vfio: true, ..kvm })?,
            io: filter(&[COMMON, EVENTS, FILES], Grants { tap: true, ..Grants::default() })?,
            socket: filter(&[COMMON, EVENTS, SOCKETS, LISTEN], Grants::default())?,
            operator: filter(&[COMMON, EVENTS, FILES, SOCKETS, KICK], operator)?,
            migrate: filter(&[COMMON, EVENTS, SOCKETS, KICK, DURABLE], kvm)?,
            display: filter(&[COMMON, EVENTS, SOCKETS, LISTEN], nonblocking)?,
            back_end: filter(&[COMMON, EVENTS, SOCKETS, PASSING], Grants::default())?,
            control: filter(&[COMMON, EVENTS, SOCKETS, LISTEN, CONTROL], nonblocking)?,
            supervisor: filter(supervisor, before_qemu)?,
        })
    }
}

fn compile(mode: Mode, lists: &[List], grants: Grants) -> Result<BpfProgram, Error> {
    let action = match mode {
        Mode::Off => return Ok(BpfProgram::new()),
        Mode::Log => SeccompAction::Log,
        Mode::Kill => SeccompAction::KillProcess,
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        lists.iter().flat_map(|list| list.iter()).map(|call| (*call, Vec::new())).collect();
    let argument = |index, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?])
    };
    // Memory never becomes executable.
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, executable.clone(), 0)?]);
    }
    let mut requests = Vec::new();
    if grants.kvm {
        requests.push(argument(1, SeccompCmpOp::MaskedEq(TYPE_MASK), KVM_TYPE)?);
    }
    if grants.tap {
        requests.push(argument(1, SeccompCmpOp::Eq, TUNSETOFFLOAD)?);
        requests.push(argument(1, SeccompCmpOp::Eq, TUNSETQUEUE)?);
    }
    if grants.new_tap {
        requests.push(argument(1, SeccompCmpOp::Eq, TUNSETVNETHDRSZ)?);
        requests.push(argument(1, SeccompCmpOp::Eq, TUNGETIFF)?);
    }
    if grants.nonblocking {
        requests.push(argument(1, SeccompCmpOp::Eq, FIONBIO)?);
    }
    if grants.vfio {
        requests.push(argument(1, SeccompCmpOp::Eq, VFIO_DEVICE_SET_IRQS)?);
        requests.push(argument(1, SeccompCmpOp::Eq, VFIO_DEVICE_RESET)?);
    }
    if !requests.is_empty() {
        rules.insert(libc::SYS_ioctl, requests);
    }
    if grants.lock_itself {
        rules.insert(
            libc::SYS_prctl,
            vec![
                argument(0, SeccompCmpOp::Eq, PR_SET_NAME)?,
                argument(0, SeccompCmpOp::Eq, libc::PR_SET_NO_NEW_PRIVS as u64)?,
            ],
        );
        rules.insert(libc::SYS_seccomp, Vec::new());
    }
    // Duplicates of descriptors, and whether one is open (checked at each close where debug assertions are on).
    let duplicate = argument(1, SeccompCmpOp::Eq, libc::F_DUPFD_CLOEXEC as u64)?;
    let is_open = argument(1, SeccompCmpOp::Eq, libc::F_GETFD as u64)?;
    let mut descriptors = vec![duplicate, is_open];
    if grants.flags {
        for request in [libc::F_GETFL, libc::F_SETFL] {
            descriptors.push(argument(1, SeccompCmpOp::Eq, request as u64)?);
        }
    }
    rules.insert(libc::SYS_fcntl, descriptors);
    Ok(SeccompFilter::new(rules, action, SeccompAction::Allow, TargetArch::x86_64)?.try_into()?)
}

/// Locks the calling thread in for good. An empty program does nothing.
pub fn install(program: &BpfProgram) -> Result<(), Error> {
    if program.is_empty() { Ok(()) } else { Ok(seccompiler::apply_filter(program)?) }
}
