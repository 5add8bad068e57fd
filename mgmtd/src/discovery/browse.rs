//! The looking side: asks once by multicast and gathers for a moment who answers.

use super::{
    group, mask_of,
    message::{Asked, Data, MAX, Message, Question, Record},
    on_link, service, socket,
};
use lq_api::pairing::WaitingHost;
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// How long answers are gathered. A responder waits up to 120 ms (RFC 6762, section 6).
const LOOK: Duration = Duration::from_millis(800);
/// The question is asked again: a datagram may be lost.
const AGAIN: Duration = Duration::from_millis(300);
/// Most hosts that are told of.
const MOST: usize = 256;
/// Most answers that are read in one look.
const MOST_ANSWERS: usize = 1024;
/// Longest name and version that are shown.
const LONGEST: usize = 63;

/// The waiting hosts on the network of the address `from`.
pub(crate) async fn browse(from: Ipv4Addr, port: u16) -> io::Result<Vec<WaitingHost>> {
    let mask = mask_of(from).unwrap_or(Ipv4Addr::BROADCAST);
    let socket = socket(from, None)?;
    let question = Question { name: service(), asked: Asked::Pointer, unicast: true };
    let id = rand::random();
    let bytes = Message { id, questions: vec![question], ..Message::default() }.encode().unwrap_or_default();
    let begun = Instant::now();
    socket.send_to(&bytes, group(port)).await?;
    let mut again = Some(begun + AGAIN);
    let mut found = BTreeMap::new();
    let mut buffer = [0u8; MAX + 1];
    for _ in 0..MOST_ANSWERS {
        let until = again.unwrap_or(begun + LOOK);
        let Ok(heard) = timeout_at(until, socket.recv_from(&mut buffer)).await else {
            if again.take().is_none() {
                break;
            }
            socket.send_to(&bytes, group(port)).await?;
            continue;
        };
        let (length, SocketAddr::V4(source)) = heard? else { continue };
        if length > MAX || !on_link(from, mask, *source.ip()) {
            continue;
        }
        let Some(message) = buffer.get(..length).and_then(Message::decode) else { continue };
        if message.response && message.id == id && found.len() < MOST {
            found.extend(hosts(&message.records, mask, from).into_iter().map(|h| (h.host, h)));
        }
    }
    let mut hosts: Vec<WaitingHost> = found.into_values().collect();
    hosts.sort_by(|a, b| (&a.name, a.host).cmp(&(&b.name, b.host)));
    Ok(hosts)
}

/// What an answer tells: hosts whose records are whole and whose address is on this network.
pub(super) fn hosts(records: &[Record], mask: Ipv4Addr, own: Ipv4Addr) -> Vec<WaitingHost> {
    let mut hosts = Vec::new();
    for record in records {
        let Data::Pointer(instance) = &record.data else { continue };
        if record.name != service() || record.ttl == 0 {
            continue;
        }
        let id = instance.0.first().and_then(|l| std::str::from_utf8(l).ok()?.parse::<Uuid>().ok());
        let of = |r: &&Record| r.name == *instance;
        let at = records.iter().filter(of).find_map(|r| match &r.data {
            Data::Service { port, target } if *port != 0 => Some((*port, target)),
            _ => None,
        });
        let (Some(id), Some((port, target))) = (id, at) else { continue };
        let address = records.iter().find_map(|r| match &r.data {
            Data::Address(address) if r.name == *target => Some(*address),
            _ => None,
        });
        let Some(address) = address.filter(|a| on_link(own, mask, *a)) else { continue };
        let text = |key: &str| {
            records.iter().filter(of).find_map(|r| match &r.data {
                Data::Text(strings) => strings.iter().find_map(|s| {
                    let (k, value) = std::str::from_utf8(s).ok()?.split_once('=')?;
                    (k == key).then(|| shown(value))
                }),
                _ => None,
            })
        };
        hosts.push(WaitingHost {
            host: lq_api::HostId(id),
            name: text("name").filter(|n| !n.is_empty()).unwrap_or_else(|| id.to_string()),
            address: SocketAddrV4::new(address, port).to_string(),
            version: text("version").filter(|v| !v.is_empty()),
        });
    }
    hosts
}

/// What strangers say of themselves, fit to be shown.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
