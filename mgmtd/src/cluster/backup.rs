//! Backups of the agreed state: `backups/<time>-<reason>.lqb`.
//!
//! ```text
//!  SHA-256 of the next line ⏎  header (JSON: what, format, of whom, and length and SHA-256 of each section) ⏎  sections
//! ```
//! Sections: `state`, as in a snapshot; `identity`, who this host is, with its key. Both are secrets: hashes of passwords, keys
//! of sessions and of the cluster's authority. Written whole or not at all; of each reason the newest [`kept`] stay.
//! Invariants: no byte of a file can change unnoticed; what cannot be read is named and left alone.

use super::{
    Cluster, Identity, State,
    nightly::RELEASE,
    snapshot::read_bounded,
    state::{Position, UpgradeError, read_state},
};
use lq_api::{
    HostId, Timestamp,
    recovery::{BackupContent, BackupReason, StateBackup},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use uuid::Uuid;

pub(super) use lq_api::recovery::BackupReason as Reason;

const WHAT: &str = "limiquantix-backup";
/// Version of the form of the file.
const FORMAT: u32 = 1;
const EXTENSION: &str = "lqb";
/// Longest header.
const MAX_HEADER: usize = 64 << 10;
/// Largest file.
pub const MAX_BACKUP: usize = 256 << 20;

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is not a backup of a cluster's state: its first line is not that of one")]
    Foreign,
    /// A newer release made it.
    #[error(
        "it has format {found}, this release reads up to {FORMAT}: restore it with the release that made it ({release})"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// Who made it.
        release: String,
    },
    /// Part of it is damaged.
    #[error("its section `{section}` is damaged: {reason}")]
    Damaged {
        /// Which part.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// The state in it cannot be read.
    #[error("its section `state` cannot be used")]
    State(#[from] UpgradeError),
    /// There is no such backup.
    #[error("there is no backup `{0}` on this host")]
    NotFound(String),
    /// Nothing to keep yet.
    #[error("this host does not know the state of its cluster yet")]
    Nothing,
    /// The file system failed us.
    #[error("the backup {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

fn damaged(section: &str, reason: impl Into<String>) -> BackupError {
    BackupError::Damaged { section: section.into(), reason: reason.into() }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Section {
    name: String,
    length: u64,
    sha256: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    what: String,
    format: u32,
    release: String,
    at: Timestamp,
    reason: BackupReason,
    cluster: Uuid,
    epoch: u64,
    host: HostId,
    host_name: String,
    position: Option<Position>,
    sections: Vec<Section>,
}

impl Header {
    fn content(&self) -> BackupContent {
        BackupContent {
            release: self.release.clone(),
            cluster: self.cluster,
            epoch: self.epoch,
            host: self.host,
            host_name: self.host_name.clone(),
            revision: self.position.map_or(0, |p| p.index),
        }
    }
}

/// Who a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    pub(super) identity: Identity,
    /// Its key, PEM.
    pub(super) key: String,
}

/// A backup, taken apart and found whole.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    pub(super) content: BackupContent,
    pub(super) position: Option<Position>,
    pub(super) state: State,
    pub(super) who: Who,
}

/// What is put into a backup.
pub(super) struct Of<'a> {
    pub(super) at: Timestamp,
    pub(super) reason: BackupReason,
    pub(super) state: &'a State,
    pub(super) position: Option<Position>,
    pub(super) who: &'a Who,
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The bytes of a backup.
pub(super) fn encode(of: &Of<'_>) -> io::Result<Vec<u8>> {
    let bodies = [("state", serde_json::to_vec(of.state)?), ("identity", serde_json::to_vec(of.who)?)];
    let section = |(name, body): &(&str, Vec<u8>)| Section {
        name: (*name).into(),
        length: body.len() as u64,
        sha256: sum(body),
    };
    let Identity { host, cluster, epoch, .. } = of.who.identity;
    let header = Header {
        what: WHAT.into(),
        format: FORMAT,
        release: RELEASE.into(),
        at: of.at,
        reason: of.reason,
        cluster,
        epoch,
        host,
        host_name: of.state.host_name(host),
        position: of.position,
        sections: bodies.iter().map(section).collect(),
    };
    let header = serde_json::to_vec(&header)?;
    let mut file = sum(&header).into_bytes();
    file.push(b'\n');
    file.extend(header);
    file.push(b'\n');
    for (_, body) in bodies {
        file.extend(body);
    }
    Ok(file)
}

/// Splits a line off.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(MAX_HEADER).position(|b| *b == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The header, and what follows it.
fn head(bytes: &[u8]) -> Result<(Header, &[u8]), BackupError> {
    let (claimed, rest) = line(bytes).ok_or(BackupError::Foreign)?;
    let is_sum = claimed.len() == 64 && claimed.iter().all(u8::is_ascii_hexdigit);
    let (header, rest) = line(rest).filter(|_| is_sum).ok_or(BackupError::Foreign)?;
    if sum(header).as_bytes() != claimed {
        return Err(damaged("header", "it does not match its checksum"));
    }
    /// What every format has.
    #[derive(Deserialize)]
    struct Least {
        what: String,
        format: u32,
        release: String,
    }
    let least: Least = serde_json::from_slice(header).map_err(|_| BackupError::Foreign)?;
    if least.what != WHAT {
        return Err(BackupError::Foreign);
    }
    if least.format > FORMAT {
        return Err(BackupError::Newer { found: least.format, release: least.release });
    }
    let header = serde_json::from_slice(header).map_err(|e| damaged("header", e.to_string()))?;
    Ok((header, rest))
}

/// Takes a backup apart; nothing of it is believed that is not whole.
pub(super) fn decode(bytes: &[u8]) -> Result<Backup, BackupError> {
    let (header, mut rest) = head(bytes)?;
    let (mut state, mut who) = (None, None);
    for section in &header.sections {
        let name = section.name.as_str();
        let body = usize::try_from(section.length).ok().and_then(|n| rest.split_at_checked(n));
        let (body, after) = body.ok_or_else(|| damaged(name, "the file ends in it"))?;
        rest = after;
        if sum(body) != section.sha256 {
            return Err(damaged(name, "it does not match its checksum"));
        }
        match name {
            "state" => state = Some(read_state(body)?),
            "identity" => {
                let read: Who = serde_json::from_slice(body).map_err(|e| damaged(name, e.to_string()))?;
                who = Some(read);
            }
            // A later release may keep more; what it needs to be understood is in its format.
            _ => {}
        }
    }
    if !rest.is_empty() {
        return Err(damaged("end", "something follows the last section"));
    }
    let state = state.ok_or_else(|| damaged("state", "it is missing"))?;
    if state.cluster.as_ref().map(|c| c.id) != Some(header.cluster) {
        return Err(damaged("state", "it is of another cluster than the header says"));
    }
    Ok(Backup {
        content: header.content(),
        position: header.position,
        state,
        who: who.ok_or_else(|| damaged("identity", "it is missing"))?,
    })
}

/// How many of a reason are kept.
const fn kept(reason: BackupReason) -> usize {
    match reason {
        BackupReason::Nightly => 7,
        BackupReason::Manual => 10,
        _ => 5,
    }
}

fn dir(state: &Path) -> PathBuf {
    state.join("backups")
}

/// The reason in a name; `None` where it is not one of ours. Nothing else is ever taken for a path.
fn reason_of(id: &str) -> Option<BackupReason> {
    let (time, word) = id.split_once('-')?;
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let (day, rest) = time.split_once('T')?;
    let fits = digits(day, 8) && digits(rest.strip_suffix('Z')?, 9);
    BackupReason::ALL.into_iter().find(|r| fits && r.word() == word)
}

fn id_of(at: Timestamp, reason: BackupReason) -> String {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    // Milliseconds: two may be asked for within a second.
    format!("{}{:03}Z-{}", at.strftime("%Y%m%dT%H%M%S"), at.millisecond(), reason.word())
}

/// Names of the backups in `dir`, newest first.
fn names(dir: &Path) -> io::Result<Vec<(String, BackupReason)>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == EXTENSION)
            && let Some(id) = path.file_stem().and_then(|s| s.to_str())
            && let Some(reason) = reason_of(id)
        {
            found.push((id.to_owned(), reason));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(found)
}

fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.{EXTENSION}"))
}

pub(super) fn failed(path: &Path, source: io::Error) -> BackupError {
    BackupError::Io { path: path.to_owned(), source }
}

/// Writes a backup and removes the oldest of its reason; answers with its name.
fn save(dir: &Path, of: &Of<'_>) -> Result<String, BackupError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(dir, e))?;
    let id = id_of(of.at, of.reason);
    let file = path(dir, &id);
    let bytes = encode(of).map_err(|e| failed(&file, e))?;
    crate::durable::write(&file, 0o600, &bytes).map_err(|e| failed(&file, e))?;
    let same = names(dir).map_err(|e| failed(dir, e))?.into_iter().filter(|(_, r)| *r == of.reason);
    for (old, _) in same.skip(kept(of.reason)) {
        let old = path(dir, &old);
        crate::durable::remove(&old).map_err(|e| failed(&old, e))?;
    }
    Ok(id)
}

fn describe(dir: &Path, id: String, reason: BackupReason) -> Result<StateBackup, BackupError> {
    let file = path(dir, &id);
    let mut start = Vec::new();
    let open = fs::File::open(&file).map_err(|e| failed(&file, e))?;
    let size = open.metadata().map_err(|e| failed(&file, e))?.len();
    open.take(2 * MAX_HEADER as u64).read_to_end(&mut start).map_err(|e| failed(&file, e))?;
    let (header, fault) = match head(&start) {
        Ok((header, _)) => (Some(header), None),
        Err(e) => (None, Some(crate::causes::chain(&e))),
    };
    let written = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S", id.get(..15).unwrap_or_default());
    let named = written.and_then(|t| t.to_datetime()).ok();
    let named = named.and_then(|t| t.to_zoned(jiff::tz::TimeZone::UTC).ok()).map(|z| z.timestamp());
    Ok(StateBackup {
        created_at: header.as_ref().map(|h| h.at).or(named).unwrap_or(Timestamp::UNIX_EPOCH),
        id,
        reason,
        size_bytes: size,
        content: header.map(|h| h.content()),
        damaged: fault,
    })
}

impl Cluster {
    /// Keeps the state as it is here now; answers with the backup's name.
    pub async fn backup(&self, reason: BackupReason) -> Result<String, BackupError> {
        let done = self.make_backup(reason).await;
        match &done {
            Ok(_) => self.backups.made(Timestamp::now()),
            // There is nothing to be lost yet.
            Err(BackupError::Nothing) => {}
            Err(e) => self.backups.failed(Timestamp::now(), crate::causes::chain(e)),
        }
        done
    }

    async fn make_backup(&self, reason: BackupReason) -> Result<String, BackupError> {
        let (state, position) = self.shared.read_with_position(|s, position| (s.clone(), position));
        if state.cluster.is_none() {
            return Err(BackupError::Nothing);
        }
        let (identity, dir) = (self.identity, self.dir.clone());
        let done = tokio::task::spawn_blocking(move || {
            let key = dir.join("host.key");
            let key = fs::read_to_string(&key).map_err(|e| failed(&key, e))?;
            let who = Who { identity, key };
            let of = Of { at: Timestamp::now(), reason, state: &state, position, who: &who };
            save(&self::dir(&dir), &of)
        });
        let id = done.await.map_err(|e| failed(&self.dir, io::Error::other(e)))??;
        tracing::info!(backup = id, "the state was backed up");
        Ok(id)
    }

    /// The backups on this host, newest first.
    pub async fn backups(&self) -> Result<Vec<StateBackup>, BackupError> {
        let dir = dir(&self.dir);
        let work = move || {
            let names = names(&dir).map_err(|e| failed(&dir, e))?;
            names.into_iter().map(|(id, reason)| describe(&dir, id, reason)).collect()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| failed(&self.dir, io::Error::other(e)))?
    }

    /// The bytes of a backup on this host.
    pub async fn read_backup(&self, id: &str) -> Result<Vec<u8>, BackupError> {
        reason_of(id).ok_or_else(|| BackupError::NotFound(id.to_owned()))?;
        let (file, id) = (path(&dir(&self.dir), id), id.to_owned());
        let work = move || match read_bounded(&file, MAX_BACKUP) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BackupError::NotFound(id)),
            done => done.map_err(|e| failed(&file, e)),
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| failed(&self.dir, io::Error::other(e)))?
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::{Command, Op};
    use lq_api::{NetworkId, PoolId};
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    pub(in crate::cluster) fn who(host: HostId, cluster: Uuid) -> Who {
        let identity = Identity { format: 1, host, cluster, joined: false, epoch: 1 };
        Who { identity, key: "a key".into() }
    }

    pub(in crate::cluster) fn state(host: HostId, cluster: Uuid) -> State {
        let mut state = State::new();
        let op = Op::Initialise {
            cluster,
            host,
            host_name: "h1".into(),
            pool: PoolId::new(),
            network: NetworkId::new(),
            dhcp: None,
        };
        state.apply(1, &Command { at: Timestamp::UNIX_EPOCH, op }, &mut Vec::new()).unwrap();
        state
    }

    fn example() -> (Vec<u8>, State, Who) {
        let (host, cluster) = (HostId::new(), Uuid::now_v7());
        let (state, who) = (state(host, cluster), who(host, cluster));
        let position = Some(Position { term: 1, leader: host, index: 1 });
        let of = Of { at: Timestamp::now(), reason: Reason::Manual, state: &state, position, who: &who };
        (encode(&of).unwrap(), state, who)
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let (bytes, state, who) = example();
        let backup = decode(&bytes).unwrap();
        assert_eq!((&backup.state, &backup.who), (&state, &who));
        assert_eq!(backup.content.host_name, "h1");
        assert_eq!(backup.content.revision, 1);
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_noticed() {
        let (bytes, ..) = example();
        for n in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[n] ^= 0x04;
            assert!(decode(&bad).is_err(), "byte {n}");
            assert!(decode(&bytes[..n]).is_err(), "cut at {n}");
        }
        let mut longer = bytes.clone();
        longer.push(b'x');
        assert!(decode(&longer).err().unwrap().to_string().contains("end"));
    }

    #[test]
    fn what_is_refused_is_called_by_its_name() {
        let (bytes, ..) = example();
        let refused = |bytes: &[u8]| decode(bytes).err().unwrap().to_string();
        assert!(refused(b"PK\x03\x04").contains("not a backup"));
        assert!(refused(b"").contains("not a backup"));
        let (_, rest) = line(&bytes).unwrap();
        let (header, body) = line(rest).unwrap();
        let with = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value: serde_json::Value = serde_json::from_slice(header).unwrap();
            change(&mut value);
            let header = serde_json::to_vec(&value).unwrap();
            [sum(&header).as_bytes(), b"\n", &header, b"\n", body].concat()
        };
        let newer = refused(&with(&|h| {
            h["format"] = 9.into();
            h["release"] = "7.0".into();
        }));
        assert!(newer.contains("format 9") && newer.contains("7.0"), "{newer}");
        assert!(refused(&with(&|h| h["what"] = "else".into())).contains("not a backup"));
        let without = refused(&with(&|h| h["sections"][1]["name"] = "other".into()));
        assert!(without.contains("`identity`") && without.contains("missing"), "{without}");
        let mut bad = bytes.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert!(refused(&bad).contains("section `identity`"));
        let middle = bytes.len() - body.len();
        bad = bytes;
        bad[middle] ^= 1;
        assert!(refused(&bad).contains("section `state`"));
    }

    #[test]
    fn only_so_many_are_kept_of_each_reason() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("backups");
        let (_, state, who) = example();
        let at = |n: i64| Timestamp::from_second(1_700_000_000 + n).unwrap();
        let of = |n, reason| Of { at: at(n), reason, state: &state, position: None, who: &who };
        save(&dir, &of(0, Reason::Reform)).unwrap();
        for n in 0..20 {
            save(&dir, &of(n, Reason::Nightly)).unwrap();
        }
        fs::write(dir.join("notes.lqb"), "x").unwrap();
        let left = names(&dir).unwrap();
        assert_eq!(left.len(), 1 + kept(Reason::Nightly));
        assert_eq!(left[0].0, id_of(at(19), Reason::Nightly));
        let newest = describe(&dir, left[0].0.clone(), left[0].1).unwrap();
        assert_eq!((newest.created_at, newest.damaged), (at(19), None));
        assert!(newest.content.is_some());
        let file = path(&dir, &left[0].0);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A damaged one is still listed, with its name's time.
        fs::write(&file, "rubbish").unwrap();
        let bad = describe(&dir, left[0].0.clone(), left[0].1).unwrap();
        assert_eq!(bad.created_at, at(19));
        assert!(bad.damaged.unwrap().contains("not a backup") && bad.content.is_none());
    }

    #[test]
    fn names_are_ours_or_none() {
        let id = id_of(Timestamp::now(), Reason::Upgrade);
        assert_eq!(reason_of(&id), Some(Reason::Upgrade));
        for bad in ["", "../x", "20260101T000000000Z-", "20260101T000000000Z-x", "20260101T000000000-nightly"]
        {
            assert_eq!(reason_of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_passes_nor_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
