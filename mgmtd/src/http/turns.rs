//! How many of something one user does at a time: refused beyond it ([`Turns`]), or made to wait ([`Queues`]).

use lq_api::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts by user; root on the host is one too.
#[derive(Clone)]
pub(super) struct Turns {
    most: usize,
    taken: Arc<Mutex<HashMap<Option<UserId>, usize>>>,
}

/// One of them; over when it is dropped.
pub(super) struct Turn {
    user: Option<UserId>,
    turns: Turns,
}

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// One more of this user; `None` where they do as much as they may.
    pub(super) fn take(&self, user: Option<UserId>) -> Option<Turn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Turn { user, turns: self.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

/// Users who wait for their own others, and for nobody else's.
#[derive(Debug)]
pub(super) struct Queues {
    most: usize,
    queues: Mutex<HashMap<Option<UserId>, Weak<Semaphore>>>,
}

/// The queue of one user.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Semaphore>);

impl Queues {
    pub(super) fn new(most: usize) -> Self {
        Self { most, queues: Mutex::default() }
    }

    /// The queue of this user.
    pub(super) fn of(&self, user: Option<UserId>) -> Queue {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(&user).and_then(Weak::upgrade) {
            return Queue(queue);
        }
        // Those nobody is in any more go.
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Semaphore::new(self.most));
        queues.insert(user, Arc::downgrade(&queue));
        Queue(queue)
    }
}

impl Queue {
    /// Waits for a turn, which is over when it is dropped. `None` never comes: no queue is closed.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn one_user_waits_for_their_own_turns_only() {
        let queues = Queues::new(1);
        let (a, b) = (Some(UserId::new()), Some(UserId::new()));
        let turn = queues.of(a).turn().now_or_never().unwrap();
        let (second, other) = (queues.of(a), queues.of(b));
        assert!(second.turn().now_or_never().is_none());
        assert!(other.turn().now_or_never().is_some());
        drop(turn);
        assert!(second.turn().now_or_never().is_some());
        drop((second, other));
        queues.of(a);
        assert_eq!(queues.queues.lock().unwrap().len(), 1, "what nobody waits in is forgotten");
    }

    #[test]
    fn one_user_leaves_others_their_turn() {
        let turns = Turns::new(2);
        let (a, b) = (Some(UserId::new()), Some(UserId::new()));
        let held = [turns.take(a), turns.take(a)];
        assert!(held.iter().all(Option::is_some));
        assert!(turns.take(a).is_none());
        assert!(turns.take(b).is_some() && turns.take(None).is_some());
        drop(held);
        assert!(turns.take(a).is_some());
        assert!(turns.taken.lock().unwrap().is_empty());
    }
}
