//! The disk of a simulated host, under its log: what was not synced may be lost with the power, in whole or in part; it can be
//! slow, and can fail.
//!
//! Only the log's file (`raft.redb`) is on it. Snapshots and keys are written whole or not at all by `durable`, and stand on a
//! real file system meanwhile.

use super::{runtime, world};
use redb::StorageBackend;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

/// What of the bytes that were not synced is left after a crash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// What was written first.
    Half,
    /// Everything: only the daemon died.
    All,
}

#[derive(Debug, Default)]
struct Inner {
    /// What a reader sees.
    live: Vec<u8>,
    /// What outlives a power cut.
    synced: Vec<u8>,
    /// Written since the last sync: offset and length.
    dirty: Vec<(usize, usize)>,
    /// Grows with each crash: who opened the file before it reaches it no more.
    life: u64,
    fails: bool,
    /// Says that it synced, and does so only every so many times.
    lies: u32,
    lied: u32,
}

impl Inner {
    fn copy(&mut self, upto: usize) {
        self.synced.resize(self.live.len(), 0);
        for (offset, length) in self.dirty.drain(..).take(upto) {
            let end = (offset + length).min(self.live.len());
            if offset < end {
                self.synced[offset..end].copy_from_slice(&self.live[offset..end]);
            }
        }
    }
}

/// A disk. It outlives the crashes of its host.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<Inner>);

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Its host loses power, or its daemon dies.
    pub(super) fn crash(&self, left: Left) {
        let mut inner = self.inner();
        match left {
            Left::Nothing => inner.copy(0),
            Left::Half => {
                let half = inner.dirty.len() / 2;
                inner.copy(half);
            }
            Left::All => inner.copy(usize::MAX),
        }
        inner.live = inner.synced.clone();
        inner.life += 1;
        inner.fails = false;
        inner.lied = 0;
    }

    /// From now on no sync succeeds, until the host starts again.
    pub(super) fn fail(&self) {
        self.inner().fails = true;
    }

    pub(super) fn fails(&self) -> bool {
        self.inner().fails
    }

    /// A bug put in on purpose: of so many syncs only the last one is one.
    pub(super) fn lie(&self, times: u32) {
        self.inner().lies = times;
    }

    pub(super) fn open(self: &Arc<Self>) -> File {
        File { disk: self.clone(), life: self.inner().life }
    }
}

/// The file of the log, as it was opened in one life of its host.
#[derive(Debug)]
pub(in crate::cluster) struct File {
    disk: Arc<Disk>,
    life: u64,
}

impl File {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.life == self.life { Ok(inner) } else { Err(io::Error::other("its host has crashed")) }
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "outside of the file")
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner()?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        out.copy_from_slice(inner.live.get(from..from + out.len()).ok_or_else(outside)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut inner = self.inner()?;
        inner.live.resize(len, 0);
        // A size that changes is not what a crash is tried on.
        inner.synced.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        if inner.fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if inner.lied < inner.lies {
            inner.lied += 1;
            return Ok(());
        }
        inner.lied = 0;
        inner.copy(usize::MAX);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner()?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        inner.live.get_mut(from..from + data.len()).ok_or_else(outside)?.copy_from_slice(data);
        inner.dirty.push((from, data.len()));
        Ok(())
    }
}

/// The disk of the host whose task this is, opened.
pub(in crate::cluster) fn here() -> Option<File> {
    runtime::here().map(|host| host.disk.open())
}

/// Does work that waits for the disk: in simulated time, before and after.
pub(in crate::cluster) async fn work<T>(work: impl FnOnce() -> T) -> T {
    let wait = || world().zip(runtime::here()).map(|(world, host)| world.disk_time(host.number));
    if let Some(time) = wait() {
        tokio::time::sleep(time).await;
    }
    let done = work();
    if let Some(time) = wait() {
        tokio::time::sleep(time).await;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_lost_with_the_power() {
        let disk = Arc::new(Disk::default());
        let file = disk.open();
        file.set_len(8).unwrap();
        file.write(0, b"ab").unwrap();
        file.sync_data().unwrap();
        file.write(0, b"AB").unwrap();
        file.write(4, b"CD").unwrap();
        let read = |file: &File| {
            let mut all = [0; 8];
            file.read(0, &mut all).map(|()| all)
        };
        assert_eq!(&read(&file).unwrap(), b"AB\0\0CD\0\0");
        disk.crash(Left::Half);
        assert!(read(&file).is_err() && file.write(0, b"x").is_err(), "an old life reaches nothing");
        let file = disk.open();
        assert_eq!(&read(&file).unwrap(), b"AB\0\0\0\0\0\0");
        file.write(0, b"xy").unwrap();
        disk.crash(Left::Nothing);
        assert_eq!(&read(&disk.open()).unwrap(), b"AB\0\0\0\0\0\0");
        disk.open().write(0, b"xy").unwrap();
        disk.crash(Left::All);
        assert_eq!(&read(&disk.open()).unwrap(), b"xy\0\0\0\0\0\0");
        disk.fail();
        assert!(disk.open().sync_data().is_err());
    }
}
