//! Golden scenarios: `scenarios/*.txt` tell what happens, second by second, and what is made of it.
//!
//! A file has a line or more of words (`#`), the site, what happens, and after `---` what followed. Real: the manager, the agreed
//! state with its rules ([`crate::cluster::State`]), what is made of it for the manager, placement, what a suspended leader still
//! knows. Modelled ([`world`]): time, which beats arrive, when the log takes a write, and the leases of hosts, each by its own clock.
//! In every scenario it is an error when a machine becomes another host's while its host may still write for it; only where a person
//! confirmed that a host is off that is not, that is told instead.
//!
//! ```text
//! hosts a b c                                            their names
//! pool nfs on a b                                        a shared pool, and who reaches it
//! vm web on b high disk nfs label app=w apart app=w      also: low, stopped, unguarded, local-disk, near K=V, pinned
//! 3.5 b loses power                                      what happens when; `World::happens` has all that can
//! 20 end
//! ```
//! Hosts that are up beat twice a second; the manager looks four times a second. `UPDATE_SCENARIOS=1` writes anew what stands after
//! `---`: read it before it is kept.

mod words;
mod world;

use std::{fmt::Write as _, path::Path};
use world::World;

/// What follows in the scenario.
fn play(text: &str) -> String {
    let mut world = World::new();
    let mut happens: Vec<(u64, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["hosts", names @ ..] => names.iter().for_each(|name| world.add_host(name)),
            ["pool", name, "on", hosts @ ..] => world.add_pool(name, hosts),
            ["vm", rest @ ..] => world.add_vm(rest),
            [at, ..] => {
                let seconds: f64 = at.parse().unwrap_or_else(|_| panic!("`{line}` has no time"));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
                let at = (seconds * 1000.0) as u64;
                assert!(at.is_multiple_of(world::LOOK), "`{line}`: nothing happens between two looks");
                happens.push((at, line.split_once(char::is_whitespace).unwrap().1.trim().to_owned()));
            }
            [] => {}
        }
    }
    let end = happens.iter().map(|(at, _)| *at).max().unwrap();
    let mut told = 0;
    world.lead();
    while world.elapsed() <= end {
        let at = world.elapsed();
        let due: Vec<&str> = happens.iter().filter(|(t, _)| *t == at).map(|(_, what)| &**what).collect();
        told += due.len();
        world.tick(&due);
    }
    assert_eq!(told, happens.len(), "something was to happen while the leader slept");
    world.log
}

#[test]
fn the_scenarios_go_as_they_are_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ha/scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 60, "{} scenarios", files.len());
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, told) = text.split_once("---\n").unwrap_or((&text, ""));
        let found = std::panic::catch_unwind(|| play(script))
            .unwrap_or_else(|_| panic!("{}: see above", file.display()));
        if found == told {
            continue;
        }
        if update {
            std::fs::write(&file, format!("{}\n---\n{found}", script.trim_end())).unwrap();
        } else {
            writeln!(wrong, "{}\nexpected:\n{told}found:\n{found}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
