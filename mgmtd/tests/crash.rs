//! The real program, killed while it writes: every acknowledged change is there afterwards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, PASSWORD, PATIENCE};
use reqwest::Method;
use serde_json::json;
use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

fn spawn(dir: &Path, address: SocketAddr) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mgmtd"))
        .args(["--simulated", "--listen", &address.to_string(), "--log", "error", "--state"])
        .arg(dir.join("state"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn log_in(dir: &Path, address: SocketAddr) -> Api {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if dir.join("state/tls.crt").exists() {
            let mut api = common::client(dir, address);
            let body = json!({"username": "admin", "password": PASSWORD});
            if let Ok(response) = api.request(Method::POST, "/session").json(&body).send().await
                && response.status().is_success()
            {
                let session: serde_json::Value = response.json().await.unwrap();
                api.token = Some(session["token"].as_str().unwrap().into());
                return api;
            }
        }
        assert!(tokio::time::Instant::now() < end, "the daemon did not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_writing_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let address = common::loopback::own_port();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/admin-password"), PASSWORD).unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..5 {
        let mut daemon = spawn(dir.path(), address);
        let api = log_in(dir.path(), address).await;
        let names = |items: &serde_json::Value| -> Vec<String> {
            let items = items["items"].as_array().unwrap();
            items.iter().map(|i| i["meta"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let found = names(&api.get("/networks?limit=1000").await);
        let lost: Vec<_> = acknowledged.iter().filter(|name| !found.contains(name)).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");

        // Several clients write until the daemon is gone.
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let api = api.clone();
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    for n in 0.. {
                        let name = format!("n{round}-{writer}-{n}");
                        let body = json!({"name": name, "spec": {"kind": "bridged"}});
                        let sent = api.request(Method::POST, "/networks").json(&body).send().await;
                        match sent {
                            Ok(response) if response.status() == 201 => done.push(name),
                            _ => return done,
                        }
                    }
                    done
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 130 * round)).await;
        // SIGKILL.
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
    }
    assert!(acknowledged.len() > 20, "only {} writes were acknowledged", acknowledged.len());

    // And an orderly end: SIGTERM, status 0.
    let mut daemon = spawn(dir.path(), address);
    let api = log_in(dir.path(), address).await;
    assert_eq!(api.get("/cluster").await["voters"].as_array().unwrap().len(), 1);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || daemon.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_ends_the_start_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("raft.redb"), vec![0x33; 1 << 16]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mgmtd"))
        .args(["--simulated", "--listen", "127.0.0.1:0", "--state"])
        .arg(&state)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("raft.redb is damaged"), "{text}");
    assert_eq!(std::fs::read(state.join("raft.redb")).unwrap(), vec![0x33; 1 << 16]);
}
