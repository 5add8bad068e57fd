//! The management network while the host runs: changes on trial, taken back unless they are confirmed.
//!
//! ```text
//!             try                 DHCP client ended, applied         keep, written down
//!   settled ───────▶ waiting ─────────────────────────▶ on trial ─────────────────────▶ settled (the new)
//!      ▲                                                   │
//!      └──── waiting ◀── time over, revert, not applied ───┘
//! ```
//! Invariants: whoever asks is answered before the address changes; the settings on the disk are the old ones until a change is confirmed, so that whatever ends the host in that
//! time ends the trial; never more than one trial; the DHCP client does not run while addresses are changed.

use super::service::Service;
use crate::{
    error::chain,
    net::{self, change::change},
    say, settings,
};
use lq_api::{
    answer::HostNetwork,
    local::init::BootFacts,
    management::{ManagementNetwork, ManagementNic, NetworkTrial, TryNetwork},
    vm::Mac,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Time for the answer to whoever asked to leave before the address it leaves from is gone, also by way of another host.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/sys`.
    pub sys: PathBuf,
    /// The settings that last.
    pub settings: PathBuf,
    /// Where the facts of the boot are told.
    pub facts: PathBuf,
    /// The resolver's configuration.
    pub resolv_conf: PathBuf,
}

#[derive(Clone, Debug)]
struct Trial {
    network: HostNetwork,
    until: Instant,
    /// The uplink before it.
    uplink: Option<String>,
}

/// Settings to be put into force.
#[derive(Clone, Debug)]
struct Wanted {
    network: HostNetwork,
    /// The uplink where they name none.
    uplink: Option<String>,
    /// Not before.
    from: Instant,
    /// The DHCP client was told to end, and is waited for.
    begun: bool,
}

/// The management network.
#[derive(Clone, Debug)]
pub struct Management {
    places: Places,
    /// What PID 1 tells of the host: the settings kept, and the uplink in use.
    facts: BootFacts,
    trial: Option<Trial>,
    /// What is to be put into force as soon as the DHCP client has ended.
    waiting: Option<Wanted>,
    keeping: bool,
    note: Option<String>,
}

impl Management {
    /// As it was set up at boot.
    pub const fn new(places: Places, facts: BootFacts) -> Self {
        Self { places, facts, trial: None, waiting: None, keeping: false, note: None }
    }

    /// As it is now.
    pub fn state(&self, now: Instant) -> ManagementNetwork {
        let nic = |n: net::Nic| ManagementNic { name: n.name, mac: Mac(n.mac), link: n.link };
        ManagementNetwork {
            kept: self.facts.host.network.clone(),
            trial: self.trial.as_ref().map(|t| NetworkTrial {
                network: t.network.clone(),
                seconds_left: u32::try_from(t.until.saturating_duration_since(now).as_secs())
                    .unwrap_or(u32::MAX),
            }),
            uplink: self.facts.uplink.clone(),
            nics: net::nics(&self.places.sys).into_iter().map(nic).collect(),
            note: self.note.clone(),
        }
    }

    /// When something is to be done without anyone asking.
    pub fn due(&self) -> Option<Instant> {
        let begins = self.waiting.as_ref().filter(|w| !w.begun).map(|w| w.from);
        self.over().into_iter().chain(begins).min()
    }

    /// When the trial is over.
    fn over(&self) -> Option<Instant> {
        self.trial.as_ref().filter(|_| !self.keeping).map(|t| t.until)
    }

    /// Begins a trial: in a moment, so that whoever asked has the answer from the address they asked at.
    pub fn try_out(&mut self, now: Instant, wanted: TryNetwork) -> Result<(), String> {
        if self.trial.is_some() || self.waiting.is_some() {
            return Err("a change is being tried already: keep it or take it back first".into());
        }
        if let Some(error) = wanted.validate().first() {
            return Err(error.to_string());
        }
        let found = net::nics(&self.places.sys);
        if let Some(mac) = wanted.network.interface
            && !found.iter().any(|n| n.mac == mac.0)
        {
            return Err(format!("network.interface: {mac} is not in this machine"));
        }
        self.note = None;
        say::info(&format!("trying another management network for {} s", wanted.seconds));
        let until = now + Duration::from_secs(u64::from(wanted.seconds));
        // Where none was named before either, the one in use stays; else it is chosen as at boot.
        let uplink = self.facts.uplink.clone();
        let stays = uplink.clone().filter(|_| self.facts.host.network.interface.is_none());
        self.waiting = Some(Wanted {
            network: wanted.network.clone(),
            uplink: stays,
            from: now + FAREWELL,
            begun: false,
        });
        self.trial = Some(Trial { network: wanted.network, until, uplink });
        Ok(())
    }

    /// Takes back what is on trial because somebody asks: in a moment, as it was begun.
    pub fn revert(&mut self, now: Instant) {
        self.take_back("as was asked", now + FAREWELL);
    }

    /// Takes back what is on trial.
    fn take_back(&mut self, why: &str, from: Instant) {
        if self.keeping {
            return;
        }
        if let Some(trial) = self.trial.take() {
            say::info(&format!("the management network is as it was: {why}"));
            self.note = Some(format!("the change was taken back: {why}"));
            let network = self.facts.host.network.clone();
            self.waiting = Some(Wanted { network, uplink: trial.uplink, from, begun: false });
        }
    }

    /// The work of keeping what is on trial. [`Self::kept`] is to be told what came of it.
    pub fn keep(&mut self) -> Result<impl FnOnce() -> Result<(), String> + Send + use<>, String> {
        let trial = self.trial.as_ref().ok_or("no change is being tried: its time may be over")?;
        if self.waiting.is_some() || self.keeping {
            return Err("the change is not in force yet: ask again in a moment".into());
        }
        self.keeping = true;
        let (path, network) = (self.places.settings.clone(), trial.network.clone());
        let facts = self.facts.host.clone();
        Ok(move || settings::keep_network(&path, &facts, &network).map_err(|e| chain(&e)))
    }

    /// What came of keeping.
    pub fn kept(&mut self, result: &Result<(), String>) {
        self.keeping = false;
        if result.is_ok()
            && let Some(trial) = self.trial.take()
        {
            say::info("the new settings of the management network are kept");
            self.facts.host.network = trial.network;
            self.tell();
        }
    }

    /// Does what is due. `dhcp` is the DHCP client.
    pub fn step(&mut self, now: Instant, dhcp: &mut Service) {
        if self.over().is_some_and(|until| now >= until) {
            self.take_back("nobody confirmed it in time", now);
        }
        let Some(wanted) = self.waiting.as_mut().filter(|w| now >= w.from) else { return };
        wanted.begun = true;
        dhcp.stop();
        if dhcp.pid().is_some() {
            return;
        }
        let wanted = wanted.clone();
        self.waiting = None;
        let old = self.facts.uplink.as_deref();
        let preferred = wanted.uplink.as_deref();
        match change(&self.places.sys, &self.places.resolv_conf, (old, preferred), &wanted.network) {
            Ok(uplink) => {
                if wanted.network.address.is_none() && uplink.is_some() {
                    dhcp.begin(now);
                }
                self.facts.uplink = uplink;
                self.tell();
            }
            Err(e) => {
                let why = chain(&e);
                say::error(&format!("the management network could not be changed: {why}"));
                if self.trial.is_some() {
                    self.take_back(&why, now);
                } else {
                    self.note =
                        Some(format!("the network could not be set up again: {why}; restart the host"));
                }
            }
        }
    }

    /// Writes the facts down for the others. In memory: this waits for no disk.
    fn tell(&self) {
        if let Err(e) = write_facts(&self.places.facts, &self.facts) {
            say::warn(&format!("{}: {e}", self.places.facts.display()));
        }
    }
}

/// Tells the facts of the boot: whole or not at all.
pub fn write_facts(path: &Path, facts: &BootFacts) -> std::io::Result<()> {
    crate::net::write_whole(path, &serde_json::to_vec_pretty(facts)?)
}

#[cfg(test)]
mod tests {
    use super::{super::service::Spec, *};

    #[test]
    fn whoever_asks_is_answered_before_the_address_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let places = Places {
            sys: at("sys"),
            settings: at("host.toml"),
            facts: at("boot.json"),
            resolv_conf: at("resolv"),
        };
        let mut management = Management::new(places, BootFacts::default());
        let spec = Spec {
            name: "dhcp".into(),
            argv: vec![],
            env: vec![],
            terminal: None,
            log: dir.path().join("log"),
            cgroup: None,
            oom_score: None,
            wanted: false,
        };
        let mut dhcp = Service::new(spec);
        let now = Instant::now();
        management.try_out(now, TryNetwork { network: HostNetwork::default(), seconds: 60 }).unwrap();
        assert_eq!(management.due(), Some(now + FAREWELL));
        management.step(now, &mut dhcp);
        assert!(management.waiting.as_ref().is_some_and(|w| !w.begun), "{management:?}");
        // Taken back as gently, and as nobody can ask any more at once.
        management.revert(now);
        assert_eq!(management.due(), Some(now + FAREWELL));
        management.step(now, &mut dhcp);
        assert!(management.waiting.as_ref().is_some_and(|w| !w.begun), "{management:?}");
    }
}
