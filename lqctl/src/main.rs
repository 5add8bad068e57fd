//! `lqctl`: the command line client. Nouns, then verbs: `lqctl vm start web1`.
//!
//! It owns the profile file, what is shown on the terminal, and the exit codes: 0 done, 1 refused by the host or failed,
//! 2 wrong usage, 3 the host cannot be reached (or is not the one that was pinned), 4 not logged in.
//! Everything else is the client of `lq-api`.

mod cli;
mod commands;
mod failure;
mod output;
mod profile;
mod size;
mod terminal;

use clap::Parser;
use std::process::exit;

fn main() {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("lqctl: cannot start: {e}");
            exit(1);
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // Not by dropping the runtime: a thread that waits for standard input would keep it.
    exit(match result {
        Ok(()) => 0,
        Err(error) => failure::report(&error),
    });
}
