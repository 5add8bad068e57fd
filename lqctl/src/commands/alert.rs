//! Alerts, their rules, and notification channels.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{Alert as Command, Channel as ChannelCommand, NewChannel, SetChannel, SetRule, What},
    failure::usage,
    output::{Format, Table, describe, line, moment, or_dash, show},
    terminal::confirm,
};
use anyhow::Context as _;
use lq_api::{
    AlertId,
    alert::{AcknowledgeAlert, Alert, AlertQuery, AlertRuleInfo, AlertState, SilenceAlert},
    channel::{Channel, ChannelSpec, ChannelTarget, CreateChannel, UpdateChannel},
};
use std::{fs, path::Path};

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List { past, severity, rule, target, watching } => {
            let query = AlertQuery {
                limit: Some(1000),
                state: Some(if past { AlertState::Resolved } else { AlertState::Active }),
                severity: severity.map(Into::into),
                rule,
                target: session.target(target).await?,
                ..AlertQuery::default()
            };
            let page = client.alerts(&query).await?;
            let table = |alerts: &[Alert]| {
                let mut table =
                    Table::new(&["ID", "SEVERITY", "SINCE", "RULE", "ABOUT", "STATUS", "MESSAGE"]);
                for alert in alerts {
                    table.row([
                        alert.id.to_string(),
                        alert.severity.to_string(),
                        moment(alert.raised_at),
                        alert.rule.to_string(),
                        about(alert),
                        standing(alert).into(),
                        alert.message.clone(),
                    ]);
                }
                table
            };
            if !watching.watch {
                return show(session.format, &page.items, || table(&page.items));
            }
            // What was active and is over is shown too: that is a change people wait for.
            let wanted = |object: &serde_json::Value| {
                serde_json::from_value::<Alert>(object.clone()).is_ok_and(|alert| {
                    query.severity.is_none_or(|least| alert.severity >= least)
                        && query.rule.is_none_or(|rule| alert.rule == rule)
                        && query.target.as_ref().is_none_or(|target| alert.target == *target)
                })
            };
            follow::watch_list(session, page.revision, What::Alert, page.items, wanted, table).await
        }
        Command::Show { alert, watching } => {
            let query = AlertQuery { limit: Some(1), ..AlertQuery::default() };
            let revision = client.alerts(&query).await?.revision;
            let alert = client.alert(id(&alert)?).await?;
            show_one(session, &alert)?;
            follow::object(session, watching, What::Alert, &alert, revision, |a| show_one(session, a)).await
        }
        Command::Acknowledge { alert, comment } => {
            let alert = client.acknowledge_alert(id(&alert)?, &AcknowledgeAlert { comment }).await?;
            show_one(session, &alert)
        }
        Command::Silence { alert, minutes, comment } => {
            let alert = client.silence_alert(id(&alert)?, &SilenceAlert { minutes, comment }).await?;
            show_one(session, &alert)
        }
        Command::Rules => show_rules(session, &client.alert_rules().await?),
        Command::Set(set) => {
            let rules = client.alert_rules().await?;
            let known = rules.iter().find(|r| r.id == set.rule);
            let mut settings = known.map_or_else(|| set.rule.defaults(), |r| r.settings);
            let SetRule { rule, enabled, warning, critical, hold, clear } = set;
            settings.enabled = enabled.unwrap_or(settings.enabled);
            settings.warning = warning.or(settings.warning);
            settings.critical = critical.or(settings.critical);
            settings.hold_seconds = hold.unwrap_or(settings.hold_seconds);
            settings.clear_seconds = clear.unwrap_or(settings.clear_seconds);
            show_rules(session, &[client.set_alert_rule(rule, &settings).await?])
        }
        Command::Reset { rule } => show_rules(session, &[client.reset_alert_rule(rule).await?]),
    }
}

fn id(text: &str) -> anyhow::Result<AlertId> {
    text.parse().map_err(|_| usage(format!("`{text}` is not the id of an alert: see `lqctl alert list`")))
}

fn about(alert: &Alert) -> String {
    let part = alert.part.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
    format!("{}{part}", alert.target_name)
}

fn standing(alert: &Alert) -> &'static str {
    match alert {
        Alert { resolved_at: Some(_), .. } => "over",
        Alert { silenced: Some(_), .. } => "silenced",
        Alert { acknowledged: Some(_), .. } => "acknowledged",
        _ => "active",
    }
}

fn show_one(session: &Session, alert: &Alert) -> anyhow::Result<()> {
    let said =
        |by: &str, comment: &str| if comment.is_empty() { by.to_owned() } else { format!("{by}: {comment}") };
    let fields = [
        ("Id", alert.id.to_string()),
        ("Severity", alert.severity.to_string()),
        ("Rule", alert.rule.to_string()),
        ("About", about(alert)),
        ("Target", alert.target.clone()),
        ("Message", alert.message.clone()),
        ("Status", standing(alert).into()),
        ("Since", moment(alert.raised_at)),
        ("Over at", alert.resolved_at.map(|t| t.to_string()).unwrap_or_default()),
        ("Acknowledged", alert.acknowledged.as_ref().map(|a| said(&a.by, &a.comment)).unwrap_or_default()),
        ("Silenced by", alert.silenced.as_ref().map(|s| said(&s.by, &s.comment)).unwrap_or_default()),
        ("Silenced until", alert.silenced.as_ref().map(|s| s.until.to_string()).unwrap_or_default()),
    ];
    describe(session.format, alert, &fields)
}

fn show_rules(session: &Session, rules: &[AlertRuleInfo]) -> anyhow::Result<()> {
    show(session.format, &rules, || {
        let mut table = Table::new(&["RULE", "ENABLED", "WARNING", "CRITICAL", "HOLD", "CLEAR", "TITLE"]);
        for rule in rules {
            let set = &rule.settings;
            table.row([
                rule.id.to_string(),
                set.enabled.to_string(),
                or_dash(set.warning),
                or_dash(set.critical),
                format!("{} s", set.hold_seconds),
                format!("{} s", set.clear_seconds),
                rule.title.clone(),
            ]);
        }
        table
    })
}

pub(super) async fn channel(session: &Session, command: ChannelCommand) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        ChannelCommand::List(filter) => {
            let channels: Vec<Channel> = client.all_where(&filter.into()).await?;
            show(session.format, &channels, || {
                let mut table = Table::new(&["NAME", "KIND", "TO", "SEVERITY", "STATUS", "WAITING"]);
                for channel in &channels {
                    table.row([
                        channel.meta.name.clone(),
                        channel.spec.target.place().0.into(),
                        place(&channel.spec.target),
                        channel.spec.min_severity.to_string(),
                        state(channel),
                        channel.status.waiting.to_string(),
                    ]);
                }
                table
            })
        }
        ChannelCommand::Show { channel } => {
            let channel = client.find_channel(&channel).await?;
            show_channel(session, &channel)
        }
        ChannelCommand::CreateWebhook { common, to } => {
            create(session, common, |ca| ChannelTarget::Webhook { url: to, ca }).await
        }
        ChannelCommand::CreateMail { common, server, port, security, username, from, to } => {
            let security = security.into();
            let target = |ca| ChannelTarget::Mail { server, port, security, username, from, to, ca };
            create(session, common, target).await
        }
        ChannelCommand::CreateSyslog { common, server, port, plain } => {
            create(session, common, |ca| ChannelTarget::Syslog { server, port, tls: !plain, ca }).await
        }
        ChannelCommand::Enable { channel, off } => {
            let channel = client.find_channel(&channel).await?;
            let spec = ChannelSpec { enabled: !off, ..channel.spec.clone() };
            let update = UpdateChannel { spec: Some(spec), ..UpdateChannel::default() };
            show_channel(
                session,
                &client.update_channel(channel.meta.id, &update, Some(channel.meta.revision)).await?,
            )
        }
        ChannelCommand::Set(wanted) => set(session, wanted).await,
        ChannelCommand::Test { channel } => {
            let channel = client.find_channel(&channel).await?;
            let test = client.test_channel(channel.meta.id).await?;
            match test.failure {
                Some(why) => anyhow::bail!("{} did not take it: {why}", channel.meta.name),
                None => line(&format!("{} took it.\n", channel.meta.name)),
            }
        }
        ChannelCommand::Delete { channel, yes } => {
            let channel = client.find_channel(&channel).await?;
            confirm(&format!("Delete channel {}?", channel.meta.name), yes)?;
            client.delete_channel(channel.meta.id).await?;
            if session.format == Format::Table {
                return line(&format!("Channel {} deleted.\n", channel.meta.name));
            }
            Ok(())
        }
    }
}

async fn create(
    session: &Session,
    common: NewChannel,
    target: impl FnOnce(Option<String>) -> ChannelTarget,
) -> anyhow::Result<()> {
    let ca = common.ca.as_deref().map(certificates).transpose()?;
    let spec = ChannelSpec { enabled: true, min_severity: common.severity.into(), target: target(ca) };
    let new = CreateChannel { name: common.name, labels: labels(common.labels), spec, secret: common.secret };
    show_channel(session, &session.client.create_channel(&new).await?)
}

fn certificates(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

async fn set(session: &Session, wanted: SetChannel) -> anyhow::Result<()> {
    let client = &session.client;
    let channel = client.find_channel(&wanted.channel).await?;
    let labels = wanted.meta.relabelled(&channel.meta.labels)?;
    let spec = changed(&channel.spec, &wanted)?;
    let spec = (spec != channel.spec).then_some(spec);
    if wanted.meta.name.is_none() && labels.is_none() && spec.is_none() && wanted.secret.is_none() {
        return Err(usage("nothing would change: see --help for what can be"));
    }
    let update = UpdateChannel { name: wanted.meta.name, labels, spec, secret: wanted.secret };
    let revision = Some(channel.meta.revision);
    show_channel(session, &client.update_channel(channel.meta.id, &update, revision).await?)
}

/// What is wanted of a channel after a change; a usage error where an option does not fit its kind.
fn changed(old: &ChannelSpec, wanted: &SetChannel) -> anyhow::Result<ChannelSpec> {
    let mut spec = old.clone();
    spec.min_severity = wanted.severity.map_or(spec.min_severity, Into::into);
    let kind = old.target.place().0;
    let given = [
        ("--to-url", wanted.to_url.is_some(), ["webhook", ""]),
        ("--server", wanted.server.is_some(), ["mail", "syslog"]),
        ("--port", wanted.port.is_some(), ["mail", "syslog"]),
        ("--security", wanted.security.is_some(), ["mail", ""]),
        ("--username", wanted.username.is_some(), ["mail", ""]),
        ("--from", wanted.from.is_some(), ["mail", ""]),
        ("--to", !wanted.to.is_empty(), ["mail", ""]),
        ("--tls", wanted.tls.is_some(), ["syslog", ""]),
    ];
    if let Some((option, ..)) = given.iter().find(|(_, given, fits)| *given && !fits.contains(&kind)) {
        return Err(usage(format!("{option} does not fit a channel of the kind {kind}")));
    }
    let new_ca = match &wanted.ca {
        Some(path) => Some(Some(certificates(path)?)),
        None => wanted.public_ca.then_some(None),
    };
    let new_port = wanted.port.map(|port| (port != 0).then_some(port));
    match &mut spec.target {
        ChannelTarget::Webhook { url, ca } => {
            replace(url, wanted.to_url.clone());
            replace(ca, new_ca);
        }
        ChannelTarget::Mail { server, port, security, username, from, to, ca } => {
            replace(server, wanted.server.clone());
            replace(port, new_port);
            replace(security, wanted.security.map(Into::into));
            replace(username, wanted.username.clone().map(|name| (!name.is_empty()).then_some(name)));
            replace(from, wanted.from.clone());
            replace(to, (!wanted.to.is_empty()).then(|| wanted.to.clone()));
            replace(ca, new_ca);
        }
        ChannelTarget::Syslog { server, port, tls, ca } => {
            replace(server, wanted.server.clone());
            replace(port, new_port);
            replace(tls, wanted.tls);
            replace(ca, new_ca);
        }
    }
    Ok(spec)
}

fn replace<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}

fn place(target: &ChannelTarget) -> String {
    match target {
        ChannelTarget::Webhook { url, .. } => url.clone(),
        ChannelTarget::Mail { to, .. } => to.join(", "),
        ChannelTarget::Syslog { .. } => {
            let (_, server, port) = target.place();
            format!("{server} port {port}")
        }
    }
}

fn state(channel: &Channel) -> String {
    match (&channel.status.failure, channel.spec.enabled) {
        (_, false) => "off".into(),
        (Some(why), true) => format!("failing: {why}"),
        (None, true) => "ready".into(),
    }
}

fn show_channel(session: &Session, channel: &Channel) -> anyhow::Result<()> {
    let status = &channel.status;
    let time = |t: Option<lq_api::Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
    let fields = [
        ("Name", channel.meta.name.clone()),
        ("Id", channel.meta.id.to_string()),
        ("Labels", shown(&channel.meta.labels)),
        ("Kind", channel.spec.target.place().0.into()),
        ("To", place(&channel.spec.target)),
        ("From", channel.spec.min_severity.to_string()),
        ("Secret", if channel.has_secret { "set".into() } else { String::new() }),
        ("Status", state(channel)),
        ("Failing since", time(status.failing_since)),
        ("Last taken", time(status.delivered_at)),
        ("Waiting", status.waiting.to_string()),
        ("Given up", status.dropped.to_string()),
    ];
    describe(session.format, channel, &fields)
}
