//! What is asked by the control protocol, in QMP, and what of the machine is different once it is done.

use super::{
    command,
    link::Order,
    qmp::Execute,
    start,
    supervisor::{Change, Drive, Medium, Purpose, Supervisor, record, set_link},
};
use crate::control::Ticket;
use lq_api::local::vmm::{
    CdromEject, CdromInsert, Command, DiskLimitsChange, DiskResize, ExitReason, IoStats, NicLink, Outcome,
    RunState, Stats, Status,
};
use serde_json::{Value, json};
use std::{fs::File, os::fd::OwnedFd};

/// Sets of descriptors that came while it runs; those before have the numbers of their descriptors.
const FIRST_SET: u64 = 1 << 20;

/// Exits to user space, by KVM's count.
const EXITS: [&str; 2] = ["io_exits", "mmio_exits"];

fn not_on_qemu(what: &str) -> Outcome {
    Outcome::Error(format!("{what} is not done on QEMU"))
}

impl Supervisor {
    /// Answers a request, or has QEMU carry it out (`None`: the answer comes later).
    pub(super) fn command(
        &mut self,
        command: Command,
        descriptors: Vec<OwnedFd>,
        ticket: Ticket,
    ) -> Option<Outcome> {
        let ending = || Some(Outcome::Error("the machine is being ended".to_owned()));
        let (orders, change): (Vec<Order>, Change) = match command {
            Command::Status => return Some(Outcome::Status(self.status())),
            Command::Config => return Some(Outcome::Config(Box::new(self.config.clone()))),
            Command::Subscribe => {
                self.hub.subscribe(ticket.client);
                return Some(Outcome::Done);
            }
            Command::Quit => {
                self.begin_end(record(ExitReason::Told, "told to end".to_owned()));
                return Some(Outcome::Done);
            }
            Command::ForceQuit => {
                let detail = "told to end at once, without waiting for disks".to_owned();
                self.begin_end(record(ExitReason::Told, detail));
                self.kill();
                return Some(Outcome::Done);
            }
            _ if self.end.is_some() => return ending(),
            _ if self.link.is_full() => {
                return Some(Outcome::Error("QEMU does not answer: its disks may hang".to_owned()));
            }
            Command::Stats => {
                let vcpus = json!({"target": "vcpu", "providers": [{"provider": "kvm", "names": EXITS}]});
                let ask = [Execute::plain("query-blockstats"), Execute::with("query-stats", vcpus)];
                self.link.submit(ask.map(|execute| (execute, None)).into(), Purpose::Stats(ticket));
                return None;
            }
            Command::PowerButton if self.state != RunState::Running => {
                let state = format!("{:?}", self.state).to_lowercase();
                return Some(Outcome::Error(format!("the guest is {state} and cannot react")));
            }
            Command::Pause => (plain("stop"), Change::Nothing),
            Command::Resume => (plain("cont"), Change::Nothing),
            Command::Reset => (plain("system_reset"), Change::Nothing),
            Command::PowerButton => (plain("system_powerdown"), Change::Nothing),
            Command::DiskLimits(DiskLimitsChange { disk, limits }) => {
                let disk = disk as usize;
                if self.config.disks.get(disk).is_none() {
                    return Some(Outcome::Error(there_is_no("disk", disk)));
                }
                let path = format!("/objects/{}", command::limits_name(disk));
                let arguments =
                    json!({"path": path, "property": "limits", "value": command::limits(&limits)});
                (one(Execute::with("qom-set", arguments)), Change::Limits(disk, limits))
            }
            Command::DiskResize(DiskResize { disk, size_bytes }) => {
                let disk = disk as usize;
                match self.config.disks.get(disk) {
                    None => return Some(Outcome::Error(there_is_no("disk", disk))),
                    Some(of) if of.read_only => {
                        return Some(Outcome::Error(format!(
                            "disk {disk} is read-only: it cannot be made larger"
                        )));
                    }
                    Some(_) => {}
                }
                let arguments = json!({"node-name": command::resized_name(disk), "size": size_bytes});
                (one(Execute::with("block_resize", arguments)), Change::Nothing)
            }
            Command::NicLink(NicLink { nic, up }) => {
                let nic = nic as usize;
                if self.config.nics.get(nic).is_none() {
                    return Some(Outcome::Error(there_is_no("interface", nic)));
                }
                (one(set_link(nic, up)), Change::Link(nic, up))
            }
            Command::CdromEject(CdromEject { cdrom, force }) => match self.eject(cdrom as usize, force) {
                Ok(ordered) => ordered,
                Err(why) => return Some(Outcome::Error(why)),
            },
            Command::CdromInsert(CdromInsert { cdrom }) => match self.insert(cdrom as usize, descriptors) {
                Ok(ordered) => ordered,
                Err(why) => return Some(Outcome::Error(why)),
            },
            Command::MigrateStatus => {
                return Some(Outcome::Migration(lq_api::local::vmm::MigrationStatus::default()));
            }
            Command::Snapshot => return Some(not_on_qemu("saving a machine")),
            Command::MigrateOut(_)
            | Command::MigrateIn
            | Command::MigrateCancel
            | Command::MigrateReclaim => {
                return Some(not_on_qemu("moving a machine while it runs"));
            }
            Command::NicLimits(_) => return Some(not_on_qemu("limiting an interface")),
            Command::DiskPlug(_) | Command::NicPlug(_) | Command::Unplug(_) => {
                return Some(not_on_qemu("plugging devices while the machine runs"));
            }
            Command::BalloonTarget(_) | Command::BalloonStatus => return Some(not_on_qemu("a balloon")),
            Command::MemoryTarget(_) | Command::MemoryStatus => {
                return Some(not_on_qemu("memory that comes and goes"));
            }
            Command::CpuTarget(_) | Command::CpuStatus => {
                return Some(not_on_qemu("virtual CPUs that come and go"));
            }
            Command::LeaseSet(_) | Command::LeaseRelease(_) => return Some(not_on_qemu("a lease")),
        };
        self.link.submit(orders, Purpose::Asked(ticket, change));
        None
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            vm: self.config.vm,
            state: self.state,
            resets: self.resets,
            panicked: self.panicked,
            tpm_failed: false,
            short_of_room: false,
            back_ends_lost: Vec::new(),
            cdroms: self.drives.iter().map(|drive| drive.medium.is_some()).collect(),
            lease: None,
        }
    }

    fn eject(&mut self, n: usize, force: bool) -> Result<(Vec<Order>, Change), String> {
        let drive = self.drives.get_mut(n).ok_or_else(|| there_is_no("CD drive", n))?;
        if drive.ours {
            return Err(format!("the medium of CD drive {n} is being changed already"));
        }
        let id = command::drive_name(n);
        let open = Execute::with("blockdev-open-tray", json!({"id": id, "force": force}));
        if drive.medium.is_none() {
            return Ok((Vec::from([(Execute::plain("query-status"), None)]), Change::Nothing));
        }
        drive.ours = true;
        let remove = Execute::with("blockdev-remove-medium", json!({"id": id}));
        Ok((vec![(open, None), (remove, None)], Change::Ejected(n)))
    }

    fn insert(&mut self, n: usize, mut descriptors: Vec<OwnedFd>) -> Result<(Vec<Order>, Change), String> {
        let drive = self.drives.get_mut(n).ok_or_else(|| there_is_no("CD drive", n))?;
        let Some(descriptor) = descriptors.pop() else {
            return Err("no descriptor came with the request".to_owned());
        };
        if drive.medium.is_some() || drive.ours {
            return Err(format!("there is a medium in CD drive {n}: eject it first"));
        }
        drive.ours = true;
        let number = self.media_so_far;
        self.media_so_far += 1;
        let medium = Medium { number, set: FIRST_SET + number };
        let file = File::from(descriptor);
        let mut handed = start::handed(&file);
        // In QEMU it has the number of its set.
        handed.descriptor = i32::try_from(medium.set).unwrap_or(i32::MAX);
        let (id, name) = (command::drive_name(n), command::medium_name(number));
        let mut orders: Vec<Order> =
            vec![(Execute::with("add-fd", json!({"fdset-id": medium.set})), Some(file.into()))];
        let nodes = command::medium_nodes(&name, handed);
        orders.extend(nodes.map(|node| (Execute::with("blockdev-add", node), None)));
        orders.extend([
            // Nothing is in it that a guest could have locked.
            (Execute::with("blockdev-open-tray", json!({"id": id, "force": true})), None),
            (Execute::with("blockdev-insert-medium", json!({"id": id, "node-name": name})), None),
            (Execute::with("blockdev-close-tray", json!({"id": id})), None),
        ]);
        Ok((orders, Change::Inserted(n, medium)))
    }

    /// What was asked for is done, or was refused.
    pub(super) fn changed(&mut self, change: Change, done: bool) {
        match change {
            Change::Nothing => {}
            Change::Limits(disk, limits) if done => {
                self.config.disks.get_mut(disk).into_iter().for_each(|disk| disk.limits = limits);
            }
            Change::Link(nic, up) if done => {
                self.config.nics.get_mut(nic).into_iter().for_each(|nic| nic.link_down = !up);
            }
            Change::Limits(..) | Change::Link(..) => {}
            Change::Ejected(n) => {
                let Some(drive) = self.drives.get_mut(n) else { return };
                drive.ours = false;
                let medium = drive.medium.filter(|_| done);
                if let Some(medium) = medium {
                    self.let_go(n, medium);
                }
            }
            Change::Inserted(n, medium) => {
                let Some(drive) = self.drives.get_mut(n) else { return };
                *drive = Drive { medium: done.then_some(medium), ours: false };
                if !done {
                    self.drop_medium(n, medium);
                }
            }
        }
    }

    /// A medium is out of its drive.
    pub(super) fn let_go(&mut self, n: usize, medium: Medium) {
        if let Some(drive) = self.drives.get_mut(n) {
            drive.medium = None;
        }
        self.drop_medium(n, medium);
    }

    /// QEMU closes what a medium was read from.
    fn drop_medium(&mut self, n: usize, medium: Medium) {
        let name = command::medium_name(medium.number);
        let file = format!("{name}-file");
        let orders = [
            Execute::with("blockdev-del", json!({"node-name": name})),
            Execute::with("blockdev-del", json!({"node-name": file})),
            Execute::with("remove-fd", json!({"fdset-id": medium.set})),
            Execute::with("blockdev-close-tray", json!({"id": command::drive_name(n)})),
        ];
        let orders = orders.map(|execute| (execute, None)).into();
        self.link.submit(orders, Purpose::Aside("closing a medium"));
    }

    /// The counters, from QEMU's answers and the host's own.
    pub(super) fn stats(&self, results: &[Result<Value, String>]) -> Outcome {
        let blocks = match results.first() {
            Some(Ok(blocks)) => blocks,
            Some(Err(why)) => return Outcome::Error(why.clone()),
            None => return Outcome::Error("QEMU did not answer".to_owned()),
        };
        let disks = (0..self.config.disks.len()).map(|n| disk_stats(blocks, &command::disk_name(n)));
        let exits = results.get(1).and_then(|exits| exits.as_ref().ok()).map_or(0, exits);
        Outcome::Stats(Stats {
            exits,
            disks: disks.collect(),
            nics: self.traffic.iter().map(super::traffic::Traffic::read).collect(),
        })
    }
}

fn there_is_no(what: &str, n: usize) -> String {
    format!("there is no {what} {n}")
}

fn one(execute: Execute) -> Vec<Order> {
    vec![(execute, None)]
}

fn plain(command: &'static str) -> Vec<Order> {
    one(Execute::plain(command))
}

/// Counters of the device on the node `name`.
fn disk_stats(blocks: &Value, name: &str) -> IoStats {
    let mut all = blocks.as_array().into_iter().flatten();
    let of = all.find(|one| one.get("node-name").and_then(Value::as_str) == Some(name));
    let count = |field: &str| of.and_then(|of| of.pointer(&format!("/stats/{field}"))?.as_u64()).unwrap_or(0);
    let failed = [
        "failed_rd_operations",
        "failed_wr_operations",
        "failed_flush_operations",
        "failed_unmap_operations",
    ];
    IoStats {
        read_bytes: count("rd_bytes"),
        written_bytes: count("wr_bytes"),
        reads: count("rd_operations"),
        writes: count("wr_operations"),
        errors: failed.into_iter().map(count).fold(0, u64::saturating_add),
    }
}

/// Exits to user space of all virtual CPUs.
fn exits(answer: &Value) -> u64 {
    let vcpus = answer.as_array().into_iter().flatten();
    let stats = vcpus.filter_map(|vcpu| vcpu.get("stats")?.as_array()).flatten();
    stats.filter_map(|stat| stat.get("value")?.as_u64()).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_and_what_is_missing_is_zero() {
        let blocks = json!([
            {"node-name": "cd", "stats": {"rd_bytes": 9}},
            {"node-name": "disk1", "stats": {"rd_bytes": 1, "wr_bytes": 2, "rd_operations": 3, "wr_operations": 4,
                "failed_rd_operations": 5, "failed_wr_operations": 6, "failed_unmap_operations": 7}},
        ]);
        let stats = disk_stats(&blocks, "disk1");
        assert_eq!(stats, IoStats { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4, errors: 18 });
        assert_eq!(disk_stats(&blocks, "disk0"), IoStats::default());
        assert_eq!(disk_stats(&json!(3), "disk0"), IoStats::default());
    }

    #[test]
    fn exits_of_all_processors_are_added() {
        let answer = json!([
            {"provider": "kvm", "stats": [{"name": "io_exits", "value": 3}, {"name": "mmio_exits", "value": 4}]},
            {"provider": "kvm", "stats": [{"name": "io_exits", "value": 5}, {"name": "odd", "value": "x"}]},
        ]);
        assert_eq!(exits(&answer), 12);
        assert_eq!(exits(&json!({})), 0);
    }
}
