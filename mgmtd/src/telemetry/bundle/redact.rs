//! Takes secrets out of texts: those the state holds, by their value, and all that look like ours. Pure.

use crate::cluster::State;
use serde_json::Value;
use std::collections::BTreeSet;

/// What stands in for a secret.
const LEFT_OUT: &str = "[left out]";
/// How texts begin that are secrets: tokens of ours, hashes of passwords, JSON Web Tokens.
const BEGINNINGS: [&str; 4] = ["lqt_", "lqj_", "$argon2", "eyJ"];
/// Words whose value is a secret, before `=` or `:`.
const NAMES: [&str; 9] = [
    "lq.answer",
    "password",
    "passwd",
    "secret",
    "token",
    "refresh_token",
    "authorization",
    "setup-code",
    "api_key",
];
/// Names of fields of the state whose texts are secrets, at any depth.
const FIELDS: [&str; 8] = ["hash", "secret", "key", "token", "password", "recovery", "pending", "private"];
/// Shorter texts of the state are words, and would be taken out where they mean nothing.
const SHORTEST: usize = 12;

/// Takes secrets out.
pub(super) struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// Knows the secrets of this state.
    pub(super) fn of(state: &State) -> Self {
        let mut known = BTreeSet::new();
        gather(&serde_json::to_value(state).unwrap_or_default(), false, &mut known);
        Self { known }
    }

    /// The text without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut in_key = false;
        for line in text.split_inclusive('\n') {
            // A private key, whole; in JSON it is one line with its ends written as `\n`.
            let (begins, ends) = (line.contains("-----BEGIN"), line.contains("-----END"));
            if in_key || begins {
                in_key = !ends;
                clean.push_str(LEFT_OUT);
                clean.push('\n');
                continue;
            }
            self.line(line, &mut clean);
        }
        clean
    }

    fn line(&self, line: &str, clean: &mut String) {
        let mut line = line.to_owned();
        for secret in self.known.iter().filter(|s| s.len() >= SHORTEST) {
            if line.contains(secret.as_str()) {
                line = line.replace(secret.as_str(), LEFT_OUT);
            }
        }
        let mut rest = line.as_str();
        let mut next = Next::Anything;
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()));
            if !word.is_empty() {
                let shown;
                (shown, next) = one(word, next);
                clean.push_str(&shown);
            }
            let (between, more) = after.split_at(after.find(is_part).unwrap_or(after.len()));
            clean.push_str(between);
            rest = more;
        }
    }
}

/// What the next word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Anything,
    /// A secret where it begins with a colon or an equals sign.
    Value,
    Secret,
}

/// A word as it is shown, and what follows.
fn one(word: &str, next: Next) -> (String, Next) {
    let named = |name: &str| NAMES.iter().any(|n| name.eq_ignore_ascii_case(n));
    let bearer = word.eq_ignore_ascii_case("bearer");
    match next {
        Next::Secret if bearer => return (word.to_owned(), Next::Secret),
        Next::Secret => return (LEFT_OUT.into(), Next::Anything),
        Next::Value if word == ":" || word == "=" => return (word.to_owned(), Next::Secret),
        Next::Value if word.starts_with([':', '=']) => return (LEFT_OUT.into(), Next::Anything),
        Next::Value | Next::Anything => {}
    }
    if let Some(begin) = BEGINNINGS.iter().filter_map(|b| word.find(b)).min() {
        return (format!("{}{LEFT_OUT}", word.get(..begin).unwrap_or_default()), Next::Anything);
    }
    match word.split_once(['=', ':']) {
        _ if bearer => (word.to_owned(), Next::Secret),
        Some((name, "")) if named(name) => (word.to_owned(), Next::Secret),
        Some((name, _)) if named(name) => (format!("{name}={LEFT_OUT}"), Next::Anything),
        _ if named(word) => (word.to_owned(), Next::Value),
        _ => (word.to_owned(), Next::Anything),
    }
}

/// Characters words are made of, secrets among them.
fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.+/=:$~,".contains(c)
}

fn gather(value: &Value, secret: bool, known: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if secret => {
            known.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|v| gather(v, secret, known)),
        Value::Object(fields) => {
            for (name, value) in fields {
                gather(value, FIELDS.contains(&name.as_str()), known);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(text: &str) -> String {
        let known = ["0123456789abcdef0123456789abcdef".to_owned(), "short".to_owned()].into();
        Redactor { known }.clean(text)
    }

    #[test]
    fn secrets_are_left_out_however_they_stand() {
        for (text, wanted) in [
            ("token lqt_abc-DEF_123 used\n", "token [left out] used\n"),
            ("join=lqj_xyz\n", "join=[left out]\n"),
            ("x $argon2id$v=19$m=1,t=2$c2FsdA$aGFzaA y", "x [left out] y"),
            ("{\"password\":\"hunter2\",\"name\":\"x\"}", "{\"password\":\"[left out]\",\"name\":\"x\"}"),
            ("joined by the join token of the installer", "joined by the join token of the installer"),
            ("BOOT lq.answer=dmVyc2lvbg quiet", "BOOT lq.answer=[left out] quiet"),
            (
                "{\"password\": \"hunter2\", \"name\": \"x\"}",
                "{\"password\": \"[left out]\", \"name\": \"x\"}",
            ),
            ("Authorization: Bearer abc.def.ghi\n", "Authorization: Bearer [left out]\n"),
            ("hash 0123456789abcdef0123456789abcdef.", "hash [left out]."),
            ("a short word stays", "a short word stays"),
            ("password: secret2\nnext", "password: [left out]\nnext"),
        ] {
            assert_eq!(clean(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_left_out_whole() {
        let text = "before\n-----BEGIN PRIVATE KEY-----\nMIGH\nAgEA\n-----END PRIVATE KEY-----\nafter\n";
        let shown = clean(text);
        assert!(shown.starts_with("before\n") && shown.ends_with("after\n"), "{shown}");
        assert!(!shown.contains("MIGH") && !shown.contains("AgEA"), "{shown}");
    }

    #[test]
    fn a_log_of_ours_stays_readable() {
        let line = "2026-01-01T10:00:00Z INFO lq_mgmtd: serving addresses=[[::]:443] host=node1 vm=01890000-0000-7000-8000-000000000001\n";
        assert_eq!(clean(line), line);
    }

    proptest! {
        #[test]
        fn no_known_secret_and_no_token_survives(before in ".{0,40}", after in ".{0,40}", tail in "[A-Za-z0-9_-]{8,40}") {
            let text = format!("{before}0123456789abcdef0123456789abcdef{after} lqt_{tail} {after}");
            let shown = clean(&text);
            prop_assert!(!shown.contains("0123456789abcdef0123456789abcdef"));
            let token = format!("lqt_{tail}");
            prop_assert!(!shown.contains(&token));
        }
    }
}
