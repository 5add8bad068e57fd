//! The address book: by which key and at which address each host of the cluster is reached, and who was removed for ever.
//!
//! Its first source is the agreed state as far as it has come here. A host that was away long, or has just joined, knows a
//! state that is too old; so what peers said last is kept beside it (`peers.json`), and the newer of the two counts. A removal
//! always counts.

use super::pki;
use crate::cluster::{
    machine::Shared,
    state::{Authority, Peer, State, epoch},
};
use lq_api::HostId;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Page {
    /// The cluster.
    pub(in crate::cluster) cluster: Uuid,
    /// The epoch it is of.
    #[serde(default = "epoch::first")]
    pub(in crate::cluster) epoch: u64,
    /// Log position it is of.
    pub(in crate::cluster) revision: u64,
    /// Its authority.
    pub(in crate::cluster) authority: Authority,
    /// Its hosts.
    pub(in crate::cluster) hosts: BTreeMap<HostId, Peer>,
    /// Hosts that were removed.
    pub(in crate::cluster) removed: BTreeSet<HostId>,
}

impl Page {
    /// What the state says; `None` where it says nothing yet.
    pub(in crate::cluster) fn of(state: &State, revision: u64) -> Option<Self> {
        let cluster = state.cluster.as_ref()?;
        Some(Self {
            cluster: cluster.id,
            epoch: cluster.epoch,
            revision,
            authority: cluster.authority.clone()?,
            hosts: state.hosts.iter().filter_map(|(id, r)| Some((*id, r.peer.clone()?))).collect(),
            removed: state.removed.keys().copied().collect(),
        })
    }
}

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cluster) enum Stranger {
    /// It is not that of a host of this cluster.
    #[error("the certificate does not name a host of this cluster")]
    Foreign,
    /// It is not a certificate.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// Nobody knows the host, as far as it is known here.
    #[error("the host {0} is not known here")]
    Unknown(HostId),
    /// It was removed.
    #[error("the host {0} was removed from the cluster")]
    Removed(HostId),
    /// Its key is another one than the cluster knows.
    #[error("the host {0} is known by another key")]
    WrongKey(HostId),
}

/// The address book of this host.
pub(in crate::cluster) struct Book {
    cluster: Uuid,
    epoch: u64,
    shared: Arc<Shared>,
    file: PathBuf,
    told: RwLock<Option<Page>>,
    /// Someone unknown knocked: peers are to be asked.
    pub(in crate::cluster) wanted: Notify,
}

impl Book {
    /// The book of a host of `cluster` and `epoch`; what peers told before is in `dir/peers.json`.
    pub(in crate::cluster) fn open(
        dir: &Path,
        cluster: Uuid,
        epoch: u64,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let file = dir.join("peers.json");
        let told: Option<Page> = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).unwrap_or_else(|e| {
                tracing::error!(file = %file.display(), error = %e, "the address book is damaged; it is made anew");
                None
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let told = RwLock::new(told.filter(|page| page.cluster == cluster && page.epoch == epoch));
        Ok(Self { cluster, epoch, shared, file, told, wanted: Notify::new() })
    }

    fn told(&self) -> Option<Page> {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what a peer said, where it is newer.
    pub(in crate::cluster) fn tell(&self, page: Page) -> io::Result<()> {
        if page.cluster != self.cluster || page.epoch != self.epoch {
            return Ok(());
        }
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_some_and(|old| old.revision >= page.revision) {
            return Ok(());
        }
        store(&self.file, &page)?;
        *told = Some(page);
        Ok(())
    }

    /// The newest that is known here.
    pub(in crate::cluster) fn page(&self) -> Option<Page> {
        let stated = self.shared.read_at(Page::of);
        match (stated, self.told()) {
            (Some(stated), Some(told)) => {
                let removed: BTreeSet<_> = stated.removed.union(&told.removed).copied().collect();
                let newer = if told.revision > stated.revision { told } else { stated };
                Some(Page { removed, ..newer })
            }
            (stated, told) => stated.or(told),
        }
    }

    /// The host this certificate is of, where it may speak.
    pub(in crate::cluster) fn identify(&self, certificate: &CertificateDer<'_>) -> Result<HostId, Stranger> {
        let leaf = webpki::EndEntityCert::try_from(certificate).map_err(|_| Stranger::Malformed)?;
        let named = leaf.valid_dns_names().find_map(|name| pki::named_host(name, self.cluster));
        let host = named.ok_or(Stranger::Foreign)?;
        let page = self.page();
        if page.as_ref().is_some_and(|p| p.removed.contains(&host)) {
            return Err(Stranger::Removed(host));
        }
        let Some(peer) = page.and_then(|p| p.hosts.get(&host).cloned()) else {
            self.wanted.notify_one();
            return Err(Stranger::Unknown(host));
        };
        if peer.pin != pki::hash(&leaf.subject_public_key_info()) {
            return Err(Stranger::WrongKey(host));
        }
        Ok(host)
    }

    /// Whether the host was removed.
    pub(in crate::cluster) fn is_removed(&self, host: HostId) -> bool {
        self.shared.read(|s| s.removed.contains_key(&host))
            || self.told().is_some_and(|page| page.removed.contains(&host))
    }

    /// Where the host is reached.
    pub(in crate::cluster) fn address(&self, host: HostId) -> Option<String> {
        let stated = self
            .shared
            .read_at(|s, revision| Some((revision, s.hosts.get(&host)?.peer.as_ref()?.address.clone())));
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        let told = told.as_ref().and_then(|p| Some((p.revision, p.hosts.get(&host)?.address.clone())));
        stated.into_iter().chain(told).max_by_key(|(revision, _)| *revision).map(|(_, address)| address)
    }
}

/// Writes a page as the address book of a host that starts anew.
pub(in crate::cluster) fn store(file: &Path, page: &Page) -> io::Result<()> {
    // It holds the authority's key.
    crate::durable::write(file, 0o600, &serde_json::to_vec(page)?)
}
