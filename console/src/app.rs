//! What keys do: a stack of pages over the open screen. Pure; what it wants of the host it returns as a [`Request`], and what
//! came of it is given back to [`App::outcome`].
//!
//! ```text
//!  open ──F2──▶ log in ──▶ menu ──▶ machines ──▶ actions ──▶ confirm, console, log of the monitor
//!    │             │         ├────▶ tasks, events, network, name, logs, certificate, password, reset, power
//!    │             │         ├────▶ clock ──▶ time servers
//!    │             │         ├────▶ maintenance ──▶ confirm
//!    │             │         ├────▶ support bundle
//!    │             │         ├────▶ join token ──▶ preview ──▶ confirm ──▶ settling (no session)
//!    │             │         ├────▶ quorum recovery ──▶ confirm ──▶ host's name ──▶ settling (no session)
//!    ├──F12────────┴─────────┴──▶ power ──▶ confirm          Esc: one page back; 10 idle minutes: log out
//!    ├──F3──▶ the administrator's lost password
//!    ├──F2, F3, F12, while there is no password──▶ the first one ──▶ menu, power
//!    └──F4──▶ install (live) ──▶ disk ──▶ form ──▶ progress
//! ```

use crate::{
    clock::Clock,
    install::Progress,
    joining,
    keys::Key,
    logs::LogView,
    maintenance::Maintenance,
    menus::{self, Choice, Form, Wrong, field},
    recovery::Recovery,
    remote::{Outcome, Poll, Polled, Request, VmAction, VmRow},
    settling::Settling,
    support::Support,
};
use lq_api::{
    Timestamp,
    host::HostMaintenance,
    local::install::InstallDisk,
    management::{ManagementNetwork, NetworkTest},
};
use std::{
    mem::discriminant,
    time::{Duration, Instant},
};

/// Idle for so long, and the session ends.
pub(crate) const IDLE: Duration = Duration::from_secs(600);
/// What is followed is read again so often.
const POLL: Duration = Duration::from_secs(1);
/// What takes more than a look at this host is read again less often: the clocks of all hosts, removable drives.
const POLL_SLOWLY: Duration = Duration::from_secs(5);
/// Longest text of a field.
const MAX_FIELD: usize = 256;
/// The user whose password and one-time code the console can set.
pub(crate) const ADMIN: &str = "admin";

/// A line to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) label: &'static str,
    pub(crate) text: String,
    pub(crate) secret: bool,
    /// What it wants, shown while one is in it.
    pub(crate) hint: &'static str,
}

/// What a yes leads to.
#[derive(Clone, PartialEq)]
pub(crate) enum Yes {
    Ask(Request),
    /// There is more to be said first.
    Open(Box<Page>),
}

/// What a key on a page leads to.
pub(crate) enum Step {
    Nothing,
    Ask(Request),
    Open(Box<Page>),
    /// It is not possible, and why.
    Say(String),
}

/// A page.
#[derive(Clone, PartialEq)]
pub(crate) enum Page {
    Form { form: Form, title: String, fields: Vec<Field>, at: usize },
    Menu { title: String, entries: Vec<(char, &'static str, Choice)>, at: usize },
    Vms { rows: Vec<VmRow>, at: usize },
    Lines { title: &'static str, lines: Vec<String>, top: usize },
    Network { state: ManagementNetwork, test: Option<NetworkTest> },
    Clock(Box<Clock>),
    Log(LogView),
    Disks { rows: Vec<InstallDisk>, at: usize },
    Installing(Progress),
    Maintenance { state: Box<Maintenance>, top: usize },
    Token(joining::Entry),
    Joining(Box<joining::Preview>),
    Recovery(Box<Recovery>),
    Settling(Settling),
    Support(Support),
    Confirm { question: String, yes: Yes },
    Qr,
}

/// Everything about the pages.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) pages: Vec<Page>,
    pub(crate) user: Option<String>,
    /// One line at the foot: what happened last. True: it is bad.
    pub(crate) note: Option<(bool, String)>,
    /// The host runs from its installation medium.
    pub(crate) live: bool,
    /// Nobody has set a password on this host yet: the set-up code is on the open screen.
    pub(crate) fresh: bool,
    /// The time by this host's clock.
    pub(crate) now: Timestamp,
    /// Lines of a page that scrolls.
    pub(crate) room: usize,
    power_wanted: bool,
    last_key: Option<Instant>,
    /// When what is followed was last asked for; absent while an answer is waited for.
    polled: Option<Instant>,
    polling: bool,
}

impl App {
    /// A key was pressed.
    pub(crate) fn key(&mut self, key: Key, now: Instant) -> Option<Request> {
        self.last_key = Some(now);
        self.note = None;
        if self.pages.is_empty() {
            return self.open_key(key);
        }
        if let Some(Page::Log(log)) = self.pages.last_mut()
            && log.key(key, self.room)
        {
            return None;
        }
        if key == Key::Esc {
            return self.back();
        }
        match self.pages.last_mut()? {
            Page::Form { fields, at, .. } => edit(fields, at, key).then(|| self.submit()).flatten(),
            Page::Menu { entries, at, .. } => {
                move_in(at, entries.len(), key);
                let chosen = match key {
                    Key::Enter => entries.get(*at),
                    Key::Char(c) => entries.iter().find(|(hot, ..)| *hot == c.to_ascii_lowercase()),
                    _ => None,
                };
                let choice = chosen.map(|(_, _, choice)| choice.clone())?;
                self.choose(choice)
            }
            Page::Vms { rows, at } => {
                move_in(at, rows.len(), key);
                match key {
                    Key::Char('r' | 'R') => return Some(Request::Vms),
                    Key::Enter => {
                        let vm = rows.get(*at)?.clone();
                        self.pages.push(menus::vm_menu(&vm));
                    }
                    _ => {}
                }
                None
            }
            Page::Disks { rows, at } => {
                move_in(at, rows.len(), key);
                let disk = rows.get(*at).filter(|_| key == Key::Enter)?.clone();
                match disk.unfit {
                    Some(why) => self.note = Some((true, format!("{} {why}.", disk.node))),
                    None => self.pages.push(menus::install(&disk.node, &disk.text, !disk.found.is_empty())),
                }
                None
            }
            Page::Lines { lines, top, .. } => {
                move_in(top, lines.len(), key);
                None
            }
            Page::Network { state, .. } if matches!(key, Key::Char('c' | 'C')) => {
                if state.trial.is_some() {
                    self.note = Some((true, "Keep what is being tried, or undo it, first.".into()));
                } else {
                    let form = menus::network(state);
                    self.pages.push(form);
                }
                None
            }
            Page::Network { state, .. } => match key {
                Key::Char('t' | 'T') => Some(Request::TestNetwork),
                Key::Char('k' | 'K') if state.trial.is_some() => Some(Request::KeepNetwork),
                Key::Char('u' | 'U') if state.trial.is_some() => Some(Request::RevertNetwork),
                _ => None,
            },
            Page::Installing(progress) => (progress.ended == Some(true)
                && matches!(key, Key::Char('r' | 'R')))
            .then_some(Request::Restart),
            Page::Maintenance { state, top } => {
                move_in(top, state.machines.len(), key);
                let step = state.key(key);
                self.step(step)
            }
            Page::Clock(clock) => {
                let step = clock.key(key);
                self.step(step)
            }
            Page::Support(support) => {
                let step = support.key(key);
                self.step(step)
            }
            Page::Token(entry) => {
                let step = entry.key(key);
                self.step(step)
            }
            Page::Joining(preview) => {
                let step = preview.key(key);
                self.step(step)
            }
            Page::Recovery(recovery) => {
                let step = recovery.key(key);
                self.step(step)
            }
            Page::Confirm { yes, .. } => {
                let yes = yes.clone();
                match key {
                    Key::Char('y' | 'Y') => {
                        self.pages.pop();
                        match yes {
                            Yes::Ask(request) => return Some(request),
                            Yes::Open(page) => self.pages.push(*page),
                        }
                    }
                    Key::Char('n' | 'N') => {
                        self.pages.pop();
                    }
                    _ => {}
                }
                None
            }
            Page::Log(_) | Page::Settling(_) => None,
            Page::Qr => self.back(),
        }
    }

    /// Keys of the open screen.
    fn open_key(&mut self, key: Key) -> Option<Request> {
        match key {
            Key::F2 | Key::F12 => {
                self.power_wanted = key == Key::F12;
                self.pages.push(if self.fresh { menus::first_password() } else { menus::log_in() });
            }
            // There is none that could be lost.
            Key::F3 if self.fresh => self.pages.push(menus::first_password()),
            Key::F3 => self.pages.push(menus::lost_password()),
            Key::F4 if self.live => return Some(Request::Disks),
            Key::Char('q' | 'Q') => self.pages.push(Page::Qr),
            _ => {}
        }
        None
    }

    fn step(&mut self, step: Step) -> Option<Request> {
        match step {
            Step::Nothing => None,
            Step::Ask(request) => Some(request),
            Step::Open(page) => {
                self.pages.push(*page);
                None
            }
            Step::Say(why) => {
                self.note = Some((true, why));
                None
            }
        }
    }

    fn back(&mut self) -> Option<Request> {
        self.pages.pop();
        (self.pages.is_empty() && self.user.is_some()).then_some(Request::Logout)
    }

    /// Sent, if nothing is wrong with it.
    fn submit(&mut self) -> Option<Request> {
        let Some(Page::Form { form, fields, at, .. }) = self.pages.last_mut() else { return None };
        match menus::submit(form, fields) {
            Ok(request) => Some(request),
            Err(Wrong { field, why }) => {
                *at = field.unwrap_or(*at);
                self.note = Some((true, why));
                None
            }
        }
    }

    fn choose(&mut self, choice: Choice) -> Option<Request> {
        let question =
            |text: &str, request| Page::Confirm { question: text.to_owned(), yes: Yes::Ask(request) };
        let page = match choice {
            Choice::Vms => return Some(Request::Vms),
            Choice::Tasks => return Some(Request::Tasks),
            Choice::Events => return Some(Request::Events),
            Choice::Network => return Some(Request::Network),
            Choice::Log(source) => return Some(Request::Log(source)),
            Choice::Maintenance => return Some(Request::Maintenance),
            Choice::Maintain { shut_down } => {
                return Some(Request::SetMaintenance(HostMaintenance { on: true, shut_down }));
            }
            Choice::Recovery => return Some(Request::Recovery),
            Choice::Support => return Some(Request::Support),
            Choice::Console(id, name) => return Some(Request::Console { id, name }),
            Choice::LogOut => {
                self.pages.clear();
                return Some(Request::Logout);
            }
            Choice::Join => Page::Token(joining::Entry::default()),
            Choice::Power => menus::power_menu(),
            Choice::Logs => menus::log_menu(),
            Choice::Time => return Some(Request::Time),
            Choice::Rename => menus::rename(),
            Choice::Certificate => menus::by_name(Form::Certificate),
            Choice::Reset => menus::reset_menu(),
            Choice::FactoryReset { data } => menus::by_name(Form::FactoryReset { data }),
            Choice::Password => {
                let mut fields = self.own_password();
                fields.extend([menus::new_password(), field("Once more", true)]);
                let title = format!("Another password for {ADMIN}");
                Page::Form { form: Form::Password, title, fields, at: 0 }
            }
            // One's own takes one's password.
            Choice::Totp if self.is_admin() => {
                let title = "Log in without a one-time code from now on".into();
                Page::Form { form: Form::Totp, title, fields: self.own_password(), at: 0 }
            }
            Choice::Totp => question(
                "Remove the one-time code of admin? The password alone will do then.",
                Request::ResetTotp { user: ADMIN.into(), password: None },
            ),
            Choice::Reboot => question("Stop all guests and restart this host?", Request::Reboot),
            Choice::PowerOff => question("Stop all guests and switch this host off?", Request::PowerOff),
            Choice::Vm(id, name, action) => {
                self.pages.pop();
                let what = match action {
                    VmAction::Start => return Some(Request::Vm { id, action }),
                    VmAction::Stop => "Shut down",
                    VmAction::ForceStop => "Unsaved data will be lost. End at once",
                    VmAction::Restart => "Restart the guest of",
                    VmAction::Reset => "Unsaved data will be lost. Reset",
                };
                question(&format!("{what} {name}?"), Request::Vm { id, action })
            }
        };
        self.pages.push(page);
        None
    }

    fn is_admin(&self) -> bool {
        self.user.as_deref() == Some(ADMIN)
    }

    /// Asks for the present password where the account of `admin` is one's own.
    fn own_password(&self) -> Vec<Field> {
        self.is_admin().then(|| field("Present password", true)).into_iter().collect()
    }

    /// Ends the form on top.
    fn pop_form(&mut self) {
        if matches!(self.pages.last(), Some(Page::Form { .. })) {
            self.pages.pop();
        }
    }

    /// Shows a page in place of the last one, where that is of its kind.
    fn renew(&mut self, page: Page) {
        if self.pages.last().is_some_and(|last| discriminant(last) == discriminant(&page)) {
            self.pages.pop();
        }
        self.pages.push(page);
    }

    /// What came of a request.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        if let Outcome::Polled(polled) = outcome {
            self.polling = false;
            return self.polled(polled);
        }
        self.note = None;
        match outcome {
            Outcome::LoggedIn(user) => {
                self.user = Some(user);
                self.pages = vec![menus::main_menu()];
                if std::mem::take(&mut self.power_wanted) {
                    self.pages.push(menus::power_menu());
                }
            }
            Outcome::CodeNeeded => {
                if let Some(Page::Form { form: Form::LogIn, fields, at, .. }) = self.pages.last_mut() {
                    fields.truncate(2);
                    fields.push(field("One-time code", false));
                    *at = 2;
                }
            }
            Outcome::Vms(rows) => {
                if let Some(Page::Vms { rows: old, at }) = self.pages.last_mut() {
                    *at = (*at).min(rows.len().saturating_sub(1));
                    *old = rows;
                } else {
                    self.pages.push(Page::Vms { rows, at: 0 });
                }
            }
            Outcome::Lines(title, lines) => self.pages.push(Page::Lines { title, lines, top: 0 }),
            Outcome::Network(state, test) => {
                self.pop_form();
                self.renew(Page::Network { state: *state, test });
            }
            Outcome::Log(source, lines) => self.pages.push(Page::Log(LogView::new(source, lines))),
            Outcome::Disks(rows) => {
                // On the first that can be chosen: the medium itself is often the first of all.
                let at = rows.iter().position(|disk| disk.unfit.is_none()).unwrap_or(0);
                self.pages.push(Page::Disks { rows, at });
            }
            Outcome::Maintenance(state) => {
                // The menu that led to it goes too.
                let at = self.pages.iter().position(|p| matches!(p, Page::Maintenance { .. }));
                self.pages.truncate(at.unwrap_or(self.pages.len()));
                self.pages.push(Page::Maintenance { state, top: 0 });
            }
            Outcome::Clock(clock) => {
                self.pop_form();
                self.renew(Page::Clock(clock));
            }
            Outcome::Support(support) => self.renew(Page::Support(support)),
            Outcome::JoinPreview(preview) => self.pages.push(Page::Joining(preview)),
            Outcome::Recovery(recovery) => {
                let at = self.pages.iter().position(|p| matches!(p, Page::Recovery(_)));
                self.pages.truncate(at.unwrap_or(self.pages.len()));
                self.pages.push(Page::Recovery(recovery));
            }
            Outcome::Settling(settling) => {
                // The session ended with the daemon.
                self.user = None;
                self.pages = vec![Page::Settling(*settling)];
            }
            Outcome::Installing => self.pages = vec![Page::Installing(Progress::default())],
            Outcome::Console { .. } | Outcome::Polled(_) => {}
            Outcome::Done(text) => {
                self.pop_form();
                self.note = Some((false, text));
            }
            Outcome::Failed(text) => {
                if let Some(Page::Form { form: Form::LogIn, fields, at, .. }) = self.pages.last_mut() {
                    // Typed anew, so that nobody finds it; the name stays.
                    fields.truncate(2);
                    if let Some(password) = fields.get_mut(1) {
                        password.text.clear();
                    }
                    *at = 1;
                }
                self.note = Some((true, text));
            }
            Outcome::LoggedOut => {
                self.pages.clear();
                let was = self.user.take().is_some();
                self.note = was.then(|| (false, "Logged out.".into()));
            }
        }
    }

    /// What is followed was read again. It may be of a page that is not there any more.
    fn polled(&mut self, polled: Polled) {
        match (self.pages.last_mut(), polled) {
            (Some(Page::Network { state, test }), Polled::Network(now)) => {
                let ended = state.trial.is_some() && now.trial.is_none();
                *state = *now;
                if ended {
                    // It was of other settings.
                    *test = None;
                }
                if let Some(note) = state.note.clone().filter(|_| ended) {
                    self.note = Some((true, note));
                }
            }
            (Some(Page::Clock(clock)), Polled::Clock(now)) => *clock = now,
            (Some(Page::Support(support)), Polled::Support(drives)) => support.again(drives),
            (Some(Page::Log(log)), Polled::Log(source, lines)) if log.source == source => log.again(lines),
            (Some(Page::Installing(progress)), Polled::Install(now)) => *progress = now,
            (Some(Page::Maintenance { state, .. }), Polled::Maintenance(now)) => *state = now,
            (Some(Page::Settling(settling)), Polled::Settling(step, ended)) => {
                settling.step = step;
                settling.ended = ended;
            }
            _ => {}
        }
    }

    /// Nothing is open over the open screen.
    pub(crate) fn at_rest(&self) -> bool {
        self.pages.is_empty()
    }

    /// Called now and then: what time asks for.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Request> {
        let idle = self.last_key.is_some_and(|at| now.saturating_duration_since(at) >= IDLE);
        let installing = matches!(self.pages.last(), Some(Page::Installing(p)) if p.ended.is_none());
        if idle && !self.pages.is_empty() && !installing {
            self.pages.clear();
            self.last_key = None;
            return self.user.is_some().then_some(Request::Logout);
        }
        let slowly = matches!(self.pages.last(), Some(Page::Clock(_) | Page::Support(_)));
        let pause = if slowly { POLL_SLOWLY } else { POLL };
        if self.polling || self.polled.is_some_and(|at| now.saturating_duration_since(at) < pause) {
            return None;
        }
        let poll = match self.pages.last()? {
            Page::Network { state, .. } if state.trial.is_some() => Poll::Network,
            Page::Clock(_) => Poll::Clock,
            Page::Support(_) => Poll::Support,
            Page::Log(log) if log.follow => Poll::Log(log.source.clone()),
            Page::Installing(progress) if progress.ended.is_none() => Poll::Install,
            Page::Maintenance { state, .. } if state.running().is_some() => Poll::Maintenance,
            Page::Settling(settling) if !settling.ended => Poll::Settling(settling.aim.clone()),
            _ => return None,
        };
        self.polled = Some(now);
        self.polling = true;
        Some(Request::Poll(poll))
    }

    /// A machine's console was left.
    pub(crate) fn came_back(&mut self, why: Option<String>, now: Instant) {
        self.note = why.map(|why| (true, why));
        self.last_key = Some(now);
    }

    /// Nobody typed anything at a machine's console for so long.
    pub(crate) fn time_over(&mut self) -> Request {
        self.pages.clear();
        Request::Logout
    }
}

fn move_in(at: &mut usize, len: usize, key: Key) {
    const LEAP: usize = 18;
    let last = len.saturating_sub(1);
    match key {
        Key::Up => *at = at.saturating_sub(1),
        Key::Down => *at = (*at + 1).min(last),
        Key::PageUp => *at = at.saturating_sub(LEAP),
        Key::PageDown => *at = (*at + LEAP).min(last),
        Key::Home => *at = 0,
        Key::End => *at = last,
        _ => {}
    }
}

/// Types into a form; true when it is to be sent.
fn edit(fields: &mut [Field], at: &mut usize, key: Key) -> bool {
    let last = fields.len().saturating_sub(1);
    match key {
        Key::Enter if *at == last => return true,
        Key::Tab | Key::Enter => *at = if *at == last { 0 } else { *at + 1 },
        Key::Up | Key::Down => move_in(at, fields.len(), key),
        Key::Erase => {
            if let Some(field) = fields.get_mut(*at) {
                field.text.clear();
            }
        }
        Key::Backspace => {
            if let Some(field) = fields.get_mut(*at) {
                field.text.pop();
            }
        }
        Key::Char(c) => {
            if let Some(field) = fields.get_mut(*at).filter(|f| f.text.len() < MAX_FIELD) {
                field.text.push(c);
            }
        }
        _ => {}
    }
    false
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
