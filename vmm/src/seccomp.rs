//! System call filters, one per kind of thread: what is not on the list ends the process.
//!
//! The lists are those of the fully static binary that ships (its libc decides how a library call becomes a system call);
//! `lq-vmm run --seccomp log` runs with filters that only log, to find out what a new toolchain needs.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use std::{collections::BTreeMap, sync::Arc};

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
    /// For the control thread.
    pub control: Arc<BpfProgram>,
}

/// Every thread: memory, locks, logging, the end.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

impl Filters {
    /// Compiles the lists.
    pub fn new(mode: Mode) -> Result<Self, Error> {
        let filter = |lists: &[&[i64]]| compile(mode, lists).map(Arc::new);
        Ok(Self {
            spawner: filter(&[COMMON])?,
            vcpu: filter(&[COMMON])?,
            io: filter(&[COMMON])?,
            control: filter(&[COMMON])?,
        })
    }
}

fn compile(mode: Mode, lists: &[&[i64]]) -> Result<BpfProgram, Error> {
    let action = match mode {
        Mode::Off => return Ok(BpfProgram::new()),
        Mode::Log => SeccompAction::Log,
        Mode::Kill => SeccompAction::KillProcess,
    };
    let rules: BTreeMap<i64, Vec<SeccompRule>> =
        lists.iter().flat_map(|list| list.iter()).map(|call| (*call, Vec::new())).collect();
    Ok(SeccompFilter::new(rules, action, SeccompAction::Allow, TargetArch::x86_64)?.try_into()?)
}

/// Locks the calling thread in for good. An empty program does nothing.
pub fn install(program: &BpfProgram) -> Result<(), Error> {
    if program.is_empty() { Ok(()) } else { Ok(seccompiler::apply_filter(program)?) }
}
