//! How hosts reach each other: HTTP/1.1 over mutual TLS 1.3 on a port of its own.
//!
//! ```text
//!  raft (link) ─┐                       ┌─▶ serve: /raft, /cluster   members only
//!  write, join ─┼─▶ Wire ══ TLS ══ TCP ─┼─▶ serve: /join             whoever holds a token
//!  API (proxy) ─┘   pool per host       └─▶ the API of that host      members only
//! ```
//! Each call has a connection for itself while it lasts (kept for the next one), so that a snapshot never holds up a beat.
//! Invariants: nobody is spoken to who is not in the [`book`]; every call has a limit of time; a call says whether it may have
//! been carried out although it failed.

pub(super) mod book;
pub(super) mod epochs;
pub(super) mod link;
pub(super) mod pki;
pub(super) mod serve;
mod tls;

pub use pki::PkiError;

use super::{state::Authority, types::Member};
use crate::causes::chain;
use axum::body::Body;
use book::Book;
use bytes::Bytes;
use epochs::{Epochs, Relation};
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use lq_api::{HostId, problem::Problem};
use pki::HostKey;
use rustls::{AlertDescription, ClientConfig, ServerConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

/// Longest a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a silent host is not asked again.
const REST: Duration = Duration::from_secs(5);
/// Idle connections kept per host.
const KEPT: usize = 8;
/// Largest answer that is taken whole.
const MAX_ANSWER: usize = 64 << 20;

/// Why a call to another host failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It never began: nothing was carried out.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        host: String,
        /// Why not.
        reason: String,
    },
    /// It broke or took too long after it was sent: it may have been carried out.
    #[error("{host} did not answer: {reason}")]
    Broken {
        /// Who.
        host: String,
        /// How it failed.
        reason: String,
    },
    /// The other side is of another epoch of the cluster: nothing was carried out.
    #[error(
        "{host} is of epoch {theirs} of the cluster, this host of epoch {ours}: the older one has to join again"
    )]
    Epoch {
        /// Who.
        host: String,
        /// Its epoch.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// The other side refused it.
    #[error("{0}")]
    Refused(Box<Problem>),
}

/// Connections that wait for the next request, with the address each leads to.
type Idle = HashMap<HostId, Vec<(String, SendRequest<Body>)>>;

/// Connections to the other hosts.
pub(super) struct Wire {
    me: HostId,
    cluster: Uuid,
    pub(super) book: Arc<Book>,
    pub(super) epochs: Epochs,
    configs: RwLock<Option<(Arc<ServerConfig>, Arc<ClientConfig>)>>,
    idle: Mutex<Idle>,
    /// A host of the cluster said that this one was removed.
    pub(super) dismissed: AtomicBool,
    /// When hosts were last found silent.
    silent: Mutex<HashMap<HostId, Instant>>,
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

impl Wire {
    pub(super) fn new(me: HostId, cluster: Uuid, book: Arc<Book>, epochs: Epochs) -> Arc<Self> {
        Arc::new(Self {
            me,
            cluster,
            book,
            epochs,
            configs: RwLock::new(None),
            idle: Mutex::default(),
            silent: Mutex::default(),
            dismissed: AtomicBool::new(false),
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    /// From now on there is a certificate to speak with.
    pub(super) fn certify(&self, key: HostKey, authority: Authority) -> Result<(), PkiError> {
        let own = tls::Own::new(key, authority, self.cluster, self.me)?;
        let configs = tls::configs(own, &self.book)?;
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = Some(configs);
        Ok(())
    }

    /// What the peers' port serves with.
    pub(super) fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|c| c.0.clone())
    }

    /// Calls `path` on `host` and takes its answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        host: HostId,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        let bytes = serde_json::to_vec(body).map_err(|e| unreachable(host, &e))?;
        self.send(host, path, "application/json", Bytes::from(bytes), limit).await
    }

    /// Like [`Self::call`], with a body of another kind.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        host: HostId,
        path: &str,
        kind: &'static str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, CallError> {
        let sent = AtomicBool::new(false);
        let work = async {
            let request = |body: Bytes| {
                let request = Request::post(path)
                    .header(header::HOST, "peer")
                    .header(header::CONTENT_TYPE, kind)
                    .body(Body::from(body));
                request.map(|mut r| {
                    self.epochs.say(r.headers_mut());
                    r
                })
            };
            let address = self.address(host, None)?;
            #[cfg(test)]
            if super::sim::is_on() {
                let request = request(body.clone()).map_err(|e| unreachable(host, &e))?;
                let (head, answer) = super::sim::net::carry(self.me, host, request).await?;
                if path != serve::FORMATION {
                    self.same_epoch(host, &head.headers)?;
                }
                let answer = judged(&host.to_string(), head.status, answer)?;
                return serde_json::from_slice(&answer).map_err(|e| broken(host, &e));
            }
            // A kept connection may have died unnoticed. What was not sent is sent again over a new one.
            let (mut connection, response) = loop {
                sent.store(false, Ordering::Relaxed);
                let (mut connection, kept) = match self.take(host, &address) {
                    Some(kept) => (kept, true),
                    None => (self.connect(host, &address).await?, false),
                };
                let request = request(body.clone()).map_err(|e| unreachable(host, &e))?;
                sent.store(true, Ordering::Relaxed);
                match connection.try_send_request(request).await {
                    Ok(response) => break (connection, response),
                    Err(e) if kept && e.message().is_some() => {}
                    Err(e) => {
                        self.learn(e.error());
                        let reason = chain(e.error());
                        return Err(match e.message() {
                            Some(_) => unreachable(host, &reason),
                            None => broken(host, &reason),
                        });
                    }
                }
            };
            if path != serve::FORMATION {
                self.same_epoch(host, response.headers())?;
            }
            let answer = whole(host, response).await?;
            if !connection.is_closed() && connection.ready().await.is_ok() {
                self.keep(host, address, connection);
            }
            serde_json::from_slice(&answer).map_err(|e| broken(host, &e))
        };
        #[cfg(test)]
        self.faults.meet(host).await?;
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) if sent.load(Ordering::Relaxed) => Err(broken(host, &format!("nothing within {limit:?}"))),
            Err(_) => Err(unreachable(host, &format!("no connection within {limit:?}"))),
        }
    }

    /// Like [`Self::call`], but one that was silent a moment ago is not tried again at once: for questions that many lists ask.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        host: HostId,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent().get(&host).is_some_and(|at| at.elapsed() < REST) {
            return Err(unreachable(host, &"it was silent a moment ago"));
        }
        let answer = self.call(host, path, body, limit).await;
        match &answer {
            Err(CallError::Unreachable { .. } | CallError::Broken { .. }) => {
                silent().insert(host, Instant::now());
            }
            _ => {
                silent().remove(&host);
            }
        }
        answer
    }

    /// Sends a request of any kind over a connection of its own and hands over the answer as it comes, upgrades included.
    pub(super) async fn pass(
        &self,
        host: HostId,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        #[cfg(test)]
        self.faults.meet(host).await?;
        let address = self.address(host, None)?;
        let mut connection = self.connect(host, &address).await?;
        self.epochs.say(request.headers_mut());
        let response = connection.send_request(request).await.map_err(|e| broken(host, &chain(&e)))?;
        self.same_epoch(host, response.headers())?;
        Ok(response)
    }

    /// Whether the host that answered is of the same epoch.
    fn same_epoch(&self, host: HostId, headers: &HeaderMap) -> Result<(), CallError> {
        match self.epochs.hear(host, headers) {
            Relation::Same => Ok(()),
            Relation::Older(theirs) | Relation::Newer(theirs) => {
                Err(CallError::Epoch { host: format!("the host {host}"), theirs, ours: self.epochs.own() })
            }
        }
    }

    /// The other side knows who it is refused by: the alert comes over a connection only that host can have.
    fn learn(&self, e: &(dyn std::error::Error + 'static)) {
        let mut cause = Some(e);
        while let Some(e) = cause {
            // An I/O error hides what it wraps from `source`.
            let inner = e.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
            let tls = inner.and_then(|e| e.downcast_ref::<rustls::Error>());
            if matches!(tls, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRevoked))) {
                self.dismissed.store(true, Ordering::Relaxed);
            }
            cause = e.source();
        }
    }

    fn address(&self, host: HostId, member: Option<&Member>) -> Result<String, CallError> {
        let stated = self.book.address(host).filter(|a| !a.is_empty());
        let address = stated.or_else(|| member.map(|m| m.address.clone()).filter(|a| !a.is_empty()));
        address.ok_or_else(|| unreachable(host, &"its address is not known"))
    }

    async fn connect(&self, host: HostId, address: &str) -> Result<SendRequest<Body>, CallError> {
        let config =
            self.configs.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|c| c.1.clone());
        let config = config.ok_or_else(|| unreachable(host, &"this host has no certificate yet"))?;
        let name =
            ServerName::try_from(pki::host_name(host, self.cluster)).map_err(|e| unreachable(host, &e))?;
        connect(address, config, name).await.map_err(|e| unreachable(host, &format!("{address}: {e}")))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, host: HostId, address: &str) -> Option<SendRequest<Body>> {
        let mut idle = self.idle();
        let kept = idle.get_mut(&host)?;
        while let Some((reached, connection)) = kept.pop() {
            if reached == address && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, host: HostId, address: String, connection: SendRequest<Body>) {
        let mut idle = self.idle();
        let kept = idle.entry(host).or_default();
        kept.retain(|(_, c)| !c.is_closed());
        if kept.len() < KEPT && !self.book.is_removed(host) {
            kept.push((address, connection));
        }
    }

    /// Asks hosts that are known for what they know, until one has something newer.
    pub(super) async fn refresh(&self) {
        let Some(page) = self.book.page() else { return };
        for host in page.hosts.keys().filter(|h| **h != self.me) {
            match self.call::<book::Page>(*host, "/cluster/book", &(), CONNECT).await {
                Ok(told) if told.revision > page.revision => {
                    if let Err(e) = self.book.tell(told) {
                        tracing::error!(error = %e, "the address book cannot be stored");
                    }
                    return;
                }
                Ok(_) => {}
                Err(e) => tracing::debug!(%host, error = %e, "it was not heard about the other hosts"),
            }
        }
    }
}

/// A caller without a certificate of its own, who knows the cluster by a join token.
pub(super) struct SeedCaller {
    config: Arc<ClientConfig>,
    token: Option<String>,
}

impl SeedCaller {
    pub(super) fn new(cluster: Uuid, authority_hash: &str) -> Result<Self, PkiError> {
        Ok(Self { config: tls::seed_config(cluster, authority_hash.to_owned())?, token: None })
    }

    /// With this token, which is said before whatever is asked.
    pub(super) fn with_token(self, secret: &str) -> Self {
        Self { token: Some(secret.to_owned()), ..self }
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        call_once(&self.config, (address, path), self.token.as_deref(), body, limit).await
    }
}

/// A caller of a host nobody knows yet: who answered is known by the key it showed, and by nothing else. Every call is
/// answered by the same one or fails.
pub(super) struct StrangerCaller {
    config: Arc<ClientConfig>,
    seen: Arc<OnceLock<String>>,
}

impl StrangerCaller {
    pub(super) fn new() -> Result<Self, PkiError> {
        let seen = Arc::default();
        Ok(Self { config: tls::stranger_config(Arc::clone(&seen))?, seen })
    }

    /// The hash of the public key of whoever answered the first call.
    pub(super) fn seen(&self) -> Option<String> {
        self.seen.get().cloned()
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        call_once(&self.config, (address, path), None, body, limit).await
    }
}

/// What one who stands between two hosts would call with.
#[cfg(test)]
pub(super) fn tests_stranger(seen: Arc<OnceLock<String>>) -> Result<Arc<ClientConfig>, PkiError> {
    tls::stranger_config(seen)
}

/// A question over a connection of its own.
async fn call_once<T: DeserializeOwned>(
    config: &Arc<ClientConfig>,
    (address, path): (&str, &str),
    token: Option<&str>,
    body: &impl Serialize,
    limit: Duration,
) -> Result<T, CallError> {
    let fail = |reason: &dyn std::fmt::Display| CallError::Unreachable {
        host: address.to_owned(),
        reason: reason.to_string(),
    };
    let late = |reason: &dyn std::fmt::Display| CallError::Broken {
        host: address.to_owned(),
        reason: reason.to_string(),
    };
    let bytes = serde_json::to_vec(body).map_err(|e| fail(&e))?;
    let name = ServerName::try_from("join.lq.internal").map_err(|e| fail(&e))?;
    let mut connection = connect(address, config.clone(), name).await.map_err(|e| fail(&seed_fault(&e)))?;
    let mut request =
        Request::post(path).header(header::HOST, "peer").header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(serve::TOKEN, token);
    }
    let request = request.body(Body::from(bytes)).map_err(|e| fail(&e))?;
    let work = async {
        let response = connection.send_request(request).await.map_err(|e| late(&chain(&e)))?;
        let (status, bytes) = collected(response).await.map_err(|e| late(&e))?;
        let bytes = judged(address, status, bytes)?;
        serde_json::from_slice(&bytes).map_err(|e| late(&e))
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(late(&format!("nothing within {limit:?}"))))
}

async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<SendRequest<Body>> {
    let work = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(e) = connection.with_upgrades().await {
                tracing::debug!(error = %chain(&e), "a connection to another host broke");
            }
        });
        Ok(sender)
    };
    tokio::time::timeout(CONNECT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why a connection by a token did not come up.
fn seed_fault(e: &io::Error) -> String {
    let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = tls else { return e.to_string() };
    use rustls::CertificateError as Fault;
    match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "the certificate of the host there has expired: compare the clocks of that host and this one".into()
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "the certificate of the host there is not valid yet: compare the clocks of that host and this one".into()
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "what answers there is not a host of the cluster the token was made by (its certificate has another name)"
                .into()
        }
        Fault::UnknownIssuer => {
            "what answers there is not of the cluster the token was made by (its authority is another)".into()
        }
        other => format!("the certificate of what answers there is not accepted: {other}"),
    }
}

async fn whole(host: HostId, response: Response<Incoming>) -> Result<Bytes, CallError> {
    let (status, bytes) = collected(response).await.map_err(|e| broken(host, &e))?;
    judged(&host.to_string(), status, bytes)
}

async fn collected(response: Response<Incoming>) -> Result<(StatusCode, Bytes), String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
}

fn judged(host: &str, status: StatusCode, bytes: Bytes) -> Result<Bytes, CallError> {
    if status.is_success() {
        return Ok(bytes);
    }
    match serde_json::from_slice(&bytes) {
        Ok(problem) => Err(CallError::Refused(Box::new(problem))),
        Err(_) => Err(CallError::Broken { host: host.to_owned(), reason: format!("it answered {status}") }),
    }
}

pub(super) fn unreachable(host: HostId, reason: &(impl std::fmt::Display + ?Sized)) -> CallError {
    CallError::Unreachable { host: format!("the host {host}"), reason: reason.to_string() }
}

pub(super) fn broken(host: HostId, reason: &(impl std::fmt::Display + ?Sized)) -> CallError {
    CallError::Broken { host: format!("the host {host}"), reason: reason.to_string() }
}

/// Faults of the network, for tests: who is not reached, or only slowly.
#[cfg(test)]
pub(super) mod faults {
    use super::{CallError, unreachable};
    use lq_api::HostId;
    use std::{collections::HashMap, sync::Mutex, time::Duration};

    #[derive(Clone, Copy, Debug)]
    pub(in crate::cluster) enum Fault {
        Cut,
        Slow(Duration),
    }

    #[derive(Default)]
    pub(in crate::cluster) struct Faults(Mutex<HashMap<HostId, Fault>>);

    impl Faults {
        pub(in crate::cluster) fn set(&self, host: HostId, fault: Option<Fault>) {
            let mut all = self.0.lock().unwrap();
            match fault {
                Some(fault) => all.insert(host, fault),
                None => all.remove(&host),
            };
        }

        pub(super) async fn meet(&self, host: HostId) -> Result<(), CallError> {
            let fault = self.0.lock().unwrap().get(&host).copied();
            match fault {
                None => Ok(()),
                Some(Fault::Cut) => Err(unreachable(host, "the line is cut")),
                Some(Fault::Slow(pause)) => {
                    tokio::time::sleep(pause).await;
                    Ok(())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError as Fault;

    #[test]
    fn a_faulty_certificate_is_called_by_its_fault() {
        let told = |fault| {
            seed_fault(&io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(fault)))
        };
        for (fault, word) in [
            (Fault::Expired, "has expired"),
            (Fault::NotValidYet, "not valid yet"),
            (Fault::NotValidForName, "another name"),
            (Fault::UnknownIssuer, "authority is another"),
            (Fault::BadEncoding, "not accepted"),
        ] {
            let text = told(fault);
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(seed_fault(&io::ErrorKind::TimedOut.into()), "timed out");
    }
}
