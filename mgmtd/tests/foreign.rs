//! Nothing is deleted that is merely unknown: hosts that were installed anew over their data keep it, and what was deleted while
//! its host was away goes all the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, hosts::Host, id};
use lq_mgmtd::daemon::Daemon;
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

/// Every file below a directory with its content.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["images", "volumes", "firmware"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{part}/{}", path.file_name().unwrap().to_str().unwrap());
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

async fn local(api: &Api) -> String {
    id(&api.get("/pools?name=local").await["items"][0])
}

fn names(pool: &Value) -> Vec<String> {
    let files = pool["foreign"].as_array().cloned().unwrap_or_default();
    files.iter().map(|f| f["file"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_installed_anew_over_its_data_keeps_every_byte() {
    let mut bench = Bench::new().await;
    let image = bench.api.image("base", "disk", vec![7; 1 << 20]).await;
    let mut volumes = Vec::new();
    for (name, spec) in [
        ("clone", json!({"source": image})),
        ("data", json!({"size_bytes": 4 << 20, "format": "raw"})),
        ("old", json!({"size_bytes": 4 << 20})),
    ] {
        let body = json!({"name": name, "spec": spec});
        let volume = id(&bench.api.ok(Method::POST, "/volumes", Some(body)).await);
        bench.api.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;
        volumes.push(volume);
    }
    let pool = bench.dir.path().join("pool");
    let data = pool.join(format!("volumes/{}.raw", volumes[1]));
    fs::write(&data, vec![42; 4 << 20]).unwrap();
    let vars = format!("firmware/{}.fd", lq_api::VmId::new());
    fs::write(pool.join(&vars), "variables").unwrap();
    let before = content(&pool);
    assert_eq!(before.len(), 5);

    // The state is gone, the data partition is not.
    bench.daemon.take().unwrap().stop().await;
    fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    fs::create_dir_all(bench.dir.path().join("state")).unwrap();
    let _ = fs::remove_file(bench.dir.path().join("run/setup-code"));
    let daemon = Daemon::start(common::config(bench.dir.path())).await.unwrap();
    bench.api = common::client(bench.dir.path(), daemon.addresses()[0]);
    bench.daemon = Some(daemon);
    let code = fs::read_to_string(bench.dir.path().join("run/setup-code")).unwrap();
    let body = json!({"code": code.trim(), "password": common::PASSWORD});
    let session = bench.api.ok(Method::POST, "/setup", Some(body)).await;
    bench.api.token = Some(session["token"].as_str().unwrap().to_owned());
    let local_pool = local(&bench.api).await;
    let events = format!("/events?target=pool/{local_pool}");
    let told = bench.api.until(&events, |e| e.to_string().contains("pool.foreign")).await;
    assert!(told.to_string().contains("lqctl pool show"), "{told}");
    bench.restart().await;
    let api = &bench.api;
    let place = format!("/pools/{local_pool}");
    let shown = api.get(&place).await;
    assert!(content(&pool) == before, "something was touched");
    let mut told = names(&shown);
    told.sort();
    assert_eq!(told, before.keys().cloned().collect::<Vec<_>>());
    let clone = format!("volumes/{}.qcow2", volumes[0]);
    let of_clone = shown["foreign"].as_array().unwrap().iter().find(|f| f["file"] == clone.as_str());
    assert_eq!(of_clone.unwrap()["clone_of"], image.as_str());

    // It is made use of again: the image first, then its clone.
    let adopt = format!("{place}/foreign/adopt");
    let base = format!("images/{image}");
    let early = api.ok(Method::POST, &adopt, Some(json!({"file": clone, "name": "clone"}))).await;
    let early = api.ended(&early).await;
    assert_eq!(early["state"], "failed");
    assert!(early["message"].as_str().unwrap().contains("adopt that first"), "{early}");
    let vague = api.refused(422, Method::POST, &adopt, Some(json!({"file": base, "name": "base"}))).await;
    assert_eq!(vague["errors"][0]["field"], "format");
    let wrong = json!({"file": "images/../state", "name": "base"});
    assert_eq!(api.refused(422, Method::POST, &adopt, Some(wrong)).await["errors"][0]["field"], "file");
    let needed = json!({"file": base});
    let delete = format!("{place}/foreign/delete");
    let refused = api.refused(409, Method::POST, &delete, Some(needed)).await;
    assert!(refused["detail"].as_str().unwrap().contains(&clone), "{refused}");
    api.done(Method::POST, &adopt, Some(json!({"file": base, "name": "base", "format": "raw"}))).await;
    api.done(Method::POST, &adopt, Some(json!({"file": clone, "name": "clone"}))).await;
    let raw = format!("volumes/{}.raw", volumes[1]);
    api.done(Method::POST, &adopt, Some(json!({"file": raw, "name": "data"}))).await;
    let again = json!({"file": raw, "name": "again"});
    api.refused(409, Method::POST, &adopt, Some(again)).await;
    let adopted = api.get(&format!("/volumes/{}", volumes[0])).await;
    assert_eq!((&adopted["spec"]["source"], &adopted["meta"]["name"]), (&json!(image), &json!("clone")));
    assert_eq!(adopted["status"]["size_bytes"], 1 << 20);
    let of = api.get(&format!("/images/{image}")).await;
    assert_eq!((&of["status"]["state"], &of["status"]["size_bytes"]), (&json!("ready"), &json!(1 << 20)));
    assert_eq!(fs::read(&data).unwrap(), vec![42; 4 << 20]);

    // The rest goes when it is named, and only then.
    let old = format!("volumes/{}.qcow2", volumes[2]);
    api.refused(409, Method::POST, &delete, Some(json!({"file": raw}))).await;
    assert!(pool.join(&old).exists());
    api.ok(Method::POST, &delete, Some(json!({"file": old}))).await;
    assert!(!pool.join(&old).exists());
    assert_eq!(names(&api.get(&place).await), [vars]);
    // An adopted object is one like any other.
    api.done(Method::DELETE, &format!("/volumes/{}", volumes[0]), None).await;
    api.ok(Method::DELETE, &format!("/images/{image}"), None).await;
    assert!(!pool.join(&clone).exists() && !pool.join(&base).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_its_host_was_away_still_goes() {
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(Host::new().await);
    }
    // Of the host that will be away.
    let pool = local(hosts[2].api()).await;
    for n in 1..3 {
        let token = hosts[0].api().ok(Method::POST, "/cluster/join-tokens", None).await;
        let token = token["text"].as_str().unwrap().to_owned();
        hosts[n].join(&token, n + 1).await;
    }
    let first = hosts[0].api();
    let dir = hosts[2].dir.path().join("state/pool");
    let spec = json!({"name": "far", "spec": {"kind": "disk", "format": "raw", "pool": pool}});
    let image = id(&first.ok(Method::POST, "/images", Some(spec)).await);
    let upload = first.request(Method::PUT, &format!("/images/{image}/content")).body(vec![1; 1 << 20]);
    let (status, answer) = common::answer(upload).await;
    assert!(status.is_success(), "{answer}");
    let body = json!({"name": "far", "spec": {"size_bytes": 4 << 20, "format": "raw", "pool": pool}});
    let volume = id(&first.ok(Method::POST, "/volumes", Some(body)).await);
    first.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;
    let (of_image, of_volume) =
        (dir.join(format!("images/{image}")), dir.join(format!("volumes/{volume}.raw")));
    // Nobody's: it stays.
    let foreign = dir.join(format!("volumes/{}.raw", lq_api::VolumeId::new()));
    fs::copy(&of_volume, &foreign).unwrap();

    hosts[2].kill();
    let first = hosts[0].api();
    first.ok(Method::DELETE, &format!("/images/{image}"), None).await;
    first.ok(Method::DELETE, &format!("/volumes/{volume}"), None).await;
    assert!(of_image.exists() && of_volume.exists());
    hosts[2].start();
    hosts[2].log_in().await;
    let end = tokio::time::Instant::now() + common::PATIENCE;
    while of_image.exists() || of_volume.exists() {
        assert!(tokio::time::Instant::now() < end, "what was deleted remains");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(foreign.exists());
    let shown = hosts[0].api().get(&format!("/pools/{pool}")).await;
    assert_eq!(names(&shown).len(), 1, "any host tells of it: {shown}");
}
