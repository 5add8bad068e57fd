//! Reading a stored state of any format this release knows, oldest first, one step at a time.

use super::{FORMAT, State};
use serde_json::Value;

/// Why a stored state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It is not what any release wrote.
    #[error("it is not a state of the cluster: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer release wrote it.
    #[error(
        "it has format {found}, this release reads up to {FORMAT}: start the release that wrote it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
}

/// A step from format `n` to `n + 1`, at index `n - 1`.
type Step = fn(Value) -> Value;
const STEPS: [Step; FORMAT as usize - 1] = [];

/// Reads a state, upgrading it where an older release wrote it.
pub fn read(bytes: &[u8]) -> Result<State, UpgradeError> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    let found = value.get("format").and_then(Value::as_u64).unwrap_or_default();
    if found > u64::from(FORMAT) {
        return Err(UpgradeError::Newer { found });
    }
    for (from, step) in (1u64..).zip(STEPS) {
        if found <= from {
            value = step(value);
        }
    }
    let mut state: State = serde_json::from_value(value)?;
    state.format = FORMAT;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back() {
        let state = State::new();
        assert_eq!(read(&serde_json::to_vec(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn a_newer_state_is_refused() {
        let text = br#"{"format": 4000}"#;
        assert!(matches!(read(text), Err(UpgradeError::Newer { found: 4000 })));
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(matches!(read(b"[1"), Err(UpgradeError::Malformed(_))));
    }
}
