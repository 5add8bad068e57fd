//! A JSON document by HTTP POST (HTTP/1.1). Redirections are failures: they would take the signature elsewhere.

use super::{Sender, net, render};
use crate::{causes::chain, cluster::state::alerts::Notice};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use ring::hmac;

/// Bytes of a refusal that are repeated.
const SHOWN: usize = 200;
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
    let authority = uri.authority().ok_or_else(|| format!("`{url}` names no server"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = uri.scheme_str() == Some("https");
    let stream = net::connect(&host, authority.port_u16().unwrap_or(if secure { 443 } else { 80 })).await?;
    let stream: Box<dyn net::Stream> =
        if secure { Box::new(net::secure(stream, &host, ca).await?) } else { Box::new(stream) };
    let failed = |e: hyper::Error| format!("{host} did not take it: {}", chain(&e));
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let body = serde_json::to_vec(&render::document(notice, sender)).map_err(|e| e.to_string())?;
    let mut request = Request::post(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("limiquantix/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    if let Some(secret) = secret {
        request = request.header(SIGNATURE, signature(secret, &body));
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
    // Ends with the connection, which ends when both are dropped.
    let driving = tokio::spawn(connection);
    let answered = async {
        let response = requests.send_request(request).await.map_err(failed)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let text = text.map(|body| body.to_bytes()).unwrap_or_default();
        let text: String =
            String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        Err(format!("{host} answered {status}: {text}"))
    };
    let answered = answered.await;
    driving.abort();
    answered
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
