//! Three hosts that are treated roughly: restarted in turn under load.

use crate::{
    host::explain,
    runner::Ctx,
    several::{HOSTS, Several},
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{auth::CreateToken, client::Client, host::HostPowerAction};
use std::{cell::Cell, time::Duration};

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(500);
/// Fewest writes that are load, and most while a host restarts: a user has at most 100 tokens.
const WRITES: std::ops::Range<usize> = 20..80;

async fn write(api: &Client, name: &str) -> Result<()> {
    let request = CreateToken { name: name.into(), days: Some(1), read_only: true, limit: None, owner: None };
    api.create_token(&request).await.map(drop).map_err(explain)
}

/// Writes through these hosts in turn until told to stop; the names of what was acknowledged, and what was not with the reason.
async fn load(name: &str, through: &[Client], stop: &Cell<bool>) -> (Vec<String>, Vec<String>) {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (n, api) in through.iter().cycle().enumerate().take(WRITES.end) {
        let name = format!("{name}-{n}");
        match write(api, &name).await {
            Ok(()) => taken.push(name),
            Err(why) => refused.push(format!("{name}: {why:#}")),
        }
        if stop.get() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    (taken, refused)
}

/// Every host in turn is restarted as an administrator does it, the one that leads first, while the others are written to: they take
/// every write, and none of those is missing on any host afterwards.
pub(super) async fn rolling(ctx: &mut Ctx) -> Result<()> {
    let mut cluster = ctx.take_several().await?;
    let led = cluster.hosts[0].api.cluster().await.map_err(explain)?.leader.context("no leader")?;
    let first = cluster.ids().await?.iter().position(|id| *id == led).context("the leader is no host")?;
    for n in (first..first + HOSTS).map(|n| n % HOSTS) {
        let others: Vec<Client> =
            (0..HOSTS).filter(|o| *o != n).map(|o| cluster.hosts[o].api.clone()).collect();
        let stop = Cell::new(false);
        let name = format!("round-{n}");
        let restart = async {
            let done = restart(&mut cluster, n).await;
            stop.set(true);
            done
        };
        let (done, (taken, refused)) = tokio::join!(restart, load(&name, &others, &stop));
        done.with_context(|| format!("restarting host {n}"))?;
        println!("        host {n} restarted amid {} writes", taken.len());
        ensure!(
            refused.is_empty(),
            "{} writes refused by hosts that were not restarted: {:?}",
            refused.len(),
            refused.first()
        );
        ensure!(taken.len() >= WRITES.start, "only {} writes while a host restarted", taken.len());
        for host in &cluster.hosts {
            let tokens = host.api.tokens().await.map_err(explain)?;
            let lost: Vec<_> = taken.iter().filter(|name| !tokens.iter().any(|t| t.name == **name)).collect();
            ensure!(lost.is_empty(), "acknowledged writes are missing: {lost:?}");
        }
        for token in cluster.hosts[n].api.tokens().await.map_err(explain)? {
            cluster.hosts[n].api.delete_token(token.id).await.map_err(explain)?;
        }
    }
    ctx.give_back_several(cluster);
    Ok(())
}

async fn restart(cluster: &mut Several, n: usize) -> Result<()> {
    let id = cluster.hosts[n].api.cluster().await.map_err(explain)?.this_host;
    cluster.hosts[n].api.host_power(id, HostPowerAction::Reboot).await.map_err(explain)?;
    let mut old = cluster.hosts.remove(n);
    old.machine.wait_end(180).await.context("the restart")?;
    cluster.switch_on(n).await
}
