use super::*;
use crate::menus::RESET_WORD;
use crate::remote::LogSource;
use lq_api::management::{ManagementNic, NetworkTrial, TryNetwork};

fn keys(app: &mut App, text: &str) -> Option<Request> {
    text.chars().fold(None, |_, c| {
        let key = match c {
            '\n' => Key::Enter,
            '\x1b' => Key::Esc,
            'D' => Key::Down,
            'U' => Key::Up,
            c => Key::Char(c),
        };
        app.key(key, Instant::now())
    })
}

fn logged_in() -> App {
    let mut app = App { room: 18, ..App::default() };
    app.key(Key::F2, Instant::now());
    app.outcome(Outcome::LoggedIn(ADMIN.into()));
    app
}

fn row(name: &str) -> VmRow {
    let id = "01890000-0000-7000-8000-000000000001".parse().unwrap();
    VmRow { id, name: name.into(), state: "running".into(), host: None }
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
fn where_nobody_has_a_password_yet_one_is_chosen() {
    let wanted = Request::FirstPassword { password: "long-enough".into() };
    for key in [Key::F2, Key::F3, Key::F12] {
        let mut app = App { fresh: true, ..App::default() };
        app.key(key, Instant::now());
        assert!(keys(&mut app, "long-enough\nlong-enouhg\n").is_none(), "{key:?}");
        assert!(app.note.take().is_some_and(|(bad, _)| bad));
        keys(&mut app, "\x1b");
        app.key(key, Instant::now());
        assert!(keys(&mut app, "long-enough\nlong-enough\n") == Some(wanted.clone()), "{key:?}");
        // Refused, the form stays; otherwise it leads where the key would have.
        app.outcome(Outcome::Failed("no majority".into()));
        assert!(matches!(app.pages.as_slice(), [Page::Form { form: Form::FirstPassword, .. }]));
        app.outcome(Outcome::LoggedIn(ADMIN.into()));
        let power = matches!(app.pages.last(), Some(Page::Menu { title, .. }) if title.starts_with("Power"));
        assert_eq!(power, key == Key::F12, "{key:?}");
    }
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

fn network(trial: bool) -> ManagementNetwork {
    let nic = |n: u8| ManagementNic {
        name: format!("eth{n}"),
        mac: format!("52:54:00:00:00:0{n}").parse().unwrap(),
        link: true,
    };
    let settings = lq_api::answer::HostNetwork { address: Some("10.0.0.2/24".into()), ..Default::default() };
    ManagementNetwork {
        trial: trial.then_some(NetworkTrial { network: settings, seconds_left: 42 }),
        uplink: Some("eth0".into()),
        nics: vec![nic(0), nic(1)],
        ..ManagementNetwork::default()
    }
}

#[test]
fn the_network_is_tried_first_and_then_kept_or_undone() {
    let mut app = logged_in();
    assert!(keys(&mut app, "n") == Some(Request::Network));
    app.outcome(Outcome::Network(Box::new(network(false)), None));
    assert!(keys(&mut app, "k").is_none() && keys(&mut app, "u").is_none(), "nothing is tried yet");
    assert!(keys(&mut app, "ceth9\n10.0.0.9/24\n10.0.0.1\n\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("eth0, eth1")), "{:?}", app.note);
    assert!(keys(&mut app, "\x1bceth1\n10.0.0.9/24\n10.0.1.1\n\n").is_none(), "the gateway is elsewhere");
    let sent = keys(&mut app, "\x1bceth1\n10.0.0.9/24\n10.0.0.1\n10.0.0.1 1.1.1.1\n");
    let Some(Request::TryNetwork(TryNetwork { network: tried, seconds: 60 })) = sent else {
        panic!("not what is to be tried")
    };
    assert_eq!(tried.interface.map(|m| m.to_string()).as_deref(), Some("52:54:00:00:00:01"));
    assert_eq!((tried.address.as_deref(), tried.dns.len()), (Some("10.0.0.9/24"), 2));
    app.outcome(Outcome::Network(Box::new(network(true)), None));
    assert!(matches!(app.pages.as_slice(), [Page::Menu { .. }, Page::Network { .. }]), "the form is gone");
    assert!(keys(&mut app, "c").is_none() && app.note.is_some(), "one at a time");
    assert!(keys(&mut app, "k") == Some(Request::KeepNetwork));
    assert!(keys(&mut app, "u") == Some(Request::RevertNetwork));
    // It is followed while it is tried; its end is told.
    let now = Instant::now();
    assert!(app.tick(now) == Some(Request::Poll(Poll::Network)));
    assert!(app.tick(now + POLL).is_none(), "one question at a time");
    let back = ManagementNetwork { note: Some("taken back".into()), ..network(false) };
    app.outcome(Outcome::Polled(Polled::Network(Box::new(back))));
    assert_eq!(app.note, Some((true, "taken back".into())));
    assert!(app.tick(now + POLL + POLL).is_none(), "nothing is tried any more");
}

#[test]
fn time_servers_are_checked_in_their_lines_before_they_are_set() {
    let mut app = logged_in();
    assert!(keys(&mut app, "k") == Some(Request::Time));
    app.outcome(Outcome::Clock(Box::new(crate::clock::tests::alone())));
    let now = Instant::now();
    assert!(app.tick(now) == Some(Request::Poll(Poll::Clock)), "it is followed");
    app.outcome(Outcome::Polled(Polled::Clock(Box::new(crate::clock::tests::alone()))));
    assert!(app.tick(now + POLL).is_none(), "but not every second: all hosts are asked");
    assert!(app.tick(now + POLL_SLOWLY) == Some(Request::Poll(Poll::Clock)));
    // The third line is wrong, the second is empty.
    assert!(keys(&mut app, "cntp.example.org\n\na b\n\n\n\n\n\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.starts_with("a b: ")), "{:?}", app.note);
    assert!(matches!(app.pages.last(), Some(Page::Form { at: 2, .. })), "it is the line that is typed next");
    app.key(Key::Erase, Instant::now());
    let sent = keys(&mut app, "192.0.2.1\n\n\n\n\n\n");
    let servers = vec!["ntp.example.org".to_owned(), "192.0.2.1".to_owned()];
    assert!(sent == Some(Request::SetTime(lq_api::time::TimeSpec { servers })));
    // An answer that comes late does not take the form away.
    app.outcome(Outcome::Polled(Polled::Clock(Box::new(crate::clock::tests::alone()))));
    assert!(matches!(app.pages.last(), Some(Page::Form { .. })));
    app.outcome(Outcome::Failed("no majority".into()));
    assert!(matches!(app.pages.last(), Some(Page::Form { .. })), "what was typed stays where it was refused");
    app.outcome(Outcome::Clock(Box::new(crate::clock::tests::followed())));
    assert!(matches!(app.pages.as_slice(), [Page::Menu { .. }, Page::Clock(_)]), "the form is gone");
}

#[test]
fn a_support_bundle_is_written_to_a_drive_that_is_fit() {
    let mut app = logged_in();
    assert!(keys(&mut app, "s") == Some(Request::Support));
    app.outcome(Outcome::Support(crate::support::tests::plugged()));
    assert!(keys(&mut app, "\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("NTFS")), "{:?}", app.note);
    let now = Instant::now();
    assert!(app.tick(now) == Some(Request::Poll(Poll::Support)), "what is plugged in shows up");
    let more = crate::support::tests::plugged().drives;
    app.outcome(Outcome::Polled(Polled::Support(more)));
    assert!(keys(&mut app, "D\n") == Some(Request::WriteSupport { device: "sdc1".into() }));
    app.outcome(Outcome::Failed("`sdc1` is full".into()));
    assert!(matches!(app.pages.last(), Some(Page::Support(_))), "another one may be tried");
    app.outcome(Outcome::Done("written".into()));
    assert_eq!(app.note, Some((false, "written".into())));
    assert!(matches!(app.pages.last(), Some(Page::Support(_))));
}

#[test]
fn a_lost_password_takes_the_word_and_no_session() {
    let mut app = App::default();
    app.key(Key::F3, Instant::now());
    assert!(keys(&mut app, "long-enough\nlong-enough\nreset\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains(RESET_WORD)));
    keys(&mut app, "\x1b");
    app.key(Key::F3, Instant::now());
    let sent = keys(&mut app, "long-enough\nlong-enough\nRESET\n");
    assert!(sent == Some(Request::LostPassword { password: "long-enough".into() }));
    app.outcome(Outcome::Done("done".into()));
    assert!(app.pages.is_empty() && app.user.is_none(), "nobody is logged in by it");
}

#[test]
fn what_is_for_ever_takes_the_hosts_name() {
    let mut app = logged_in();
    assert!(keys(&mut app, "fd").is_none());
    assert!(keys(&mut app, "node1\n") == Some(Request::FactoryReset { confirm: "node1".into(), data: true }));
    let mut app = logged_in();
    assert!(keys(&mut app, "cnode1\n") == Some(Request::NewCertificate { confirm: "node1".into() }));
}

#[test]
fn only_a_live_host_is_installed_and_only_with_the_disks_name() {
    let mut app = App::default();
    assert!(app.key(Key::F4, Instant::now()).is_none());
    app.live = true;
    assert!(app.key(Key::F4, Instant::now()) == Some(Request::Disks));
    let disk = |node: &str, unfit: Option<&str>| InstallDisk {
        node: node.into(),
        text: format!("{node} (8 GiB)"),
        found: vec!["ext4 file system".into()],
        ours: false,
        unfit: unfit.map(str::to_owned),
    };
    app.outcome(Outcome::Disks(vec![disk("/dev/sda", Some("is too small")), disk("/dev/vda", None)]));
    assert!(matches!(app.pages.last(), Some(Page::Disks { at: 1, .. })), "the first that can be chosen");
    assert!(keys(&mut app, "U\n").is_none());
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("too small")));
    assert!(keys(&mut app, "D\n").is_none());
    assert!(keys(&mut app, "node1\nlong-enough\nlong-enough\n\n\n\nsda\n").is_none(), "another disk's name");
    for _ in 0..3 {
        app.key(Key::Backspace, Instant::now());
    }
    let sent = keys(&mut app, "vda\n");
    assert!(
        matches!(&sent, Some(Request::Install(w)) if w.node == "/dev/vda" && w.erase),
        "what was shown may go"
    );
    app.outcome(Outcome::Installing);
    assert!(app.tick(Instant::now()) == Some(Request::Poll(Poll::Install)));
    assert!(keys(&mut app, "r").is_none(), "not before it has ended");
    app.outcome(Outcome::Polled(Polled::Install(Progress { lines: Vec::new(), ended: Some(true) })));
    assert!(keys(&mut app, "r") == Some(Request::Restart));
}

#[test]
fn a_log_is_followed_and_an_old_answer_changes_no_other_page() {
    let mut app = logged_in();
    assert!(keys(&mut app, "gk") == Some(Request::Log(LogSource::Kernel)));
    app.outcome(Outcome::Log(LogSource::Kernel, vec!["one".into()]));
    let now = Instant::now();
    assert!(app.tick(now) == Some(Request::Poll(Poll::Log(LogSource::Kernel))));
    app.outcome(Outcome::Polled(Polled::Log(LogSource::Kernel, vec!["one".into(), "two".into()])));
    assert!(matches!(app.pages.last(), Some(Page::Log(log)) if log.lines.len() == 2));
    keys(&mut app, "\x1b");
    app.outcome(Outcome::Polled(Polled::Log(LogSource::Kernel, Vec::new())));
    assert!(matches!(app.pages.last(), Some(Page::Menu { .. })));
}

#[test]
fn maintenance_is_begun_followed_cancelled_and_ended() {
    use crate::maintenance::tests::{moving, stuck};
    let set = |on, shut_down| Some(Request::SetMaintenance(HostMaintenance { on, shut_down }));
    let mut app = logged_in();
    assert!(keys(&mut app, "m") == Some(Request::Maintenance));
    let out = Maintenance { on: false, task: None, ..stuck() };
    app.outcome(Outcome::Maintenance(Box::new(out)));
    assert!(app.tick(Instant::now()).is_none(), "nothing is under way");
    assert!(keys(&mut app, "m").is_none(), "first what becomes of the machines");
    assert!(keys(&mut app, "s") == set(true, true));
    app.outcome(Outcome::Maintenance(Box::new(moving())));
    assert!(
        matches!(app.pages.as_slice(), [Page::Menu { .. }, Page::Maintenance { .. }]),
        "the menu is gone"
    );
    let now = Instant::now();
    assert!(app.tick(now) == Some(Request::Poll(Poll::Maintenance)));
    assert!(matches!(keys(&mut app, "x"), Some(Request::CancelTask(_))));
    app.outcome(Outcome::Polled(Polled::Maintenance(Box::new(stuck()))));
    assert!(app.tick(now + POLL).is_none(), "it has ended");
    assert!(keys(&mut app, "e").is_none(), "not before it is confirmed");
    assert!(keys(&mut app, "y") == set(false, false));
}

#[test]
fn a_cluster_is_formed_anew_only_after_a_yes_and_the_hosts_name() {
    let mut app = logged_in();
    assert!(keys(&mut app, "q") == Some(Request::Recovery));
    app.outcome(Outcome::Recovery(Box::new(crate::recovery::tests::lost())));
    assert!(keys(&mut app, "yf").is_none(), "one of the hosts has newer changes");
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("node4")), "{:?}", app.note);
    assert!(keys(&mut app, "DDgf\n").is_none(), "nothing but y is a yes");
    assert!(keys(&mut app, "nynode1\n").is_none(), "n goes back");
    assert!(keys(&mut app, "fynode2\n").is_none(), "another host's name");
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("node1")), "{:?}", app.note);
    app.key(Key::Erase, Instant::now());
    let sent = keys(&mut app, "node1\n");
    assert!(
        matches!(&sent, Some(Request::Reform { confirm, lost }) if confirm == "node1" && lost.len() == 3)
    );
    let settling = Settling::new(crate::settling::Aim::Epoch(2), Vec::new());
    app.outcome(Outcome::Settling(Box::new(settling)));
    assert!(app.user.is_none(), "the session went with the daemon");
    let now = Instant::now();
    assert!(matches!(app.tick(now), Some(Request::Poll(Poll::Settling(_)))));
    app.outcome(Outcome::Polled(Polled::Settling("done".into(), true)));
    assert!(app.tick(now + POLL).is_none());
    assert!(keys(&mut app, "\x1b").is_none() && app.pages.is_empty(), "there is nobody to log out");
}

#[test]
fn a_cluster_is_joined_with_a_whole_token_after_a_look_and_a_yes() {
    use crate::joining::tests::{preview, token};
    let mut app = logged_in();
    let text = token();
    assert!(keys(&mut app, "j").is_none());
    // As it is: `keys` takes a D for another key.
    let typed = |app: &mut App, text: &str| {
        text.chars()
            .fold(None, |_, c| app.key(if c == '\n' { Key::Enter } else { Key::Char(c) }, Instant::now()))
    };
    assert!(typed(&mut app, &format!("{}\n", &text[..50])).is_none(), "it is not whole");
    assert!(app.note.as_ref().is_some_and(|(bad, why)| *bad && why.contains("goes on")), "{:?}", app.note);
    let sent = typed(&mut app, &format!("{}\n", &text[50..]));
    assert!(sent == Some(Request::PreviewJoin { token: text.clone() }));
    app.outcome(Outcome::JoinPreview(Box::new(preview())));
    assert!(keys(&mut app, "j").is_none(), "not before a yes");
    assert!(keys(&mut app, "n").is_none());
    assert!(keys(&mut app, "jy") == Some(Request::Join { token: text, rename: true }));
    app.outcome(Outcome::Failed("no host of the cluster could be asked".into()));
    assert!(matches!(app.pages.last(), Some(Page::Joining(_))), "it may be tried again");
}
