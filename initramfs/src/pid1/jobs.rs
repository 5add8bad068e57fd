//! Work that may wait for a disk, done beside the loop: a disk that hangs must not keep PID 1 from feeding the watchdog.
//!
//! A client whose request became a job is not read from until the job's answer is there, so that answers stay in order.

use lq_api::local::init::InitAnswer;
use std::sync::mpsc::{self, Receiver, TryRecvError};

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Writing the settings of the management network down.
    KeepNetwork,
    /// Writing down that the host is to be reset.
    FactoryReset,
}

/// A job under way.
#[derive(Debug)]
pub struct Job {
    /// Which client waits for it.
    pub client: u64,
    /// What it is for.
    pub purpose: Purpose,
    done: Receiver<Result<(), String>>,
}

impl Job {
    /// Begins `work` in a thread of its own.
    pub fn begin(
        client: u64,
        purpose: Purpose,
        work: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<Self, String> {
        let (tell, done) = mpsc::channel();
        std::thread::Builder::new()
            .name("job".into())
            .spawn(move || {
                // Nobody waits any more: the loop has ended.
                let _ = tell.send(work());
            })
            .map_err(|e| format!("start a thread: {e}"))?;
        Ok(Self { client, purpose, done })
    }

    /// What came of it, once it has ended.
    pub fn ended(&self) -> Option<Result<(), String>> {
        match self.done.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the work ended by a fault of ours".into())),
        }
    }
}

/// The answer to the client.
pub fn answer(result: &Result<(), String>) -> InitAnswer {
    match result {
        Ok(()) => InitAnswer::Done,
        Err(reason) => InitAnswer::Error { reason: reason.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_is_an_error_and_not_waited_for_for_ever() {
        let job = Job::begin(1, Purpose::KeepNetwork, || panic!("a fault")).unwrap();
        let result = loop {
            if let Some(result) = job.ended() {
                break result;
            }
            std::thread::yield_now();
        };
        assert!(result.unwrap_err().contains("fault of ours"));
        let job = Job::begin(1, Purpose::FactoryReset, || Ok(())).unwrap();
        while job.ended().is_none() {
            std::thread::yield_now();
        }
    }
}
