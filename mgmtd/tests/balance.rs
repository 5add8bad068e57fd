//! Automatic balancing between daemons: a full host is relieved, and what has just been moved is left where it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, hosts::cluster, id, kernel};
use reqwest::Method;
use serde_json::{Value, json};

/// A machine of so many GiB that runs on this host, where it may be asked to stay.
async fn machine(api: &Api, image: &str, host: &str, name: &str, gib: u64, stays: bool) -> String {
    let spec = json!({"vcpus": 1, "memory_bytes": gib << 30, "boot": {"kernel": image}, "power": "running",
        "placement": {"host": host}});
    let vm = api.ok(Method::POST, "/vms", Some(json!({"name": name, "spec": spec}))).await;
    let path = format!("/vms/{}", id(&vm));
    let vm = api.until(&path, |v| v["status"]["state"] == "running").await;
    if !stays {
        let mut spec = vm["spec"].clone();
        spec.as_object_mut().unwrap().remove("placement");
        api.ok(Method::PATCH, &path, Some(json!({"spec": spec}))).await;
        // What its host has not taken in yet could be in the way of a move, which is then not tried again for half an hour.
        api.until(&path, |v| v["status"]["observed_generation"] == v["meta"]["generation"]).await;
    }
    id(&vm)
}

async fn runs_on(api: &Api, vm: &str, host: &str) {
    let there = |v: &Value| {
        v["status"]["host"] == host
            && v["status"]["state"] == "running"
            && v["status"].get("moving_to").is_none()
    };
    api.until(&format!("/vms/{vm}"), there).await;
}

async fn moves_of(api: &Api, vm: &str) -> usize {
    let tasks = api.get(&format!("/tasks?target=vm/{vm}")).await;
    let moves = tasks["items"].as_array().unwrap().iter();
    moves.filter(|t| !t["migration"].is_null()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_is_relieved_and_what_moved_stays_for_a_while() {
    let hosts = cluster(2).await;
    let api = hosts[0].api();
    let [h1, h2] = [hosts[0].id().await, hosts[1].id().await];
    let image = api.image("kernel", "kernel", kernel()).await;
    let web = machine(api, &image, &h1, "web", 12, false).await;
    let db = machine(api, &image, &h1, "db", 12, false).await;

    // Until it is asked for nothing moves, whatever is recommended.
    api.until("/cluster/recommendations", |b| b["items"].as_array().is_some_and(|i| !i.is_empty())).await;
    let balance = |at_once| Some(json!({"mode": "automatic", "at_once": at_once}));
    api.ok(Method::PUT, "/cluster/balance", balance(1)).await;
    let vms =
        api.until("/vms", |v| v["items"].as_array().unwrap().iter().any(|v| v["status"]["host"] == h2)).await;
    let there = vms["items"].as_array().unwrap().iter().find(|v| v["status"]["host"] == h2.as_str()).unwrap();
    let (moved, stayed) = if id(there) == web { (web, db) } else { (db, web) };
    runs_on(api, &moved, &h2).await;

    // The other host is the full one now. What would gain most is to move that machine back; it rests, and another one goes.
    machine(api, &image, &h2, "anchor", 16, true).await;
    let free = machine(api, &image, &h2, "free", 2, false).await;
    api.ok(Method::PUT, "/cluster/balance", balance(2)).await;
    runs_on(api, &free, &h1).await;
    // Who rests knows the one that leads.
    let leader = api.get("/cluster").await["leader"].clone();
    let leads = if leader == h2.as_str() { hosts[1].api() } else { api };
    let status = leads.get("/cluster/recommendations").await;
    let still = status["items"].as_array().unwrap().iter().all(|i| i["vm"] != moved.as_str());
    assert!(still, "a machine that rests is not recommended to move: {status}");
    runs_on(api, &moved, &h2).await;
    runs_on(api, &stayed, &h1).await;
    assert_eq!(
        [moves_of(api, &moved).await, moves_of(api, &stayed).await, moves_of(api, &free).await],
        [1, 0, 1]
    );
}
