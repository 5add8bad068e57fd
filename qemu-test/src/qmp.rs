//! QEMU's control socket (QMP): one request at a time, events passed over.

use crate::scale;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A connection to a running QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connecting to QEMU's control socket")?;
        let (read, write) = stream.into_split();
        let mut qmp = Self { read: BufReader::new(read), write };
        let greeting = qmp.line().await?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    async fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.read.read_line(&mut line).await.context("reading from QEMU's control socket")? == 0 {
            bail!("QEMU closed its control socket");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU said `{}`", line.trim_end()))
    }

    /// Executes a command and returns its answer.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let talk = async {
            self.write.write_all(format!("{request}\n").as_bytes()).await.context("writing to QEMU")?;
            loop {
                let mut answer = self.line().await?;
                if let Some(error) = answer.get("error") {
                    bail!("QEMU refused {command}: {error}");
                }
                if let Some(value) = answer.get_mut("return") {
                    return Ok(value.take());
                }
            }
        };
        tokio::time::timeout(scale::seconds(30), talk)
            .await
            .with_context(|| format!("QEMU did not answer {command}"))?
    }
}
