//! How many of something one user does at a time.

use lq_api::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
