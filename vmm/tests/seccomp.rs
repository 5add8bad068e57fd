//! What the filters kill. In a process of its own: it forks, and a child would share the locks other tests hold on files.

#![allow(clippy::unwrap_used, reason = "tests assert by panicking")]

use lq_vmm::seccomp::{Filters, Mode, install};
use seccompiler::BpfProgram;

/// Runs `action` in a child locked in by `filter`; returns its wait status.
fn child(filter: &BpfProgram, action: fn()) -> libc::c_int {
    // SAFETY: the child makes system calls only, on memory that was ready before the fork.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            if install(filter).is_ok() {
                action();
                libc::_exit(0);
            }
            libc::_exit(1);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        status
    }
}

fn exits_well(status: libc::c_int) -> bool {
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn is_killed(status: libc::c_int) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS
}

#[test]
fn what_is_on_no_list_kills() {
    let filters = Filters::new(Mode::Kill).unwrap();
    let forbidden: [fn(); 4] = [
        // SAFETY: harmless if it is carried out, which then fails the test.
        || unsafe {
            libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        },
        // SAFETY: as above.
        || unsafe {
            libc::open(c"/".as_ptr(), libc::O_RDONLY);
        },
        // SAFETY: as above.
        || unsafe {
            libc::kill(0, 0);
        },
        // SAFETY: as above.
        || unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_EXEC, flags, -1, 0);
        },
    ];
    for filter in [
        &filters.vcpu,
        &filters.io,
        &filters.operator,
        &filters.migrate,
        &filters.display,
        &filters.back_end,
        &filters.control,
        &filters.spawner,
    ] {
        assert!(exits_well(child(filter, || ())));
        for action in forbidden {
            assert!(is_killed(child(filter, action)));
        }
    }
}

#[test]
fn only_those_who_need_it_talk_to_kvm_and_make_threads() {
    const KVM_RUN: libc::c_ulong = 0xae80;
    let filters = Filters::new(Mode::Kill).unwrap();
    // SAFETY: there is no such descriptor.
    let kvm: fn() = || unsafe {
        libc::ioctl(-1, KVM_RUN as _, 0);
    };
    // SAFETY: injecting into a terminal that is none does nothing.
    let terminal: fn() = || unsafe {
        libc::ioctl(-1, libc::TIOCSTI as _, c"x".as_ptr());
    };
    // SAFETY: an invalid flag: no process is made.
    let thread: fn() = || unsafe {
        libc::syscall(libc::SYS_clone3, 0, 0);
    };
    assert!(exits_well(child(&filters.vcpu, kvm)));
    // SAFETY: there is no such descriptor.
    let accept: fn() = || unsafe {
        libc::accept4(-1, std::ptr::null_mut(), std::ptr::null_mut(), 0);
    };
    // SAFETY: as above.
    let store: fn() = || unsafe {
        libc::fdatasync(-1);
    };
    assert!(exits_well(child(&filters.operator, kvm)));
    assert!(is_killed(child(&filters.io, kvm)));
    assert!(is_killed(child(&filters.display, kvm)));
    assert!(is_killed(child(&filters.control, kvm)));
    assert!(is_killed(child(&filters.display, store)));
    assert!(exits_well(child(&filters.display, accept)));
    assert!(
        exits_well(child(&filters.vcpu, store)),
        "firmware's variables are stored by the CPU that writes"
    );
    // SAFETY: as above.
    let pass: fn() = || unsafe {
        libc::sendmsg(-1, std::ptr::null(), 0);
    };
    assert!(exits_well(child(&filters.back_end, pass)));
    for filter in [&filters.vcpu, &filters.io, &filters.operator, &filters.display, &filters.control] {
        assert!(is_killed(child(filter, pass)));
    }
    const VFIO_DEVICE_SET_IRQS: libc::c_ulong = 0x3b6e;
    const VFIO_IOMMU_MAP_DMA: libc::c_ulong = 0x3b71;
    // SAFETY: there is no such descriptor.
    let interrupts: fn() = || unsafe {
        libc::ioctl(-1, VFIO_DEVICE_SET_IRQS as _, 0);
    };
    // SAFETY: as above.
    let map: fn() = || unsafe {
        libc::ioctl(-1, VFIO_IOMMU_MAP_DMA as _, 0);
    };
    for filter in [&filters.vcpu, &filters.operator] {
        assert!(exits_well(child(filter, interrupts)));
        assert!(is_killed(child(filter, map)), "what functions of the host reach is settled before");
    }
    for filter in [&filters.io, &filters.migrate, &filters.display, &filters.back_end, &filters.control] {
        assert!(is_killed(child(filter, interrupts)));
    }
    assert!(is_killed(child(&filters.back_end, store)));
    assert!(is_killed(child(&filters.back_end, kvm)));
    for filter in [&filters.vcpu, &filters.io, &filters.operator, &filters.migrate, &filters.back_end] {
        assert!(is_killed(child(filter, accept)));
    }
    for filter in [
        &filters.vcpu,
        &filters.io,
        &filters.operator,
        &filters.migrate,
        &filters.display,
        &filters.back_end,
        &filters.control,
    ] {
        assert!(is_killed(child(filter, terminal)));
        assert!(is_killed(child(filter, thread)));
    }
    assert!(exits_well(child(&filters.spawner, thread)));
}
