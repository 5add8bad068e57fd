//! What goes wrong in a simulated cluster, by chance; and how everything is mended.
//!
//! A new fault is an arm of [`inject`]. It says in the log what it does, and either ends by itself or is ended by [`mend`].

use super::{USUAL_DISK, World, disk::Left, host::Host, net};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Faults for so long.
pub(super) async fn play(world: &Arc<World>, how_long: Duration) {
    world.links.lock().unwrap().breaks = world.chance(|rng| [0, 50, 400][rng.pick(3)]);
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        let pause = world.chance(|rng| rng.ms(100, 4_000));
        sleep(pause).await;
        inject(world);
    }
}

/// Everything is well from now on.
pub(super) fn mend(world: &Arc<World>) {
    world.links.lock().unwrap().mend();
    world.disks.lock().unwrap().fill(USUAL_DISK);
    for host in &world.hosts {
        host.go_on();
        host.start(world);
    }
}

async fn later(after: Duration, then: impl FnOnce() + Send + 'static) {
    sleep(after).await;
    then();
}

fn crash(world: &Arc<World>, host: &Arc<Host>, left: Left, down: Duration) {
    world.note(format!(
        "FAULT host {} dies for {down:?}, of what was not synced is left: {left:?}",
        host.number
    ));
    host.crash(left);
    let (w, host) = (world.clone(), host.clone());
    tokio::spawn(later(down, move || host.start(&w)));
}

fn left(world: &World) -> Left {
    world.chance(|rng| [Left::Nothing, Left::Half, Left::All][rng.pick(3)])
}

fn inject(world: &Arc<World>) {
    let n = world.chance(|rng| rng.pick(world.hosts.len()));
    let host = world.hosts[n].clone();
    let w = world.clone();
    match world.chance(|rng| rng.below(12)) {
        0..=3 => {
            let other = world.chance(|rng| {
                let other = rng.pick(world.hosts.len());
                (rng.once_in(2) && other != n).then_some(other)
            });
            let (ways, how_long) = world.chance(|rng| (rng.below(3), rng.ms(300, 8_000)));
            let words = ["both ways", "of what comes", "of what goes"][usize::try_from(ways).unwrap()];
            world.note(format!("FAULT host {n} is cut off from {other:?}, {words}, for {how_long:?}"));
            net::cut_off(&mut world.links.lock().unwrap(), &world.hosts, (n, other), ways);
            tokio::spawn(later(how_long, move || {
                let mut links = w.links.lock().unwrap();
                for to in 0..w.hosts.len() {
                    links.cut(n, to, false);
                    links.cut(to, n, false);
                }
            }));
        }
        4 | 5 if host.is_running() => {
            let (left, down) = (left(world), world.chance(|rng| rng.ms(100, 5_000)));
            crash(world, &host, left, down);
        }
        6 if host.is_running() => {
            let down = world.chance(|rng| rng.ms(100, 2_000));
            crash(world, &host, Left::All, down);
        }
        7 | 8 if host.is_running() && !host.is_halted() => {
            let how_long = world.chance(|rng| rng.ms(200, 6_000));
            world.note(format!("FAULT host {n} halts for {how_long:?}"));
            host.halt();
            let life = host.life();
            tokio::spawn(later(how_long, move || {
                if host.life() == life {
                    w.note(format!("host {n} goes on"));
                    host.go_on();
                }
            }));
        }
        9 => {
            let (slow, how_long) = world.chance(|rng| (20 + rng.below(400), rng.ms(500, 5_000)));
            world.note(format!("FAULT the disk of host {n} takes up to {slow} ms, for {how_long:?}"));
            world.disks.lock().unwrap()[n] = slow;
            tokio::spawn(later(how_long, move || w.disks.lock().unwrap()[n] = USUAL_DISK));
        }
        10 => {
            world.note(format!("FAULT the disk of host {n} fails"));
            host.disk.fail();
        }
        11 => {
            let (slow, how_long) = world.chance(|rng| (20 + rng.below(600), rng.ms(500, 5_000)));
            world.note(format!("FAULT the links of host {n} take up to {slow} ms, for {how_long:?}"));
            world.links.lock().unwrap().slow(n, Some(slow));
            tokio::spawn(later(how_long, move || w.links.lock().unwrap().slow(n, None)));
            if world.chance(|rng| rng.once_in(4)) {
                // The power of the whole site.
                let (left, down) = (left(world), world.chance(|rng| rng.ms(500, 3_000)));
                for host in world.hosts.iter().filter(|h| h.is_running()) {
                    crash(world, host, left, down);
                }
            }
        }
        _ => {}
    }
}
