//! Taking the objects of a joining host into the state.
//!
//! Ids stay, so that nothing that runs has to be told. Names that are taken are changed, after the host's name; which ones is
//! said beforehand. A network nobody on the joining host uses, and of whose name the cluster has one, is left out: the
//! cluster's own serves the host from then on. Users, passwords and tokens of the joining host end.

use super::{Application, ImageRecord, Kind, PoolRecord, Refusal, State, VmRecord, apply::Context};
use lq_api::{
    HostId, ImageId, NetworkId, PoolId, VmId, VolumeId, access::ObjectKind, cluster::Renaming,
    image::ImageState, meta::Metadata, network::Network, pool::PoolSpec, vm::Mac, volume::Volume,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// Longest name of an object.
const MAX_NAME: usize = 63;

/// Everything a host brings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named after what they hold")]
pub struct Objects {
    pub pools: Vec<Arc<PoolRecord>>,
    pub vms: Vec<Arc<VmRecord>>,
    pub images: Vec<Arc<ImageRecord>>,
    pub volumes: Vec<Arc<Volume>>,
    pub networks: Vec<Arc<Network>>,
}

impl Objects {
    /// What a cluster of one brings.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self {
            pools: state.pools.values().cloned().collect(),
            vms: state.vms.values().cloned().collect(),
            images: state.images.values().cloned().collect(),
            volumes: state.volumes.values().cloned().collect(),
            networks: state.networks.values().cloned().collect(),
        }
    }

    /// What a host of an older epoch of this very cluster brings: what is on it.
    #[must_use]
    pub fn held_by(state: &State, host: HostId) -> Self {
        let here = |pool: Option<PoolId>| state.is_on(pool, host);
        let vms: Vec<_> = state.vms.values().filter(|r| r.vm.status.host == Some(host)).cloned().collect();
        let used: BTreeSet<NetworkId> =
            vms.iter().flat_map(|r| r.vm.spec.nics.iter().map(|n| n.network)).collect();
        let images = state.images.values().filter(|r| here(r.image.spec.pool)).cloned().map(|mut record| {
            if record.image.status.state == ImageState::Uploading {
                // Whoever was sending it is gone.
                let record = Arc::make_mut(&mut record);
                record.upload = None;
                record.image.status.state = ImageState::Pending;
            }
            record
        });
        Self {
            pools: state
                .pools
                .values()
                .filter(|p| state.pool_host(p.meta.id) == Some(host))
                .cloned()
                .collect(),
            vms,
            images: images.collect(),
            volumes: state.volumes.values().filter(|v| here(v.spec.pool)).cloned().collect(),
            networks: state.networks.values().filter(|n| used.contains(&n.meta.id)).cloned().collect(),
        }
    }

    /// Those of which the state knows nothing.
    #[must_use]
    pub fn unknown_to(&self, state: &State) -> Self {
        let mut rest = self.clone();
        rest.pools.retain(|p| !state.pools.contains_key(&p.meta.id));
        rest.vms.retain(|r| !state.vms.contains_key(&r.vm.meta.id));
        rest.images.retain(|r| !state.images.contains_key(&r.image.meta.id));
        rest.volumes.retain(|v| !state.volumes.contains_key(&v.meta.id));
        rest.networks.retain(|n| !state.networks.contains_key(&n.meta.id));
        rest
    }

    /// SHA-256 over what there is and what is wanted of it, hexadecimal; what merely happens does not count.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |id: Uuid, generation: u64, name: &str| {
            hasher.update(id.as_bytes());
            hasher.update(generation.to_be_bytes());
            hasher.update(name.as_bytes());
            hasher.update([0]);
        };
        self.pools.iter().for_each(|p| add(p.meta.id.0, p.meta.generation, &p.meta.name));
        self.vms.iter().map(|r| &r.vm.meta).for_each(|m| add(m.id.0, m.generation, &m.name));
        self.images.iter().map(|r| &r.image.meta).for_each(|m| add(m.id.0, m.generation, &m.name));
        self.volumes.iter().for_each(|v| add(v.meta.id.0, v.meta.generation, &v.meta.name));
        self.networks.iter().for_each(|n| add(n.meta.id.0, n.meta.generation, &n.meta.name));
        hex::encode(hasher.finalize())
    }
}

/// What a merge will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Objects whose names are taken. Those the user made come first.
    pub renamings: Vec<Renaming>,
    /// Networks that are left out.
    pub left_out: BTreeSet<NetworkId>,
}

impl Plan {
    /// Refuses where a name the user gave would change without consent. Pools, and networks called `default`, are named by
    /// us and may always change.
    pub fn allowed(&self, consent: bool) -> Result<(), Refusal> {
        let asked: Vec<_> = self.renamings.iter().filter(|r| r.needs_consent).collect();
        if consent || asked.is_empty() {
            return Ok(());
        }
        let list = asked.iter().map(|r| format!("{} `{}` (would become `{}`)", r.kind, r.from, r.to));
        Err(Refusal::Conflict(format!(
            "the cluster has objects of the same names: {}. Rename them first, or accept the new names",
            list.collect::<Vec<_>>().join(", ")
        )))
    }

    /// What comes may bear one id in two kinds: only by chance or bad will, and yet it is two objects.
    fn name(&self, kind: Kind, id: Uuid, old: &str) -> String {
        let of = kind.object().map(ObjectKind::text);
        self.renamings
            .iter()
            .find(|r| Some(r.kind.as_str()) == of && r.id == id)
            .map_or_else(|| old.to_owned(), |r| r.to.clone())
    }
}

/// `name` where it is free, else `name-2`, `name-3` …
pub(super) fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    numbered(name, 2, taken)
}

fn numbered(name: &str, from: u64, taken: impl Fn(&str) -> bool) -> String {
    let candidate = |n: u64| {
        let end = format!("-{n}");
        // Names are ASCII.
        let head = name.get(..MAX_NAME - end.len()).unwrap_or(name);
        format!("{head}{end}")
    };
    (from..).map(candidate).find(|c| !taken(c)).unwrap_or_else(|| candidate(from))
}

/// New names for those of one kind that are taken.
fn renamings<'a>(
    kind: ObjectKind,
    host: &str,
    taken: impl Iterator<Item = &'a str>,
    brought: &[(Uuid, &str)],
    ours: impl Fn(&str) -> bool,
    out: &mut Vec<Renaming>,
) {
    let here: BTreeSet<&str> = taken.collect();
    let mut all: BTreeSet<String> = here.iter().map(|n| (*n).to_owned()).collect();
    all.extend(brought.iter().map(|(_, n)| (*n).to_owned()));
    for (id, name) in brought.iter().filter(|(_, n)| here.contains(n)) {
        let end = format!("-{host}");
        let head = name.get(..MAX_NAME.saturating_sub(end.len())).unwrap_or(name);
        let first: String = format!("{head}{end}").chars().take(MAX_NAME).collect();
        let to = free_name(&first, |n| all.contains(n));
        all.insert(to.clone());
        out.push(Renaming {
            kind: kind.text().into(),
            id: *id,
            from: (*name).to_owned(),
            to,
            needs_consent: !ours(name),
        });
    }
}

/// What taking in these objects would do, or why it cannot be done.
pub(super) fn plan(state: &State, application: &Application) -> Result<Plan, Refusal> {
    let brought = &application.objects;
    let conflict = |why: String| Err(Refusal::Conflict(why));
    let known = |id: Uuid| {
        state.vms.contains_key(&id.into())
            || state.images.contains_key(&id.into())
            || state.volumes.contains_key(&id.into())
            || state.networks.contains_key(&id.into())
            || state.pools.contains_key(&id.into())
    };
    let mut ids: Vec<Uuid> = brought.vms.iter().map(|r| r.vm.meta.id.0).collect();
    ids.extend(brought.images.iter().map(|r| r.image.meta.id.0));
    ids.extend(brought.volumes.iter().map(|v| v.meta.id.0));
    ids.extend(brought.networks.iter().map(|n| n.meta.id.0));
    ids.extend(brought.pools.iter().map(|p| p.meta.id.0));
    if ids.iter().any(|id| known(*id)) {
        return conflict(
            "the cluster has objects of this host already: it is a copy of one of its hosts".into(),
        );
    }
    if brought.pools.iter().any(|p| !matches!(p.spec, PoolSpec::Dir { host } if host == application.host)) {
        let why =
            "the joining host has a shared storage pool: delete it there, and make it anew in the cluster";
        return conflict(why.into());
    }
    if brought.images.iter().any(|r| r.image.status.state == ImageState::Uploading) {
        return conflict("an image is being uploaded to the joining host: end the upload first".into());
    }
    let taken: BTreeMap<Mac, &str> = state
        .vms
        .values()
        .flat_map(|r| r.vm.spec.nics.iter().filter_map(|n| Some((n.mac?, r.vm.meta.name.as_str()))))
        .collect();
    for record in &brought.vms {
        if record.vm.status.host != Some(application.host) {
            return conflict(format!("the machine `{}` is not on the joining host", record.vm.meta.name));
        }
        let macs = record.vm.spec.nics.iter().filter_map(|n| n.mac);
        if let Some((mac, other)) = macs.filter_map(|mac| Some((mac, taken.get(&mac)?))).next() {
            return conflict(format!(
                "the machine `{}` has the hardware address {mac}, which `{other}` of the cluster has too: change one",
                record.vm.meta.name
            ));
        }
    }
    let used: BTreeSet<NetworkId> =
        brought.vms.iter().flat_map(|r| r.vm.spec.nics.iter().map(|n| n.network)).collect();
    let names: BTreeSet<&str> = state.networks.values().map(|n| n.meta.name.as_str()).collect();
    let left_out: BTreeSet<NetworkId> = brought
        .networks
        .iter()
        .filter(|n| !used.contains(&n.meta.id) && names.contains(n.meta.name.as_str()))
        .map(|n| n.meta.id)
        .collect();
    let mut out = Vec::new();
    let host = &application.name;
    let vms: Vec<_> = brought.vms.iter().map(|r| (r.vm.meta.id.0, r.vm.meta.name.as_str())).collect();
    renamings(
        ObjectKind::Vm,
        host,
        state.vms.values().map(|r| r.vm.meta.name.as_str()),
        &vms,
        |_| false,
        &mut out,
    );
    let images: Vec<_> =
        brought.images.iter().map(|r| (r.image.meta.id.0, r.image.meta.name.as_str())).collect();
    let here = state.images.values().map(|r| r.image.meta.name.as_str());
    renamings(ObjectKind::Image, host, here, &images, |_| false, &mut out);
    let volumes: Vec<_> = brought.volumes.iter().map(|v| (v.meta.id.0, v.meta.name.as_str())).collect();
    renamings(
        ObjectKind::Volume,
        host,
        state.volumes.values().map(|v| v.meta.name.as_str()),
        &volumes,
        |_| false,
        &mut out,
    );
    let networks: Vec<_> = brought
        .networks
        .iter()
        .filter(|n| !left_out.contains(&n.meta.id))
        .map(|n| (n.meta.id.0, n.meta.name.as_str()))
        .collect();
    let here = state.networks.values().map(|n| n.meta.name.as_str());
    renamings(ObjectKind::Network, host, here, &networks, |name| name == "default", &mut out);
    let pools: Vec<_> = brought.pools.iter().map(|p| (p.meta.id.0, p.meta.name.as_str())).collect();
    renamings(
        ObjectKind::Pool,
        host,
        state.pools.values().map(|p| p.meta.name.as_str()),
        &pools,
        |_| true,
        &mut out,
    );
    Ok(Plan { renamings: out, left_out })
}

/// Refuses objects, of a host that comes back, that name what is neither among them nor in the state, or a volume that is
/// another machine's by now.
pub(super) fn check_references(state: &State, brought: &Objects) -> Result<(), Refusal> {
    let image =
        |id: ImageId| state.images.contains_key(&id) || brought.images.iter().any(|r| r.image.meta.id == id);
    // A pool that is being deleted is empty, and stays so.
    let pool = |id: Option<PoolId>| {
        id.is_some_and(|id| {
            state.pools.get(&id).is_some_and(|p| !p.deleting) || brought.pools.iter().any(|p| p.meta.id == id)
        })
    };
    let missing = |kind: &str, name: &str, what: &str| {
        Err(Refusal::Conflict(format!(
            "the {kind} `{name}`, which only the joining host knows, needs {what} that the cluster does not have any \
             more: delete the {kind} on that host, or bring back what it needs first"
        )))
    };
    for record in &brought.vms {
        let (id, name, spec) = (record.vm.meta.id, &record.vm.meta.name, &record.vm.spec);
        for volume in record.volumes() {
            if brought.volumes.iter().any(|v| v.meta.id == volume) {
                continue;
            }
            match state.volumes.get(&volume).map(|v| v.status.attached_to) {
                None => return missing("machine", name, "a volume"),
                Some(Some(other)) if other != id => {
                    let other =
                        state.vms.get(&other).map_or_else(|| other.to_string(), |r| r.vm.meta.name.clone());
                    return Err(Refusal::Conflict(format!(
                        "the machine `{name}`, which only the joining host knows, has a volume that `{other}` of the \
                         cluster has by now: take it from one of the two first"
                    )));
                }
                Some(_) => {}
            }
        }
        if !spec.images().all(image) {
            return missing("machine", name, "an image");
        }
        let known = |id: NetworkId| {
            state.networks.contains_key(&id) || brought.networks.iter().any(|n| n.meta.id == id)
        };
        if !spec.nics.iter().all(|n| known(n.network)) {
            return missing("machine", name, "a network");
        }
    }
    for volume in &brought.volumes {
        if !pool(volume.spec.pool) || !volume.spec.source.is_none_or(image) {
            return missing("volume", &volume.meta.name, "a pool or an image");
        }
    }
    for record in &brought.images {
        let boot = record.image.spec.boot.as_ref();
        if !pool(record.image.spec.pool)
            || boot.is_some_and(|b| !image(b.kernel) || b.initrd.is_some_and(|i| !image(i)))
        {
            return missing("image", &record.image.meta.name, "a pool or an image");
        }
    }
    Ok(())
}

/// Does what [`plan`] said.
pub(super) fn carry_out(state: &mut State, ctx: &mut Context<'_>, brought: &Objects, plan: &Plan) {
    let kept = brought.networks.iter().filter(|n| !plan.left_out.contains(&n.meta.id));
    let mut taking = Taking { ctx, plan };
    taking.take(Kind::Pool, &mut state.pools, &brought.pools, |p| &mut p.meta);
    taking.take(Kind::Network, &mut state.networks, kept, |n| &mut n.meta);
    taking.take(Kind::Image, &mut state.images, &brought.images, |r| &mut r.image.meta);
    taking.take(Kind::Volume, &mut state.volumes, &brought.volumes, |v| &mut v.meta);
    taking.take(Kind::Vm, &mut state.vms, &brought.vms, |r| &mut r.vm.meta);
    state.keep_images(brought.images.iter().map(|r| r.image.meta.id));
    settle_volumes(state, ctx, brought);
}

/// A host that comes back may bring a machine without its volume, or a volume without its machine: what the state knew of
/// the other half stands.
fn settle_volumes(state: &mut State, ctx: &mut Context<'_>, brought: &Objects) {
    let mut owners: BTreeMap<VolumeId, VmId> = BTreeMap::new();
    for record in state.vms.values() {
        owners.extend(record.volumes().into_iter().map(|volume| (volume, record.vm.meta.id)));
    }
    let disks = brought.vms.iter().flat_map(|r| r.volumes());
    let concerned: BTreeSet<VolumeId> = brought.volumes.iter().map(|v| v.meta.id).chain(disks).collect();
    for id in concerned {
        let owner = owners.get(&id).copied();
        if let Some(volume) = state.volumes.get_mut(&id).filter(|v| v.status.attached_to != owner) {
            let volume = Arc::make_mut(volume);
            volume.status.attached_to = owner;
            volume.meta.revision = ctx.revision;
            ctx.changed(Kind::Volume, id.0);
        }
    }
}

struct Taking<'a, 'c> {
    ctx: &'a mut Context<'c>,
    plan: &'a Plan,
}

impl Taking<'_, '_> {
    /// Objects of one kind, under the names they are to have.
    fn take<'o, I: Copy + Ord + Into<Uuid>, T: Clone + 'o>(
        &mut self,
        kind: Kind,
        map: &mut BTreeMap<I, Arc<T>>,
        brought: impl IntoIterator<Item = &'o Arc<T>>,
        meta: impl Fn(&mut T) -> &mut Metadata<I>,
    ) {
        for object in brought {
            let mut object = (**object).clone();
            let of = meta(&mut object);
            let id = of.id;
            of.name = self.plan.name(kind, id.into(), &of.name);
            of.revision = self.ctx.revision;
            map.insert(id, Arc::new(object));
            self.ctx.changed(kind, id.into());
        }
    }
}
