//! The serial console on this terminal: every key goes to the guest, Ctrl-] leaves.
//!
//! Without a terminal, standard input goes to the guest and the console to standard output until the host closes it.

use crate::{
    output::{line, plain},
    terminal::Mode,
};
use anyhow::Context as _;
use futures::{SinkExt, StreamExt};
use lq_api::{
    client::Client,
    vm::{Vm, VmState, VmStatus},
};
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
    if let Some(why) = silent(&vm.meta.name, &vm.status) {
        eprintln!("{why}");
    }
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

/// Why nothing will come for now, if so.
fn silent(name: &str, status: &VmStatus) -> Option<String> {
    match status.state {
        VmState::Stopped => Some(format!("{name} is stopped: its console is silent until it is started.")),
        VmState::Failed => Some(format!(
            "{name} has failed ({}): its console is silent until it is started.",
            status.reason.as_deref().unwrap_or("it is not known why")
        )),
        VmState::Paused => Some(format!("{name} is paused: its console is silent until it is resumed.")),
        _ => None,
    }
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
                        eprintln!("\r\nlqctl: the host closed the console: {}\r", plain(reason));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_says_nothing_is_told_to_do_so() {
        let told = |state, reason: Option<&str>| {
            silent("web", &VmStatus { state, reason: reason.map(str::to_owned), ..VmStatus::default() })
        };
        let stopped = "web is stopped: its console is silent until it is started.";
        assert_eq!(told(VmState::Stopped, None).as_deref(), Some(stopped));
        assert!(told(VmState::Failed, Some("no memory")).unwrap().contains("(no memory)"));
        assert_eq!(told(VmState::Running, None), None);
    }
}
