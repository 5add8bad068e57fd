//! One request over one connection (HTTP/1.1). Redirections are not followed: they would take secrets elsewhere.

use super::{Stream, Trust, connect, secure};
use crate::causes::chain;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;

/// Bytes of a refusal that are repeated.
const SHOWN: usize = 200;

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Why it could not be read, where it could not.
    pub(crate) body: Result<Bytes, String>,
}

impl Answer {
    /// The beginning of the body, fit to be shown.
    pub(crate) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(self.body.as_deref().unwrap_or_default());
        text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
    }
}

/// Sends a request to the absolute URL it names, and takes an answer whose body has at most `most` bytes.
pub(crate) async fn send(request: Request<Bytes>, trust: Trust<'_>, most: usize) -> Result<Answer, String> {
    let (mut parts, body) = request.into_parts();
    let url = parts.uri.clone();
    let authority = url.authority().ok_or_else(|| format!("`{url}` names no server"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(format!("`{url}` is neither https nor http")),
    };
    let stream = connect(&host, authority.port_u16().unwrap_or(if tls { 443 } else { 80 })).await?;
    let stream: Box<dyn Stream> =
        if tls { Box::new(secure(stream, &host, trust).await?) } else { Box::new(stream) };
    let failed = |e: hyper::Error| format!("{host} did not take it: {}", chain(&e));
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let named = |text: &str| header::HeaderValue::from_str(text).map_err(|e| e.to_string());
    parts.headers.insert(header::HOST, named(authority.as_str())?);
    parts.headers.insert(header::USER_AGENT, named(concat!("limiquantix/", env!("CARGO_PKG_VERSION")))?);
    parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    parts.uri = path.parse().map_err(|e| format!("`{path}`: {e}"))?;
    // Ends with the connection, which ends when both are dropped.
    let driving = tokio::spawn(connection);
    let answered = async {
        let response =
            requests.send_request(Request::from_parts(parts, Full::new(body))).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map(|body| body.to_bytes());
        let body =
            body.map_err(|e| format!("{host} did not answer in full, or with more than {most} bytes: {e}"));
        Ok(Answer { status, body })
    };
    let answered = answered.await;
    driving.abort();
    answered
}
