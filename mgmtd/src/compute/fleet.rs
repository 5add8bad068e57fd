//! All virtual machines of this host: one driver task each.
//!
//! Invariant: at most one driver per VM. A driver leaves the map itself, under the map's lock, and only while its VM is
//! unwanted and has no process.

use super::{
    Arrival, Console, Desired, Error, Found, Hypervisor, Machine, MachineState, Observer, Part,
    driver::{Driver, Order, Progress, Slot},
    life::{Life, Now, Want},
};
use lq_api::{Timestamp, VmId, local::vmm::Stats};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How often a driver that is not there yet is looked for.
const APPEARS: Duration = Duration::from_millis(20);

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

/// What there is of a machine on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// A process, in this state.
    Process(MachineState),
    /// A process comes or goes at this moment.
    Changing,
    /// The process that waited for it has ended without it.
    NeverRan,
    /// No process, and nothing is known of one.
    Nothing,
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
                    let state = machine.state().borrow().clone();
                    let life = Life::adopted(machine.pid(), machine.started_at(), &state, now());
                    let life = life.of_epoch(machine.epoch());
                    (machine.vm(), life, Some(machine))
                }
                Found::Ended(vm, record, epoch) => (vm, Life::ended(record).of_epoch(epoch), None),
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

    /// From this epoch on the machine is another host's: its driver leaves what there is of it as it is, and so knows when this
    /// returns. Older wishes have no effect any more. False where there may be another process in the place of `machine`; one
    /// that has died since leaves its place to the other host.
    pub async fn let_go(&self, machine: &Arc<dyn Machine>, epoch: u64) -> bool {
        let slot = self.inner.slots().get(&machine.vm()).cloned();
        let Some(slot) = slot else { return false };
        slot.order.send_if_modified(|order| {
            let Want::This(desired) = &mut order.want else { return false };
            // What was told of this epoch, or a later one, says what is to be done.
            let news = desired.epoch < epoch;
            if news {
                (desired.part, desired.epoch) = (Part::Still, epoch);
                order.version += 1;
            }
            news
        });
        let version = slot.version();
        let mut progress = slot.progress.subscribe();
        let Ok(process) = progress.wait_for(|p| p.seen >= version).await.map(|p| p.process) else {
            return false;
        };
        let still =
            matches!(&slot.order.borrow().want, Want::This(d) if d.part == Part::Still && d.epoch == epoch);
        still && slot.machine().map_or(!process, |now| Arc::ptr_eq(&now, machine))
    }

    /// Waits until the machine's driver knows that it leaves, and changes nothing of it any more. False where that takes longer than
    /// `limit`.
    pub async fn is_left_alone(&self, vm: VmId, limit: Duration) -> bool {
        let settled = async {
            loop {
                if let Some(slot) = self.inner.slots().get(&vm).cloned() {
                    let (leaves, version) = {
                        let order = slot.order.borrow();
                        let leaves = matches!(&order.want, Want::This(d) if d.part == Part::Leaving);
                        (leaves, order.version)
                    };
                    let progress = slot.progress.borrow().clone();
                    if leaves && progress.seen >= version && !progress.adjusting {
                        return;
                    }
                }
                tokio::time::sleep(APPEARS).await;
            }
        };
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// What there is of the machine.
    #[must_use]
    pub fn remains(&self, vm: VmId) -> Remains {
        let slot = self.inner.slots().get(&vm).cloned();
        let Some(slot) = slot else { return Remains::Nothing };
        // In this order: a process that ends is told after its machine is gone.
        let progress = slot.progress.borrow().clone();
        match (progress, slot.machine()) {
            (_, Some(machine)) => Remains::Process(machine.state().borrow().clone()),
            (Progress { process: true, .. }, None) => Remains::Changing,
            (Progress { seen, .. }, None) if seen < slot.version() => Remains::Changing,
            (Progress { never_ran: true, .. }, None) => Remains::NeverRan,
            _ => Remains::Nothing,
        }
    }

    /// Waits until the place of a machine that moves here is made: the machine that waits.
    pub async fn arrival(
        &self,
        vm: VmId,
        moving: Uuid,
        mut tell: impl FnMut(&str),
    ) -> Result<Arc<dyn Machine>, String> {
        loop {
            let slot = self.inner.slots().get(&vm).cloned();
            let Some(slot) = slot else {
                tokio::time::sleep(APPEARS).await;
                continue;
            };
            let mut progress = slot.progress.subscribe();
            loop {
                let arrival = progress.borrow_and_update().arrival.clone();
                match arrival.filter(|(of, _)| *of == moving).map(|(_, arrival)| arrival) {
                    Some(Arrival::Failed(reason)) => return Err(reason),
                    Some(Arrival::Waits) => {
                        if let Some(machine) = slot.machine() {
                            return Ok(machine);
                        }
                    }
                    Some(Arrival::Making(Some(reason))) => tell(&reason),
                    Some(Arrival::Making(None)) | None => {}
                }
                // A driver that left has made room for another one.
                if progress.borrow().seen == u64::MAX || progress.changed().await.is_err() {
                    break;
                }
            }
            tokio::time::sleep(APPEARS).await;
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
                let epoch = desired.runs_in();
                let current = of.is_none_or(|of| of == epoch);
                current.then(|| (machine, desired.leased.then_some(epoch)))
            }
            _ => None,
        });
        wanted.collect()
    }

    /// The machine, while it has a process.
    pub fn machine(&self, vm: VmId) -> Result<Arc<dyn Machine>, Error> {
        let slot = self.inner.slots().get(&vm).cloned();
        slot.and_then(|slot| slot.machine()).ok_or(Error::NotRunning)
    }
}

impl Slot {
    fn order(&self, want: Want) {
        self.order.send_if_modified(|order| {
            let changed = order.want != want && !order.want.is_newer_than(&want);
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
