//! What the rules of other machines say of a move: those that are to be apart from it on its new host, or near to it on its old
//! one. Pure.
//!
//! Rules are found by the label they name, and what they say of a machine is gathered once, however many hosts it is offered to.

use super::{Site, balance::WISH, site::places};
use crate::cluster::{State, state::VmRecord};
use lq_api::HostId;
use std::collections::{BTreeMap, HashMap};

/// A machine, and whether it has to (or only would like to) keep the rule.
type Ruled<'a> = (&'a VmRecord, bool);

/// Machines with rules that name one label.
#[derive(Default)]
struct Naming<'a> {
    near: Vec<Ruled<'a>>,
    apart: Vec<Ruled<'a>>,
}

/// All rules, by key and value of the label they name.
pub(super) struct RulesByLabel<'a>(HashMap<&'a str, HashMap<&'a str, Naming<'a>>>);

impl<'a> RulesByLabel<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut all: HashMap<&str, HashMap<&str, Naming<'_>>> = HashMap::new();
        for record in state.vms.values() {
            let rules = &record.vm.spec.placement;
            let both = rules.near.iter().map(|r| (r, true)).chain(rules.apart.iter().map(|r| (r, false)));
            for (rule, near) in both {
                let Some((key, value)) = rule.pair() else { continue };
                let naming = all.entry(key).or_default().entry(value).or_default();
                let list = if near { &mut naming.near } else { &mut naming.apart };
                list.push((&**record, rule.strict));
            }
        }
        Self(all)
    }

    /// What they say of this machine, were it to leave `from`.
    pub(super) fn of_leaving(&self, site: &Site<'_>, record: &VmRecord, from: HostId) -> Word {
        let me = record.vm.meta.id;
        let mut word = Word { stays: false, missed: 0, unwelcome: BTreeMap::new() };
        for (key, value) in &record.vm.meta.labels {
            let Some(naming) = self.0.get(key.as_str()).and_then(|values| values.get(value.as_str())) else {
                continue;
            };
            let others = |list: &[Ruled<'a>]| -> Vec<Ruled<'a>> {
                list.iter().filter(|(other, _)| other.vm.meta.id != me).copied().collect()
            };
            for (other, strict) in others(&naming.near) {
                let but = [me, other.vm.meta.id];
                if other.role(from).is_some() && site.named_on(from, (key, value), &but).is_none() {
                    word.stays |= strict;
                    word.missed += WISH;
                }
            }
            // That another is better off without it is not counted: it may not be the only one that other is to be apart from.
            for (other, strict) in others(&naming.apart).into_iter().filter(|(o, _)| o.role(from).is_none()) {
                for host in places(other) {
                    let (never, grief) = word.unwelcome.entry(host).or_default();
                    *never |= strict;
                    *grief += WISH;
                }
            }
        }
        word
    }
}

/// What other machines say of one that is to leave its host.
pub(super) struct Word {
    /// One has to be near to it.
    stays: bool,
    /// What the wishes are worth of those that would like to be near to it.
    missed: i64,
    /// Hosts with machines to be apart from it: whether one of them has to be, and what the wishes are worth.
    unwelcome: BTreeMap<HostId, (bool, i64)>,
}

impl Word {
    /// What a move to this host does to the wishes of others; `None`: it breaks a rule of one.
    pub(super) fn on(&self, to: HostId) -> Option<i64> {
        let (never, grief) = self.unwelcome.get(&to).copied().unwrap_or_default();
        (!self.stays && !never).then_some(self.missed + grief)
    }
}
