//! The words all parts of LimiQuantix share.
//!
//! This crate owns the resource types of `/api/v1`, the error document, the answer file of the installer, the
//! protocols between the processes of one host (`local`), and, behind the feature `client`, the Rust client.
//! It performs no I/O outside `client`, depends on no other room, and every other room may depend on it.
//!
//! Features: `openapi` derives the schemas for the OpenAPI document, `client` builds the HTTP client.

pub mod access;
pub mod alert;
pub mod answer;
pub mod audit;
pub mod auth;
pub mod balance;
pub mod bmc;
pub mod channel;
pub mod cloud_init;
pub mod cluster;
pub mod event;
pub mod ha;
pub mod history;
pub mod host;
pub mod ids;
pub mod image;
pub mod join_token;
pub mod list;
pub mod local;
pub mod management;
pub mod meta;
pub mod network;
pub mod pairing;
pub mod pci;
pub mod placement;
pub mod pool;
pub mod problem;
pub mod provider;
pub mod quantity;
pub mod recovery;
pub mod removable;
pub mod settings;
pub mod task;
pub mod time;
pub mod usage;
pub mod vm;
pub mod volume;

#[cfg(feature = "client")]
pub mod client;

pub use ids::{
    AlertId, AuditId, ChannelId, EventId, GroupId, HostId, ImageId, NetworkId, PoolId, ProviderId, RoleId,
    SessionId, TaskId, TokenId, UserId, VmId, VolumeId,
};
pub use jiff::Timestamp;
pub use meta::Metadata;
pub use quantity::Bytes;
