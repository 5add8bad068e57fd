//! The mark in a shared directory: whose pool it is.
//!
//! The file `limiquantix-pool.json` at its top names cluster and pool. It appears whole or not at all (by a hard link, which
//! only one of many can make), so two hosts, or two clusters, that take the same directory at the same time agree on one owner.
//! Invariant: nothing else is made in a directory before its mark names this pool, and a directory that holds anything but
//! what file servers put there themselves is never marked.

use super::super::Error;
use lq_api::PoolId;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};
use uuid::Uuid;

/// Name of the file.
pub const NAME: &str = "limiquantix-pool.json";
/// The form of a pool's directory; grows when an older release must not touch it.
const FORMAT: u32 = 1;
/// Longest file that is read.
const MAX: u64 = 64 << 10;
/// Beginning of the names of marks that are being made.
const HALF_MADE: &str = ".limiquantix-pool-";
/// What servers keep at the top of an export that is empty otherwise.
const OF_SERVERS: [&str; 6] = ["lost+found", ".snapshot", ".snapshots", ".zfs", "@eaDir", "#recycle"];

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    format: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// Its pool.
    pub pool: PoolId,
}

impl Mark {
    /// Of this pool.
    #[must_use]
    pub fn new(cluster: Uuid, pool: PoolId) -> Self {
        Self { format: FORMAT, cluster, pool }
    }

    /// Checks that the directory is this pool's. One that is nobody's becomes it, unless the pool was seen before: then this is
    /// another directory.
    ///
    /// # Errors
    /// [`Error::Unfit`]: it is someone else's, or must not be taken. Others: it cannot be read or written.
    pub fn ensure(&self, dir: &Path, seen_before: bool) -> Result<(), Error> {
        if let Some(found) = read(dir)? {
            return self.compare(&found);
        }
        if seen_before {
            return Err(Error::Unfit(format!(
                "the export has no file `{NAME}`, so it is not the directory this pool was in: is the server's disk mounted \
                 there?"
            )));
        }
        if let Some(name) = foreign(dir)? {
            return Err(Error::Unfit(format!(
                "the export holds `{name}`, which is not of a pool: give an empty directory, so that nothing of others is \
                 touched"
            )));
        }
        self.claim(dir)?;
        match read(dir)? {
            Some(found) => self.compare(&found),
            None => Err(Error::Unfit(format!("the file `{NAME}` is gone as soon as it is made"))),
        }
    }

    /// Checks that the directory still is this pool's.
    ///
    /// # Errors
    /// As of [`Self::ensure`].
    pub fn check(&self, dir: &Path) -> Result<(), Error> {
        self.ensure(dir, true)
    }

    /// Takes the mark away, where it is this pool's: the directory is free for another.
    ///
    /// # Errors
    /// It cannot be read or removed.
    pub fn release(&self, dir: &Path) -> Result<(), Error> {
        match read(dir)? {
            Some(found) if self.compare(&found).is_ok() => {
                let path = dir.join(NAME);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        Err(Error::Io { context: format!("removing {}", path.display()), source: e })
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn compare(&self, found: &Self) -> Result<(), Error> {
        let why = if found.format > FORMAT {
            format!(
                "the export is of a newer release (form {} of a pool, {FORMAT} is known): update",
                found.format
            )
        } else if found.cluster != self.cluster {
            format!(
                "the export is the pool {} of another cluster ({}): give each cluster a directory of its own",
                found.pool, found.cluster
            )
        } else if found.pool != self.pool {
            format!(
                "the export is the pool {} of this cluster already; where that was deleted, remove the file `{NAME}` in it",
                found.pool
            )
        } else {
            return Ok(());
        };
        Err(Error::Unfit(why))
    }

    fn claim(&self, dir: &Path) -> Result<(), Error> {
        let half = dir.join(format!("{HALF_MADE}{}", Uuid::new_v4().simple()));
        let failed = |what: &str, source| denied(source, &format!("{what} the file `{NAME}` in the export"));
        let text = serde_json::to_vec(self).map_err(|e| failed("writing", e.into()))?;
        let made = File::options().write(true).create_new(true).mode(0o600).open(&half);
        let mut file = made.map_err(|e| failed("making", e))?;
        let done = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| {
            match fs::hard_link(&half, dir.join(NAME)) {
                // Another was first; whose it is now is read.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            }
        });
        let removed = fs::remove_file(&half);
        done.map_err(|e| failed("making", e))?;
        removed.map_err(|e| failed("making", e))
    }
}

/// An error of the server; that it refuses is told with what to change.
pub(super) fn denied(source: std::io::Error, context: &str) -> Error {
    if source.kind() == ErrorKind::PermissionDenied {
        return Error::Unfit(format!(
            "{context}: the server does not allow it. The export must be writable, and must not take root's rights away: \
             `rw,no_root_squash`, or `all_squash,anonuid=…,anongid=…` with the owner of the directory"
        ));
    }
    if source.kind() == ErrorKind::ReadOnlyFilesystem {
        return Error::Unfit(format!("{context}: the server exports it read-only. Export it with `rw`"));
    }
    Error::Io { context: context.to_owned(), source }
}

fn read(dir: &Path) -> Result<Option<Mark>, Error> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(denied(e, &format!("opening {}", path.display()))),
    };
    let mut text = Vec::new();
    file.take(MAX)
        .read_to_end(&mut text)
        .map_err(|source| Error::Io { context: format!("reading {}", path.display()), source })?;
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::Unfit(format!(
            "the file `{NAME}` in the export is not one of ours ({e}): give an empty directory"
        ))
    })
}

/// Something in the directory that is not ours and not a server's.
fn foreign(dir: &Path) -> Result<Option<String>, Error> {
    let failed = |source| denied(source, "listing the export");
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !OF_SERVERS.contains(&name.as_ref())
            && !name.starts_with(HALF_MADE)
            && !is_empty_of_ours(dir, &name)
        {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// Directories of a pool that was deleted.
fn is_empty_of_ours(dir: &Path, name: &str) -> bool {
    let empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let path = dir.join(name);
    match name {
        "images" | "volumes" | "firmware" => empty(&path),
        // One directory per host.
        "tmp" => fs::read_dir(&path).is_ok_and(|mut hosts| hosts.all(|h| h.is_ok_and(|h| empty(&h.path())))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark::new(Uuid::new_v4(), PoolId::new())
    }

    fn refusal(result: Result<(), Error>) -> String {
        match result {
            Err(Error::Unfit(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_directory_becomes_ours_once() {
        let dir = tempfile::tempdir().unwrap();
        let mine = mark();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(refusal(mine.check(dir.path())).contains("is the server's disk mounted"));
        mine.ensure(dir.path(), false).unwrap();
        mine.ensure(dir.path(), false).unwrap();
        mine.check(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing half made stays");
        assert!(refusal(mark().ensure(dir.path(), false)).contains("another cluster"));
        let sister = Mark::new(mine.cluster, PoolId::new());
        assert!(refusal(sister.ensure(dir.path(), false)).contains("of this cluster already"));
        sister.release(dir.path()).unwrap();
        mine.check(dir.path()).unwrap();
        mine.release(dir.path()).unwrap();
        mine.release(dir.path()).unwrap();
        sister.ensure(dir.path(), false).unwrap();
    }

    #[test]
    fn nothing_of_others_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("images")).unwrap();
        fs::create_dir_all(dir.path().join("tmp/host")).unwrap();
        fs::write(dir.path().join("images/x"), "").unwrap();
        assert!(refusal(mark().ensure(dir.path(), false)).contains("`images`"));
        fs::remove_file(dir.path().join("images/x")).unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert!(refusal(mark().ensure(dir.path(), false)).contains("`notes.txt`"));
        fs::remove_file(dir.path().join("notes.txt")).unwrap();
        fs::write(dir.path().join(NAME), "{}").unwrap();
        assert!(refusal(mark().ensure(dir.path(), false)).contains("not one of ours"));
        let newer = Mark { format: 2, ..mark() };
        fs::write(dir.path().join(NAME), serde_json::to_vec(&newer).unwrap()).unwrap();
        assert!(refusal(newer.ensure(dir.path(), false)).contains("newer release"));
    }

    #[test]
    fn of_many_who_take_it_at_once_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let won: usize = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| mark().ensure(dir.path(), false).is_ok())).collect();
            takers.into_iter().map(|t| usize::from(t.join().unwrap())).sum()
        });
        assert_eq!(won, 1);
    }
}
