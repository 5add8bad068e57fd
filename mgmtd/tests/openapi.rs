//! The checked in OpenAPI document is the one the handlers make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/openapi.json");
    let made = lq_mgmtd::http::openapi::document().unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "api/openapi.json is not what the handlers make: UPDATE_OPENAPI=1 cargo test -p lq-mgmtd"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document: Value = serde_json::from_str(&lq_mgmtd::http::openapi::document().unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap_or_default();
            assert!(!name.is_empty() && names.insert(name.to_owned()), "{method} {path}: `{name}`");
        }
    }
}

/// Two types of one name in different modules would be one in the document, and clients would be told the wrong one.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("utoipa::ToSchema") {
                let rest = text[at..].lines().take(8).map(str::trim_start);
                let mut rest = rest
                    .filter_map(|l| l.strip_prefix("pub struct ").or_else(|| l.strip_prefix("pub enum ")));
                let Some(line) = rest.next() else { continue };
                let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(names.insert(name.clone()), "{name} in {}", path.display());
            }
        }
    }
    assert!(names.len() > 50, "{names:?}");
}

/// Names of schemas that something refers to.
fn referred<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(parts) => {
            found.extend(parts.get("$ref").and_then(|r| r.as_str()?.strip_prefix("#/components/schemas/")));
            parts.values().for_each(|part| referred(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| referred(part, found)),
        _ => {}
    }
}

#[test]
fn what_the_document_refers_to_is_in_it() {
    let document: Value = serde_json::from_str(&lq_mgmtd::http::openapi::document().unwrap()).unwrap();
    let mut found = Vec::new();
    referred(&document, &mut found);
    assert!(found.len() > 100, "{found:?}");
    let known = document["components"]["schemas"].as_object().unwrap();
    found.retain(|name| !known.contains_key(*name));
    assert_eq!(found, Vec::<&str>::new());
}
