//! One network segment for several machines, with a way out: a switch of ours joins a plug for each machine with a QEMU process
//! without a machine, which has QEMU's user network.
//!
//! ```text
//!  machine 0 ──plug──┐
//!  machine 1 ──plug──┼── switch ── 10.0.2.2 (gateway; ports here that stand for 10.0.2.11:443, 10.0.2.12:443 …)
//!  machine 2 ──plug──┘
//! ```
//! It outlives the machines: one whose power is cut takes nobody's network away, and finds its plug again when it is back. Cables
//! can be pulled and cut in one direction; what goes to and from here then fails for that machine as well where its cable is pulled.

use crate::{
    fault,
    process::{command, log_file},
    qemu::{Plug, free_port},
    switch::Switch,
};
use anyhow::{Context as _, Result, bail};
use std::{path::Path, time::Duration};
use tokio::{net::TcpStream, process::Child};

/// A segment, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Segment {
    _way_out: Child,
    switch: Switch,
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    /// Where the machine is plugged in.
    plug: u16,
    /// What stands for its API.
    api: u16,
    /// What stands for the port of its fault agent.
    fault: u16,
    /// What stands for its API at its other address.
    moved: u16,
}

/// Address of a machine on the segment.
pub(crate) fn address(machine: usize) -> String {
    format!("10.0.2.{}", machine + 11)
}

/// Another one, under which it is reached as well.
pub(crate) fn moved_address(machine: usize) -> String {
    format!("10.0.2.{}", machine + 21)
}

impl Segment {
    /// A segment for this many machines; what its process says is in `dir`.
    pub(crate) async fn open(dir: &Path, machines: usize) -> Result<Self> {
        let switch = Switch::open(machines + 1).await?;
        let (uplink, plugs) = switch.ports.split_last().context("a switch without ports")?;
        let sockets = plugs.iter().map(|plug| {
            let (api, fault, moved) = (free_port()?, free_port()?, free_port()?);
            Ok(Socket { plug: *plug, api, fault, moved })
        });
        let sockets = sockets.collect::<Result<Vec<_>>>()?;
        let mut qemu = command("qemu-system-x86_64");
        qemu.args(["-M", "none", "-nodefaults", "-no-user-config", "-display", "none"]);
        let rules = sockets.iter().enumerate();
        let rules = rules.map(|(n, s)| {
            let ports = [
                (s.api, address(n), 443),
                (s.fault, address(n), fault::PORT),
                (s.moved, moved_address(n), 443),
            ];
            ports.map(|(here, there, port)| format!(",hostfwd=tcp:127.0.0.1:{here}-{there}:{port}")).concat()
        });
        qemu.args(["-netdev", &format!("socket,id=uplink,connect=127.0.0.1:{uplink}")]);
        qemu.args(["-netdev", "hubport,id=hub-in,hubid=0,netdev=uplink"]);
        qemu.args(["-netdev", &format!("user,id=out{}", rules.collect::<String>())]);
        qemu.args(["-netdev", "hubport,id=hub-out,hubid=0,netdev=out"]);
        let log = dir.join("segment.log");
        let mut way_out =
            qemu.stdout(log_file(&log)?).stderr(log_file(&log)?).spawn().context("starting the segment")?;
        for socket in &sockets {
            while TcpStream::connect(("127.0.0.1", socket.api)).await.is_err() {
                if let Some(status) = way_out.try_wait()? {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    bail!("the segment ended at once ({status}): {}", said.trim_end());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self { _way_out: way_out, switch, sockets })
    }

    /// The plug of a machine, and the ports here that stand for its own.
    pub(crate) fn plug(&self, machine: usize) -> Result<(Plug, Vec<(u16, u16)>)> {
        let socket = self.sockets.get(machine).context("the segment has no plug for this machine")?;
        let number = u8::try_from(machine).context("too many machines")?;
        let forwarded = vec![(443, socket.api), (fault::PORT, socket.fault)];
        Ok((Plug { port: socket.plug, number }, forwarded))
    }

    /// The port here that stands for the API of a machine at its other address.
    pub(crate) fn moved(&self, machine: usize) -> Result<u16> {
        self.sockets
            .get(machine)
            .map(|socket| socket.moved)
            .context("the segment has no plug for this machine")
    }

    /// Pulls the cable of a machine: nothing comes from it, nothing reaches it.
    pub(crate) fn pull(&self, machine: usize) {
        self.switch.pull(machine);
    }

    /// Cuts the cable between two machines in one direction: what the one says, the other does not hear.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.switch.cut(from, to);
    }

    /// All cables are as they were.
    pub(crate) fn mend(&self) {
        self.switch.mend();
    }
}
