//! A daemon with a simulated host, and a client that trusts exactly its certificate.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

pub mod hosts;
pub mod loopback;

use lq_mgmtd::{
    auth::Clock,
    config::{Config, Crowd, HostKind},
    daemon::Daemon,
    http::Rates,
};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

pub const PASSWORD: &str = "correct horse battery";
/// Longest a condition is waited for; only ever reached by a fault.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn config(dir: &Path) -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        peer_listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        discovery_port: None,
        state: dir.join("state"),
        api_socket: dir.join("run/api.sock"),
        setup_code: dir.join("run/setup-code"),
        fingerprint: dir.join("run/fingerprint"),
        pool: dir.join("pool"),
        shared: dir.join("servers"),
        admin_password: dir.join("admin-password"),
        join_token: dir.join("join-token"),
        clock: Clock::default(),
        rates: Rates::default(),
        host: HostKind::Simulated { crowd: Crowd::default() },
    }
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub daemon: Option<Daemon>,
    pub api: Api,
}

/// A client with a credential.
#[derive(Clone)]
pub struct Api {
    pub http: Client,
    pub base: String,
    pub address: SocketAddr,
    pub token: Option<String>,
}

pub fn client(dir: &Path, address: SocketAddr) -> Api {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(dir.join("state/tls.crt")).unwrap();
    let certificate = reqwest::Certificate::from_pem(&pem).unwrap();
    // Certificates name no address of a test's own.
    let http =
        Client::builder().tls_certs_only([certificate]).resolve("localhost", address).timeout(PATIENCE);
    Api { http: http.build().unwrap(), base: base(address), address, token: None }
}

fn base(address: SocketAddr) -> String {
    match address.ip() == loopback::own_address() {
        true => format!("https://localhost:{}", address.port()),
        false => format!("https://{address}"),
    }
}

impl Bench {
    /// A daemon whose administrator has [`PASSWORD`] and is logged in.
    pub async fn new() -> Self {
        Self::fresh().await.set_up().await
    }

    /// The same of one that differs from [`config`].
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Self::started(dir, config).await.set_up().await
    }

    async fn set_up(self) -> Self {
        let mut bench = self;
        let code = std::fs::read_to_string(bench.dir.path().join("run/setup-code")).unwrap();
        let body = json!({"code": code.trim(), "password": PASSWORD});
        let session = bench.api.ok(Method::POST, "/setup", Some(body)).await;
        bench.api.token = Some(session["token"].as_str().unwrap().to_owned());
        bench
    }

    /// A daemon at its first start.
    pub async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        Self::started(dir, config).await
    }

    async fn started(dir: tempfile::TempDir, config: Config) -> Self {
        let daemon = Daemon::start(config).await.unwrap();
        let api = client(dir.path(), daemon.addresses()[0]);
        Self { dir, daemon: Some(daemon), api }
    }

    /// The daemon ends and starts again on the same state. The session goes on.
    pub async fn restart(&mut self) {
        self.daemon.take().unwrap().stop().await;
        let daemon = Daemon::start(config(self.dir.path())).await.unwrap();
        self.api.address = daemon.addresses()[0];
        self.api.base = base(self.api.address);
        self.daemon = Some(daemon);
    }
}

/// A stream of bytes.
pub type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

impl Api {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// A stream of bytes at a path.
    pub async fn socket(&self, path: &str) -> Socket {
        let url = format!("{}/api/v1{path}", self.base.replacen("https", "wss", 1));
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token.as_ref().unwrap());
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(insecure_tls()).connect(name, stream).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    }

    /// Status and body of the answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// The body of an answer that must be good.
    pub async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// A new session.
    pub async fn login(&self, name: &str, password: &str) -> Value {
        let mut nobody = self.clone();
        nobody.token = None;
        nobody.ok(Method::POST, "/session", Some(json!({"username": name, "password": password}))).await
    }

    /// A client of a user whose password is [`PASSWORD`].
    pub async fn logged_in(&self, name: &str) -> Self {
        let session = self.login(name, PASSWORD).await;
        Self { token: session["token"].as_str().map(str::to_owned), ..self.clone() }
    }

    /// A user with these grants and [`PASSWORD`].
    pub async fn user(&self, name: &str, grants: Value) -> String {
        let spec = json!({"grants": grants});
        let body = json!({"name": name, "spec": spec, "password": PASSWORD, "must_change_password": false});
        id(&self.ok(Method::POST, "/users", Some(body)).await)
    }

    /// The id of a role.
    pub async fn role(&self, name: &str) -> String {
        id(&self.get(&format!("/roles?name={name}")).await["items"][0])
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, None).await
    }

    /// The problem of an answer that must be bad in this way.
    pub async fn refused(&self, status: u16, method: Method, path: &str, body: Option<Value>) -> Value {
        let (found, answer) = self.call(method.clone(), path, body).await;
        assert_eq!(found.as_u16(), status, "{method} {path}: {answer}");
        assert_eq!(answer["status"], status, "{answer}");
        answer
    }

    /// Waits until what is at `path` is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await;
            if wanted(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "waited in vain at {path}: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a task's end; answers with the task.
    pub async fn ended(&self, task: &Value) -> Value {
        let path = format!("/tasks/{}", task["id"].as_str().unwrap());
        self.until(&path, |t| t["state"] != "running").await
    }

    /// Does what must end in a good task.
    pub async fn done(&self, method: Method, path: &str, body: Option<Value>) {
        let task = self.ok(method.clone(), path, body).await;
        let ended = self.ended(&task).await;
        assert_eq!(ended["state"], "succeeded", "{method} {path}: {ended}");
    }

    /// An image of this kind with this content.
    pub async fn image(&self, name: &str, kind: &str, content: Vec<u8>) -> String {
        let body = json!({"name": name, "spec": {"kind": kind, "format": "raw"}});
        let id = id(&self.ok(Method::POST, "/images", Some(body)).await);
        let upload = self.request(Method::PUT, &format!("/images/{id}/content")).body(content);
        let (status, image) = answer(upload).await;
        assert!(status.is_success(), "{image}");
        assert_eq!(image["status"]["state"], "ready");
        id
    }

    /// A machine with a disk and an interface, not started.
    pub async fn vm(&self, name: &str) -> (String, String) {
        let kernel = self.image(&format!("{name}-kernel"), "kernel", kernel()).await;
        let body = json!({"name": format!("{name}-disk"), "spec": {"size_bytes": 4 << 20}});
        let volume = id(&self.ok(Method::POST, "/volumes", Some(body)).await);
        self.until(&format!("/volumes/{volume}"), |v| v["status"]["state"] == "ready").await;
        let network = id(&self.get("/networks?name=default").await["items"][0]);
        let body = json!({"name": name, "spec": {
            "vcpus": 1, "memory_bytes": 128 << 20,
            "boot": {"kernel": kernel, "cmdline": "console=ttyS0"},
            "disks": [{"volume": volume}], "nics": [{"network": network}],
        }});
        (id(&self.ok(Method::POST, "/vms", Some(body)).await), volume)
    }
}

pub fn id(object: &Value) -> String {
    object["meta"]["id"].as_str().unwrap_or_else(|| panic!("no id in {object}")).to_owned()
}

pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
    let bytes = response.bytes().await.unwrap();
    let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    (status, value)
}

/// The least that passes for a kernel: the ELF and bzImage magic are looked at by the pool.
pub fn kernel() -> Vec<u8> {
    let mut bytes = vec![0u8; 64 << 10];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes
}

/// A TLS client that looks at no certificate: what it is used for is not the certificate.
pub fn insecure_tls() -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::{
        DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };
    #[derive(Debug)]
    struct Anyone;
    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Anyone))
        .with_no_client_auth();
    std::sync::Arc::new(config)
}
