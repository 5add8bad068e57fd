//! The page of this host's maintenance: whether it takes machines, what still keeps it from being empty and why, and how far
//! the work is. Pure: what is known of it comes in, keys give what is to be asked for.

use crate::{
    app::{Page, Step, Yes},
    keys::Key,
    menus::Choice,
    remote::{Request, VmRow},
    view::{BAD, GOOD, Line, PLAIN, STRONG, WARN, bar_text, field, wrap},
};
use lq_api::{
    host::HostMaintenance,
    task::{Task, TaskState},
};

/// This host in maintenance, or not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Maintenance {
    /// The host's name.
    pub(crate) name: String,
    /// It is in maintenance.
    pub(crate) on: bool,
    /// There is no other host that machines could move to.
    pub(crate) alone: bool,
    /// Machines of this host that are not at rest.
    pub(crate) machines: Vec<VmRow>,
    /// The newest task that empties this host, running or not.
    pub(crate) task: Option<Task>,
}

impl Maintenance {
    /// The task, while it runs.
    pub(crate) fn running(&self) -> Option<&Task> {
        self.task.as_ref().filter(|t| !t.state.ended())
    }

    /// The keys there are, for the foot of the screen.
    pub(crate) fn foot(&self) -> &'static str {
        match (self.on, self.running()) {
            (_, Some(_)) => "X cancel   E end maintenance   R read again   Esc back",
            (true, None) if self.machines.is_empty() => "E end maintenance   R read again   Esc back",
            (true, None) => "M try again   E end maintenance   R read again   Esc back",
            (false, None) => "M begin maintenance   R read again   Esc back",
        }
    }

    /// What a key asks for.
    pub(crate) fn key(&self, key: Key) -> Step {
        let Key::Char(c) = key else { return Step::Nothing };
        let set = |on, shut_down| Request::SetMaintenance(HostMaintenance { on, shut_down });
        let ask = |question: String, request| {
            Step::Open(Box::new(Page::Confirm { question, yes: Yes::Ask(request) }))
        };
        match (c.to_ascii_lowercase(), self.running()) {
            ('r', _) => Step::Ask(Request::Maintenance),
            ('x', Some(task)) => Step::Ask(Request::CancelTask(task.id)),
            ('m', Some(_)) => Step::Say("It is under way already: X cancels it.".into()),
            ('m', None) if self.on && self.machines.is_empty() => {
                Step::Say("It is in maintenance and empty already.".into())
            }
            ('m', None) if self.machines.is_empty() => ask(
                "Begin maintenance? No machine is placed or started on this host then.".into(),
                set(true, false),
            ),
            ('m', None) if self.alone => ask(
                format!(
                    "This host is alone: its {} machines cannot move. Shut them down and begin maintenance?",
                    self.machines.len()
                ),
                set(true, true),
            ),
            ('m', None) => Step::Open(Box::new(menu(self.machines.len()))),
            ('e', _) if self.on => ask(
                "End maintenance? Machines may be placed and started here again.".into(),
                set(false, false),
            ),
            _ => Step::Nothing,
        }
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.on {
            let text = "in maintenance: no machine is placed or started here";
            field(&mut lines, WARN, "State", text, width, 2);
        } else {
            field(&mut lines, GOOD, "State", "takes machines", width, 1);
        }
        if self.alone {
            let text = "none: machines cannot move, only be shut down";
            field(&mut lines, PLAIN, "Other hosts", text, width, 2);
        }
        if let Some(task) = self.task.as_ref().filter(|t| self.on || !t.state.ended()) {
            let words = task.message.as_deref().unwrap_or_default();
            let (style, text) = match task.state {
                TaskState::Running => {
                    let room = width.saturating_sub(30).min(20);
                    (STRONG, format!("{} {words}", bar_text(task.progress.unwrap_or(0.0), room)))
                }
                TaskState::Succeeded => (GOOD, words.to_owned()),
                TaskState::Failed => (BAD, words.to_owned()),
                TaskState::Cancelled => (WARN, "cancelled".to_owned()),
            };
            field(&mut lines, style, "Emptying", &text, width, 2);
        }
        lines.push((PLAIN, String::new()));
        if self.machines.is_empty() {
            lines.push((PLAIN, "No machine runs on this host.".into()));
            return lines;
        }
        lines.push((PLAIN, format!("Machines that run on this host ({}):", self.machines.len())));
        for vm in &self.machines {
            lines.push((PLAIN, format!("  {:<12}{}", vm.state, vm.name)));
            let target = format!("vm/{}", vm.id);
            let results = self.task.as_ref().map(|t| t.results.as_slice()).unwrap_or_default();
            if let Some(stays) = results.iter().find(|r| r.target == target && !r.done) {
                let why = wrap(&format!("stays: {}", stays.message), width.saturating_sub(14));
                lines.extend(why.into_iter().take(3).map(|l| (WARN, format!("{:14}{l}", ""))));
            }
        }
        lines
    }
}

/// What becomes of the machines.
fn menu(machines: usize) -> Page {
    let with = |shut_down| Choice::Maintain { shut_down };
    let entries = vec![
        ('m', "Move them to other hosts", with(false)),
        ('s', "Move them; shut down those that cannot", with(true)),
    ];
    let title = format!("Begin maintenance: what becomes of the machines that run here ({machines})?");
    Page::Menu { title, entries, at: 0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lq_api::{TaskId, Timestamp, task::TaskResult};

    /// One whose machine could not be moved.
    pub(crate) fn stuck() -> Maintenance {
        let id = "01890000-0000-7000-8000-000000000001".parse().unwrap();
        let reason =
            "no host fits: node2: 4 GiB of memory are free, 8 GiB are needed; node3: is in maintenance";
        Maintenance {
            name: "node1".into(),
            on: true,
            alone: false,
            machines: vec![VmRow { id, name: "web".into(), state: "running".into(), host: None }],
            task: Some(Task {
                id: TaskId(id.0),
                kind: "host.evacuate".into(),
                target: "host/x".into(),
                target_name: None,
                actor: "admin".into(),
                user: None,
                state: TaskState::Failed,
                progress: Some(1.0),
                message: Some("1 of 3 machines stay: see the results".into()),
                migration: None,
                results: vec![TaskResult {
                    target: format!("vm/{id}"),
                    name: "web".into(),
                    done: false,
                    message: reason.into(),
                }],
                created_at: Timestamp::UNIX_EPOCH,
                ended_at: Some(Timestamp::UNIX_EPOCH),
            }),
        }
    }

    /// One that is being emptied.
    pub(crate) fn moving() -> Maintenance {
        let mut page = stuck();
        if let Some(task) = &mut page.task {
            task.state = TaskState::Running;
            task.progress = Some(0.5);
            task.message = Some("2 of 4 machines".into());
            task.results.clear();
        }
        page
    }

    fn confirmed(step: Step) -> Option<Request> {
        match step {
            Step::Open(page) => match *page {
                Page::Confirm { yes: Yes::Ask(request), .. } => Some(request),
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn what_can_be_asked_for_depends_on_how_it_stands() {
        let (stuck, moving) = (stuck(), moving());
        let set = |on, shut_down| Some(Request::SetMaintenance(HostMaintenance { on, shut_down }));
        assert!(matches!(stuck.key(Key::Char('m')), Step::Open(page) if matches!(*page, Page::Menu { .. })));
        assert!(confirmed(stuck.key(Key::Char('e'))) == set(false, false));
        assert!(matches!(stuck.key(Key::Char('x')), Step::Nothing), "nothing runs that could be cancelled");
        let task = moving.task.as_ref().unwrap().id;
        assert!(matches!(moving.key(Key::Char('x')), Step::Ask(Request::CancelTask(id)) if id == task));
        assert!(matches!(moving.key(Key::Char('m')), Step::Say(_)));
        let out = Maintenance { on: false, task: None, ..stuck.clone() };
        assert!(matches!(out.key(Key::Char('e')), Step::Nothing));
        let alone = Maintenance { alone: true, ..out.clone() };
        assert!(confirmed(alone.key(Key::Char('m'))) == set(true, true), "there is nowhere to move to");
        let empty = Maintenance { machines: Vec::new(), ..out };
        assert!(confirmed(empty.key(Key::Char('m'))) == set(true, false));
    }

    #[test]
    fn what_stays_is_told_with_its_reason() {
        let text: Vec<String> = stuck().lines(60).into_iter().map(|(_, l)| l).collect();
        assert!(text.iter().any(|l| l.contains("stays: no host fits")), "{text:?}");
        assert!(text.iter().all(|l| l.len() <= 60), "{text:?}");
    }
}
