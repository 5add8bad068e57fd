//! Keeping a session: the access token is refreshed before it ends, by whichever request comes first.

use super::{Client, Error, REQUEST_TIMEOUT};
use crate::{
    Timestamp,
    auth::{ACCESS_SECONDS, Refresh, Session},
};
use reqwest::{Method, RequestBuilder, header};
use std::sync::{Arc, PoisonError, RwLock};

/// What has to be kept to go on with a session later, in another process too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The access token.
    pub token: String,
    /// Gets the next one, once.
    pub refresh_token: String,
    /// When they were received, by this machine's clock.
    pub since: Timestamp,
}

type Renewed = Arc<dyn Fn(&Held) + Send + Sync>;

/// The session of a client.
#[derive(Default)]
pub(super) struct Keeper {
    held: tokio::sync::Mutex<Option<Held>>,
    renewed: RwLock<Option<Renewed>>,
}

impl Client {
    /// Goes on with a session kept from before. `renewed` is called with what has to be kept in its place, after each
    /// refresh.
    pub async fn resume(&self, held: Held, renewed: impl Fn(&Held) + Send + Sync + 'static) {
        self.set_token(Some(held.token.clone()));
        *self.inner.session.renewed.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(renewed));
        *self.inner.session.held.lock().await = Some(held);
    }

    /// Takes a session as this client's own.
    pub(super) async fn hold(&self, session: &Session) {
        self.set_token(Some(session.token.clone()));
        *self.inner.session.held.lock().await = held(session, session.refresh_token.clone());
    }

    /// Forgets the session.
    pub(super) async fn forget(&self) {
        self.set_token(None);
        *self.inner.session.held.lock().await = None;
    }

    /// Refreshes the session when half of its access token's time is over. Answers whether there is a new one.
    pub(super) async fn keep_session(&self) -> bool {
        let mut place = self.inner.session.held.lock().await;
        let Some(now) = place.as_ref() else { return false };
        // Someone set another credential meanwhile.
        let own = self.token().as_ref() == Some(&now.token);
        let age = Timestamp::now().as_second().saturating_sub(now.since.as_second());
        if !own || age < i64::from(ACCESS_SECONDS / 2) {
            return false;
        }
        let session = match self.exchange_refresh(&now.refresh_token).await {
            Ok(session) => session,
            // It ended, or the host is away: the request itself will say so.
            Err(_) => return false,
        };
        let refresh = session.refresh_token.clone().unwrap_or_else(|| now.refresh_token.clone());
        let renewed = session.refresh_token.is_some();
        self.set_token(Some(session.token.clone()));
        *place = held(&session, Some(refresh));
        let tell = self.inner.session.renewed.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(held), Some(tell), true) = (place.as_ref(), tell, renewed) {
            tell(held);
        }
        true
    }

    async fn exchange_refresh(&self, token: &str) -> Result<Session, Error> {
        let url = self.endpoint(&["session", "refresh"]);
        self.tell(&Method::POST, &url);
        let body = Refresh { refresh_token: Some(token.into()) };
        let request = self.inner.transport.http().request(Method::POST, url).header("x-lq-request", "1");
        let response = self.exchange(request.timeout(REQUEST_TIMEOUT).json(&body)).await?;
        response.json().await.map_err(|e| self.broken("read the answer of", e))
    }

    /// The request with the present token in place of the one it was made with.
    pub(super) fn with_new_token(&self, request: RequestBuilder) -> Result<RequestBuilder, Error> {
        let (http, request) = request.build_split();
        let mut request = request.map_err(|e| self.broken("make a request for", e))?;
        if let Some(token) = self.token()
            && let Ok(value) = format!("Bearer {token}").parse()
        {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(RequestBuilder::from_parts(http, request))
    }
}

fn held(session: &Session, refresh_token: Option<String>) -> Option<Held> {
    Some(Held { token: session.token.clone(), refresh_token: refresh_token?, since: Timestamp::now() })
}
