//! The certificate of this host: made at the first start, kept, shown by its fingerprint.

use crate::certificate::{self, fingerprint};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not usable: {reason}; remove tls.key and tls.crt to have new ones made")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate and what it is known by.
pub struct Tls {
    /// What rustls serves with.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, hexadecimal, colon separated.
    pub fingerprint: String,
}

/// The certificate in `dir` (`tls.crt`, `tls.key`), made where there is none.
pub fn load(dir: &Path, name: &str, addresses: &[IpAddr]) -> Result<Tls, TlsError> {
    let (crt, key) = (dir.join(certificate::FILE), dir.join("tls.key"));
    // The certificate is written last: a key alone is what a crash left of the first start.
    if !crt.exists() {
        make(&crt, &key, name, addresses)?;
    }
    let damaged = |path: &Path, reason: &dyn std::fmt::Display| TlsError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&crt)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| damaged(&crt, &e))?;
    let first = chain.first().ok_or_else(|| damaged(&crt, &"it holds no certificate"))?;
    let fingerprint = fingerprint(first);
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|e| damaged(&key, &e))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| damaged(&key, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), fingerprint })
}

/// Lets the next start make a new certificate. Durable when this returns; what is served goes on until then.
pub fn forget(dir: &Path) -> Result<(), TlsError> {
    // The certificate first: a key alone counts as none.
    for name in [certificate::FILE, "tls.key"] {
        let path = dir.join(name);
        crate::durable::remove(&path).map_err(|source| TlsError::File { path: path.clone(), source })?;
    }
    Ok(())
}

fn make(crt: &Path, key: &Path, name: &str, addresses: &[IpAddr]) -> Result<(), TlsError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // The clock of a host may be wrong at its first start: the certificate must not be from the future then.
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "LimiQuantix");
    let names = [name, "localhost"];
    let names = names.iter().filter_map(|n| Some(SanType::DnsName((*n).try_into().ok()?)));
    params.subject_alt_names = names.chain(addresses.iter().map(|a| SanType::IpAddress(*a))).collect();
    let certificate = params.self_signed(&pair)?;
    write(key, 0o600, &pair.serialize_pem())?;
    write(crt, 0o644, &certificate.pem())
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), TlsError> {
    crate::durable::write(path, mode, text.as_bytes())
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Addresses of this host.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return addresses };
    for address in interfaces.filter_map(|i| i.address) {
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) if !v6.ip().is_unicast_link_local() => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn made_once_and_kept() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let first = load(dir.path(), "h1", &own_addresses()).unwrap();
        let again = load(dir.path(), "other", &[]).unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        assert_eq!(first.fingerprint.len(), 32 * 3 - 1);
        let mode = fs::metadata(dir.path().join("tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        forget(dir.path()).unwrap();
        forget(dir.path()).unwrap();
        assert_ne!(load(dir.path(), "h1", &[]).unwrap().fingerprint, first.fingerprint);
        fs::write(dir.path().join("tls.key"), "x").unwrap();
        assert!(load(dir.path(), "h1", &[]).err().unwrap().to_string().contains("tls.key"));
    }
}
