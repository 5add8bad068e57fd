//! Installing from the console of a live host: the disks there are, and the installation as a process of PID 1's, whose output is
//! followed. Whoever stands at a machine that runs from the installation medium needs no login: nothing on it is theirs yet.

use crate::local;
use lq_api::{
    answer::{Admin, AfterInstall, Answer, ERASE_WORD, HostConfig, HostNetwork, Install},
    local::{
        init::{End, InitAnswer, InitRequest, Unit},
        install::InstallDisk,
        paths,
    },
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Stdio},
};

const UNIT: &str = "install";
const ANSWER: &str = "/run/limiquantix/install.toml";
const LOG: &str = "/run/limiquantix/log/install.log";

/// What is to be installed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) node: String,
    /// What is on the disk may go: it was shown, and the disk's name was typed.
    pub(crate) erase: bool,
    pub(crate) name: Option<String>,
    pub(crate) network: HostNetwork,
    pub(crate) password: String,
}

/// An installation under way, or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) lines: Vec<String>,
    /// How it ended: true where the disk is installed.
    pub(crate) ended: Option<bool>,
}

/// The answer file of a wish.
fn answer(wish: &Wish) -> Result<String, String> {
    let answer = Answer {
        version: 1,
        install: Some(Install {
            disk: wish.node.clone(),
            erase: wish.erase.then(|| ERASE_WORD.to_owned()),
            then: AfterInstall::Reboot,
            again: true,
        }),
        host: HostConfig { name: wish.name.clone(), network: wish.network.clone(), guest_dhcp: None },
        cluster: None,
        admin: Some(Admin { password: wish.password.clone() }),
    };
    let text = toml::to_string(&answer).map_err(|e| e.to_string())?;
    match Answer::parse(&text) {
        Ok(_) => Ok(text),
        Err(errors) => Err(errors.first().map(ToString::to_string).unwrap_or_default()),
    }
}

/// The disks there are.
pub(crate) fn disks() -> Result<Vec<InstallDisk>, String> {
    let found = Command::new(paths::LQ_INIT).arg("disks").stdin(Stdio::null()).output();
    let found = found.map_err(|e| format!("the disks cannot be looked at: {e}"))?;
    if !found.status.success() {
        return Err(format!(
            "the disks cannot be looked at: {}",
            String::from_utf8_lossy(&found.stderr).trim()
        ));
    }
    serde_json::from_slice(&found.stdout).map_err(|e| format!("the disks cannot be looked at: {e}"))
}

/// Begins an installation.
pub(crate) fn begin(wish: &Wish) -> Result<(), String> {
    let text = answer(wish)?;
    // One that has ended is forgotten; one under way is not.
    if let Some(unit) = unit()? {
        if unit.is_none() {
            return Err("an installation is under way already".into());
        }
        local::init(&InitRequest::Forget { name: UNIT.into() })?;
    }
    let _ = fs::remove_file(LOG);
    write_secret(Path::new(ANSWER), &text).map_err(|e| format!("{ANSWER}: {e}"))?;
    let unit = Unit {
        name: UNIT.into(),
        argv: [paths::LQ_INIT, "install", ANSWER].map(str::to_owned).into(),
        env: [("PATH".to_owned(), "/usr/sbin:/usr/bin".to_owned())].into(),
        cgroup: None,
        new_pid_namespace: false,
        log: Some(LOG.into()),
        stop_seconds: 10,
    };
    match local::init(&InitRequest::Spawn(unit))? {
        InitAnswer::Spawned { .. } => Ok(()),
        InitAnswer::Error { reason } => Err(reason),
        other => Err(format!("PID 1 gave an answer that does not fit: {other:?}")),
    }
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// How the installation's process ended, where there is one.
fn unit() -> Result<Option<Option<End>>, String> {
    match local::init(&InitRequest::List)? {
        InitAnswer::Units { units } => Ok(units.into_iter().find(|u| u.name == UNIT).map(|u| u.end)),
        other => Err(format!("PID 1 gave an answer that does not fit: {other:?}")),
    }
}

/// How far it is.
pub(crate) fn progress() -> Result<Progress, String> {
    let end = unit()?;
    let ended = match end {
        Some(None) => None,
        Some(Some(end)) => Some(end == End::Exited(0)),
        None => Some(false),
    };
    if ended.is_some() {
        // The password is in it.
        let _ = fs::remove_file(ANSWER);
    }
    let text = fs::read_to_string(LOG).unwrap_or_default();
    let lines = text.lines().map(|l| l.strip_prefix("lq-init: ").unwrap_or(l).to_owned()).collect();
    Ok(Progress { lines, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_an_answer_file_that_erases_only_what_was_shown() {
        let wish = Wish {
            node: "/dev/vda".into(),
            erase: false,
            name: Some("node1".into()),
            network: HostNetwork { address: Some("10.0.0.2/24".into()), ..HostNetwork::default() },
            password: "with \"quotes\" and #".into(),
        };
        let read = Answer::parse(&answer(&wish).unwrap()).unwrap();
        let install = read.install.unwrap();
        assert_eq!((install.disk.as_str(), install.erase), ("/dev/vda", None));
        assert_eq!(read.admin.unwrap().password, wish.password);
        assert_eq!(read.host.name.as_deref(), Some("node1"));
        let erase = answer(&Wish { erase: true, ..wish.clone() }).unwrap();
        assert_eq!(Answer::parse(&erase).unwrap().install.unwrap().erase.as_deref(), Some(ERASE_WORD));
        let wrong = answer(&Wish { name: Some("-x".into()), ..wish }).unwrap_err();
        assert!(wrong.contains("host.name"), "{wrong}");
    }
}
