//! A machine's screen for VNC viewers on this computer: each connection to a loopback port is one to the machine.

use crate::output::line;
use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use lq_api::{VmId, client::Client, vm::Vm};
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes sent at once.
const CHUNK: usize = 16 << 10;

pub(super) async fn run(client: &Client, vm: &Vm, port: u16) -> anyhow::Result<()> {
    // Once before anybody connects: what is wrong is told here, not by a viewer that is cut off.
    drop(client.display(vm.meta.id).await?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let address = listener.local_addr()?;
    line(&format!("The screen of {} is at {address}. Ctrl-C ends it.\n", vm.meta.name))?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (viewer, _) = accepted?;
                let (client, id) = (client.clone(), vm.meta.id);
                tokio::spawn(async move {
                    if let Err(error) = carry(client, id, viewer).await {
                        eprintln!("lqctl: a viewer was cut off: {error:#}");
                    }
                });
            }
            pressed = tokio::signal::ctrl_c() => return Ok(pressed?),
        }
    }
}

async fn carry(client: Client, id: VmId, viewer: TcpStream) -> anyhow::Result<()> {
    // Keys and pictures are small and wanted at once.
    viewer.set_nodelay(true)?;
    let (mut to_guest, mut from_guest) = client.display(id).await?.split();
    let (mut from_viewer, mut to_viewer) = viewer.into_split();
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = from_viewer.read(&mut buffer) => match read? {
                0 => return Ok(()),
                n => to_guest.send(buffer.get(..n).unwrap_or_default().to_vec().into()).await?,
            },
            bytes = from_guest.next() => match bytes {
                Some(bytes) => to_viewer.write_all(&bytes?).await?,
                None => return Ok(()),
            },
        }
    }
}
