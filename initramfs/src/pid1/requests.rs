//! What PID 1 answers to requests at its socket.

use super::{
    Client, Loop,
    jobs::{Job, Purpose},
    network::Management,
    shutdown::GUEST,
};
use crate::{
    error::{Error, Result, chain},
    reset,
    sys::spawn::{Process, open_log, spawn},
};
use lq_api::local::init::{InitAnswer, InitEvent, InitRequest, Unit};
use std::{path::Path, time::Instant};

impl Loop {
    /// Answers one request. Nothing a client sends is fatal.
    pub(super) fn handle_line(&mut self, client: &mut Client, line: &str) {
        if client.subscribed || client.busy {
            // The connection carries events only, or another answer comes first: there is no place for one.
            client.gone = true;
            return;
        }
        let answer = match serde_json::from_str::<InitRequest>(line) {
            Ok(InitRequest::Subscribe) => {
                client.subscribed = true;
                self.send_backlog(client);
                return;
            }
            Ok(InitRequest::KeepNetwork) => match self.keep_network(client.id) {
                Ok(job) => return self.wait_for(client, job),
                Err(reason) => Err(reason),
            },
            Ok(InitRequest::FactoryReset { data }) => match self.factory_reset(client.id, data) {
                Ok(job) => return self.wait_for(client, job),
                Err(reason) => Err(reason),
            },
            Ok(request) => self.handle(request),
            Err(e) => Err(format!("the request is not understood: {e}")),
        };
        let answer = answer.unwrap_or_else(|reason| InitAnswer::Error { reason });
        client.gone |= client.lines.queue(&answer).is_err();
    }

    fn handle(&mut self, request: InitRequest) -> std::result::Result<InitAnswer, String> {
        match request {
            InitRequest::Spawn(unit) => self.spawn_unit(&unit),
            InitRequest::Signal { name, signal } => {
                if !(1..=31).contains(&signal) {
                    return Err(format!("{signal} is not a signal from 1 to 31"));
                }
                let pid = self.units.pid(&name)?;
                self.signal(pid, signal);
                Ok(InitAnswer::Done)
            }
            InitRequest::List => Ok(InitAnswer::Units { units: self.units.list() }),
            InitRequest::Forget { name } => {
                self.units.forget(&name)?;
                Ok(InitAnswer::Done)
            }
            InitRequest::Shutdown { reboot, reason } => {
                let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
                self.begin_shutdown(reboot, &reason);
                Ok(InitAnswer::Done)
            }
            InitRequest::Watch { closely } => {
                self.watch(closely);
                Ok(InitAnswer::Done)
            }
            InitRequest::Network => Ok(InitAnswer::Network(Box::new(self.network()?.state(Instant::now())))),
            InitRequest::TryNetwork(wanted) => {
                self.network()?.try_out(Instant::now(), wanted)?;
                Ok(InitAnswer::Done)
            }
            InitRequest::RevertNetwork => {
                self.network()?.revert(Instant::now());
                Ok(InitAnswer::Done)
            }
            InitRequest::Subscribe | InitRequest::KeepNetwork | InitRequest::FactoryReset { .. } => {
                Err("already handled".into())
            }
        }
    }

    fn network(&mut self) -> std::result::Result<&mut Management, String> {
        self.management.as_mut().ok_or_else(|| "the management network is not ours to change".into())
    }

    fn keep_network(&mut self, client: u64) -> std::result::Result<Job, String> {
        let work = self.network()?.keep()?;
        Job::begin(client, Purpose::KeepNetwork, work).inspect_err(|reason| {
            if let Some(management) = &mut self.management {
                management.kept(&Err(reason.clone()));
            }
        })
    }

    fn factory_reset(&self, client: u64, data: bool) -> std::result::Result<Job, String> {
        let state = self.config.state.clone().ok_or(
            "only a host that runs from its disk, with its state partition in use, can be reset: install it anew",
        )?;
        Job::begin(client, Purpose::FactoryReset, move || reset::ask(&state, data).map_err(|e| chain(&e)))
    }

    fn wait_for(&mut self, client: &mut Client, job: Job) {
        client.busy = true;
        self.jobs.push(job);
    }

    fn spawn_unit(&mut self, unit: &Unit) -> std::result::Result<InitAnswer, String> {
        if self.shutdown.is_some() {
            return Err("the host is going down".into());
        }
        self.units.check_free(&unit.name)?;
        let pid = start(unit).map_err(|e| chain(&e))?;
        self.units.started(&unit.name, pid, unit.stop_seconds);
        Ok(InitAnswer::Spawned { pid: pid.unsigned_abs() })
    }

    fn send_backlog(&self, client: &mut Client) {
        let ended = self.units.list().into_iter().filter_map(|u| {
            let end = u.end?;
            Some(InitEvent::Ended { name: u.name, pid: u.pid, end })
        });
        for event in ended {
            client.gone |= client.lines.queue(&event).is_err();
        }
        // Told already: the others will be told in this round.
        if let Some((_, outcome)) = self.shutdown.as_ref().filter(|_| self.announced) {
            client.gone |= client.lines.queue(&InitEvent::GoingDown { reboot: outcome.reboot }).is_err();
        }
    }
}

fn start(unit: &Unit) -> Result<i32> {
    let cgroup = unit.cgroup.as_deref().map(Path::new);
    if let Some(path) = cgroup
        && (!path.starts_with("/sys/fs/cgroup")
            || path.components().any(|c| c == std::path::Component::ParentDir))
    {
        return Err(Error::wrong(format!("the cgroup {} is not below /sys/fs/cgroup", path.display())));
    }
    let mut process = Process::new(&unit.argv);
    process.env = unit.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    process.cgroup = cgroup;
    process.new_pid_namespace = unit.new_pid_namespace;
    process.output = unit.log.as_deref().map(|log| open_log(Path::new(log))).transpose()?;
    // Guests go before the host's own parts when memory runs out, but not before stray processes.
    process.oom_score = unit.name.starts_with(GUEST).then_some(0);
    spawn(&process)
}
