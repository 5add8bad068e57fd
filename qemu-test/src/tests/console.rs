//! A session at the console of the real image, over its serial line, as a person has it at a vt220.

use crate::{
    host::explain,
    media::PASSWORD,
    runner::Ctx,
    site::{Site, Wish},
    terminal::{ERASE, ESC, F2, LEAVE, REDRAW},
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    HostId,
    management::{ManagementNetwork, NetworkTest},
    meta::MetadataPatch,
    vm::VmState,
};

pub(super) async fn session(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site.tiny("at-the-console", Wish::default()).await?;
    site.console(&vm).await?.said.expect("tick 3\n", 120).await?;
    let host = site.api().hosts().await.map_err(explain)?.remove(0);

    // A wrong password first.
    let keys = &mut site.host.machine;
    keys.press_for(F2, "Password").await.context("the console asks nobody to log in")?;
    keys.type_for("not this one\r", "is wrong", 60).await?;
    keys.type_for(&format!("{PASSWORD}\r"), "Management network", 60).await.context("logging in")?;

    let before = site.api().host_network(host.meta.id).await.map_err(explain)?;
    let keys = &mut site.host.machine;
    keys.type_for("n", "answers at this address", 60).await?;
    keys.type_for("c", "Address/prefix", 30).await?;
    keys.type_for(&elsewhere(), "10.0.2.2 answers", 60).await.context("the gateway at the new address")?;
    keys.sees("10.0.2.77/24", 30).await?;

    // Nobody confirms it for a minute, in which other pages are looked at.
    keys.press_for(ESC, "This host").await?;
    other_pages(&mut site).await.context("while the network is on trial")?;
    taken_back(&mut site, host.meta.id, &before).await.context("the management network")?;

    // Another name.
    let keys = &mut site.host.machine;
    keys.press_for(ESC, "This host").await?;
    keys.type_for("h", "New name", 30).await?;
    keys.type_for("renamed-here\r", "is called renamed-here", 60).await?;
    let renamed = site.api().hosts().await.map_err(explain)?.remove(0);
    ensure!(renamed.meta.name == "renamed-here", "the host is called {}", renamed.meta.name);

    // A machine: its console, then a reset, which has it count from the beginning.
    let keys = &mut site.host.machine;
    keys.type_for("v", "at-the-console", 60).await?;
    keys.type_for("\r", "Force stop", 30).await?;
    keys.type_for("c", "tick", 60).await.context("the machine's console")?;
    keys.type_for(LEAVE, "Force stop", 30).await?;
    keys.type_for("r", "Unsaved data will be lost", 30).await?;
    keys.type_for("y", "Asked for", 60).await?;
    let again = site.wait_state(vm.meta.id, VmState::Running, 120).await?;
    let console = site.console(&again).await?;
    console.said.expect("tick 3\n", 120).await.context("the machine after its reset")?;
    drop(console);

    let keys = &mut site.host.machine;
    keys.press_for(ESC, "This host").await?;
    keys.type_for("l", "Logged out", 60).await?;

    let back = MetadataPatch { name: Some(host.meta.name), labels: None };
    site.api().update_host(host.meta.id, &back).await.map_err(explain)?;
    site.remove(&again).await?;
    ctx.give_back(site);
    Ok(())
}

/// What is typed into the form of the network for an address that is not this host's.
fn elsewhere() -> String {
    format!("\t{ERASE}10.0.2.77/24\t{ERASE}10.0.2.2\t{ERASE}10.0.2.3\r")
}

/// What maintenance would mean for a host that is alone, that there is nothing to recover, and the logs.
async fn other_pages(site: &mut Site) -> Result<()> {
    let keys = &mut site.host.machine;
    keys.type_for("m", "at-the-console", 60).await?;
    keys.type_for("m", "Shut them down", 30).await?;
    keys.type_for("n", "takes machines", 30).await?;
    keys.press_for(ESC, "This host").await?;
    keys.type_for("q", "majority of the voters is reached", 60).await?;
    keys.press_for(ESC, "Management network").await?;
    keys.type_for("g", "Management daemon", 30).await?;
    keys.type_for("m", "following", 30).await?;
    keys.type_for("/serving", "Look for: serving", 30).await?;
    keys.type_for("\r", "N next", 30).await?;
    keys.press_for(ESC, "Management daemon").await?;
    keys.press_for(ESC, "This host").await
}

/// The change that nobody confirmed was taken back, and so is one that is undone: the host is where it was.
async fn taken_back(site: &mut Site, host: HostId, before: &ManagementNetwork) -> Result<()> {
    let keys = &mut site.host.machine;
    keys.type_for("n", "nobody confirmed", 150).await.context("the change was not taken back")?;
    // PID 1 says so on the line as well, over the screen, which is drawn anew then.
    keys.sees_no("lq-init:", 60).await.context("what was written over the screen")?;
    overwritten(site).await.context("a line of the kernel over the screen")?;
    // Now one that is undone at once.
    let keys = &mut site.host.machine;
    keys.press_for("c", "Address/prefix").await?;
    keys.type_for(&elsewhere(), "ON TRIAL", 60).await?;
    keys.type_for("u", "as was asked", 60).await?;
    site.host.wait_ready().await.context("the host at its old address")?;
    let after = site.api().host_network(host).await.map_err(explain)?;
    ensure!(after.kept == before.kept && after.trial.is_none(), "the settings have changed: {after:?}");
    let test: NetworkTest = site.api().test_host_network(host).await.map_err(explain)?;
    ensure!(test.good(), "the network does not work as before: {test:?}");
    Ok(())
}

/// The kernel writes over the screen, as it does when all is lost: drawn anew, the page is there as it was.
async fn overwritten(site: &mut Site) -> Result<()> {
    let before = site.host.machine.screen();
    site.host.fault().await?.ask("cry all is lost").await?;
    let keys = &mut site.host.machine;
    keys.sees("all is lost", 30).await?;
    keys.type_serial(REDRAW).await?;
    keys.sees_no("all is lost", 60).await?;
    keys.sees("nobody confirmed", 60).await?;
    let titles = |screen: &str| screen.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    ensure!(titles(&before) == titles(&keys.screen()), "before:\n{before}after:\n{}", keys.screen());
    Ok(())
}
