//! Real daemons with simulated hosts that become one cluster.

use super::{
    Api, PASSWORD, PATIENCE,
    loopback::{own_port, port_of},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A host of a simulated cluster.
pub struct Host {
    pub dir: tempfile::TempDir,
    address: SocketAddr,
    pub peer: SocketAddr,
    servers: Option<PathBuf>,
    discovery: Option<u16>,
    process: Option<Child>,
    api: Option<Api>,
}

impl Host {
    /// One that does not run yet, with its state below `dir`.
    pub fn stopped(dir: tempfile::TempDir) -> Self {
        Self {
            dir,
            address: own_port(),
            peer: own_port(),
            servers: None,
            discovery: None,
            process: None,
            api: None,
        }
    }

    pub async fn new() -> Self {
        Self::with_servers(None).await
    }

    /// One that reaches the file servers in this directory.
    pub async fn with_servers(servers: Option<PathBuf>) -> Self {
        Self::with(servers, None).await
    }

    /// One that is found, and finds others, by multicast DNS at this port of the loopback.
    pub async fn found_by(port: u16) -> Self {
        Self::with(None, Some(port)).await
    }

    async fn with(servers: Option<PathBuf>, discovery: Option<u16>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/admin-password"), PASSWORD).unwrap();
        let mut host = Self::stopped(dir);
        host.servers = servers;
        host.discovery = discovery;
        if discovery.is_some() {
            // What is found is said to be where it was found, which for all on this machine is this address.
            host.peer = port_of(std::net::Ipv4Addr::LOCALHOST.into());
        }
        host.start();
        host.log_in().await;
        host
    }

    pub fn start(&mut self) {
        let process = Command::new(env!("CARGO_BIN_EXE_mgmtd"))
            .args(["--simulated", "--log", "error", "--listen", &self.address.to_string()])
            .args(["--peer-listen", &self.peer.to_string(), "--state"])
            .arg(self.dir.path().join("state"))
            .args(self.servers.iter().flat_map(|dir| ["--shared".as_ref(), dir.as_os_str()]))
            .args(self.discovery.iter().flat_map(|port| ["--discovery-port".to_owned(), port.to_string()]))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub async fn log_in(&mut self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if self.dir.path().join("state/tls.crt").exists() {
                let mut api = super::client(self.dir.path(), self.address);
                let body = json!({"username": "admin", "password": PASSWORD});
                if let Ok(response) = api.request(Method::POST, "/session").json(&body).send().await
                    && response.status().is_success()
                {
                    let session: Value = response.json().await.unwrap();
                    api.token = Some(session["token"].as_str().unwrap().into());
                    self.api = Some(api);
                    return;
                }
            }
            assert!(tokio::time::Instant::now() < end, "the daemon did not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn api(&self) -> &Api {
        self.api.as_ref().unwrap()
    }

    pub async fn id(&self) -> String {
        self.api().get("/cluster").await["this_host"].as_str().unwrap().to_owned()
    }

    /// Joins, and waits until it serves as a member.
    pub async fn join(&mut self, token: &str, members: usize) {
        let me = self.id().await;
        // The port for the others is opened beside the API.
        self.api().until("/cluster", |c| c["members"][0]["address"].is_string()).await;
        let preview = self.api().ok(Method::POST, "/cluster/join", Some(json!({"token": token}))).await;
        assert_eq!(preview["hosts"].as_array().unwrap().len(), members - 1);
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Its own accounts ended with its own cluster.
            self.log_in().await;
            // It may be just starting again.
            if let Ok(response) = self.api().request(Method::GET, "/cluster").send().await
                && let Ok(cluster) = response.json::<Value>().await
                && cluster["members"].as_array().is_some_and(|m| m.len() == members)
            {
                assert_eq!(cluster["this_host"], me.as_str(), "a host keeps its id");
                return;
            }
            assert!(tokio::time::Instant::now() < end, "it did not become a member");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it serves in this epoch, logged in.
    pub async fn until_epoch(&mut self, epoch: u64) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.log_in().await;
            if let Ok(response) = self.api().request(Method::GET, "/cluster").send().await
                && let Ok(cluster) = response.json::<Value>().await
                && cluster["epoch"] == epoch
            {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "it did not come into the epoch {epoch}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Hosts that are one cluster, each of which reaches a majority.
pub async fn cluster(count: usize) -> Vec<Host> {
    let mut hosts = vec![Host::new().await];
    let made =
        hosts[0].api().ok(Method::POST, "/cluster/join-tokens", Some(json!({"uses": count - 1}))).await;
    let token = made["text"].as_str().unwrap().to_owned();
    for members in 2..=count {
        let mut host = Host::new().await;
        host.join(&token, members).await;
        hosts.push(host);
    }
    for host in &hosts {
        host.api().until("/cluster", |c| c["quorum"] == true).await;
    }
    hosts
}

/// Waits until each of these hosts sees three that vote, and a majority of them.
pub async fn until_three_vote(hosts: &[Host]) {
    let voting = |c: &Value| c["voters"].as_array().unwrap().len() == 3 && c["quorum"] == true;
    for host in hosts {
        host.api().until("/cluster", voting).await;
    }
}

/// The host that leads, once there is one.
pub async fn leading(api: &Api) -> String {
    let led = api.until("/cluster", |c| c["leader"].is_string()).await;
    led["leader"].as_str().unwrap().to_owned()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
