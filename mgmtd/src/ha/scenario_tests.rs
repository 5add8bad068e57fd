//! Golden scenarios: `scenarios/*.txt` tell what happens, second by second, and what the manager makes of it.
//!
//! A file has a line or more of words (`#`), the site, what happens, and after `---` what was decided. Hosts that are up beat
//! twice a second; the manager looks four times a second. `UPDATE_SCENARIOS=1` writes anew what stands after `---`: read it
//! before it is kept.

use super::{
    Answer, BEAT, Beat, Watchdog,
    manager::{Decision, HostView, Manager, Moment, Outcome, Place, Proof, Protected, Terms, View},
};
use lq_api::{HostId, VmId, ha::HaPriority};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};
use uuid::Uuid;

/// Pause between two looks of the manager, in milliseconds.
const LOOK: u64 = 250;
/// The moment every scenario begins at: clocks do not begin at nothing.
const EPOCH: u64 = 1_000_000;

struct Host {
    name: String,
    up: bool,
    /// The boot it is in.
    boot: u128,
    view: HostView,
    /// Most machines on it.
    room: usize,
    /// How it was last answered.
    answer: String,
}

struct Machine {
    name: String,
    protected: Protected,
}

struct World {
    hosts: BTreeMap<HostId, Host>,
    machines: BTreeMap<VmId, Machine>,
    manager: Option<Manager>,
    armed: bool,
    followed: Option<u64>,
    majority: bool,
    writes: Writes,
    pending: Vec<(VmId, HostId, u64, HostId)>,
    revision: u64,
    now: u64,
    log: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Writes {
    Done,
    Hang,
    Refused,
}

fn host_id(name: &str) -> HostId {
    HostId(Uuid::from_u128(name.bytes().fold(0, |n, b| n * 256 + u128::from(b))))
}

fn vm_id(name: &str) -> VmId {
    VmId(host_id(name).0)
}

fn priority(word: &str) -> HaPriority {
    serde_json::from_value(serde_json::Value::String(word.into())).unwrap()
}

impl World {
    fn say(&mut self, text: &str) {
        writeln!(self.log, "{:5}.{:03}  {text}", (self.now - EPOCH) / 1000, (self.now - EPOCH) % 1000)
            .unwrap();
    }

    fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(&host_id(name)).unwrap_or_else(|| panic!("no host `{name}`"))
    }

    fn vm(&mut self, name: &str) -> &mut Protected {
        &mut self.machines.get_mut(&vm_id(name)).unwrap_or_else(|| panic!("no vm `{name}`")).protected
    }

    fn view(&self) -> View {
        View {
            armed: self.armed,
            hosts: self.hosts.iter().map(|(id, h)| (*id, h.view.clone())).collect(),
            machines: self.machines.values().map(|m| m.protected.clone()).collect(),
        }
    }

    fn lead(&mut self) {
        self.manager = Some(Manager::new(Terms::STANDARD, Moment(self.now), self.revision));
    }

    /// Something happens.
    fn happens(&mut self, what: &str) {
        let words: Vec<&str> = what.split_whitespace().collect();
        match words.as_slice() {
            [h, "loses", "power"] | [h, "is", "cut", "off"] => self.host(h).up = false,
            [h, "is", "reached", "again"] => self.host(h).up = true,
            [h, "boots"] => {
                let host = self.host(h);
                (host.up, host.boot) = (true, host.boot + 1);
            }
            [h, "says", "that", "it", "started"] => {
                let host = self.host(h);
                host.view.boot = Some(Uuid::from_u128(host.boot));
                host.view.off = false;
            }
            [h, "is", "confirmed", "off"] => self.host(h).view.off = true,
            [h, "goes", "into", "maintenance"] => self.host(h).view.maintenance = true,
            [h, "leaves", "maintenance"] => self.host(h).view.maintenance = false,
            [h, "has", "room", "for", n] => self.host(h).room = n.parse().unwrap(),
            [h, "joins"] => self.add_host(h),
            [h, "is", "removed"] => drop(self.hosts.remove(&host_id(h))),
            ["nobody", "leads"] => self.manager = None,
            ["another", "leader"] => self.lead(),
            ["no", "majority"] => self.majority = false,
            ["majority", "again"] => self.majority = true,
            ["disarmed"] => self.armed = false,
            ["armed"] => self.armed = true,
            ["writes", "hang"] => self.writes = Writes::Hang,
            ["writes", "are", "refused"] => self.writes = Writes::Refused,
            ["writes", "go", "on"] => self.writes = Writes::Done,
            ["vm", v, "is", "stopped"] => self.vm(v).wanted = false,
            ["vm", v, "is", "started"] => self.vm(v).wanted = true,
            ["vm", v, "is", "guarded"] => self.vm(v).guarded = true,
            ["vm", v, "moves", "to", h] => {
                let vm = self.vm(v);
                (vm.host, vm.epoch) = (host_id(h), vm.epoch + 1);
            }
            _ => panic!("`{what}` is not known to happen"),
        }
    }

    fn add_host(&mut self, name: &str) {
        let boot = Some(Uuid::from_u128(1));
        let host = Host {
            name: name.into(),
            up: true,
            boot: 1,
            view: HostView { boot, ..HostView::default() },
            room: usize::MAX,
            answer: String::new(),
        };
        self.hosts.insert(host_id(name), host);
    }

    fn add_vm(&mut self, words: &[&str]) {
        let [name, "on", host, rest @ ..] = words else { panic!("{words:?}") };
        let mut protected = Protected {
            vm: vm_id(name),
            host: host_id(host),
            epoch: 0,
            priority: HaPriority::Medium,
            guarded: true,
            wanted: true,
            obstacle: None,
        };
        for word in rest {
            match *word {
                "unguarded" => protected.guarded = false,
                "stopped" => protected.wanted = false,
                "local-disk" => protected.obstacle = Some("no other host reaches its volume".into()),
                other => protected.priority = priority(other),
            }
        }
        self.machines.insert(vm_id(name), Machine { name: (*name).into(), protected });
    }

    fn beats(&mut self) {
        let ids: Vec<HostId> = self.hosts.iter().filter(|(_, h)| h.up).map(|(id, _)| *id).collect();
        for id in ids {
            let followed = self.followed.map(Moment);
            let host = &self.hosts[&id];
            let beat =
                Beat { boot: Uuid::from_u128(host.boot), sent: self.now, watchdog: Watchdog::Simulated };
            let (view, name) = (host.view.clone(), host.name.clone());
            let Some(manager) = &mut self.manager else { continue };
            let (answer, told) = manager.beat(Moment(self.now), followed, id, &beat, Some(&view));
            let words = match answer {
                Answer::Granted { .. } => format!("{name} has a lease"),
                Answer::Denied(why) => format!("{name} is denied a lease: {why}"),
            };
            if self.hosts[&id].answer != words {
                self.say(&words);
                self.hosts.get_mut(&id).unwrap().answer = words;
            }
            self.carry_out(told);
        }
    }

    fn look(&mut self) {
        let (view, followed) = (self.view(), self.followed.map(Moment));
        let Some(mut manager) = self.manager.take() else { return };
        let mut used: BTreeMap<HostId, usize> = BTreeMap::new();
        for machine in self.machines.values().filter(|m| m.protected.wanted) {
            *used.entry(machine.protected.host).or_default() += 1;
        }
        let rooms: BTreeMap<HostId, usize> = self.hosts.iter().map(|(id, h)| (*id, h.room)).collect();
        let place: Place<'_> = &mut |machine: &Protected, usable: &BTreeSet<HostId>| {
            let room = |id: &&HostId| used.get(*id).copied().unwrap_or_default() < rooms[*id];
            let others = usable.iter().filter(|id| **id != machine.host);
            let best = others.filter(room).min_by_key(|id| used.get(*id).copied().unwrap_or_default());
            let best = *best.ok_or("no host has room")?;
            *used.entry(best).or_default() += 1;
            Ok(best)
        };
        let decisions = manager.step(Moment(self.now), followed, &view, place);
        self.manager = Some(manager);
        self.carry_out(decisions);
        self.write();
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) {
        let host = |this: &Self, id: HostId| this.hosts[&id].name.clone();
        for decision in decisions {
            let text = match &decision {
                Decision::Silent(id) => format!("{} is silent", host(self, *id)),
                Decision::Back(id) => format!("{} is back", host(self, *id)),
                Decision::Lost(id, Proof::LeaseOver) => {
                    format!("{} is lost: its lease and all margins are over", host(self, *id))
                }
                Decision::Lost(id, Proof::Off) => format!("{} is lost: it is off", host(self, *id)),
                Decision::NotOff(id, _) => {
                    self.hosts.get_mut(id).unwrap().view.off = false;
                    format!("{} is not off", host(self, *id))
                }
                Decision::Restart { vm, from, epoch, to } => {
                    self.pending.push((*vm, *from, *epoch, *to));
                    let name = &self.machines[vm].name;
                    format!("{name} is to start on {}, no more on {}", host(self, *to), host(self, *from))
                }
                Decision::Waits(vm, wait) => format!("{} waits: {wait}", self.machines[vm].name),
            };
            self.say(&text);
        }
    }

    /// The log takes what was decided.
    fn write(&mut self) {
        if self.writes == Writes::Hang {
            return;
        }
        for (vm, from, epoch, to) in std::mem::take(&mut self.pending) {
            self.revision += 1;
            let machine = &mut self.machines.get_mut(&vm).unwrap().protected;
            let now = (machine.host, machine.epoch) == (from, epoch) && self.writes == Writes::Done;
            if now {
                (machine.host, machine.epoch) = (to, epoch + 2);
            }
            let (outcome, word) = if now {
                (Outcome::Done(self.revision), "starts")
            } else {
                (Outcome::Refused(self.revision), "was refused its place")
            };
            let name = self.machines[&vm].name.clone();
            self.say(&format!("{name} {word}"));
            if let Some(manager) = &mut self.manager {
                manager.outcome(Moment(self.now), vm, from, outcome);
            }
        }
    }
}

/// What is decided in the scenario.
fn play(text: &str) -> String {
    let mut world = World {
        hosts: BTreeMap::new(),
        machines: BTreeMap::new(),
        manager: None,
        armed: true,
        followed: None,
        majority: true,
        writes: Writes::Done,
        pending: vec![],
        revision: 1,
        now: EPOCH,
        log: String::new(),
    };
    let mut happens: Vec<(u64, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["hosts", names @ ..] => names.iter().for_each(|name| world.add_host(name)),
            ["vm", rest @ ..] => world.add_vm(rest),
            [at, ..] => {
                let seconds: f64 = at.parse().unwrap_or_else(|_| panic!("`{line}` has no time"));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
                let at = EPOCH + (seconds * 1000.0) as u64;
                happens.push((at, line.split_once(char::is_whitespace).unwrap().1.trim().to_owned()));
            }
            [] => {}
        }
    }
    let end = happens.iter().map(|(at, _)| *at).max().unwrap();
    world.lead();
    while world.now <= end {
        let due: Vec<String> =
            happens.iter().filter(|(at, _)| *at == world.now).map(|(_, what)| what.clone()).collect();
        for what in due.iter().filter(|what| *what != "end") {
            world.say(&format!("* {what}"));
            world.happens(what);
        }
        if world.majority {
            world.followed = Some(world.now);
        }
        if (world.now - EPOCH).is_multiple_of(BEAT) {
            world.beats();
        }
        world.look();
        world.now += LOOK;
    }
    world.log
}

#[test]
fn the_scenarios_go_as_they_are_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ha/scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 30, "{} scenarios", files.len());
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, told) = text.split_once("---\n").unwrap_or((&text, ""));
        let found = play(script);
        if found == told {
            continue;
        }
        if update {
            std::fs::write(&file, format!("{}\n---\n{found}", script.trim_end())).unwrap();
        } else {
            writeln!(wrong, "{}\nexpected:\n{told}found:\n{found}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
