//! What the console of a machine does to its own host: the management network on trial, a new certificate, a support bundle
//! without secrets, the factory reset that is refused without the word.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, PASSWORD, id};
use lq_mgmtd::daemon::Over;
use reqwest::Method;
use serde_json::json;
use std::{io::Write as _, process::Command};

async fn host(api: &Api) -> String {
    format!("/hosts/{}", id(&api.get("/hosts").await["items"][0]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_network_is_tried_and_kept_or_taken_back() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let at = format!("{}/network", host(api).await);
    let wanted = json!({"network": {"address": "192.0.2.7/24", "gateway": "192.0.2.1"}, "seconds": 600});
    let tried = api.ok(Method::PUT, &at, Some(wanted.clone())).await;
    assert_eq!(tried["trial"]["network"]["address"], "192.0.2.7/24");
    assert!(tried["trial"]["seconds_left"].as_u64().unwrap() > 500);
    assert_eq!(tried["kept"]["address"], serde_json::Value::Null);
    api.refused(409, Method::PUT, &at, Some(wanted.clone())).await;
    let test = api.ok(Method::POST, &format!("{at}/test"), None).await;
    assert_eq!((&test["address"], &test["gateway_answers"]), (&json!("192.0.2.7/24"), &json!(true)));
    let back = api.ok(Method::POST, &format!("{at}/revert"), None).await;
    assert!(back.get("trial").is_none() && back["note"].as_str().unwrap().contains("taken back"));
    api.refused(409, Method::POST, &format!("{at}/keep"), None).await;
    api.ok(Method::PUT, &at, Some(wanted)).await;
    let kept = api.ok(Method::POST, &format!("{at}/keep"), None).await;
    assert_eq!(kept["kept"]["gateway"], "192.0.2.1");
    assert!(kept.get("trial").is_none());

    let foreign = json!({"network": {"address": "192.0.2.7/24", "gateway": "10.0.0.1"}});
    let problem = api.refused(422, Method::PUT, &at, Some(foreign)).await;
    assert_eq!(problem["errors"][0]["field"], "network.gateway");
    let unknown = json!({"network": {"interface": "52:54:00:99:99:99"}});
    api.refused(409, Method::PUT, &at, Some(unknown)).await;
    // Who changed it is noted.
    let audit = api.get("/audit?limit=50").await;
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter_map(|r| r["action"].as_str()).collect();
    assert!(actions.contains(&"host.network") && actions.contains(&"host.network.keep"), "{actions:?}");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_takes_the_hosts_name_and_comes_with_the_next_start() {
    let mut bench = Bench::new().await;
    let at = host(&bench.api).await;
    let name = bench.api.get(&at).await["meta"]["name"].as_str().unwrap().to_owned();
    let certificate = format!("{at}/certificate");
    let wrong = Some(json!({"confirm": "another"}));
    bench.api.refused(422, Method::POST, &certificate, wrong.clone()).await;
    bench
        .api
        .refused(
            422,
            Method::POST,
            &format!("{at}/factory-reset"),
            Some(json!({"confirm": "x", "data": true})),
        )
        .await;
    let before = bench.daemon.as_ref().unwrap().fingerprint().to_owned();
    let shown = &bench.api.get(&at).await["status"]["certificate"];
    assert_eq!(
        (&shown["fingerprint"], &shown["not_after"]),
        (&json!(before), &json!("2049-12-31T00:00:00Z"))
    );
    bench.api.ok(Method::POST, &certificate, Some(json!({"confirm": name}))).await;
    let daemon = bench.daemon.take().unwrap();
    assert_eq!(daemon.over().await, Over::Again);
    daemon.stop().await;
    let daemon = lq_mgmtd::daemon::Daemon::start(common::config(bench.dir.path())).await.unwrap();
    assert_ne!(daemon.fingerprint(), before);
    let told = std::fs::read_to_string(bench.dir.path().join("run/fingerprint")).unwrap();
    assert_eq!(told.trim(), daemon.fingerprint());
    // The session goes on, with whoever trusts the new one.
    let token = bench.api.token.clone();
    let again = Api { token, ..common::client(bench.dir.path(), daemon.addresses()[0]) };
    again.get("/session").await;
    assert_eq!(again.get(&at).await["status"]["certificate"]["fingerprint"], daemon.fingerprint());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_has_what_helps_and_no_secret() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (vm, _) = api.vm("seen").await;
    let made = api.ok(Method::POST, "/tokens", Some(json!({"name": "program"}))).await;
    let token = made["secret"].as_str().unwrap().to_owned();
    let join = api.ok(Method::POST, "/cluster/join-tokens", None).await;
    let join = join["text"].as_str().unwrap().to_owned();
    assert!(token.starts_with("lqt_") && join.starts_with("lqj_"));
    // A log that holds what it should not.
    let run = bench.dir.path().join("run");
    let session = api.token.clone().unwrap();
    let key = std::fs::read_to_string(bench.dir.path().join("state/tls.key")).unwrap();
    std::fs::create_dir_all(run.join("log")).unwrap();
    std::fs::create_dir_all(run.join("vms").join(&vm)).unwrap();
    let leaky =
        format!("kept line\nBearer {session}\npassword={PASSWORD}\n{token} {join}\n{key}\nlast line\n");
    std::fs::write(run.join("log/mgmtd.log"), &leaky).unwrap();
    std::fs::write(run.join("vms").join(&vm).join("vmm.log"), "the monitor began\n").unwrap();

    let answer =
        api.request(Method::GET, &format!("{}/support-bundle", host(api).await)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/gzip");
    let packed = answer.bytes().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.tar.gz");
    std::fs::File::create(&path).unwrap().write_all(&packed).unwrap();
    let listed = Command::new("tar").arg("-xvzf").arg(&path).arg("-C").arg(dir.path()).output().unwrap();
    assert!(listed.status.success());
    let names = String::from_utf8(listed.stdout).unwrap();
    let mut all = String::new();
    for name in names.lines() {
        all += &String::from_utf8_lossy(&std::fs::read(dir.path().join(name)).unwrap());
    }
    for wanted in ["kept line", "last line", "the monitor began", "\"seen\"", "host.started"] {
        assert!(all.contains(wanted), "{wanted} is missing");
    }
    assert!(
        names.contains("log/mgmtd.log") && names.contains("proc/meminfo") && names.contains("events.json")
    );
    let body_of_key = key.lines().nth(1).unwrap();
    let secrets = [PASSWORD, &token, &join, &session, body_of_key, "PRIVATE KEY", "$argon2"];
    for secret in secrets {
        assert!(!all.contains(secret), "{secret} is in the bundle");
    }
    // People write what they like into the command lines of their guests.
    let vms: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("cluster/vms.json")).unwrap()).unwrap();
    assert_eq!(vms[0]["spec"]["boot"]["cmdline"], "[left out]");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_is_written_to_a_drive_that_is_there_and_fit() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let at = host(api).await;
    let found = api.get(&format!("{at}/removable")).await;
    let drives: Vec<_> = found["drives"].as_array().unwrap().iter().map(|d| d["device"].clone()).collect();
    assert_eq!(drives, [json!("sdy1"), json!("sdz1")]);
    let bundle = format!("{at}/support-bundle");
    let to = |device: &str| Some(json!({"device": device}));
    let written = api.ok(Method::POST, &bundle, to("sdz1")).await;
    let file = written["file"].as_str().unwrap();
    assert!(file.starts_with("limiquantix-") && file.ends_with(".tar.gz"), "{file}");
    assert!(written["size_bytes"].as_u64().unwrap() > 0);
    let problem = api.refused(422, Method::POST, &bundle, to("sda")).await;
    assert_eq!(problem["errors"][0]["field"], "device");
    assert!(problem["errors"][0].to_string().contains("there are sdy1, sdz1"), "{problem}");
    let problem = api.refused(409, Method::POST, &bundle, to("sdy1")).await;
    assert!(problem["detail"].as_str().unwrap().contains("write-protected"), "{problem}");
    let audit = api.get("/audit?limit=50").await;
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter_map(|r| r["action"].as_str()).collect();
    assert!(actions.contains(&"host.support-bundle"), "{actions:?}");
    bench.daemon.unwrap().stop().await;
}
