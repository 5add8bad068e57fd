//! The cluster: its state, and how hosts come in.

use super::{Session, recovery};
use crate::{
    cli,
    output::{Table, describe, line, or_dash, show, word},
    terminal::confirm,
};
use anyhow::Context as _;
use lq_api::{
    HostId, TokenId,
    cluster::{Cluster, CreateJoinToken, JoinCluster, JoinPreview},
    ha::HaSpec,
    usage::UsageQuery,
};

pub(super) async fn run(session: &Session, command: cli::Cluster) -> anyhow::Result<()> {
    match command {
        cli::Cluster::Show => state(session).await,
        cli::Cluster::Usage { span, top } => {
            let query = UsageQuery { span: Some(span.into()), top: Some(top) };
            super::history::usage(session, &query).await
        }
        cli::Cluster::Ha { wanted } => ha(session, wanted).await,
        cli::Cluster::Token(command) => token(session, command).await,
        cli::Cluster::Join { join_token, rename, preview, yes } => {
            join(session, JoinCluster { token: join_token, rename }, preview, yes).await
        }
        cli::Cluster::Reform { lost, preview, yes } => recovery::reform(session, &lost, preview, yes).await,
        cli::Cluster::Backup(command) => recovery::backup(session, command).await,
        cli::Cluster::Restore { file, as_origin, yes } => {
            recovery::restore(session, &file, as_origin, yes).await
        }
    }
}

async fn state(session: &Session) -> anyhow::Result<()> {
    let cluster = session.client.cluster().await?;
    let name = |id: HostId| {
        cluster.members.iter().find(|m| m.host == id).map_or_else(|| id.to_string(), |m| m.name.clone())
    };
    let mut fields = vec![
        ("Id", cluster.id.to_string()),
        ("This host", name(cluster.this_host)),
        ("Leader", or_dash(cluster.leader.map(name))),
        ("Term", cluster.term.to_string()),
        ("Changes", if cluster.quorum { "possible".into() } else { "NOT possible: no majority".into() }),
        ("Revision", cluster.revision.to_string()),
        ("Epoch", cluster.epoch.to_string()),
    ];
    if let Some(lost) = &cluster.lost {
        let missing = lost.missing.iter().map(|m| {
            let heard = m.last_heard.map_or_else(|| "not heard".into(), |at| format!("last heard {at}"));
            format!("{} ({heard})", m.name)
        });
        fields.push(("Without a majority since", or_dash(lost.since)));
        fields.extend(missing.map(|m| ("Missing", m)));
        fields.extend(lost.means.iter().map(|m| ("This means", m.clone())));
        fields.push(("To do", lost.remedy.clone()));
    }
    fields.extend(cluster.warnings.iter().map(|w| ("Warning", w.clone())));
    describe(session.format, &cluster, &fields)?;
    if session.format == crate::output::Format::Table {
        line("\n")?;
        show(session.format, &cluster, || members(&cluster))?;
    }
    Ok(())
}

async fn ha(session: &Session, wanted: Option<cli::Arming>) -> anyhow::Result<()> {
    let client = &session.client;
    if let Some(wanted) = wanted {
        client.set_ha(&HaSpec { armed: wanted == cli::Arming::Arm }).await?;
    }
    let status = client.ha().await?;
    let name = |id: HostId| {
        status.hosts.iter().find(|h| h.host == id).map_or_else(|| id.to_string(), |h| h.name.clone())
    };
    let mut fields = vec![
        ("Armed", if status.spec.armed { "yes".into() } else { "no".to_owned() }),
        ("Watched by", or_dash(status.watched_by.map(name))),
    ];
    fields.extend(status.warnings.iter().map(|w| ("Warning", w.clone())));
    describe(session.format, &status, &fields)?;
    if session.format != crate::output::Format::Table {
        return Ok(());
    }
    line("\n")?;
    show(session.format, &status, || {
        let mut table = Table::new(&["HOST", "STATE", "HEARD", "LEASE OVER", "REASON"]);
        let seconds = |ms: Option<u64>| ms.map(|ms| format!("{:.1} s", ms as f64 / 1000.0));
        for host in &status.hosts {
            let words = host.reason.iter().chain(&host.degraded).cloned().collect::<Vec<_>>();
            table.row([
                host.name.clone(),
                word(&host.state),
                or_dash(seconds(host.heard_ms_ago).map(|s| format!("{s} ago"))),
                or_dash(seconds(host.over_in_ms).map(|s| format!("in {s}"))),
                words.join("; "),
            ]);
        }
        table
    })?;
    line("\n")?;
    show(session.format, &status, || {
        let mut table = Table::new(&["MACHINE", "PRIORITY", "HOST", "STATE", "REASON"]);
        for machine in &status.machines {
            table.row([
                machine.name.clone(),
                machine.priority.to_string(),
                or_dash(machine.host.map(name)),
                word(&machine.state),
                machine.reason.clone().unwrap_or_default(),
            ]);
        }
        table
    })
}

fn members(cluster: &Cluster) -> Table {
    let mut table = Table::new(&["HOST", "ROLE", "ANSWERS", "LACKS", "ADDRESS"]);
    for member in &cluster.members {
        let answers = member.reachable.map(|yes| if yes { "yes" } else { "no" });
        table.row([
            member.name.clone(),
            word(&member.role),
            or_dash(answers),
            or_dash(member.lag),
            or_dash(member.address.clone()),
        ]);
    }
    table
}

async fn token(session: &Session, command: cli::JoinToken) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        cli::JoinToken::List => {
            let tokens = client.join_tokens().await?;
            show(session.format, &tokens, || {
                let mut table = Table::new(&["ID", "USES LEFT", "EXPIRES"]);
                for token in &tokens {
                    table.row([
                        token.id.to_string(),
                        token.uses_left.to_string(),
                        token.expires_at.to_string(),
                    ]);
                }
                table
            })
        }
        cli::JoinToken::Create { minutes, uses } => {
            let made = client.create_join_token(&CreateJoinToken { minutes, uses }).await?;
            let fields = [
                ("Token", made.text.clone()),
                ("Expires", made.token.expires_at.to_string()),
                ("Uses", made.token.uses_left.to_string()),
            ];
            describe(session.format, &made, &fields)
        }
        cli::JoinToken::Delete { id } => {
            let id: TokenId =
                id.parse().context("the id of a join token is a UUID; see `lqctl cluster token list`")?;
            client.delete_join_token(id).await?;
            line("The join token is revoked.\n")
        }
    }
}

async fn join(session: &Session, join: JoinCluster, only_preview: bool, yes: bool) -> anyhow::Result<()> {
    let client = &session.client;
    let preview = client.preview_join(&join).await?;
    describe(session.format, &preview, &fields(&preview))?;
    if only_preview {
        return Ok(());
    }
    confirm("Join? The users, passwords and tokens of this host end; those of the cluster hold.", yes)?;
    client.join(&join).await?;
    line("The host has joined and is starting again as a member. Log in with an account of the cluster.\n")
}

fn fields(preview: &JoinPreview) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Cluster", preview.cluster.to_string()),
        ("Hosts", preview.hosts.join(" ")),
        ("Machines", preview.machines.join(" ")),
    ];
    for renaming in &preview.renamings {
        fields.push(("New name", format!("{} {} becomes {}", renaming.kind, renaming.from, renaming.to)));
    }
    fields.extend(preview.left_out.iter().map(|n| ("Left out", format!("network {n}, which nothing uses"))));
    fields
}
