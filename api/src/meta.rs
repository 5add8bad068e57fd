//! What every stored object carries.

use crate::{Timestamp, problem::FieldError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Identity and version of a stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metadata<Id> {
    /// Never reused.
    pub id: Id,
    /// Unique per kind; may be changed at any time. See [`check_name`].
    pub name: String,
    /// Free key-value pairs for filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Grows by one at each change of the desired state (`spec`).
    pub generation: u64,
    /// Position in the cluster's log of the last change to this object, observed state included. The ETag.
    pub revision: u64,
    /// When the object was made.
    pub created_at: Timestamp,
}

/// Checks an object's name: 1 to 63 of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit.
pub fn check_name(field: &str, name: &str) -> Option<FieldError> {
    let ok = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    (!ok).then(|| {
        FieldError::new(
            field,
            "must be 1 to 63 characters from a-z A-Z 0-9 . _ - and begin with a letter or digit",
        )
    })
}

/// Checks labels: at most 64, keys 1 to 63 characters, values at most 255.
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if labels.len() > 64 {
        errors.push(FieldError::new(field, "at most 64 labels"));
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > 63 {
            errors.push(FieldError::new(format!("{field}.{key}"), "a label's key has 1 to 63 characters"));
        }
        if value.len() > 255 {
            errors.push(FieldError::new(
                format!("{field}.{key}"),
                "a label's value has at most 255 characters",
            ));
        }
    }
    errors
}

/// A change of name and labels; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MetadataPatch {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New set of labels, replacing the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}
