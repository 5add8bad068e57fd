//! Hosts: what they say of themselves, how they come and how they go.
//!
//! ```text
//!  CreateJoinToken ──▶ Admit ──▶ (HostStarted | DescribeHost | UpdateHost)* ──▶ LeaveHost ──▶ RemoveHost ──▶ denied for ever
//! ```

use super::{
    Admission, Authority, Capacity, HostRecord, JoinTokenRecord, Kind, Maintenance, Outcome, Peer,
    PoolRecord, Refusal, RemovedHost, Reply, State, VmRecord,
    apply::{Context, check_expected, patched},
    merge::{self, Objects},
};
use lq_api::{
    HostId, ImageId, PoolId, TokenId, VolumeId,
    cluster::JoinToken,
    host::{Host, HostStatus},
    image::ImageState,
    meta::MetadataPatch,
    vm::VmState,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Most join tokens at a time.
const MAX_TOKENS: usize = 100;

/// What a host says of a token it does not know. A host that joins goes on to the next one then: hosts of other releases have to
/// say it in the same words.
pub(in crate::cluster) const STRANGE_TOKEN: &str =
    "the join token is not (or no longer) one of this cluster: make a new one there";

/// A host that asks to be admitted, with everything it brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// Its id, which it keeps.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// The cluster it was alone in.
    pub from: Uuid,
    /// How it is known and reached.
    pub peer: Peer,
    /// What it can carry.
    pub capacity: Option<Capacity>,
    /// Its present boot: its machines run on.
    pub boot: Option<Uuid>,
    /// Its objects.
    pub objects: Objects,
    /// Objects whose names are taken may be given others.
    pub rename: bool,
    /// It is a host of this very cluster, of an older epoch: this one.
    #[serde(default)]
    pub back: Option<u64>,
}

/// What only one host holds.
struct Held {
    vms: Vec<Arc<VmRecord>>,
    volumes: Vec<VolumeId>,
    images: Vec<ImageId>,
    pools: Vec<PoolId>,
}

impl HostRecord {
    /// The host as the API shows it.
    #[must_use]
    pub fn shown(&self, status: Option<HostStatus>) -> Host {
        Host {
            meta: self.meta.clone(),
            maintenance: self.maintenance.is_some(),
            witness: self.is_witness(),
            status,
        }
    }

    /// It only votes.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.capacity.as_ref().is_some_and(|c| c.witness)
    }
}

impl State {
    pub(super) fn set_authority(&mut self, authority: &Authority) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(|| Refusal::not_found("cluster", "yet"))?;
        if cluster.authority.is_none() {
            cluster.authority = Some(authority.clone());
        }
        Ok(Reply::Done)
    }

    pub(super) fn add_host(&mut self, ctx: &mut Context<'_>, id: HostId, name: &str) {
        let meta = ctx.meta(id, name, BTreeMap::new());
        self.hosts.insert(
            id,
            Arc::new(HostRecord {
                meta,
                boot: None,
                leaving: false,
                named: false,
                peer: None,
                capacity: None,
                maintenance: None,
                lost: None,
                off: None,
                off_by_bmc: false,
                bmc: None,
            }),
        );
        ctx.changed(Kind::Host, id.0);
    }

    pub(super) fn host_started(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        name: &str,
        boot: Uuid,
    ) -> Outcome {
        let record = self.hosts.get(&id).ok_or_else(|| self.no_host(id))?;
        // A name given in the cluster stands; otherwise the host's own counts, as far as it is free.
        let name = if record.named { record.meta.name.clone() } else { self.free_host_name(name, id) };
        let record = self.hosts.get_mut(&id).ok_or_else(|| Refusal::not_found("host", id))?;
        if record.meta.name == name && record.boot == Some(boot) {
            return Ok(Reply::Started(vec![]));
        }
        let record = Arc::make_mut(record);
        let fresh = record.boot != Some(boot);
        if record.meta.name != name {
            record.meta.name = name;
            record.meta.generation += 1;
        }
        record.boot = Some(boot);
        record.meta.revision = ctx.revision;
        ctx.changed(Kind::Host, id.0);
        Ok(Reply::Started(if fresh { self.host_booted(ctx, id) } else { vec![] }))
    }

    /// Whether the host is in maintenance.
    #[must_use]
    pub fn in_maintenance(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.maintenance.is_some())
    }

    /// Takes in a host the state does not know, with its pools, under names that are free.
    pub(in crate::cluster) fn take_in(
        &mut self,
        revision: u64,
        at: jiff::Timestamp,
        record: &Arc<HostRecord>,
        pools: &[Arc<PoolRecord>],
    ) {
        let mut changes = Vec::new();
        let ctx = &mut Context::new(revision, at, &mut changes);
        let mut host = (**record).clone();
        host.meta.name = self.free_host_name(&host.meta.name, host.meta.id);
        host.meta.revision = ctx.revision;
        self.hosts.insert(host.meta.id, Arc::new(host));
        for pool in pools {
            let mut pool = (**pool).clone();
            let taken = |n: &str| self.pools.values().any(|p| p.meta.name == n);
            pool.meta.name = merge::free_name(&pool.meta.name, taken);
            pool.meta.revision = ctx.revision;
            self.pools.insert(pool.meta.id, Arc::new(pool));
        }
    }

    /// Why there is no such host.
    fn no_host(&self, id: HostId) -> Refusal {
        match self.removed.get(&id) {
            Some(gone) => Refusal::Conflict(format!(
                "the host `{}` ({id}) was removed from the cluster at {}; it can only come back under a new id",
                gone.name, gone.at
            )),
            None => Refusal::not_found("host", id),
        }
    }

    /// `name`, or `name-2`, `name-3` … where another host has it.
    fn free_host_name(&self, name: &str, id: HostId) -> String {
        let taken = |n: &str| self.hosts.values().any(|r| r.meta.id != id && r.meta.name == n);
        merge::free_name(name, taken)
    }

    pub(super) fn describe_host(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        peer: &Peer,
        capacity: Option<&Capacity>,
    ) -> Outcome {
        let old = self.hosts.get(&id).ok_or_else(|| self.no_host(id))?;
        if old.peer.as_ref().is_some_and(|known| known.pin != peer.pin) {
            return Err(Refusal::Conflict("the key of a host never changes".into()));
        }
        let mut new = (**old).clone();
        new.peer = Some(peer.clone());
        new.capacity = capacity.cloned().or(new.capacity);
        if new == **old {
            return Ok(Reply::Done);
        }
        new.meta.revision = ctx.revision;
        self.hosts.insert(id, Arc::new(new));
        ctx.changed(Kind::Host, id.0);
        Ok(Reply::Done)
    }

    pub(super) fn update_host(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        patch: &MetadataPatch,
    ) -> Outcome {
        let old = self.hosts.get(&id).ok_or_else(|| self.no_host(id))?;
        check_expected(&old.meta, expect)?;
        let mut new = (**old).clone();
        new.meta = patched(&old.meta, patch, self.hosts.values().map(|r| r.meta.name.as_str()))?;
        new.named |= patch.name.is_some();
        if new == **old {
            return Ok(Reply::Host(Arc::new(new.meta)));
        }
        new.meta.generation += 1;
        new.meta.revision = ctx.revision;
        let reply = Reply::Host(Arc::new(new.meta.clone()));
        self.hosts.insert(id, Arc::new(new));
        ctx.changed(Kind::Host, id.0);
        Ok(reply)
    }

    pub(super) fn set_maintenance(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        maintenance: Option<Maintenance>,
    ) -> Outcome {
        let old = self.hosts.get(&id).ok_or_else(|| self.no_host(id))?;
        check_expected(&old.meta, expect)?;
        let mut new = (**old).clone();
        new.maintenance = maintenance;
        if new != **old {
            new.meta.revision = ctx.revision;
            ctx.changed(Kind::Host, id.0);
        }
        let reply = Reply::Host(Arc::new(new.meta.clone()));
        self.hosts.insert(id, Arc::new(new));
        Ok(reply)
    }

    pub(super) fn create_join_token(&mut self, ctx: &Context<'_>, token: &JoinToken, hash: &str) -> Outcome {
        // Tokens nobody can use any more make room.
        self.join_tokens.retain(|_, t| t.token.expires_at > ctx.at && t.token.uses_left > 0);
        if self.join_tokens.len() >= MAX_TOKENS {
            let why = format!("there are {MAX_TOKENS} join tokens already: delete those no longer needed");
            return Err(Refusal::Conflict(why));
        }
        if token.expires_at <= ctx.at || token.uses_left == 0 {
            return Err(Refusal::field("uses", "the token could never be used"));
        }
        let record = JoinTokenRecord { token: token.clone(), hash: hash.to_owned() };
        self.join_tokens.insert(token.id, Arc::new(record));
        Ok(Reply::Done)
    }

    pub(super) fn delete_join_token(&mut self, id: TokenId) -> Outcome {
        self.join_tokens.remove(&id).ok_or_else(|| Refusal::not_found("join token", id))?;
        Ok(Reply::Done)
    }

    /// The join token with this hash, be it used up or expired.
    pub fn join_token(&self, hash: &str) -> Option<&JoinToken> {
        self.join_tokens.values().find(|t| t.hash == hash).map(|t| &t.token)
    }

    /// The same, where it may be used now.
    pub fn usable_join_token(&self, hash: &str, now: jiff::Timestamp) -> Result<&JoinToken, Refusal> {
        let refuse = |why: &str| Err(Refusal::Conflict(why.into()));
        match self.join_token(hash) {
            None => refuse(STRANGE_TOKEN),
            Some(t) if t.expires_at <= now => {
                refuse("the join token has expired: make a new one in the cluster")
            }
            Some(t) if t.uses_left == 0 => refuse("the join token is used up: make a new one in the cluster"),
            Some(t) => Ok(t),
        }
    }

    /// What would come of an application; changes nothing.
    pub fn judge(&self, application: &Application) -> Result<merge::Plan, Refusal> {
        let host = application.host;
        let back = self.comes_back(application);
        if let Some(known) = self.hosts.get(&host).filter(|_| !back) {
            let why = format!("the host `{}` ({host}) is a member already", known.meta.name);
            return Err(Refusal::Conflict(why));
        }
        if self.removed.contains_key(&host) {
            return Err(self.no_host(host));
        }
        if back {
            let objects = application.objects.unknown_to(self);
            merge::check_references(self, &objects)?;
            return merge::plan(self, &Application { objects, ..application.clone() });
        }
        if self.cluster.as_ref().is_some_and(|c| c.id == application.from) {
            return Err(Refusal::Conflict("the host comes from a copy of this cluster's own state".into()));
        }
        merge::plan(self, application)
    }

    /// Whether it is a host of an older epoch of this cluster, with the key it is known by.
    fn comes_back(&self, application: &Application) -> bool {
        let older = application.back.is_some_and(|epoch| epoch < self.epoch());
        let ours = self.cluster.as_ref().is_some_and(|c| c.id == application.from);
        let known = self.hosts.get(&application.host).and_then(|r| r.peer.as_ref());
        older && ours && known.is_none_or(|p| p.pin == application.peer.pin)
    }

    pub(super) fn admit(&mut self, ctx: &mut Context<'_>, token: &str, application: &Application) -> Outcome {
        let host = application.host;
        // The answer to an earlier admission may have been lost: the same host with the same key may ask again.
        if let Some(known) = self.hosts.get(&host)
            && known.peer.as_ref().is_some_and(|p| p.pin == application.peer.pin)
            && let Some(earlier) = self.admitted_with.get(&host).filter(|a| a.token == token)
        {
            if earlier.brought == application.objects.digest() {
                return Ok(Reply::Done);
            }
            return Err(Refusal::Conflict(format!(
                "the host `{}` was admitted before, and its objects have changed since: remove it from the cluster \
                 and let it join anew",
                known.meta.name
            )));
        }
        let id = self.usable_join_token(token, ctx.at)?.id;
        let plan = self.judge(application)?;
        plan.allowed(application.rename)?;
        let known = self.hosts.get(&host);
        let record = HostRecord {
            meta: match known {
                Some(known) => lq_api::Metadata { revision: ctx.revision, ..known.meta.clone() },
                None => ctx.meta(host, &self.free_host_name(&application.name, host), BTreeMap::new()),
            },
            boot: application.boot,
            leaving: false,
            named: known.is_some_and(|k| k.named),
            peer: Some(application.peer.clone()),
            capacity: application.capacity.clone(),
            maintenance: known.and_then(|k| k.maintenance),
            lost: None,
            off: None,
            off_by_bmc: false,
            bmc: known.and_then(|k| k.bmc.clone()),
        };
        // What the cluster knows already stands as it is known here; only the rest is taken in.
        let rest = self.comes_back(application).then(|| application.objects.unknown_to(self));
        self.hosts.insert(host, Arc::new(record));
        ctx.changed(Kind::Host, host.0);
        merge::carry_out(self, ctx, rest.as_ref().unwrap_or(&application.objects), &plan);
        if let Some(record) = self.join_tokens.get_mut(&id) {
            Arc::make_mut(record).token.uses_left -= 1;
        }
        let admission = Admission { token: token.to_owned(), brought: application.objects.digest() };
        self.admitted_with.insert(host, admission);
        Ok(Reply::Done)
    }

    pub(super) fn leave_host(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        force: bool,
    ) -> Outcome {
        self.held(id, expect, force)?;
        if let Some(record) = self.hosts.get_mut(&id).filter(|r| !r.leaving) {
            let record = Arc::make_mut(record);
            record.leaving = true;
            record.meta.revision = ctx.revision;
            ctx.changed(Kind::Host, id.0);
        }
        Ok(Reply::Done)
    }

    /// What only this host holds; refused where that is anything and `force` does not say to give it up.
    fn held(&self, id: HostId, expect: Option<u64>, force: bool) -> Result<Held, Refusal> {
        let record = self.hosts.get(&id).ok_or_else(|| self.no_host(id))?;
        check_expected(&record.meta, expect)?;
        if self.hosts.values().filter(|r| r.meta.id == id || !(r.leaving || r.lost.is_some())).count() == 1 {
            return Err(Refusal::Conflict("it is the only host of the cluster".into()));
        }
        let here = |pool: Option<PoolId>| self.only_on(pool, id);
        let held = Held {
            vms: self.vms.values().filter(|r| r.vm.status.host == Some(id)).cloned().collect(),
            volumes: self.volumes.values().filter(|v| here(v.spec.pool)).map(|v| v.meta.id).collect(),
            images: self
                .images
                .values()
                .filter(|r| here(r.image.spec.pool))
                .map(|r| r.image.meta.id)
                .collect(),
            pools: self.pools.keys().copied().filter(|p| here(Some(*p))).collect(),
        };
        let holds_nothing = held.vms.is_empty() && held.volumes.is_empty() && held.images.is_empty();
        if !holds_nothing && !force {
            let running = held.vms.iter().filter(|r| r.vm.status.state != VmState::Stopped).count();
            return Err(Refusal::Conflict(format!(
                "it holds {} machines ({running} of them not stopped), {} volumes and {} images: move or delete \
                 these first, or remove it with `force`, which gives them up",
                held.vms.len(),
                held.volumes.len(),
                held.images.len()
            )));
        }
        Ok(held)
    }

    pub(super) fn remove_host(
        &mut self,
        ctx: &mut Context<'_>,
        id: HostId,
        expect: Option<u64>,
        force: bool,
    ) -> Outcome {
        let Held { vms, volumes, images, pools } = self.held(id, expect, force)?;
        let name = self.hosts.get(&id).map(|r| r.meta.name.clone()).unwrap_or_default();
        for vm in &vms {
            self.vms.remove(&vm.vm.meta.id);
            if let Some(pool) = vm.vars {
                self.discard_vars(pool, vm.vm.meta.id);
            }
            ctx.changed(Kind::Vm, vm.vm.meta.id.0);
        }
        for record in &vms {
            for volume in record.volumes() {
                self.detach(ctx, volume);
            }
        }
        self.stop_moves_to(ctx, id);
        let refuge =
            self.pools.values().find(|p| !p.deleting && !pools.contains(&p.meta.id)).map(|p| p.meta.id);
        self.give_up(ctx, &volumes, &images, refuge);
        for pool in pools {
            self.pools.remove(&pool);
            self.forget_bytes_in(pool);
            ctx.changed(Kind::Pool, pool.0);
        }
        self.leave_pools(ctx, id);
        self.hosts.remove(&id);
        self.admitted_with.remove(&id);
        self.removed.insert(id, RemovedHost { name, at: ctx.at });
        ctx.changed(Kind::Host, id.0);
        Ok(Reply::Done)
    }

    fn detach(&mut self, ctx: &mut Context<'_>, volume: VolumeId) {
        if let Some(volume) = self.volumes.get_mut(&volume) {
            let volume = Arc::make_mut(volume);
            volume.status.attached_to = None;
            volume.meta.revision = ctx.revision;
            ctx.changed(Kind::Volume, volume.meta.id.0);
        }
    }

    /// Removes volumes and images that are gone with their host. An image that others still use stays, without content and
    /// in the pool `refuge`, to be uploaded again.
    fn give_up(
        &mut self,
        ctx: &mut Context<'_>,
        volumes: &[VolumeId],
        images: &[ImageId],
        refuge: Option<PoolId>,
    ) {
        for id in volumes {
            self.volumes.remove(id);
            ctx.changed(Kind::Volume, id.0);
        }
        for id in images {
            let (vms, clones, defaults) = self.image_users(*id);
            if vms.is_empty() && clones.is_empty() && defaults.iter().all(|user| images.contains(user)) {
                if let Some(record) = self.images.remove(id) {
                    self.discard_image(&record);
                }
            } else if let Some(record) = self.images.get_mut(id) {
                let record = Arc::make_mut(record);
                (record.upload, record.receiver) = (None, None);
                record.image.spec.pool = refuge;
                record.image.status.state = ImageState::Pending;
                record.image.status.reason =
                    Some("its host was removed from the cluster: upload it again".into());
                record.image.meta.revision = ctx.revision;
            }
            ctx.changed(Kind::Image, id.0);
        }
    }
}
