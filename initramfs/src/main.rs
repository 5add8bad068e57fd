//! Chooses the role: see the crate's documentation.

use lq_init::{
    error::chain,
    handover::Handover,
    install,
    modules::{Loader, modules_for_alias},
    net,
    pid1::{
        self,
        network::{Management, Places},
        service::Spec,
    },
    say, stage1, stage2,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if std::process::id() == 1 {
        if words.get(1) == Some(&"--stage=2") {
            stage2::run();
        } else {
            stage1::run();
            let panic = std::fs::read_to_string("/proc/cmdline")
                .map_or(0, |text| lq_init::cmdline::BootArgs::parse(&text).panic);
            stage1::stay_or_restart(panic);
        }
        return ExitCode::FAILURE;
    }
    match words.get(1..).unwrap_or_default() {
        // As the kernel calls its module loader: `-q -- <alias>`.
        ["-q", "--", aliases @ ..] | ["modprobe", aliases @ ..] => load(aliases),
        ["dhcp", interface, host_name] => {
            quiet_helper();
            match net::dhcp_run::run(interface, host_name) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(&chain(&e)),
            }
        }
        ["disks"] => match serde_json::to_string(&install::disks(&Handover::read().boot_disk)) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => fail(&chain(&e)),
        },
        ["install", file] => {
            say::to_output();
            match install::by_hand(Path::new(file)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    say::error(&chain(&e));
                    ExitCode::FAILURE
                }
            }
        }
        // PID 1's loop as an ordinary process, for tests: nothing but what its socket asks for.
        ["supervise", socket, rest @ ..] => {
            let (management, services) = match rest {
                [dir] => supervised_network(Path::new(dir)),
                _ => (None, Vec::new()),
            };
            let config = pid1::Config {
                socket: PathBuf::from(socket),
                services,
                hardware: false,
                helper: String::new(),
                state: rest.first().map(PathBuf::from),
                management,
            };
            match pid1::run(config) {
                Ok(outcome) => {
                    println!("{}", if outcome.reboot { "reboot" } else { "power-off" });
                    ExitCode::SUCCESS
                }
                Err(e) => fail(&chain(&e)),
            }
        }
        _ => fail("lq-init is PID 1 of LimiQuantix and not meant to be called by hand"),
    }
}

/// A management network of a test's: `dir` has `sys`, and gets what is written.
fn supervised_network(dir: &Path) -> (Option<Management>, Vec<Spec>) {
    let at = |name: &str| dir.join(name);
    let facts = std::fs::read(at("boot.json")).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let places = Places {
        sys: at("sys"),
        settings: at("host.toml"),
        facts: at("boot.json"),
        resolv_conf: at("resolv.conf"),
    };
    let dhcp = Spec {
        name: pid1::DHCP.into(),
        argv: vec!["/bin/sleep".into(), "1000".into()],
        env: Vec::new(),
        terminal: None,
        log: at("dhcp.log"),
        cgroup: None,
        oom_score: None,
        wanted: true,
    };
    (Some(Management::new(places, facts.unwrap_or_default())), vec![dhcp])
}

fn load(aliases: &[&str]) -> ExitCode {
    let (mut loader, text) = Loader::for_few();
    let mut loaded = 0;
    for alias in aliases {
        let wanted = modules_for_alias(&text, alias);
        // What is no alias is the name of a module.
        loaded +=
            if wanted.is_empty() { usize::from(loader.load(alias)) } else { loader.load_wanted(wanted) };
    }
    if loaded > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A helper writes to serial lines and the kernel's log only: the screens belong to the consoles.
fn quiet_helper() {
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    say::set_consoles(lq_init::cmdline::BootArgs::parse(&text).consoles);
    say::screen_owns(true);
}

fn fail(text: &str) -> ExitCode {
    eprintln!("lq-init: {text}");
    ExitCode::FAILURE
}
