//! A notice in words, and as the JSON document of a webhook. Pure.

use super::Sender;
use crate::cluster::state::alerts::{Cause, Notice};
use serde_json::{Value, json};

/// One line: `[critical] Host lost: h2`.
pub(super) fn subject(notice: &Notice) -> String {
    let alert = &notice.alert;
    let mark = match notice.cause {
        Cause::Resolved => "resolved".to_owned(),
        Cause::Test => "test".to_owned(),
        _ => alert.severity.to_string(),
    };
    let title = if notice.cause == Cause::Test { "Test of a channel" } else { alert.rule.title() };
    let part = alert.part.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
    format!("[{mark}] {title}: {}{part}", alert.target_name)
}

/// Some lines.
pub(super) fn text(notice: &Notice, sender: &Sender) -> String {
    let alert = &notice.alert;
    let mut text = format!("{}\n\n{}\n\n", subject(notice), alert.message);
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    line("Severity", alert.severity.text());
    line("What happened", &notice.cause.to_string());
    line("Object", &alert.target);
    line("Rule", alert.rule.text());
    line("Since", &alert.raised_at.to_string());
    if let Some(over) = alert.resolved_at {
        line("Over at", &over.to_string());
    }
    line("Cluster", &sender.cluster.to_string());
    line("Told by", &sender.host);
    text
}

/// The document: version 1. Fields are only ever added.
pub(super) fn document(notice: &Notice, sender: &Sender) -> Value {
    json!({
        "version": 1,
        "cause": notice.cause,
        "at": notice.at,
        "cluster": sender.cluster,
        "host": sender.host,
        // What chat servers show of a webhook.
        "text": format!("{}\n{}", subject(notice), notice.alert.message),
        "alert": notice.alert,
    })
}
