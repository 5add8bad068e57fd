//! IPMI 2.0 over LAN (RMCP+): the power of a machine by UDP.
//!
//! ```text
//!   capabilities ─▶ Open Session ─▶ RAKP 1 ─▶ 2: it knows the password ─▶ 3 ─▶ 4: it has the keys ─▶ privilege ─▶ commands ─▶ close
//!                    17, else 3                  else nothing more is sent
//! ```
//! Owns: the session with one BMC, its retries and limits of time. The datagrams are made and read in `packet`, the keys in `rakp`.
//! Invariants
//! - A BMC that does not prove that it knows the password gets nothing that depends on the password.
//! - Only an answer to a question of ours, in our session, newer than all before it, counts. All else is passed over, as if it had
//!   not come: anybody can send a datagram.
//! - Nothing weaker than cipher suite 3 is spoken: always authenticated, always encrypted.
//!
//! What it cannot do: anybody who reaches the port gets a code made with the password (RAKP 2), and can try passwords on it at home.

mod packet;
mod rakp;

use super::{Board, Fault};
use crate::cluster::state::BmcRecord;
use async_trait::async_trait;
use lq_api::bmc::BmcPower;
use packet::{Command, Kind, Malformed, Reader};
use rakp::{Exchange, Keys, Suite};
use std::{io, time::Duration};
use tokio::{
    net::UdpSocket,
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

/// Longest one call may take, with its session.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long each try waits for its answer: these are slow machines.
const WAITS: [Duration; 3] =
    [Duration::from_millis(1000), Duration::from_millis(2000), Duration::from_millis(3000)];
/// Privilege level: may switch the power, and nothing of the BMC (6.8).
const OPERATOR: u8 = 3;
/// Of RAKP 1: the user is looked up by the name alone (13.20).
const BY_NAME: u8 = 0x10;
/// This channel, with the answer of IPMI 2.0 (22.13).
const THIS_CHANNEL: u8 = 0x8E;

const CAPABILITIES: Command = Command { function: 0x06, number: 0x38 };
const DEVICE: Command = Command { function: 0x06, number: 0x01 };
const PRIVILEGE: Command = Command { function: 0x06, number: 0x3B };
const CLOSE: Command = Command { function: 0x06, number: 0x3C };
const STATUS: Command = Command { function: 0x00, number: 0x01 };
const CONTROL: Command = Command { function: 0x00, number: 0x02 };
/// Of [`CONTROL`]: the power goes away at once (28.3).
const POWER_DOWN: u8 = 0;

impl From<Malformed> for Fault {
    fn from(why: Malformed) -> Self {
        Self::Unclear(why.to_string())
    }
}

fn unreachable(e: &io::Error) -> Fault {
    Fault::Unreachable(e.to_string())
}

/// A BMC that speaks IPMI 2.0.
pub(super) struct Ipmi {
    host: String,
    port: u16,
    user: String,
    password: String,
    /// The session that is open. One that failed is not used again.
    session: Mutex<Option<Session>>,
}

impl Ipmi {
    /// Nothing is asked yet.
    pub(super) fn new(record: &BmcRecord) -> Result<Self, Fault> {
        let (host, port) =
            record.spec.place().ok_or_else(|| Fault::Unreachable("its address is not understood".into()))?;
        let (user, password) = (record.spec.username.clone(), record.password.clone());
        if user.len() > rakp::MAX_USER || password.len() > rakp::MAX_PASSWORD || password.is_empty() {
            return Err(Fault::Credentials);
        }
        Ok(Self { host, port, user, password, session: Mutex::default() })
    }

    async fn open(&self) -> Result<Session, Fault> {
        let link = Link::to(&self.host, self.port).await?;
        link.look().await?;
        let (user, password) = (self.user.as_bytes(), self.password.as_bytes());
        let begun = match link.begin(Suite::Seventeen, user, password).await {
            Err(Begin::Unsuited) => link.begin(Suite::Three, user, password).await,
            begun => begun,
        };
        let begun = begun.map_err(|why| match why {
            Begin::Fault(fault) => fault,
            Begin::Unsuited => Fault::Refused(
                "it has neither cipher suite 17 nor 3: switch one of them on; nothing weaker is spoken"
                    .into(),
            ),
        })?;
        let mut session = Session { link, begun, sent: 0, seen: 0, number: 0 };
        // Some are bound to less than was asked for, and say so only now.
        let level = session.ask(PRIVILEGE, &[OPERATOR]).await.map_err(|fault| match fault {
            Fault::Refused(why) => Fault::Forbidden(format!("the privilege level OPERATOR: {why}")),
            fault => fault,
        })?;
        match level.first().map(|level| level & 0x0F) {
            Some(level) if level >= OPERATOR => Ok(session),
            _ => Err(Fault::Forbidden("it needs the privilege level OPERATOR".into())),
        }
    }

    /// Asks in the session that is open, or in a new one.
    async fn ask(&self, command: Command, data: &[u8]) -> Result<(Vec<u8>, [u8; 16]), Fault> {
        let asked = async {
            let mut kept = self.session.lock().await;
            // Taken out: where it fails, or nobody waits any longer, it is closed and not used again.
            let mut session = match kept.take() {
                Some(session) => session,
                None => self.open().await?,
            };
            let answer = session.ask(command, data).await;
            let guid = session.begun.guid;
            // One that refused a command goes on.
            if matches!(answer, Ok(_) | Err(Fault::Refused(_) | Fault::Forbidden(_))) {
                *kept = Some(session);
            }
            Ok((answer?, guid))
        };
        timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Err(Fault::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()))))
    }
}

/// The socket to a BMC, which takes datagrams from nowhere else.
struct Link {
    socket: UdpSocket,
}

impl Link {
    async fn to(host: &str, port: u16) -> Result<Self, Fault> {
        let mut last = Fault::Unreachable("its name has no address".into());
        for place in tokio::net::lookup_host((host, port)).await.map_err(|e| unreachable(&e))? {
            let local = if place.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let bound = async {
                let socket = UdpSocket::bind(local).await?;
                socket.connect(place).await?;
                Ok(socket)
            };
            match bound.await {
                Ok(socket) => return Ok(Self { socket }),
                Err(e) => last = unreachable(&e),
            }
        }
        Err(last)
    }

    /// Sends each try, made anew with its number, until `read` finds the answer to one of them.
    async fn exchange<T>(
        &self,
        mut make: impl FnMut(u8) -> Vec<u8>,
        mut read: impl FnMut(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Fault> {
        let mut buffer = [0; packet::MAX_DATAGRAM];
        let mut passed_over = None;
        for (n, wait) in (0u8..).zip(WAITS) {
            self.socket.send(&make(n)).await.map_err(|e| unreachable(&e))?;
            let end = Instant::now() + wait;
            while let Ok(got) = timeout_at(end, self.socket.recv(&mut buffer)).await {
                let length = got.map_err(|e| unreachable(&e))?;
                match read(buffer.get(..length).unwrap_or_default()) {
                    Ok(found) => return Ok(found),
                    Err(why) => passed_over = Some(why),
                }
            }
        }
        let waited: Duration = WAITS.iter().sum();
        let silent = Fault::Unreachable(format!("no answer within {} s", waited.as_secs()));
        Err(passed_over.map_or(silent, Fault::from))
    }

    /// Whether it speaks IPMI 2.0 at all (22.13).
    async fn look(&self) -> Result<(), Fault> {
        let make = |n| packet::plain(&packet::request(CAPABILITIES, n, &[THIS_CHANNEL, OPERATOR]));
        let read = |datagram: &[u8]| {
            let message = packet::read_plain(datagram)?;
            let (code, data) = packet::answer(CAPABILITIES, &[0, 1, 2], message)?;
            Ok((code, data.to_vec()))
        };
        let (code, data) = self.exchange(make, read).await?;
        if code != 0 {
            return Err(refusal(code));
        }
        // Extended capabilities are there, and IPMI 2.0 is among them.
        match *data {
            [_, types, _, extended, ..] if types & 0x80 != 0 && extended & 2 != 0 => Ok(()),
            _ => Err(Fault::Refused(
                "it speaks no IPMI 2.0 on this network: switch that on (IPMI over LAN), or use Redfish"
                    .into(),
            )),
        }
    }

    /// One step of setting up: the payload after its tag (RMCP+ message tag), and what comes after the tag in the answer.
    async fn step(
        &self,
        (ask, expect): (Kind, Kind),
        first_tag: u8,
        rest: &[u8],
        console: u32,
    ) -> Result<(u8, Vec<u8>), Fault> {
        let make = |n| packet::setup(ask, &[&[first_tag | n], rest].concat());
        let read = |datagram: &[u8]| {
            let mut body = Reader(packet::read_setup(expect, datagram)?);
            let (tag, status) = (body.byte()?, body.byte()?);
            if tag & 0xF0 != first_tag || usize::from(tag & 0x0F) >= WAITS.len() {
                return Err(Malformed::Other);
            }
            // One that refuses does not always say whom.
            if status != 0 {
                return Ok((status, vec![]));
            }
            body.take(2)?;
            if body.u32()? != console { Err(Malformed::Session) } else { Ok((status, body.0.to_vec())) }
        };
        self.exchange(make, read).await
    }

    /// Sets up a session (13.15 – 13.24).
    async fn begin(&self, suite: Suite, user: &[u8], password: &[u8]) -> Result<Begun, Begin> {
        // Zero is no session.
        let sid_m = rand::random::<u32>().max(1);
        let algorithms: Vec<u8> =
            (0u8..).zip(suite.algorithms()).flat_map(|(n, a)| [n, 0, 0, 8, a, 0, 0, 0]).collect();
        let wanted = [&[OPERATOR, 0, 0], &sid_m.to_le_bytes()[..], &algorithms].concat();
        let (status, answer) =
            self.step((Kind::OpenRequest, Kind::OpenResponse), 0x10, &wanted, sid_m).await?;
        accepted(status)?;
        let mut answer = Reader(&answer);
        let sid_c = answer.u32()?;
        // It takes what was proposed, and nothing else.
        if sid_c == 0 || answer.0 != algorithms {
            return Err(Fault::Unclear("it took another cipher suite than the one proposed".into()).into());
        }
        let role = OPERATOR | BY_NAME;
        let random_m: [u8; 16] = rand::random();
        let length = u8::try_from(user.len()).map_err(|_| Fault::Credentials)?;
        let first = [&[0, 0, 0], &sid_c.to_le_bytes()[..], &random_m, &[role, 0, 0, length], user].concat();
        let (status, answer) = self.step((Kind::Rakp1, Kind::Rakp2), 0x20, &first, sid_m).await?;
        accepted(status)?;
        let mut answer = Reader(&answer);
        let (random_c, guid_c) = (answer.array()?, answer.array()?);
        let known = Exchange { suite, sid_m, sid_c, random_m, random_c, guid_c, role, user, password };
        if !known.knows_password(answer.0) {
            // The BMC may forget the session; the code that goes with it is not for one that may be another.
            let give_up = [&[0x30, 0x0F, 0, 0], &sid_c.to_le_bytes()[..]].concat();
            let _ = self.socket.try_send(&packet::setup(Kind::Rakp3, &give_up));
            return Err(Fault::Credentials.into());
        }
        let third = [&[0, 0, 0], &sid_c.to_le_bytes()[..], &known.our_code()].concat();
        let (status, answer) = self.step((Kind::Rakp3, Kind::Rakp4), 0x30, &third, sid_m).await?;
        accepted(status)?;
        let keys = known.keys(&answer).ok_or_else(|| {
            Fault::Refused("it wants a key of its own besides the password (K_G): set that to zeros".into())
        })?;
        Ok(Begun { keys, ours: sid_m, its: sid_c, guid: guid_c })
    }
}

/// Why no session was begun.
enum Begin {
    /// The BMC does not have the cipher suite.
    Unsuited,
    Fault(Fault),
}

impl<T: Into<Fault>> From<T> for Begin {
    fn from(why: T) -> Self {
        Self::Fault(why.into())
    }
}

/// What a BMC said while a session was set up (13.24).
fn accepted(status: u8) -> Result<(), Begin> {
    Err(match status {
        0x00 => return Ok(()),
        // No such algorithm, or no such suite. An illegal parameter is what some say of one they do not know.
        0x04 | 0x05 | 0x06 | 0x07 | 0x10 | 0x11 | 0x12 => return Err(Begin::Unsuited),
        0x0C | 0x0D | 0x0F => Fault::Credentials,
        0x09 | 0x0A => Fault::Forbidden("it needs the privilege level OPERATOR over LAN".into()),
        0x01 | 0x0B => Fault::Refused("it has too many sessions open: close some, or wait a minute".into()),
        other => Fault::Refused(format!("no session: status {other:#04x}")),
    }
    .into())
}

/// What a BMC said to a command, where that was no (5.2).
fn refusal(code: u8) -> Fault {
    match code {
        0xD4 => Fault::Forbidden("it needs the privilege level OPERATOR".into()),
        0xC0 => Fault::Refused("it is busy".into()),
        0xD5 => Fault::Refused("not in the state it is in".into()),
        other => Fault::Refused(format!("completion code {other:#04x}")),
    }
}

/// A session as it was agreed on.
struct Begun {
    keys: Keys,
    /// Our id of it, which its datagrams bear.
    ours: u32,
    /// Its id, which ours bear.
    its: u32,
    /// Who the BMC says that it is.
    guid: [u8; 16],
}

/// A session that is open. It is closed, without waiting for the answer, when it is dropped.
struct Session {
    link: Link,
    begun: Begun,
    /// Sequence number of the last datagram that was sent; zero is none's.
    sent: u32,
    /// Of the newest that came.
    seen: u32,
    /// Of the next request, 6 bits.
    number: u8,
}

impl Session {
    /// Asks, each try with new numbers: what this asks for may be done twice.
    async fn ask(&mut self, command: Command, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let Self { link, begun, sent, seen, number } = self;
        let first = *number;
        let tries: [u8; WAITS.len()] = std::array::from_fn(|n| (first + n as u8) & 0x3F);
        *number = (first + WAITS.len() as u8) & 0x3F;
        let make = |n: u8| {
            *sent = sent.wrapping_add(1);
            let message = packet::request(command, (first + n) & 0x3F, data);
            packet::seal(&begun.keys, begun.its, *sent, &message, rand::random())
        };
        let read = |datagram: &[u8]| {
            let (sequence, message) = packet::unseal(&begun.keys, begun.ours, *seen, datagram)?;
            // What has the right code is the BMC's, whatever it answers: it is not taken a second time.
            *seen = sequence;
            let (code, data) = packet::answer(command, &tries, &message)?;
            Ok((code, data.to_vec()))
        };
        let (code, data) = link.exchange(make, read).await?;
        if code == 0 { Ok(data) } else { Err(refusal(code)) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A BMC has few sessions. Where this is lost, it closes the session itself after a minute (6.12.15).
        let message = packet::request(CLOSE, self.number, &self.begun.its.to_le_bytes());
        let sequence = self.sent.wrapping_add(1);
        let close = packet::seal(&self.begun.keys, self.begun.its, sequence, &message, rand::random());
        let _ = self.link.socket.try_send(&close);
    }
}

#[async_trait]
impl Board for Ipmi {
    async fn machine(&self) -> Result<String, Fault> {
        let (device, guid) = self.ask(DEVICE, &[]).await?;
        // Bytes 7 to 11 of 20.1, without the completion code: manufacturer (an enterprise number of IANA) and product.
        let Some([m0, m1, m2, p0, p1]) = device.get(6..11) else {
            return Err(Malformed::Length.into());
        };
        let manufacturer = u32::from_le_bytes([*m0, *m1, *m2, 0]) & 0xF_FFFF;
        let product = u16::from_le_bytes([*p0, *p1]);
        let mut words = vec![format!("manufacturer {manufacturer} (IANA)"), format!("product {product}")];
        if guid != [0; 16] {
            // In the order of SMBIOS, as nearly all have it: what `dmidecode` shows on the host.
            words.push(format!("UUID {}", uuid::Uuid::from_bytes_le(guid)));
        }
        Ok(words.join(", "))
    }

    async fn power(&self) -> Result<BmcPower, Fault> {
        // 28.2: the lowest bit of the first byte says that the power is on. A host that is about to lose it still has it.
        match *self.ask(STATUS, &[]).await?.0 {
            [state, _, _, ..] if state & 1 == 0 => Ok(BmcPower::Off),
            [_, _, _, ..] => Ok(BmcPower::On),
            _ => Err(Malformed::Length.into()),
        }
    }

    async fn cut(&self) -> Result<(), Fault> {
        self.ask(CONTROL, &[POWER_DOWN]).await.map(drop)
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod against_a_bmc;
