//! Words that several nouns share: filters of lists, watching, labels, new names.

use crate::failure::usage;
use clap::Args;
use lq_api::{Metadata, list::ListQuery, meta::MetadataPatch};
use std::collections::BTreeMap;

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Filters of a list.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only objects with this label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

impl From<Filter> for ListQuery {
    fn from(filter: Filter) -> Self {
        let labels: Vec<_> = filter.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self { label: (!labels.is_empty()).then(|| labels.join(",")), ..Self::default() }
    }
}

/// Whether to go on showing.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Watching {
    /// Go on, and show what changes. Ctrl-C ends it.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// A list that can be watched.
#[derive(Debug, Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) watching: Watching,
}

/// A new name and other labels.
#[derive(Debug, Args)]
pub(crate) struct NewMeta {
    /// New name.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Give it a label, or another value of one it has; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Take a label away; may be repeated.
    #[arg(long = "unlabel", value_name = "KEY")]
    pub(crate) unlabel: Vec<String>,
}

impl NewMeta {
    /// The labels it has from now on, where they change; a usage error where one is to go that it does not have.
    pub(crate) fn relabelled(
        &self,
        old: &BTreeMap<String, String>,
    ) -> anyhow::Result<Option<BTreeMap<String, String>>> {
        let mut labels = old.clone();
        for key in &self.unlabel {
            if labels.remove(key).is_none() {
                return Err(usage(format!("--unlabel {key}: it has no label of this key")));
            }
        }
        labels.extend(self.labels.iter().cloned());
        Ok((labels != *old).then_some(labels))
    }

    /// The change of an object; a usage error where there is none.
    pub(crate) fn patch<Id>(self, meta: &Metadata<Id>) -> anyhow::Result<MetadataPatch> {
        let labels = self.relabelled(&meta.labels)?;
        if self.name.is_none() && labels.is_none() {
            return Err(usage("nothing would change: say --name, --label or --unlabel"));
        }
        Ok(MetadataPatch { name: self.name, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_and_go() {
        let old = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let meta = |labels: &[(&str, &str)], unlabel: &[&str]| NewMeta {
            name: None,
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            unlabel: unlabel.iter().map(|k| (*k).to_owned()).collect(),
        };
        let new = meta(&[("b", "3"), ("c", "4")], &["a"]).relabelled(&old).unwrap().unwrap();
        assert_eq!(new.into_iter().map(|(k, v)| k + &v).collect::<Vec<_>>(), ["b3", "c4"]);
        assert_eq!(meta(&[("b", "2")], &[]).relabelled(&old).unwrap(), None);
        assert!(meta(&[], &["x"]).relabelled(&old).is_err());
        // A label that is taken away and given is given.
        assert_eq!(meta(&[("a", "1")], &["a"]).relabelled(&old).unwrap(), None);
    }
}
