//! Three daemons with simulated hosts, each a process of its own: protected machines of one that is killed run elsewhere, and
//! those of one that is alone stand still.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

#[path = "common/bmc.rs"]
mod bmc;
mod common;

use bmc::FakeBmc;
use common::{
    Api,
    hosts::{cluster, leading, until_three_vote},
    id,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A machine without a disk, that any host can run.
async fn machine(api: &Api, name: &str, more: Value) -> String {
    let mut spec = json!({"vcpus": 1, "memory_bytes": 256 << 20, "power": "running"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = api.ok(Method::POST, "/vms", Some(json!({"name": name, "spec": spec}))).await;
    id(&made)
}

async fn host_of(api: &Api, vm: &str) -> String {
    api.get(&format!("/vms/{vm}")).await["status"]["host"].as_str().unwrap().to_owned()
}

/// Waits until the machine runs on another host than this one; which.
async fn elsewhere(api: &Api, vm: &str, than: &str) -> String {
    let moved = |v: &Value| v["status"]["host"] != than && v["status"]["state"] == "running";
    api.until(&format!("/vms/{vm}"), moved).await["status"]["host"].as_str().unwrap().to_owned()
}

/// Waits until every protected machine is, and every one of so many hosts is present.
async fn all_well(api: &Api, hosts: usize) {
    let well = |s: &Value| {
        let present = s["hosts"].as_array().unwrap().iter().filter(|h| h["state"] == "present").count();
        let machines = s["machines"].as_array().unwrap();
        present == hosts && machines.iter().all(|m| m["state"] == "protected")
    };
    api.until("/cluster/ha", well).await;
}

/// What the machine did so far; it does more every second, unless it stands still.
async fn done(api: &Api, vm: &str) -> u64 {
    api.get(&format!("/vms/{vm}/stats")).await["exits"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_a_lost_host_run_elsewhere_and_never_without_a_lease() {
    let mut hosts = cluster(3).await;
    until_three_vote(&hosts).await;
    let ids = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];
    let at = |id: &str| ids.iter().position(|h| h == id).unwrap();

    // One protected machine on each host, and one that is not.
    let first = hosts[0].api();
    let mut protected = Vec::new();
    for n in 0..3 {
        let ha = json!({"ha": {"priority": "high"}});
        protected.push(machine(first, &format!("p{n}"), ha).await);
    }
    let mut on = Vec::new();
    for vm in &protected {
        first.until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
        on.push(host_of(first, vm).await);
    }
    let mut spread = on.clone();
    spread.sort();
    spread.dedup();
    assert_eq!(spread.len(), 3, "one machine on each host: {on:?}");
    all_well(first, 3).await;
    for host in &hosts {
        // Any host tells the same, though one alone watches.
        let watched = host.api().get("/cluster/ha").await;
        assert!(watched["watched_by"].is_string(), "{watched}");
        assert_eq!(watched["machines"].as_array().unwrap().len(), 3);
    }

    // A host that is there cannot be said to be off.
    let leader = leading(first).await;
    let victim = ids.iter().find(|h| **h != leader).unwrap().clone();
    let refused = first.refused(409, Method::POST, &format!("/hosts/{victim}/confirm-off"), None).await;
    assert!(refused["detail"].as_str().unwrap().contains("answers"), "{refused}");

    // A host that does not lead is lost.
    let vm = protected[on.iter().position(|h| *h == victim).unwrap()].clone();
    let asked = at(ids.iter().find(|h| **h != victim).unwrap());
    let plain = {
        let here = json!({"placement": {"host": victim}});
        let plain = machine(hosts[asked].api(), "plain", here).await;
        hosts[asked].api().until(&format!("/vms/{plain}"), |v| v["status"]["state"] == "running").await;
        plain
    };
    hosts[at(&victim)].kill();
    let begun = Instant::now();
    let api = hosts[asked].api().clone();
    let new = elsewhere(&api, &vm, &victim).await;
    println!("a host that does not lead was lost: its machine runs elsewhere after {:?}", begun.elapsed());
    assert_eq!(host_of(&api, &plain).await, victim, "what is not protected waits for its host");
    let status = api.get("/cluster/ha").await;
    let lost = status["hosts"].as_array().unwrap().iter().find(|h| h["host"] == victim.as_str()).unwrap();
    assert_eq!(lost["state"], "lost", "{status}");

    // It comes back: the machine stays where it is, and the host starts only what is still its own.
    hosts[at(&victim)].start();
    hosts[at(&victim)].log_in().await;
    api.until(&format!("/vms/{plain}"), |v| v["status"]["state"] == "running").await;
    all_well(&api, 3).await;
    assert_eq!(host_of(&api, &vm).await, new);

    // The one that leads is lost.
    let leader = leading(&api).await;
    let mut on = Vec::new();
    for vm in &protected {
        on.push(host_of(&api, vm).await);
    }
    let asked = at(ids.iter().find(|h| **h != leader).unwrap());
    let api = hosts[asked].api().clone();
    let on_leader: Vec<String> =
        protected.iter().zip(&on).filter(|(_, h)| **h == leader).map(|(vm, _)| vm.clone()).collect();
    hosts[at(&leader)].kill();
    let begun = Instant::now();
    for vm in &on_leader {
        elsewhere(&api, vm, &leader).await;
    }
    println!("{} machines of the host that led run elsewhere after {:?}", on_leader.len(), begun.elapsed());
    hosts[at(&leader)].start();
    hosts[at(&leader)].log_in().await;
    all_well(&api, 3).await;

    // Disarmed, a lost host's machines wait; armed, and with the word that the host is off, they do not.
    api.ok(Method::PUT, "/cluster/ha", Some(json!({"armed": false}))).await;
    let leader = leading(&api).await;
    let (vm, victim) = {
        let mut found = None;
        for vm in &protected {
            let host = host_of(&api, vm).await;
            if host != leader {
                found = Some((vm.clone(), host));
            }
        }
        found.unwrap()
    };
    let asked = at(ids.iter().find(|h| **h != victim).unwrap());
    let api = hosts[asked].api().clone();
    hosts[at(&victim)].kill();
    let silent = |s: &Value| {
        let hosts = s["hosts"].as_array().unwrap();
        hosts.iter().any(|h| {
            h["host"] == victim.as_str() && ["silent", "lost"].contains(&h["state"].as_str().unwrap())
        })
    };
    api.until("/cluster/ha", silent).await;
    api.ok(Method::POST, &format!("/hosts/{victim}/confirm-off"), None).await;
    let waits = |s: &Value| {
        let machines = s["machines"].as_array().unwrap();
        machines.iter().any(|m| m["vm"] == vm.as_str() && m["reason"].to_string().contains("disarmed"))
    };
    api.until("/cluster/ha", waits).await;
    api.ok(Method::PUT, "/cluster/ha", Some(json!({"armed": true}))).await;
    let begun = Instant::now();
    elsewhere(&api, &vm, &victim).await;
    println!("confirmed to be off and armed again: it runs elsewhere after {:?}", begun.elapsed());

    // One is left, and no majority: what is protected stands still, what is not runs on.
    let alone = machine(&api, "alone", json!({"placement": {"host": ids[asked]}})).await;
    api.until(&format!("/vms/{alone}"), |v| v["status"]["state"] == "running").await;
    let guarded = {
        let ha = json!({"ha": {}, "placement": {"host": ids[asked]}});
        machine(&api, "guarded", ha).await
    };
    api.until(&format!("/vms/{guarded}"), |v| v["status"]["state"] == "running").await;
    let status = api.get("/cluster/ha").await;
    let told = status["machines"].as_array().unwrap().iter().find(|m| m["vm"] == guarded.as_str()).unwrap();
    assert_eq!(told["state"], "not-protectable", "it may be on this host only: {told}");
    let other = (0..3).find(|n| *n != asked && *n != at(&victim)).unwrap();
    hosts[other].kill();
    let end = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let before = (done(&api, &guarded).await, done(&api, &alone).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = (done(&api, &guarded).await, done(&api, &alone).await);
        assert!(after.1 > before.1, "what is not protected runs on");
        if after.0 == before.0 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it runs without a lease");
    }
    // With a majority it goes on where it stood.
    let before = done(&api, &guarded).await;
    hosts[other].start();
    let end = tokio::time::Instant::now() + common::PATIENCE;
    while done(&api, &guarded).await <= before {
        assert!(tokio::time::Instant::now() < end, "it does not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // No longer protected, it needs no lease: it runs on when it is alone again.
    let mut spec = api.get(&format!("/vms/{guarded}")).await["spec"].clone();
    spec.as_object_mut().unwrap().remove("ha");
    api.until("/cluster", |c| c["quorum"] == true).await;
    api.ok(Method::PATCH, &format!("/vms/{guarded}"), Some(json!({"spec": spec}))).await;
    // The host frees its monitor with its next beat.
    tokio::time::sleep(Duration::from_secs(2)).await;
    hosts[other].kill();
    api.until("/cluster", |c| c["quorum"] == false).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before = done(&api, &guarded).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(done(&api, &guarded).await > before, "what is not protected any more runs on");
}

/// The events of a host that say how it was lost, oldest first, as this host noted them.
async fn told(api: &Api, host: &str) -> Vec<(String, String)> {
    let page = api.get(&format!("/events?target=host/{host}&limit=200")).await;
    let mut told: Vec<(String, String)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["kind"].as_str().unwrap().to_owned(), e["message"].as_str().unwrap().to_owned()))
        .filter(|(kind, _)| kind.starts_with("ha."))
        .collect();
    told.reverse();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_is_switched_off_by_its_bmc_and_its_lease_is_not_waited_for() {
    let mut hosts = cluster(3).await;
    until_three_vote(&hosts).await;
    let ids = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];
    let at = |id: &str| ids.iter().position(|h| h == id).unwrap();
    let boards = [FakeBmc::start().await, FakeBmc::start().await, FakeBmc::start().await];
    let api = hosts[0].api().clone();
    for (id, board) in ids.iter().zip(&boards) {
        let path = format!("/hosts/{id}/bmc");
        // Tried before it is kept; the certificate it presents is told to whoever has not confirmed one.
        let mut unseen = board.settings();
        unseen["spec"].as_object_mut().unwrap().remove("certificate");
        unseen.as_object_mut().unwrap().remove("password");
        let seen = api.ok(Method::POST, &format!("{path}/test"), Some(json!({"settings": unseen}))).await;
        let presented = seen["presented"].as_str().unwrap().replace(':', "").to_lowercase();
        assert_eq!(presented, board.certificate);
        let refused = api.refused(422, Method::PUT, &path, Some(unseen)).await;
        assert!(refused.to_string().contains("spec.certificate"), "{refused}");
        let tried = json!({"settings": board.settings()});
        assert_eq!(api.ok(Method::POST, &format!("{path}/test"), Some(tried)).await["power"], "on");
        let set = api.ok(Method::PUT, &path, Some(board.settings())).await;
        assert!(!set.to_string().contains(bmc::PASSWORD), "{set}");
        // Any host tells how it does, though the leader alone asks.
        hosts[2].api().until(&path, |b| b["status"]["power"] == "on").await;
    }
    let vm = machine(&api, "p", json!({"ha": {"priority": "high"}})).await;
    api.until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
    all_well(&api, 3).await;

    // Between the end of the lease and that of the margins are five seconds. Where the machine of the test is held up for longer, the
    // host is lost by its lease as without a BMC: that is no fault, and it is tried again.
    for round in 0.. {
        let leader = leading(&api).await;
        let victim = host_of(&api, &vm).await;
        let away = ids.iter().find(|h| **h != victim).unwrap();
        let api = hosts[at(away)].api().clone();
        println!("round {round}: the victim leads: {}", victim == leader);
        hosts[at(&victim)].kill();
        let new = elsewhere(&api, &vm, &victim).await;
        let watching = api.until("/cluster/ha", |s| s["watched_by"].is_string()).await;
        let watching = watching["watched_by"].as_str().unwrap().to_owned();
        let told = told(hosts[at(&watching)].api(), &victim).await;
        println!("round {round}: {told:?}");
        let place = |kind: &str| told.iter().rposition(|(k, _)| k == kind);
        if boards[at(&victim)].told().is_empty() {
            assert!(round < 4, "its BMC was never told to switch it off: {told:?}");
        } else {
            let (cut, off, lost) = (place("ha.host-cut"), place("ha.host-off"), place("ha.host-lost"));
            assert!(place("ha.host-silent") < cut, "{told:?}");
            assert_eq!(boards[at(&victim)].told(), ["ForceOff"], "it is told once");
            let by_bmc = off.is_some() && cut < off && lost.is_some_and(|l| told[l].1.contains("it is off"));
            if by_bmc {
                let status = api.get("/cluster/ha").await;
                let host = status["hosts"].as_array().unwrap().iter().find(|h| h["host"] == victim.as_str());
                assert_eq!(host.unwrap()["reason"], "its BMC says that it is off", "{status}");
                assert!(boards[at(&new)].told().is_empty(), "nobody else was switched off");
                // It is switched on again: it is a host like any other.
                hosts[at(&victim)].start();
                hosts[at(&victim)].log_in().await;
                all_well(&api, 3).await;
                return;
            }
            assert!(round < 4, "{told:?}");
        }
        boards[at(&victim)].reset();
        hosts[at(&victim)].start();
        hosts[at(&victim)].log_in().await;
        all_well(&api, 3).await;
    }
}
