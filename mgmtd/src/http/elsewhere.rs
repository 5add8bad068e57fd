//! What happens to the tasks of the other hosts, for those who watch here; and both sides of how hosts tell each other.
//!
//! ```text
//!  Tasks of a host ──[a line per batch]──▶ listen, one per host ──▶ Journal ──▶ Seat, one per watcher
//!                                          └── while at least one watches
//! ```
//! Invariants: nobody is asked while nobody watches; a seat hears of every change since it was taken, the last one of each
//! task, or that it was too slow; a task that has ended does not run again, whatever comes late. A host that was away tells
//! what happened meanwhile: it says first what runs and what ended of late, and what is known already is not told again. What ran
//! there and is not among that was cut off, with the memory of it: a host writes down what it does a moment later, and may have
//! been without power before.

use super::Api;
use crate::cluster::Cluster;
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{Request, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use http_body_util::BodyExt as _;
use lq_api::{
    HostId, TaskId, Timestamp,
    task::{Task, TaskState},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Where hosts tell it, among themselves.
pub(super) const PATH: &str = "/host/tasks/changes";
/// Changes of a task are told no more often than this.
pub(super) const PACE: Duration = Duration::from_millis(250);
/// How often a host says that it is still there.
const SIGN: Duration = Duration::from_secs(5);
/// A host that said nothing for this long is away.
const SILENCE: Duration = Duration::from_secs(15);
/// Shortest and longest pause before a host is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Shortest time between two looks at which hosts there are.
const LOOK: Duration = Duration::from_secs(1);
/// What ended this long before the last word of a host is told again: a word may have been under way.
const OVERLAP: Duration = Duration::from_secs(60);
/// Tasks remembered.
const KEPT: usize = 4096;
/// Longest line taken of a host: all it remembers, with many results.
const MAX_LINE: usize = 16 << 20;

/// What a host is asked for: what runs, what ended in the last so many seconds, and whatever changes from now on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    recent_seconds: u64,
}

/// The last state of tasks, numbered in the order in which they became known.
#[derive(Default)]
struct Journal {
    /// Number of the last change.
    last: u64,
    /// Up to this number changes may be forgotten.
    forgotten: u64,
    tasks: BTreeMap<u64, Known>,
    numbers: HashMap<TaskId, u64>,
}

struct Known {
    /// Whose task it is.
    host: HostId,
    task: Task,
}

impl Journal {
    /// Takes what a host said of a task; whether it is news.
    fn put(&mut self, host: HostId, task: Task) -> bool {
        let number = self.numbers.get(&task.id).copied();
        let known = number.and_then(|n| self.tasks.get(&n));
        if known.is_some_and(|known| !task.is_news_after(&known.task)) {
            return false;
        }
        if let Some(number) = number {
            self.tasks.remove(&number);
        }
        self.last += 1;
        self.numbers.insert(task.id, self.last);
        self.tasks.insert(self.last, Known { host, task });
        if self.tasks.len() > KEPT
            && let Some((number, Known { task, .. })) = self.tasks.pop_first()
        {
            self.numbers.remove(&task.id);
            self.forgotten = number;
        }
        true
    }

    /// Takes it that nothing runs on a host but what it said: what is known to, and is not among that, was cut off.
    fn nothing_else_runs(&mut self, host: HostId, said: &BTreeSet<TaskId>, now: Timestamp) {
        let lost = |known: &&Known| {
            known.host == host && !known.task.state.ended() && !said.contains(&known.task.id)
        };
        let lost: Vec<Task> = self.tasks.values().filter(lost).map(|known| known.task.clone()).collect();
        for task in lost {
            let message = Some("interrupted: its host knows nothing of it any more".into());
            self.put(host, Task { state: TaskState::Failed, message, ended_at: Some(now), ..task });
        }
    }

    /// Forgets all tasks.
    fn clear(&mut self) {
        *self = Self { last: self.last, forgotten: self.last, ..Self::default() };
    }

    /// What changed after this number; `None` where that is not known any more.
    fn since(&self, number: u64) -> Option<Vec<Task>> {
        (number >= self.forgotten)
            .then(|| self.tasks.range(number + 1..).map(|(_, known)| known.task.clone()).collect())
    }
}

/// Tasks of the other hosts.
#[derive(Default)]
pub(super) struct Elsewhere {
    journal: Mutex<Journal>,
    /// Number of the last change.
    news: watch::Sender<u64>,
    watching: Mutex<Watching>,
}

#[derive(Default)]
struct Watching {
    seats: usize,
    /// Ends the listening when the last seat is given up.
    listening: Option<AbortOnDropHandle<()>>,
}

/// Someone who watches.
pub(super) struct Seat {
    elsewhere: Arc<Elsewhere>,
    news: watch::Receiver<u64>,
    reached: u64,
}

impl Elsewhere {
    /// Takes a seat: what changes from now on is told there. The other hosts are listened to while there is one.
    pub(super) fn watch(self: &Arc<Self>, cluster: &Cluster, ending: &CancellationToken) -> Seat {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.seats += 1;
        if watching.listening.is_none() {
            let listening = follow_all(self.clone(), cluster.clone(), ending.clone());
            watching.listening = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
        }
        drop(watching);
        let mut news = self.news.subscribe();
        let reached = *news.borrow_and_update();
        Seat { elsewhere: self.clone(), news, reached }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a host said; `whole` where these are all that run there.
    fn hear(&self, host: HostId, tasks: Vec<Task>, whole: bool) {
        let mut journal = self.journal();
        let before = journal.last;
        let said: Option<BTreeSet<TaskId>> = whole.then(|| tasks.iter().map(|task| task.id).collect());
        for task in tasks {
            journal.put(host, task);
        }
        if let Some(said) = said {
            journal.nothing_else_runs(host, &said, Timestamp::now());
        }
        let last = journal.last;
        drop(journal);
        if last != before {
            self.news.send_modify(|news| *news = last.max(*news));
        }
    }
}

impl Seat {
    /// Comes back when something has changed.
    pub(super) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // Not while the seat holds the sender.
            std::future::pending::<()>().await;
        }
    }

    /// What has changed since the last time, in the order it became known; `None` where this came too late to know.
    pub(super) fn take(&mut self) -> Option<Vec<Task>> {
        self.news.borrow_and_update();
        let journal = self.elsewhere.journal();
        let new = journal.since(self.reached)?;
        self.reached = journal.last;
        Some(new)
    }

    /// Tasks that are known to run.
    pub(super) fn running(&self) -> Vec<Task> {
        let journal = self.elsewhere.journal();
        journal.tasks.values().map(|known| &known.task).filter(|t| !t.state.ended()).cloned().collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut watching = self.elsewhere.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.seats = watching.seats.saturating_sub(1);
        if watching.seats == 0 {
            watching.listening = None;
            // What happens from now on is not heard of: what is known would soon be wrong.
            self.elsewhere.journal().clear();
        }
    }
}

/// Listens to every other host of the cluster.
async fn follow_all(elsewhere: Arc<Elsewhere>, cluster: Cluster, ending: CancellationToken) {
    let me = cluster.identity().host;
    let mut changes = cluster.watch();
    let mut followed: HashMap<HostId, AbortOnDropHandle<()>> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let others: BTreeSet<HostId> =
            cluster.read(|s| s.hosts.keys().copied().filter(|h| *h != me).collect());
        followed.retain(|host, _| {
            let there = others.contains(host);
            if !there {
                // Nobody will ever say how what ran there ended.
                elsewhere.hear(*host, vec![], true);
            }
            there
        });
        for host in others {
            followed.entry(host).or_insert_with(|| {
                let one = follow(elsewhere.clone(), cluster.clone(), host);
                AbortOnDropHandle::new(tokio::spawn(one))
            });
        }
        let more = async {
            tokio::time::sleep(LOOK).await;
            changes.changed().await
        };
        tokio::select! {
            () = ending.cancelled() => return,
            changed = more => if changed.is_err() { return },
        }
    }
}

/// Listens to a host for as long as it is wanted.
async fn follow(elsewhere: Arc<Elsewhere>, cluster: Cluster, host: HostId) {
    // What happened there before anybody watched is in the lists.
    let mut heard = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let before = heard;
        let Err(over) = listen(&elsewhere, &cluster, host, &mut heard).await;
        tracing::debug!(%host, reason = %over, "its tasks are not heard of for the moment");
        pause = if heard == before { (pause * 2).min(PAUSES.1) } else { PAUSES.0 };
        tokio::time::sleep(pause).await;
    }
}

/// Listens to a host until the connection is over; why it is. `heard` is when the host said something last.
async fn listen(
    elsewhere: &Elsewhere,
    cluster: &Cluster,
    host: HostId,
    heard: &mut Instant,
) -> Result<Infallible, String> {
    let asked = Asked { recent_seconds: (heard.elapsed() + OVERLAP).as_secs() };
    let asked = serde_json::to_vec(&asked).map_err(|e| e.to_string())?;
    let request = Request::post(PATH)
        .header(header::HOST, "peer")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(asked))
        .map_err(|e| e.to_string())?;
    let response = timeout(SILENCE, cluster.pass(host, request)).await;
    let response =
        response.map_err(|_| format!("no answer within {SILENCE:?}"))?.map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        // A host of an earlier release does not know the question.
        return Err(format!("it answered {}", response.status()));
    }
    let mut body = response.into_body();
    let (mut line, mut first) = (Vec::new(), true);
    loop {
        let frame =
            timeout(SILENCE, body.frame()).await.map_err(|_| format!("nothing within {SILENCE:?}"))?;
        let frame = frame.ok_or("it ended the answer")?.map_err(|e| e.to_string())?;
        for part in frame.into_data().unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > MAX_LINE {
                return Err("a line of its answer is too long".into());
            }
            if line.ends_with(b"\n") {
                let tasks = serde_json::from_slice(&line);
                let tasks = tasks.map_err(|e| format!("its answer is not understood: {e}"))?;
                elsewhere.hear(host, tasks, std::mem::take(&mut first));
                line.clear();
                *heard = Instant::now();
            }
        }
    }
}

/// Tells another host what happens to the tasks of this one: a line of tasks at once, and one whenever some changed. Whoever
/// asks shows each task only to those who may see it.
pub(super) async fn tell(State(api): State<Arc<Api>>, Json(asked): Json<Asked>) -> Response {
    // Followed before they are read, so that nothing is missed in between.
    let follow = api.node.tasks.follow();
    let reached = *follow.borrow();
    let recent = i64::try_from(asked.recent_seconds).unwrap_or(i64::MAX);
    let since = Timestamp::now().as_second().saturating_sub(recent);
    let mut first = api.node.tasks.all();
    first.retain(|t| t.ended_at.is_none_or(|at| at.as_second() >= since));
    let state = (api, follow, reached, Some(first));
    let lines = stream::unfold(state, |(api, mut follow, reached, first)| async move {
        let (tasks, reached) = match first {
            Some(first) => (first, reached),
            None => {
                let more = async {
                    // Several changes of a moment are one line.
                    tokio::time::sleep(PACE).await;
                    follow.wait_for(|number| *number > reached).await.is_ok()
                };
                tokio::select! {
                    () = api.ending.cancelled() => return None,
                    more = timeout(SIGN, more) => match more {
                        Ok(true) => api.node.tasks.changed_since(reached),
                        Ok(false) => return None,
                        Err(_) => (vec![], reached),
                    },
                }
            }
        };
        let mut line = serde_json::to_vec(&tasks).ok()?;
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (api, follow, reached, None)))
    });
    Body::from_stream(lines).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(id: TaskId, progress: f64, state: TaskState) -> Task {
        let begun = Task::begun("vm.stop", "vm/1", "admin", Timestamp::UNIX_EPOCH);
        Task { id, state, progress: Some(progress), ..begun }
    }

    #[test]
    fn what_is_known_is_no_news_and_what_ended_does_not_run_again() {
        let (mut journal, id, host) = (Journal::default(), TaskId::new(), HostId::new());
        let half = task(id, 0.5, TaskState::Running);
        let done = task(id, 1.0, TaskState::Succeeded);
        assert!(journal.put(host, half.clone()) && !journal.put(host, half.clone()));
        assert!(journal.put(host, done.clone()) && !journal.put(host, half));
        assert_eq!(journal.since(0), Some(vec![done]));
        assert_eq!(journal.since(journal.last), Some(vec![]));
    }

    #[test]
    fn what_a_host_knows_no_more_was_cut_off() {
        let (mut journal, [host, other]) = (Journal::default(), [HostId::new(), HostId::new()]);
        let [kept, lost, ended, elsewhere] = std::array::from_fn(|_| TaskId::new());
        let begun = |id| task(id, 0.5, TaskState::Running);
        for (host, task) in [
            (host, begun(kept)),
            (host, begun(lost)),
            (host, task(ended, 1.0, TaskState::Succeeded)),
            (other, begun(elsewhere)),
        ] {
            journal.put(host, task);
        }
        let reached = journal.last;
        for _ in 0..2 {
            journal.nothing_else_runs(host, &BTreeSet::from([kept]), Timestamp::UNIX_EPOCH);
            let told = journal.since(reached).unwrap();
            assert_eq!(told.iter().map(|t| (t.id, t.state)).collect::<Vec<_>>(), [(lost, TaskState::Failed)]);
            assert!(told[0].message.as_ref().unwrap().contains("interrupted") && told[0].ended_at.is_some());
        }
    }

    #[test]
    fn who_comes_after_too_many_changes_is_told_so() {
        let mut journal = Journal::default();
        for _ in 0..=KEPT {
            journal.put(HostId::new(), task(TaskId::new(), 0.0, TaskState::Running));
        }
        assert_eq!(journal.since(0), None);
        assert_eq!(journal.since(1).unwrap().len(), KEPT);
        assert_eq!(journal.numbers.len(), KEPT);
    }

    proptest! {
        /// However changes and looks come: whoever looks has, in the end, the last state of every task.
        #[test]
        fn nothing_is_missed(steps in prop::collection::vec((0usize..4, 0u8..5, any::<bool>()), 0..60)) {
            let ids: Vec<_> = (0..4).map(|_| TaskId::new()).collect();
            let (mut journal, mut reached) = (Journal::default(), 0);
            let (mut last, mut seen, host) = (HashMap::new(), HashMap::new(), HostId::new());
            for (which, share, look) in steps {
                let task = task(ids[which], f64::from(share), TaskState::Running);
                prop_assert_eq!(journal.put(host, task.clone()), last.get(&task.id) != Some(&task));
                last.insert(task.id, task);
                if look {
                    seen.extend(journal.since(reached).unwrap().into_iter().map(|t| (t.id, t)));
                    reached = journal.last;
                }
            }
            seen.extend(journal.since(reached).unwrap().into_iter().map(|t| (t.id, t)));
            prop_assert_eq!(seen, last);
        }
    }
}
