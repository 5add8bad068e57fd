//! `lqctl apply`: brings objects to what documents describe; `lqctl export`: describes what is.
//!
//! Everything is read and checked before anything is changed. Applied again, the same documents change nothing.

mod document;
mod objects;

pub(crate) use document::Kind;

use super::Session;
use crate::{
    cli::{Apply, Export},
    failure::usage,
    output::{Format, Table, line, show},
};
use anyhow::Context as _;
use document::{Difference, Document, differences, laid_over};
use objects::{Names, Present};
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

/// What became of a document.
#[derive(Debug, Serialize)]
struct Applied {
    kind: Kind,
    name: String,
    action: Action,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Difference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Created,
    Changed,
    Unchanged,
    WouldCreate,
    WouldChange,
}

impl Action {
    const fn text(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "as it is",
            Self::WouldCreate => "would be created",
            Self::WouldChange => "would be changed",
        }
    }
}

/// What has to be done for a document.
enum Step {
    Create { body: Value },
    Change { present: Present, spec: Value, changes: Vec<Difference> },
    Nothing,
}

pub(super) async fn apply(session: &Session, command: Apply) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for file in &command.files {
        documents.extend(document::read(&file.display().to_string(), &text_of(file)?)?);
    }
    if documents.is_empty() {
        return Err(usage("there is no document to apply"));
    }
    documents.sort_by_key(|d| d.kind);
    let mut names = Names::load(&session.client, &documents).await?;
    // All of them before the first is applied: what cannot be is known then.
    for document in &documents {
        step(document, &names)?;
    }
    let mut all = Vec::new();
    for document in &documents {
        match one(session, document, &mut names, command.dry_run).await {
            Ok(applied) => all.push(applied),
            Err(e) => {
                if !all.is_empty() {
                    report(session.format, &all)?;
                }
                return Err(e.context(format!("{}: it was not applied, nor what follows", document.at)));
            }
        }
    }
    report(session.format, &all)
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    fs::read_to_string(file).map_err(|e| usage(format!("{} cannot be read: {e}", file.display())))
}

fn report(format: Format, all: &[Applied]) -> anyhow::Result<()> {
    show(format, &all, || {
        let mut table = Table::new(&["KIND", "NAME", "RESULT", "CHANGES"]);
        for applied in all {
            let changes: Vec<_> = applied.changes.iter().map(ToString::to_string).collect();
            table.row([
                applied.kind.to_string(),
                applied.name.clone(),
                applied.action.text().into(),
                changes.join("; "),
            ]);
        }
        table
    })
}

/// What a document takes. `names` has what is and what this file makes.
fn step(document: &Document, names: &Names) -> anyhow::Result<Step> {
    let spec = names.resolved(document)?;
    let Some(present) = names.present(document.kind, &document.name) else {
        let spec = laid_over(&Value::Null, &spec);
        let body = json!({"name": document.name, "labels": document.labels.clone().unwrap_or(json!({})), "spec": spec});
        objects::check_new(document, &body)?;
        return Ok(Step::Create { body });
    };
    let spec = objects::as_told(document, &laid_over(&present.spec, &spec))?;
    let mut changes = differences("spec", &present.spec, &spec);
    if let Some(labels) = &document.labels {
        changes.extend(differences("labels", &present.labels, labels));
    }
    if changes.is_empty() {
        return Ok(Step::Nothing);
    }
    objects::check_change(document, &spec, &changes)?;
    Ok(Step::Change { present: present.clone(), spec, changes })
}

async fn one(
    session: &Session,
    document: &Document,
    names: &mut Names,
    dry: bool,
) -> anyhow::Result<Applied> {
    let (action, changes) = match step(document, names)? {
        Step::Nothing => (Action::Unchanged, vec![]),
        Step::Create { .. } if dry => (Action::WouldCreate, vec![]),
        Step::Change { changes, .. } if dry => (Action::WouldChange, changes),
        Step::Create { body } => {
            let id = objects::create(session, document.kind, body).await?;
            names.made(document, id);
            (Action::Created, vec![])
        }
        Step::Change { present, spec, changes } => {
            objects::change(session, document, &present, spec, &changes).await?;
            (Action::Changed, changes)
        }
    };
    // People read names.
    let changes = changes.into_iter().map(|d| names.named(document.kind, d)).collect();
    Ok(Applied { kind: document.kind, name: document.name.clone(), action, changes })
}

pub(super) async fn export(session: &Session, command: Export) -> anyhow::Result<()> {
    let mut wanted: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for text in &command.objects {
        let (kind, name) = text.split_once('/').map_or((text.as_str(), None), |(k, n)| (k, Some(n)));
        let names = wanted.entry(kind.parse().map_err(usage)?).or_default();
        names.extend(name.map(str::to_owned));
    }
    if wanted.is_empty() {
        wanted = Kind::ALL.into_iter().map(|k| (k, vec![])).collect();
    }
    let names = Names::load_all(&session.client).await?;
    let mut all = Vec::new();
    for (kind, only) in wanted {
        for name in &only {
            if names.present(kind, name).is_none() {
                return Err(
                    lq_api::client::Error::NoSuch { kind: "object", name: format!("{kind}/{name}") }.into()
                );
            }
        }
        all.extend(names.described(kind, &only));
    }
    if session.format == Format::Json {
        return show(session.format, &all, || Table::new(&[]));
    }
    let mut text = String::new();
    for document in &all {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(document)?);
    }
    line(&text)
}
