//! Three hosts that are treated roughly: restarted in turn under load, given other addresses, bereft of their majority.

use super::cluster::{counting_guest, ticks};
use crate::{
    guest_console::GuestConsole,
    host::{Host, client_at, explain},
    media::PASSWORD,
    runner::Ctx,
    segment::{address, moved_address},
    several::{HOSTS, Several, until, whole},
    site::remove_vm,
    wait::eventually,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    HostId,
    auth::CreateToken,
    client::Client,
    cluster::{Cluster, CreateJoinToken, JoinCluster},
    host::HostPowerAction,
    management::TryNetwork,
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

/// Every host gets another address, one after the other, each change confirmed through the new one; the cluster takes notice,
/// outlasts that all lose their power at once, and gets the old addresses again.
pub(super) async fn readdress(ctx: &mut Ctx) -> Result<()> {
    let mut cluster = ctx.take_several().await?;
    let ids = cluster.ids().await?;
    for (n, id) in ids.iter().enumerate() {
        let there = at_new_address(&cluster, n)?;
        readdressed(&cluster, n, *id, &moved_address(n), there).await.with_context(|| format!("host {n}"))?;
    }
    let at_new = |c: &Cluster| {
        let is_new = |n: usize, id: HostId| {
            let member = c.members.iter().find(|m| m.host == id);
            member.and_then(|m| m.address.as_ref()).is_some_and(|a| a.starts_with(&moved_address(n)))
        };
        whole(c) && ids.iter().enumerate().all(|(n, id)| is_new(n, *id))
    };
    for n in 0..HOSTS {
        let api = at_new_address(&cluster, n)?;
        until(&api, "all at their new addresses", 180, at_new).await?;
    }
    // What they know of each other is on their disks.
    while let Some(mut host) = cluster.hosts.pop() {
        host.machine.kill().await;
    }
    let mut machines = Vec::new();
    for n in 0..HOSTS {
        machines.push(cluster.ground.machine(n)?.start().await?);
    }
    for n in 0..HOSTS {
        let api = at_new_address(&cluster, n)?;
        until(&api, "all to answer at their new addresses", 300, at_new)
            .await
            .context("after a power cut")?;
    }
    for (n, machine) in machines.into_iter().enumerate() {
        let api = at_old_address(&cluster, n)?;
        cluster.hosts.push(Host { machine, api, ready_after: 0.0 });
    }
    for (n, id) in ids.iter().enumerate() {
        let there = cluster.hosts[n].api.clone();
        readdressed(&cluster, n, *id, &address(n), there).await.with_context(|| format!("host {n}"))?;
    }
    for host in &cluster.hosts {
        until(&host.api, "all at their old addresses", 180, |c| whole(c) && !at_new(c)).await?;
    }
    ctx.give_back_several(cluster);
    Ok(())
}

/// Gives a host another address, asked for through any other one, and confirms it at the new one.
async fn readdressed(cluster: &Several, n: usize, id: HostId, to: &str, there: Client) -> Result<()> {
    // Of the next host it is not known at which address it is by now.
    let next = (n + 1) % HOSTS;
    let asked = [cluster.hosts[next].api.clone(), at_new_address(cluster, next)?];
    let asked = eventually("another host to answer", 120, async || {
        for api in &asked {
            if api.login("admin", PASSWORD, None).await.is_ok() {
                return Ok(api);
            }
        }
        anyhow::bail!("neither address answers")
    });
    let asked = asked.await?;
    let mut network = asked.host_network(id).await.map_err(explain)?.kept;
    network.address = Some(format!("{to}/24"));
    let wish = TryNetwork { network, seconds: 120 };
    asked.try_host_network(id, &wish).await.map_err(explain).context("trying the address")?;
    eventually("the host to answer at its new address", 120, async || {
        there.login("admin", PASSWORD, None).await.map_err(explain)?;
        let kept = there.keep_host_network(id).await.map_err(explain)?;
        ensure!(
            kept.trial.is_none() && kept.kept.address.as_deref() == Some(&format!("{to}/24")),
            "{kept:?}"
        );
        Ok(())
    })
    .await
}

fn at_old_address(cluster: &Several, n: usize) -> Result<Client> {
    client_at(cluster.ground.segment.plug(n)?.1.first().context("no port")?.1)
}

fn at_new_address(cluster: &Several, n: usize) -> Result<Client> {
    client_at(cluster.ground.segment.moved(n)?)
}

/// Two of three hosts lose their power for good: a guest of the third runs on, changes are refused and said why, the cluster is
/// formed anew from it, and the two come back to it as hosts that join.
pub(super) async fn majority(ctx: &mut Ctx) -> Result<()> {
    let mut cluster = ctx.take_several().await?;
    let ids = cluster.ids().await?;
    let (id, console) = counting_guest(ctx, &cluster.hosts[0].api, ids[0]).await?;
    write(&cluster.hosts[1].api, "before-the-loss").await?;
    cluster.cut_power(2).await;
    cluster.cut_power(1).await;
    let api = cluster.hosts[0].api.clone();
    let lost = |c: &Cluster| !c.quorum && c.lost.as_ref().is_some_and(|l| l.missing.len() == 2);
    until(&api, "the majority to be missed", 120, lost).await?;
    let refused = api.create_join_token(&CreateJoinToken::default()).await;
    let refused = refused.err().context("a change was taken without a majority")?;
    ensure!(refused.is(Kind::Unavailable), "a change without a majority: {}", refused.chain());
    console.said.skip();
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
    // Consoles are ended with the old epoch; the guest knows nothing of it.
    let before = ticks(&console.said.all()).last().copied().context("the guest never counted")?;
    let console = GuestConsole::open(&api, id, &ctx.dir.join("console-after.log")).await?;
    let next = format!("tick {}\n", before + 1);
    console.said.expect(&next, 60).await.context("the guest in the new epoch")?;

    let token = CreateJoinToken { uses: 2, ..CreateJoinToken::default() };
    let token = api.create_join_token(&token).await.map_err(explain)?.text;
    for n in 1..HOSTS {
        // It does not call itself ready before it is back.
        let machine = cluster.ground.machine(n)?.start().await?;
        let host = Host { machine, api: at_old_address(&cluster, n)?, ready_after: 0.0 };
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
