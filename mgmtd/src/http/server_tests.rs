use super::*;
use crate::http::{extract, tls};
use axum::{Extension, routing::get};
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const SHORT: Duration = Duration::from_millis(300);
/// Longest anything is waited for; only ever reached by a fault.
const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

fn limits() -> Limits {
    Limits {
        clients: Share { strangers: 4, of_a_source: 2, known: 4 },
        peers: Share { strangers: 1, of_a_source: 1, known: 1 },
        local: 2,
        handshake: LONG,
        head: LONG,
        body: Pace { stranger: LONG, known: LONG },
        stranger: LONG,
    }
}

struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    address: SocketAddr,
    connector: TlsConnector,
}

impl Bench {
    async fn new(limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let tls = tls::load(dir.path(), "localhost", &[]).unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/know", get(|Extension(seat): Extension<Seat>| async move { seat.0.know() }))
            .route("/body", axum::routing::post(|_: extract::Json<serde_json::Value>| async { "taken" }));
        let server = Server::with_limits(router, CancellationToken::new(), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        server.listen_tls(listener, tls.config);
        server.listen_local(&dir.path().join("api.sock")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(dir.path().join("tls.crt")).unwrap();
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { dir, server, address, connector: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, TcpStream::connect(self.address).await?).await
    }
}

/// Asks, and answers with the head and what came with it.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let n = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

fn get_(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Waits until the other side closes.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // How it is closed does not matter here.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn places_taken_by_strangers_leave_room_for_others() {
    let bench = Bench::new(limits()).await;
    let mut first = bench.connect().await.unwrap();
    let mut second = bench.connect().await.unwrap();
    assert!(ask(&mut first, &get_("/")).await.starts_with("HTTP/1.1 200"));
    assert!(bench.connect().await.is_err(), "a third of one source");
    // The host itself has its own share.
    let mut local = UnixStream::connect(bench.dir.path().join("api.sock")).await.unwrap();
    assert!(ask(&mut local, &get_("/")).await.contains("here"));
    // Whoever is known makes room.
    ask(&mut second, &get_("/know")).await;
    let mut third = bench.connect().await.unwrap();
    assert!(ask(&mut third, &get_("/")).await.contains("here"));
    drop(first);
    let end = Instant::now() + PATIENCE;
    while bench.connect().await.is_err() {
        assert!(Instant::now() < end, "a place did not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_even_greet_is_not_waited_for() {
    let bench = Bench::new(Limits { handshake: SHORT, ..limits() }).await;
    let mut silent = TcpStream::connect(bench.address).await.unwrap();
    closed(&mut silent).await;
    bench.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_served_for_a_while_and_the_known_for_long() {
    let bench = Bench::new(Limits { stranger: SHORT, ..limits() }).await;
    let mut silent = bench.connect().await.unwrap();
    let mut known = bench.connect().await.unwrap();
    ask(&mut known, &get_("/know")).await;
    closed(&mut silent).await;
    // One that begins a request and never ends it is cut off.
    let mut slow = bench.connect().await.unwrap();
    slow.write_all(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        .await
        .unwrap();
    slow.write_all(b"Content-Length: 100\r\n\r\n{").await.unwrap();
    closed(&mut slow).await;
    assert!(ask(&mut known, &get_("/")).await.contains("here"));
    bench.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_refused_and_a_slow_one_of_the_known_taken() {
    let body = Pace { stranger: SHORT, known: Duration::from_secs(20) };
    let bench = Bench::new(Limits { body, ..limits() }).await;
    let head = "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    let mut stranger = bench.connect().await.unwrap();
    let answer = ask(&mut stranger, &format!("{head}{{")).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("too slowly"), "{answer}");
    closed(&mut stranger).await;
    let mut known = bench.connect().await.unwrap();
    ask(&mut known, &get_("/know")).await;
    known.write_all(format!("{head}{{").as_bytes()).await.unwrap();
    tokio::time::sleep(2 * SHORT).await;
    assert!(ask(&mut known, "}").await.contains("taken"));
    bench.server.end().await;
}

/// HTTP/2 carries many requests at once over one connection.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_stranger_only_a_few_requests_of_a_connection_are_answered_at_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (dir, ending) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let tls = tls::load(dir.path(), "localhost", &[]).unwrap();
    let busy = || async {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(SHORT).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
    };
    let router = Router::new()
        .route("/busy", get(busy))
        .route("/know", get(|Extension(seat): Extension<Seat>| async move { seat.0.know() }));
    let server = Server::with_limits(router, ending, limits());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    server.listen_tls(listener, tls.config);
    let pem = std::fs::read(dir.path().join("tls.crt")).unwrap();
    let certificate = reqwest::Certificate::from_pem(&pem).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([certificate]).resolve("localhost", address);
    let client = client.build().unwrap();
    let at = |path: &str| client.get(format!("https://localhost:{}{path}", address.port())).send();
    let many = || async {
        MOST.store(0, Ordering::SeqCst);
        let answers = futures::future::join_all((0..24).map(|_| at("/busy"))).await;
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
        }
        MOST.load(Ordering::SeqCst)
    };
    // One connection: the client learns by the first answer that it carries many requests.
    at("/busy").await.unwrap();
    assert_eq!(many().await, 8);
    at("/know").await.unwrap();
    let most = many().await;
    assert!(most > 8, "{most}: the known wait for nobody");
    server.end().await;
}
