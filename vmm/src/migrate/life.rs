//! Who owns the machine at every moment of a migration. No I/O, no clock: events in, state out.
//!
//! ```text
//!  SOURCE                                  messages            TARGET
//!  Offering  (guest runs)                  ── Hello ──▶        Waiting
//!     │ Accept                             ◀─ Accept ─         Receiving
//!  Copying   (guest runs)                  ── Memory… ─▶
//!     │ halted
//!  Halted    (guest stands still)          ── State ──▶
//!     │ Ready                              ◀─ Ready ──         Ready      (everything is here, nothing runs)
//!     │ Commit sent whole  ═══ the machine changes hands ═══
//!  HandedOver                              ── Commit ─▶        TakingOver (locks the disks)
//!     │ Running                            ◀─ Running ─        Running    (guest runs)
//!  Gone      (process ends)
//!
//!  lost or refused before Commit is sent whole:  source Kept (guest goes on)     target Failed (never ran, ends)
//!  lost after:                                   source InDoubt (stands still)   target Running, if Commit came
//!  TakingOver fails:                             target Failed, says Refuse ──▶  source Kept
//! ```
//! A target runs only after it has a whole Commit; a source that has sent one whole never runs again by itself, unless the
//! target says that it will not. So the two never run at the same time, whatever is lost. In doubt, only someone who knows
//! that the target's monitor has ended may give the machine back to the source.

/// The source's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Has said what the machine is.
    Offering,
    /// Sends memory while the guest runs.
    Copying,
    /// The guest stands still; the last memory and the state are sent.
    Halted,
    /// The machine is the target's.
    HandedOver,
    /// The target runs it.
    Gone,
    /// The migration is over and the machine stayed here.
    Kept,
    /// The machine is the target's if it got the word; nobody here knows.
    InDoubt,
}

/// What happens to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Accept came.
    Accepted,
    /// The guest was halted.
    Halted,
    /// Ready came, and Commit was sent whole.
    Committed,
    /// Running came.
    Running,
    /// Refuse came.
    Refused,
    /// The connection is lost, or a message could not be sent whole.
    Lost,
    /// Someone called it off.
    Cancelled,
    /// Someone who knows says that the target has ended.
    Reclaimed,
}

impl Source {
    /// The state after `event`; an event that has no place changes nothing.
    #[must_use]
    pub const fn after(self, event: SourceEvent) -> Self {
        use SourceEvent as E;
        match (self, event) {
            (Self::Offering, E::Accepted) => Self::Copying,
            (Self::Copying, E::Halted) => Self::Halted,
            (Self::Halted, E::Committed) => Self::HandedOver,
            (Self::HandedOver | Self::InDoubt, E::Running) => Self::Gone,
            (Self::Offering | Self::Copying | Self::Halted, E::Refused | E::Lost | E::Cancelled) => {
                Self::Kept
            }
            (Self::HandedOver, E::Refused) | (Self::InDoubt, E::Refused | E::Reclaimed) => Self::Kept,
            (Self::HandedOver, E::Lost) => Self::InDoubt,
            _ => self,
        }
    }

    /// The guest may run here.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Offering | Self::Copying | Self::Kept)
    }

    /// It can still be called off.
    #[must_use]
    pub const fn can_cancel(self) -> bool {
        matches!(self, Self::Offering | Self::Copying | Self::Halted)
    }

    /// Nothing more happens by itself.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Gone | Self::Kept | Self::InDoubt)
    }
}

/// The target's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// For Hello.
    Waiting,
    /// Takes memory in.
    Receiving,
    /// Has everything.
    Ready,
    /// Has the last word, and takes the disks.
    TakingOver,
    /// The guest runs here.
    Running,
    /// It never ran and never will.
    Failed,
}

/// What happens to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetEvent {
    /// Hello came and suits.
    Suits,
    /// State came and is taken up.
    TakenUp,
    /// Commit came whole.
    Committed,
    /// The disks are ours.
    TookOver,
    /// The connection is lost.
    Lost,
    /// Something does not suit, or Refuse came.
    Refused,
}

impl Target {
    /// The state after `event`; an event that has no place changes nothing.
    #[must_use]
    pub const fn after(self, event: TargetEvent) -> Self {
        use TargetEvent as E;
        match (self, event) {
            (Self::Waiting, E::Suits) => Self::Receiving,
            (Self::Receiving, E::TakenUp) => Self::Ready,
            (Self::Ready, E::Committed) => Self::TakingOver,
            (Self::TakingOver, E::TookOver) => Self::Running,
            (Self::Waiting | Self::Receiving | Self::Ready, E::Lost) => Self::Failed,
            (Self::Waiting | Self::Receiving | Self::Ready | Self::TakingOver, E::Refused) => Self::Failed,
            _ => self,
        }
    }

    /// The guest may run here.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Message {
        Hello,
        Accept,
        State,
        Ready,
        Commit,
        Running,
        Refuse,
    }

    /// What chance does next.
    #[derive(Clone, Copy, Debug)]
    enum Chance {
        SourceActs,
        TargetActs,
        ToTarget,
        ToSource,
        /// The connection breaks; so many messages still arrive on each side.
        Cut(usize, usize),
        Cancel,
        /// The target's next step fails.
        TargetRefuses,
    }

    struct World {
        source: Source,
        target: Target,
        to_target: VecDeque<Message>,
        to_source: VecDeque<Message>,
        connected: bool,
        said_hello: bool,
        said_state: bool,
        ready_seen: bool,
    }

    impl World {
        fn send(&mut self, message: Message, to_target: bool) -> bool {
            if self.connected {
                if to_target { &mut self.to_target } else { &mut self.to_source }.push_back(message);
            }
            self.connected
        }

        fn source_acts(&mut self) {
            use SourceEvent as E;
            match self.source {
                Source::Offering if !self.said_hello => {
                    self.said_hello = true;
                    if !self.send(Message::Hello, true) {
                        self.source = self.source.after(E::Lost);
                    }
                }
                Source::Copying => self.source = self.source.after(E::Halted),
                Source::Halted if !self.said_state => {
                    self.said_state = true;
                    if !self.send(Message::State, true) {
                        self.source = self.source.after(E::Lost);
                    }
                }
                Source::Halted if self.ready_seen => {
                    let sent = self.send(Message::Commit, true);
                    self.source = self.source.after(if sent { E::Committed } else { E::Lost });
                }
                // It reads the end of the stream once all that came is read.
                _ if !self.connected && self.to_source.is_empty() => self.source = self.source.after(E::Lost),
                _ => {}
            }
        }

        fn target_acts(&mut self) {
            if self.target == Target::TakingOver {
                self.target = self.target.after(TargetEvent::TookOver);
                self.send(Message::Running, false);
            } else if !self.connected && self.to_target.is_empty() {
                self.target = self.target.after(TargetEvent::Lost);
            }
        }

        fn deliver_to_target(&mut self) {
            use TargetEvent as E;
            let Some(message) = self.to_target.pop_front() else { return };
            let (event, answer) = match message {
                Message::Hello => (E::Suits, Some(Message::Accept)),
                Message::State => (E::TakenUp, Some(Message::Ready)),
                Message::Commit => (E::Committed, None),
                _ => (E::Refused, None),
            };
            let before = self.target;
            self.target = before.after(event);
            if let Some(answer) = answer.filter(|_| self.target != before) {
                self.send(answer, false);
            }
        }

        fn deliver_to_source(&mut self) {
            use SourceEvent as E;
            match self.to_source.pop_front() {
                Some(Message::Accept) => self.source = self.source.after(E::Accepted),
                Some(Message::Ready) => self.ready_seen = true,
                Some(Message::Running) => self.source = self.source.after(E::Running),
                Some(Message::Refuse) => self.source = self.source.after(E::Refused),
                _ => {}
            }
        }

        fn step(&mut self, chance: Chance) {
            match chance {
                Chance::SourceActs => self.source_acts(),
                Chance::TargetActs => self.target_acts(),
                Chance::ToTarget => self.deliver_to_target(),
                Chance::ToSource => self.deliver_to_source(),
                Chance::Cut(left, right) => {
                    self.connected = false;
                    self.to_target.truncate(left);
                    self.to_source.truncate(right);
                }
                Chance::Cancel => {
                    if self.source.can_cancel() {
                        self.source = self.source.after(SourceEvent::Cancelled);
                        self.connected = false;
                    }
                }
                Chance::TargetRefuses => {
                    let failed = self.target.after(TargetEvent::Refused);
                    if failed != self.target {
                        self.target = failed;
                        self.send(Message::Refuse, false);
                        self.connected = false;
                    }
                }
            }
        }
    }

    fn chance() -> impl Strategy<Value = Chance> {
        prop_oneof![
            6 => Just(Chance::SourceActs),
            6 => Just(Chance::TargetActs),
            6 => Just(Chance::ToTarget),
            6 => Just(Chance::ToSource),
            1 => (0_usize..3, 0_usize..3).prop_map(|(a, b)| Chance::Cut(a, b)),
            1 => Just(Chance::Cancel),
            1 => Just(Chance::TargetRefuses),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn never_two_and_in_the_end_one(chances in prop::collection::vec(chance(), 0..60)) {
            let mut world = World {
                source: Source::Offering,
                target: Target::Waiting,
                to_target: VecDeque::new(),
                to_source: VecDeque::new(),
                connected: true,
                said_hello: false,
                said_state: false,
                ready_seen: false,
            };
            let mut target_ran = false;
            // Afterwards everything that still can happen happens.
            let rest = [Chance::SourceActs, Chance::ToTarget, Chance::TargetActs, Chance::ToSource];
            for chance in chances.into_iter().chain(rest.into_iter().cycle().take(80)) {
                world.step(chance);
                target_ran |= world.target.may_run();
                prop_assert!(!(world.source.may_run() && target_ran), "two run: {:?}", world.source);
            }
            prop_assert!(world.source.is_over(), "{:?}", world.source);
            match world.source {
                Source::Gone => prop_assert_eq!(world.target, Target::Running),
                Source::Kept => prop_assert!(!target_ran && !world.target.may_run()),
                // Either it runs there, or giving it back is right.
                _ => prop_assert!(matches!(world.target, Target::Running | Target::Failed)),
            }
        }
    }

    #[test]
    fn what_has_no_place_changes_nothing() {
        assert_eq!(Source::Copying.after(SourceEvent::Committed), Source::Copying);
        assert_eq!(Source::HandedOver.after(SourceEvent::Cancelled), Source::HandedOver);
        assert_eq!(Source::Kept.after(SourceEvent::Running), Source::Kept);
        assert_eq!(Target::Receiving.after(TargetEvent::Committed), Target::Receiving);
        assert_eq!(Target::Running.after(TargetEvent::Lost), Target::Running);
        assert_eq!(Source::InDoubt.after(SourceEvent::Reclaimed), Source::Kept);
    }
}
