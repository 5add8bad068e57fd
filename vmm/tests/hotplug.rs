//! Disks and interfaces that come and go while their guest runs, on the real /dev/kvm, inside jail and system call filters
//! where that is possible. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Setup, Vm, is_root, no_kvm};
use lq_api::local::vmm::{Command, DeviceName, DiskPlug, NicPlug, Outcome, Unplug, VmmConfig};
use lq_vmm::{control::ask::Asker, virtio::net::open_tap};
use serde_json::json;
use std::{
    fs::{self, File},
    io::BufRead,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

std::arch::global_asm!(
    ".pushsection .rodata.hotplug, \"a\"",
    ".code64",
    ".global hotplug_start",
    "hotplug_start:",
    "mov esp, 0x90000",
    // What was asked for and not given; whether to give.
    "xor r13d, r13d",
    "xor r14d, r14d",
    "mov al, 0x55",
    "call 90f",
    // What is typed: `i` keeps what is asked for from now on, `e` lets go of it, `q` switches off.
    "10: mov dx, 0x3fd",
    "in al, dx",
    "test al, 1",
    "jz 20f",
    "mov dx, 0x3f8",
    "in al, dx",
    "cmp al, 0x69",
    "jne 11f",
    "mov r14d, 1",
    "11: cmp al, 0x65",
    "jne 12f",
    "mov eax, r13d",
    "mov dx, 0x628",
    "out dx, eax",
    "mov al, 0x65",
    "12: cmp al, 0x71",
    "jne 13f",
    "mov dx, 0x600",
    "mov al, 0x34",
    "out dx, al",
    "hlt",
    "13: call 90f",
    // What the machine tells.
    "20: mov dx, 0x604",
    "in al, dx",
    "test al, 4",
    "jz 10b",
    "mov dx, 0x620",
    "in eax, dx",
    "bsf ecx, eax",
    "jz 30f",
    "call 40f",
    "30: mov dx, 0x624",
    "in eax, dx",
    "test eax, eax",
    "jz 10b",
    "mov r13d, eax",
    "mov al, 0x49",
    "test r14d, r14d",
    "jnz 13b",
    "mov eax, r13d",
    "mov dx, 0x628",
    "out dx, eax",
    "mov al, 0x2d",
    "jmp 13b",
    // Something became of the slot in ECX: `!` nothing is there, `N` an interface, `+` a disk that keeps what is written.
    "40: shl ecx, 11",
    "or ecx, 0x80000000",
    "mov edi, ecx",
    "mov eax, edi",
    "call 91f",
    "in eax, dx",
    "mov esi, eax",
    "mov al, 0x21",
    "cmp esi, -1",
    "je 90f",
    "mov al, 0x4e",
    "cmp esi, 0x10411af4",
    "je 90f",
    "lea eax, [edi + 0x10]",
    "call 91f",
    "mov eax, 0xd0000000",
    "out dx, eax",
    "lea eax, [edi + 0x14]",
    "call 91f",
    "xor eax, eax",
    "out dx, eax",
    "lea eax, [edi + 4]",
    "call 91f",
    "mov ax, 6",
    "out dx, ax",
    // Rings and requests are zeros.
    "mov edi, 0x800000",
    "xor eax, eax",
    "mov ecx, 0x1c00",
    "rep stosd",
    "mov ebx, 0xd0000000",
    "mov byte ptr [rbx + 0x14], 0",
    "mov byte ptr [rbx + 0x14], 1",
    "mov byte ptr [rbx + 0x14], 3",
    "mov dword ptr [rbx + 8], 1",
    "mov dword ptr [rbx + 0xc], 1",
    "mov dword ptr [rbx + 8], 0",
    "mov dword ptr [rbx + 0xc], 0x200",
    "mov byte ptr [rbx + 0x14], 11",
    "mov word ptr [rbx + 0x16], 0",
    "mov word ptr [rbx + 0x18], 8",
    "mov dword ptr [rbx + 0x20], 0x800000",
    "mov dword ptr [rbx + 0x28], 0x801000",
    "mov dword ptr [rbx + 0x30], 0x802000",
    "mov word ptr [rbx + 0x1c], 1",
    "mov byte ptr [rbx + 0x14], 15",
    "mov ebp, 0x800000",
    "mov qword ptr [rbp], 0x803000",
    "mov dword ptr [rbp + 8], 16",
    "mov dword ptr [rbp + 12], 0x00010001",
    "mov dword ptr [rbp + 24], 512",
    "mov qword ptr [rbp + 32], 0x806000",
    "mov dword ptr [rbp + 40], 1",
    "mov dword ptr [rbp + 44], 2",
    "mov dword ptr [rbp + 0x4000], 0x21656c70",
    "mov eax, 1",
    "mov edx, 0x804000",
    "mov r8d, 0x20001",
    "call 50f",
    "xor eax, eax",
    "mov edx, 0x805000",
    "mov r8d, 0x20003",
    "call 50f",
    "mov al, 0x2b",
    "cmp dword ptr [rbp + 0x5000], 0x21656c70",
    "je 90f",
    "mov al, 0x44",
    "jmp 90f",
    // A request of type EAX with the data at EDX and the flags of its descriptor in R8D, to sector 1.
    "50: mov [rbp + 0x3000], eax",
    "mov dword ptr [rbp + 0x3004], 0",
    "mov qword ptr [rbp + 0x3008], 1",
    "mov [rbp + 16], rdx",
    "mov [rbp + 28], r8d",
    "mov byte ptr [rbp + 0x6000], 0xff",
    "movzx ecx, word ptr [rbp + 0x1002]",
    "mov eax, ecx",
    "and eax, 7",
    "mov word ptr [rbp + rax * 2 + 0x1004], 0",
    "inc ecx",
    "mov [rbp + 0x1002], cx",
    "mov word ptr [rbx + 0x3000], 0",
    "51: cmp [rbp + 0x2002], cx",
    "jne 51b",
    "ret",
    "90: mov dx, 0x3f8",
    "out dx, al",
    "ret",
    "91: mov dx, 0xcf8",
    "out dx, eax",
    "mov dx, 0xcfc",
    "ret",
    ".global hotplug_end",
    "hotplug_end:",
    ".popsection",
);

unsafe extern "C" {
    static hotplug_start: u8;
    static hotplug_end: u8;
}

/// A guest that watches its slots, with the random number source in slot 1.
fn setup(more: &str) -> Setup {
    // SAFETY: both symbols are of the block above, in this order, in one section of constants.
    let code = unsafe {
        let length = (&raw const hotplug_end).offset_from_unsigned(&raw const hotplug_start);
        std::slice::from_raw_parts(&raw const hotplug_start, length)
    };
    let mut setup = Setup::new(code);
    setup.jail = is_root();
    setup.more = format!(r#","devices":{{"hotplug":{{}}}}{more}"#);
    setup
}

struct Bench {
    vm: Vm,
    asker: Asker,
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let vm = setup.start();
        let asker = Asker::connect(&vm.path("control.sock")).unwrap();
        Self { vm, asker }
    }

    fn image(&self, name: &str) -> File {
        let path = self.vm.path(name);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(1 << 20).unwrap();
        file
    }

    fn plug(&mut self, serial: &str) -> Result<(), String> {
        let file = self.image(serial);
        let path = self.vm.path(serial);
        let disk = json!({"serial": serial, "image": {"path": path, "format": "raw"}});
        let plug = Command::DiskPlug(DiskPlug { disk: serde_json::from_value(disk).unwrap() });
        self.asker.ask(plug, [file.as_fd()]).map(drop).map_err(|e| e.to_string())
    }

    fn unplug(&mut self, device: DeviceName, force: bool, timeout_ms: u32) -> Result<(), String> {
        let unplug = Command::Unplug(Unplug { device, force, timeout_ms });
        self.asker.ask(unplug, None).map(drop).map_err(|e| e.to_string())
    }

    fn config(&mut self) -> VmmConfig {
        let Outcome::Config(config) = self.asker.ask(Command::Config, None).unwrap() else { panic!() };
        *config
    }

    fn disks(&mut self) -> Vec<(String, Option<u8>)> {
        self.config().disks.into_iter().map(|disk| (disk.serial, disk.slot)).collect()
    }
}

fn disk(serial: &str) -> DeviceName {
    DeviceName::Disk(serial.to_owned())
}

/// Nobody holds the image.
fn is_free(path: &Path) -> bool {
    File::options().write(true).open(path).unwrap().try_lock().is_ok()
}

#[test]
fn a_disk_comes_is_used_and_goes() {
    if no_kvm() {
        return;
    }
    let mut bench = Bench::new(setup(""));
    bench.vm.see(b'U');
    assert!(bench.vm.ask("subscribe").contains("done"));
    for round in 0..20 {
        let serial = format!("disk{round}");
        bench.plug(&serial).unwrap();
        bench.vm.see(b'+');
        assert_eq!(bench.disks(), [(serial.clone(), Some(2))]);
        let path = bench.vm.path(&serial);
        assert!(!is_free(&path), "it is locked while it is plugged in");
        assert!(bench.plug(&serial).unwrap_err().contains("is used twice"));
        bench.unplug(disk(&serial), false, 60_000).unwrap();
        bench.vm.see(b'-');
        assert!(is_free(&path));
        assert_eq!(&fs::read(&path).unwrap()[512..516], b"ple!", "what the guest wrote is there");
        assert_eq!(
            bench.vm.line(),
            format!("{{\"event\":\"unplugged\",\"device\":{{\"disk\":\"{serial}\"}}}}\n")
        );
    }
    assert!(bench.disks().is_empty());
    assert!(bench.vm.ask("stats").contains(r#""disks":[]"#));
    assert!(bench.unplug(disk("disk0"), false, 1000).unwrap_err().contains("no disk"));
}

#[test]
fn a_guest_that_does_not_let_go_keeps_its_disk() {
    if no_kvm() {
        return;
    }
    let mut bench = Bench::new(setup(""));
    bench.vm.see(b'U');
    bench.plug("kept").unwrap();
    bench.vm.see(b'+');
    bench.vm.type_in(b"i");
    bench.vm.see(b'i');
    let begin = Instant::now();
    let why = bench.unplug(disk("kept"), false, 300).unwrap_err();
    assert!(why.contains("has not let go of disk \"kept\" within 300 ms"), "{why}");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    bench.vm.see(b'I');
    assert_eq!(bench.disks().len(), 1);
    assert!(!is_free(&bench.vm.path("kept")));
    // It does later, and the disk goes.
    assert!(bench.vm.ask("subscribe").contains("done"));
    bench.vm.type_in(b"e");
    let told = bench.vm.line();
    assert!(told.contains(r#""event":"unplugged","device":{"disk":"kept"}"#), "{told}");
    assert!(bench.disks().is_empty());
    assert!(is_free(&bench.vm.path("kept")));
    // A reset lets go of what is asked for.
    bench.vm.see(b'e');
    bench.plug("again").unwrap();
    bench.vm.see(b'+');
    let socket = bench.vm.path("control.sock");
    let waits = std::thread::spawn(move || {
        let unplug = Unplug { device: disk("again"), force: false, timeout_ms: 60_000 };
        Asker::connect(&socket).unwrap().ask(Command::Unplug(unplug), None).unwrap()
    });
    bench.vm.see(b'I');
    assert!(
        bench.unplug(disk("again"), false, 1000).unwrap_err().contains("asked for disk \"again\" already")
    );
    assert!(bench.vm.ask("reset").contains("unplugged"));
    assert_eq!(waits.join().unwrap(), Outcome::Done);
    assert!(bench.disks().is_empty() && is_free(&bench.vm.path("again")));
    bench.vm.see(b'U');
}

#[test]
fn a_disk_is_taken_away_only_where_force_is_said_and_what_is_wrong_is_refused() {
    if no_kvm() {
        return;
    }
    let mut bench = Bench::new(setup(""));
    bench.vm.see(b'U');
    bench.plug("torn").unwrap();
    bench.vm.see(b'+');
    assert!(bench.vm.ask("pause").contains("done"));
    assert!(bench.unplug(disk("torn"), false, 1000).unwrap_err().contains("cannot react"));
    bench.unplug(disk("torn"), true, 1000).unwrap();
    assert!(bench.disks().is_empty() && is_free(&bench.vm.path("torn")));
    assert!(bench.vm.ask("resume").contains("done"));
    // The guest is told, and finds nothing.
    bench.vm.see(b'!');
    for count in 0..40 {
        bench.plug("torn").unwrap();
        bench.vm.see(b'+');
        bench.unplug(disk("torn"), true, 1000).unwrap_or_else(|why| panic!("{count}: {why}"));
        bench.vm.see(b'!');
    }
    let raw = |serial: &str| {
        let disk = json!({"serial": serial, "image": {"path": "/somewhere.raw", "format": "raw"}});
        Command::DiskPlug(DiskPlug { disk: serde_json::from_value(disk).unwrap() })
    };
    let refused = |bench: &mut Bench, command: Command, with: &[&File], word: &str| {
        let files = with.iter().map(|file| file.as_fd()).collect::<Vec<_>>();
        let why = bench.asker.ask(command, files).unwrap_err().to_string();
        assert!(why.contains(word), "{word} missing in {why}");
    };
    let zero = File::open("/dev/zero").unwrap();
    refused(&mut bench, raw("x"), &[&zero], "neither a regular file nor a block device");
    refused(&mut bench, raw("x"), &[], "no descriptor");
    let held = bench.image("held");
    held.lock().unwrap();
    let other = bench.image("held");
    refused(&mut bench, raw("x"), &[&other], "in use by another process");
    let empty = File::create(bench.vm.path("empty")).unwrap();
    refused(&mut bench, raw("x"), &[&empty], "not a positive multiple of 512");
    let mut chosen = raw("x");
    if let Command::DiskPlug(plug) = &mut chosen {
        plug.disk.slot = Some(1);
    }
    let free = bench.image("free");
    refused(&mut bench, chosen, &[&free], "slot 1 of the bus is not free");
    assert!(is_free(&bench.vm.path("free")), "a refused disk is not held");
    refused(&mut bench, raw(&"x".repeat(30)), &[&free], "1 to 20 printable");
    let nic = json!({"tap": "tap9", "mac": "52:54:00:00:00:09"});
    let nic = Command::NicPlug(NicPlug { nic: serde_json::from_value(nic).unwrap() });
    refused(&mut bench, nic, &[&free], "the descriptor for tap tap9 cannot be used");
    assert!(bench.disks().is_empty());
    bench.vm.type_in(b"q");
    let (status, record) = bench.vm.end();
    assert_eq!(status, Some(0), "{record}");

    let mut plain = setup("");
    plain.more = String::new();
    let mut bench = Bench::new(plain);
    assert!(bench.plug("x").unwrap_err().contains("without `devices.hotplug`"));
}

#[test]
fn a_saved_machine_has_what_was_plugged_in_where_it_was() {
    if no_kvm() {
        return;
    }
    let mut first = setup("");
    let (one, two) = (first.directory.path().join("one"), first.directory.path().join("two"));
    for path in [&one, &two] {
        File::create(path).unwrap().set_len(1 << 20).unwrap();
    }
    let entry = |serial: &str, path: &Path| {
        format!(r#"{{"serial":"{serial}","image":{{"path":"{}","format":"raw"}}}}"#, path.display())
    };
    // Slots 1 and 2, the random number source in 3, then one more in 4; the first goes.
    first.disks = format!("{},{}", entry("one", &one), entry("two", &two));
    let mut bench = Bench::new(first);
    bench.vm.see(b'U');
    bench.plug("three").unwrap();
    bench.vm.see(b'+');
    bench.unplug(disk("one"), false, 60_000).unwrap();
    bench.vm.see(b'-');
    let config = bench.config();
    assert_eq!(config.empty_slots, [1]);
    let slots = config.disks.iter().map(|disk| (disk.serial.clone(), disk.slot)).collect::<Vec<_>>();
    assert_eq!(slots, [("two".to_owned(), Some(2)), ("three".to_owned(), Some(4))]);
    // One event and one that is asked for are on their way, in a guest that stands still.
    bench.vm.type_in(b"i");
    bench.vm.see(b'i');
    assert!(bench.vm.ask("pause").contains("done"));
    bench.plug("four").unwrap();
    let file = bench.vm.path("machine.lq");
    bench.asker.snapshot(&file).unwrap();
    let mut config = bench.config();
    assert!(bench.vm.ask("quit").contains("done"));
    let Vm { mut process, directory, .. } = bench.vm;
    assert!(process.0.wait().unwrap().success());

    config.start = serde_json::from_value(json!({"restore": {"path": file}})).unwrap();
    assert!(config.empty_slots.is_empty(), "the newest has come into the slot that was empty");
    let text = serde_json::to_value(&config).unwrap();
    let mut again = setup("");
    again.directory = directory;
    again.disks =
        text["disks"].as_array().unwrap().iter().map(|d| d.to_string()).collect::<Vec<_>>().join(",");
    again.more = format!(r#","devices":{{"hotplug":{{}}}},"start":{}"#, text["start"]);
    let mut bench = Bench::new(again);
    let deadline = Instant::now() + PATIENCE;
    while !bench.vm.ask("status").contains("paused") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bench.config().disks, config.disks);
    assert!(bench.vm.ask("resume").contains("done"));
    // It learns now of the disk that came while it stood still, and uses it.
    bench.vm.see(b'+');
    bench.plug("five").unwrap();
    bench.vm.see(b'+');
    assert_eq!(bench.disks().last().unwrap().1, Some(5));
}

#[test]
fn an_interface_comes_and_goes() {
    if no_kvm() {
        return;
    }
    let name = format!("lqt{}", std::process::id());
    let tap = match open_tap(&name) {
        Ok(tap) => tap,
        Err(error) => return eprintln!("SKIPPED: no tap can be made here: {error}"),
    };
    let mut bench = Bench::new(setup(""));
    bench.vm.see(b'U');
    let nic = json!({"tap": name, "mac": "52:54:00:00:00:09", "link_down": true});
    let nic = NicPlug { nic: serde_json::from_value(nic).unwrap() };
    bench.asker.ask(Command::NicPlug(nic.clone()), [tap.as_fd()]).unwrap();
    drop(tap);
    bench.vm.see(b'N');
    assert!(bench.vm.ask_with(r#"{"nic-link":{"nic":0,"up":true}}"#, None).contains("done"));
    let config = bench.config();
    assert_eq!((config.nics[0].slot, config.nics[0].link_down), (Some(2), false));
    bench.unplug(DeviceName::Nic(nic.nic.mac), false, 60_000).unwrap();
    bench.vm.see(b'-');
    assert!(bench.config().nics.is_empty());
    // The last who held the tap is gone, and so is the tap.
    let deadline = Instant::now() + PATIENCE;
    while Path::new("/sys/class/net").join(&name).exists() {
        assert!(Instant::now() < deadline, "somebody still holds {name}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut line = String::new();
    bench.vm.control.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(bench.vm.control.read_line(&mut line).is_err(), "nothing is told to who did not ask: {line}");
}
