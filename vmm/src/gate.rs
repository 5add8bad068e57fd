//! How the control thread leads the virtual CPUs: one order at a time, and all have carried it out before the next.
//!
//! ```text
//!            ┌──────────────── Park ◀──────────────┐
//!  start ─▶ Park ── Reset(entry) ─▶ (parked) ── Run ─▶ running
//!            │ ⇄ Save, Load                         │
//!            └──────────────── Quit ─▶ threads end
//! ```
//! An order is a generation number and a word. A vCPU in the guest is kicked out by a signal whose handler asks KVM to
//! leave at once; so an order given between a vCPU's last look and its entry into the guest is not missed. Invariant:
//! [`Gate::order`] returns only when every live vCPU thread has carried the order out.

use crate::boot::Entry;
use std::{
    cell::Cell,
    io,
    ptr::null_mut,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What the vCPUs are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stay out of the guest.
    Park,
    /// Return to power-on, the first one at this entry, and stay out of the guest.
    Reset(Entry),
    /// Put the state into the mailbox, and stay out of the guest.
    Save,
    /// Take the state out of the mailbox, and stay out of the guest.
    Load,
    /// Run the guest.
    Run,
    /// End the thread.
    Quit,
}

struct State {
    order: Order,
    /// Threads that have not carried it out yet.
    missing: usize,
    /// Live threads.
    threads: Vec<libc::pthread_t>,
}

/// The meeting point of the control thread and the vCPU threads.
pub struct Gate {
    state: Mutex<State>,
    /// Count of orders; what a running vCPU looks at.
    generation: AtomicU64,
    /// Count of kicks that ask for a rest, and its length in microseconds.
    rests: AtomicU64,
    rest: AtomicU64,
    given: Condvar,
    carried_out: Condvar,
}

impl Gate {
    /// With no vCPUs yet, parked.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State { order: Order::Park, missing: 0, threads: Vec::new() }),
            generation: AtomicU64::new(0),
            rests: AtomicU64::new(0),
            rest: AtomicU64::new(0),
            given: Condvar::new(),
            carried_out: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `count` vCPU threads have come.
    pub fn wait_for_threads(&self, count: usize) {
        let mut state = self.lock();
        while state.threads.len() < count {
            state = self.carried_out.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives an order and waits until all have carried it out.
    pub fn order(&self, order: Order) {
        let mut state = self.lock();
        state.order = order;
        state.missing = state.threads.len();
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.given.notify_all();
        for thread in &state.threads {
            // SAFETY: a thread leaves the list, under the lock held here, before it ends.
            unsafe { libc::pthread_kill(*thread, kick_signal()) };
        }
        while state.missing > 0 {
            state = self.carried_out.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has every vCPU that runs the guest rest for `length`, or until the next order.
    pub fn rest(&self, length: Duration) {
        let state = self.lock();
        self.rest.store(length.as_micros() as u64, Ordering::SeqCst);
        self.rests.fetch_add(1, Ordering::SeqCst);
        for thread in &state.threads {
            // SAFETY: as in `order`.
            unsafe { libc::pthread_kill(*thread, kick_signal()) };
        }
    }

    /// A vCPU thread joins, parked.
    pub fn join(&self) -> Seat<'_> {
        let mut state = self.lock();
        // SAFETY: has no preconditions.
        state.threads.push(unsafe { libc::pthread_self() });
        self.carried_out.notify_all();
        let (seen, rested) = (self.generation.load(Ordering::SeqCst), self.rests.load(Ordering::SeqCst));
        Seat { gate: self, seen, rested, last: state.order }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A vCPU thread's place at the gate.
pub struct Seat<'a> {
    gate: &'a Gate,
    seen: u64,
    rested: u64,
    last: Order,
}

impl Seat<'_> {
    /// The order now. Where it is new, the thread carries it out and then calls [`Seat::done`].
    pub fn look(&mut self) -> Option<Order> {
        if self.gate.generation.load(Ordering::SeqCst) == self.seen {
            None
        } else {
            Some(self.take(&self.gate.lock()))
        }
    }

    /// Rests, where it was asked for since the last time.
    pub fn rest(&mut self) {
        let rests = self.gate.rests.load(Ordering::SeqCst);
        if rests == self.rested {
            return;
        }
        self.rested = rests;
        let length = Duration::from_micros(self.gate.rest.load(Ordering::SeqCst));
        let state = self.gate.lock();
        let unordered = |_: &mut State| self.gate.generation.load(Ordering::SeqCst) == self.seen;
        drop(self.gate.given.wait_timeout_while(state, length, unordered));
    }

    /// Waits for the next order.
    pub fn wait(&mut self) -> Order {
        let mut state = self.gate.lock();
        while self.gate.generation.load(Ordering::SeqCst) == self.seen {
            state = self.gate.given.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.take(&state)
    }

    fn take(&mut self, state: &State) -> Order {
        self.seen = self.gate.generation.load(Ordering::SeqCst);
        self.last = state.order;
        state.order
    }

    /// The order last taken is carried out.
    pub fn done(&self) {
        let mut state = self.gate.lock();
        state.missing = state.missing.saturating_sub(1);
        self.gate.carried_out.notify_all();
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // SAFETY: has no preconditions.
        let me = unsafe { libc::pthread_self() };
        let mut state = self.gate.lock();
        state.threads.retain(|thread| *thread != me);
        // An order given but never taken is not waited for any more.
        if self.gate.generation.load(Ordering::SeqCst) != self.seen {
            state.missing = state.missing.saturating_sub(1);
        }
        self.gate.carried_out.notify_all();
    }
}

thread_local! {
    /// `immediate_exit` of the vCPU this thread runs. Plain data: safe to read in a signal handler.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn on_kick(_: libc::c_int) {
    let _ = IMMEDIATE_EXIT.try_with(|pointer| {
        let pointer = pointer.get();
        if !pointer.is_null() {
            // SAFETY: set by this very thread to a byte of its vCPU's mapping, and unset before the mapping goes.
            unsafe { pointer.write_volatile(1) };
        }
    });
}

/// Installs the handler of the kick signal. Once per process, before any vCPU thread.
pub fn install_kick() -> io::Result<()> {
    // SAFETY: all zeros is a valid `sigaction`; the handler only writes one byte of shared memory.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_kick as *const () as usize;
        libc::sigaction(kick_signal(), &action, null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets kicks reach the vCPU whose `immediate_exit` byte this is, until dropped.
pub struct KickTarget(());

impl KickTarget {
    /// For the calling thread.
    ///
    /// # Safety
    /// `immediate_exit` stays valid until the returned value is dropped, on this thread.
    #[must_use]
    pub unsafe fn new(immediate_exit: *mut u8) -> Self {
        IMMEDIATE_EXIT.with(|pointer| pointer.set(immediate_exit));
        Self(())
    }
}

impl Drop for KickTarget {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.with(|pointer| pointer.set(null_mut()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    #[test]
    fn every_thread_carries_out_every_order_before_the_next() {
        install_kick().unwrap();
        let gate = Arc::new(Gate::new());
        let (running, resets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (gate, running, resets) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&resets));
                thread::spawn(move || {
                    let mut seat = gate.join();
                    loop {
                        match seat.wait() {
                            Order::Run => {
                                running.fetch_add(1, Ordering::SeqCst);
                                seat.done();
                                let next = loop {
                                    if let Some(order) = seat.look() {
                                        break order;
                                    }
                                    thread::yield_now();
                                };
                                assert_eq!(next, Order::Park);
                                running.fetch_sub(1, Ordering::SeqCst);
                                seat.done();
                            }
                            Order::Reset(_) => {
                                resets.fetch_add(1, Ordering::SeqCst);
                                seat.done();
                            }
                            Order::Park | Order::Save | Order::Load => seat.done(),
                            Order::Quit => break seat.done(),
                        }
                    }
                })
            })
            .collect();
        gate.wait_for_threads(4);
        for round in 1..200 {
            gate.order(Order::Reset(Entry::Pvh { rip: 0, start_info: 0 }));
            assert_eq!(resets.load(Ordering::SeqCst), 4 * round);
            gate.order(Order::Run);
            assert_eq!(running.load(Ordering::SeqCst), 4);
            gate.order(Order::Park);
            assert_eq!(running.load(Ordering::SeqCst), 0);
        }
        gate.order(Order::Quit);
        threads.into_iter().for_each(|t| t.join().unwrap());
        gate.order(Order::Park);
    }

    #[test]
    fn a_rest_is_taken_by_all_and_cut_short_by_an_order() {
        install_kick().unwrap();
        let (gate, looks) = (Arc::new(Gate::new()), Arc::new(AtomicUsize::new(0)));
        let runner = {
            let (gate, looks) = (Arc::clone(&gate), Arc::clone(&looks));
            thread::spawn(move || {
                let mut seat = gate.join();
                assert_eq!(seat.wait(), Order::Run);
                seat.done();
                let order = loop {
                    seat.rest();
                    looks.fetch_add(1, Ordering::SeqCst);
                    if let Some(order) = seat.look() {
                        break order;
                    }
                    thread::yield_now();
                };
                assert_eq!(order, Order::Quit);
                seat.done();
            })
        };
        gate.wait_for_threads(1);
        gate.order(Order::Run);
        let settle = || thread::sleep(Duration::from_millis(50));
        gate.rest(Duration::from_secs(600));
        settle();
        let resting = looks.load(Ordering::SeqCst);
        settle();
        assert_eq!(looks.load(Ordering::SeqCst), resting, "it rests");
        gate.order(Order::Quit);
        runner.join().unwrap();
        assert!(looks.load(Ordering::SeqCst) > resting);
    }
}
