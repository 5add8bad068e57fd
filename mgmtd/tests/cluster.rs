//! Three real daemons on one computer become one system: joined by tokens with a machine that runs, asked through each other,
//! killed, brought back, removed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{
    Api,
    hosts::{Host, until_three_vote},
    id, kernel,
};
use lq_mgmtd::auth::Caller;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
    until_three_vote(&hosts).await;

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
    // What everyone did is added up, of what one may see.
    let usage = "/cluster/usage?span=hour&top=1";
    let whole = |u: &Value| u["machines"][0]["vm"] == vm && u["hosts"][2]["load"]["cpu"].is_number();
    let all = first.until(usage, whole).await;
    assert_eq!((all["hosts"].as_array().unwrap().len(), &all["silent"]), (3, &json!([])));
    assert_eq!(
        (&all["machines"][0]["host"], &all["history"]["metrics"][0]["unit"]),
        (&json!(h2), &json!("processors"))
    );
    let as_eve = eve.until(usage, |u| u["machines"][0]["vm"] == vm).await;
    assert_eq!((&as_eve["hosts"], &as_eve["silent"]), (&json!([]), &json!([])));
    assert!(as_eve["history"]["metrics"][0]["values"].as_array().unwrap().is_empty());
    assert_eq!(nobody.get(usage).await["machines"], json!([]));
    first.refused(422, Method::GET, "/cluster/usage?top=0", None).await;
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
    let leading = leader(&first.until("/cluster", |c| !leader(c).is_empty()).await).to_owned();
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
    let leading =
        leader(&hosts[remaining[0]].api().until("/cluster", |c| !leader(c).is_empty()).await).to_owned();
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
async fn what_machines_of_a_silent_host_do_nobody_knows() {
    let mut hosts = [Host::new().await, Host::new().await];
    let (vm, _) = hosts[1].api().vm("web").await;
    hosts[1].api().done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    let made = hosts[0].api().ok(Method::POST, "/cluster/join-tokens", None).await;
    hosts[1].join(made["text"].as_str().unwrap(), 2).await;
    let first = hosts[0].api().clone();
    // Used up it is told of no more.
    first.until("/cluster/join-tokens", |tokens| tokens == &json!([])).await;
    let at = format!("/vms/{vm}");
    first.until(&at, |v| v["status"]["state"] == "running" && v["status"]["host_silent"].is_null()).await;
    let counted = async |state: &str| {
        let read =
            first.http.get(format!("{}/metrics", first.base)).bearer_auth(first.token.as_ref().unwrap());
        let text = read.send().await.unwrap().text().await.unwrap();
        let line = format!("lq_vms{{state=\"{state}\"}} ");
        let count = text.lines().find_map(|l| l.strip_prefix(&line)).map(str::to_owned);
        count.unwrap_or_else(|| panic!("{line} is missing: {text}"))
    };
    // Its host, which has begun anew in the cluster, may be about to look at its machines.
    let until = async |running: &str, unknown: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = (counted("running").await, counted("unknown").await);
            if seen == (running.into(), unknown.into()) {
                return;
            }
            assert!(Instant::now() < end, "running and unknown: {seen:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until("1", "0").await;

    hosts[1].kill();
    let silent = first.until(&at, |v| v["status"]["host_silent"] == true).await;
    assert_eq!(silent["status"]["state"], "running", "as it was when the host was last heard");
    assert_eq!(first.get("/vms").await["items"][0]["status"]["host_silent"], true);
    until("0", "1").await;
    hosts[1].start();
    first.until(&at, |v| v["status"]["host_silent"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_by_the_token_its_installer_left() {
    let first = Host::new().await;
    let made = first.api().ok(Method::POST, "/cluster/join-tokens", None).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/join-token"), made["text"].as_str().unwrap()).unwrap();
    let mut second = Host::stopped(dir);
    second.start();
    let two = |c: &Value| c["members"].as_array().unwrap().len() == 2;
    first.api().until("/cluster", two).await;
    // The accounts are those of the cluster.
    second.log_in().await;
    second.api().until("/cluster", two).await;
    assert!(!second.dir.path().join("state/join-token").exists());
    second.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_are_gone_and_the_third_goes_on_without_them() {
    let mut hosts = [Host::new().await, Host::new().await, Host::new().await];
    let (vm, _) = hosts[1].api().vm("web").await;
    hosts[1].api().done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    let made = hosts[0].api().ok(Method::POST, "/cluster/join-tokens", Some(json!({"uses": 2}))).await;
    let token = made["text"].as_str().unwrap().to_owned();
    hosts[1].join(&token, 2).await;
    hosts[2].join(&token, 3).await;
    until_three_vote(&hosts).await;
    let [h1, h2, _] = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];
    hosts[2].api().until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
    let session_of_the_cluster = hosts[2].api().clone();
    let preview = session_of_the_cluster.get("/cluster/reform").await;
    assert!(preview["obstacles"][0].as_str().unwrap().contains("takes changes as it is"), "{preview}");

    hosts[0].kill();
    hosts[1].kill();
    // It says what is lost, and since when.
    let known = |c: &Value| {
        c["quorum"] == false
            && c["lost"]["since"].is_string()
            && c["lost"]["missing"].as_array().is_some_and(|m| m.len() == 2)
    };
    let cluster = session_of_the_cluster.until("/cluster", known).await;
    assert!(cluster["lost"]["missing"][0]["last_heard"].is_string(), "{cluster}");
    let ready = hosts[2].api().http.get(format!("{}/ready", hosts[2].api().base)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("a majority of the voters"));
    let preview = session_of_the_cluster.get("/cluster/reform").await;
    let of_second = preview["hosts"].as_array().unwrap().iter().find(|h| h["host"] == h2.as_str()).unwrap();
    assert_eq!((&of_second["fate"], &of_second["machines"]), (&json!("silent"), &json!(["web"])));
    let wanted = json!({"confirm": preview["confirm"], "lost": [h1, h2]});
    let reform = |body: &Value| (Method::POST, "/cluster/reform", Some(body.clone()));
    // A session of the cluster, or a token, will not do.
    let (method, path, body) = reform(&wanted);
    let refused = session_of_the_cluster.refused(403, method, path, body).await;
    assert!(refused["detail"].as_str().unwrap().contains("log in here anew"), "{refused}");
    hosts[2].log_in().await;
    for wrong in
        [json!({"confirm": "x", "lost": [h1, h2]}), json!({"confirm": preview["confirm"], "lost": [h1]})]
    {
        let (method, path, body) = reform(&wrong);
        hosts[2].api().refused(422, method, path, body).await;
    }
    let (method, path, body) = reform(&wanted);
    let begun = hosts[2].api().ok(method, path, body).await;
    assert_eq!(begun["epoch"], 2);
    hosts[2].until_epoch(2).await;
    let third = &hosts[2].api().clone();
    let cluster = third.until("/cluster", |c| c["quorum"] == true).await;
    assert!(cluster["lost"].is_null() && cluster["formed"]["by"] == preview["confirm"], "{cluster}");
    let lost = cluster["members"].as_array().unwrap().iter().filter(|m| m["role"] == "lost");
    assert_eq!(lost.count(), 2);
    assert_eq!(make_network(third, "after").await, 201);
    // The machine of the lost host waits for it.
    assert_eq!(third.get(&format!("/vms/{vm}")).await["status"]["host"], h2.as_str());
    let backups = third.get("/cluster/backups").await;
    let kept = backups.as_array().unwrap().iter().find(|b| b["id"] == begun["backup"]).unwrap();
    assert_eq!((&kept["reason"], &kept["content"]["epoch"]), (&json!("reform"), &json!(1)));
    let place = format!("/cluster/backups/{}/content", begun["backup"].as_str().unwrap());
    let file = third.request(Method::GET, &place).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(file.len() as u64, kept["size_bytes"].as_u64().unwrap());
    third.refused(404, Method::GET, "/cluster/backups/..%2Fhost/content", None).await;
    // Nothing is replaced by what is no backup.
    let place = format!("/cluster/restore?confirm={}", preview["confirm"].as_str().unwrap());
    let (status, refused) = common::answer(third.request(Method::POST, &place).body("rubbish")).await;
    assert!(status == 400 && refused["detail"].as_str().unwrap().contains("not a backup"), "{refused}");

    // The old one comes back: it is refused, says why on both sides, and joins again with its machine.
    hosts[1].start();
    hosts[1].log_in().await;
    let says_so = |c: &Value| {
        c["outdated"]["epoch"] == 2 && c["outdated"]["reason"].as_str().unwrap().contains("epoch 1")
    };
    hosts[1].api().until("/cluster", says_so).await;
    assert_eq!(make_network(hosts[1].api(), "ghost").await, 503);
    let met = |c: &Value| {
        let members = c["members"].as_array().unwrap();
        members.iter().any(|m| m["host"] == h2.as_str() && m["refused"]["epoch"] == 1)
    };
    third.until("/cluster", met).await;
    let made = third.ok(Method::POST, "/cluster/join-tokens", None).await;
    let body = json!({"token": made["text"]});
    hosts[1].api().ok(Method::POST, "/cluster/join", Some(body)).await;
    hosts[1].until_epoch(2).await;
    for host in [&hosts[1], &hosts[2]] {
        host.api().until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
        let found =
            host.api().until("/networks?name=after", |n| !n["items"].as_array().unwrap().is_empty()).await;
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
        assert!(host.api().get("/networks?name=ghost").await["items"].as_array().unwrap().is_empty());
    }
    assert_eq!(hosts[2].api().get(&format!("/vms/{vm}")).await["status"]["host"], h2.as_str());
}
