//! A BMC that speaks Redfish (DSP0266) over real TLS on the loopback, with the faults real ones have.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test uses a part, and so does the crate itself")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// Its user and password.
pub const USER: &str = "lq";
pub const PASSWORD: &str = "open sesame";

/// How it behaves from now on.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Every request is answered with this.
    pub status: Option<u16>,
    /// Before each answer.
    pub slow: Duration,
    /// The power state it tells, whatever is true.
    pub lies: Option<&'static str>,
    /// What it is told to do it takes, and does not do.
    pub deaf: bool,
    /// What it is told to do it refuses.
    pub refuses: bool,
    /// So many questions later it is off.
    pub lingers: u32,
    /// Where it says that its systems are.
    pub systems: Option<&'static str>,
}

struct Inner {
    manners: Manners,
    power: &'static str,
    /// Questions until it is off.
    left: Option<u32>,
    /// What it was told to do.
    told: Vec<String>,
    ids: Vec<String>,
    password: String,
}

/// The BMC. It ends with the test.
pub struct FakeBmc {
    pub address: SocketAddr,
    /// SHA-256 of its certificate, hexadecimal.
    pub certificate: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Drop for FakeBmc {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeBmc {
    /// Of one system, which is on.
    pub async fn start() -> Self {
        Self::of(&["1"]).await
    }

    /// Of these systems.
    pub async fn of(ids: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["bmc".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let sha256 = hex::encode(Sha256::digest(certificate.der()));
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            manners: Manners::default(),
            power: "On",
            left: None,
            told: vec![],
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            password: PASSWORD.into(),
        }));
        let serving = inner.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inner) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(inner.clone(), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, certificate: sha256, inner, server }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn manners(&self, manners: Manners) {
        self.inner().manners = manners;
    }

    /// The machine loses its power, or gets it.
    pub fn power(&self, power: &'static str) {
        self.inner().power = power;
    }

    /// It is on, does as it should, and has forgotten what it was told.
    pub fn reset(&self) {
        let mut inner = self.inner();
        (inner.manners, inner.power, inner.left) = (Manners::default(), "On", None);
        inner.told.clear();
    }

    pub fn change_password(&self, password: &str) {
        self.inner().password = password.into();
    }

    /// What it was told to do so far.
    pub fn told(&self) -> Vec<String> {
        self.inner().told.clone()
    }

    /// As `PUT /hosts/{id}/bmc` takes it.
    pub fn settings(&self) -> Value {
        let spec = json!({
            "protocol": "redfish", "address": self.address.to_string(), "username": USER, "certificate": self.certificate,
        });
        json!({"spec": spec, "password": PASSWORD})
    }
}

async fn answer(
    inner: Arc<Mutex<Inner>>,
    request: Request<Incoming>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let slow = inner.lock().unwrap().manners.slow;
    if !slow.is_zero() {
        tokio::time::sleep(slow).await;
    }
    let given = parts.headers.get(header::AUTHORIZATION).cloned();
    let (status, value) = respond(&mut inner.lock().unwrap(), &parts.method, parts.uri.path(), given, &body);
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    Ok(response.body(Full::new(value.to_string().into())).unwrap())
}

fn respond(
    inner: &mut Inner,
    method: &Method,
    path: &str,
    given: Option<header::HeaderValue>,
    body: &[u8],
) -> (StatusCode, Value) {
    let failure = |status: StatusCode, message: &str| (status, json!({"error": {"message": message}}));
    if let Some(status) = inner.manners.status {
        return failure(StatusCode::from_u16(status).unwrap(), "as it was asked to");
    }
    if path == "/redfish/v1/" {
        let systems = inner.manners.systems.unwrap_or("/redfish/v1/Systems");
        return (StatusCode::OK, json!({"RedfishVersion": "1.6.0", "Systems": {"@odata.id": systems}}));
    }
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{}", inner.password)));
    if given.is_none_or(|g| g.as_bytes() != right.as_bytes()) {
        return failure(StatusCode::UNAUTHORIZED, "who are you?");
    }
    let of = |id: &str| format!("/redfish/v1/Systems/{id}");
    if path == "/redfish/v1/Systems" && method == Method::GET {
        let members: Vec<Value> = inner.ids.iter().map(|id| json!({"@odata.id": of(id)})).collect();
        return (StatusCode::OK, json!({"Members": members}));
    }
    let Some(id) = inner.ids.iter().find(|id| path.starts_with(&of(id))).cloned() else {
        return failure(StatusCode::NOT_FOUND, "there is no such thing");
    };
    let reset = format!("{}/Actions/ComputerSystem.Reset", of(&id));
    if path == of(&id) && method == Method::GET {
        if let Some(left) = &mut inner.left {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => (inner.left, inner.power) = (None, "Off"),
            }
        }
        let shown = inner.manners.lies.unwrap_or(inner.power);
        let action = json!({
            "target": reset, "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown"],
        });
        let system = json!({
            "Id": id, "Manufacturer": "Contoso", "Model": "3500RX", "SerialNumber": "437XR1138R2", "PowerState": shown,
            "Actions": {"#ComputerSystem.Reset": action},
        });
        return (StatusCode::OK, system);
    }
    if path == reset && method == Method::POST {
        let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
        let wanted = wanted["ResetType"].as_str().unwrap_or_default().to_owned();
        inner.told.push(wanted.clone());
        match (inner.manners.deaf, &*wanted) {
            (true, _) => {}
            _ if inner.manners.refuses => return failure(StatusCode::SERVICE_UNAVAILABLE, "not now"),
            (_, "ForceOff") if inner.power == "Off" => return failure(StatusCode::CONFLICT, "it is off"),
            (_, "ForceOff") if inner.manners.lingers > 0 => inner.left = Some(inner.manners.lingers),
            (_, "ForceOff") => inner.power = "Off",
            (_, "On") => inner.power = "On",
            _ => return failure(StatusCode::BAD_REQUEST, "no such reset"),
        }
        return (StatusCode::NO_CONTENT, Value::Null);
    }
    failure(StatusCode::METHOD_NOT_ALLOWED, "not this")
}
