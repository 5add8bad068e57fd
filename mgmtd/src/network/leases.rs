//! Which address a guest's interface has: stable, by its hardware address.
//!
//! Pure: no I/O, no clock. An address is first sought at a place in the range that follows from the hardware address, so that
//! even without a memory a guest mostly gets the same again; then it is kept here, and the owner keeps this in a file.
//!
//! Invariant: no address belongs to two interfaces, whatever the networks (they share one bridge).

use lq_api::{
    NetworkId,
    network::{Dhcp, Lease},
    vm::Mac,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::Ipv4Addr};

/// Interfaces remembered at most; beyond it those no longer wanted are forgotten.
const REMEMBERED: usize = 4096;

/// An interface's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding {
    network: NetworkId,
    mac: Mac,
    address: Ipv4Addr,
    /// What the guest calls itself.
    #[serde(default)]
    hostname: Option<String>,
    /// The guest accepted it and has not given it back.
    #[serde(default)]
    bound: bool,
}

/// All addresses given to interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leases {
    #[serde(default)]
    bindings: Vec<Binding>,
    /// Addresses a guest found in use by someone else.
    #[serde(default)]
    declined: BTreeSet<Ipv4Addr>,
}

/// Whom addresses are given to, and which never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The network.
    pub(super) network: NetworkId,
    /// Its settings.
    pub(super) dhcp: &'a Dhcp,
    /// Addresses of the host.
    pub(super) reserved: &'a [Ipv4Addr],
    /// Interfaces that exist: the addresses of others may be taken when there are no more.
    pub(super) wanted: &'a BTreeSet<(NetworkId, Mac)>,
}

impl Scope<'_> {
    fn may_give(&self, address: Ipv4Addr) -> bool {
        (self.dhcp.first..=self.dhcp.last).contains(&address)
            && self.dhcp.gateway != Some(address)
            && !self.dhcp.dns.contains(&address)
            && !self.reserved.contains(&address)
    }
}

impl Leases {
    fn position(&self, network: NetworkId, mac: Mac) -> Option<usize> {
        self.bindings.iter().position(|b| (b.network, b.mac) == (network, mac))
    }

    /// The interface's address; a new one where it has none, or none that may still be given. None: the range is used up.
    pub(super) fn address(&mut self, scope: Scope<'_>, mac: Mac) -> Option<Ipv4Addr> {
        if let Some(binding) = self.position(scope.network, mac).and_then(|n| self.bindings.get(n)) {
            if scope.may_give(binding.address) && !self.declined.contains(&binding.address) {
                return Some(binding.address);
            }
            self.bindings.retain(|b| (b.network, b.mac) != (scope.network, mac));
        }
        if self.bindings.len() >= REMEMBERED {
            self.forget_unwanted(scope.wanted);
        }
        let address = self.free(scope, mac).or_else(|| {
            self.forget_unwanted(scope.wanted);
            // A conflict reported once need not last for ever.
            self.declined.clear();
            self.free(scope, mac)
        })?;
        let binding = Binding { network: scope.network, mac, address, hostname: None, bound: false };
        self.bindings.push(binding);
        Some(address)
    }

    /// Gives the address the guest says it has had, where nothing is known of the guest and the address is free.
    pub(super) fn claim(&mut self, scope: Scope<'_>, mac: Mac, address: Ipv4Addr) {
        let taken = self.declined.contains(&address) || self.bindings.iter().any(|b| b.address == address);
        if self.position(scope.network, mac).is_none() && scope.may_give(address) && !taken {
            let network = scope.network;
            self.bindings.push(Binding { network, mac, address, hostname: None, bound: false });
        }
    }

    fn forget_unwanted(&mut self, wanted: &BTreeSet<(NetworkId, Mac)>) {
        self.bindings.retain(|b| wanted.contains(&(b.network, b.mac)));
    }

    fn free(&self, scope: Scope<'_>, mac: Mac) -> Option<Ipv4Addr> {
        let (first, last) = (u32::from(scope.dhcp.first), u32::from(scope.dhcp.last));
        let count = u64::from(last.checked_sub(first)?) + 1;
        let taken: BTreeSet<_> =
            self.bindings.iter().map(|b| b.address).chain(self.declined.iter().copied()).collect();
        let start = hash(mac) % count;
        // The range may be large, but as soon as more is probed than can be taken or excluded, something was free.
        (0..count)
            .map(|n| Ipv4Addr::from(first + ((start + n) % count) as u32))
            .find(|address| scope.may_give(*address) && !taken.contains(address))
    }

    /// The guest accepted its address.
    pub(super) fn bind(&mut self, network: NetworkId, mac: Mac, hostname: Option<String>) {
        if let Some(binding) = self.position(network, mac).and_then(|n| self.bindings.get_mut(n)) {
            binding.bound = true;
            if hostname.is_some() {
                binding.hostname = hostname;
            }
        }
    }

    /// The guest gave its address back; it keeps its right to it.
    pub(super) fn release(&mut self, network: NetworkId, mac: Mac) {
        if let Some(binding) = self.position(network, mac).and_then(|n| self.bindings.get_mut(n)) {
            binding.bound = false;
        }
    }

    /// The guest found its address in use by someone else: it gets another.
    pub(super) fn decline(&mut self, network: NetworkId, mac: Mac, address: Ipv4Addr) {
        let own = |b: &Binding| (b.network, b.mac, b.address) == (network, mac, address);
        if self.bindings.iter().any(own) {
            self.bindings.retain(|b| !own(b));
            self.declined.insert(address);
        }
    }

    /// Addresses in use by interfaces that exist.
    pub(super) fn list(&self, wanted: &BTreeSet<(NetworkId, Mac)>) -> Vec<Lease> {
        let in_use = self.bindings.iter().filter(|b| b.bound && wanted.contains(&(b.network, b.mac)));
        in_use.map(|b| Lease { mac: b.mac, address: b.address, hostname: b.hostname.clone() }).collect()
    }
}

/// FNV-1a: stable for ever, unlike the standard library's hasher.
fn hash(mac: Mac) -> u64 {
    mac.0.iter().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dhcp(first: u8, last: u8) -> Dhcp {
        Dhcp {
            subnet: "10.0.0.0/24".into(),
            first: [10, 0, 0, first].into(),
            last: [10, 0, 0, last].into(),
            gateway: Some([10, 0, 0, 1].into()),
            dns: vec![[10, 0, 0, 12].into()],
            lease_seconds: 600,
        }
    }

    fn mac(n: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, n])
    }

    #[test]
    fn a_full_range_refuses_until_an_interface_is_gone() {
        let (network, dhcp) = (NetworkId::new(), dhcp(10, 13));
        let mut wanted: BTreeSet<_> = (0..4).map(|n| (network, mac(n))).collect();
        let mut leases = Leases::default();
        let reserved = [Ipv4Addr::new(10, 0, 0, 10)];
        let give = |leases: &mut Leases, wanted: &BTreeSet<_>, n| {
            leases.address(Scope { network, dhcp: &dhcp, reserved: &reserved, wanted }, mac(n))
        };
        // .10 is the host's, .12 the name server's.
        assert!(give(&mut leases, &wanted, 0).is_some() && give(&mut leases, &wanted, 1).is_some());
        assert_eq!(give(&mut leases, &wanted, 2), None);
        wanted.remove(&(network, mac(0)));
        assert!(give(&mut leases, &wanted, 2).is_some());
    }

    #[test]
    fn a_declined_address_is_not_given_again() {
        let (network, dhcp, wanted) = (NetworkId::new(), dhcp(10, 20), BTreeSet::new());
        let scope = Scope { network, dhcp: &dhcp, reserved: &[], wanted: &wanted };
        let mut leases = Leases::default();
        let first = leases.address(scope, mac(1)).unwrap();
        leases.decline(network, mac(2), first);
        assert_eq!(leases.address(scope, mac(1)), Some(first), "another's word does not count");
        leases.decline(network, mac(1), first);
        assert_ne!(leases.address(scope, mac(1)), Some(first));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Address(u8),
        Claim(u8, u8),
        Bind(u8),
        Release(u8),
        Decline(u8, u8),
        Range(u8, u8),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0u8..20).prop_map(Step::Address),
            2 => (0u8..20, 0u8..40).prop_map(|(m, a)| Step::Claim(m, a)),
            2 => (0u8..20).prop_map(Step::Bind),
            1 => (0u8..20).prop_map(Step::Release),
            1 => (0u8..20, 0u8..40).prop_map(|(m, a)| Step::Decline(m, a)),
            1 => (2u8..20, 0u8..20).prop_map(|(a, n)| Step::Range(a, a + n)),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn addresses_are_unique_in_range_and_stable(steps in prop::collection::vec(step(), 0..80)) {
            let network = NetworkId::new();
            let wanted: BTreeSet<_> = (0..20).map(|n| (network, mac(n))).collect();
            let reserved = [Ipv4Addr::new(10, 0, 0, 15)];
            let (mut leases, mut settings) = (Leases::default(), dhcp(10, 30));
            for step in steps {
                let scope = Scope { network, dhcp: &settings, reserved: &reserved, wanted: &wanted };
                match step {
                    Step::Address(n) => {
                        if let Some(address) = leases.address(scope, mac(n)) {
                            prop_assert!(scope.may_give(address));
                            prop_assert_eq!(leases.address(scope, mac(n)), Some(address));
                        }
                    }
                    Step::Claim(n, a) => leases.claim(scope, mac(n), [10, 0, 0, a].into()),
                    Step::Bind(n) => leases.bind(network, mac(n), Some("x".into())),
                    Step::Release(n) => leases.release(network, mac(n)),
                    Step::Decline(n, a) => leases.decline(network, mac(n), [10, 0, 0, a].into()),
                    Step::Range(first, last) => settings = dhcp(first, last),
                    Step::Restart => {
                        let text = serde_json::to_string(&leases).unwrap();
                        let again: Leases = serde_json::from_str(&text).unwrap();
                        prop_assert_eq!(&again, &leases);
                        leases = again;
                    }
                }
                let addresses: BTreeSet<_> = leases.bindings.iter().map(|b| b.address).collect();
                let interfaces: BTreeSet<_> = leases.bindings.iter().map(|b| b.mac).collect();
                prop_assert_eq!(addresses.len(), leases.bindings.len());
                prop_assert_eq!(interfaces.len(), leases.bindings.len());
                prop_assert!(leases.list(&BTreeSet::new()).is_empty());
            }
        }
    }
}
