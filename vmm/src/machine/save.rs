//! The machine's state as a whole: out of one that stands still, into one that never ran.
//!
//! Order of loading: processors, then interrupt controllers (a pending interrupt is delivered to them at once), then the
//! timer and the clock (which is read against the counters), then devices, which may have interrupts pending.

use super::{Error, Machine, kvm, vcpu_state::VcpuState};
use crate::{
    acpi::generation,
    firmware::Platform as FirmwarePlatform,
    gate::Order,
    legacy::cpus::SavedCpus,
    state::{
        self, Saved, State,
        description::Description,
        file::{self, Reader},
    },
};
use kvm_bindings::{KVM_CLOCK_REALTIME, kvm_clock_data, kvm_irqchip, kvm_pit_state2};
use kvm_ioctls::Cap;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    sync::{Mutex, PoisonError},
};

/// How the guest's clock takes the time that passed since it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It goes on where it stood: as after a pause.
    StoodStill,
    /// It goes on as if it had never stood: the move to another host is no pause.
    WentOn,
}

/// Why a machine cannot be written to or taken up from a file.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] Error),
    /// The host.
    #[error("cannot make a new generation id")]
    Generation(#[source] std::io::Error),
}

/// On its way between the machine's thread and a vCPU's.
#[derive(Debug, Default)]
pub enum Mailbox {
    /// Nothing.
    #[default]
    Empty,
    /// A state: read, or to be written.
    State(Box<VcpuState>),
    /// It could not be read or written.
    Failed(String),
}

/// Interrupt controllers, timer and clock.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    chips: Vec<kvm_irqchip>,
    timer: Option<kvm_pit_state2>,
    clock: kvm_clock_data,
}

impl Saved for Platform {
    const KIND: &'static str = "platform";
}

impl Machine {
    /// What the machine is.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Everything because of which this machine cannot become `other`.
    #[must_use]
    pub fn obstacles(&self, other: &Description) -> Vec<String> {
        let mut faults = self.description.obstacles(other);
        if self.description.needs_tsc_scaling(other) && !self.offers.tsc_scaling() {
            let khz = |d: &Description| d.tsc_khz.unwrap_or_default();
            faults.push(format!(
                "the time stamp counter runs at {} kHz in the saved machine, {} kHz here, and this host cannot scale it",
                khz(other),
                khz(&self.description)
            ));
        }
        faults
    }

    /// Writes the machine, which is paused, to a file and makes file and disks durable.
    ///
    /// # Errors
    /// See [`Failure`]; the machine is as it was.
    pub fn snapshot(&self, file: &mut File) -> Result<(), Failure> {
        self.sync()?;
        Ok(file::write(file, &self.description, &self.memory, &self.save()?)?)
    }

    /// Takes up a saved machine; this one never ran, and is paused afterwards.
    ///
    /// # Errors
    /// [`Error::Restore`]; the machine must not run then.
    pub fn restore(&mut self, file: &mut File, path: &str, copy: bool) -> Result<(), Error> {
        self.read(file, copy)
            .map_err(|source| Error::Restore { path: path.to_owned(), source: Box::new(source) })
    }

    fn read(&mut self, file: &mut File, copy: bool) -> Result<(), Failure> {
        let mut reader = Reader::new(file);
        let obstacles = self.obstacles(&reader.description()?);
        if !obstacles.is_empty() {
            return Err(file::Error::Unsuitable(obstacles).into());
        }
        let state = reader.rest(&self.memory)?;
        self.load(state, Clock::StoodStill)?;
        // Nobody else has this machine's files.
        self.settle();
        let firmware = self.devices.firmware.as_ref();
        // Before firmware has placed it, nobody has read it.
        if copy
            && let Some(address) = firmware.map_or(Some(generation::ADDRESS), FirmwarePlatform::generation)
        {
            generation::renew(&self.memory, address).map_err(Failure::Generation)?;
            self.devices.power.new_generation();
        }
        Ok(())
    }

    /// The state of the machine, which is paused.
    ///
    /// # Errors
    /// KVM refused, or the guest is just being reset or switched off.
    pub fn save(&self) -> Result<State, Error> {
        let mut state = State::default();
        self.gate.order(Order::Save);
        for (id, mailbox) in (0..).zip(&self.mailboxes) {
            match std::mem::take(&mut *lock(mailbox)) {
                Mailbox::State(vcpu) => state.put(id, &*vcpu)?,
                Mailbox::Failed(why) => return Err(state::Error::Unsettled(why).into()),
                Mailbox::Empty => return Err(state::Error::Unsettled(format!("vCPU {id} is gone")).into()),
            }
        }
        let vm = self.vm.fd();
        let (chips, timer) = self.vm.controllers()?;
        let clock = vm.get_clock().map_err(kvm::refused("read the guest's clock"))?;
        state.put(0, &Platform { chips, timer, clock })?;
        self.devices.save(&mut state)?;
        if let Some(cpus) = &self.devices.cpus {
            state.put(0, &cpus.save())?;
        }
        Ok(state)
    }

    /// Takes up a state; the machine never ran, and is paused afterwards. Its memory is there already.
    ///
    /// # Errors
    /// KVM refused, or the state is not one of this machine. The machine must not run then.
    pub fn load(&mut self, mut state: State, passed: Clock) -> Result<(), Error> {
        self.load_cpus(&mut state)?;
        for (id, mailbox) in (0..).zip(&self.mailboxes) {
            *lock(mailbox) = Mailbox::State(Box::new(state.take(id)?));
        }
        self.gate.order(Order::Load);
        for mailbox in &self.mailboxes {
            if let Mailbox::Failed(why) = std::mem::take(&mut *lock(mailbox)) {
                return Err(state::Error::Unsettled(why).into());
            }
        }
        let Platform { chips, timer, clock } = state.take(0)?;
        self.vm.set_controllers(&chips, timer.as_ref())?;
        let vm = self.vm.fd();
        let realtime = vm.check_extension_int(Cap::AdjustClock) as u32 & clock.flags & KVM_CLOCK_REALTIME;
        let clock = match passed {
            Clock::WentOn if realtime != 0 => kvm_clock_data { flags: KVM_CLOCK_REALTIME, ..clock },
            _ => kvm_clock_data { clock: clock.clock, ..Default::default() },
        };
        vm.set_clock(&clock).map_err(kvm::refused("set the guest's clock"))?;
        self.devices.load(&mut state)?;
        Ok(state.finish()?)
    }
}

impl Machine {
    /// Makes the processors that the saved machine had, and keeps those out that had gone.
    fn load_cpus(&mut self, state: &mut State) -> Result<(), Error> {
        let Some(cpus) = self.devices.cpus.clone() else { return Ok(()) };
        let saved: SavedCpus = state.take(0)?;
        let invalid = |problem| state::Error::Invalid { kind: SavedCpus::KIND.to_owned(), id: 0, problem };
        if usize::from(saved.made) < self.standings.len() {
            let here = self.standings.len();
            let problem = format!("{} processors were ever made, {here} are here at the start", saved.made);
            return Err(invalid(problem).into());
        }
        cpus.load(saved).map_err(invalid)?;
        self.make_vcpus(saved.made)?;
        for (id, standing) in self.standings.iter().enumerate() {
            standing.load(saved.present >> id & 1 == 1);
        }
        Ok(())
    }
}

fn lock(mailbox: &Mutex<Mailbox>) -> std::sync::MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}
