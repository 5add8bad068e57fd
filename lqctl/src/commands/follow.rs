//! Following objects: `lqctl watch`, and `--watch` of lists and of single objects.
//!
//! In a table each change is one more row; in JSON one more line, in YAML one more document, each a [`Change`]. A daemon that
//! restarts is met again at the revision last seen, so nothing is lost; where it does not know that any more, that is said.

use super::Session;
use crate::{
    cli::{Changes, Listing, Watching, What},
    output::{Format, Table, line, plain, show},
};
use futures::StreamExt as _;
use lq_api::{
    client::{Change, Resource},
    list::ListQuery,
    problem::Kind,
};
use serde::Serialize;
use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

/// Shows all objects that are asked for and, where wanted, what changes.
pub(super) async fn list<T: Resource + Serialize>(
    session: &Session,
    listing: Listing,
    what: What,
    table: impl Fn(&[T]) -> Table,
) -> anyhow::Result<()> {
    let labels = listing.filter.labels.clone();
    let query: ListQuery = listing.filter.into();
    let (items, revision) = session.client.all_at::<T>(&query).await?;
    if !listing.watching.watch {
        return show(session.format, &items, || table(&items));
    }
    let wanted = |object: &serde_json::Value| {
        labels.iter().all(|(key, value)| object["meta"]["labels"][key].as_str() == Some(value))
    };
    watch_list(session, revision, what, items, wanted, table).await
}

/// Goes on from a list.
pub(super) async fn watch_list<T: Resource + Serialize>(
    session: &Session,
    revision: u64,
    what: What,
    items: Vec<T>,
    wanted: impl Fn(&serde_json::Value) -> bool,
    table: impl Fn(&[T]) -> Table,
) -> anyhow::Result<()> {
    let mut widths = Vec::new();
    if session.format == Format::Table {
        line(&table(&items).render_on(&mut widths, true))?;
    } else {
        for item in &items {
            let object = Some(serde_json::to_value(item)?);
            let id = item.id().to_string().parse()?;
            one(session.format, &Change { kind: what.word().into(), id, revision, object })?;
        }
    }
    let mut names: BTreeMap<_, _> = items.iter().map(|i| (i.id().to_string(), i.name())).collect();
    changes(session, Some(revision), |change| {
        if change.kind != what.word() {
            return Ok(ControlFlow::Continue(()));
        }
        let id = change.id.to_string();
        let object = change.object.as_ref().filter(|o| wanted(o));
        if session.format != Format::Table {
            if object.is_some() || names.contains_key(&id) {
                one(session.format, &Change { object: object.cloned(), ..change.clone() })?;
            }
        } else if let Some(object) = object {
            let item: T = serde_json::from_value(object.clone())?;
            line(&table(std::slice::from_ref(&item)).render_on(&mut widths, false))?;
        } else if let Some(name) = names.get(&id) {
            line(&format!("{} is gone.\n", plain(name)))?;
        }
        match object {
            Some(object) => names.insert(id, object["meta"]["name"].as_str().unwrap_or_default().to_owned()),
            None => names.remove(&id),
        };
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// Where wanted, shows an object that was shown again whenever it has changed, until it is gone.
pub(super) async fn object<T: Resource>(
    session: &Session,
    watching: Watching,
    what: What,
    object: &T,
    revision: u64,
    show: impl Fn(&T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if !watching.watch {
        return Ok(());
    }
    let id = object.id().to_string();
    changes(session, Some(revision), |change| {
        if change.kind != what.word() || change.id.to_string() != id {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(object) = &change.object else {
            eprintln!("lqctl: it is gone");
            return Ok(ControlFlow::Break(()));
        };
        match session.format {
            Format::Table => line("\n")?,
            Format::Yaml => line("---\n")?,
            Format::Json => {}
        }
        show(&serde_json::from_value(object.clone())?)?;
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// `lqctl watch`.
pub(super) async fn watch(session: &Session, wanted: Changes) -> anyhow::Result<()> {
    let kinds: Vec<_> = wanted.kinds.iter().map(|k| k.word()).collect();
    changes(session, wanted.since, |change| {
        if kinds.is_empty() || kinds.contains(&change.kind.as_str()) {
            one(session.format, change)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

fn one(format: Format, change: &Change) -> anyhow::Result<()> {
    match format {
        // One object per line, so that a reader can take them apart as they come.
        Format::Json => line(&(serde_json::to_string(change)? + "\n")),
        // A stream of documents.
        Format::Yaml => line(&format!("---\n{}", serde_saphyr::to_string(change)?)),
        Format::Table => line(&(plain(&words(change)) + "\n")),
    }
}

/// `1234  vm      web  running`.
fn words(change: &Change) -> String {
    let Change { kind, id, revision, object } = change;
    let Some(object) = object else { return format!("{revision:>8}  {kind:8}  {id}  gone") };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (name, state) = match kind.as_str() {
        "alert" => (
            text(&object["target_name"]),
            format!("{}: {}", text(&object["severity"]), text(&object["message"])),
        ),
        "task" => (
            text(&object["kind"]),
            format!("{}: {} {}", text(&object["target"]), text(&object["state"]), text(&object["message"])),
        ),
        _ => (text(&object["meta"]["name"]), text(&object["status"]["state"])),
    };
    format!("{revision:>8}  {kind:8}  {name}  {state}").trim_end().to_owned()
}

/// Every change after `since`, or from now on, until `each` has enough.
async fn changes(
    session: &Session,
    mut since: Option<u64>,
    mut each: impl FnMut(&Change) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let mut first = true;
    loop {
        match session.client.watch(since).await {
            Ok(mut stream) => {
                first = false;
                while let Some(change) = stream.next().await {
                    match change {
                        Ok(change) => {
                            since = Some(change.revision);
                            if each(&change)?.is_break() {
                                return Ok(());
                            }
                        }
                        Err(error) if error.is_transient() => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) if !first && error.is_transient() => {}
            Err(error) if !first && error.is(Kind::Conflict) => {
                eprintln!("lqctl: changes were missed meanwhile; going on from now");
                since = None;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_in_words() {
        const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
        let change = |kind: &str, object| {
            words(&Change { kind: kind.into(), id: NOBODY.parse().unwrap(), revision: 7, object })
        };
        let vm = json!({"meta": {"name": "web"}, "status": {"state": "running"}});
        assert_eq!(change("vm", Some(vm)), "       7  vm        web  running");
        let alert = json!({"target_name": "local", "severity": "warning", "message": "fills"});
        assert_eq!(change("alert", Some(alert)), "       7  alert     local  warning: fills");
        assert_eq!(change("vm", None), format!("       7  vm        {NOBODY}  gone"));
    }
}
