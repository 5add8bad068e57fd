//! Errors with what caused them.

use std::error::Error;

/// An error with its causes, on one line.
#[must_use]
pub fn chain(e: &dyn Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
