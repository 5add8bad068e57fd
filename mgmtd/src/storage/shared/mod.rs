//! Pools that all hosts share.
//!
//! Owns: the mounts of this host below `/run/limiquantix/pools`, the mark in each shared directory ([`mark`]), and the decisions
//! when to mount, look and unmount ([`life`]). They outlive the daemon: its next run finds them.
//!
//! Invariant: every call that touches a server runs on a thread nobody waits for without a limit (`patient`); the server may be
//! silent for ever.

pub mod life;
pub mod mark;
pub mod nfs;

use super::{Error, dir::DirPool};
use lq_api::{HostId, PoolId, pool::NfsSpec};
use mark::{Mark, denied};
use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

/// Mounts. All of it may block as long as a server is silent.
pub trait Mounter: Send + Sync {
    /// Sees to it that the export is mounted for this host, and says where.
    fn mount(&self, host: HostId, pool: PoolId, spec: &NfsSpec) -> Result<PathBuf, Error>;
    /// Asks the server whether it is there.
    fn ask(&self, pool: PoolId, spec: &NfsSpec) -> Result<(), Error>;
    /// Takes the mount away, by force. One that is not there is away.
    fn unmount(&self, pool: PoolId) -> Result<(), Error>;
    /// The pools that are mounted, by this run of the daemon or an earlier one.
    fn mounted(&self) -> Vec<PoolId>;
}

/// What has to be known of a pool to open it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// This host.
    pub host: HostId,
    /// The pool.
    pub pool: PoolId,
    /// Where it is.
    pub spec: NfsSpec,
    /// Whose it must be.
    pub mark: Mark,
    /// A host has marked it before.
    pub claimed: bool,
}

/// Mounts a pool, checks that it is ours and can be used, and opens it unless it is open already.
pub fn open(
    mounter: &dyn Mounter,
    opening: &Opening,
    opened: Option<Arc<DirPool>>,
) -> Result<Arc<DirPool>, Error> {
    let path = mounter.mount(opening.host, opening.pool, &opening.spec)?;
    opening.mark.ensure(&path, opening.claimed)?;
    let pool = match opened {
        Some(pool) => pool,
        None => Arc::new(DirPool::shared(path.clone(), opening.host)?),
    };
    probe(&path.join("tmp").join(opening.host.to_string()))?;
    Ok(pool)
}

/// Does in `dir` what is done to volumes and images: make, write, make durable, lock, read, link, rename, remove.
fn probe(dir: &Path) -> Result<(), Error> {
    const TEXT: &[u8] = b"limiquantix";
    let path = dir.join(format!("probe-{}", Uuid::new_v4().simple()));
    let (linked, renamed) = (path.with_extension("linked"), path.with_extension("renamed"));
    let done = (|| {
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(|e| denied(e, "making a file in the export"))?;
        file.write_all(TEXT)
            .and_then(|()| file.sync_all())
            .map_err(|e| denied(e, "writing to the export"))?;
        file.try_lock().map_err(|e| {
            Error::Unfit(format!("the server does not lock files ({e}), which keeps two hosts from one disk"))
        })?;
        let mut read = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_end(&mut read))
            .map_err(|e| denied(e, "reading from the export"))?;
        if read != TEXT {
            return Err(Error::Unfit("the export gives back other bytes than were written".into()));
        }
        fs::hard_link(&path, &linked)
            .and_then(|()| fs::rename(&linked, &renamed))
            .map_err(|e| denied(e, "linking and renaming a file in the export"))
    })();
    // What cannot be removed now goes with the next garbage of this host.
    for path in [&path, &linked, &renamed] {
        let _ = fs::remove_file(path);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sim::SimMounter,
        storage::{NewVolume, Pool as _},
    };
    use lq_api::{Bytes, VolumeId, image::ImageFormat};

    fn opening(host: HostId, pool: PoolId, cluster: Uuid) -> Opening {
        let spec = serde_json::from_str(r#"{"server":"nas","export":"/vm"}"#).unwrap();
        Opening { host, pool, spec, mark: Mark::new(cluster, pool), claimed: false }
    }

    /// Two hosts with one directory: what one makes the other has, and neither touches what the other is making.
    #[tokio::test]
    async fn two_hosts_share_what_is_made_and_not_what_is_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let mounter = SimMounter::new(dir.path().to_owned());
        let (cluster, pool) = (Uuid::new_v4(), PoolId::new());
        let (a, b) = (HostId::new(), HostId::new());
        let one = open(&mounter, &opening(a, pool, cluster), None).unwrap();
        let declared = crate::storage::Declared {
            image: lq_api::ImageId::new(),
            kind: lq_api::image::ImageKind::Disk,
            format: ImageFormat::Raw,
            length: None,
            sha256: None,
        };
        let mut upload = one.receive_image(declared.clone()).await.unwrap();
        upload.write(vec![7; 3 << 20].into()).await.unwrap();
        let two = open(&mounter, &opening(b, pool, cluster), None).unwrap();
        // The second host's start, and even a third's garbage, leave the upload alone.
        let found = two.find().await.unwrap();
        assert_eq!(found.hosts, [a, b].into());
        let kept = crate::storage::Found { hosts: [a].into(), ..Default::default() };
        two.remove(found.without(&kept)).await.unwrap();
        upload.finish().await.unwrap();
        assert!(two.has_image(declared.image).await.unwrap());
        assert_eq!(two.read_image(declared.image, (3 << 20) - 1, 64).await.unwrap().as_ref(), [7]);
        let new = NewVolume {
            volume: VolumeId::new(),
            format: ImageFormat::Raw,
            size: Bytes::mib(1),
            source: None,
        };
        one.create_volume(new.clone()).await.unwrap();
        two.create_volume(new.clone()).await.unwrap();
        // A monitor has it open: nobody grows it under it, whoever's task that was.
        let held =
            File::options().write(true).open(one.disk_image(new.volume, new.format, None).path).unwrap();
        held.lock().unwrap();
        let refused = two.grow_volume(new.volume, new.format, Bytes::mib(2)).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        drop(held);
        two.grow_volume(new.volume, new.format, Bytes::mib(2)).await.unwrap();
        one.delete_volume(new.volume).await.unwrap();
        two.delete_volume(new.volume).await.unwrap();
        let other = open(&mounter, &opening(a, PoolId::new(), Uuid::new_v4()), None).err().unwrap();
        assert!(other.to_string().contains("another cluster"), "{other}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_told_apart() {
        let refused = denied(std::io::ErrorKind::PermissionDenied.into(), "making a file").to_string();
        assert!(refused.contains("no_root_squash"), "{refused}");
        let refused = denied(std::io::ErrorKind::ReadOnlyFilesystem.into(), "making a file").to_string();
        assert!(refused.contains("read-only"), "{refused}");
    }
}
