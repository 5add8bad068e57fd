//! How much a host or a machine did, over time.

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// How far back, and how finely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// The last hour, every 5 seconds.
    #[default]
    Hour,
    /// The last day, every minute.
    Day,
    /// The last 7 days, every hour.
    Week,
    /// The last 30 days, every hour.
    Month,
    /// The last 365 days, every hour.
    Year,
}

/// Parameters of `GET /hosts/{id}/history` and `GET /vms/{id}/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct HistoryQuery {
    /// How far back; an hour where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Names of metrics, with commas between; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
}

/// Values over time, at even distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricHistory {
    /// Beginning of the first interval.
    pub from: Timestamp,
    /// Length of an interval in seconds.
    pub step_seconds: u32,
    /// The metrics.
    pub metrics: Vec<MetricValues>,
}

/// One metric over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricValues {
    /// Its name, e.g. `disk.read`.
    pub name: String,
    /// In what it is measured.
    pub unit: Unit,
    /// Mean of each interval; `null` where nothing was measured. All metrics have equally many.
    pub values: Vec<Option<f32>>,
}

/// In what something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Share of all there is, 0 to 1.
    Share,
    /// Processors in use, so 1.5 is one and a half.
    Processors,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Events per second.
    PerSecond,
}
