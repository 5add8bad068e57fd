//! Names of what events and tasks are about.
//!
//! Looked up in the state when something is noted, and remembered for as long as there may be more to note of an object that is
//! gone from it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Names remembered.
const KEPT: usize = 4096;

type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Names by target, `kind/id`.
#[derive(Default)]
pub struct Names {
    lookup: OnceLock<Lookup>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: HashMap<String, String>,
    /// The one known longest first.
    order: VecDeque<String>,
}

impl Names {
    /// Where names are looked up from now on; the first call counts.
    pub fn read_from(&self, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        let _ = self.lookup.set(Box::new(lookup));
    }

    /// The name the target has, or had when it was last asked for.
    pub fn of(&self, target: &str) -> Option<String> {
        let now = self.lookup.get().and_then(|lookup| lookup(target));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = now else { return known.names.get(target).cloned() };
        if known.names.insert(target.to_owned(), name.clone()).is_none() {
            known.order.push_back(target.to_owned());
        }
        if known.order.len() > KEPT
            && let Some(oldest) = known.order.pop_front()
        {
            known.names.remove(&oldest);
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_its_object_and_few_enough_are_kept() {
        let names = Names::default();
        assert_eq!(names.of("vm/1"), None, "nothing is looked up yet");
        let there = std::sync::Arc::new(Mutex::new(true));
        let looked = there.clone();
        names.read_from(move |target| (*looked.lock().unwrap()).then(|| format!("name of {target}")));
        assert_eq!(names.of("vm/1").as_deref(), Some("name of vm/1"));
        *there.lock().unwrap() = false;
        assert_eq!(names.of("vm/1").as_deref(), Some("name of vm/1"));
        assert_eq!(names.of("vm/2"), None);
        *there.lock().unwrap() = true;
        for n in 0..2 * KEPT {
            names.of(&format!("volume/{n}"));
        }
        assert_eq!(names.known.lock().unwrap().names.len(), KEPT);
        *there.lock().unwrap() = false;
        assert_eq!(names.of("vm/1"), None, "it was forgotten");
    }
}
