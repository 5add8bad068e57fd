//! The Rust client of `/api/v1`: `lqctl`, the host's console and the tests use it.
//!
//! It owns the way to one host (TLS with a pinned certificate, or the Unix socket on the host itself), the credential,
//! and the typed calls. Invariants: it never panics on what a host answers, it never sends a credential before the
//! host's certificate is accepted, and it never repeats a request that may have been carried out.
//!
//! ```no_run
//! # async fn example() -> Result<(), lq_api::client::Error> {
//! use lq_api::client::{Client, Pin};
//! let client = Client::new("https://192.0.2.7", Pin::first_seen())?;
//! client.login("admin", "correct horse", None).await?;
//! for vm in client.vms().await? {
//!     println!("{} {:?}", vm.meta.name, vm.status.state);
//! }
//! # Ok(()) }
//! ```

mod calls;
mod console;
mod error;
mod events;
mod patience;
mod pin;
mod resource;
mod session;
mod transport;
mod upload;
mod wait;

pub use console::Console;
pub use error::{Cause, Error};
pub use events::{Change, ChangeStream, EventStream};
pub use pin::{Fingerprint, FirstUse, Pin};
pub use resource::Resource;
pub use session::Held;
pub use upload::Progress;
pub use wait::Wait;

use crate::problem::Problem;
use patience::Rest;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};
use transport::Transport;

/// A request that has not been answered after this long has failed. Uploads, consoles and event streams have no such limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest error body looked at.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A client of one host. Cheap to clone; clones share the connections and the credential.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    token: RwLock<Option<String>>,
    session: session::Keeper,
    watcher: OnceLock<Watcher>,
    patience: patience::Held,
}

/// What is told of each request: its method, and its path with the query.
type Watcher = Box<dyn Fn(&str, &str) + Send + Sync>;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the host at `url` (`https://host[:port]`, or just `host[:port]`) that trusts what `pin` says.
    /// No connection is made yet.
    ///
    /// # Errors
    /// [`Error::Address`] where `url` cannot be used.
    pub fn new(url: &str, pin: impl Into<Pin>) -> Result<Self, Error> {
        Ok(Self::over(Transport::tls(url, pin.into())?))
    }

    /// A client of this very host through the daemon's Unix socket, without TLS.
    ///
    /// # Errors
    /// [`Error::Address`] where the client cannot be set up.
    pub fn unix(socket: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self::over(Transport::unix(socket.as_ref())?))
    }

    fn over(transport: Transport) -> Self {
        Self {
            inner: Arc::new(Inner {
                transport,
                token: RwLock::new(None),
                session: session::Keeper::default(),
                watcher: OnceLock::new(),
                patience: patience::Held::new(),
            }),
        }
    }

    /// The fingerprint of the certificate the host at `url` presents now, without sending it anything else.
    /// To be shown to a person who compares it with the host's console.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Transport`].
    pub async fn probe(url: &str) -> Result<Fingerprint, Error> {
        let client = Self::new(url, Pin::first_seen())?;
        client.inner.transport.open().await?;
        client.fingerprint().ok_or_else(|| Error::Address {
            url: url.into(),
            reason: "the host presented no certificate".into(),
        })
    }

    /// Tells `watcher` of every request of this client and its clones from now on, before it is sent: the method, and the path
    /// with the query. Only the first watcher counts.
    #[must_use]
    pub fn watched_by(self, watcher: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        let _ = self.inner.watcher.set(Box::new(watcher));
        self
    }
    fn tell(&self, method: &Method, url: &Url) {
        if let Some(watcher) = self.inner.watcher.get() {
            let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
            watcher(method.as_str(), &format!("{}{query}", url.path()));
        }
    }

    /// The same with this session or API token as its credential.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        self.set_token(Some(token.into()));
        self
    }
    /// Sets or forgets the credential, for all clones.
    pub fn set_token(&self, token: Option<String>) {
        *self.inner.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
    /// The credential.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.inner.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The pinned fingerprint, once there is one; none over a Unix socket.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.inner.transport.fingerprint()
    }
    /// `https://host[:port]`, or the path of the Unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.inner.transport.url()
    }
    /// Host and port, or the path of the Unix socket, for messages.
    #[must_use]
    pub fn host(&self) -> String {
        self.inner.transport.host()
    }

    /// `https://host/api/v1/<segments>?<query>`; segments are escaped.
    fn endpoint(&self, segments: &[&str]) -> Url {
        let mut url = self.inner.transport.base().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// A request with what every request carries, still without body and time limit.
    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.tell(&method, &url);
        let request = self.inner.transport.http().request(method, url).header("x-lq-request", "1");
        match self.token() {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends, with a session that still counts; an answer other than success becomes an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let request = if self.keep_session().await { self.with_new_token(request)? } else { request };
        self.exchange(request).await
    }

    /// Sends.
    async fn exchange(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (http, request) = request.build_split();
        let mut request = request.map_err(|e| self.broken("make a request for", e))?;
        let name = format!("{} {}", request.method(), request.url().path());
        let mut rest = Rest::of(&self.inner.patience);
        loop {
            let again = if rest.any() { request.try_clone() } else { None };
            let response = http.execute(request).await.map_err(|e| {
                let what = if e.is_connect() { "connect to" } else { "get an answer from" };
                self.broken(what, e)
            })?;
            match again {
                _ if response.status().is_success() => return Ok(response),
                Some(again) if rest.wait(&response).await => request = again,
                _ => return Err(self.refused(name, response).await),
            }
        }
    }

    /// A transport error with its cause; a refused certificate is told apart.
    fn broken(&self, what: &'static str, source: reqwest::Error) -> Error {
        self.inner.transport.failed(what, Box::new(source.without_url()))
    }

    /// The error an unsuccessful answer stands for.
    async fn refused(&self, request: String, mut response: Response) -> Error {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BODY {
                break;
            }
        }
        problem(&self.host(), &request, status, &body)
    }

    /// Sends a request without body and reads a JSON answer.
    async fn call<T: DeserializeOwned>(&self, method: Method, segments: &[&str]) -> Result<T, Error> {
        self.call_url(method, self.endpoint(segments)).await
    }
    async fn call_url<T: DeserializeOwned>(&self, method: Method, url: Url) -> Result<T, Error> {
        let request = self.request(method, url).timeout(REQUEST_TIMEOUT);
        self.json(request).await
    }
    /// Sends a JSON body and reads a JSON answer.
    async fn call_with<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &B,
    ) -> Result<T, Error> {
        self.call_if(method, segments, body, None).await
    }
    /// The same, only if the object is still at `revision`.
    async fn call_if<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &B,
        revision: Option<u64>,
    ) -> Result<T, Error> {
        let mut request = self.request(method, self.endpoint(segments)).timeout(REQUEST_TIMEOUT).json(body);
        if let Some(revision) = revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        self.json(request).await
    }
    /// Sends and ignores what a success says.
    async fn call_empty(&self, request: RequestBuilder) -> Result<(), Error> {
        self.send(request.timeout(REQUEST_TIMEOUT)).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        let (status, path) = (response.status().as_u16(), response.url().path().to_owned());
        let body = response.bytes().await.map_err(|e| self.broken("read the answer of", e))?;
        serde_json::from_slice(&body).map_err(|e| Error::Unexpected {
            host: self.host(),
            request: path,
            status,
            detail: e.to_string(),
        })
    }
}

/// Reads the body of an unsuccessful answer.
fn problem(host: &str, request: &str, status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let detail = match text.trim() {
                "" => "no explanation".to_owned(),
                said => said.chars().take(300).collect(),
            };
            Error::Unexpected { host: host.into(), request: request.into(), status, detail }
        }
    }
}
