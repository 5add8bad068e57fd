//! A running host under test: the machine, and the client of its API.

use crate::{
    fault::Fault,
    qemu::{Machine, Running},
    scale,
};
use anyhow::{Context as _, Result, bail};
use lq_api::{
    client::{Client, Pin, Wait},
    host::HostStatus,
};
use std::{sync::Once, time::Instant};

/// Seconds from power on until the API is ready, on an idle emulated machine, several times over.
const READY_SECONDS: u64 = 240;

/// A running host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its machine.
    pub(crate) machine: Running,
    /// Client of its API.
    pub(crate) api: Client,
    /// Seconds from power on until `/ready`.
    pub(crate) ready_after: f64,
}

/// One provider of cryptography for the whole process, chosen first thing.
fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

impl Host {
    /// Starts the machine and waits until the host serves requests.
    pub(crate) async fn boot(machine: Machine) -> Result<Self> {
        let start = Instant::now();
        let machine = machine.start().await?;
        let api = client(&machine)?;
        let mut host = Self { machine, api, ready_after: 0.0 };
        host.wait_ready().await?;
        host.ready_after = start.elapsed().as_secs_f64();
        Ok(host)
    }

    /// Waits until `/ready` says so; the end of the machine and a kernel panic end the wait.
    pub(crate) async fn wait_ready(&self) -> Result<()> {
        let serial = self.machine.serial.clone();
        let limit = scale::seconds(READY_SECONDS);
        let wait = Wait { limit, ..Wait::seconds(READY_SECONDS) };
        tokio::select! {
            ready = self.api.wait_ready(wait) => ready.map_err(explain).with_context(|| {
                format!("the host did not become ready; its serial line ends with:\n{}", serial.tail(40))
            }),
            () = serial.watch(&["Kernel panic"]) => {
                bail!("the host died while it was waited for:\n{}", serial.tail(40))
            }
        }
    }

    /// Logs in as `admin`.
    pub(crate) async fn login(&self, password: &str) -> Result<()> {
        self.api.login("admin", password, None).await.map(drop).map_err(explain).context("logging in")
    }

    /// What the host says of itself.
    pub(crate) async fn status(&self) -> Result<HostStatus> {
        let hosts = self.api.hosts().await.map_err(explain)?;
        let [host] = hosts.as_slice() else { bail!("the host lists {} hosts", hosts.len()) };
        host.status.clone().context("the host does not tell its own status")
    }

    /// The fault agent of this host.
    pub(crate) async fn fault(&self) -> Result<Fault> {
        Fault::connect(self.machine.port(crate::fault::PORT)?).await
    }
}

/// A client of a machine's API that pins the first certificate it sees.
pub(crate) fn client(machine: &Running) -> Result<Client> {
    client_at(machine.port(443)?)
}

/// The same at a port of this computer.
pub(crate) fn client_at(port: u16) -> Result<Client> {
    provider();
    let url = format!("https://127.0.0.1:{port}");
    Client::new(&url, Pin::first_seen()).map_err(explain)
}

/// The client's errors with their whole chain of causes, once.
pub(crate) fn explain(error: lq_api::client::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.chain())
}
