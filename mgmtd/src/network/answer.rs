//! What a DHCP server says (RFC 2131, section 4.3). Pure: a request and what is known in, an answer out.

use super::{
    frame::{BROADCAST, End},
    leases::{Leases, Scope},
};
use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use lq_api::{network::Subnet, vm::Mac};
use std::net::Ipv4Addr;

/// Longest host name remembered: RFC 1035.
const LONGEST_NAME: usize = 253;

/// Answers `request` of the interface `mac`, on behalf of the server at `server`; none where it says nothing.
pub(super) fn answer(
    request: &Message,
    mac: Mac,
    scope: Scope<'_>,
    server: Ipv4Addr,
    leases: &mut Leases,
) -> Option<(Message, End)> {
    // The length is checked before `chaddr()`, which trusts it. Relays are not for guests.
    if request.opcode() != Opcode::BootRequest
        || request.htype() != HType::Eth
        || request.hlen() != 6
        || request.chaddr() != mac.0
        || !request.giaddr().is_unspecified()
    {
        return None;
    }
    let options = request.opts();
    let requested = match options.get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    };
    let chosen = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
        _ => None,
    };
    let reply = |kind, address| Some(reply(request, kind, address, scope, server));
    match options.msg_type()? {
        MessageType::Discover => reply(MessageType::Offer, Some(leases.address(scope, mac)?)),
        MessageType::Request => {
            if chosen.is_some_and(|chosen| chosen != server) {
                return None;
            }
            let address = requested.or(Some(request.ciaddr()).filter(|a| !a.is_unspecified()))?;
            // Of a guest we know nothing of, its own word decides where it may: our memory may have been lost.
            leases.claim(scope, mac, address);
            if leases.address(scope, mac) == Some(address) {
                leases.bind(scope.network, mac, hostname(request));
                reply(MessageType::Ack, Some(address))
            } else {
                reply(MessageType::Nak, None)
            }
        }
        MessageType::Release => {
            leases.release(scope.network, mac);
            None
        }
        MessageType::Decline => {
            leases.decline(scope.network, mac, requested?);
            None
        }
        MessageType::Inform => reply(MessageType::Ack, None),
        _ => None,
    }
}

/// What the guest calls itself, where it is fit to be shown.
fn hostname(request: &Message) -> Option<String> {
    match request.opts().get(OptionCode::Hostname) {
        Some(DhcpOption::Hostname(name))
            if (1..=LONGEST_NAME).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')) =>
        {
            Some(name.clone())
        }
        _ => None,
    }
}

fn reply(
    request: &Message,
    kind: MessageType,
    address: Option<Ipv4Addr>,
    scope: Scope<'_>,
    server: Ipv4Addr,
) -> (Message, End) {
    let mut message = Message::new_with_id(
        request.xid(),
        Ipv4Addr::UNSPECIFIED,
        address.unwrap_or(Ipv4Addr::UNSPECIFIED),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::UNSPECIFIED,
        request.chaddr(),
    );
    message.set_opcode(Opcode::BootReply).set_flags(request.flags());
    let refused = kind == MessageType::Nak;
    let dhcp = scope.dhcp;
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    if !refused {
        if let Ok(subnet) = dhcp.subnet.parse::<Subnet>() {
            options.insert(DhcpOption::SubnetMask(subnet.mask()));
            options.insert(DhcpOption::BroadcastAddr(subnet.broadcast()));
        }
        if let Some(gateway) = dhcp.gateway {
            options.insert(DhcpOption::Router(vec![gateway]));
        }
        if !dhcp.dns.is_empty() {
            options.insert(DhcpOption::DomainNameServer(dhcp.dns.clone()));
        }
    }
    if address.is_some() {
        let seconds = dhcp.lease_seconds;
        options.insert(DhcpOption::AddressLeaseTime(seconds));
        options.insert(DhcpOption::Renewal(seconds / 2));
        options.insert(DhcpOption::Rebinding(seconds / 8 * 7));
    }
    let mac = request.chaddr().try_into().map(Mac).unwrap_or(BROADCAST);
    // A client that has no address yet may not hear what is sent to the new one, and says so by the flag.
    let deaf = request.flags().broadcast() && request.ciaddr().is_unspecified();
    let to = match address.or(Some(request.ciaddr()).filter(|a| !a.is_unspecified())) {
        Some(ip) if !refused && !deaf => End { mac, ip },
        _ => End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST },
    };
    (message, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::{Decodable, Decoder, Encodable};
    use lq_api::{NetworkId, network::Dhcp};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);

    struct Bench {
        network: NetworkId,
        dhcp: Dhcp,
        wanted: BTreeSet<(NetworkId, Mac)>,
        leases: Leases,
    }

    fn bench() -> Bench {
        let network = NetworkId::new();
        let dhcp = Dhcp {
            subnet: "10.0.0.0/24".into(),
            first: [10, 0, 0, 100].into(),
            last: [10, 0, 0, 200].into(),
            gateway: Some([10, 0, 0, 1].into()),
            dns: vec![[10, 0, 0, 1].into()],
            lease_seconds: 800,
        };
        Bench { network, dhcp, wanted: BTreeSet::from([(network, MAC)]), leases: Leases::default() }
    }

    impl Bench {
        fn ask(&mut self, request: &Message) -> Option<(Message, End)> {
            let scope =
                Scope { network: self.network, dhcp: &self.dhcp, reserved: &[], wanted: &self.wanted };
            answer(request, MAC, scope, SERVER, &mut self.leases)
        }
        fn offered(&mut self) -> Ipv4Addr {
            self.ask(&request(MessageType::Discover, [])).unwrap().0.yiaddr()
        }
        fn kind(&mut self, request: &Message) -> Option<MessageType> {
            self.ask(request).and_then(|(message, _)| message.opts().msg_type())
        }
    }

    fn request<const N: usize>(kind: MessageType, options: [DhcpOption; N]) -> Message {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootRequest).set_chaddr(&MAC.0);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }

    #[test]
    fn from_discovery_to_renewal() {
        let mut bench = bench();
        let (offer, to) = bench.ask(&request(MessageType::Discover, [])).unwrap();
        let address = offer.yiaddr();
        assert_eq!(to, End { mac: MAC, ip: address });
        assert!(offer.opts().has_msg_type(MessageType::Offer) && offer.opcode() == Opcode::BootReply);
        let take = request(
            MessageType::Request,
            [
                DhcpOption::RequestedIpAddress(address),
                DhcpOption::ServerIdentifier(SERVER),
                DhcpOption::Hostname("web-1".into()),
            ],
        );
        let (ack, _) = bench.ask(&take).unwrap();
        assert!(ack.opts().has_msg_type(MessageType::Ack));
        assert_eq!(ack.opts().get(OptionCode::Renewal), Some(&DhcpOption::Renewal(400)));
        assert_eq!(ack.opts().get(OptionCode::Rebinding), Some(&DhcpOption::Rebinding(700)));
        assert_eq!(
            ack.opts().get(OptionCode::SubnetMask),
            Some(&DhcpOption::SubnetMask([255, 255, 255, 0].into()))
        );
        let listed = bench.leases.list(&bench.wanted);
        assert_eq!((listed[0].address, listed[0].hostname.as_deref()), (address, Some("web-1")));

        let mut renew = request(MessageType::Request, []);
        renew.set_ciaddr(address);
        assert_eq!(bench.kind(&renew), Some(MessageType::Ack));
        assert_eq!(bench.ask(&request(MessageType::Release, [])), None);
        assert!(bench.leases.list(&bench.wanted).is_empty());
        assert_eq!(bench.offered(), address, "it keeps its right to the address");
    }

    #[test]
    fn another_servers_client_is_left_alone() {
        let mut bench = bench();
        let address = bench.offered();
        let options =
            [DhcpOption::RequestedIpAddress(address), DhcpOption::ServerIdentifier([10, 0, 0, 3].into())];
        assert_eq!(bench.ask(&request(MessageType::Request, options)), None);
    }

    #[test]
    fn a_wrong_address_is_refused_to_all() {
        let mut bench = bench();
        bench.offered();
        let options = [DhcpOption::RequestedIpAddress([192, 168, 0, 9].into())];
        let (nak, to) = bench.ask(&request(MessageType::Request, options)).unwrap();
        assert!(nak.opts().has_msg_type(MessageType::Nak));
        assert_eq!((nak.yiaddr(), to.ip), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    }

    #[test]
    fn an_address_from_before_our_memory_was_lost_is_confirmed() {
        let mut bench = bench();
        let address = Ipv4Addr::new(10, 0, 0, 177);
        let options = [DhcpOption::RequestedIpAddress(address)];
        assert_eq!(bench.kind(&request(MessageType::Request, options)), Some(MessageType::Ack));
        assert_eq!(bench.offered(), address);
    }

    #[test]
    fn a_declined_address_is_replaced() {
        let mut bench = bench();
        let address = bench.offered();
        let options = [DhcpOption::RequestedIpAddress(address)];
        assert_eq!(bench.ask(&request(MessageType::Decline, options)), None);
        assert_ne!(bench.offered(), address);
    }

    #[test]
    fn relayed_and_foreign_requests_are_not_answered() {
        let mut bench = bench();
        let mut relayed = request(MessageType::Discover, []);
        relayed.set_giaddr([10, 0, 0, 7]);
        assert_eq!(bench.ask(&relayed), None);
        let mut foreign = request(MessageType::Discover, []);
        foreign.set_chaddr(&[2, 2, 2, 2, 2, 2]);
        assert_eq!(bench.ask(&foreign), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_message_breaks_it(at in 0usize..300, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = request(MessageType::Request, []).to_vec().unwrap();
            bytes.extend(tail);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(message) = Message::decode(&mut Decoder::new(&bytes)) {
                let mut bench = bench();
                if let Some((answer, _)) = bench.ask(&message) {
                    prop_assert!(answer.to_vec().is_ok());
                }
            }
        }
    }
}
