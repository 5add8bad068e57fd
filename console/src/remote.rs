//! What the console asks of `mgmtd` once someone has logged in: always with that person's own session, never as root, so that
//! their rights hold and the audit log has their name.

mod cluster;

use crate::{
    api::{self, Answer},
    app::ADMIN,
    clock::Clock,
    install::{self, Progress, Wish},
    joining, local,
    maintenance::Maintenance,
    recovery::Recovery,
    settling::{self, Aim, Settling},
    support::Support,
};
use lq_api::{
    HostId, TaskId, UserId, VmId,
    access::{Permission, Scope},
    auth::{Identity, Session, SetupRequest},
    cluster::Member,
    host::HostMaintenance,
    local::{
        init::{InitAnswer, InitRequest},
        install::InstallDisk,
        paths,
    },
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    removable::{
        LOOK_TIMEOUT, RemovableDrive, RemovableDrives, SupportBundleWritten, WRITE_TIMEOUT,
        WriteSupportBundle,
    },
    time::TimeSpec,
    vm::VmState,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The session is renewed when it is so old; its token counts for [`lq_api::auth::ACCESS_SECONDS`].
const RENEW: Duration = Duration::from_secs(300);

/// Time for a change of the network to come into force before it is looked at.
const SETTLE: Duration = Duration::from_millis(1500);

/// What can be asked for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Login {
        user: String,
        password: String,
        code: Option<String>,
    },
    /// The first one of this host, and a session with it.
    FirstPassword {
        password: String,
    },
    Logout,
    Vms,
    Vm {
        id: VmId,
        action: VmAction,
    },
    Tasks,
    Events,
    /// With the present password where it is one's own.
    SetPassword {
        user: String,
        old: Option<String>,
        password: String,
    },
    /// The same.
    ResetTotp {
        user: String,
        password: Option<String>,
    },
    Reboot,
    PowerOff,
    /// The management network, tested.
    Network,
    TestNetwork,
    TryNetwork(TryNetwork),
    KeepNetwork,
    RevertNetwork,
    /// The clocks, and what they follow.
    Time,
    SetTime(TimeSpec),
    Rename {
        name: String,
    },
    /// Where the support bundle can be written to.
    Support,
    /// To this removable drive.
    WriteSupport {
        device: String,
    },
    NewCertificate {
        confirm: String,
    },
    FactoryReset {
        confirm: String,
        data: bool,
    },
    Log(LogSource),
    /// How this host's maintenance stands.
    Maintenance,
    SetMaintenance(HostMaintenance),
    /// The one that empties this host.
    CancelTask(TaskId),
    /// What joining the token's cluster would do.
    PreviewJoin {
        token: String,
    },
    Join {
        token: String,
        rename: bool,
    },
    /// What forming the cluster anew from this host would mean.
    Recovery,
    Reform {
        confirm: String,
        lost: Vec<HostId>,
    },
    /// The serial console of a machine.
    Console {
        id: VmId,
        name: String,
    },
    /// The administrator's, asked for by whoever stands at the machine.
    LostPassword {
        password: String,
    },
    /// The disks a live host can be installed to.
    Disks,
    Install(Wish),
    /// After an installation.
    Restart,
    /// What is followed, read again.
    Poll(Poll),
}

impl Request {
    /// Nobody waits for it: keys are taken meanwhile.
    pub(crate) fn is_poll(&self) -> bool {
        matches!(self, Self::Poll(_))
    }
}

/// What can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    Network,
    Clock,
    /// What is plugged in.
    Support,
    Log(LogSource),
    Install,
    Maintenance,
    /// The host, until it stands where it was to.
    Settling(Aim),
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogSource {
    Kernel,
    /// What PID 1 said, which is in the kernel's log.
    Init,
    /// A service of PID 1's.
    Service(&'static str),
    /// A machine's monitor.
    Monitor(VmId),
}

/// What can be done to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmAction {
    Start,
    Stop,
    ForceStop,
    Restart,
    Reset,
}

/// A machine in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmRow {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) state: String,
    /// The name of its host, where there are several.
    pub(crate) host: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    LoggedIn(String),
    CodeNeeded,
    Vms(Vec<VmRow>),
    Lines(&'static str, Vec<String>),
    Network(Box<ManagementNetwork>, Option<NetworkTest>),
    Clock(Box<Clock>),
    Log(LogSource, Vec<String>),
    Disks(Vec<InstallDisk>),
    Installing,
    Maintenance(Box<Maintenance>),
    Support(Support),
    JoinPreview(Box<joining::Preview>),
    Recovery(Box<Recovery>),
    /// The daemon starts again as a member of something else; the session is over.
    Settling(Box<Settling>),
    /// The console may be opened with this token.
    Console {
        id: VmId,
        name: String,
        token: String,
    },
    Polled(Polled),
    Done(String),
    /// It failed; the words say what to do.
    Failed(String),
    /// The session is over.
    LoggedOut,
}

/// What was read again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Polled {
    Network(Box<ManagementNetwork>),
    Clock(Box<Clock>),
    Log(LogSource, Vec<String>),
    Install(Progress),
    Support(Vec<RemovableDrive>),
    Maintenance(Box<Maintenance>),
    /// Where the host stands, and whether that is where it was to.
    Settling(String, bool),
    /// It could not be read; the next one may.
    Nothing,
}

/// The session, if any.
#[derive(Default)]
pub(crate) struct Remote {
    session: Option<(Session, Instant)>,
}

type Fallible<T> = Result<T, Outcome>;

impl Remote {
    /// Does it. Blocks for as long as `mgmtd` takes, at most [`api::TIMEOUT`] for each question.
    pub(crate) fn perform(&mut self, request: Request) -> Outcome {
        let poll = request.is_poll();
        self.try_perform(request).unwrap_or_else(|failure| {
            if poll && failure != Outcome::LoggedOut {
                return Outcome::Polled(Polled::Nothing);
            }
            if failure == Outcome::LoggedOut {
                self.session = None;
            }
            failure
        })
    }

    fn try_perform(&mut self, request: Request) -> Fallible<Outcome> {
        match request {
            Request::Login { user, password, code } => self.log_in(user, password, code),
            Request::FirstPassword { password } => self.first_password(password),
            Request::Logout => {
                let _ = self.call("DELETE", "/session", None);
                self.session = None;
                Ok(Outcome::LoggedOut)
            }
            Request::Vms => {
                let members = self.cluster()?.members;
                let items = self.items("/vms?limit=500")?;
                let rows = items.iter().filter_map(|vm| {
                    let at = |m: &&Member| m.host.to_string() == text(vm, "/status/host");
                    // Where there is one host, it is that.
                    let host = members.iter().find(at).filter(|_| members.len() > 1);
                    Some(VmRow { host: host.map(|m| m.name.clone()), ..vm_row(vm)? })
                });
                Ok(Outcome::Vms(rows.collect()))
            }
            Request::Vm { id, action } => {
                let (verb, body) = match action {
                    VmAction::Start => ("start", None),
                    VmAction::Stop => ("stop", Some(json!({}))),
                    VmAction::ForceStop => ("stop", Some(json!({"force": true}))),
                    VmAction::Restart => ("restart", Some(json!({}))),
                    VmAction::Reset => ("reset", None),
                };
                self.call("POST", &format!("/vms/{id}/{verb}"), body)?;
                Ok(Outcome::Done("Asked for; the list shows the state.".into()))
            }
            Request::Tasks => {
                let items = self.items("/tasks?limit=500")?;
                Ok(Outcome::Lines("Tasks", newest(&items, "created_at", task_line)))
            }
            Request::Events => {
                let items = self.items("/events?limit=500")?;
                Ok(Outcome::Lines("Events", newest(&items, "at", event_line)))
            }
            Request::SetPassword { user, old, password } => {
                match old {
                    Some(old) => {
                        self.call("POST", "/session/password", Some(json!({"old": old, "new": password})))?
                    }
                    None => {
                        let id = self.user(&user)?;
                        let body = json!({"password": password, "must_change_password": false});
                        self.call("POST", &format!("/users/{id}/password"), Some(body))?
                    }
                };
                Ok(Outcome::Done(format!("{user} has the new password.")))
            }
            Request::ResetTotp { user, password } => {
                match password {
                    Some(password) => {
                        self.call("POST", "/session/totp/remove", Some(json!({"password": password})))?
                    }
                    None => {
                        let id = self.user(&user)?;
                        self.call("DELETE", &format!("/users/{id}/totp"), None)?
                    }
                };
                Ok(Outcome::Done(format!("{user} logs in without a one-time code now.")))
            }
            Request::Reboot => self.power("reboot"),
            Request::PowerOff => self.power("power-off"),
            Request::Network | Request::TestNetwork => self.network_tested(),
            Request::TryNetwork(wanted) => {
                let path = self.here("network")?;
                self.call("PUT", &path, Some(json!(wanted)))?;
                // Until it is in force; where it never is, the page shows that it was taken back.
                std::thread::sleep(SETTLE);
                self.network_tested()
            }
            Request::KeepNetwork => {
                let path = self.here("network/keep")?;
                let state = decode(&self.call("POST", &path, None)?)?;
                Ok(Outcome::Network(Box::new(state), None))
            }
            Request::RevertNetwork => {
                let path = self.here("network/revert")?;
                self.call("POST", &path, None)?;
                std::thread::sleep(SETTLE);
                self.network_tested()
            }
            Request::Time => Ok(Outcome::Clock(Box::new(self.clock()?))),
            Request::SetTime(spec) => self.set_time(&spec),
            Request::Rename { name } => {
                let path = self.here("")?;
                self.call("PATCH", path.trim_end_matches('/'), Some(json!({"name": name})))?;
                Ok(Outcome::Done(format!("This host is called {name} from now on.")))
            }
            Request::Support => {
                let address = crate::facts::address().map(|a| a.to_string());
                Ok(Outcome::Support(Support { drives: self.removable()?, at: 0, address }))
            }
            Request::WriteSupport { device } => self.write_support(device),
            Request::NewCertificate { confirm } => {
                let path = self.here("certificate")?;
                self.call("POST", &path, Some(json!({"confirm": confirm})))?;
                Ok(Outcome::Done(
                    "It is being made; its fingerprint is on the open screen in a moment.".into(),
                ))
            }
            Request::FactoryReset { confirm, data } => {
                let path = self.here("factory-reset")?;
                self.call("POST", &path, Some(json!({"confirm": confirm, "data": data})))?;
                Ok(Outcome::Done("The host restarts and begins anew.".into()))
            }
            Request::Log(source) => {
                self.logged_in()?;
                let lines = local::log(&source);
                Ok(Outcome::Log(source, lines))
            }
            Request::Maintenance => Ok(Outcome::Maintenance(Box::new(self.maintenance()?))),
            Request::SetMaintenance(wish) => self.set_maintenance(wish),
            Request::CancelTask(id) => self.cancel_task(id),
            Request::PreviewJoin { token } => self.preview_join(token),
            Request::Join { token, rename } => self.join(&token, rename),
            Request::Recovery => self.recovery(),
            Request::Reform { confirm, lost } => self.reform(confirm, lost),
            Request::Console { id, name } => {
                self.renew()?;
                let token = self.session.as_ref().map(|(s, _)| s.token.clone()).ok_or(Outcome::LoggedOut)?;
                Ok(Outcome::Console { id, name, token })
            }
            Request::LostPassword { password } => lost_password(&password),
            Request::Disks => install::disks().map(Outcome::Disks).map_err(Outcome::Failed),
            Request::Install(wish) => {
                install::begin(&wish).map(|()| Outcome::Installing).map_err(Outcome::Failed)
            }
            Request::Restart => {
                let reason = "LimiQuantix was installed from the console".to_owned();
                match local::init(&InitRequest::Shutdown { reboot: true, reason }) {
                    Ok(InitAnswer::Done) => Ok(Outcome::Done("The host restarts.".into())),
                    Ok(other) => {
                        Err(Outcome::Failed(format!("PID 1 gave an answer that does not fit: {other:?}")))
                    }
                    Err(e) => Err(Outcome::Failed(e)),
                }
            }
            Request::Poll(poll) => self.poll(poll).map(Outcome::Polled),
        }
    }

    fn poll(&mut self, poll: Poll) -> Fallible<Polled> {
        Ok(match poll {
            Poll::Network => {
                let path = self.here("network")?;
                Polled::Network(Box::new(decode(&self.call("GET", &path, None)?)?))
            }
            Poll::Log(source) => {
                self.logged_in()?;
                let lines = local::log(&source);
                Polled::Log(source, lines)
            }
            Poll::Support => Polled::Support(self.removable()?),
            Poll::Clock => Polled::Clock(Box::new(self.clock()?)),
            Poll::Maintenance => Polled::Maintenance(Box::new(self.maintenance()?)),
            Poll::Settling(aim) => {
                let (step, ended) = settling::look(&aim);
                Polled::Settling(step, ended)
            }
            Poll::Install => install::progress().map_or(Polled::Nothing, Polled::Install),
        })
    }

    /// The management network, and whether it works.
    fn network_tested(&mut self) -> Fallible<Outcome> {
        let (network, test) = (self.here("network")?, self.here("network/test")?);
        let test = decode(&self.call("POST", &test, None)?)?;
        let state = decode(&self.call("GET", &network, None)?)?;
        Ok(Outcome::Network(Box::new(state), Some(test)))
    }

    /// The removable drives of this host.
    fn removable(&mut self) -> Fallible<Vec<RemovableDrive>> {
        let path = self.here("removable")?;
        let found: RemovableDrives = decode(&self.call_for("GET", &path, None, LOOK_TIMEOUT)?)?;
        Ok(found.drives)
    }

    fn write_support(&mut self, device: String) -> Fallible<Outcome> {
        let path = self.here("support-bundle")?;
        let body = json!(WriteSupportBundle { device });
        let written: SupportBundleWritten =
            decode(&self.call_for("POST", &path, Some(body), WRITE_TIMEOUT)?)?;
        Ok(Outcome::Done(format!(
            "{} ({}) is on {}, which can be pulled out now.",
            written.file, written.size_bytes, written.device
        )))
    }

    fn logged_in(&self) -> Fallible<()> {
        if self.session.is_some() { Ok(()) } else { Err(Outcome::LoggedOut) }
    }

    /// What is below this host in the API.
    fn here(&mut self, what: &str) -> Fallible<String> {
        let cluster: lq_api::cluster::Cluster = decode(&self.call("GET", "/cluster", None)?)?;
        Ok(format!("/hosts/{}/{what}", cluster.this_host))
    }

    fn log_in(&mut self, username: String, password: String, code: Option<String>) -> Fallible<Outcome> {
        let login = lq_api::auth::Login { username, password, code, realm: None };
        let answer = send("POST", "/session", None, Some(&login))?;
        if answer.status == 401 && problem_kind(&answer).as_deref() == Some("/problems/second-factor") {
            return Ok(Outcome::CodeNeeded);
        }
        self.begin(decode(&expect(answer, false)?)?)
    }

    /// Sets the first password with the set-up code, which is there for whoever stands at the machine, and logs in.
    fn first_password(&mut self, password: String) -> Fallible<Outcome> {
        let code = std::fs::read_to_string(paths::SETUP_CODE).map_err(|_| {
            Outcome::Failed("a password has been set meanwhile: go back, and log in with it".into())
        })?;
        let wish = SetupRequest { code: code.trim().to_owned(), password };
        self.begin(decode(&expect(send("POST", "/setup", None, Some(&wish))?, false)?)?)
    }

    /// Takes a session over, if it is an administrator's.
    fn begin(&mut self, session: Session) -> Fallible<Outcome> {
        if session.must_change_password {
            self.session = Some((session, Instant::now()));
            let _ = self.call("DELETE", "/session", None);
            self.session = None;
            return Err(Outcome::Failed("a new password has to be set first: log in to the web page".into()));
        }
        let name = session.username.clone();
        self.session = Some((session, Instant::now()));
        let identity: Identity = decode(&self.call("GET", "/session", None)?)?;
        if !administers(&identity) {
            let _ = self.call("DELETE", "/session", None);
            self.session = None;
            return Err(Outcome::Failed(format!("{name} is not an administrator: use the web page")));
        }
        Ok(Outcome::LoggedIn(name))
    }

    fn power(&mut self, action: &str) -> Fallible<Outcome> {
        let path = self.here("power")?;
        self.call("POST", &path, Some(json!({"action": action})))?;
        Ok(Outcome::Done("The host stops its guests and goes down.".into()))
    }

    fn user(&mut self, name: &str) -> Fallible<UserId> {
        let users = self.items("/users?limit=500")?;
        let found = users.iter().find(|u| text(u, "/meta/name") == name);
        found
            .and_then(|u| text(u, "/meta/id").parse().ok())
            .ok_or_else(|| Outcome::Failed(format!("there is no user {name}")))
    }

    fn items(&mut self, path: &str) -> Fallible<Vec<Value>> {
        let list: Value = decode(&self.call("GET", path, None)?)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Fallible<Vec<u8>> {
        self.call_for(method, path, body, api::TIMEOUT)
    }

    /// The same for what may take longer.
    fn call_for(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
        patience: Duration,
    ) -> Fallible<Vec<u8>> {
        self.renew()?;
        let (session, _) = self.session.as_ref().ok_or(Outcome::LoggedOut)?;
        expect(send_for(method, path, Some(&session.token), body.as_ref(), patience)?, true)
    }

    /// Gets the next token in time.
    fn renew(&mut self) -> Fallible<()> {
        let Some((session, since)) = &mut self.session else { return Err(Outcome::LoggedOut) };
        // One of a host without a majority has nothing to be renewed with: its token lasts as long as it does.
        if since.elapsed() < RENEW || session.refresh_token.is_none() {
            return Ok(());
        }
        let body = json!({"refresh_token": session.refresh_token});
        let next: Session = decode(&expect(send("POST", "/session/refresh", None, Some(&body))?, true)?)?;
        let kept = session.refresh_token.take();
        *session = next;
        session.refresh_token = session.refresh_token.take().or(kept);
        *since = Instant::now();
        Ok(())
    }
}

/// Sets the administrator's password as root of this host: whoever stands at the machine could take its disks as well. The user
/// is made where it is gone, let in again where it is disabled, and needs no one-time code any more. The audit log has it.
fn lost_password(password: &str) -> Fallible<Outcome> {
    let root = |method: &str, path: &str, body: Option<Value>| {
        expect(send(method, path, None, body.as_ref())?, false)
    };
    let find = |path: &str, name: &str| -> Fallible<Option<Value>> {
        let list: Value = decode(&root("GET", path, None)?)?;
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(items.into_iter().find(|o| text(o, "/meta/name") == name))
    };
    let role = find("/roles?limit=500", "administrator")?;
    let role = role.map(|r| text(&r, "/meta/id").to_owned()).unwrap_or_default();
    let grants = json!([{"role": role, "scope": {"kind": "cluster"}}]);
    let setup: lq_api::auth::Setup = decode(&root("GET", "/setup", None)?)?;
    if setup.needed {
        return Err(Outcome::Failed("no password is set yet: press Esc, then F2, and choose one".into()));
    }
    let Some(user) = find("/users?limit=500", ADMIN)? else {
        let spec = json!({"grants": grants});
        let body = json!({"name": ADMIN, "spec": spec, "password": password, "must_change_password": false});
        root("POST", "/users", Some(body))?;
        return Ok(Outcome::Done(format!("{ADMIN} was made anew and has the new password.")));
    };
    let path = format!("/users/{}", text(&user, "/meta/id"));
    let body = json!({"password": password, "must_change_password": false});
    root("POST", &format!("{path}/password"), Some(body))?;
    root("DELETE", &format!("{path}/totp"), None)?;
    let mut spec = user.get("spec").cloned().unwrap_or_default();
    let old = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.insert("disabled".into(), json!(false));
        let has = fields.get("grants").is_some_and(|g| {
            g.as_array().is_some_and(|g| {
                g.iter().any(|g| text(g, "/role") == role && text(g, "/scope/kind") == "cluster")
            })
        });
        if !has {
            fields.insert("grants".into(), grants);
        }
    }
    if spec != old {
        root("PATCH", &path, Some(json!({"spec": spec})))?;
    }
    Ok(Outcome::Done(format!("{ADMIN} has the new password, and needs no one-time code.")))
}

/// Whether they may manage users of the whole cluster, which is what an administrator is.
fn administers(identity: &Identity) -> bool {
    identity
        .rights
        .iter()
        .any(|r| r.scope == Scope::Cluster && r.permissions.contains(&Permission::UserWrite))
}

fn send<T: Serialize>(method: &str, path: &str, token: Option<&str>, body: Option<&T>) -> Fallible<Answer> {
    send_for(method, path, token, body, api::TIMEOUT)
}

fn send_for<T: Serialize>(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&T>,
    patience: Duration,
) -> Fallible<Answer> {
    let body = body.map(serde_json::to_vec).transpose().map_err(|e| Outcome::Failed(e.to_string()))?;
    api::ask(method, &format!("/api/v1{path}"), token, body.as_deref(), patience)
        .map_err(|e| Outcome::Failed(format!("the management service does not answer ({e}); try again")))
}

fn expect(answer: Answer, in_session: bool) -> Fallible<Vec<u8>> {
    match answer.status {
        200..=299 => Ok(answer.body),
        401 if in_session => Err(Outcome::LoggedOut),
        status => Err(Outcome::Failed(
            api::reason(&answer.body).unwrap_or_else(|| format!("refused with status {status}")),
        )),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Fallible<T> {
    serde_json::from_slice(body).map_err(|e| Outcome::Failed(format!("the answer was not understood: {e}")))
}

fn problem_kind(answer: &Answer) -> Option<String> {
    Some(serde_json::from_slice::<Value>(&answer.body).ok()?.get("type")?.as_str()?.to_owned())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn vm_row(vm: &Value) -> Option<VmRow> {
    let said = text(vm, "/status/state");
    // What it did when its host was last heard is not what it does.
    let silent = vm.pointer("/status/host_silent").and_then(Value::as_bool).unwrap_or_default();
    let rests = || serde_json::from_value(json!(said)).is_ok_and(VmState::at_rest);
    let known = !said.is_empty() && (!silent || rests());
    let state = if known { said } else { "unknown" };
    Some(VmRow {
        id: text(vm, "/meta/id").parse().ok()?,
        name: text(vm, "/meta/name").to_owned(),
        state: state.to_owned(),
        host: None,
    })
}

/// The newest first.
fn newest(items: &[Value], by: &str, line: fn(&Value) -> String) -> Vec<String> {
    let mut items: Vec<&Value> = items.iter().collect();
    items.sort_by(|a, b| text(b, &format!("/{by}")).cmp(text(a, &format!("/{by}"))));
    items.into_iter().map(line).collect()
}

fn seconds(at: &str) -> String {
    at.get(..19).unwrap_or(at).replace('T', " ")
}

fn task_line(task: &Value) -> String {
    let field = |name| text(task, name);
    format!(
        "{} {:<9} {} {} {}",
        seconds(field("/created_at")),
        field("/state"),
        field("/kind"),
        about(task),
        field("/message")
    )
}

/// What a task is done to: its kind and its name, which is kept also once it is gone.
fn about(task: &Value) -> String {
    let target = text(task, "/target");
    match (target.split_once('/'), text(task, "/target_name")) {
        (None, _) | (_, "") => target.to_owned(),
        (Some((kind, _)), name) => format!("{kind} {name}"),
    }
}

/// An event as a line: when, how bad where it is bad, what.
pub(crate) fn event_line(event: &Value) -> String {
    let level = text(event, "/level");
    let mark = if level == "info" { String::new() } else { format!("{level}: ") };
    format!("{} {mark}{}", seconds(text(event, "/at")), text(event, "/message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_a_silent_host_is_not_said_to_run() {
        let id = "01890000-0000-7000-8000-000000000001";
        let state = |status: Value| {
            vm_row(&json!({"meta": {"id": id, "name": "web"}, "status": status})).unwrap().state
        };
        assert_eq!(state(json!({"state": "running"})), "running");
        assert_eq!(state(json!({"state": "running", "host_silent": true})), "unknown");
        assert_eq!(state(json!({"state": "stopped", "host_silent": true})), "stopped");
        assert_eq!(state(json!({})), "unknown");
    }

    #[test]
    fn a_task_is_about_something_with_a_name_also_once_that_is_gone() {
        let line = task_line(&json!({"kind": "volume.delete", "target": "volume/1", "target_name": "data"}));
        assert!(line.contains("volume.delete volume data"), "{line}");
        let older = task_line(&json!({"kind": "volume.delete", "target": "volume/1"}));
        assert!(older.contains("volume.delete volume/1"), "{older}");
    }

    #[test]
    fn the_newest_comes_first() {
        let events = [
            json!({"at": "2026-01-01T10:00:00.5Z", "level": "info", "message": "old"}),
            json!({"at": "2026-01-02T10:00:00Z", "level": "error", "message": "new"}),
        ];
        assert_eq!(
            newest(&events, "at", event_line),
            ["2026-01-02 10:00:00 error: new", "2026-01-01 10:00:00 old"]
        );
    }

    #[test]
    fn a_refusal_is_told_in_the_daemons_words_and_ends_the_session_only_when_it_is_about_it() {
        let answer = |status| Answer { status, body: br#"{"detail":"wrong password"}"#.to_vec() };
        assert_eq!(expect(answer(401), false), Err(Outcome::Failed("wrong password".into())));
        assert_eq!(expect(answer(401), true), Err(Outcome::LoggedOut));
        assert_eq!(expect(answer(403), true), Err(Outcome::Failed("wrong password".into())));
    }

    #[test]
    fn without_a_session_nothing_is_asked() {
        assert_eq!(Remote::default().perform(Request::Reboot), Outcome::LoggedOut);
    }
}
