//! The words of the golden scenarios: what a site is made of, and all that can happen.

use super::world::{
    Host, Manners, Pending, World, Writes, boot_id, host_id, move_id, number, pool_id, vm_id,
};
use crate::cluster::state::{Capacity, Formation, Maintenance, Op, Peer, Power};
use lq_api::{
    Bytes, NetworkId, Timestamp, VmId, VolumeId,
    ha::HaSpec,
    pool::{PoolSpec, PoolState},
    vm::{CreateVm, PowerState, StopVm, UpdateVm, VmSpec, VmState},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// A host without a word about its room has it for so many machines of one GiB.
const ROOM: u64 = 60;

impl World {
    pub(super) fn add_host(&mut self, name: &str) {
        let id = host_id(name);
        let first = self.state.cluster.is_none();
        if first {
            self.done(Op::Initialise {
                cluster: Uuid::from_u128(1),
                host: id,
                host_name: name.into(),
                pool: pool_id(&format!("local-{name}")),
                network: NetworkId(Uuid::from_u128(1)),
                dhcp: None,
            });
        } else {
            self.done(Op::SimulateHosts { hosts: vec![(id, name.into())] });
            // As the one the first host has.
            let mut pool = self.state.pools.values().find(|p| !p.spec.is_shared()).unwrap().as_ref().clone();
            pool.meta.id = pool_id(&format!("local-{name}"));
            pool.meta.name = format!("local-{name}");
            pool.spec = PoolSpec::Dir { host: id };
            self.state.pools.insert(pool.meta.id, Arc::new(pool));
        }
        self.make_room(name, ROOM);
        let host = Host {
            name: name.into(),
            powered: true,
            heard: true,
            hears: true,
            asleep: false,
            boot: 1,
            // Nobody's clock says what another's does.
            ahead: u64::try_from(number(name) % 251).unwrap() * 3_600_000,
            loses: 0,
            until: 0,
            leased: false,
            answer: String::new(),
            bmc: Manners::default(),
        };
        self.hosts.insert(id, host);
        self.done(Op::HostStarted { host: id, name: name.into(), boot: boot_id(1) });
    }

    /// Room for so many machines of one GiB.
    fn make_room(&mut self, name: &str, machines: u64) {
        // What a host keeps for itself is less than a GiB and a tenth.
        let memory = Bytes((machines * 11 / 10 + 1) << 30);
        let memory = if machines < 10 { Bytes((machines + 1) << 30) } else { memory };
        let capacity = Some(Capacity {
            threads: 1000,
            memory,
            lacks: vec![],
            release: None,
            witness: false,
            functions: vec![],
        });
        let peer = Peer { pin: name.into(), address: String::new() };
        self.done(Op::DescribeHost { host: host_id(name), peer, capacity });
    }

    pub(super) fn add_pool(&mut self, name: &str, hosts: &[&str]) {
        let spec = json!({"driver": "nfs", "server": "nas", "export": format!("/{name}")});
        let create = json!({"name": name, "spec": spec});
        self.done(Op::CreatePool { id: pool_id(name), create: serde_json::from_value(create).unwrap() });
        for host in hosts {
            self.observe_pool(name, host, PoolState::Ready);
        }
    }

    fn observe_pool(&mut self, name: &str, host: &str, state: PoolState) {
        let reason = (state != PoolState::Ready).then(|| "the server does not answer".to_owned());
        self.done(Op::ObservePool { id: pool_id(name), host: host_id(host), state, reason });
    }

    pub(super) fn add_vm(&mut self, words: &[&str]) {
        let [name, "on", host, rest @ ..] = words else { panic!("{words:?}") };
        let (mut ha, mut labels, mut guarded) = ("medium", BTreeMap::new(), true);
        let mut spec = json!({"vcpus": 1, "memory_bytes": 1u64 << 30, "power": "running", "autostart": true});
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let mut next = || *rest.next().unwrap();
            match *word {
                "high" | "medium" | "low" | "disabled" => ha = word,
                "unguarded" => guarded = false,
                "stopped" => spec["power"] = json!("stopped"),
                "pinned" => spec["placement"]["host"] = json!(host_id(host)),
                "local-disk" => spec["disks"] = self.disk(name, &format!("local-{host}")),
                "disk" => spec["disks"] = self.disk(name, next()),
                "label" => drop(next().split_once('=').map(|(k, v)| labels.insert(k.into(), v.into()))),
                rule @ ("near" | "apart") => {
                    spec["placement"][rule] = json!([{"label": next(), "strict": true}]);
                }
                other => panic!("`{other}` is no word about a machine"),
            }
        }
        let with = |ha: Value| -> VmSpec {
            let mut spec = spec.clone();
            spec["ha"] = ha;
            serde_json::from_value(spec).unwrap()
        };
        let protected = with(json!({"priority": ha}));
        let first = if guarded { protected.clone() } else { with(Value::Null) };
        let (id, stopped) = (vm_id(name), protected.power == PowerState::Stopped);
        let create = CreateVm { name: (*name).into(), labels, spec: first };
        self.done(Op::CreateVm { id, host: host_id(host), create });
        if !guarded {
            let update = UpdateVm { spec: Some(protected), ..UpdateVm::default() };
            self.done(Op::UpdateVm { id, expect: None, update });
        }
        if !stopped {
            self.runs(id);
        }
    }

    fn disk(&mut self, vm: &str, pool: &str) -> Value {
        let id = VolumeId(Uuid::from_u128(number(vm)));
        let spec = json!({"size_bytes": 1u64 << 30, "pool": pool_id(pool)});
        let create = json!({"name": format!("{vm}-disk"), "spec": spec});
        self.done(Op::CreateVolume { id, create: serde_json::from_value(create).unwrap() });
        self.done(Op::VolumeReady { id, size: Bytes(1 << 30), by: None });
        json!([{"volume": id}])
    }

    /// Its host says that it runs.
    pub(super) fn runs(&mut self, id: VmId) {
        let record = Arc::make_mut(self.state.vms.get_mut(&id).unwrap());
        record.vm.status.state = VmState::Running;
        record.vm.status.observed_generation = record.vm.meta.generation;
    }
}

impl World {
    pub(super) fn happens(&mut self, what: &str) {
        let words: Vec<&str> = what.split_whitespace().collect();
        match words.as_slice() {
            [h, "loses", "power"] => {
                let host = self.host(h);
                (host.powered, host.leased, host.until) = (false, false, 0);
                host.answer.clear();
            }
            [h, "is", "cut", "off"] => self.host(h).heard = false,
            [h, "hears", "nothing"] => self.host(h).hears = false,
            [h, "is", "reached", "again"] => (self.host(h).heard, self.host(h).hears) = (true, true),
            [h, "is", "suspended"] => self.host(h).asleep = true,
            [h, "wakes"] => self.host(h).asleep = false,
            ["the", "clock", "of", h, "loses", n, "ms", "a", "second"] => {
                self.host(h).loses = n.parse().unwrap();
            }
            [h, "boots"] => {
                let host = self.host(h);
                assert!(!host.powered, "`{h}` has power: it boots after it lost it");
                (host.powered, host.heard, host.hears, host.boot) = (true, true, true, host.boot + 1);
            }
            [h, "says", "that", "it", "started"] => {
                let boot = boot_id(self.host(h).boot);
                self.ask(Op::HostStarted { host: host_id(h), name: (*h).into(), boot });
            }
            [h, "has", "a", "BMC"] => {
                let spec = json!({"address": h, "username": "lq", "certificate": "00".repeat(32)});
                let set = json!({"spec": spec, "password": "p"});
                let set = serde_json::from_value(set).unwrap();
                self.ask(Op::SetBmc { id: host_id(h), expect: None, set });
            }
            ["the", "BMC", "of", h, "is", "silent"] => self.host(h).bmc.fails = Some("no answer".into()),
            ["the", "BMC", "of", h, "refuses", "the", "password"] => {
                self.host(h).bmc.fails = Some("it refuses the user or the password".into());
            }
            ["the", "BMC", "of", h, "lies"] => self.host(h).bmc.lies = true,
            ["the", "BMC", "of", h, "takes", n] => self.host(h).bmc.takes = n.parse::<u64>().unwrap() * 1000,
            [h, "is", "confirmed", "off"] => self.ask(Op::ConfirmOff { id: host_id(h), expect: None }),
            [h, "goes", "into", "maintenance"] => {
                let maintenance = Some(Maintenance { shut_down: false });
                self.ask(Op::SetMaintenance { id: host_id(h), expect: None, maintenance });
            }
            [h, "leaves", "maintenance"] => {
                self.ask(Op::SetMaintenance { id: host_id(h), expect: None, maintenance: None });
            }
            [h, "has", "room", "for", n] => self.make_room(h, n.parse().unwrap()),
            [h, "joins"] => self.add_host(h),
            [h, "is", "to", "leave"] => {
                self.ask(Op::LeaveHost { id: host_id(h), expect: None, force: true });
            }
            [h, "is", "removed"] => {
                self.ask(Op::RemoveHost { id: host_id(h), expect: None, force: true });
            }
            ["the", "cluster", "is", "formed", "anew", "without", lost @ ..] => self.reform(lost),
            ["nobody", "leads"] => self.manager = None,
            ["another", "leader"] => {
                self.pending.clear();
                self.lead();
            }
            ["another", "leader", "that", "has", "what", "was", "written"] => {
                let pending = std::mem::take(&mut self.pending);
                self.manager = None;
                pending.into_iter().for_each(|p: Pending| self.commit(p.op));
                self.lead();
            }
            ["the", "leader", "is", "suspended", "for", n] => {
                let ms = n.parse::<u64>().unwrap() * 1000;
                (self.now, self.slept) = (self.now + ms, self.slept + ms);
                self.say("the leader goes on");
            }
            ["no", "majority"] => self.majority = false,
            ["majority", "again"] => self.majority = true,
            [word @ ("disarmed" | "armed")] => {
                self.ask(Op::SetHa { spec: HaSpec { armed: *word == "armed" } });
            }
            ["writes", "hang"] => self.writes = Writes::Hang,
            ["writes", "take", n] => self.writes = Writes::Take(n.parse::<u64>().unwrap() * 1000),
            ["writes", "go", "on"] => self.writes = Writes::Take(0),
            ["pool", p, "is", "lost", "on", hosts @ ..] => {
                hosts.iter().for_each(|h| self.observe_pool(p, h, PoolState::Unreachable));
            }
            ["pool", p, "is", "back", "on", hosts @ ..] => {
                hosts.iter().for_each(|h| self.observe_pool(p, h, PoolState::Ready));
            }
            ["vm", v, rest @ ..] => self.vm_happens(v, rest),
            _ => panic!("`{what}` is not known to happen"),
        }
    }

    fn vm_happens(&mut self, v: &str, what: &[&str]) {
        let id = vm_id(v);
        let record = self.state.vms.get(&id).unwrap_or_else(|| panic!("no vm `{v}`")).clone();
        let power = |power| Op::PowerVm { id, expect: None, power };
        let moving = move_id(id);
        match what {
            ["is", "stopped"] => self.ask(power(Power::Stop(StopVm::default()))),
            ["is", "started"] => self.ask(power(Power::Start)),
            ["is", "paused"] => self.ask(power(Power::Pause)),
            ["is", "guarded"] => {
                let since = record.guard.unwrap().since;
                let host = record.vm.status.host.unwrap();
                self.ask(Op::GuardVm { id, host, epoch: record.epoch, since });
            }
            ["has", "priority", p] => {
                let mut spec = serde_json::to_value(&record.vm.spec).unwrap();
                spec["ha"] = json!({"priority": p});
                let spec = Some(serde_json::from_value(spec).unwrap());
                let update = UpdateVm { spec, ..UpdateVm::default() };
                self.ask(Op::UpdateVm { id, expect: None, update });
            }
            ["begins", "to", "move", "to", h] => {
                self.ask(Op::BeginMove { id, expect: None, moving, to: host_id(h), hardware: None });
            }
            ["switches"] => self.ask(Op::SwitchMove { id, moving }),
            ["has", "arrived"] => self.ask(Op::ConfirmMove { id, moving }),
            ["is", "given", "back"] => self.ask(Op::ReturnMove { id, moving }),
            ["stays"] => self.ask(Op::EndMove { id, moving }),
            ["is", "deleted"] => self.ask(Op::DeleteVm { id, expect: None }),
            _ => panic!("vm {v}: `{what:?}` is not known to happen"),
        }
    }

    fn reform(&mut self, lost: &[&str]) {
        let formation = Formation {
            epoch: self.state.epoch() + 1,
            at: Timestamp::UNIX_EPOCH,
            by: *self.hosts.keys().next().unwrap(),
            base: None,
            lost: lost.iter().map(|h| host_id(h)).collect(),
            restored: false,
        };
        self.ask(Op::Reform { formation });
    }
}
