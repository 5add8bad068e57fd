//! How much hosts and machines did, over time.

use super::Session;
use crate::output::{Format, Table, line, or_dash, show};
use lq_api::{
    HostId, VmId,
    history::{MetricHistory, Unit},
    usage::{Load, UsageQuery},
};

/// Shows least, mean, most and last of each metric; JSON and YAML have every value.
pub(super) fn history(session: &Session, history: &MetricHistory) -> anyhow::Result<()> {
    show(session.format, history, || {
        let mut table = Table::new(&["METRIC", "LEAST", "MEAN", "MOST", "LAST"]);
        for metric in &history.metrics {
            let known: Vec<f64> = metric.values.iter().flatten().map(|v| f64::from(*v)).collect();
            let text = |value: Option<f64>| or_dash(value.map(|value| format(value, metric.unit)));
            let least = known.iter().copied().reduce(f64::min);
            let most = known.iter().copied().reduce(f64::max);
            let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
            table.row([
                metric.name.clone(),
                text(least),
                text(mean),
                text(most),
                text(known.last().copied()),
            ]);
        }
        table
    })
}

/// Shows hosts and machines with what they did; JSON and YAML have the cluster's history as well.
pub(super) async fn usage(session: &Session, query: &UsageQuery) -> anyhow::Result<()> {
    let client = &session.client;
    let usage = client.usage(query).await?;
    if session.format != Format::Table {
        return show(session.format, &usage, || Table::new(&[]));
    }
    let (hosts, vms) = (client.hosts().await?, client.vms().await?);
    let host = |id: HostId| {
        hosts.iter().find(|h| h.meta.id == id).map_or_else(|| id.to_string(), |h| h.meta.name.clone())
    };
    let vm = |id: VmId| {
        vms.iter().find(|v| v.meta.id == id).map_or_else(|| id.to_string(), |v| v.meta.name.clone())
    };
    show(session.format, &usage, || {
        let mut table = Table::new(&["HOST", "CPU", "OF", "MEMORY", "DISK", "NETWORK"]);
        for each in &usage.hosts {
            let [cpu, memory, disk, network] = loads(&each.load);
            table.row([host(each.host), cpu, each.processors.to_string(), memory, disk, network]);
        }
        for silent in &usage.silent {
            let unknown = || "?".to_owned();
            table.row([host(*silent), unknown(), unknown(), unknown(), unknown(), unknown()]);
        }
        table
    })?;
    line("\n")?;
    let mut machines: Vec<_> = usage.machines.iter().collect();
    machines.sort_by(|a, b| b.load.cpu.unwrap_or(0.0).total_cmp(&a.load.cpu.unwrap_or(0.0)));
    show(session.format, &usage, || {
        let mut table = Table::new(&["MACHINE", "CPU", "MEMORY", "DISK", "NETWORK", "HOST"]);
        for each in machines {
            let [cpu, memory, disk, network] = loads(&each.load);
            table.row([vm(each.vm), cpu, memory, disk, network, host(each.host)]);
        }
        table
    })
}

fn loads(load: &Load) -> [String; 4] {
    let units = [Unit::Processors, Unit::Bytes, Unit::BytesPerSecond, Unit::BytesPerSecond];
    let kinds = load.kinds();
    std::array::from_fn(|n| or_dash(kinds[n].map(|value| format(f64::from(value), units[n]))))
}

/// A value with its unit: `37 %`, `1.5 MiB/s`, `120/s`.
fn format(value: f64, unit: Unit) -> String {
    let size = |value: f64| {
        let mut scaled = value;
        let mut name = "B";
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if scaled.abs() < 1024.0 {
                break;
            }
            (scaled, name) = (scaled / 1024.0, next);
        }
        if name == "B" { format!("{scaled:.0} B") } else { format!("{scaled:.1} {name}") }
    };
    match unit {
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::Processors => format!("{value:.2}"),
        Unit::Bytes => size(value),
        Unit::BytesPerSecond => size(value) + "/s",
        Unit::PerSecond => format!("{value:.1}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_units() {
        assert_eq!(format(0.374, Unit::Share), "37 %");
        assert_eq!(format(1.5, Unit::Processors), "1.50");
        assert_eq!(format(1_572_864.0, Unit::BytesPerSecond), "1.5 MiB/s");
        assert_eq!(format(12.0, Unit::Bytes), "12 B");
        assert_eq!(format(3.25, Unit::PerSecond), "3.2/s");
    }
}
