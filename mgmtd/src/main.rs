//! `mgmtd`: see the library.

use clap::Parser as _;
use lq_mgmtd::{
    config::{Config, Options},
    daemon::{Daemon, Over},
    telemetry::logs,
};
use std::{error::Error, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Threads for requests; what waits for the disk has its own.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(e) = logs::init(options.log_format, &options.log) {
        eprintln!("mgmtd: {e}");
        return ExitCode::from(2);
    }
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(32)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(options.into()));
            // What is still under way (an upload's last write) must not keep us.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            done
        }
        Err(e) => Err(e.into()),
    };
    match done {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => {
            let failed = start_again();
            tracing::error!(error = %failed, "the daemon could not start itself again");
            ExitCode::FAILURE
        }
        Err(e) => {
            tracing::error!("{}", lq_mgmtd::causes::chain(&*e));
            ExitCode::FAILURE
        }
    }
}

/// Runs the daemon. `Ok(true)`: it is to start again.
async fn run(config: Config) -> Result<bool, Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let daemon = Daemon::start(config).await?;
    let over = tokio::select! {
        _ = terminate.recv() => Over::Asked,
        _ = interrupt.recv() => Over::Asked,
        over = daemon.over() => over,
    };
    tracing::info!("ending; machines run on");
    daemon.stop().await;
    match over {
        Over::Asked => Ok(false),
        Over::Again => Ok(true),
        Over::Failed(reason) => Err(format!("the replicated log failed: {reason}").into()),
    }
}

/// Becomes a fresh process of the same program: nothing of the old one is left in it.
fn start_again() -> std::io::Error {
    use std::os::unix::process::CommandExt as _;
    match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(e) => e,
    }
}
