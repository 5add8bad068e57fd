//! The menus and forms there are. Pure: what each is made of, and what a filled-in form asks for.

use crate::{
    app::{ADMIN, Field, Page},
    install::Wish,
    remote::{LogSource, Request, VmAction, VmRow},
};
use lq_api::{
    HostId, VmId,
    answer::HostNetwork,
    auth,
    management::{ManagementNetwork, TRIAL_SECONDS, TryNetwork},
    time::{MOST_SERVERS, TimeSpec},
};

/// What has to be typed before the administrator's password is set without knowing the old one.
pub(crate) const RESET_WORD: &str = "RESET";

/// What a form is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    LogIn,
    /// Where there is none yet.
    FirstPassword,
    Password,
    Totp,
    /// The administrator's, by whoever stands at the machine.
    LostPassword,
    Rename,
    Network(Box<ManagementNetwork>),
    /// Of the cluster.
    TimeServers,
    Certificate,
    FactoryReset {
        data: bool,
    },
    /// Of the cluster, from the host of this name.
    Reform {
        name: String,
        epoch: u64,
        lost: Vec<HostId>,
    },
    /// To this disk.
    Install {
        node: String,
        used: bool,
    },
}

/// What an entry of a menu does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Vms,
    Tasks,
    Events,
    Network,
    Time,
    Rename,
    Logs,
    Log(LogSource),
    Certificate,
    Password,
    Totp,
    Support,
    Reset,
    FactoryReset {
        data: bool,
    },
    Maintenance,
    /// Begin it.
    Maintain {
        shut_down: bool,
    },
    Join,
    Recovery,
    Power,
    Reboot,
    PowerOff,
    Vm(VmId, String, VmAction),
    Console(VmId, String),
    LogOut,
}

/// An empty field.
pub(crate) fn field(label: &'static str, secret: bool) -> Field {
    Field { label, text: String::new(), secret, hint: "" }
}

fn filled(label: &'static str, text: impl Into<String>) -> Field {
    Field { label, text: text.into(), secret: false, hint: "" }
}

impl Field {
    fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

/// What fields that are in more than one form want.
const ADDRESS_HINT: &str = "Empty: by DHCP. Otherwise with its prefix, such as 192.168.1.10/24";
const GATEWAY_HINT: &str = "The router's address. Empty: none, or the one DHCP tells";
const DNS_HINT: &str = "Addresses with spaces between. Empty: none, or those DHCP tells";
const PASSWORD_HINT: &str = "At least 8 characters";

/// The field of a password that is to be from now on.
pub(crate) fn new_password() -> Field {
    field("New password", true).hint(PASSWORD_HINT)
}

/// The form one logs in with.
pub(crate) fn log_in() -> Page {
    let title = "Log in".into();
    Page::Form {
        form: Form::LogIn,
        title,
        fields: vec![filled("User", ADMIN), field("Password", true)],
        at: 1,
    }
}

/// The form of the first login, where nobody has set a password yet. Whoever sees it sees the set-up code as well, which is
/// therefore not asked for.
pub(crate) fn first_password() -> Page {
    let title = format!("First login: choose the password of {ADMIN}");
    let fields = vec![new_password(), field("Once more", true)];
    Page::Form { form: Form::FirstPassword, title, fields, at: 0 }
}

/// The form for whoever stands at the machine and has lost the password.
pub(crate) fn lost_password() -> Page {
    let title = format!("A new password for {ADMIN}, without the old one. It is noted in the audit log");
    let fields = vec![new_password(), field("Once more", true), field("Type RESET", false)];
    Page::Form { form: Form::LostPassword, title, fields, at: 0 }
}

/// The main menu.
pub(crate) fn main_menu() -> Page {
    let entries = vec![
        ('v', "Virtual machines", Choice::Vms),
        ('t', "Tasks", Choice::Tasks),
        ('e', "Events", Choice::Events),
        ('n', "Management network", Choice::Network),
        ('k', "Clock and time servers", Choice::Time),
        ('h', "Host name", Choice::Rename),
        ('m', "Maintenance", Choice::Maintenance),
        ('j', "Join a cluster", Choice::Join),
        ('q', "Quorum recovery", Choice::Recovery),
        ('g', "Logs", Choice::Logs),
        ('s', "Support bundle", Choice::Support),
        ('c', "New certificate", Choice::Certificate),
        ('a', "Admin password", Choice::Password),
        ('o', "One-time code of admin: remove", Choice::Totp),
        ('f', "Factory reset", Choice::Reset),
        ('p', "Power: restart, switch off", Choice::Power),
        ('l', "Log out", Choice::LogOut),
    ];
    Page::Menu { title: "This host".into(), entries, at: 0 }
}

/// Power of the host.
pub(crate) fn power_menu() -> Page {
    let entries = vec![('r', "Restart", Choice::Reboot), ('s', "Switch off", Choice::PowerOff)];
    Page::Menu { title: "Power of this host".into(), entries, at: 0 }
}

/// Which log.
pub(crate) fn log_menu() -> Page {
    let entries = vec![
        ('k', "Kernel", Choice::Log(LogSource::Kernel)),
        ('i', "Start of the host (lq-init)", Choice::Log(LogSource::Init)),
        ('m', "Management daemon (mgmtd)", Choice::Log(LogSource::Service("mgmtd"))),
        ('d', "DHCP client", Choice::Log(LogSource::Service("dhcp"))),
    ];
    Page::Menu { title: "Logs (of a machine's monitor: Virtual machines)".into(), entries, at: 0 }
}

/// How much is to go.
pub(crate) fn reset_menu() -> Page {
    let entries = vec![
        ('s', "Settings, accounts, machines' definitions", Choice::FactoryReset { data: false }),
        ('d', "All of that, and all images and volumes", Choice::FactoryReset { data: true }),
    ];
    Page::Menu { title: "Factory reset: what is to be erased?".into(), entries, at: 0 }
}

/// What can be done to a machine.
pub(crate) fn vm_menu(vm: &VmRow) -> Page {
    let entry = |hot, text, action| (hot, text, Choice::Vm(vm.id, vm.name.clone(), action));
    let entries = vec![
        entry('s', "Start", VmAction::Start),
        entry('d', "Shut down", VmAction::Stop),
        entry('f', "Force stop", VmAction::ForceStop),
        entry('g', "Restart the guest", VmAction::Restart),
        entry('r', "Reset", VmAction::Reset),
        ('c', "Serial console (Ctrl-] leaves it)", Choice::Console(vm.id, vm.name.clone())),
        ('l', "Log of its monitor", Choice::Log(LogSource::Monitor(vm.id))),
    ];
    Page::Menu { title: format!("{} ({})", vm.name, vm.state), entries, at: 0 }
}

/// The form of the host's name.
pub(crate) fn rename() -> Page {
    let title = "Another name for this host".into();
    Page::Form { form: Form::Rename, title, fields: vec![field("New name", false)], at: 0 }
}

/// The form that takes the host's name as a word that something is meant.
pub(crate) fn by_name(form: Form) -> Page {
    let title = match &form {
        Form::Certificate => "A new certificate: browsers and lqctl will ask about it once more".to_owned(),
        Form::FactoryReset { data: false } => {
            "The host forgets everything but its images and volumes, and restarts".to_owned()
        }
        Form::Reform { name, epoch, .. } => {
            format!(
                "The cluster is formed anew from this host, as epoch {epoch}: type its name, {name}, to do it"
            )
        }
        _ => "The host forgets EVERYTHING, images and volumes too, and restarts".to_owned(),
    };
    let fields = vec![field("Host's name", false)];
    Page::Form { form, title, fields, at: 0 }
}

/// The form of the management network, as it is kept.
pub(crate) fn network(state: &ManagementNetwork) -> Page {
    let kept = &state.kept;
    let nic = kept.interface.and_then(|mac| state.nics.iter().find(|n| n.mac == mac));
    let text = |o: Option<String>| o.unwrap_or_default();
    let dns: Vec<String> = kept.dns.iter().map(ToString::to_string).collect();
    let fields = vec![
        filled("Interface", text(nic.map(|n| n.name.clone()))).hint("Empty: the first with a link"),
        filled("Address/prefix", text(kept.address.clone())).hint(ADDRESS_HINT),
        filled("Gateway", text(kept.gateway.map(|g| g.to_string()))).hint(GATEWAY_HINT),
        filled("Name servers", dns.join(" ")).hint(DNS_HINT),
    ];
    let title = "Empty address: DHCP. Empty interface: the first with a link".into();
    Page::Form { form: Form::Network(Box::new(state.clone())), title, fields, at: 0 }
}

/// The form of the time servers: as many lines as there may be servers.
pub(crate) fn time_servers(spec: &TimeSpec) -> Page {
    let servers = spec.servers.iter().map(String::as_str).chain(std::iter::repeat("")).take(MOST_SERVERS);
    let fields = servers.map(|server| filled("Server", server)).collect();
    let title = "Time servers of all hosts: name or address, with :port where it is not 123. \
                 Three or more find one that is wrong. Empty lines do not count";
    Page::Form { form: Form::TimeServers, title: title.into(), fields, at: 0 }
}

/// The form of an installation.
pub(crate) fn install(node: &str, text: &str, used: bool) -> Page {
    let title = format!("Install to {text}{}", if used { ". ALL DATA ON IT WILL BE LOST" } else { "" });
    let fields = vec![
        field("Host name", false).hint("Empty: one is made from the network card's address"),
        field("Admin password", true).hint(PASSWORD_HINT),
        field("Once more", true),
        field("Address/prefix", false).hint(ADDRESS_HINT),
        field("Gateway", false).hint(GATEWAY_HINT),
        field("Name servers", false).hint(DNS_HINT),
        field("Type disk name", false)
            .hint("The disk's name above, such as sda: it is what will be written over"),
    ];
    Page::Form { form: Form::Install { node: node.to_owned(), used }, title, fields, at: 0 }
}

/// What is wrong with a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The field, where it is one.
    pub(crate) field: Option<usize>,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self { field: None, why }
    }
}

fn same(one: &str, other: &str) -> Result<(), String> {
    if one != other {
        return Err("The two are not the same.".into());
    }
    if one.chars().count() < auth::MIN_PASSWORD {
        return Err(format!("At least {} characters are needed.", auth::MIN_PASSWORD));
    }
    Ok(())
}

/// Settings as they were typed.
fn typed_network(address: &str, gateway: &str, dns: &str) -> Result<HostNetwork, String> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|t| !t.is_empty());
    let ip = |text: &str| text.parse().map_err(|_| format!("`{text}` is not an IPv4 address."));
    let network = HostNetwork {
        interface: None,
        address: some(address),
        gateway: some(gateway).map(|g| ip(&g)).transpose()?,
        dns: dns.split([' ', ',']).filter(|w| !w.is_empty()).map(ip).collect::<Result<_, _>>()?,
    };
    match network.validate("network").first() {
        Some(e) => Err(format!("{e}.")),
        None => Ok(network),
    }
}

/// The servers that were typed; a fault is told with its line.
fn typed_servers(fields: &[Field]) -> Result<TimeSpec, Wrong> {
    let typed = fields.iter().enumerate().map(|(line, field)| (line, field.text.trim()));
    let (lines, servers): (Vec<usize>, _) =
        typed.filter(|(_, text)| !text.is_empty()).map(|(line, text)| (line, text.to_owned())).unzip();
    let spec = TimeSpec { servers };
    let Some(fault) = spec.validate().into_iter().next() else { return Ok(spec) };
    // `servers[2]` is the third one, whatever line it stands in.
    let index = fault.field.trim_start_matches("servers[").trim_end_matches(']').parse::<usize>().ok();
    let server = index.and_then(|n| spec.servers.get(n)).map_or("the list", String::as_str);
    let field = index.and_then(|n| lines.get(n)).copied();
    Err(Wrong { field, why: format!("{server}: {}.", fault.reason) })
}

/// What a form asks for, or what is wrong with it.
pub(crate) fn submit(form: &Form, fields: &[Field]) -> Result<Request, Wrong> {
    let text = |n: usize| fields.get(n).map(|f| f.text.clone()).unwrap_or_default();
    // The new password and its repetition come last.
    let first = fields.len().saturating_sub(2);
    Ok(match form {
        Form::LogIn => {
            let code = fields.get(2).map(|f| f.text.trim().to_owned());
            Request::Login { user: text(0), password: text(1), code }
        }
        Form::FirstPassword => {
            same(&text(0), &text(1))?;
            Request::FirstPassword { password: text(0) }
        }
        Form::Totp => Request::ResetTotp { user: ADMIN.into(), password: Some(text(0)) },
        Form::Password => {
            same(&text(first), &text(first + 1))?;
            let old = (first > 0).then(|| text(0));
            Request::SetPassword { user: ADMIN.into(), old, password: text(first) }
        }
        Form::LostPassword => {
            same(&text(0), &text(1))?;
            if text(2) != RESET_WORD {
                let why = format!("Type {RESET_WORD} in the last line, in capital letters.");
                return Err(why.into());
            }
            Request::LostPassword { password: text(0) }
        }
        Form::Rename => Request::Rename { name: text(0).trim().to_owned() },
        Form::Network(state) => {
            let name = text(0);
            let name = name.trim();
            let mut network = typed_network(&text(1), &text(2), &text(3))?;
            if !name.is_empty() {
                let nic = state.nics.iter().find(|n| n.name == name || n.mac.to_string() == name);
                let names: Vec<&str> = state.nics.iter().map(|n| n.name.as_str()).collect();
                let none = || format!("There is no interface {name}; there are {}.", names.join(", "));
                network.interface = Some(nic.ok_or_else(none)?.mac);
            }
            Request::TryNetwork(TryNetwork { network, seconds: TRIAL_SECONDS })
        }
        Form::TimeServers => Request::SetTime(typed_servers(fields)?),
        Form::Certificate => Request::NewCertificate { confirm: text(0) },
        Form::FactoryReset { data } => Request::FactoryReset { confirm: text(0), data: *data },
        Form::Reform { name, lost, .. } => {
            if text(0).trim() != name {
                return Err(format!("This host is called {name}: nothing was done.").into());
            }
            Request::Reform { confirm: name.clone(), lost: lost.clone() }
        }
        Form::Install { node, used } => {
            let name = Some(text(0).trim().to_owned()).filter(|t| !t.is_empty());
            let named = name.as_ref().and_then(|name| lq_api::meta::check_name("Host name", name));
            let password = same(&text(1), &text(2)).map_err(|why| format!("Admin password: {why}"));
            let network = typed_network(&text(3), &text(4), &text(5));
            let short = node.trim_start_matches("/dev/");
            let meant =
                if text(6).trim() == short { Ok(()) } else { Err(format!("Type {short} in the last line.")) };
            // All that is wrong at once, at the first field that is.
            let faults = [
                (0, named.map(|e| format!("{e}."))),
                (1, password.err()),
                (3, network.as_ref().err().cloned()),
                (6, meant.err()),
            ];
            let faults: Vec<(usize, String)> =
                faults.into_iter().filter_map(|(n, why)| Some((n, why?))).collect();
            match (network, faults.first()) {
                (Ok(network), None) => Request::Install(Wish {
                    node: node.clone(),
                    erase: *used,
                    name,
                    network,
                    password: text(1),
                }),
                (_, first) => {
                    let why: Vec<&str> = faults.iter().map(|(_, why)| why.as_str()).collect();
                    return Err(Wrong { field: first.map(|(n, _)| *n), why: why.join(" ") });
                }
            }
        }
    })
}
