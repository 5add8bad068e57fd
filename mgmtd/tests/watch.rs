//! What watchers hear of tasks: those of every host, each change once, and only of what they may see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, hosts::cluster, id, kernel};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Someone who watches.
struct Watcher {
    answer: reqwest::Response,
    text: String,
    /// What was told of tasks so far.
    told: Vec<Value>,
}

impl Watcher {
    async fn of(api: &Api) -> Self {
        // It is one long answer: what other requests may take does not hold for it.
        let request = api.request(Method::GET, "/watch").timeout(Duration::from_secs(3600));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self { answer, text: String::new(), told: vec![] }
    }

    /// Listens until something like this was told of tasks.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = tokio::time::Instant::now() + common::PATIENCE;
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name| event.lines().find_map(|l| l.strip_prefix(name));
                let found = (field("event: ") == Some("task"))
                    .then(|| serde_json::from_str::<Value>(field("data: ").unwrap()).unwrap());
                self.text = rest.to_owned();
                if let Some(notice) = found {
                    self.told.push(notice.clone());
                    if wanted(&notice) {
                        return notice;
                    }
                }
            }
            let more = tokio::time::timeout_at(end, self.answer.chunk()).await;
            let more = more.unwrap_or_else(|_| panic!("waited in vain: {:?}", self.told));
            self.text.push_str(&String::from_utf8_lossy(&more.unwrap().unwrap()));
        }
    }

    /// What was told of this task: never the same twice, and nothing after its end.
    fn of_task(&self, task: &Value) -> Vec<&Value> {
        let told: Vec<_> = self.told.iter().filter(|n| n["id"] == task["id"]).map(|n| &n["object"]).collect();
        assert!(told.windows(2).all(|w| w[0] != w[1]), "{told:?}");
        let ended = |t: &&Value| t["state"].is_string() && t["state"] != "running";
        assert!(told.iter().position(ended).is_none_or(|n| n + 1 == told.len()), "{told:?}");
        told
    }
}

/// It is told that the task is in this state.
fn is(task: &Value, state: &str) -> impl Fn(&Value) -> bool {
    let (id, state) = (task["id"].clone(), state.to_owned());
    move |notice| notice["id"] == id && notice["object"]["state"] == state.as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_come_by_the_watch_to_those_who_may_see_them() {
    let bench = Bench::new().await;
    let admin = &bench.api;
    let [(mine, _), (other, _)] = [admin.vm("mine").await, admin.vm("other").await];
    let scope = json!({"kind": "object", "object": "vm", "id": mine});
    let eve = admin.user("eve", json!([{"role": admin.role("vm-user").await, "scope": scope}])).await;
    let eve_api = admin.logged_in("eve").await;
    let (mut all, mut some) = (Watcher::of(admin).await, Watcher::of(&eve_api).await);
    let start = async |vm: &str| {
        let task = admin.ok(Method::POST, &format!("/vms/{vm}/start"), None).await;
        assert_eq!(admin.ended(&task).await["state"], "succeeded");
        task
    };
    let (theirs, hers) = (start(&other).await, start(&mine).await);
    let notice = all.until(is(&hers, "succeeded")).await;
    assert_eq!(notice["object"]["kind"], "vm.start");
    assert_eq!(notice["object"], admin.get(&format!("/tasks/{}", hers["id"].as_str().unwrap())).await);
    assert_eq!(all.of_task(&theirs).last().unwrap()["state"], "succeeded");
    some.until(is(&hers, "succeeded")).await;
    assert!(some.of_task(&theirs).is_empty(), "{:?}", some.told);

    // Rights are those of this moment. What she ordered herself she sees all the same.
    let stop = eve_api.ok(Method::POST, &format!("/vms/{mine}/stop"), Some(json!({"force": true}))).await;
    some.until(is(&stop, "succeeded")).await;
    let grants = json!({"spec": {"grants": []}});
    admin.ok(Method::PATCH, &format!("/users/{eve}"), Some(grants)).await;
    let unseen = start(&mine).await;
    all.until(is(&unseen, "succeeded")).await;
    let scope = json!({"kind": "object", "object": "vm", "id": other});
    let grants = json!([{"role": admin.role("vm-user").await, "scope": scope}]);
    admin.ok(Method::PATCH, &format!("/users/{eve}"), Some(json!({"spec": {"grants": grants}}))).await;
    let stop = admin.ok(Method::POST, &format!("/vms/{other}/stop"), Some(json!({"force": true}))).await;
    some.until(is(&stop, "succeeded")).await;
    assert!(some.of_task(&unseen).is_empty(), "{:?}", some.told);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_other_hosts_are_heard_of_and_so_is_what_happened_while_they_were_away() {
    let mut hosts = cluster(2).await;
    let (first, second) = (hosts[0].api().clone(), hosts[1].api().clone());
    let [h1, h2] = [hosts[0].id().await, hosts[1].id().await];
    let image = first.image("kernel", "kernel", kernel()).await;
    let spec = json!({"vcpus": 1, "memory_bytes": 1 << 30, "power": "running", "placement": {"host": h2},
        "boot": {"kernel": image, "cmdline": "console=ttyS0"}});
    let vm = id(&first.ok(Method::POST, "/vms", Some(json!({"name": "web", "spec": spec}))).await);
    let running = first.until(&format!("/vms/{vm}"), |v| v["status"]["state"] == "running").await;
    let mut spec = running["spec"].clone();
    spec.as_object_mut().unwrap().remove("placement");
    first.ok(Method::PATCH, &format!("/vms/{vm}"), Some(json!({"spec": spec}))).await;
    let scope = json!({"kind": "object", "object": "vm", "id": vm});
    let eve = first.user("eve", json!([{"role": first.role("vm-user").await, "scope": scope}])).await;

    // The task is one of the second host's; who watches the first hears how it goes.
    let mut all = Watcher::of(&first).await;
    let mut some = Watcher::of(&first.logged_in("eve").await).await;
    let mut there = Watcher::of(&second).await;
    let slow = Some(json!({"host": h1, "bandwidth_bytes": 1 << 20}));
    let migrate = format!("/vms/{vm}/migrate");
    let task = first.ok(Method::POST, &migrate, slow.clone()).await;
    let copying = |n: &Value| n["object"]["migration"]["sent_bytes"].as_u64() > Some(0);
    for watcher in [&mut all, &mut some, &mut there] {
        watcher.until(|n| n["id"] == task["id"] && copying(n)).await;
    }
    // Who may see it no more is told that it is gone, and nothing after that.
    first.ok(Method::PATCH, &format!("/users/{eve}"), Some(json!({"spec": {"grants": []}}))).await;
    some.until(|n| n["id"] == task["id"] && n.get("object").is_none()).await;
    first.ok(Method::POST, &format!("/tasks/{}/cancel", task["id"].as_str().unwrap()), None).await;
    for watcher in [&mut all, &mut there] {
        watcher.until(is(&task, "cancelled")).await;
        watcher.of_task(&task);
    }

    // The second host dies while it works. Whether or not it had written that down: its end is told when it is back.
    first.until(&format!("/vms/{vm}"), |v| v["status"].get("moving_to").is_none()).await;
    let task = first.ok(Method::POST, &migrate, slow).await;
    all.until(|n| n["id"] == task["id"] && copying(n)).await;
    hosts[1].kill();
    hosts[1].start();
    hosts[1].log_in().await;
    let notice = all.until(is(&task, "failed")).await;
    assert!(notice["object"]["message"].as_str().unwrap().contains("interrupted"), "{notice}");
    all.of_task(&task);
    assert_eq!(some.told.last().unwrap().get("object"), None, "{:?}", some.told);
}
