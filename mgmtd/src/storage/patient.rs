//! Threads for work that may block, without end where the server of a shared pool is silent.
//!
//! A local disk answers in its time, so its work runs on the runtime's own threads. What may never return runs on a thread of
//! its own that nobody waits for longer than a given time: it ends by itself when the server is there again, or with the
//! process. Such threads are few per pool, so that a silent server costs a bounded number of them.

use super::Error;
use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Semaphore, oneshot};

/// Blocking operations of a pool at one time.
const JOBS: usize = 4;
/// Longest an operation that makes much durable at once may take.
const LONG: u32 = 40;

/// The threads of one pool.
#[derive(Clone)]
pub(super) struct Workers {
    permits: Arc<Semaphore>,
    /// Longest an ordinary operation may take; `None`: it will return.
    patience: Option<Duration>,
}

impl Workers {
    /// For a disk of this host.
    pub(super) fn local() -> Self {
        Self { permits: Arc::new(Semaphore::new(JOBS)), patience: None }
    }

    /// For a server that may fall silent.
    pub(super) fn patient(patience: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(JOBS)), patience: Some(patience) }
    }

    /// Runs an ordinary operation.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.run_within(self.patience, work).await
    }

    /// Runs an operation that may have gigabytes to make durable.
    pub(super) async fn run_long<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.run_within(self.patience.map(|p| p * LONG), work).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.clone().acquire_owned();
        let Some(limit) = limit else {
            let permit = permit.await.map_err(|_| lost("the pool is closed"))?;
            let work = move || {
                let _permit = permit;
                work()
            };
            let done = tokio::task::spawn_blocking(work).await;
            return done.map_err(|e| Error::Io {
                context: "working on the pool".into(),
                source: io::Error::other(e),
            })?;
        };
        let all = async {
            let permit = permit.await.map_err(|_| lost("the pool is closed"))?;
            let work = move || {
                let _permit = permit;
                work()
            };
            spawn(work)?.await.map_err(|_| lost("working on the pool"))?
        };
        tokio::time::timeout(limit, all).await.unwrap_or(Err(Error::Silent { seconds: limit.as_secs() }))
    }
}

fn lost(what: &str) -> Error {
    Error::Io { context: what.into(), source: ErrorKind::Other.into() }
}

/// Runs `work` on a thread of its own; what it returns comes through the channel.
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Error> {
    let (tell, told) = oneshot::channel();
    let run = move || {
        // Nobody waits any more: what was done stays done.
        let _ = tell.send(work());
    };
    let thread = std::thread::Builder::new().name("pool".into()).spawn(run);
    thread.map_err(|source| Error::Io { context: "starting a thread for the pool".into(), source })?;
    Ok(told)
}

/// Runs `work`, which may touch a shared pool, for at most `limit`.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let told = spawn(work)?;
    match tokio::time::timeout(limit, told).await {
        Ok(done) => done.map_err(|_| lost("working on the pool"))?,
        Err(_) => Err(Error::Silent { seconds: limit.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_silent_server_costs_a_few_threads_and_nobody_waits_for_it() {
        let workers = Workers::patient(Duration::from_millis(50));
        let mut held = Vec::new();
        for _ in 0..JOBS {
            let (release, wait) = mpsc::channel::<()>();
            held.push(release);
            let stuck = workers.run(move || {
                let _ = wait.recv();
                Ok(())
            });
            assert!(matches!(stuck.await, Err(Error::Silent { .. })));
        }
        // No thread is left for more, and what was not begun is not done later.
        let (tell, told) = mpsc::channel::<()>();
        let late = workers.run(move || {
            let _ = tell.send(());
            Ok(())
        });
        assert!(matches!(late.await, Err(Error::Silent { .. })));
        assert!(told.recv().is_err());
        drop(held);
        let again = tokio::time::timeout(Duration::from_secs(10), async {
            while workers.run(|| Ok(7)).await.is_err() {}
        });
        again.await.expect("the threads are free again");
    }
}
