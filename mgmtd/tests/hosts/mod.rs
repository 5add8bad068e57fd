//! Daemons with simulated hosts, each a process of its own, that become one cluster.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

use crate::common::{self, Api, PASSWORD, PATIENCE};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) process: Option<Child>,
    pub(crate) api: Option<Api>,
}

pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Host {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/admin-password"), PASSWORD).unwrap();
        let mut host = Self { dir, address: free(), peer: free(), process: None, api: None };
        host.start();
        host.log_in().await;
        host
    }

    pub(crate) fn start(&mut self) {
        let process = Command::new(env!("CARGO_BIN_EXE_mgmtd"))
            .args(["--simulated", "--log", "error", "--listen", &self.address.to_string()])
            .args(["--peer-listen", &self.peer.to_string(), "--state"])
            .arg(self.dir.path().join("state"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) async fn log_in(&mut self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if self.dir.path().join("state/tls.crt").exists() {
                let mut api = common::client(self.dir.path(), self.address);
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

    pub(crate) fn api(&self) -> &Api {
        self.api.as_ref().unwrap()
    }

    pub(crate) async fn id(&self) -> String {
        self.api().get("/cluster").await["this_host"].as_str().unwrap().to_owned()
    }

    /// Joins, and waits until it serves as a member.
    pub(crate) async fn join(&mut self, token: &str, members: usize) {
        let me = self.id().await;
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
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
