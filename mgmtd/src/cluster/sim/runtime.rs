//! Tasks of simulated hosts: a host that is halted polls none of its own, one that dies drops them all.
//!
//! Whom a task wakes while it is polled is woken in the order of the tasks' numbers when it is done: tokio's `watch` wakes its
//! receivers in an order drawn by chance, and of all it does on one thread that alone would differ from run to run.
//!
//! Each task knows the host it is of and hands that on to the tasks it begins, so that nothing above this module has to say so.
//! Outside of a simulation (in all other tests) everything here is tokio as it is.

use super::{host::Host, rng::Drawn, world};
use openraft::{AsyncRuntime, OptionalSend};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::task::JoinHandle;

type Tokio = openraft::impls::TokioRuntime;

thread_local! {
    /// The host whose task is being polled.
    static HERE: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
    /// Whom it woke.
    static WOKEN: RefCell<Option<Vec<(u64, Waker)>>> = const { RefCell::new(None) };
    /// Tasks so far.
    static TASKS: Cell<u64> = const { Cell::new(0) };
}

/// A run begins.
pub(super) fn begin() {
    TASKS.with(|tasks| tasks.set(0));
}

/// Wakes a task of a host.
struct Call {
    task: u64,
    waker: Mutex<Option<Waker>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        let Some(waker) = self.waker.lock().unwrap().clone() else { return };
        let now = WOKEN.try_with(|woken| match &mut *woken.borrow_mut() {
            Some(later) => {
                later.push((self.task, waker));
                None
            }
            None => Some(waker),
        });
        if let Ok(Some(waker)) = now {
            waker.wake();
        }
    }
}

/// The host whose task this is.
pub(super) fn here() -> Option<Arc<Host>> {
    HERE.with(|here| here.borrow().clone())
}

/// A future of a host.
pub(super) struct Of<F> {
    host: Arc<Host>,
    life: u64,
    call: Arc<Call>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Of<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // One of an earlier life is about to be dropped.
        if !self.host.may_poll(self.life, cx.waker()) {
            return Poll::Pending;
        }
        *self.call.waker.lock().unwrap() = Some(cx.waker().clone());
        let waker = Waker::from(self.call.clone());
        let _inside = Inside(HERE.with(|here| here.replace(Some(self.host.clone()))));
        WOKEN.with(|woken| *woken.borrow_mut() = Some(vec![]));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// While it lives a task of a host is polled, also where that panics.
struct Inside(Option<Arc<Host>>);

impl Drop for Inside {
    fn drop(&mut self) {
        HERE.with(|here| *here.borrow_mut() = self.0.take());
        let mut woken = WOKEN.with(|woken| woken.borrow_mut().take()).unwrap_or_default();
        woken.sort_by_key(|(task, _)| *task);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Begins a task of the host whose task this is, where it is one.
pub(in crate::cluster) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match here() {
        Some(host) => spawn_on(&host, future),
        None => tokio::spawn(future),
    }
}

/// Begins a task of this host.
pub(super) fn spawn_on<F>(host: &Arc<Host>, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let number = TASKS.with(|tasks| tasks.replace(tasks.get() + 1));
    let call = Arc::new(Call { task: number, waker: Mutex::default() });
    let task = tokio::spawn(Of { host: host.clone(), life: host.life(), call, future: Box::pin(future) });
    host.owns(task.abort_handle());
    task
}

/// What openraft runs on in tests.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "part of the public type of the log")]
pub struct Runtime(Tokio);

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Drawn;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Tokio::is_panic(join_error)
    }

    fn thread_rng() -> Drawn {
        Drawn::new(world().map_or_else(rand::random, |w| w.draw()))
    }

    fn new(threads: usize) -> Self {
        Self(Tokio::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
