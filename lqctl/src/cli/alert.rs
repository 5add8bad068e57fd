//! The words about alerts and notification channels.

use super::{Filter, NewMeta, Watching, label};
use clap::{Args, Subcommand, ValueEnum};
use lq_api::{
    alert::{AlertRule, Severity as Wanted},
    channel::MailSecurity,
};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Alert {
    /// What is wrong.
    #[command(visible_alias = "ls")]
    List {
        /// What was wrong and is over.
        #[arg(long)]
        past: bool,
        /// Only alerts at least this grave.
        #[arg(long, value_enum)]
        severity: Option<Severity>,
        /// Only alerts of this rule, e.g. `pool-filling`.
        #[arg(long)]
        rule: Option<AlertRule>,
        /// Only alerts about this object: KIND/NAME or KIND/ID, e.g. pool/local.
        #[arg(long, value_name = "KIND/NAME")]
        target: Option<String>,
        #[command(flatten)]
        watching: Watching,
    },
    /// One alert.
    Show {
        /// Id.
        alert: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Take note of an alert, for all to see.
    Acknowledge {
        /// Id.
        alert: String,
        /// What there is to say.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Let nobody be notified of an alert for some time.
    Silence {
        /// Id.
        alert: String,
        /// Minutes from now; 0 ends the silence.
        #[arg(long, default_value_t = 480)]
        minutes: u32,
        /// What there is to say.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// The rules, and how they are set.
    Rules,
    /// Set a rule; what is not given stays.
    Set(SetRule),
    /// Set a rule back to what it is by default.
    Reset {
        /// Which, e.g. `pool-filling`.
        rule: AlertRule,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetRule {
    /// Which, e.g. `pool-filling`.
    pub(crate) rule: AlertRule,
    /// Whether it raises alerts.
    #[arg(long)]
    pub(crate) enabled: Option<bool>,
    /// From where on it is a warning, in the rule's unit.
    #[arg(long)]
    pub(crate) warning: Option<f64>,
    /// From where on it is critical.
    #[arg(long)]
    pub(crate) critical: Option<f64>,
    /// Seconds it has to hold.
    #[arg(long)]
    pub(crate) hold: Option<u32>,
    /// Seconds until it is over.
    #[arg(long)]
    pub(crate) clear: Option<u32>,
}

/// [`Wanted`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Severity {
    Info,
    Warning,
    Critical,
}

impl From<Severity> for Wanted {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

/// Channels: whom alerts are told to. A secret (key of a webhook's signature, password of a mail server) is read from LQ_SECRET.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Every channel.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// One channel.
    Show {
        /// Name or id.
        channel: String,
    },
    /// Tell by a JSON document sent by HTTP POST.
    CreateWebhook {
        #[command(flatten)]
        common: NewChannel,
        /// Where to.
        #[arg(value_name = "URL")]
        to: String,
    },
    /// Tell by mail.
    CreateMail {
        #[command(flatten)]
        common: NewChannel,
        /// The mail server.
        #[arg(long)]
        server: String,
        /// Its port.
        #[arg(long)]
        port: Option<u16>,
        /// How the connection is protected.
        #[arg(long, value_enum, default_value = "start-tls")]
        security: Security,
        /// Who logs in; nobody where absent.
        #[arg(long, requires = "secret")]
        username: Option<String>,
        /// The sender.
        #[arg(long)]
        from: String,
        /// The recipients.
        #[arg(required = true)]
        to: Vec<String>,
    },
    /// Tell a syslog server.
    CreateSyslog {
        #[command(flatten)]
        common: NewChannel,
        /// The server.
        server: String,
        /// Its port.
        #[arg(long)]
        port: Option<u16>,
        /// Over TCP without TLS.
        #[arg(long)]
        plain: bool,
    },
    /// Tell it of alerts, or no more.
    Enable {
        /// Name or id.
        channel: String,
        /// No more.
        #[arg(long)]
        off: bool,
    },
    /// Change a channel; what is not given stays.
    Set(SetChannel),
    /// Send a test.
    Test {
        /// Name or id.
        channel: String,
    },
    /// Delete a channel.
    Delete {
        /// Name or id.
        channel: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewChannel {
    /// Its name.
    pub(crate) name: String,
    /// Only alerts at least this grave.
    #[arg(long, value_enum, default_value = "warning")]
    pub(crate) severity: Severity,
    /// File with certificates (PEM) that alone are trusted.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The secret. Better in the environment than on the command line.
    #[arg(long, env = "LQ_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// Options that do not fit the kind of the channel are refused.
#[derive(Debug, Args)]
pub(crate) struct SetChannel {
    /// Name or id.
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) meta: NewMeta,
    /// Only alerts at least this grave.
    #[arg(long, value_enum)]
    pub(crate) severity: Option<Severity>,
    /// Of a webhook: where to.
    #[arg(long)]
    pub(crate) to_url: Option<String>,
    /// Of mail and syslog: the server.
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// Of mail and syslog: its port; 0 for the usual one.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Of mail: how the connection is protected.
    #[arg(long, value_enum)]
    pub(crate) security: Option<Security>,
    /// Of mail: who logs in; an empty one for nobody.
    #[arg(long)]
    pub(crate) username: Option<String>,
    /// Of mail: the sender.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Of mail: the recipients, instead of those it has; may be repeated.
    #[arg(long)]
    pub(crate) to: Vec<String>,
    /// Of syslog: over TLS, or not.
    #[arg(long)]
    pub(crate) tls: Option<bool>,
    /// File with certificates (PEM) that alone are trusted.
    #[arg(long, value_name = "FILE", conflicts_with = "public_ca")]
    pub(crate) ca: Option<PathBuf>,
    /// Trust those of public authorities again.
    #[arg(long)]
    pub(crate) public_ca: bool,
    /// A new secret; an empty one takes it away. Better in the environment than on the command line.
    #[arg(long, env = "LQ_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
}

/// [`MailSecurity`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Security {
    StartTls,
    Tls,
    None,
}

impl From<Security> for MailSecurity {
    fn from(security: Security) -> Self {
        match security {
            Security::StartTls => Self::StartTls,
            Security::Tls => Self::Tls,
            Security::None => Self::None,
        }
    }
}
