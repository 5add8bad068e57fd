//! The pool on a real directory.

use super::*;
use lq_api::image::ImageKind;

struct Bench {
    dir: tempfile::TempDir,
    pool: DirPool,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let pool = DirPool::with_reserve(dir.path().join("pool"), 0).unwrap();
    Bench { dir, pool }
}

fn declared(format: ImageFormat) -> Declared {
    Declared { image: ImageId::new(), kind: ImageKind::Disk, format, length: None, sha256: None }
}

impl Bench {
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for dir in ["images", "volumes", "firmware", "tmp"] {
            let names = names(&self.dir.path().join("pool").join(dir)).unwrap();
            files.extend(names.iter().map(|n| format!("{dir}/{}", n.to_str().unwrap())));
        }
        files
    }

    async fn upload(&self, declared: Declared, content: &[u8]) -> Result<super::super::ImageFacts, Error> {
        let mut writer = self.pool.receive_image(declared).await?;
        for chunk in content.chunks(100_000) {
            writer.write(chunk.to_vec().into()).await?;
        }
        writer.finish().await
    }

    /// An uploaded qcow2 image of 8 MiB.
    async fn image(&self) -> ImageId {
        let declared = declared(ImageFormat::Qcow2);
        let image = declared.image;
        self.upload(declared, &qcow2(8 << 20)).await.unwrap();
        image
    }
}

fn qcow2(size: u64) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let options = CreateOptions { virtual_size: size, cluster_bits: 16, backing: None };
    lq_qcow2::create(&file, &options).unwrap();
    fs::read(&path).unwrap()
}

#[tokio::test]
async fn an_upload_is_stored_whole_and_sparse() {
    let bench = bench();
    let mut content = vec![0u8; 9 << 20];
    content[5 << 20..(5 << 20) + 4].copy_from_slice(b"data");
    let mut declared = declared(ImageFormat::Raw);
    declared.length = Some(Bytes(content.len() as u64));
    declared.sha256 = Some(hex::encode_upper(Sha256::digest(&content)));
    let path = bench.pool.image_path(declared.image);
    let facts = bench.upload(declared, &content).await.unwrap();
    assert_eq!((facts.size, facts.virtual_size), (Bytes::mib(9), Bytes::mib(9)));
    assert!(fs::read(&path).unwrap() == content);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "not sparse");
    assert_eq!(bench.files().len(), 1);
}

#[tokio::test]
async fn what_is_not_as_declared_is_refused_and_leaves_nothing() {
    let bench = bench();
    let cut = |mut content: Vec<u8>| {
        content.truncate(70_000);
        content
    };
    type Change = fn(&mut Declared);
    let nothing: Change = |_| {};
    for (format, change, content, reason) in [
        (ImageFormat::Raw, (|d| d.sha256 = Some("00".repeat(32))) as Change, vec![0; 512], "SHA-256"),
        (ImageFormat::Raw, |d| d.length = Some(Bytes(1024)), vec![0; 512], "after 512 of 1024"),
        (ImageFormat::Raw, |d| d.length = Some(Bytes(512)), vec![1; 3 << 20], "longer than"),
        (ImageFormat::Raw, nothing, qcow2(1 << 20), "is a qcow2 image"),
        (ImageFormat::Qcow2, nothing, vec![0; 1 << 20], "magic"),
        (ImageFormat::Qcow2, nothing, cut(qcow2(1 << 20)), "refused"),
        (ImageFormat::Qcow2, |d| d.kind = ImageKind::Kernel, vec![0; 4096], "neither a bzImage"),
        (ImageFormat::Raw, nothing, vec![], "empty"),
    ] {
        let mut declared = declared(format);
        change(&mut declared);
        match bench.upload(declared, &content).await {
            Err(Error::BadContent(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{reason}: {other:?}"),
        }
        assert_eq!(bench.files(), Vec::<String>::new(), "{reason}");
    }
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing() {
    let bench = bench();
    let mut writer = bench.pool.receive_image(declared(ImageFormat::Raw)).await.unwrap();
    writer.write(vec![1u8; 3 << 20].into()).await.unwrap();
    assert_eq!(bench.files().len(), 1);
    drop(writer);
    assert_eq!(bench.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_crash_leaves_nothing_after_the_next_start() {
    let bench = bench();
    let root = bench.dir.path().join("pool");
    fs::write(root.join("tmp/image-x.part"), "half").unwrap();
    fs::write(root.join("tmp/foreign"), "not ours").unwrap();
    DirPool::open(root).unwrap();
    assert_eq!(bench.files(), ["tmp/foreign"]);
}

#[tokio::test]
async fn room_is_checked_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let pool = DirPool::open(dir.path().to_owned()).unwrap();
    let mut declared = declared(ImageFormat::Raw);
    declared.length = Some(Bytes(u64::MAX));
    let refused = pool.receive_image(declared).await.err().unwrap();
    assert!(matches!(refused, Error::NoSpace { needed: Bytes(u64::MAX), .. }), "{refused}");
}

#[tokio::test]
async fn clones_grow_and_go() {
    let bench = bench();
    let image = bench.image().await;
    let source = Some((image, ImageFormat::Qcow2));
    let new = NewVolume { volume: VolumeId::new(), format: ImageFormat::Qcow2, size: Bytes::mib(16), source };
    bench.pool.create_volume(new.clone()).await.unwrap();
    bench.pool.create_volume(new.clone()).await.unwrap();
    let disk = bench.pool.disk_image(new.volume, new.format, source);
    assert_eq!(disk.backing.as_ref().unwrap().path, bench.pool.image_path(image));
    let info = lq_qcow2::inspect(&File::open(&disk.path).unwrap()).unwrap();
    assert_eq!(info.virtual_size, 16 << 20);
    let named = Path::new(&disk.path).parent().unwrap().join(info.backing_file.unwrap());
    assert_eq!(fs::canonicalize(named).unwrap(), fs::canonicalize(bench.pool.image_path(image)).unwrap());

    bench.pool.grow_volume(new.volume, new.format, Bytes::gib(1)).await.unwrap();
    bench.pool.grow_volume(new.volume, new.format, Bytes::mib(20)).await.unwrap();
    assert_eq!(lq_qcow2::inspect(&File::open(&disk.path).unwrap()).unwrap().virtual_size, 1 << 30);
    let again = bench.pool.create_volume(new.clone()).await.unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");

    bench.pool.delete_volume(new.volume).await.unwrap();
    bench.pool.delete_volume(new.volume).await.unwrap();
    bench.pool.delete_image(image).await.unwrap();
    assert_eq!(bench.files(), Vec::<String>::new());
    let gone = bench.pool.grow_volume(new.volume, new.format, Bytes::gib(2)).await.unwrap_err();
    assert!(matches!(gone, Error::Missing(_)), "{gone}");
}

#[tokio::test]
async fn raw_volumes_are_sparse_and_grow() {
    let bench = bench();
    let new =
        NewVolume { volume: VolumeId::new(), format: ImageFormat::Raw, size: Bytes::gib(4), source: None };
    bench.pool.create_volume(new.clone()).await.unwrap();
    bench.pool.grow_volume(new.volume, new.format, Bytes::gib(5)).await.unwrap();
    let metadata = fs::metadata(bench.pool.disk_image(new.volume, new.format, None).path).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (5 << 30, 0));
}

#[tokio::test]
async fn impossible_volumes_are_refused() {
    let bench = bench();
    let image = bench.image().await;
    for (format, size, source, reason) in [
        (ImageFormat::Raw, 1000, None, "multiple of 512"),
        (ImageFormat::Raw, 8 << 20, Some(image), "has the format qcow2"),
        (ImageFormat::Qcow2, 4 << 20, Some(image), "at least as large"),
        (ImageFormat::Qcow2, 8 << 20, Some(ImageId::new()), "is not in the pool"),
    ] {
        let source = source.map(|image| (image, ImageFormat::Qcow2));
        let new = NewVolume { volume: VolumeId::new(), format, size: Bytes(size), source };
        let refused = bench.pool.create_volume(new).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(bench.files().len(), 1);
}

#[tokio::test]
async fn garbage_is_only_what_we_made() {
    let bench = bench();
    let (kept, stray) = (bench.image().await, bench.image().await);
    let mut volumes = Vec::new();
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        let new = NewVolume { volume: VolumeId::new(), format, size: Bytes::mib(1), source: None };
        volumes.push(new.volume);
        bench.pool.create_volume(new).await.unwrap();
    }
    let root = bench.dir.path().join("pool");
    fs::write(root.join("images/notes.txt"), "").unwrap();
    fs::write(root.join(format!("volumes/{}.vmdk", VolumeId::new())), "").unwrap();
    let vms = [VmId::new(), VmId::new()];
    let template = root.join("images/notes.txt");
    vms.iter().for_each(|vm| vars::provide(&template, bench.pool.vars_path(*vm).as_ref()).unwrap());
    vms.iter().for_each(|vm| tpm::replace(bench.pool.tpm_path(*vm).as_ref(), b"keys").unwrap());
    let owned =
        Found { images: [kept].into(), volumes: [volumes[0]].into(), vms: [vms[0]].into(), hosts: [].into() };
    let garbage = bench.pool.find().await.unwrap().without(&owned);
    assert_eq!((garbage.images.len(), garbage.volumes.len(), garbage.vms.len()), (1, 1, 1));
    bench.pool.remove(garbage).await.unwrap();
    let files = bench.files();
    assert_eq!(files.len(), 6, "{files:?}");
    assert!(files.contains(&format!("firmware/{}.fd", vms[0])));
    assert_eq!(tpm::kept(bench.pool.tpm_path(vms[0]).as_ref()).unwrap().unwrap(), b"keys");
    assert!(!Path::new(&bench.pool.tpm_path(vms[1])).exists());
    bench.pool.delete_vars(vms[0]).await.unwrap();
    bench.pool.delete_vars(vms[0]).await.unwrap();
    assert!(!bench.files().iter().any(|file| file.starts_with("firmware/")));
    assert!(
        !files.contains(&format!("images/{stray}")) && files.contains(&format!("volumes/{}.raw", volumes[0]))
    );
}

#[tokio::test]
async fn foreign_files_are_told_examined_and_removed_by_name() {
    let bench = bench();
    let image = bench.image().await;
    let source = Some((image, ImageFormat::Qcow2));
    let new = NewVolume { volume: VolumeId::new(), format: ImageFormat::Qcow2, size: Bytes::mib(16), source };
    bench.pool.create_volume(new.clone()).await.unwrap();
    let files = bench.pool.describe(bench.pool.find().await.unwrap()).await.unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!((files[0].file.clone(), files[0].clone_of), (format!("images/{image}"), None));
    assert_eq!(files[1].clone_of, Some(image));
    assert!(files.iter().all(|f| f.size_bytes.get() > 0 && f.modified_at > lq_api::Timestamp::UNIX_EPOCH));

    let volume = Examine::Volume(new.volume, new.format);
    let found = bench.pool.examine(volume).await.unwrap();
    assert_eq!(found, Examined::Volume { size: Bytes::mib(16), source: Some(image) });
    let as_raw = Examine::Image(image, ImageKind::Disk, ImageFormat::Raw);
    assert!(bench.pool.examine(as_raw).await.is_err(), "a format is never guessed");
    let as_it_is = Examine::Image(image, ImageKind::Disk, ImageFormat::Qcow2);
    let Examined::Image(facts) = bench.pool.examine(as_it_is).await.unwrap() else { panic!("an image") };
    let content = fs::read(bench.pool.image_path(image)).unwrap();
    assert_eq!(facts.sha256, hex::encode(Sha256::digest(&content)));
    assert_eq!(facts.virtual_size, Bytes::mib(8));

    // A machine has it open.
    let path = bench.pool.disk_image(new.volume, new.format, None).path;
    let held = File::options().write(true).open(&path).unwrap();
    held.lock().unwrap();
    let content = Content::Volume(new.volume, new.format);
    let refused = bench.pool.remove_foreign(content).await;
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    drop(held);
    bench.pool.remove_foreign(content).await.unwrap();
    assert_eq!(bench.files(), [format!("images/{image}")]);
    assert!(matches!(bench.pool.remove_foreign(content).await, Err(Error::Missing(_))));
}

/// A small tmpfs, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some(options)) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                eprintln!("SKIPPED: cannot mount a tmpfs ({error}); run as root");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        nix::mount::umount(self.0.path()).unwrap();
    }
}

#[tokio::test]
async fn a_full_file_system_is_told_as_such_and_nothing_remains() {
    let Some(small) = Small::mount("size=24m") else { return };
    // Without a reserve the write itself meets the end; with one, the check during the upload does.
    for reserve in [0, 4 << 20] {
        let pool = DirPool::with_reserve(small.0.path().to_owned(), reserve).unwrap();
        let mut writer = pool.receive_image(declared(ImageFormat::Raw)).await.unwrap();
        let refused = loop {
            if let Err(error) = writer.write(vec![7u8; 1 << 20].into()).await {
                break error;
            }
        };
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
        drop(writer);
        let free = pool.status().await.unwrap().free_bytes.get();
        assert!(free >= (23 << 20) - reserve, "{free} bytes free: something remains");
    }
    let pool = DirPool::open(small.0.path().to_owned()).unwrap();
    let new =
        NewVolume { volume: VolumeId::new(), format: ImageFormat::Qcow2, size: Bytes::gib(1), source: None };
    let refused = pool.create_volume(new).await.unwrap_err();
    assert!(matches!(refused, Error::NoSpace { .. }), "the reserve is not for new volumes: {refused}");
    assert!(refused.to_string().contains("64 MiB needed"), "{refused}");
}
