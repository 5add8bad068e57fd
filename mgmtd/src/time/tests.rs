//! The whole against servers over loopback, with a clock that is nobody's.

use super::{clock::tests::Fake, packet::tests::answer, *};
use packet::{Reply, Stamp};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UdpSocket;

const MS: i64 = 1_000_000;

#[derive(Clone, Copy)]
enum Kind {
    /// Tells the time, wrong by so much.
    Off(i64),
    Kiss([u8; 4]),
    /// Answers with another nonce first: as somebody would who does not see the questions.
    Guessed(i64),
    Silent,
}

/// A server; how often it was asked.
async fn server(kind: Kind) -> (String, Arc<AtomicU32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0u8; 100];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            assert_eq!((length, buffer[0]), (packet::LENGTH, 4 << 3 | 3));
            assert!(buffer[1..40].iter().all(|b| *b == 0), "nothing of the asker is told");
            count.fetch_add(1, Ordering::Relaxed);
            let origin = Stamp(u64::from_be_bytes(buffer[40..48].try_into().unwrap()));
            let tell = |off: i64, origin| {
                let at = Stamp::of(Kernel.now() + Nanos::from(off));
                answer(&Reply {
                    leap: 0,
                    stratum: 2,
                    root_delay: 0,
                    root_dispersion: 0,
                    reference: *b"GPS\0",
                    origin,
                    receive: at,
                    transmit: at,
                })
            };
            let replies = match kind {
                Kind::Off(off) => vec![tell(off, origin)],
                Kind::Guessed(off) => vec![tell(3_600_000 * MS, Stamp(1)), tell(off, origin)],
                Kind::Kiss(code) => {
                    let mut packet = tell(0, origin);
                    packet[1] = 0;
                    packet[12..16].copy_from_slice(&code);
                    vec![packet]
                }
                Kind::Silent => vec![],
            };
            for reply in replies {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (address, asked)
}

async fn following(kinds: &[Kind], off: i64) -> (Arc<Time>, Arc<Fake>, Vec<Arc<AtomicU32>>) {
    let clock = Arc::new(Fake::default());
    clock.off.store(off, Ordering::Relaxed);
    let time = Time::new(clock.clone());
    let (mut servers, mut counts) = (Vec::new(), Vec::new());
    for kind in kinds {
        let (address, asked) = server(*kind).await;
        servers.push(address);
        counts.push(asked);
    }
    time.follow(&TimeSpec { servers });
    (time, clock, counts)
}

fn done(clock: &Fake) -> Vec<(&'static str, Nanos)> {
    clock.done.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_set_at_the_start_and_then_brought_nearer() {
    // An hour behind.
    let (time, clock, _) =
        following(&[Kind::Off(0), Kind::Off(MS), Kind::Guessed(-MS)], -3_600_000 * MS).await;
    time.round().await;
    let first = done(&clock);
    assert!(matches!(first[..], [("step", by)] if (by - 3_600_000_000_000).abs() < 50_000_000), "{first:?}");
    let status = time.status();
    assert!(status.synchronised && status.note.is_none() && status.stepped_at.is_some(), "{status:?}");
    assert_eq!((status.stratum, status.servers.len()), (Some(3), 3));
    time.round().await;
    let second = done(&clock)[1];
    assert!(second.0 == "slew" && second.1.abs() < 50_000_000, "{second:?}");
    assert!(time.status().offset_ms.unwrap().abs() < 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_falseticker_is_outvoted_and_without_a_majority_nothing_is_done() {
    let (time, clock, _) = following(&[Kind::Off(0), Kind::Off(0), Kind::Off(900_000 * MS)], 0).await;
    time.round().await;
    assert!(matches!(done(&clock)[..], [("slew", by)] if by.abs() < 50_000_000), "{:?}", done(&clock));
    let chosen: Vec<bool> = time.status().servers.iter().map(|s| s.chosen).collect();
    assert_eq!(chosen, [true, true, false]);
    let (time, clock, _) = following(&[Kind::Off(0), Kind::Off(900_000 * MS)], 0).await;
    time.round().await;
    assert!(done(&clock).is_empty());
    let status = time.status();
    assert!(!status.synchronised && status.note.as_ref().unwrap().contains("do not agree"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_be_left_alone_is_and_who_is_silent_is_told_of() {
    let kinds = [Kind::Kiss(*b"DENY"), Kind::Kiss(*b"RATE"), Kind::Silent, Kind::Off(0)];
    let (time, _, asked) = following(&kinds, 0).await;
    time.round().await;
    time.round().await;
    let asked: Vec<u32> = asked.iter().map(|a| a.load(Ordering::Relaxed)).collect();
    assert_eq!(asked, [1, 1, 2, 2]);
    let status = time.status();
    let faults: Vec<String> = status.servers.iter().map(|s| s.fault.clone().unwrap_or_default()).collect();
    assert!(faults[0].contains("DENY") && faults[1].contains("RATE"), "{faults:?}");
    assert!(faults[2].contains("did not answer") && faults[3].is_empty(), "{faults:?}");
    assert!(status.synchronised, "one server is better than none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_while_it_runs_is_not_followed_at_once() {
    let (time, clock, _) = following(&[Kind::Off(0), Kind::Off(0), Kind::Off(0)], 0).await;
    time.round().await;
    // Somebody sets the clock; what was told before is of another clock.
    clock.off.store(-5_000 * MS, Ordering::Relaxed);
    time.follow(&TimeSpec { servers: time.status().servers.into_iter().map(|s| s.server).collect() });
    for _ in 0..3 {
        time.round().await;
        assert!(time.status().note.unwrap().contains("is set if it stays so"));
    }
    assert_eq!(done(&clock).len(), 1);
    time.round().await;
    assert!(matches!(done(&clock)[..], [_, ("step", by)] if (by - 5_000_000_000).abs() < 50_000_000));
}

#[tokio::test]
async fn without_servers_nothing_is_asked() {
    let (time, clock, _) = following(&[], 0).await;
    assert!(time.status().note.unwrap().contains("no time server is set"));
    assert!(done(&clock).is_empty());
}
