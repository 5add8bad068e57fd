//! The asking side of the control socket, for the program's own commands and for tests. Blocking.

use super::passing;
use lq_api::local::vmm::{
    Command, Event, ExitRecord, MigrateOptions, MigrationPhase, MigrationStatus, Outcome, Request, Response,
    VERSION,
};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How often a migration is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A connection to a monitor.
pub struct Asker {
    stream: BufReader<UnixStream>,
    next: u64,
    /// Why it ended, as far as it was subscribed to and read.
    end: Option<ExitRecord>,
}

/// Moves a machine between two monitors that both can be reached from here; returns how it went, and why the source ended if
/// it did.
///
/// # Errors
/// It could not begin, or a monitor could not be asked.
pub fn migrate(
    mut source: Asker,
    mut target: Asker,
    options: MigrateOptions,
) -> io::Result<(MigrationStatus, Option<ExitRecord>)> {
    source.ask(Command::Subscribe, None)?;
    let (ours, theirs) = UnixStream::pair()?;
    let taken_in = thread::spawn(move || target.ask(Command::MigrateIn, Some(theirs.as_fd())));
    source.ask(Command::MigrateOut(options), Some(ours.as_fd()))?;
    drop(ours);
    let mut last = MigrationStatus::default();
    loop {
        match source.ask(Command::MigrateStatus, None) {
            Ok(Outcome::Migration(status)) => last = status,
            Ok(other) => return Err(io::Error::other(format!("an odd answer: {other:?}"))),
            // Its machine has moved, and it has ended.
            Err(_) => break,
        }
        if matches!(last.phase, MigrationPhase::Failed | MigrationPhase::InDoubt) {
            return Ok((last, None));
        }
        thread::sleep(LOOK);
    }
    taken_in.join().map_err(|_| io::Error::other("the asking thread died"))??;
    last.phase = MigrationPhase::Moved;
    Ok((last, source.end))
}

impl Asker {
    /// Connects to a control socket.
    ///
    /// # Errors
    /// There is none, or it is not for us.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?), next: 1, end: None })
    }

    /// Asks, with descriptors where the command takes some, and waits for the answer.
    ///
    /// # Errors
    /// The connection broke, or the monitor refused: then the error is its words.
    pub fn ask<'a>(
        &mut self,
        command: Command,
        descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<Outcome> {
        let id = self.next;
        self.next += 1;
        let mut line = serde_json::to_vec(&Request { version: VERSION, id, command })?;
        line.push(b'\n');
        let descriptors: Vec<_> = descriptors.into_iter().collect();
        passing::send(self.stream.get_ref(), &line, &descriptors)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Ok(Event::Exit(record)) = serde_json::from_str(&line) {
                self.end = Some(record);
            }
            // Other events of a subscription are no responses.
            match serde_json::from_str::<Response>(&line) {
                Ok(Response { id: answered, outcome }) if answered == id => match outcome {
                    Outcome::Error(why) => return Err(io::Error::other(why)),
                    outcome => return Ok(outcome),
                },
                _ => {}
            }
        }
    }

    /// Has the monitor write its machine to `file`, which appears whole and durable, or not at all.
    ///
    /// # Errors
    /// As of [`Asker::ask`], or the file cannot be made.
    pub fn snapshot(&mut self, file: &Path) -> io::Result<()> {
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written =
            self.ask(Command::Snapshot, Some(made.as_fd())).and_then(|_| fs::rename(&unfinished, file));
        if written.is_err() {
            // What is not whole is of no use; a failure to remove it says less than the first one.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}
