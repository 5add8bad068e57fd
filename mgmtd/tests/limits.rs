//! Where a credential ends, and how often one may ask, on the running daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, PASSWORD, PATIENCE, Socket};
use futures::StreamExt as _;
use lq_mgmtd::{
    auth::{Clock, SESSION_IDLE, SESSION_LONGEST},
    http::{Rate, Rates},
};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

const HOUR: Duration = Duration::from_secs(3600);

async fn with_clock() -> (Bench, Clock) {
    let clock = Clock::default();
    let bench = Bench::with(|c| c.clock = clock.clone()).await;
    (bench, clock)
}

/// What someone with a credential has open.
struct Open {
    streams: Vec<Response>,
    console: Socket,
}

impl Open {
    /// Every kind of answer without an end.
    async fn all(api: &Api, vm: &str) -> Self {
        let mut streams = Vec::new();
        for path in ["/events/stream", "/watch"] {
            let response = api.request(Method::GET, path).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            streams.push(response);
        }
        Self { streams, console: api.socket(&format!("/vms/{vm}/console")).await }
    }

    /// All of it ends, though nothing happens that would have to be told.
    async fn ends(self) {
        let all = async {
            for mut stream in self.streams {
                while stream.chunk().await.unwrap().is_some() {}
            }
            let mut console = self.console;
            loop {
                if let Message::Close(frame) = console.next().await.unwrap().unwrap() {
                    let frame = frame.unwrap();
                    assert_eq!(frame.code, CloseCode::Policy);
                    assert!(frame.reason.contains("session has ended"), "{}", frame.reason);
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("what was open goes on"));
    }

    /// None of it has ended.
    async fn goes_on(&mut self) {
        for stream in &mut self.streams {
            let more = tokio::time::timeout(Duration::from_millis(10), stream.chunk()).await;
            assert!(!matches!(more, Ok(Ok(None) | Err(_))), "a stream ended");
        }
        let more = tokio::time::timeout(Duration::from_millis(10), self.console.next()).await;
        assert!(
            !matches!(more, Ok(Some(Ok(Message::Close(_)) | Err(_)) | None)),
            "the console ended: {more:?}"
        );
    }
}

/// A client with a new API token.
async fn with_token(api: &Api, name: &str, days: Option<u32>) -> (Api, String) {
    let made = api.ok(Method::POST, "/tokens", Some(json!({"name": name, "days": days}))).await;
    let token = made["secret"].as_str().map(str::to_owned);
    (Api { token, ..api.clone() }, made["id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_takes_with_it_what_is_open() {
    let (bench, clock) = with_clock().await;
    let (vm, _) = bench.api.vm("one").await;
    let (short, _) = with_token(&bench.api, "short", Some(1)).await;
    let (long, revoked) = with_token(&bench.api, "long", Some(30)).await;
    let (of_short, mut of_long) = (Open::all(&short, &vm).await, Open::all(&long, &vm).await);
    clock.advance(23 * HOUR);
    short.get("/vms").await;
    clock.advance(HOUR);
    short.refused(401, Method::GET, "/vms", None).await;
    of_short.ends().await;
    long.get("/vms").await;
    of_long.goes_on().await;
    // The session of before has ended too: a new one revokes the other token.
    let admin = bench.api.logged_in("admin").await;
    admin.ok(Method::DELETE, &format!("/tokens/{revoked}"), None).await;
    long.refused(401, Method::GET, "/vms", None).await;
    of_long.ends().await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_is_not_used_and_whatever_is_done_after_its_longest_time() {
    let (bench, clock) = with_clock().await;
    let (vm, _) = bench.api.vm("one").await;
    let session = bench.api.login("admin", PASSWORD).await;
    let text = |session: &Value, name: &str| session[name].as_str().map(str::to_owned);
    let mut api = Api { token: text(&session, "token"), ..bench.api.clone() };
    let refresh = async |token: &Option<String>| {
        let nobody = Api { token: None, ..bench.api.clone() };
        nobody.call(Method::POST, "/session/refresh", Some(json!({"refresh_token": token}))).await
    };
    // What is open does not end with the access token it was opened with.
    let mut open = Open::all(&api, &vm).await;
    clock.advance(HOUR);
    api.refused(401, Method::GET, "/vms", None).await;
    open.goes_on().await;
    let (status, next) = refresh(&text(&session, "refresh_token")).await;
    assert_eq!(status, 201);
    api.token = text(&next, "token");
    api.get("/vms").await;
    clock.advance(SESSION_IDLE);
    api.refused(401, Method::GET, "/vms", None).await;
    assert_eq!(refresh(&text(&next, "refresh_token")).await.0, 401);
    open.ends().await;

    // One that is used all the time.
    let mut last = bench.api.login("admin", PASSWORD).await;
    api.token = text(&last, "token");
    let open = Open::all(&api, &vm).await;
    let step = SESSION_IDLE - HOUR;
    let times = SESSION_LONGEST.as_secs() / step.as_secs();
    for n in 0..times {
        clock.advance(step);
        let (status, next) = refresh(&text(&last, "refresh_token")).await;
        assert_eq!(status, 201, "{n}: {next}");
        last = next;
    }
    clock.advance(step);
    assert_eq!(refresh(&text(&last, "refresh_token")).await.0, 401);
    open.ends().await;
    bench.daemon.unwrap().stop().await;
}

fn rates(caller: u32, address: u32) -> Rates {
    Rates { caller: Rate { per_second: 1, burst: caller }, address: Rate { per_second: 1, burst: address } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_a_loop_is_slowed_down_and_nobody_else() {
    let bench = Bench::with(|c| c.rates = rates(20, 10_000)).await;
    let (script, _) = with_token(&bench.api, "script", None).await;
    let mut refused = None;
    for _ in 0..200 {
        let response = script.request(Method::GET, "/vms").send().await.unwrap();
        if response.status() != 200 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.unwrap_or_else(|| panic!("a script in a loop is not slowed down"));
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/rate-limited");
    assert!(problem["detail"].as_str().unwrap().contains("admin (token script)"), "{problem}");
    assert!(problem["request_id"].is_string());
    // Its owner is not hit, nor root on the host, who is not counted at all.
    bench.api.get("/vms").await;
    let socket = bench.dir.path().join("run/api.sock");
    let local = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    for _ in 0..50 {
        let (status, _) = common::answer(local.get("http://localhost/api/v1/vms")).await;
        assert_eq!(status, 200);
    }
    // Whoever waits as told goes on.
    let end = tokio::time::Instant::now() + PATIENCE;
    while script.call(Method::GET, "/vms", None).await.0 == 429 {
        assert!(tokio::time::Instant::now() < end, "it stays refused");
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_slowed_down_whoever_it_says_it_is() {
    let bench = Bench::with(|c| c.rates = rates(10_000, 30)).await;
    let mut statuses = Vec::new();
    for n in 0..60 {
        let nobody = Api { token: Some(format!("lq_{n}")), ..bench.api.clone() };
        let response = nobody.request(Method::GET, "/vms").send().await.unwrap();
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses.first(), Some(&401));
    assert_eq!(statuses.last(), Some(&429));
    // The pages too.
    let page = bench.api.http.get(format!("{}/", bench.api.base)).send().await.unwrap();
    assert_eq!(page.status(), 429);
    assert_eq!(page.headers()[header::CONTENT_TYPE], "application/problem+json");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_is_read_of_whoever_is_not_known() {
    let bench = Bench::new().await;
    let long = "x".repeat(20 << 10);
    let nobody = Api { token: None, ..bench.api.clone() };
    let body = json!({"username": "admin", "password": long});
    let problem = nobody.refused(413, Method::POST, "/session", Some(body.clone())).await;
    assert!(problem["detail"].as_str().unwrap().contains("16384"), "{problem}");
    // Nor of one whose credential is none.
    let forged = Api { token: Some("lqt_forged".into()), ..bench.api.clone() };
    forged.refused(413, Method::POST, "/session", Some(body)).await;
    // One who is known may say more.
    let text = format!("#cloud-config\n# {long}");
    let spec = json!({"vcpus": 1, "memory_bytes": 256 << 20, "cloud_init": {"user_data": text}});
    bench.api.ok(Method::POST, "/vms", Some(json!({"name": "much", "spec": spec}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_a_few_large_bodies_read_at_a_time() {
    let bench = Bench::new().await;
    bench.api.user("eve", json!([])).await;
    let eve = bench.api.logged_in("eve").await;
    // Bodies whose end does not come, of one who may do nothing at all.
    let (senders, bodies): (Vec<_>, Vec<_>) = (0..17)
        .map(|_| {
            let (sender, parts) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
            (sender, reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(parts)))
        })
        .unzip();
    let send = |body: reqwest::Body| {
        let request = eve.request(Method::POST, "/session/password");
        tokio::spawn(request.header(header::CONTENT_TYPE, "application/json").body(body).send())
    };
    let mut sent: Vec<_> = bodies.into_iter().map(send).collect();
    // One of them is one too many, whichever comes last.
    let over = async {
        loop {
            if let Some(at) = sent.iter().position(tokio::task::JoinHandle::is_finished) {
                return sent.remove(at).await.unwrap().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let over = tokio::time::timeout(PATIENCE, over).await.unwrap();
    assert_eq!(over.status(), 429);
    assert!(over.headers().contains_key(header::RETRY_AFTER));
    assert!(sent.iter().all(|s| !s.is_finished()), "the others are listened to");
    // Small ones are no matter, nor are those of others.
    let change = json!({"old": PASSWORD, "new": PASSWORD});
    eve.refused(422, Method::POST, "/session/password", Some(change)).await;
    let spec = json!({"description": "x".repeat(20 << 10), "permissions": []});
    bench.api.refused(422, Method::POST, "/roles", Some(json!({"name": "r", "spec": spec}))).await;
    drop(senders);
    for one in sent {
        let _ = one.await.unwrap();
    }
}
