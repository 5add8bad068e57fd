//! Daemons die; guests do not.

use crate::{
    guest_console::GuestConsole,
    host::explain,
    runner::Ctx,
    site::{Site, Wish},
    wait::eventually,
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::vm::{RestartPolicy, Vm, VmState};

/// mgmtd is killed while a guest counts.
pub(super) async fn mgmtd(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site
        .tiny("counter", Wish { restart: RestartPolicy::Always, autostart: false, ..Wish::default() })
        .await?;
    let before = site.console(&vm).await?;
    before.said.expect("tick 20\n", 120).await?;

    let mut fault = site.host.fault().await?;
    let daemon = fault.process("mgmtd").await?;
    fault.kill(daemon.pid).await?;
    // Until the old one has gone, an answer could still be its own.
    wait_new_daemon(&mut fault, daemon.pid).await?;
    site.host.wait_ready().await.context("mgmtd did not come back")?;

    // The session outlives the daemon, too.
    let after = site.api().vm(vm.meta.id).await.map_err(explain)?;
    ensure!(after.status.state == VmState::Running, "the VM is {:?} after mgmtd's crash", after.status.state);
    ensure!(after.status.pid == vm.status.pid, "the guest's monitor was replaced: {:?}", after.status.pid);
    ensure!(after.status.restarts == vm.status.restarts, "the guest was restarted");
    let console = site.console(&vm).await?;
    let last = last_tick(&before);
    console.said.expect(&format!("tick {}\n", last + 50), 120).await.context("the guest stands still")?;
    check_ticks(&console.said.all())?;
    site.remove(&after).await?;
    ctx.give_back(site);
    Ok(())
}

pub(super) async fn wait_new_daemon(fault: &mut crate::fault::Fault, old: u32) -> Result<()> {
    let look = async || {
        let processes = fault.processes().await?;
        ensure!(processes.iter().any(|p| p.name == "mgmtd" && p.pid != old), "{processes:?}");
        Ok(())
    };
    eventually("mgmtd to be started again", 60, look).await
}

fn last_tick(console: &GuestConsole) -> u64 {
    ticks(&console.said.all()).last().copied().unwrap_or_default()
}

fn ticks(text: &str) -> Vec<u64> {
    text.split_inclusive('\n')
        .filter(|l| l.ends_with('\n'))
        .filter_map(|l| l.trim().strip_prefix("tick ")?.parse().ok())
        .collect()
}

/// Every tick from the first seen to the last is there once, in order.
fn check_ticks(text: &str) -> Result<()> {
    let ticks = ticks(text);
    let gap = ticks.windows(2).find(|w| matches!(w, [a, b] if *b != a + 1));
    match gap {
        Some([a, b]) => bail!("after tick {a} came tick {b}"),
        _ if ticks.len() < 50 => bail!("only {} ticks were seen", ticks.len()),
        _ => Ok(()),
    }
}

/// Two monitors are killed: one guest stays down, the other is restarted, both with the reason.
pub(super) async fn vmm(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let never = site
        .tiny("never", Wish { restart: RestartPolicy::Never, autostart: false, ..Wish::default() })
        .await?;
    let always = site
        .tiny("on-failure", Wish { restart: RestartPolicy::OnFailure, autostart: false, ..Wish::default() })
        .await?;
    for vm in [&never, &always] {
        site.console(vm).await?.said.expect("tick 5\n", 120).await?;
    }
    let mut fault = site.host.fault().await?;
    for vm in [&never, &always] {
        fault.kill(vm.status.pid.context("a running VM has no process")?).await?;
    }

    let down = wait_not_running(&site, &never).await?;
    ensure!(
        matches!(down.status.state, VmState::Stopped | VmState::Failed),
        "the VM is {:?}",
        down.status.state
    );
    let reason = down.status.reason.clone().unwrap_or_default().to_lowercase();
    ensure!(
        ["killed", "signal 9", "sigkill"].iter().any(|w| reason.contains(w)),
        "the reason of the VM's end is `{reason}`"
    );

    let up = wait_restarted(&site, &always).await?;
    ensure!(up.status.pid != always.status.pid, "the VM has its old process");
    site.console(&up)
        .await?
        .said
        .expect("tick 5\n", 120)
        .await
        .context("the restarted guest does not run")?;

    let events =
        site.api().events(&lq_api::event::EventQuery { limit: Some(200), ..Default::default() }).await;
    let events = events.map_err(explain)?.items;
    for vm in [&never, &always] {
        let target = format!("vm/{}", vm.meta.id);
        ensure!(
            events.iter().any(|e| e.target == target && e.level != lq_api::event::EventLevel::Info),
            "no event tells of the end of {}",
            vm.meta.name
        );
    }
    // It stays down: the policy is obeyed and not only late.
    let still = site.api().vm(never.meta.id).await.map_err(explain)?;
    ensure!(
        still.status.restarts == 0 && still.status.state != VmState::Running,
        "the VM was restarted against its policy"
    );
    for vm in [&down, &up] {
        site.remove(vm).await?;
    }
    ctx.give_back(site);
    Ok(())
}

async fn wait_not_running(site: &Site, vm: &Vm) -> Result<Vm> {
    poll(site, vm, "not running", |v| !matches!(v.status.state, VmState::Running | VmState::Stopping)).await
}

async fn wait_restarted(site: &Site, vm: &Vm) -> Result<Vm> {
    let old = vm.status.restarts;
    poll(site, vm, "restarted", move |v| v.status.state == VmState::Running && v.status.restarts > old).await
}

async fn poll(site: &Site, vm: &Vm, what: &str, is: impl Fn(&Vm) -> bool) -> Result<Vm> {
    let look = async || {
        let now = site.api().vm(vm.meta.id).await.map_err(explain)?;
        ensure!(is(&now), "{:?}", now.status);
        Ok(now)
    };
    eventually(&format!("the VM {} to be {what}", vm.meta.name), 120, look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_repeated_tick_is_found() {
        let count = |from: u64, to: u64| (from..=to).map(|n| format!("tick {n}\n")).collect::<String>();
        assert!(check_ticks(&count(1, 80)).is_ok());
        // A scroll-back may begin in the middle of a line, and the last line may be on its way.
        assert!(check_ticks(&format!("ck 6\n{}tick 8", count(7, 79))).is_ok());
        assert!(check_ticks(&(count(1, 40) + &count(42, 90))).is_err());
        assert!(check_ticks(&(count(1, 40) + &count(40, 90))).is_err());
        assert!(check_ticks(&count(1, 10)).is_err());
    }
}
