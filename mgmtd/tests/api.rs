//! What holds for the whole API: who may ask, how refusals look, pages, revisions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Bench, PASSWORD, answer, id};
use lq_mgmtd::http::openapi;
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_needs_a_credential_and_reading_tokens_only_read() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let token = api.ok(Method::POST, "/tokens", Some(json!({"name": "watcher", "read_only": true}))).await;
    let mut reader = api.clone();
    reader.token = Some(token["secret"].as_str().unwrap().to_owned());
    let mut nobody = api.clone();
    nobody.token = None;
    let mut forger = api.clone();
    forger.token = Some("e30.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into());

    let document: Value = serde_json::from_str(&openapi::document().unwrap()).unwrap();
    let open = [
        ("get", "/setup"),
        ("post", "/setup"),
        ("post", "/session"),
        ("post", "/session/refresh"),
        ("get", "/session/realms"),
        ("post", "/session/oidc/start"),
        ("post", "/session/oidc"),
    ];
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if open.contains(&(method, path))
                || !["get", "put", "post", "patch", "delete"].contains(&method.as_str())
            {
                continue;
            }
            let place = path.replace("{id}", "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a");
            let verb: Method = method.to_uppercase().parse().unwrap();
            nobody.refused(401, verb.clone(), &place, None).await;
            forger.refused(401, verb.clone(), &place, None).await;
            if method != "get" {
                reader.refused(403, verb, &place, Some(json!({}))).await;
            }
            walked += 1;
        }
    }
    assert!(walked > 35, "{walked}");
    assert_eq!(reader.get("/session").await["by"], "token");
    reader.get("/vms").await;
    let upgrade = reader.request(Method::GET, "/vms/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a/console");
    let (status, _) = answer(upgrade.header("upgrade", "websocket").header("connection", "upgrade")).await;
    assert_eq!(status.as_u16(), 403);

    // Revoked at once.
    api.ok(Method::DELETE, &format!("/tokens/{}", token["id"].as_str().unwrap()), None).await;
    reader.refused(401, Method::GET, "/vms", None).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_password_login_and_guessing() {
    let bench = Bench::fresh().await;
    let mut api = bench.api.clone();
    assert_eq!(api.get("/setup").await["needed"], true);
    let login = |password: &str| Some(json!({"username": "admin", "password": password}));
    api.refused(409, Method::POST, "/session", login(PASSWORD)).await;
    let wrong = json!({"code": "AAAA-AAAA-AAAA", "password": PASSWORD});
    api.refused(401, Method::POST, "/setup", Some(wrong)).await;
    let file = bench.dir.path().join("run/setup-code");
    let code = std::fs::read_to_string(&file).unwrap();
    let short = json!({"code": code.trim(), "password": "short"});
    let problem = api.refused(422, Method::POST, "/setup", Some(short)).await;
    assert_eq!(problem["errors"][0]["field"], "password");
    let session =
        api.ok(Method::POST, "/setup", Some(json!({"code": code.trim(), "password": PASSWORD}))).await;
    assert!(!file.exists());
    assert_eq!(api.get("/setup").await["needed"], false);
    let again = json!({"code": code.trim(), "password": PASSWORD});
    api.refused(409, Method::POST, "/setup", Some(again)).await;

    // A changed password ends other sessions.
    api.token = Some(session["token"].as_str().unwrap().into());
    let mut other = api.clone();
    other.token = None;
    let second = other.ok(Method::POST, "/session", login(PASSWORD)).await;
    other.token = Some(second["token"].as_str().unwrap().into());
    let change = json!({"old": PASSWORD, "new": "another good one"});
    api.ok(Method::POST, "/session/password", Some(change)).await;
    other.refused(401, Method::GET, "/session", None).await;
    assert_eq!(api.get("/session").await["username"], "admin");
    api.ok(Method::DELETE, "/session", None).await;
    api.refused(401, Method::GET, "/session", None).await;

    // Guessing is slowed down.
    api.token = None;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(api.call(Method::POST, "/session", login("wrong password")).await.0.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    let response = api.request(Method::POST, "/session").json(&login(PASSWORD)).send().await.unwrap();
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installers_password_is_taken_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(dir.path());
    std::fs::write(&config.admin_password, format!("{PASSWORD}\n")).unwrap();
    let daemon = lq_mgmtd::daemon::Daemon::start(config.clone()).await.unwrap();
    assert!(!config.admin_password.exists());
    assert!(!config.setup_code.exists());
    let api = common::client(dir.path(), daemon.addresses()[0]);
    api.ok(Method::POST, "/session", Some(json!({"username": "admin", "password": PASSWORD}))).await;
    daemon.stop().await;
}

/// Whoever still sends when refused must not find the connection closed instead of the reason.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_refused_at_once_says_why() {
    let bench = Bench::new().await;
    let local =
        reqwest::Client::builder().unix_socket(bench.dir.path().join("run/api.sock")).build().unwrap();
    let content = bytes::Bytes::from(vec![1u8; 32 << 20]);
    let path = "/api/v1/images/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a/content";
    for _ in 0..10 {
        for (http, base) in [(&bench.api.http, bench.api.base.as_str()), (&local, "http://localhost")] {
            let mut upload = http.put(format!("{base}{path}")).body(content.clone());
            if let (true, Some(token)) = (base.starts_with("https"), &bench.api.token) {
                upload = upload.bearer_auth(token);
            }
            let (status, problem) = answer(upload).await;
            assert_eq!((status.as_u16(), problem["type"].is_string()), (404, true), "{problem}");
        }
    }
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_alone_changes_nothing() {
    let bench = Bench::new().await;
    let (base, http) = (&bench.api.base, &bench.api.http);
    let body = json!({"username": "admin", "password": PASSWORD});
    let response = http.post(format!("{base}/api/v1/session")).json(&body).send().await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for word in ["lq_session=ey", "HttpOnly", "Secure", "SameSite=Strict"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let request = |method: Method, path: &str| {
        http.request(method, format!("{base}/api/v1{path}")).header(header::COOKIE, &cookie)
    };
    let token = json!({"name": "t"});
    assert_eq!(answer(request(Method::GET, "/session")).await.0, 200);
    assert_eq!(answer(request(Method::POST, "/tokens").json(&token)).await.0, 403);
    let foreign =
        request(Method::POST, "/tokens").header(header::ORIGIN, "https://evil.example").json(&token);
    assert_eq!(answer(foreign).await.0, 403);
    let ours = request(Method::POST, "/tokens").header("x-lq-request", "1").json(&token);
    assert_eq!(answer(ours).await.0, 201);
    let same = request(Method::POST, "/tokens").header(header::ORIGIN, base).json(&json!({"name": "u"}));
    assert_eq!(answer(same).await.0, 201);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_and_where() {
    let bench = Bench::new().await;
    let api = &bench.api;
    assert!(api.refused(404, Method::GET, "/nothing", None).await["request_id"].is_string());
    api.refused(405, Method::PUT, "/vms", None).await;
    api.refused(404, Method::GET, "/vms/not-an-id", None).await;
    api.refused(404, Method::GET, "/vms/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a", None).await;
    api.refused(400, Method::GET, "/vms?limit=0", None).await;
    api.refused(400, Method::GET, "/vms?limit=x", None).await;
    api.refused(400, Method::GET, "/vms?cursor=x", None).await;
    let misspelt = json!({"name": "a", "spec": {"vcpus": 1, "memory_bytes": 1 << 27, "memroy": 1}});
    let problem = api.refused(422, Method::POST, "/vms", Some(misspelt)).await;
    assert!(problem["errors"][0]["reason"].as_str().unwrap().contains("memroy"), "{problem}");
    assert!(problem["errors"][0]["field"].as_str().unwrap().starts_with("spec"), "{problem}");
    let many = json!({"name": "-", "spec": {"vcpus": 0, "memory_bytes": 1}});
    let problem = api.refused(422, Method::POST, "/vms", Some(many)).await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3);
    // Without a kernel it boots by firmware, which needs more.
    let none = json!({"name": "a", "spec": {"vcpus": 1, "memory_bytes": 1 << 26,
        "disks": [{"volume": "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a"}]}});
    let problem = api.refused(422, Method::POST, "/vms", Some(none)).await;
    let fields: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.disks[0].volume", "spec.memory_bytes"]);

    let raw = |body: &'static str| {
        api.request(Method::POST, "/vms").header("content-type", "application/json").body(body)
    };
    assert_eq!(answer(raw("{")).await.0, 400);
    assert_eq!(answer(raw("{} {}")).await.0, 422);
    assert_eq!(answer(api.request(Method::POST, "/vms").body("{}")).await.0, 400);
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    let large = api.request(Method::POST, "/vms").header("content-type", "application/json").body(large);
    assert_eq!(answer(large).await.0, 413);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_guard_against_lost_changes() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let network = api.get("/networks").await["items"][0].clone();
    let path = format!("/networks/{}", id(&network));
    let response = api.request(Method::GET, &path).send().await.unwrap();
    let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", network["meta"]["revision"]));
    let rename = |name: &str, tag: &str| {
        api.request(Method::PATCH, &path).header(header::IF_MATCH, tag).json(&json!({"name": name}))
    };
    assert_eq!(answer(rename("lan", &tag)).await.0, 200);
    assert_eq!(answer(rename("wan", &tag)).await.0, 412);
    assert_eq!(answer(rename("wan", "rubbish")).await.0, 400);
    assert_eq!(answer(rename("wan", "*")).await.0, 200);
    assert_eq!(api.get(&path).await["meta"]["name"], "wan");
    let gone = api.request(Method::DELETE, &path).header(header::IF_MATCH, &tag);
    assert_eq!(answer(gone).await.0, 412);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters() {
    let bench = Bench::new().await;
    let api = &bench.api;
    for n in 0..7 {
        let body = json!({"name": format!("i{n}"), "labels": {"odd": (n % 2).to_string()},
            "spec": {"kind": "disk", "format": "raw"}});
        api.ok(Method::POST, "/images", Some(body)).await;
    }
    let mut seen = Vec::new();
    let mut path = "/images?limit=3".to_owned();
    loop {
        let page = api.get(&path).await;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|i| i["meta"]["name"].as_str().unwrap().to_owned()));
        assert!(page["revision"].is_u64());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/images?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["i0", "i1", "i2", "i3", "i4", "i5", "i6"]);
    let count = |page: Value| page["items"].as_array().unwrap().len();
    assert_eq!(count(api.get("/images?name=i3").await), 1);
    assert_eq!(count(api.get("/images?label=odd=1").await), 3);
    assert_eq!(count(api.get("/images?label=odd=1,x=y").await), 0);
    api.refused(
        409,
        Method::POST,
        "/images",
        Some(json!({"name": "i0", "spec": {"kind": "disk", "format": "raw"}})),
    )
    .await;
    assert_eq!(count(api.get("/events?limit=1").await), 1);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_every_change() {
    use futures::StreamExt as _;
    let bench = Bench::new().await;
    let api = &bench.api;
    let since = api.get("/images").await["revision"].as_u64().unwrap();
    let body = json!({"name": "seen", "spec": {"kind": "disk", "format": "raw"}});
    let image = id(&api.ok(Method::POST, "/images", Some(body)).await);
    let response = api.request(Method::GET, &format!("/watch?since={since}")).send().await.unwrap();
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut deleted = false;
    while !(text.contains("event: image") && text.matches(&image).count() >= 3) {
        text.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        if !std::mem::replace(&mut deleted, true) {
            assert!(text.contains("\"name\":\"seen\""), "{text}");
            api.ok(Method::DELETE, &format!("/images/{image}"), None).await;
        }
    }
    let last = text.lines().rfind(|l| l.starts_with("data:")).unwrap();
    assert!(!last.contains("object"), "{last}");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_page_and_the_local_socket() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let get = |path: &str| api.http.get(format!("{}{path}", api.base));
    assert_eq!(get("/live").send().await.unwrap().status(), 200);
    assert_eq!(get("/health").send().await.unwrap().status(), 200);
    let ready = async || get("/ready").send().await.unwrap().json::<Value>().await.unwrap();
    while ready().await["ready"] != true {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(get("/metrics").send().await.unwrap().status(), 401);
    let metrics =
        get("/metrics").bearer_auth(api.token.as_ref().unwrap()).send().await.unwrap().text().await.unwrap();
    for name in ["lq_http_requests_total", "lq_vms{state=\"running\"} 0", "lq_pool_free_bytes", "lq_revision"]
    {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
    let page = get("/vms").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    let parts: BTreeSet<&str> = policy.split(';').map(str::trim).collect();
    let whole = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ];
    assert_eq!(parts, BTreeSet::from(whole), "nothing inline, nothing from elsewhere");
    let document: Value = api.get("/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let cluster = api.get("/cluster").await;
    assert_eq!(cluster["leader"], cluster["this_host"]);
    let host = &api.get("/hosts").await["items"][0];
    assert_eq!(host["status"]["simulated"], true);
    assert!(api.get("/pools").await["items"][0]["status"]["free_bytes"].is_u64());

    // The same user on the same host needs no password.
    let path = bench.dir.path().join("run/api.sock");
    let local = reqwest::Client::builder().unix_socket(path).build().unwrap();
    let who: Value = local.get("http://localhost/api/v1/session").send().await.unwrap().json().await.unwrap();
    assert_eq!((&who["username"], &who["by"]), (&json!("root"), &json!("local")));
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_is_kept_over_a_restart() {
    let mut bench = Bench::new().await;
    let host = bench.api.get("/hosts").await["items"][0]["meta"]["id"].as_str().unwrap().to_owned();
    let path = format!("/hosts/{host}/history");
    let measured = |history: &Value| {
        let values = history["metrics"][0]["values"].as_array().unwrap();
        values.iter().filter(|v| v.is_number()).count()
    };
    let one = format!("{path}?span=hour&metric=cpu");
    let history = bench.api.until(&one, |history| measured(history) > 0).await;
    assert_eq!(history["step_seconds"], 5);
    assert_eq!(history["metrics"].as_array().unwrap().len(), 1);
    assert_eq!(history["metrics"][0]["unit"], "share");
    assert_eq!(history["metrics"][0]["values"].as_array().unwrap().len(), 720);
    assert!(bench.api.get(&path).await["metrics"].as_array().unwrap().len() > 5, "all of them");
    bench.restart().await;
    assert!(measured(&bench.api.get(&one).await) > 0);

    let refused = bench.api.refused(422, Method::GET, &format!("{path}?metric=cpu,speed"), None).await;
    let reason = refused["errors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("`speed`") && reason.contains("net.received"), "{reason}");
    bench.api.refused(400, Method::GET, &format!("{path}?span=decade"), None).await;

    // A machine that does not run has a history without values.
    let (vm, _) = bench.api.vm("a").await;
    let history = bench.api.get(&format!("/vms/{vm}/history?span=year")).await;
    assert_eq!((measured(&history), history["step_seconds"].as_u64()), (0, Some(3600)));
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_changed_and_deleted_is_in_the_event_log() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let told = async |target: &str| {
        let events = api.get(&format!("/events?target={target}&limit=1000")).await;
        let one = |e: &Value| {
            assert_eq!((&e["actor"], &e["level"]), (&json!("admin"), &json!("info")), "{e}");
            (e["kind"].as_str().unwrap().to_owned(), e["message"].as_str().unwrap().to_owned())
        };
        events["items"].as_array().unwrap().iter().rev().map(one).collect::<Vec<_>>()
    };
    let pair = |kind: &str, message: &str| (kind.to_owned(), message.to_owned());
    let body = json!({"name": "dmz", "spec": {"kind": "bridged"}});
    let network = id(&api.ok(Method::POST, "/networks", Some(body.clone())).await);
    // What is refused did not happen.
    api.refused(409, Method::POST, "/networks", Some(body)).await;
    let place = format!("/networks/{network}");
    api.ok(Method::PATCH, &place, Some(json!({"name": "edge"}))).await;
    api.ok(Method::DELETE, &place, None).await;
    api.refused(404, Method::DELETE, &place, None).await;
    assert_eq!(
        told(&format!("network/{network}")).await,
        [
            pair("network.created", "admin made the network `dmz`"),
            pair("network.changed", "admin changed the network `dmz`"),
            pair("network.deleted", "admin deleted the network `edge`"),
        ]
    );
    let body = json!({"name": "data", "spec": {"size_bytes": 4 << 20}});
    let volume = id(&api.ok(Method::POST, "/volumes", Some(body)).await);
    let place = format!("/volumes/{volume}");
    api.until(&place, |v| v["status"]["state"] == "ready").await;
    api.done(Method::DELETE, &place, None).await;
    assert_eq!(
        told(&format!("volume/{volume}")).await,
        [
            pair("volume.created", "admin made the volume `data`"),
            pair("volume.deleted", "admin deleted the volume `data`"),
        ]
    );
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_by_the_watch_to_those_who_may_see_them() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let auditor = json!([{"role": api.role("auditor").await, "scope": {"kind": "cluster"}}]);
    api.user("auditor", auditor).await;
    let eve = api.user("eve", json!([])).await;
    let since = api.get("/users").await["revision"].as_u64().unwrap();
    let watch = format!("/watch?since={since}");
    let mut seen = Vec::new();
    for name in ["auditor", "eve"] {
        seen.push(api.logged_in(name).await.request(Method::GET, &watch).send().await.unwrap());
    }
    let other = api.user("other", json!([])).await;
    api.ok(Method::DELETE, &format!("/users/{other}"), None).await;
    let body = json!({"spec": {"full_name": "Eve of the end"}});
    api.ok(Method::PATCH, &format!("/users/{eve}"), Some(body)).await;
    let mut texts = Vec::new();
    for mut stream in seen {
        let mut text = String::new();
        while !text.contains("Eve of the end") {
            let more = tokio::time::timeout(common::PATIENCE, stream.chunk()).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&more.unwrap().unwrap()));
        }
        assert!(text.contains("event: user"), "{text}");
        assert!(!text.contains("argon2"), "{text}");
        texts.push(text);
    }
    assert!(texts[0].contains(&other) && !texts[1].contains(&other), "{texts:?}");
    bench.daemon.unwrap().stop().await;
}
