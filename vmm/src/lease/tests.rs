use super::{fence::Fence, *};
use proptest::prelude::*;

const MARGIN: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Moment {
    Moment::of_millis(millis)
}

#[test]
fn a_lease_is_extended_runs_out_and_is_lost() {
    let mut lease = Lease::none(MARGIN, GRACE);
    assert_eq!((lease.fence(), lease.next()), (Moment::NEVER, None));
    assert_eq!(lease.set(at(0), 3, at(1000)), Ok(Effect::None));
    assert_eq!((lease.fence(), lease.next()), (at(900), Some(at(900))));
    assert_eq!(lease.set(at(500), 3, at(1500)), Ok(Effect::None));
    assert_eq!(lease.tick(at(1399)), Effect::None);
    assert_eq!(lease.tick(at(1400)), Effect::Stop(at(1500)));
    assert_eq!((lease.fence(), lease.deadline(), lease.next()), (Moment::PAST, at(1500), Some(at(3500))));
    // Late, but before the end.
    assert_eq!(lease.set(at(2000), 3, at(4000)), Ok(Effect::GoOn));
    assert_eq!(lease.tick(at(9000)), Effect::Stop(at(4000)));
    assert_eq!(lease.tick(at(9000)), Effect::End);
    assert_eq!(lease.set(at(9000), 9, at(90_000)), Err(Refusal::Lost));
    assert_eq!(lease.next(), None);
}

#[test]
fn what_is_older_shorter_or_past_is_refused_and_changes_nothing() {
    let mut lease = Lease::none(MARGIN, GRACE);
    assert_eq!(lease.set(at(1000), 1, at(1100)), Err(Refusal::Past { deadline: 1100 }));
    assert_eq!(lease.release(at(0), 1, true), Err(Refusal::NotHeld));
    lease.set(at(0), 5, at(1000)).unwrap();
    assert_eq!(lease.set(at(0), 4, at(9000)), Err(Refusal::Epoch { epoch: 4, held: 5 }));
    assert_eq!(lease.set(at(0), 5, at(999)), Err(Refusal::Shorter { held: 1000 }));
    assert_eq!(lease.set(at(0), 6, at(999)), Err(Refusal::Shorter { held: 1000 }));
    assert_eq!(lease.release(at(0), 6, false), Err(Refusal::Epoch { epoch: 6, held: 5 }));
    assert_eq!(lease.deadline(), at(1000));
}

#[test]
fn what_is_given_back_needs_a_new_epoch_or_none_at_all() {
    let mut lease = Lease::none(MARGIN, GRACE);
    lease.set(at(0), 5, at(1000)).unwrap();
    // What was promised counts for what is under way.
    assert_eq!(lease.release(at(100), 5, false), Ok(Effect::Stop(at(1000))));
    assert_eq!((lease.fence(), lease.next()), (Moment::PAST, Some(at(2100))));
    assert_eq!(lease.set(at(200), 5, at(5000)), Err(Refusal::Epoch { epoch: 5, held: 5 }));
    assert_eq!(lease.set(at(200), 6, at(5000)), Ok(Effect::GoOn));
    assert_eq!(lease.release(at(300), 6, true), Ok(Effect::None));
    assert_eq!((lease.fence(), lease.status()), (Moment::NEVER, None));
}

#[test]
fn a_machine_that_is_away_does_not_end_and_comes_back_without_its_lease() {
    let mut lease = Lease::none(MARGIN, GRACE);
    lease.set(at(0), 5, at(1000)).unwrap();
    lease.set_away(true);
    assert_eq!(lease.tick(at(1000)), Effect::Stop(at(1000)));
    assert_eq!((lease.tick(at(90_000)), lease.next()), (Effect::None, None));
    lease.set_away(false);
    assert_eq!(lease.fence(), Moment::PAST);
    assert_eq!(lease.tick(at(90_000)), Effect::End);
}

#[test]
fn the_fence_follows_the_lease() {
    let fence = Fence::default();
    assert!(fence.is_open() && fence.is_free() && fence.check().is_ok());
    let now = fence::now();
    let mut lease = Lease::none(Duration::from_secs(3600), GRACE);
    lease.set(now, 1, now.later(Duration::from_secs(3700))).unwrap();
    fence.follow(&lease);
    assert!(fence.is_open() && !fence.is_free() && fence.check().is_ok());
    lease.tick(now.later(Duration::from_secs(200)));
    fence.follow(&lease);
    assert!(!fence.is_open() && fence.check().is_ok(), "what is under way may be finished");
    let mut over = Lease::none(Duration::ZERO, GRACE);
    over.set(Moment::PAST, 1, now).unwrap();
    fence.follow(&over);
    assert!(!fence.is_open() && fence::is_over(&fence.check().unwrap_err()));
}

#[derive(Clone, Debug)]
enum Event {
    Time(u64),
    /// Epoch, and how far from now.
    Set(u64, i64),
    Release(u64, bool),
    Tick,
    Away(bool),
    /// A worker wants to begin a request.
    Begin,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u64..800).prop_map(Event::Time),
        3 => (0_u64..4, -500_i64..2000).prop_map(|(epoch, until)| Event::Set(epoch, until)),
        1 => (0_u64..4, any::<bool>()).prop_map(|(epoch, run_on)| Event::Release(epoch, run_on)),
        2 => Just(Event::Tick),
        1 => any::<bool>().prop_map(Event::Away),
        6 => Just(Event::Begin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn nothing_is_begun_after_the_deadline(events in prop::collection::vec(event(), 0..80)) {
        let mut lease = Lease::none(MARGIN, GRACE);
        let mut now = 10_000;
        // What the one who grants knows: the last end and epoch granted here; none: no lease.
        let mut granted: Option<(u64, u64)> = None;
        let mut given_back = false;
        for event in events {
            match event {
                Event::Time(passed) => now += passed,
                Event::Set(epoch, until) => {
                    let deadline = now.saturating_add_signed(until);
                    if lease.set(at(now), epoch, at(deadline)).is_ok() {
                        if let Some((held, end)) = granted {
                            prop_assert!(epoch >= held && (deadline >= end || given_back), "older or shorter");
                        }
                        prop_assert!(deadline > now);
                        granted = Some((epoch, deadline));
                        given_back = false;
                    }
                }
                Event::Release(epoch, run_on) => {
                    if lease.release(at(now), epoch, run_on).is_ok() {
                        prop_assert_eq!(granted.map(|granted| granted.0), Some(epoch));
                        if run_on { granted = None } else { given_back = true }
                    }
                }
                Event::Tick => drop(lease.tick(at(now))),
                Event::Away(away) => lease.set_away(away),
                Event::Begin => {
                    let begun = at(now) < lease.fence();
                    if let (true, Some((_, end))) = (begun, granted) {
                        prop_assert!(!given_back, "begun after it was given back");
                        prop_assert!(now + MARGIN.as_millis() as u64 <= end, "begun at {} with an end at {}", now, end);
                    }
                    if granted.is_none() {
                        prop_assert!(begun, "without a lease nothing is held");
                    }
                }
            }
            if let Some(next) = lease.next() {
                // Whoever waits for it never sleeps through something.
                prop_assert!(lease.clone().tick(next) != Effect::None);
            }
        }
    }
}
