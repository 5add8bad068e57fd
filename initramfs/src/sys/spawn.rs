//! Starting a process: one `clone3`, so that it is born in its cgroup and PID namespace and never seen outside of them.
//!
//! Everything is prepared before the call; the child makes system calls only. It starts a session of its own with default
//! signals, no descriptors but 0 to 2, and `/` as its directory. A failure before `execve` comes back as an error.

use crate::error::{Doing, Error, Result};
use nix::errno::Errno;
use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

/// A process to start.
#[derive(Debug)]
pub struct Process<'a> {
    /// Absolute path of the program, then its arguments.
    pub argv: &'a [String],
    /// Environment, whole.
    pub env: Vec<(&'a str, &'a str)>,
    /// Directory of the cgroup it is born in.
    pub cgroup: Option<&'a Path>,
    /// First process of a PID namespace of its own.
    pub new_pid_namespace: bool,
    /// Standard input; `/dev/null` where absent.
    pub stdin: Option<OwnedFd>,
    /// Standard output and error; `/dev/null` where absent.
    pub output: Option<OwnedFd>,
    /// Makes standard input its controlling terminal.
    pub terminal: bool,
    /// `oom_score_adj`, -1000 to 1000.
    pub oom_score: Option<i32>,
}

impl<'a> Process<'a> {
    /// A process with nothing special.
    pub fn new(argv: &'a [String]) -> Self {
        Self {
            argv,
            env: Vec::new(),
            cgroup: None,
            new_pid_namespace: false,
            stdin: None,
            output: None,
            terminal: false,
            oom_score: None,
        }
    }
}

/// Where in the child something failed; sent with the error number through a pipe.
const STEPS: [&str; 5] = [
    "start a session",
    "set up standard input and output",
    "close descriptors",
    "take the terminal",
    "execute",
];

/// Opens a log file for appending. A symbolic link in its place is refused.
pub fn open_log(path: &Path) -> Result<OwnedFd> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .doing(|| format!("open the log {}", path.display()))?;
    Ok(file.into())
}

/// Starts a process and returns its id in our namespace.
pub fn spawn(process: &Process<'_>) -> Result<i32> {
    let text = |s: &str| CString::new(s).map_err(|_| Error::wrong(format!("`{s}` contains a NUL byte")));
    let Some(program) = process.argv.first() else {
        return Err(Error::wrong("argv is empty"));
    };
    if !program.starts_with('/') {
        return Err(Error::wrong(format!("the program `{program}` is not an absolute path")));
    }
    let argv: Vec<CString> = process.argv.iter().map(|a| text(a)).collect::<Result<_>>()?;
    let env: Vec<CString> =
        process.env.iter().map(|(k, v)| text(&format!("{k}={v}"))).collect::<Result<_>>()?;
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv_p, env_p) = (pointers(&argv), pointers(&env));
    let null =
        OpenOptions::new().read(true).write(true).open("/dev/null").doing(|| "open /dev/null".into())?;
    let stdin = process.stdin.as_ref().map_or(null.as_raw_fd(), AsRawFd::as_raw_fd);
    let output = process.output.as_ref().map_or(null.as_raw_fd(), AsRawFd::as_raw_fd);
    let score = process.oom_score.map(|s| s.clamp(-1000, 1000).to_string());
    let cgroup = process.cgroup.map(open_cgroup).transpose()?;
    let (report_read, report_write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing(|| "make a pipe".into())?;

    let mut args = CloneArgs { exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    if process.new_pid_namespace {
        args.flags |= libc::CLONE_NEWPID as u64;
    }
    if let Some(dir) = &cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(dir.as_raw_fd()).unwrap_or(0);
    }
    // SAFETY: without CLONE_VM this is a fork; the child below makes only system calls on memory prepared above and
    // leaves by execve or _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        let child = Child {
            program: argv_p.first().copied().unwrap_or(std::ptr::null()),
            argv: argv_p.as_ptr(),
            env: env_p.as_ptr(),
            stdin,
            output,
            terminal: process.terminal,
            score: score.as_deref().unwrap_or("").as_bytes(),
            report: report_write.as_raw_fd(),
        };
        // SAFETY: we are the new process; the pointers are to NULL-terminated lists that live until execve.
        unsafe { child.run() }
    }
    let pid = Errno::result(pid).doing(|| format!("start {program}"))?;
    drop(report_write);
    let mut report = [0u8; 8];
    let mut got = 0;
    let mut reader = File::from(report_read);
    while let Some(rest) = report.get_mut(got..).filter(|r| !r.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let pid = i32::try_from(pid).map_err(|_| Error::wrong("a process id out of range"))?;
    if got == report.len() {
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        let [a, b, c, d, step, ..] = report;
        let errno = Errno::from_raw(i32::from_le_bytes([a, b, c, d]));
        let step = STEPS.get(usize::from(step)).copied().unwrap_or("start");
        return Err(errno).doing(|| format!("{step}: {program}"));
    }
    Ok(pid)
}

fn open_cgroup(path: &Path) -> Result<OwnedFd> {
    std::fs::create_dir_all(path).doing(|| format!("make the cgroup {}", path.display()))?;
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::wrong("the name of the cgroup contains a NUL byte"))?;
    nix::fcntl::open(
        name.as_c_str(),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .doing(|| format!("open the cgroup {}", path.display()))
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, third version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What the child needs, all of it prepared by the parent.
struct Child<'a> {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    env: *const *const libc::c_char,
    stdin: i32,
    output: i32,
    terminal: bool,
    score: &'a [u8],
    report: i32,
}

impl Child<'_> {
    /// Becomes the program. Async-signal-safe calls only.
    ///
    /// # Safety
    /// Must run in a process of its own; the pointers must be valid NULL-terminated lists of C strings.
    unsafe fn run(&self) -> ! {
        // SAFETY: system calls on valid descriptors and memory, per the contract above.
        unsafe {
            if libc::setsid() < 0 {
                self.fail(0);
            }
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            if !self.score.is_empty() {
                let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
                if fd >= 0 {
                    libc::write(fd, self.score.as_ptr().cast(), self.score.len());
                }
            }
            libc::umask(0o022);
            libc::chdir(c"/".as_ptr());
            // Out of the way of 0 to 2 first, so that no source is overwritten before it is copied.
            let stdin = libc::fcntl(self.stdin, libc::F_DUPFD, 3);
            let output = libc::fcntl(self.output, libc::F_DUPFD, 3);
            if stdin < 0
                || output < 0
                || libc::dup2(stdin, 0) < 0
                || libc::dup2(output, 1) < 0
                || libc::dup2(output, 2) < 0
            {
                self.fail(1);
            }
            if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
                self.fail(2);
            }
            if self.terminal && libc::ioctl(0, libc::TIOCSCTTY, 1) < 0 {
                self.fail(3);
            }
            libc::execve(self.program, self.argv, self.env);
            self.fail(4)
        }
    }

    /// Reports the failed step and ends.
    unsafe fn fail(&self, step: u8) -> ! {
        // SAFETY: `report` is the open writing end of a pipe; the buffer is 8 bytes.
        unsafe {
            let [a, b, c, d] = (*libc::__errno_location()).to_le_bytes();
            let bytes = [a, b, c, d, step, 0, 0, 0];
            libc::write(self.report, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{
        sys::wait::{WaitStatus, waitpid},
        unistd::Pid,
    };

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn a_process_runs_with_its_environment_and_log_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let leak = File::open("/dev/zero").unwrap();
        let argv = argv(&["/bin/sh", "-c", "echo $A; ls /proc/self/fd | wc -l; exit 7"]);
        let mut process = Process::new(&argv);
        process.env = vec![("A", "b"), ("PATH", "/bin:/usr/bin")];
        process.output = Some(open_log(&log).unwrap());
        let pid = spawn(&process).unwrap();
        let end = waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(end, WaitStatus::Exited(Pid::from_raw(pid), 7));
        // ls itself has the directory open.
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "b\n4\n");
        drop(leak);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let argv = argv(&["/nowhere/x"]);
        let text = crate::error::chain(&spawn(&Process::new(&argv)).unwrap_err());
        assert!(text.contains("execute: /nowhere/x") && text.contains("No such file"), "{text}");
        assert!(spawn(&Process::new(&[])).is_err());
        let relative = [String::from("sh")];
        assert!(spawn(&Process::new(&relative)).is_err());
    }
}
