//! A host with what guests are made from: the stage on which tests of guests play. Booted once, shared by tests that follow each
//! other, thrown away when one of them fails.

use crate::{
    accel::Accel,
    guest_console::GuestConsole,
    guest_image::{self, GuestImages},
    host::{Host, explain},
    media,
    paths::Paths,
    qemu::{Disk, Machine},
    scale,
};
use anyhow::{Context as _, Result, bail};
use lq_api::{
    Bytes, ImageId, NetworkId, VmId,
    client::{Client, Wait},
    cloud_init::CloudInit,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    local::vmm::Hypervisor,
    vm::{self, Boot, CreateVm, Nic, RestartPolicy, Vm, VmSpec, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Waiting for something the host does itself, on an idle emulated machine.
pub(crate) fn patience(seconds: u64) -> Wait {
    Wait { limit: scale::seconds(seconds), interval: Duration::from_secs(1) }
}

/// What guests are made from, once it is on the host.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    kernel: ImageId,
    tiny_initrd: ImageId,
}

/// A host with guests' images.
#[derive(Debug)]
pub(crate) struct Site {
    /// The running host.
    pub(crate) host: Host,
    /// Its disk.
    pub(crate) disk: Disk,
    machine: Machine,
    accel: Accel,
    files: GuestImages,
    kernel: Option<Kernel>,
    debian: Option<ImageId>,
    debian_uefi: Option<ImageId>,
    paths: Paths,
}

/// What is particular about a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// See [`RestartPolicy`].
    pub(crate) restart: RestartPolicy,
    /// Starts with its host.
    pub(crate) autostart: bool,
    /// Has a TPM.
    pub(crate) tpm: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self { restart: RestartPolicy::Never, autostart: false, tpm: false }
    }
}

impl Site {
    /// Clones the installed host into `dir` and boots it.
    pub(crate) async fn open(paths: &Paths, accel: Accel, dir: &Path) -> Result<Self> {
        Self::open_on(paths, accel, media::bare_metal(dir, accel)).await
    }

    /// The same on this machine, which has no disk yet.
    pub(crate) async fn open_on(paths: &Paths, accel: Accel, machine: Machine) -> Result<Self> {
        let dir = machine.dir.as_path();
        let files = guest_image::ensure(paths).await?;
        let base = media::installed_disk(paths, accel).await?;
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let disk = media::clone_disk(&base, &dir.join("disk.qcow2")).await?;
        let machine = Machine { disks: vec![disk.clone()], ..machine };
        let host = media::boot_installed(machine.clone()).await?;
        let paths = paths.clone();
        Ok(Self { host, disk, machine, accel, files, kernel: None, debian: None, debian_uefi: None, paths })
    }

    /// Starts the host again after its machine has ended, from this disk.
    pub(crate) async fn start_again(&mut self, disk: Disk) -> Result<()> {
        self.disk = disk;
        self.machine.disks = vec![self.disk.clone()];
        self.host = media::boot_installed(self.machine.clone()).await?;
        Ok(())
    }

    /// The client of the host's API.
    pub(crate) fn api(&self) -> &Client {
        &self.host.api
    }

    /// A place for a file of this site.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.host.machine.dir().join(name)
    }

    async fn upload(&self, name: &str, kind: ImageKind, path: &Path, boot: Option<Boot>) -> Result<ImageId> {
        upload(self.api(), name, kind, path, boot, |_, _| {}).await
    }

    async fn kernel(&mut self) -> Result<Kernel> {
        if let Some(kernel) = self.kernel {
            return Ok(kernel);
        }
        let kernel = Kernel {
            kernel: self.upload("debian-kernel", ImageKind::Kernel, &self.files.kernel(), None).await?,
            tiny_initrd: self
                .upload("tiny-initrd", ImageKind::Initrd, &self.files.tiny_initrd(), None)
                .await?,
        };
        Ok(*self.kernel.insert(kernel))
    }

    /// The Debian image, uploaded when first asked for.
    pub(crate) async fn debian_image(&mut self) -> Result<ImageId> {
        if let Some(image) = self.debian {
            return Ok(image);
        }
        let kernel = self.kernel().await?.kernel;
        let initrd = self.upload("debian-initrd", ImageKind::Initrd, &self.files.initrd(), None).await?;
        let boot = Boot { kernel, initrd: Some(initrd), cmdline: debian_words(self.accel) };
        let image = self.upload("debian-12", ImageKind::Disk, &self.files.disk(), Some(boot)).await?;
        Ok(*self.debian.insert(image))
    }

    /// Makes and starts a tiny guest that counts on its console.
    pub(crate) async fn tiny(&mut self, name: &str, wish: Wish) -> Result<Vm> {
        let kernel = self.kernel().await?;
        let cmdline = format!("console=ttyS0 quiet panic=-1 tiny=tick {}", self.accel.kernel_words());
        let boot = Boot { kernel: kernel.kernel, initrd: Some(kernel.tiny_initrd), cmdline };
        let spec = spec(128, Some(boot), vec![], vec![], wish);
        let vm = self.create(name, spec).await?;
        self.start(vm.meta.id).await
    }

    /// Makes and starts a Debian guest on its own volume and the default network.
    pub(crate) async fn debian(&mut self, name: &str, wish: Wish) -> Result<Vm> {
        let image = self.debian_image().await?;
        let vm = create_debian(self.api(), name, image, wish).await?;
        self.start(vm.meta.id).await
    }

    /// Makes and starts a Debian guest that boots by UEFI from its own disk.
    pub(crate) async fn debian_uefi(&mut self, name: &str, wish: Wish) -> Result<Vm> {
        let image = self.debian_uefi_image().await?;
        let vm = create_debian(self.api(), name, image, wish).await?;
        self.start(vm.meta.id).await
    }

    /// Makes and starts one of the same disk on QEMU, with this firmware.
    pub(crate) async fn debian_on_qemu(&mut self, name: &str, firmware: vm::FirmwareKind) -> Result<Vm> {
        let image = self.debian_uefi_image().await?;
        let on_qemu = |spec: &mut VmSpec| (spec.hypervisor, spec.firmware) = (Hypervisor::Qemu, firmware);
        let vm = create_debian_with(self.api(), name, image, Wish::default(), on_qemu).await?;
        self.start(vm.meta.id).await
    }

    async fn debian_uefi_image(&mut self) -> Result<ImageId> {
        if let Some(image) = self.debian_uefi {
            return Ok(image);
        }
        let disk = guest_image::ensure_uefi_disk(&self.paths, &self.files).await?;
        let image = self.upload("debian-12-uefi", ImageKind::Disk, &disk, None).await?;
        Ok(*self.debian_uefi.insert(image))
    }

    /// Starts a VM.
    pub(crate) async fn start_vm(&self, vm: VmId) -> Result<Vm> {
        self.start(vm).await
    }

    async fn create(&self, name: &str, spec: VmSpec) -> Result<Vm> {
        let request = CreateVm { name: name.into(), labels: BTreeMap::new(), spec };
        self.api()
            .create_vm(&request)
            .await
            .map_err(explain)
            .with_context(|| format!("creating the VM {name}"))
    }

    async fn start(&self, vm: VmId) -> Result<Vm> {
        self.api().start_vm(vm).await.map_err(explain).context("starting a VM")?;
        self.wait_state(vm, VmState::Running, 120).await
    }

    /// Waits until a VM is in this state.
    pub(crate) async fn wait_state(&self, vm: VmId, state: VmState, seconds: u64) -> Result<Vm> {
        self.api().wait_vm_state(vm, state, patience(seconds)).await.map_err(explain)
    }

    /// Opens a guest's console.
    pub(crate) async fn console(&self, vm: &Vm) -> Result<GuestConsole> {
        let log = self.file(&format!("console-{}.log", vm.meta.name));
        GuestConsole::open(self.api(), vm.meta.id, &log).await
    }

    /// Forces a VM off and removes it, with its volumes.
    pub(crate) async fn remove(&self, vm: &Vm) -> Result<()> {
        remove_vm(self.api(), vm.meta.id).await
    }
}

/// Forces a VM off and removes it, with its volumes.
pub(crate) async fn remove_vm(api: &Client, id: VmId) -> Result<()> {
    let vm = api.vm(id).await.map_err(explain)?;
    if vm.status.state != VmState::Stopped {
        let how = vm::StopVm { force: true, timeout_seconds: 30 };
        api.stop_vm(id, &how).await.map_err(explain).context("forcing a VM off")?;
        api.wait_vm_state(id, VmState::Stopped, patience(60)).await.map_err(explain)?;
    }
    api.delete_vm(id).await.map_err(explain).context("deleting a VM")?;
    api.wait_vm_gone(id, patience(60)).await.map_err(explain)?;
    for disk in &vm.spec.disks {
        let task = api.delete_volume(disk.volume).await.map_err(explain).context("deleting a volume")?;
        api.wait_task(task.id, patience(180), |_| {}).await.map_err(explain).context("deleting a volume")?;
    }
    Ok(())
}

/// What Debian guests are told for their set-up.
pub(crate) const USER_DATA: &str = "#cloud-config\nfinal_message: set up\n";

/// Kernel command line of a Debian guest.
pub(crate) fn debian_words(accel: Accel) -> String {
    format!("root=/dev/vda rw console=ttyS0 quiet panic=-1 {}", accel.kernel_words()).trim_end().to_owned()
}

/// Uploads an image whole; `progress` is told bytes sent and bytes in all.
pub(crate) async fn upload(
    api: &Client,
    name: &str,
    kind: ImageKind,
    path: &Path,
    boot: Option<Boot>,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<ImageId> {
    let format = if kind == ImageKind::Disk { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    let sha256 = Some(media::sha256(path)?);
    let spec = ImageSpec { kind, format, pool: None, sha256, boot };
    let request = CreateImage { name: name.into(), labels: BTreeMap::new(), spec };
    let image =
        api.create_image(&request).await.map_err(explain).with_context(|| format!("declaring {name}"))?;
    let id = image.meta.id;
    let uploaded = api.upload_image(id, path, move |p| progress(p.sent, p.total)).await;
    uploaded.map_err(explain).with_context(|| format!("uploading {name}"))?;
    Ok(id)
}

/// The network every host has from its beginning.
pub(crate) async fn default_network(api: &Client) -> Result<NetworkId> {
    let networks = api.networks().await.map_err(explain)?;
    match networks.as_slice() {
        [network, ..] => Ok(network.meta.id),
        [] => bail!("the host has no network"),
    }
}

/// Makes a Debian VM with its volume on the default network.
pub(crate) async fn create_debian(api: &Client, name: &str, image: ImageId, wish: Wish) -> Result<Vm> {
    create_debian_with(api, name, image, wish, |_| {}).await
}

/// The same, with something else about it.
async fn create_debian_with(
    api: &Client,
    name: &str,
    image: ImageId,
    wish: Wish,
    change: impl FnOnce(&mut VmSpec),
) -> Result<Vm> {
    let spec = VolumeSpec { size_bytes: None, pool: None, format: ImageFormat::Qcow2, source: Some(image) };
    let request = CreateVolume { name: format!("{name}-disk"), labels: BTreeMap::new(), spec };
    let volume = api.create_volume(&request).await.map_err(explain).context("creating a volume")?;
    api.wait_volume(volume.meta.id, patience(60)).await.map_err(explain)?;
    let disks = vec![vm::Disk::of(volume.meta.id)];
    let nics = vec![Nic::on(default_network(api).await?)];
    let mut spec = self::spec(512, None, disks, nics, wish);
    spec.cloud_init = Some(CloudInit { user_data: USER_DATA.into(), network_config: None });
    change(&mut spec);
    let request = CreateVm { name: name.into(), labels: BTreeMap::new(), spec };
    api.create_vm(&request).await.map_err(explain).with_context(|| format!("creating the VM {name}"))
}

/// A guest with one processor.
pub(crate) fn spec(
    memory_mib: u64,
    boot: Option<Boot>,
    disks: Vec<vm::Disk>,
    nics: Vec<Nic>,
    wish: Wish,
) -> VmSpec {
    VmSpec {
        memory_bytes: Bytes::mib(memory_mib),
        boot,
        disks,
        nics,
        restart: wish.restart,
        autostart: wish.autostart,
        tpm: wish.tpm,
        ..VmSpec::default()
    }
}
