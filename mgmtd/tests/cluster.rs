//! Three real daemons on one computer become one system: joined by tokens with a machine that runs, asked through each other,
//! killed, brought back, removed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;
mod hosts;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{Api, id, kernel};
use hosts::{Host, free};
use lq_mgmtd::auth::Caller;
use reqwest::Method;
use serde_json::{Value, json};

async fn make_network(api: &Api, name: &str) -> reqwest::StatusCode {
    let body = json!({"name": name, "spec": {"kind": "bridged"}});
    api.call(Method::POST, "/networks", Some(body)).await.0
}

fn leader(cluster: &Value) -> &str {
    cluster["leader"].as_str().unwrap_or_default()
}

/// The words hosts say to each other count for nothing from anyone else.
async fn nobody_is_believed_to_be_a_host(host: &Host, vm: &str) {
    let root = Caller::local();
    let told = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&root).unwrap());
    let mut stranger = host.api().clone();
    stranger.token = None;
    let place = format!("/vms/{vm}");
    let asked = stranger.request(Method::GET, &place).header("x-lq-caller", &told);
    assert_eq!(common::answer(asked).await.0, 401);
    // Nor at the port of the hosts, without a certificate of one.
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    for path in [format!("/api/v1{place}"), "/host/status".into(), "/cluster/book".into()] {
        let asked =
            client.post(format!("https://{}{path}", host.peer)).header("x-lq-caller", &told).send().await;
        let status = asked.map(|answer| answer.status().as_u16());
        assert!(status.is_err() || matches!(status, Ok(401)), "{path}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_daemons_become_one_system_and_outlive_one_of_them() {
    let mut hosts = [Host::new().await, Host::new().await, Host::new().await];

    // The second has a machine that runs.
    let (vm, _) = hosts[1].api().vm("web").await;
    hosts[1].api().done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    let made = hosts[0].api().ok(Method::POST, "/cluster/join-tokens", Some(json!({"uses": 2}))).await;
    let token = made["text"].as_str().unwrap().to_owned();
    let listed = hosts[0].api().get("/cluster/join-tokens").await;
    assert!(!listed.to_string().contains(&token), "the text is shown once");
    let preview =
        hosts[1].api().ok(Method::POST, "/cluster/join/preview", Some(json!({"token": token}))).await;
    assert_eq!(preview["machines"], json!(["web"]));
    hosts[1].join(&token, 2).await;
    hosts[2].join(&token, 3).await;
    let third = hosts[2].api();
    third.refused(409, Method::POST, "/cluster/join", Some(json!({"token": token}))).await;
    for host in &hosts {
        let voting = |c: &Value| c["voters"].as_array().unwrap().len() == 3 && c["quorum"] == true;
        host.api().until("/cluster", voting).await;
    }

    // Any host shows and moves what another one holds.
    let (first, second, third) = (hosts[0].api(), hosts[1].api(), hosts[2].api());
    let [h1, h2, h3] = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];
    for host in [first, second, third] {
        host.until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
        let stats = host.get(&format!("/vms/{vm}/stats")).await;
        assert!(stats.is_object(), "{stats}");
        let all = host.get("/hosts").await;
        assert_eq!(all["items"].as_array().unwrap().len(), 3);
        for item in all["items"].as_array().unwrap() {
            assert_eq!(item["status"]["simulated"], true, "{item}");
        }
        for pool in host.get("/pools").await["items"].as_array().unwrap() {
            assert!(pool["status"]["free_bytes"].as_u64().unwrap() > 0, "{pool}");
        }
    }
    nobody_is_believed_to_be_a_host(&hosts[0], &vm).await;
    // Who one is, and what one may do, is the same on every host.
    let grant =
        json!([{"role": first.role("vm-user").await, "scope": {"kind": "object", "object": "vm", "id": vm}}]);
    first.user("eve", grant).await;
    first.user("nobody", json!([])).await;
    let (eve, nobody) = (third.logged_in("eve").await, third.logged_in("nobody").await);
    for host in [first, second, third] {
        let as_eve = Api { token: eve.token.clone(), ..host.clone() };
        assert!(as_eve.get(&format!("/vms/{vm}/stats")).await.is_object());
        as_eve.refused(403, Method::GET, &format!("/hosts/{h2}"), None).await;
        let as_nobody = Api { token: nobody.token.clone(), ..host.clone() };
        as_nobody.refused(403, Method::GET, &format!("/vms/{vm}/stats"), None).await;
    }
    // A task made on one host is seen on another.
    let task = third.ok(Method::POST, &format!("/vms/{vm}/stop"), Some(json!({"force": true}))).await;
    first.ended(&task).await;
    first.done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    // Content is taken by whoever is asked, and ends where it belongs.
    let pools = first.get("/pools").await;
    let pool_of = |host: &str| -> String {
        let pools = pools["items"].as_array().unwrap();
        id(pools.iter().find(|p| p["spec"]["host"] == host).unwrap())
    };
    let image = json!({"name": "k2", "spec": {"kind": "kernel", "format": "raw", "pool": pool_of(&h2)}});
    let image = id(&first.ok(Method::POST, "/images", Some(image)).await);
    let content = format!("/images/{image}/content");
    let upload = first.request(Method::PUT, &content).body(kernel());
    let (status, answer) = common::answer(upload).await;
    assert!(status.is_success(), "{answer}");
    // What is passed on is judged and noted once: by the host that was asked, which knows where it came from.
    let (status, again) = common::answer(first.request(Method::PUT, &content).body(kernel())).await;
    assert_eq!(status, 409, "{again}");
    assert!(again["request_id"].is_string(), "{again}");
    let noted = first.get("/audit?action=image.content").await;
    let [refused, done] = noted["items"].as_array().unwrap().as_slice() else { panic!("{noted}") };
    assert_eq!((&refused["detail"], &refused["request_id"]), (&again["detail"], &again["request_id"]));
    assert_eq!(done["outcome"], "done");
    for record in [refused, done] {
        assert_eq!((&record["actor"], &record["from"]), (&json!("admin"), &json!("127.0.0.1")));
        assert_eq!((&record["host"], &record["target"]), (&json!(h1), &json!(format!("image/{image}"))));
    }
    let noted = second.get("/audit?action=image.content").await.to_string();
    assert!(!noted.contains(&image), "{noted}");
    assert!(hosts[1].dir.path().join("state/pool/images").join(&image).exists());
    // A machine on the third that boots an image of the second: it is brought there.
    let placed =
        json!({"vcpus": 1, "memory_bytes": 128 << 20, "boot": {"kernel": image}, "placement": {"host": h3}});
    let decision = second.ok(Method::POST, "/placement", Some(json!({"spec": placed}))).await;
    assert_eq!(decision["host"], h3.as_str());
    assert_eq!(decision["hosts"].as_array().unwrap().len(), 3);
    let made = second.ok(Method::POST, "/vms", Some(json!({"name": "far", "spec": placed}))).await;
    assert_eq!(made["status"]["host"], h3.as_str());
    second.done(Method::POST, &format!("/vms/{}/start", id(&made)), None).await;
    assert!(hosts[2].dir.path().join("state/pool/images").join(&image).exists());

    // The leader dies: the others go on, and it catches up when it is back.
    let leading = leader(&first.get("/cluster").await).to_owned();
    let dead = [&h1, &h2, &h3].iter().position(|h| **h == leading).unwrap();
    hosts[dead].kill();
    let others: Vec<usize> = (0..3).filter(|n| *n != dead).collect();
    let survivor = hosts[others[0]].api();
    survivor
        .until("/cluster", |c| !leader(c).is_empty() && leader(c) != leading && c["quorum"] == true)
        .await;
    let mut acknowledged = Vec::new();
    for n in 0..10 {
        let name = format!("after-{n}");
        if make_network(hosts[others[n % 2]].api(), &name).await == 201 {
            acknowledged.push(name);
        }
    }
    assert!(acknowledged.len() >= 9, "{acknowledged:?}");
    let silent = survivor.get("/cluster").await;
    let silent =
        silent["members"].as_array().unwrap().iter().find(|m| m["host"] == leading.as_str()).cloned();
    assert_eq!(silent.unwrap()["reachable"], false);
    hosts[dead].start();
    hosts[dead].log_in().await;
    for name in &acknowledged {
        let place = format!("/networks?name={name}");
        hosts[dead].api().until(&place, |n| n["items"].as_array().unwrap().len() == 1).await;
    }
    hosts[dead].api().until("/cluster", |c| c["quorum"] == true).await;

    // One is removed while it is away: it stays out, and says so.
    let gone = others[1];
    let gone_id = [&h1, &h2, &h3][gone].clone();
    hosts[gone].kill();
    let remaining: Vec<usize> = (0..3).filter(|n| *n != gone).collect();
    let keeper = hosts[remaining[0]].api();
    keeper.until("/cluster", |c| c["quorum"] == true && leader(c) != gone_id).await;
    keeper.ok(Method::DELETE, &format!("/hosts/{gone_id}?force=true"), None).await;
    keeper.until("/cluster", |c| c["members"].as_array().unwrap().len() == 2 && c["quorum"] == true).await;
    hosts[gone].start();
    hosts[gone].log_in().await;
    let (_, refused) = hosts[gone]
        .api()
        .call(Method::POST, "/networks", Some(json!({"name": "ghost", "spec": {"kind": "bridged"}})))
        .await;
    assert_eq!(refused["status"], 503, "{refused}");
    let says_so = |c: &Value| c["warnings"].to_string().contains("this host was removed");
    hosts[gone].api().until("/cluster", says_so).await;
    assert_eq!(make_network(hosts[remaining[1]].api(), "still").await, 201);
    assert_eq!(
        hosts[remaining[0]].api().get("/networks?name=ghost").await["items"].as_array().unwrap().len(),
        0
    );

    // Without a majority one can still log in, see and leave, on this host; nothing changes.
    let leading = leader(&hosts[remaining[0]].api().get("/cluster").await).to_owned();
    let leads = |n: &usize| [&h1, &h2, &h3][*n] == leading.as_str();
    let (voter, alone): (Vec<usize>, Vec<usize>) = remaining.iter().partition(|n| leads(n));
    let ([voter], [alone]) = (&voter[..], &alone[..]) else { panic!("{voter:?} {alone:?}") };
    let (voter, alone) = (*voter, *alone);
    hosts[voter].kill();
    hosts[alone].api().until("/cluster", |c| c["quorum"] == false).await;
    hosts[alone].log_in().await;
    let alone = hosts[alone].api();
    assert!(!alone.get("/vms").await["items"].as_array().unwrap().is_empty());
    assert_eq!(make_network(alone, "lonely").await, 503);
    alone.ok(Method::DELETE, "/session", None).await;
    alone.refused(401, Method::GET, "/vms", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_by_the_token_its_installer_left() {
    let first = Host::new().await;
    let made = first.api().ok(Method::POST, "/cluster/join-tokens", None).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/join-token"), made["text"].as_str().unwrap()).unwrap();
    let mut second = Host { dir, address: free(), peer: free(), process: None, api: None };
    second.start();
    let two = |c: &Value| c["members"].as_array().unwrap().len() == 2;
    first.api().until("/cluster", two).await;
    // The accounts are those of the cluster.
    second.log_in().await;
    second.api().until("/cluster", two).await;
    assert!(!second.dir.path().join("state/join-token").exists());
    second.kill();
}
