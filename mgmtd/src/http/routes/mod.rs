//! The handlers, one file per kind of object.

mod alerts;
mod audit;
mod balance;
mod bmc;
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
mod pairing;
mod pools;
pub(super) mod probes;
mod providers;
mod recovery;
mod session;
mod settings;
pub(super) mod tasks;
mod time;
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
        .merge(settings::router())
        .merge(tokens::router())
        .merge(users::router())
        .merge(groups::router())
        .merge(providers::router())
        .merge(audit::router())
        .merge(cluster::router())
        .merge(pairing::router())
        .merge(balance::router())
        .merge(time::router())
        .merge(recovery::router())
        .merge(hosts::router())
        .merge(bmc::router())
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
