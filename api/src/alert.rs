//! Alerts: what is wrong now and what was, the rules that raise them, and whom they are told to.
//!
//! ```text
//!  rule holds for `hold_seconds` ──▶ raised ──(acknowledged, silenced)──▶ rule holds no more for `clear_seconds` ──▶ resolved
//! ```

use crate::{AlertId, HostId, Timestamp, problem::FieldError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest comment, in characters.
const MAX_COMMENT: usize = 500;
/// Longest hold, seconds: a day.
const MAX_HOLD: u32 = 86_400;
/// Longest silence, minutes: a year.
const MAX_SILENCE: u32 = 525_600;

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Someone has to look soon.
    Warning,
    /// Someone has to act now.
    Critical,
}

impl Severity {
    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $title:literal, $unit:expr, $defaults:expr;)*) => {
        /// What is watched. Written like `pool-filling`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AlertRule {$(
            $(#[doc = $doc])+
            #[serde(rename = $text)]
            $name,
        )*}

        impl AlertRule {
            /// Every rule there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is written.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {$(Self::$name => $text,)*}
            }

            /// What people call it.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {$(Self::$name => $title,)*}
            }

            /// When it raises an alert, in words.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {$(Self::$name => concat!($($doc),+).trim_start(),)*}
            }

            /// What its thresholds are measured in, where it has thresholds.
            #[must_use]
            pub const fn unit(self) -> Option<RuleUnit> {
                match self {$(Self::$name => $unit,)*}
            }

            /// How it is set where nobody changed it.
            #[must_use]
            pub const fn defaults(self) -> RuleSettings {
                match self {$(Self::$name => $defaults,)*}
            }
        }
    };
}

const fn held(hold_seconds: u32, clear_seconds: u32) -> RuleSettings {
    RuleSettings { enabled: true, hold_seconds, clear_seconds, warning: None, critical: None }
}
const fn levels(hold_seconds: u32, clear_seconds: u32, warning: f64, critical: f64) -> RuleSettings {
    RuleSettings {
        enabled: true,
        hold_seconds,
        clear_seconds,
        warning: Some(warning),
        critical: Some(critical),
    }
}

rules! {
    /// A host of the cluster does not answer the leader. (Critical.)
    HostLost = "host-lost", "Host lost", None, held(15, 15);
    /// The loss of one more voting host would leave the cluster without a majority. (Warning.)
    QuorumAtRisk = "quorum-at-risk", "Quorum at risk", None, held(30, 30);
    /// No majority of the voting hosts is reached: nothing can be changed. Known and told by each host for itself. (Critical.)
    QuorumLost = "quorum-lost", "Quorum lost", None, held(20, 10);
    /// A storage pool is filled to this share, or would be full within three days if it went on as over the last day (warning).
    PoolFilling = "pool-filling", "Pool filling", Some(RuleUnit::PercentUsed), levels(60, 120, 85.0, 95.0);
    /// A storage pool is not reached by hosts that should (warning), or by none (critical).
    PoolUnreachable = "pool-unreachable", "Pool unreachable", None, held(30, 30);
    /// A disk of a host says by SMART that it is failing (critical) or worn out (warning). A disk that tells nothing is not taken for healthy: the host's page says `not known`.
    DiskFailing = "disk-failing", "Disk failing", None, held(0, 0);
    /// A certificate of a host ends within so many days.
    CertificateExpiring = "certificate-expiring", "Certificate expiring", Some(RuleUnit::DaysLeft), levels(0, 0, 14.0, 3.0);
    /// A host's clock differs so much from the leader's; where a single host's kernel says that nothing sets its clock, that is told too (info).
    ClockOff = "clock-off", "Clock off", Some(RuleUnit::SecondsOff), levels(60, 60, 1.0, 5.0);
    /// A machine failed: its monitor ended or its guest panicked, and it does not run any more. (Critical.)
    VmFailed = "vm-failed", "Machine failed", None, held(5, 5);
    /// A host runs with less safety than it should, or mended something at its start. (Warning.)
    HostDegraded = "host-degraded", "Host degraded", None, held(0, 30);
    /// A host has only this share of its memory left.
    MemoryPressure = "memory-pressure", "Memory pressure", Some(RuleUnit::PercentFree), levels(120, 120, 10.0, 5.0);
    /// A host could not back up the cluster's state (nightly, or before a change that cannot be undone), its newest backup cannot be read, or it is older than 36 hours (warning); the newest is older than three days (critical).
    BackupFailed = "backup-failed", "Backup failed", None, held(60, 0);
    /// The BMC of a host cannot be asked, or says what cannot be true: were the host lost, its machines would wait for their leases to end. (Warning.)
    BmcUnreachable = "bmc-unreachable", "BMC unreachable", None, held(300, 10);
    /// A notification channel fails, so that alerts do not arrive there. (Warning.)
    ChannelFailing = "channel-failing", "Notifications failing", None, held(300, 10);
}

// Derived, it would have the variants' names: the derive does not see through a macro's literals.
#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for AlertRule {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("What is watched."))
            .enum_values(Some(Self::ALL.iter().map(|r| r.text())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for AlertRule {}

impl fmt::Display for AlertRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for AlertRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|r| r.text() == text);
        found.copied().ok_or_else(|| format!("there is no alert rule `{text}`"))
    }
}

/// What thresholds are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RuleUnit {
    /// Percent in use: more is worse.
    PercentUsed,
    /// Percent left: less is worse.
    PercentFree,
    /// Days left: less is worse.
    DaysLeft,
    /// Seconds of difference: more is worse.
    SecondsOff,
}

impl RuleUnit {
    /// Whether more is worse.
    #[must_use]
    pub const fn rising(self) -> bool {
        matches!(self, Self::PercentUsed | Self::SecondsOff)
    }

    /// The largest threshold that makes sense.
    #[must_use]
    pub const fn most(self) -> f64 {
        match self {
            Self::PercentUsed | Self::PercentFree => 100.0,
            Self::DaysLeft => 3650.0,
            Self::SecondsOff => 86_400.0,
        }
    }

    /// How much better than the threshold it has to become before an alert is resolved, so that it does not flap.
    #[must_use]
    pub const fn margin(self) -> f64 {
        match self {
            Self::PercentUsed | Self::PercentFree => 2.0,
            Self::DaysLeft | Self::SecondsOff => 0.0,
        }
    }
}

/// How a rule is set. `PUT /alert-rules/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// It raises alerts. One that does not resolves those it has raised.
    pub enabled: bool,
    /// Seconds it has to hold before an alert is raised, at most 86400.
    pub hold_seconds: u32,
    /// Seconds it must not hold before the alert is resolved, at most 86400.
    pub clear_seconds: u32,
    /// From where on it is a warning, in the rule's unit; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From where on it is critical; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

impl RuleSettings {
    /// What is wrong with these settings for this rule.
    #[must_use]
    pub fn validate(&self, rule: AlertRule) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, seconds) in [("hold_seconds", self.hold_seconds), ("clear_seconds", self.clear_seconds)] {
            if seconds > MAX_HOLD {
                errors.push(FieldError::new(field, format!("is more than {MAX_HOLD} (a day)")));
            }
        }
        let levels = [("warning", self.warning), ("critical", self.critical)];
        let given = levels.iter().filter_map(|(field, level)| Some((*field, (*level)?)));
        match rule.unit() {
            None => errors.extend(given.map(|(f, _)| FieldError::new(f, "this rule has no thresholds"))),
            Some(unit) => {
                let most = unit.most();
                let bad = given.filter(|(_, level)| !level.is_finite() || *level < 0.0 || *level > most);
                errors.extend(bad.map(|(f, _)| FieldError::new(f, format!("is not from 0 to {most}"))));
                if let (Some(warning), Some(critical)) = (self.warning, self.critical)
                    && (if unit.rising() { warning > critical } else { warning < critical })
                {
                    let why = "is reached before the warning: `critical` has to be the worse one";
                    errors.push(FieldError::new("critical", why));
                }
            }
        }
        errors
    }

    /// How grave this value is; `now` is how grave the alert is already, which takes a margin to get better.
    #[must_use]
    pub fn level(&self, unit: RuleUnit, value: f64, now: Option<Severity>) -> Option<Severity> {
        let reached = |threshold: Option<f64>, severity: Severity| {
            let margin = if now.is_some_and(|n| n >= severity) { unit.margin() } else { 0.0 };
            threshold
                .is_some_and(|t| if unit.rising() { value >= t - margin } else { value <= t + margin })
                .then_some(severity)
        };
        reached(self.critical, Severity::Critical).or_else(|| reached(self.warning, Severity::Warning))
    }
}

/// A rule with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertRuleInfo {
    /// Which.
    pub id: AlertRule,
    /// What people call it.
    pub title: String,
    /// When it raises an alert.
    pub description: String,
    /// What its thresholds are measured in, where it has thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<RuleUnit>,
    /// How it is set.
    pub settings: RuleSettings,
    /// How it is set where nobody changed it.
    pub defaults: RuleSettings,
}

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alert {
    /// Identity; ordered by time.
    pub id: AlertId,
    /// The rule that raised it.
    pub rule: AlertRule,
    /// How grave it is.
    pub severity: Severity,
    /// About which object: `kind/id`, or `cluster`.
    pub target: String,
    /// The name that object had when the alert was raised.
    pub target_name: String,
    /// Which part of the object, e.g. a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
    /// The host that sees it; absent where the leader does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<HostId>,
    /// Known only to the host that answered: the cluster takes no changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When severity or message last changed.
    pub changed_at: Timestamp,
    /// When it was over; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Someone has taken note of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// Nobody is notified of it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced: Option<Silence>,
}

/// Someone has taken note of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acknowledgement {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// Nobody is notified of an alert for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Silence {
    /// When it ends. If the alert is still there then, it is told.
    pub until: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// What they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// `POST /alerts/{id}/acknowledge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAlert {
    /// At most 500 characters.
    #[serde(default)]
    pub comment: String,
}

/// `POST /alerts/{id}/silence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SilenceAlert {
    /// Minutes from now, at most 525600 (a year); 0 ends the silence, 480 (eight hours) where absent.
    #[serde(default = "eight_hours")]
    pub minutes: u32,
    /// At most 500 characters.
    #[serde(default)]
    pub comment: String,
}

fn eight_hours() -> u32 {
    480
}

fn check_comment(comment: &str) -> Vec<FieldError> {
    let long = comment.chars().count() > MAX_COMMENT;
    let unseen = comment.chars().any(|c| c != '\n' && crate::meta::is_unseen(c));
    let why = if long {
        Some(format!("is longer than {MAX_COMMENT} characters"))
    } else {
        unseen.then(|| "has a character that is not seen".to_owned())
    };
    why.map(|why| FieldError::new("comment", why)).into_iter().collect()
}

impl AcknowledgeAlert {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        check_comment(&self.comment)
    }
}

impl SilenceAlert {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = check_comment(&self.comment);
        if self.minutes > MAX_SILENCE {
            errors.push(FieldError::new("minutes", format!("is more than {MAX_SILENCE} (a year)")));
        }
        errors
    }
}

/// Which alerts are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// Those that are not over.
    #[default]
    Active,
    /// Those that are over. The last 500 are remembered.
    Resolved,
    /// Both.
    All,
}

/// Parameters of `GET /alerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct AlertQuery {
    /// Alerts per page, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<AlertId>,
    /// Active ones where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<AlertState>,
    /// Only alerts at least this grave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Only alerts of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<AlertRule>,
    /// Only alerts about this object: `kind/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl AlertQuery {
    /// Whether the alert is wanted.
    #[must_use]
    pub fn wants(&self, alert: &Alert) -> bool {
        let state = match self.state.unwrap_or_default() {
            AlertState::Active => alert.resolved_at.is_none(),
            AlertState::Resolved => alert.resolved_at.is_some(),
            AlertState::All => true,
        };
        state
            && self.severity.is_none_or(|s| alert.severity >= s)
            && self.rule.is_none_or(|r| alert.rule == r)
            && self.target.as_ref().is_none_or(|t| alert.target == *t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_and_read_and_their_defaults_are_good() {
        for rule in AlertRule::ALL {
            assert_eq!(rule.text().parse(), Ok(*rule));
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.text());
            assert_eq!(rule.defaults().validate(*rule), [], "{rule}");
            assert_eq!(rule.unit().is_some(), rule.defaults().warning.is_some(), "{rule}");
            assert!(rule.description().contains('.'), "{rule}");
        }
        assert!("host-flies".parse::<AlertRule>().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let fields = |rule: AlertRule, settings: RuleSettings| {
            settings.validate(rule).into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        let pool = AlertRule::PoolFilling;
        assert_eq!(fields(pool, levels(0, 0, 90.0, 80.0)), ["critical"]);
        assert_eq!(fields(pool, levels(0, 0, 90.0, 101.0)), ["critical"]);
        assert_eq!(fields(pool, levels(0, 0, f64::NAN, 90.0)), ["warning"]);
        assert_eq!(fields(AlertRule::MemoryPressure, levels(0, 0, 5.0, 10.0)), ["critical"]);
        assert_eq!(fields(AlertRule::HostLost, levels(0, 0, 5.0, 10.0)), ["warning", "critical"]);
        assert_eq!(fields(AlertRule::HostLost, held(86_401, 0)), ["hold_seconds"]);
    }

    #[test]
    fn levels_have_a_margin_on_the_way_back() {
        let pool = AlertRule::PoolFilling.defaults();
        let level = |value, now| pool.level(RuleUnit::PercentUsed, value, now);
        assert_eq!(level(84.9, None), None);
        assert_eq!(level(85.0, None), Some(Severity::Warning));
        assert_eq!(level(83.1, Some(Severity::Warning)), Some(Severity::Warning));
        assert_eq!(level(82.9, Some(Severity::Warning)), None);
        assert_eq!(level(94.0, Some(Severity::Warning)), Some(Severity::Warning));
        assert_eq!(level(94.0, Some(Severity::Critical)), Some(Severity::Critical));
        let memory = AlertRule::MemoryPressure.defaults();
        assert_eq!(memory.level(RuleUnit::PercentFree, 9.0, None), Some(Severity::Warning));
        assert_eq!(
            memory.level(RuleUnit::PercentFree, 11.0, Some(Severity::Warning)),
            Some(Severity::Warning)
        );
        assert_eq!(memory.level(RuleUnit::PercentFree, 4.0, None), Some(Severity::Critical));
    }
}
