//! Two hosts and a witness: either host may be lost, and the other goes on knowing what holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{
    hosts::{Host, until_three_vote},
    id, kernel,
};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_witness_either_of_two_hosts_may_be_lost() {
    let mut hosts = vec![Host::new().await];
    let first = hosts[0].api().clone();
    let made = first.ok(Method::POST, "/cluster/join-tokens", Some(json!({"uses": 2}))).await;
    let token = made["text"].as_str().unwrap().to_owned();
    let mut second = Host::new().await;
    second.join(&token, 2).await;
    hosts.push(second);
    // Of two hosts one votes, and that is told.
    let warned =
        first.until("/cluster/ha", |h| h["warnings"].to_string().contains("add a third host or a witness"));
    warned.await;

    let mut witness = Host::witness().await;
    witness.join(&token, 3).await;
    hosts.push(witness);
    until_three_vote(&hosts).await;
    let [h1, h2, w] = [hosts[0].id().await, hosts[1].id().await, hosts[2].id().await];

    // It brought nothing, is shown as what it is, and nothing is placed on it.
    let listed = first.until(&format!("/hosts/{w}"), |h| h["witness"] == true).await;
    assert_eq!(listed["status"]["virtualization"]["available"], false, "{listed}");
    assert!(first.get(&format!("/hosts/{h1}")).await.get("witness").is_none());
    let pools = first.get("/pools").await;
    assert_eq!(pools["items"].as_array().unwrap().len(), 2, "{pools}");
    let image = first.image("kernel", "kernel", kernel()).await;
    let spec = json!({"vcpus": 1, "memory_bytes": 1u64 << 28, "boot": {"kernel": image}, "power": "running"});
    let mut there = spec.clone();
    there["placement"] = json!({"host": w});
    let (status, refused) =
        first.call(Method::POST, "/vms", Some(json!({"name": "there", "spec": there}))).await;
    assert!(
        status.is_client_error() && refused.to_string().contains("it is a witness"),
        "{status} {refused}"
    );
    let vm = first.ok(Method::POST, "/vms", Some(json!({"name": "web", "spec": spec}))).await;
    let vm = first.until(&format!("/vms/{}", id(&vm)), |v| v["status"]["state"] == "running").await;
    assert_ne!(vm["status"]["host"], w.as_str());

    // What is of its computer stays its owner's.
    let (power, reboot) = (format!("/hosts/{w}/power"), Some(json!({"action": "reboot"})));
    let (status, refused) = hosts[2].api().call(Method::POST, &power, reboot).await;
    assert!(!status.is_success() && refused.to_string().contains("left to its owner"), "{status} {refused}");

    // Whichever host is lost, the other one leads on with the witness, and takes changes.
    for lost in [0, 1] {
        let stays = hosts[1 - lost].api().clone();
        let name = if lost == 0 { &h2 } else { &h1 };
        hosts[lost].kill();
        stays.until("/cluster", |c| c["quorum"] == true && c["leader"] == name.as_str()).await;
        let body = json!({"name": format!("net-{lost}"), "spec": {"kind": "bridged"}});
        stays.ok(Method::POST, "/networks", Some(body)).await;
        hosts[lost].start();
        hosts[lost].log_in().await;
        until_three_vote(&hosts).await;
    }
}
