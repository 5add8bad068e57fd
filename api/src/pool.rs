//! Storage pools.

use crate::{Bytes, HostId, Metadata, PoolId};
use serde::{Deserialize, Serialize};

/// A storage pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pool {
    /// Identity.
    pub meta: Metadata<PoolId>,
    /// What it is.
    pub spec: PoolSpec,
    /// Read at the time of the request; absent where the host cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PoolStatus>,
}

/// A pool's driver and place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "driver", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PoolSpec {
    /// Files in a directory of one host.
    Dir {
        /// The host whose directory it is.
        host: HostId,
    },
}

/// Room in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolStatus {
    /// Bytes in all.
    pub capacity_bytes: Bytes,
    /// Bytes free for new data.
    pub free_bytes: Bytes,
}
