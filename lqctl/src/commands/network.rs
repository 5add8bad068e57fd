//! Networks.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{Dhcp as Wanted, Network as Command, What},
    failure::usage,
    output::{Format, Table, age, describe, line, moment, or_dash, show, word},
    terminal::confirm,
};
use lq_api::network::{CreateNetwork, Dhcp, Network, NetworkKind, NetworkSpec, UpdateNetwork};

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(listing) => {
            follow::list(session, listing, What::Network, |networks: &[Network]| {
                let mut table = Table::new(&["NAME", "KIND", "DHCP", "RANGE", "AGE"]);
                for network in networks {
                    let dhcp = network.spec.dhcp.as_ref();
                    table.row([
                        network.meta.name.clone(),
                        word(&network.spec.kind),
                        or_dash(dhcp.map(|d| d.subnet.clone())),
                        or_dash(dhcp.map(|d| format!("{} to {}", d.first, d.last))),
                        age(network.meta.created_at),
                    ]);
                }
                table
            })
            .await
        }
        Command::Show { network, watching } => {
            let (network, revision) = client.find_at(&network).await?;
            show_one(session, &network)?;
            follow::object(session, watching, What::Network, &network, revision, |n| show_one(session, n))
                .await
        }
        Command::Create { name, dhcp, labels: pairs } => {
            let spec = NetworkSpec { kind: NetworkKind::Bridged, dhcp: wanted(dhcp)? };
            let network = CreateNetwork { name, labels: labels(pairs), spec };
            changed(session, &client.create_network(&network).await?, "created")
        }
        Command::Update { network, meta, dhcp, no_dhcp } => {
            let network = client.find_network(&network).await?;
            let spec = match (no_dhcp, wanted(dhcp)?) {
                (true, _) => Some(NetworkSpec { dhcp: None, ..network.spec.clone() }),
                (false, Some(dhcp)) => Some(NetworkSpec { dhcp: Some(dhcp), ..network.spec.clone() }),
                (false, None) => None,
            };
            let labels = meta.relabelled(&network.meta.labels)?;
            if meta.name.is_none() && labels.is_none() && spec.is_none() {
                return Err(usage(
                    "say what to change: --name, --label, --unlabel, --dhcp-subnet … or --no-dhcp",
                ));
            }
            let change = UpdateNetwork { name: meta.name, labels, spec };
            let revision = Some(network.meta.revision);
            changed(session, &client.update_network(network.meta.id, &change, revision).await?, "changed")
        }
        Command::Delete { network, yes } => {
            let network = client.find_network(&network).await?;
            confirm(&format!("Delete network {}?", network.meta.name), yes)?;
            client.delete_network(network.meta.id).await?;
            line(&format!("Network {} deleted.\n", network.meta.name))
        }
    }
}

fn wanted(wanted: Wanted) -> anyhow::Result<Option<Dhcp>> {
    match (wanted.dhcp_subnet, wanted.dhcp_first, wanted.dhcp_last) {
        (Some(subnet), Some(first), Some(last)) => Ok(Some(Dhcp {
            subnet,
            first,
            last,
            gateway: wanted.dhcp_gateway,
            dns: wanted.dhcp_dns,
            lease_seconds: wanted.dhcp_lease,
        })),
        (None, None, None) => Ok(None),
        _ => Err(usage("--dhcp-subnet, --dhcp-first and --dhcp-last go together")),
    }
}

fn changed(session: &Session, network: &Network, what: &str) -> anyhow::Result<()> {
    if session.format != Format::Table {
        return show(session.format, network, || Table::new(&[]));
    }
    line(&format!("Network {} {what}.\n", network.meta.name))
}

fn show_one(session: &Session, network: &Network) -> anyhow::Result<()> {
    let mut fields = vec![
        ("Name", network.meta.name.clone()),
        ("Id", network.meta.id.to_string()),
        ("Labels", shown(&network.meta.labels)),
        ("Kind", word(&network.spec.kind)),
    ];
    if let Some(dhcp) = &network.spec.dhcp {
        let dns: Vec<_> = dhcp.dns.iter().map(ToString::to_string).collect();
        fields.push(("DHCP", dhcp.subnet.clone()));
        fields.push(("Range", format!("{} to {}", dhcp.first, dhcp.last)));
        fields.push(("Gateway", or_dash(dhcp.gateway)));
        fields.push(("DNS", dns.join(" ")));
        fields.push(("Lease", format!("{} s", dhcp.lease_seconds)));
    }
    fields.push(("Created", moment(network.meta.created_at)));
    describe(session.format, network, &fields)
}
