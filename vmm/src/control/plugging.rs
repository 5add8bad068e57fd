//! The control thread's part of what comes and goes: it checks, asks the guest, waits for it, and keeps the inventory.
//!
//! ```text
//!  DiskPlug, NicPlug ─▶ checked ─▶ the operator makes it and puts it in ─▶ inventory, answer
//!  Unplug ─▶ the guest is asked ─┬ it lets go ─▶ the operator ends the device's work ─▶ inventory, event, answer
//!                                └ it does not in time ─▶ not asked any more, answer
//!  Unplug, by force ─────────────▶ the operator takes it out and ends its work ─▶ inventory, event, answer
//! ```

use super::{
    operator::{Job, Ticket},
    server::{Server, no_cpus},
};
use crate::{inventory::Added, machine::Removed, plug::New};
use lq_api::local::vmm::{Command, CpuTarget, DeviceName, Event, Outcome, Response, RunState, Unplug};
use std::{
    fs::File,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// Who waits for the guest to let go of the device in a slot.
pub(super) struct Waiting {
    slot: usize,
    device: DeviceName,
    ticket: Ticket,
    patience: Duration,
    deadline: Instant,
}

fn shown(device: &DeviceName) -> String {
    match device {
        DeviceName::Disk(serial) => format!("disk {serial:?}"),
        DeviceName::Nic(mac) => format!("interface {mac}"),
    }
}

impl Server {
    fn may_change(&self) -> Result<(), String> {
        if !self.inventory.hotplug() {
            return Err(
                "the machine was started without `devices.hotplug`: stop it, and start it with that".into()
            );
        }
        self.stands_still()
    }

    fn stands_still(&self) -> Result<(), String> {
        if self.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_over()) {
            return Err("the machine is moving: what it has must stay as it is until it has moved".into());
        }
        match self.state {
            RunState::Running | RunState::Paused => Ok(()),
            state => Err(format!("the machine is {state:?}: that cannot be done now").to_lowercase()),
        }
    }

    /// The job that brings processors, or asks for them.
    pub(super) fn aim_cpus(&self, CpuTarget { count }: CpuTarget) -> Result<Job, String> {
        let (most, _) = self.levers.cpus().ok_or_else(no_cpus)?;
        if !(1..=most).contains(&count) {
            return Err(format!("count is {count}, 1 to {most} are possible"));
        }
        self.stands_still()?;
        Ok(Job::AimCpus(count))
    }

    /// The job that plugs a device in.
    pub(super) fn plug(&self, command: Command, descriptors: Vec<OwnedFd>) -> Result<Job, String> {
        self.may_change()?;
        let files: Vec<_> = descriptors.into_iter().map(File::from).collect();
        let (added, new) = match command {
            Command::DiskPlug(plug) => (Added::Disk(plug.disk.clone()), New::Disk(plug.disk, files)),
            Command::NicPlug(plug) => (Added::Nic(plug.nic.clone()), New::Nic(plug.nic, files)),
            _ => return Err("this plugs nothing in".to_owned()),
        };
        self.inventory.check(&added)?;
        Ok(Job::Plug { new: Some(new), added: Some(added), plugged: None })
    }

    /// A device is to go. `None`: the answer comes later.
    pub(super) fn unplug(&mut self, unplug: Unplug, ticket: Ticket) -> Option<Outcome> {
        self.begin_unplug(unplug, ticket).err().map(Outcome::Error)
    }

    fn begin_unplug(&mut self, unplug: Unplug, ticket: Ticket) -> Result<(), String> {
        self.may_change()?;
        let Unplug { device, force, timeout_ms } = unplug;
        let slot = self.inventory.slot(&device)?;
        if force {
            self.submit(Job::TakeOut(slot), Some(ticket));
            return Ok(());
        }
        if self.state != RunState::Running {
            return Err(format!("the guest is {:?} and cannot react", self.state).to_lowercase());
        }
        if timeout_ms == 0 {
            return Err("timeout_ms is 0: the guest needs time to let go".to_owned());
        }
        if self.waiting.iter().any(|waiting| waiting.slot == slot) {
            return Err(format!("the guest has been asked for {} already", shown(&device)));
        }
        self.levers.ask_for(slot);
        let patience = Duration::from_millis(timeout_ms.into());
        let deadline = Instant::now() + patience;
        self.waiting.push(Waiting { slot, device, ticket, patience, deadline });
        Ok(())
    }

    /// Devices are gone, and their work has ended.
    pub(super) fn removed(&mut self, removed: Vec<Removed>) {
        for Removed { slot, failure } in removed {
            let Some(device) = self.inventory.removed(slot) else { continue };
            let outcome = match failure {
                None => Outcome::Done,
                Some(why) => Outcome::Error(format!("{} is gone, but: {why}", shown(&device))),
            };
            if let Outcome::Error(why) = &outcome {
                eprintln!("lq-vmm: {why}");
            }
            self.tell(&Event::Unplugged { device });
            if let Some(at) = self.waiting.iter().position(|waiting| waiting.slot == slot) {
                let ticket = self.waiting.swap_remove(at).ticket;
                self.answer(ticket.client, &Response { id: ticket.request, outcome });
            }
        }
    }

    /// When somebody has waited long enough, at the earliest.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }

    /// Answers those who have waited long enough.
    pub(super) fn end_waiting(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.deadline <= now) {
            let Waiting { slot, device, ticket, patience, .. } = self.waiting.swap_remove(at);
            self.levers.forget(slot);
            let why = format!(
                "the guest has not let go of {} within {} ms and goes on with it; ask again, or use force and take it away",
                shown(&device),
                patience.as_millis()
            );
            self.answer(ticket.client, &Response { id: ticket.request, outcome: Outcome::Error(why) });
        }
    }
}
