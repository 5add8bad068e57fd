//! Waiting for a host that takes no more requests for the moment (429): as long as it says, within a limit, then once more.
//!
//! What is refused so was not looked at, so it can be repeated. Requests whose body is a stream cannot: they fail at once, as does
//! everything where the host does not say when to come back, or asks for more than the limit.

use super::Client;
use reqwest::{Response, StatusCode, header};
use std::{sync::OnceLock, time::Duration};

/// How long to wait, and who is told.
pub(super) struct Patience {
    limit: Duration,
    told: Box<dyn Fn(Duration) + Send + Sync>,
}

/// None, where nobody asked for it.
pub(super) type Held = OnceLock<Patience>;

/// The patience of one request.
pub(super) struct Rest<'a> {
    patience: Option<&'a Patience>,
    left: Duration,
}

impl Client {
    /// Waits from now on where the host takes no more requests for the moment, for up to `limit` per request; `told` hears of
    /// each wait before it begins. Only the first such wish counts.
    #[must_use]
    pub fn patient(self, limit: Duration, told: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        let _ = self.inner.patience.set(Patience { limit, told: Box::new(told) });
        self
    }
}

impl<'a> Rest<'a> {
    pub(super) fn of(held: &'a Held) -> Self {
        let patience = held.get();
        Self { patience, left: patience.map_or(Duration::ZERO, |p| p.limit) }
    }

    /// Whether a request may have to be made again.
    pub(super) fn any(&self) -> bool {
        !self.left.is_zero()
    }

    /// Waits as the host wants it; whether the request is to be made again.
    pub(super) async fn wait(&mut self, response: &Response) -> bool {
        let Some((patience, pause)) = self.patience.zip(pause(response)) else { return false };
        let Some(left) = self.left.checked_sub(pause) else { return false };
        self.left = left;
        (patience.told)(pause);
        tokio::time::sleep(pause).await;
        true
    }
}

/// How long the host wants to be left alone, at least a second. A date instead of seconds is not what our hosts say.
fn pause(response: &Response) -> Option<Duration> {
    let said = response.headers().get(header::RETRY_AFTER)?;
    let seconds: u64 = said.to_str().ok()?.trim().parse().ok()?;
    (response.status() == StatusCode::TOO_MANY_REQUESTS).then(|| Duration::from_secs(seconds.max(1)))
}
