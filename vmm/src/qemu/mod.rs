//! Machines on QEMU: `lq-vmm qemu` stands between QEMU and the host, and is to the daemon what any monitor is.
//!
//! ```text
//!  PID 1 ─ lq-vmm qemu ── control.sock · console.sock · display.sock · exit.json   (as of `lq-vmm run`)
//!             │ QMP, serial line, viewers: streams that are handed over
//!             └─ qemu-system-x86_64      same jail, only descriptors; ends with lq-vmm
//! ```
//! It opens everything, locks itself in, starts QEMU, and then translates: what is asked by the control protocol into QMP and back
//! ([`supervisor`]). So a guest on QEMU has the same scroll-back, the same end that is written down, and the same life when the
//! daemon is away, as one of our own.
//!
//! Invariants
//! - QEMU is given descriptors, never a path of the host's but those of its own program and firmware. Disks are locked before it
//!   has them, and no image's word about another file is followed.
//! - QEMU does not outlive its supervisor, nor the supervisor QEMU.
//! - What QEMU says is a guest's word: bounded, and checked ([`qmp`]).

pub mod command;
pub mod config;
pub mod cpu;
pub mod qmp;
pub mod start;
pub mod supervisor;
pub mod traffic;

mod link;
mod requests;
