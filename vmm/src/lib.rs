//! `lq-vmm`: the LimiQuantix virtual machine monitor. One process per virtual machine, on KVM.
//!
//! Library so that tests can drive each part; the program is `main.rs`. Device emulation knows nothing of HTTP or of the
//! daemon: the words shared with it are in `lq_api::local::vmm`.
//!
//! Rooms: `run` (from configuration to end), `control` (the control thread and its sockets), `machine` (KVM, virtual CPUs,
//! interrupts), `vcpu` and `gate` (their threads), `boot`, `acpi` and `smbios` (what the guest finds at its start),
//! `firmware` (what machines that boot by UEFI have besides), `change` (of a device while its machine runs), `limit` (how
//! much it may do), `legacy` (ports), `pci` (bus, configuration space, MSI-X),
//! `virtio` (queues, transport, devices), `disk` (image files behind block devices), `display` (the screen by RFB),
//! `lease` (until when disks may be touched), `memory` (guest memory and address map), `state` (a machine that stands still, in a file or on its way), `migrate` (to
//! another host), `jail`, `seccomp` and `thread` (isolation), `timer`, `watchdog`, `tpm`, `vfio` (functions of the
//! host), `exit` (the end), `qemu` (machines that run on QEMU instead).

pub mod acpi;
pub mod boot;
pub mod change;
pub mod config;
pub mod console;
pub mod control;
pub mod disk;
pub mod display;
pub mod exit;
pub mod firmware;
pub mod gate;
pub mod guest;
pub mod inventory;
pub mod jail;
pub mod lease;
pub mod legacy;
pub mod limit;
pub mod machine;
pub mod memory;
pub mod migrate;
pub mod pci;
pub mod plug;
pub mod qemu;
pub mod run;
pub mod seccomp;
pub mod smbios;
pub mod state;
pub mod stats;
pub mod thread;
pub mod timer;
pub mod tpm;
pub mod vcpu;
pub mod vfio;
pub mod virtio;
pub mod watchdog;
