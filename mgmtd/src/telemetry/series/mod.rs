//! Values over time of this host and its machines, for charts: an hour of every 5 seconds, a day of every minute, a year of every
//! hour ([`block`]). What is measured is `reconcile::measure`'s.
//!
//! Owns `series/` in the state directory, a sled database: it may lose its last minute at a power cut, and nothing depends on it,
//! so a damaged one is moved aside and a new one begun. Its size is bounded: under 1 MB per machine, whose values go with it.
//!
//! ```text
//! every 5 s: record ──► pending (memory) ── minute is over ──► FINE block, mean ──► MINUTES block ── hour is over ──► HOURS block
//! ```

mod block;

use block::{Block, FINE, HOURS, MINUTES, Resolution, means};
use lq_api::{
    HostId, Timestamp, VmId,
    history::{MetricHistory, MetricValues, Span, Unit},
};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

const CACHE_BYTES: u64 = 4 << 20;

/// Whose values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A host.
    Host(HostId),
    /// A machine.
    Vm(VmId),
}

/// A metric's name and unit.
pub type Metric = (&'static str, Unit);

/// Of hosts. Stored by place: new ones are added at the end.
pub const HOST_METRICS: &[Metric] = &[
    ("cpu", Unit::Share),
    ("memory.used", Unit::Bytes),
    ("net.received", Unit::BytesPerSecond),
    ("net.sent", Unit::BytesPerSecond),
    ("disk.read", Unit::BytesPerSecond),
    ("disk.written", Unit::BytesPerSecond),
    ("pool.used", Unit::Bytes),
];

/// Of machines. Stored by place: new ones are added at the end.
pub const VM_METRICS: &[Metric] = &[
    ("cpu", Unit::Processors),
    ("memory.used", Unit::Bytes),
    ("disk.read", Unit::BytesPerSecond),
    ("disk.written", Unit::BytesPerSecond),
    ("disk.reads", Unit::PerSecond),
    ("disk.writes", Unit::PerSecond),
    ("net.received", Unit::BytesPerSecond),
    ("net.sent", Unit::BytesPerSecond),
    ("net.packets-received", Unit::PerSecond),
    ("net.packets-sent", Unit::PerSecond),
    ("exits", Unit::PerSecond),
    ("errors", Unit::PerSecond),
];

impl Subject {
    /// What is measured of it, in the order it is stored in.
    #[must_use]
    pub const fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Host(_) => HOST_METRICS,
            Self::Vm(_) => VM_METRICS,
        }
    }

    fn prefix(self) -> [u8; 17] {
        let (kind, id) = match self {
            Self::Host(id) => (b'h', id.0),
            Self::Vm(id) => (b'v', id.0),
        };
        let mut key = [kind; 17];
        key[1..].copy_from_slice(id.as_bytes());
        key
    }

    fn key(self, ring: Resolution, number: u64) -> Vec<u8> {
        let slot = ring.slot(number).to_be_bytes();
        [&self.prefix()[..], &[ring.tag], &slot].concat()
    }
}

/// The values cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("the metric history {path}: {source}")]
pub struct SeriesError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The minute that is not over yet: its block, by subject.
type Pending = HashMap<Subject, Block>;

/// Values over time.
pub struct Series {
    db: sled::Db,
    path: PathBuf,
    pending: Mutex<Pending>,
}

impl Series {
    /// Opens them in `dir`.
    pub fn open(dir: &Path) -> Result<Self, SeriesError> {
        let path = dir.join("series");
        let failed = |source| SeriesError { path: path.clone(), source };
        let open = || {
            let config = sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            // It panics on some damage.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open().map_err(into_io)))
                .unwrap_or_else(|_| Err(io::Error::other("damaged")))
        };
        let db = match open() {
            Ok(db) => db,
            Err(e) if path.exists() => {
                let aside = dir.join("series.damaged");
                tracing::warn!(error = %e, moved_to = %aside.display(), "the metric history is damaged; beginning a new one");
                // Of an earlier damage; there is room for one.
                let cleared = if aside.is_dir() {
                    std::fs::remove_dir_all(&aside)
                } else {
                    std::fs::remove_file(&aside).or_else(|e| match e.kind() {
                        io::ErrorKind::NotFound => Ok(()),
                        _ => Err(e),
                    })
                };
                cleared.map_err(failed)?;
                std::fs::rename(&path, &aside).map_err(failed)?;
                open().map_err(failed)?
            }
            Err(e) => return Err(failed(e)),
        };
        Ok(Self { db, path, pending: Mutex::default() })
    }

    /// Takes the values of a time, one per metric of the subject, NaN where there is none. In memory, until the minute is over.
    pub fn record(&self, subject: Subject, at: Timestamp, row: &[f32]) -> Result<(), SeriesError> {
        let (number, index) = FINE.place(seconds(at));
        let mut pending = self.pending();
        let empty = || Block::empty(FINE, number, subject.metrics().len());
        let block = pending.entry(subject).or_insert_with(empty);
        if block.number != number {
            let over = std::mem::replace(block, empty());
            block.set(index, row);
            drop(pending);
            return self.store(subject, &over);
        }
        block.set(index, row);
        Ok(())
    }

    /// Stores what is in memory, and asks the disk to have it. Blocks.
    pub fn flush(&self) -> Result<(), SeriesError> {
        let pending: Vec<_> = self.pending().iter().map(|(s, b)| (*s, b.clone())).collect();
        for (subject, block) in pending {
            self.store(subject, &block)?;
        }
        self.db.flush().map(drop).map_err(|e| self.failed(e))
    }

    /// Drops all values of a subject.
    pub fn forget(&self, subject: Subject) -> Result<(), SeriesError> {
        self.pending().remove(&subject);
        for key in self.db.scan_prefix(subject.prefix()).keys() {
            let removed = key.and_then(|key| self.db.remove(key));
            removed.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// The machines it has values of.
    pub fn machines(&self) -> Result<Vec<VmId>, SeriesError> {
        let mut found: Vec<VmId> = Vec::new();
        let mut next = vec![b'v'];
        // One step per machine: from each found key on to the first behind its prefix.
        while let Some(entry) = self.db.range(next.clone()..).next() {
            let (key, _) = entry.map_err(|e| self.failed(e))?;
            let Some(id) =
                key.get(1..17).and_then(|id| uuid::Uuid::from_slice(id).ok()).filter(|_| key[0] == b'v')
            else {
                break;
            };
            found.push(VmId(id));
            next = [&key[..17], &[0xff]].concat();
        }
        let pending = self.pending();
        let more = pending.keys().filter_map(|s| if let Subject::Vm(id) = s { Some(*id) } else { None });
        found.extend(more.collect::<Vec<_>>());
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Values of the span that ends at `now`, of the metrics `wanted` says yes to.
    pub fn read(
        &self,
        subject: Subject,
        span: Span,
        now: Timestamp,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<MetricHistory, SeriesError> {
        let (ring, length) = match span {
            Span::Hour => (FINE, 3600),
            Span::Day => (MINUTES, 86_400),
            Span::Week => (HOURS, 7 * 86_400),
            Span::Month => (HOURS, 30 * 86_400),
            Span::Year => (HOURS, 365 * 86_400),
        };
        let all = subject.metrics();
        let now = seconds(now);
        let end = now / ring.step + 1;
        let begin = end.saturating_sub(length / ring.step);
        let chosen: Vec<usize> = (0..all.len()).filter(|n| wanted(all[*n].0)).collect();
        let mut values = vec![Vec::new(); chosen.len()];
        let mut block: Option<Block> = None;
        for step in begin..end {
            let (number, index) = ring.place(step * ring.step);
            let block = match &mut block {
                Some(block) if block.number == number => block,
                other => other.insert(self.block(subject, ring, number)?),
            };
            let row = block.row(index);
            for (values, n) in values.iter_mut().zip(&chosen) {
                values.push(row.get(*n).copied().filter(|v| v.is_finite()));
            }
        }
        let from = i64::try_from(begin * ring.step).ok().and_then(|s| Timestamp::from_second(s).ok());
        let metrics = chosen.iter().zip(values).map(|(n, values)| {
            let (name, unit) = all[*n];
            MetricValues { name: name.to_owned(), unit, values }
        });
        Ok(MetricHistory {
            from: from.unwrap_or(Timestamp::UNIX_EPOCH),
            step_seconds: u32::try_from(ring.step).unwrap_or(u32::MAX),
            metrics: metrics.collect(),
        })
    }

    /// Mean of each metric over the span that ends at `now`, NaN where nothing was measured. Of the coarser values, which are few;
    /// where there are none yet, of the last minute.
    pub fn mean(&self, subject: Subject, span: Span, now: Timestamp) -> Result<Vec<f32>, SeriesError> {
        let (ring, length) = match span {
            Span::Hour => (MINUTES, 3600),
            Span::Day => (HOURS, 86_400),
            Span::Week => (HOURS, 7 * 86_400),
            Span::Month => (HOURS, 30 * 86_400),
            Span::Year => (HOURS, 365 * 86_400),
        };
        let metrics = subject.metrics().len();
        let end = seconds(now) / ring.step + 1;
        let begin = end.saturating_sub(length / ring.step);
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for number in begin / ring.per_block..=(end - 1) / ring.per_block {
            let Some(stored) = self.db.get(subject.key(ring, number)).map_err(|e| self.failed(e))? else {
                continue;
            };
            let Some(block) = Block::decode(&stored, ring, number, metrics) else { continue };
            let first = number * ring.per_block;
            let inside = (0..ring.per_block).filter(|n| (begin..end).contains(&(first + n)));
            rows.extend(inside.filter_map(|n| Some(block.row(usize::try_from(n).ok()?).to_vec())));
        }
        if !rows.iter().flatten().any(|value| value.is_finite()) {
            let (number, _) = FINE.place(seconds(now));
            for number in number.saturating_sub(1)..=number {
                rows.push(self.block(subject, FINE, number)?.means());
            }
        }
        Ok(means(rows.iter().map(Vec::as_slice), metrics))
    }

    /// A block with what is stored of it and what is still in memory.
    fn block(&self, subject: Subject, ring: Resolution, number: u64) -> Result<Block, SeriesError> {
        let metrics = subject.metrics().len();
        let stored = self.db.get(subject.key(ring, number)).map_err(|e| self.failed(e))?;
        let stored = stored.and_then(|bytes| Block::decode(&bytes, ring, number, metrics));
        let mut block = stored.unwrap_or_else(|| Block::empty(ring, number, metrics));
        if ring == FINE
            && let Some(pending) = self.pending().get(&subject).filter(|p| p.number == number)
        {
            merge(&mut block, pending);
        }
        Ok(block)
    }

    /// Stores a minute of fine values, and its means in the coarser rings.
    fn store(&self, subject: Subject, fine: &Block) -> Result<(), SeriesError> {
        let mut whole = self.block(subject, FINE, fine.number)?;
        merge(&mut whole, fine);
        let at = fine.number * FINE.step * FINE.per_block;
        let minutes = self.coarser(subject, MINUTES, at, &whole.means())?;
        let hour = means((0..60).map(|n| minutes.row(n)), subject.metrics().len());
        let hours = self.coarser(subject, HOURS, at, &hour)?;
        let put = |ring, block: &Block| self.db.insert(subject.key(ring, block.number), block.encode());
        let done = put(FINE, &whole).and_then(|_| put(MINUTES, &minutes)).and_then(|_| put(HOURS, &hours));
        done.map(drop).map_err(|e| self.failed(e))
    }

    fn coarser(
        &self,
        subject: Subject,
        ring: Resolution,
        at: u64,
        row: &[f32],
    ) -> Result<Block, SeriesError> {
        let (number, index) = ring.place(at);
        let mut block = self.block(subject, ring, number)?;
        block.set(index, row);
        Ok(block)
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: sled::Error) -> SeriesError {
        SeriesError { path: self.path.clone(), source: into_io(error) }
    }
}

/// What was measured in `new` replaces what is in `block`.
fn merge(block: &mut Block, new: &Block) {
    for index in 0..usize::try_from(FINE.per_block).unwrap_or(0) {
        if new.row(index).iter().any(|v| v.is_finite()) {
            block.set(index, new.row(index));
        }
    }
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

fn into_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(e) => e,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: i64 = 1_900_000_800; // A whole hour.

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGIN + second).unwrap()
    }

    fn row(value: f32) -> Vec<f32> {
        vec![value; HOST_METRICS.len()]
    }

    fn cpu(series: &Series, subject: Subject, span: Span, now: i64) -> Vec<Option<f32>> {
        let mut found = series.read(subject, span, at(now), |name| name == "cpu").unwrap();
        assert_eq!(found.metrics.len(), 1);
        found.metrics.remove(0).values
    }

    #[test]
    fn from_seconds_to_a_year() {
        let dir = tempfile::tempdir().unwrap();
        let host = Subject::Host(HostId::new());
        let series = Series::open(dir.path()).unwrap();
        for second in (0..7200).step_by(5) {
            // 1 in the first hour, 3 in the second, and one minute of 9.
            let value = if second < 3600 {
                1.0
            } else if second < 3660 {
                9.0
            } else {
                3.0
            };
            series.record(host, at(second), &row(value)).unwrap();
        }
        let hour = cpu(&series, host, Span::Hour, 7199);
        assert_eq!(hour.len(), 720);
        assert_eq!((hour[0], hour[719]), (Some(9.0), Some(3.0)), "the minute in memory is there too");
        series.flush().unwrap();
        let day = cpu(&series, host, Span::Day, 7199);
        assert_eq!(day.len(), 1440);
        assert_eq!(day[1440 - 121..1440 - 119], [None, Some(1.0)]);
        assert_eq!(day[1440 - 60], Some(9.0));
        let year = cpu(&series, host, Span::Year, 7199);
        assert_eq!(year.len(), 365 * 24);
        assert_eq!(year[year.len() - 3..], [None, Some(1.0), Some(3.1)]);

        // It lasts, and a minute in two halves is one.
        drop(series);
        let series = Series::open(dir.path()).unwrap();
        assert_eq!(cpu(&series, host, Span::Hour, 7199), hour);
        series.record(host, at(7200), &row(1.0)).unwrap();
        series.flush().unwrap();
        drop(series);
        let series = Series::open(dir.path()).unwrap();
        series.record(host, at(7255), &row(2.0)).unwrap();
        series.flush().unwrap();
        assert_eq!(cpu(&series, host, Span::Day, 7259).last(), Some(&Some(1.5)));

        let mean = |span, now| series.mean(host, span, at(now)).unwrap()[0];
        // The minute of the 9 is an hour and more ago.
        let hour = mean(Span::Hour, 7259);
        assert!((hour - (59.0 * 3.0 + 1.5) / 60.0).abs() < 0.01, "{hour}");
        let year = mean(Span::Year, 7259);
        assert!((year - (1.0 + 3.1 + 1.5) / 3.0).abs() < 0.01, "{year}");
        assert!(mean(Span::Hour, 400 * 86_400).is_nan());

        // What is a whole turn old is not shown as new.
        let later = 7200 + 3600 * 2;
        assert!(cpu(&series, host, Span::Hour, later).iter().all(Option::is_none));
    }

    #[test]
    fn subjects_are_apart_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let series = Series::open(dir.path()).unwrap();
        let machines: Vec<_> = (0..5).map(|_| VmId::new()).collect();
        for (n, vm) in machines.iter().enumerate() {
            let values = vec![n as f32; VM_METRICS.len()];
            series.record(Subject::Vm(*vm), at(0), &values).unwrap();
        }
        series.flush().unwrap();
        series.record(Subject::Host(HostId::new()), at(0), &row(0.5)).unwrap();
        let mut all = machines.clone();
        all.sort_unstable();
        assert_eq!(series.machines().unwrap(), all);
        assert_eq!(cpu(&series, Subject::Vm(machines[3]), Span::Hour, 4).last(), Some(&Some(3.0)));
        series.forget(Subject::Vm(machines[3])).unwrap();
        assert!(cpu(&series, Subject::Vm(machines[3]), Span::Hour, 4).iter().all(Option::is_none));
        assert_eq!(series.machines().unwrap().len(), 4);
    }

    #[test]
    fn a_damaged_one_is_no_obstacle() {
        let works = |dir: &Path| {
            let series = Series::open(dir).unwrap();
            series.record(Subject::Vm(VmId::new()), at(0), &[1.0; 12]).unwrap();
            series.flush().unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("series")).unwrap();
        std::fs::write(dir.path().join("series/conf"), b"nonsense").unwrap();
        std::fs::write(dir.path().join("series/db"), vec![0xa5; 8192]).unwrap();
        works(dir.path());
        // What sled cannot make good is moved aside, over the one before.
        for content in ["first", "second"] {
            std::fs::remove_dir_all(dir.path().join("series")).unwrap();
            std::fs::write(dir.path().join("series"), content).unwrap();
            works(dir.path());
            assert_eq!(std::fs::read_to_string(dir.path().join("series.damaged")).unwrap(), content);
        }
    }
}
