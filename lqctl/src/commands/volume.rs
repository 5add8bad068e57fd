//! Volumes.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{Volume as Command, What},
    output::{Format, Table, age, describe, line, moment, or_dash, show, word},
    terminal::confirm,
};
use lq_api::volume::{CreateVolume, Volume, VolumeSpec};
use std::collections::BTreeMap;

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(listing) => {
            let vms = client.vms().await.unwrap_or_default();
            let vms: BTreeMap<_, _> = vms.into_iter().map(|v| (v.meta.id, v.meta.name)).collect();
            follow::list(session, listing, What::Volume, |volumes: &[Volume]| {
                let mut table = Table::new(&["NAME", "STATE", "SIZE", "FORMAT", "VM", "AGE", "REASON"]);
                for volume in volumes {
                    let owner = volume.status.attached_to;
                    let owner = owner.map(|id| vms.get(&id).cloned().unwrap_or_else(|| id.to_string()));
                    table.row([
                        volume.meta.name.clone(),
                        word(&volume.status.state),
                        volume.status.size_bytes.to_string(),
                        word(&volume.spec.format),
                        or_dash(owner),
                        age(volume.meta.created_at),
                        volume.status.reason.clone().unwrap_or_default(),
                    ]);
                }
                table
            })
            .await
        }
        Command::Show { volume, watching } => {
            let (volume, revision) = client.find_at(&volume).await?;
            show_one(session, &volume)?;
            follow::object(session, watching, What::Volume, &volume, revision, |v| show_one(session, v)).await
        }
        Command::Set { volume, meta } => {
            let volume = client.find_volume(&volume).await?;
            let patch = meta.patch(&volume.meta)?;
            let volume = client.update_volume(volume.meta.id, &patch, Some(volume.meta.revision)).await?;
            changed(session, &volume, "changed")
        }
        Command::Create { name, size, from_image, format, pool, labels: pairs } => {
            let source = match from_image {
                Some(image) => Some(client.find_image(&image).await?.meta.id),
                None => None,
            };
            let pool = session.pool(pool.as_deref()).await?;
            let spec = VolumeSpec { size_bytes: size, pool, format: format.into(), source };
            let mut volume =
                client.create_volume(&CreateVolume { name, labels: labels(pairs), spec }).await?;
            if let Some(wait) = session.wait {
                volume = client.wait_volume(volume.meta.id, wait).await?;
            }
            changed(session, &volume, "created")
        }
        Command::Grow { volume, size } => {
            let id = client.find_volume(&volume).await?.meta.id;
            let task = session.follow(client.grow_volume(id, size).await?).await?;
            changed(
                session,
                &client.volume(id).await?,
                if task.state.ended() { "grown" } else { "is growing" },
            )
        }
        Command::Delete { volume, yes } => {
            let volume = client.find_volume(&volume).await?;
            confirm(&format!("Delete volume {} and all that is on it?", volume.meta.name), yes)?;
            let task = session.follow(client.delete_volume(volume.meta.id).await?).await?;
            if session.format != Format::Table {
                return show(session.format, &task, || Table::new(&[]));
            }
            let what = if task.state.ended() { "deleted" } else { "is being deleted" };
            line(&format!("Volume {} {what}.\n", volume.meta.name))
        }
    }
}

fn changed(session: &Session, volume: &Volume, what: &str) -> anyhow::Result<()> {
    if session.format != Format::Table {
        return show(session.format, volume, || Table::new(&[]));
    }
    line(&format!("Volume {} {what} ({}).\n", volume.meta.name, volume.status.size_bytes))
}

fn show_one(session: &Session, volume: &Volume) -> anyhow::Result<()> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let fields = [
        ("Name", volume.meta.name.clone()),
        ("Id", volume.meta.id.to_string()),
        ("Labels", shown(&volume.meta.labels)),
        ("State", word(&volume.status.state)),
        ("Reason", text(volume.status.reason.clone())),
        ("Size", volume.status.size_bytes.to_string()),
        ("Format", word(&volume.spec.format)),
        ("Image", text(volume.spec.source.map(|i| i.to_string()))),
        ("VM", text(volume.status.attached_to.map(|i| i.to_string()))),
        ("Created", moment(volume.meta.created_at)),
    ];
    describe(session.format, volume, &fields)
}
