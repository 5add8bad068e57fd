//! Bytes in pools that no object needs: those that were deleted are removed, those that are merely unknown are kept and told.
//!
//! ```text
//!  of an object, or a copy for one ──▶ stays
//!  the state says it was deleted   ──▶ removed, and the state is told      ([`Node::remove_waste`])
//!  anything else: foreign          ──▶ kept; adopted or deleted by name    ([`Node::adopt_foreign`], [`Node::delete_foreign`])
//! ```
//! A host that was installed anew over its data, restored from an old backup, or that left its cluster and came back knows
//! nothing of what it has; so what is unknown is never garbage.

use super::{Node, copies};
use crate::{
    causes,
    cluster::{
        Op, State, WriteError,
        state::{Adopted, Discarded},
    },
    storage::{
        self, Found, Pool,
        foreign::{Content, Examine, Examined},
    },
    tasks::NewTask,
};
use lq_api::{
    PoolId,
    event::EventLevel,
    image::{ImageKind, ImageState},
    pool::{AdoptFile, ForeignFile},
    task::Task,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Pause after a failed removal.
const RETRY: Duration = Duration::from_secs(30);
/// Files an event names.
const NAMED: usize = 3;

/// Why a foreign file was not adopted or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The request names no such file, or says too little of it.
    #[error("{reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The pool is not there.
    #[error("the pool is not reached by this host now: see the pool, and try again when it is ready")]
    Elsewhere,
    /// It is not foreign, or not there.
    #[error("`{0}` is not among the foreign files of the pool: it is gone, or belongs to an object")]
    NotForeign(Content),
    /// Other foreign files need it.
    #[error("`{file}` is what {clones} are clones of: adopt it, or delete these first")]
    Needed {
        /// The image.
        file: Content,
        /// The clones.
        clones: String,
    },
    /// The pool refused or failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The cluster could not be asked.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What of the state has bytes in a pool, or is just getting some.
fn known(state: &State, pool: PoolId) -> Found {
    let images =
        state.images.values().filter(|r| r.image.spec.pool == Some(pool) || r.copies.contains(&pool));
    let mut images: BTreeSet<_> = images.map(|r| r.image.meta.id).collect();
    images.extend(copies::kept_in(state, pool));
    let mut vms: BTreeSet<_> = state.vms.keys().copied().collect();
    if let Some(waste) = state.discarded.get(&pool) {
        images.extend(&waste.images);
        vms.extend(&waste.vms);
    }
    let volumes = state.volumes.values().filter(|v| v.spec.pool == Some(pool)).map(|v| v.meta.id).collect();
    Found { images, volumes, vms, hosts: BTreeSet::new() }
}

/// What is in a pool and belongs to nothing. `found` is older than the state.
fn foreign(found: Found, state: &State, pool: PoolId) -> Found {
    // Half made files are nobody's data.
    Found { hosts: BTreeSet::new(), ..found.without(&known(state, pool)) }
}

/// Copies in a host's own pool that it does not need any more, of images that are whole where they belong.
fn spare(state: &State, pool: PoolId) -> BTreeSet<lq_api::ImageId> {
    let needed = copies::kept_in(state, pool);
    let copied = state.images.values().filter(|r| {
        r.copies.contains(&pool)
            && r.image.spec.pool != Some(pool)
            && r.image.status.state == ImageState::Ready
    });
    copied.map(|r| r.image.meta.id).filter(|id| !needed.contains(id)).collect()
}

impl Node {
    /// Pools in which this host has to remove something.
    pub(super) fn pools_with_waste(&self) -> Vec<PoolId> {
        let me = self.id();
        self.cluster.read(|s| {
            let mine = |pool: &&PoolId| s.holder(**pool, None) == Some(me);
            s.discarded.keys().filter(mine).copied().collect()
        })
    }

    /// Removes what was deleted, and tells the state that it is gone.
    pub(super) async fn remove_waste(&self, id: PoolId) -> Result<(), String> {
        let _turn = self.removing.lock().await;
        let Some(waste) = self.cluster.read(|s| s.discarded.get(&id).cloned()) else { return Ok(()) };
        let pool = self.pool(id).ok_or("the pool is not reached by this host now")?;
        let Discarded { images, vms } = waste.clone();
        let garbage = Found { images, vms, ..Found::default() };
        pool.remove(garbage).await.map_err(|e| causes::chain(&e))?;
        let gone = Op::BytesGone { pool: id, gone: waste };
        self.cluster.write(gone).await.map(drop).map_err(|e| e.to_string())
    }

    pub(super) async fn remove_waste_until_done(&self, id: PoolId) {
        if let Err(e) = self.remove_waste(id).await {
            let text = format!("what was deleted could not be removed yet, trying again: {e}");
            self.events.system(EventLevel::Warning, "pool.failed", format!("pool/{id}"), text);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Removes copies from a pool of this host alone. Only at its start, when nothing of it needs one that the state does not
    /// tell of.
    pub(super) async fn drop_copies(&self, id: PoolId) {
        let images = self.cluster.read(|s| spare(s, id));
        let Some(pool) = self.pool(id).filter(|_| !images.is_empty()) else { return };
        let garbage = Found { images: images.clone(), ..Found::default() };
        let dropped = match pool.remove(garbage).await {
            Ok(()) => {
                let dropped = self.cluster.write(Op::DropCopies { pool: id, images }).await;
                dropped.map(drop).map_err(|e| e.to_string())
            }
            Err(e) => Err(causes::chain(&e)),
        };
        if let Err(e) = dropped {
            tracing::warn!(pool = %id, error = e, "copies of images that are not needed remain for now");
        }
    }

    /// Looks through a pool: what hosts that are gone left half made is removed, what belongs to nothing is told.
    pub(super) async fn tidy_pool(&self, id: PoolId) {
        let (Some(pool), true) =
            (self.pool(id), self.cluster.read(|s| s.holder(id, None)) == Some(self.id()))
        else {
            return;
        };
        let tidied = async {
            let found = pool.find().await.map_err(|e| causes::chain(&e))?;
            if self.cluster.read(|s| s.pool_host(id).is_none()) {
                self.cluster.barrier().await.map_err(|e| e.to_string())?;
            }
            let hosts: BTreeSet<_> = self
                .cluster
                .read(|s| found.hosts.iter().copied().filter(|h| s.removed.contains_key(h)).collect());
            if !hosts.is_empty() {
                let gone = Found { hosts, ..Found::default() };
                pool.remove(gone).await.map_err(|e| causes::chain(&e))?;
            }
            let unknown = self.cluster.read(|s| foreign(found, s, id));
            pool.describe(unknown).await.map_err(|e| causes::chain(&e))
        };
        match tidied.await {
            Ok(files) => self.tell_foreign(id, &files),
            Err(e) => {
                let text = format!("it could not be looked through: {e}");
                self.events.system(EventLevel::Warning, "pool.failed", format!("pool/{id}"), text);
            }
        }
    }

    fn tell_foreign(&self, id: PoolId, files: &[ForeignFile]) {
        if files.is_empty() {
            return;
        }
        let names: Vec<_> = files.iter().take(NAMED).map(|f| format!("`{}`", f.file)).collect();
        let more = match files.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let text = format!(
            "files in the pool belong to no object of the cluster and are kept: {}{more}. The pool's page and `lqctl pool show` \
             tell of them: adopt them, or delete them",
            names.join(", ")
        );
        self.events.system(EventLevel::Warning, "pool.foreign", format!("pool/{id}"), text);
    }

    /// Files in a pool that belong to nothing.
    pub async fn foreign(&self, id: PoolId) -> Result<Vec<ForeignFile>, ForeignError> {
        let pool = self.pool(id).ok_or(ForeignError::Elsewhere)?;
        let found = pool.find().await?;
        let unknown = self.cluster.read(|s| foreign(found, s, id));
        Ok(pool.describe(unknown).await?)
    }

    /// The pool, its foreign files by what all hosts have agreed on, and that this file is one of them.
    async fn certainly_foreign(
        &self,
        id: PoolId,
        file: &str,
    ) -> Result<(Arc<dyn Pool>, Content, Vec<ForeignFile>), ForeignError> {
        let content: Content = file.parse().map_err(|e: storage::foreign::NotContent| {
            ForeignError::Field { field: "file", reason: e.to_string() }
        })?;
        let pool = self.pool(id).ok_or(ForeignError::Elsewhere)?;
        let found = pool.find().await?;
        self.cluster.barrier().await?;
        let unknown = self.cluster.read(|s| foreign(found, s, id));
        let files = pool.describe(unknown).await?;
        if files.iter().any(|f| f.file == file) {
            Ok((pool, content, files))
        } else {
            Err(ForeignError::NotForeign(content))
        }
    }

    /// Deletes a foreign file.
    pub async fn delete_foreign(&self, id: PoolId, file: &str) -> Result<(), ForeignError> {
        let _turn = self.removing.lock().await;
        let (pool, content, files) = self.certainly_foreign(id, file).await?;
        if let Content::Image(image) = content {
            let clones: Vec<_> =
                files.iter().filter(|f| f.clone_of == Some(image)).map(|f| format!("`{}`", f.file)).collect();
            if !clones.is_empty() {
                return Err(ForeignError::Needed { file: content, clones: clones.join(", ") });
            }
        }
        Ok(pool.remove_foreign(content).await?)
    }

    /// Makes a volume or an image of a foreign file, in a task: an image is read to its end.
    pub async fn adopt_foreign(
        self: &Arc<Self>,
        id: PoolId,
        adopt: AdoptFile,
        actor: &str,
    ) -> Result<Task, ForeignError> {
        let (pool, content, _) = self.certainly_foreign(id, &adopt.file).await?;
        let what = match content {
            Content::Volume(volume, format) => Examine::Volume(volume, format),
            Content::Image(image) => {
                let reason = "is needed for an image: formats are never guessed";
                let format =
                    adopt.format.ok_or(ForeignError::Field { field: "format", reason: reason.into() })?;
                Examine::Image(image, adopt.kind.unwrap_or(ImageKind::Disk), format)
            }
            Content::Firmware(_) | Content::Tpm(_) => {
                let reason = "is of a machine's firmware or TPM: only volumes and images are adopted";
                return Err(ForeignError::Field { field: "file", reason: reason.into() });
            }
        };
        let new = NewTask {
            kind: "pool.adopt",
            target: format!("pool/{id}"),
            actor: actor.into(),
            cancellable: false,
        };
        let node = self.clone();
        Ok(self.tasks.start(new, |_| async move {
            // Nobody deletes it meanwhile.
            let _turn = node.removing.lock().await;
            let adopted = match (what, pool.examine(what).await.map_err(|e| causes::chain(&e))?) {
                (Examine::Volume(id, format), Examined::Volume { size, source }) => {
                    Adopted::Volume { id, format, size, source }
                }
                (Examine::Image(id, kind, format), Examined::Image(facts)) => Adopted::Image {
                    id,
                    kind,
                    format,
                    size: facts.size,
                    virtual_size: facts.virtual_size,
                    sha256: facts.sha256,
                },
                _ => return Err("a fault of ours: it was taken for something else".into()),
            };
            let op = Op::Adopt { pool: id, name: adopt.name, labels: adopt.labels, adopted };
            node.cluster.write(op).await.map(|_| None).map_err(|e| e.to_string())
        }))
    }
}
