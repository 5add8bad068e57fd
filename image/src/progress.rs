//! Progress lines on standard error: what is being done, and how long it took. Standard output is kept for results.

use std::time::Instant;

/// A step under way.
pub struct Step {
    room: &'static str,
    what: String,
    since: Instant,
}

impl Step {
    /// Says what begins.
    pub fn begin(room: &'static str, what: &str) -> Self {
        eprintln!("[{room}] {what} …");
        Self { room, what: what.to_owned(), since: Instant::now() }
    }

    /// Says that it is done, with its result.
    pub fn end(self, result: &str) {
        let comma = if result.is_empty() { "" } else { ", " };
        eprintln!(
            "[{}] {}: done in {:.1} s{comma}{result}",
            self.room,
            self.what,
            self.since.elapsed().as_secs_f64()
        );
    }
}

/// A line without a step.
pub fn note(room: &str, text: &str) {
    eprintln!("[{room}] {text}");
}
