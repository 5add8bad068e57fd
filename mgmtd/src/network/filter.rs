//! Filter rules on the guests' bridge ports: one nftables table of the bridge family, ours alone, replaced as a whole.
//!
//! - A guest sends only with its own hardware address.
//! - Where a network has its own DHCP: its guests' requests reach nobody but this host, and they hear no other server.
//! - Our server hears and answers only those guests, never the uplink.
//! - What comes from, or goes to, a tap that is not a port is dropped: its guest has not let go of an interface it was cut from, or
//!   it is about to become a port. So a port is never open without its rules, whatever comes first.
//!
//! Stateless on purpose: stateful filtering needs kernel modules that are for security groups later.

use super::{Error, tap};
use lq_api::vm::Mac;
use nftables::{
    expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, SetItem},
    helper::{NftablesError, apply_ruleset_with_args},
    schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Rule, Table},
    stmt::{Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use std::{borrow::Cow, io::ErrorKind, path::Path};

const TABLE: &str = "lq_guests";
const SPOOF: &str = "lq_spoof";
const FORWARD: &str = "lq_forward";
const INPUT: &str = "lq_input";
const OUTPUT: &str = "lq_output";
/// Before other people's filters (the bridge family's `filter` is -200).
const PRIORITY: i32 = -210;

/// A guest's bridge port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    /// Its tap.
    pub(super) tap: String,
    /// The only hardware address it may send with.
    pub(super) mac: Mac,
    /// Served by our own DHCP.
    pub(super) served: bool,
}

/// The whole table for these ports, replacing the one before in one transaction.
pub(super) fn ruleset(ports: &[Port]) -> Nftables<'static> {
    let table =
        || NfListObject::Table(Table { family: NfFamily::Bridge, name: TABLE.into(), ..Table::default() });
    // Deleting needs it to exist: this is how nft says "replace".
    let mut objects = vec![NfCmd::Add(table()), NfCmd::Delete(table())];
    objects.push(NfCmd::Add(table()));
    let chains = [
        (SPOOF, NfHook::Prerouting),
        (FORWARD, NfHook::Forward),
        (INPUT, NfHook::Input),
        (OUTPUT, NfHook::Output),
    ];
    objects.extend(chains.map(|(name, hook)| chain(name, hook)));
    objects.extend(rules(ports).into_iter().map(|(chain, matches)| rule(chain, matches)));
    Nftables { objects: objects.into_iter().map(NfObject::CmdObject).collect() }
}

type Condition = (Operator, Expression<'static>, Expression<'static>);

fn rules(ports: &[Port]) -> Vec<(&'static str, Vec<Condition>)> {
    use Operator::{EQ, NEQ};
    let set = |ports: &mut dyn Iterator<Item = &Port>| {
        let element = |port: &Port| SetItem::Element(Expression::String(port.tap.clone().into()));
        Expression::Named(NamedExpression::Set(ports.map(element).collect()))
    };
    let mut rules = Vec::new();
    let tap = || Expression::String(format!("{}*", tap::PREFIX).into());
    for (chain, key) in [(SPOOF, MetaKey::Iifname), (FORWARD, MetaKey::Oifname), (OUTPUT, MetaKey::Oifname)] {
        let mut cut_off = vec![(EQ, meta(key), tap())];
        if !ports.is_empty() {
            cut_off.push((NEQ, meta(key), set(&mut ports.iter())));
        }
        rules.push((chain, cut_off));
    }
    for port in ports {
        let name = || Expression::String(port.tap.clone().into());
        rules.push((
            SPOOF,
            vec![
                (EQ, meta(MetaKey::Iifname), name()),
                (NEQ, field("ether", "saddr"), Expression::String(port.mac.to_string().into())),
            ],
        ));
        if port.served {
            let request = || (EQ, field("udp", "dport"), Expression::Number(67));
            let answer = || (EQ, field("udp", "sport"), Expression::Number(67));
            rules.push((FORWARD, vec![(EQ, meta(MetaKey::Iifname), name()), request()]));
            rules.push((FORWARD, vec![(EQ, meta(MetaKey::Oifname), name()), answer()]));
        }
    }
    let served = || ports.iter().filter(|port| port.served);
    if served().next().is_some() {
        for (chain, key, name) in [(INPUT, MetaKey::Iifname, "dport"), (OUTPUT, MetaKey::Oifname, "sport")] {
            let dhcp = (EQ, field("udp", name), Expression::Number(67));
            rules.push((chain, vec![(NEQ, meta(key), set(&mut served())), dhcp]));
        }
    }
    rules
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn chain(name: &'static str, hook: NfHook) -> NfCmd<'static> {
    NfCmd::Add(NfListObject::Chain(Chain {
        family: NfFamily::Bridge,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(hook),
        prio: Some(PRIORITY),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    }))
}

/// Drops what meets every condition.
fn rule(chain: &'static str, conditions: Vec<Condition>) -> NfCmd<'static> {
    let matches = conditions.into_iter().map(|(op, left, right)| Statement::Match(Match { left, right, op }));
    let expr: Vec<_> = matches.chain([Statement::Drop(None)]).collect();
    NfCmd::Add(NfListObject::Rule(Rule {
        family: NfFamily::Bridge,
        table: TABLE.into(),
        chain: chain.into(),
        expr: Cow::Owned(expr),
        ..Rule::default()
    }))
}

/// Puts the rules in force. May block. False where there is no `nft` at this path.
pub(super) fn apply(nft: &Path, ports: &[Port]) -> Result<bool, Error> {
    let no_arguments: [&str; 0] = [];
    match apply_ruleset_with_args(&ruleset(ports), Some(nft.as_os_str()), no_arguments) {
        Ok(()) => Ok(true),
        Err(NftablesError::NftExecution { inner, .. }) if inner.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let reason = match &error {
                // With JSON on its standard input, nft says some errors on its standard output.
                NftablesError::NftFailed { stderr, stdout, .. } => {
                    format!("{} {}", stderr.trim(), stdout.trim()).trim().to_owned()
                }
                other => other.to_string(),
            };
            Err(Error::Kernel { context: "setting the filter rules of guest ports".into(), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_follow_the_ports() {
        let port = |n: u8, served| Port { tap: format!("lqv{n}"), mac: Mac([2, 0, 0, 0, 0, n]), served };
        let of = |ports: &[Port]| rules(ports).iter().map(|(chain, _)| *chain).collect::<Vec<_>>();
        let always = [SPOOF, FORWARD, OUTPUT];
        assert_eq!(of(&[]), always);
        assert_eq!(of(&[port(1, false)]), [&always[..], &[SPOOF]].concat());
        let both = [SPOOF, SPOOF, FORWARD, FORWARD, INPUT, OUTPUT];
        assert_eq!(of(&[port(1, false), port(2, true)]), [&always[..], &both].concat());
        let text = serde_json::to_string(&ruleset(&[port(2, true)])).unwrap();
        assert!(
            text.contains("02:00:00:00:00:02") && text.contains("lqv2") && text.contains("lqv*"),
            "{text}"
        );
    }
}
