//! Storage pools.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{CreatePool as Wanted, Pool as Command, What},
    failure::usage,
    output::{Format, Table, describe, line, moment, or_dash, show},
    terminal::confirm,
};
use lq_api::{
    HostId,
    meta::MetadataPatch,
    pool::{AdoptFile, CreatePool, DeleteForeign, NfsOptions, NfsSpec, Pool, PoolSpec, PoolState},
};
use std::collections::BTreeMap;

type Names = BTreeMap<HostId, String>;

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(listing) => {
            let hosts = names(session).await;
            follow::list(session, listing, What::Pool, |pools: &[Pool]| {
                let mut table = Table::new(&["NAME", "DRIVER", "PLACE", "HOSTS", "CAPACITY", "FREE"]);
                for pool in pools {
                    table.row([
                        pool.meta.name.clone(),
                        driver(&pool.spec).into(),
                        place(&pool.spec, &hosts),
                        standing(pool),
                        or_dash(pool.status.map(|s| s.capacity_bytes)),
                        or_dash(pool.status.map(|s| s.free_bytes)),
                    ]);
                }
                table
            })
            .await
        }
        Command::Show { pool, watching } => {
            let (pool, revision) = client.find_at::<Pool>(&pool).await?;
            let pool = client.pool(pool.meta.id).await?;
            let hosts = names(session).await;
            show_one(session, &pool, &hosts)?;
            follow::object(session, watching, What::Pool, &pool, revision, |p| show_one(session, p, &hosts))
                .await
        }
        Command::Set { pool, meta } => {
            let pool = client.find_pool(&pool).await?;
            let patch = meta.patch(&pool.meta)?;
            let pool = client.update_pool(pool.meta.id, &patch, Some(pool.meta.revision)).await?;
            changed(session, &pool, "changed")
        }
        Command::Create(wanted) => {
            let pool = client.create_pool(&create(wanted)?).await?;
            changed(session, &pool, "created; its hosts are mounting it")
        }
        Command::Rename { pool, name } => {
            let pool = client.find_pool(&pool).await?;
            let patch = MetadataPatch { name: Some(name), labels: None };
            let pool = client.update_pool(pool.meta.id, &patch, Some(pool.meta.revision)).await?;
            changed(session, &pool, "is its new name")
        }
        Command::Adopt { pool, file, name, kind, format, labels: pairs } => {
            let pool = client.find_pool(&pool).await?;
            let adopt = AdoptFile {
                file,
                name,
                labels: labels(pairs),
                kind: kind.map(Into::into),
                format: format.map(Into::into),
            };
            let task = session.follow(client.adopt_foreign(pool.meta.id, &adopt).await?).await?;
            if session.format != Format::Table {
                return show(session.format, &task, || Table::new(&[]));
            }
            let what = if task.state.ended() { "is" } else { "is becoming" };
            line(&format!("{} {what} {}.\n", adopt.file, adopt.name))
        }
        Command::DeleteForeign { pool, file, yes } => {
            let pool = client.find_pool(&pool).await?;
            confirm(&format!("Delete {file} in pool {} for ever?", pool.meta.name), yes)?;
            client.delete_foreign(pool.meta.id, &DeleteForeign { file: file.clone() }).await?;
            line(&format!("{file} deleted.\n"))
        }
        Command::Delete { pool, yes } => {
            let pool = client.find_pool(&pool).await?;
            confirm(&format!("Delete pool {}?", pool.meta.name), yes)?;
            let task = session.follow(client.delete_pool(pool.meta.id).await?).await?;
            if session.format != Format::Table {
                return show(session.format, &task, || Table::new(&[]));
            }
            let what = if task.state.ended() { "deleted" } else { "is being deleted" };
            line(&format!("Pool {} {what}.\n", pool.meta.name))
        }
    }
}

fn create(wanted: Wanted) -> anyhow::Result<CreatePool> {
    let (server, export) = split(&wanted.nfs)
        .ok_or_else(|| usage("--nfs is SERVER:/EXPORT, e.g. nas.lan:/srv/limiquantix or [fd00::1]:/srv"))?;
    let options = NfsOptions {
        nconnect: wanted.nconnect,
        rsize: wanted.rsize,
        wsize: wanted.wsize,
        timeo: wanted.timeo,
        retrans: wanted.retrans,
    };
    let spec = NfsSpec {
        server: server.to_owned(),
        export: export.to_owned(),
        version: wanted.version.into(),
        port: wanted.port,
        options,
    };
    Ok(CreatePool { name: wanted.name, labels: labels(wanted.labels), spec: PoolSpec::Nfs(spec) })
}

/// Server and export of `server:/export`; an IPv6 address is in brackets.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.find(":/")?;
    let (server, export) = (text.get(..at)?, text.get(at + 1..)?);
    let inner = server.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
    Some((inner.unwrap_or(server), export)).filter(|(server, _)| !server.is_empty())
}

async fn names(session: &Session) -> Names {
    let hosts = session.client.hosts().await.unwrap_or_default();
    hosts.into_iter().map(|h| (h.meta.id, h.meta.name)).collect()
}

fn name(hosts: &Names, id: HostId) -> String {
    hosts.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn driver(spec: &PoolSpec) -> &'static str {
    match spec {
        PoolSpec::Dir { .. } => "dir",
        PoolSpec::Nfs(_) => "nfs",
    }
}

fn place(spec: &PoolSpec, hosts: &Names) -> String {
    match spec {
        PoolSpec::Dir { host } => name(hosts, *host),
        PoolSpec::Nfs(nfs) => format!("{}:{}", nfs.server, nfs.export),
    }
}

/// On how many of its hosts a pool is ready.
fn standing(pool: &Pool) -> String {
    if !pool.spec.is_shared() {
        return "-".into();
    }
    let ready = pool.hosts.iter().filter(|h| h.state == PoolState::Ready).count();
    format!("{ready} of {} ready", pool.hosts.len())
}

fn changed(session: &Session, pool: &Pool, what: &str) -> anyhow::Result<()> {
    if session.format != Format::Table {
        return show(session.format, pool, || Table::new(&[]));
    }
    line(&format!("Pool {} {what}.\n", pool.meta.name))
}

fn show_one(session: &Session, pool: &Pool, hosts: &Names) -> anyhow::Result<()> {
    let mut fields = vec![
        ("Name", pool.meta.name.clone()),
        ("Id", pool.meta.id.to_string()),
        ("Labels", shown(&pool.meta.labels)),
        ("Driver", driver(&pool.spec).to_owned()),
        ("Place", place(&pool.spec, hosts)),
    ];
    if let PoolSpec::Nfs(nfs) = &pool.spec {
        fields.push(("Version", format!("NFS {}, port {}", nfs.version, nfs.port)));
    }
    fields.push(("Capacity", or_dash(pool.status.map(|s| s.capacity_bytes))));
    fields.push(("Free", or_dash(pool.status.map(|s| s.free_bytes))));
    for host in &pool.hosts {
        let why = host.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        let text = format!("{} {} since {}{why}", name(hosts, host.host), host.state, host.since);
        fields.push(("Host", text));
    }
    for file in &pool.foreign {
        let clone = file.clone_of.map(|image| format!(", a clone of images/{image}")).unwrap_or_default();
        let (kind, size, at) = (file.kind, file.size_bytes, file.modified_at);
        fields.push(("Foreign", format!("{} ({kind} of {size}{clone}), changed {at}", file.file)));
    }
    if pool.deleting {
        fields.push(("Deleting", "yes".into()));
    }
    fields.push(("Created", moment(pool.meta.created_at)));
    describe(session.format, pool, &fields)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn server_and_export() {
        assert_eq!(split("nas:/srv/a:/b"), Some(("nas", "/srv/a:/b")));
        assert_eq!(split("[fd00::1]:/srv"), Some(("fd00::1", "/srv")));
        assert_eq!(split("nas"), None);
        assert_eq!(split(":/srv"), None);
    }
}
