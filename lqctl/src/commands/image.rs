//! Images.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{DiskFormat, Image as Command, Kind, UploadImage, What},
    failure::usage,
    output::{Format, Table, age, describe, line, moment, or_dash, show, word},
    terminal::{Line, confirm},
};
use lq_api::{
    image::{CreateImage, Image, ImageSpec},
    vm::Boot,
};
use std::{path::Path, time::Instant};

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(listing) => follow::list(session, listing, What::Image, table).await,
        Command::Show { image, watching } => {
            let (image, revision) = client.find_at(&image).await?;
            let shown = |image: &Image| describe(session.format, image, &fields(image));
            shown(&image)?;
            follow::object(session, watching, What::Image, &image, revision, shown).await
        }
        Command::Set { image, meta } => {
            let image = client.find_image(&image).await?;
            let patch = meta.patch(&image.meta)?;
            let image = client.update_image(image.meta.id, &patch, Some(image.meta.revision)).await?;
            describe(session.format, &image, &fields(&image))
        }
        Command::Upload(wanted) => upload(session, wanted).await,
        Command::Delete { image, yes } => {
            let image = client.find_image(&image).await?;
            confirm(&format!("Delete image {}?", image.meta.name), yes)?;
            client.delete_image(image.meta.id).await?;
            line(&format!("Image {} deleted.\n", image.meta.name))
        }
    }
}

fn table(images: &[Image]) -> Table {
    let mut table = Table::new(&["NAME", "KIND", "FORMAT", "STATE", "SIZE", "DISK SIZE", "AGE", "REASON"]);
    for image in images {
        table.row([
            image.meta.name.clone(),
            word(&image.spec.kind),
            word(&image.spec.format),
            word(&image.status.state),
            image.status.size_bytes.to_string(),
            image.status.virtual_size_bytes.to_string(),
            age(image.meta.created_at),
            image.status.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn fields(image: &Image) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Name", image.meta.name.clone()),
        ("Id", image.meta.id.to_string()),
        ("Labels", shown(&image.meta.labels)),
        ("Kind", word(&image.spec.kind)),
        ("Format", word(&image.spec.format)),
        ("State", word(&image.status.state)),
        ("Reason", image.status.reason.clone().unwrap_or_default()),
        ("Size", image.status.size_bytes.to_string()),
        ("Disk size", image.status.virtual_size_bytes.to_string()),
        ("SHA-256", or_dash(image.status.sha256.clone())),
        ("Created", moment(image.meta.created_at)),
    ];
    if let Some(boot) = &image.spec.boot {
        fields.push(("Boot kernel", boot.kernel.to_string()));
        fields.push(("Boot initrd", or_dash(boot.initrd)));
        fields.push(("Boot cmdline", boot.cmdline.clone()));
    }
    fields
}

async fn upload(session: &Session, wanted: UploadImage) -> anyhow::Result<()> {
    let client = &session.client;
    // The file first: nothing is declared on the host for a file that is not there.
    let readable = std::fs::File::open(&wanted.file).and_then(|f| f.metadata());
    let metadata = readable.map_err(|e| usage(format!("cannot read {}: {e}", wanted.file.display())))?;
    if !metadata.is_file() {
        return Err(usage(format!("{} is not a regular file", wanted.file.display())));
    }
    let name = match &wanted.name {
        Some(name) => name.clone(),
        None => {
            stem(&wanted.file).ok_or_else(|| usage("the file's name cannot name an image; say --name"))?
        }
    };
    let boot = match &wanted.boot_kernel {
        Some(kernel) => Some(Boot {
            kernel: client.find_image(kernel).await?.meta.id,
            initrd: match &wanted.boot_initrd {
                Some(initrd) => Some(client.find_image(initrd).await?.meta.id),
                None => None,
            },
            cmdline: wanted.boot_cmdline.clone(),
        }),
        None => None,
    };
    let spec = ImageSpec {
        kind: wanted.kind.into(),
        format: format(&wanted)?.into(),
        pool: session.pool(wanted.pool.as_deref()).await?,
        sha256: wanted.sha256.clone(),
        boot,
    };
    let declared =
        client.create_image(&CreateImage { name, labels: labels(wanted.labels), spec }).await?.meta;
    let (mut bar, since) = (Line::new(), Instant::now());
    let uploaded = client.upload_image(declared.id, &wanted.file, move |p| bar.upload(p, since)).await;
    let image = match uploaded {
        Ok(image) => image,
        Err(error) => {
            // Without its content it is of no use to anyone.
            if let Err(left) = client.delete_image(declared.id).await {
                eprintln!(
                    "lqctl: the declared image {} could not be removed: {}",
                    declared.name,
                    left.chain()
                );
            }
            return Err(error.into());
        }
    };
    if session.format != Format::Table {
        return show(session.format, &image, || Table::new(&[]));
    }
    line(&format!("Image {} uploaded ({}).\n", image.meta.name, image.status.size_bytes))
}

/// What was said, or what the file's ending says. The host checks the bytes.
fn format(wanted: &UploadImage) -> anyhow::Result<DiskFormat> {
    let ending = wanted.file.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match (wanted.format, wanted.kind, ending.as_deref()) {
        (Some(format), ..) => Ok(format),
        (None, Kind::Kernel | Kind::Initrd | Kind::Iso, _) => Ok(DiskFormat::Raw),
        (None, Kind::Disk, Some("qcow2")) => Ok(DiskFormat::Qcow2),
        (None, Kind::Disk, Some("raw" | "img")) => Ok(DiskFormat::Raw),
        (None, Kind::Disk, _) => {
            Err(usage("the file's ending does not say its format; say --format raw or --format qcow2"))
        }
    }
}

fn stem(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = [".qcow2", ".raw", ".img", ".iso"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
    lq_api::meta::check_name("name", name).is_none().then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files() {
        assert_eq!(stem(Path::new("/a/debian-12.qcow2")).as_deref(), Some("debian-12"));
        assert_eq!(stem(Path::new("vmlinuz-6.1.0")).as_deref(), Some("vmlinuz-6.1.0"));
        assert_eq!(stem(Path::new("my disk.img")), None);
        assert_eq!(stem(Path::new("..")), None);
    }
}
