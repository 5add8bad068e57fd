//! Logging in, going on, second factors, forced changes, and the audit log, on the running daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, PASSWORD, answer, id};
use reqwest::{Method, header};
use ring::hmac;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

fn token(session: &Value, name: &str) -> Option<String> {
    session[name].as_str().map(str::to_owned)
}

async fn refresh(api: &Api, token: &Option<String>) -> (u16, Value) {
    let mut nobody = api.clone();
    nobody.token = None;
    let (status, answer) =
        nobody.call(Method::POST, "/session/refresh", Some(json!({"refresh_token": token}))).await;
    (status.as_u16(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_the_daemon_and_a_stolen_token_ends_them() {
    let mut bench = Bench::new().await;
    let first = bench.api.login("admin", PASSWORD).await;
    bench.api.token = token(&first, "token");
    // What holds hashes and keys is the daemon's alone, also where an older release left it otherwise.
    let log = bench.dir.path().join("state/raft.redb");
    let mode = || std::fs::metadata(&log).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o644)).unwrap();
    bench.restart().await;
    assert_eq!(mode(), 0o600);
    let api = bench.api.clone();
    assert_eq!(api.get("/session").await["username"], "admin");

    // Each refresh token counts once; a copy of one that crosses it is answered, but not with the next one.
    let (status, second) = refresh(&api, &token(&first, "refresh_token")).await;
    assert_eq!(status, 201, "{second}");
    let (status, crossed) = refresh(&api, &token(&first, "refresh_token")).await;
    assert_eq!((status, &crossed["refresh_token"]), (201, &Value::Null));
    let (_, third) = refresh(&api, &token(&second, "refresh_token")).await;
    assert_eq!(refresh(&api, &token(&first, "refresh_token")).await.0, 401, "a used up one");
    assert_eq!(refresh(&api, &token(&third, "refresh_token")).await.0, 401, "the session has ended with it");
    api.refused(401, Method::GET, "/session", None).await;
    // Neither token stands in for the other, and none is made by a stranger.
    let again = api.login("admin", PASSWORD).await;
    assert_eq!(refresh(&api, &token(&again, "token")).await.0, 401);
    let mut api = api;
    api.token = token(&again, "refresh_token");
    api.refused(401, Method::GET, "/session", None).await;

    // One's sessions are listed, and ended at once.
    api.token = token(&again, "token");
    let other = api.login("admin", PASSWORD).await;
    let mut elsewhere = api.clone();
    elsewhere.token = token(&other, "token");
    let sessions = api.get("/sessions").await;
    let current = |wanted: bool| {
        let items = sessions["items"].as_array().unwrap();
        items.iter().filter(|s| s["current"] == wanted).map(|s| s["id"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(current(true).len(), 1);
    for session in current(false) {
        api.ok(Method::DELETE, &format!("/sessions/{session}"), None).await;
    }
    elsewhere.refused(401, Method::GET, "/session", None).await;
    assert_eq!(api.get("/session").await["username"], "admin");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_goes_on_by_its_cookies() {
    let bench = Bench::new().await;
    let (base, http) = (&bench.api.base, &bench.api.http);
    let body = json!({"username": "admin", "password": PASSWORD});
    let cookies = |response: &reqwest::Response| -> Vec<String> {
        let all = response.headers().get_all(header::SET_COOKIE).iter();
        all.map(|c| c.to_str().unwrap().to_owned()).collect()
    };
    let response = http.post(format!("{base}/api/v1/session")).json(&body).send().await.unwrap();
    let set = cookies(&response);
    assert_eq!(set.len(), 2);
    for cookie in &set {
        for word in ["HttpOnly", "Secure", "SameSite=Strict"] {
            assert!(cookie.contains(word), "{cookie}");
        }
    }
    assert!(set[1].starts_with("lq_refresh=") && set[1].contains("Path=/api/v1/session;"), "{}", set[1]);
    let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    let refresh =
        || http.post(format!("{base}/api/v1/session/refresh")).header(header::COOKIE, pair(&set[1]));
    assert_eq!(answer(refresh()).await.0, 403, "from another site");
    let response = refresh().header("x-lq-request", "1").send().await.unwrap();
    assert_eq!(response.status(), 201);
    let new = cookies(&response);
    assert_ne!(new[1], set[1]);
    let who = http.get(format!("{base}/api/v1/session")).header(header::COOKIE, pair(&new[0]));
    assert_eq!(answer(who).await.1["username"], "admin");
    bench.daemon.unwrap().stop().await;
}

/// What an authenticator does (RFC 6238), from the URL alone.
fn authenticator(url: &str, steps_ahead: i64) -> String {
    let text = url.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let (mut held, mut bits, mut secret) = (0u32, 0, Vec::new());
    for letter in text.bytes() {
        let five = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|l| *l == letter).unwrap();
        held = held << 5 | u32::try_from(five).unwrap();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            secret.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let step = lq_api::Timestamp::now().as_second() / 30 + steps_ahead;
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let word = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_and_counts_once() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let user = api.user("eve", json!([])).await;
    let eve = api.logged_in("eve").await;
    let mut nobody = eve.clone();
    nobody.token = None;
    let login = |code: Option<&str>| Some(json!({"username": "eve", "password": PASSWORD, "code": code}));
    eve.refused(403, Method::POST, "/session/totp/confirm", Some(json!({"code": "123456"}))).await;
    let offer = eve.ok(Method::POST, "/session/totp", Some(json!({"password": PASSWORD}))).await;
    let url = offer["url"].as_str().unwrap();
    nobody.ok(Method::POST, "/session", login(None)).await;
    eve.refused(422, Method::POST, "/session/totp/confirm", Some(json!({"code": "000"}))).await;
    // The step before the present one: two more are left for what follows, however the clock stands.
    let code = authenticator(url, -1);
    let (status, recovery) =
        eve.call(Method::POST, "/session/totp/confirm", Some(json!({"code": code}))).await;
    // A step may have ended in between.
    let recovery = match status.as_u16() {
        200 => recovery,
        _ => {
            eve.ok(Method::POST, "/session/totp/confirm", Some(json!({"code": authenticator(url, -1)}))).await
        }
    };
    assert_eq!(recovery["codes"].as_array().unwrap().len(), 10);
    assert_eq!(eve.get("/session").await["totp"], true);

    let problem = nobody.refused(401, Method::POST, "/session", login(None)).await;
    assert_eq!(problem["type"], "/problems/second-factor");
    nobody.refused(401, Method::POST, "/session", login(Some("12345"))).await;
    let code = authenticator(url, 1);
    nobody.ok(Method::POST, "/session", login(Some(&code))).await;
    nobody.refused(401, Method::POST, "/session", login(Some(&code))).await;
    let spare = recovery["codes"][0].as_str().unwrap().to_lowercase().replace('-', "");
    nobody.ok(Method::POST, "/session", login(Some(&spare))).await;
    nobody.refused(401, Method::POST, "/session", login(Some(&spare))).await;
    let place = format!("/users/{user}");
    assert_eq!(api.get(&place).await["status"]["recovery_codes"], 9);
    // Nothing of it comes back.
    let secret = offer["secret"].as_str().unwrap();
    assert!(!api.get(&place).await.to_string().contains(secret));

    eve.refused(422, Method::POST, "/session/totp/remove", Some(json!({"password": "wrong password"}))).await;
    api.ok(Method::DELETE, &format!("{place}/totp"), None).await;
    nobody.ok(Method::POST, "/session", login(None)).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_comes_before_everything_else() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let role = api.role("administrator").await;
    let grants = json!([{"role": role, "scope": {"kind": "cluster"}}]);
    let body = json!({"name": "new", "spec": {"grants": grants}, "password": PASSWORD});
    api.ok(Method::POST, "/users", Some(body)).await;
    let session = api.login("new", PASSWORD).await;
    assert_eq!(session["must_change_password"], true);
    let mut new = api.clone();
    new.token = token(&session, "token");
    let problem = new.refused(403, Method::GET, "/vms", None).await;
    assert_eq!(problem["type"], "/problems/password-change");
    new.refused(403, Method::POST, "/tokens", Some(json!({"name": "t"}))).await;
    assert_eq!(new.get("/session").await["must_change_password"], true);
    let change = |new: &str| Some(json!({"old": PASSWORD, "new": new}));
    new.refused(422, Method::POST, "/session/password", change(PASSWORD)).await;
    new.ok(Method::POST, "/session/password", change("another good one")).await;
    new.get("/vms").await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_locks_the_guesser_out_but_not_the_host_itself() {
    let bench = Bench::new().await;
    let mut nobody = bench.api.clone();
    nobody.token = None;
    let login = |name: &str, password: &str| Some(json!({"username": name, "password": password}));
    let mut statuses = Vec::new();
    for name in ["admin", "nobody", "admin", "admin", "root", "admin"] {
        let (status, problem) = nobody.call(Method::POST, "/session", login(name, "wrong password")).await;
        statuses.push((status.as_u16(), problem["detail"].clone()));
    }
    let codes: Vec<_> = statuses.iter().map(|s| s.0).collect();
    assert_eq!(codes, [401, 401, 401, 401, 401, 429]);
    assert_eq!(statuses[0].1, statuses[1].1, "whether a name exists is not said");
    nobody.refused(429, Method::POST, "/session", login("admin", PASSWORD)).await;

    // Root on the host logs in, and sets a password without one.
    let path = bench.dir.path().join("run/api.sock");
    let local = reqwest::Client::builder().unix_socket(path).build().unwrap();
    let local = |path: &str, body: Value| local.post(format!("http://localhost/api/v1{path}")).json(&body);
    let (status, _) = answer(local("/session", json!({"username": "admin", "password": PASSWORD}))).await;
    assert_eq!(status, 201);
    let root = id(&bench.api.get("/users?name=admin").await["items"][0]);
    let body = json!({"password": "set at the console", "must_change_password": false});
    assert_eq!(answer(local(&format!("/users/{root}/password"), body)).await.0, 204);
    let (status, _) =
        answer(local("/session", json!({"username": "admin", "password": "set at the console"}))).await;
    assert_eq!(status, 201);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_audit_log_and_stays() {
    let mut bench = Bench::new().await;
    let api = bench.api.clone();
    let role = api.role("vm-user").await;
    let user = api.user("eve", json!([{"role": role, "scope": {"kind": "cluster"}}])).await;
    let eve = api.logged_in("eve").await;
    let (vm, _) = api.vm("one").await;
    eve.done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    eve.refused(403, Method::DELETE, &format!("/vms/{vm}"), None).await;
    let mut nobody = api.clone();
    nobody.token = None;
    let guess = json!({"username": "eve", "password": "not the password"});
    nobody.refused(401, Method::POST, "/session", Some(guess)).await;
    // Reading, and what nobody in particular asks for, leaves nothing.
    eve.get("/vms").await;
    nobody.refused(401, Method::DELETE, &format!("/vms/{vm}"), None).await;
    nobody.refused(422, Method::POST, "/session", Some(json!({}))).await;

    let check = async |api: &Api| {
        let records = api.get("/audit?actor=eve&limit=10").await;
        let seen: Vec<_> = records["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| {
                let text = |field: &str| r[field].as_str().unwrap_or("-").to_owned();
                (
                    text("action"),
                    text("target"),
                    text("target_name"),
                    text("outcome"),
                    r["status"].as_u64().unwrap(),
                )
            })
            .collect();
        let row = |action: &str, target: &str, name: &str, outcome: &str, status| {
            (action.to_owned(), target.to_owned(), name.to_owned(), outcome.to_owned(), status)
        };
        let target = format!("vm/{vm}");
        assert_eq!(
            seen,
            [
                row("session.create", "session", "-", "refused", 401),
                row("vm.delete", &target, "one", "refused", 403),
                row("vm.start", &target, "one", "done", 202),
                row("session.create", "session", "-", "done", 201),
            ]
        );
        let record = &records["items"][1];
        assert_eq!((&record["from"], &record["user"]), (&json!("127.0.0.1"), &json!(user)));
        assert!(record["detail"].as_str().unwrap().contains("vm.write"), "{record}");
        assert!(record["request_id"].as_str().is_some_and(|id| id.len() == 32));
    };
    check(&api).await;
    let made = &api.get("/audit?action=user.create").await["items"][0];
    assert_eq!((&made["target"], &made["target_name"]), (&json!(format!("user/{user}")), &json!("eve")));
    assert!(!api.get("/audit?limit=1000").await.to_string().contains(PASSWORD));
    let page = api.get("/audit?limit=2").await;
    let next = format!("/audit?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_ne!(api.get(&next).await["items"][0]["id"], page["items"][1]["id"]);
    eve.refused(403, Method::GET, "/audit", None).await;
    api.refused(400, Method::GET, "/audit?limit=0", None).await;
    api.refused(400, Method::GET, "/audit?since=yesterday", None).await;
    bench.restart().await;
    check(&bench.api).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_noted_too_and_who_logs_in_is_who_they_say() {
    let bench = Bench::new().await;
    let api = &bench.api;
    // A page of another site that uses the session of the browser.
    let forged = api.http.delete(format!("{}/api/v1/session", api.base));
    let cookie = format!("lq_session={}", api.token.as_ref().unwrap());
    let forged = forged.header(header::COOKIE, cookie).header(header::ORIGIN, "https://evil.example");
    assert_eq!(answer(forged).await.0, 403);
    let record = &api.get("/audit?action=session.delete").await["items"][0];
    assert_eq!((&record["actor"], &record["outcome"]), (&json!("admin"), &json!("refused")));
    assert!(record["detail"].as_str().unwrap().contains("another site"), "{record}");
    // By root's socket: the one who logs in, not root.
    let eve = api.user("eve", json!([])).await;
    let local =
        reqwest::Client::builder().unix_socket(bench.dir.path().join("run/api.sock")).build().unwrap();
    let login = |password: &str| {
        local.post("http://localhost/api/v1/session").json(&json!({"username": "eve", "password": password}))
    };
    assert_eq!(answer(login("not the password")).await.0, 401);
    assert_eq!(answer(login(PASSWORD)).await.0, 201);
    let records = api.get("/audit?actor=eve&action=session.create").await;
    let seen = |n: usize| {
        let record = &records["items"][n];
        (
            record["outcome"].clone(),
            record["user"].clone(),
            record["from"].as_str().unwrap().starts_with("this host"),
        )
    };
    assert_eq!(seen(0), (json!("done"), json!(eve), true));
    assert_eq!(seen(1), (json!("refused"), Value::Null, true));
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_gain_nothing() {
    let bench = Bench::new().await;
    let mut nobody = bench.api.clone();
    nobody.token = None;
    let guess = |n: usize| {
        let body = json!({"username": "admin", "password": format!("guess number {n}")});
        let nobody = nobody.clone();
        async move { nobody.call(Method::POST, "/session", Some(body)).await.0.as_u16() }
    };
    let answers = futures::future::join_all((0..40).map(guess)).await;
    let looked_at = answers.iter().filter(|status| **status == 401).count();
    assert!((5..=7).contains(&looked_at), "{answers:?}");
    assert_eq!(answers.len() - looked_at, answers.iter().filter(|status| **status == 429).count());
    bench.daemon.unwrap().stop().await;
}
