//! `mgmtd`: see the library.

use clap::Parser as _;
use lq_mgmtd::{
    config::{Config, Options},
    daemon::Daemon,
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
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The whole chain, once.
            let mut text = e.to_string();
            let mut cause = e.source();
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let daemon = Daemon::start(config).await?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = daemon.over() => ended,
    };
    tracing::info!("ending; machines run on");
    daemon.stop().await;
    ended.map_err(|reason| format!("the replicated log failed: {reason}").into())
}
