//! The serial console on this terminal: every key goes to the guest, Ctrl-] leaves.
//!
//! Without a terminal, standard input goes to the guest and the console to standard output until the host closes it.

use crate::{output::line, terminal::Mode};
use anyhow::Context as _;
use futures::{SinkExt, StreamExt};
use lq_api::{client::Client, vm::Vm};
use std::io::{IsTerminal, stdin};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Ctrl-].
const LEAVE: u8 = 0x1d;

pub(super) async fn run(client: &Client, vm: &Vm) -> anyhow::Result<()> {
    let console = client.console(vm.meta.id).await?;
    let interactive = stdin().is_terminal();
    let raw = if interactive {
        eprintln!("Console of {}. Ctrl-] leaves it.", vm.meta.name);
        Some(Mode::raw().context("cannot switch the terminal to raw mode")?)
    } else {
        None
    };
    let result = carry(console, interactive).await;
    drop(raw);
    if interactive {
        line("\n")?;
    }
    result
}

async fn carry(console: lq_api::client::Console, interactive: bool) -> anyhow::Result<()> {
    let (mut to_guest, mut from_guest) = console.split();
    let mut keys = keys();
    let mut open = true;
    let mut out = tokio::io::stdout();
    let mut ended = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = ended.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            read = keys.recv(), if open => match read {
                Some(mut typed) => {
                    let leave = typed.iter().position(|k| *k == LEAVE).filter(|_| interactive);
                    if let Some(at) = leave {
                        typed.truncate(at);
                    }
                    if !typed.is_empty() {
                        to_guest.send(typed.into()).await?;
                    }
                    if leave.is_some() {
                        return Ok(());
                    }
                }
                None => open = false,
            },
            bytes = from_guest.next() => match bytes {
                Some(bytes) => {
                    out.write_all(&bytes?).await?;
                    out.flush().await?;
                }
                None => {
                    // Both halves together again know the host's last words.
                    let console = to_guest.reunite(from_guest).ok();
                    if let Some(reason) = console.as_ref().and_then(|c| c.farewell()) {
                        eprintln!("\r\nlqctl: the host closed the console: {reason}\r");
                    }
                    return Ok(());
                }
            },
        }
    }
}

/// What is typed. Read by a task of its own, so that a key is not lost when something else happens first.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = stdin.read(&mut buffer).await {
            let typed = buffer.iter().take(n).copied().collect();
            if send.send(typed).await.is_err() {
                break;
            }
        }
    });
    receive
}
