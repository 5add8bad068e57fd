//! Redfish (DMTF DSP0266): the power of a system by HTTPS and JSON, with basic authentication (13.3.2), which every service has.
//!
//! ```text
//!   /redfish/v1/ ──Systems──▶ collection ──Members──▶ system: PowerState, #ComputerSystem.Reset (ForceOff)
//! ```
//! Invariant: paths come from the service, but stay on the one server the settings name.

use super::{Board, Fault};
use crate::{
    cluster::state::BmcRecord,
    dial::{
        Trust,
        http::{self, Answer},
    },
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{Method, Request, StatusCode, header};
use lq_api::bmc::{BmcPower, BmcSpec, fingerprint};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Longest one request may take: these are slow machines.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Where every service begins (6.3).
const ROOT: &str = "/redfish/v1/";

/// A reference to another resource (8.2).
#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(rename = "@odata.id")]
    path: String,
}

#[derive(Debug, Deserialize)]
struct Root {
    #[serde(rename = "Systems")]
    systems: Option<Reference>,
}

#[derive(Debug, Deserialize)]
struct Collection {
    #[serde(rename = "Members", default)]
    members: Vec<Reference>,
}

/// What can be done to a system (8.4.2).
#[derive(Debug, Default, Deserialize)]
struct Actions {
    #[serde(rename = "#ComputerSystem.Reset")]
    reset: Option<Reset>,
}

#[derive(Debug, Deserialize)]
struct Reset {
    target: String,
    #[serde(rename = "ResetType@Redfish.AllowableValues", default)]
    kinds: Vec<String>,
}

/// `ComputerSystem`, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct System {
    #[serde(default)]
    actions: Actions,
    power_state: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    serial_number: Option<String>,
    id: Option<String>,
}

/// A Redfish service.
pub(super) struct Redfish {
    /// `https://host:port`.
    server: String,
    /// SHA-256 of its certificate, hexadecimal.
    pin: String,
    authorization: header::HeaderValue,
    /// Which system; the only one where absent.
    wanted: Option<String>,
    /// Where it is, once that was found.
    path: OnceCell<String>,
}

impl Redfish {
    /// Nothing is asked yet.
    pub(super) fn new(record: &BmcRecord) -> Result<Self, Fault> {
        let BmcSpec { username, certificate, system, .. } = &record.spec;
        let (host, port) =
            record.spec.place().ok_or_else(|| Fault::Unreachable("its address is not understood".into()))?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let pin = certificate
            .as_deref()
            .and_then(fingerprint)
            .ok_or_else(|| Fault::Unreachable("its certificate was not confirmed".into()))?;
        let credentials = STANDARD.encode(format!("{username}:{}", record.password));
        let mut authorization =
            header::HeaderValue::from_str(&format!("Basic {credentials}")).map_err(|_| Fault::Credentials)?;
        authorization.set_sensitive(true);
        Ok(Self {
            server: format!("https://{host}:{port}"),
            pin: hex::encode(pin),
            authorization,
            wanted: system.clone(),
            path: OnceCell::new(),
        })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Fault> {
        // A service may send whatever it likes as a path: it is asked itself, and nobody else.
        let local = path.starts_with('/') && !path.starts_with("//");
        let clean = path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic());
        if !local || !clean {
            return Err(Fault::Unclear(format!("`{}` is no path of its own", path.escape_debug())));
        }
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, "application/json")
            .header("odata-version", "4.0");
        let request =
            if body.is_empty() { request } else { request.header(header::CONTENT_TYPE, "application/json") };
        let request = request.body(body).map_err(|e| Fault::Unclear(e.to_string()))?;
        let answer = http::send(request, Trust::Certificate(&self.pin), MAX_ANSWER);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer
            .map_err(|_| Fault::Unreachable(format!("no answer within {} s", PATIENCE.as_secs())))?
            .map_err(Fault::Unreachable)?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(Fault::Credentials),
            StatusCode::FORBIDDEN => Err(Fault::Forbidden(path.to_owned())),
            status => {
                Err(Fault::Refused(format!("{path}: {status} {}", answer.shown()).trim_end().to_owned()))
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        let body = self.send(Method::GET, path, Bytes::new()).await?.body.map_err(Fault::Unreachable)?;
        serde_json::from_slice(&body).map_err(|e| Fault::Unclear(format!("{path}: {e}")))
    }

    /// Where the system is.
    async fn find(&self) -> Result<String, Fault> {
        let root: Root = self.get(ROOT).await?;
        let systems = root.systems.ok_or_else(|| Fault::Unclear("it manages no systems".into()))?;
        let collection: Collection = self.get(&systems.path).await?;
        choose(collection.members.into_iter().map(|m| m.path).collect(), self.wanted.as_deref())
    }

    async fn system(&self) -> Result<System, Fault> {
        let path = self.path.get_or_try_init(|| self.find()).await?;
        self.get(path).await
    }
}

/// The system that is meant, out of the paths of all.
fn choose(paths: Vec<String>, wanted: Option<&str>) -> Result<String, Fault> {
    let id = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let ids: Vec<String> = paths.iter().map(|p| id(p)).collect();
    let found = match wanted {
        Some(wanted) => paths.into_iter().find(|p| id(p) == wanted),
        None if paths.len() == 1 => paths.into_iter().next(),
        None => None,
    };
    found.ok_or_else(|| {
        let shown = ids.iter().take(32).map(|i| i.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
        Fault::Refused(match (wanted, ids.is_empty()) {
            (_, true) => "it manages no systems".into(),
            (Some(wanted), _) => format!("it has no system `{wanted}`, but {shown}: correct `system`"),
            (None, _) => format!("it manages several systems, {shown}: name the host's in `system`"),
        })
    })
}

#[async_trait]
impl Board for Redfish {
    async fn machine(&self) -> Result<String, Fault> {
        let system = self.system().await?;
        let words = [
            system.manufacturer,
            system.model,
            system.serial_number.map(|s| format!("serial number {}", s.trim())),
            system.id.map(|id| format!("system {id}")),
        ];
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .map(|w| w.trim().chars().filter(|c| !lq_api::meta::is_unseen(*c)).take(100).collect())
            .filter(|w: &String| !w.is_empty())
            .collect();
        Ok(words.join(", "))
    }

    async fn power(&self) -> Result<BmcPower, Fault> {
        // `PoweringOff` is not off: what was begun may still be written.
        match self.system().await?.power_state.as_deref() {
            Some("Off") => Ok(BmcPower::Off),
            Some("On" | "PoweringOn" | "PoweringOff" | "Paused") => Ok(BmcPower::On),
            Some(other) => Err(Fault::Unclear(format!("the power state `{}`", other.escape_debug()))),
            None => Err(Fault::Unclear("the system has no power state".into())),
        }
    }

    async fn cut(&self) -> Result<(), Fault> {
        const FORCE: &str = "ForceOff";
        let reset = self.system().await?.actions.reset;
        let reset = reset.ok_or_else(|| Fault::Refused("the system cannot be switched".into()))?;
        if !reset.kinds.is_empty() && reset.kinds.iter().all(|kind| kind != FORCE) {
            return Err(Fault::Refused(format!("the system knows no `{FORCE}`")));
        }
        let body = format!(r#"{{"ResetType":"{FORCE}"}}"#);
        self.send(Method::POST, &reset.target, body.into()).await.map(drop)
    }
}

#[cfg(test)]
#[path = "redfish_tests.rs"]
mod against_a_service;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_that_is_meant_is_chosen_or_nothing() {
        let path = |id: &str| format!("/redfish/v1/Systems/{id}");
        assert_eq!(choose(vec![path("1")], None), Ok(path("1")));
        assert_eq!(choose(vec![path("1"), path("2")], Some("2")), Ok(path("2")));
        let why = |paths, wanted| choose(paths, wanted).unwrap_err().to_string();
        assert!(why(vec![path("1"), path("2")], None).contains("1, 2: name"));
        assert!(why(vec![path("1")], Some("2")).contains("no system `2`"));
        assert!(why(vec![], None).contains("no systems"));
    }
}
