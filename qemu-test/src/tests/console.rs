//! A session at the console of the real image, over its serial line, as a person has it at a vt220.

use crate::{
    host::explain,
    media::PASSWORD,
    runner::Ctx,
    site::{Site, Wish},
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{management::NetworkTest, meta::MetadataPatch, vm::VmState};

const F2: &str = "\x1b[12~";
const ESC: &str = "\x1b";
/// Ctrl-U, which empties a field.
const ERASE: &str = "\x15";
/// Ctrl-], which leaves a machine's console.
const LEAVE: &str = "\x1d";
/// Times a key is pressed until something comes of it: the daemon may have been busy, and the key not taken.
const PRESSES: usize = 5;

/// The console of a host, at its keys.
struct Keys<'a>(&'a mut Site);

impl Keys<'_> {
    /// Types, and waits for words on the screen.
    async fn type_for(&mut self, keys: &str, words: &str, seconds: u64) -> Result<String> {
        let machine = &mut self.0.host.machine;
        machine.serial.skip();
        machine.type_serial(keys).await?;
        machine.serial.expect(words, seconds).await.with_context(|| format!("typed {keys:?}"))
    }

    /// Presses keys that do no harm when pressed again, until the words are there.
    async fn press_for(&mut self, keys: &str, words: &str) -> Result<()> {
        for _ in 0..PRESSES {
            if self.type_for(keys, words, 15).await.is_ok() {
                return Ok(());
            }
        }
        bail!("pressed {keys:?} in vain:\n{}", self.0.host.machine.serial.tail(30))
    }
}

pub(super) async fn session(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site.tiny("at-the-console", Wish::default()).await?;
    site.console(&vm).await?.said.expect("tick 3\n", 120).await?;
    let host = site.api().hosts().await.map_err(explain)?.remove(0);
    let before = site.api().host_network(host.meta.id).await.map_err(explain)?;
    let mut keys = Keys(&mut site);

    // A wrong password first.
    keys.press_for(F2, "Password").await.context("the console asks nobody to log in")?;
    keys.type_for("not this one\r", "is wrong", 60).await?;
    keys.type_for(&format!("{PASSWORD}\r"), "Management network", 60).await.context("logging in")?;

    // Another address, which nobody confirms: the host is where it was after a minute.
    keys.type_for("n", "answers at this address", 60).await?;
    keys.type_for("c", "Address/prefix", 30).await?;
    let form = format!("\t{ERASE}10.0.2.77/24\t{ERASE}10.0.2.2\t{ERASE}10.0.2.3\r");
    keys.type_for(&form, "10.0.2.2 answers", 60).await.context("the gateway at the new address")?;
    keys.press_for("t", "10.0.2.77/24").await?;
    keys.0
        .host
        .machine
        .serial
        .expect("nobody confirmed", 150)
        .await
        .context("the change was not taken back")?;
    // Now one that is undone at once.
    keys.press_for("c", "Address/prefix").await?;
    keys.type_for(&form, "ON TRIAL", 60).await?;
    keys.type_for("u", "as was asked", 60).await?;
    keys.0.host.wait_ready().await.context("the host at its old address")?;
    let after = keys.0.api().host_network(host.meta.id).await.map_err(explain)?;
    ensure!(after.kept == before.kept && after.trial.is_none(), "the settings have changed: {after:?}");
    let test: NetworkTest = keys.0.api().test_host_network(host.meta.id).await.map_err(explain)?;
    ensure!(test.good(), "the network does not work as before: {test:?}");

    // Another name.
    keys.press_for(ESC, "This host").await?;
    keys.type_for("h", "New name", 30).await?;
    keys.type_for("renamed-here\r", "is called renamed-here", 60).await?;
    let renamed = keys.0.api().hosts().await.map_err(explain)?.remove(0);
    ensure!(renamed.meta.name == "renamed-here", "the host is called {}", renamed.meta.name);

    // A machine: its console, then a reset, which has it count from the beginning.
    keys.type_for("v", "at-the-console", 60).await?;
    keys.type_for("\r", "Force stop", 30).await?;
    keys.type_for("c", "tick", 60).await.context("the machine's console")?;
    keys.type_for(LEAVE, "Force stop", 30).await?;
    keys.type_for("r", "Unsaved data will be lost", 30).await?;
    keys.type_for("y", "Asked for", 60).await?;
    let again = keys.0.wait_state(vm.meta.id, VmState::Running, 120).await?;
    let console = keys.0.console(&again).await?;
    console.said.expect("tick 3\n", 120).await.context("the machine after its reset")?;
    drop(console);

    // What maintenance would mean for a host that is alone, and that there is nothing to recover.
    keys.press_for(ESC, "This host").await?;
    keys.type_for("m", "at-the-console", 60).await?;
    keys.type_for("m", "Shut them down", 30).await?;
    keys.type_for("n", "takes machines", 30).await?;
    keys.press_for(ESC, "This host").await?;
    keys.type_for("q", "majority of the voters is reached", 60).await?;

    // Logs, and out. The page that is left names this host, too.
    keys.press_for(ESC, "Management network").await?;
    keys.type_for("g", "Management daemon", 30).await?;
    keys.type_for("m", "following", 30).await?;
    keys.type_for("/serving\r", "lines", 30).await?;
    keys.press_for(ESC, "Management daemon").await?;
    keys.press_for(ESC, "This host").await?;
    keys.type_for("l", "Logged out", 60).await?;

    let back = MetadataPatch { name: Some(host.meta.name), labels: None };
    site.api().update_host(host.meta.id, &back).await.map_err(explain)?;
    site.remove(&again).await?;
    ctx.give_back(site);
    Ok(())
}
