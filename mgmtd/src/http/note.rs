//! What is noted of a request that changes something: before it runs, and what became of it, for the audit log; and for the event
//! log that an object was made, changed or deleted.

use super::{Api, Peer, extract::Touched, guard::RequestId};
use crate::{auth::Caller, telemetry::NewEvent};
use axum::{
    extract::Request,
    http::{Method, StatusCode},
    response::Response,
};
use lq_api::{
    AuditId, Timestamp, UserId,
    access::ObjectKind,
    audit::{AuditOutcome, AuditRecord},
    event::EventLevel,
    problem::Problem,
};

/// Longest text of a record, in characters.
const LONGEST: usize = 500;

/// Who someone claims to be, from the handler of a request that needs no credential.
#[derive(Clone, Debug)]
pub(super) struct Claimed(pub(super) String);

/// What is known before the request runs.
pub(super) struct Note {
    actor: Option<String>,
    user: Option<UserId>,
    from: String,
    action: String,
    kind: String,
    id: Option<String>,
    name: Option<String>,
    request_id: String,
    /// An endpoint that takes no credential.
    open: bool,
}

impl Note {
    /// `path` is the pattern, `id` what stands for `{id}` in it.
    pub(super) fn of(
        api: &Api,
        req: &Request,
        caller: Option<&Caller>,
        path: &str,
        id: Option<&str>,
    ) -> Self {
        let kind = singular(path.trim_start_matches('/').split('/').next().unwrap_or_default());
        let peer = req.extensions().get::<Peer>().copied().unwrap_or(Peer::Unknown);
        // Also for what is noted once it is gone.
        let name = id.and_then(|id| api.node.events.names().of(&format!("{kind}/{id}")));
        Self {
            actor: caller.map(|c| c.actor.clone()),
            user: caller.and_then(|c| c.user),
            from: peer.to_string(),
            action: action(req.method(), path),
            kind,
            id: id.map(cut),
            name,
            request_id: RequestId::of(req),
            open: caller.is_none(),
        }
    }

    /// Notes what became of it.
    pub(super) async fn write(self, api: &Api, response: &mut Response) {
        let status = response.status();
        let parts = response.extensions_mut();
        let claimed = parts.remove::<Claimed>().map(|c| c.0);
        let touched = parts.remove::<Touched>();
        // What was not even looked at, of someone who is not known, says nothing. A session that goes on changes nothing.
        let unread = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::UNPROCESSABLE_ENTITY)
            || status == StatusCode::BAD_REQUEST
            || status == StatusCode::PAYLOAD_TOO_LARGE;
        if (self.open && unread)
            // Whoever is sent to a provider's page has not come back yet.
            || (self.action == "session.oidc.start" && status.is_success())
            || (self.action == "session.refresh" && (status.is_success() || claimed.is_none()))
        {
            return;
        }
        let outcome = if status.is_success() || status.is_informational() {
            AuditOutcome::Done
        } else if status.is_server_error() {
            AuditOutcome::Failed
        } else {
            AuditOutcome::Refused
        };
        let detail = response.extensions().get::<Box<Problem>>().map(|p| {
            let fields: Vec<_> = p.errors.iter().map(ToString::to_string).collect();
            cut(&if fields.is_empty() { p.detail.clone() } else { fields.join("; ") })
        });
        let (id, target_name) = match touched {
            Some(touched) => (Some(touched.id), self.name.or(Some(touched.name))),
            None => (self.id, self.name),
        };
        // Who logs in is who they say they are, whoever passed the request on: root's socket, a session still open.
        let user = match &claimed {
            Some(name) if outcome == AuditOutcome::Done => {
                api.node.cluster.read(|s| s.user_named(name).map(|r| r.user.meta.id))
            }
            Some(_) => None,
            None => self.user,
        };
        let actor = cut(&claimed.or(self.actor).unwrap_or_else(|| "nobody".into()));
        let target = id.map_or_else(|| self.kind.clone(), |id| format!("{}/{id}", self.kind));
        // Hosts tell of themselves.
        let told = self.kind.parse().is_ok_and(|kind: ObjectKind| kind != ObjectKind::Host);
        if outcome == AuditOutcome::Done && told {
            happened(api, &self.action, &target, target_name.as_deref(), &actor);
        }
        let record = AuditRecord {
            id: AuditId::new(),
            at: Timestamp::now(),
            host: api.node.id(),
            actor,
            user,
            from: self.from,
            action: self.action,
            target,
            target_name,
            outcome,
            status: status.as_u16(),
            detail,
            request_id: self.request_id,
        };
        api.audit.note(record).await;
    }
}

/// Notes as an event that an object was made, changed or deleted; what else is done to it tells of itself. The audit log is for
/// those who may read it, events are for everyone who may see the object.
fn happened(api: &Api, action: &str, target: &str, name: Option<&str>, actor: &str) {
    let Some((kind, verb)) = action.split_once('.') else { return };
    let (past, did) = match verb {
        "create" => ("created", "made"),
        "update" => ("changed", "changed"),
        "delete" => ("deleted", "deleted"),
        _ => return,
    };
    let words = if kind == "vm" { "machine" } else { kind };
    let message = format!("{actor} {did} the {words} {}", name.map(|n| format!("`{n}`")).unwrap_or_default());
    api.node.events.note(NewEvent {
        level: EventLevel::Info,
        kind: format!("{kind}.{past}"),
        target: target.to_owned(),
        message: message.trim_end().to_owned(),
        actor: Some(actor.to_owned()),
    });
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn singular(word: &str) -> String {
    word.strip_suffix('s').filter(|w| !w.is_empty()).unwrap_or(word).to_owned()
}

/// `POST /vms` is `vm.create`, `POST /vms/{id}/start` is `vm.start`, `DELETE /users/{id}/totp` is `user.totp.delete`.
fn action(method: &Method, path: &str) -> String {
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    let mut words = vec![singular(parts.next().unwrap_or_default())];
    let rest: Vec<_> = parts.filter(|p| !p.starts_with('{')).map(str::to_owned).collect();
    let verb = match *method {
        Method::DELETE => Some("delete"),
        Method::PATCH => Some("update"),
        Method::POST if rest.is_empty() => Some("create"),
        Method::PUT if rest.is_empty() => Some("replace"),
        _ => None,
    };
    words.extend(rest);
    words.extend(verb.map(str::to_owned));
    words.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_named_by_what_they_do() {
        for (method, path, expected) in [
            (Method::POST, "/vms", "vm.create"),
            (Method::PATCH, "/vms/{id}", "vm.update"),
            (Method::DELETE, "/vms/{id}", "vm.delete"),
            (Method::POST, "/vms/{id}/start", "vm.start"),
            (Method::GET, "/vms/{id}/console", "vm.console"),
            (Method::PUT, "/images/{id}/content", "image.content"),
            (Method::POST, "/session", "session.create"),
            (Method::DELETE, "/session", "session.delete"),
            (Method::POST, "/session/totp/confirm", "session.totp.confirm"),
            (Method::DELETE, "/users/{id}/totp", "user.totp.delete"),
            (Method::POST, "/setup", "setup.create"),
        ] {
            assert_eq!(action(&method, path), expected);
        }
    }
}
