//! Reads on for a while after a request was answered early, so that the answer arrives.
//!
//! Whoever still sends when the connection is closed sees a broken pipe, or loses the unread answer to a reset, instead of
//! reading why it was refused (RFC 9112 section 9.6). So a body that is dropped before its end is read and thrown away
//! until the client has stopped sending or [`LINGER`] is over.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::runtime::Handle;

/// Longest a refused client is listened to.
const LINGER: Duration = Duration::from_secs(5);

/// A request's body that is read to its end even by a handler that drops it.
pub(super) struct Lingering(Option<Incoming>);

impl From<Incoming> for Lingering {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }
    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }
    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime the connection is gone too.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        }));
    }
}
