//! Threads of the monitor: small stacks, a name, and the system call filter of their kind.
//!
//! ```text
//!  main (control) ─ start_spawner ─▶ spawner ─┬─▶ vcpu threads   (filter: vcpu)
//!                                             ├─▶ I/O threads    (filter: io, or socket)
//!                                             ├─▶ operator       (filter: operator)
//!                                             ├─▶ migrate        (filter: migrate)
//!                                             ├─▶ back ends      (filter: back_end)
//!                                             └─▶ display        (filter: display)
//! ```
//! A filter is inherited and can only become tighter. So no thread is ever made by a vCPU thread, though devices start
//! their workers while a vCPU waits for them: [`spawn`] hands the work to the spawner thread, which may make threads and
//! nothing else of weight. Before [`start_spawner`] (tests, library use) threads are made directly, without a filter.

use crate::{
    exit,
    seccomp::{self, Filters},
};
use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Sender, SyncSender},
    },
    thread::{Builder, JoinHandle},
};

/// Stack of a thread; deep recursion has no place here.
const STACK: usize = 192 << 10;
/// Stack of the operator, who has whole saved processors in his hands. Only what is touched costs memory.
const OPERATOR_STACK: usize = 1 << 20;
/// Stack of the display's thread: each viewer's compressor, a third of a megabyte, is made on it.
const DISPLAY_STACK: usize = 1 << 20;

impl Kind {
    const fn stack(self) -> usize {
        match self {
            Self::Operator => OPERATOR_STACK,
            Self::Vcpu | Self::Io | Self::Socket | Self::Migrate | Self::BackEnd => STACK,
            Self::Display => DISPLAY_STACK,
        }
    }
}

/// What a thread does, and therefore which system calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs a virtual CPU.
    Vcpu,
    /// Serves a device: files, taps, eventfds, io_uring.
    Io,
    /// Serves a device whose world are sockets.
    Socket,
    /// Starts, halts and resets the machine.
    Operator,
    /// Copies the machine to another host.
    Migrate,
    /// Serves the screen's viewers: sockets.
    Display,
    /// Speaks with a device's back end: a socket that descriptors are handed over by.
    BackEnd,
}

type Work = Box<dyn FnOnce() + Send>;

struct Job {
    kind: Kind,
    name: String,
    work: Work,
    answer: SyncSender<io::Result<JoinHandle<()>>>,
}

static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();

/// Starts a thread called `name` (15 bytes are kept) for `work`.
pub fn spawn(kind: Kind, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let Some(spawner) = SPAWNER.get() else {
        return Builder::new().name(name.to_owned()).stack_size(kind.stack()).spawn(work);
    };
    let gone = || io::Error::other("the spawner thread is gone");
    let (answer, answered) = mpsc::sync_channel(1);
    let job = Job { kind, name: name.to_owned(), work: Box::new(work), answer };
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send(job).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

/// From now on threads are made by a thread of their own and locked in by `filters`. Called once, by the main thread,
/// after privileges are gone.
pub fn start_spawner(filters: Filters) -> io::Result<()> {
    let (jobs, inbox) = mpsc::channel::<Job>();
    Builder::new().name("spawner".to_owned()).stack_size(STACK).spawn(move || {
        if let Err(error) = seccomp::install(&filters.spawner) {
            eprintln!("lq-vmm: the spawner's system call filter was refused: {error}");
            return;
        }
        for Job { kind, name, work, answer } in inbox {
            let filter = match kind {
                Kind::Vcpu => filters.vcpu.clone(),
                Kind::Io => filters.io.clone(),
                Kind::Socket => filters.socket.clone(),
                Kind::Operator => filters.operator.clone(),
                Kind::Migrate => filters.migrate.clone(),
                Kind::Display => filters.display.clone(),
                Kind::BackEnd => filters.back_end.clone(),
            };
            let locked = move || match seccomp::install(&filter) {
                Ok(()) => work(),
                // Nothing of ours runs unlocked.
                Err(error) => exit::fatal(&format!("system call filter refused: {error}")),
            };
            let made = Builder::new().name(name).stack_size(kind.stack()).spawn(locked);
            // The asker waits; it is only gone when the process ends.
            let _ = answer.send(made);
        }
    })?;
    SPAWNER.set(Mutex::new(jobs)).map_err(|_| io::Error::other("the spawner was started twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_name() {
        let (send, receive) = mpsc::channel();
        let handle = spawn(Kind::Io, "disk-0", move || {
            send.send(std::thread::current().name().map(str::to_owned)).unwrap();
        })
        .unwrap();
        assert_eq!(receive.recv().unwrap().as_deref(), Some("disk-0"));
        handle.join().unwrap();
    }
}
