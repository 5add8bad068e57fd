//! The body of a request as it comes in: at a certain pace at least, and read on for a while after the request was answered
//! early, so that the answer arrives.
//!
//! Whoever still sends when the connection is closed sees a broken pipe, or loses the unread answer to a reset, instead of
//! reading why it was refused (RFC 9112 section 9.6). So a body that is dropped before its end is read and thrown away
//! until the client has stopped sending or [`LINGER`] is over.
//!
//! A body may take as long as it likes in all (an image is uploaded for hours), but not hold a place by a byte now and then:
//! whenever the client was waited for as long as a [`Pace`] allows, [`RATE`] for each second of it must have come. Time in which
//! we are the slower side does not count.

use super::places::Place;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

/// Longest a refused client is listened to.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes a second that a client must send at least.
const RATE: u64 = 1024;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It came too slowly.
    #[error("the body came too slowly: at least {RATE} bytes a second are needed")]
    Slow,
}

/// How long a client may be waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// One that has not shown who it is.
    pub(super) stranger: Duration,
    /// One that has.
    pub(super) known: Duration,
}

/// How long has been waited for what.
struct Waiting {
    pace: Pace,
    place: Arc<Place>,
    timer: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
    waited: Duration,
    came: u64,
}

impl Waiting {
    fn limit(&self) -> Duration {
        if self.place.is_known() { self.pace.known } else { self.pace.stranger }
    }

    fn stop(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now - since;
        }
    }

    /// So much came.
    fn came(&mut self, bytes: usize) {
        self.stop(Instant::now());
        self.came = self.came.saturating_add(bytes as u64);
        let wanted = u128::from(RATE) * self.limit().as_millis() / 1000;
        if u128::from(self.came) >= wanted {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Nothing is there; ready when that has been so for too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        self.stop(now);
        self.since = Some(now);
        let limit = self.limit();
        if self.waited >= limit {
            return Poll::Ready(());
        }
        let end = now + (limit - self.waited);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        timer.as_mut().reset(end);
        timer.as_mut().poll(cx)
    }
}

/// A request's body that keeps a pace, and is read to its end even by a handler that drops it.
pub(super) struct Lingering {
    body: Option<Incoming>,
    waiting: Waiting,
}

impl Lingering {
    pub(super) fn new(body: Incoming, pace: Pace, place: Arc<Place>) -> Self {
        let waiting = Waiting { pace, place, timer: None, since: None, waited: Duration::ZERO, came: 0 };
        Self { body: Some(body), waiting }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting.came(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                this.body = None;
                Poll::Ready(end.map(|failed| failed.map_err(BodyError::from)))
            }
            Poll::Pending => match this.waiting.poll_over(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    // Not listened to any longer.
                    this.body = None;
                    Poll::Ready(Some(Err(BodyError::Slow)))
                }
            },
        }
    }
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }
    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime the connection is gone too.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        }));
    }
}
