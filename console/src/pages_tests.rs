use super::*;
use crate::{
    facts::{Load, Management, Nic},
    keys::Key,
    remote::{Outcome, VmRow},
    screen,
};
use std::time::Instant;

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        mode: "live".into(),
        host_name: "node1".into(),
        url: Some("https://10.0.0.2/".into()),
        fingerprint: Some(["AB"; 32].join(":")),
        setup_code: Some("123-456".into()),
        nics: vec![Nic { name: "eth0".into(), mac: "52:54:00:00:00:01".into(), link: true, uplink: true }],
        management: Management::Ready,
        ready: true,
        vms: Some([("running".to_owned(), 2)].into()),
        loads: vec![
            Load { name: "Processor", share: 0.25, text: "25 % of 8 threads".into() },
            Load { name: "Memory", share: 0.5, text: "8.0 of 16.0 GiB".into() },
            Load { name: "Data", share: 0.95, text: "95 of 100 GiB".into() },
        ],
        warnings: vec!["the processor's microcode is old".into()],
        events: vec!["2026-01-02 10:00:00 warning: a disk is slow".into()],
    }
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let row = |y| {
        let row: String = (0..area.width).filter_map(|x| buffer.cell((x, y))).map(|c| c.symbol()).collect();
        row.trim_end().to_owned() + "\n"
    };
    (0..area.height).map(row).collect()
}

/// Compares with a file that is checked in; `LQ_SNAPSHOTS=write` writes it.
fn snapshot(name: &str, buffer: &Buffer) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var("LQ_SNAPSHOTS").is_ok_and(|v| v == "write") {
        std::fs::write(&path, text(buffer)).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text(buffer), wanted, "{} differs", path.display());
}

#[test]
fn pages_look_as_checked_in() {
    let vm = VmRow {
        id: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
        name: "web".into(),
        state: "running".into(),
    };
    for (columns, rows) in [(80, 24), (128, 48)] {
        let shot = |name: &str, status: &Status, app: &App, glyphs| {
            snapshot(&format!("{name}-{columns}x{rows}.txt"), &paint(status, app, glyphs, columns, rows));
        };
        let mut app = App::default();
        shot("open-serial", &status(), &app, Glyphs::Ascii);
        shot("open-tty", &status(), &app, Glyphs::HalfBlocks);
        let down = Status {
            management: Management::Down("mgmtd: the log is damaged".into()),
            vms: None,
            loads: Vec::new(),
            events: Vec::new(),
            ..status()
        };
        shot("open-down", &down, &app, Glyphs::Ascii);
        app.key(Key::F2, Instant::now());
        for c in "secret".chars() {
            app.key(Key::Char(c), Instant::now());
        }
        app.outcome(Outcome::CodeNeeded);
        shot("login", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::LoggedIn("admin".into()));
        shot("menu", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Vms(vec![vm.clone()]));
        shot("machines", &status(), &app, Glyphs::Ascii);
        app.key(Key::Enter, Instant::now());
        shot("machine", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('f'), Instant::now());
        shot("confirm", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Lines("Events", status().events));
        app.outcome(Outcome::Failed("it failed".into()));
        shot("events", &status(), &app, Glyphs::Ascii);
    }
}

#[test]
fn a_password_is_never_on_the_screen() {
    let mut app = App::default();
    app.key(Key::F2, Instant::now());
    for c in "hunter2".chars() {
        app.key(Key::Char(c), Instant::now());
    }
    let shown = text(&paint(&status(), &app, Glyphs::Ascii, 80, 24));
    assert!(shown.contains("*******") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn nothing_leaves_the_screen_or_commands_the_terminal() {
    let mut status = status();
    status.warnings = vec!["a warning of some length that has to be wrapped ".repeat(9); 9];
    status.management = Management::Down("x".repeat(500));
    status.host_name = "h\x1b[2J\u{e9}".repeat(40);
    for (columns, rows) in [(80, 24), (20, 4), (1, 1), (80, 25), (200, 60)] {
        let buffer = paint(&status, &App::default(), Glyphs::Ascii, columns, rows);
        assert!(text(&buffer).chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_ascii_control())));
    }
    assert!(text(&paint(&status, &App::default(), Glyphs::Ascii, 80, 24)).contains("more lines"));
}

#[test]
fn only_changed_lines_are_sent() {
    let old = screen::lines(&paint(&status(), &App::default(), Glyphs::Ascii, 80, 24));
    assert_eq!(screen::update(Some(&old), &old), "");
    let changed = Status { vms: Some([("running".to_owned(), 3)].into()), ..status() };
    let new = screen::lines(&paint(&changed, &App::default(), Glyphs::Ascii, 80, 24));
    assert_eq!(screen::update(Some(&old), &new).matches('H').count(), 1);
    assert!(screen::update(None, &new).starts_with("\x1b[0m\x1b[?25l\x1b[2J"));
}

#[test]
fn long_words_are_broken() {
    assert_eq!(wrap("aaaa bb", 3), ["aaa", "a", "bb"]);
    assert_eq!(wrap("a b", 3), ["a b"]);
}
