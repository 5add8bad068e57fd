//! `/metrics`: what is read of this host, its machines, the cluster, and the alerts when Prometheus asks. Every host tells of
//! itself and of its own machines; what is the cluster's every host tells.

use super::super::{Api, peer::own_status};
use crate::{
    cluster::State as Agreed,
    compute::Machine,
    inventory::Measured,
    telemetry::exposition::{Exposition, Kind},
};
use futures::{StreamExt as _, stream};
use lq_api::{
    VmId,
    host::DiskHealth,
    local::vmm::{IoStats, Stats},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A machine that has not answered by then is left out this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Machines asked at a time.
const ABREAST: usize = 16;

/// Everything in Prometheus' text form.
pub(super) async fn read(api: &Arc<Api>) -> String {
    let mut text = Exposition::default();
    let machines = api.node.fleet.running();
    let asked: Vec<_> = machines.into_iter().map(ask).collect();
    let asked: Vec<Told> = stream::iter(asked).buffer_unordered(ABREAST).collect().await;
    let health = api.node.cluster.health().await;
    let standing = api.node.cluster.standing();
    host(api, &mut text).await;
    api.node.cluster.read(|s| {
        let count = |n: usize| Some(n as f64);
        text.one("lq_cluster_hosts", Kind::Gauge, "Hosts of the cluster.", count(s.hosts.len()));
        let heard = health.as_ref().map(|h| h.reachable.len() as f64);
        text.one(
            "lq_cluster_hosts_reachable",
            Kind::Gauge,
            "Hosts the leader hears, itself included.",
            heard,
        );
        text.one("lq_cluster_voters", Kind::Gauge, "Hosts whose votes count.", count(standing.voters.len()));
        let quorum = f64::from(u8::from(health.as_ref().is_some_and(|h| h.quorum)));
        text.one(
            "lq_cluster_quorum",
            Kind::Gauge,
            "1 while a majority of the voters is reached.",
            Some(quorum),
        );
        let leads = f64::from(u8::from(standing.leader == Some(api.node.id())));
        text.one("lq_cluster_leader", Kind::Gauge, "1 on the host that leads.", Some(leads));
        machines_of(s, &asked, &mut text);
        alerts(api, s, &mut text);
    });
    text.to_string()
}

async fn host(api: &Arc<Api>, text: &mut Exposition) {
    let load = api.node.host.clone();
    let load = tokio::task::spawn_blocking(move || load.load()).await.unwrap_or_default();
    let Some(status) = own_status(api).await else { return };
    let info = [("version", status.version.as_str()), ("kernel", status.kernel.as_str())];
    text.family(
        "lq_host_info",
        Kind::Gauge,
        "Version and kernel of this host, always 1.",
        [(info, Some(1.0))],
    );
    let gauges = [
        (
            "lq_host_boot_time_seconds",
            "When it booted, since the epoch.",
            status.booted_at.as_second() as f64,
        ),
        ("lq_host_cpus", "Logical processors.", f64::from(status.cpu.threads)),
        ("lq_host_memory_bytes", "Memory in all.", status.memory.total_bytes.0 as f64),
        ("lq_host_memory_available_bytes", "Memory left for guests.", status.memory.available_bytes.0 as f64),
        ("lq_host_warnings", "What keeps it from full health or safety.", status.warnings.len() as f64),
    ];
    for (name, help, value) in gauges {
        text.one(name, Kind::Gauge, help, Some(value));
    }
    text.one("lq_host_cpu_usage_ratio", Kind::Gauge, "Share of processor time in use.", value(load.cpu));
    let counters = [
        ("lq_host_network_receive_bytes_total", "Received by all physical interfaces.", load.received),
        ("lq_host_network_transmit_bytes_total", "Sent by all physical interfaces.", load.sent),
        ("lq_host_disk_read_bytes_total", "Read from all disks.", load.read),
        ("lq_host_disk_written_bytes_total", "Written to all disks.", load.written),
    ];
    for (name, help, measured) in counters {
        text.one(name, Kind::Counter, help, value(measured));
    }
    let disks = status.disks.iter().map(|disk| {
        let healthy = match &disk.health {
            Some(DiskHealth::Healthy) => Some(1.0),
            Some(DiskHealth::Worn { .. } | DiskHealth::Failing { .. }) => Some(0.0),
            Some(DiskHealth::Unknown { .. }) | None => None,
        };
        ([("disk", disk.name.as_str())], healthy)
    });
    let help = "1 where a disk says it is well, 0 where it is worn or failing; absent where it says nothing.";
    text.family("lq_host_disk_healthy", Kind::Gauge, help, disks);
}

fn value(measured: Measured) -> Option<f64> {
    match measured {
        Measured::Level(value) | Measured::Counter(value) => Some(value),
        Measured::Unknown => None,
    }
}

/// What a machine told: its processor time and memory, and its counters.
type Told = (VmId, (Measured, Measured), Option<Stats>);

async fn ask(machine: Arc<dyn Machine>) -> Told {
    let stats = tokio::time::timeout(PATIENCE, machine.stats()).await.ok().and_then(Result::ok);
    (machine.vm(), machine.usage(), stats)
}

fn machines_of(state: &Agreed, asked: &[Told], text: &mut Exposition) {
    let ids: BTreeMap<VmId, String> = asked.iter().map(|(vm, ..)| (*vm, vm.to_string())).collect();
    let mut family = |name: &str, kind: Kind, help: &str, of: &dyn Fn(&Told) -> Option<f64>| {
        let samples = asked.iter().filter_map(|told| {
            let vm = &state.vms.get(&told.0)?.vm;
            Some(([("vm", vm.meta.name.as_str()), ("id", ids.get(&told.0)?.as_str())], of(told)))
        });
        text.family(name, kind, help, samples);
    };
    let spec = |told: &Told| state.vms.get(&told.0).map(|r| &r.vm.spec);
    family("lq_vm_vcpus", Kind::Gauge, "Virtual CPUs of a running machine.", &|t| {
        spec(t).map(|s| f64::from(s.vcpus))
    });
    family("lq_vm_memory_bytes", Kind::Gauge, "Memory of a running machine.", &|t| {
        let vm = &state.vms.get(&t.0)?.vm;
        Some(vm.status.memory_bytes.unwrap_or(vm.spec.memory_bytes).0 as f64)
    });
    family(
        "lq_vm_resident_memory_bytes",
        Kind::Gauge,
        "Memory of the host that a machine has in use.",
        &|t| value(t.1.1),
    );
    family("lq_vm_cpu_seconds_total", Kind::Counter, "Processor time a machine used.", &|t| value(t.1.0));
    let sum = |all: &[IoStats], field: fn(&IoStats) -> u64| all.iter().map(field).sum::<u64>() as f64;
    let disks = |t: &Told, field: fn(&IoStats) -> u64| t.2.as_ref().map(|s| sum(&s.disks, field));
    let nics = |t: &Told, field: fn(&IoStats) -> u64| t.2.as_ref().map(|s| sum(&s.nics, field));
    let c = Kind::Counter;
    family("lq_vm_disk_read_bytes_total", c, "Read from disks.", &|t| disks(t, |io| io.read_bytes));
    family("lq_vm_disk_written_bytes_total", c, "Written to disks.", &|t| disks(t, |io| io.written_bytes));
    family("lq_vm_disk_reads_total", c, "Reads from disks.", &|t| disks(t, |io| io.reads));
    family("lq_vm_disk_writes_total", c, "Writes to disks.", &|t| disks(t, |io| io.writes));
    family("lq_vm_disk_errors_total", c, "Failed requests of disks.", &|t| disks(t, |io| io.errors));
    family("lq_vm_network_receive_bytes_total", c, "Received by interfaces.", &|t| {
        nics(t, |io| io.read_bytes)
    });
    family("lq_vm_network_transmit_bytes_total", c, "Sent by interfaces.", &|t| {
        nics(t, |io| io.written_bytes)
    });
    family("lq_vm_network_receive_packets_total", c, "Packets received.", &|t| nics(t, |io| io.reads));
    family("lq_vm_network_transmit_packets_total", c, "Packets sent.", &|t| nics(t, |io| io.writes));
    family("lq_vm_network_drops_total", c, "Packets dropped.", &|t| nics(t, |io| io.errors));
    family("lq_vm_exits_total", c, "Exits of the guest to its monitor.", &|t| {
        t.2.as_ref().map(|s| s.exits as f64)
    });
}

fn alerts(api: &Api, state: &Agreed, text: &mut Exposition) {
    let local = api.alerts.local();
    let mut open: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for alert in state.alerting.active().chain(&local) {
        *open.entry((alert.rule.text(), alert.severity.text())).or_default() += 1.0;
    }
    // One sample is always there, so that its absence means that nobody answers.
    text.one("lq_alerts_active", Kind::Gauge, "Alerts that are not over.", Some(open.values().sum()));
    let samples =
        open.iter().map(|((rule, severity), n)| ([("rule", *rule), ("severity", *severity)], Some(*n)));
    text.family("lq_alerts", Kind::Gauge, "Alerts that are not over, by rule and severity.", samples);
    let channels: Vec<_> = state.alerting.channels.values().map(|c| state.alerting.show(c)).collect();
    let name = |c: usize| [("channel", channels[c].meta.name.as_str())];
    let of = |value: &dyn Fn(usize) -> f64| {
        (0..channels.len()).map(|c| (name(c), Some(value(c)))).collect::<Vec<_>>()
    };
    let failing = of(&|c| f64::from(u8::from(channels[c].status.failing_since.is_some())));
    let help = "1 where a notification channel takes nothing.";
    text.family("lq_notification_channel_failing", Kind::Gauge, help, failing);
    let waiting = of(&|c| channels[c].status.waiting as f64);
    text.family("lq_notifications_waiting", Kind::Gauge, "Notifications that wait for a channel.", waiting);
    let dropped = of(&|c| channels[c].status.dropped as f64);
    text.family("lq_notifications_dropped_total", Kind::Counter, "Notifications given up.", dropped);
}
