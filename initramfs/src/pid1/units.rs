//! The table of units: what `mgmtd` asked PID 1 to run, and how it ended. Pure.
//!
//! ```text
//! start ──► running ──process ends──► ended ──forget──► gone
//! ```
//! A name is in the table once; it is free again only after `forget`, so that no end is ever lost.

use lq_api::local::init::{End, UnitState};
use std::collections::BTreeMap;

/// Most units at a time, ended ones included.
pub const MAX_UNITS: usize = 4096;

#[derive(Clone, Debug)]
struct Entry {
    pid: i32,
    stop_seconds: u32,
    end: Option<End>,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Units {
    entries: BTreeMap<String, Entry>,
}

/// Checks a unit's name: 1 to 100 of `a-z A-Z 0-9 . _ -`.
pub fn check_name(name: &str) -> Result<(), String> {
    let ok = !name.is_empty()
        && name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok {
        Ok(())
    } else {
        Err(format!("`{name}` is not a unit name: 1 to 100 characters from a-z A-Z 0-9 . _ -"))
    }
}

impl Units {
    /// Whether a unit of this name can be started.
    pub fn check_free(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        match self.entries.get(name) {
            Some(Entry { end: None, pid, .. }) => Err(format!("unit {name} runs already (process {pid})")),
            Some(_) => Err(format!("unit {name} ended and was not forgotten yet")),
            None if self.entries.len() >= MAX_UNITS => Err(format!("there are {MAX_UNITS} units already")),
            None => Ok(()),
        }
    }

    /// Records a unit that was started.
    pub fn started(&mut self, name: &str, pid: i32, stop_seconds: u32) {
        self.entries.insert(name.to_owned(), Entry { pid, stop_seconds, end: None });
    }

    /// Records the end of a process; its unit's name where it is one.
    pub fn ended(&mut self, pid: i32, end: End) -> Option<String> {
        let (name, entry) = self.entries.iter_mut().find(|(_, e)| e.pid == pid && e.end.is_none())?;
        entry.end = Some(end);
        Some(name.clone())
    }

    /// Process of a unit that runs.
    pub fn pid(&self, name: &str) -> Result<i32, String> {
        match self.entries.get(name) {
            Some(Entry { pid, end: None, .. }) => Ok(*pid),
            Some(_) => Err(format!("unit {name} has ended")),
            None => Err(format!("there is no unit {name}")),
        }
    }

    /// Forgets a unit that ended. One that is not there is no error, so that the call can be repeated.
    pub fn forget(&mut self, name: &str) -> Result<(), String> {
        if let Some(Entry { end: None, pid, .. }) = self.entries.get(name) {
            return Err(format!("unit {name} still runs (process {pid})"));
        }
        self.entries.remove(name);
        Ok(())
    }

    /// Every unit, by name.
    pub fn list(&self) -> Vec<UnitState> {
        self.entries
            .iter()
            .map(|(name, e)| UnitState { name: name.clone(), pid: e.pid.unsigned_abs(), end: e.end })
            .collect()
    }

    /// Units that run: name, process, seconds they get to stop.
    pub fn running(&self) -> Vec<(String, i32, u32)> {
        self.entries
            .iter()
            .filter(|(_, e)| e.end.is_none())
            .map(|(name, e)| (name.clone(), e.pid, e.stop_seconds))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_again_only_after_its_end_was_forgotten() {
        let mut units = Units::default();
        assert_eq!(units.check_free("vm-1"), Ok(()));
        units.started("vm-1", 10, 60);
        assert!(units.check_free("vm-1").unwrap_err().contains("runs already"));
        assert!(units.forget("vm-1").is_err());
        assert_eq!(units.pid("vm-1"), Ok(10));
        assert_eq!(units.ended(11, End::Exited(0)), None);
        assert_eq!(units.ended(10, End::Killed(9)).as_deref(), Some("vm-1"));
        assert_eq!(units.ended(10, End::Exited(0)), None, "a process ends once");
        assert!(units.check_free("vm-1").unwrap_err().contains("not forgotten"));
        assert_eq!(units.list()[0].end, Some(End::Killed(9)));
        units.forget("vm-1").unwrap();
        units.forget("vm-1").unwrap();
        assert_eq!(units.check_free("vm-1"), Ok(()));
        assert!(units.check_free("../x").is_err());
    }
}
