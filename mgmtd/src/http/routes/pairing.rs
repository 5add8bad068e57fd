//! Pairing: hosts that wait, bringing one in, and how this host itself stands to it.

use super::super::{
    Api,
    extract::{Answer, Json},
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{NotWaiting, PairError, pairing::is_code},
    discovery,
    tasks::NewTask,
};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    event::EventLevel,
    pairing::{OpenPairing, PairHost, Pairing, WaitingHosts},
    problem::{FieldError, Kind, Problem},
    task::Task,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(waiting)).routes(routes!(pair)).routes(routes!(pairing, open_pairing))
}

impl From<NotWaiting> for Failure {
    fn from(why: NotWaiting) -> Self {
        Self::new(Kind::Conflict, why.to_string())
    }
}

/// Hosts that wait to be paired on the network of this host. A look takes a second; what is found is not proven.
#[utoipa::path(
    get, path = "/cluster/waiting", tag = "cluster", responses((status = 200, body = WaitingHosts))
)]
async fn waiting(State(api): State<Arc<Api>>) -> Result<Answer<WaitingHosts>, Failure> {
    let from = discovery::own_address(&api.node).map(|a| *a.ip());
    let (Some(from), Some(port)) = (from, api.discovery_port) else {
        return Ok(Answer(StatusCode::OK, WaitingHosts { items: vec![], looked_from: None }));
    };
    let found = discovery::browse(from, port).await;
    let mut items = found.map_err(|e| {
        Failure::new(Kind::Unavailable, format!("waiting hosts cannot be looked for from {from}: {e}"))
    })?;
    api.node.cluster.read(|s| items.retain(|h| !s.hosts.contains_key(&h.host)));
    Ok(Answer(StatusCode::OK, WaitingHosts { items, looked_from: Some(from.to_string()) }))
}

/// Brings in a waiting host by the code on its console, with everything it has. Its users, passwords and tokens end.
#[utoipa::path(
    post, path = "/cluster/pair", tag = "cluster", request_body = PairHost, responses((status = 202, body = Task))
)]
async fn pair(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(wanted): Json<PairHost>,
) -> Result<Answer<Task>, Failure> {
    let target = wanted.target();
    let mut errors = target.as_ref().err().cloned().unwrap_or_default();
    if !wanted.code.trim().is_empty() && !is_code(&wanted.code) {
        errors.push(FieldError::new("code", PairError::NotACode.to_string()));
    }
    let target = match target {
        Ok(target) if errors.is_empty() => target,
        _ => return Err(Problem::validation(errors).into()),
    };
    let node = api.node.clone();
    let new = NewTask {
        kind: "cluster.pair",
        target: format!("cluster/{}", node.cluster.identity().cluster),
        actor: caller.actor.clone(),
        cancellable: false,
    };
    let work = move |task: crate::tasks::Handle| async move {
        let say = |text: String| task.progress(None, text);
        let PairHost { host, code, rename, .. } = wanted;
        let paired = node.cluster.pair(&target, host, &code, rename, &say).await;
        let paired = paired.map_err(|e| e.to_string())?;
        let text = format!("the host `{}` was brought in by its pairing code", paired.name);
        node.events.system(EventLevel::Info, "host.paired", format!("host/{}", paired.host), text);
        Ok(Some(if paired.arrived {
            format!("the host `{}` is a member of the cluster", paired.name)
        } else {
            format!("the host `{}` was admitted and has not been heard yet", paired.name)
        }))
    };
    Ok(Answer(StatusCode::ACCEPTED, api.node.tasks.start(new, work)))
}

/// How this host stands to being paired, with the code on its console. Of the host that is asked, always.
#[utoipa::path(get, path = "/cluster/pairing", tag = "cluster", responses((status = 200, body = Pairing)))]
async fn pairing(State(api): State<Arc<Api>>) -> Answer<Pairing> {
    Answer(StatusCode::OK, api.node.cluster.pairing())
}

/// Lets this host wait for an hour although it has machines, volumes or images of its own, or ends that.
#[utoipa::path(
    put, path = "/cluster/pairing", tag = "cluster", request_body = OpenPairing,
    responses((status = 200, body = Pairing))
)]
async fn open_pairing(
    State(api): State<Arc<Api>>,
    Json(wanted): Json<OpenPairing>,
) -> Result<Answer<Pairing>, Failure> {
    api.node.cluster.open_pairing(wanted.open)?;
    Ok(Answer(StatusCode::OK, api.node.cluster.pairing()))
}
