//! A shared pool, as tests make it and look at it.

use crate::{
    ganesha::{self, Ganesha},
    host::explain,
    wait::eventually,
};
use anyhow::{Context as _, Result, ensure};
use lq_api::{
    ImageId, PoolId,
    client::Client,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    pool::{CreatePool, NfsSpec, NfsVersion, PoolSpec, PoolState},
};
use std::{collections::BTreeMap, path::Path};

/// Makes the pool of this server.
pub(crate) async fn shared(api: &Client, server: &Ganesha) -> Result<PoolId> {
    let spec = PoolSpec::Nfs(NfsSpec {
        server: "10.0.2.2".into(),
        export: ganesha::EXPORT.into(),
        version: NfsVersion::V4_2,
        port: server.port,
        options: lq_api::pool::NfsOptions { timeo: Some(50), retrans: Some(2), ..Default::default() },
    });
    let create = CreatePool { name: "shared".into(), labels: BTreeMap::new(), spec };
    Ok(api.create_pool(&create).await.map_err(explain)?.meta.id)
}

/// Waits until the hosts stand so to the pool. A host that is asked just after another made the pool may not know it yet.
pub(crate) async fn stands(
    api: &Client,
    pool: PoolId,
    what: &str,
    seconds: u64,
    wanted: impl Fn(&[PoolState]) -> bool,
) -> Result<()> {
    let look = async || {
        let hosts = api.pool(pool).await.map_err(explain)?.hosts;
        let states: Vec<_> = hosts.iter().map(|h| h.state).collect();
        ensure!(wanted(&states), "{hosts:?}");
        Ok(())
    };
    eventually(&format!("the pool to be {what}"), seconds, look).await
}

/// Uploads an image to the pool.
pub(crate) async fn image(
    api: &Client,
    pool: PoolId,
    name: &str,
    kind: ImageKind,
    file: &Path,
) -> Result<ImageId> {
    let spec = ImageSpec { kind, format: ImageFormat::Raw, pool: Some(pool), sha256: None, boot: None };
    let create = CreateImage { name: name.into(), labels: BTreeMap::new(), spec };
    let id = api.create_image(&create).await.map_err(explain)?.meta.id;
    api.upload_image(id, file, |_| {}).await.map_err(explain).with_context(|| format!("uploading {name}"))?;
    Ok(id)
}
