//! Following objects: `lqctl watch`, and `--watch` of lists and of single objects.
//!
//! In a table each change is one more row; in JSON one more line, in YAML one more document, each a [`Change`]. A daemon that
//! restarts is met again at the revision last seen, so nothing is lost; where it does not know that any more, that is said.
//! Tasks have no revision: their list is read whenever the stream has begun, and what differs from what was shown is shown.

use super::Session;
use crate::{
    cli::{Changes, Listing, Watching, What},
    output::{Format, Table, line, plain, show},
};
use futures::StreamExt as _;
use lq_api::{
    TaskId,
    client::{Change, Resource},
    list::ListQuery,
    problem::Kind,
    task::{Task, TaskQuery},
};
use serde::Serialize;
use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

/// A daemon that is away is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

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
    let mut rows = Rows::new(session.format, what, table);
    rows.first(&items, revision)?;
    let mut names: BTreeMap<_, _> = items.iter().map(|i| (i.id().to_string(), i.name())).collect();
    changes(session, Some(revision), |change| {
        if change.kind != what.word() {
            return Ok(ControlFlow::Continue(()));
        }
        let id = change.id.to_string();
        let object = change.object.as_ref().filter(|o| wanted(o));
        match object {
            Some(object) => rows.more(change, object)?,
            None => {
                if let Some(name) = names.get(&id) {
                    rows.gone(change, name)?;
                }
            }
        }
        match object {
            Some(object) => names.insert(id, object["meta"]["name"].as_str().unwrap_or_default().to_owned()),
            None => names.remove(&id),
        };
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// The tasks that are asked for, and what happens to them.
pub(super) async fn tasks(
    session: &Session,
    query: TaskQuery,
    table: impl Fn(&[Task]) -> Table,
) -> anyhow::Result<()> {
    let mut rows = Rows::new(session.format, What::Task, table);
    let mut known: Option<Shown> = None;
    loop {
        match follow_tasks(session, &query, &mut rows, &mut known).await {
            Err(error) if known.is_some() && is_transient(&error) => {}
            other => other?,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Shows what is new of tasks, until the stream ends.
async fn follow_tasks<F: Fn(&[Task]) -> Table>(
    session: &Session,
    query: &TaskQuery,
    rows: &mut Rows<F>,
    known: &mut Option<Shown>,
) -> anyhow::Result<()> {
    // The stream first: what happens while the list is read is not missed.
    let mut stream = session.client.watch(None).await?;
    let (listed, revision) = session.client.tasks_at(query).await?;
    let known = match known {
        None => {
            rows.first(&listed, revision)?;
            known.insert(Shown::of(query, listed))
        }
        Some(known) => {
            // Oldest first, as they happened.
            for task in listed.into_iter().rev() {
                rows.task(known, revision, task)?;
            }
            known
        }
    };
    while let Some(change) = stream.next().await {
        let Change { kind, revision, object, .. } = change?;
        // Of one that is not to be seen any more there is nothing to say.
        if let Some(object) = object.filter(|_| kind == What::Task.word()) {
            rows.task(known, revision, serde_json::from_value(object)?)?;
        }
    }
    Ok(())
}

fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<lq_api::client::Error>().is_some_and(lq_api::client::Error::is_transient)
}

/// Tasks as they were shown last, of those that are asked for.
struct Shown {
    query: TaskQuery,
    tasks: BTreeMap<TaskId, Task>,
}

impl Shown {
    fn of(query: &TaskQuery, listed: Vec<Task>) -> Self {
        Self { query: query.clone(), tasks: listed.into_iter().map(|t| (t.id, t)).collect() }
    }

    /// Whether a task is to be shown: it is asked for, or was when it was shown last, and something about it is new.
    fn news(&mut self, task: &Task) -> bool {
        let TaskQuery { state, target, .. } = &self.query;
        let asked =
            state.is_none_or(|s| s == task.state) && target.as_ref().is_none_or(|t| *t == task.target);
        let known = self.tasks.get(&task.id);
        let news = match known {
            Some(known) => task.is_news_after(known),
            None => asked,
        };
        if news && asked {
            self.tasks.insert(task.id, task.clone());
        } else if news {
            self.tasks.remove(&task.id);
        }
        news
    }
}

/// What goes to standard output, a row, a line or a document for each object, one after the other.
struct Rows<F> {
    format: Format,
    what: What,
    table: F,
    widths: Vec<usize>,
}

impl<F> Rows<F> {
    fn new(format: Format, what: What, table: F) -> Self {
        Self { format, what, table, widths: Vec::new() }
    }

    /// The list, as of this revision.
    fn first<T: Resource + Serialize>(&mut self, items: &[T], revision: u64) -> anyhow::Result<()>
    where
        F: Fn(&[T]) -> Table,
    {
        if self.format == Format::Table {
            return line(&(self.table)(items).render_on(&mut self.widths, true));
        }
        items.iter().try_for_each(|item| self.record(item, revision))
    }

    /// One more row of the table.
    fn row<T>(&mut self, item: &T) -> anyhow::Result<()>
    where
        F: Fn(&[T]) -> Table,
    {
        line(&(self.table)(std::slice::from_ref(item)).render_on(&mut self.widths, false))
    }

    /// A line or a document: the object as it is at this revision.
    fn record<T: Resource + Serialize>(&self, item: &T, revision: u64) -> anyhow::Result<()> {
        let object = Some(serde_json::to_value(item)?);
        let id = item.id().to_string().parse()?;
        one(self.format, &Change { kind: self.what.word().into(), id, revision, object })
    }

    /// An object that has changed.
    fn more<T: Resource>(&mut self, change: &Change, object: &serde_json::Value) -> anyhow::Result<()>
    where
        F: Fn(&[T]) -> Table,
    {
        if self.format != Format::Table {
            return one(self.format, change);
        }
        self.row(&serde_json::from_value(object.clone())?)
    }

    /// A task, if there is anything new about it.
    fn task(&mut self, known: &mut Shown, revision: u64, task: Task) -> anyhow::Result<()>
    where
        F: Fn(&[Task]) -> Table,
    {
        if !known.news(&task) {
            return Ok(());
        }
        if self.format == Format::Table { self.row(&task) } else { self.record(&task, revision) }
    }

    /// An object that was shown and is gone, or is not asked for any more.
    fn gone(&self, change: &Change, name: &str) -> anyhow::Result<()> {
        if self.format != Format::Table {
            return one(self.format, &Change { object: None, ..change.clone() });
        }
        line(&format!("{} is gone.\n", plain(name)))
    }
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
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::task::TaskState;
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
        let task = json!({"kind": "vm.stop", "target": "vm/1", "state": "running", "progress": 0.5});
        assert_eq!(change("task", Some(task)), "       7  task      vm.stop  vm/1: running");
        assert_eq!(change("vm", None), format!("       7  vm        {NOBODY}  gone"));
    }

    #[test]
    fn of_tasks_what_is_new_is_shown() {
        let begun = Task::begun("vm.stop", "vm/1", "admin", lq_api::Timestamp::UNIX_EPOCH);
        let task = |id: u128, state, progress| Task {
            id: TaskId(uuid::Uuid::from_u128(id)),
            state,
            progress: Some(progress),
            ..begun.clone()
        };
        use TaskState::{Running, Succeeded};
        let query = TaskQuery { state: Some(Running), target: Some("vm/1".into()), ..TaskQuery::default() };
        let mut shown = Shown::of(&query, vec![task(1, Running, 0.0)]);
        // What the list had comes once more by the stream.
        assert!(!shown.news(&task(1, Running, 0.0)));
        assert!(shown.news(&task(1, Running, 0.5)));
        // Its end is told, though only those that run are asked for; once.
        assert!(shown.news(&task(1, Succeeded, 1.0)));
        assert!(!shown.news(&task(1, Succeeded, 1.0)));
        assert!(shown.news(&task(2, Running, 0.0)));
        assert!(!shown.news(&Task { target: "vm/2".into(), ..task(3, Running, 0.0) }));

        let mut all = Shown::of(&TaskQuery::default(), vec![task(1, Succeeded, 1.0)]);
        assert!(!all.news(&task(1, Running, 0.9)), "it came late");
    }
}
