//! Virtual CPUs that come and go while their guest runs, on the real /dev/kvm, inside jail and system call filters where that is
//! possible. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Setup, Vm, is_root, no_kvm};
use lq_vmm::control::ask::Asker;
use std::time::{Duration, Instant};

std::arch::global_asm!(
    ".pushsection .rodata.cpus, \"a\"",
    ".code64",
    ".global cpus_start",
    "cpus_start:",
    // What other processors begin with, at 0x8000: they set a flag 16 bytes on, say `A` and halt.
    "mov edi, 0x8000",
    "movabs rax, 0xba41b001801006c6",
    "mov qword ptr [rdi], rax",
    "movabs rax, 0xfdebf4ee03f8",
    "mov qword ptr [rdi + 8], rax",
    "mov al, 0x55",
    "mov dx, 0x3f8",
    "out dx, al",
    "10: mov dx, 0x604",
    "in al, dx",
    "test al, 8",
    "jz 10b",
    "mov dx, 0x648",
    "in eax, dx",
    "mov ebx, eax",
    // Wakes those that came: INIT, then where to begin until it has, with pauses between them, as processors want it.
    "20: bsf ecx, ebx",
    "jz 30f",
    "btr ebx, ecx",
    "shl ecx, 24",
    "mov esi, 0xfee00300",
    "mov byte ptr [rdi + 16], 0",
    "mov dword ptr [rsi + 0x10], ecx",
    "mov dword ptr [rsi], 0x4500",
    "25: mov ebp, 200",
    "26: in al, 0x84",
    "dec ebp",
    "jnz 26b",
    "mov dword ptr [rsi + 0x10], ecx",
    "mov dword ptr [rsi], 0x4608",
    "cmp byte ptr [rdi + 16], 0",
    "je 25b",
    "jmp 20b",
    // Lets go of those that are asked for.
    "30: mov dx, 0x650",
    "in eax, dx",
    "test eax, eax",
    "jz 10b",
    "mov dx, 0x658",
    "out dx, eax",
    "mov al, 0x45",
    "mov dx, 0x3f8",
    "out dx, al",
    "jmp 10b",
    ".global cpus_end",
    "cpus_end:",
    ".popsection",
);
unsafe extern "C" {
    static cpus_start: u8;
    static cpus_end: u8;
}

fn guest() -> &'static [u8] {
    let (start, end) = (&raw const cpus_start, &raw const cpus_end);
    // SAFETY: both are symbols of the block above, in this order, in one section of constants.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

fn setup(vcpus: u8, more: &str) -> Setup {
    let mut setup = Setup::new(guest()).vcpus(vcpus);
    setup.jail = is_root();
    setup.more = format!(r#","devices":{{"cpus":{{"most":4}}}}{more}"#);
    setup
}

fn aim(vm: &mut Vm, count: u8) -> String {
    vm.ask_with(&format!(r#"{{"cpu-target":{{"count":{count}}}}}"#), None)
}

fn wait_present(vm: &mut Vm, present: u8) {
    let deadline = Instant::now() + PATIENCE;
    let wanted = format!(r#""present":{present}}}"#);
    loop {
        let status = vm.ask("cpu-status");
        if status.contains(&wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn processors_come_run_and_go_and_are_taken_up_again() {
    if no_kvm() {
        return;
    }
    let mut vm = setup(1, "").start();
    vm.see(b'U');
    assert!(vm.ask("cpu-status").contains(r#"{"cpus":{"most":4,"wanted":1,"present":1}}"#));
    assert!(aim(&mut vm, 3).contains("done"));
    vm.see(b'A');
    vm.see(b'A');
    wait_present(&mut vm, 3);
    for bad in [0, 5] {
        assert!(aim(&mut vm, bad).contains("1 to 4 are possible"));
    }
    // One goes, and comes again, as at power-on.
    for _ in 0..3 {
        assert!(aim(&mut vm, 2).contains("done"));
        vm.see(b'E');
        wait_present(&mut vm, 2);
        assert!(aim(&mut vm, 3).contains("done"));
        vm.see(b'A');
    }
    // While it stands still they come too, and run when it does.
    assert!(vm.ask("pause").contains("done"));
    assert!(aim(&mut vm, 4).contains("done"));
    assert!(vm.ask("resume").contains("done"));
    vm.see(b'A');
    assert!(aim(&mut vm, 2).contains("done"));
    vm.see(b'E');
    wait_present(&mut vm, 2);
    assert!(vm.ask("config").contains(r#""vcpus":2"#));
    assert!(vm.ask("pause").contains("done"));
    let file = vm.path("machine.lq");
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(&file).unwrap();
    assert!(vm.ask("quit").contains("done"));
    vm.process.0.wait().unwrap();
    let mut again = setup(2, &format!(r#","start":{{"restore":{{"path":"{}"}}}}"#, file.display()));
    again.directory = vm.directory;
    let mut again = again.start();
    while !again.ask("status").contains("paused") {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(again.ask("cpu-status").contains(r#"{"most":4,"wanted":2,"present":2}"#));
    assert!(again.ask("resume").contains("done"));
    assert!(aim(&mut again, 4).contains("done"));
    again.see(b'A');
    again.see(b'A');
    // A reset keeps those that are there, and lets go of what is asked for.
    assert!(again.ask("reset").contains("done"));
    again.see(b'U');
    wait_present(&mut again, 4);
    assert!(again.ask("quit").contains("done"));
    let (status, record) = again.end();
    assert_eq!(status, Some(0), "{record}");
}

#[test]
fn without_the_registers_none_come() {
    if no_kvm() {
        return;
    }
    let mut vm = Setup::new(common::GUEST).start();
    vm.see(b'U');
    assert!(aim(&mut vm, 2).contains("devices.cpus"));
    assert!(vm.ask("cpu-status").contains("devices.cpus"));
}
