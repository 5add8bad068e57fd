//! What a user keeps for themselves in the cluster: named searches of lists.

use crate::problem::FieldError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most saved filters of a user.
pub const MAX_FILTERS: usize = 50;
/// Longest name, in characters.
const MAX_NAME: usize = 60;
/// Longest search, in bytes.
const MAX_QUERY: usize = 1900;
/// Longest name of a list, in bytes.
const MAX_LIST: usize = 40;

/// A named search of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SavedFilter {
    /// The list: its path in the page, like `/vms`.
    pub list: String,
    /// Its name, 1 to 60 characters, unique in its list.
    pub name: String,
    /// What is searched for, as it is typed in the list; at most 1900 bytes.
    pub query: String,
}

/// `GET /session/settings`: what the caller keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserSettings {
    /// Grows with each change; given as `If-Match` it refuses to undo what was changed elsewhere. 0 before the first.
    pub revision: u64,
    /// Saved filters, in the order in which they are shown.
    #[serde(default)]
    pub filters: Vec<SavedFilter>,
}

/// `PUT /session/settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplaceUserSettings {
    /// All saved filters, at most 50.
    pub filters: Vec<SavedFilter>,
}

impl ReplaceUserSettings {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.filters.len() > MAX_FILTERS {
            errors.push(FieldError::new("filters", format!("are more than {MAX_FILTERS}")));
        }
        let mut seen = BTreeSet::new();
        for (n, filter) in self.filters.iter().enumerate().take(MAX_FILTERS) {
            let mut wrong = |field: &str, why: String| {
                errors.push(FieldError::new(format!("filters[{n}].{field}"), why));
            };
            let path = filter.list.strip_prefix('/').filter(|p| !p.is_empty() && p.len() < MAX_LIST);
            if !path
                .is_some_and(|p| p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
            {
                wrong("list", "is not the path of a list, like /vms".into());
            }
            let name = filter.name.as_str();
            if name.trim().is_empty() || name.trim() != name || name.chars().count() > MAX_NAME {
                wrong("name", format!("is not 1 to {MAX_NAME} characters without blanks around them"));
            } else if name.chars().any(char::is_control) {
                wrong("name", "has a control character".into());
            } else if !seen.insert((filter.list.as_str(), name)) {
                wrong("name", format!("`{name}` is there twice for this list"));
            }
            if filter.query.trim().is_empty() || filter.query.len() > MAX_QUERY {
                wrong("query", format!("is empty, or longer than {MAX_QUERY} bytes"));
            } else if filter.query.chars().any(char::is_control) {
                wrong("query", "has a control character".into());
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(list: &str, name: &str, query: &str) -> SavedFilter {
        SavedFilter { list: list.into(), name: name.into(), query: query.into() }
    }

    #[test]
    fn faults_are_told_by_their_fields() {
        let faults = |filters: Vec<SavedFilter>| -> Vec<String> {
            ReplaceUserSettings { filters }.validate().into_iter().map(|e| e.field).collect()
        };
        let good = filter("/vms", "Down", "state:stopped -label:test");
        assert_eq!(faults(vec![good.clone(), filter("/hosts", "Down", "x")]), Vec::<String>::new());
        assert_eq!(faults(vec![good.clone(), good.clone()]), ["filters[1].name"]);
        for list in ["vms", "/", "", "/VMs", "/vms/x", "//x", &format!("/{}", "x".repeat(50))] {
            assert_eq!(faults(vec![filter(list, "n", "q")]), ["filters[0].list"], "{list}");
        }
        for name in ["", " ", " a", "a\u{7}", &"x".repeat(61)] {
            assert_eq!(faults(vec![filter("/vms", name, "q")]), ["filters[0].name"], "{name:?}");
        }
        for query in ["", "  ", "a\nb", &"x".repeat(1901)] {
            assert_eq!(faults(vec![filter("/vms", "n", query)]), ["filters[0].query"]);
        }
        let many = (0..51).map(|n| filter("/vms", &n.to_string(), "q")).collect();
        assert_eq!(faults(many), ["filters"]);
    }
}
