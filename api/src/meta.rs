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

/// Whether a character changes how a text is shown without being seen itself: control characters, marks that turn the direction
/// of writing (Unicode UAX 9), and those without width.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Checks labels: at most 64, keys 1 to 63 characters, values at most 255. `,` and `=` separate labels where they are written
/// (`folder=prod,tier=web`), and what is not seen could make two labels look the same.
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if labels.len() > 64 {
        errors.push(FieldError::new(field, "at most 64 labels"));
    }
    for (key, value) in labels {
        // A key that is not fit to be shown is not repeated as it is.
        let shown: String = key.chars().flat_map(char::escape_debug).collect();
        for (what, text) in [("key", key), ("value", value)] {
            if let Some(bad) = text.chars().find(|c| matches!(c, ',' | '=') || is_unseen(*c)) {
                let bad = bad.escape_debug();
                errors.push(FieldError::new(
                    format!("{field}.{shown}"),
                    format!("a label's {what} has no `,`, no `=` and only characters that are seen: `{bad}` is not allowed"),
                ));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_they_look_like() {
        let check = |key: &str, value: &str| {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            check_labels("labels", &labels).into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        assert!(check("folder", "prod west/ä-1_2.3:4").is_empty());
        for bad in ["a,b", "a=b", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "\u{7f}"] {
            assert_eq!(check("folder", bad), ["labels.folder"], "{bad:?}");
            assert_eq!(check(bad, "x").len(), 1, "{bad:?}");
        }
        assert_eq!(check("a\u{202e}b", "x"), ["labels.a\\u{202e}b"]);
    }
}
