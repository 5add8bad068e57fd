//! Logging in at an OpenID Connect provider: authorization code with PKCE (RFC 6749, 7636; OpenID Connect Core 1.0, Discovery 1.0).
//!
//! ```text
//!  page ─start─▶ cookie (state, nonce, verifier; sealed) + address ─▶ provider's page ─▶ /oidc?code&state
//!  page ─finish─▶ cookie fits state ─▶ code for tokens ─▶ ID token holds ─▶ Person
//! ```
//! Owns what is known of providers (discovery, keys), in memory. What belongs to one login is in the browser's cookie alone, so any
//! host of the cluster can finish it. Invariants: a code is taken only by the browser that began, once; no token is ever in an
//! address; nothing is sent without TLS but to this very machine.

mod token;

use super::{Auth, AuthError, directory::Person, seal, secret};
use crate::{
    cluster::state::access::ProviderRecord,
    dial::{Trust, http},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hyper::{Request, header};
use lq_api::{
    ProviderId, Timestamp,
    auth::{OidcFinish, Session},
    provider::{OidcSource, ProviderSource, ProviderTest, is_endpoint},
};
use ring::digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use token::{Expected, Keys, TokenError, verify};
use tokio::time::Instant;

/// How long a login may take at the provider.
pub const LOGIN_TAKES: Duration = Duration::from_secs(600);
/// How long what was discovered counts.
const DISCOVERED: Duration = Duration::from_secs(3600);
/// Keys are asked for anew, because of one that is not known, at most this often.
const NEW_KEYS: Duration = Duration::from_secs(10);
/// That a provider cannot be asked is remembered this long.
const FAILED: Duration = Duration::from_secs(5);
/// Longest that one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_ANSWER: usize = 1 << 20;
/// What a sealed cookie is for.
const PURPOSE: &str = "oidc-login";

/// What a provider says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    end_session_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Discovered {
    revision: u64,
    at: Instant,
    found: Result<(Arc<Metadata>, Keys), String>,
    keys_at: Instant,
}

/// What is known of providers.
#[derive(Default)]
pub(super) struct Providers {
    known: Mutex<HashMap<ProviderId, Discovered>>,
    /// Held while one is asked: however many want to log in, it is asked once.
    asking: Mutex<HashMap<ProviderId, Arc<tokio::sync::Mutex<()>>>>,
}

/// One login, in the browser's cookie.
#[derive(Serialize, Deserialize)]
struct Pending {
    provider: ProviderId,
    state: String,
    nonce: String,
    verifier: String,
    redirect: String,
    /// Seconds since 1970.
    ends: i64,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
}

fn oidc_of(record: &ProviderRecord) -> Option<&OidcSource> {
    match &record.spec.source {
        ProviderSource::Oidc(source) => Some(source),
        ProviderSource::Ldap(_) => None,
    }
}

/// 256 random bits.
fn random() -> String {
    let mut bytes = [0u8; 32];
    secret::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A value in a form or a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
    pairs.join("&")
}

fn with_query(url: &str, pairs: &[(&str, &str)]) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{}", form(pairs))
}

async fn ask(request: Request<Bytes>, ca: Option<&str>) -> Result<http::Answer, String> {
    let sent = http::send(request, Trust::of(ca), MAX_ANSWER);
    let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, sent).await.map_err(late)?
}

async fn document(request: Request<Bytes>, ca: Option<&str>) -> Result<Bytes, String> {
    let url = request.uri().to_string();
    let answer = ask(request, ca).await?;
    if !answer.status.is_success() {
        return Err(format!("{url} answered {}: {}", answer.status, answer.shown()));
    }
    answer.body
}

fn get(url: &str) -> Result<Request<Bytes>, String> {
    let request = Request::get(url).header(header::ACCEPT, "application/json");
    request.body(Bytes::new()).map_err(|e| format!("`{url}`: {e}"))
}

fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("{what} is not as it should be: {e}"))
}

async fn keys(metadata: &Metadata, ca: Option<&str>) -> Result<Keys, String> {
    Keys::read(&document(get(&metadata.jwks_uri)?, ca).await?)
}

async fn discover(source: &OidcSource) -> Result<(Arc<Metadata>, Keys), String> {
    let ca = source.ca.as_deref();
    let url = format!("{}/.well-known/openid-configuration", source.issuer.trim_end_matches('/'));
    let metadata: Metadata = read("its description", &document(get(&url)?, ca).await?)?;
    // Discovery 1.0, 4.3: else one provider could speak for another.
    if metadata.issuer != source.issuer {
        return Err(format!("it calls itself `{}`: write the issuer exactly so", metadata.issuer));
    }
    let all = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
    let more = metadata.userinfo_endpoint.iter().chain(&metadata.end_session_endpoint);
    if let Some(bad) = all.into_iter().chain(more).find(|url| !is_endpoint(url)) {
        return Err(format!("it names the address `{bad}`, which is not safe: https is needed"));
    }
    let keys = keys(&metadata, ca).await?;
    Ok((Arc::new(metadata), keys))
}

/// A claim by its name, or by its place in claims within claims (`realm_access.roles`).
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (outer, inner) = name.split_once('.')?;
    claim(claims.get(outer)?.as_object()?, inner)
}

fn person(source: &OidcSource, claims: &Map<String, Value>) -> Option<Person> {
    let text = |name: &str| claim(claims, name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let groups = match claim(claims, &source.groups_claim) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => vec![],
    };
    Some(Person {
        subject: text("sub")?.to_owned(),
        name: text(&source.username_claim)?.to_owned(),
        full_name: text(&source.name_claim).unwrap_or_default().to_owned(),
        groups,
    })
}

impl Providers {
    fn known(&self, provider: &ProviderRecord) -> Option<Discovered> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&provider.meta.id)?;
        let lasts = if known.found.is_ok() { DISCOVERED } else { FAILED };
        (known.revision == provider.meta.revision && known.at.elapsed() < lasts).then(|| known.clone())
    }

    fn put(&self, provider: &ProviderRecord, known: Discovered) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(provider.meta.id, known);
    }

    async fn get(
        &self,
        provider: &ProviderRecord,
        source: &OidcSource,
    ) -> Result<(Arc<Metadata>, Keys), String> {
        if let Some(known) = self.known(provider) {
            return known.found;
        }
        let asking = {
            let mut all = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(provider.meta.id).or_default().clone()
        };
        let _one = asking.lock().await;
        if let Some(known) = self.known(provider) {
            return known.found;
        }
        let found = discover(source).await;
        let now = Instant::now();
        let revision = provider.meta.revision;
        self.put(provider, Discovered { revision, at: now, found: found.clone(), keys_at: now });
        found
    }

    /// How long the keys are not asked for again; `None`: they may be asked for.
    fn until_new_keys(&self, provider: &ProviderRecord) -> Option<Duration> {
        NEW_KEYS.checked_sub(self.known(provider)?.keys_at.elapsed())
    }

    /// The keys as they are now, where they were not asked for a moment ago.
    async fn new_keys(&self, provider: &ProviderRecord, source: &OidcSource) -> Option<Keys> {
        let known = self.known(provider).filter(|k| k.keys_at.elapsed() >= NEW_KEYS)?;
        let (metadata, _) = known.found.clone().ok()?;
        let found = keys(&metadata, source.ca.as_deref()).await;
        let keys = found.inspect_err(|e| tracing::warn!(error = e, "keys of an identity provider")).ok()?;
        let found = Ok((metadata, keys.clone()));
        self.put(provider, Discovered { found, keys_at: Instant::now(), ..known });
        Some(keys)
    }
}

impl Auth {
    /// Where the browser is to go, and the cookie it has to come back with.
    pub async fn begin_oidc(&self, realm: &str, redirect: String) -> Result<(String, String), AuthError> {
        let found = self.cluster.read(|s| s.provider_named(realm).filter(|p| p.spec.enabled).cloned());
        let found = found.as_deref().and_then(|p| Some((p, oidc_of(p)?)));
        let (provider, source) = found.ok_or_else(|| {
            let why = format!("there is no identity provider `{realm}` with a page to log in at");
            AuthError::Invalid(vec![lq_api::problem::FieldError::new("realm", why)])
        })?;
        let (metadata, _) =
            self.providers.get(provider, source).await.map_err(|e| not_asked(provider, &e))?;
        let pending = Pending {
            provider: provider.meta.id,
            state: random(),
            nonce: random(),
            verifier: random(),
            redirect,
            ends: self.clock.after(LOGIN_TAKES).as_second(),
        };
        let challenge = digest::digest(&digest::SHA256, pending.verifier.as_bytes());
        let mut scopes = vec!["openid"];
        scopes.extend(source.scopes.iter().map(String::as_str).filter(|s| *s != "openid"));
        let url = with_query(
            &metadata.authorization_endpoint,
            &[
                ("response_type", "code"),
                ("client_id", &source.client_id),
                ("redirect_uri", &pending.redirect),
                ("scope", &scopes.join(" ")),
                ("state", &pending.state),
                ("nonce", &pending.nonce),
                ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
                ("code_challenge_method", "S256"),
            ],
        );
        let plain = serde_json::to_vec(&pending).map_err(|_| AuthError::NoKey)?;
        let cookie =
            self.cluster.read(|s| seal::seal(&s.signing, PURPOSE, &plain)).ok_or(AuthError::NoKey)?;
        Ok((url, cookie))
    }

    /// Ends a login at a provider. Answers with the realm too, for the audit.
    pub async fn finish_oidc(
        &self,
        source: Option<IpAddr>,
        from: String,
        cookie: Option<&str>,
        finish: &OidcFinish,
    ) -> (Option<String>, Result<Session, AuthError>) {
        // One account a source, which no user can have: what is to be guessed here cannot be, and nobody is to lock others out.
        let account = format!(" oidc {}", source.map(|s| s.to_string()).unwrap_or_default());
        let attempt = match self.attempt(source, &account).await {
            Ok(attempt) => attempt,
            Err(e) => return (None, Err(e)),
        };
        let plain = cookie.and_then(|c| self.cluster.read(|s| seal::unseal(&s.signing, PURPOSE, c)));
        let pending: Option<Pending> = plain.and_then(|p| serde_json::from_slice(&p).ok());
        let now = self.clock.now();
        let pending = pending.filter(|p| {
            p.ends > now.as_second() && secret::same(p.state.as_bytes(), finish.state.as_bytes())
        });
        let Some(pending) = pending else { return (None, Err(AuthError::NotBegun)) };
        let provider =
            self.cluster.read(|s| s.providers.get(&pending.provider).filter(|p| p.spec.enabled).cloned());
        let Some(provider) = provider else { return (None, Err(AuthError::NotBegun)) };
        let realm = Some(provider.meta.name.clone());
        let done = match self.who(&provider, &pending, finish).await {
            Ok(person) => self.admit(attempt, from, &provider, &person).await,
            Err(e) => {
                // Neither was a guess: the provider took the code, or was not asked.
                if matches!(e, AuthError::NotAsked(_) | AuthError::KeysChanged(..)) {
                    attempt.excused();
                }
                Err(e)
            }
        };
        (realm, done)
    }

    /// Whom the provider means.
    async fn who(
        &self,
        provider: &ProviderRecord,
        pending: &Pending,
        finish: &OidcFinish,
    ) -> Result<Person, AuthError> {
        let source = oidc_of(provider).ok_or(AuthError::NotBegun)?;
        let unbelieved = |why: String| {
            tracing::warn!(
                provider = provider.meta.name,
                error = why,
                "a login at an identity provider failed"
            );
            AuthError::NotBelieved(provider.meta.name.clone(), why)
        };
        // RFC 9207: an answer of another provider is not taken for one of this.
        if finish.iss.as_ref().is_some_and(|iss| *iss != source.issuer) {
            return Err(unbelieved("the answer is of another provider".into()));
        }
        let (metadata, keys) =
            self.providers.get(provider, source).await.map_err(|e| not_asked(provider, &e))?;
        let request = exchange(provider, source, &metadata, pending, &finish.code);
        let answer = match request {
            Ok(request) => ask(request, source.ca.as_deref()).await,
            Err(e) => Err(e),
        };
        let answer = answer.map_err(|e| not_asked(provider, &e))?;
        if !answer.status.is_success() {
            return Err(unbelieved(format!(
                "it did not take the code: {}, {}",
                answer.status,
                answer.shown()
            )));
        }
        let body = answer.body.map_err(|e| not_asked(provider, &e))?;
        let tokens: Tokens = read("its answer", &body).map_err(unbelieved)?;
        let id_token = tokens.id_token.ok_or_else(|| unbelieved("it gave no ID token".into()))?;
        let expected = Expected { issuer: &source.issuer, client: &source.client_id, nonce: &pending.nonce };
        let mut claims = verify(&id_token, &keys, &expected, Timestamp::now());
        if claims == Err(TokenError::UnknownKey) {
            if let Some(keys) = self.providers.new_keys(provider, source).await {
                claims = verify(&id_token, &keys, &expected, Timestamp::now());
            } else if let Some(time) = self.providers.until_new_keys(provider) {
                return Err(AuthError::KeysChanged(provider.meta.name.clone(), time));
            }
        }
        let mut claims = claims.map_err(|e| unbelieved(format!("its ID token is not believed: {e}")))?;
        let missing =
            [&source.username_claim, &source.groups_claim].iter().any(|c| claim(&claims, c).is_none());
        if missing && let (Some(url), Some(token)) = (&metadata.userinfo_endpoint, &tokens.access_token) {
            let more =
                userinfo(url, token, source.ca.as_deref()).await.map_err(|e| not_asked(provider, &e))?;
            // OpenID Connect Core 1.0, 5.3.2: else it may be about someone else.
            if more.get("sub") != claims.get("sub") {
                return Err(unbelieved("what it tells of the user is about someone else".into()));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        person(source, &claims).ok_or_else(|| {
            unbelieved(format!("it tells no user name: the claim `{}` is missing", source.username_claim))
        })
    }

    /// Where one logs out at the provider too.
    #[must_use]
    pub fn logout_url(&self, user: lq_api::UserId) -> Option<String> {
        let provider = self.cluster.read(|s| {
            let provider = s.users.get(&user)?.external.as_ref()?.provider?;
            s.providers.get(&provider).cloned()
        })?;
        let source = oidc_of(&provider)?;
        let (metadata, _) = self.providers.known(&provider)?.found.ok()?;
        let url = metadata.end_session_endpoint.as_ref()?;
        Some(with_query(url, &[("client_id", &source.client_id)]))
    }
}

/// Tries whether a provider can be asked.
pub(super) async fn test(source: &OidcSource) -> ProviderTest {
    match discover(source).await {
        Ok((metadata, keys)) if keys.len() > 0 => ProviderTest {
            passed: true,
            steps: vec![
                format!("its description was found; one logs in at {}", metadata.authorization_endpoint),
                format!("it has {} keys that tokens can be checked with", keys.len()),
            ],
            ..ProviderTest::default()
        },
        Ok(_) => ProviderTest {
            steps: vec!["its description was found".into()],
            failure: Some("it has no key for RS256 or ES256: let it sign ID tokens with one of these".into()),
            ..ProviderTest::default()
        },
        Err(why) => ProviderTest { failure: Some(why), ..ProviderTest::default() },
    }
}

fn not_asked(provider: &ProviderRecord, why: &str) -> AuthError {
    tracing::warn!(provider = provider.meta.name, error = why, "an identity provider could not be asked");
    AuthError::NotAsked(provider.meta.name.clone())
}

/// Asks for the tokens of a code (RFC 6749, 4.1.3).
fn exchange(
    provider: &ProviderRecord,
    source: &OidcSource,
    metadata: &Metadata,
    pending: &Pending,
    code: &str,
) -> Result<Request<Bytes>, String> {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", pending.redirect.as_str()),
        ("code_verifier", pending.verifier.as_str()),
    ];
    let mut request = Request::post(&metadata.token_endpoint)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    match provider.secret.as_deref() {
        None => pairs.push(("client_id", &source.client_id)),
        Some(secret) => {
            // Where nothing is said, the header (Discovery 1.0, 3).
            let ways = metadata.token_endpoint_auth_methods_supported.as_ref();
            if ways.is_none_or(|w| w.iter().any(|w| w == "client_secret_basic")) {
                let pair = format!("{}:{}", encoded(&source.client_id), encoded(secret));
                request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
            } else {
                pairs.extend([("client_id", source.client_id.as_str()), ("client_secret", secret)]);
            }
        }
    }
    request.body(Bytes::from(form(&pairs))).map_err(|e| e.to_string())
}

async fn userinfo(url: &str, token: &str, ca: Option<&str>) -> Result<Map<String, Value>, String> {
    let request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Bytes::new())
        .map_err(|e| e.to_string())?;
    read("what it tells of the user", &document(request, ca).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_addresses_is_escaped() {
        assert_eq!(form(&[("a", "x y&z=ä"), ("b", "-._~")]), "a=x%20y%26z%3D%C3%A4&b=-._~");
        assert_eq!(with_query("https://x?y=1", &[("a", "b")]), "https://x?y=1&a=b");
    }

    #[test]
    fn claims_are_found_within_claims() {
        let source: OidcSource = serde_json::from_value(serde_json::json!({
            "issuer": "https://x", "client_id": "c", "groups_claim": "realm_access.roles",
        }))
        .unwrap();
        let Value::Object(claims) = serde_json::json!({
            "sub": "1", "preferred_username": "eve", "realm_access": {"roles": ["ops", 7]},
        }) else {
            unreachable!("it is one")
        };
        let found = person(&source, &claims).unwrap();
        assert_eq!((found.name.as_str(), found.groups), ("eve", vec!["ops".to_owned()]));
        assert_eq!(person(&source, &Map::new()), None);
    }
}
