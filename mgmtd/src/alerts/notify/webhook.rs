//! A JSON document by HTTP POST (HTTP/1.1). Redirections are failures: they would take the signature elsewhere.

use super::{Sender, render};
use crate::{
    cluster::state::alerts::Notice,
    dial::{Trust, http},
};
use bytes::Bytes;
use hyper::{Request, Uri, header};
use ring::hmac;

/// Largest answer that is looked at.
const MAX_ANSWER: usize = 64 << 10;
/// The header of the signature.
const SIGNATURE: &str = "x-lq-signature";

/// `sha256=<hexadecimal>`: HMAC-SHA-256 of the body (RFC 2104).
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    format!("sha256={}", hex::encode(tag.as_ref()))
}

pub(super) async fn send(
    url: &str,
    ca: Option<&str>,
    secret: Option<&str>,
    notice: &Notice,
    sender: &Sender,
) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|e| format!("`{url}` is not a URL: {e}"))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let body = serde_json::to_vec(&render::document(notice, sender)).map_err(|e| e.to_string())?;
    let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
    if let Some(secret) = secret {
        request = request.header(SIGNATURE, signature(secret, &body));
    }
    let request = request.body(Bytes::from(body)).map_err(|e| e.to_string())?;
    let answer = http::send(request, Trust::of(ca), MAX_ANSWER).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(format!("{host} answered {}: {}", answer.status, answer.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_as_rfc_4231_says() {
        // Test case 2.
        let signed = signature("Jefe", b"what do ya want for nothing?");
        assert_eq!(signed, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
