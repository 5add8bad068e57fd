//! What runs where, counted once: a decision then looks at hosts, not at every machine for each of them.
//!
//! Invariant: what is counted is what the state says ([`VmRecord::role`]), but for machines that were [put](Site::put) elsewhere
//! since, as by a plan: these count there alone, as after their fail-over.

use crate::cluster::{State, state::VmRecord};
use lq_api::{HostId, VmId, placement::Affinity, vm::PowerState};
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

/// What is promised of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Memory of the machines that run there or are to, in bytes.
    pub(super) memory: u64,
    /// Virtual processors of those that are to run.
    pub(super) vcpus: u64,
}

impl Used {
    /// What a machine takes of each host it is on.
    fn of(record: &VmRecord) -> Self {
        let spec = &record.vm.spec;
        let wanted = spec.power != PowerState::Stopped;
        Self {
            memory: if wanted || !record.at_rest() { record.memory().get() } else { 0 },
            vcpus: if wanted { u64::from(spec.vcpus) } else { 0 },
        }
    }

    fn add(&mut self, other: Self) {
        self.memory = self.memory.saturating_add(other.memory);
        self.vcpus = self.vcpus.saturating_add(other.vcpus);
    }

    fn less(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(other.memory),
            vcpus: self.vcpus.saturating_sub(other.vcpus),
        }
    }
}

/// Machines with one label.
#[derive(Debug, Default)]
struct Group {
    all: BTreeSet<VmId>,
    hosts: HashMap<HostId, BTreeSet<VmId>>,
}

/// The machines of a state, by host and, where a rule asks for it, by label.
#[derive(Debug)]
pub struct Site<'a> {
    pub(super) state: &'a State,
    /// Only what is on this host is counted.
    only: Option<HostId>,
    used: HashMap<HostId, Used>,
    put: HashMap<VmId, HostId>,
    /// By key and value of the label. Made when first asked for.
    groups: RefCell<HashMap<String, HashMap<String, Group>>>,
}

/// The hosts the machine has to do with. One that moves counts on both until it is known to be on one alone.
pub(super) fn places(record: &VmRecord) -> impl Iterator<Item = HostId> + use<> {
    let owner = record.vm.status.host;
    let other = record.moving.map(|m| if m.switched { m.from } else { m.to });
    owner.into_iter().chain(other.filter(|other| owner != Some(*other)))
}

impl<'a> Site<'a> {
    /// All hosts.
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        Self::count(state, None)
    }

    /// One host: of others it says nothing.
    #[must_use]
    pub fn of_host(state: &'a State, host: HostId) -> Self {
        Self::count(state, Some(host))
    }

    fn count(state: &'a State, only: Option<HostId>) -> Self {
        let mut used: HashMap<HostId, Used> = HashMap::new();
        for record in state.vms.values() {
            for host in places(record).filter(|host| only.is_none_or(|o| o == *host)) {
                used.entry(host).or_default().add(Used::of(record));
            }
        }
        Self { state, only, used, put: HashMap::new(), groups: RefCell::default() }
    }

    fn is_on(&self, record: &VmRecord, host: HostId) -> bool {
        match self.put.get(&record.vm.meta.id) {
            Some(at) => *at == host,
            None => record.role(host).is_some(),
        }
    }

    /// What is promised of the host, but for this machine.
    pub(super) fn used(&self, host: HostId, but: Option<&VmRecord>) -> Used {
        debug_assert!(self.only.is_none_or(|only| only == host), "only {:?} is counted", self.only);
        let used = self.used.get(&host).copied().unwrap_or_default();
        but.filter(|record| self.is_on(record, host)).map_or(used, |record| used.less(Used::of(record)))
    }

    /// Puts a machine on a host, and nowhere else.
    pub fn put(&mut self, id: VmId, host: HostId) {
        let Some(record) = self.state.vms.get(&id) else { return };
        let weight = Used::of(record);
        let before: Vec<HostId> = match self.put.get(&id) {
            Some(at) => vec![*at],
            None => places(record).collect(),
        };
        let mut groups = self.groups.borrow_mut();
        let labels = &record.vm.meta.labels;
        let mut groups: Vec<&mut Group> = groups
            .iter_mut()
            .flat_map(|(key, values)| labels.get(key).and_then(|value| values.get_mut(value)))
            .collect();
        for old in before {
            if let Some(used) = self.used.get_mut(&old) {
                *used = used.less(weight);
            }
            for group in &mut groups {
                group.hosts.entry(old).or_default().remove(&id);
            }
        }
        self.used.entry(host).or_default().add(weight);
        for group in &mut groups {
            group.hosts.entry(host).or_default().insert(id);
        }
        self.put.insert(id, host);
    }

    /// Makes ready for the rules of all machines, where many of them will be asked for.
    pub(super) fn index_rules(&self) {
        let mut groups: HashMap<String, HashMap<String, Group>> = HashMap::new();
        for record in self.state.vms.values() {
            let rules = &record.vm.spec.placement;
            for (key, value) in rules.near.iter().chain(&rules.apart).filter_map(Affinity::pair) {
                groups.entry(key.to_owned()).or_default().entry(value.to_owned()).or_default();
            }
        }
        if groups.is_empty() {
            return;
        }
        for record in self.state.vms.values() {
            for (key, value) in &record.vm.meta.labels {
                if let Some(group) = groups.get_mut(key).and_then(|values| values.get_mut(value)) {
                    self.enter(record, group);
                }
            }
        }
        *self.groups.borrow_mut() = groups;
    }

    fn enter(&self, record: &VmRecord, group: &mut Group) {
        let id = record.vm.meta.id;
        group.all.insert(id);
        let at = self.put.get(&id).copied();
        for host in at.into_iter().chain(places(record).filter(|_| at.is_none())) {
            group.hosts.entry(host).or_default().insert(id);
        }
    }

    fn group<T>(&self, (key, value): (&str, &str), ask: impl FnOnce(&Group) -> T) -> T {
        let mut groups = self.groups.borrow_mut();
        if groups.get(key).is_none_or(|values| !values.contains_key(value)) {
            let mut group = Group::default();
            let named = |r: &VmRecord| r.vm.meta.labels.get(key).is_some_and(|v| v == value);
            for record in self.state.vms.values().filter(|r| named(r)) {
                self.enter(record, &mut group);
            }
            groups.entry(key.to_owned()).or_default().insert(value.to_owned(), group);
        }
        match groups.get(key).and_then(|values| values.get(value)) {
            Some(group) => ask(group),
            None => ask(&Group::default()),
        }
    }

    /// The first of the machines with that label on the host, but for these.
    pub(super) fn named_on(&self, host: HostId, label: (&str, &str), but: &[VmId]) -> Option<VmId> {
        self.group(label, |group| group.hosts.get(&host)?.iter().copied().find(|id| !but.contains(id)))
    }

    /// Whether there is a machine with that label anywhere, but for this one.
    pub(super) fn is_named(&self, label: (&str, &str), but: Option<VmId>) -> bool {
        self.group(label, |group| group.all.iter().any(|id| Some(*id) != but))
    }
}
