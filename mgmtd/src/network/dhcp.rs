//! The DHCPv4 server for guests: one per bridge, for all its networks.
//!
//! Owns: a packet socket on the bridge, the table of whom it serves, the leases and the file they are kept in. It answers
//! only interfaces it was told of, by the hardware address the frame was sent with. The file is written only when an address
//! is given, accepted or given back, not at each renewal: the state disk may be a USB stick.

use super::{
    answer::answer,
    frame::{self, End},
    leases::{Leases, Scope},
    link::Links,
    packet::PacketSocket,
};
use crate::durable;
use dhcproto::{Decodable, Decoder, Encodable, v4::Message};
use lq_api::{
    NetworkId,
    network::{Dhcp, Lease},
    vm::Mac,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

/// Our address in answers while the host has none on the bridge: link-local, so that it is nobody's. A guest's renewal then
/// fails and it asks everyone before its lease ends, which works.
const NO_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 67, 67);

/// Whom the server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    /// Interfaces by hardware address.
    pub(super) ports: BTreeMap<Mac, (NetworkId, Arc<Dhcp>)>,
}

/// A server.
pub(super) struct Server {
    table: Arc<Table>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Table {
    bridge: String,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    served: Served,
    leases: Leases,
    /// The host's addresses on the bridge.
    host: Vec<Ipv4Addr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Server {
    /// A server on this bridge that remembers leases in this file.
    pub(super) fn new(bridge: &str, file: Option<PathBuf>) -> Self {
        let leases = file.as_deref().map(load).unwrap_or_default();
        let state = State { served: Served::default(), leases, host: vec![] };
        let table = Table { bridge: bridge.to_owned(), file, state: Mutex::new(state) };
        Self { table: Arc::new(table), task: Mutex::new(None) }
    }

    /// Serves these from now on. Starts to listen at the first that is served.
    pub(super) fn serve(&self, served: Served, host: Vec<Ipv4Addr>) {
        let any = !served.ports.is_empty();
        {
            let mut state = self.table.state();
            state.served = served;
            state.host = host;
        }
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if any && task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(listen(self.table.clone())));
        }
    }

    /// Leases of the interfaces it serves.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let state = self.table.state();
        state.leases.list(&state.served.wanted())
    }
}

impl Served {
    fn wanted(&self) -> BTreeSet<(NetworkId, Mac)> {
        self.ports.iter().map(|(mac, (network, _))| (*network, *mac)).collect()
    }
}

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a frame, and the leases where they changed.
    fn handle(&self, frame: &[u8], bridge: Mac) -> (Option<Vec<u8>>, Option<Leases>) {
        let Some((mac, payload)) = frame::to_server(frame) else { return (None, None) };
        let mut state = self.state();
        let state = &mut *state;
        let Some((network, dhcp)) = state.served.ports.get(&mac) else { return (None, None) };
        let Ok(request) = Message::decode(&mut Decoder::new(payload)) else { return (None, None) };
        let server = state.host.first().copied().unwrap_or(NO_ADDRESS);
        let wanted = state.served.wanted();
        let scope = Scope { network: *network, dhcp, reserved: &state.host, wanted: &wanted };
        let before = state.leases.clone();
        let answered = answer(&request, mac, scope, server, &mut state.leases);
        let changed = (state.leases != before).then(|| state.leases.clone());
        if answered.is_none() && changed.is_none() {
            tracing::debug!(%mac, %network, "a DHCP request is not answered");
        }
        let from = End { mac: bridge, ip: server };
        let frame = answered.and_then(|(message, to)| frame::to_client(from, to, &message.to_vec().ok()?));
        (frame, changed)
    }
}

/// Answers until aborted. A bridge that goes away or comes back is opened anew.
async fn listen(table: Arc<Table>) {
    let mut told = false;
    loop {
        match serve_bridge(&table).await {
            Err(error) if !told => {
                tracing::warn!(bridge = table.bridge, %error, "guests cannot get addresses; trying again");
                told = true;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn serve_bridge(table: &Table) -> io::Result<()> {
    let link =
        Links::open().map_err(io::Error::other)?.find(&table.bridge).await.map_err(io::Error::other)?;
    let link = link.ok_or_else(|| io::Error::other(format!("the bridge {} is missing", table.bridge)))?;
    let mac = Mac(link.mac.unwrap_or([2, 0, 0, 0, 0, 1]));
    let socket = PacketSocket::open(link.index)?;
    // Requests sent to our address come to the host's own stack too, which would tell the guest that nobody is there.
    let _quiet = PacketSocket::swallow(&table.bridge);
    tracing::info!(bridge = table.bridge, "serving DHCP to guests");
    let mut buffer = vec![0u8; 2048];
    loop {
        let length = socket.receive(&mut buffer).await?;
        let (answer, changed) = table.handle(buffer.get(..length).unwrap_or_default(), mac);
        if let (Some(leases), Some(file)) = (changed, table.file.clone()) {
            let path = file.clone();
            let stored = tokio::task::spawn_blocking(move || store(&path, &leases)).await;
            if let Err(error) = stored.map_err(io::Error::other).and_then(|result| result) {
                tracing::warn!(%error, "leases are not kept in {}", file.display());
            }
        }
        // After it is stored: an address once given is given again.
        if let Some(answer) = answer
            && let Err(error) = socket.send(&answer)
        {
            tracing::debug!(%error, "a DHCP answer could not be sent");
        }
    }
}

fn load(path: &Path) -> Leases {
    let read = fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.unwrap_or_else(|error: io::Error| {
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!(%error, "the leases in {} are lost; guests may keep theirs", path.display());
        }
        Leases::default()
    })
}

/// Replaces the file as a whole, durably.
fn store(path: &Path, leases: &Leases) -> io::Result<()> {
    durable::write(path, 0o644, &serde_json::to_vec(leases)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_outlive_a_restart_and_damage_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dhcp.json");
        let dhcp = Dhcp {
            subnet: "10.0.0.0/24".into(),
            first: [10, 0, 0, 100].into(),
            last: [10, 0, 0, 200].into(),
            gateway: None,
            dns: vec![],
            lease_seconds: 600,
        };
        let (network, wanted, mut leases) = (NetworkId::new(), BTreeSet::new(), Leases::default());
        let scope = Scope { network, dhcp: &dhcp, reserved: &[], wanted: &wanted };
        leases.address(scope, Mac([2, 0, 0, 0, 0, 1])).unwrap();
        store(&path, &leases).unwrap();
        assert_eq!(load(&path), leases);
        fs::write(&path, "{\"bindings\": [").unwrap();
        assert_eq!(load(&path), Leases::default());
    }
}
