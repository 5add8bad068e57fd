use super::*;

fn keys(app: &mut App, text: &str) -> Option<Request> {
    text.chars().fold(None, |_, c| {
        let key = match c {
            '\n' => Key::Enter,
            '\x1b' => Key::Esc,
            'D' => Key::Down,
            c => Key::Char(c),
        };
        app.key(key, Instant::now())
    })
}

fn logged_in() -> App {
    let mut app = App::default();
    app.key(Key::F2, Instant::now());
    app.outcome(Outcome::LoggedIn(ADMIN.into()));
    app
}

fn row(name: &str) -> VmRow {
    let id = "01890000-0000-7000-8000-000000000001".parse().unwrap();
    VmRow { id, name: name.into(), state: "running".into() }
}

#[test]
fn nothing_but_the_login_opens_without_a_session() {
    let mut app = App::default();
    assert!(keys(&mut app, "vtep\n").is_none() && app.pages.is_empty());
    app.key(Key::F12, Instant::now());
    assert!(matches!(app.pages.as_slice(), [Page::Form { form: Form::LogIn, .. }]));
    let sent = keys(&mut app, "secret\n");
    assert!(
        sent == Some(Request::Login { user: ADMIN.into(), password: "secret".into(), code: None }),
        "the login is sent"
    );
    app.outcome(Outcome::Failed("wrong".into()));
    assert!(matches!(app.pages.last(), Some(Page::Form { fields, at: 1, .. }) if fields[1].text.is_empty()));
    assert_eq!(app.note, Some((true, "wrong".into())));
    // F12 leads to the power page once it worked.
    app.outcome(Outcome::LoggedIn(ADMIN.into()));
    assert!(matches!(app.pages.last(), Some(Page::Menu { title, .. }) if title.starts_with("Power")));
}

#[test]
fn a_one_time_code_is_asked_for_when_it_is_needed() {
    let mut app = App::default();
    app.key(Key::F2, Instant::now());
    keys(&mut app, "pw\n");
    app.outcome(Outcome::CodeNeeded);
    let sent = keys(&mut app, "123456\n");
    let wanted = Request::Login { user: ADMIN.into(), password: "pw".into(), code: Some("123456".into()) };
    assert!(sent == Some(wanted));
}

#[test]
fn what_hurts_is_confirmed_first() {
    let mut app = logged_in();
    assert!(keys(&mut app, "v") == Some(Request::Vms));
    app.note = Some((false, "One moment ...".into()));
    app.outcome(Outcome::Vms(vec![row("one"), row("two")]));
    assert_eq!(app.note, None, "the answer is there");
    assert!(keys(&mut app, "D\n").is_none());
    assert!(matches!(app.pages.last(), Some(Page::Menu { title, .. }) if title.starts_with("two")));
    assert!(keys(&mut app, "f").is_none(), "not before it is confirmed");
    assert!(keys(&mut app, "x\n").is_none(), "only y confirms");
    let sent = keys(&mut app, "y");
    assert!(sent == Some(Request::Vm { id: row("two").id, action: VmAction::ForceStop }));
    assert!(keys(&mut app, "\nd").is_none());
    assert!(keys(&mut app, "ny").is_none(), "n goes back");
    let mut app = logged_in();
    assert!(keys(&mut app, "pr").is_none());
    assert!(keys(&mut app, "y") == Some(Request::Reboot));
}

#[test]
fn passwords_have_to_agree_and_be_long_enough() {
    let mut app = logged_in();
    assert!(keys(&mut app, "apresent\nlong-one\nlong-two\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, _)| *bad));
    let mut app = logged_in();
    assert!(keys(&mut app, "apresent\nshort\nshort\n").is_none());
    let mut app = logged_in();
    let wanted = |old: Option<&str>| Request::SetPassword {
        user: ADMIN.into(),
        old: old.map(str::to_owned),
        password: "long-enough".into(),
    };
    assert!(keys(&mut app, "apresent\nlong-enough\nlong-enough\n") == Some(wanted(Some("present"))));
    // Another administrator does not know it.
    let mut app = logged_in();
    app.user = Some("eve".into());
    assert!(keys(&mut app, "along-enough\nlong-enough\n") == Some(wanted(None)));
}

#[test]
fn ones_own_one_time_code_takes_the_password() {
    let mut app = logged_in();
    let reset = |password: Option<&str>| Request::ResetTotp {
        user: ADMIN.into(),
        password: password.map(str::to_owned),
    };
    assert!(keys(&mut app, "opresent\n") == Some(reset(Some("present"))));
    let mut app = logged_in();
    app.user = Some("eve".into());
    assert!(keys(&mut app, "oy") == Some(reset(None)));
}

#[test]
fn escape_leads_back_and_out() {
    let mut app = logged_in();
    keys(&mut app, "p");
    assert!(keys(&mut app, "\x1b").is_none() && app.pages.len() == 1);
    assert!(keys(&mut app, "\x1b") == Some(Request::Logout));
    app.outcome(Outcome::LoggedOut);
    assert!(app.user.is_none() && app.pages.is_empty());
}

#[test]
fn ten_idle_minutes_end_the_session() {
    let mut app = logged_in();
    let start = Instant::now();
    app.key(Key::Down, start);
    assert!(app.tick(start + IDLE - Duration::from_secs(1)).is_none());
    assert_eq!(app.pages.len(), 1);
    assert!(app.tick(start + IDLE) == Some(Request::Logout));
    assert!(app.pages.is_empty());
}
