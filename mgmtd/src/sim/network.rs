//! The management network of a simulated host: it behaves as a real one and connects nothing.

use crate::reconcile::host::HostError;
use lq_api::{
    answer::HostNetwork,
    management::{ManagementNetwork, ManagementNic, NetworkTest, NetworkTrial, TryNetwork},
    vm::Mac,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The one interface of a simulated host.
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

#[derive(Default)]
struct Settings {
    kept: HostNetwork,
    trial: Option<(HostNetwork, Instant)>,
    note: Option<String>,
}

/// Its settings.
#[derive(Default)]
pub(super) struct SimManagement(Mutex<Settings>);

impl SimManagement {
    /// The settings now: a trial whose time is over is none.
    fn now(&self) -> MutexGuard<'_, Settings> {
        let mut settings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.trial.as_ref().is_some_and(|(_, until)| Instant::now() >= *until) {
            settings.trial = None;
            settings.note = Some("the change was taken back: nobody confirmed it in time".into());
        }
        settings
    }

    pub(super) fn state(&self) -> ManagementNetwork {
        let settings = self.now();
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs();
        ManagementNetwork {
            kept: settings.kept.clone(),
            trial: settings.trial.as_ref().map(|(network, until)| NetworkTrial {
                network: network.clone(),
                seconds_left: u32::try_from(left(*until)).unwrap_or(u32::MAX),
            }),
            uplink: Some("sim0".into()),
            nics: vec![ManagementNic { name: "sim0".into(), mac: MAC, link: true }],
            note: settings.note.clone(),
        }
    }

    pub(super) fn try_out(&self, wanted: TryNetwork) -> Result<(), HostError> {
        let mut settings = self.now();
        if settings.trial.is_some() {
            return Err(HostError::Refused(
                "a change is being tried already: keep it or take it back first".into(),
            ));
        }
        if wanted.network.interface.is_some_and(|mac| mac != MAC) {
            return Err(HostError::Refused("network.interface: it is not in this machine".into()));
        }
        let until = Instant::now() + Duration::from_secs(u64::from(wanted.seconds));
        settings.note = None;
        settings.trial = Some((wanted.network, until));
        Ok(())
    }

    pub(super) fn keep(&self) -> Result<(), HostError> {
        let mut settings = self.now();
        let (network, _) = settings
            .trial
            .take()
            .ok_or_else(|| HostError::Refused("no change is being tried: its time may be over".into()))?;
        settings.kept = network;
        Ok(())
    }

    pub(super) fn revert(&self) {
        let mut settings = self.now();
        if settings.trial.take().is_some() {
            settings.note = Some("the change was taken back: as was asked".into());
        }
    }

    pub(super) fn test(&self) -> NetworkTest {
        let settings = self.now();
        let used = settings.trial.as_ref().map_or(&settings.kept, |(network, _)| network);
        NetworkTest {
            address: used.address.clone().or_else(|| Some("192.0.2.2/24".into())),
            gateway: used.gateway,
            gateway_answers: used.gateway.map(|_| true),
            api_answers: true,
        }
    }
}
