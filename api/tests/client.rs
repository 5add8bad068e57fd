//! The client against a small server of its own: over TLS with a fresh certificate, and over a Unix socket.
#![cfg(feature = "client")]
// A test says what is wrong by panicking; its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, WebSocketUpgrade, ws},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures::{SinkExt, StreamExt};
use lq_api::{
    ImageId, Metadata, TaskId, Timestamp, UserId, VmId,
    access::SetPassword,
    client::{Client, Error, Fingerprint, Held, Pin, Progress, Wait},
    image::{Image, ImageFormat, ImageKind, ImageSpec, ImageState, ImageStatus},
    list::{ListQuery, Page},
    problem::{FieldError, Kind, Problem},
    task::{Task, TaskState},
    vm::{Vm, VmState},
};
use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpListener, UnixListener};

/// What the server saw and counts.
#[derive(Default)]
struct Seen {
    looks: AtomicU32,
    /// Requests refused because there were too many.
    refused: AtomicU32,
    paths: Mutex<Vec<String>>,
}

fn refuse(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, [(header::CONTENT_TYPE, lq_api::problem::MEDIA_TYPE)], Json(problem)).into_response()
}

fn vm(n: u128, name: &str, state: &str) -> Vm {
    serde_json::from_value(serde_json::json!({
        "meta": { "id": uuid::Uuid::from_u128(n), "name": name, "generation": 1, "revision": 7,
                  "created_at": "2026-01-01T00:00:00Z" },
        "spec": { "vcpus": 1, "memory_bytes": 67_108_864 },
        "status": { "state": state, "observed_generation": 1, "reason": (state == "failed").then_some("no kernel") }
    }))
    .unwrap()
}

fn task(id: TaskId, state: TaskState) -> Task {
    let message = (state == TaskState::Failed).then(|| "no kernel".into());
    Task { id, state, message, ..Task::begun("vm.start", "vms/1", "admin", Timestamp::UNIX_EPOCH) }
}

fn authorized(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|v| v == "Bearer secret")
        && headers.get("x-lq-request").is_some()
}

fn server(seen: Arc<Seen>) -> Router {
    Router::new()
        .route(
            "/api/v1/session",
            post(|Json(login): Json<lq_api::auth::Login>| async move {
                if login.password != "correct horse" {
                    return refuse(Problem::new(Kind::Unauthenticated, "wrong user name or password"));
                }
                Json(lq_api::auth::Session {
                    token: "secret".into(),
                    username: login.username,
                    expires_at: Timestamp::UNIX_EPOCH,
                    refresh_token: Some("next".into()),
                    refresh_expires_at: None,
                    must_change_password: false,
                })
                .into_response()
            }),
        )
        .route(
            "/api/v1/session/refresh",
            post(async |Json(refresh): Json<lq_api::auth::Refresh>| {
                assert_eq!(refresh.refresh_token.as_deref(), Some("next"));
                Json(lq_api::auth::Session {
                    token: "secret".into(),
                    username: "admin".into(),
                    expires_at: Timestamp::UNIX_EPOCH,
                    refresh_token: Some("after".into()),
                    refresh_expires_at: None,
                    must_change_password: false,
                })
            }),
        )
        .route(
            "/api/v1/vms",
            get(async |headers: HeaderMap, Query(query): Query<ListQuery>| {
                if !authorized(&headers) {
                    return refuse(Problem::new(Kind::Unauthenticated, "no token"));
                }
                // One per page, so that paging happens.
                let all = [vm(1, "one", "running"), vm(2, "two", "failed"), vm(3, "three", "stopped")];
                let all: Vec<_> = all
                    .into_iter()
                    .filter(|v| query.name.as_ref().is_none_or(|n| *n == v.meta.name))
                    .collect();
                let at: usize = query.cursor.map_or(0, |c| c.parse().unwrap());
                let next = (at + 1 < all.len()).then(|| (at + 1).to_string());
                let items = all.into_iter().skip(at).take(1).collect();
                Json(Page::<Vm> { items, next_cursor: next, revision: 9 }).into_response()
            }),
        )
        .route(
            "/api/v1/vms/{id}",
            get(async |Path(id): Path<uuid::Uuid>| match id.as_u128() {
                1 => Json(vm(1, "one", "running")).into_response(),
                2 => Json(vm(2, "two", "failed")).into_response(),
                _ => refuse(Problem::new(Kind::NotFound, "no such VM")),
            })
            .patch(async |headers: HeaderMap| match headers.get(header::IF_MATCH) {
                Some(tag) if tag == "\"7\"" => refuse(Problem::validation(vec![FieldError::new(
                    "spec.vcpus",
                    "0 is not between 1 and 64",
                )])),
                _ => refuse(Problem::new(Kind::Stale, "it is at revision 7")),
            }),
        )
        .route(
            "/api/v1/vms/{id}/console",
            get(async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
                if !authorized(&headers) {
                    return refuse(Problem::new(Kind::Unauthenticated, "no token"));
                }
                upgrade.on_upgrade(async |mut socket| {
                    socket.send(ws::Message::Binary("scroll-back".into())).await.unwrap();
                    while let Some(Ok(ws::Message::Binary(bytes))) = socket.recv().await {
                        if bytes == "bye" {
                            let frame = ws::CloseFrame { code: 4000, reason: "the VM was deleted".into() };
                            socket.send(ws::Message::Close(Some(frame))).await.unwrap();
                            return;
                        }
                        socket.send(ws::Message::Binary(bytes)).await.unwrap();
                    }
                })
            }),
        )
        .route(
            "/api/v1/tasks/{id}",
            get(async |State(seen): State<Arc<Seen>>, Path(id): Path<TaskId>| {
                match (seen.looks.fetch_add(1, Ordering::Relaxed), id.0.as_u128()) {
                    (0, _) => refuse(Problem::new(Kind::Unavailable, "electing")),
                    (1, _) => Json(task(id, TaskState::Running)).into_response(),
                    (_, 1) => Json(task(id, TaskState::Succeeded)).into_response(),
                    (_, 2) => Json(task(id, TaskState::Failed)).into_response(),
                    _ => Json(task(id, TaskState::Running)).into_response(),
                }
            }),
        )
        .route(
            "/api/v1/images/{id}/content",
            put(async |Path(id): Path<ImageId>, headers: HeaderMap, body: Body| {
                if id.0.as_u128() == 2 {
                    // As the daemon does: it reads on, so that its answer is not lost to a closed connection.
                    tokio::spawn(async move {
                        let mut rest = body.into_data_stream();
                        while let Some(Ok(_)) = rest.next().await {}
                    });
                    return refuse(Problem::new(Kind::NoSpace, "the pool has 3 MiB left"));
                }
                let mut digest = sha2::Sha256::default();
                let mut size = 0;
                let mut body = body.into_data_stream();
                while let Some(chunk) = body.next().await {
                    let chunk = chunk.unwrap();
                    size += chunk.len() as u64;
                    sha2::Digest::update(&mut digest, &chunk);
                }
                assert_eq!(headers[header::CONTENT_LENGTH].to_str().unwrap(), size.to_string());
                let mut sum = hex::encode(sha2::Digest::finalize(digest));
                if id.0.as_u128() == 3 {
                    sum = "0".repeat(64);
                }
                Json(Image {
                    meta: Metadata {
                        id,
                        name: "image".into(),
                        labels: Default::default(),
                        generation: 1,
                        revision: 1,
                        created_at: Timestamp::UNIX_EPOCH,
                    },
                    spec: ImageSpec {
                        kind: ImageKind::Disk,
                        format: ImageFormat::Raw,
                        pool: None,
                        sha256: None,
                        boot: None,
                    },
                    status: ImageStatus {
                        state: ImageState::Ready,
                        reason: None,
                        size_bytes: lq_api::Bytes(size),
                        virtual_size_bytes: lq_api::Bytes(size),
                        sha256: Some(sum),
                    },
                })
                .into_response()
            }),
        )
        .route(
            "/api/v1/events/stream",
            get(async || {
                let event = serde_json::json!({ "id": uuid::Uuid::nil(), "at": "2026-01-01T00:00:00Z",
                    "level": "info", "kind": "vm.started", "target": "vms/1", "message": "VM one started" });
                let text = format!(":\n\ndata: {event}\n\n");
                ([(header::CONTENT_TYPE, "text/event-stream")], text)
            }),
        )
        .route(
            // The number of refusals, and what the host says of when to come back.
            "/api/v1/users/{id}/password",
            post(async |State(seen): State<Arc<Seen>>, Path(id): Path<uuid::Uuid>, body: String| {
                let (refusals, after) = (id.as_u128() >> 64, id.as_u128() & u128::from(u64::MAX));
                let before = seen.refused.fetch_add(1, Ordering::Relaxed);
                if u128::from(before) < refusals {
                    let mut response = refuse(Problem::new(Kind::RateLimited, "too many requests"));
                    if after < 1000 {
                        response
                            .headers_mut()
                            .insert(header::RETRY_AFTER, after.to_string().parse().unwrap());
                    }
                    return response;
                }
                assert!(body.contains("correct horse"), "{body}");
                StatusCode::NO_CONTENT.into_response()
            }),
        )
        .fallback(async |State(seen): State<Arc<Seen>>, uri: axum::http::Uri| {
            seen.paths.lock().unwrap().push(uri.path().into());
            (StatusCode::BAD_GATEWAY, "<h1>not ours</h1>")
        })
        .with_state(seen)
}

/// Serves TLS with a certificate of its own; gives the address and the fingerprint.
async fn tls_server() -> (String, Fingerprint) {
    let made = rcgen::generate_simple_self_signed(vec!["host".into()]).unwrap();
    let fingerprint = Fingerprint::of(made.cert.der());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(axum::serve(Tls { listener, acceptor }, server(Arc::default())).into_future());
    (address, fingerprint)
}

struct Tls {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}
impl axum::serve::Listener for Tls {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (tcp, address) = self.listener.accept().await.unwrap();
            // A client that refuses our certificate ends here.
            if let Ok(tls) = self.acceptor.accept(tcp).await {
                return (tls, address);
            }
        }
    }
    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Serves on a Unix socket in a directory of its own.
fn unix_server() -> (Client, Arc<Seen>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Arc::<Seen>::default();
    tokio::spawn(axum::serve(listener, server(seen.clone())).into_future());
    (Client::unix(path).unwrap().with_token("secret"), seen, directory)
}

#[tokio::test]
async fn logs_in_over_a_pinned_certificate_and_uses_the_session() {
    let (address, fingerprint) = tls_server().await;
    assert_eq!(Client::probe(&address).await.unwrap(), fingerprint);
    let client = Client::new(&address, fingerprint).unwrap();

    let refused = client.login("admin", "wrong", None).await.map(drop).unwrap_err();
    assert!(refused.is(Kind::Unauthenticated), "{refused}");
    client.login("admin", "correct horse", None).await.unwrap();
    let names: Vec<_> = client.vms().await.unwrap().into_iter().map(|v| v.meta.name).collect();
    assert_eq!(names, ["one", "two", "three"]);

    let mut console = client.console(VmId::from(uuid::Uuid::from_u128(1))).await.unwrap();
    assert_eq!(console.next().await.unwrap().unwrap(), "scroll-back");
}

#[tokio::test]
async fn a_session_is_refreshed_before_it_ends_and_handed_out_to_be_kept() {
    let (client, _, _directory) = unix_server();
    let kept = Arc::<std::sync::Mutex<Vec<Held>>>::default();
    let old = |seconds| Held {
        token: "old".into(),
        refresh_token: "next".into(),
        since: Timestamp::now() - std::time::Duration::from_secs(seconds),
    };
    let keep = kept.clone();
    client.resume(old(10), move |held| keep.lock().unwrap().push(held.clone())).await;
    assert!(client.vms().await.unwrap_err().is(Kind::Unauthenticated), "young, so not refreshed");
    assert!(kept.lock().unwrap().is_empty());
    let keep = kept.clone();
    client.resume(old(400), move |held| keep.lock().unwrap().push(held.clone())).await;
    assert_eq!(client.vms().await.unwrap().len(), 3);
    let kept: Vec<_> = kept.lock().unwrap().iter().map(|h| h.refresh_token.clone()).collect();
    assert_eq!(kept, ["after"]);
}

#[tokio::test]
async fn another_certificate_is_refused_before_anything_is_sent() {
    let (address, presented) = tls_server().await;
    let expected = Fingerprint([7; 32]);
    let client = Client::new(&address, expected).unwrap().with_token("secret");
    for error in [client.vms().await.unwrap_err(), client.console(VmId::new()).await.map(drop).unwrap_err()] {
        match error {
            Error::Fingerprint { expected: e, presented: p, .. } => assert_eq!((e, p), (expected, presented)),
            other => panic!("{other:?}"),
        }
    }
    let doubtful = Client::new(&address, Pin::FirstUse(Arc::new(|_| false))).unwrap();
    assert!(matches!(doubtful.vms().await, Err(Error::NotTrusted { .. })));
}

#[tokio::test]
async fn a_host_that_is_away_is_a_transport_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::new(&address, Pin::first_seen()).unwrap();
    let error = client.vms().await.unwrap_err();
    assert!(error.is_transport() && error.is_transient(), "{error:?}");
    assert!(error.chain().contains("refused"), "{}", error.chain());
    assert!(client.console(VmId::new()).await.unwrap_err().is_transport());
}

#[tokio::test]
async fn objects_are_found_by_id_and_by_name() {
    let (client, _seen, _directory) = unix_server();
    assert_eq!(client.find_vm("two").await.unwrap().meta.id.0.as_u128(), 2);
    let id = uuid::Uuid::from_u128(1).to_string();
    assert_eq!(client.find_vm(&id).await.unwrap().meta.name, "one");
    for none in ["four".to_string(), VmId::new().to_string()] {
        assert!(matches!(client.find_vm(&none).await, Err(Error::NoSuch { kind: "VM", .. })));
    }
}

#[tokio::test]
async fn refusals_keep_their_fields_and_strange_answers_are_said() {
    let (client, seen, _directory) = unix_server();
    let id = VmId::from(uuid::Uuid::from_u128(1));
    let stale = client.update_vm(id, &Default::default(), Some(6)).await.unwrap_err();
    assert!(stale.is(Kind::Stale), "{stale}");
    let refused = client.update_vm(id, &Default::default(), Some(7)).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().errors[0].field, "spec.vcpus");
    match client.cluster().await.unwrap_err() {
        Error::Unexpected { status: 502, detail, .. } => assert!(detail.contains("not ours")),
        other => panic!("{other:?}"),
    }
    assert_eq!(seen.paths.lock().unwrap().as_slice(), ["/api/v1/cluster"]);
}

#[tokio::test]
async fn waiting_survives_a_busy_host_and_ends_at_a_verdict() {
    let wait = Wait { limit: Duration::from_secs(20), interval: Duration::from_millis(10) };
    let (client, _seen, _directory) = unix_server();
    let mut looks = 0;
    client.wait_task(uuid::Uuid::from_u128(1).into(), wait, |_| looks += 1).await.unwrap();
    assert_eq!(looks, 2, "the refused look is not shown");
    let failed = client.wait_task(uuid::Uuid::from_u128(2).into(), wait, |_| {}).await.unwrap_err();
    assert!(failed.to_string().contains("no kernel"), "{failed}");
    let short = Wait { limit: Duration::from_millis(30), interval: Duration::from_millis(10) };
    let late = client.wait_task(uuid::Uuid::from_u128(3).into(), short, |_| {}).await.unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late}");

    client.wait_vm_state(uuid::Uuid::from_u128(1).into(), VmState::Running, wait).await.unwrap();
    let failed = client.wait_vm_state(uuid::Uuid::from_u128(2).into(), VmState::Running, wait).await;
    assert!(matches!(failed, Err(Error::State { reason, .. }) if reason == "no kernel"));
    client.wait_vm_gone(uuid::Uuid::from_u128(4).into(), wait).await.unwrap();
}

#[tokio::test]
async fn uploads_are_streamed_counted_and_compared() {
    let (client, _seen, _directory) = unix_server();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![42; 3_000_001]).unwrap();
    let last = Arc::new(Mutex::new(Progress { sent: 0, total: 0 }));
    let shown = last.clone();
    let id = |n| ImageId::from(uuid::Uuid::from_u128(n));
    let image = client.upload_image(id(1), file.path(), move |p| *shown.lock().unwrap() = p).await.unwrap();
    assert_eq!(image.status.size_bytes.get(), 3_000_001);
    assert_eq!(*last.lock().unwrap(), Progress { sent: 3_000_001, total: 3_000_001 });

    let empty = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(client.upload_image(id(1), empty.path(), |_| {}).await.unwrap().status.size_bytes.get(), 0);

    let differs = client.upload_image(id(3), file.path(), |_| {}).await.unwrap_err();
    assert!(matches!(differs, Error::Corrupted { .. }), "{differs}");
    let missing = client.upload_image(id(1), "/nonexistent/file", |_| {}).await.unwrap_err();
    assert!(matches!(missing, Error::File { .. }), "{missing}");
    assert!(matches!(client.upload_image(id(1), "/", |_| {}).await, Err(Error::File { .. })));
}

#[tokio::test]
async fn an_upload_refused_half_way_says_why() {
    let (client, _seen, _directory) = unix_server();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let refused =
        client.upload_image(uuid::Uuid::from_u128(2).into(), file.path(), |_| {}).await.unwrap_err();
    assert!(refused.is(Kind::NoSpace), "{}", refused.chain());
}

#[tokio::test]
async fn a_console_carries_bytes_and_says_why_it_closed() {
    let (client, _seen, _directory) = unix_server();
    let id = VmId::from(uuid::Uuid::from_u128(1));
    let mut console = client.console(id).await.unwrap();
    assert_eq!(console.next().await.unwrap().unwrap(), "scroll-back");
    console.send(b"\x00\xff\r".as_slice().into()).await.unwrap();
    assert_eq!(console.next().await.unwrap().unwrap(), b"\x00\xff\r".as_slice());
    console.send("bye".into()).await.unwrap();
    match console.next().await {
        Some(Err(Error::Closed(reason))) => assert_eq!(reason, "the VM was deleted"),
        other => panic!("{other:?}"),
    }
    assert!(console.next().await.is_none());

    let stranger = client.clone();
    stranger.set_token(None);
    assert!(stranger.console(id).await.unwrap_err().is(Kind::Unauthenticated));
}

#[tokio::test]
async fn events_are_followed() {
    let (client, _seen, _directory) = unix_server();
    let mut events = client.follow_events(&Default::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().message, "VM one started");
    assert!(events.next().await.is_none());
}

/// Everything can be awaited on a task of its own.
#[tokio::test]
async fn the_futures_are_send() {
    let (client, _seen, _directory) = unix_server();
    let wait = Wait::seconds(5);
    tokio::spawn(async move {
        client.wait_vm_state(uuid::Uuid::from_u128(1).into(), VmState::Running, wait).await.unwrap();
        client.wait_task(uuid::Uuid::from_u128(1).into(), wait, |_| {}).await.unwrap();
        client.find_vm("one").await.unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_host_that_takes_no_more_requests_is_waited_for_as_it_says() {
    let password = SetPassword { password: "correct horse".into(), must_change_password: false };
    // So many refusals, each with these seconds to wait; 1000 stands for none said.
    let user = |refusals: u128, seconds: u128| UserId(uuid::Uuid::from_u128(refusals << 64 | seconds));
    let seconds = Duration::from_secs;
    for (who, limit, waits, requests, answered) in [
        (user(0, 1), Some(5), vec![], 1, true),
        (user(2, 1), Some(5), vec![1, 1], 3, true),
        // No time at all is a second.
        (user(1, 0), Some(5), vec![1], 2, true),
        // More than the limit is not waited for, at once or in all.
        (user(1, 6), Some(5), vec![], 1, false),
        (user(9, 1), Some(2), vec![1, 1], 3, false),
        (user(1, 1000), Some(5), vec![], 1, false),
        // Nobody asked to wait.
        (user(1, 1), None, vec![], 1, false),
    ] {
        let (client, seen, _directory) = unix_server();
        let told = Arc::new(Mutex::new(vec![]));
        let client = match limit {
            Some(limit) => {
                let told = told.clone();
                client.patient(seconds(limit), move |wait| told.lock().unwrap().push(wait))
            }
            None => client,
        };
        let answer = client.set_password(who, &password).await;
        assert_eq!(answer.is_ok(), answered, "{who}: {answer:?}");
        assert!(answered || answer.unwrap_err().is(Kind::RateLimited), "{who}");
        let waits: Vec<_> = waits.into_iter().map(seconds).collect();
        assert_eq!(*told.lock().unwrap(), waits, "{who}");
        assert_eq!(seen.refused.load(Ordering::Relaxed), requests, "{who}");
    }
}
