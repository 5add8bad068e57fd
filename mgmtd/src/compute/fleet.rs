//! All virtual machines of this host: one driver task each.
//!
//! Invariant: at most one driver per VM. A driver leaves the map itself, under the map's lock, and only while its VM is
//! unwanted and has no process.

use super::{
    Console, Desired, Error, Found, Hypervisor, Machine, MachineState, Observer,
    driver::{Driver, Order, Slot},
    life::{Life, Now, Want},
};
use lq_api::{Timestamp, VmId, local::vmm::Stats};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The machines of this host. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) observer: Arc<dyn Observer>,
    slots: Mutex<BTreeMap<VmId, Arc<Slot>>>,
}

impl Inner {
    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<VmId, Arc<Slot>>> {
        // A panic elsewhere leaves the map itself whole: every change of it is a single call.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time.
pub(super) fn now() -> Now {
    Now { clock: Instant::now(), wall: Timestamp::now() }
}

impl Fleet {
    /// A fleet without machines. Call [`Fleet::adopt`] once, before the first [`Fleet::sync`].
    #[must_use]
    pub fn new(hypervisor: Arc<dyn Hypervisor>, observer: Arc<dyn Observer>) -> Self {
        Self { inner: Arc::new(Inner { hypervisor, observer, slots: Mutex::new(BTreeMap::new()) }) }
    }

    /// Takes over the machines that run already. Until the first [`Fleet::sync`] they are left alone.
    ///
    /// On error nothing is taken over: call it again, and do not call [`Fleet::sync`] before it succeeds.
    pub async fn adopt(&self) -> Result<(), Error> {
        let found = self.inner.hypervisor.adopt().await?;
        let mut slots = self.inner.slots();
        for found in found {
            let (vm, life, machine) = match found {
                Found::Running(machine) => {
                    let paused = *machine.state().borrow() == MachineState::Paused;
                    let life = Life::adopted(machine.pid(), machine.started_at(), paused, now());
                    let life = life.of_epoch(machine.epoch());
                    (machine.vm(), life, Some(machine))
                }
                Found::Ended(vm, record) => (vm, Life::ended(record), None),
            };
            slots.entry(vm).or_insert_with(|| self.drive(vm, Want::Unknown, life, machine));
        }
        Ok(())
    }

    fn drive(&self, vm: VmId, want: Want, life: Life, machine: Option<Arc<dyn Machine>>) -> Arc<Slot> {
        let slot = Arc::new(Slot::new(want, &life, machine.clone()));
        tokio::spawn(Driver::new(vm, self.inner.clone(), slot.clone(), life, machine).run());
        slot
    }

    /// Tells the whole desired set of this host; must be called inside a tokio runtime. A machine absent from it is
    /// killed and forgotten.
    pub fn sync(&self, desired: Vec<Desired>) {
        let mut slots = self.inner.slots();
        let mut named = BTreeSet::new();
        for desired in desired {
            let vm = desired.vm;
            named.insert(vm);
            let want = Want::This(Box::new(desired));
            match slots.get(&vm) {
                Some(slot) => slot.order(want),
                None => {
                    let slot = self.drive(vm, want, Life::resting(), None);
                    slots.insert(vm, slot);
                }
            }
        }
        for (_, slot) in slots.iter().filter(|(vm, _)| !named.contains(*vm)) {
            slot.order(Want::Gone);
        }
    }

    /// Waits until the machine has no process, as of what was told by the last [`Fleet::sync`].
    pub async fn gone(&self, vm: VmId) {
        let slot = self.inner.slots().get(&vm).cloned();
        if let Some(slot) = slot {
            let version = slot.version();
            let mut progress = slot.progress.subscribe();
            // The sender lives in `slot`, so this ends only by the condition.
            let _ = progress.wait_for(|p| p.seen >= version && !p.process).await;
        }
    }

    /// A connection to the machine's serial console.
    pub async fn console(&self, vm: VmId) -> Result<Box<dyn Console>, Error> {
        self.machine(vm)?.console().await
    }

    /// A connection to the machine's screen.
    pub async fn display(&self, vm: VmId) -> Result<Box<dyn Console>, Error> {
        self.machine(vm)?.display().await
    }

    /// The machine's counters.
    pub async fn stats(&self, vm: VmId) -> Result<Stats, Error> {
        self.machine(vm)?.stats().await
    }

    /// The machines that run.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<dyn Machine>> {
        self.inner.slots().values().filter_map(|slot| slot.machine()).collect()
    }

    /// The machines that run and are wanted, with the epoch they are to have leases of, where they are to have any.
    ///
    /// Without those that run in another epoch than they are wanted in: the machine was another host's since, and what runs
    /// here is of the past and about to be ended. It is never to go on.
    #[must_use]
    pub fn leased(&self) -> Vec<(Arc<dyn Machine>, Option<u64>)> {
        let slots = self.inner.slots();
        let wanted = slots.values().filter_map(|slot| match &slot.order.borrow().want {
            Want::This(desired) => {
                let machine = slot.machine()?;
                // Asked for after the machine: a later process has a later machine.
                let of = slot.progress.borrow().epoch;
                let current = of.is_none_or(|epoch| epoch == desired.epoch);
                current.then(|| (machine, desired.leased.then_some(desired.epoch)))
            }
            _ => None,
        });
        wanted.collect()
    }

    fn machine(&self, vm: VmId) -> Result<Arc<dyn Machine>, Error> {
        let slot = self.inner.slots().get(&vm).cloned();
        slot.and_then(|slot| slot.machine()).ok_or(Error::NotRunning)
    }
}

impl Slot {
    fn order(&self, want: Want) {
        self.order.send_if_modified(|order| {
            let changed = order.want != want;
            if changed {
                *order = Order { want, version: order.version + 1 };
            }
            changed
        });
    }

    fn version(&self) -> u64 {
        self.order.borrow().version
    }
}
