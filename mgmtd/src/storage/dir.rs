//! A pool in a directory: of a local file system, or of a server that all hosts have mounted.
//!
//! ```text
//! images/<image id>            as uploaded and checked; never changed
//! volumes/<volume id>.qcow2    a clone names its image as backing file, relative to itself
//! volumes/<volume id>.raw      sparse
//! firmware/<VM id>.fd          variables of a machine's firmware
//! firmware/<VM id>.tpm/        what its TPM keeps ([`tpm`])
//! tmp/<what>-<id>.part         half made; removed at the next start
//! tmp/<host id>/               the same of one host, in a shared directory
//! ```
//!
//! Invariants: what bears a final name is whole, checked and durable; in a shared directory no host touches what another has
//! half made. Work that blocks runs on threads of its own, a few at a time, so that uploads cannot starve the daemon.

use super::{
    Declared, Error, Found, ImageFacts, ImageWriter, NewVolume, Pool,
    content::{self, refused},
    foreign::{self, Content, Examine, Examined},
    patient::Workers,
    room, tpm,
    upload::{Temporary, Upload, sync_dir},
    vars,
};
use async_trait::async_trait;
use bytes::Bytes as Chunk;
use lq_api::{
    Bytes, HostId, ImageId, VmId, VolumeId,
    image::ImageFormat,
    local::vmm::DiskImage,
    pool::{ForeignFile, PoolStatus},
};
use lq_qcow2::{BackingFormat, CreateOptions};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

/// Longest an ordinary operation on a shared directory may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pool in a directory.
pub struct DirPool {
    root: Arc<Root>,
    workers: Workers,
}

struct Root {
    path: PathBuf,
    reserve: u64,
    /// Whose half made files are in a directory of their own.
    host: Option<HostId>,
}

impl DirPool {
    /// Opens (and lays out) the pool in this directory, and removes what was left half made.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        Self::with_reserve(path, room::RESERVE)
    }

    /// With another amount of bytes kept free than [`room::RESERVE`].
    pub fn with_reserve(path: PathBuf, reserve: u64) -> Result<Self, Error> {
        Self::lay_out(Root { path, reserve, host: None }, Workers::local())
    }

    /// Opens the pool in this directory that other hosts use too; `host` is this one. Blocks as long as the server is silent;
    /// what is done to the pool afterwards does not.
    pub fn shared(path: PathBuf, host: HostId) -> Result<Self, Error> {
        let root = Root { path, reserve: room::RESERVE, host: Some(host) };
        Self::lay_out(root, Workers::patient(PATIENCE))
    }

    fn lay_out(root: Root, workers: Workers) -> Result<Self, Error> {
        let dirs =
            [root.path.clone(), root.images(), root.volumes(), root.firmware(), root.all_tmp(), root.tmp()];
        for dir in dirs {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|e| room::failed(&root.path, 0, format!("making {}", dir.display()), e))?;
        }
        for name in names(&root.tmp())? {
            if name.to_str().is_some_and(Temporary::is_ours) {
                remove(&root.tmp().join(name))?;
            }
        }
        Ok(Self { root: Arc::new(root), workers })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let root = self.root.clone();
        self.workers.run(move || work(&root)).await
    }
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect());
    entries.map_err(|source| Error::Io { context: format!("listing {}", dir.display()), source })
}

/// Removes a file durably. One that is not there is removed.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Io { context: format!("removing {}", path.display()), source }),
    }
}

fn suffix(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    }
}

/// Size of the disk in a file of ours.
fn virtual_size(file: &File, format: ImageFormat) -> Result<u64, Error> {
    match format {
        ImageFormat::Raw => {
            let length = file.metadata().map(|m| m.len());
            length.map_err(|source| Error::Io { context: "asking for a file's length".into(), source })
        }
        ImageFormat::Qcow2 => lq_qcow2::inspect(file)
            .map(|info| info.virtual_size)
            .map_err(|e| refused(e, "a file of the pool is damaged")),
    }
}

impl Root {
    fn images(&self) -> PathBuf {
        self.path.join("images")
    }
    fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }
    fn firmware(&self) -> PathBuf {
        self.path.join("firmware")
    }
    fn all_tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }
    /// Where this host makes its files.
    fn tmp(&self) -> PathBuf {
        let all = self.all_tmp();
        self.host.map_or(all.clone(), |host| all.join(host.to_string()))
    }
    fn vars(&self, vm: VmId) -> PathBuf {
        self.firmware().join(format!("{vm}.fd"))
    }
    fn tpm(&self, vm: VmId) -> PathBuf {
        self.firmware().join(format!("{vm}.{}", tpm::EXTENSION))
    }
    fn image(&self, image: ImageId) -> PathBuf {
        self.images().join(image.to_string())
    }
    fn volume(&self, volume: VolumeId, format: ImageFormat) -> PathBuf {
        self.volumes().join(format!("{volume}.{}", suffix(format)))
    }

    fn open(&self, path: &Path, what: &str, write: bool) -> Result<File, Error> {
        File::options().read(true).write(write).open(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::Missing(what.to_owned()),
            _ => Error::Io { context: format!("opening {}", path.display()), source: e },
        })
    }

    fn create_volume(&self, new: &NewVolume) -> Result<(), Error> {
        let size = new.size.get();
        let target = self.volume(new.volume, new.format);
        match self.open(&target, "the volume", false) {
            Err(Error::Missing(_)) => {}
            Err(error) => return Err(error),
            Ok(file) => {
                let present = virtual_size(&file, new.format)?;
                return if present == size {
                    Ok(())
                } else {
                    Err(Error::BadContent(format!(
                        "the volume {} exists already with {present} instead of {size} bytes",
                        new.volume
                    )))
                };
            }
        }
        if size == 0 || !size.is_multiple_of(512) {
            return Err(Error::BadContent(format!(
                "{size} bytes is no size of a disk: a multiple of 512 is"
            )));
        }
        if let Some((image, format)) = new.source {
            if new.format != ImageFormat::Qcow2 {
                return Err(Error::BadContent("a clone of an image has the format qcow2".into()));
            }
            let file = self.open(&self.image(image), &format!("the image {image}"), false)?;
            let least = virtual_size(&file, format)?;
            if size < least {
                return Err(Error::BadContent(format!(
                    "the volume has {} but the image it is cloned from {}: make it at least as large",
                    new.size,
                    Bytes(least)
                )));
            }
        }
        room::check(&self.path, 0, self.reserve)?;
        let (temporary, file) = Temporary::create(&self.tmp(), "volume")?;
        match new.format {
            ImageFormat::Raw => {
                file.set_len(size).map_err(|e| room::failed(&self.path, size, "sizing the volume", e))?;
            }
            ImageFormat::Qcow2 => {
                let backing = new.source.map(|(image, format)| {
                    let format = match format {
                        ImageFormat::Raw => BackingFormat::Raw,
                        ImageFormat::Qcow2 => BackingFormat::Qcow2,
                    };
                    // For people with qemu-img; we open what our own records say.
                    (format!("../images/{image}"), format)
                });
                let options = CreateOptions {
                    virtual_size: size,
                    cluster_bits: lq_qcow2::DEFAULT_CLUSTER_BITS,
                    backing,
                };
                lq_qcow2::create(&file, &options).map_err(|e| self.qcow2(e, "making the volume"))?;
            }
        }
        temporary.publish(&file, &target, false)
    }

    /// An error of the qcow2 writer: a full file system is told apart.
    fn qcow2(&self, error: lq_qcow2::Error, context: &str) -> Error {
        match error {
            lq_qcow2::Error::Io { what, source } => {
                room::failed(&self.path, Bytes::MIB, format!("{context}: {what}"), source)
            }
            other => refused(other, context),
        }
    }

    fn grow_volume(&self, volume: VolumeId, format: ImageFormat, size: u64) -> Result<(), Error> {
        let path = self.volume(volume, format);
        let file = self.open(&path, &format!("the volume {volume}"), true)?;
        // A monitor, or another host whose task this was before, may have it open. The lock is the server's where there is
        // one, and with it comes the file as it is there now.
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Error::Busy(format!("the volume {volume}")),
            TryLockError::Error(source) => {
                Error::Io { context: format!("locking {}", path.display()), source }
            }
        })?;
        if virtual_size(&file, format)? >= size {
            return Ok(());
        }
        if !size.is_multiple_of(512) {
            return Err(Error::BadContent(format!(
                "{size} bytes is no size of a disk: a multiple of 512 is"
            )));
        }
        room::check(&self.path, 0, self.reserve)?;
        match format {
            ImageFormat::Raw => file
                .set_len(size)
                .and_then(|()| file.sync_all())
                .map_err(|e| room::failed(&self.path, size, "growing the volume", e)),
            ImageFormat::Qcow2 => {
                lq_qcow2::grow(&file, size).map_err(|e| self.qcow2(e, "growing the volume"))
            }
        }
    }

    fn find(&self) -> Result<Found, Error> {
        let mut found = Found::default();
        found.images.extend(names(&self.images())?.iter().filter_map(|name| parse::<ImageId>(name)));
        for (dir, extensions) in [
            (self.volumes(), &["raw", "qcow2"][..]),
            (self.firmware(), &["fd", vars::HALF_MADE, tpm::EXTENSION]),
        ] {
            for name in names(&dir)? {
                let path = Path::new(&name);
                let ours = path.extension().is_some_and(|e| extensions.iter().any(|ours| e == *ours));
                let Some(stem) = path.file_stem().filter(|_| ours) else { continue };
                if dir == self.volumes() {
                    found.volumes.extend(parse::<VolumeId>(stem));
                } else {
                    found.vms.extend(parse::<VmId>(stem));
                }
            }
        }
        if self.host.is_some() {
            found.hosts.extend(names(&self.all_tmp())?.iter().filter_map(|name| parse::<HostId>(name)));
        }
        Ok(found)
    }

    fn delete_volume(&self, volume: VolumeId) -> Result<(), Error> {
        remove(&self.volume(volume, ImageFormat::Raw))?;
        remove(&self.volume(volume, ImageFormat::Qcow2))
    }

    fn delete_vars(&self, vm: VmId) -> Result<(), Error> {
        let path = self.vars(vm);
        remove(&path.with_extension(vars::HALF_MADE))?;
        remove(&path)?;
        tpm::remove(&self.tpm(vm))
    }

    fn path_of(&self, content: Content) -> PathBuf {
        match content {
            Content::Image(id) => self.image(id),
            Content::Volume(id, format) => self.volume(id, format),
            Content::Firmware(id) => self.vars(id),
            Content::Tpm(id) => self.tpm(id),
        }
    }

    fn describe(&self, found: &Found) -> Result<Vec<ForeignFile>, Error> {
        let images = found.images.iter().map(|id| Content::Image(*id));
        let both = |id: &VolumeId| [ImageFormat::Raw, ImageFormat::Qcow2].map(|f| Content::Volume(*id, f));
        let volumes = found.volumes.iter().flat_map(both);
        let firmware = found.vms.iter().flat_map(|id| [Content::Firmware(*id), Content::Tpm(*id)]);
        let mut files = Vec::new();
        for content in images.chain(volumes).chain(firmware) {
            let path = self.path_of(content);
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(source) => {
                    return Err(Error::Io { context: format!("looking at {}", path.display()), source });
                }
            };
            let length = match content {
                Content::Tpm(_) => tpm::size(&path).unwrap_or_default(),
                _ => meta.len(),
            };
            let modified = meta.modified().ok().and_then(|t| lq_api::Timestamp::try_from(t).ok());
            // A volume that cannot be read is told all the same.
            let clone_of = match content {
                Content::Volume(id, ImageFormat::Qcow2) => self.backing(id).ok().flatten(),
                _ => None,
            };
            files.push(ForeignFile {
                file: content.to_string(),
                kind: content.kind(),
                size_bytes: Bytes(length),
                used_bytes: Bytes(meta.blocks() * 512),
                modified_at: modified.unwrap_or_default(),
                clone_of,
            });
        }
        Ok(files)
    }

    /// The image that a volume in qcow2 is a clone of.
    fn backing(&self, volume: VolumeId) -> Result<Option<ImageId>, Error> {
        let path = self.volume(volume, ImageFormat::Qcow2);
        let file = self.open(&path, &format!("the volume {volume}"), false)?;
        let info = lq_qcow2::inspect(&file).map_err(|e| refused(e, "the volume cannot be read"))?;
        info.backing_file.as_deref().map(foreign::backing_image).transpose()
    }

    fn examine(&self, what: Examine) -> Result<Examined, Error> {
        match what {
            Examine::Volume(id, format) => {
                let file = self.open(&self.volume(id, format), &format!("the volume {id}"), false)?;
                let size = Bytes(virtual_size(&file, format)?);
                let source = match format {
                    ImageFormat::Qcow2 => self.backing(id)?,
                    ImageFormat::Raw => None,
                };
                Ok(Examined::Volume { size, source })
            }
            Examine::Image(id, kind, format) => {
                let path = self.image(id);
                let mut file = self.open(&path, &format!("the image {id}"), false)?;
                let failed = |source| Error::Io { context: format!("reading {}", path.display()), source };
                let length = file.metadata().map_err(failed)?.len();
                let virtual_size = Bytes(content::check(&file, kind, format, length)?);
                let mut hash = Sha256::new();
                let size = Bytes(io::copy(&mut file, &mut hash).map_err(failed)?);
                let sha256 = hex::encode(hash.finalize());
                Ok(Examined::Image(ImageFacts { size, virtual_size, sha256 }))
            }
        }
    }

    fn remove_foreign(&self, content: Content) -> Result<(), Error> {
        let path = self.path_of(content);
        if let Content::Tpm(_) = content {
            return match path.is_dir() {
                false => Err(Error::Missing(format!("the file {content}"))),
                // A machine of another time may still run from it.
                true if tpm::in_use(&path)? => Err(Error::Busy(format!("the file {content}"))),
                true => tpm::remove(&path),
            };
        }
        let file = self.open(&path, &format!("the file {content}"), !matches!(content, Content::Image(_)))?;
        // A machine of another time may still run from it.
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Error::Busy(format!("the file {content}")),
            TryLockError::Error(source) => {
                Error::Io { context: format!("locking {}", path.display()), source }
            }
        })?;
        remove(&path)
    }

    fn remove_garbage(&self, garbage: &Found) -> Result<(), Error> {
        for vm in &garbage.vms {
            tracing::info!(%vm, "removing what firmware and TPM of a machine kept that was deleted");
            self.delete_vars(*vm)?;
        }
        for image in &garbage.images {
            tracing::info!(%image, "removing an image that was deleted, or a copy that is not needed");
            remove(&self.image(*image))?;
        }
        for volume in &garbage.volumes {
            tracing::info!(%volume, "removing a volume that was deleted");
            self.delete_volume(*volume)?;
        }
        for host in garbage.hosts.iter().filter(|h| self.host.is_some_and(|me| me != **h)) {
            let path = self.all_tmp().join(host.to_string());
            tracing::info!(%host, "removing what a host that is gone left half made");
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::Io { context: format!("removing {}", path.display()), source: e });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The id a name consists of, written as we write it.
fn parse<Id: FromStr + ToString>(name: &OsStr) -> Option<Id> {
    let name = name.to_str()?;
    name.parse::<Id>().ok().filter(|id| id.to_string() == name)
}

#[async_trait]
impl Pool for DirPool {
    async fn status(&self) -> Result<PoolStatus, Error> {
        self.work(|root| {
            let room = room::of(&root.path)?;
            let free = room.free_bytes.get().saturating_sub(root.reserve);
            Ok(PoolStatus { free_bytes: Bytes(free), ..room })
        })
        .await
    }

    async fn receive_image(&self, declared: Declared) -> Result<Box<dyn ImageWriter>, Error> {
        let workers = self.workers.clone();
        self.work(move |root| {
            let target = root.image(declared.image);
            let upload = Upload::begin(declared, &root.tmp(), target, root.reserve, workers)?;
            Ok(Box::new(upload) as Box<dyn ImageWriter>)
        })
        .await
    }

    fn image_path(&self, image: ImageId) -> String {
        self.root.image(image).to_string_lossy().into_owned()
    }

    async fn has_image(&self, image: ImageId) -> Result<bool, Error> {
        self.work(move |root| {
            let path = root.image(image);
            let there = path.try_exists();
            there.map_err(|source| Error::Io { context: format!("looking for {}", path.display()), source })
        })
        .await
    }

    async fn read_image(&self, image: ImageId, offset: u64, length: usize) -> Result<Chunk, Error> {
        self.work(move |root| {
            let path = root.image(image);
            let file = root.open(&path, &format!("the image {image}"), false)?;
            let mut bytes = vec![0; length];
            let read = file.read_at(&mut bytes, offset);
            let read =
                read.map_err(|source| Error::Io { context: format!("reading {}", path.display()), source })?;
            bytes.truncate(read);
            Ok(bytes.into())
        })
        .await
    }

    async fn delete_image(&self, image: ImageId) -> Result<(), Error> {
        self.work(move |root| remove(&root.image(image))).await
    }

    async fn create_volume(&self, volume: NewVolume) -> Result<(), Error> {
        self.work(move |root| root.create_volume(&volume)).await
    }

    async fn grow_volume(&self, volume: VolumeId, format: ImageFormat, size: Bytes) -> Result<(), Error> {
        self.work(move |root| root.grow_volume(volume, format, size.get())).await
    }

    async fn delete_volume(&self, volume: VolumeId) -> Result<(), Error> {
        self.work(move |root| root.delete_volume(volume)).await
    }

    fn disk_image(
        &self,
        volume: VolumeId,
        format: ImageFormat,
        source: Option<(ImageId, ImageFormat)>,
    ) -> DiskImage {
        let backing = source.map(|(image, format)| {
            Box::new(DiskImage { path: self.image_path(image), format, backing: None })
        });
        let path = self.root.volume(volume, format).to_string_lossy().into_owned();
        DiskImage { path, format, backing }
    }

    fn vars_path(&self, vm: VmId) -> String {
        self.root.vars(vm).to_string_lossy().into_owned()
    }

    fn tpm_path(&self, vm: VmId) -> String {
        self.root.tpm(vm).to_string_lossy().into_owned()
    }

    async fn delete_vars(&self, vm: VmId) -> Result<(), Error> {
        self.work(move |root| root.delete_vars(vm)).await
    }

    async fn find(&self) -> Result<Found, Error> {
        self.work(Root::find).await
    }

    async fn remove(&self, garbage: Found) -> Result<(), Error> {
        self.work(move |root| root.remove_garbage(&garbage)).await
    }

    async fn describe(&self, found: Found) -> Result<Vec<ForeignFile>, Error> {
        self.work(move |root| root.describe(&found)).await
    }

    async fn examine(&self, what: Examine) -> Result<Examined, Error> {
        let root = self.root.clone();
        self.workers.run_long(move || root.examine(what)).await
    }

    async fn remove_foreign(&self, file: Content) -> Result<(), Error> {
        self.work(move |root| root.remove_foreign(file)).await
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
