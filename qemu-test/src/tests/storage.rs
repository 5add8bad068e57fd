//! Disks that are full or damaged.

use crate::{
    disk_image::DiskImageFile,
    host::explain,
    media,
    outside::Outside,
    process::{command, run},
    runner::Ctx,
    site::{Wish, upload},
    wait::eventually,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    auth::CreateToken,
    event::EventQuery,
    image::ImageKind,
    local::{layout, paths},
    problem,
    vm::VmState,
};

/// The data partition has no room left.
pub(super) async fn disk_full(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let vm = site.debian("writer", Wish::default()).await?;
    let mut console = site.console(&vm).await?;
    console.log_in().await?;

    let mut fault = site.host.fault().await?;
    fault.ask(&format!("fill {} 4096", paths::DATA)).await?;
    // An image that does not fit is refused with the reason, and leaves nothing.
    let big = ctx.dir.join("big.bin");
    std::fs::write(&big, vec![0x5a; 32 << 20])?;
    let images = site.api().images().await.map_err(explain)?.len();
    let spec = lq_api::image::ImageSpec {
        kind: ImageKind::Disk,
        format: lq_api::image::ImageFormat::Raw,
        pool: None,
        sha256: None,
        boot: None,
    };
    let request = lq_api::image::CreateImage { name: "too-big".into(), labels: Default::default(), spec };
    let refusal = match site.api().create_image(&request).await {
        Err(e) => e,
        Ok(image) => match site.api().upload_image(image.meta.id, &big, |_| {}).await {
            Ok(_) => anyhow::bail!("32 MiB were taken where 4 MiB are free"),
            Err(e) => {
                site.api().delete_image(image.meta.id).await.map_err(explain)?;
                e
            }
        },
    };
    ensure!(
        refusal.is(problem::Kind::NoSpace),
        "the refusal is not of the kind no-space: {}",
        refusal.chain()
    );
    ensure!(
        site.api().images().await.map_err(explain)?.len() == images,
        "the refused image left something behind"
    );

    // The host lives on its own partition.
    let ready = site.api().ready().await.map_err(explain)?;
    ensure!(ready.ready, "with a full data disk the host is not ready: {:?}", ready.waiting_for);
    let token =
        CreateToken { name: "while-full".into(), days: Some(1), read_only: true, limit: None, owner: None };
    site.api()
        .create_token(&token)
        .await
        .map_err(explain)
        .context("writing state while the data disk is full")?;

    // The guest's writes wait, and it is said of what; with room again they go on by themselves, and nothing is lost.
    let write =
        "head -c 64M /dev/urandom >/run/noise; dd if=/run/noise of=/fill bs=1M conv=fsync; echo wrote=$?\n";
    console.send(write).await?;
    let told = async |kind: &str| {
        let query = EventQuery {
            target: Some(format!("vm/{}", vm.meta.id)),
            kind: Some(kind.to_owned()),
            ..EventQuery::default()
        };
        let events = site.api().events(&query).await.map_err(explain)?.items;
        ensure!(!events.is_empty(), "no event {kind} of the machine");
        let status = site.api().vm(vm.meta.id).await.map_err(explain)?.status;
        ensure!(status.state == VmState::Running, "on a full disk the VM became {:?}", status.state);
        Ok(status.reason)
    };
    let reason = eventually("the machine to say that its writes wait", 120, async || {
        told("vm.no-room").await?.context("its status does not say why it stands still")
    })
    .await?;
    ensure!(reason.contains("no room"), "its status says `{reason}`");
    ensure!(!console.said.all().contains("wrote="), "the guest's writes did not wait");
    fault.ask(&format!("unfill {}", paths::DATA)).await?;
    console.said.expect("wrote=0", 120).await.context("the guest did not go on when there was room again")?;
    let reason = eventually("the machine to say that they go on", 30, async || told("vm.room").await).await?;
    ensure!(reason.is_none(), "there is room again, but its status says {reason:?}");
    console.shell("echo 3 >/proc/sys/vm/drop_caches; cmp /run/noise /fill", 60).await?;
    // With room again, what was refused works.
    let small = Outside::serve(1 << 20).await?;
    let fetched = console.shell(&format!("curl -sS --max-time 60 {} | sha256sum", small.url()), 90).await?;
    ensure!(fetched.starts_with(small.sha256()), "the guest's network after the full disk: {fetched}");
    let id = upload(site.api(), "fits-now", ImageKind::Kernel, &big, None, |_, _| {}).await;
    if let Ok(id) = id {
        site.api().delete_image(id).await.map_err(explain)?;
    } else {
        // A file of noise is no kernel; only a lack of space would be wrong here.
        let text = format!("{:#}", id.err().context("an error")?);
        ensure!(!text.to_lowercase().contains("no space"), "there is room again, but: {text}");
    }
    site.remove(&vm).await?;
    ctx.give_back(site);
    Ok(())
}

/// Metadata blocks of the state partition are overwritten while the host is off.
pub(super) async fn state_corrupt(ctx: &mut Ctx) -> Result<()> {
    let mut site = ctx.take_site().await?;
    let token = CreateToken {
        name: "before-damage".into(),
        days: Some(1),
        read_only: true,
        limit: None,
        owner: None,
    };
    site.api().create_token(&token).await.map_err(explain)?;
    site.host.machine.press_power().await?;
    site.host.machine.wait_end(180).await?;

    let flat = media::flatten_disk(&site.disk, &ctx.dir.join("flat.raw")).await?;
    let image = DiskImageFile::open(&flat.path)?;
    let state = image.partition(layout::PART_STATE)?;
    let mut look = command("dumpe2fs");
    look.arg(format!("{}?offset={}", flat.path.display(), state.start));
    let facts = run(look, "dumpe2fs").await?;
    let number = |key: &str| -> Result<u64> {
        let value = facts
            .lines()
            .find_map(|l| l.trim_start().strip_prefix(key))
            .with_context(|| format!("no {key}"))?;
        value
            .trim()
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default()
            .parse()
            .context(key.to_owned())
    };
    let block = number("Block size:")?;
    for key in ["Block bitmap at", "Inode bitmap at"] {
        let at = state.start + number(key)? * block;
        image.overwrite(at, &vec![0xa5; usize::try_from(block)?])?;
    }

    site.start_again(flat).await.context("the host with a damaged state partition")?;
    let warnings = site.host.status().await?.warnings;
    ensure!(
        warnings.iter().any(|w| w.contains("state") && (w.contains("repaired") || w.contains("damaged"))),
        "the host does not report the damage: {warnings:?}"
    );
    let tokens = site.api().tokens().await.map_err(explain)?;
    ensure!(tokens.iter().any(|t| t.name == "before-damage"), "an acknowledged write is gone");
    site.host.machine.press_power().await?;
    site.host.machine.wait_end(180).await
}
