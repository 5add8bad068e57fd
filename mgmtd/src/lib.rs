//! `mgmtd`: the LimiQuantix management daemon.
//!
//! A library so that tests and the simulated host can use its rooms; the program is `main.rs`. `docs/architecture.md` has
//! the map; each room's `mod.rs` says what it owns.

pub mod alerts;
pub mod auth;
pub mod causes;
pub mod certificate;
pub mod cluster;
pub mod compute;
pub mod config;
pub mod daemon;
mod dial;
mod discovery;
pub mod durable;
pub mod ha;
pub mod hardware;
pub mod http;
pub mod inventory;
pub mod network;
mod peers;
pub mod placement;
pub mod reconcile;
pub mod removable;
pub mod sim;
pub mod storage;
pub mod tasks;
pub mod telemetry;
pub mod time;
pub mod witness;
