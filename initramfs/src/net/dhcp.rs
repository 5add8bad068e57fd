//! A DHCPv4 client (RFC 2131) as a pure state machine: messages and time in, messages and settings out.
//!
//! ```text
//! Selecting ──offer──► Requesting ──ack──► Bound ──T1──► Renewing ──T2──► Rebinding
//!     ▲                    │ nak, silence             ▲       │ ack           │ ack
//!     │◄───────────────────┘                          └───────┴───────────────┤
//!     └──────────────────── nak in any state, or the lease ran out ───────────┘
//! ```
//! Invariants: an address is used only between an ACK and the end of its lease; only answers with our transaction id and
//! hardware address, and after an offer only from the server chosen, change the state; no wait is longer than a minute while
//! there is no address.

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use std::{net::Ipv4Addr, time::Duration};

/// Shortest and longest wait before a message is sent again while there is no lease.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Requests for an offered address before starting over.
const REQUESTS: u32 = 4;
/// Shortest lease believed; a server that says less is asked as if it had said this.
const LEASE_MIN: u32 = 60;

/// Settings from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Search domain.
    pub domain: Option<String>,
    /// The server.
    pub server: Ipv4Addr,
    /// When to ask the server for more, when to ask any server, when it ends; from the ACK on.
    pub times: [Duration; 3],
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send to everyone on the link, from address 0 or ours.
    Broadcast(Message),
    /// Send to this server from our address.
    Unicast(Ipv4Addr, Message),
    /// Use these settings (again).
    Apply(Lease),
    /// Stop using the address.
    Release,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Selecting,
    Requesting { offer: Box<Lease>, sent: u32 },
    Bound { lease: Box<Lease>, since: Duration },
    Renewing { lease: Box<Lease>, since: Duration },
    Rebinding { lease: Box<Lease>, since: Duration },
}

/// The client. Times are durations on any clock that only goes forward.
#[derive(Clone, Debug)]
pub struct Client {
    mac: [u8; 6],
    host_name: String,
    state: State,
    xid: u32,
    started: Duration,
    /// When to act next without an answer.
    next: Duration,
    wait: Duration,
}

impl Client {
    /// A client that sends its first message at `now`. `xid` should be random.
    pub fn new(mac: [u8; 6], host_name: &str, xid: u32, now: Duration) -> Self {
        Self {
            mac,
            host_name: host_name.to_owned(),
            state: State::Selecting,
            xid,
            started: now,
            next: now,
            wait: RETRY_MIN,
        }
    }

    /// When [`Client::tick`] has something to do.
    pub const fn deadline(&self) -> Duration {
        self.next
    }

    /// Answers to a broadcast may come before we have an address, so they must be read from the link itself.
    pub const fn is_unconfigured(&self) -> bool {
        matches!(self.state, State::Selecting | State::Requesting { .. })
    }

    /// Our address, while we have one and expect an answer.
    pub fn asking_from(&self) -> Option<Ipv4Addr> {
        match &self.state {
            State::Renewing { lease, .. } | State::Rebinding { lease, .. } => Some(lease.address),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        if now < self.next {
            return Vec::new();
        }
        match self.state.clone() {
            State::Selecting => self.discover(now),
            State::Requesting { sent, .. } if sent >= REQUESTS => self.restart(now),
            State::Requesting { offer, sent } => {
                let message = self.request(now, &offer, true);
                self.state = State::Requesting { offer, sent: sent + 1 };
                self.back_off(now);
                vec![Action::Broadcast(message)]
            }
            State::Bound { lease, since } => {
                self.xid = self.xid.wrapping_add(1);
                self.started = now;
                self.state = State::Renewing { lease, since };
                self.tick(now)
            }
            State::Renewing { lease, since } => {
                let [_, t2, end] = lease.times;
                if now >= since + t2 {
                    self.state = State::Rebinding { lease, since };
                    return self.tick(now);
                }
                let message = self.request(now, &lease, false);
                self.next = half_way(now, since + t2).min(since + end);
                vec![Action::Unicast(lease.server, message)]
            }
            State::Rebinding { lease, since } => {
                let [_, _, end] = lease.times;
                if now >= since + end {
                    let mut actions = vec![Action::Release];
                    actions.extend(self.restart(now));
                    return actions;
                }
                let message = self.request(now, &lease, false);
                self.next = half_way(now, since + end);
                vec![Action::Broadcast(message)]
            }
        }
    }

    /// A message arrived.
    pub fn receive(&mut self, now: Duration, message: &Message) -> Vec<Action> {
        let ours = message.opcode() == Opcode::BootReply
            && message.xid() == self.xid
            && message.chaddr().get(..6) == Some(self.mac.as_slice());
        let Some(kind) = message.opts().msg_type().filter(|_| ours) else { return Vec::new() };
        match (self.state.clone(), kind) {
            (State::Selecting, MessageType::Offer) => {
                let Some(offer) = read_lease(message) else { return Vec::new() };
                let request = self.request(now, &offer, true);
                self.state = State::Requesting { offer: Box::new(offer), sent: 1 };
                self.wait = RETRY_MIN;
                self.back_off(now);
                vec![Action::Broadcast(request)]
            }
            (State::Requesting { offer, .. }, MessageType::Ack | MessageType::Nak)
                if server_of(message) != Some(offer.server) =>
            {
                Vec::new()
            }
            (State::Selecting | State::Bound { .. }, _) => Vec::new(),
            (_, MessageType::Ack) => {
                let Some(lease) = read_lease(message) else { return Vec::new() };
                let [t1, ..] = lease.times;
                self.next = now + t1;
                self.wait = RETRY_MIN;
                self.state = State::Bound { lease: Box::new(lease.clone()), since: now };
                vec![Action::Apply(lease)]
            }
            (State::Requesting { .. }, MessageType::Nak) => {
                // Not at once: a server that says no to all would be asked without end.
                self.state = State::Selecting;
                self.back_off(now);
                Vec::new()
            }
            (_, MessageType::Nak) => {
                let mut actions = vec![Action::Release];
                actions.extend(self.restart(now));
                actions
            }
            _ => Vec::new(),
        }
    }

    fn restart(&mut self, now: Duration) -> Vec<Action> {
        self.state = State::Selecting;
        self.discover(now)
    }

    fn discover(&mut self, now: Duration) -> Vec<Action> {
        self.xid = self.xid.wrapping_add(1);
        if self.wait <= RETRY_MIN {
            self.started = now;
        }
        let message = self.message(now, MessageType::Discover);
        self.back_off(now);
        vec![Action::Broadcast(message)]
    }

    fn back_off(&mut self, now: Duration) {
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }

    fn request(&self, now: Duration, lease: &Lease, selecting: bool) -> Message {
        let mut message = self.message(now, MessageType::Request);
        if selecting {
            message.opts_mut().insert(DhcpOption::RequestedIpAddress(lease.address));
            message.opts_mut().insert(DhcpOption::ServerIdentifier(lease.server));
        } else {
            message.set_ciaddr(lease.address).set_flags(Flags::default());
        }
        message
    }

    fn message(&self, now: Duration, kind: MessageType) -> Message {
        let mut message = Message::default();
        let seconds = now.saturating_sub(self.started).as_secs();
        message
            .set_xid(self.xid)
            .set_secs(u16::try_from(seconds).unwrap_or(u16::MAX))
            .set_flags(Flags::default().set_broadcast())
            .set_chaddr(&self.mac);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier([&[1u8], self.mac.as_slice()].concat()));
        options.insert(DhcpOption::Hostname(self.host_name.clone()));
        options.insert(DhcpOption::MaxMessageSize(1500));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::DomainName,
            OptionCode::AddressLeaseTime,
            OptionCode::Renewal,
            OptionCode::Rebinding,
        ]));
        message
    }
}

/// Half of the time left, but never less than a minute (RFC 2131, 4.4.5) nor past the end.
fn half_way(now: Duration, end: Duration) -> Duration {
    let left = end.saturating_sub(now);
    now + (left / 2).max(Duration::from_secs(60)).min(left.max(Duration::from_secs(1)))
}

fn server_of(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

/// The settings in an offer or ACK; `None` where they cannot be used.
fn read_lease(message: &Message) -> Option<Lease> {
    let address = message.yiaddr();
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback() {
        return None;
    }
    let options = message.opts();
    let prefix = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => {
            let bits = u32::from(*mask);
            // A mask with holes is no mask.
            (bits.leading_ones() == bits.count_ones() && bits != 0).then(|| bits.count_ones() as u8)?
        }
        _ => 24,
    };
    let seconds = |code: OptionCode| match options.get(code) {
        Some(DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s)) => Some(*s),
        _ => None,
    };
    let end = seconds(OptionCode::AddressLeaseTime).unwrap_or(3600).max(LEASE_MIN);
    let t2 = seconds(OptionCode::Rebinding).filter(|t| *t < end && *t > 1).unwrap_or(end / 8 * 7);
    let t1 = seconds(OptionCode::Renewal).filter(|t| *t < t2 && *t > 0).unwrap_or(t2 / 7 * 4);
    Some(Lease {
        address,
        prefix,
        gateway: match options.get(OptionCode::Router) {
            Some(DhcpOption::Router(list)) => list.first().copied(),
            _ => None,
        },
        dns: match options.get(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(list)) => list.clone(),
            _ => Vec::new(),
        },
        domain: match options.get(OptionCode::DomainName) {
            Some(DhcpOption::DomainName(name)) => Some(name.clone()),
            _ => None,
        },
        server: server_of(message)?,
        times: [t1, t2, end].map(|s| Duration::from_secs(s.into())),
    })
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
