//! What becomes of a protected machine, and of two hosts and a witness, when a host or a part of one fails. Each time the disk of
//! the machine is looked into, where every one of its runs says who it is: a run that ended writes nothing more.

use crate::{
    bmc::{self, FakeIpmi},
    host::explain,
    ntp::{self, TimeServer},
    pair::{self, GUARDED, Pair},
    protection::running_on,
    runner::Ctx,
    segment::address,
    several::{until, whole},
    wait::eventually,
    writer,
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    alert::{AlertQuery, AlertRule, Severity},
    auth::CreateToken,
    bmc::{BmcPower, TestBmc},
    client::Client,
    cluster::Cluster,
    ha::HaHost,
    time::TimeSpec,
};
use std::time::Instant;

/// Blocks a run writes, at least, while nothing may come of another one: some seconds.
const BLOCKS: u64 = 50;

/// Has the cluster take a change.
async fn change(api: &Client, name: &str) -> Result<()> {
    let request = CreateToken { name: name.into(), days: Some(1), read_only: true, limit: None, owner: None };
    api.create_token(&request).await.map(drop).map_err(explain).context("a change")
}

/// How high availability sees a host.
async fn seen(api: &Client, pair: &Pair, host: usize) -> Result<HaHost> {
    let ha = api.ha().await.map_err(explain)?;
    let found = ha.hosts.iter().find(|h| h.host == pair.ids[host]).cloned();
    found.with_context(|| format!("the host is not there: {ha:?}"))
}

/// The machine ran at `at` and was lost there: it writes on the other host, and its run of before does not, however long.
/// `began` is when it was lost. Answers who it is now.
async fn over_there(pair: &Pair, at: usize, before: &str, began: Instant) -> Result<String> {
    let api = pair.other(at);
    running_on(api, pair.protected.vm, |host| host != pair.ids[at]).await?;
    println!("        it runs elsewhere after {:.1} s", began.elapsed().as_secs_f64());
    let (there, now) = pair.written(api).await?;
    ensure!(there != at && now != before, "it runs on host {there}, as {now}");
    alone(pair, &now).await?;
    Ok(now)
}

/// This run writes on, and for some seconds no other one writes.
async fn alone(pair: &Pair, run: &str) -> Result<()> {
    let disk = pair.disk();
    let before = writer::records(&disk)?;
    let more = async || {
        let now = writer::records(&disk)?;
        let (then, now) = (before.get(run).unwrap_or(&0), now.get(run).unwrap_or(&0));
        ensure!(*now >= then + BLOCKS, "it wrote {then} blocks, then {now}");
        Ok(())
    };
    eventually("the machine to write on", 180, more).await?;
    let after = writer::records(&disk)?;
    for (other, blocks) in &after {
        ensure!(
            other == run || before.get(other) == Some(blocks),
            "two runs write: {before:?}, then {after:?}"
        );
    }
    Ok(())
}

/// The second host's clock is off, which is told; a time server is named, and it is set. Then it is brought nearer.
pub(super) async fn clock(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let pair = ctx.take_pair().await?;
    let (api, off) = (&pair.hosts[0].api, pair.ids[1]);
    let query = AlertQuery { rule: Some(AlertRule::ClockOff), ..AlertQuery::default() };
    let alerts = async || -> Result<_> { Ok(api.alerts(&query).await.map_err(explain)?.items) };
    let alert = eventually("an alert of the clock that is off", 300, async || {
        let all = alerts().await?;
        let found = all.iter().find(|a| a.severity == Severity::Critical).cloned();
        found.with_context(|| format!("{all:?}"))
    });
    let alert = alert.await?;
    // Which of the two is right nobody knows: the one that does not lead is told of.
    ensure!(alert.message.contains("the leader's"), "{alert:?}");

    // A server that does not answer is told of as well.
    let server = TimeServer::at(pair.witness.computer.udp(ntp::PORT)?);
    server.silent(true);
    let name = address(2);
    api.set_time(&TimeSpec { servers: vec![name.clone()] }).await.map_err(explain)?;
    let status = async || -> Result<_> {
        let all = api.time().await.map_err(explain)?.hosts;
        let of_it = all.iter().find(|h| h.host == off).and_then(|h| h.status.clone());
        of_it.with_context(|| format!("{all:?}"))
    };
    eventually("the silent server to be told of", 120, async || {
        let seen = status().await?;
        let fault = seen.servers.first().and_then(|s| s.fault.clone()).unwrap_or_default();
        ensure!(!seen.synchronised && fault.contains("did not answer"), "{seen:?}");
        Ok(())
    })
    .await?;
    server.silent(false);
    let seen = eventually("the clock to be set", 180, async || {
        let seen = status().await?;
        ensure!(seen.synchronised && seen.stepped_at.is_some(), "{seen:?}");
        Ok(seen)
    });
    let seen = seen.await?;
    ensure!(seen.server.as_deref() == Some(&name) && seen.stratum == Some(3), "{seen:?}");
    eventually("the clock to be right", 180, async || {
        let seen = status().await?;
        ensure!(seen.offset_ms.is_some_and(|ms| ms.abs() < 100.0), "{seen:?}");
        Ok(())
    })
    .await?;
    eventually("the alert to be over", 300, async || {
        let all = alerts().await?;
        ensure!(all.iter().all(|a| a.severity == Severity::Info), "{all:?}");
        Ok(())
    })
    .await?;

    // From then on less than half a second is made up for by and by; more is set, once it has been seen again and again. Named
    // in another way, the server is asked soon.
    let stepped = status().await?.stepped_at;
    server.tell_ahead(300);
    api.set_time(&TimeSpec { servers: vec![format!("{name}:{}", ntp::PORT)] }).await.map_err(explain)?;
    eventually("the offset to be seen", 180, async || {
        let seen = status().await?;
        ensure!(seen.offset_ms.is_some_and(|ms| ms > 100.0), "{seen:?}");
        Ok(())
    })
    .await?;
    ensure!(status().await?.stepped_at == stepped, "the clock was set for less than half a second");
    server.tell_ahead(5000);
    api.set_time(&TimeSpec { servers: vec![name.clone()] }).await.map_err(explain)?;
    eventually("the clock to be set anew", 180, async || {
        let seen = status().await?;
        ensure!(seen.stepped_at > stepped, "{seen:?}");
        Ok(())
    })
    .await?;
    api.set_time(&TimeSpec::default()).await.map_err(explain)?;
    ctx.give_back_pair(pair);
    Ok(())
}

/// The power of the machine's host is cut: the other host and the witness go on, and the machine with them. Then the witness dies,
/// which changes nothing.
pub(super) async fn witness(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let mut pair = ctx.take_pair().await?;
    let (at, run) = pair.settled().await?;
    pair.hosts[at].machine.kill().await;
    let began = Instant::now();
    let now = over_there(&pair, at, &run, began).await?;
    let alive = |c: &Cluster| c.quorum && c.leader == Some(pair.ids[1 - at]);
    until(pair.other(at), "the other host to lead", 120, alive).await?;
    change(pair.other(at), "without-a-host").await?;
    let told = pair.other(at).cluster().await.map_err(explain)?;
    let lost = told.members.iter().find(|m| m.host == pair.ids[at]).and_then(|m| m.reachable);
    ensure!(lost == Some(false), "the lost host is said to answer: {told:?}");
    pair.switch_on(at).await?;
    let tokens = pair.hosts[at].api.tokens().await.map_err(explain)?;
    ensure!(tokens.iter().any(|t| t.name == "without-a-host"), "the host that is back lacks a change");
    alone(&pair, &now).await.context("after the lost host came back")?;

    pair.witness.kill().await;
    for host in &pair.hosts {
        until(&host.api, "the witness to be missed", 120, |c| c.quorum && !whole(c)).await?;
    }
    change(&pair.hosts[0].api, "without-a-witness").await?;
    alone(&pair, &now).await.context("without the witness")?;
    pair.witness.start_again().await?;
    for host in &pair.hosts {
        until(&host.api, "the witness to be back", 120, whole).await?;
    }
    ctx.give_back_pair(pair);
    Ok(())
}

/// PID 1 of a host with a hardware watchdog stands still: the watchdog restarts the host within the time the others leave it, and
/// the machine runs elsewhere. The host that has only a software watchdog is said to be degraded.
pub(super) async fn watchdog(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let mut pair = ctx.take_pair().await?;
    pair.bring_to(GUARDED).await?;
    let (_, run) = pair.settled().await?;
    let api = pair.other(GUARDED).clone();
    eventually("the watchdogs to be told of", 60, async || {
        let (good, soft) = (seen(&api, &pair, GUARDED).await?, seen(&api, &pair, 1 - GUARDED).await?);
        let is_soft = soft.degraded.as_ref().is_some_and(|why| why.contains("only software"));
        let quick = good.watchdog.as_ref().is_some_and(|w| w.hardware && w.seconds <= 5);
        let is_told = soft.watchdog.as_ref().is_some_and(|w| !w.hardware);
        ensure!(good.degraded.is_none() && quick && is_soft && is_told, "{good:?}, {soft:?}");
        Ok(())
    })
    .await?;

    let mut fault = pair.hosts[GUARDED].fault().await?;
    fault.ask("freeze 1").await?;
    let began = Instant::now();
    pair.hosts[GUARDED].machine.wait_end(60).await.context("the watchdog does not restart the host")?;
    println!(
        "        its watchdog restarts a host whose PID 1 stands still after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    over_there(&pair, GUARDED, &run, began).await?;
    pair.switch_on(GUARDED).await?;
    ctx.give_back_pair(pair);
    Ok(())
}

/// The daemon of the machine's host stands still, for longer than the lease, and goes on: the machine's run there ends by itself,
/// and another one begins elsewhere, which stays the only one.
pub(super) async fn stopped_daemon(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let pair = ctx.take_pair().await?;
    let (at, run) = pair.settled().await?;
    let mut fault = pair.hosts[at].fault().await?;
    let daemon = fault.process("mgmtd").await?;
    let monitor = fault.process("lq-vmm").await?;
    fault.ask(&format!("kill {} {}", libc::SIGSTOP, daemon.pid)).await?;
    let began = Instant::now();
    let now = over_there(&pair, at, &run, began).await?;
    let still = fault.processes().await?.iter().any(|p| p.pid == monitor.pid);
    ensure!(still, "there is no monitor that stands still, so this shows nothing of its lease");

    fault.ask(&format!("kill {} {}", libc::SIGCONT, daemon.pid)).await?;
    eventually("the monitor of before to be ended", 120, async || {
        let processes = fault.processes().await?;
        ensure!(!processes.iter().any(|p| p.name == "lq-vmm"), "{processes:?}");
        Ok(())
    })
    .await?;
    let same = fault.process("mgmtd").await?.pid;
    ensure!(same == daemon.pid, "the daemon was started again: {same}");
    for host in &pair.hosts {
        until(&host.api, "all to answer", 120, whole).await?;
    }
    alone(&pair, &now).await.context("after the daemon went on")?;
    let (there, after) = pair.written(&pair.hosts[at].api).await?;
    ensure!(there != at && after == now, "it is on host {there} as {after}");
    ctx.give_back_pair(pair);
    Ok(())
}

/// What the machine's host says does not arrive, what it is told does, and its disk it reaches: it loses its lease, and the
/// machine runs elsewhere.
pub(super) async fn one_way(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let pair = ctx.take_pair().await?;
    let (at, run) = pair.settled().await?;
    for other in (0..3).filter(|other| *other != at) {
        pair.ground.segment.cut(at, other);
    }
    let began = Instant::now();
    let now = over_there(&pair, at, &run, began).await?;
    change(pair.other(at), "cut-in-one-direction").await?;
    pair.ground.segment.mend();
    for host in &pair.hosts {
        until(&host.api, "all to answer", 180, whole).await?;
    }
    alone(&pair, &now).await.context("after the cable was mended")?;
    ctx.give_back_pair(pair);
    Ok(())
}

/// The cable of the machine's host is pulled while it runs on: its BMC cuts its power once its lease is over, and the machine runs
/// elsewhere before the margins are over.
pub(super) async fn fenced(ctx: &mut Ctx) -> Result<()> {
    if !pair::available() {
        return Ok(());
    }
    let mut pair = ctx.take_pair().await?;
    let (at, run) = pair.settled().await?;
    let api = pair.other(at).clone();
    // What it is told is done here, to the machine it belongs to.
    let board = FakeIpmi::start().await;
    board.manners(bmc::Manners { deaf: true, ..bmc::Manners::default() });
    let settings = bmc::settings(&board);
    let host = pair.ids[at];
    let test = TestBmc { settings: Some(settings.clone()) };
    let said = api.test_bmc(host, &test).await.map_err(explain)?;
    ensure!(said.power == Some(BmcPower::On), "the BMC's test: {said:?}");
    api.set_bmc(host, &settings).await.map_err(explain)?;
    eventually("the BMC to be asked", 60, async || {
        let seen = api.bmc(host).await.map_err(explain)?;
        ensure!(seen.status.as_ref().is_some_and(|s| s.power == Some(BmcPower::On)), "{seen:?}");
        Ok(())
    })
    .await?;

    pair.ground.segment.pull(at);
    let began = Instant::now();
    eventually("the BMC to be told to cut the power", 60, async || {
        ensure!(board.told() == [0], "{:?}, {:?}", board.told(), seen(&api, &pair, at).await);
        Ok(())
    })
    .await?;
    let told = began.elapsed();
    // It is not before the lease is over, after which nothing is written there.
    let last = writer::records(&pair.disk())?.get(&run).copied();
    pair.hosts[at].machine.kill().await;
    board.power(false);
    println!("        its BMC is told to cut the power after {:.1} s", told.as_secs_f64());
    over_there(&pair, at, &run, began).await?;
    let after = writer::records(&pair.disk())?.get(&run).copied();
    ensure!(last == after, "it wrote {last:?} blocks before its power was cut, and {after:?} in all");
    let why = seen(&api, &pair, at).await?;
    if !why.reason.as_ref().is_some_and(|reason| reason.contains("its BMC says that it is off")) {
        bail!("the host is not known to be off: {why:?}");
    }
    board.power(true);
    pair.ground.segment.mend();
    pair.switch_on(at).await?;
    api.clear_bmc(host).await.map_err(explain)?;
    ctx.give_back_pair(pair);
    Ok(())
}
