//! Long operations as resources: who asked, how far they are, how they ended, and a way to end them early.
//!
//! ```text
//!  Running ──▶ Succeeded | Failed | Cancelled
//! ```
//! Tasks live in memory; their beginning and end are noted in the history. A task is never resumed: what it was to reach is
//! in the cluster's state, and the reconciler goes on from there. One that ran when the daemon ended is marked as failed.
//!
//! Changes are numbered, so that whoever follows them ([`Tasks::follow`]) misses none: each task bears the number of its last.

use crate::telemetry::{Events, History, NewEvent, Ring};
use lq_api::{
    TaskId, Timestamp, UserId,
    event::EventLevel,
    task::{MigrationProgress, Task, TaskResult, TaskState},
};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// For whom the present request is answered.
    static ASKED_BY: Option<UserId>;
}

/// Answers a request for a user: tasks it starts are theirs, whatever they are called later.
pub fn asked_by<F: Future>(user: Option<UserId>, request: F) -> impl Future<Output = F::Output> {
    ASKED_BY.scope(user, request)
}

/// Tasks remembered.
const KEPT: usize = 1_000;

/// All tasks of this host.
pub struct Tasks {
    entries: Mutex<BTreeMap<TaskId, Entry>>,
    /// Number of the last change; counted only while `entries` are held.
    changes: watch::Sender<u64>,
    history: Arc<History>,
    events: Events,
}

struct Entry {
    task: Task,
    /// Number of its last change.
    changed: u64,
    /// Present while it runs and may be ended early.
    cancel: Option<CancellationToken>,
}

/// What a task is to do.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What is done, e.g. `vm.stop`.
    pub kind: &'static str,
    /// The object: `kind/id`.
    pub target: String,
    /// Who asked.
    pub actor: String,
    /// Whether it may be ended early without harm.
    pub cancellable: bool,
}

/// Why a task cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelError {
    /// There is no such task.
    NotFound,
    /// It has ended.
    Ended,
    /// Ending it early would leave something half done.
    Refused,
}

/// A running task's way to tell how far it is.
#[derive(Clone)]
pub struct Handle {
    id: TaskId,
    tasks: Arc<Tasks>,
    cancel: CancellationToken,
}

impl Handle {
    /// Says how far the task is and what it does.
    pub fn progress(&self, share: Option<f64>, message: impl Into<String>) {
        self.change(|entry| {
            entry.task.progress = share.map(|s| s.clamp(0.0, 1.0));
            entry.task.message = Some(message.into());
        });
    }

    /// Begins when the task is to end early; only for work started by [`Tasks::start_asked`].
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// From now on the task cannot be ended early any more.
    pub fn goes_through(&self) {
        self.change(|entry| entry.cancel = None);
    }

    /// Says how a machine's move goes.
    pub fn migration(&self, progress: MigrationProgress) {
        self.change(|entry| entry.task.migration = Some(progress));
    }

    /// Says what became of each object.
    pub fn results(&self, results: Vec<TaskResult>) {
        self.change(|entry| entry.task.results = results);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.tasks.lock().get_mut(&self.id) {
            let before = entry.task.clone();
            change(entry);
            if entry.task != before {
                entry.changed = self.tasks.count();
            }
        }
    }
}

impl Tasks {
    /// The tasks the history knows; those that ran are marked as interrupted.
    pub fn open(history: Arc<History>, events: Events) -> io::Result<Arc<Self>> {
        let mut entries = BTreeMap::new();
        history.newest(Ring::Tasks, None, |task: Task| {
            entries.insert(task.id, Entry { task, changed: 0, cancel: None });
            entries.len() < KEPT
        })?;
        for entry in entries.values_mut().filter(|e| !e.task.state.ended()) {
            entry.task.state = TaskState::Failed;
            entry.task.message =
                Some("interrupted: the daemon was restarted; what was asked for goes on where it can".into());
            entry.task.ended_at = Some(Timestamp::now());
            history.put(Ring::Tasks, entry.task.id.0, &entry.task);
        }
        Ok(Arc::new(Self { entries: Mutex::new(entries), changes: watch::Sender::new(0), history, events }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of one more change.
    fn count(&self) -> u64 {
        self.changes.send_modify(|number| *number += 1);
        *self.changes.borrow()
    }

    /// Starts a task. `work` answers with its last message, or why it failed. Where it is ended early, its work is dropped.
    pub fn start<F>(self: &Arc<Self>, new: NewTask, work: impl FnOnce(Handle) -> F) -> Task
    where
        F: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        self.run(new, false, work)
    }

    /// Like [`Self::start`], for work that has to put things in order when it is to end early: it is asked to
    /// ([`Handle::cancelled`]), and was cancelled if it fails after that.
    pub fn start_asked<F>(self: &Arc<Self>, new: NewTask, work: impl FnOnce(Handle) -> F) -> Task
    where
        F: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        self.run(new, true, work)
    }

    fn run<F>(self: &Arc<Self>, new: NewTask, asked: bool, work: impl FnOnce(Handle) -> F) -> Task
    where
        F: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        let user = ASKED_BY.try_with(|user| *user).unwrap_or_default();
        let target_name = self.events.names().of(&new.target);
        let begun = Task::begun(new.kind, new.target, new.actor, Timestamp::now());
        let task = Task { user, target_name, ..begun };
        let cancel = CancellationToken::new();
        {
            let mut entries = self.lock();
            let cancel = new.cancellable.then(|| cancel.clone());
            let entry = Entry { task: task.clone(), changed: self.count(), cancel };
            entries.insert(task.id, entry);
            while entries.len() > KEPT {
                let Some(oldest) = entries.values().find(|e| e.task.state.ended()).map(|e| e.task.id) else {
                    break;
                };
                entries.remove(&oldest);
            }
        }
        self.history.put(Ring::Tasks, task.id.0, &task);
        let work = work(Handle { id: task.id, tasks: self.clone(), cancel: cancel.clone() });
        let (this, id) = (self.clone(), task.id);
        tokio::spawn(async move {
            // Inside its own task, so that a fault in the work still ends the task.
            let mut work = tokio::spawn(work);
            let done = |done: Result<_, _>| done.unwrap_or_else(|e| Err(format!("a fault of ours: {e}")));
            let ended = tokio::select! {
                ended = &mut work => Some(done(ended)),
                () = cancel.cancelled(), if !asked => { work.abort(); None }
            };
            let put_in_order = asked && cancel.is_cancelled() && matches!(ended, Some(Err(_)));
            this.end(id, ended.filter(|_| !put_in_order));
        });
        task
    }

    fn end(&self, id: TaskId, ended: Option<Result<Option<String>, String>>) {
        let task = {
            let mut entries = self.lock();
            let Some(entry) = entries.get_mut(&id) else { return };
            let task = &mut entry.task;
            entry.cancel = None;
            entry.changed = self.count();
            task.ended_at = Some(Timestamp::now());
            match ended {
                Some(Ok(message)) => {
                    task.state = TaskState::Succeeded;
                    task.progress = Some(1.0);
                    task.message = message;
                }
                Some(Err(reason)) => {
                    task.state = TaskState::Failed;
                    task.message = Some(reason);
                }
                None => {
                    task.state = TaskState::Cancelled;
                    task.message = Some("cancelled".into());
                }
            }
            task.clone()
        };
        self.history.put(Ring::Tasks, id.0, &task);
        if task.state == TaskState::Failed {
            self.events.note(NewEvent {
                level: EventLevel::Warning,
                kind: "task.failed".into(),
                target: task.target,
                message: format!("Could not {}: {}", words(&task.kind), task.message.unwrap_or_default()),
                actor: Some(task.actor),
            });
        }
    }

    /// Ends a task early.
    pub fn cancel(&self, id: TaskId) -> Result<(), CancelError> {
        let entries = self.lock();
        let entry = entries.get(&id).ok_or(CancelError::NotFound)?;
        if entry.task.state.ended() {
            return Err(CancelError::Ended);
        }
        entry.cancel.as_ref().ok_or(CancelError::Refused)?.cancel();
        Ok(())
    }

    /// A task.
    pub fn get(&self, id: TaskId) -> Option<Task> {
        self.lock().get(&id).map(|e| e.task.clone())
    }

    /// All tasks, oldest first.
    pub fn all(&self) -> Vec<Task> {
        self.lock().values().map(|e| e.task.clone()).collect()
    }

    /// Follows the number of the last change.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The tasks that changed after the change of this number, as they are now and in the order of their last changes, and the
    /// number to go on from.
    pub fn changed_since(&self, number: u64) -> (Vec<Task>, u64) {
        let entries = self.lock();
        let mut changed: Vec<_> = entries.values().filter(|e| e.changed > number).collect();
        changed.sort_by_key(|e| e.changed);
        (changed.into_iter().map(|e| e.task.clone()).collect(), *self.changes.borrow())
    }

    /// Tasks under way.
    pub fn running(&self) -> usize {
        self.lock().values().filter(|e| !e.task.state.ended()).count()
    }
}

/// What is done by a task of this kind, in words of people: `vm.stop` is `stop the machine`.
fn words(kind: &str) -> String {
    match (kind, kind.split_once('.')) {
        ("host.evacuate", _) => "enter maintenance".into(),
        ("host.reopen", _) => "end maintenance".into(),
        ("cluster.pair", _) => "add a host".into(),
        ("pool.adopt", _) => "adopt a file".into(),
        (_, Some(("vm", verb))) => format!("{verb} the machine"),
        (_, Some((noun, verb))) => format!("{verb} the {noun}"),
        (_, None) => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_in_words_of_people() {
        assert_eq!(words("host.evacuate"), "enter maintenance");
        assert_eq!(words("vm.stop"), "stop the machine");
        assert_eq!(words("volume.resize"), "resize the volume");
    }

    async fn ended(tasks: &Tasks, id: TaskId) -> Task {
        loop {
            let task = tasks.get(id).unwrap();
            if task.state.ended() {
                return task;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn new(cancellable: bool) -> NewTask {
        NewTask { kind: "test", target: "vm/1".into(), actor: "admin".into(), cancellable }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_end_is_told_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let history = Arc::new(History::open(dir.path()).unwrap());
        let tasks = Tasks::open(history.clone(), Events::new(history.clone())).unwrap();
        let good = tasks.start(new(false), |h| async move {
            h.progress(Some(0.5), "half");
            Ok(None)
        });
        let bad = tasks.start(new(false), |_| async { Err("no room".to_owned()) });
        let fault = tasks.start(new(false), |_| async { panic!("oops") });
        let long = tasks.start(new(true), |_| std::future::pending());
        let stuck = tasks.start(new(false), |_| std::future::pending());
        assert_eq!(ended(&tasks, good.id).await.state, TaskState::Succeeded);
        assert_eq!(ended(&tasks, bad.id).await.message.as_deref(), Some("no room"));
        assert_eq!(ended(&tasks, fault.id).await.state, TaskState::Failed);
        tasks.cancel(long.id).unwrap();
        assert_eq!(ended(&tasks, long.id).await.state, TaskState::Cancelled);
        assert_eq!(tasks.cancel(long.id), Err(CancelError::Ended));
        assert_eq!(tasks.cancel(stuck.id), Err(CancelError::Refused));
        assert_eq!(tasks.cancel(TaskId::new()), Err(CancelError::NotFound));

        let again = Tasks::open(history.clone(), Events::new(history)).unwrap();
        assert_eq!(again.get(stuck.id).unwrap().state, TaskState::Failed);
        assert!(again.get(stuck.id).unwrap().message.unwrap().contains("interrupted"));
        assert_eq!(again.get(good.id).unwrap().state, TaskState::Succeeded);
        assert_eq!(again.running(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_follows_hears_of_every_change_once() {
        let dir = tempfile::tempdir().unwrap();
        let history = Arc::new(History::open(dir.path()).unwrap());
        let tasks = Tasks::open(history.clone(), Events::new(history)).unwrap();
        let mut news = tasks.follow();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Handle>();
        let long = tasks.start(new(true), |handle| {
            tell.send(handle).unwrap();
            std::future::pending()
        });
        let handle = told.recv().await.unwrap();
        news.changed().await.unwrap();
        let ids = |tasks: &[Task]| tasks.iter().map(|t| t.id).collect::<Vec<_>>();
        let (first, reached) = tasks.changed_since(0);
        assert_eq!(ids(&first), [long.id]);
        assert_eq!(tasks.changed_since(reached), (vec![], reached));

        handle.progress(Some(0.5), "half");
        let (half, reached) = tasks.changed_since(reached);
        assert_eq!(half.iter().map(|t| t.progress).collect::<Vec<_>>(), [Some(0.5)]);
        // The same said again is no change.
        handle.progress(Some(0.5), "half");
        assert_eq!(tasks.changed_since(reached), (vec![], reached));

        // Several changes of one are told as one, in the order of the last of each.
        handle.progress(Some(0.6), "more");
        let short = tasks.start(new(false), |_| async { Ok(None) });
        ended(&tasks, short.id).await;
        tasks.cancel(long.id).unwrap();
        ended(&tasks, long.id).await;
        let (both, reached) = tasks.changed_since(reached);
        assert_eq!(ids(&both), [short.id, long.id]);
        assert!(both.iter().all(|t| t.state.ended()), "{both:?}");
        assert_eq!(tasks.changed_since(reached), (vec![], reached));
    }
}
