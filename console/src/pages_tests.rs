use super::*;
use crate::{
    facts::{Load, Machines, Management, Nic},
    install::Progress,
    keys::Key,
    remote::{LogSource, Outcome, Polled, VmRow},
    screen,
    settling::{Aim, Settling},
};
use lq_api::{
    answer::HostNetwork,
    local::install::InstallDisk,
    management::{ManagementNic, NetworkTrial},
};
use std::time::Instant;

fn running(count: usize) -> Machines {
    Machines { here: [("running".to_owned(), count)].into(), all: Some(12) }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        mode: "live".into(),
        host_name: "node1".into(),
        url: Some("https://10.0.0.2/".into()),
        fingerprint: Some(["AB"; 32].join(":")),
        setup_code: Some("123-456".into()),
        pairing: None,
        nics: vec![Nic { name: "eth0".into(), mac: "52:54:00:00:00:01".into(), link: true, uplink: true }],
        management: Management::Ready,
        ready: true,
        addresses: vec![("lqbr0".into(), vec!["10.0.0.2/24".into(), "fe80::5054:ff:fe00:1/64".into()])],
        clock: ("2026-01-02 10:00 UTC".into(), true),
        vms: Some(running(2)),
        loads: vec![
            Load { name: "Processor", share: 0.25, text: "25 % of 8 threads".into() },
            Load { name: "Memory", share: 0.5, text: "8.0 of 16.0 GiB".into() },
            Load { name: "Data", share: 0.95, text: "95 of 100 GiB".into() },
        ],
        warnings: vec!["the processor's microcode is old".into()],
        alerts: vec![
            (true, "critical: node2: the host does not answer".into()),
            (false, "warning: local: 86 % is used".into()),
        ],
        events: vec!["2026-01-02 10:00:00 warning: a disk is slow".into()],
        cluster: Some((true, "3 hosts, node2 leads".into())),
        trouble: None,
        live: false,
        installed: Vec::new(),
    }
}

fn network() -> (ManagementNetwork, NetworkTest) {
    let mac = |n: u8| format!("52:54:00:00:00:0{n}").parse().unwrap();
    let settings = HostNetwork {
        interface: Some(mac(2)),
        address: Some("10.0.1.2/24".into()),
        gateway: Some([10, 0, 1, 1].into()),
        dns: vec![[10, 0, 1, 1].into()],
    };
    let nic = |n, link| ManagementNic { name: format!("eth{}", n - 1), mac: mac(n), link };
    let state = ManagementNetwork {
        kept: HostNetwork::default(),
        trial: Some(NetworkTrial { network: settings, seconds_left: 42 }),
        uplink: Some("eth1".into()),
        nics: vec![nic(1, false), nic(2, true)],
        note: None,
    };
    let test = NetworkTest {
        address: Some("10.0.1.2/24".into()),
        gateway: Some([10, 0, 1, 1].into()),
        gateway_answers: Some(false),
        api_answers: true,
    };
    (state, test)
}

fn disks() -> Vec<InstallDisk> {
    let disk = |node: &str, found: &[&str], unfit: Option<&str>| InstallDisk {
        node: node.into(),
        text: format!("{node} (931.5 GiB, model DISK, serial S1)"),
        found: found.iter().map(|f| (*f).to_owned()).collect(),
        ours: false,
        unfit: unfit.map(str::to_owned),
    };
    vec![
        disk("/dev/sda", &["GPT partition table", "partitions sda1 \"data\" (931.0 GiB)"], None),
        disk("/dev/sdb", &["ISO 9660 image"], Some("is the medium this host was booted from")),
        disk("/dev/vda", &[], None),
    ]
}

/// A cell as it is kept in a file: the light squares of a QR code are nothing but colour.
fn symbol(cell: &ratatui::buffer::Cell) -> &str {
    if cell.symbol() == " " && cell.bg == ratatui::style::Color::Gray { "." } else { cell.symbol() }
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let row = |y| {
        let row: String = (0..area.width).filter_map(|x| buffer.cell((x, y))).map(symbol).collect();
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
        host: Some("esx01".into()),
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
        app.key(Key::Esc, Instant::now());
        app.key(Key::Esc, Instant::now());
        app.key(Key::Char('n'), Instant::now());
        let (state, test) = network();
        app.outcome(Outcome::Network(Box::new(state.clone()), Some(test)));
        shot("network-trial", &status(), &app, Glyphs::Ascii);
        let back = ManagementNetwork {
            trial: None,
            note: Some("the change was taken back: nobody confirmed it in time".into()),
            ..state
        };
        app.outcome(Outcome::Polled(Polled::Network(Box::new(back))));
        shot("network", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('c'), Instant::now());
        shot("network-form", &status(), &app, Glyphs::Ascii);
        app.key(Key::Esc, Instant::now());
        app.key(Key::Esc, Instant::now());
        app.now = crate::clock::tests::at("2026-01-02T10:00:00Z");
        app.outcome(Outcome::Clock(Box::new(crate::clock::tests::alone())));
        shot("clock-alone", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Clock(Box::new(crate::clock::tests::followed())));
        shot("clock", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('c'), Instant::now());
        shot("clock-form", &status(), &app, Glyphs::Ascii);
        for key in
            [Key::Down, Key::Char('!'), Key::Down, Key::Down, Key::Down, Key::Down, Key::Down, Key::Down]
        {
            app.key(key, Instant::now());
        }
        app.key(Key::Enter, Instant::now());
        shot("clock-wrong", &status(), &app, Glyphs::Ascii);
        app.key(Key::Esc, Instant::now());
        app.key(Key::Esc, Instant::now());
        app.key(Key::Char('f'), Instant::now());
        shot("reset", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('d'), Instant::now());
        shot("reset-form", &status(), &app, Glyphs::Ascii);
        let log = (0..60).map(|n| format!("[  {n}.0] a line of the kernel, number {n}")).collect();
        app.outcome(Outcome::Log(LogSource::Kernel, log));
        shot("log", &status(), &app, Glyphs::Ascii);
        for key in [Key::Char('/'), Key::Char('1'), Key::Char('7'), Key::Enter] {
            app.key(key, Instant::now());
        }
        shot("log-found", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Maintenance(Box::new(crate::maintenance::tests::moving())));
        shot("maintenance", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Maintenance(Box::new(crate::maintenance::tests::stuck())));
        app.key(Key::Char('m'), Instant::now());
        shot("maintenance-menu", &status(), &app, Glyphs::Ascii);
        app.key(Key::Esc, Instant::now());
        app.outcome(Outcome::Failed("the host `node1` cannot be put in maintenance: no majority of the voting hosts is reached, so nothing can be changed until they are back".into()));
        shot("maintenance-stuck", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::LoggedIn("admin".into()));
        app.key(Key::Char('j'), Instant::now());
        shot("join", &status(), &app, Glyphs::Ascii);
        let token = crate::joining::tests::token();
        for c in token.chars().take(150) {
            app.key(Key::Char(c), Instant::now());
        }
        shot("join-typing", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('!'), Instant::now());
        app.key(Key::Enter, Instant::now());
        shot("join-wrong", &status(), &app, Glyphs::Ascii);
        app.key(Key::Erase, Instant::now());
        for c in token.chars() {
            app.key(Key::Char(c), Instant::now());
        }
        shot("join-whole", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::JoinPreview(Box::new(crate::joining::tests::preview())));
        shot("join-preview", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::LoggedIn("admin".into()));
        let lost = crate::recovery::tests::lost();
        app.outcome(Outcome::Recovery(Box::new(lost.clone())));
        shot("recovery", &status(), &app, Glyphs::Ascii);
        for key in [Key::Down, Key::Down, Key::Char('g'), Key::Char('f')] {
            app.key(key, Instant::now());
        }
        shot("recovery-confirm", &status(), &app, Glyphs::Ascii);
        app.key(Key::Char('y'), Instant::now());
        shot("recovery-name", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Support(crate::support::tests::plugged()));
        shot("support", &status(), &app, Glyphs::Ascii);
        app.key(Key::Enter, Instant::now());
        shot("support-unfit", &status(), &app, Glyphs::Ascii);
        app.outcome(Outcome::Lines("Events", status().events));
        app.outcome(Outcome::Failed("it failed".into()));
        shot("events", &status(), &app, Glyphs::Ascii);
        let facts = vec!["Epoch 2 begins; machines run on.".into()];
        app.outcome(Outcome::Settling(Box::new(Settling::new(Aim::Epoch(2), facts))));
        shot("settling", &status(), &app, Glyphs::Ascii);
        let trouble = Status {
            management: Management::NotReady("no majority of the voters is reached".into()),
            ready: false,
            vms: None,
            setup_code: None,
            cluster: Some((false, "3 hosts, 2 not heard, nobody leads: NO QUORUM, nothing can be changed".into())),
            trouble: Some(
                "No majority of the hosts is reached; silent: node2, node3. Machines run on, nothing can be changed. Bring the \
                 hosts back; if they are gone for good: F2, Quorum recovery"
                    .into(),
            ),
            ..status()
        };
        shot("open-quorum-lost", &trouble, &App::default(), Glyphs::Ascii);
        let nic = |n: u8, link| Nic {
            name: format!("eth{n}"),
            mac: format!("52:54:00:00:00:0{n}"),
            link,
            uplink: n == 0,
        };
        let cut = Status { nics: vec![nic(0, true), nic(1, false)], ..status() };
        shot("open-dead-link", &cut, &App::default(), Glyphs::Ascii);
        let mut qr = App::default();
        qr.key(Key::Char('q'), Instant::now());
        shot("qr", &status(), &qr, Glyphs::Ascii);
        let live = Status {
            live: true,
            mode: "live: nothing is kept".into(),
            installed: vec!["/dev/vda".into()],
            cluster: None,
            ..status()
        };
        let waiting =
            Status { pairing: Some("ABCD-EFGH, a wrong code was tried".into()), cluster: None, ..status() };
        shot("open-waiting", &waiting, &App::default(), Glyphs::Ascii);
        let mut app = App::default();
        app.live = true;
        shot("open-live", &live, &app, Glyphs::Ascii);
        app.key(Key::F3, Instant::now());
        shot("lost-password", &live, &app, Glyphs::Ascii);
        app.key(Key::Esc, Instant::now());
        app.fresh = true;
        app.key(Key::F2, Instant::now());
        shot("first-password", &live, &app, Glyphs::Ascii);
        app.key(Key::Esc, Instant::now());
        app.outcome(Outcome::Disks(disks()));
        shot("install-disks", &live, &app, Glyphs::Ascii);
        app.key(Key::Enter, Instant::now());
        shot("install-form", &live, &app, Glyphs::Ascii);
        app.outcome(Outcome::Installing);
        let lines = vec!["installing to /dev/sda".into(), "1/6 wiping the old partition table".into()];
        app.outcome(Outcome::Polled(Polled::Install(Progress { lines: lines.clone(), ended: None })));
        shot("installing", &live, &app, Glyphs::Ascii);
        app.outcome(Outcome::Polled(Polled::Install(Progress { lines, ended: Some(true) })));
        shot("installed", &live, &app, Glyphs::Ascii);
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
    let changed = Status { vms: Some(running(3)), ..status() };
    let new = screen::lines(&paint(&changed, &App::default(), Glyphs::Ascii, 80, 24));
    assert_eq!(screen::update(Some(&old), &new).matches('H').count(), 1);
    assert!(screen::update(None, &new).starts_with("\x1b[0m\x1b[?25l\x1b[2J"));
}

/// What a vt220 shows of what is sent to it, as far as the console uses it.
struct Terminal(Vec<Vec<char>>, usize, usize);

impl Terminal {
    fn new(columns: usize, rows: usize) -> Self {
        Self(vec![vec![' '; columns]; rows], 0, 0)
    }

    fn feed(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let sequence: String = chars.by_ref().sequence();
                    self.obey(&sequence);
                }
                '\r' => self.2 = 0,
                '\n' if self.1 + 1 == self.0.len() => {
                    self.0.remove(0);
                    self.0.push(vec![' '; self.0[0].len()]);
                }
                '\n' => self.1 += 1,
                c => {
                    if let Some(cell) = self.0[self.1].get_mut(self.2) {
                        *cell = c;
                    }
                    self.2 += 1;
                }
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        let (numbers, last) = sequence.split_at(sequence.len() - 1);
        match last {
            "H" => {
                let at = |n: usize| numbers.split(';').nth(n).and_then(|t| t.parse().ok()).unwrap_or(1) - 1;
                (self.1, self.2) = (at(0), at(1));
            }
            "J" => self.0.iter_mut().for_each(|row| row.fill(' ')),
            "K" => self.0[self.1].iter_mut().skip(self.2).for_each(|c| *c = ' '),
            "m" | "l" => {}
            other => panic!("no vt220 is sent {other}"),
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }
}

trait TakeSequence {
    fn sequence(&mut self) -> String;
}

impl<I: Iterator<Item = char>> TakeSequence for I {
    fn sequence(&mut self) -> String {
        let mut text = String::new();
        for c in self {
            text.push(c);
            if c.is_ascii_alphabetic() {
                break;
            }
        }
        text
    }
}

#[test]
fn what_others_wrote_over_the_screen_is_gone_when_it_is_drawn_anew() {
    let open = paint(&status(), &App::default(), Glyphs::Ascii, 80, 24);
    let mut app = App::default();
    app.key(Key::F2, Instant::now());
    let form = paint(&status(), &app, Glyphs::Ascii, 80, 24);
    let mut terminal = Terminal::new(80, 24);
    terminal.feed(&screen::update(None, &screen::lines(&open)));
    assert_eq!(terminal.text(), text(&open));
    // Only what differs is sent, and it is the other page all the same.
    terminal.feed(&screen::update(Some(&screen::lines(&open)), &screen::lines(&form)));
    assert_eq!(terminal.text(), text(&form));
    // The kernel writes where the cursor is, and scrolls.
    for n in 0..30 {
        terminal.feed(&format!(
            "[   {n}.0] eth0: a line of the kernel that is as long as they are, number {n}\r\n"
        ));
    }
    terminal.feed(&screen::update(Some(&screen::lines(&form)), &screen::lines(&form)));
    assert_ne!(terminal.text(), text(&form), "nothing has changed, so nothing is sent");
    terminal.feed(&screen::update(None, &screen::lines(&form)));
    assert_eq!(terminal.text(), text(&form));
}

#[test]
fn long_words_are_broken() {
    assert_eq!(wrap("aaaa bb", 3), ["aaa", "a", "bb"]);
    assert_eq!(wrap("a b", 3), ["a b"]);
}
