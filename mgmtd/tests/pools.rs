//! Shared pools through the API: one host with a server that goes and comes back, and a cluster whose hosts use one directory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, hosts::Host, id};
use reqwest::Method;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const EXPORT: &str = "nas/srv_vm";

fn shared(name: &str) -> Value {
    json!({"name": name, "spec": {"driver": "nfs", "server": "nas", "export": "/srv/vm"}})
}

/// States of the hosts of a pool, in the order of their ids.
fn states(pool: &Value) -> Vec<String> {
    let hosts = pool["hosts"].as_array().cloned().unwrap_or_default();
    hosts.iter().map(|h| h["state"].as_str().unwrap().to_owned()).collect()
}

fn all_ready(pool: &Value, hosts: usize) -> bool {
    let states = states(pool);
    states.len() == hosts && states.iter().all(|s| s == "ready")
}

async fn pool(api: &Api, hosts: usize) -> String {
    let pool = id(&api.ok(Method::POST, "/pools", Some(shared("shared"))).await);
    api.until(&format!("/pools/{pool}"), |p| all_ready(p, hosts)).await;
    pool
}

async fn volume(api: &Api, name: &str, pool: &str) -> String {
    let body = json!({"name": name, "spec": {"size_bytes": 4 << 20, "format": "raw", "pool": pool}});
    let volume = id(&api.ok(Method::POST, "/volumes", Some(body)).await);
    api.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;
    volume
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_made_used_and_deleted() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let bad = json!({"name": "x", "spec": {"driver": "nfs", "server": "a b", "export": "srv"}});
    let refused = api.refused(422, Method::POST, "/pools", Some(bad)).await;
    let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
    assert_eq!(fields, ["spec.server", "spec.export"]);
    let pool = pool(api, 1).await;
    let again = api.refused(409, Method::POST, "/pools", Some(shared("again"))).await;
    assert!(again["detail"].as_str().unwrap().contains("`shared`"), "{again}");
    let server = bench.dir.path().join("servers").join(EXPORT);
    assert!(server.join("limiquantix-pool.json").exists());
    let shown = api.get(&format!("/pools/{pool}")).await;
    assert!(shown["status"]["capacity_bytes"].as_u64().unwrap() > 0, "{shown}");

    let volume = volume(api, "v", &pool).await;
    let file = server.join("volumes").join(format!("{volume}.raw"));
    assert_eq!(fs::metadata(&file).unwrap().len(), 4 << 20);
    api.done(Method::POST, &format!("/volumes/{volume}/grow"), Some(json!({"size_bytes": 8 << 20}))).await;
    assert_eq!(fs::metadata(&file).unwrap().len(), 8 << 20);
    let full = api.refused(409, Method::DELETE, &format!("/pools/{pool}"), None).await;
    assert!(full["detail"].as_str().unwrap().contains("the volume `v`"), "{full}");
    let local = id(&api.get("/pools?name=local").await["items"][0]);
    let own = api.refused(409, Method::DELETE, &format!("/pools/{local}"), None).await;
    assert!(own["detail"].as_str().unwrap().contains("own directory"), "{own}");

    let name = json!({"name": "renamed", "labels": {"tier": "gold"}});
    let renamed = api.ok(Method::PATCH, &format!("/pools/{pool}"), Some(name)).await;
    assert_eq!(
        (&renamed["meta"]["name"], &renamed["meta"]["labels"]["tier"]),
        (&json!("renamed"), &json!("gold"))
    );
    api.done(Method::DELETE, &format!("/volumes/{volume}"), None).await;
    assert!(!file.exists());
    api.done(Method::DELETE, &format!("/pools/{pool}"), None).await;
    assert!(!server.join("limiquantix-pool.json").exists());
    // The directory is free for another.
    self::pool(api, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_or_silent_is_told_and_heals() {
    let mut bench = Bench::new().await;
    let server = bench.dir.path().join("servers").join(EXPORT);
    let mark = |end: &str| Path::new(&format!("{}{end}", server.display())).to_owned();
    fs::create_dir_all(server.parent().unwrap()).unwrap();
    fs::write(mark(".away"), "").unwrap();
    let pool = id(&bench.api.ok(Method::POST, "/pools", Some(shared("shared"))).await);
    let place = format!("/pools/{pool}");
    let away = bench.api.until(&place, |p| states(p) == ["unreachable"]).await;
    let host = &away["hosts"][0];
    assert!(host["reason"].as_str().unwrap().contains("does not answer"), "{host}");
    assert!(host["since"].is_string());
    // What is asked of it waits.
    let body = json!({"name": "v", "spec": {"size_bytes": 4 << 20, "pool": pool}});
    let volume = id(&bench.api.ok(Method::POST, "/volumes", Some(body)).await);
    let spec = json!({"vcpus": 1, "memory_bytes": 512 << 20, "disks": [{"volume": volume}]});
    let decision = bench.api.ok(Method::POST, "/placement", Some(json!({"spec": spec}))).await;
    let reasons = decision["hosts"][0]["reasons"].to_string();
    assert!(decision["host"].is_null() && reasons.contains("which is unreachable there"), "{decision}");
    fs::remove_file(mark(".away")).unwrap();
    bench.api.until(&place, |p| states(p) == ["ready"]).await;
    bench.api.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;

    // A machine of it keeps what its firmware remembers there, so that another host could go on with it.
    let made = bench.api.ok(Method::POST, "/vms", Some(json!({"name": "m", "spec": spec}))).await;
    bench.api.done(Method::POST, &format!("/vms/{}/start", id(&made)), None).await;

    // Silence: nobody waits for it, and the daemon goes on, also over a restart.
    fs::write(mark(".silent"), "").unwrap();
    bench.api.until(&place, |p| states(p) == ["unreachable"]).await;
    let asked = std::time::Instant::now();
    bench.api.get("/pools").await;
    bench.api.get("/vms").await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.api.get(&format!("/vms/{}", id(&made))).await["status"]["state"], "running");
    bench.restart().await;
    let api = &bench.api;
    api.until(&place, |p| states(p) != ["ready"]).await;
    fs::remove_file(mark(".silent")).unwrap();
    api.until(&place, |p| states(p) == ["ready"]).await;

    // Another directory in its place is not taken for it.
    fs::remove_file(server.join("limiquantix-pool.json")).unwrap();
    let lost = api.until(&place, |p| states(p) == ["unreachable"]).await;
    assert!(lost["hosts"][0]["reason"].as_str().unwrap().contains("not the directory"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_a_pool_and_the_work_of_a_lost_one_is_taken_over() {
    let servers = tempfile::tempdir().unwrap();
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(Host::with_servers(Some(servers.path().to_owned())).await);
    }
    for n in 1..3 {
        let token = hosts[0].api().ok(Method::POST, "/cluster/join-tokens", None).await;
        let token = token["text"].as_str().unwrap().to_owned();
        hosts[n].join(&token, n + 1).await;
    }
    let first = hosts[0].api();
    let pool = pool(first, 3).await;
    let place = format!("/pools/{pool}");
    // An image is stored once, and every host boots it from there.
    let spec = json!({"name": "k", "spec": {"kind": "kernel", "format": "raw", "pool": pool}});
    let image = id(&first.ok(Method::POST, "/images", Some(spec)).await);
    let upload =
        hosts[2].api().request(Method::PUT, &format!("/images/{image}/content")).body(common::kernel());
    let (status, answer) = common::answer(upload).await;
    assert!(status.is_success(), "{answer}");
    for host in &hosts {
        let me = host.id().await;
        let name = format!("vm-{me}");
        let disk = volume(host.api(), &format!("{name}-disk"), &pool).await;
        let spec = json!({"vcpus": 1, "memory_bytes": 128 << 20, "boot": {"kernel": image},
            "disks": [{"volume": disk}], "placement": {"host": me}});
        let vm = host.api().ok(Method::POST, "/vms", Some(json!({"name": name, "spec": spec}))).await;
        host.api().done(Method::POST, &format!("/vms/{}/start", id(&vm)), None).await;
        let own = host.dir.path().join("state/pool/images").join(&image);
        assert!(!own.exists(), "it is not copied to each host");
    }
    // The host whose task new volumes are dies: another takes it over.
    let maker = states_of_makers(first, &place).await;
    let mut ids = Vec::new();
    for host in &hosts {
        ids.push(host.id().await);
    }
    let dead = ids.iter().position(|h| *h == maker).unwrap();
    hosts[dead].kill();
    let survivor = hosts[(dead + 1) % 3].api();
    let lost = |p: &Value| {
        let hosts = p["hosts"].as_array().unwrap();
        hosts.iter().any(|h| h["host"] == maker.as_str() && h["state"] == "unreachable")
    };
    let told = survivor.until(&place, lost).await;
    assert!(told.to_string().contains("the host does not answer"), "{told}");
    let after = volume(survivor, "after", &pool).await;
    let file = servers.path().join(EXPORT).join("volumes").join(format!("{after}.raw"));
    assert!(file.exists());
    // Back again it says so, and removes nothing of what was made meanwhile.
    hosts[dead].start();
    hosts[dead].log_in().await;
    hosts[dead].api().until(&place, |p| all_ready(p, 3)).await;
    hosts[dead].api().until(&format!("/volumes/{after}"), |v| v["status"]["state"] == "ready").await;
    assert!(file.exists());
}

/// The ready host with the lowest id.
async fn states_of_makers(api: &Api, place: &str) -> String {
    let pool = api.get(place).await;
    let mut hosts: Vec<String> =
        pool["hosts"].as_array().unwrap().iter().map(|h| h["host"].as_str().unwrap().to_owned()).collect();
    hosts.sort();
    hosts[0].clone()
}
