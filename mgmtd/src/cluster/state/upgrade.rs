//! Reading a stored state of any format this release knows, oldest first, one step at a time.

use super::{FORMAT, State};
use lq_api::{access::ADMINISTRATOR, auth::FIRST_USER};
use serde_json::{Map, Value, json};

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
const STEPS: [Step; FORMAT as usize - 1] = [users];

/// 1 → 2: the one administrator becomes the first user.
fn users(mut state: Value) -> Value {
    let admin = state.as_object_mut().and_then(|s| s.remove("admin")).unwrap_or_default();
    let mut users = Map::new();
    if let (Some(hash), Some(set_at)) = (admin.get("hash"), admin.get("set_at")) {
        let id = FIRST_USER.to_string();
        let grant = json!({"role": ADMINISTRATOR, "scope": {"kind": "cluster"}});
        let meta = json!({"id": id, "name": "admin", "generation": 1, "revision": 0, "created_at": set_at});
        let user = json!({
            "user": {"meta": meta, "spec": {"grants": [grant]}, "status": {}},
            "password": {"hash": hash, "set_at": set_at},
        });
        users.insert(id, user);
    }
    if let Some(state) = state.as_object_mut() {
        state.insert("users".into(), Value::Object(users));
    }
    state
}

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
    use lq_api::HostId;
    use uuid::Uuid;

    #[test]
    fn a_state_is_read_back() {
        let state = State::new();
        assert_eq!(read(&serde_json::to_vec(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn the_one_administrator_becomes_a_user() {
        let mut old = serde_json::to_value(State::new()).unwrap();
        let parts = old.as_object_mut().unwrap();
        for new in ["users", "groups", "roles", "sessions", "signing"] {
            parts.remove(new);
        }
        parts.insert("format".into(), 1.into());
        parts.insert("admin".into(), json!({"hash": "$argon2id$x", "set_at": "2026-01-02T03:04:05Z"}));
        let id = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a";
        let token = json!({"id": id, "name": "t", "created_at": "2026-01-02T03:04:05Z", "read_only": true});
        parts.insert("tokens".into(), json!({id: {"token": token, "hash": "00"}}));
        let state = read(old.to_string().as_bytes()).unwrap();
        assert!(state.has_administrator());
        assert_eq!(state.user_named("admin").unwrap().password.as_ref().unwrap().hash, "$argon2id$x");
        assert_eq!(state.tokens.values().next().unwrap().token.owner, FIRST_USER);

        let parts = old.as_object_mut().unwrap();
        parts.insert("admin".into(), Value::Null);
        assert!(read(old.to_string().as_bytes()).unwrap().users.is_empty());
    }

    #[test]
    fn a_state_from_before_hosts_could_join_is_read() {
        let (host, cluster) = (HostId::new(), Uuid::now_v7());
        let at = "2026-01-02T03:04:05Z";
        let meta = json!({"id": host, "name": "one", "generation": 1, "revision": 1, "created_at": at});
        let mut old = serde_json::to_value(State::new()).unwrap();
        let parts = old.as_object_mut().unwrap();
        assert_eq!(parts.insert("format".into(), 2.into()), Some(FORMAT.into()), "add a step");
        for new in ["removed", "join_tokens", "admitted_with"] {
            parts.remove(new).unwrap();
        }
        parts.insert("cluster".into(), json!({"id": cluster, "created_at": at}));
        parts.insert("hosts".into(), json!({host.to_string(): {"meta": meta, "boot": null}}));
        let state = read(old.to_string().as_bytes()).unwrap();
        assert!(state.cluster.unwrap().authority.is_none());
        let host = &state.hosts[&host];
        assert_eq!((host.leaving, host.named, &host.peer, &host.capacity), (false, false, &None, &None));
        assert!(state.removed.is_empty() && state.join_tokens.is_empty() && state.admitted_with.is_empty());
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
