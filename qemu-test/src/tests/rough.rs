//! Three hosts that are treated roughly: restarted in turn under load, bereft of their majority.

use super::cluster::counting_guest;
use crate::{
    host::{Host, explain},
    media::PASSWORD,
    runner::Ctx,
    several::{HOSTS, Several, until, whole},
    site::remove_vm,
    wait::eventually,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    auth::CreateToken,
    client::Client,
    cluster::{Cluster, CreateJoinToken, JoinCluster},
    host::HostPowerAction,
    problem::Kind,
    recovery::ReformCluster,
};
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

/// Two of three hosts lose their power for good: a guest of the third runs on, changes are refused and said why, the cluster is
/// formed anew from it, and the two come back to it as hosts that join.
pub(super) async fn majority(ctx: &mut Ctx) -> Result<()> {
    let mut cluster = ctx.take_several().await?;
    let ids = cluster.ids().await?;
    let (id, console) = counting_guest(ctx, &cluster.hosts[1].api, ids[0]).await?;
    write(&cluster.hosts[1].api, "before-the-loss").await?;
    cluster.cut_power(2).await;
    cluster.cut_power(1).await;
    let api = cluster.hosts[0].api.clone();
    let lost = |c: &Cluster| !c.quorum && c.lost.as_ref().is_some_and(|l| l.missing.len() == 2);
    until(&api, "the majority to be missed", 120, lost).await?;
    let refused = api.create_join_token(&CreateJoinToken::default()).await;
    let refused = refused.err().context("a change was taken without a majority")?;
    ensure!(refused.is(Kind::Unavailable), "a change without a majority: {}", refused.chain());
    console.said.expect("tick", 60).await.context("the guest without a majority")?;

    // Only a session of this host may.
    eventually("a session of the survivor", 120, async || {
        api.login("admin", PASSWORD, None).await.map(drop).map_err(explain)
    })
    .await?;
    let preview = api.preview_reform().await.map_err(explain)?;
    ensure!(preview.obstacles.is_empty() && preview.hosts.len() == 2, "{preview:?}");
    let wanted = ReformCluster { confirm: preview.confirm, lost: vec![ids[1], ids[2]] };
    api.reform(&wanted).await.map_err(explain).context("forming the cluster anew")?;
    until(&api, "the new epoch", 180, |c| c.quorum && c.epoch == 2).await?;
    write(&api, "after-the-loss").await?;
    let seen = api.vm(id).await.map_err(explain)?;
    ensure!(seen.status.host == Some(ids[0]), "the guest is on {:?}", seen.status.host);
    console.said.expect("tick", 60).await.context("the guest in the new epoch")?;

    let token = CreateJoinToken { uses: 2, ..CreateJoinToken::default() };
    let token = api.create_join_token(&token).await.map_err(explain)?.text;
    for n in 1..HOSTS {
        let host = Host::boot(cluster.ground.machine(n)?).await?;
        until(&host.api, "the lost host to know of it", 180, |c| c.outdated.is_some()).await?;
        let stale = write(&host.api, "of-yesterday").await;
        ensure!(stale.is_err(), "a host of the former epoch takes changes");
        let join = JoinCluster { token: token.clone(), rename: false };
        host.api.join(&join).await.map_err(explain).context("coming back")?;
        until(&host.api, "it to be back", 180, |c| c.epoch == 2 && c.quorum && c.outdated.is_none()).await?;
        cluster.hosts.push(host);
    }
    for host in &cluster.hosts {
        until(&host.api, "three votes", 300, |c| whole(c) && c.voters.len() == HOSTS).await?;
        let tokens = host.api.tokens().await.map_err(explain)?;
        for name in ["before-the-loss", "after-the-loss"] {
            ensure!(tokens.iter().any(|t| t.name == name), "{name} is missing on a host that came back");
        }
    }
    remove_vm(&cluster.hosts[2].api, id).await?;
    ctx.give_back_several(cluster);
    Ok(())
}
