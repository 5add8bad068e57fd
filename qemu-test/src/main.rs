//! `lq-e2e`: boots the real LimiQuantix image in QEMU and tests the product, runs it for people, and measures it.
//!
//! Map: [`qemu`] runs machines and [`transcript`] reads their consoles; [`guest_image`] makes guests and [`media`] the disks
//! and ISOs of hosts; a [`host::Host`] is a machine with the client of its API, a [`site::Site`] one with guests' images on
//! it; [`runner`] runs the [`tests`].

mod accel;
mod bench;
mod bmc;
mod computer;
mod demo;
mod disk_image;
mod fault;
mod figures;
mod ganesha;
mod guest_console;
mod guest_image;
mod host;
mod media;
mod nested;
mod ntp;
mod outside;
mod pair;
mod paths;
mod pool;
mod process;
mod protection;
mod qemu;
mod qmp;
mod runner;
mod scale;
mod screen;
mod segment;
mod several;
mod site;
mod switch;
mod terminal;
mod tests;
mod transcript;
mod vmlinux;
mod wait;
mod writer;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "lq-e2e", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs end-to-end tests.
    Test {
        /// Names of tests, `all` that judge a change, or `long`: those that run only by name; `list` names them.
        names: Vec<String>,
        /// Groups of tests at once; each runs one machine.
        #[arg(short, long, default_value_t = 2)]
        jobs: usize,
        /// A failed test is not repeated.
        #[arg(long)]
        no_retry: bool,
    },
    /// Installs and runs the product with a demonstration VM, until Ctrl-C.
    Run(demo::Options),
    /// Measures the product: target/figures.json and docs/figures.md.
    Figures {
        /// Rounds of the monitors' benchmark.
        #[arg(long, default_value_t = 7)]
        rounds: u32,
    },
    /// Measures lq-vmm beside QEMU's microvm on one nested host.
    VmmBench {
        /// Rounds.
        #[arg(long, default_value_t = 7)]
        rounds: u32,
    },
    /// Makes the guests' images (cached).
    GuestImage {
        /// Also boots them directly in QEMU, to their login prompt and first tick.
        #[arg(long)]
        boot: bool,
    },
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lq-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    // One thread: see `process`.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let command = Arguments::parse().command;
    runtime.block_on(async {
        // A host run for a person is switched off in order.
        if matches!(command, Command::Run(_)) {
            return dispatch(command).await;
        }
        tokio::select! {
            result = dispatch(command) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted: every machine is ended"),
        }
    })
}

async fn dispatch(command: Command) -> Result<()> {
    let paths = paths::Paths::find()?;
    match command {
        Command::Test { names, .. } if names.iter().any(|n| n == "list") => {
            for test in tests::all() {
                let by_name =
                    if tests::BY_NAME.contains(&test.name) { " (only by name, or `long`)" } else { "" };
                println!("{:17} {}{by_name}", test.name, test.about);
            }
            Ok(())
        }
        Command::Test { names, jobs, no_retry } => {
            runner::run(&paths, &runner::Plan { names, jobs, retry: !no_retry }).await
        }
        Command::Run(options) => demo::run(&paths, options).await,
        Command::Figures { rounds } => figures::measure(&paths, rounds).await,
        Command::VmmBench { rounds } => bench::run_bench(&paths, rounds).await.map(drop),
        Command::GuestImage { boot } => {
            let images = guest_image::ensure(&paths).await?;
            println!("guest image: {}", images.disk().display());
            if boot { guest_image::try_boot(&paths, &images).await } else { Ok(()) }
        }
    }
}
