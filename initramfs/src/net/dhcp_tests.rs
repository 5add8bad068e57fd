use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answer(to: &Message, kind: MessageType) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(to.xid())
        .set_chaddr(&MAC)
        .set_yiaddr(Ipv4Addr::new(10, 0, 0, 9));
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)));
    options.insert(DhcpOption::Router(vec![SERVER]));
    options.insert(DhcpOption::AddressLeaseTime(1600));
    message
}

fn sent(actions: &[Action]) -> Message {
    match actions {
        [Action::Broadcast(m) | Action::Unicast(_, m)] => m.clone(),
        other => panic!("one message expected: {other:?}"),
    }
}

fn bound() -> Client {
    let mut client = Client::new(MAC, "h", 7, at(0));
    let discover = sent(&client.tick(at(0)));
    assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
    let request = sent(&client.receive(at(1), &answer(&discover, MessageType::Offer)));
    assert_eq!(request.opts().msg_type(), Some(MessageType::Request));
    let applied = client.receive(at(1), &answer(&request, MessageType::Ack));
    match applied.as_slice() {
        [Action::Apply(lease)] => {
            assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 0, 9), 16));
            assert_eq!(lease.gateway, Some(SERVER));
            assert_eq!(lease.times, [at(800), at(1400), at(1600)]);
        }
        other => panic!("{other:?}"),
    }
    client
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_any_then_given_up() {
    let mut client = bound();
    assert_eq!(client.deadline(), at(801));
    assert!(client.tick(at(800)).is_empty());
    let renewal = client.tick(at(801));
    assert!(matches!(renewal.as_slice(), [Action::Unicast(SERVER, _)]));
    assert_eq!(sent(&renewal).ciaddr(), Ipv4Addr::new(10, 0, 0, 9));
    let mut renewed = client.clone();
    let applied = renewed.receive(at(802), &answer(&sent(&renewal), MessageType::Ack));
    assert!(matches!(applied.as_slice(), [Action::Apply(_)]));
    assert_eq!(renewed.deadline(), at(1602));
    // Nobody answers the other one.
    let mut kinds = Vec::new();
    while !matches!(client.state, State::Selecting) {
        let now = client.deadline();
        for action in client.tick(now) {
            kinds.push((
                now.as_secs(),
                matches!(action, Action::Unicast(..)),
                matches!(action, Action::Release),
            ));
        }
    }
    assert!(kinds.iter().any(|(t, unicast, _)| *t >= 1401 && !unicast));
    let released = kinds.iter().find(|(_, _, release)| *release).unwrap();
    assert_eq!(released.0, 1601);
}

#[test]
fn silence_is_answered_with_growing_waits_up_to_a_minute() {
    let mut client = Client::new(MAC, "h", 7, at(0));
    let mut waits = Vec::new();
    let mut now = at(0);
    for _ in 0..8 {
        assert_eq!(sent(&client.tick(now)).opts().msg_type(), Some(MessageType::Discover));
        waits.push((client.deadline() - now).as_secs());
        now = client.deadline();
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn an_offered_address_that_is_never_confirmed_is_given_up() {
    let mut client = Client::new(MAC, "h", 7, at(0));
    let discover = sent(&client.tick(at(0)));
    client.receive(at(0), &answer(&discover, MessageType::Offer));
    for _ in 0..3 {
        let now = client.deadline();
        assert_eq!(sent(&client.tick(now)).opts().msg_type(), Some(MessageType::Request));
    }
    let now = client.deadline();
    assert_eq!(sent(&client.tick(now)).opts().msg_type(), Some(MessageType::Discover));
}

#[test]
fn answers_to_others_and_useless_ones_change_nothing() {
    let mut client = Client::new(MAC, "h", 7, at(0));
    let discover = sent(&client.tick(at(0)));
    let mut other = answer(&discover, MessageType::Offer);
    other.set_xid(1);
    assert!(client.receive(at(1), &other).is_empty());
    let mut other = answer(&discover, MessageType::Offer);
    other.set_chaddr(&[9; 6]);
    assert!(client.receive(at(1), &other).is_empty());
    for yiaddr in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let mut useless = answer(&discover, MessageType::Offer);
        useless.set_yiaddr(yiaddr);
        assert!(client.receive(at(1), &useless).is_empty());
    }
    let mut holes = answer(&discover, MessageType::Offer);
    holes.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)));
    assert!(client.receive(at(1), &holes).is_empty());
    assert!(matches!(client.state, State::Selecting));
}

#[test]
fn a_refused_renewal_releases_at_once() {
    let mut client = bound();
    let renewal = sent(&client.tick(at(801)));
    let actions = client.receive(at(802), &answer(&renewal, MessageType::Nak));
    assert!(matches!(actions.as_slice(), [Action::Release, Action::Broadcast(_)]));
}

proptest! {
    /// Whatever arrives in whatever order: the client always has a next step in the near future, and an address only with a lease.
    #[test]
    fn the_client_always_goes_on(steps in proptest::collection::vec((0u8..5, 0u64..3000), 1..60)) {
        let mut client = Client::new(MAC, "h", 7, at(0));
        let mut now = at(0);
        let mut last = client.message(at(0), MessageType::Discover);
        let mut have = false;
        for (what, pause) in steps {
            now += at(pause);
            let actions = match what {
                0 => client.tick(now),
                1 => { let m = answer(&last, MessageType::Offer); client.receive(now, &m) }
                2 => { let m = answer(&last, MessageType::Ack); client.receive(now, &m) }
                3 => { let m = answer(&last, MessageType::Nak); client.receive(now, &m) }
                _ => { let m = answer(&last, MessageType::Inform); client.receive(now, &m) }
            };
            for action in actions {
                match action {
                    Action::Broadcast(m) | Action::Unicast(_, m) => last = m,
                    Action::Apply(_) => have = true,
                    Action::Release => { prop_assert!(have); have = false; }
                }
            }
            prop_assert_eq!(have, !client.is_unconfigured());
            prop_assert!(client.deadline() <= now + at(1600));
        }
    }
}
