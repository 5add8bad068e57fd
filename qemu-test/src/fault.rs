//! Client of `lq-fault`, the agent in hosts made for tests (`src/bin/lq-fault/main.rs` says what it does).

use crate::scale;
use anyhow::{Context as _, Result, bail};
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Port of the agent in the host.
pub(crate) const PORT: u16 = 7;

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Fault {
    stream: BufReader<TcpStream>,
}

/// A process of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Its parent.
    pub(crate) parent: u32,
    /// Its name, as the kernel keeps it: at most 15 bytes.
    pub(crate) name: String,
    /// Resident memory, KiB.
    pub(crate) rss_kib: u64,
    /// Its share of memory, KiB: what is shared is divided by those who share it. 0 for a kernel thread.
    pub(crate) pss_kib: u64,
    /// Processor time used, in clock ticks of 10 ms.
    pub(crate) ticks: u64,
}

impl Fault {
    /// Connects.
    pub(crate) async fn connect(port: u16) -> Result<Self> {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("connecting to the fault agent")?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and returns its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<String> {
        let talk = async {
            self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).await?;
            let mut head = String::new();
            if self.stream.read_line(&mut head).await? == 0 {
                bail!("the fault agent closed the connection: is this a host from the test ISO?");
            }
            let (word, length) = head.trim_end().split_once(' ').context("the fault agent's answer")?;
            let mut text = vec![0; length.parse().context("the length of the fault agent's answer")?];
            self.stream.read_exact(&mut text).await?;
            let text = String::from_utf8_lossy(&text).into_owned();
            if word == "ok" { Ok(text) } else { bail!("{text}") }
        };
        tokio::time::timeout(scale::seconds(60), talk)
            .await
            .with_context(|| format!("the fault agent did not answer `{request}`"))?
            .with_context(|| format!("asking the fault agent for `{request}`"))
    }

    /// Every process of the host.
    pub(crate) async fn processes(&mut self) -> Result<Vec<Process>> {
        self.ask("ps").await?.lines().map(parse).collect()
    }

    /// The one process with this name.
    pub(crate) async fn process(&mut self, name: &str) -> Result<Process> {
        let mut found: Vec<Process> =
            self.processes().await?.into_iter().filter(|p| p.name == name).collect();
        match (found.pop(), found.len()) {
            (Some(process), 0) => Ok(process),
            (None, _) => bail!("no process is called {name}"),
            (_, more) => bail!("{} processes are called {name}", more + 1),
        }
    }

    /// Kills a process so that it cannot notice.
    pub(crate) async fn kill(&mut self, pid: u32) -> Result<()> {
        self.ask(&format!("kill 9 {pid}")).await.map(drop)
    }

    /// A line of a file like `/proc/meminfo`: the number behind `key`.
    pub(crate) async fn number(&mut self, file: &str, key: &str) -> Result<u64> {
        let text = self.ask(&format!("cat {file}")).await?;
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("{file} has no {key}"))
    }
}

fn parse(line: &str) -> Result<Process> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [pid, parent, name, rss, pss, user, system] = words.as_slice() else {
        bail!("the fault agent's line `{line}`");
    };
    Ok(Process {
        pid: pid.parse()?,
        parent: parent.parse()?,
        name: (*name).to_owned(),
        rss_kib: rss.parse()?,
        pss_kib: pss.parse()?,
        ticks: user.parse::<u64>()? + system.parse::<u64>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let process = parse("412 1 mgmtd 30000 28000 12 30").unwrap();
        assert_eq!((process.pid, process.parent, process.name.as_str()), (412, 1, "mgmtd"));
        assert_eq!((process.rss_kib, process.pss_kib, process.ticks), (30_000, 28_000, 42));
        assert!(parse("412 mgmtd").is_err());
    }
}
