//! `lq-vmm`: the LimiQuantix virtual machine monitor. One process per virtual machine, on KVM.
//!
//! Library so that tests can drive each part; the program is `main.rs`. Device emulation knows nothing of HTTP or of the
//! daemon: the words shared with it are in `lq_api::local::vmm`.
//!
//! Rooms: `memory` (guest memory), `pci` (bus, configuration space, MSI-X), `virtio` (queues, transport, devices),
//! `disk` (image files behind block devices).

pub mod acpi;
pub mod boot;
pub mod console;
pub mod exit;
pub mod gate;
pub mod guest;
pub mod legacy;
pub mod machine;
pub mod memory;
pub mod pci;
pub mod seccomp;
pub mod thread;
pub mod vcpu;
pub mod virtio;
