//! Two hosts and a witness that are one cluster, a shared pool, and a protected machine on it that writes down who it is: the stage on
//! which is shown what becomes of machines when a host or its parts fail. Formed once, from blank disks and by the code on a
//! console, shared by tests that follow each other, thrown away when one of them fails.
//!
//! The first host has a hardware watchdog, the second one has none and a clock that begins wrong. The witness is the daemon itself on a [`Computer`].

use crate::{
    accel::Accel,
    computer::Computer,
    ganesha::Ganesha,
    guest_image,
    host::{Host, client_at, explain},
    media::{self, PASSWORD},
    paths::{Paths, need},
    pool,
    process::{kill, log_file},
    protection,
    qemu::{Machine, Watchdog},
    several::{Ground, until, whole},
    site::{self, Wish, patience},
    wait::eventually,
    writer,
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    Bytes, HostId, PoolId, VmId, VolumeId,
    client::{Client, Wait},
    cluster::{Cluster, CreateJoinToken, JoinCluster},
    image::{ImageFormat, ImageKind},
    pairing::PairHost,
    placement::Placement,
    pool::PoolState,
    task::TaskState,
    vm::{Boot, CreateVm, Disk, MigrateVm, UpdateVm, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};
use tokio::process::Child;

/// Hosts, beside the witness.
const HOSTS: usize = 2;
/// The place of the witness.
const WITNESS: usize = HOSTS;
/// The host that has a hardware watchdog.
pub(crate) const GUARDED: usize = 0;
/// How far the clock of the other one is ahead when it is installed, seconds: no alert is graver.
const CLOCK_AHEAD: i64 = 90;
/// A code of the right form that is not the one: no code has two equal halves of one symbol.
const WRONG_CODE: &str = "2222-2222";

/// Whether this stage can be set here.
pub(crate) fn available() -> bool {
    let can = crate::ganesha::available() && crate::computer::available();
    if !can {
        println!("        skipped: this takes root, and Debian's nfs-ganesha, nfs-ganesha-vfs and iproute2");
    }
    can
}

/// The witness.
#[derive(Debug)]
pub(crate) struct Witness {
    /// What it runs on.
    pub(crate) computer: Computer,
    /// Client of its API.
    pub(crate) api: Client,
    daemon: Child,
    program: PathBuf,
    dir: PathBuf,
}

/// The protected machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protected {
    /// Itself.
    pub(crate) vm: VmId,
    /// Its disk.
    pub(crate) volume: VolumeId,
}

/// The stage, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The two; one whose power was cut stays here, and does not answer.
    pub(crate) hosts: Vec<Host>,
    /// Who they are.
    pub(crate) ids: Vec<HostId>,
    /// The third voter.
    pub(crate) witness: Witness,
    /// Where they stand.
    pub(crate) ground: Ground,
    /// The machine.
    pub(crate) protected: Protected,
    server: Ganesha,
}

impl Pair {
    /// Blank disks become this cluster.
    pub(crate) async fn form(paths: &Paths, accel: Accel, dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let server = Ganesha::start(dir).await?;
        let ground = Ground::open(accel, dir, paths.test_iso(), HOSTS + 1).await?;
        let stand = async |n| -> Result<Host> {
            let machine = ground.install(paths, n, None).await?;
            let clock_ahead = if n == GUARDED { 0 } else { CLOCK_AHEAD };
            media::boot_installed(Machine { watchdog: watchdog(n), clock_ahead, ..machine }).await
        };
        let (first, mut second) = tokio::try_join!(stand(0), stand(1)).context("two hosts")?;
        println!("        two hosts installed: {} s", began.elapsed().as_secs());
        let began = Instant::now();
        pair(&first.api, &mut second).await.context("pairing")?;
        println!("        found, paired and one cluster: {} s", began.elapsed().as_secs());

        let began = Instant::now();
        let hosts = vec![first, second];
        let api = &hosts[0].api;
        let witness = Witness::join(paths, &ground, dir, api).await.context("the witness")?;
        for host in &hosts {
            until(&host.api, "three votes", 300, |c| whole(c) && c.voters.len() == HOSTS + 1).await?;
        }
        println!("        a witness makes it three votes: {} s", began.elapsed().as_secs());
        let ids = ids(&hosts).await?;
        let shared = pool::shared(api, &server).await?;
        let ready = |states: &[PoolState]| states.iter().filter(|s| **s == PoolState::Ready).count() >= HOSTS;
        pool::stands(api, shared, "ready on both", 300, ready).await?;
        let protected = protected(paths, accel, api, shared, ids[GUARDED]).await.context("the machine")?;
        let pair = Self { hosts, ids, witness, ground, protected, server };
        pair.settled().await?;
        Ok(pair)
    }

    /// The disk of the machine, as the server has it.
    pub(crate) fn disk(&self) -> PathBuf {
        self.server.data.join("volumes").join(format!("{}.raw", self.protected.volume))
    }

    /// The API of the other host.
    pub(crate) fn other(&self, than: usize) -> &Client {
        &self.hosts[HOSTS - 1 - than].api
    }

    /// The same as [`Self::written`], once the machine is protected, as it is while both hosts are there.
    pub(crate) async fn settled(&self) -> Result<(usize, String)> {
        let api = &self.witness.api;
        protection::state(api, self.protected.vm, lq_api::ha::HaMachineState::Protected).await?;
        self.written(api).await
    }

    /// The host the machine runs on, once it does and writes: its number, and who the machine is in this run.
    pub(crate) async fn written(&self, api: &Client) -> Result<(usize, String)> {
        let host = protection::running_on(api, self.protected.vm, |_| true).await?;
        let at = self.ids.iter().position(|id| *id == host).context("it runs on none of the hosts")?;
        let before = writer::records(&self.disk())?;
        let grows = async || {
            let now = writer::records(&self.disk())?;
            let more = |run: &&String| now.get(*run) > before.get(*run);
            now.keys().find(more).cloned().with_context(|| format!("nothing new was written: {now:?}"))
        };
        Ok((at, eventually("the machine to write", 180, grows).await?))
    }

    /// Moves the machine to this host while it runs, where it is on the other one.
    pub(crate) async fn bring_to(&self, at: usize) -> Result<()> {
        let (now, _) = self.settled().await?;
        if now != at {
            let wish = MigrateVm { host: Some(self.ids[at]), ..MigrateVm::default() };
            let task = self.hosts[at].api.migrate_vm(self.protected.vm, &wish).await.map_err(explain)?;
            self.hosts[at].api.wait_task(task.id, patience(600), |_| {}).await.map_err(explain)?;
        }
        let (now, _) = self.settled().await?;
        ensure!(now == at, "the machine did not move");
        Ok(())
    }

    /// Switches a host on that is off, and waits until all answer to all.
    pub(crate) async fn switch_on(&mut self, n: usize) -> Result<()> {
        let machine = Machine { watchdog: watchdog(n), ..self.ground.machine(n)? };
        self.hosts[n] = media::boot_installed(machine).await.context("the host that was off")?;
        for host in &self.hosts {
            until(&host.api, "all to answer", 300, whole).await?;
        }
        Ok(())
    }
}

/// The watchdog of a host.
fn watchdog(host: usize) -> Watchdog {
    if host == GUARDED { Watchdog::Device } else { Watchdog::Missing }
}

async fn ids(hosts: &[Host]) -> Result<Vec<HostId>> {
    let mut ids = Vec::new();
    for host in hosts {
        ids.push(host.api.cluster().await.map_err(explain)?.this_host);
    }
    Ok(ids)
}

/// Brings the host in by the code on its console, after the mistakes and the attack there may be.
async fn pair(api: &Client, waiting: &mut Host) -> Result<()> {
    let id = waiting.api.cluster().await.map_err(explain)?.this_host;
    let found = eventually("the host to be found by multicast DNS", 120, async || {
        let all = api.waiting_hosts().await.map_err(explain)?;
        let found = all.items.iter().find(|host| host.host == id).cloned();
        found.with_context(|| format!("found: {all:?}"))
    });
    let found = found.await?;
    ensure!(found.name == "node2" && found.address.starts_with("10.0.2.12"), "{found:?}");
    let code = code_on_screen(waiting, "").await?;

    let wish = |code: &str| PairHost {
        address: found.address.clone(),
        host: Some(id),
        code: code.into(),
        rename: false,
    };
    for _ in 0..3 {
        let said = refused(api, &wish(WRONG_CODE)).await?;
        ensure!(said.contains("the code is not the one"), "a wrong code: {said}");
    }
    // After three of them that code is gone: even the right one is of no use.
    let said = refused(api, &wish(&code)).await?;
    ensure!(said.contains("too many wrong codes"), "after three wrong codes: {said}");
    let another = code_on_screen(waiting, &code).await.context("another code after three wrong ones")?;
    // It rests for some seconds first; tries meanwhile are not counted.
    eventually("the right code to be taken", 60, async || {
        let task = api.pair(&wish(&another)).await.map_err(explain)?;
        api.wait_task(task.id, patience(180), |_| {}).await.map(drop).map_err(explain)
    })
    .await?;
    let both = |c: &Cluster| c.quorum && c.members.len() == HOSTS && whole(c);
    until(&waiting.api, "it to be a member", 300, both).await?;
    until(api, "the other one to be a member", 300, both).await?;
    waiting.machine.sees_no("Pairing code", 120).await.context("the console of a member")
}

/// Tries a code that is refused; with what words.
async fn refused(api: &Client, wish: &PairHost) -> Result<String> {
    let task = api.pair(wish).await.map_err(explain)?;
    match api.wait_task(task.id, patience(60), |_| {}).await {
        Ok(task) if task.state == TaskState::Failed => Ok(task.message.unwrap_or_default()),
        Ok(task) => bail!("a code that is not the one was taken: {task:?}"),
        Err(e) => Ok(e.chain()),
    }
}

/// The code a person reads from the console, which is another one than this.
async fn code_on_screen(host: &mut Host, than: &str) -> Result<String> {
    let read = async || {
        let screen = host.machine.serial.screen();
        let line = screen.iter().find_map(|line| line.split_once("Pairing code"));
        let shown = line.and_then(|(_, rest)| rest.split_whitespace().next());
        let code = shown.filter(|code| code.len() == 9 && code.contains('-') && *code != than);
        code.map(str::to_owned).with_context(|| format!("the screen shows:\n{}", host.machine.screen()))
    };
    eventually("a code on the console", 180, read).await
}

/// Makes the machine on the first host, and has it protected.
async fn protected(
    paths: &Paths,
    accel: Accel,
    api: &Client,
    shared: PoolId,
    on: HostId,
) -> Result<Protected> {
    let files = guest_image::ensure(paths).await?;
    let kernel = pool::image(api, shared, "kernel", ImageKind::Kernel, &files.kernel()).await?;
    let initrd = pool::image(api, shared, "initrd", ImageKind::Initrd, &files.tiny_initrd()).await?;
    let cmdline = format!("console=ttyS0 quiet panic=-1 tiny=write {}", accel.kernel_words());
    let size_bytes = Some(Bytes::mib(writer::MIB));
    let spec = VolumeSpec { size_bytes, pool: Some(shared), format: ImageFormat::Raw, source: None };
    let create = CreateVolume { name: "writes-disk".into(), labels: BTreeMap::new(), spec };
    let volume = api.create_volume(&create).await.map_err(explain)?.meta.id;
    api.wait_volume(volume, patience(180)).await.map_err(explain)?;
    let boot = Boot { kernel, initrd: Some(initrd), cmdline };
    let mut spec = site::spec(128, Some(boot), vec![Disk::of(volume)], vec![], Wish::default());
    spec.placement = Placement { host: Some(on), ..Placement::default() };
    let create = CreateVm { name: "writes".into(), labels: BTreeMap::new(), spec };
    let vm = api.create_vm(&create).await.map_err(explain)?.meta.id;
    api.start_vm(vm).await.map_err(explain)?;
    let mut made = api.wait_vm_state(vm, VmState::Running, patience(300)).await.map_err(explain)?;
    made.spec.placement = Placement::default();
    let free = UpdateVm { spec: Some(made.spec.clone()), ..UpdateVm::default() };
    api.update_vm(vm, &free, None).await.map_err(explain).context("letting the machine go anywhere")?;
    protection::protect(api, &made).await?;
    Ok(Protected { vm, volume })
}

impl Witness {
    /// Starts one as any Linux computer would, and has it join.
    async fn join(paths: &Paths, ground: &Ground, dir: &Path, cluster: &Client) -> Result<Self> {
        let program = paths.program("mgmtd");
        need(&program, "build it with `just build`")?;
        let computer = Computer::plug_in(&ground.segment, WITNESS).await?;
        let (_, forwarded) = ground.segment.plug(WITNESS)?;
        let (_, here) = forwarded.first().context("the witness' port")?;
        let api = client_at(*here)?;
        let dir = dir.join("witness");
        std::fs::create_dir_all(&dir)?;
        let daemon = start(&computer, &program, &dir)?;
        let witness = Self { computer, api, daemon, program, dir };
        witness.ready().await?;
        let code = std::fs::read_to_string(witness.dir.join("state/run/setup-code"))
            .context("the witness' set-up code")?;
        witness.api.set_up(code.trim(), PASSWORD).await.map_err(explain).context("its first login")?;
        let wish = CreateJoinToken::default();
        let token = cluster.create_join_token(&wish).await.map_err(explain)?.text;
        let join = JoinCluster { token, rename: false };
        witness.api.join(&join).await.map_err(explain).context("joining")?;
        until(&witness.api, "the witness to be a member", 180, |c| c.members.len() == HOSTS + 1).await?;
        Ok(witness)
    }

    async fn ready(&self) -> Result<()> {
        let wait = Wait::seconds(120);
        self.api.wait_ready(wait).await.map(drop).map_err(explain).with_context(|| {
            let said = std::fs::read_to_string(self.dir.join("mgmtd.log")).unwrap_or_default();
            let lines: Vec<&str> = said.lines().rev().take(10).collect();
            format!("the witness is not ready; its log, last line first:\n{}", lines.join("\n"))
        })
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        kill(&mut self.daemon).await;
    }

    /// Starts it again.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.daemon = start(&self.computer, &self.program, &self.dir)?;
        self.ready().await
    }
}

fn start(computer: &Computer, program: &Path, dir: &Path) -> Result<Child> {
    let mut daemon = computer.command(program)?;
    daemon.args(["--witness", "--listen", "0.0.0.0:443", "--state"]).arg(dir.join("state"));
    let log = dir.join("mgmtd.log");
    daemon.stdout(log_file(&log)?).stderr(log_file(&log)?);
    daemon.spawn().context("starting the witness")
}
