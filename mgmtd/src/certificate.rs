//! What a certificate is known by, and when it ends: the one field of X.509 (RFC 5280, 4.1) that is needed here.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use lq_api::host::Certificate;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The certificate of the API and the page, in the state directory.
pub const FILE: &str = "tls.crt";

/// The certificate in this file; `None` where it cannot be read.
pub fn read(path: &Path) -> Option<Certificate> {
    let certificate = CertificateDer::from_pem_file(path).ok()?;
    Some(Certificate { fingerprint: fingerprint(&certificate), not_after: not_after(&certificate) })
}

/// SHA-256 of a certificate, hexadecimal, colon separated.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate.as_ref());
    digest.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

/// One element of DER (X.690): its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `notAfter` of a certificate.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate).filter(|e| e.0 == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|e| e.0 == SEQUENCE)?;
    if let Some((VERSION, _, after)) = element(rest) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(|e| e.0 == SEQUENCE)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// `UTCTime` (tag 23) or `GeneralizedTime` (tag 24), both in UTC to the second.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    let (year, rest) = match (tag, text.len()) {
        (23, 12) => {
            let year: i16 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        (24, 14) => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |n: usize| rest.get(2 * n..2 * n + 2)?.parse::<i8>().ok();
    let civil = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn the_end_is_read_in_both_forms() {
        let key = KeyPair::generate().unwrap();
        for (year, month, day, text) in
            [(2049, 12, 31, "2049-12-31T00:00:00Z"), (2069, 2, 3, "2069-02-03T00:00:00Z")]
        {
            let mut params = CertificateParams::new(vec!["h".into()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()).unwrap().to_string(), text);
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("c"), certificate.pem()).unwrap();
            let read_back = read(&dir.path().join("c")).unwrap();
            assert_eq!(read_back.not_after.unwrap().to_string(), text);
            assert_eq!(read_back.fingerprint, fingerprint(certificate.der()));
            assert_eq!(read(dir.path()), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = not_after(&bytes);
            let _ = time(23, &String::from_utf8_lossy(&bytes));
        }
    }
}
