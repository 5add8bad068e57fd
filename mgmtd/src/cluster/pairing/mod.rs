//! Pairing: a host that is alone shows a code; typed in a cluster, it brings the host in. No token has to be carried about.
//!
//! What is found on the network ([`crate::discovery`]) is only where to ask. Who is there is proven by the code ([`exchange`]);
//! what follows is the ordinary way in ([`super::join`]) with a token of one use that the proven connection carries.
//! Invariants: a host that keeps nothing, has company, or has things of its own that nobody opened for it, does not wait; a
//! code is shown to whoever may everything on this host, and to nobody else.

mod code;
mod exchange;
mod invite;
mod serve;
mod waiting;

pub use invite::{PairError, Paired};
pub(super) use serve::router;

use super::{Cluster, State, pki::PkiError};
use exchange::Waiter;
use jiff::Timestamp;
use lq_api::pairing::Pairing as Status;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use waiting::Waiting;

/// How long a host waits that was opened for it.
const OPEN: Duration = Duration::from_secs(3600);

/// A host's part in pairing.
#[derive(Default)]
pub(super) struct Pairing {
    waiting: Mutex<Waiting>,
    policy: Mutex<Policy>,
}

#[derive(Clone, Copy, Default)]
struct Policy {
    /// What it joins lasts.
    installed: bool,
    /// The administrator said so.
    opened_until: Option<Instant>,
}

/// Why a host does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWaiting {
    /// It was booted from its medium.
    #[error("this host runs from its medium and keeps nothing: install it first")]
    Live,
    /// It has company, or had.
    #[error("this host is a member of a cluster: only a host that is alone can be paired")]
    Member,
    /// It has things nobody opened for it.
    #[error(
        "this host has machines, volumes or images of its own: open it for pairing, and they come along when it joins"
    )]
    InUse,
}

impl Pairing {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_use(state: &State) -> bool {
    !(state.vms.is_empty() && state.volumes.is_empty() && state.images.is_empty())
}

impl Cluster {
    /// Says that what this host joins lasts; before it, it does not wait.
    pub fn may_be_paired(&self) {
        self.pairing.policy().installed = true;
    }

    fn waits(&self, opened: bool) -> Result<(), NotWaiting> {
        if !self.pairing.policy().installed {
            return Err(NotWaiting::Live);
        }
        let (hosts, used) = self.read(|s| (s.hosts.len(), in_use(s)));
        if hosts != 1 || self.is_removed() || self.outdated().is_some() {
            return Err(NotWaiting::Member);
        }
        if used && !opened {
            return Err(NotWaiting::InUse);
        }
        Ok(())
    }

    /// Brings pairing up to date; to be called every second. Tells whether the host waits to be found.
    pub fn look_at_pairing(&self) -> Result<(), NotWaiting> {
        let now = Instant::now();
        let opened = {
            let mut policy = self.pairing.policy();
            policy.opened_until = policy.opened_until.filter(|until| now < *until);
            policy.opened_until.is_some()
        };
        let waits = self.waits(opened);
        // Whose admission is under way stays as it is until that is over.
        let mut waiting = self.pairing.waiting();
        if (waits.is_ok() || !waiting.is_taken())
            && let Err(e) = waiting.look(now, waits.is_ok())
        {
            tracing::error!(error = e, "there is no pairing code");
        }
        waits
    }

    /// How this host stands to being paired, its code included.
    #[must_use]
    pub fn pairing(&self) -> Status {
        let waits = self.look_at_pairing();
        let now = Instant::now();
        let at = |after: Duration| {
            let after = jiff::SignedDuration::try_from(after).unwrap_or_default();
            Timestamp::now().saturating_add(after).ok()
        };
        let opened_until = self.pairing.policy().opened_until;
        let waiting = self.pairing.waiting();
        let shown = waiting.shown(now);
        Status {
            waiting: waits.is_ok(),
            reason: waits.err().map(|why| why.to_string()),
            expires_at: shown.as_ref().and_then(|(_, left, _)| at(*left)),
            wrong_guesses: shown.as_ref().map_or(0, |(_, _, wrong)| *wrong),
            code: shown.map(|(code, ..)| code),
            joining: waiting.is_taken(),
            opened_until: opened_until.and_then(|until| at(until.saturating_duration_since(now))),
        }
    }

    /// Lets a host with things of its own wait for an hour, or ends it.
    pub fn open_pairing(&self, open: bool) -> Result<(), NotWaiting> {
        if open {
            self.waits(true)?;
        }
        self.pairing.policy().opened_until = open.then(|| Instant::now() + OPEN);
        Ok(())
    }

    /// Wrong codes heard since the start.
    #[must_use]
    pub fn wrong_codes(&self) -> u64 {
        self.pairing.waiting().wrong()
    }

    fn as_waiter(&self) -> Result<Waiter, PkiError> {
        Ok(Waiter { version: exchange::VERSION, host: self.identity().host, pin: self.pin()? })
    }

    /// Brings in the host that waits at `address` and shows this code, with everything it has.
    pub async fn pair(
        &self,
        address: &str,
        expected: Option<lq_api::HostId>,
        code: &str,
        rename: bool,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Paired, PairError> {
        invite::pair(self, invite::Invitation { address, expected, code, rename }, say).await
    }
}

/// Whether this is a pairing code, whoever shows it.
#[must_use]
pub fn is_code(text: &str) -> bool {
    code::Code::parse(text).is_some()
}

#[cfg(test)]
mod tests;
