//! What switches hosts on and off from outside: where the BMC of each host is, and its password, which is never told.
//!
//! Invariants
//! - Two hosts never have the same machine of the same BMC: whoever switches one off must not hit the other.
//! - A password goes only to the place, user and certificate it was given for.

use super::{
    Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected},
};
use lq_api::{
    HostId,
    bmc::{BmcSpec, SetBmc},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The BMC of a host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BmcRecord {
    /// Where it is.
    pub spec: BmcSpec,
    /// The password of its user.
    pub password: String,
}

impl fmt::Debug for BmcRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BmcRecord({}, password hidden)", self.spec.address)
    }
}

impl State {
    /// What these settings come to for this host, with the password that is kept where it may go there.
    pub fn bmc_of(&self, id: HostId, set: &SetBmc) -> Result<BmcRecord, Refusal> {
        let host = self.hosts.get(&id).ok_or_else(|| Refusal::not_found("host", id))?;
        let kept = host.bmc.as_ref().filter(|kept| kept.spec == set.spec).map(|kept| &kept.password);
        let Some(password) = set.password.as_ref().or(kept) else {
            let why = if host.bmc.is_some() {
                "was given for other settings: give it again"
            } else {
                "is needed: the BMC asks for it"
            };
            return Err(Refusal::Validation(vec![FieldError::new("password", why)]));
        };
        Ok(BmcRecord { spec: set.spec.clone(), password: password.clone() })
    }

    pub(super) fn set_bmc(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        set: &SetBmc,
    ) -> Outcome {
        let errors = set.validate(true);
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        let record = self.bmc_of(id, set)?;
        let mut others = self.hosts.values().filter(|other| other.meta.id != id);
        let same = |bmc: &BmcRecord| bmc.spec.is_same_machine(&record.spec);
        if let Some(other) = others.find(|other| other.bmc.as_ref().is_some_and(same)) {
            let why = format!(
                "is the BMC of the host `{}` already: switched off, that one would be hit. Where one BMC manages several machines, \
                 name a `system` for each",
                other.meta.name
            );
            return Err(Refusal::field("spec.address", why));
        }
        self.put_bmc(ctx, id, expect, Some(record))
    }

    pub(super) fn clear_bmc(&mut self, ctx: &mut Context<'_>, id: HostId, expect: Option<u64>) -> Outcome {
        self.put_bmc(ctx, id, expect, None)
    }

    fn put_bmc(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        bmc: Option<BmcRecord>,
    ) -> Outcome {
        let old = self.hosts.get_mut(&id).ok_or_else(|| Refusal::not_found("host", id))?;
        check_expected(&old.meta, expect)?;
        if old.bmc != bmc {
            let new = Arc::make_mut(old);
            new.bmc = bmc;
            new.meta.revision = ctx.revision;
            ctx.changed(Kind::Host, id.0);
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::{Change, Command, Op};
    use lq_api::{NetworkId, PoolId, Timestamp, bmc::BmcProtocol};
    use uuid::Uuid;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    struct Site(State, u64);

    impl Site {
        fn new() -> Self {
            let mut site = Self(State::new(), 0);
            let (pool, network) = (PoolId(Uuid::from_u128(1)), NetworkId(Uuid::from_u128(1)));
            let cluster = Uuid::from_u128(1);
            let host_name = "a".into();
            site.ask(Op::Initialise { cluster, host: host(1), host_name, pool, network, dhcp: None })
                .unwrap();
            site.ask(Op::SimulateHosts { hosts: vec![(host(2), "b".into())] }).unwrap();
            site
        }

        fn ask(&mut self, op: Op) -> Outcome {
            self.1 += 1;
            let command = Command { at: Timestamp::UNIX_EPOCH, op };
            self.0.apply(self.1, &command, &mut Vec::<Change>::new())
        }

        fn set(&mut self, n: u128, spec: &BmcSpec, password: Option<&str>) -> Result<(), String> {
            let set = SetBmc { spec: spec.clone(), password: password.map(str::to_owned) };
            self.ask(Op::SetBmc { id: host(n), expect: None, set }).map(drop).map_err(|e| e.to_string())
        }

        fn password(&self, n: u128) -> Option<&str> {
            Some(&self.0.hosts[&host(n)].bmc.as_ref()?.password)
        }
    }

    fn spec(address: &str) -> BmcSpec {
        BmcSpec {
            protocol: BmcProtocol::Redfish,
            address: address.into(),
            username: "lq".into(),
            certificate: Some("ab".repeat(32)),
            system: None,
        }
    }

    #[test]
    fn a_password_goes_only_where_it_was_given_for() {
        let mut site = Site::new();
        assert!(site.set(1, &spec("x"), None).unwrap_err().contains("password"));
        site.set(1, &spec("x"), Some("sesame")).unwrap();
        site.set(1, &spec("x"), None).unwrap();
        assert_eq!(site.password(1), Some("sesame"));
        for other in [
            spec("y"),
            BmcSpec { username: "root".into(), ..spec("x") },
            BmcSpec { certificate: Some("cd".repeat(32)), ..spec("x") },
        ] {
            assert!(site.set(1, &other, None).unwrap_err().contains("other settings"), "{other:?}");
        }
        assert!(!format!("{:?}", site.0).contains("sesame"));
        site.ask(Op::ClearBmc { id: host(1), expect: None }).unwrap();
        assert_eq!(site.password(1), None);
        let stale = Op::ClearBmc { id: host(1), expect: Some(1) };
        assert!(matches!(site.ask(stale), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn two_hosts_never_share_a_machine_of_a_bmc() {
        let mut site = Site::new();
        site.set(1, &spec("x"), Some("p")).unwrap();
        assert!(site.set(2, &spec("X:443"), Some("p")).unwrap_err().contains("`a`"));
        let blade = |id: &str| BmcSpec { system: Some(id.into()), ..spec("x") };
        assert!(site.set(2, &blade("2"), Some("p")).is_err(), "the first one has no system named");
        site.set(1, &blade("1"), Some("p")).unwrap();
        site.set(2, &blade("2"), Some("p")).unwrap();
        assert!(site.set(3, &spec("z"), Some("p")).unwrap_err().contains("host"));
    }
}
