//! `lq-init`: early boot in the initramfs, the installer, and PID 1.
//!
//! One static program with four roles, chosen in `main`: `/init` of the initramfs ([`stage1`]), PID 1 in the verified root
//! ([`stage2`], [`install`], [`pid1`]), the DHCP client ([`net::dhcp_run`]), and the kernel's module loader ([`modules`]).
//! Pure parts (command line, module index, install plan, DHCP states, unit table, shutdown order) hold no I/O.

pub mod block;
pub mod cmdline;
pub mod error;
pub mod handover;
pub mod install;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod partition;
pub mod pid1;
pub mod reset;
pub mod running;
pub mod say;
pub mod settings;
pub mod stage1;
pub mod stage2;
pub mod sys;
