//! The audit log: one line of JSON per change asked for, appended and synced before the answer goes out.
//!
//! ```text
//!  <state>/audit/<n>.jsonl          what was done, or may have been: [`DONE_FILES`] files are kept
//!  <state>/audit/refused/<n>.jsonl  what was refused: [`REFUSED_FILES`] files, and only as many records of one source as
//!                                   [`super::budget`] allows
//! ```
//! `n` grows; a file that has reached [`FILE`] is closed and the next begun, so the log never takes more than the product.
//! Invariant: refusals, which anybody can cause at will, never displace what was done. A line torn by a power cut is cut off
//! at the next start, and nothing else is ever changed. Each host keeps what it answered.

use super::budget::{Budget, Spend};
use lq_api::{
    AuditId, Timestamp,
    audit::{AuditOutcome, AuditQuery, AuditRecord},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Bytes after which a file is closed.
const FILE: u64 = 4 << 20;
/// Files kept of what was done.
const DONE_FILES: usize = 12;
/// Files kept of what was refused.
const REFUSED_FILES: usize = 4;

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {path} cannot be opened")]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    done: Arc<Log>,
    refused: Arc<Log>,
    budget: Arc<Mutex<Budget>>,
}

/// Files that are written one after the other.
struct Log {
    inner: Mutex<Inner>,
    dir: PathBuf,
    limit: u64,
    files: usize,
}

struct Inner {
    number: u64,
    file: File,
    length: u64,
}

/// Whether nothing was changed for certain.
fn is_refusal(record: &AuditRecord) -> bool {
    // 500: a fault of ours may have come after something was done.
    record.outcome != AuditOutcome::Done && record.status != 500
}

impl Audit {
    /// Opens the log in `dir`, made where it is missing.
    pub fn open(dir: &Path) -> Result<Self, AuditError> {
        Self::with(dir, FILE, Budget::default())
    }

    fn with(dir: &Path, limit: u64, budget: Budget) -> Result<Self, AuditError> {
        let log = |dir: PathBuf, files| {
            let opened = Log::open(&dir, limit, files);
            opened.map(Arc::new).map_err(|source| AuditError { path: dir, source })
        };
        Ok(Self {
            done: log(dir.to_owned(), DONE_FILES)?,
            refused: log(dir.join("refused"), REFUSED_FILES)?,
            budget: Arc::new(Mutex::new(budget)),
        })
    }

    /// Appends; returns when it is on the disk. Of many refusals of one source the first are noted, the others counted, and
    /// told in one record after a while.
    pub async fn note(&self, record: AuditRecord) {
        if !is_refusal(&record) {
            return append(&self.done, record).await;
        }
        let source = Budget::source(&record.from);
        let spent = self.budget().spend(&source, &record, Instant::now());
        match spent {
            Spend::Note => append(&self.refused, record).await,
            Spend::Counted => {}
            Spend::First(rest) => {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(rest).await;
                    this.sum_up(&source).await;
                });
            }
        }
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how many more there were.
    async fn sum_up(&self, source: &str) {
        let Some((more, last)) = self.budget().take(source) else { return };
        let why = last.detail.as_deref().unwrap_or("-");
        let detail =
            format!("and {more} more from there were refused and not noted one by one; the last: {why}");
        let record = AuditRecord { id: AuditId::new(), at: Timestamp::now(), detail: Some(detail), ..last };
        append(&self.refused, record).await;
    }

    /// At most `limit` wanted records, newest first, and whether there are more.
    pub fn list(&self, query: &AuditQuery, limit: usize) -> io::Result<(Vec<AuditRecord>, bool)> {
        let mut found = Vec::new();
        self.done.find(query, limit, &mut found)?;
        self.refused.find(query, limit, &mut found)?;
        found.sort_by_key(|r| std::cmp::Reverse(r.id));
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }
}

async fn append(log: &Arc<Log>, record: AuditRecord) {
    let log = log.clone();
    let noted = tokio::task::spawn_blocking(move || log.append(&record)).await;
    if let Ok(Err(e)) = noted {
        tracing::error!(error = %e, "a record of the audit log was lost");
    }
}

impl Log {
    fn open(dir: &Path, limit: u64, files: usize) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let number = numbers(dir)?.last().copied().unwrap_or(1);
        let inner = Mutex::new(Inner::open(dir, number)?);
        Ok(Self { inner, dir: dir.to_owned(), limit, files })
    }

    fn append(&self, record: &AuditRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.length > 0 && inner.length + line.len() as u64 > self.limit {
            *inner = Inner::open(&self.dir, inner.number + 1)?;
            File::open(&self.dir)?.sync_all()?;
            let numbers = numbers(&self.dir)?;
            for old in numbers.iter().rev().skip(self.files) {
                fs::remove_file(path(&self.dir, *old))?;
            }
        }
        let written = inner.file.write_all(&line).and_then(|()| inner.file.sync_data());
        match written {
            Ok(()) => inner.length += line.len() as u64,
            // No half line may stand before the next record.
            Err(_) => inner.file.set_len(inner.length)?,
        }
        written
    }

    /// Adds more than `limit` wanted records, the newest of them, or all there are.
    fn find(&self, query: &AuditQuery, limit: usize, found: &mut Vec<AuditRecord>) -> io::Result<()> {
        let before = found.len();
        for number in numbers(&self.dir)?.into_iter().rev() {
            let file = match File::open(path(&self.dir, number)) {
                Ok(file) => file,
                // The oldest went away meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for line in io::BufReader::new(file).lines() {
                // A record another release wrote differently, or one just being written, is passed over.
                let Ok(record) = serde_json::from_str::<AuditRecord>(&line?) else { continue };
                if wants(query, &record) {
                    found.push(record);
                }
            }
            if found.len() - before > limit {
                break;
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Opens a file for appending; what a power cut left half written at its end is cut off.
    fn open(dir: &Path, number: u64) -> io::Result<Self> {
        let path = path(dir, number);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let content = fs::read(&path)?;
        let whole = content.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < content.len() {
            tracing::warn!(file = %path.display(), "the last record was half written; it was cut off");
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        Ok(Self { number, file, length: whole as u64 })
    }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

/// Numbers of the files, oldest first.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|n| n.strip_suffix(".jsonl")).and_then(|n| n.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn wants(query: &AuditQuery, record: &AuditRecord) -> bool {
    let before = |cursor: AuditId| record.id < cursor;
    query.cursor.is_none_or(before)
        && query.user.is_none_or(|u| record.user == Some(u))
        && query.actor.as_ref().is_none_or(|a| record.actor.contains(a.as_str()))
        && query.action.as_ref().is_none_or(|a| record.action.starts_with(a.as_str()))
        && query.target.as_ref().is_none_or(|t| {
            record.target == *t || record.target.split_once('/').is_some_and(|(kind, _)| kind == t)
        })
        && query.outcome.is_none_or(|o| o == record.outcome)
        && query.since.is_none_or(|t| record.at >= t)
        && query.until.is_none_or(|t| record.at < t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::HostId;
    use std::time::Duration;

    fn record(n: usize) -> AuditRecord {
        AuditRecord {
            id: AuditId::new(),
            at: Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
            host: HostId::new(),
            actor: if n.is_multiple_of(2) { "admin".into() } else { "eve".into() },
            user: None,
            from: "192.0.2.1".into(),
            action: if n.is_multiple_of(3) { "vm.start".into() } else { "image.delete".into() },
            target: format!("vm/{n}"),
            target_name: None,
            outcome: if n.is_multiple_of(5) { AuditOutcome::Refused } else { AuditOutcome::Done },
            status: 200,
            detail: None,
            request_id: String::new(),
        }
    }

    impl Audit {
        /// As [`Audit::note`], without a budget.
        fn write(&self, n: usize) {
            let record = record(n);
            let log = if is_refusal(&record) { &self.refused } else { &self.done };
            log.append(&record).unwrap();
        }
    }

    #[tokio::test]
    async fn refusals_displace_no_changes_and_are_summed_up() {
        let dir = tempfile::tempdir().unwrap();
        let window = Duration::from_millis(300);
        let audit = Audit::with(dir.path(), 2000, Budget::new(10, window)).unwrap();
        audit.note(record(1)).await;
        for n in 0..400 {
            audit.note(AuditRecord { from: format!("2001:db8::{n:x}"), ..record(5) }).await;
        }
        audit.note(AuditRecord { from: "192.0.2.9".into(), ..record(10) }).await;
        let refused = AuditQuery { outcome: Some(AuditOutcome::Refused), ..AuditQuery::default() };
        let end = Instant::now() + Duration::from_secs(30);
        let told = loop {
            let found = audit.list(&refused, 1000).unwrap().0;
            let told: Vec<_> = found.into_iter().filter(|r| r.detail.is_some()).collect();
            if !told.is_empty() {
                break told;
            }
            assert!(Instant::now() < end, "the others were never told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let detail = told[0].detail.as_deref().unwrap();
        assert!(detail.starts_with("and ") && detail.contains(" more from there"), "{detail}");
        // Far more refusals than there is room for: the change is still there.
        for n in 0..500 {
            audit.write(5 * n + 5);
        }
        let done = AuditQuery { outcome: Some(AuditOutcome::Done), ..AuditQuery::default() };
        assert_eq!(seconds(&audit.list(&done, 10).unwrap().0).last(), Some(&1));
        assert!(numbers(&dir.path().join("refused")).unwrap().len() <= REFUSED_FILES);
        assert!(numbers(dir.path()).unwrap().len() <= DONE_FILES);
    }

    fn seconds(found: &[AuditRecord]) -> Vec<i64> {
        found.iter().map(|r| r.at.as_second()).collect()
    }

    #[test]
    fn pages_filters_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::with(dir.path(), 2000, Budget::default()).unwrap();
        for n in 0..30 {
            audit.write(n);
        }
        assert!(numbers(dir.path()).unwrap().len() > 2);
        let all = AuditQuery::default();
        let (first, more) = audit.list(&all, 8).unwrap();
        assert_eq!((seconds(&first), more), ((22..30).rev().collect(), true));
        let next = AuditQuery { cursor: Some(first[7].id), ..all.clone() };
        assert_eq!(seconds(&audit.list(&next, 3).unwrap().0), [21, 20, 19]);
        assert_eq!(audit.list(&all, 100).unwrap().0.len(), 30);
        let query = AuditQuery { actor: Some("eve".into()), action: Some("vm.".into()), ..all.clone() };
        assert_eq!(seconds(&audit.list(&query, 100).unwrap().0), [27, 21, 15, 9, 3]);
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let query =
            AuditQuery { since: at(10), until: at(16), outcome: Some(AuditOutcome::Refused), ..all.clone() };
        assert_eq!(seconds(&audit.list(&query, 100).unwrap().0), [15, 10]);
        let query = AuditQuery { target: Some("vm/7".into()), ..all.clone() };
        assert_eq!(seconds(&audit.list(&query, 100).unwrap().0), [7]);
        let query = AuditQuery { target: Some("vm".into()), ..all };
        assert_eq!(audit.list(&query, 100).unwrap().0.len(), 30);
    }

    #[test]
    fn it_is_bounded_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::with(dir.path(), 300, Budget::default()).unwrap();
        for n in 0..51 {
            audit.write(n);
        }
        let files = numbers(dir.path()).unwrap();
        assert_eq!(files.len(), DONE_FILES);
        assert_eq!(numbers(&dir.path().join("refused")).unwrap().len(), REFUSED_FILES);
        drop(audit);
        let last = path(dir.path(), *files.last().unwrap());
        OpenOptions::new().append(true).open(&last).unwrap().write_all(b"{\"id\":\"01").unwrap();
        let audit = Audit::with(dir.path(), 300, Budget::default()).unwrap();
        audit.write(51);
        let (found, _) = audit.list(&AuditQuery::default(), 3).unwrap();
        assert_eq!(seconds(&found), [51, 50, 49]);
    }
}
