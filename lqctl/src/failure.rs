//! From an error to a message and an exit code.

use crate::output::plain_lines;
use lq_api::{client::Error, problem::Kind};
use std::fmt;

/// Wrong usage that the parser of the command line cannot see.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Usage {}

/// A wrong-usage error with this text.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(text.into()))
}

/// There is no credential to use.
#[derive(Debug)]
pub(crate) struct NotLoggedIn;

impl fmt::Display for NotLoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not logged in to any host; run `lqctl login ADDRESS` first")
    }
}
impl std::error::Error for NotLoggedIn {}

/// Says what went wrong; gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> i32 {
    if is_broken_pipe(error) {
        // Whoever read our output has enough of it.
        return 0;
    }
    eprintln!("lqctl: {}", told(error));
    if let Some(hint) = error.chain().find_map(|c| c.downcast_ref::<Error>()).and_then(hint) {
        eprintln!("{hint}");
    }
    code(error)
}

/// What went wrong, in words. Most of them are a host's, which may say whatever it likes.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let client = cause.downcast_ref::<Error>();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&client.map_or_else(|| cause.to_string(), Error::chain));
        if client.is_some() {
            // Its causes are in what it says.
            break;
        }
    }
    plain_lines(&text)
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Fingerprint { .. } => Some(
            "If the host was installed anew, compare the fingerprint with its console and run `lqctl login` again.",
        ),
        _ => None,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|c| {
        c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }) && !error.chain().any(|c| c.is::<Error>())
}

fn code(error: &anyhow::Error) -> i32 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return 2;
        }
        if cause.is::<NotLoggedIn>() {
            return 4;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return match error {
                Error::Address { .. } => 2,
                _ if error.is_transport() => 3,
                _ if error.is(Kind::Unauthenticated) => 4,
                _ => 1,
            };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use lq_api::problem::Problem;

    #[test]
    fn exit_codes() {
        let refused =
            |kind| Err::<(), _>(Error::from(Problem::new(kind, "why"))).context("making it").unwrap_err();
        assert_eq!(code(&refused(Kind::Conflict)), 1);
        assert_eq!(code(&refused(Kind::Unauthenticated)), 4);
        assert_eq!(code(&usage("no")), 2);
        assert_eq!(code(&anyhow::Error::new(NotLoggedIn)), 4);
        let away = Error::Transport { what: "connect to", host: "h".into(), source: "refused".into() };
        assert_eq!(code(&away.into()), 3);
        assert_eq!(code(&Error::NoSuch { kind: "VM", name: "x".into() }.into()), 1);
    }

    #[test]
    fn what_a_host_says_is_shown_and_not_obeyed() {
        let mut problem = Problem::new(Kind::Conflict, "\x1b]0;mine\x07\x1b[2J it is\u{202e} so\u{9b}31m");
        problem.errors = vec![lq_api::problem::FieldError::new("a\x1b[1m", "b\x1bc")];
        let text = told(&Err::<(), _>(Error::from(problem)).context("making it\x07").unwrap_err());
        assert!(text.starts_with("making it : ") && text.contains("]0;mine  [2J it is  so 31m"), "{text:?}");
        assert!(text.contains("\n  a [1m: b c"), "one line for each fault: {text:?}");
        assert!(!text.chars().any(|c| c != '\n' && lq_api::meta::is_unseen(c)), "{text:?}");
    }

    #[test]
    fn a_broken_pipe_to_a_host_is_not_a_closed_pager() {
        let pipe = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&pipe().into()));
        let away = Error::Transport { what: "reach", host: "h".into(), source: Box::new(pipe()) };
        assert!(!is_broken_pipe(&away.into()));
    }
}
