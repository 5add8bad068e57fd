//! What keys do: a stack of pages over the open screen. Pure; what it wants of the host it returns as a [`Request`], and what
//! came of it is given back to [`App::outcome`].
//!
//! ```text
//!  open ──F2──▶ log in ──▶ menu ──▶ machines ──▶ actions ──▶ confirm
//!    │             │         ├────▶ tasks, events, password, one-time code, power
//!    └──F12────────┴─────────┴──▶ power ──▶ confirm          Esc: one page back; 10 idle minutes: log out
//! ```

use crate::{
    keys::Key,
    remote::{Outcome, Request, VmAction, VmRow},
};
use lq_api::{VmId, auth};
use std::time::{Duration, Instant};

/// Idle for so long, and the session ends.
pub(crate) const IDLE: Duration = Duration::from_secs(600);
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
}

/// What a form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    LogIn,
    Password,
    Totp,
}

/// What an entry of a menu does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Vms,
    Tasks,
    Events,
    Password,
    Totp,
    Power,
    Reboot,
    PowerOff,
    Vm(VmId, String, VmAction),
    LogOut,
}

/// A page.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Form { form: Form, fields: Vec<Field>, at: usize },
    Menu { title: String, entries: Vec<(char, &'static str, Choice)>, at: usize },
    Vms { rows: Vec<VmRow>, at: usize },
    Lines { title: &'static str, lines: Vec<String>, top: usize },
    Confirm { question: String, request: Request },
    Qr,
}

/// Everything about the pages.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) pages: Vec<Page>,
    pub(crate) user: Option<String>,
    /// One line at the foot: what happened last. True: it is bad.
    pub(crate) note: Option<(bool, String)>,
    power_wanted: bool,
    last_key: Option<Instant>,
}

impl App {
    /// A key was pressed.
    pub(crate) fn key(&mut self, key: Key, now: Instant) -> Option<Request> {
        self.last_key = Some(now);
        self.note = None;
        let Some(page) = self.pages.last_mut() else {
            match key {
                Key::F2 | Key::F12 => {
                    self.power_wanted = key == Key::F12;
                    self.pages.push(log_in());
                }
                Key::Char('q' | 'Q') => self.pages.push(Page::Qr),
                _ => {}
            }
            return None;
        };
        if key == Key::Esc {
            return self.back();
        }
        match page {
            Page::Form { form, fields, at } => {
                let form = *form;
                edit(fields, at, key).then(|| self.submit(form)).flatten()
            }
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
                        self.pages.push(vm_menu(&vm));
                    }
                    _ => {}
                }
                None
            }
            Page::Lines { lines, top, .. } => {
                move_in(top, lines.len(), key);
                None
            }
            Page::Confirm { request, .. } => {
                let request = request.clone();
                if matches!(key, Key::Char('y' | 'Y')) {
                    self.pages.pop();
                    return Some(request);
                }
                if matches!(key, Key::Char('n' | 'N')) {
                    self.pages.pop();
                }
                None
            }
            Page::Qr => self.back(),
        }
    }

    fn back(&mut self) -> Option<Request> {
        self.pages.pop();
        (self.pages.is_empty() && self.user.is_some()).then_some(Request::Logout)
    }

    fn choose(&mut self, choice: Choice) -> Option<Request> {
        let question = |text: &str, request| Page::Confirm { question: text.to_owned(), request };
        let page = match choice {
            Choice::Vms => return Some(Request::Vms),
            Choice::Tasks => return Some(Request::Tasks),
            Choice::Events => return Some(Request::Events),
            Choice::LogOut => {
                self.pages.clear();
                return Some(Request::Logout);
            }
            Choice::Power => power_menu(),
            Choice::Password => {
                let mut fields = self.own_password();
                fields.extend([field("New password", true), field("Once more", true)]);
                Page::Form { form: Form::Password, fields, at: 0 }
            }
            // One's own takes one's password.
            Choice::Totp if self.is_admin() => {
                Page::Form { form: Form::Totp, fields: self.own_password(), at: 0 }
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

    fn submit(&mut self, form: Form) -> Option<Request> {
        let Some(Page::Form { fields, .. }) = self.pages.last() else { return None };
        let text = |n: usize| fields.get(n).map(|f| f.text.clone()).unwrap_or_default();
        // The new password and its repetition come last.
        let first = fields.len().saturating_sub(2);
        match form {
            Form::LogIn => {
                let code = fields.get(2).map(|f| f.text.trim().to_owned());
                Some(Request::Login { user: text(0), password: text(1), code })
            }
            Form::Totp => Some(Request::ResetTotp { user: ADMIN.into(), password: Some(text(0)) }),
            Form::Password if text(first) != text(first + 1) => {
                self.note = Some((true, "The two are not the same.".into()));
                None
            }
            Form::Password if text(first).chars().count() < auth::MIN_PASSWORD => {
                self.note = Some((true, format!("At least {} characters are needed.", auth::MIN_PASSWORD)));
                None
            }
            Form::Password => Some(Request::SetPassword {
                user: ADMIN.into(),
                old: (first > 0).then(|| text(0)),
                password: text(first),
            }),
        }
    }

    /// What came of a request.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.note = None;
        match outcome {
            Outcome::LoggedIn(user) => {
                self.user = Some(user);
                self.pages = vec![main_menu()];
                if std::mem::take(&mut self.power_wanted) {
                    self.pages.push(power_menu());
                }
            }
            Outcome::CodeNeeded => {
                if let Some(Page::Form { form: Form::LogIn, fields, at }) = self.pages.last_mut() {
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
            Outcome::Done(text) => {
                if matches!(self.pages.last(), Some(Page::Form { .. })) {
                    self.pages.pop();
                }
                self.note = Some((false, text));
            }
            Outcome::Failed(text) => {
                if let Some(Page::Form { form: Form::LogIn, fields, at }) = self.pages.last_mut() {
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

    /// Called now and then: what time asks for.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Request> {
        let idle = self.last_key.is_some_and(|at| now.saturating_duration_since(at) >= IDLE);
        if idle && !self.pages.is_empty() {
            self.pages.clear();
            self.last_key = None;
            return self.user.is_some().then_some(Request::Logout);
        }
        None
    }
}

fn field(label: &'static str, secret: bool) -> Field {
    Field { label, text: String::new(), secret }
}

fn log_in() -> Page {
    let user = Field { label: "User", text: ADMIN.into(), secret: false };
    Page::Form { form: Form::LogIn, fields: vec![user, field("Password", true)], at: 1 }
}

fn main_menu() -> Page {
    let entries = vec![
        ('v', "Virtual machines", Choice::Vms),
        ('t', "Tasks", Choice::Tasks),
        ('e', "Events", Choice::Events),
        ('a', "Admin password", Choice::Password),
        ('o', "One-time code of admin: remove", Choice::Totp),
        ('p', "Power: restart, switch off", Choice::Power),
        ('l', "Log out", Choice::LogOut),
    ];
    Page::Menu { title: "This host".into(), entries, at: 0 }
}

fn power_menu() -> Page {
    let entries = vec![('r', "Restart", Choice::Reboot), ('s', "Switch off", Choice::PowerOff)];
    Page::Menu { title: "Power of this host".into(), entries, at: 0 }
}

fn vm_menu(vm: &VmRow) -> Page {
    let entry = |hot, text, action| (hot, text, Choice::Vm(vm.id, vm.name.clone(), action));
    let entries = vec![
        entry('s', "Start", VmAction::Start),
        entry('d', "Shut down", VmAction::Stop),
        entry('f', "Force stop", VmAction::ForceStop),
        entry('r', "Reset", VmAction::Reset),
    ];
    Page::Menu { title: format!("{} ({})", vm.name, vm.state), entries, at: 0 }
}

fn move_in(at: &mut usize, len: usize, key: Key) {
    match key {
        Key::Up => *at = at.saturating_sub(1),
        Key::Down if *at + 1 < len => *at += 1,
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
