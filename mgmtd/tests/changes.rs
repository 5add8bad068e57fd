//! Machines are changed while they run, over HTTPS, on a simulated host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, id};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn volume(api: &Api, name: &str) -> String {
    let body = json!({"name": name, "spec": {"size_bytes": 4 << 20}});
    let volume = id(&api.ok(Method::POST, "/volumes", Some(body)).await);
    api.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;
    volume
}

/// Changes the machine's specification; the machine once its host knows of it.
async fn change(api: &Api, path: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = api.get(path).await["spec"].clone();
    change(&mut spec);
    let changed = api.ok(Method::PATCH, path, Some(json!({"spec": spec}))).await;
    let generation = changed["meta"]["generation"].clone();
    api.until(path, |v| v["status"]["observed_generation"].as_u64() >= generation.as_u64()).await
}

fn settled(vm: &Value) -> bool {
    vm["status"].get("pending").is_none()
}

/// Types into the machine's console.
async fn say(api: &Api, vm: &str, line: &str) {
    let mut console = api.socket(&format!("/vms/{vm}/console")).await;
    console.send(Message::Binary(format!("{line}\r").into())).await.unwrap();
    // It echoes what was typed, and prompts once it has done it.
    let mut heard = String::new();
    let echo = format!("{line}\r\n");
    while !heard.split_once(&echo).is_some_and(|(_, after)| after.contains("# ")) {
        if let Some(Ok(Message::Binary(bytes))) = console.next().await {
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_interfaces_and_limits_change_while_it_runs() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("web").await;
    let path = format!("/vms/{vm}");
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let disk = volume(api, "data").await;
    let network = id(&api.get("/networks").await["items"][0]);
    let pid = api.get(&path).await["status"]["pid"].clone();

    change(api, &path, |spec| {
        spec["disks"].as_array_mut().unwrap().push(json!({"volume": disk}));
        spec["nics"].as_array_mut().unwrap().push(json!({"network": network, "connected": false}));
    })
    .await;
    api.until(&path, settled).await;
    let stats = api.get(&format!("{path}/stats")).await;
    let with = (stats["disks"].as_array().unwrap().len(), stats["nics"].as_array().unwrap().len());
    change(api, &path, |spec| {
        spec["nics"].as_array_mut().unwrap().last_mut().unwrap()["connected"] = true.into();
        spec["disks"].as_array_mut().unwrap().last_mut().unwrap()["limits"] =
            json!({"operations": {"per_second": 9}});
    })
    .await;
    api.until(&path, settled).await;

    // What only a start can change is said to wait for it.
    let waiting = change(api, &path, |spec| spec["vcpus"] = 4.into()).await;
    let pending = &waiting["status"]["pending"];
    assert_eq!((&pending[0]["field"], &pending[0]["waits_for"]), (&json!("spec.vcpus"), &json!("start")));

    let grown = json!({"size_bytes": 8 << 20});
    api.done(Method::POST, &format!("/volumes/{disk}/grow"), Some(grown)).await;
    change(api, &path, |spec| {
        spec["disks"].as_array_mut().unwrap().pop();
        spec["nics"].as_array_mut().unwrap().pop();
        spec["vcpus"] = 1.into();
    })
    .await;
    api.until(&path, settled).await;
    let stats = api.get(&format!("{path}/stats")).await;
    let without = (stats["disks"].as_array().unwrap().len(), stats["nics"].as_array().unwrap().len());
    assert_eq!((without.0 + 1, without.1 + 1), with);
    let free = api.until(&format!("/volumes/{disk}"), |v| v["status"].get("attached_to").is_none()).await;
    assert_eq!(free["status"]["size_bytes"], 8 << 20);
    assert_eq!(api.get(&path).await["status"]["pid"], pid, "it was never restarted");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_changes_while_it_runs_as_far_as_its_guest_goes_along() {
    const MIB: u64 = 1 << 20;
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("web").await;
    let path = format!("/vms/{vm}");
    change(api, &path, |spec| {
        spec["memory_max_bytes"] = (512 * MIB).into();
        spec["vcpus_max"] = 4.into();
    })
    .await;
    api.done(Method::POST, &format!("{path}/start"), None).await;
    api.until(&path, |v| v["status"]["memory_bytes"] == 128 * MIB).await;
    let grown = change(api, &path, |spec| {
        spec["memory_bytes"] = (384 * MIB).into();
        spec["vcpus"] = 2.into();
    })
    .await;
    let started = grown["status"]["started_at"].clone();
    api.until(&path, |v| v["status"]["memory_bytes"] == 384 * MIB && settled(v)).await;
    say(api, &vm, "cling").await;
    change(api, &path, |spec| spec["memory_bytes"] = (256 * MIB).into()).await;
    let waits = api.until(&path, |v| v["status"]["pending"][0]["waits_for"] == "guest").await;
    assert_eq!(waits["status"]["memory_bytes"], 384 * MIB);
    change(api, &path, |spec| spec["vcpus"] = 1.into()).await;
    let waits = api.until(&path, |v| v["status"]["pending"].as_array().is_some_and(|p| p.len() == 2)).await;
    assert_eq!(waits["status"]["pending"][0]["field"], "spec.vcpus");
    say(api, &vm, "release").await;
    let shrunk = api.until(&path, |v| v["status"]["memory_bytes"] == 256 * MIB && settled(v)).await;
    assert_eq!(shrunk["status"]["started_at"], started, "it was never restarted");
    change(api, &path, |spec| spec["memory_max_bytes"] = (1024 * MIB).into()).await;
    let waits = api.until(&path, |v| !settled(v)).await;
    assert_eq!(waits["status"]["pending"][0]["field"], "spec.memory_max_bytes");

    let mut spec = api.get(&path).await["spec"].clone();
    (spec["memory_bytes"], spec["memory_max_bytes"]) = ((192 * MIB).into(), (100 * MIB).into());
    let faults = api.refused(422, Method::PATCH, &path, Some(json!({"spec": spec}))).await;
    let fields: Vec<_> = faults["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
    assert_eq!(fields, ["spec.memory_bytes", "spec.memory_max_bytes", "spec.memory_max_bytes"]);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_disk_a_guest_clings_to() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("web").await;
    let (other, _) = api.vm("other").await;
    let (path, other) = (format!("/vms/{vm}"), format!("/vms/{other}"));
    let disk = volume(api, "data").await;
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let push = |spec: &mut Value| spec["disks"].as_array_mut().unwrap().push(json!({"volume": disk}));
    change(api, &path, push).await;
    api.until(&path, settled).await;
    say(api, &vm, "cling").await;
    change(api, &path, |spec| drop(spec["disks"].as_array_mut().unwrap().pop())).await;
    let waits = api.until(&path, |v| v["status"]["pending"][0]["waits_for"] == "guest").await;
    assert_eq!(waits["status"]["pending"][0]["device"], disk, "{waits}");

    let volume_path = format!("/volumes/{disk}");
    let mut spec = api.get(&other).await["spec"].clone();
    push(&mut spec);
    let taken = Some(json!({"spec": spec}));
    let why = api.refused(409, Method::PATCH, &other, taken.clone()).await.to_string();
    assert!(why.contains("has not released the volume `data` yet"), "{why}");
    api.refused(409, Method::DELETE, &volume_path, None).await;
    api.refused(409, Method::POST, &format!("{volume_path}/grow"), Some(json!({"size_bytes": 8 << 20})))
        .await;

    say(api, &vm, "release").await;
    api.until(&volume_path, |v| v["status"].get("attached_to").is_none()).await;
    api.until(&path, settled).await;
    api.ok(Method::PATCH, &other, taken).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_ejects_is_out_and_what_befalls_it_is_told() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let mut content = vec![0; 64 << 10];
    content[0x8001..0x8006].copy_from_slice(b"CD001");
    let iso = api.image("cd", "iso", content).await;
    let (vm, _) = api.vm("web").await;
    let path = format!("/vms/{vm}");
    change(api, &path, |spec| spec["cdroms"] = json!([{}])).await;
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let insert = |spec: &mut Value| spec["cdroms"] = json!([{ "image": iso }]);
    change(api, &path, insert).await;
    api.until(&path, settled).await;
    say(api, &vm, "eject").await;
    api.until(&path, |v| v["spec"]["cdroms"] == json!([{}])).await;
    change(api, &path, insert).await;
    let inserted = api.until(&path, settled).await;
    assert_eq!(inserted["spec"]["cdroms"][0]["image"], iso, "it was put in again, and stays");

    say(api, &vm, "panic").await;
    say(api, &vm, "starve").await;
    let events = format!("/events?target=vm/{vm}&limit=1000");
    let told =
        |events: &Value, kind: &str| events["items"].as_array().unwrap().iter().any(|e| e["kind"] == kind);
    api.until(&events, |e| ["vm.ejected", "vm.panicked", "vm.watchdog"].iter().all(|k| told(e, k))).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_restarted_and_one_that_is_deaf_goes_on() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("web").await;
    let (path, restart) = (format!("/vms/{vm}"), format!("/vms/{vm}/restart"));
    let refused = api.refused(409, Method::POST, &restart, None).await;
    assert!(refused["detail"].as_str().unwrap().contains("does not run"), "{refused}");
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let wrong = Some(json!({"timeout_seconds": 0}));
    assert_eq!(
        api.refused(422, Method::POST, &restart, wrong).await["errors"][0]["field"],
        "timeout_seconds"
    );
    let before = api.get(&path).await;
    api.done(Method::POST, &restart, None).await;
    let after = api.get(&path).await;
    assert_eq!((&after["status"]["state"], &after["spec"]["power"]), (&json!("running"), &json!("running")));
    assert_ne!(after["status"]["started_at"], before["status"]["started_at"]);

    say(api, &vm, "deaf").await;
    let task = api.ok(Method::POST, &restart, Some(json!({"timeout_seconds": 1}))).await;
    let ended = api.ended(&task).await;
    assert_eq!(ended["state"], "failed");
    assert!(ended["message"].as_str().unwrap().contains("goes on running"), "{ended}");
    let same = api.get(&path).await;
    assert_eq!(same["status"]["state"], "running");
    assert_eq!(same["status"]["started_at"], after["status"]["started_at"]);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_keeps_its_name_in_tasks_and_events() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let data = volume(api, "data").await;
    api.done(Method::DELETE, &format!("/volumes/{data}"), None).await;
    let tasks = api.get(&format!("/tasks?target=volume/{data}")).await;
    assert_eq!(tasks["items"][0]["kind"], "volume.delete");
    let about = format!("/events?target=volume/{data}");
    let events = api.until(&about, |e| e.to_string().contains("volume.deleted")).await;
    for one in tasks["items"].as_array().unwrap().iter().chain(events["items"].as_array().unwrap()) {
        assert_eq!(one["target_name"], "data", "{one}");
    }
    bench.daemon.unwrap().stop().await;
}
