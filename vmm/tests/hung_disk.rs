//! A device that hangs in the host, as a disk does whose server is away: the control socket answers all the same, and what
//! is told to end flushes first. On the real /dev/kvm; skipped, and says so, where there is none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{GUEST, PATIENCE, VM, bzimage, connect, no_kvm, send};
use lq_api::local::vmm::ExitRecord;
use lq_vmm::{
    boot::{Boot, BootSource},
    console::Console,
    control::{Attached, Begin, Leased, Server, Sources},
    guest::Notifier,
    inventory::Inventory,
    machine::{Builder, Parts, kvm},
    memory::Wanted,
    pci::{BarRequest, ConfigEffect, PciDevice, root, root::Placement},
    smbios::Identity,
    state::{self, description::Device},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
};

/// What was done to the device, and whether it hangs.
#[derive(Default)]
struct State {
    hangs: bool,
    done: Vec<&'static str>,
}

#[derive(Clone, Default)]
struct Hanging(Arc<(Mutex<State>, Condvar)>);

impl Hanging {
    fn hang(&self, hangs: bool) {
        self.0.0.lock().unwrap().hangs = hangs;
        self.0.1.notify_all();
    }
    fn done(&self) -> Vec<&'static str> {
        self.0.0.lock().unwrap().done.clone()
    }
    fn begin(&self, what: &'static str) {
        let mut state = self.0.0.lock().unwrap();
        while state.hangs {
            state = self.0.1.wait(state).unwrap();
        }
        state.done.push(what);
    }
}

impl PciDevice for Hanging {
    fn config_read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn config_write(&mut self, _: u16, _: &[u8]) -> ConfigEffect {
        ConfigEffect::None
    }
    fn bars(&self) -> Vec<BarRequest> {
        Vec::new()
    }
    fn bar_moved(&mut self, _: u8, _: Option<u64>) -> io::Result<()> {
        Ok(())
    }
    fn bar_read(&mut self, _: u8, _: u64, _: &mut [u8]) {}
    fn bar_write(&mut self, _: u8, _: u64, _: &[u8]) {}
    fn pause(&mut self) {
        self.begin("pause");
    }
    fn sync(&mut self) -> io::Result<()> {
        self.begin("sync");
        Err(io::Error::other("the disk is away"))
    }
    fn resume(&mut self) {
        self.begin("resume");
    }
    fn reset(&mut self) {
        self.begin("reset");
    }
    fn describe(&self) -> Device {
        Device { kind: "hanging".into(), ..Device::default() }
    }
    fn save(&mut self, _: u32, _: &mut state::State) -> Result<(), state::Error> {
        Ok(())
    }
    fn load(&mut self, _: u32, _: &mut state::State) -> Result<(), state::Error> {
        Ok(())
    }
}

fn attached() -> Attached {
    let config = format!(
        r#"{{"version":1,"vm":"{VM}","name":"hung","vcpus":1,"memory_bytes":67108864,
            "boot":{{"direct":{{"kernel":"/k"}}}},"run_dir":"/run"}}"#
    );
    let config = serde_json::from_str(&config).unwrap();
    let (slots, counters, others) = Default::default();
    Attached {
        inventory: Inventory::new(config, slots, counters, others),
        watchdog: None,
        room: Arc::default(),
    }
}

struct Bench {
    device: Hanging,
    control: BufReader<UnixStream>,
    ended: Receiver<ExitRecord>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let control = UnixListener::bind(&path).unwrap();
        let console = UnixListener::bind(directory.path().join("console.sock")).unwrap();
        let device = Hanging::default();
        let (put_in, (send_end, ended)) = (device.clone(), mpsc::channel());
        thread::spawn(move || {
            let mut kernel: File = tempfile::tempfile().unwrap();
            kernel.write_all(&bzimage(GUEST)).unwrap();
            kernel.rewind().unwrap();
            let vm = VM.parse().unwrap();
            let identity = Identity { vm, name: "hung".to_owned() };
            let boot = Boot::Direct(BootSource { kernel, initrd: None, cmdline: String::new() });
            let kvm = kvm::open(1).unwrap();
            let mut builder =
                Builder::new(kvm, 1, Wanted { ram: 64 << 20, ..Wanted::default() }, root::Kind::Assigned)
                    .unwrap();
            builder.add(Box::new(put_in), Placement::default()).unwrap();
            let notifier = Arc::new(Notifier::new().unwrap());
            let line = Console::new().unwrap();
            let (output, display) = (line.output(), None);
            let parts = Parts {
                identity,
                boot,
                output,
                notifier: Arc::clone(&notifier),
                boot_order: Vec::new(),
                cpu: Default::default(),
                panic: false,
                hotplug: false,
                most_cpus: None,
                tpm: None,
                display,
            };
            let machine = builder.build(parts).unwrap();
            let sources = Sources::new(control, console).unwrap();
            let server = Server::new(
                vm,
                machine,
                sources,
                line,
                notifier,
                attached(),
                Leased::new(None, Arc::default()).unwrap(),
            );
            // Nobody listens any more where the test has failed.
            let _ = send_end.send(server.unwrap().run(Begin::Boot));
        });
        Self { device, control: connect(&path), ended, _directory: directory }
    }

    fn say(&self, command: &str) {
        send(self.control.get_ref(), &format!("\"{command}\""), None);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.line()
    }
}

#[test]
fn the_control_socket_answers_while_a_disk_hangs() {
    if no_kvm() {
        return;
    }
    let mut bench = Bench::new();
    assert!(bench.ask("status").contains("running"));
    bench.device.hang(true);
    // Its answer comes when the device is halted.
    bench.say("pause");
    assert!(bench.ask("status").contains("running"));
    assert!(bench.ask("stats").contains("exits"));
    bench.device.hang(false);
    assert!(bench.line().contains("done"));
    assert!(bench.ask("status").contains("paused"));
    assert_eq!(bench.device.done(), ["pause"]);

    bench.device.hang(true);
    assert!(bench.ask("quit").contains("done"));
    assert!(bench.ask("status").contains("ending"));
    assert!(bench.ask("reset").contains("being ended"));
    assert!(bench.ask("stats").contains("exits"));
    assert!(bench.ended.try_recv().is_err(), "it waits for the disk");
    assert!(bench.ask("force-quit").contains("done"));
    let end = bench.ended.recv_timeout(PATIENCE).unwrap();
    assert!(end.detail.contains("at once"), "{end:?}");
}

#[test]
fn the_end_comes_after_the_disks_are_durable_and_tells_of_one_that_is_not() {
    if no_kvm() {
        return;
    }
    let mut bench = Bench::new();
    assert!(bench.ask("quit").contains("done"));
    let end = bench.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(bench.device.done(), ["pause", "sync"]);
    assert!(end.detail.contains("told to end") && end.detail.contains("the disk is away"), "{end:?}");
}
