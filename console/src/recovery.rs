//! The page that leads through forming the cluster anew when its majority is gone: what is lost, who is silent, who knows more
//! than this host, where its own log ends. Pure. Nothing is sent before what it means was answered with yes and the host's name
//! was typed; the daemon checks all of it once more.

use crate::{
    app::{Page, Step, Yes},
    keys::Key,
    menus::{self, Form},
    remote::Request,
    view::{BAD, GOOD, Line, PLAIN, STRONG, WARN, field, wrap},
};
use lq_api::{
    HostId, Timestamp,
    cluster::Cluster,
    recovery::{ReformFate, ReformHost, ReformPreview},
};
use std::collections::BTreeSet;

/// What there is to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// As this host sees it.
    pub(crate) cluster: Cluster,
    /// What forming it anew would mean.
    pub(crate) preview: ReformPreview,
    /// Hosts that answer and whose newer changes are given up.
    pub(crate) given_up: BTreeSet<HostId>,
    /// The host that is chosen.
    pub(crate) at: usize,
}

/// A time, to the second.
fn seconds(at: Timestamp) -> String {
    at.strftime("%F %T").to_string()
}

impl Recovery {
    pub(crate) fn new(cluster: Cluster, preview: ReformPreview) -> Self {
        Self { cluster, preview, given_up: BTreeSet::new(), at: 0 }
    }

    /// The keys there are, for the foot of the screen.
    pub(crate) fn foot(&self) -> &'static str {
        if self.preview.obstacles.is_empty() {
            "F form anew   G give up newer   R read again   Esc back"
        } else {
            "R read again   Esc back"
        }
    }

    /// The hosts that are lost by it.
    fn lost(&self) -> Vec<&ReformHost> {
        let lost = |h: &&ReformHost| h.fate == ReformFate::Silent || self.given_up.contains(&h.host);
        self.preview.hosts.iter().filter(lost).collect()
    }

    /// What a key asks for.
    pub(crate) fn key(&mut self, key: Key) -> Step {
        let last = self.preview.hosts.len().saturating_sub(1);
        match key {
            Key::Up => self.at = self.at.saturating_sub(1),
            Key::Down => self.at = (self.at + 1).min(last),
            Key::Char('r' | 'R') => return Step::Ask(Request::Recovery),
            Key::Char('g' | 'G' | ' ') => match self.preview.hosts.get(self.at) {
                Some(host) if host.fate == ReformFate::Newer => {
                    let given_up = std::mem::take(&mut self.given_up);
                    self.given_up = &given_up ^ &BTreeSet::from([host.host]);
                }
                Some(host) => {
                    let why = format!("{} has no newer changes: there is nothing to give up.", host.name);
                    return Step::Say(why);
                }
                None => {}
            },
            Key::Char('f' | 'F') => return self.form(),
            _ => {}
        }
        Step::Nothing
    }

    /// The way to it: first what it means, then the host's name.
    fn form(&self) -> Step {
        if let Some(why) = self.preview.obstacles.first() {
            return Step::Say(format!("It cannot be done: {why}."));
        }
        let newer = |h: &&ReformHost| h.fate == ReformFate::Newer && !self.given_up.contains(&h.host);
        if let Some(host) = self.preview.hosts.iter().find(newer) {
            return Step::Say(format!(
                "{} answers and has newer changes: do it there, or choose it and press G to give them up.",
                host.name
            ));
        }
        let lost = self.lost();
        let names: Vec<&str> = lost.iter().map(|h| h.name.as_str()).collect();
        let without =
            if names.is_empty() { String::new() } else { format!(", without {}", names.join(", ")) };
        let question = format!(
            "The cluster goes on as epoch {} from {} alone{without}. Hosts that are lost are refused until they join again, and \
             their machines wait for them. Do it only where they are off or gone for good: two halves that both take changes \
             cannot be put together again. Go on?",
            self.preview.epoch, self.preview.confirm
        );
        let form = Form::Reform {
            name: self.preview.confirm.clone(),
            epoch: self.preview.epoch,
            lost: lost.iter().map(|h| h.host).collect(),
        };
        Step::Open(Box::new(Page::Confirm { question, yes: Yes::Open(Box::new(menus::by_name(form))) }))
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let (cluster, preview) = (&self.cluster, &self.preview);
        if !preview.obstacles.is_empty() {
            for obstacle in &preview.obstacles {
                field(&mut lines, WARN, "Not now", &format!("{obstacle}."), width, 4);
            }
            lines.push((PLAIN, String::new()));
        }
        if let Some(lost) = &cluster.lost {
            let since = lost.since.map_or_else(|| "not known".into(), seconds);
            field(&mut lines, BAD, "No majority", &format!("since {since} (UTC)"), width, 1);
        }
        let own = format!("epoch {}, change {} is its last", cluster.epoch, cluster.revision);
        let own = if preview.last_index > cluster.revision {
            format!("{own} ({} written)", preview.last_index)
        } else {
            own
        };
        field(&mut lines, PLAIN, "This host", &own, width, 2);
        for (n, host) in preview.hosts.iter().enumerate() {
            let (style, fate) = self.fate(host);
            let mark = if n == self.at { '>' } else { ' ' };
            let name: String = host.name.chars().take(16).collect();
            let text = wrap(&fate, width.saturating_sub(19));
            for (m, part) in text.into_iter().take(3).enumerate() {
                let (mark, name) = if m == 0 { (mark, name.as_str()) } else { (' ', "") };
                lines.push((style, format!("{mark} {name:<17}{part}")));
            }
            if !host.machines.is_empty() && matches!(style, WARN | BAD) {
                let what = format!("its machines wait: {}", host.machines.join(" "));
                let what = wrap(&what, width.saturating_sub(19));
                lines.extend(what.into_iter().take(2).map(|part| (PLAIN, format!("{:19}{part}", ""))));
            }
        }
        if let Some(lost) = &cluster.lost {
            lines.push((PLAIN, String::new()));
            for text in lost.means.iter().chain([&lost.remedy]) {
                lines.extend(wrap(text, width).into_iter().map(|l| (PLAIN, l)));
            }
        }
        lines
    }

    fn fate(&self, host: &ReformHost) -> (ratatui::style::Style, String) {
        let heard = host.last_heard.map_or_else(
            || "not heard since this host's daemon began".into(),
            |at| format!("last heard {} (UTC)", seconds(at)),
        );
        let ends = host.last_index.unwrap_or_default();
        match host.fate {
            ReformFate::Follows => (GOOD, format!("answers (change {ends}) and comes along by itself")),
            ReformFate::Newer if self.given_up.contains(&host.host) => {
                (BAD, format!("answers; its newer changes, up to {ends}, are GIVEN UP"))
            }
            ReformFate::Newer => {
                (STRONG, format!("answers and has NEWER changes, up to {ends}: form the cluster anew there"))
            }
            ReformFate::Silent => (WARN, format!("SILENT: {heard}; is lost by it")),
            ReformFate::Lost => (PLAIN, "was named as lost before".into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lq_api::recovery::{MissingHost, QuorumLoss};
    use uuid::Uuid;

    /// Two of three voters are gone, a fourth host has more.
    pub(crate) fn lost() -> Recovery {
        let id = |n: u128| HostId(Uuid::from_u128(n));
        let at = Some("2026-01-02T10:00:00Z".parse().unwrap());
        let host = |n: u128, fate, machines: &[&str]| ReformHost {
            host: id(n),
            name: format!("node{n}"),
            fate,
            last_heard: at.filter(|_| n != 3),
            last_index: (fate == ReformFate::Newer).then_some(1240),
            machines: machines.iter().map(|m| (*m).to_owned()).collect(),
        };
        let preview = ReformPreview {
            epoch: 2,
            confirm: "node1".into(),
            last_index: 1234,
            obstacles: Vec::new(),
            hosts: vec![
                host(2, ReformFate::Silent, &["web", "db"]),
                host(3, ReformFate::Silent, &[]),
                host(4, ReformFate::Newer, &["mail"]),
            ],
        };
        let cluster = Cluster {
            id: Uuid::nil(),
            this_host: id(1),
            leader: None,
            term: 3,
            voters: vec![id(1), id(2), id(3)],
            revision: 1230,
            quorum: false,
            epoch: 1,
            formed: None,
            lost: Some(QuorumLoss {
                since: at,
                missing: vec![MissingHost { host: id(2), name: "node2".into(), last_heard: at, voter: true }],
                means: vec!["machines that run go on running".into(), "nothing can be changed".into()],
                remedy: "bring back enough of the voting hosts".into(),
            }),
            outdated: None,
            warnings: Vec::new(),
            members: Vec::new(),
        };
        Recovery::new(cluster, preview)
    }

    fn said(step: Step) -> String {
        if let Step::Say(why) = step { why } else { panic!("it says nothing") }
    }

    #[test]
    fn nobody_with_newer_changes_is_passed_over_silently() {
        let mut page = lost();
        assert!(said(page.key(Key::Char('f'))).contains("node4 answers and has newer changes"));
        assert!(said(page.key(Key::Char('g'))).contains("node2 has no newer"));
        page.key(Key::Down);
        page.key(Key::Down);
        page.key(Key::Down);
        page.key(Key::Char('g'));
        let Step::Open(confirm) = page.key(Key::Char('f')) else { panic!("not asked") };
        let Page::Confirm { question, yes: Yes::Open(form) } = *confirm else {
            panic!("not confirmed first")
        };
        assert!(
            question.contains("without node2, node3, node4") && question.contains("epoch 2"),
            "{question}"
        );
        let Page::Form { form: Form::Reform { name, epoch: 2, lost }, .. } = *form else { panic!("no form") };
        assert_eq!((name.as_str(), lost.len()), ("node1", 3));
        page.key(Key::Char('g'));
        assert!(page.given_up.is_empty(), "and back again");
    }

    #[test]
    fn with_a_majority_nothing_is_offered() {
        let mut page = lost();
        page.preview.obstacles = vec!["a majority of the voters is reached".into()];
        assert!(said(page.key(Key::Char('f'))).contains("majority"));
        assert!(!page.foot().contains("anew"));
    }
}
