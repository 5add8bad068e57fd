//! Three daemons with simulated hosts, each a process of its own: what they raise when one of them dies, and what one says that
//! is left alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{
    Api,
    hosts::{cluster, leading, until_three_vote},
};
use reqwest::Method;
use serde_json::{Value, json};

/// Waits until there is an alert by this rule; the first.
async fn raised(api: &Api, rule: &str) -> Value {
    let some = |page: &Value| !page["items"].as_array().unwrap().is_empty();
    api.until(&format!("/alerts?rule={rule}"), some).await["items"][0].clone()
}

async fn over(api: &Api, rule: &str) {
    let none = |page: &Value| page["items"].as_array().unwrap().is_empty();
    api.until(&format!("/alerts?rule={rule}"), none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_is_told_of_until_it_is_back_and_one_alone_does_not_say_who_leads() {
    let mut hosts = cluster(3).await;
    until_three_vote(&hosts).await;
    let ids = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];
    let at = |id: &str| ids.iter().position(|h| h == id).unwrap();
    for rule in ["host-lost", "quorum-at-risk", "quorum-lost"] {
        let at_once = json!({"enabled": true, "hold_seconds": 0, "clear_seconds": 0});
        hosts[0].api().ok(Method::PUT, &format!("/alert-rules/{rule}"), Some(at_once)).await;
    }

    // Of one that does not lead both of the others tell.
    let led = leading(hosts[0].api()).await;
    let victim = ids.iter().find(|h| **h != led).unwrap().clone();
    hosts[at(&victim)].kill();
    let left: Vec<usize> = (0..3).filter(|n| *n != at(&victim)).collect();
    let mut known = Vec::new();
    for n in &left {
        let api = hosts[*n].api();
        let lost = raised(api, "host-lost").await;
        assert_eq!(lost["target"], format!("host/{victim}"), "{lost}");
        assert_eq!((&lost["severity"], &lost["local"]), (&json!("critical"), &Value::Null), "{lost}");
        let risk = raised(api, "quorum-at-risk").await;
        assert!(risk["message"].as_str().unwrap().starts_with("2 of 3 voting hosts answer"), "{risk}");
        known.push(lost["id"].clone());
    }
    assert_eq!(known[0], known[1], "it was raised once");
    let mut noted = false;
    for n in &left {
        let events = hosts[*n].api().get("/events?kind=alert.raised").await;
        noted |= events.to_string().contains("Host lost");
    }
    assert!(noted, "it is in the event log");

    // It comes back.
    hosts[at(&victim)].start();
    hosts[at(&victim)].log_in().await;
    for n in &left {
        over(hosts[*n].api(), "host-lost").await;
        over(hosts[*n].api(), "quorum-at-risk").await;
    }

    // One that led is alone.
    let alone = leading(hosts[0].api()).await;
    let others: Vec<usize> = (0..3).filter(|n| *n != at(&alone)).collect();
    for n in &others {
        hosts[*n].kill();
    }
    let api = hosts[at(&alone)].api().clone();
    let cluster = api.until("/cluster", |c| c["quorum"] == false && c["lost"]["since"].is_string()).await;
    assert_eq!(cluster["leader"], Value::Null, "{cluster}");
    let roles = cluster["members"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap());
    assert!(roles.clone().all(|r| r == "voter"), "{:?}", roles.collect::<Vec<_>>());
    let lost = raised(&api, "quorum-lost").await;
    assert_eq!((&lost["severity"], &lost["local"]), (&json!("critical"), &json!(true)), "{lost}");
    for n in &others {
        hosts[*n].start();
        hosts[*n].log_in().await;
    }
    over(&api, "quorum-lost").await;
    let led = |c: &Value| c["quorum"] == true && c["leader"].is_string();
    api.until("/cluster", led).await;
}
