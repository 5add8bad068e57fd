//! Documents of wanted objects: reading them, what they refer to, how they differ from what is. Pure.
//!
//! A document is what the API takes to make an object, with its kind beside it, names in place of ids, and sizes as people write
//! them. What it does not say stays as it is.

use crate::{failure::usage, size};
use lq_api::access::Scope;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{fmt, str::FromStr};

/// Kinds that can be described, in the order in which they are made: what one refers to comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Role,
    Group,
    Network,
    Pool,
    Volume,
    Vm,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Role, Self::Group, Self::Network, Self::Pool, Self::Volume, Self::Vm];

    const fn text(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Group => "group",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Vm => "vm",
        }
    }

    /// Where its spec names other objects.
    pub(super) const fn references(self) -> &'static [(&'static [&'static str], Target)] {
        match self {
            Self::Role | Self::Network | Self::Pool => &[],
            Self::Group => {
                &[(&["members", "[]"], Target::User), (&["grants", "[]", "role"], Target::Of(Self::Role))]
            }
            Self::Volume => &[(&["pool"], Target::Of(Self::Pool)), (&["source"], Target::Image)],
            Self::Vm => &[
                (&["boot", "kernel"], Target::Image),
                (&["boot", "initrd"], Target::Image),
                (&["disks", "[]", "volume"], Target::Of(Self::Volume)),
                (&["nics", "[]", "network"], Target::Of(Self::Network)),
                (&["cdroms", "[]", "image"], Target::Image),
                (&["placement", "host"], Target::Host),
            ],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|k| k.text() == text);
        let all = || Self::ALL.map(Self::text).join(", ");
        found.ok_or_else(|| format!("`{text}` is none of {}", all()))
    }
}

/// Kinds of object that can be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// One that can be described too.
    Of(Kind),
    Image,
    Host,
    User,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Of(kind) => kind.text(),
            Self::Image => "image",
            Self::Host => "host",
            Self::User => "user",
        })
    }
}

/// A wanted object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// Where it stands, for messages: `web.yaml, document 2 (vm web)`.
    pub(super) at: String,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Only where it says something of them.
    pub(super) labels: Option<Value>,
    pub(super) spec: Value,
}

impl Document {
    /// Something is wrong with a field of it.
    pub(super) fn fault(&self, field: &str, reason: impl fmt::Display) -> anyhow::Error {
        usage(format!("{}: {field}: {reason}", self.at))
    }
}

/// Every document of a text (YAML or JSON; lists are taken apart).
pub(super) fn read(file: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|e| usage(format!("{file}: it cannot be read: {e}")))?;
    let mut documents = Vec::new();
    for (n, value) in values.into_iter().enumerate() {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                for (m, item) in items.into_iter().enumerate() {
                    documents.push(document(&format!("{file}, document {}, item {}", n + 1, m + 1), item)?);
                }
            }
            value => documents.push(document(&format!("{file}, document {}", n + 1), value)?),
        }
    }
    for (n, document) in documents.iter().enumerate() {
        let same = |d: &&Document| (d.kind, &d.name) == (document.kind, &document.name);
        if let Some(first) = documents.iter().take(n).find(same) {
            return Err(document.fault("name", format!("is described already: {}", first.at)));
        }
    }
    Ok(documents)
}

fn document(at: &str, value: Value) -> anyhow::Result<Document> {
    let wrong = |field: &str, reason: &str| usage(format!("{at}: {field}: {reason}"));
    let Value::Object(mut fields) = value else {
        return Err(usage(format!("{at}: is not an object with `kind`, `name` and `spec`")));
    };
    let mut text = |field: &str| match fields.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(wrong(field, "is not a text")),
        None => Err(wrong(field, "is missing")),
    };
    let (kind, name) = (text("kind")?, text("name")?);
    let kind: Kind = kind.parse().map_err(|e: String| wrong("kind", &e))?;
    let at = format!("{at} ({kind} {name})");
    let labels = fields.remove("labels").filter(|l| !l.is_null());
    let spec = fields.remove("spec").unwrap_or_else(|| json!({}));
    let mut document = Document { at, kind, name, labels, spec };
    if let Some(unknown) = fields.keys().next() {
        return Err(document.fault(unknown, "is unknown: a document has `kind`, `name`, `labels` and `spec`"));
    }
    if !document.spec.is_object() {
        return Err(document.fault("spec", "is not an object"));
    }
    let mut spec = std::mem::take(&mut document.spec);
    spelled_out("spec", &mut spec).map_err(|(field, why)| document.fault(&field, why))?;
    document.spec = spec;
    Ok(document)
}

/// Sizes as numbers of bytes, grants as the API has them.
fn spelled_out(path: &str, value: &mut Value) -> Result<(), (String, String)> {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let path = format!("{path}.{name}");
                if let (true, Value::String(text)) = (name.ends_with("_bytes"), &*inner) {
                    let bytes = size::parse(text).map_err(|why| (path.clone(), why))?;
                    *inner = bytes.0.into();
                }
                if let ("grants", Value::Array(grants)) = (name.as_str(), &mut *inner) {
                    for (n, grant) in grants.iter_mut().enumerate() {
                        let Value::String(text) = &*grant else { continue };
                        let (role, scope) = text.split_once('@').unwrap_or((text, "cluster"));
                        let scope: Scope = scope.parse().map_err(|e| (format!("{path}[{n}]"), e))?;
                        *grant = json!({"role": role, "scope": scope});
                    }
                }
                spelled_out(&path, inner)?;
            }
        }
        Value::Array(items) => {
            for (n, inner) in items.iter_mut().enumerate() {
                spelled_out(&format!("{path}[{n}]"), inner)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Calls `f` with every text at a place, and where it is.
pub(super) fn visit<E>(
    value: &mut Value,
    place: &[&str],
    path: &str,
    f: &mut impl FnMut(&str, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    match (place.split_first(), value) {
        (None, Value::String(text)) => f(path, text),
        (Some((&"[]", rest)), Value::Array(items)) => {
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(n, inner)| visit(inner, rest, &format!("{path}[{n}]"), f))
        }
        (Some((name, rest)), Value::Object(fields)) => match fields.get_mut(*name) {
            Some(inner) => visit(inner, rest, &format!("{path}.{name}"), f),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What is, with what is wanted laid over it. Lists are as long as the wanted one; what their items do not say stays with the item
/// at the same place. `null` takes a field away.
pub(super) fn laid_over(present: &Value, wanted: &Value) -> Value {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            // Of another kind than what is: nothing of that is left.
            if wanted.get("kind").is_some_and(|k| present.get("kind").is_some_and(|p| p != k)) {
                return laid_over(&Value::Null, &Value::Object(wanted.clone()));
            }
            let mut all = present.clone();
            for (name, value) in wanted {
                if value.is_null() {
                    all.remove(name);
                } else {
                    let before = present.get(name).unwrap_or(&Value::Null);
                    all.insert(name.clone(), laid_over(before, value));
                }
            }
            Value::Object(all)
        }
        (Value::Array(present), Value::Array(wanted)) => {
            let item = |(n, w): (usize, &Value)| laid_over(present.get(n).unwrap_or(&Value::Null), w);
            Value::Array(wanted.iter().enumerate().map(item).collect())
        }
        (_, Value::Object(wanted)) => {
            let kept = wanted.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), laid_over(&Value::Null, v))).collect())
        }
        (_, Value::Array(wanted)) => {
            Value::Array(wanted.iter().map(|w| laid_over(&Value::Null, w)).collect())
        }
        (_, wanted) => wanted.clone(),
    }
}

/// One field that is to be another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) from: Value,
    pub(super) to: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| match value {
            Value::Null => "nothing".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        write!(f, "{}: {} → {}", self.field, shown(&self.from), shown(&self.to))
    }
}

/// What differs, field by field. A list that is longer or shorter differs as a whole.
pub(super) fn differences(field: &str, from: &Value, to: &Value) -> Vec<Difference> {
    match (from, to) {
        (from, to) if from == to => vec![],
        (Value::Object(from), Value::Object(to)) => {
            let mut names: Vec<_> = from.keys().chain(to.keys()).collect();
            names.sort_unstable();
            names.dedup();
            let none = &Value::Null;
            let inner = |name: &String| {
                let (from, to) = (from.get(name).unwrap_or(none), to.get(name).unwrap_or(none));
                differences(&format!("{field}.{name}"), from, to)
            };
            names.into_iter().flat_map(inner).collect()
        }
        (Value::Array(from), Value::Array(to)) if from.len() == to.len() => {
            let pairs = from.iter().zip(to).enumerate();
            pairs.flat_map(|(n, (from, to))| differences(&format!("{field}[{n}]"), from, to)).collect()
        }
        (from, to) => vec![Difference { field: field.to_owned(), from: from.clone(), to: to.clone() }],
    }
}

/// A document of an object that is.
pub(super) fn describe(kind: Kind, name: &str, labels: &Value, spec: Value) -> Value {
    let mut all = Map::new();
    all.insert("kind".into(), kind.text().into());
    all.insert("name".into(), name.into());
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        all.insert("labels".into(), labels.clone());
    }
    all.insert("spec".into(), spec);
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        read("f", text).unwrap_err().to_string()
    }

    #[test]
    fn documents_are_read() {
        let text = "kind: network\nname: lan\nspec: {kind: bridged}\n---\nkind: vm\nname: web\nlabels: {a: b}\nspec:\n  memory_bytes: 2GiB\n";
        let all = read("f", text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].at.as_str(), all[1].kind), ("f, document 2 (vm web)", Kind::Vm));
        assert_eq!(all[1].spec, json!({"memory_bytes": 2u64 << 30}));
        assert_eq!(all[1].labels, Some(json!({"a": "b"})));
        let list = read("f", r#"[{"kind": "role", "name": "r"}, {"kind": "group", "name": "g", "spec": {"grants": ["r@folder=prod", "r"]}}]"#).unwrap();
        let grants = json!([
            {"role": "r", "scope": {"kind": "labels", "labels": {"folder": "prod"}}},
            {"role": "r", "scope": {"kind": "cluster"}},
        ]);
        assert_eq!(list[1].spec["grants"], grants);
        assert!(read("f", "---\n---\n").unwrap().is_empty());
    }

    #[test]
    fn faults_name_document_field_and_reason() {
        for (text, wanted) in [
            ("kind: dog\nname: x", "f, document 1: kind: `dog` is none of role, group"),
            ("kind: vm", "f, document 1: name: is missing"),
            ("kind: vm\nname: 7", "f, document 1: name: is not a text"),
            ("kind: vm\nname: w\nspce: {}", "f, document 1 (vm w): spce: is unknown"),
            ("kind: vm\nname: w\nspec: 7", "f, document 1 (vm w): spec: is not an object"),
            (
                "kind: vm\nname: w\nspec: {memory_bytes: much}",
                "f, document 1 (vm w): spec.memory_bytes: `much` is not a size",
            ),
            (
                "kind: group\nname: g\nspec: {grants: ['r@x']}",
                "f, document 1 (group g): spec.grants[0]: `x` is not",
            ),
            ("kind: vm\nname: w\n---\nkind: vm\nname: w", "f, document 2 (vm w): name: is described already"),
            ("just words", "f, document 1: is not an object"),
            ("{", "f: it cannot be read"),
        ] {
            assert!(fault(text).starts_with(wanted), "{text}: {}", fault(text));
        }
    }

    #[test]
    fn what_is_not_said_stays() {
        let present = json!({"vcpus": 2, "nics": [{"network": "a", "mac": "m"}], "boot": {"cmdline": "x"}, "ha": {"on": true}});
        let wanted = json!({"vcpus": 4, "nics": [{"network": "b"}, {"network": "c"}], "ha": null});
        let all = laid_over(&present, &wanted);
        let expected = json!({"vcpus": 4, "nics": [{"network": "b", "mac": "m"}, {"network": "c"}], "boot": {"cmdline": "x"}});
        assert_eq!(all, expected);
        assert_eq!(laid_over(&all, &wanted), all, "again it changes nothing");
        let found: Vec<_> = differences(
            "spec",
            &present,
            &json!({"vcpus": 4, "nics": [{"network": "b", "mac": "m"}], "boot": {"cmdline": "x"}}),
        )
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(
            found,
            ["spec.ha: {\"on\":true} → nothing", "spec.nics[0].network: a → b", "spec.vcpus: 2 → 4"]
        );
        assert_eq!(
            laid_over(&json!({"kind": "x", "a": 1}), &json!({"kind": "y", "b": null})),
            json!({"kind": "y"})
        );
    }

    #[test]
    fn names_are_found_where_they_stand() {
        let mut spec = json!({"disks": [{"volume": "a"}, {"volume": "b"}], "nics": 7});
        let mut seen = Vec::new();
        for (place, _) in Kind::Vm.references() {
            let noted: Result<(), ()> = visit(&mut spec, place, "spec", &mut |path, text| {
                seen.push(format!("{path}={text}"));
                text.push('!');
                Ok(())
            });
            noted.unwrap();
        }
        assert_eq!(seen, ["spec.disks[0].volume=a", "spec.disks[1].volume=b"]);
        assert_eq!(spec["disks"][1]["volume"], "b!");
    }
}
