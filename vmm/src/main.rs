//! `lq-vmm run --config FILE`: runs one virtual machine to its end.

use lq_vmm::{
    run::{self, Options},
    seccomp::Mode,
};
use std::{path::PathBuf, process::ExitCode};

const USAGE: &str = "\
usage: lq-vmm run --config FILE [--seccomp kill|log|off]
       lq-vmm version

Runs the virtual machine described by FILE until it ends. Exit status: 0 the guest switched itself off or was told to
end, 2 fault in the configuration or a file it names, 3 fault of the host, 4 fault of the guest, 70 fault of lq-vmm.

  --seccomp  what becomes of a system call that is on no list: kill the process (the default), log it, or nothing
";

/// Status for a command line nobody understands.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["version" | "--version"] => {
            println!("lq-vmm {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["run", rest @ ..] => match options(rest) {
            Ok(options) => ExitCode::from(run::run(&options).reason.status()),
            Err(fault) => misused(&fault),
        },
        _ => misused("no such command"),
    }
}

fn misused(fault: &str) -> ExitCode {
    eprintln!("lq-vmm: {fault}\n{USAGE}");
    ExitCode::from(BAD_USAGE)
}

fn options(words: &[&str]) -> Result<Options, String> {
    let (mut config, mut seccomp) = (None, Mode::Kill);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--config" => config = Some(PathBuf::from(value()?)),
            "--seccomp" => {
                seccomp = match *value()? {
                    "kill" => Mode::Kill,
                    "log" => Mode::Log,
                    "off" => Mode::Off,
                    other => return Err(format!("--seccomp {other}: kill, log or off is possible")),
                }
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(Options { config: config.ok_or("--config is missing")?, seccomp })
}
