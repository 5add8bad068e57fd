//! The words about the past: which span, which metrics.

use clap::{Args, ValueEnum};
use lq_api::history::{self, HistoryQuery};

/// What of the past.
#[derive(Debug, Args)]
pub(crate) struct Past {
    /// How far back.
    #[arg(long, value_enum, default_value = "hour")]
    pub(crate) span: Span,
    /// Only this metric; may be repeated.
    #[arg(long = "metric", value_name = "NAME")]
    pub(crate) metrics: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Span {
    /// Every 5 seconds.
    Hour,
    /// Every minute.
    Day,
    /// 7 days, every hour.
    Week,
    /// 30 days, every hour.
    Month,
    /// 365 days, every hour.
    Year,
}

impl From<Span> for history::Span {
    fn from(span: Span) -> Self {
        match span {
            Span::Hour => Self::Hour,
            Span::Day => Self::Day,
            Span::Week => Self::Week,
            Span::Month => Self::Month,
            Span::Year => Self::Year,
        }
    }
}

impl From<Past> for HistoryQuery {
    fn from(Past { span, metrics }: Past) -> Self {
        Self { span: Some(span.into()), metric: (!metrics.is_empty()).then(|| metrics.join(",")) }
    }
}
