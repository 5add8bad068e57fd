//! System call filters, one per kind of thread: what is not on the list ends the process.
//!
//! The lists are those of the fully static binary that ships (its libc decides how a library call becomes a system call);
//! `lq-vmm run --seccomp log` runs with filters that only log, to find out what a new toolchain needs.

use seccompiler::BpfProgram;
use std::sync::Arc;

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

/// Locks the calling thread in for good. An empty program does nothing.
pub fn install(program: &BpfProgram) -> Result<(), seccompiler::Error> {
    if program.is_empty() { Ok(()) } else { seccompiler::apply_filter(program) }
}
