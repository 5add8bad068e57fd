//! The pages that lead a host into a cluster: its join token as it is typed or pasted, and what joining would do. Pure.
//!
//! A token has some 300 letters. It is checked as it is typed, blanks and line breaks do not count, and what is wrong is marked.

use crate::{
    app::{Page, Step, Yes},
    keys::Key,
    remote::Request,
    view::{BAD, GOOD, Line, PLAIN, STRONG, WARN, field, wrap},
};
use lq_api::{
    cluster::JoinPreview,
    join_token::{MAX_TEXT, Part, TokenFault, TokenText, Typed, typed},
};

/// Letters of a token in a line.
const LINE: usize = 60;

/// A join token being typed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    text: String,
}

impl Entry {
    /// What a key does.
    pub(crate) fn key(&mut self, key: Key) -> Step {
        match key {
            Key::Char(c) if !c.is_whitespace() && self.text.len() < MAX_TEXT => self.text.push(c),
            Key::Backspace => {
                self.text.pop();
            }
            Key::Erase => self.text.clear(),
            Key::Enter => return self.enter(),
            _ => {}
        }
        Step::Nothing
    }

    fn enter(&self) -> Step {
        match TokenText::parse(&self.text) {
            Ok(_) => Step::Ask(Request::PreviewJoin { token: self.text.clone() }),
            // A line break in the middle of what is pasted: the rest follows.
            Err(TokenFault::Short(part)) => Step::Say(format!("The token goes on: it ends in the {part}.")),
            Err(fault) => Step::Say(format!("This is not the token: {fault}.")),
        }
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let seen = typed(&self.text);
        let mut lines = Vec::new();
        let bad = match &seen.state {
            Err(TokenFault::At { at, .. }) => Some(*at - 1),
            _ => None,
        };
        let line = LINE.min(width.saturating_sub(6)).max(1);
        let letters: Vec<char> = self.text.chars().collect();
        // The end is what is being typed.
        let rows: Vec<_> = letters.chunks(line).enumerate().collect();
        for (n, row) in rows.iter().skip(rows.len().saturating_sub(8)) {
            let row: String = row.iter().collect();
            let typing = if *n + 1 == rows.len() && row.len() < line { "_" } else { "" };
            lines.push((PLAIN, format!("{:>4}  {row}{typing}", n * line + 1)));
            if let Some(bad) = bad.filter(|b| b / line == *n) {
                lines.push((BAD, format!("{:6}{:column$}^", "", "", column = bad % line)));
            }
        }
        if letters.is_empty() {
            lines.push((PLAIN, "   1  _".into()));
        }
        lines.push((PLAIN, String::new()));
        lines.extend(self.parts(&seen, width));
        lines
    }

    fn parts(&self, seen: &Typed, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let wrong = match &seen.state {
            Err(TokenFault::At { part, .. } | TokenFault::Check(part)) => Some(*part),
            _ => None,
        };
        for part in Part::ALL {
            let (style, word) = match () {
                () if wrong == Some(part) => (BAD, "WRONG"),
                () if self.text.is_empty() || part > seen.part => (PLAIN, "-"),
                () if part == seen.part && seen.state != Ok(true) => (STRONG, "..."),
                () => (GOOD, "good"),
            };
            let what = if part == Part::Addresses { seen.addresses.join(", ") } else { String::new() };
            let text = format!("{:<24}{word:<7}{what}", part.text());
            lines.push((style, text.chars().take(width).collect()));
        }
        lines.push((PLAIN, String::new()));
        let (style, text) = match &seen.state {
            Ok(true) => (GOOD, "The token is whole: Enter looks at what joining would do.".to_owned()),
            Ok(false) => (PLAIN, "Type or paste it; blanks and line breaks do not count.".to_owned()),
            Err(fault) => (BAD, format!("Look again: {fault}.")),
        };
        lines.extend(wrap(&text, width).into_iter().map(|l| (style, l)));
        lines
    }
}

/// What joining would do.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    pub(crate) token: String,
    pub(crate) preview: JoinPreview,
}

impl std::fmt::Debug for Preview {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.preview.fmt(f)
    }
}

impl Preview {
    /// What a key does.
    pub(crate) fn key(&self, key: Key) -> Step {
        if !matches!(key, Key::Char('j' | 'J')) {
            return Step::Nothing;
        }
        let renamed = self.preview.renamings.iter().filter(|r| r.needs_consent).count();
        let names = match renamed {
            0 => String::new(),
            n => format!(" Names that people gave change, as the page says ({n})."),
        };
        let question = format!(
            "Join? The users, passwords and API tokens of this host end; those of the cluster hold.{names} Machines that run go \
             on running."
        );
        // What was shown is agreed to.
        let request = Request::Join { token: self.token.clone(), rename: renamed > 0 };
        Step::Open(Box::new(Page::Confirm { question, yes: Yes::Ask(request) }))
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let preview = &self.preview;
        let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        field(&mut lines, PLAIN, "Cluster", &preview.cluster.to_string(), width, 1);
        field(&mut lines, PLAIN, "Its hosts", &names(&preview.hosts), width, 4);
        field(&mut lines, PLAIN, "Come along", &format!("machines: {}", names(&preview.machines)), width, 4);
        lines.push((PLAIN, String::new()));
        if preview.renamings.is_empty() && preview.left_out.is_empty() {
            lines.push((GOOD, "Nothing is in conflict: every name stays.".into()));
        }
        for (n, renaming) in preview.renamings.iter().enumerate() {
            let style = if renaming.needs_consent { WARN } else { PLAIN };
            let text = format!("{} `{}` becomes `{}`", renaming.kind, renaming.from, renaming.to);
            field(&mut lines, style, if n == 0 { "New names" } else { "" }, &text, width, 2);
        }
        for (n, network) in preview.left_out.iter().enumerate() {
            let text = format!("network `{network}`, which nothing uses: the cluster's takes its place");
            field(&mut lines, PLAIN, if n == 0 { "Left out" } else { "" }, &text, width, 2);
        }
        lines
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lq_api::cluster::Renaming;
    use uuid::Uuid;

    pub(crate) fn token() -> String {
        let addresses = vec!["192.0.2.1:7443".into(), "192.0.2.2:7443".into()];
        TokenText::new(Uuid::from_u128(7), addresses, "0a".repeat(32), "s".repeat(43)).text().unwrap()
    }

    pub(crate) fn preview() -> Preview {
        let renaming = |kind: &str, from: &str, needs_consent| Renaming {
            kind: kind.into(),
            id: Uuid::nil(),
            from: from.into(),
            to: format!("{from}-2"),
            needs_consent,
        };
        let preview = JoinPreview {
            cluster: Uuid::from_u128(7),
            hosts: vec!["node1".into(), "node2".into()],
            renamings: vec![renaming("vm", "web", true), renaming("pool", "local", false)],
            left_out: vec!["default".into()],
            machines: vec!["web".into()],
        };
        Preview { token: token(), preview }
    }

    pub(crate) fn entry(text: &str) -> Entry {
        Entry { text: text.into() }
    }

    #[test]
    fn a_slip_is_marked_where_it_is() {
        let mut wrong = token();
        wrong.replace_range(20..21, "!");
        let lines = entry(&wrong[..30]).lines(76);
        assert!(lines.iter().any(|(style, l)| *style == BAD && l == &format!("{:26}^", "")), "{lines:?}");
        assert!(matches!(entry(&wrong).key(Key::Enter), Step::Say(why) if why.contains("character 21")));
    }

    #[test]
    fn a_pasted_token_may_have_line_breaks() {
        let text = token();
        let mut entry = Entry::default();
        for part in text.as_bytes().chunks(50) {
            for c in part {
                entry.key(Key::Char(char::from(*c)));
            }
            if let Step::Ask(request) = entry.key(Key::Enter) {
                assert!(request == Request::PreviewJoin { token: text });
                return;
            }
        }
        panic!("the whole token was not taken");
    }

    #[test]
    fn new_names_are_agreed_to_by_joining() {
        let Step::Open(page) = preview().key(Key::Char('j')) else { panic!("it asks nothing") };
        let Page::Confirm { question, yes: Yes::Ask(Request::Join { rename: true, .. }) } = *page else {
            panic!("it does not join")
        };
        assert!(question.contains("the page says (1)"), "{question}");
    }
}
