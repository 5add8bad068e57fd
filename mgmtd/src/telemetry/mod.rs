//! What the daemon tells about itself: events for people, metrics for machines, logs.
//!
//! Owns the history file (`history.redb`) and the values over time (`series/`). Nothing here goes through the cluster's log, and losing its last seconds at a
//! power cut is accepted.

pub mod bundle;
mod events;
pub mod exposition;
mod history;
pub mod logs;
mod metrics;
mod names;
mod series;
pub mod usage;

pub use events::{EventFilter, Events, NewEvent};
pub(crate) use history::Ring;
pub use history::{History, HistoryError};
pub use metrics::{Gauges, Metrics};
pub use series::{HOST_METRICS, Metric, Series, SeriesError, Subject, VM_METRICS};
