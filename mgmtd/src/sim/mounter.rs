//! Servers that do not exist: each export is a directory.
//!
//! Beside an export's directory a file of its name with `.away` makes it unreachable, one with `.silent` makes every access wait
//! until the file is gone.

use crate::storage::{Error, shared::Mounter};
use lq_api::{HostId, PoolId, pool::NfsSpec};
use std::{fs, path::PathBuf, time::Duration};

/// Stands in for the mounts of a host.
pub struct SimMounter {
    servers: PathBuf,
}

impl SimMounter {
    /// With the servers' directories below `servers`.
    #[must_use]
    pub fn new(servers: PathBuf) -> Self {
        Self { servers }
    }

    fn place(&self, spec: &NfsSpec) -> PathBuf {
        let export = spec.export.trim_matches('/').replace('/', "_");
        self.servers.join(spec.server.to_ascii_lowercase()).join(if export.is_empty() {
            "root".into()
        } else {
            export
        })
    }
}

impl Mounter for SimMounter {
    fn mount(&self, _host: HostId, pool: PoolId, spec: &NfsSpec) -> Result<PathBuf, Error> {
        self.ask(pool, spec)?;
        let place = self.place(spec);
        fs::create_dir_all(&place)
            .map_err(|source| Error::Io { context: format!("making {}", place.display()), source })?;
        Ok(place)
    }

    fn ask(&self, _pool: PoolId, spec: &NfsSpec) -> Result<(), Error> {
        let beside = |end: &str| {
            let mut place = self.place(spec).into_os_string();
            place.push(end);
            PathBuf::from(place)
        };
        while beside(".silent").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if beside(".away").exists() || spec.server.ends_with(".invalid") {
            return Err(Error::Unfit(format!("the server `{}` does not answer (simulated)", spec.server)));
        }
        Ok(())
    }

    fn unmount(&self, _pool: PoolId) -> Result<(), Error> {
        Ok(())
    }

    fn mounted(&self) -> Vec<PoolId> {
        Vec::new()
    }
}
