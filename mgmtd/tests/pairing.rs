//! Two real daemons on one computer: one waits, is found, and is brought in by the code it shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::hosts::Host;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_host_is_found_and_brought_in_by_its_code() {
    let port = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let first = Host::found_by(port).await;
    let mut second = Host::found_by(port).await;
    let id = second.id().await;
    let own = second.api().until("/cluster/pairing", |p| p["code"].is_string()).await;
    assert_eq!((&own["waiting"], &own["wrong_guesses"]), (&json!(true), &json!(0)));
    let code = own["code"].as_str().unwrap().to_owned();

    let found = first.api().until("/cluster/waiting", |w| w["items"].as_array().unwrap().len() == 1).await;
    assert_eq!(found["looked_from"], "127.0.0.1");
    let found = &found["items"][0];
    assert_eq!((&found["host"], &found["address"]), (&json!(id), &json!(second.peer.to_string())));
    assert!(!found.to_string().contains(&code));

    // Faults are named by their field, before anybody is asked.
    let refused = first
        .api()
        .refused(422, Method::POST, "/cluster/pair", Some(json!({"address": "a b", "code": "ABC"})))
        .await;
    let fields: Vec<&Value> = refused["errors"].as_array().unwrap().iter().map(|e| &e["field"]).collect();
    assert_eq!(fields, ["address", "code"]);
    // Who may not everything neither pairs nor reads the code.
    first
        .api()
        .user("eve", json!([{"role": first.api().role("operator").await, "scope": {"kind": "cluster"}}]))
        .await;
    let eve = first.api().logged_in("eve").await;
    eve.refused(403, Method::GET, "/cluster/pairing", None).await;
    let body = json!({"address": found["address"], "host": id, "code": code});
    eve.refused(403, Method::POST, "/cluster/pair", Some(body.clone())).await;

    let wrong = json!({"address": found["address"], "code": "2222-2222"});
    let task = first.api().ok(Method::POST, "/cluster/pair", Some(wrong)).await;
    let ended = first.api().ended(&task).await;
    assert_eq!(ended["state"], "failed");
    assert!(ended["message"].as_str().unwrap().contains("the code is not the one"), "{ended}");
    second
        .api()
        .until("/events?level=warning", |e| e.to_string().contains("a wrong pairing code was tried"))
        .await;

    first.api().done(Method::POST, "/cluster/pair", Some(body)).await;
    let two = |c: &Value| c["members"].as_array().unwrap().len() == 2 && c["quorum"] == true;
    first.api().until("/cluster", two).await;
    second.log_in().await;
    second.api().until("/cluster", two).await;
    assert_eq!(second.id().await, id, "a host keeps its id");
    // Neither of them waits any more, nor is found.
    for host in [&first, &second] {
        let own = host.api().get("/cluster/pairing").await;
        assert_eq!((&own["waiting"], &own["code"]), (&json!(false), &Value::Null));
        host.api().until("/cluster/waiting", |w| w["items"].as_array().unwrap().is_empty()).await;
    }
}
