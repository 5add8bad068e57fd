//! The whole life of a machine, over HTTPS, on a simulated host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Bench, PATIENCE, answer, id};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread")]
async fn image_volume_machine_console_and_back() {
    let bench = Bench::new().await;
    let api = &bench.api;

    // A disk image with boot defaults, a clone of it, a machine that boots by these.
    let kernel = api.image("kernel", "kernel", common::kernel()).await;
    let content = vec![7u8; 2 << 20];
    let body = json!({"name": "debian", "spec": {"kind": "disk", "format": "raw",
        "boot": {"kernel": kernel, "cmdline": "root=/dev/vda console=ttyS0"}}});
    let disk = id(&api.ok(Method::POST, "/images", Some(body)).await);
    let (status, image) =
        answer(api.request(Method::PUT, &format!("/images/{disk}/content")).body(content)).await;
    assert!(status.is_success(), "{image}");
    assert_eq!(image["status"]["virtual_size_bytes"], 2 << 20);
    let body = json!({"name": "root", "spec": {"source": disk, "size_bytes": 8 << 20}});
    let volume = id(&api.ok(Method::POST, "/volumes", Some(body)).await);
    let volume_path = format!("/volumes/{volume}");
    let made = api.until(&volume_path, |v| v["status"]["state"] != "creating").await;
    assert_eq!(made["status"]["state"], "ready", "{made}");
    let network = id(&api.get("/networks").await["items"][0]);
    let body = json!({"name": "web", "labels": {"tier": "front"}, "spec": {
        "vcpus": 2, "memory_bytes": 256 << 20, "disks": [{"volume": volume}], "nics": [{"network": network}]}});
    let vm = api.ok(Method::POST, "/vms", Some(body)).await;
    let (vm, path) = (id(&vm), format!("/vms/{}", id(&vm)));
    let made = api.get(&path).await;
    assert_eq!(made["spec"]["boot"]["kernel"], kernel);
    assert!(made["spec"]["nics"][0]["mac"].as_str().unwrap().starts_with("52:4c:"));
    assert_eq!(api.get(&volume_path).await["status"]["attached_to"], vm);

    // What is in use stays.
    api.refused(409, Method::DELETE, &format!("/images/{kernel}"), None).await;
    api.refused(409, Method::DELETE, &format!("/images/{disk}"), None).await;
    api.refused(409, Method::DELETE, &volume_path, None).await;
    api.refused(409, Method::DELETE, &format!("/networks/{network}"), None).await;

    // Running, and what that forbids.
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let running = api.get(&path).await;
    assert_eq!(running["status"]["state"], "running");
    assert!(running["status"]["pid"].is_u64());
    assert_eq!(running["status"]["addresses"], json!(["192.0.2.100"]));
    api.refused(409, Method::DELETE, &path, None).await;
    api.done(Method::POST, &format!("{volume_path}/grow"), Some(json!({"size_bytes": 12 << 20}))).await;
    api.done(Method::POST, &format!("{path}/start"), None).await;

    // The console: scroll-back, what is typed, what comes.
    let mut console = api.socket(&format!("/vms/{vm}/console")).await;
    read_until(&mut console, "Welcome to web!").await;
    console.send(Message::Binary("hello\r".into())).await.unwrap();
    read_until(&mut console, "echo: hello").await;
    read_until(&mut console, "tick ").await;
    assert!(api.get(&format!("{path}/stats")).await["exits"].is_u64());

    // Every action.
    api.done(Method::POST, &format!("{path}/pause"), None).await;
    assert_eq!(api.get(&path).await["status"]["state"], "paused");
    api.done(Method::POST, &format!("{path}/resume"), None).await;
    api.done(Method::POST, &format!("{path}/reset"), None).await;
    assert_eq!(api.get(&path).await["status"]["state"], "running");
    api.done(Method::POST, &format!("{path}/stop"), None).await;
    let stopped = api.get(&path).await;
    assert_eq!(stopped["status"]["state"], "stopped");
    assert_eq!(stopped["spec"]["power"], "stopped");
    api.refused(409, Method::GET, &format!("{path}/stats"), None).await;
    api.refused(409, Method::POST, &format!("{path}/pause"), None).await;

    // The console waits for the next start.
    api.done(Method::POST, &format!("{path}/start"), None).await;
    read_until(&mut console, "Welcome to web!").await;
    // A guest that does not listen is ended by force.
    console.send(Message::Binary("deaf\r".into())).await.unwrap();
    read_until(&mut console, "deaf\r\n# ").await;
    api.done(Method::POST, &format!("{path}/stop"), Some(json!({"timeout_seconds": 1}))).await;

    // Stopped: it may be grown, changed, taken apart.
    api.done(Method::POST, &format!("{volume_path}/grow"), Some(json!({"size_bytes": 16 << 20}))).await;
    assert_eq!(api.get(&volume_path).await["status"]["size_bytes"], 16 << 20);
    api.refused(422, Method::POST, &format!("{volume_path}/grow"), Some(json!({"size_bytes": 8 << 20})))
        .await;
    api.done(Method::DELETE, &path, None).await;
    api.refused(404, Method::GET, &path, None).await;
    read_end(&mut console).await;
    assert!(api.get(&volume_path).await["status"].get("attached_to").is_none());
    api.done(Method::DELETE, &volume_path, None).await;
    api.ok(Method::DELETE, &format!("/images/{disk}"), None).await;
    api.ok(Method::DELETE, &format!("/images/{kernel}"), None).await;
    api.refused(404, Method::GET, &volume_path, None).await;

    // Everything left its trace.
    let events = api.get(&format!("/events?target=vm/{vm}&limit=1000")).await;
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert!(kinds.iter().any(|k| *k == "vm.started"), "{kinds:?}");
    let audit = api.get(&format!("/audit?target=vm/{vm}&limit=1000")).await;
    let audited = audit["items"].as_array().unwrap();
    assert!(audited.iter().any(|r| r["action"] == "vm.start" && r["outcome"] == "done"), "{audited:?}");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_ends_by_itself() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("a").await;
    let path = format!("/vms/{vm}");
    api.done(Method::POST, &format!("{path}/start"), None).await;
    let mut console = api.socket(&format!("/vms/{vm}/console")).await;
    console.send(Message::Binary("poweroff\r".into())).await.unwrap();
    let off = api.until(&path, |v| v["status"]["state"] == "stopped").await;
    // The guest's own wish is the wish now.
    assert_eq!(off["spec"]["power"], "stopped");

    // A monitor that dies is started again …
    api.done(Method::POST, &format!("{path}/start"), None).await;
    console.send(Message::Binary("crash\r".into())).await.unwrap();
    api.until(&path, |v| v["status"]["state"] == "running" && v["status"]["restarts"] == 1).await;
    // … unless the policy says no; the reason is told.
    let mut spec = api.get(&path).await["spec"].clone();
    spec["restart"] = "never".into();
    api.ok(Method::PATCH, &path, Some(json!({"spec": spec}))).await;
    console.send(Message::Binary("crash\r".into())).await.unwrap();
    let failed = api.until(&path, |v| v["status"]["state"] == "failed").await;
    assert!(failed["status"]["reason"].as_str().unwrap().contains("crashed"), "{failed}");
    // Started by hand it runs again.
    api.done(Method::POST, &format!("{path}/start"), None).await;
    assert_eq!(api.get(&path).await["status"]["state"], "running");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_boot_of_the_host_autostart_decides() {
    let mut bench = Bench::new().await;
    let mut ids = Vec::new();
    for name in ["auto", "manual", "off"] {
        let (vm, _) = bench.api.vm(name).await;
        let path = format!("/vms/{vm}");
        let mut spec = bench.api.get(&path).await["spec"].clone();
        spec["autostart"] = (name != "manual").into();
        bench.api.ok(Method::PATCH, &path, Some(json!({"spec": spec}))).await;
        if name != "off" {
            bench.api.done(Method::POST, &format!("{path}/start"), None).await;
        }
        ids.push(path);
    }
    // Every start of a simulated host is a boot.
    bench.restart().await;
    let api = &bench.api;
    api.until(&ids[0], |v| v["status"]["state"] == "running").await;
    let manual = api.get(&ids[1]).await;
    assert_eq!(
        (&manual["status"]["state"], &manual["spec"]["power"]),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(api.get(&ids[2]).await["status"]["state"], "stopped");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_disabled_types_no_more() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let grants = serde_json::json!([{"role": api.role("vm-user").await, "scope": {"kind": "cluster"}}]);
    let user = api.user("eve", grants.clone()).await;
    let eve = api.logged_in("eve").await;
    let (vm, _) = api.vm("one").await;
    let (off, _) = api.vm("off").await;
    api.done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    let mut console = eve.socket(&format!("/vms/{vm}/console")).await;
    read_until(&mut console, "Welcome to one!").await;
    let mut waiting = eve.socket(&format!("/vms/{off}/console")).await;
    let mut watch = eve.request(Method::GET, "/watch").send().await.unwrap();
    let began = std::time::Instant::now();
    let spec = json!({"spec": {"disabled": true, "grants": grants}});
    api.ok(Method::PATCH, &format!("/users/{user}"), Some(spec)).await;
    for line in [&mut console, &mut waiting] {
        let reason = reason_of_end(line).await;
        assert!(reason.is_some_and(|r| r.starts_with("your session has ended")));
    }
    while watch.chunk().await.unwrap().is_some() {}
    // Well before the next beat.
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_content_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let body = json!({"name": "x", "spec": {"kind": "disk", "format": "qcow2"}});
    let image = id(&api.ok(Method::POST, "/images", Some(body)).await);
    let put = || api.request(Method::PUT, &format!("/images/{image}/content"));
    let (status, problem) = answer(put().body(vec![1u8; 1 << 20])).await;
    assert_eq!(status.as_u16(), 422, "{problem}");
    let found = api.get(&format!("/images/{image}")).await;
    assert_eq!(found["status"]["state"], "pending");
    assert!(found["status"]["reason"].is_string());
    let body = json!({"name": "v", "spec": {"source": image}});
    api.refused(409, Method::POST, "/volumes", Some(body)).await;

    // A checksum that does not fit.
    let body = json!({"name": "y", "spec": {"kind": "initrd", "format": "raw", "sha256": "0".repeat(64)}});
    let sum = id(&api.ok(Method::POST, "/images", Some(body)).await);
    let (status, _) =
        answer(api.request(Method::PUT, &format!("/images/{sum}/content")).body(vec![1u8; 4096])).await;
    assert_eq!(status.as_u16(), 422);
    let pool = bench.dir.path().join("pool");
    let files = |name: &str| std::fs::read_dir(pool.join(name)).map(Iterator::count).unwrap_or_default();
    assert_eq!((files("images"), files("tmp")), (0, 0));
    bench.daemon.unwrap().stop().await;
}

async fn read_until(line: &mut common::Socket, wanted: &str) {
    let mut text = String::new();
    let read = async {
        while !text.contains(wanted) {
            match line.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, read).await;
    assert!(done.is_ok(), "`{wanted}` never came: {text}");
}

async fn read_end(line: &mut common::Socket) {
    assert_eq!(reason_of_end(line).await.as_deref(), Some("the machine was deleted"));
}

async fn reason_of_end(line: &mut common::Socket) -> Option<String> {
    let read = async {
        while let Some(Ok(message)) = line.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|f| f.reason.to_string());
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}
