//! The ISO boots live: by BIOS from a CD here, by UEFI from a stick where [`super::by_hand`] goes on from there.

use crate::{
    host::{Host, explain},
    media::{self, PASSWORD},
    qemu::{Machine, Medium},
    runner::Ctx,
    scale,
};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

pub(super) async fn bios_cd(ctx: &mut Ctx) -> Result<()> {
    let machine = Machine { forward: vec![443], one_core: false, ..media::bare_metal(&ctx.dir, ctx.accel) };
    live(ctx, machine, Medium::Cd).await.map(drop)
}

/// A live host, looked at from all sides; its administrator has [`PASSWORD`].
pub(super) async fn live(ctx: &Ctx, machine: Machine, medium: Medium) -> Result<Host> {
    let iso = ctx.dir.join("boot.iso");
    media::prepare_iso(&ctx.paths, ctx.accel, &ctx.paths.iso(), &iso, None).await?;
    let host = Host::boot(Machine { medium: Some((medium, iso)), ..machine }).await?;
    let api = &host.api;

    // The console shows who this host is and how to reach it: the certificate's fingerprint, to be compared by a person.
    let fingerprint = api.fingerprint().context("the host presented no certificate")?.to_string();
    let squeeze = |text: &str| {
        text.chars().filter(|c| !c.is_whitespace() && *c != ':').collect::<String>().to_uppercase()
    };
    host.machine
        .serial
        .expect("https://", 60)
        .await
        .context("the console does not tell the host's address")?;
    let wanted = squeeze(&fingerprint);
    let half = wanted.get(..32).unwrap_or_default();
    // It comes once the daemon is up; the screen is drawn anew every half minute, should the line have mangled it.
    let deadline = Instant::now() + scale::seconds(90);
    while !squeeze(&host.machine.serial.all()).contains(half) {
        ensure!(
            Instant::now() < deadline,
            "the console does not show the certificate's fingerprint {fingerprint}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    // Nobody may do anything before the first password is set, and only who sees the console can set it.
    ensure!(api.vms().await.is_err_and(|e| e.status() == Some(401)), "VMs are listed without a credential");
    ensure!(api.setup().await.map_err(explain)?.needed, "a live host without answer file has a password");
    ensure!(
        api.set_up("wrong-code", PASSWORD).await.is_err_and(|e| e.problem().is_some()),
        "a wrong set-up code was accepted"
    );
    let code = setup_code(&host.machine.serial.all()).context("the console shows no set-up code")?;
    api.set_up(&code, PASSWORD).await.map_err(explain).context("setting the first password")?;

    let status = host.status().await?;
    ensure!(status.boot.contains("live"), "the host says it booted `{}`", status.boot);
    ensure!(status.virtualization.available, "no guests can run: {:?}", status.virtualization.reason);
    Ok(host)
}

/// The set-up code as the console shows it.
fn setup_code(console: &str) -> Option<String> {
    let lower = console.to_lowercase();
    let at =
        ["set-up code", "setup code"].iter().filter_map(|p| lower.rfind(p).map(|at| at + p.len())).max()?;
    let rest = console.get(at..)?.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let code: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    (code.len() >= 4).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::setup_code;

    #[test]
    fn the_code_is_found() {
        assert_eq!(setup_code("  Set-up code : ABCD-1234 \nx").as_deref(), Some("ABCD-1234"));
        assert_eq!(setup_code("nothing"), None);
    }
}
