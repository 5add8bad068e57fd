//! Probes for load balancers and supervisors, and metrics.

use super::super::{
    Api,
    extract::Answer,
    guard,
    peer::{self, own_pool},
    problem::Failure,
};
use crate::telemetry::{Gauges, exposition::from_open_metrics};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use lq_api::{cluster::Readiness, vm::VmState};
use std::{collections::BTreeMap, sync::Arc};

/// Machines whose host cannot be asked.
const UNKNOWN: &str = "unknown";

pub(in super::super) fn router(_api: Arc<Api>) -> Router<Arc<Api>> {
    Router::new()
        .route("/live", get(alive))
        .route("/health", get(alive))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
}

/// The process answers.
async fn alive() -> &'static str {
    "ok\n"
}

/// Every request can be served.
async fn ready(State(api): State<Arc<Api>>) -> Answer<Readiness> {
    let waiting_for = api.waiting_for();
    let ready = waiting_for.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer(status, Readiness { ready, waiting_for })
}

/// Metrics, for callers with `cluster.read`.
async fn metrics(State(api): State<Arc<Api>>, req: Request) -> Result<Response, Failure> {
    guard::may_read_metrics(&api, &req)?;
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let silent = peer::silent(&api).await;
    let mut now = api.node.cluster.read_at(|s, revision| {
        let states = [
            VmState::Stopped,
            VmState::Starting,
            VmState::Running,
            VmState::Paused,
            VmState::Stopping,
            VmState::Failed,
        ];
        let mut vms: BTreeMap<String, i64> = states.iter().map(|s| (word(*s), 0)).collect();
        vms.insert(UNKNOWN.into(), 0);
        for record in s.vms.values() {
            let status = &record.vm.status;
            let state = status.state.known(status.host.is_some_and(|host| silent.contains(&host)));
            *vms.entry(state.map_or_else(|| UNKNOWN.into(), word)).or_default() += 1;
        }
        Gauges {
            vms: vms.into_iter().collect(),
            objects: vec![
                ("vm".into(), number(s.vms.len())),
                ("image".into(), number(s.images.len())),
                ("volume".into(), number(s.volumes.len())),
                ("network".into(), number(s.networks.len())),
                ("host".into(), number(s.hosts.len())),
                ("pool".into(), number(s.pools.len())),
            ],
            revision: i64::try_from(revision).unwrap_or(i64::MAX),
            ..Gauges::default()
        }
    });
    now.running_tasks = number(api.node.tasks.running());
    now.sessions = number(api.auth.session_count());
    let pools: Vec<_> = api.node.cluster.read(|s| s.pools.values().map(|p| p.meta.clone()).collect());
    for pool in pools {
        if let Some(room) = own_pool(&api, pool.id).await {
            let bytes = |b: lq_api::Bytes| i64::try_from(b.get()).unwrap_or(i64::MAX);
            now.pools.push((pool.name, bytes(room.capacity_bytes), bytes(room.free_bytes)));
        }
    }
    let text = api.metrics.render(now).map_err(|e| Failure::internal(&e))?;
    let text = from_open_metrics(&text) + &super::metrics::read(&api).await;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn word(state: VmState) -> String {
    let word = serde_json::to_value(state).ok();
    word.and_then(|w| w.as_str().map(str::to_owned)).unwrap_or_default()
}
