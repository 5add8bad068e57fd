//! When the majority is gone: forming the cluster anew, backups of its state, restoring one.

use super::Session;
use crate::{
    cli,
    failure::usage,
    output::{Table, describe, line, or_dash, show, word},
    terminal::ask,
};
use anyhow::Context as _;
use lq_api::{
    HostId,
    recovery::{ReformCluster, ReformFate, ReformPreview, RestoreAs, StateBackup},
};
use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Lets the person write the name of the host.
pub(super) fn confirmed(question: &str, name: &str, yes: bool) -> anyhow::Result<()> {
    if yes || ask(question)? == name {
        return Ok(());
    }
    Err(usage("that is not its name: nothing was done"))
}

pub(super) async fn reform(
    session: &Session,
    lost: &[String],
    only_preview: bool,
    yes: bool,
) -> anyhow::Result<()> {
    let client = &session.client;
    let preview = client.preview_reform().await?;
    show(session.format, &preview, || hosts(&preview))?;
    if !preview.obstacles.is_empty() {
        anyhow::bail!("it cannot be done: {}", preview.obstacles.join("; "));
    }
    if only_preview {
        return Ok(());
    }
    let lost = named(&preview, lost)?;
    let question = format!(
        "The cluster goes on as epoch {} from this host, without the hosts that are lost: they are refused until they join \
         again, and their machines wait for them. Write the name of this host ({}) to do it",
        preview.epoch, preview.confirm
    );
    confirmed(&question, &preview.confirm, yes)?;
    let begun = client.reform(&ReformCluster { confirm: preview.confirm, lost }).await?;
    line(&format!(
        "Epoch {} begins; the host is starting again. The state before it is in the backup {}.\n",
        begun.epoch, begun.backup
    ))
}

/// The hosts that are lost: those named, else all that do not answer.
fn named(preview: &ReformPreview, lost: &[String]) -> anyhow::Result<Vec<HostId>> {
    if lost.is_empty() {
        let silent = preview.hosts.iter().filter(|h| h.fate == ReformFate::Silent);
        return Ok(silent.map(|h| h.host).collect());
    }
    let one = |name: &String| {
        let found = preview.hosts.iter().find(|h| h.name == *name || h.host.to_string() == *name);
        found.map(|h| h.host).ok_or_else(|| usage(format!("there is no other host `{name}` in the cluster")))
    };
    lost.iter().map(one).collect()
}

fn hosts(preview: &ReformPreview) -> Table {
    let mut table = Table::new(&["HOST", "FATE", "LAST HEARD", "LOG ENDS AT", "MACHINES"]);
    let here = preview.last_index.to_string();
    table.row([preview.confirm.clone(), "goes on".into(), "this host".into(), here, String::new()]);
    for host in &preview.hosts {
        table.row([
            host.name.clone(),
            word(&host.fate),
            or_dash(host.last_heard),
            or_dash(host.last_index),
            host.machines.join(" "),
        ]);
    }
    table
}

pub(super) async fn backup(session: &Session, command: cli::StateBackup) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        cli::StateBackup::List => {
            let backups = client.state_backups().await?;
            show(session.format, &backups, || table(&backups))
        }
        cli::StateBackup::Create => {
            let made = client.create_state_backup().await?;
            let size = lq_api::Bytes(made.size_bytes).to_string();
            describe(session.format, &made, &[("Backup", made.id.clone()), ("Size", size)])
        }
        cli::StateBackup::Download { id, to } => {
            let bytes = client.state_backup(&id).await?;
            let path = to.unwrap_or_else(|| format!("{id}.lqb").into());
            let unwritable = || format!("cannot write {}", path.display());
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = file.with_context(unwritable)?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(unwritable)?;
            line(&format!(
                "{} is written. It holds every secret of the cluster: keep it where nobody else reads it.\n",
                path.display()
            ))
        }
    }
}

fn table(backups: &[StateBackup]) -> Table {
    let mut table = Table::new(&["ID", "REASON", "SIZE", "EPOCH", "REVISION", "OF", "FAULT"]);
    for backup in backups {
        let content = backup.content.as_ref();
        table.row([
            backup.id.clone(),
            word(&backup.reason),
            lq_api::Bytes(backup.size_bytes).to_string(),
            or_dash(content.map(|c| c.epoch)),
            or_dash(content.map(|c| c.revision)),
            or_dash(content.map(|c| c.host_name.clone())),
            or_dash(backup.damaged.clone()),
        ]);
    }
    table
}

pub(super) async fn restore(
    session: &Session,
    path: &Path,
    as_origin: bool,
    yes: bool,
) -> anyhow::Result<()> {
    let client = &session.client;
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let cluster = client.cluster().await?;
    let here = cluster.members.iter().find(|m| m.host == cluster.this_host);
    let name =
        here.map(|m| m.name.clone()).context("the host does not know itself yet: try again in a moment")?;
    let question = format!(
        "The state of this host is replaced by that of the backup, users and passwords included. Write its name ({name}) to \
         do it"
    );
    confirmed(&question, &name, yes)?;
    let as_whom = if as_origin { RestoreAs::Origin } else { RestoreAs::Itself };
    let restored = client.restore_state(file, &name, as_whom).await?;
    let fields = [
        ("Epoch", restored.epoch.to_string()),
        ("State of", format!("{} at change {}", restored.content.host_name, restored.content.revision)),
        ("Lost until they join again", restored.lost.join(" ")),
    ];
    describe(session.format, &restored, &fields)?;
    line("The host is starting again. Log in with an account of the backup.\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::recovery::ReformHost;

    #[test]
    fn who_is_lost_is_named_or_silent() {
        let host = |name: &str, fate| ReformHost {
            host: HostId::new(),
            name: name.into(),
            fate,
            last_heard: None,
            last_index: None,
            machines: vec![],
        };
        let preview = ReformPreview {
            epoch: 2,
            confirm: "a".into(),
            last_index: 7,
            obstacles: vec![],
            hosts: vec![
                host("b", ReformFate::Silent),
                host("c", ReformFate::Newer),
                host("d", ReformFate::Lost),
            ],
        };
        let id = |n: usize| preview.hosts[n].host;
        assert_eq!(named(&preview, &[]).unwrap(), [id(0)]);
        assert_eq!(named(&preview, &["c".into(), id(0).to_string()]).unwrap(), [id(1), id(0)]);
        assert!(named(&preview, &["x".into()]).is_err());
    }
}
