//! The target: takes the machine in, and runs it once it has the last word and the disks.

use super::{
    Commit, Error,
    life::{Target, TargetEvent},
};
use crate::{
    exit,
    lease::fence::Fence,
    machine::{Machine, save::Clock},
    state::{
        description::Description,
        file::{self, decode},
        frame::{self, Kind},
        pages,
    },
};
use std::{
    io::{BufReader, Read},
    os::unix::net::UnixStream,
};

/// Takes a machine in over `stream`, into one that never ran. Returns whether its guest runs now, or was paused before it
/// moved. A machine that has a lease needs one here too.
///
/// # Errors
/// The machine stays with the source; this one never ran and must not.
pub fn receive(machine: &mut Machine, stream: &UnixStream, lease: &Fence) -> Result<bool, Error> {
    let source = BufReader::with_capacity(256 << 10, stream);
    let mut target = Receiver { stream, source, lease, life: Target::Waiting };
    let received = target.work(machine);
    if let Err(error) = &received {
        target.life = target.life.after(TargetEvent::Refused);
        if !matches!(error, Error::Refused(_)) {
            // Where the connection is lost the source knows already.
            let _ = frame::write(&mut &*stream, Kind::Refuse, exit::chain(error).as_bytes());
        }
    }
    received
}

struct Receiver<'a> {
    stream: &'a UnixStream,
    source: BufReader<&'a UnixStream>,
    lease: &'a Fence,
    life: Target,
}

impl Receiver<'_> {
    fn work(&mut self, machine: &mut Machine) -> Result<bool, Error> {
        let hello = self.expect(Kind::Hello)?;
        let description: Description = decode("description", &hello)?;
        let mut obstacles = machine.obstacles(&description);
        if description.leased && self.lease.is_free() {
            obstacles.push("the machine has a lease there, and none here".to_owned());
        }
        if !obstacles.is_empty() {
            return Err(Error::Machine(obstacles.join("; ")));
        }
        self.happened(TargetEvent::Suits)?;
        self.say(Kind::Accept)?;
        let state = self.memory_and_state(machine)?;
        machine
            .load(decode("state", &state)?, Clock::WentOn)
            .map_err(|error| Error::Machine(exit::chain(&error)))?;
        self.happened(TargetEvent::TakenUp)?;
        self.say(Kind::Ready)?;
        let commit = self.expect(Kind::Commit)?;
        let Commit { running } = decode("last word", &commit)?;
        self.happened(TargetEvent::Committed)?;
        if !self.lease.is_open() {
            return Err(Error::Machine("the lease of the machine has run out here".to_owned()));
        }
        machine.acquire().map_err(|error| Error::Machine(exit::chain(&error)))?;
        self.happened(TargetEvent::TookOver)?;
        machine.announce();
        if running && self.life.may_run() {
            machine.resume();
        }
        // The machine is ours: a source that does not hear it stays in doubt, and never runs it.
        if let Err(error) = self.say(Kind::Running) {
            eprintln!("lq-vmm: the machine runs here, but its source could not be told: {error}");
        }
        Ok(running)
    }

    fn memory_and_state(&mut self, machine: &Machine) -> Result<Vec<u8>, Error> {
        let mut scratch = Vec::new();
        loop {
            match self.next()? {
                (Kind::Memory, payload) => pages::apply(machine.memory(), &payload, &mut scratch)?,
                (Kind::State, payload) => return Ok(payload),
                (kind, _) => return Err(Error::Order(kind)),
            }
        }
    }

    fn happened(&mut self, event: TargetEvent) -> Result<(), Error> {
        let next = self.life.after(event);
        if next == self.life {
            return Err(Error::Cancelled);
        }
        self.life = next;
        Ok(())
    }

    fn next(&mut self) -> Result<(Kind, Vec<u8>), Error> {
        match frame::read(self.source.by_ref())? {
            (Kind::Refuse, why) => Err(Error::Refused(String::from_utf8_lossy(&why).into_owned())),
            part => Ok(part),
        }
    }

    fn expect(&mut self, wanted: Kind) -> Result<Vec<u8>, Error> {
        match self.next()? {
            (kind, payload) if kind == wanted => Ok(payload),
            (kind, _) => Err(Error::Order(kind)),
        }
    }

    fn say(&self, kind: Kind) -> Result<(), file::Error> {
        Ok(frame::write(&mut &*self.stream, kind, &[])?)
    }
}
