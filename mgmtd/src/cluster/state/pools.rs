//! Storage pools.
//!
//! ```text
//!  CreatePool ──▶ (UpdatePool | ObservePool)* ──▶ DeletePool ──▶ ForgetPool
//!                                                 only while nothing is in it
//! ```
//! A pool in a directory is its host's and comes and goes with it. A shared pool is every host's: each says how it stands to it
//! ([`Op::ObservePool`](super::Op::ObservePool)), and what is to be done once is done by one of those that reach it
//! ([`State::maker`]), a rule everybody follows to the same host.

use super::{
    Kind, Outcome, PoolRecord, Refusal, Reply, State,
    apply::{Context, check_expected, check_new, patched},
};
use lq_api::{
    HostId, PoolId, VmId,
    meta::MetadataPatch,
    pool::{CreatePool, Pool, PoolHost, PoolSpec, PoolState},
    volume::Volume,
};
use std::{collections::BTreeMap, sync::Arc};

/// Names of what is in a pool that a refusal tells at most.
const NAMED: usize = 10;

impl PoolRecord {
    /// As the API shows it, without what only a host knows.
    #[must_use]
    pub fn show(&self) -> Pool {
        Pool {
            meta: self.meta.clone(),
            spec: self.spec.clone(),
            status: None,
            hosts: self.hosts.values().cloned().collect(),
            deleting: self.deleting,
            foreign: Vec::new(),
        }
    }

    fn is_ready_on(&self, host: HostId) -> bool {
        self.hosts.get(&host).is_some_and(|h| h.state == PoolState::Ready)
    }
}

impl State {
    /// The host that alone has this pool; `None` where there is no such pool, or it is shared.
    #[must_use]
    pub fn pool_host(&self, pool: PoolId) -> Option<HostId> {
        match self.pools.get(&pool)?.spec {
            PoolSpec::Dir { host } => Some(host),
            PoolSpec::Nfs(_) => None,
        }
    }

    /// Whether this host reaches what is in this pool: it is the host's own, or shared and ready on it.
    #[must_use]
    pub fn is_on(&self, pool: Option<PoolId>, host: HostId) -> bool {
        pool.and_then(|p| self.pools.get(&p)).is_some_and(|record| match record.spec {
            PoolSpec::Dir { host: of } => of == host,
            PoolSpec::Nfs(_) => record.is_ready_on(host),
        })
    }

    /// Whether what is in this pool is on this host alone, and gone with it.
    #[must_use]
    pub fn only_on(&self, pool: Option<PoolId>, host: HostId) -> bool {
        pool.and_then(|p| self.pool_host(p)) == Some(host)
    }

    /// A host that reaches this pool: `first` where it does, else the one with the lowest id.
    #[must_use]
    pub fn holder(&self, pool: PoolId, first: Option<HostId>) -> Option<HostId> {
        let record = self.pools.get(&pool)?;
        match record.spec {
            PoolSpec::Dir { host } => Some(host),
            PoolSpec::Nfs(_) => first
                .filter(|host| record.is_ready_on(*host))
                .or_else(|| record.hosts.keys().copied().find(|host| record.is_ready_on(*host))),
        }
    }

    /// The one host that makes, grows and deletes this volume: its machine's where that reaches the pool, else any that does.
    /// When it is lost the leader says so ([`Op::ObservePool`](super::Op::ObservePool)), and the next is the one.
    #[must_use]
    pub fn maker(&self, volume: &Volume) -> Option<HostId> {
        let host = |vm: VmId| self.vms.get(&vm).and_then(|r| r.vm.status.host);
        self.holder(volume.spec.pool?, volume.status.attached_to.and_then(host))
    }

    /// Why this host does not reach the pool, in words; `None` where it does.
    #[must_use]
    pub fn unreached(&self, pool: PoolId, host: HostId) -> Option<String> {
        if self.is_on(Some(pool), host) {
            return None;
        }
        let Some(record) = self.pools.get(&pool) else { return Some("its pool does not exist".into()) };
        let name = &record.meta.name;
        Some(match (&record.spec, record.hosts.get(&host)) {
            (PoolSpec::Dir { .. }, _) => format!("is in the pool `{name}` of another host"),
            (PoolSpec::Nfs(_), None) => format!("is in the pool `{name}`, which is not mounted there yet"),
            (PoolSpec::Nfs(_), Some(of)) => {
                let why = of.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                format!("is in the pool `{name}`, which is {} there{why}", of.state)
            }
        })
    }

    /// The pool used where none is named: the one called `local`, else the oldest.
    #[must_use]
    pub fn default_pool(&self) -> Option<PoolId> {
        let mut usable = self.pools.values().filter(|p| !p.deleting);
        let named = usable.clone().find(|p| p.meta.name == "local");
        named.or_else(|| usable.next()).map(|p| p.meta.id)
    }

    /// The pool something new goes into.
    pub(super) fn pool_for_new(&self, named: Option<PoolId>) -> Result<PoolId, Refusal> {
        let Some(id) = named else {
            return self.default_pool().ok_or_else(|| Refusal::Conflict("there is no storage pool".into()));
        };
        match self.pools.get(&id) {
            None => Err(Refusal::field("spec.pool", format!("there is no pool {id}"))),
            Some(p) if p.deleting => {
                Err(Refusal::Conflict(format!("the pool `{}` is being deleted", p.meta.name)))
            }
            Some(_) => Ok(id),
        }
    }

    pub(super) fn add_pool(&mut self, ctx: &mut Context<'_>, id: PoolId, name: &str, spec: PoolSpec) {
        let meta = ctx.meta(id, name, BTreeMap::new());
        self.put_pool(ctx, PoolRecord::new(meta, spec));
    }

    pub(super) fn create_pool(&mut self, ctx: &mut Context<'_>, id: PoolId, create: &CreatePool) -> Outcome {
        check_new(&create.name, &create.labels, self.pools.values().map(|p| p.meta.name.as_str()))?;
        let errors = create.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.pools.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        if let PoolSpec::Nfs(new) = &create.spec {
            let place = |s: &lq_api::pool::NfsSpec| (s.server.to_ascii_lowercase(), s.port, s.export.clone());
            let same = self
                .pools
                .values()
                .find(|p| matches!(&p.spec, PoolSpec::Nfs(old) if place(old) == place(new)));
            if let Some(same) = same {
                let why = format!("this export is the pool `{}` already", same.meta.name);
                return Err(Refusal::Conflict(why));
            }
        }
        let meta = ctx.meta(id, &create.name, create.labels.clone());
        Ok(self.put_pool(ctx, PoolRecord::new(meta, create.spec.clone())))
    }

    pub(super) fn update_pool(
        &mut self,
        ctx: &mut Context<'_>,
        id: PoolId,
        expect: Option<u64>,
        patch: &MetadataPatch,
    ) -> Outcome {
        let old = self.pool(id)?;
        check_expected(&old.meta, expect)?;
        let mut new = (*old).clone();
        new.meta = patched(&old.meta, patch, self.pools.values().map(|p| p.meta.name.as_str()))?;
        if new == *old {
            return Ok(Reply::Pool(Arc::new(old.show())));
        }
        Ok(self.put_pool(ctx, new))
    }

    /// Begins to delete a shared pool. Where no host reaches it there is nothing to be tidied up, and it is gone at once.
    pub(super) fn delete_pool(&mut self, ctx: &mut Context<'_>, id: PoolId, expect: Option<u64>) -> Outcome {
        let old = self.pool(id)?;
        check_expected(&old.meta, expect)?;
        if !old.spec.is_shared() {
            let why = "it is a host's own directory, which is there as long as the host";
            return Err(Refusal::Conflict(why.into()));
        }
        let (users, more) = self.in_pool(id);
        if !users.is_empty() {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let list = users.join(", ");
            return Err(Refusal::Conflict(format!("it holds {list}{more}: delete or move these first")));
        }
        if self.holder(id, None).is_none() {
            self.pools.remove(&id);
            self.forget_bytes_in(id);
            ctx.changed(Kind::Pool, id.0);
            return Ok(Reply::Done);
        }
        let mut new = (*old).clone();
        new.deleting = true;
        Ok(self.put_pool(ctx, new))
    }

    pub(super) fn forget_pool(&mut self, ctx: &mut Context<'_>, id: PoolId) -> Outcome {
        let Some(old) = self.pools.get(&id) else { return Ok(Reply::Done) };
        if !old.deleting {
            return Err(Refusal::Conflict("the pool is not being deleted".into()));
        }
        self.pools.remove(&id);
        self.forget_bytes_in(id);
        ctx.changed(Kind::Pool, id.0);
        Ok(Reply::Done)
    }

    pub(super) fn observe_pool(
        &mut self,
        ctx: &mut Context<'_>,
        id: PoolId,
        host: HostId,
        state: PoolState,
        reason: Option<&str>,
    ) -> Outcome {
        let Some(old) = self.pools.get(&id) else { return Ok(Reply::Done) };
        if !old.spec.is_shared() || !self.hosts.contains_key(&host) {
            return Ok(Reply::Done);
        }
        let before = old.hosts.get(&host);
        let since = before.filter(|b| b.state == state).map_or(ctx.at, |b| b.since);
        let now = PoolHost { host, state, since, reason: reason.map(str::to_owned) };
        if before == Some(&now) {
            return Ok(Reply::Done);
        }
        let mut new = (**old).clone();
        new.hosts.insert(host, now);
        new.claimed |= state == PoolState::Ready;
        self.put_pool(ctx, new);
        Ok(Reply::Done)
    }

    /// A host is gone for ever: no shared pool is on it any more, and no upload comes through it.
    pub(super) fn leave_pools(&mut self, ctx: &mut Context<'_>, host: HostId) {
        let with: Vec<_> = self.pools.values().filter(|p| p.hosts.contains_key(&host)).cloned().collect();
        for old in with {
            let mut new = (*old).clone();
            new.hosts.remove(&host);
            self.put_pool(ctx, new);
        }
        let received = self.images.values().filter(|r| r.receiver == Some(host) && r.upload.is_some());
        for id in received.map(|r| (r.image.meta.id, r.upload)).collect::<Vec<_>>() {
            if let (image, Some(upload)) = id {
                let reason = "the host that received it was removed from the cluster: upload it again";
                let _ = self.fail_upload(ctx, image, upload, reason);
            }
        }
    }

    /// What is in a pool, in words (at most [`NAMED`]), and how much more there is.
    fn in_pool(&self, id: PoolId) -> (Vec<String>, usize) {
        let volumes = self.volumes.values().filter(|v| v.spec.pool == Some(id));
        let images = self.images.values().filter(|r| r.image.spec.pool == Some(id));
        let vms = self.vms.values().filter(|r| r.vars == Some(id));
        let mut names: Vec<_> = volumes.map(|v| format!("the volume `{}`", v.meta.name)).collect();
        names.extend(images.map(|r| format!("the image `{}`", r.image.meta.name)));
        names.extend(vms.map(|r| format!("what firmware or TPM of the machine `{}` keep", r.vm.meta.name)));
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        (names, more)
    }

    fn pool(&self, id: PoolId) -> Result<Arc<PoolRecord>, Refusal> {
        self.pools.get(&id).cloned().ok_or_else(|| Refusal::not_found("pool", id))
    }

    fn put_pool(&mut self, ctx: &mut Context<'_>, mut record: PoolRecord) -> Reply {
        let id = record.meta.id;
        record.meta.revision = ctx.revision;
        let reply = Reply::Pool(Arc::new(record.show()));
        self.pools.insert(id, Arc::new(record));
        ctx.changed(Kind::Pool, id.0);
        reply
    }
}
