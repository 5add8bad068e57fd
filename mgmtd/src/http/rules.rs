//! What each endpoint takes. One table, checked before anything of the request but its path is looked at; an endpoint that is
//! not in it is refused to everyone (a test keeps table and OpenAPI document equal).
//!
//! Where the path names an object, the decision is made here for that object. What only the body tells (labels of a new object,
//! what a machine is given) and what a list shows is decided in the handlers, by the same rights.

use super::{extract::not_an_id, problem::Failure};
use crate::{
    auth::Caller,
    cluster::{Cluster, State},
};
use lq_api::{
    access::{ObjectKind as O, Permission as P},
    problem::Kind,
};
use uuid::Uuid;

/// What it takes to use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing.
    Open,
    /// A caller who is known. What they see or reach of it is the handler's to decide.
    Anyone,
    /// The permission on the cluster.
    Cluster(P),
    /// The permission on something; on what is the handler's to decide.
    Some(P),
    /// The permission on the object in the path.
    On(O, P),
    /// Every permission on the cluster: a host that is let in, or one that goes elsewhere, takes with it whatever the state
    /// holds, hashes of passwords and keys of sessions included; whom an identity provider calls someone is that someone.
    Everything,
}

/// Method, path below `/api/v1`, rule.
pub(super) const RULES: &[(&str, &str, Rule)] = &[
    ("GET", "/openapi.json", Rule::Open),
    ("GET", "/setup", Rule::Open),
    ("POST", "/setup", Rule::Open),
    ("POST", "/session", Rule::Open),
    ("POST", "/session/refresh", Rule::Open),
    ("GET", "/session/realms", Rule::Open),
    ("POST", "/session/oidc/start", Rule::Open),
    ("POST", "/session/oidc", Rule::Open),
    ("GET", "/session", Rule::Anyone),
    ("DELETE", "/session", Rule::Anyone),
    ("POST", "/session/password", Rule::Anyone),
    ("GET", "/session/settings", Rule::Anyone),
    ("PUT", "/session/settings", Rule::Anyone),
    ("POST", "/session/totp", Rule::Anyone),
    ("POST", "/session/totp/confirm", Rule::Anyone),
    ("POST", "/session/totp/remove", Rule::Anyone),
    ("GET", "/sessions", Rule::Anyone),
    ("DELETE", "/sessions/{id}", Rule::Anyone),
    ("GET", "/tokens", Rule::Anyone),
    ("POST", "/tokens", Rule::Anyone),
    ("DELETE", "/tokens/{id}", Rule::Anyone),
    ("GET", "/permissions", Rule::Anyone),
    ("GET", "/users", Rule::Anyone),
    ("POST", "/users", Rule::Cluster(P::UserWrite)),
    ("GET", "/users/{id}", Rule::Anyone),
    ("PATCH", "/users/{id}", Rule::Cluster(P::UserWrite)),
    ("DELETE", "/users/{id}", Rule::Cluster(P::UserWrite)),
    ("POST", "/users/{id}/password", Rule::Cluster(P::UserWrite)),
    ("DELETE", "/users/{id}/totp", Rule::Cluster(P::UserWrite)),
    ("GET", "/groups", Rule::Anyone),
    ("POST", "/groups", Rule::Cluster(P::UserWrite)),
    ("GET", "/groups/{id}", Rule::Anyone),
    ("PATCH", "/groups/{id}", Rule::Cluster(P::UserWrite)),
    ("DELETE", "/groups/{id}", Rule::Cluster(P::UserWrite)),
    ("GET", "/roles", Rule::Anyone),
    ("POST", "/roles", Rule::Cluster(P::UserWrite)),
    ("GET", "/roles/{id}", Rule::Anyone),
    ("PATCH", "/roles/{id}", Rule::Cluster(P::UserWrite)),
    ("DELETE", "/roles/{id}", Rule::Cluster(P::UserWrite)),
    ("GET", "/identity-providers", Rule::Cluster(P::UserRead)),
    ("POST", "/identity-providers", Rule::Everything),
    ("GET", "/identity-providers/{id}", Rule::Cluster(P::UserRead)),
    ("PATCH", "/identity-providers/{id}", Rule::Everything),
    ("DELETE", "/identity-providers/{id}", Rule::Everything),
    ("POST", "/identity-providers/{id}/test", Rule::Everything),
    ("GET", "/audit", Rule::Cluster(P::AuditRead)),
    ("GET", "/cluster", Rule::Cluster(P::ClusterRead)),
    ("GET", "/cluster/usage", Rule::Anyone),
    ("GET", "/cluster/ha", Rule::Cluster(P::ClusterRead)),
    ("PUT", "/cluster/ha", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/cluster/join-tokens", Rule::Cluster(P::ClusterRead)),
    ("POST", "/cluster/join-tokens", Rule::Everything),
    ("DELETE", "/cluster/join-tokens/{id}", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/cluster/join/preview", Rule::Everything),
    ("POST", "/cluster/join", Rule::Everything),
    ("GET", "/cluster/waiting", Rule::Cluster(P::ClusterRead)),
    ("POST", "/cluster/pair", Rule::Everything),
    ("GET", "/cluster/pairing", Rule::Everything),
    ("PUT", "/cluster/pairing", Rule::Everything),
    ("GET", "/cluster/time", Rule::Cluster(P::ClusterRead)),
    ("PUT", "/cluster/time", Rule::Cluster(P::ClusterWrite)),
    ("PUT", "/cluster/balance", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/cluster/recommendations", Rule::Cluster(P::ClusterRead)),
    ("GET", "/cluster/reform", Rule::Everything),
    ("POST", "/cluster/reform", Rule::Everything),
    ("GET", "/cluster/backups", Rule::Cluster(P::ClusterRead)),
    ("POST", "/cluster/backups", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/cluster/backups/{id}/content", Rule::Everything),
    ("POST", "/cluster/restore", Rule::Everything),
    ("POST", "/placement", Rule::Some(P::VmWrite)),
    ("GET", "/hosts", Rule::Anyone),
    ("GET", "/hosts/{id}", Rule::On(O::Host, P::HostRead)),
    ("GET", "/hosts/{id}/history", Rule::On(O::Host, P::HostRead)),
    ("PATCH", "/hosts/{id}", Rule::Cluster(P::ClusterWrite)),
    ("DELETE", "/hosts/{id}", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/power", Rule::On(O::Host, P::HostPower)),
    ("POST", "/hosts/{id}/maintenance", Rule::On(O::Host, P::HostPower)),
    ("POST", "/hosts/{id}/confirm-off", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/hosts/{id}/bmc", Rule::Cluster(P::ClusterWrite)),
    ("PUT", "/hosts/{id}/bmc", Rule::Cluster(P::ClusterWrite)),
    ("DELETE", "/hosts/{id}/bmc", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/bmc/test", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/hosts/{id}/network", Rule::On(O::Host, P::HostRead)),
    ("PUT", "/hosts/{id}/network", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/network/keep", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/network/revert", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/network/test", Rule::On(O::Host, P::HostRead)),
    ("POST", "/hosts/{id}/certificate", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/hosts/{id}/factory-reset", Rule::Everything),
    ("GET", "/hosts/{id}/support-bundle", Rule::Everything),
    ("POST", "/hosts/{id}/support-bundle", Rule::Everything),
    ("GET", "/hosts/{id}/removable", Rule::On(O::Host, P::HostRead)),
    ("GET", "/vms", Rule::Anyone),
    ("POST", "/vms", Rule::Some(P::VmWrite)),
    ("GET", "/vms/{id}", Rule::On(O::Vm, P::VmRead)),
    ("PATCH", "/vms/{id}", Rule::On(O::Vm, P::VmWrite)),
    ("DELETE", "/vms/{id}", Rule::On(O::Vm, P::VmWrite)),
    ("POST", "/vms/{id}/start", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/stop", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/reset", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/restart", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/pause", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/resume", Rule::On(O::Vm, P::VmPower)),
    ("POST", "/vms/{id}/migrate", Rule::On(O::Vm, P::VmWrite)),
    ("GET", "/vms/{id}/stats", Rule::On(O::Vm, P::VmRead)),
    ("GET", "/vms/{id}/history", Rule::On(O::Vm, P::VmRead)),
    ("GET", "/vms/{id}/console", Rule::On(O::Vm, P::VmConsole)),
    ("GET", "/vms/{id}/display", Rule::On(O::Vm, P::VmConsole)),
    ("GET", "/images", Rule::Anyone),
    ("POST", "/images", Rule::Some(P::StorageWrite)),
    ("GET", "/images/{id}", Rule::On(O::Image, P::StorageRead)),
    ("PATCH", "/images/{id}", Rule::On(O::Image, P::StorageWrite)),
    ("DELETE", "/images/{id}", Rule::On(O::Image, P::StorageWrite)),
    ("PUT", "/images/{id}/content", Rule::On(O::Image, P::StorageWrite)),
    ("GET", "/volumes", Rule::Anyone),
    ("POST", "/volumes", Rule::Some(P::StorageWrite)),
    ("GET", "/volumes/{id}", Rule::On(O::Volume, P::StorageRead)),
    ("PATCH", "/volumes/{id}", Rule::On(O::Volume, P::StorageWrite)),
    ("DELETE", "/volumes/{id}", Rule::On(O::Volume, P::StorageWrite)),
    ("POST", "/volumes/{id}/grow", Rule::On(O::Volume, P::StorageWrite)),
    ("GET", "/networks", Rule::Anyone),
    ("POST", "/networks", Rule::Some(P::NetworkWrite)),
    ("GET", "/networks/{id}", Rule::On(O::Network, P::NetworkRead)),
    ("PATCH", "/networks/{id}", Rule::On(O::Network, P::NetworkWrite)),
    ("DELETE", "/networks/{id}", Rule::On(O::Network, P::NetworkWrite)),
    ("GET", "/pools", Rule::Anyone),
    ("POST", "/pools", Rule::Cluster(P::StorageWrite)),
    ("GET", "/pools/{id}", Rule::On(O::Pool, P::StorageRead)),
    ("PATCH", "/pools/{id}", Rule::On(O::Pool, P::StorageWrite)),
    ("DELETE", "/pools/{id}", Rule::Cluster(P::StorageWrite)),
    ("POST", "/pools/{id}/foreign/adopt", Rule::Cluster(P::StorageWrite)),
    ("POST", "/pools/{id}/foreign/delete", Rule::Cluster(P::StorageWrite)),
    ("GET", "/tasks", Rule::Anyone),
    ("GET", "/tasks/{id}", Rule::Anyone),
    ("POST", "/tasks/{id}/cancel", Rule::Anyone),
    ("GET", "/events", Rule::Anyone),
    ("GET", "/events/stream", Rule::Anyone),
    ("GET", "/alerts", Rule::Anyone),
    ("GET", "/alerts/{id}", Rule::Anyone),
    ("POST", "/alerts/{id}/acknowledge", Rule::Anyone),
    ("POST", "/alerts/{id}/silence", Rule::Anyone),
    ("GET", "/alert-rules", Rule::Cluster(P::ClusterRead)),
    ("PUT", "/alert-rules/{id}", Rule::Cluster(P::ClusterWrite)),
    ("DELETE", "/alert-rules/{id}", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/notification-channels", Rule::Cluster(P::ClusterRead)),
    ("POST", "/notification-channels", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/notification-channels/{id}", Rule::Cluster(P::ClusterRead)),
    ("PATCH", "/notification-channels/{id}", Rule::Cluster(P::ClusterWrite)),
    ("DELETE", "/notification-channels/{id}", Rule::Cluster(P::ClusterWrite)),
    ("POST", "/notification-channels/{id}/test", Rule::Cluster(P::ClusterWrite)),
    ("GET", "/watch", Rule::Anyone),
];

impl Rule {
    /// Whether what it guards is reading alone.
    pub(super) fn reads(self) -> bool {
        match self {
            Self::Open | Self::Anyone => true,
            Self::Everything => false,
            Self::Cluster(permission) | Self::Some(permission) | Self::On(_, permission) => {
                permission.reads()
            }
        }
    }
}

/// What a user who has to set a new password may still do.
pub(super) const BEFORE_PASSWORD_CHANGE: [(&str, &str); 4] =
    [("GET", "/session"), ("DELETE", "/session"), ("POST", "/session/password"), ("GET", "/permissions")];

/// The rule of an endpoint.
pub(super) fn rule(method: &str, path: &str) -> Option<Rule> {
    // What may be got may be asked about.
    let method = if method == "HEAD" { "GET" } else { method };
    RULES.iter().find(|(m, p, _)| *m == method && *p == path).map(|(_, _, rule)| *rule)
}

/// Refuses the caller what the rule does not allow them. `id` is the one in the path.
pub(super) fn check(cluster: &Cluster, caller: &Caller, rule: Rule, id: Option<&str>) -> Result<(), Failure> {
    match rule {
        Rule::Open | Rule::Anyone => Ok(()),
        Rule::Cluster(permission) if caller.may_all(permission) => Ok(()),
        Rule::Some(permission) if caller.rights.somewhere(permission) => Ok(()),
        Rule::Everything if caller.may_everything() => Ok(()),
        Rule::Everything => {
            let why = "this gives away, or replaces, all that the cluster has, or who is believed to be whom: only who may do everything may do it";
            Err(Failure::new(Kind::Forbidden, why))
        }
        Rule::Cluster(permission) => Err(missing(permission, "the cluster")),
        Rule::Some(permission) => Err(missing(permission, "anything")),
        Rule::On(kind, permission) => {
            if !caller.rights.somewhere(permission) && !caller.rights.somewhere(kind.read_permission()) {
                return Err(missing(permission, "anything"));
            }
            // The path is as it was sent: a handler would read `%30` as `0`, so what is no id here must not reach it.
            let text = id.unwrap_or_default();
            let id = text.parse::<Uuid>().map_err(|_| not_an_id(text))?;
            cluster.read(|s| on_object(s, caller, kind, id, permission))
        }
    }
}

/// Refuses the caller what they may not do to an object, and even that it exists if they may not see it.
pub(super) fn on_object(
    state: &State,
    caller: &Caller,
    kind: O,
    id: Uuid,
    permission: P,
) -> Result<(), Failure> {
    let object = state.object(kind, id);
    let found = state.labels(kind, id);
    if found.is_none() || !caller.may(kind.read_permission(), object) {
        // One who may write to all of a kind is told the truth about what is missing by the handler.
        return match found {
            None if caller.may(permission, object) => Ok(()),
            _ => Err(Failure::not_found(kind.text(), id)),
        };
    }
    if caller.may(permission, object) {
        return Ok(());
    }
    let name = found.map_or_else(String::new, |(_, name)| name.to_owned());
    Err(missing(permission, &format!("the {kind} `{name}`")))
}

/// The permission that is missing.
pub(super) fn missing(permission: P, on: &str) -> Failure {
    let why = format!(
        "this takes the permission `{permission}` on {on}: ask an administrator for a role that has it"
    );
    Failure::new(Kind::Forbidden, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_endpoint_has_one_rule_and_every_rule_an_endpoint() {
        let document: serde_json::Value =
            serde_json::from_str(&crate::http::openapi::document().unwrap()).unwrap();
        let mut endpoints = BTreeSet::from([("GET".to_owned(), "/openapi.json".to_owned())]);
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys();
            let methods = methods.filter(|m| ["get", "put", "post", "patch", "delete"].contains(&m.as_str()));
            endpoints.extend(methods.map(|m| (m.to_uppercase(), path.clone())));
        }
        let rules: Vec<_> = RULES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
        let set: BTreeSet<_> = rules.iter().cloned().collect();
        assert_eq!(rules.len(), set.len(), "an endpoint has two rules");
        assert_eq!(endpoints, set);
    }

    #[test]
    fn an_endpoint_without_a_rule_has_none() {
        assert_eq!(rule("POST", "/vms/{id}/fly"), None);
        assert_eq!(rule("HEAD", "/vms"), Some(Rule::Anyone));
    }
}
