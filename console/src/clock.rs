//! The page of this host's clock: what it shows, what it follows and how well, and the time servers of the cluster. Pure: what
//! is known of it comes in, keys give what is to be asked for. The time itself is of the moment the page is drawn.

use crate::{
    app::Step,
    keys::Key,
    menus,
    remote::Request,
    view::{BAD, GOOD, Line, PLAIN, STRONG, WARN, field},
};
use lq_api::{
    HostId, Timestamp,
    time::{HostTime, Time, TimeServer, TimeSpec, TimeStatus},
};

/// Columns of a server's name; more of it is cut.
const NAME: usize = 32;

/// This host's clock, and the others'.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clock {
    /// What the clocks of all hosts follow.
    pub(crate) spec: TimeSpec,
    /// How this host's does; absent where even it was not told.
    pub(crate) here: Option<TimeStatus>,
    /// The other hosts'.
    pub(crate) others: Vec<HostTime>,
}

impl Clock {
    /// Of the clocks of a cluster, as seen on this host.
    pub(crate) fn new(time: Time, this_host: HostId) -> Self {
        let (here, others): (Vec<HostTime>, _) = time.hosts.into_iter().partition(|h| h.host == this_host);
        Self { spec: time.spec, here: here.into_iter().next().and_then(|h| h.status), others }
    }

    /// What a key asks for.
    pub(crate) fn key(&self, key: Key) -> Step {
        match key {
            Key::Char('c' | 'C') => Step::Open(Box::new(menus::time_servers(&self.spec))),
            Key::Char('r' | 'R') => Step::Ask(Request::Time),
            _ => Step::Nothing,
        }
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, now: Timestamp, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        field(&mut lines, STRONG, "Clock", &format!("{} UTC", second(now)), width, 1);
        match &self.here {
            Some(status) => standing(&mut lines, status, now, width),
            None => field(&mut lines, BAD, "State", "this host did not tell how its clock does", width, 1),
        }
        lines.push((PLAIN, String::new()));
        self.servers(&mut lines);
        if !self.others.is_empty() {
            lines.push((PLAIN, String::new()));
            lines.push((STRONG, "Other hosts".into()));
            lines.extend(self.others.iter().map(other));
        }
        for (_, line) in &mut lines {
            line.truncate(line.char_indices().nth(width).map_or(line.len(), |(at, _)| at));
        }
        lines
    }

    /// The servers that are wanted, with what each said where it was asked.
    fn servers(&self, lines: &mut Vec<Line>) {
        if self.spec.servers.is_empty() {
            lines.push((WARN, "No time servers: C names them, for all hosts of the cluster.".into()));
            return;
        }
        lines.push((
            STRONG,
            format!("{:<w$}{:>12}{:>12}  {}", "Time servers", "offset", "delay", "stratum", w = NAME + 4),
        ));
        for name in &self.spec.servers {
            let told = self.here.as_ref().and_then(|h| h.servers.iter().find(|s| s.server == *name));
            lines.push(server(name, told));
        }
        lines.push((PLAIN, "* these agree, and the clock follows them".into()));
    }
}

/// A time, to the second.
fn second(at: Timestamp) -> String {
    at.strftime("%F %T").to_string()
}

/// How long ago, in the unit that fits; nothing where it is yet to come, as after the clock was set back.
fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.as_second().saturating_sub(at.as_second()) {
        ..0 => "just now".into(),
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s => format!("{} h ago", s / 3600),
    }
}

fn milliseconds(value: f64) -> String {
    format!("{value:.1} ms")
}

/// How far the clock is off, in words: a positive offset is a clock that is behind.
fn offset(value: f64) -> String {
    if value < 0.0 {
        format!("{} ahead", milliseconds(-value))
    } else {
        format!("{} behind", milliseconds(value))
    }
}

/// How this host's clock does.
fn standing(lines: &mut Vec<Line>, status: &TimeStatus, now: Timestamp, width: usize) {
    if status.synchronised {
        field(lines, GOOD, "State", "synchronised", width, 1);
    } else {
        field(lines, WARN, "State", "NOT synchronised", width, 1);
    }
    if let Some(name) = &status.server {
        let stratum = status.stratum.map(|s| format!(" (this clock: stratum {s})")).unwrap_or_default();
        field(lines, PLAIN, "Follows", &format!("{name}{stratum}"), width, 2);
    }
    if let Some(value) = status.offset_ms {
        let error =
            status.error_ms.map(|e| format!(", the truth within {}", milliseconds(e))).unwrap_or_default();
        field(lines, PLAIN, "Offset", &format!("{}{error}", offset(value)), width, 1);
    }
    if let Some(at) = status.agreed_at {
        field(lines, PLAIN, "Agreed", &format!("{} UTC, {}", second(at), ago(at, now)), width, 1);
    }
    if let Some(at) = status.stepped_at {
        field(lines, PLAIN, "Was set", &format!("{} UTC, {}", second(at), ago(at, now)), width, 1);
    }
    if let Some(note) = &status.note {
        field(lines, WARN, "Note", note, width, 3);
    }
}

/// A server and what it said.
fn server(name: &str, told: Option<&TimeServer>) -> Line {
    let chosen = told.is_some_and(|s| s.chosen);
    let mark = if chosen { '*' } else { ' ' };
    let shown: String = name.chars().take(NAME).collect();
    let head = format!("{mark} {shown:<w$}", w = NAME + 2);
    let (style, rest) = match told {
        Some(TimeServer { offset_ms: Some(offset), delay_ms, stratum, .. }) => {
            let delay = delay_ms.map(milliseconds).unwrap_or_default();
            let stratum = stratum.map(|s| s.to_string()).unwrap_or_default();
            let offset = match offset.abs() {
                ..100_000.0 => format!("{offset:+.1} ms"),
                _ => format!("{:+.0} s", offset / 1000.0),
            };
            (if chosen { GOOD } else { PLAIN }, format!("{offset:>12}{delay:>12}  {stratum}"))
        }
        Some(TimeServer { fault: Some(fault), .. }) => (BAD, fault.clone()),
        Some(_) | None => (PLAIN, "not heard yet".into()),
    };
    (style, format!("{head}{rest}"))
}

/// Another host's clock in a line.
fn other(host: &HostTime) -> Line {
    let (style, text) = match &host.status {
        None => (WARN, "does not answer".to_owned()),
        Some(status) if status.synchronised => {
            let off = status.offset_ms.map(|o| format!(", {}", offset(o))).unwrap_or_default();
            (PLAIN, format!("synchronised{off}"))
        }
        Some(status) => {
            let why = status.note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
            (WARN, format!("NOT synchronised{why}"))
        }
    };
    let name: String = host.name.chars().take(20).collect();
    (style, format!("  {name:<22}{text}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn told(name: &str, chosen: bool, offset_ms: Option<f64>, fault: Option<&str>) -> TimeServer {
        TimeServer {
            server: name.into(),
            address: None,
            chosen,
            offset_ms,
            delay_ms: offset_ms.map(|_| 12.34),
            stratum: offset_ms.map(|_| 2),
            fault: fault.map(str::to_owned),
        }
    }

    /// Of three hosts; one of the servers does not answer, and one is wrong.
    pub(crate) fn followed() -> Clock {
        let names = ["ntp1.example.org", "ntp2.example.org", "192.0.2.9", "ntp.example.net:1123"];
        let spec = TimeSpec { servers: names.map(str::to_owned).to_vec() };
        let id = |n: u8| format!("01890000-0000-7000-8000-00000000000{n}").parse().unwrap();
        let here = TimeStatus {
            synchronised: true,
            offset_ms: Some(-0.42),
            error_ms: Some(9.5),
            server: Some("ntp1.example.org".into()),
            stratum: Some(3),
            agreed_at: Some(at("2026-01-02T09:59:30Z")),
            stepped_at: Some(at("2026-01-02T08:00:01Z")),
            note: None,
            servers: vec![
                told("ntp1.example.org", true, Some(-0.42), None),
                told("ntp2.example.org", true, Some(0.61), None),
                told("192.0.2.9", false, None, Some("it does not answer")),
                told("ntp.example.net:1123", false, Some(3_600_000.0), None),
            ],
        };
        let lost = TimeStatus {
            note: Some("no server has told the time yet".into()),
            ..TimeStatus { synchronised: false, ..TimeStatus::default() }
        };
        let host = |n, name: &str, status| HostTime { host: id(n), name: name.into(), status };
        let hosts = vec![
            host(1, "node1", Some(here.clone())),
            host(2, "node2", Some(here)),
            host(3, "node3", Some(lost)),
            host(4, "node4", None),
        ];
        Clock::new(Time { spec, hosts }, id(1))
    }

    /// Nothing is followed.
    pub(crate) fn alone() -> Clock {
        let note = "no time server is set: nothing sets the clock";
        let here = TimeStatus { note: Some(note.into()), ..TimeStatus::default() };
        Clock { spec: TimeSpec::default(), here: Some(here), others: Vec::new() }
    }

    fn text(clock: &Clock) -> Vec<String> {
        let lines = clock.lines(at("2026-01-02T10:00:00Z"), 76);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn it_says_what_is_followed_and_how_well() {
        let clock = followed();
        assert_eq!(clock.others.len(), 3, "this host is not among the others");
        let text = text(&clock);
        for wanted in [
            "2026-01-02 10:00:00 UTC",
            "synchronised",
            "0.4 ms ahead, the truth within 9.5 ms",
            "09:59:30 UTC, 30 s ago",
            "08:00:01 UTC, 119 min ago",
            "it does not answer",
            "+3600 s",
            "NOT synchronised: no server has told",
        ] {
            assert!(text.iter().any(|l| l.contains(wanted)), "{wanted}: {text:#?}");
        }
        assert!(text.iter().all(|l| l.len() <= 76), "{text:#?}");
    }

    #[test]
    fn a_clock_that_nothing_sets_says_so_and_a_new_server_is_not_heard_yet() {
        let mut clock = alone();
        let shown = text(&clock);
        assert!(shown.iter().any(|l| l.contains("NOT synchronised")), "{shown:#?}");
        assert!(shown.iter().any(|l| l.contains("C names them")), "{shown:#?}");
        clock.spec.servers = vec!["ntp.example.org".into()];
        assert!(text(&clock).iter().any(|l| l.contains("not heard yet")));
        clock.here = None;
        assert!(text(&clock).iter().any(|l| l.contains("did not tell")));
    }

    #[test]
    fn times_to_come_are_not_told_as_long_ago() {
        let now = at("2026-01-02T10:00:00Z");
        assert_eq!(ago(at("2026-01-02T11:00:00Z"), now), "just now");
        assert_eq!(ago(at("2026-01-01T10:00:00Z"), now), "24 h ago");
    }
}
