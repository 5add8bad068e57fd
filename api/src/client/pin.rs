//! Trust in a host's certificate.
//!
//! A host makes its certificate itself at first boot, so there is no authority to ask. The client pins the SHA-256 of
//! the leaf certificate instead: given beforehand, or accepted at first use and kept from then on. The handshake's
//! signature is always verified, so presenting a copied certificate without its key does not help an attacker.
//! Names and dates in the certificate do not matter: addresses change, and a pinned key has no other proof to give.

use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

/// SHA-256 of a certificate in DER, written as 32 pairs of hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate (DER).
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    /// `AB:CD:…`, as tools show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let colon = if n == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;
    /// 64 hexadecimal digits; colons, spaces, case and a leading `sha256:` do not matter.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bare = s.trim();
        let bare = match bare.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &bare[7..],
            _ => bare,
        };
        let digits: String = bare.chars().filter(|c| !matches!(c, ':' | ' ' | '-')).collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(&digits, &mut bytes)
            .map_err(|_| format!("`{s}` is not a SHA-256 fingerprint (64 hexadecimal digits)"))?;
        Ok(Self(bytes))
    }
}

/// Asked once when a host is met for the first time; `true` accepts and pins the certificate.
pub type FirstUse = Arc<dyn Fn(&Fingerprint) -> bool + Send + Sync>;

/// Which certificate is accepted.
#[derive(Clone)]
pub enum Pin {
    /// The one with this fingerprint.
    Fingerprint(Fingerprint),
    /// The first one for which this says yes; then only that one, for the life of the client.
    FirstUse(FirstUse),
}

impl Pin {
    /// Whichever certificate comes first. Nothing tells the host from an impostor at that moment: for tests, and
    /// where the caller compares [`super::Client::fingerprint`] itself.
    #[must_use]
    pub fn first_seen() -> Self {
        Self::FirstUse(Arc::new(|_| true))
    }
}

impl From<Fingerprint> for Pin {
    fn from(fingerprint: Fingerprint) -> Self {
        Self::Fingerprint(fingerprint)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => f.debug_tuple("Fingerprint").field(fingerprint).finish(),
            Self::FirstUse(_) => f.write_str("FirstUse"),
        }
    }
}

/// What the last handshakes of a client saw.
#[derive(Default, Debug)]
struct Seen {
    /// Accepted and kept.
    trusted: Option<Fingerprint>,
    /// Presented last.
    presented: Option<Fingerprint>,
}

/// Verifies by pin. Shared by all connections of one client.
pub(super) struct PinVerifier {
    pin: Pin,
    seen: Mutex<Seen>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for PinVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinVerifier").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl PinVerifier {
    pub(super) fn new(pin: Pin, provider: &CryptoProvider) -> Self {
        let trusted = match &pin {
            Pin::Fingerprint(fingerprint) => Some(*fingerprint),
            Pin::FirstUse(_) => None,
        };
        let seen = Mutex::new(Seen { trusted, presented: None });
        Self { pin, seen, algorithms: provider.signature_verification_algorithms }
    }

    /// The pinned fingerprint, once there is one.
    pub(super) fn trusted(&self) -> Option<Fingerprint> {
        self.seen().trusted
    }
    /// The last fingerprint a host presented.
    pub(super) fn presented(&self) -> Option<Fingerprint> {
        self.seen().presented
    }
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Two plain values: they are whole even if another thread panicked while it held them.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(end_entity);
        // Held while the caller is asked, so that parallel connections ask once.
        let mut seen = self.seen();
        seen.presented = Some(presented);
        let accepted = match (seen.trusted, &self.pin) {
            (Some(trusted), _) => trusted == presented,
            (None, Pin::FirstUse(ask)) => ask(&presented),
            (None, Pin::Fingerprint(pinned)) => *pinned == presented,
        };
        if !accepted {
            return Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        seen.trusted = Some(presented);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_every_usual_form() {
        let fingerprint = Fingerprint::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(fingerprint.0), hex);
        for form in [hex.to_string(), format!("SHA256:{hex}"), fingerprint.to_string(), format!(" {hex}\n")] {
            assert_eq!(form.parse::<Fingerprint>().unwrap(), fingerprint, "{form}");
        }
        for bad in ["", "ba78", "sha256:", &"g".repeat(64), "é12345678"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn first_use_asks_once_and_pins() {
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let pin = Pin::FirstUse(Arc::new(move |_| {
            *count.lock().unwrap() += 1;
            true
        }));
        let verifier = PinVerifier::new(pin, &rustls::crypto::ring::default_provider());
        let name = ServerName::try_from("host").unwrap();
        let verify = |der: &[u8]| {
            verifier.verify_server_cert(&CertificateDer::from(der), &[], &name, &[], UnixTime::now())
        };
        assert!(verify(b"first").is_ok());
        assert!(verify(b"first").is_ok());
        assert!(verify(b"other").is_err());
        assert_eq!(*asked.lock().unwrap(), 1);
        assert_eq!(verifier.trusted(), Some(Fingerprint::of(b"first")));
        assert_eq!(verifier.presented(), Some(Fingerprint::of(b"other")));
    }
}
