//! Keys and certificates of hosts.
//!
//! A host's identity is its id and one ECDSA P-256 key it makes at its first start and never changes. The cluster's authority
//! is part of the agreed state; with it each host issues certificates for its own key: short-lived, and bound to host and
//! cluster by the one name they carry, `<host>.<cluster>.lq.internal`. That any member could issue in another's name gains it
//! nothing: peers also compare the key with the one the state holds for that host ([`super::book`]).

use crate::cluster::state::Authority;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use lq_api::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, date_time_ymd,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

/// Days a host's certificate is valid. A new one is taken after two thirds of them.
pub(super) const VALID_DAYS: i64 = 9;
/// Days after which a certificate is renewed.
pub(super) const RENEW_DAYS: i64 = VALID_DAYS * 2 / 3;
const SUFFIX: &str = "lq.internal";

/// Why a key or a certificate is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// The key of this host is damaged.
    #[error("{path} is not the key of a host ({reason}); restore it from a backup")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authority's certificate or key is not usable.
    #[error("the cluster's certificate authority is not usable: {0}")]
    Authority(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls refuses it.
    #[error("a certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The one name in a host's certificate.
pub(super) fn host_name(host: HostId, cluster: Uuid) -> String {
    format!("{host}.{cluster}.{SUFFIX}")
}

/// The host whose name this is, where it is one of the cluster.
pub(super) fn named_host(name: &str, cluster: Uuid) -> Option<HostId> {
    let host = name.strip_suffix(&format!(".{cluster}.{SUFFIX}"))?;
    host.parse().ok()
}

fn authority_params(cluster: Uuid) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The clock of a host may be wrong at its first start; hosts' certificates are what is short-lived.
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2069, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("LimiQuantix cluster {cluster}"));
    params
}

/// A new authority for the cluster.
pub(in crate::cluster) fn new_authority(cluster: Uuid) -> Result<Authority, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = authority_params(cluster).self_signed(&key)?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The authority's certificate.
pub(super) fn authority_certificate(authority: &Authority) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(authority.certificate.as_bytes())
        .map_err(|e| PkiError::Authority(e.to_string()))
}

/// What a join token knows the authority by: SHA-256 of its certificate, hexadecimal.
pub(in crate::cluster) fn authority_hash(authority: &Authority) -> Result<String, PkiError> {
    Ok(hash(&authority_certificate(authority)?))
}

/// SHA-256, hexadecimal.
pub(in crate::cluster) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The key of this host.
pub(in crate::cluster) struct HostKey(KeyPair);

impl HostKey {
    /// The key in `dir/host.key`, made where there is none.
    pub(in crate::cluster) fn load(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("host.key");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let pair = KeyPair::from_pem(&text);
                pair.map(Self).map_err(|e| PkiError::Key { path, reason: e.to_string() })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pair = KeyPair::generate()?;
                crate::durable::write(&path, 0o600, pair.serialize_pem().as_bytes())
                    .map_err(|source| PkiError::File { path, source })?;
                Ok(Self(pair))
            }
            Err(source) => Err(PkiError::File { path, source }),
        }
    }

    /// What peers know the key by: SHA-256 of its public half (SubjectPublicKeyInfo), hexadecimal.
    pub(in crate::cluster) fn pin(&self) -> String {
        hash(&self.0.subject_public_key_info())
    }

    /// A certificate of this host for the days after `now`, ready for rustls.
    pub(super) fn certify(
        &self,
        authority: &Authority,
        cluster: Uuid,
        host: HostId,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, PkiError> {
        let issuer_key = KeyPair::from_pem(&authority.key).map_err(|e| PkiError::Authority(e.to_string()))?;
        let issuer = Issuer::new(authority_params(cluster), issuer_key);
        let mut params = CertificateParams::default();
        let end = now.to_zoned(TimeZone::UTC).date().saturating_add(VALID_DAYS.days());
        params.not_before = date_time_ymd(2024, 1, 1);
        let (month, day) = (end.month().unsigned_abs(), end.day().unsigned_abs());
        params.not_after = date_time_ymd(end.year().into(), month, day);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, host.to_string());
        let name = host_name(host, cluster).try_into()?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&self.0, &issuer)?;
        let chain = vec![leaf.der().clone(), authority_certificate(authority)?];
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.0.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&private)?;
        Ok(Arc::new(CertifiedKey::new(chain, signer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_bind_host_and_cluster() {
        let (host, cluster) = (HostId::new(), Uuid::now_v7());
        let name = host_name(host, cluster);
        assert_eq!(named_host(&name, cluster), Some(host));
        assert_eq!(named_host(&name, Uuid::now_v7()), None);
        assert_eq!(named_host("x.lq.internal", cluster), None);
    }

    #[test]
    fn the_key_is_made_once_and_the_certificate_carries_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = HostKey::load(dir.path()).unwrap();
        assert_eq!(HostKey::load(dir.path()).unwrap().pin(), key.pin());
        let (host, cluster) = (HostId::new(), Uuid::now_v7());
        let authority = new_authority(cluster).unwrap();
        let certified = key.certify(&authority, cluster, host, Timestamp::now()).unwrap();
        let leaf = webpki::EndEntityCert::try_from(&certified.cert[0]).unwrap();
        assert_eq!(hash(&leaf.subject_public_key_info()), key.pin());
        assert_eq!(hash(&certified.cert[1]), authority_hash(&authority).unwrap());
        fs::write(dir.path().join("host.key"), "x").unwrap();
        assert!(HostKey::load(dir.path()).err().unwrap().to_string().contains("host.key"));
    }
}
