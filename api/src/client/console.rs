//! The serial console and the screen of a VM: WebSockets whose binary frames are the port's bytes, the scroll-back first,
//! or those of an RFB (VNC) connection.

use super::{Client, Error, problem, transport::Connection};
use crate::VmId;
use bytes::Bytes;
use futures::{Sink, Stream};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderName, HeaderValue},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Largest frame taken: a whole scroll-back fits.
const MAX_FRAME: usize = 16 << 20;

/// A console or a screen. Read it as a stream of bytes, write it as a sink of bytes. The stream ends when the host closes the
/// console in order (the VM was deleted, the daemon stops).
pub struct Console {
    socket: WebSocketStream<Connection>,
    client: Client,
    /// The host has said its last.
    ended: bool,
    /// Its last words.
    farewell: Option<String>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("host", &self.client.host()).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the serial console of a VM. It may be opened before the VM runs and stays open across its restarts.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn console(&self, id: VmId) -> Result<Console, Error> {
        self.open_line(id, "console").await
    }

    /// Connects to the screen of a running VM: the bytes of an RFB connection. The host ends it with the VM's run.
    ///
    /// # Errors
    /// Any of [`Error`]; a conflict where the VM does not run or has no display.
    pub async fn display(&self, id: VmId) -> Result<Console, Error> {
        self.open_line(id, "display").await
    }

    async fn open_line(&self, id: VmId, line: &'static str) -> Result<Console, Error> {
        let url = self.endpoint(&["vms", &id.to_string(), line]);
        let what = if line == "display" { "open a display on" } else { "open a console on" };
        self.keep_session().await;
        self.tell(&reqwest::Method::GET, &url);
        let request = self.upgrade(&url)?;
        let connection = self.inner.transport.open().await?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        match client_async_with_config(request, connection, Some(config)).await {
            Ok((socket, _)) => Ok(Console { socket, client: self.clone(), ended: false, farewell: None }),
            Err(tungstenite::Error::Http(response)) => {
                let status = response.status().as_u16();
                let body = response.body().as_deref().unwrap_or_default();
                Err(problem(&self.host(), &format!("GET {}", url.path()), status, body))
            }
            Err(e) => Err(self.inner.transport.failed(what, Box::new(e))),
        }
    }

    /// The request that asks for a WebSocket.
    fn upgrade(&self, url: &reqwest::Url) -> Result<Request, Error> {
        let address = |reason: String| Error::Address { url: url.to_string(), reason };
        // `https:` becomes `wss:`, `http:` (Unix socket) `ws:`.
        let ws = url.as_str().replacen("http", "ws", 1);
        let mut request = ws.into_client_request().map_err(|e| address(e.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("x-lq-request"), HeaderValue::from_static("1"));
        if let Some(token) = self.token() {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| address("the token has characters that cannot be sent".into()))?;
            headers.insert(HeaderName::from_static("authorization"), value);
        }
        Ok(request)
    }
}

impl Console {
    /// Why the host closed the console, once it has and where it said so.
    #[must_use]
    pub fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }
    fn broken(&self, error: tungstenite::Error) -> Error {
        self.client.inner.transport.failed("reach the console on", Box::new(error))
    }
    fn socket(self: Pin<&mut Self>) -> Pin<&mut WebSocketStream<Connection>> {
        Pin::new(&mut self.get_mut().socket)
    }
}

/// What a close frame means: `None` is the orderly end.
fn closed(frame: Option<CloseFrame>) -> Option<Error> {
    let frame = frame?;
    match frame.code {
        CloseCode::Normal | CloseCode::Away | CloseCode::Status => None,
        code if frame.reason.is_empty() => Some(Error::Closed(format!("code {code}"))),
        _ => Some(Error::Closed(frame.reason.to_string())),
    }
}

impl Stream for Console {
    type Item = Result<Bytes, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            let last = match ready!(self.as_mut().socket().poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                Some(Ok(Message::Text(text))) => return Poll::Ready(Some(Ok(text.into()))),
                // Pings are answered by the protocol's own code.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.as_ref().map(|f| f.reason.to_string());
                    self.farewell = reason.filter(|r| !r.is_empty());
                    closed(frame)
                }
                None
                | Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => None,
                Some(Err(e)) => Some(self.broken(e)),
            };
            self.ended = true;
            return Poll::Ready(last.map(Err));
        }
        Poll::Ready(None)
    }
}

impl Sink<Bytes> for Console {
    type Error = Error;
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = ready!(self.as_mut().socket().poll_ready(cx));
        Poll::Ready(ready.map_err(|e| self.broken(e)))
    }
    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Error> {
        let sent = self.as_mut().socket().start_send(Message::Binary(bytes));
        sent.map_err(|e| self.broken(e))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let flushed = ready!(self.as_mut().socket().poll_flush(cx));
        Poll::Ready(flushed.map_err(|e| self.broken(e)))
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let closed = ready!(self.as_mut().socket().poll_close(cx));
        Poll::Ready(closed.map_err(|e| self.broken(e)))
    }
}
