//! The way to a host: TCP with TLS and a pinned certificate, or a Unix socket.
//!
//! HTTP goes through reqwest's connection pool; [`Transport::open`] gives a bare byte stream with the same trust, for
//! what is not plain HTTP (WebSocket). Proxies from the environment are ignored: a host is reached directly or not at all.

use super::{
    error::{Cause, Error},
    pin::{Fingerprint, Pin, PinVerifier},
};
use reqwest::Url;
use rustls::{ClientConfig, crypto::CryptoProvider, pki_types::ServerName};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// A host that does not accept a connection within this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that rested for longer is not used again. Hosts end those on which nothing came for 15 s, and a program that
/// waits for a person's answer meanwhile does not see it: the order that follows would be sent into a closed connection.
const IDLE: Duration = Duration::from_secs(5);
/// Port of the API where the address names none.
const DEFAULT_PORT: u16 = 443;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
/// A connection of either kind.
pub(super) type Connection = Box<dyn Io>;

pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    way: Way,
}

enum Way {
    Tls { verifier: Arc<PinVerifier>, config: Arc<ClientConfig> },
    Unix(PathBuf),
}

impl Transport {
    pub(super) fn tls(address: &str, pin: Pin) -> Result<Self, Error> {
        let base = parse(address)?;
        let wrong = |reason: String| Error::Address { url: address.into(), reason };
        let provider = provider();
        let verifier = Arc::new(PinVerifier::new(pin, &provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        // One request at a time per connection: bulk uploads are not throttled by HTTP/2's windows.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(Self { http, base, way: Way::Tls { verifier, config: Arc::new(config) } })
    }

    pub(super) fn unix(socket: &Path) -> Result<Self, Error> {
        Self::unix_for(socket, IDLE)
    }

    /// With connections that are used again within `idle` only.
    fn unix_for(socket: &Path, idle: Duration) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Address { url: socket.display().to_string(), reason };
        // reqwest panics without one, TLS or not.
        provider();
        let base = Url::parse("http://localhost/").map_err(|e| wrong(e.to_string()))?;
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .pool_idle_timeout(idle)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(Self { http, base, way: Way::Unix(socket.to_owned()) })
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }
    pub(super) fn base(&self) -> &Url {
        &self.base
    }
    pub(super) fn url(&self) -> String {
        match &self.way {
            Way::Tls { .. } => self.base.as_str().trim_end_matches('/').to_owned(),
            Way::Unix(path) => path.display().to_string(),
        }
    }
    pub(super) fn host(&self) -> String {
        match (&self.way, self.base.host_str()) {
            (Way::Unix(path), _) => path.display().to_string(),
            (_, Some(host)) => format!("{host}:{}", self.port()),
            (_, None) => self.base.to_string(),
        }
    }
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.way {
            Way::Tls { verifier, .. } => verifier.trusted(),
            Way::Unix(_) => None,
        }
    }
    fn port(&self) -> u16 {
        self.base.port_or_known_default().unwrap_or(DEFAULT_PORT)
    }

    /// A new connection, its certificate accepted.
    pub(super) async fn open(&self) -> Result<Connection, Error> {
        let open = async {
            match &self.way {
                Way::Unix(path) => {
                    let stream = UnixStream::connect(path).await?;
                    Ok::<_, std::io::Error>(Box::new(stream) as Connection)
                }
                Way::Tls { config, .. } => {
                    let host = self.base.host_str().unwrap_or_default();
                    // An IPv6 address stands in brackets in a URL and without them everywhere else.
                    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                    let tcp = TcpStream::connect((host.as_str(), self.port())).await?;
                    tcp.set_nodelay(true)?;
                    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
                    let tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
                    Ok(Box::new(tls) as Connection)
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, open).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(self.failed("connect to", Box::new(e))),
            Err(_) => {
                let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 s");
                Err(self.failed("connect to", Box::new(late)))
            }
        }
    }

    /// The error for a broken exchange; a refused certificate is told apart from all else.
    pub(super) fn failed(&self, what: &'static str, source: Cause) -> Error {
        let host = self.host();
        if let Way::Tls { verifier, .. } = &self.way
            && certificate_refused(source.as_ref())
            && let Some(presented) = verifier.presented()
        {
            return match verifier.trusted() {
                Some(expected) => Error::Fingerprint { host, expected, presented },
                None => Error::NotTrusted { host, presented },
            };
        }
        Error::Transport { what, host, source }
    }
}

const USER_AGENT: &str = concat!("limiquantix-client/", env!("CARGO_PKG_VERSION"));

/// The process's one crypto provider; whoever comes first installs it.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| {
        let ring = rustls::crypto::ring::default_provider();
        // Fails only where another thread was faster, which serves as well.
        let _ = ring.clone().install_default();
        Arc::new(ring)
    })
}

/// Whether our verifier's refusal is among the causes. `io::Error` hides what it wraps from `source()`, so it is unwrapped by hand.
fn certificate_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        )) = error.downcast_ref()
        {
            return true;
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// `https://host[:port]`, with or without the scheme.
fn parse(address: &str) -> Result<Url, Error> {
    let wrong = |reason: &str| Error::Address { url: address.into(), reason: reason.into() };
    let address = address.trim();
    let full = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let mut url = Url::parse(&full).map_err(|e| wrong(&e.to_string()))?;
    if url.scheme() != "https" {
        return Err(wrong("a host is reached by https only"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("user and password do not belong into it"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("it has a path; host and port are enough"));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (given, url, host) in [
            ("192.0.2.7", "https://192.0.2.7", "192.0.2.7:443"),
            ("host.example:8443", "https://host.example:8443", "host.example:8443"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]", "[2001:db8::1]:443"),
        ] {
            let transport = Transport::tls(given, Pin::first_seen()).unwrap();
            assert_eq!((transport.url().as_str(), transport.host().as_str()), (url, host));
        }
        for bad in ["", "http://host", "https://", "https://u:p@host", "https://host/ui", "ho st"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// As where a person answers a question after a minute: the host has ended the connection, and nobody saw it.
    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_the_host_ended_is_not_used_again() {
        use std::{
            io::{Read as _, Write as _},
            os::unix::net::UnixListener,
            sync::mpsc::channel,
        };
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (end, ended) = (channel::<()>(), channel::<()>());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                let _ = end.1.recv();
                drop(stream);
                ended.0.send(()).unwrap();
            }
        });
        let transport = Transport::unix_for(&socket, Duration::from_millis(20)).unwrap();
        let ask = || transport.http().get(transport.base().clone()).send();
        assert_eq!(ask().await.unwrap().text().await.unwrap(), "ok");
        // The person thinks: nothing of the program runs.
        end.0.send(()).unwrap();
        ended.1.recv().unwrap();
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(ask().await.unwrap().text().await.unwrap(), "ok");
    }
}
