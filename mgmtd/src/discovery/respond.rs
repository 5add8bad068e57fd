//! The waiting host's side: answers who asks for the service, and says once that it begins and that it ends.

use super::{
    GROUP, group, mask_of,
    message::{Asked, Data, MAX, Message, Name, Record},
    on_link, service, socket,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Seconds an answer holds; a host does not wait for long.
const TTL: u32 = 120;
/// To those who are no responders themselves (RFC 6762, section 6.7).
const LEGACY_TTL: u32 = 10;
/// Answers within a second, to everyone together.
const MOST: u32 = 10;

/// What is said of a waiting host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The host.
    pub(crate) id: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// Its release.
    pub(crate) version: String,
    /// Where it is asked.
    pub(crate) address: SocketAddrV4,
}

impl Announced {
    fn instance(&self) -> Name {
        Name::below(&self.id.to_string(), &service())
    }

    fn target(&self) -> Name {
        Name::new(&format!("{}.local", self.id))
    }

    fn records(&self, ttl: u32, unique: bool) -> Vec<Record> {
        let text = |key: &str, value: &str| {
            let mut string = format!("{key}={value}").into_bytes();
            string.truncate(200);
            string
        };
        let text = vec![text("v", "1"), text("name", &self.name), text("version", &self.version)];
        let service_at = Data::Service { port: self.address.port(), target: self.target() };
        vec![
            Record { name: service(), ttl, unique: false, data: Data::Pointer(self.instance()) },
            Record { name: self.instance(), ttl, unique, data: service_at },
            Record { name: self.instance(), ttl, unique, data: Data::Text(text) },
            Record { name: self.target(), ttl, unique, data: Data::Address(*self.address.ip()) },
        ]
    }
}

/// The answer to a message, and whether it goes to the asker alone.
pub(super) fn answer(
    us: &Announced,
    asked: &Message,
    from_port: u16,
    group_port: u16,
) -> Option<(Message, bool)> {
    if asked.response {
        return None;
    }
    let meant = |q: &&super::message::Question| {
        let any = q.asked == Asked::Any;
        (q.name == service() && (any || q.asked == Asked::Pointer))
            || (q.name == us.instance() && (any || matches!(q.asked, Asked::Service | Asked::Text)))
            || (q.name == us.target() && (any || q.asked == Asked::Address))
    };
    let question = asked.questions.iter().find(meant)?;
    // Who knows it already is not told again (section 7.1).
    let known = asked
        .records
        .iter()
        .any(|r| r.name == service() && r.data == Data::Pointer(us.instance()) && r.ttl >= TTL / 2);
    if known {
        return None;
    }
    // Who asks from another port knows nothing of groups: the answer is an ordinary one, to that port.
    let legacy = from_port != group_port;
    let message = Message {
        id: if legacy { asked.id } else { 0 },
        response: true,
        questions: if legacy { vec![question.clone()] } else { vec![] },
        records: us.records(if legacy { LEGACY_TTL } else { TTL }, !legacy),
    };
    Some((message, legacy || question.unicast))
}

/// Counts what is sent.
struct Budget {
    since: Instant,
    sent: u32,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, sent: 0 };
        }
        self.sent += 1;
        self.sent <= MOST
    }
}

/// Answers until told to end.
pub(crate) async fn respond(us: Announced, port: u16, end: CancellationToken) -> io::Result<()> {
    let own = *us.address.ip();
    let mask = mask_of(own).unwrap_or(Ipv4Addr::BROADCAST);
    let socket = socket(own, Some(port))?;
    let send =
        |ttl: u32| Message { response: true, records: us.records(ttl, true), ..Message::default() }.encode();
    let too_large = || io::Error::other("what is to be said of this host is too long");
    socket.send_to(&send(TTL).ok_or_else(too_large)?, group(port)).await?;
    let mut budget = Budget { since: Instant::now(), sent: 0 };
    let mut buffer = [0u8; MAX + 1];
    loop {
        let (length, from) = tokio::select! {
            () = end.cancelled() => break,
            heard = socket.recv_from(&mut buffer) => match heard {
                Ok(heard) => heard,
                // As when an earlier answer reached nobody.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(e) => return Err(e),
            },
        };
        let SocketAddr::V4(from) = from else { continue };
        if length > MAX || !on_link(own, mask, *from.ip()) {
            continue;
        }
        let Some(asked) = buffer.get(..length).and_then(Message::decode) else { continue };
        let Some((message, alone)) = answer(&us, &asked, from.port(), port) else { continue };
        let Some(bytes) = message.encode().filter(|_| budget.take(Instant::now())) else { continue };
        if !alone {
            // So that all who answer do not do it at once (section 6).
            tokio::time::sleep(Duration::from_millis(20 + u64::from(rand::random::<u8>()) * 100 / 255)).await;
        }
        let to = if alone { SocketAddr::V4(from) } else { SocketAddr::V4(group(port)) };
        if let Err(e) = socket.send_to(&bytes, to).await {
            tracing::debug!(%to, error = %e, "who looks for waiting hosts was not answered");
        }
    }
    // Not to be waited for: who does not hear it hears nobody answer.
    if let Some(bytes) = send(0) {
        let _ = socket.send_to(&bytes, (IpAddr::V4(GROUP), port)).await;
    }
    Ok(())
}
