//! Connections to servers that are not ours: TCP, and TLS verified with the certificates of the channel or, where it has none,
//! those of the public authorities.

use crate::causes::chain;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a server. `server` is a name or an address, without brackets.
pub(super) async fn connect(server: &str, port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((server, port)).await;
    let stream = connected.map_err(|e| format!("{server} port {port} cannot be reached: {e}"))?;
    // One message each: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Begins TLS with the server on the other side.
pub(super) async fn secure(
    stream: TcpStream,
    server: &str,
    ca: Option<&str>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| format!("the certificates in `ca`: {e}"))?;
                roots.add(certificate).map_err(|e| format!("the certificates in `ca`: {e}"))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(server.trim_end_matches('.').to_owned())
        .map_err(|_| format!("`{server}` cannot be the name of a TLS server"))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|e| format!("no TLS with {server}: {}", chain(&e)))
}
