//! What happens and what happened: tasks and events.

use super::{Session, follow, names::Names};
use crate::{
    cli,
    failure::usage,
    output::{Format, Table, age, describe, line, moment, or_dash, plain, show, word},
    terminal::Line,
};
use futures::StreamExt;
use lq_api::{
    TaskId,
    event::{Event, EventQuery},
    task::{Task, TaskQuery},
};
use std::time::Duration;

pub(super) async fn task(session: &Session, command: cli::Task) -> anyhow::Result<()> {
    match command {
        cli::Task::List { state, target, watching } => {
            let target = session.target(target).await?;
            let query = TaskQuery { state: state.map(Into::into), target, ..TaskQuery::default() };
            let names = Names::load(session).await;
            let table = |tasks: &[Task]| {
                let mut table =
                    Table::new(&["KIND", "STATE", "DONE", "TARGET", "BY", "AGE", "ID", "MESSAGE"]);
                for task in tasks {
                    table.row([
                        task.kind.clone(),
                        word(&task.state),
                        or_dash(task.progress.map(|p| format!("{:.0} %", p * 100.0))),
                        names.about(&task.target, task.target_name.as_deref()),
                        task.actor.clone(),
                        age(task.created_at),
                        task.id.to_string(),
                        task.message.clone().unwrap_or_default(),
                    ]);
                }
                table
            };
            if watching.watch {
                return follow::tasks(session, query, table).await;
            }
            let tasks = session.client.tasks_where(&query).await?;
            show(session.format, &tasks, || table(&tasks))
        }
        cli::Task::Show { task } => show_one(session, &session.client.task(id(&task)?).await?).await,
        cli::Task::Watch { task } => {
            let mut line = Line::new();
            let ended =
                session.client.wait_task(id(&task)?, session.patience(), |task| line.task(task)).await?;
            drop(line);
            show_one(session, &ended).await
        }
        cli::Task::Cancel { task } => {
            let task = session.client.cancel_task(id(&task)?).await?;
            line(&format!("Task {} is {}.\n", task.id, word(&task.state)))
        }
    }
}

async fn show_one(session: &Session, task: &Task) -> anyhow::Result<()> {
    let names = Names::load(session).await;
    let fields = [
        ("Id", task.id.to_string()),
        ("Kind", task.kind.clone()),
        ("Target", names.about(&task.target, task.target_name.as_deref())),
        ("By", task.actor.clone()),
        ("State", word(&task.state)),
        ("Done", task.progress.map(|p| format!("{:.0} %", p * 100.0)).unwrap_or_default()),
        ("Message", task.message.clone().unwrap_or_default()),
        ("Ordered", moment(task.created_at)),
        ("Ended", task.ended_at.map(moment).unwrap_or_default()),
    ];
    describe(session.format, task, &fields)
}

fn id(text: &str) -> anyhow::Result<TaskId> {
    text.parse().map_err(|_| usage(format!("`{text}` is not the id of a task")))
}

pub(super) async fn event(session: &Session, command: cli::Event) -> anyhow::Result<()> {
    match command {
        cli::Event::List { limit, which } => {
            let query = EventQuery { limit: Some(limit), ..wanted(session, which).await? };
            let events = session.client.events(&query).await?.items;
            let names = Names::load(session).await;
            show(session.format, &events, || {
                let mut table = Table::new(&["AT", "LEVEL", "KIND", "TARGET", "BY", "MESSAGE"]);
                for event in &events {
                    table.row([
                        moment(event.at),
                        word(&event.level),
                        event.kind.clone(),
                        names.about(&event.target, event.target_name.as_deref()),
                        or_dash(event.actor.clone()),
                        event.message.clone(),
                    ]);
                }
                table
            })
        }
        cli::Event::Follow { which } => follow(session, &wanted(session, which).await?).await,
    }
}

async fn wanted(session: &Session, which: cli::Which) -> anyhow::Result<EventQuery> {
    let cli::Which { target, kind, level } = which;
    let target = session.target(target).await?;
    Ok(EventQuery { target, kind, level: level.map(Into::into), ..EventQuery::default() })
}

/// Until the person has enough. A daemon that restarts is met again; one that refuses ends it.
async fn follow(session: &Session, query: &EventQuery) -> anyhow::Result<()> {
    let mut first = true;
    let mut names = Names::load(session).await;
    loop {
        match session.client.follow_events(query).await {
            Ok(mut events) => {
                if !std::mem::take(&mut first) {
                    eprintln!("lqctl: connected again; what happened meanwhile is in `lqctl event list`");
                }
                while let Some(Ok(event)) = events.next().await {
                    if event.kind.ends_with(".created") {
                        names = Names::load(session).await;
                    }
                    one(session.format, &event, &names)?;
                }
                eprintln!("lqctl: the stream ended; connecting again");
            }
            Err(error) if !first && error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn one(format: Format, event: &Event, names: &Names) -> anyhow::Result<()> {
    match format {
        // One object per line, so that a reader can take them apart as they come.
        Format::Json => line(&(serde_json::to_string(event)? + "\n")),
        // A stream of documents.
        Format::Yaml => line(&format!("---\n{}", serde_saphyr::to_string(event)?)),
        Format::Table => {
            let at = moment(event.at);
            let target = names.about(&event.target, event.target_name.as_deref());
            let text = format!("{at}  {:7}  {target}  {}", word(&event.level), event.message);
            line(&(plain(&text) + "\n"))
        }
    }
}
