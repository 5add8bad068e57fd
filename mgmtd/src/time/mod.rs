//! Time: this host's clock follows NTP servers (RFC 5905, as a client).
//!
//! ```text
//!  servers ─▶ client (a question each) ─▶ select (which agree) ─▶ discipline (slew, step, wait) ─▶ clock
//! ```
//! Invariants: the clock is moved only where a majority of the servers that answer agree; it is set, instead of brought nearer,
//! only at the start or when it stays far off; a server that asks to be left alone is; nothing of the safety of the cluster
//! depends on it (leases run by `CLOCK_BOOTTIME`). Nobody is answered: there is no server here to be abused.

mod client;
mod clock;
mod discipline;
mod packet;
mod select;

use crate::cluster::{Cluster, State};
use client::AskError;
use clock::{Clock, Kernel, Simulated};
use discipline::{Action, Discipline};
use futures::future::join_all;
use jiff::Timestamp;
use lq_api::time::{TimeServer, TimeSpec, TimeStatus, server_and_port};
use packet::Nanos;
use select::{Filter, Sample, agree};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Between the first questions.
const SOON: Duration = Duration::from_secs(2);
/// Questions that are asked so soon.
const SOON_ROUNDS: u32 = 5;
/// Between two questions at first, and at most once all is well.
const POLL: (Duration, Duration) = (Duration::from_secs(32), Duration::from_secs(512));
/// Offset below which the pause grows.
const WELL: Nanos = 5_000_000;
/// A server that refuses is not asked again for so long.
const DENIED: Duration = Duration::from_secs(24 * 3600);
/// One that asks to be asked less.
const RATE: Duration = Duration::from_secs(1800);
/// The clock counts as synchronised for so long after the servers agreed.
const GOOD_FOR: Nanos = 3 * 1024 * 1_000_000_000;
/// After so long without agreement something is wrong.
const TROUBLE: Nanos = 1200 * 1_000_000_000;
/// Longest a name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);

/// A server and what it said.
struct Server {
    name: String,
    address: Option<SocketAddr>,
    filter: Filter,
    fault: Option<String>,
    /// It is not asked before, by the clock that is never set.
    not_before: Nanos,
    failures: u32,
}

/// What is known of the clock.
#[derive(Default)]
struct Known {
    servers: Vec<Server>,
    discipline: Discipline,
    chosen: Vec<usize>,
    agreed: Option<(Nanos, select::Agreement, Timestamp)>,
    stepped_at: Option<Timestamp>,
    note: Option<String>,
    /// Since when these servers are followed.
    since: Nanos,
}

/// Has this host's clock follow.
pub struct Time {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

fn milliseconds(nanos: Nanos) -> f64 {
    (nanos / 1000) as f64 / 1000.0
}

impl Time {
    /// Of this computer's clock.
    #[must_use]
    pub fn of_the_kernel() -> Arc<Self> {
        Self::new(Arc::new(Kernel))
    }

    /// Of a simulated host: the computer's is left alone.
    #[must_use]
    pub fn simulated() -> Arc<Self> {
        Self::new(Arc::new(Simulated::default()))
    }

    /// Of a computer whose owner sets its clock: it is left alone.
    #[must_use]
    pub fn of_somebody_else() -> Arc<Self> {
        Self::simulated()
    }

    fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the servers the cluster names, until `end`.
    pub async fn run(self: Arc<Self>, cluster: Cluster, end: CancellationToken) {
        let mut changes = cluster.watch();
        let mut rounds = 0u32;
        let mut pause = POLL.0;
        let mut spec = None;
        loop {
            let wanted = cluster.read(State::time);
            if spec.as_ref() != Some(&wanted) {
                self.follow(&wanted);
                spec = Some(wanted);
                (rounds, pause) = (0, POLL.0);
            }
            let asked = !self.known().servers.is_empty();
            if asked {
                let well = self.round().await;
                rounds = rounds.saturating_add(1);
                pause = if well { (pause * 2).min(POLL.1) } else { POLL.0 };
            }
            let sleep = tokio::time::sleep(if asked && rounds < SOON_ROUNDS { SOON } else { pause });
            tokio::pin!(sleep);
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    () = &mut sleep => break,
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        if spec.as_ref() != Some(&cluster.read(State::time)) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// From now on these servers.
    fn follow(&self, spec: &TimeSpec) {
        let mut known = self.known();
        let discipline = known.discipline;
        let stepped_at = known.stepped_at;
        let server = |name: &String| Server {
            name: name.clone(),
            address: None,
            filter: Filter::default(),
            fault: None,
            not_before: Nanos::MIN,
            failures: 0,
        };
        *known = Known {
            servers: spec.servers.iter().map(server).collect(),
            discipline,
            stepped_at,
            since: self.clock.steady(),
            ..Known::default()
        };
    }

    /// Asks every server, and acts on what they say. True where all is well.
    async fn round(&self) -> bool {
        let now = self.clock.steady();
        let to_ask: Vec<(usize, String, Option<SocketAddr>)> = {
            let known = self.known();
            let due = known.servers.iter().enumerate().filter(|(_, s)| s.not_before <= now);
            due.map(|(n, s)| (n, s.name.clone(), s.address)).collect()
        };
        let asked = to_ask.into_iter().map(|(n, name, address)| async move {
            let address = match address {
                Some(address) => Ok(address),
                None => resolve(&name).await,
            };
            match address {
                Ok(address) => (n, Some(address), client::ask(address, &*self.clock).await),
                Err(e) => (n, None, Err(e.into())),
            }
        });
        let told = join_all(asked).await;
        let mut known = self.known();
        for (n, address, said) in told {
            if let Some(server) = known.servers.get_mut(n) {
                server.hear(address, said, self.clock.steady());
            }
        }
        self.act(&mut known)
    }

    fn act(&self, known: &mut Known) -> bool {
        let now = self.clock.steady();
        let best: Vec<Option<Sample>> = known.servers.iter().map(|s| s.filter.best(now)).collect();
        let heard = best.iter().flatten().count();
        let Some(agreed) = agree(&best, now) else {
            known.chosen.clear();
            known.note = Some(match heard {
                0 => "no server has told the time yet".into(),
                _ => format!("the {heard} servers that answer do not agree: name at least three"),
            });
            return false;
        };
        let action = known.discipline.decide(agreed.offset);
        let done = match action {
            Action::Slew(offset) => self.clock.slew(offset, agreed.error),
            Action::Step(by) => self.clock.step(by, agreed.error),
            Action::Wait => Ok(()),
        };
        let at = Timestamp::now();
        known.note = match (&done, action) {
            (Err(e), _) => Some(format!("the clock cannot be adjusted: {e}")),
            (Ok(()), Action::Wait) => Some(format!(
                "the clock is {:.0} ms off and is set if it stays so",
                milliseconds(agreed.offset)
            )),
            _ => None,
        };
        if let (Ok(()), Action::Step(by)) = (&done, action) {
            tracing::warn!(milliseconds = milliseconds(by), "the clock was set");
            known.stepped_at = Some(at);
            for server in &mut known.servers {
                server.filter.shift(by);
            }
        }
        if let Err(e) = &done {
            tracing::error!(error = %e, "the clock cannot be adjusted");
        }
        known.chosen.clone_from(&agreed.chosen);
        let well = done.is_ok() && action != Action::Wait && agreed.offset.abs() < WELL;
        if done.is_ok() && action != Action::Wait {
            known.agreed = Some((now, agreed, at));
        }
        well
    }

    /// Why the clock does not follow the servers it is to follow, where that lasts.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let now = self.clock.steady();
        {
            let known = self.known();
            let agreed = known.agreed.as_ref().map_or(known.since, |(at, ..)| *at);
            if known.servers.is_empty() || now - agreed < TROUBLE {
                return None;
            }
        }
        Some(self.status().note.unwrap_or_else(|| "the time servers have not agreed for long".into()))
    }

    /// How the clock does.
    #[must_use]
    pub fn status(&self) -> TimeStatus {
        let known = self.known();
        let now = self.clock.steady();
        let fresh = known.agreed.as_ref().filter(|(at, ..)| now - at <= GOOD_FOR);
        let first = known.chosen.first().and_then(|n| known.servers.get(*n));
        let stratum = first.and_then(|s| s.filter.best(now)).map(|s| s.stratum.saturating_add(1));
        let servers = known.servers.iter().enumerate().map(|(n, server)| {
            let best = server.filter.best(now);
            TimeServer {
                server: server.name.clone(),
                address: server.address.map(|a| a.to_string()),
                chosen: known.chosen.contains(&n),
                offset_ms: best.map(|s| milliseconds(s.offset)),
                delay_ms: best.map(|s| milliseconds(s.delay)),
                stratum: best.map(|s| s.stratum),
                fault: server.fault.clone(),
            }
        });
        let none =
            known.servers.is_empty().then(|| "no time server is set: nothing sets the clock".to_owned());
        TimeStatus {
            synchronised: fresh.is_some() && !known.servers.is_empty(),
            offset_ms: fresh.map(|(_, a, _)| milliseconds(a.offset)),
            error_ms: fresh.map(|(_, a, _)| milliseconds(a.error)),
            server: first.map(|s| s.name.clone()),
            stratum,
            agreed_at: known.agreed.as_ref().map(|(_, _, at)| *at),
            stepped_at: known.stepped_at,
            note: none.or_else(|| known.note.clone()),
            servers: servers.collect(),
        }
    }
}

impl Server {
    fn hear(&mut self, address: Option<SocketAddr>, said: Result<Sample, AskError>, now: Nanos) {
        self.address = address;
        match said {
            Ok(sample) => {
                self.filter.add(sample);
                (self.fault, self.failures) = (None, 0);
            }
            Err(e) => {
                self.failures += 1;
                if let AskError::Kiss(code) = &e {
                    // What it told before is not taken either (RFC 5905, section 7.4).
                    self.filter.clear();
                    let rests = if code == b"RATE" { RATE } else { DENIED };
                    self.not_before = now + i128::try_from(rests.as_nanos()).unwrap_or(0);
                }
                // It may have moved.
                if self.failures.is_multiple_of(3) {
                    self.address = None;
                }
                self.fault = Some(e.to_string());
            }
        }
    }
}

async fn resolve(name: &str) -> io::Result<SocketAddr> {
    let (host, port) = server_and_port(name).ok_or(io::ErrorKind::InvalidInput)?;
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port)));
    let mut found = found.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    found.next().ok_or_else(|| io::Error::other("its name leads nowhere"))
}

#[cfg(test)]
mod tests;
