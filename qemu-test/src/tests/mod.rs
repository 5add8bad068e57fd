//! The end-to-end tests. Each proves a promise of the product on its real ISO.

mod boot;
mod by_hand;
mod change;
mod cluster;
mod console;
mod crash;
mod failover;
mod guest;
mod hotplug;
mod install;
mod migrate;
mod pair;
mod passthrough;
mod pool;
mod power;
mod pvh;
mod rough;
mod storage;

use crate::runner::Test;

/// The groups whose tests share one installed host with the fault agent each: two, so that they are done side by side.
pub(crate) const ON_A_SITE: [&str; 2] = ["site", "another-site"];

/// The group whose tests share three hosts that are one cluster; the first forms it. They fill the cores by themselves.
pub(crate) const OF_THREE: &str = "cluster";

/// The group whose tests share two hosts and a witness. They fill the cores by themselves, too.
pub(crate) const OF_TWO: &str = "pair";

/// Tests that are run only by name: they take long, and what they show changes seldom. All of these: `./just e2e long`.
pub(crate) const BY_NAME: &[&str] = &[
    "guest-bios",
    "cluster-rolling",
    "pair-clock",
    "pair-witness",
    "pair-watchdog",
    "pair-stopped",
    "pair-one-way",
    "pair-fence",
    "passthrough",
];

/// Every test, in the order in which tests of a group run.
pub(crate) fn all() -> Vec<Test> {
    let [site, another_site] = ON_A_SITE;
    let cluster = OF_THREE;
    let pair = OF_TWO;
    vec![
        Test {
            name: "guest-life",
            about: "a Debian guest boots, gets an address, fetches over HTTP, keeps 100 MB, is switched off by ACPI",
            group: site,
            limit: 1200,
            run: |ctx| Box::pin(guest::life(ctx)),
        },
        Test {
            name: "guest-uefi",
            about: "a disk with GRUB boots by UEFI unmodified; firmware variables outlast a stop; it has a TPM 2.0 and a screen",
            group: site,
            limit: 2400,
            run: |ctx| Box::pin(guest::uefi(ctx)),
        },
        Test {
            name: "guest-bios",
            about: "the same disk boots by a legacy BIOS on QEMU: serial line, screen, network, counters, pause; mgmtd dies meanwhile",
            group: site,
            limit: 2400,
            run: |ctx| Box::pin(guest::bios(ctx)),
        },
        Test {
            name: "vm-change",
            about: "a running Debian guest gets and loses disk, interface, medium, processor and memory, and a disk grows; mgmtd dies meanwhile",
            group: site,
            limit: 1800,
            run: |ctx| Box::pin(change::vm(ctx)),
        },
        Test {
            name: "page-console",
            about: "the page in Chromium: a guest's serial console and its screen, where what is typed at GRUB switches it off",
            group: another_site,
            limit: 1800,
            run: |ctx| Box::pin(guest::in_a_browser(ctx)),
        },
        Test {
            name: "console-session",
            about: "at the serial line: log in, change the network and let it revert, rename, restart a VM, read logs, the kernel writes over it, log out",
            group: another_site,
            limit: 1200,
            run: |ctx| Box::pin(console::session(ctx)),
        },
        Test {
            name: "mgmtd-crash",
            about: "mgmtd is killed: no tick of a counting guest is lost, the VM is adopted again",
            group: site,
            limit: 600,
            run: |ctx| Box::pin(crash::mgmtd(ctx)),
        },
        Test {
            name: "vmm-crash",
            about: "lq-vmm is killed: the reason is told, the restart policy obeyed",
            group: site,
            limit: 600,
            run: |ctx| Box::pin(crash::vmm(ctx)),
        },
        Test {
            name: "disk-full",
            about: "the data disk is full: uploads are refused with the reason, a guest's writes wait for room, and nothing is lost",
            group: site,
            limit: 900,
            run: |ctx| Box::pin(storage::disk_full(ctx)),
        },
        Test {
            name: "power-cut",
            about: "power is cut amid writes: every acknowledged write is there, guests with autostart come back",
            group: another_site,
            limit: 900,
            run: |ctx| Box::pin(power::cut(ctx)),
        },
        Test {
            name: "orderly-shutdown",
            about: "the host's power button: guests are switched off first, file systems are clean",
            group: another_site,
            limit: 900,
            run: |ctx| Box::pin(power::orderly(ctx)),
        },
        Test {
            name: "state-corrupt",
            about: "blocks of the state partition are damaged: repaired and reported, nothing is lost",
            group: another_site,
            limit: 900,
            run: |ctx| Box::pin(storage::state_corrupt(ctx)),
        },
        Test {
            name: "install-and-boot",
            about: "unattended installation by BIOS to an empty disk, then boot from it without the ISO; restarted at its console",
            group: "install",
            limit: 1200,
            run: |ctx| Box::pin(install::and_boot(ctx)),
        },
        Test {
            name: "install-refusals",
            about: "wrong answer file, foreign data: a clear message, no byte written",
            group: "install",
            limit: 900,
            run: |ctx| Box::pin(install::refusals(ctx)),
        },
        Test {
            name: "passthrough",
            about: "a disk and an interface of the host are a Debian guest's, past an IOMMU; what the host needs and half a group are refused",
            group: "passthrough",
            limit: 1800,
            run: |ctx| Box::pin(passthrough::functions(ctx)),
        },
        Test {
            name: "vmm-hotplug",
            about: "disks come to a running Debian guest, are used, and go when it is asked for them",
            group: "nested",
            limit: 1200,
            run: |ctx| Box::pin(hotplug::disks(ctx)),
        },
        Test {
            name: "vmm-migrate",
            about: "a Debian guest moves between monitors of a nested host, again and again: no tick is lost",
            group: "nested",
            limit: 1500,
            run: |ctx| Box::pin(migrate::moves(ctx)),
        },
        Test {
            name: "vmm-pvh",
            about: "Debian's kernel as an ELF file starts by its PVH entry, and finds the machine in SMBIOS",
            group: "nested",
            limit: 700,
            run: |ctx| Box::pin(pvh::boot(ctx)),
        },
        Test {
            name: "cluster-three",
            about: "blank disks to a cluster by one token; a VM on another host; the leader's power is cut, the others go on",
            group: cluster,
            limit: 2400,
            run: |ctx| Box::pin(cluster::three(ctx)),
        },
        Test {
            name: "cluster-migrate",
            about: "a counting guest moves there and back while it runs, by maintenance too: no tick is lost",
            group: cluster,
            limit: 2400,
            run: |ctx| Box::pin(cluster::migrate(ctx)),
        },
        Test {
            name: "pool-nfs",
            about: "three hosts share a pool on a real NFS server, which falls silent and heals; guests of two go on",
            group: cluster,
            limit: 2400,
            run: |ctx| Box::pin(pool::nfs(ctx)),
        },
        Test {
            name: "cluster-failover",
            about: "the power of a host is cut: its protected VM, on a disk of an NFS server, runs on another; the host comes back",
            group: cluster,
            limit: 2400,
            run: |ctx| Box::pin(failover::power_cut(ctx)),
        },
        Test {
            name: "cluster-rolling",
            about: "the hosts are restarted in turn amid writes: the others take every one, none is lost",
            group: cluster,
            limit: 2400,
            run: |ctx| Box::pin(rough::rolling(ctx)),
        },
        Test {
            name: "pair-clock",
            about: "two hosts paired by the code on a console, and a witness; a clock that is off is told of and set by NTP",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::clock(ctx)),
        },
        Test {
            name: "pair-witness",
            about: "the power of one of two hosts is cut: the other and the witness go on, its machine runs there; the witness dies",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::witness(ctx)),
        },
        Test {
            name: "pair-watchdog",
            about: "PID 1 of a host stands still: its hardware watchdog restarts it, its machine runs elsewhere",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::watchdog(ctx)),
        },
        Test {
            name: "pair-stopped",
            about: "mgmtd of a host is stopped and goes on: its machine runs elsewhere, and never writes twice",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::stopped_daemon(ctx)),
        },
        Test {
            name: "pair-one-way",
            about: "what a host says does not arrive, what it is told does: its machine runs elsewhere, and never writes twice",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::one_way(ctx)),
        },
        Test {
            name: "pair-fence",
            about: "a host without network runs on: its BMC, by IPMI, cuts its power, its machine runs elsewhere",
            group: pair,
            limit: 2400,
            run: |ctx| Box::pin(pair::fenced(ctx)),
        },
        Test {
            name: "boot-bios-cd",
            about: "live boot by BIOS from CD to a host that serves its API",
            group: "boot",
            limit: 400,
            run: |ctx| Box::pin(boot::bios_cd(ctx)),
        },
        Test {
            name: "by-hand",
            about: "by UEFI from a USB stick: live, installed at the serial line, a lost password, factory reset, first login, off",
            group: "boot",
            limit: 1200,
            run: |ctx| Box::pin(by_hand::life(ctx)),
        },
    ]
}
