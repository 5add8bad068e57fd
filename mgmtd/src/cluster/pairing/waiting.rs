//! What a waiting host remembers: its code, who is at it, how often it was guessed wrong. Pure: time comes in.
//!
//! ```text
//!  idle ──may wait──▶ waiting(code) ──right proof──▶ taken ──joined──▶ (the daemon starts again)
//!    ▲                  │   ▲ 10 minutes, or 3 wrong    │
//!    └──may not wait────┘   └── another code ◀──failed──┘
//! ```
//! Invariants: a code is tried at most [`GUESSES`] times; a proof of this side is given only after the other's was right; once
//! one was right nobody else is heard until it is known what came of it.

use super::{
    code::Code,
    exchange::{self, Inviter, Keys, Side, Waiter},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long a code lasts.
pub(super) const CODE_LIFE: Duration = Duration::from_secs(600);
/// Wrong proofs a code survives.
pub(super) const GUESSES: u32 = 3;
/// Nobody is heard for so long after a code was guessed away.
const REST: Duration = Duration::from_secs(10);
/// How long an exchange may take.
const SESSION_LIFE: Duration = Duration::from_secs(30);
/// Exchanges at a time; beyond, the oldest is forgotten.
const SESSIONS: usize = 8;
/// How long one who proved to know the code has for what follows, the admission included.
const TAKEN_LIFE: Duration = Duration::from_secs(180);

/// Why the other side is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("this host does not wait to be paired: see its console")]
    NotWaiting,
    #[error("this host is being paired by another cluster just now")]
    Taken,
    #[error(
        "this host heard too many wrong codes and rests for some seconds: read the new code from its console"
    )]
    Resting,
    #[error("this is not known here, or took too long: begin again")]
    Unknown,
    #[error(
        "the code is not the one on this host's console, or something between the hosts answers in its place; {left} more \
         before there is another code"
    )]
    Wrong { left: u32 },
    #[error("this is not how a pairing is asked for")]
    Malformed,
}

impl Refused {
    /// Whether a code was tried, which nobody can do often: everything else costs whoever sends it nothing.
    pub(super) fn is_guess(self) -> bool {
        matches!(self, Self::Wrong { .. })
    }
}

struct Shown {
    code: Code,
    until: Instant,
    wrong: u32,
}

struct Session {
    keys: Keys,
    until: Instant,
    inviter: Inviter,
}

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    shown: Option<Shown>,
    sessions: BTreeMap<Uuid, Session>,
    /// In order of their beginning.
    order: Vec<Uuid>,
    taken: Option<(Uuid, Instant)>,
    resting: Option<Instant>,
    /// Wrong proofs since the start.
    wrong: u64,
}

impl Waiting {
    /// Brings it up to date: a code where the host may wait, none where not.
    pub(super) fn look(&mut self, now: Instant, may_wait: bool) -> Result<(), String> {
        if !may_wait {
            let wrong = self.wrong;
            *self = Self { wrong, ..Self::default() };
            return Ok(());
        }
        if self.taken.is_some_and(|(_, until)| until <= now) {
            self.taken = None;
            self.renew(now)?;
        }
        if self.resting.is_some_and(|until| until <= now) {
            self.resting = None;
        }
        let over = self.shown.as_ref().is_none_or(|s| s.until <= now);
        if over && self.taken.is_none() {
            self.renew(now)?;
        }
        let forgotten: Vec<Uuid> =
            self.sessions.iter().filter(|(_, s)| s.until <= now).map(|(id, _)| *id).collect();
        for id in forgotten {
            self.forget(id);
        }
        Ok(())
    }

    fn renew(&mut self, now: Instant) -> Result<(), String> {
        self.shown = Some(Shown { code: Code::random()?, until: now + CODE_LIFE, wrong: 0 });
        self.sessions.clear();
        self.order.clear();
        Ok(())
    }

    fn forget(&mut self, id: Uuid) -> Option<Session> {
        self.order.retain(|o| *o != id);
        self.sessions.remove(&id)
    }

    /// The code, how long it lasts and how often it was guessed wrong; none while one is being paired.
    pub(super) fn shown(&self, now: Instant) -> Option<(String, Duration, u32)> {
        let shown = self.shown.as_ref().filter(|_| self.taken.is_none())?;
        Some((shown.code.shown(), shown.until.saturating_duration_since(now), shown.wrong))
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Wrong proofs since the start.
    pub(super) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// The first word of an inviting host.
    pub(super) fn hello(
        &mut self,
        now: Instant,
        inviter: Inviter,
        waiter: &Waiter,
        message: &[u8],
    ) -> Result<(Uuid, Vec<u8>), Refused> {
        if self.taken.is_some() {
            return Err(Refused::Taken);
        }
        if self.resting.is_some_and(|until| now < until) {
            return Err(Refused::Resting);
        }
        let shown = self.shown.as_ref().filter(|s| now < s.until).ok_or(Refused::NotWaiting)?;
        let (own, keys) =
            exchange::answer(&shown.code, &inviter, waiter, message).map_err(|_| Refused::Malformed)?;
        while self.order.len() >= SESSIONS {
            let oldest = self.order.remove(0);
            self.sessions.remove(&oldest);
        }
        let id = Uuid::new_v4();
        self.order.push(id);
        self.sessions.insert(id, Session { keys, until: now + SESSION_LIFE, inviter });
        Ok((id, own))
    }

    /// Its proof; answered by this side's. A wrong one ends the exchange.
    pub(super) fn confirm(
        &mut self,
        now: Instant,
        id: Uuid,
        proof: &[u8],
    ) -> Result<(Vec<u8>, Inviter), Refused> {
        if self.taken.is_some() {
            return Err(Refused::Taken);
        }
        let session = self.forget(id).filter(|s| now < s.until).ok_or(Refused::Unknown)?;
        if session.keys.proves(Side::Inviter, proof) {
            let answer = (session.keys.proof(Side::Waiter), session.inviter.clone());
            self.sessions.clear();
            self.order.clear();
            self.sessions.insert(id, session);
            self.taken = Some((id, now + TAKEN_LIFE));
            return Ok(answer);
        }
        self.wrong += 1;
        let shown = self.shown.as_mut().ok_or(Refused::NotWaiting)?;
        shown.wrong += 1;
        let left = GUESSES.saturating_sub(shown.wrong);
        if left == 0 {
            self.resting = Some(now + REST);
            self.shown = None;
            self.sessions.clear();
            self.order.clear();
        }
        Err(Refused::Wrong { left })
    }

    /// What the one who proved to know the code has sealed. Heard once.
    pub(super) fn open(&mut self, now: Instant, id: Uuid, sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        if !self.taken.is_some_and(|(taken, until)| taken == id && now < until) {
            return Err(Refused::Unknown);
        }
        let session = self.forget(id).ok_or(Refused::Unknown)?;
        session.keys.open(sealed).map_err(|_| {
            self.failed();
            Refused::Malformed
        })
    }

    /// Nothing came of it: another code is shown.
    pub(super) fn failed(&mut self) {
        self.taken = None;
        self.shown = None;
        self.sessions.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::exchange::Begun, *};
    use lq_api::HostId;

    fn waiter() -> Waiter {
        Waiter { version: exchange::VERSION, host: HostId(Uuid::nil()), pin: "cc".into() }
    }

    fn waiting(now: Instant) -> (Waiting, Code) {
        let mut waiting = Waiting::default();
        waiting.look(now, true).unwrap();
        let code = Code::parse(&waiting.shown(now).unwrap().0).unwrap();
        (waiting, code)
    }

    /// An exchange up to the inviting side's proof.
    fn begin(waiting: &mut Waiting, now: Instant, code: &Code) -> Result<(Uuid, Keys), Refused> {
        let inviter = exchange::tests::inviter();
        let begun = Begun::new(code, &inviter, &waiter());
        let (id, answer) = waiting.hello(now, inviter, &waiter(), &begun.message)?;
        Ok((id, begun.finish(&answer).unwrap()))
    }

    fn guess(waiting: &mut Waiting, now: Instant, code: &Code) -> Result<Uuid, Refused> {
        let (id, keys) = begin(waiting, now, code)?;
        let (proof, _) = waiting.confirm(now, id, &keys.proof(Side::Inviter))?;
        assert!(keys.proves(Side::Waiter, &proof));
        Ok(id)
    }

    #[test]
    fn a_code_is_guessed_three_times_and_then_another() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        let wrong = Code::parse("2222-2222").unwrap();
        for left in [2, 1, 0] {
            assert_eq!(guess(&mut waiting, now, &wrong), Err(Refused::Wrong { left }));
        }
        assert_eq!(guess(&mut waiting, now, &code), Err(Refused::Resting), "not even the right one");
        waiting.look(now, true).unwrap();
        assert!(waiting.shown(now).unwrap().0 != code.shown());
        let later = now + REST;
        waiting.look(later, true).unwrap();
        assert_eq!(guess(&mut waiting, later, &code), Err(Refused::Wrong { left: 2 }), "the old one is over");
        assert_eq!(waiting.wrong(), 4);
    }

    #[test]
    fn only_what_cannot_be_done_often_is_told() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        let wrong = Code::parse("2222-2222").unwrap();
        let (known, _) = begin(&mut waiting, now, &code).unwrap();
        let mut told = 0;
        for _ in 0..1000 {
            let tried =
                [waiting.confirm(now, Uuid::nil(), &[0; 32]).err(), guess(&mut waiting, now, &wrong).err()];
            told += tried.into_iter().flatten().filter(|why| why.is_guess()).count();
        }
        assert_eq!(told, GUESSES as usize);
        assert_eq!(waiting.confirm(now, known, &[0; 32]).err(), Some(Refused::Unknown));
    }

    #[test]
    fn exchanges_begun_at_once_are_not_more_guesses() {
        let now = Instant::now();
        let (mut waiting, _) = waiting(now);
        let wrong = Code::parse("2222-2222").unwrap();
        let begun: Vec<_> = (0..SESSIONS).map(|_| begin(&mut waiting, now, &wrong).unwrap()).collect();
        let tried = begun.iter().map(|(id, keys)| waiting.confirm(now, *id, &keys.proof(Side::Inviter)));
        let heard = tried.filter(|t| matches!(t, Err(Refused::Wrong { .. }))).count();
        assert_eq!(heard, GUESSES as usize);
    }

    #[test]
    fn one_of_two_clusters_has_it_and_a_failure_gives_it_back() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        let (slow, keys) = begin(&mut waiting, now, &code).unwrap();
        let id = guess(&mut waiting, now, &code).unwrap();
        assert_eq!(waiting.confirm(now, slow, &keys.proof(Side::Inviter)).err(), Some(Refused::Taken));
        assert_eq!(guess(&mut waiting, now, &code).err(), Some(Refused::Taken));
        assert!(waiting.shown(now).is_none());
        assert_eq!(waiting.open(now, slow, b"x"), Err(Refused::Unknown));
        assert_eq!(waiting.open(now, id, b"rubbish that is not sealed"), Err(Refused::Malformed));
        waiting.look(now, true).unwrap();
        assert!(waiting.shown(now).unwrap().0 != code.shown(), "a code works once");
    }

    #[test]
    fn a_sealed_word_is_heard_once_and_only_in_its_time() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        let (id, keys) = begin(&mut waiting, now, &code).unwrap();
        waiting.confirm(now, id, &keys.proof(Side::Inviter)).unwrap();
        let sealed = keys.seal(b"token").unwrap();
        assert_eq!(waiting.open(now + TAKEN_LIFE, id, &sealed), Err(Refused::Unknown));
        assert_eq!(waiting.open(now, id, &sealed).unwrap(), b"token");
        assert_eq!(waiting.open(now, id, &sealed), Err(Refused::Unknown), "replayed");
    }

    #[test]
    fn codes_and_exchanges_end_in_time_and_when_the_host_may_not_wait() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        let (id, keys) = begin(&mut waiting, now, &code).unwrap();
        let late = now + SESSION_LIFE;
        assert_eq!(waiting.confirm(late, id, &keys.proof(Side::Inviter)).err(), Some(Refused::Unknown));
        let over = now + CODE_LIFE;
        assert_eq!(begin(&mut waiting, over, &code).err(), Some(Refused::NotWaiting));
        waiting.look(over, true).unwrap();
        assert!(waiting.shown(over).unwrap().0 != code.shown());
        waiting.look(over, false).unwrap();
        assert!(waiting.shown(over).is_none());
        assert_eq!(begin(&mut waiting, over, &code).err(), Some(Refused::NotWaiting));
    }

    #[test]
    fn many_who_only_begin_leave_room_for_the_one_who_means_it() {
        let now = Instant::now();
        let (mut waiting, code) = waiting(now);
        for _ in 0..100 {
            begin(&mut waiting, now, &code).unwrap();
        }
        assert_eq!(waiting.sessions.len(), SESSIONS);
        guess(&mut waiting, now, &code).unwrap();
    }
}
