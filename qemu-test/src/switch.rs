//! A learning Ethernet switch between QEMU's `socket` network back ends (each frame after its length, four bytes, big-endian).
//!
//! The last port is the uplink: it gets what is for everyone and what is for an address heard from it, never what one machine
//! tells another. QEMU's user network needs that: it answers whatever it sees, in the name of whoever it is for.
//!
//! Cables can be cut, in one direction too: frames from one port to another are then dropped.

use anyhow::{Context as _, Result};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::mpsc,
    task::JoinSet,
};

/// Largest frame taken: what QEMU takes.
const MAX_FRAME: usize = 69_632;
/// Frames waiting for a port; what is more is dropped, as switches do.
const QUEUE: usize = 1024;
/// Least of a frame: two addresses and a type.
const MIN_FRAME: usize = 14;

type Frame = Arc<[u8]>;
type Mac = [u8; 6];

#[derive(Debug, Default)]
struct Inner {
    ports: Vec<Option<mpsc::Sender<Frame>>>,
    /// Port of each address heard.
    heard: HashMap<Mac, usize>,
    /// From which port to which one nothing comes.
    cut: HashSet<(usize, usize)>,
}

impl Inner {
    /// The ports a frame from `from` goes to.
    fn targets(&mut self, from: usize, to: Mac, source: Mac) -> Vec<usize> {
        self.heard.insert(source, from);
        let uplink = self.ports.len().saturating_sub(1);
        let everyone = to[0] & 1 == 1;
        match self.heard.get(&to) {
            Some(port) if !everyone => vec![*port],
            _ => (0..self.ports.len()).filter(|p| everyone || *p != uplink).collect(),
        }
        .into_iter()
        .filter(|p| *p != from && !self.cut.contains(&(from, *p)))
        .collect()
    }
}

/// The switch, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Switch {
    /// Where each port listens.
    pub(crate) ports: Vec<u16>,
    inner: Arc<Mutex<Inner>>,
    _tasks: JoinSet<()>,
}

impl Switch {
    /// A switch with this many ports, each on a TCP port of its own. A port serves one connection at a time, the newest.
    pub(crate) async fn open(ports: usize) -> Result<Self> {
        let inner = Arc::new(Mutex::new(Inner { ports: vec![None; ports], ..Inner::default() }));
        let mut tasks = JoinSet::new();
        let mut numbers = Vec::new();
        for port in 0..ports {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("a port of the switch")?;
            numbers.push(listener.local_addr()?.port());
            let inner = inner.clone();
            tasks.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    plug(&inner, port, stream);
                }
            });
        }
        Ok(Self { ports: numbers, inner, _tasks: tasks })
    }

    /// From now on nothing that comes in at `from` goes out at `to`.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        lock(&self.inner).cut.insert((from, to));
    }

    /// The cable of a port is pulled out.
    pub(crate) fn pull(&self, port: usize) {
        let mut inner = lock(&self.inner);
        for other in 0..inner.ports.len() {
            inner.cut.extend([(port, other), (other, port)]);
        }
    }

    /// All cables are as they were.
    pub(crate) fn mend(&self) {
        lock(&self.inner).cut.clear();
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plug(inner: &Arc<Mutex<Inner>>, port: usize, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let (sender, mut frames) = mpsc::channel::<Frame>(QUEUE);
    if let Some(place) = lock(inner).ports.get_mut(port) {
        *place = Some(sender);
    }
    // Ends when another connection takes the port, or when this one breaks.
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let length = u32::try_from(frame.len()).unwrap_or_default().to_be_bytes();
            let sent = async {
                writer.write_all(&length).await?;
                writer.write_all(&frame).await
            };
            if sent.await.is_err() {
                return;
            }
        }
    });
    let inner = inner.clone();
    tokio::spawn(async move {
        let _ = read(&inner, port, reader).await;
    });
}

async fn read(inner: &Mutex<Inner>, port: usize, mut reader: OwnedReadHalf) -> Result<()> {
    loop {
        let length = usize::try_from(reader.read_u32().await?)?;
        anyhow::ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        reader.read_exact(&mut frame).await?;
        let (Some(to), Some(source)) = (frame.first_chunk::<6>(), frame.get(6..12)) else { continue };
        if length < MIN_FRAME {
            continue;
        }
        let (to, source) = (*to, Mac::try_from(source)?);
        let frame: Frame = frame.into();
        let mut inner = lock(inner);
        for target in inner.targets(port, to, source) {
            if let Some(Some(port)) = inner.ports.get(target) {
                let _ = port.try_send(frame.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uplink_hears_nothing_between_machines() {
        let mut switch = Inner { ports: vec![None, None, None], ..Inner::default() };
        let (a, b, out, all) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [0xff; 6]);
        assert_eq!(switch.targets(0, all, a), [1, 2]);
        assert_eq!(switch.targets(0, b, a), [1], "not heard yet: the machines alone");
        assert_eq!(switch.targets(1, a, b), [0]);
        assert_eq!(switch.targets(2, a, out), [0]);
        assert_eq!(switch.targets(0, out, a), [2]);
    }

    #[test]
    fn a_cable_is_cut_in_one_direction_or_both() {
        let mut switch = Inner { ports: vec![None, None, None], ..Inner::default() };
        let (a, b, all) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6]);
        switch.cut.insert((0, 1));
        assert_eq!(switch.targets(0, all, a), [2]);
        assert!(switch.targets(0, b, a).is_empty());
        assert_eq!(switch.targets(1, a, b), [0], "the other direction is whole");
        switch.cut.insert((1, 0));
        assert!(switch.targets(1, a, b).is_empty());
    }
}
