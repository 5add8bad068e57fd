//! The new host's part of a move: it has a machine wait, takes the moving one in, and says what became of it.

use super::{
    super::Node,
    lock,
    relay::{Gate, relay},
};
use crate::{
    cluster::{Op, WriteError, state::HostRole},
    compute::{Action, Incoming, Machine, MachineState, Remains, frames::Frame},
};
use async_trait::async_trait;
use lq_api::{HostId, VmId, event::EventLevel, local::frame::Kind};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

/// Longest the state may lag behind the host that asks.
const LAG: Duration = Duration::from_secs(10);
/// Longest a place may take: images may have to be brought first.
const PLACE: Duration = Duration::from_secs(900);
/// Longest a monitor may take to say how it went once the stream has ended.
const OUTCOME: Duration = Duration::from_secs(60);
/// How often one that is not settled is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before a write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A machine that still waits so long after everything it waited for is gone waits in vain.
const IN_VAIN: Duration = Duration::from_secs(90);

/// What this daemon knows of a move to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It works on it.
    UnderWay,
    /// The machine never ran here and never will.
    NeverRan,
    /// Nothing more comes; whether it ran is seen by whether it runs.
    Over,
}

/// What is to be said of a machine that is this host's since a move that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    Confirm,
    Return,
    /// It waits in vain.
    End,
}

/// Pure. `waited`: for how long nothing changed.
pub(super) fn verdict(word: Option<Word>, remains: &Remains, waited: Duration) -> Verdict {
    match (word, remains) {
        (Some(Word::UnderWay), _) | (_, Remains::Changing) => Verdict::Wait,
        (Some(Word::NeverRan), _) | (_, Remains::NeverRan) => Verdict::Return,
        (_, Remains::Process(MachineState::Incoming)) if waited >= IN_VAIN => Verdict::End,
        (_, Remains::Process(MachineState::Incoming)) => Verdict::Wait,
        // Its end is not told yet: it may say that it never ran.
        (_, Remains::Process(MachineState::Ended(_))) => Verdict::Wait,
        // It runs here; or it may have run, and runs no more: to give it back would be to run it twice.
        (_, Remains::Process(MachineState::Running | MachineState::Paused | MachineState::Away))
        | (_, Remains::Nothing) => Verdict::Confirm,
    }
}

/// Notes whether the last word was passed on to the monitor.
#[derive(Default)]
struct Taken {
    committed: AtomicBool,
}

#[async_trait]
impl Gate for Taken {
    async fn outward(&self, _: &Frame) -> bool {
        true
    }
    async fn inward(&self, frame: &Frame) -> bool {
        if frame.kind() == Some(Kind::Commit) {
            self.committed.store(true, Ordering::SeqCst);
        }
        true
    }
}

impl Node {
    /// Waits until there is a place for the machine that host `from` wants to send: the machine that waits.
    pub async fn expect_machine(
        self: &Arc<Self>,
        vm: VmId,
        moving: Uuid,
        from: HostId,
    ) -> Result<Arc<dyn Machine>, String> {
        let me = self.id();
        let ours = move |s: &crate::cluster::State| {
            let record = s.vms.get(&vm)?;
            let sender = record.moving.is_some_and(|m| m.from == from);
            (sender && record.role(me) == Some(HostRole::Arriving(moving))).then_some(())
        };
        let known = self.wait_for(LAG, ours).await;
        known.ok_or("this host does not know of the move; it may lag behind the others")?;
        let place = self.fleet.arrival(vm, moving, |reason| tracing::debug!(%vm, reason, "its place waits"));
        let over = self.wait_for(PLACE, |s| ours(s).is_none().then_some(()));
        tokio::select! {
            place = place => place,
            over = over => Err(match over {
                Some(()) => "the move was ended".into(),
                None => format!("there was no place for it within {} minutes", PLACE.as_secs() / 60),
            }),
        }
    }

    /// Takes the machine in.
    pub async fn take_in(
        self: &Arc<Self>,
        vm: VmId,
        moving: Uuid,
        machine: Arc<dyn Machine>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) {
        lock(&self.moves.arriving).insert(moving, Word::UnderWay);
        let word = self.pass_in(vm, &machine, stream).await;
        lock(&self.moves.arriving).insert(moving, word);
        self.ended.notify_one();
    }

    async fn pass_in(
        &self,
        vm: VmId,
        machine: &Arc<dyn Machine>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Word {
        let Incoming { stream: local, outcome } = match machine.move_in().await {
            Ok(incoming) => incoming,
            Err(e) => {
                tracing::warn!(%vm, error = %e, "the machine that was to be taken in was not");
                return Word::NeverRan;
            }
        };
        let taken = Taken::default();
        if let Err(e) = relay(local, stream, &taken).await {
            tracing::warn!(%vm, error = %e, "the stream of a machine that moves here broke");
        }
        if !taken.committed.load(Ordering::SeqCst) {
            return Word::NeverRan;
        }
        match tokio::time::timeout(OUTCOME, outcome).await {
            Ok(Ok(Err(e))) => {
                tracing::warn!(%vm, error = %e, "the machine that moved here was refused");
                Word::NeverRan
            }
            _ => Word::Over,
        }
    }

    /// Says what became of a machine that is this host's, until the state knows it.
    pub(super) async fn settle_arrival(self: &Arc<Self>, vm: VmId, moving: Uuid) {
        let me = self.id();
        let began = tokio::time::Instant::now();
        let mut given_back = true;
        loop {
            let role = self.cluster.read(|s| s.vms.get(&vm).and_then(|r| r.role(me)));
            if role != Some(HostRole::Settling(moving)) || self.stop.is_cancelled() {
                return;
            }
            let word = lock(&self.moves.arriving).get(&moving).copied();
            let remains = self.fleet.remains(vm);
            let op = match verdict(word, &remains, began.elapsed()) {
                Verdict::Return if given_back => Op::ReturnMove { id: vm, moving },
                Verdict::Confirm | Verdict::Return => Op::ConfirmMove { id: vm, moving },
                Verdict::Wait => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Verdict::End => {
                    if let Ok(machine) = self.fleet.machine(vm)
                        && let Err(e) = machine.act(Action::Kill).await
                    {
                        tracing::warn!(%vm, error = %e, "a machine that waits in vain could not be ended");
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let confirmed = matches!(op, Op::ConfirmMove { .. });
            match self.cluster.write(op).await {
                Ok(_) => {
                    let (level, text) = match (confirmed, &remains) {
                        (true, Remains::Process(MachineState::Running | MachineState::Paused)) => {
                            (EventLevel::Info, "The machine moved here.")
                        }
                        (true, _) => (EventLevel::Error, "The machine was lost while it moved here."),
                        (false, _) => {
                            (EventLevel::Warning, "The machine could not be taken over and was given back.")
                        }
                    };
                    self.events.system(level, "vm.moved", format!("vm/{vm}"), text.to_owned());
                }
                // The host it came from is gone for ever.
                Err(WriteError::Refused(_)) if !confirmed => given_back = false,
                Err(WriteError::Refused(_)) => return,
                Err(e) => {
                    tracing::warn!(%vm, error = %e, "what became of a machine that moved here could not be stored; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_given_back_only_where_it_never_ran() {
        let all = [
            Remains::Process(MachineState::Incoming),
            Remains::Process(MachineState::Running),
            Remains::Process(MachineState::Paused),
            Remains::Changing,
            Remains::NeverRan,
            Remains::Nothing,
        ];
        for word in [None, Some(Word::Over)] {
            let verdicts = all.clone().map(|remains| verdict(word, &remains, Duration::ZERO));
            use Verdict::{Confirm, Return, Wait};
            assert_eq!(verdicts, [Wait, Confirm, Confirm, Wait, Return, Confirm]);
            assert_eq!(verdict(word, &all[0], IN_VAIN), Verdict::End);
        }
        for remains in all {
            assert_eq!(verdict(Some(Word::UnderWay), &remains, IN_VAIN), Verdict::Wait);
            let expected = if remains == Remains::Changing { Verdict::Wait } else { Verdict::Return };
            assert_eq!(verdict(Some(Word::NeverRan), &remains, IN_VAIN), expected);
        }
    }
}
