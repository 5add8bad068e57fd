//! Places on a host. Everything under `/run` is gone at each boot; `/state` and `/data` last (installed) or are RAM (live).

/// Directory of all runtime sockets and files.
pub const RUN: &str = "/run/limiquantix";
/// `lq-init` listens here; root only. See [`super::init`].
pub const INIT_SOCKET: &str = "/run/limiquantix/init.sock";
/// `mgmtd` serves `/api/v1` here without TLS to root on the same host (console, recovery).
pub const API_SOCKET: &str = "/run/limiquantix/api.sock";
/// One directory per VM: `<RUN_VMS>/<vm id>/` with the files named below.
pub const RUN_VMS: &str = "/run/limiquantix/vms";
/// In a VM's directory: the [`super::vmm::VmmConfig`] it was started with.
pub const VM_CONFIG: &str = "vmm.json";
/// In a VM's directory: control socket of its monitor.
pub const VM_CONTROL: &str = "control.sock";
/// In a VM's directory: serial console of the guest.
pub const VM_CONSOLE: &str = "console.sock";
/// In a VM's directory: its screen by RFB, where it has one.
pub const VM_DISPLAY: &str = "display.sock";
/// In a VM's directory: written by the monitor just before it ends, an [`super::vmm::ExitRecord`].
pub const VM_EXIT: &str = "exit.json";
/// In a VM's directory: log of the monitor.
pub const VM_LOG: &str = "vmm.log";
/// In a VM's directory: control socket of the process behind its TPM.
pub const VM_TPM: &str = "tpm.sock";
/// In a VM's directory: log of the process behind its TPM.
pub const VM_TPM_LOG: &str = "tpm.log";
/// One directory per shared storage pool, where it is mounted.
pub const POOLS: &str = "/run/limiquantix/pools";
/// The facts `lq-init` learnt at boot, a [`super::init::BootFacts`].
pub const BOOT_FACTS: &str = "/run/limiquantix/boot.json";
/// Set-up code shown on the console while no admin password is set.
pub const SETUP_CODE: &str = "/run/limiquantix/setup-code";

/// Socket of streams to and from its guest, below its run directory ([`super::vmm::VsockConfig`]).
pub const VM_VSOCK: &str = "vsock.sock";

/// The state partition.
pub const STATE: &str = "/state";
/// Identity, TLS key and certificate, raft log and snapshots of `mgmtd`.
pub const STATE_MGMTD: &str = "/state/mgmtd";
/// The host's own settings, written by the installer from the answer file: an [`crate::answer::HostConfig`] in TOML.
pub const STATE_HOST: &str = "/state/host.toml";
/// The data partition, home of the default `dir` pool.
pub const DATA: &str = "/data";
/// The default pool.
pub const DATA_POOL: &str = "/data/pool";

/// Our programs.
pub const BIN: &str = "/usr/lib/limiquantix";
/// The monitor.
pub const LQ_VMM: &str = "/usr/lib/limiquantix/lq-vmm";
/// What carries out the commands of a VM's TPM.
pub const SWTPM: &str = "/usr/bin/swtpm";
/// What runs VMs that our own monitor does not.
pub const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Code of the firmware of VMs (OVMF).
pub const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// What the variables of a VM's firmware begin as.
pub const FIRMWARE_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The daemon.
pub const MGMTD: &str = "/usr/lib/limiquantix/mgmtd";
/// The console.
pub const LQ_CONSOLE: &str = "/usr/lib/limiquantix/lq-console";
/// Only in images built for end-to-end tests, never in a released one: an agent that causes faults on demand. The root is
/// verified, so nobody can add it to a running host.
pub const TEST_AGENT: &str = "/usr/lib/limiquantix/test/lq-fault";
/// PID 1.
pub const LQ_INIT: &str = "/usr/lib/limiquantix/lq-init";

/// Root of the cgroups of VMs: `<CGROUP_VMS>/<vm id>`.
pub const CGROUP_VMS: &str = "/sys/fs/cgroup/vms";
/// User and group ids of monitors: `VM_UID_BASE + n`, one n per running VM of the host.
pub const VM_UID_BASE: u32 = 100_000;
/// The same of the processes behind their TPMs, with the n of their VM.
pub const TPM_UID_BASE: u32 = 200_000;
