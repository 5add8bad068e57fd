//! Hosts on one segment, and three of them that are one cluster: the stage on which tests of several hosts play. Formed once from
//! blank disks, shared by tests that follow each other, thrown away when one of them fails.

use crate::{
    accel::Accel,
    host::{Host, explain},
    media::{self, PASSWORD, install_part},
    paths::Paths,
    qemu::{Bus, Machine, Medium},
    segment::{self, Segment},
    wait::eventually,
};
use anyhow::{Context as _, Result, bail};
use lq_api::{
    HostId,
    client::Client,
    cluster::{Cluster, CreateJoinToken},
    local::layout::DISK_MIN_MIB,
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Hosts of the cluster.
pub(crate) const HOSTS: usize = 3;
/// Room for guests' images beside the least a host needs, MiB.
const ROOM_MIB: u64 = 512;

/// Where hosts stand: a segment with a place and a disk for each.
#[derive(Debug)]
pub(crate) struct Ground {
    /// What they are plugged into.
    pub(crate) segment: Segment,
    dir: PathBuf,
    accel: Accel,
    iso: PathBuf,
}

/// The cluster, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Several {
    /// Its hosts; one whose power is cut is taken out and comes back to its place.
    pub(crate) hosts: Vec<Host>,
    /// Where they stand.
    pub(crate) ground: Ground,
}

/// The disk of a host of a cluster in `dir`.
pub(crate) fn disk(dir: &Path, host: usize) -> PathBuf {
    dir.join(format!("host{host}")).join("disk.raw")
}

impl Ground {
    /// Places for so many machines, which are installed from this ISO.
    pub(crate) async fn open(accel: Accel, dir: &Path, iso: PathBuf, machines: usize) -> Result<Self> {
        let segment = Segment::open(dir, machines).await?;
        Ok(Self { segment, dir: dir.to_owned(), accel, iso })
    }

    /// The machine of a host, from its disk alone.
    pub(crate) fn machine(&self, n: usize) -> Result<Machine> {
        let path = disk(&self.dir, n);
        let dir = self.dir.join(format!("host{n}"));
        let (plug, forward_fixed) = self.segment.plug(n)?;
        Ok(Machine {
            disks: vec![media::disk_at(&path, Bus::Virtio)],
            segment: Some(plug),
            forward: vec![],
            forward_fixed,
            memory_mib: 2048,
            ..media::bare_metal(&dir, self.accel)
        })
    }

    /// Installs a host to a blank disk; it is not started yet.
    pub(crate) async fn install(&self, paths: &Paths, n: usize, token: Option<&str>) -> Result<Machine> {
        let machine = self.machine(n)?;
        media::empty_disk(&disk(&self.dir, n), DISK_MIN_MIB + ROOM_MIB, Bus::Virtio)?;
        let name = format!("node{}", n + 1);
        let mut answer = media::answer_with(&install_part("auto", "power-off"), &name, PASSWORD);
        answer += &format!(
            "\n[host.network]\naddress = \"{}/24\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n",
            segment::address(n)
        );
        if let Some(token) = token {
            answer += &format!("\n[cluster]\njoin = \"{token}\"\n");
        }
        let iso = machine.dir.join("install.iso");
        media::prepare_iso(paths, self.accel, &self.iso, &iso, Some(&answer)).await?;
        let medium = Some((Medium::Cd, iso.clone()));
        media::install(Machine { medium, ..machine.clone() }).await?;
        let _ = std::fs::remove_file(iso);
        Ok(machine)
    }
}

impl Several {
    /// Blank disks become a quorate cluster with three votes, by one token.
    pub(crate) async fn form(paths: &Paths, accel: Accel, dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let ground = Ground::open(accel, dir, paths.iso(), HOSTS).await?;
        let first = ground.install(paths, 0, None).await.context("the first host")?;
        let first = media::boot_installed(first).await.context("the first host")?;
        let wish = CreateJoinToken { uses: 2, ..CreateJoinToken::default() };
        let token = first.api.create_join_token(&wish).await.map_err(explain)?.text;
        let joining = async |n: usize| -> Result<Host> {
            let machine = ground.install(paths, n, Some(&token)).await?;
            let host = Host::boot(machine).await?;
            until(&host.api, "it to be a member", 300, |c| c.members.len() == HOSTS).await?;
            Ok(host)
        };
        let (second, third) = tokio::try_join!(joining(1), joining(2)).context("a host that joins")?;
        let several = Self { hosts: vec![first, second, third], ground };
        for host in &several.hosts {
            until(&host.api, "three votes", 300, |c| c.quorum && c.voters.len() == HOSTS).await?;
        }
        println!("        blank disks to a quorate cluster of three: {} s", began.elapsed().as_secs());
        Ok(several)
    }

    /// Who each is.
    pub(crate) async fn ids(&self) -> Result<Vec<HostId>> {
        let mut ids = Vec::new();
        for host in &self.hosts {
            ids.push(host.api.cluster().await.map_err(explain)?.this_host);
        }
        Ok(ids)
    }

    /// Cuts the power of a host, which is no more among [`Self::hosts`] then: those behind it move up.
    pub(crate) async fn cut_power(&mut self, n: usize) {
        self.hosts.remove(n).machine.cut_power().await;
    }

    /// Switches a host on whose power was cut, and waits until all answer to all.
    pub(crate) async fn switch_on(&mut self, n: usize) -> Result<()> {
        let machine = self.ground.machine(n)?;
        let back = media::boot_installed(machine).await.context("the host whose power was cut")?;
        self.hosts.insert(n, back);
        for host in &self.hosts {
            until(&host.api, "all to answer", 300, whole).await?;
        }
        Ok(())
    }
}

/// A majority is there, and every member answers.
pub(crate) fn whole(cluster: &Cluster) -> bool {
    cluster.quorum && cluster.members.iter().all(|m| m.reachable == Some(true))
}

/// Waits until a host sees the cluster so. It may start its daemon again meanwhile, and its accounts may become the cluster's.
pub(crate) async fn until(
    api: &Client,
    what: &str,
    seconds: u64,
    wanted: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    let look = async || match api.cluster().await {
        Ok(cluster) if wanted(&cluster) => Ok(()),
        Ok(cluster) => bail!("{cluster:?}"),
        Err(e) => {
            let _ = api.login("admin", PASSWORD, None).await;
            bail!("{}", e.chain())
        }
    };
    eventually(what, seconds, look).await
}
