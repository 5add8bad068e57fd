//! Networks bridged to the uplink.
//!
//! PID 1 makes the bridge at boot, with the uplink as its port and the host's address on it. This room makes it only where it
//! is missing, and never touches the host's addresses. For now every network is on this one bridge.
//!
//! Owns: the DHCP server for guests on the bridge, and the filter table of guest ports.

use super::{
    Error, Fabric, WantedNetwork,
    dhcp::{Served, Server},
    filter::{self, Port},
    link::Links,
    tap,
};
use async_trait::async_trait;
use lq_api::{NetworkId, local::paths, network::Lease};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Mutex;

/// The bridge of the uplink.
pub const BRIDGE: &str = "lqbr0";

/// Where things are. The defaults are those of an appliance; tests use others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the bridge.
    pub bridge: String,
    /// The interface to the outside.
    pub uplink: Option<String>,
    /// File the leases are kept in; none: in memory only.
    pub leases: Option<PathBuf>,
    /// The program `nft`.
    pub nft: PathBuf,
}

impl Settings {
    /// Those of an appliance with this uplink.
    #[must_use]
    pub fn appliance(uplink: Option<String>) -> Self {
        Self {
            bridge: BRIDGE.into(),
            uplink,
            leases: Some(PathBuf::from(paths::STATE_MGMTD).join("dhcp.json")),
            nft: "/usr/sbin/nft".into(),
        }
    }
}

/// Networks bridged to the uplink.
pub struct BridgeFabric {
    settings: Settings,
    server: Server,
    /// The ports the filter table was last made for.
    filtered: Mutex<Option<Vec<Port>>>,
    warned: AtomicBool,
}

impl BridgeFabric {
    /// The fabric of a host with this uplink.
    #[must_use]
    pub fn new(uplink: Option<String>) -> Self {
        Self::with(Settings::appliance(uplink))
    }

    /// With other places.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let server = Server::new(&settings.bridge, settings.leases.clone());
        Self { settings, server, filtered: Mutex::new(None), warned: AtomicBool::new(false) }
    }

    /// The bridge exists and is up, and taps that exist are its ports.
    async fn ensure_bridge(&self, links: &Links, ports: &[Port]) -> Result<(), Error> {
        let bridge = &self.settings.bridge;
        let made = links.ensure_bridge(bridge).await?;
        let all = links.all().await?;
        let index = all.iter().find(|link| link.name == *bridge).map(|link| link.index);
        for link in &all {
            if link.controller != index && ports.iter().any(|port| port.tap == link.name) {
                links.attach(&link.name, bridge).await?;
            }
        }
        if made {
            tracing::warn!(bridge, "the bridge was missing and has been made");
            self.attach_uplink(links).await?;
        }
        Ok(())
    }

    /// An uplink that bears the host's address would lose it as a port of a bridge: it is left alone.
    async fn attach_uplink(&self, links: &Links) -> Result<(), Error> {
        let Some(name) = &self.settings.uplink else { return Ok(()) };
        let Some(link) = links.find(name).await? else {
            return Err(Error::Host(format!(
                "the uplink {name} does not exist: guests are cut off from outside"
            )));
        };
        if !links.addresses(link.index).await?.is_empty() {
            return Err(Error::Host(format!(
                "the uplink {name} bears the host's address and is not a port of {}: guests are cut off from outside; \
                 restart the host",
                self.settings.bridge
            )));
        }
        links.attach(name, &self.settings.bridge).await
    }

    /// Puts the rules in force. Guests run without them where that fails, as they do without `nft`: said loudly, and tried
    /// again at the next call.
    async fn filter(&self, ports: Vec<Port>) {
        const EFFECT: &str = "guests' ports are not filtered (foreign DHCP, forged hardware addresses)";
        let mut filtered = self.filtered.lock().await;
        if filtered.as_ref() == Some(&ports) {
            return;
        }
        let (nft, wanted) = (self.settings.nft.clone(), ports.clone());
        match tokio::task::spawn_blocking(move || filter::apply(&nft, &wanted)).await {
            Ok(Ok(true)) => *filtered = Some(ports),
            Ok(Ok(false)) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{} is missing: {EFFECT}", self.settings.nft.display());
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "{EFFECT}"),
            Err(error) => tracing::error!(%error, "{EFFECT}"),
        }
    }
}

#[async_trait]
impl Fabric for BridgeFabric {
    async fn apply(&self, wanted: &[WantedNetwork]) -> Result<(), Error> {
        let mut served = Served::default();
        let mut ports = Vec::new();
        for network in wanted {
            let dhcp = network.dhcp.clone().map(Arc::new);
            for port in &network.ports {
                let tap = tap::name(port.vm, port.mac);
                ports.push(Port { tap, mac: port.mac, served: dhcp.is_some() });
                if let Some(dhcp) = &dhcp {
                    served.ports.insert(port.mac, (network.network, dhcp.clone()));
                }
            }
        }
        ports.sort();
        let links = Links::open()?;
        let bridged = self.ensure_bridge(&links, &ports).await;
        let host = match links.find(&self.settings.bridge).await? {
            Some(bridge) => links.addresses(bridge.index).await?,
            None => vec![],
        };
        // Rules first: a server that answers before it is fenced in might answer the outside.
        self.filter(ports).await;
        self.server.serve(served, host);
        bridged
    }

    fn bridge(&self, _network: NetworkId) -> String {
        self.settings.bridge.clone()
    }

    async fn leases(&self) -> Vec<Lease> {
        self.server.leases()
    }
}
