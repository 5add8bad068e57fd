//! `lq-e2e`: boots the real LimiQuantix image in QEMU and tests the product, runs it for people, and measures it.
//!
//! Map: [`qemu`] runs machines and [`transcript`] reads their consoles; [`guest_image`] makes guests and [`media`] the disks
//! and ISOs of hosts; a [`host::Host`] is a machine with the client of its API, a [`site::Site`] one with guests' images on
//! it; [`runner`] runs the [`tests`].

mod accel;
mod disk_image;
mod fault;
mod guest_console;
mod guest_image;
mod host;
mod media;
mod outside;
mod paths;
mod process;
mod qemu;
mod qmp;
mod runner;
mod scale;
mod site;
mod tests;
mod transcript;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

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
        /// Names of tests, or `all`; `list` names them.
        names: Vec<String>,
        /// Groups of tests at once; each runs one machine.
        #[arg(short, long, default_value_t = 2)]
        jobs: usize,
        /// A failed test is not repeated.
        #[arg(long)]
        no_retry: bool,
    },
    /// Makes the guests' images (cached).
    GuestImage {
        /// Also boots them directly in QEMU, to their login prompt and first tick.
        #[arg(long)]
        boot: bool,
    },
}

fn main() -> Result<()> {
    // One thread: see `process`.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            result = dispatch(Arguments::parse().command) => result,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("\ninterrupted: ending every machine");
                Ok(())
            }
        }
    })
}

async fn dispatch(command: Command) -> Result<()> {
    let paths = paths::Paths::find()?;
    match command {
        Command::Test { names, .. } if names.iter().any(|n| n == "list") => {
            for test in tests::all() {
                println!("{:17} {}", test.name, test.about);
            }
            Ok(())
        }
        Command::Test { names, jobs, no_retry } => {
            runner::run(&paths, &runner::Plan { names, jobs, retry: !no_retry }).await
        }
        Command::GuestImage { boot } => {
            let images = guest_image::ensure(&paths).await?;
            println!("guest image: {}", images.disk().display());
            if boot { guest_image::try_boot(&paths, &images).await } else { Ok(()) }
        }
    }
}
