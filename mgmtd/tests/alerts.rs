//! Alerts and notifications on a running daemon: raised, acknowledged, silenced, resolved, over a restart, and told to real
//! servers in this process: a webhook, a mail server with STARTTLS, syslog over TCP and TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Bench, id};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// A pool that is filled to nothing at all is too full: raises `pool-filling` on any machine.
fn always() -> Value {
    json!({"enabled": true, "hold_seconds": 0, "clear_seconds": 0, "warning": 0.0})
}

async fn raise(bench: &Bench) -> Value {
    bench.api.ok(Method::PUT, "/alert-rules/pool-filling", Some(always())).await;
    let wanted = |page: &Value| !page["items"].as_array().unwrap().is_empty();
    bench.api.until("/alerts?rule=pool-filling", wanted).await["items"][0].clone()
}

async fn resolve(bench: &Bench) {
    // Switched off, not set back: the disk of the machine this runs on may be full enough for the defaults.
    let mut off = always();
    off["enabled"] = false.into();
    bench.api.ok(Method::PUT, "/alert-rules/pool-filling", Some(off)).await;
    let gone = |page: &Value| page["items"].as_array().unwrap().is_empty();
    bench.api.until("/alerts?rule=pool-filling", gone).await;
}

/// A certificate for 127.0.0.1, and what serves with it.
fn tls() -> (String, TlsAcceptor) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn channel(bench: &Bench, name: &str, target: Value, secret: Option<&str>) -> String {
    let mut body = json!({"name": name, "spec": {"min_severity": "info", "target": target}});
    if let Some(secret) = secret {
        body["secret"] = secret.into();
    }
    id(&bench.api.ok(Method::POST, "/notification-channels", Some(body)).await)
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(common::PATIENCE, receiver.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_raised_taken_note_of_and_resolved_over_a_restart() {
    let mut bench = Bench::new().await;
    let alert = raise(&bench).await;
    let place = format!("/alerts/{}", alert["id"].as_str().unwrap());
    assert_eq!((alert["severity"].as_str(), alert["target_name"].as_str()), (Some("warning"), Some("local")));
    assert!(alert["target"].as_str().unwrap().starts_with("pool/"));
    let events = bench.api.get("/events?kind=alert.raised").await;
    assert_eq!(events["items"][0]["target"], alert["target"]);

    let body = json!({"comment": "a disk is on its way"});
    let noted = bench.api.ok(Method::POST, &format!("{place}/acknowledge"), Some(body)).await;
    assert_eq!(noted["acknowledged"]["by"], "admin");
    let silent = bench.api.ok(Method::POST, &format!("{place}/silence"), Some(json!({"minutes": 60}))).await;
    assert!(silent["silenced"]["until"].as_str() > silent["raised_at"].as_str());
    let problem = bench
        .api
        .refused(422, Method::POST, &format!("{place}/silence"), Some(json!({"minutes": 525_601})))
        .await;
    assert_eq!(problem["errors"][0]["field"], "minutes");

    bench.restart().await;
    assert_eq!(bench.api.get(&place).await, silent, "what was raised is there, and not raised again");
    resolve(&bench).await;
    let over = bench.api.get("/alerts?state=resolved").await;
    assert_eq!(over["items"][0]["id"], alert["id"]);
    bench.api.refused(409, Method::POST, &format!("{place}/acknowledge"), None).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_seen_by_those_who_see_what_they_are_about_and_come_by_the_watch() {
    let bench = Bench::new().await;
    let grants = |role: String| json!([{"role": role, "scope": {"kind": "cluster"}}]);
    bench.api.user("nobody", json!([])).await;
    bench.api.user("auditor", grants(bench.api.role("auditor").await)).await;
    let (nobody, auditor) = (bench.api.logged_in("nobody").await, bench.api.logged_in("auditor").await);
    let mut watching = auditor.request(Method::GET, "/watch").send().await.unwrap();
    let alert = raise(&bench).await;
    let place = format!("/alerts/{}", alert["id"].as_str().unwrap());
    assert_eq!(nobody.get("/alerts").await["items"], json!([]));
    nobody.refused(404, Method::GET, &place, None).await;
    nobody.refused(404, Method::POST, &format!("{place}/acknowledge"), None).await;
    assert_eq!(auditor.get(&place).await["id"], alert["id"]);
    auditor.refused(403, Method::POST, &format!("{place}/acknowledge"), None).await;
    auditor.refused(403, Method::PUT, "/alert-rules/host-lost", Some(always())).await;
    let mut text = String::new();
    while !text.contains("event: alert") {
        let chunk = tokio::time::timeout(common::PATIENCE, watching.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains(r#""kind":"alert""#), "{text}");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_again_until_it_takes_it_and_its_secret_is_never_told() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (pem, acceptor) = tls();
    let (sender, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let request = http_request(&mut stream).await;
            // The first time it is out of order.
            let status = if n == 0 { "503 Down" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
            sender.send(request).unwrap();
        }
    });
    let url = format!("https://127.0.0.1:{port}/hook?x=1");
    let target = json!({"kind": "webhook", "url": url, "ca": pem});
    let channel = channel(&bench, "hook", target, Some("key of the signature")).await;
    let place = format!("/notification-channels/{channel}");
    let alert = raise(&bench).await;
    let (first, _) = next(&mut told).await;
    let failing = bench.api.until(&place, |c| c["status"]["failure"].is_string()).await;
    assert!(failing["status"]["failure"].as_str().unwrap().contains("503"), "{failing}");
    assert_eq!(
        (failing["status"]["waiting"].as_u64(), failing["has_secret"].as_bool()),
        (Some(1), Some(true))
    );
    assert!(!failing.to_string().contains("key of the signature"));
    let (head, body) = next(&mut told).await;
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(first.lines().next(), head.lines().next());
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key of the signature");
    let signature = format!("sha256={}", hex::encode(ring::hmac::sign(&key, body.as_bytes())));
    assert!(head.to_lowercase().contains(&format!("x-lq-signature: {signature}")), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((body["cause"].as_str(), &body["alert"]["id"]), (Some("raised"), &alert["id"]));
    let well = bench.api.until(&place, |c| c["status"]["delivered_at"].is_string()).await;
    assert_eq!((&well["status"]["failure"], well["status"]["waiting"].as_u64()), (&Value::Null, Some(0)));
    resolve(&bench).await;
    let (_, body) = next(&mut told).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["cause"], "resolved");

    // Another certificate than the one it is pinned to is refused.
    let (other, _) = tls();
    let spec = json!({"target": {"kind": "webhook", "url": url, "ca": other}});
    bench.api.ok(Method::PATCH, &place, Some(json!({"spec": spec}))).await;
    let test = bench.api.ok(Method::POST, &format!("{place}/test"), None).await;
    assert!(test["failure"].as_str().unwrap().contains("no TLS with 127.0.0.1"), "{test}");
    let spec = json!({"target": {"kind": "webhook", "url": "https://127.0.0.1:1/"}});
    let refused = bench.api.refused(422, Method::PATCH, &place, Some(json!({"spec": spec}))).await;
    assert_eq!(refused["errors"][0]["field"], "secret", "it does not go to another server");
    bench.daemon.unwrap().stop().await;
}

/// Head and body of a request.
async fn http_request(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut block = [0; 4096];
        let n = stream.read(&mut block).await.unwrap();
        assert!(n > 0, "the request ended early: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&block[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            return (head.to_owned(), body.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_by_starttls_with_a_password() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (pem, acceptor) = tls();
    let (sender, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let before = smtp(&mut stream, "250-test\r\n250 STARTTLS\r\n", true).await;
            assert!(before.iter().all(|l| !l.contains("AUTH")), "a password before TLS: {before:?}");
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let said = smtp(&mut stream, "250-test\r\n250-SIZE 100\r\n250 AUTH LOGIN PLAIN\r\n", false).await;
            sender.send(said).unwrap();
        }
    });
    let target = json!({"kind": "mail", "server": "127.0.0.1", "port": port, "username": "lq", "ca": pem,
        "from": "lq@example.org", "to": ["ops@example.org", "two@example.org"]});
    let channel = channel(&bench, "mail", target, Some("hunter2")).await;
    raise(&bench).await;
    let said = next(&mut told).await;
    let plain = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "\0lq\0hunter2");
    let text = said.join("\n");
    for line in [
        format!("AUTH PLAIN {plain}").as_str(),
        "MAIL FROM:<lq@example.org>",
        "RCPT TO:<ops@example.org>",
        "RCPT TO:<two@example.org>",
        "Subject: [warning] Pool filling: local",
        "QUIT",
    ] {
        assert!(said.iter().any(|l| l == line), "{line} is missing in {text}");
    }
    let body: String =
        said.iter().skip_while(|l| !l.is_empty()).take_while(|l| *l != ".").map(String::as_str).collect();
    let body = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    assert!(String::from_utf8(body).unwrap().contains("Rule: pool-filling"));

    // One that offers no TLS gets nothing.
    let bare = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = bare.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = bare.accept().await.unwrap();
        smtp(&mut stream, "250 test\r\n", false).await;
    });
    let spec = json!({"target": {"kind": "mail", "server": "127.0.0.1", "port": port, "username": "lq",
        "from": "lq@example.org", "to": ["ops@example.org"]}});
    let body = json!({"spec": spec, "secret": "hunter2"});
    bench.api.ok(Method::PATCH, &format!("/notification-channels/{channel}"), Some(body)).await;
    let test = bench.api.ok(Method::POST, &format!("/notification-channels/{channel}/test"), None).await;
    assert!(test["failure"].as_str().unwrap().contains("no STARTTLS"), "{test}");
    bench.daemon.unwrap().stop().await;
}

/// Plays a mail server on a connection; ends after QUIT, or with `until_tls` when TLS is to begin. Answers with what was said.
async fn smtp(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    hello: &str,
    until_tls: bool,
) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut said = Vec::new();
    let mut in_mail = false;
    if until_tls || !hello.contains("AUTH") {
        stream.get_mut().write_all(b"220-test\r\n220 ready\r\n").await.unwrap();
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return said;
        }
        let line = line.trim_end().to_owned();
        said.push(line.clone());
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "." if in_mail => {
                in_mail = false;
                "250 taken\r\n"
            }
            _ if in_mail => continue,
            "EHLO" => hello,
            "AUTH" => "235 welcome\r\n",
            "DATA" => {
                in_mail = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            "STARTTLS" => "220 go on\r\n",
            _ => "250 fine\r\n",
        };
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        if line == "QUIT" || line == "STARTTLS" && until_tls {
            return said;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_takes_frames_of_rfc_5424_over_tcp_and_tls() {
    let bench = Bench::new().await;
    let (plain, secure) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let ports = [plain.local_addr().unwrap().port(), secure.local_addr().unwrap().port()];
    let (pem, acceptor) = tls();
    let (sender, mut told) = mpsc::unbounded_channel();
    let other = sender.clone();
    tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = plain.accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        other.send(("tcp", bytes)).unwrap();
    });
    tokio::spawn(async move {
        let (stream, _) = secure.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        sender.send(("tls", bytes)).unwrap();
    });
    let target = json!({"kind": "syslog", "server": "127.0.0.1", "port": ports[0], "tls": false});
    channel(&bench, "plain", target, None).await;
    let target = json!({"kind": "syslog", "server": "127.0.0.1", "port": ports[1], "ca": pem});
    channel(&bench, "secure", target, None).await;
    let alert = raise(&bench).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (kind, bytes) = next(&mut told).await;
        let text = String::from_utf8(bytes).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()), "octets are counted: {text}");
        // Facility daemon (3), severity warning (4); time, host, program, no process id, the rule.
        let fields: Vec<_> = message.splitn(8, ' ').collect();
        assert_eq!(
            (fields[0], fields[3], fields[4], fields[5]),
            ("<28>1", "limiquantix", "-", "pool-filling")
        );
        assert!(fields[1].ends_with('Z') && fields[1].parse::<lq_api::Timestamp>().is_ok(), "{message}");
        assert!(message.contains(&format!("id=\"{}\"", alert["id"].as_str().unwrap())), "{message}");
        assert!(message.contains("] \u{feff}[warning] Pool filling: local"), "{message}");
        kinds.push(kind);
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["tcp", "tls"]);
    bench.daemon.unwrap().stop().await;
}

/// A server that is not there yet: it has its port, and refuses everyone.
fn away() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_and_syslog_are_told_once_their_servers_are_there() {
    let bench = Bench::new().await;
    let ((mail, mail_port), (log, log_port)) = (away(), away());
    let target = json!({"kind": "mail", "server": "127.0.0.1", "port": mail_port, "security": "none",
        "from": "lq@example.org", "to": ["ops@example.org"]});
    let by_mail = channel(&bench, "mail", target, None).await;
    let target = json!({"kind": "syslog", "server": "127.0.0.1", "port": log_port, "tls": false});
    let by_log = channel(&bench, "log", target, None).await;
    raise(&bench).await;
    for channel in [&by_mail, &by_log] {
        let place = format!("/notification-channels/{channel}");
        let failing = bench.api.until(&place, |c| c["status"]["failure"].is_string()).await;
        assert!(failing["status"]["failure"].as_str().unwrap().contains("refused"), "{failing}");
        assert_eq!(failing["status"]["waiting"], 1, "{failing}");
    }
    // More happens meanwhile: it waits its turn.
    resolve(&bench).await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let (mail, log) = (mail.listen(8).unwrap(), log.listen(8).unwrap());
    let by = sender.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = mail.accept().await.unwrap();
            let said = smtp(&mut stream, "250 test\r\n", false).await;
            let subject = said.into_iter().find(|l| l.starts_with("Subject: "));
            by.send(("mail", subject.unwrap())).unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = log.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            sender.send(("syslog", text)).unwrap();
        }
    });
    let mut of = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for _ in 0..4 {
        let (kind, text) = next(&mut told).await;
        of.entry(kind).or_default().push(text);
    }
    for (kind, told) in &of {
        assert_eq!(told.len(), 2, "{kind}: {told:?}");
        let begun = |text: &str| text.contains("[warning] Pool filling");
        assert!(begun(&told[0]) && !begun(&told[1]), "in order: {told:?}");
    }
    for channel in [by_mail, by_log] {
        let place = format!("/notification-channels/{channel}");
        let well = bench.api.until(&place, |c| c["status"]["waiting"] == 0).await;
        assert_eq!(well["status"]["failure"], Value::Null, "{well}");
    }
    bench.daemon.unwrap().stop().await;
}
