//! Lists: pages, filters, and only what the caller may see.

use super::problem::Failure;
use crate::{auth::Caller, cluster::state::Object};
use lq_api::{
    Metadata,
    access::ObjectKind,
    list::{ListQuery, Page},
    problem::Kind,
};
use std::{collections::BTreeMap, str::FromStr};
use uuid::Uuid;

/// Objects per page where the caller does not say.
const DEFAULT: u32 = 100;
/// Most objects per page.
const MOST: u32 = 1000;

/// What is asked of a list.
pub(super) struct Wanted<Id> {
    pub(super) limit: usize,
    pub(super) after: Option<Id>,
    name: Option<String>,
    labels: Vec<(String, String)>,
}

impl<Id: FromStr + Copy + Ord + std::fmt::Display> Wanted<Id> {
    pub(super) fn parse(query: &ListQuery) -> Result<Self, Failure> {
        let limit = query.limit.unwrap_or(DEFAULT);
        if !(1..=MOST).contains(&limit) {
            return Err(Failure::new(Kind::Malformed, format!("`limit` is not between 1 and {MOST}")));
        }
        let cursor = query.cursor.as_deref().map(str::parse).transpose();
        let after = cursor.map_err(|_| {
            Failure::new(Kind::Malformed, "`cursor` is not the `next_cursor` of a page of this list")
        })?;
        let labels = query.label.as_deref().unwrap_or_default().split(',').filter(|p| !p.is_empty());
        let labels = labels
            .map(|pair| {
                let (key, value) = pair.split_once('=').ok_or_else(|| {
                    Failure::new(Kind::Malformed, format!("`label={pair}` is not of the form key=value"))
                })?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self { limit: limit as usize, after, name: query.name.clone(), labels })
    }

    /// Whether an object with these metadata is wanted.
    pub(super) fn wants(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.name.as_deref().is_none_or(|n| n == name)
            && self.labels.iter().all(|(k, v)| labels.get(k) == Some(v))
    }

    /// A page of the objects in a map that the caller may see; `show` makes the object out of what is stored.
    pub(super) fn page<S, T>(
        &self,
        map: &BTreeMap<Id, S>,
        revision: u64,
        meta: impl Fn(&S) -> &Metadata<Id>,
        may_see: impl Fn(&Metadata<Id>) -> bool,
        show: impl Fn(&S) -> T,
    ) -> Page<T> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.after.map_or(Unbounded, Excluded);
        let mut items = Vec::new();
        let mut last = None;
        let mut next_cursor = None;
        for (id, stored) in map.range((from, Unbounded)) {
            let meta = meta(stored);
            if !self.wants(&meta.name, &meta.labels) || !may_see(meta) {
                continue;
            }
            if items.len() == self.limit {
                next_cursor = last.map(|id: Id| id.to_string());
                break;
            }
            items.push(show(stored));
            last = Some(*id);
        }
        Page { items, next_cursor, revision }
    }
}

/// Whether the caller may see an object of this kind.
pub(super) fn sees<Id: Copy + Into<Uuid>>(
    caller: &Caller,
    kind: ObjectKind,
) -> impl Fn(&Metadata<Id>) -> bool {
    move |meta| {
        let object = Object::Of { kind, id: meta.id.into(), labels: &meta.labels };
        caller.may(kind.read_permission(), object)
    }
}
