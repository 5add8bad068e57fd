//! Connections to servers that are not ours: TCP, TLS verified with certificates that were given or, where there are none, those of
//! the public authorities, and HTTP requests over either.

pub(crate) mod http;

use crate::causes::chain;
use ring::digest;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Which certificates of a server are trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// Those of the public authorities.
    Public,
    /// Those of the authorities in this PEM text.
    Authorities(&'a str),
    /// The one with this SHA-256, hexadecimal.
    Certificate(&'a str),
}

impl<'a> Trust<'a> {
    /// The given authorities, else the public ones.
    pub(crate) fn of(ca: Option<&'a str>) -> Self {
        ca.map_or(Self::Public, Self::Authorities)
    }
}

/// Trusts one certificate, or for a look at it any, whatever it says. That the server has its key is still checked.
#[derive(Debug)]
struct Pinned {
    /// Its SHA-256, hexadecimal; any where absent.
    sha256: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = hex::encode(digest::digest(&digest::SHA256, certificate));
        if self.sha256.as_ref().is_none_or(|pin| found.eq_ignore_ascii_case(pin)) {
            return Ok(ServerCertVerified::assertion());
        }
        let why = format!("the server has another certificate, with the SHA-256 {found}");
        Err(CertificateError::Other(rustls::OtherError(Arc::from(
            Box::<dyn std::error::Error + Send + Sync>::from(why),
        )))
        .into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Connects to a server. `server` is a name or an address, without brackets.
pub(crate) async fn connect(server: &str, port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((server, port)).await;
    let stream = connected.map_err(|e| format!("{server} port {port} cannot be reached: {e}"))?;
    // One message each: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Begins TLS with the server on the other side.
pub(crate) async fn secure(
    stream: TcpStream,
    server: &str,
    trust: Trust<'_>,
) -> Result<TlsStream<TcpStream>, String> {
    let config = ClientConfig::builder();
    let config = match trust {
        Trust::Public => {
            config.with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        }
        Trust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| format!("the certificates in `ca`: {e}"))?;
                roots.add(certificate).map_err(|e| format!("the certificates in `ca`: {e}"))?;
            }
            config.with_root_certificates(roots)
        }
        Trust::Certificate(sha256) => {
            let algorithms = config.crypto_provider().signature_verification_algorithms;
            let verifier = Pinned { sha256: Some(sha256.to_owned()), algorithms };
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    begin(config, stream, server).await
}

/// The certificate a server presents, whatever it is: to be shown to a person. Nothing is sent but the handshake.
pub(crate) async fn presented(server: &str, port: u16) -> Result<CertificateDer<'static>, String> {
    let stream = connect(server, port).await?;
    let config = ClientConfig::builder();
    let algorithms = config.crypto_provider().signature_verification_algorithms;
    let verifier = Arc::new(Pinned { sha256: None, algorithms });
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    let stream = begin(config, stream, server).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    shown.map(|c| c.clone().into_owned()).ok_or_else(|| format!("{server} presents no certificate"))
}

async fn begin(
    config: ConfigBuilder<ClientConfig, WantsClientCert>,
    stream: TcpStream,
    server: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(server.trim_end_matches('.').to_owned())
        .map_err(|_| format!("`{server}` cannot be the name of a TLS server"))?;
    let config = Arc::new(config.with_no_client_auth());
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|e| format!("no TLS with {server}: {}", chain(&e)))
}
