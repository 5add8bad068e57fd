//! Seeds, that a run repeated is the same, and that bugs put in on purpose are found.

use super::{Bug, Report, USUAL_DISK, World, clients, disk::Left, run, stage};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Seeds of the unit tests; `just sim` plays as many as one likes.
const SEEDS: u64 = 12;
/// Seeds within which a bug must be found.
const FOUND_WITHIN: u64 = 40;

/// A run; one that panics is one that failed.
fn play(seed: u64, bug: Bug) -> Report {
    std::panic::catch_unwind(|| run(seed, bug)).unwrap_or_else(|e| {
        let text = e.downcast_ref::<String>().cloned();
        let text = text.or_else(|| e.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default();
        Report {
            violations: vec![format!("panicked: {text}")],
            log: vec![],
            entries: 0,
            leaders: 0,
            answered: 0,
        }
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn told(seed: u64, report: &Report) -> String {
    if std::env::var_os("SIM_LOG").is_some() {
        println!("{}", report.log.join("\n"));
    }
    let wrong = report.violations.join("\n  ");
    format!("seed {seed}:\n  {wrong}\n  repeat it: SIM_LOG=1 just sim 1 {seed}")
}

#[test]
fn whole_clusters_by_seed() {
    let (seeds, from) = (number("SIM_SEEDS"), number("SIM_FROM").unwrap_or(1));
    let threads = match seeds {
        Some(_) => std::thread::available_parallelism().map_or(1, usize::from),
        None => 1,
    };
    let end = from + seeds.unwrap_or(SEEDS);
    let next = AtomicU64::new(from);
    let (failed, sums) = (Mutex::new(Vec::new()), Mutex::new((0, 0, 0)));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = play(seed, Bug::None);
                    {
                        let mut sums = sums.lock().unwrap();
                        sums.0 += report.entries;
                        sums.1 += report.leaders;
                        sums.2 += report.answered;
                    }
                    if !report.violations.is_empty() {
                        let told = told(seed, &report);
                        println!("{told}");
                        failed.lock().unwrap().push(told);
                    } else if seeds == Some(1) {
                        told(seed, &report);
                    }
                }
            });
        }
    });
    let (entries, leaders, answered) = *sums.lock().unwrap();
    println!("{} seeds from {from}: {entries} entries, {leaders} leaders, {answered} answers", end - from);
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
    if seeds.is_none() {
        // That something happened, to the leaders too.
        assert!(entries > 0 && answered > 0 && leaders as u64 > end - from);
    }
}

#[test]
fn a_run_repeated_is_the_same() {
    for seed in [3, 4] {
        let (one, other) = (play(seed, Bug::None), play(seed, Bug::None));
        let differs = one.log.iter().zip(&other.log).position(|(a, b)| a != b);
        if let Some(n) = differs {
            panic!("seed {seed} differs at line {n}:\n{}\n{}", one.log[n], other.log[n]);
        }
        assert_eq!(one.log.len(), other.log.len());
    }
}

fn found(bug: Bug) -> String {
    let all = (1..=FOUND_WITHIN).map(|seed| play(seed, bug));
    let found = all.flat_map(|report| report.violations).next();
    found.unwrap_or_else(|| panic!("{bug:?} is not found within {FOUND_WITHIN} seeds"))
}

#[test]
fn a_store_that_answers_too_early_is_found() {
    println!("{}", found(Bug::EarlyAnswer));
}

#[test]
fn a_stale_read_is_found() {
    println!("{}", found(Bug::StaleRead));
}

/// Seed 1124: up to where the log is agreed was lost with the power, and the leader went on where it was.
#[test]
fn a_leader_that_comes_back_answers_readers_with_all_that_was_acknowledged() {
    let report = stage(1, Bug::None, async |world: &Arc<World>| {
        world.form().await;
        for round in 0..6 {
            let host = &world.hosts[round % world.hosts.len()];
            clients::last_write(world, host).await;
            world.hosts.iter().for_each(|h| h.crash(Left::Nothing));
            world.hosts.iter().for_each(|h| h.start(world));
            let mut asked = 0;
            while asked < world.hosts.len() {
                match world.knows_all(&world.hosts[asked]).await {
                    None => sleep(Duration::from_millis(5)).await,
                    Some(true) => asked += 1,
                    Some(false) => {
                        world.violated(format!("host {asked} lacks something in round {round}"));
                        return;
                    }
                }
            }
        }
    });
    assert!(report.violations.is_empty(), "{}", told(1, &report));
}

/// Seed 1365: the leader's disk failed, and it said that nothing was changed; the others had the change already.
#[test]
fn a_leader_whose_disk_fails_does_not_say_that_nothing_was_changed() {
    let report = stage(1, Bug::None, async |world: &Arc<World>| {
        world.form().await;
        for _ in 0..6 {
            world.wait("all agree", World::agree).await;
            let leader = world.hosts[0].cluster().and_then(|c| c.standing().leader);
            let leader = &world.hosts[leader.and_then(|l| world.number(l)).unwrap()];
            // The others get the first change, and say so only when the leader has failed over the second.
            let disks = |n: usize| if n == leader.number { USUAL_DISK } else { 400 };
            *world.disks.lock().unwrap() = (0..world.hosts.len()).map(disks).collect();
            let second = async {
                sleep(Duration::from_millis(25)).await;
                leader.disk.fail();
                world.add(1, leader).await
            };
            futures::join!(world.add(0, leader), second);
            world.disks.lock().unwrap().fill(USUAL_DISK);
            sleep(Duration::from_secs(5)).await;
        }
        world.wait("all agree", World::agree).await;
        clients::judge(world);
    });
    assert!(report.violations.is_empty(), "{}", told(1, &report));
}
