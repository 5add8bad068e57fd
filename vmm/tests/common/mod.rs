//! What the tests on /dev/kvm share: tiny kernels, monitors, and their sockets.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

pub mod counter;

use std::{
    fs,
    io::{BufRead, BufReader, IoSlice, Write},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The guest, 64-bit code: writes `U`, then obeys what is typed. `q` switches off, `r` resets, `t` faults thrice, `b` waits
/// for the power button and then switches off; anything else is echoed.
pub const GUEST: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, 0xb0, 0x55, 0xee, // mov dx, 0x3f8; mov al, 'U'; out dx, al
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74,
    0xf7, // poll: mov dx, 0x3fd; in al, dx; test al, 1; jz poll
    0x66, 0xba, 0xf8, 0x03, 0xec, // mov dx, 0x3f8; in al, dx
    0x3c, 0x71, 0x74, 0x0f, 0x3c, 0x72, 0x74, 0x13, // cmp al, 'q'; je off; cmp al, 'r'; je reset
    0x3c, 0x74, 0x74, 0x22, 0x3c, 0x62, 0x74, 0x13, // cmp al, 't'; je triple; cmp al, 'b'; je button
    0xee, 0xeb, 0xdf, // out dx, al; jmp poll
    0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4, // off: mov dx, 0x600; mov al, 0x34; out dx, al; hlt
    0x66, 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4, // reset: mov dx, 0x602; mov al, 1; out dx, al; hlt
    0x66, 0xba, 0x04, 0x06, 0xec, 0xa8, 0x01, 0x74,
    0xf7, // button: mov dx, 0x604; in al, dx; test al, 1; jz button
    0xeb, 0xe5, // jmp off
    0x0f, 0x01, 0x1d, 0x02, 0x00, 0x00, 0x00, 0x0f, 0x0b, // triple: lidt [rip + 2]; ud2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // an empty interrupt table
];

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const VM: &str = "018f3a5e-0000-7000-8000-000000000001";

/// There is no /dev/kvm here; says so.
pub fn no_kvm() -> bool {
    let missing = fs::File::options().read(true).write(true).open("/dev/kvm").is_err();
    if missing {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here");
    }
    missing
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A bzImage of one setup sector around 64-bit code.
pub fn bzimage(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x200];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x236..0x238].copy_from_slice(&1_u16.to_le_bytes());
    image[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    image.extend(code);
    image
}

/// An ELF kernel with a PVH note around 32-bit code, loaded and entered at 2 MiB.
pub fn pvh_elf(code: &[u8]) -> Vec<u8> {
    const AT: u32 = 0x20_0000;
    let (note_at, code_at) = (0x100_u64, 0x200_u64);
    let mut note = Vec::new();
    // Name of 4 bytes, descriptor of 4, type 18: the 32-bit entry point.
    for word in [4_u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(AT.to_le_bytes());
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(2_u16.to_le_bytes());
    elf.extend(62_u16.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    for field in [u64::from(AT), 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for field in [64_u16, 56, 2, 0, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    for (kind, at, address, size) in
        [(1_u32, code_at, u64::from(AT), code.len() as u64), (4, note_at, 0, note.len() as u64)]
    {
        elf.extend(kind.to_le_bytes());
        elf.extend(5_u32.to_le_bytes());
        for field in [at, address, address, size, size, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.resize(note_at as usize, 0);
    elf.extend(note);
    elf.resize(code_at as usize, 0);
    elf.extend(code);
    elf
}

/// A machine to be started.
pub struct Setup {
    pub directory: tempfile::TempDir,
    pub kernel: Vec<u8>,
    pub cmdline: String,
    pub vcpus: u8,
    pub memory: u64,
    pub jail: bool,
    /// `boot` of the configuration; none: `kernel` directly.
    pub boot: Option<String>,
    /// More fields of the configuration, each with a comma in front.
    pub more: String,
    /// `disks` of the configuration.
    pub disks: String,
}

impl Setup {
    /// One vCPU, 64 MiB, a bzImage around `code`.
    pub fn new(code: &[u8]) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            kernel: bzimage(code),
            cmdline: String::new(),
            vcpus: 1,
            memory: 64 << 20,
            jail: false,
            boot: None,
            more: String::new(),
            disks: String::new(),
        }
    }

    pub fn vcpus(mut self, vcpus: u8) -> Self {
        self.vcpus = vcpus;
        self
    }

    pub fn jailed(mut self) -> Self {
        self.jail = true;
        self
    }

    pub fn spawn(&self) -> Child {
        fs::write(self.directory.path().join("vmlinuz"), &self.kernel).unwrap();
        self.spawn_without_kernel()
    }

    pub fn spawn_without_kernel(&self) -> Child {
        let here = self.directory.path();
        let shown = here.display();
        let (vcpus, memory, cmdline, more) = (self.vcpus, self.memory, &self.cmdline, &self.more);
        let direct = format!(r#"{{"direct":{{"kernel":"{shown}/vmlinuz","cmdline":"{cmdline}"}}}}"#);
        let boot = self.boot.as_ref().unwrap_or(&direct);
        let jail = if self.jail { r#","jail":{"uid":100000,"gid":100000}"# } else { "" };
        let disks = &self.disks;
        let text = format!(
            r#"{{"version":1,"vm":"{VM}","name":"tiny","vcpus":{vcpus},"memory_bytes":{memory},
                "boot":{boot},"rng":true,"disks":[{disks}],
                "run_dir":"{shown}"{jail}{more}}}"#
        );
        let config = here.join("vmm.json");
        fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_lq-vmm");
        Command::new(program).args(["run", "--config"]).arg(config).stdin(Stdio::null()).spawn().unwrap()
    }

    pub fn start(self) -> Vm {
        let process = Process(self.spawn());
        let console = connect(&self.directory.path().join("console.sock"));
        let control = connect(&self.directory.path().join("control.sock"));
        Vm { process, directory: self.directory, console, control }
    }
}

/// A monitor's process, ended where the test does not end it.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running monitor.
pub struct Vm {
    pub process: Process,
    pub directory: tempfile::TempDir,
    pub console: BufReader<UnixStream>,
    pub control: BufReader<UnixStream>,
}

pub fn connect(path: &Path) -> BufReader<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => panic!("{}: {error}", path.display()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// Sends one request (its command in JSON) on a control socket, with a descriptor if there is one.
pub fn send(stream: &UnixStream, command: &str, descriptor: Option<BorrowedFd<'_>>) {
    let request = format!("{{\"version\":1,\"id\":5,\"command\":{command}}}\n");
    let Some(descriptor) = descriptor else {
        return (&*stream).write_all(request.as_bytes()).unwrap();
    };
    let mut control = [0_u64; 4];
    let mut data = [IoSlice::new(request.as_bytes())];
    // SAFETY: a message of one buffer and one descriptor, all of which outlive the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = data.as_mut_ptr().cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(descriptor.as_raw_fd());
        libc::sendmsg(stream.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, request.len() as isize);
}

impl Vm {
    /// Reads the console up to and with `byte`; returns what came.
    pub fn see(&mut self, byte: u8) -> Vec<u8> {
        let mut seen = Vec::new();
        self.console.read_until(byte, &mut seen).unwrap();
        assert_eq!(seen.last(), Some(&byte), "the console ended after {seen:?}");
        seen
    }

    pub fn type_in(&mut self, text: &[u8]) {
        self.console.get_mut().write_all(text).unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    /// Asks a command without arguments.
    pub fn ask(&mut self, command: &str) -> String {
        self.ask_with(&format!("\"{command}\""), None)
    }

    /// Asks a command in JSON, with a descriptor if there is one.
    pub fn ask_with(&mut self, command: &str, descriptor: Option<BorrowedFd<'_>>) -> String {
        send(self.control.get_ref(), command, descriptor);
        self.line()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not yet waited for.
        assert_eq!(unsafe { libc::kill(self.process.0.id() as i32, signal) }, 0);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for the end; returns the status and the exit record.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.process.0.wait().unwrap();
        (status.code(), fs::read_to_string(self.directory.path().join("exit.json")).unwrap())
    }
}
