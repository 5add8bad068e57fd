//! TLS between hosts: both sides show certificates of the cluster's authority, and the address book has the last word at
//! every handshake. There is no resumption, which would skip it.

use super::{
    book::{Book, Stranger},
    pki::{self, HostKey, PkiError},
};
use crate::cluster::state::Authority;
use jiff::{Timestamp, ToSpan as _};
use lq_api::HostId;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use uuid::Uuid;

/// This host's own certificate, renewed in place.
pub(super) struct Own {
    key: HostKey,
    authority: Authority,
    cluster: Uuid,
    host: HostId,
    now: RwLock<(Timestamp, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate of {}", self.host)
    }
}

impl Own {
    pub(super) fn new(
        key: HostKey,
        authority: Authority,
        cluster: Uuid,
        host: HostId,
    ) -> Result<Self, PkiError> {
        let at = Timestamp::now();
        let first = key.certify(&authority, cluster, host, at)?;
        Ok(Self { key, authority, cluster, host, now: RwLock::new((at, first)) })
    }

    /// The certificate, renewed where two thirds of its time are over. Should that fail the old one serves on.
    fn current(&self) -> Arc<CertifiedKey> {
        let (made, key) = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        let at = Timestamp::now();
        let age = at.duration_since(made).as_hours();
        // A clock that was set back counts as well.
        if (0..pki::RENEW_DAYS * 24).contains(&age) {
            return key;
        }
        match self.key.certify(&self.authority, self.cluster, self.host, at) {
            Ok(fresh) => {
                tracing::info!(
                    until = %at.checked_add((pki::VALID_DAYS * 24).hours()).unwrap_or(at),
                    "this host's certificate was renewed"
                );
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = (at, fresh.clone());
                fresh
            }
            Err(e) => {
                tracing::error!(error = %e, "this host's certificate could not be renewed");
                key
            }
        }
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

fn refused(stranger: Stranger) -> Error {
    Error::InvalidCertificate(match stranger {
        Stranger::Removed(_) => CertificateError::Revoked,
        Stranger::Unknown(_) | Stranger::Foreign => CertificateError::UnknownIssuer,
        Stranger::Malformed => CertificateError::BadEncoding,
        Stranger::WrongKey(_) => CertificateError::ApplicationVerificationFailure,
    })
}

/// Accepts hosts of the cluster that the book knows, whichever side they are on.
struct Members<V: ?Sized> {
    book: Arc<Book>,
    chain: Arc<V>,
}

impl<V: ?Sized> fmt::Debug for Members<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hosts of the cluster")
    }
}

impl ClientCertVerifier for Members<dyn ClientCertVerifier> {
    // One who joins has no certificate yet. What may be asked without one is decided by path.
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let good = self.chain.verify_client_cert(leaf, between, now)?;
        let host = self.book.identify(leaf).map_err(|stranger| {
            match stranger {
                // They may try for long.
                Stranger::Removed(_) | Stranger::Unknown(_) => {
                    tracing::debug!(reason = %stranger, "a connection was refused");
                }
                _ => tracing::warn!(reason = %stranger, "a connection was refused"),
            }
            refused(stranger)
        })?;
        tracing::trace!(%host, "a host connected");
        Ok(good)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Members<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let good = self.chain.verify_server_cert(leaf, between, name, ocsp, now)?;
        self.book.identify(leaf).map_err(refused)?;
        Ok(good)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn builder_error(e: &dyn fmt::Display) -> PkiError {
    PkiError::Authority(e.to_string())
}

/// What this host serves its peers with, and calls them with.
pub(super) fn configs(
    own: Own,
    book: &Arc<Book>,
) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), PkiError> {
    let roots = roots(&pki::authority_certificate(&own.authority)?)?;
    let own = Arc::new(own);
    let chain = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| builder_error(&e))?;
    let members: Arc<Members<dyn ClientCertVerifier>> = Arc::new(Members { book: book.clone(), chain });
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(members)
        .with_cert_resolver(own.clone());
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let chain = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| builder_error(&e))?;
    let members = Arc::new(Members { book: book.clone(), chain });
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(members)
        .with_client_cert_resolver(own);
    client.resumption = Resumption::disabled();
    Ok((Arc::new(server), Arc::new(client)))
}

/// Accepts any host of the cluster whose authority has this hash: all that one who joins knows.
#[derive(Debug)]
struct Seed {
    cluster: Uuid,
    authority: String,
}

impl ServerCertVerifier for Seed {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let foreign = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = between.iter().find(|c| pki::hash(c) == self.authority).ok_or(foreign.clone())?;
        let name = {
            let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|_| foreign.clone())?;
            let mut names = parsed.valid_dns_names();
            let ours = names.find(|n| pki::named_host(n, self.cluster).is_some());
            let named = Error::InvalidCertificate(CertificateError::NotValidForName);
            ServerName::try_from(ours.ok_or(named)?.to_owned()).map_err(|_| foreign)?
        };
        let chain =
            WebPkiServerVerifier::builder_with_provider(roots(&authority.clone().into_owned())?, provider())
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
        chain.verify_server_cert(leaf, between, &name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts anyone, and from then on only the holder of the same key: who it is has to be proven otherwise.
#[derive(Debug)]
struct SameKey(Arc<OnceLock<String>>);

impl ServerCertVerifier for SameKey {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(unreadable)?;
        let pin = pki::hash(&leaf.subject_public_key_info());
        if *self.0.get_or_init(|| pin.clone()) == pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What one who is not known yet is called with.
pub(super) fn stranger_config(seen: Arc<OnceLock<String>>) -> Result<Arc<ClientConfig>, PkiError> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SameKey(seen)))
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}

/// What one who joins calls with: without a certificate of its own.
pub(super) fn seed_config(cluster: Uuid, authority: String) -> Result<Arc<ClientConfig>, PkiError> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Seed { cluster, authority }))
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}
