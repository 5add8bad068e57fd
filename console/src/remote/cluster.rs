//! What concerns this host as a member of its cluster: the time, maintenance, joining another, and forming the cluster anew.

use super::{Fallible, Outcome, Remote, VmRow, decode, text, vm_row};
use crate::{
    clock::Clock,
    joining::Preview,
    maintenance::Maintenance,
    recovery::Recovery,
    settling::{Aim, Settling},
};
use lq_api::{
    HostId, TaskId,
    cluster::{Cluster, JoinCluster, JoinPreview},
    host::HostMaintenance,
    list::Page,
    recovery::{NewEpoch, ReformCluster},
    task::Task,
    time::{Time, TimeSpec},
};
use serde_json::{Value, json};
use std::time::Duration;

/// The daemon asks each host of the token in turn, and each may take half a minute.
const JOINING: Duration = Duration::from_secs(270);

/// The task that empties a host.
const EVACUATE: &str = "host.evacuate";

impl Remote {
    pub(super) fn cluster(&mut self) -> Fallible<Cluster> {
        decode(&self.call("GET", "/cluster", None)?)
    }

    /// How the clocks do.
    pub(super) fn clock(&mut self) -> Fallible<Clock> {
        let this_host = self.cluster()?.this_host;
        let time: Time = decode(&self.call("GET", "/cluster/time", None)?)?;
        Ok(Clock::new(time, this_host))
    }

    /// From now on these servers, for all hosts.
    pub(super) fn set_time(&mut self, spec: &TimeSpec) -> Fallible<Outcome> {
        self.call("PUT", "/cluster/time", Some(json!(spec)))?;
        Ok(Outcome::Clock(Box::new(self.clock()?)))
    }

    /// How this host's maintenance stands.
    pub(super) fn maintenance(&mut self) -> Fallible<Maintenance> {
        let cluster = self.cluster()?;
        let id = cluster.this_host;
        let host: Value = decode(&self.call("GET", &format!("/hosts/{id}"), None)?)?;
        let tasks: Page<Task> =
            decode(&self.call("GET", &format!("/tasks?target=host/{id}&limit=100"), None)?)?;
        Ok(Maintenance {
            name: text(&host, "/meta/name").to_owned(),
            on: host.get("maintenance").and_then(Value::as_bool).unwrap_or_default(),
            alone: cluster.members.len() < 2,
            machines: self.running_here(id)?,
            // Newest first, as they come.
            task: tasks.items.into_iter().find(|t| t.kind == EVACUATE),
        })
    }

    /// Machines of this host that are not at rest.
    fn running_here(&mut self, host: HostId) -> Fallible<Vec<VmRow>> {
        let (host, mut found, mut cursor) = (host.to_string(), Vec::new(), None::<String>);
        loop {
            let after = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
            let page: Value = decode(&self.call("GET", &format!("/vms?limit=1000{after}"), None)?)?;
            let items = page.get("items").and_then(Value::as_array);
            let here = items.into_iter().flatten().filter(|vm| {
                text(vm, "/status/host") == host
                    && !matches!(text(vm, "/status/state"), "" | "stopped" | "failed")
            });
            found.extend(here.filter_map(vm_row));
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) fn set_maintenance(&mut self, wish: HostMaintenance) -> Fallible<Outcome> {
        let path = self.here("maintenance")?;
        self.call("POST", &path, Some(json!(wish)))?;
        Ok(Outcome::Maintenance(Box::new(self.maintenance()?)))
    }

    pub(super) fn cancel_task(&mut self, id: TaskId) -> Fallible<Outcome> {
        self.call("POST", &format!("/tasks/{id}/cancel"), None)?;
        Ok(Outcome::Maintenance(Box::new(self.maintenance()?)))
    }

    /// What joining would do.
    pub(super) fn preview_join(&mut self, token: String) -> Fallible<Outcome> {
        let body = json!(JoinCluster { token: token.clone(), rename: true });
        let preview = decode(&self.call_for("POST", "/cluster/join/preview", Some(body), JOINING)?)?;
        Ok(Outcome::JoinPreview(Box::new(Preview { token, preview })))
    }

    /// Joins. The accounts of this host end with it, and so does the session.
    pub(super) fn join(&mut self, token: &str, rename: bool) -> Fallible<Outcome> {
        let body = json!(JoinCluster { token: token.to_owned(), rename });
        let joined: JoinPreview = decode(&self.call_for("POST", "/cluster/join", Some(body), JOINING)?)?;
        self.session = None;
        let facts = vec![
            format!("The cluster has admitted this host; its other hosts: {}.", joined.hosts.join(", ")),
            "Machines run on. The accounts of this host have ended.".to_owned(),
        ];
        Ok(Outcome::Settling(Box::new(Settling::new(Aim::Cluster(joined.cluster), facts))))
    }

    /// What forming the cluster anew from this host would mean.
    pub(super) fn recovery(&mut self) -> Fallible<Outcome> {
        let cluster = self.cluster()?;
        let preview = decode(&self.call("GET", "/cluster/reform", None)?)?;
        Ok(Outcome::Recovery(Box::new(Recovery::new(cluster, preview))))
    }

    /// Does it. The session ends with the daemon that it was begun at.
    pub(super) fn reform(&mut self, confirm: String, lost: Vec<HostId>) -> Fallible<Outcome> {
        let body = ReformCluster { confirm, lost };
        let begun: NewEpoch = decode(&self.call("POST", "/cluster/reform", Some(json!(body)))?)?;
        self.session = None;
        let facts = vec![
            format!("Epoch {} begins; machines run on.", begun.epoch),
            format!("The state before it is in the backup {}.", begun.backup),
        ];
        Ok(Outcome::Settling(Box::new(Settling::new(Aim::Epoch(begun.epoch), facts))))
    }
}
