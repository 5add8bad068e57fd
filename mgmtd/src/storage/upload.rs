//! Receives one image: hashes and writes as it comes, checks at the end, then makes it durable and visible.
//!
//! Invariant: until the rename in [`Upload::finish`] the bytes are only in a file under `tmp/`, which goes when the upload is
//! dropped, for whatever reason.

use super::{Declared, Error, ImageFacts, ImageWriter, content, patient::Workers, room};
use async_trait::async_trait;
use bytes::Bytes as Chunk;
use lq_api::Bytes;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Written at once.
const BLOCK: usize = Bytes::MIB as usize;
/// A piece of this length that is all zero becomes a hole.
const HOLE: usize = 64 * Bytes::KIB as usize;
/// Room is looked at again after so many bytes.
const ROOM_EVERY: u64 = 16 * Bytes::MIB;

/// A file under `tmp/` that goes unless it was renamed.
pub(super) struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    /// Makes an empty file, readable by root only.
    pub(super) fn create(dir: &Path, what: &str) -> Result<(Self, File), Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = dir.join(format!("{what}-{}.part", uuid::Uuid::now_v7()));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| room::failed(dir, 0, format!("making {}", path.display()), e))?;
        Ok((Self { path, kept: false }, file))
    }

    /// Whether a name is one of ours.
    pub(super) fn is_ours(name: &str) -> bool {
        let half_made = name.starts_with("image-") || name.starts_with("volume-");
        (half_made && name.ends_with(".part")) || name.starts_with("probe-")
    }

    /// Makes the content durable, then visible under its final name, then that durable too.
    pub(super) fn publish(mut self, file: &File, to: &Path, replace: bool) -> Result<(), Error> {
        let failed = |what: &str, e| room::failed(&self.path, 0, format!("{what} {}", to.display()), e);
        file.sync_all().map_err(|e| failed("making durable", e))?;
        if replace {
            std::fs::rename(&self.path, to).map_err(|e| failed("making visible", e))?;
        } else {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            match renameat2(AT_FDCWD, &self.path, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) => {}
                Err(nix::errno::Errno::EINVAL) => {
                    link_anew(file, &self.path, to).map_err(|e| failed("making visible", e))?;
                    // The other name goes when this is dropped.
                    return sync_dir(to);
                }
                Err(e) => return Err(failed("making visible", e.into())),
            }
        }
        self.kept = true;
        sync_dir(to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "cannot remove {}; it goes at the next start", self.path.display());
        }
    }
}

/// Gives a file a second name that must be free: what a file system does that cannot rename without replacing (NFS).
fn link_anew(file: &File, from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::hard_link(from, to) {
        // The server did it at the first asking, and its answer was lost.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && file.metadata()?.nlink() > 1 => Ok(()),
        done => done,
    }
}

/// Makes the entry of `path` in its directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| Error::Io { context: format!("making {} durable", dir.display()), source })
}

/// An upload.
pub(super) struct Upload {
    /// Absent while a block is being written, and for good after a failure.
    state: Option<State>,
    workers: Workers,
}

struct State {
    declared: Declared,
    target: PathBuf,
    reserve: u64,
    temporary: Temporary,
    file: File,
    hash: Sha256,
    buffer: Vec<u8>,
    written: u64,
    room_checked: u64,
}

impl Upload {
    pub(super) fn begin(
        declared: Declared,
        tmp: &Path,
        target: PathBuf,
        reserve: u64,
        workers: Workers,
    ) -> Result<Self, Error> {
        room::check(tmp, declared.length.unwrap_or_default().get(), reserve)?;
        let (temporary, file) = Temporary::create(tmp, "image")?;
        let state = State {
            declared,
            target,
            reserve,
            temporary,
            file,
            hash: Sha256::new(),
            buffer: Vec::with_capacity(BLOCK),
            written: 0,
            room_checked: 0,
        };
        Ok(Self { state: Some(state), workers })
    }

    /// Runs a step on a thread where it may block; a `last` one has much to make durable. After a failed step the upload is
    /// gone.
    async fn step<T: Send + 'static>(
        &mut self,
        last: bool,
        step: impl FnOnce(State) -> Result<(Option<State>, T), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let over = || Error::BadContent("the upload has failed before".into());
        let state = self.state.take().ok_or_else(over)?;
        let work = move || step(state);
        let (state, result) =
            if last { self.workers.run_long(work).await? } else { self.workers.run(work).await? };
        self.state = state;
        Ok(result)
    }
}

#[async_trait]
impl ImageWriter for Upload {
    async fn write(&mut self, mut chunk: Chunk) -> Result<(), Error> {
        while !chunk.is_empty() {
            let Some(state) = &mut self.state else {
                return Err(Error::BadContent("the upload has failed before".into()));
            };
            let part = chunk.split_to(chunk.len().min(BLOCK - state.buffer.len()));
            state.buffer.extend_from_slice(&part);
            if state.buffer.len() == BLOCK {
                self.step(false, |mut state| {
                    state.flush()?;
                    Ok((Some(state), ()))
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ImageFacts, Error> {
        self.step(true, |state| Ok((None, state.finish()?))).await
    }
}

impl State {
    fn failed(&self, what: &str, error: std::io::Error) -> Error {
        let needed = self.declared.length.map_or(BLOCK as u64, |l| l.get().saturating_sub(self.written));
        room::failed(&self.temporary.path, needed, format!("{what} the uploaded image"), error)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let total = self.written + self.buffer.len() as u64;
        if let Some(length) = self.declared.length
            && total > length.get()
        {
            let reason =
                format!("the upload is longer than the {} bytes it was declared to have", length.get());
            return Err(Error::BadContent(reason));
        }
        if total - self.room_checked >= ROOM_EVERY {
            let left = self.declared.length.map_or(0, |l| l.get().saturating_sub(self.written));
            room::check(&self.temporary.path, left, self.reserve)?;
            self.room_checked = total;
        }
        self.hash.update(&self.buffer);
        for (n, piece) in (0u64..).zip(self.buffer.chunks(HOLE)) {
            if piece.iter().any(|byte| *byte != 0) {
                let at = self.written + n * HOLE as u64;
                self.file.write_all_at(piece, at).map_err(|e| self.failed("writing", e))?;
            }
        }
        self.written = total;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<ImageFacts, Error> {
        self.flush()?;
        let length = self.written;
        if let Some(declared) = self.declared.length
            && declared.get() != length
        {
            return Err(Error::BadContent(format!(
                "the upload ended after {length} of {} bytes: upload it again",
                declared.get()
            )));
        }
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        if let Some(declared) = &self.declared.sha256
            && !declared.eq_ignore_ascii_case(&sha256)
        {
            return Err(Error::BadContent(format!(
                "the upload has the SHA-256 {sha256}, but {declared} was declared: it was damaged on the way or is \
                 another file"
            )));
        }
        // A hole at the end is made by the length alone.
        self.file.set_len(length).map_err(|e| self.failed("sizing", e))?;
        let virtual_size = content::check(&self.file, self.declared.kind, self.declared.format, length)?;
        self.temporary.publish(&self.file, &self.target, true)?;
        Ok(ImageFacts { size: Bytes(length), virtual_size: Bytes(virtual_size), sha256 })
    }
}
