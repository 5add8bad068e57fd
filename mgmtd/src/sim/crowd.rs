//! A large simulated cluster: hosts that cannot be asked and machines on them, so that lists, searches and live updates can be
//! tried at the size of a data centre. Nothing drives these machines: what they are observed to be is made up here.

use crate::{
    cluster::{Cluster, Op, WriteError},
    config::Crowd,
};
use futures::{TryStreamExt as _, stream};
use lq_api::{
    Bytes, HostId, ImageId, Timestamp, VmId,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    vm::{Boot, CreateVm, PowerState, RestartPolicy, VmSpec, VmState, VmStatus},
};
use std::{collections::BTreeMap, time::Duration};
use tokio_util::sync::CancellationToken;

/// Writes under way at a time; they share the log's syncs.
const ABREAST: usize = 64;
/// Time between two changes.
const BEAT: Duration = Duration::from_millis(250);
/// Machines changed at a time.
const CHANGED: usize = 4;
/// Name of the image the machines name as their kernel.
const KERNEL: &str = "simulated-kernel";
/// Label of the machines made here.
const LABEL: &str = "simulated";

/// Makes what is missing of the crowd, then changes a few machines all the time, until `end`.
pub async fn crowd(cluster: Cluster, size: Crowd, end: CancellationToken) {
    tokio::select! {
        () = end.cancelled() => {}
        outcome = run(&cluster, size) => if let Err(e) = outcome {
            tracing::error!(error = %e, "the simulated crowd ended");
        },
    }
}

async fn run(cluster: &Cluster, size: Crowd) -> Result<(), WriteError> {
    if size == Crowd::default() {
        return Ok(());
    }
    let hosts = make_hosts(cluster, size.hosts).await?;
    let vms = make_vms(cluster, &hosts, size.vms).await?;
    tracing::info!(hosts = hosts.len(), vms = vms.len(), "the simulated crowd is there");
    if vms.is_empty() {
        return Ok(());
    }
    let mut turn = 0usize;
    loop {
        tokio::time::sleep(BEAT).await;
        for _ in 0..CHANGED {
            // A stride without a common divisor visits all of them in an order that looks like none.
            turn = turn.wrapping_add(7919);
            let Some(id) = vms.get(turn % vms.len()) else { continue };
            let Some(mut status) = cluster.read(|s| s.vms.get(id).map(|r| r.vm.status.clone())) else {
                continue;
            };
            status.state = match status.state {
                VmState::Running => VmState::Paused,
                VmState::Paused => VmState::Running,
                _ => continue,
            };
            cluster.write(Op::ObserveVm { id: *id, status, host_ends: false, by: None }).await?;
        }
    }
}

async fn make_hosts(cluster: &Cluster, count: u32) -> Result<Vec<HostId>, WriteError> {
    let hosts = (1..=count).map(|n| (HostId::new(), format!("host-{n:03}"))).collect();
    cluster.write(Op::SimulateHosts { hosts }).await?;
    let me = cluster.identity().host;
    let others: Vec<_> = cluster.read(|s| s.hosts.keys().copied().filter(|id| *id != me).collect());
    Ok(if others.is_empty() { vec![me] } else { others })
}

async fn make_vms(cluster: &Cluster, hosts: &[HostId], count: u32) -> Result<Vec<VmId>, WriteError> {
    let known = |cluster: &Cluster| {
        cluster.read(|s| {
            let ours = s.vms.values().filter(|r| r.vm.meta.labels.contains_key(LABEL));
            ours.map(|r| r.vm.meta.id).collect::<Vec<_>>()
        })
    };
    let have = known(cluster).len();
    let kernel =
        cluster.read(|s| s.images.values().find(|r| r.image.meta.name == KERNEL).map(|r| r.image.meta.id));
    let kernel = match kernel {
        Some(id) => id,
        None => {
            let id = ImageId::new();
            let spec = ImageSpec {
                kind: ImageKind::Kernel,
                format: ImageFormat::Raw,
                pool: None,
                sha256: None,
                boot: None,
            };
            let create = CreateImage { name: KERNEL.into(), labels: BTreeMap::new(), spec };
            cluster.write(Op::CreateImage { id, create }).await?;
            id
        }
    };
    stream::iter((have..count as usize).map(Ok))
        .try_for_each_concurrent(ABREAST, |n| async move {
            let Some(host) = hosts.get(n % hosts.len().max(1)) else { return Ok(()) };
            make_vm(cluster, *host, kernel, n).await
        })
        .await?;
    Ok(known(cluster))
}

async fn make_vm(cluster: &Cluster, host: HostId, kernel: ImageId, n: usize) -> Result<(), WriteError> {
    const KINDS: [&str; 6] = ["web", "db", "cache", "worker", "mail", "build"];
    let kind = KINDS[n % KINDS.len()];
    let stopped = n.is_multiple_of(11);
    let spec = VmSpec {
        vcpus: 1 << (n % 5),
        memory_bytes: Bytes::gib(1 << (n % 6)),
        boot: Some(Boot { kernel, initrd: None, cmdline: "console=ttyS0".into() }),
        restart: RestartPolicy::Never,
        autostart: false,
        power: if stopped { PowerState::Stopped } else { PowerState::Running },
        ..VmSpec::default()
    };
    let labels = BTreeMap::from([(LABEL.into(), String::new()), ("kind".into(), kind.into())]);
    let id = VmId::new();
    let create = CreateVm { name: format!("{kind}-{:04}", n + 1), labels, spec };
    cluster.write(Op::CreateVm { id, host, create }).await?;
    if !stopped {
        let status = VmStatus {
            state: VmState::Running,
            started_at: Some(Timestamp::now()),
            observed_generation: 1,
            ..VmStatus::default()
        };
        cluster.write(Op::ObserveVm { id, status, host_ends: false, by: None }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{NetworkId, PoolId};

    #[tokio::test]
    async fn a_crowd_is_made_once_and_spread_over_its_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::open(dir.path()).await.unwrap();
        let first = Op::Initialise {
            cluster: cluster.identity().cluster,
            host: cluster.identity().host,
            host_name: "first".into(),
            pool: PoolId::new(),
            network: NetworkId::new(),
            dhcp: None,
        };
        cluster.write(first).await.unwrap();
        for _ in 0..2 {
            let hosts = make_hosts(&cluster, 3).await.unwrap();
            assert_eq!(hosts.len(), 3);
            assert_eq!(make_vms(&cluster, &hosts, 30).await.unwrap().len(), 30);
            for host in hosts {
                let on = cluster.read(|s| s.vms.values().filter(|r| r.vm.status.host == Some(host)).count());
                assert_eq!(on, 10);
            }
        }
        let running =
            cluster.read(|s| s.vms.values().filter(|r| r.vm.status.state == VmState::Running).count());
        assert_eq!(running, 27);
    }
}
