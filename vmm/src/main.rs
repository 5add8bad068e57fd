//! `lq-vmm run --config FILE`: runs one virtual machine to its end; `lq-vmm qemu`: runs it on QEMU. `lq-vmm tpm`: becomes the process
//! behind its TPM.

use lq_api::local::vmm::{Command, MigrateOptions, MigrationPhase};
use lq_vmm::{
    control::ask::{self, Asker},
    exit, qemu,
    run::{self, Options},
    seccomp::Mode,
    tpm::launch,
};
use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "\
usage: lq-vmm run --config FILE [--seccomp kill|log|off]
       lq-vmm qemu --config FILE [--program FILE] [--accelerator kvm|tcg] [--seccomp kill|log|off]
       lq-vmm snapshot --control SOCKET --to FILE
       lq-vmm migrate --from SOCKET --to SOCKET [--bandwidth BYTES] [--max-pause-ms N]
       lq-vmm ask --control SOCKET COMMAND
       lq-vmm tpm --state DIRECTORY --socket SOCKET [--program FILE] [--jail USER:GROUP]
       lq-vmm version

Runs the virtual machine described by FILE until it ends. Exit status: 0 the guest switched itself off or was told to
end, 2 fault in the configuration or a file it names, 3 fault of the host, 4 fault of the guest, 70 fault of lq-vmm.

`qemu` runs it on QEMU, for what the monitor does not do itself (a legacy BIOS, old devices), and is asked in the same way.

Another program of the host can serve a disk, an interface or a directory (vhost-user); it is started before. In the
configuration, for example:
  \"devices\": {\"vhost_user\": [
    {\"name\": \"scratch\", \"socket\": \"/run/blk.sock\", \"device\": {\"block\": {\"queues\": 1}}},
    {\"name\": \"lan\", \"socket\": \"/run/net.sock\", \"device\": {\"net\": {\"mac\": \"52:54:00:00:00:01\"}}},
    {\"name\": \"shared\", \"socket\": \"/run/fs.sock\", \"device\": {\"fs\": {\"tag\": \"home\", \"queues\": 1}}}]}
Such a machine can be neither saved nor moved.

`snapshot` has the monitor behind SOCKET write its machine to FILE; a machine begins there again with
\"start\": {\"restore\": {\"path\": FILE}} in its configuration.

`migrate` moves a machine between two monitors of this host; the second one was started with \"start\": \"incoming\".
Prints how it went.

`ask` has the monitor behind SOCKET carry out a COMMAND in JSON, such as '\"status\"' or '{\"nic-link\":{\"nic\":0,\"up\":true}}',
and prints its answer. A command that comes with descriptors takes standard input for each.

`tpm` becomes the swtpm of one machine: it keeps its state in DIRECTORY and listens at SOCKET for its monitor, locked in as
USER and GROUP (numbers). It ends with its monitor.

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
        ["snapshot", "--control", socket, "--to", file] => done(snapshot(Path::new(socket), Path::new(file))),
        ["ask", "--control", socket, command] => done(ask(Path::new(socket), command)),
        ["migrate", "--from", from, "--to", to, rest @ ..] => match migrate_options(rest) {
            Ok(options) => done(migrate(Path::new(from), Path::new(to), options)),
            Err(fault) => misused(&fault),
        },
        ["tpm", rest @ ..] => match launch::Options::parse(rest) {
            Ok(options) => done(Err(exit::chain(&launch::run(&options)))),
            Err(fault) => misused(&fault),
        },
        ["qemu", rest @ ..] => match qemu::start::Options::parse(rest) {
            Ok(options) => ExitCode::from(qemu::start::run(&options).reason.status()),
            Err(fault) => misused(&fault),
        },
        ["run", rest @ ..] => match options(rest) {
            Ok(options) => ExitCode::from(run::run(&options).reason.status()),
            Err(fault) => misused(&fault),
        },
        _ => misused("no such command"),
    }
}

fn ask(socket: &Path, command: &str) -> Result<(), String> {
    let command: Command =
        serde_json::from_str(command).map_err(|e| format!("{command:?} is no command: {e}"))?;
    let mut asker = Asker::connect(socket)
        .map_err(|e| format!("cannot reach the monitor at {}: {e}", socket.display()))?;
    let input = io::stdin();
    let outcome = asker.ask(command.clone(), vec![input.as_fd(); command.descriptors()]);
    let outcome = outcome.map_err(|e| e.to_string())?;
    println!("{}", serde_json::to_string(&outcome).map_err(|e| e.to_string())?);
    Ok(())
}

fn snapshot(socket: &Path, file: &Path) -> Result<(), String> {
    let mut asker = Asker::connect(socket)
        .map_err(|e| format!("cannot reach the monitor at {}: {e}", socket.display()))?;
    asker.snapshot(file).map_err(|e| format!("cannot write the machine to {}: {e}", file.display()))
}

fn migrate_options(words: &[&str]) -> Result<MigrateOptions, String> {
    let mut options = MigrateOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let bad = |e| format!("{word} {value}: {e}");
        match *word {
            "--bandwidth" => options.bandwidth = Some(value.parse().map_err(bad)?),
            "--max-pause-ms" => options.max_pause_ms = value.parse().map_err(bad)?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

fn migrate(from: &Path, to: &Path, options: MigrateOptions) -> Result<(), String> {
    let connect = |path: &Path| {
        Asker::connect(path).map_err(|e| format!("cannot reach the monitor at {}: {e}", path.display()))
    };
    let (source, target) = (connect(from)?, connect(to)?);
    let (status, end) =
        ask::migrate(source, target, options).map_err(|e| format!("the machine does not move: {e}"))?;
    println!("{}", serde_json::to_string(&status).map_err(|e| e.to_string())?);
    if let Some(end) = end {
        println!("{}", end.detail);
    }
    if status.phase == MigrationPhase::Moved { Ok(()) } else { Err("the machine did not move".to_owned()) }
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("lq-vmm: {fault}");
            ExitCode::FAILURE
        }
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
            "--seccomp" => seccomp = value()?.parse()?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(Options { config: config.ok_or("--config is missing")?, seccomp })
}
