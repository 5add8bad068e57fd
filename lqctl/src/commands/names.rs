//! Names of the cluster's objects in place of ids, for people. A courtesy: what cannot be had, or is gone, keeps its id.

use super::Session;
use crate::output::Format;
use lq_api::host::Host;
use std::{collections::BTreeMap, fmt::Display};

/// Names by id, each with the word tasks and events have for the kind.
#[derive(Default)]
pub(super) struct Names {
    known: BTreeMap<String, (&'static str, String)>,
}

impl Names {
    /// Of everything machines, tasks and events speak of. Nothing is asked where programs read, which get ids.
    pub(super) async fn load(session: &Session) -> Self {
        if session.format != Format::Table {
            return Self::default();
        }
        let client = &session.client;
        let (hosts, vms, volumes) = tokio::join!(client.hosts(), client.vms(), client.volumes());
        let (images, networks, pools) = tokio::join!(client.images(), client.networks(), client.pools());
        let mut names = Self::default();
        names.add_hosts(hosts.unwrap_or_default());
        names.add("vm", vms.unwrap_or_default().into_iter().map(|o| (o.meta.id, o.meta.name)));
        names.add("volume", volumes.unwrap_or_default().into_iter().map(|o| (o.meta.id, o.meta.name)));
        names.add("image", images.unwrap_or_default().into_iter().map(|o| (o.meta.id, o.meta.name)));
        names.add("network", networks.unwrap_or_default().into_iter().map(|o| (o.meta.id, o.meta.name)));
        names.add("pool", pools.unwrap_or_default().into_iter().map(|o| (o.meta.id, o.meta.name)));
        names
    }

    /// Of hosts alone.
    pub(super) async fn of_hosts(session: &Session) -> Self {
        let mut names = Self::default();
        if session.format == Format::Table {
            names.add_hosts(session.client.hosts().await.unwrap_or_default());
        }
        names
    }

    fn add_hosts(&mut self, hosts: Vec<Host>) {
        self.add("host", hosts.into_iter().map(|o| (o.meta.id, o.meta.name)));
    }

    fn add(&mut self, kind: &'static str, objects: impl Iterator<Item = (impl Display, String)>) {
        self.known.extend(objects.map(|(id, name)| (id.to_string(), (kind, name))));
    }

    /// The object's name, or its id.
    pub(super) fn name(&self, id: impl Display) -> String {
        let id = id.to_string();
        self.known.get(&id).map_or(id, |(_, name)| name.clone())
    }

    /// What a task or an event is about, as `kind/name`, also where it is gone and the name was kept.
    pub(super) fn about(&self, target: &str, kept: Option<&str>) -> String {
        let now = self.target(target);
        match (kept, target.split_once('/')) {
            (Some(name), Some((kind, _))) if now == target => format!("{kind}/{name}"),
            _ => now,
        }
    }

    /// What tasks and events call `kind/id`, as `kind/name`.
    pub(super) fn target(&self, target: &str) -> String {
        let known = target.split_once('/').and_then(|(kind, id)| Some((kind, self.known.get(id)?)));
        match known {
            Some((kind, (of, name))) if kind == *of => format!("{kind}/{name}"),
            _ => target.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_named_and_the_rest_keeps_its_id() {
        let mut names = Names::default();
        names.add("vm", [("1", "web".to_owned())].into_iter());
        assert_eq!((names.name("1"), names.name("2")), ("web".into(), "2".into()));
        assert_eq!(names.target("vm/1"), "vm/web");
        // Another kind with the same id is another object.
        assert_eq!(names.target("volume/1"), "volume/1");
        assert_eq!(names.target("cluster"), "cluster");
        // What is gone is called as it was; what is there as it is.
        assert_eq!(names.about("volume/9", Some("data")), "volume/data");
        assert_eq!(names.about("vm/1", Some("old")), "vm/web");
        assert_eq!(names.about("volume/9", None), "volume/9");
    }
}
