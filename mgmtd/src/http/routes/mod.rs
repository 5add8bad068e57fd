//! The handlers, one file per kind of object.

mod alerts;
mod audit;
mod channels;
mod cluster;
mod console;
mod display;
mod events;
mod groups;
mod history;
mod hosts;
mod images;
mod management;
mod metrics;
mod networks;
mod pools;
pub(super) mod probes;
mod recovery;
mod session;
pub(super) mod tasks;
mod tokens;
mod usage;
mod users;
mod viewer;
mod vms;
mod volumes;
mod watch;

use super::Api;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// Everything below `/api/v1`.
pub(super) fn v1() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(session::router())
        .merge(tokens::router())
        .merge(users::router())
        .merge(groups::router())
        .merge(audit::router())
        .merge(cluster::router())
        .merge(recovery::router())
        .merge(hosts::router())
        .merge(management::router())
        .merge(history::router())
        .merge(usage::router())
        .merge(vms::router())
        .merge(console::router())
        .merge(display::router())
        .merge(images::router())
        .merge(volumes::router())
        .merge(networks::router())
        .merge(pools::router())
        .merge(tasks::router())
        .merge(events::router())
        .merge(alerts::router())
        .merge(channels::router())
        .merge(watch::router())
}
