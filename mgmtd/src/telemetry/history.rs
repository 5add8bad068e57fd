//! The history file: events and tasks of the past, bounded rings.
//!
//! Invariants: never more than the given number of entries per ring; a write costs no disk access: it is made durable
//! [`FLUSH_AFTER`] later together with its neighbours (the boot device may be a USB stick). A damaged file is moved aside
//! and a new one begun, because nothing depends on it.

use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Longest an entry may stay in memory only.
const FLUSH_AFTER: Duration = Duration::from_secs(3);
const CACHE_BYTES: usize = 1 << 20;

/// A ring of entries, ordered by id, that is by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// Events.
    Events,
    /// Tasks.
    Tasks,
}

impl Ring {
    const fn table(self) -> TableDefinition<'static, u128, &'static [u8]> {
        match self {
            Self::Events => TableDefinition::new("events"),
            Self::Tasks => TableDefinition::new("tasks"),
        }
    }
    const fn capacity(self) -> u64 {
        match self {
            Self::Events => 10_000,
            Self::Tasks => 1_000,
        }
    }
}

/// Why the history cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the history {path}: {source}")]
pub struct HistoryError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Events and tasks of the past.
pub struct History {
    db: Arc<Database>,
    dirty: Arc<Notify>,
}

impl History {
    /// Opens the file in `dir`. Must be called inside a tokio runtime.
    pub fn open(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join("history.redb");
        let failed = |source| HistoryError { path: path.clone(), source };
        let first =
            std::panic::catch_unwind(|| open(&path)).unwrap_or_else(|_| Err(io::Error::other("damaged")));
        let db = match first {
            Ok(db) => db,
            Err(e) if path.exists() => {
                let aside = dir.join("history.redb.damaged");
                tracing::warn!(error = %e, moved_to = %aside.display(), "the history is damaged; beginning a new one");
                std::fs::rename(&path, &aside).map_err(failed)?;
                open(&path).map_err(failed)?
            }
            Err(e) => return Err(failed(e)),
        };
        let this = Self { db: Arc::new(db), dirty: Arc::new(Notify::new()) };
        let (db, dirty) = (Arc::downgrade(&this.db), this.dirty.clone());
        tokio::spawn(async move {
            loop {
                dirty.notified().await;
                tokio::time::sleep(FLUSH_AFTER).await;
                let Some(db) = db.upgrade() else { return };
                let flushed = tokio::task::spawn_blocking(move || flush(&db)).await;
                if let Ok(Err(e)) = flushed {
                    tracing::warn!(error = %e, "the history could not be written");
                }
            }
        });
        Ok(this)
    }

    /// Adds or replaces an entry; the oldest one beyond the ring's capacity is dropped.
    pub(crate) fn put(&self, ring: Ring, id: Uuid, entry: &impl serde::Serialize) {
        if let Err(e) = self.try_put(ring, id, entry) {
            tracing::warn!(error = %e, ?ring, "an entry of the history was lost");
        }
        self.dirty.notify_one();
    }

    fn try_put(&self, ring: Ring, id: Uuid, entry: &impl serde::Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(entry)?;
        let mut tx = self.db.begin_write().map_err(io::Error::other)?;
        tx.set_durability(Durability::None).map_err(io::Error::other)?;
        {
            let mut table = tx.open_table(ring.table()).map_err(io::Error::other)?;
            table.insert(id.as_u128(), bytes.as_slice()).map_err(io::Error::other)?;
            while table.len().map_err(io::Error::other)? > ring.capacity() {
                table.pop_first().map_err(io::Error::other)?;
            }
        }
        tx.commit().map_err(io::Error::other)
    }

    /// Entries older than `before` (all where absent), newest first, as long as `take` is content.
    pub(crate) fn newest<T: serde::de::DeserializeOwned>(
        &self,
        ring: Ring,
        before: Option<Uuid>,
        mut take: impl FnMut(T) -> bool,
    ) -> io::Result<()> {
        let tx = self.db.begin_read().map_err(io::Error::other)?;
        let table = tx.open_table(ring.table()).map_err(io::Error::other)?;
        let end = before.map_or(u128::MAX, |id| id.as_u128());
        for item in table.range(..end).map_err(io::Error::other)?.rev() {
            let (_, value) = item.map_err(io::Error::other)?;
            // An entry an older or newer release wrote differently is passed over.
            let Ok(entry) = serde_json::from_slice(value.value()) else { continue };
            if !take(entry) {
                break;
            }
        }
        Ok(())
    }

    /// Makes everything durable now.
    pub async fn flush(&self) {
        let db = self.db.clone();
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || flush(&db)).await {
            tracing::warn!(error = %e, "the history could not be written");
        }
    }
}

fn open(path: &Path) -> io::Result<Database> {
    let db = Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(io::Error::other)?;
    let tx = db.begin_write().map_err(io::Error::other)?;
    for ring in [Ring::Events, Ring::Tasks] {
        tx.open_table(ring.table()).map_err(io::Error::other)?;
    }
    tx.commit().map_err(io::Error::other)?;
    Ok(db)
}

fn flush(db: &Database) -> io::Result<()> {
    let mut tx = db.begin_write().map_err(io::Error::other)?;
    tx.set_durability(Durability::Immediate).map_err(io::Error::other)?;
    tx.commit().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_ring_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        for n in 0..1_010u128 {
            history.put(Ring::Tasks, Uuid::from_u128(n), &n);
        }
        let mut seen = Vec::new();
        history.newest(Ring::Tasks, None, |n: u128| (seen.push(n), true).1).unwrap();
        assert_eq!((seen.len(), seen[0], seen[999]), (1_000, 1_009, 10));
        let mut older = Vec::new();
        history
            .newest(Ring::Tasks, Some(Uuid::from_u128(12)), |n: u128| (older.push(n), older.len() < 5).1)
            .unwrap();
        assert_eq!(older, [11, 10]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_file_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("history.redb"), vec![0x5a; 9000]).unwrap();
        let history = History::open(dir.path()).unwrap();
        history.put(Ring::Events, Uuid::from_u128(1), &1);
        assert!(dir.path().join("history.redb.damaged").exists());
    }
}
