//! Sessions of this host alone, for the time in which the cluster takes no changes: whoever is to mend a cluster without a
//! majority has to be able to log in.
//!
//! Owns these sessions, in memory. Invariants: one counts at most [`LASTS`], on this host, and no longer than the password it was
//! begun with and the user is as they were; a one-time code begins one session; recovery codes begin none, because nobody would know afterwards that
//! they are used up.

use crate::cluster::{
    State,
    state::{SessionRecord, access::Factor},
};
use lq_api::{SessionId, Timestamp, UserId};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long one counts. It cannot be refreshed.
pub(super) const LASTS: Duration = Duration::from_secs(3600);
/// Most kept at a time; the oldest goes first.
const MOST: usize = 64;

struct Begun {
    record: SessionRecord,
    /// Hash of the password it was begun with.
    password: Option<String>,
    /// Generation of the user it was begun in: it grows with each change, being disabled and enabled again included.
    generation: u64,
}

#[derive(Default)]
struct Inner {
    begun: Vec<Begun>,
    /// Last step of a one-time code taken here, by user.
    steps: HashMap<UserId, u64>,
}

/// The sessions of this host alone.
#[derive(Default)]
pub(super) struct LocalSessions(Mutex<Inner>);

impl LocalSessions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; false where the second factor does not count.
    pub(super) fn begin(
        &self,
        state: &State,
        record: &SessionRecord,
        factor: Option<&Factor>,
        now: Timestamp,
    ) -> bool {
        let Some(user) = state.users.get(&record.user) else { return false };
        let mut inner = self.inner();
        match factor {
            None => {}
            Some(Factor::Recovery(_)) => return false,
            Some(Factor::Step(step)) => {
                let used = inner.steps.get(&record.user).copied().unwrap_or(0).max(user.totp.last_step);
                if used >= *step {
                    return false;
                }
                inner.steps.insert(record.user, *step);
            }
        }
        inner.begun.retain(|b| b.record.expires_at > now);
        if inner.begun.len() >= MOST {
            inner.begun.remove(0);
        }
        let password = user.password.as_ref().map(|p| p.hash.clone());
        let generation = user.user.meta.generation;
        inner.begun.push(Begun { record: record.clone(), password, generation });
        true
    }

    /// The session, as long as it counts.
    pub(super) fn get(&self, state: &State, id: SessionId) -> Option<SessionRecord> {
        let inner = self.inner();
        let begun = inner.begun.iter().find(|b| b.record.id == id)?;
        let user = state.users.get(&begun.record.user)?;
        let same = user.password.as_ref().map(|p| &p.hash) == begun.password.as_ref()
            && user.user.meta.generation == begun.generation;
        same.then(|| begun.record.clone())
    }

    /// Ends one; false where it is none of these.
    pub(super) fn end(&self, id: SessionId) -> bool {
        let mut inner = self.inner();
        let before = inner.begun.len();
        inner.begun.retain(|b| b.record.id != id);
        inner.begun.len() < before
    }
}
