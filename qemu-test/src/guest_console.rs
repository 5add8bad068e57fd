//! A guest's serial console, reached as users reach it: by the WebSocket of the API.

use crate::{guest_image, host::explain, transcript::Transcript};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream::SplitSink};
use lq_api::{
    VmId,
    client::{Client, Console},
};
use std::{fs::File, io::Write as _, path::Path};

/// An open console.
pub(crate) struct GuestConsole {
    /// What the guest said: the scroll-back, then what came.
    pub(crate) said: Transcript,
    typed: SplitSink<Console, Bytes>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for GuestConsole {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl GuestConsole {
    /// Opens the console; everything it says is also appended to `log`.
    pub(crate) async fn open(api: &Client, vm: VmId, log: &Path) -> Result<Self> {
        let console = api.console(vm).await.map_err(explain).context("opening the guest's console")?;
        let (typed, mut said_here) = console.split();
        let said = Transcript::new(&format!("guest's console ({})", log.display()));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let sink = said.clone();
        let reader = tokio::spawn(async move {
            loop {
                match said_here.next().await {
                    Some(Ok(bytes)) => {
                        sink.push(&bytes);
                        // The log is for people; a full disk here shows elsewhere.
                        let _ = file.write_all(&bytes);
                    }
                    Some(Err(e)) => return sink.close(&format!("the console broke: {}", e.chain())),
                    None => return sink.close("the host closed the console"),
                }
            }
        });
        Ok(Self { said, typed, reader })
    }

    /// Types.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.typed.send(bytes).await.map_err(explain).context("typing on the guest's console")
    }

    /// Logs in to the Debian guest as root and makes the shell quiet, so that commands' output is all that appears.
    pub(crate) async fn log_in(&mut self) -> Result<()> {
        self.said.expect("login:", 600).await?;
        self.send("root\n").await?;
        self.said.expect("Password:", 120).await?;
        self.send(&format!("{}\n", guest_image::PASSWORD)).await?;
        self.said.expect("# ", 120).await?;
        self.send("bind 'set enable-bracketed-paste off'; PS1= PS2=; stty -echo; dmesg -n 1; echo sh''ell\n")
            .await?;
        self.said.expect("shell\n", 60).await?;
        Ok(())
    }

    /// Goes on in the shell of [`Self::log_in`] on a console that was opened anew: waits until the scroll-back is over.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.send("echo opened''-anew\n").await?;
        self.said.expect("opened-anew\n", 60).await.context("the guest's shell, on a console opened anew")?;
        Ok(())
    }

    /// Runs a command in the shell and returns what it printed; fails when the command does.
    pub(crate) async fn shell(&mut self, command: &str, seconds: u64) -> Result<String> {
        self.said.skip();
        self.send(&format!("{{ {command}\n}}; echo \"<<$?>>\"\n")).await?;
        let text =
            self.said.expect(">>", seconds).await.with_context(|| format!("in the guest: {command}"))?;
        let (output, status) = text.rsplit_once("<<").context("the shell's answer")?;
        let status = status.trim_end_matches(">>");
        if status != "0" {
            bail!("in the guest, `{command}` ended with {status}:\n{output}");
        }
        Ok(output.trim().to_owned())
    }
}
