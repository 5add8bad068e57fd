//! `/metrics` before the real thing: `promtool` of Debian's package checks it, its Prometheus scrapes it over TLS with a token of
//! the API, and every expression of the dashboards in `docs/grafana` finds its metrics there.
//!
//! Needs Debian's package `prometheus` (`scripts/packages.txt`): without it this fails and says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::Bench;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Ends with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(name: &str) -> Command {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(name).is_file());
    assert!(found, "`{name}` is missing: install Debian's package `prometheus`");
    Command::new(name)
}

/// A daemon with something of everything: a running machine, an alert, a channel.
async fn busy() -> Bench {
    let bench = Bench::new().await;
    let (vm, _) = bench.api.vm("one").await;
    bench.api.done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    let hook = json!({"name": "hook", "spec": {"target": {"kind": "webhook", "url": "http://127.0.0.1:1/"}}});
    bench.api.ok(Method::POST, "/notification-channels", Some(hook)).await;
    let rule = json!({"enabled": true, "hold_seconds": 0, "clear_seconds": 0, "warning": 0.0});
    bench.api.ok(Method::PUT, "/alert-rules/pool-filling", Some(rule)).await;
    let raised = |page: &Value| !page["items"].as_array().unwrap().is_empty();
    bench.api.until("/alerts?rule=pool-filling", raised).await;
    bench
}

/// Title and expression of every panel.
fn expressions() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana");
    let mut found = Vec::new();
    for name in ["host.json", "cluster.json"] {
        let board: Value = serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
                found.push((format!("{name}: {}", panel["title"]), expression));
            }
        }
    }
    assert!(found.len() > 30, "the dashboards are empty");
    found
}

/// Names of metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| w.starts_with("lq_")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_the_metrics_and_the_dashboards_find_them() {
    let bench = busy().await;
    let read = bench.api.http.get(format!("{}/metrics", bench.api.base));
    let text =
        read.bearer_auth(bench.api.token.as_ref().unwrap()).send().await.unwrap().text().await.unwrap();
    let mut check = program("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.trim().is_empty(), "promtool: {said}\n{text}");

    let token =
        bench.api.ok(Method::POST, "/tokens", Some(json!({"name": "prometheus", "read_only": true}))).await;
    let dir = tempfile::tempdir().unwrap();
    let target = bench.api.base.trim_start_matches("https://");
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: limiquantix\n  scheme: https\n  \
         authorization:\n    credentials: {}\n  tls_config:\n    ca_file: {}\n  static_configs:\n  - targets: ['{target}']\n",
        token["secret"].as_str().unwrap_or_else(|| panic!("{token}")),
        bench.dir.path().join("state/tls.crt").display(),
    );
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    // It cannot be asked which port it took.
    let address = common::loopback::own_port();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let _running = Process(
        program("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let http = reqwest::Client::new();
    let base = format!("http://{address}/api/v1");
    let query = async |expression: &str| -> Option<Value> {
        let mut url = reqwest::Url::parse(&format!("{base}/query")).unwrap();
        url.query_pairs_mut().append_pair("query", expression);
        http.get(url).send().await.ok()?.json().await.ok()
    };
    let end = tokio::time::Instant::now() + common::PATIENCE;
    // Twice: a rate takes two.
    while query("count_over_time(up[1m]) > 2 and up == 1")
        .await
        .is_none_or(|a| a["data"]["result"].as_array().is_none_or(Vec::is_empty))
    {
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(tokio::time::Instant::now() < end, "it was not scraped: {:?}\n{}", query("up").await, log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let names: Value =
        http.get(format!("{base}/label/__name__/values")).send().await.unwrap().json().await.unwrap();
    let names: BTreeSet<&str> = names["data"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (panel, expression) in expressions() {
        let answer = query(&expression).await.unwrap();
        assert_eq!(answer["status"], "success", "{panel}: `{expression}`: {answer}");
        for metric in metrics(&expression) {
            assert!(names.contains(metric.as_str()), "{panel}: there is no metric `{metric}` in {names:?}");
        }
    }
    bench.daemon.unwrap().stop().await;
}
