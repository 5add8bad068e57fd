//! `lq-e2e`: boots the real LimiQuantix image in QEMU and tests the product, runs it for people, and measures it.
//!
//! Map: [`qemu`] runs machines and [`transcript`] reads their consoles; [`guest_image`] makes guests.

mod accel;
mod guest_image;
mod paths;
mod process;
mod qemu;
mod qmp;
mod scale;
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
        Command::GuestImage { boot } => {
            let images = guest_image::ensure(&paths).await?;
            println!("guest image: {}", images.disk().display());
            if boot { guest_image::try_boot(&paths, &images).await } else { Ok(()) }
        }
    }
}
