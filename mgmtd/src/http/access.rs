//! Decisions that need more than the path: what a body asks for, and what a list may show.

use super::{
    problem::Failure,
    rules::{missing, on_object},
};
use crate::{
    auth::Caller,
    cluster::{Refusal, State, WriteError, state::Object},
};
use lq_api::{
    ImageId, PoolId,
    access::{Grant, ObjectKind, Permission},
    problem::{FieldError, Kind, Problem},
    vm::{Boot, PowerState, VmSpec},
};
use std::collections::BTreeMap;
use uuid::Uuid;

type Labels = BTreeMap<String, String>;

/// Refuses a new object, or new labels of one, outside what the caller may write to: else one could put things where one has no
/// say, or take them away from where others have theirs. Refuses too to give an object labels under which the caller may do
/// more to it than now. (Of what is made by them there was nothing before that they could gain.)
pub(super) fn with_labels(
    state: &State,
    caller: &Caller,
    (kind, id): (ObjectKind, Uuid),
    labels: Option<&Labels>,
    permission: Permission,
) -> Result<(), Failure> {
    let Some(labels) = labels else { return Ok(()) };
    let new = Object::Of { kind, id, labels };
    if !caller.may(permission, new) {
        return Err(missing(permission, "what has these labels"));
    }
    if state.labels(kind, id).is_none() {
        return Ok(());
    }
    let old = state.object(kind, id);
    match kind.permissions().find(|p| caller.may(*p, new) && !caller.may(*p, old)) {
        Some(gained) => {
            let why = format!(
                "with these labels you would have the permission `{gained}` on it, which you do not have now: ask someone \
                 who has it"
            );
            Err(Failure::new(Kind::Forbidden, why))
        }
        None => Ok(()),
    }
}

/// The pool something new goes to, which takes the permission to see it: the one that is named; else the default one, or where
/// the caller may not use that, the first they may.
pub(super) fn may_fill(state: &State, caller: &Caller, named: Option<PoolId>) -> Result<PoolId, Failure> {
    let sees = |pool: &PoolId| caller.may(Permission::StorageRead, state.object(ObjectKind::Pool, pool.0));
    match named {
        Some(pool) => {
            let object = (ObjectKind::Pool, pool.0);
            may_use(state, caller, object, Permission::StorageRead, || "spec.pool".to_owned())?;
            Ok(pool)
        }
        None => {
            let all = state.default_pool().into_iter().chain(state.pools.keys().copied());
            all.into_iter()
                .find(sees)
                .ok_or_else(|| missing(Permission::StorageRead, "a storage pool to put it into"))
        }
    }
}

/// Refuses to use an object for another: one that may not be seen as if it did not exist.
fn may_use(
    state: &State,
    caller: &Caller,
    (kind, id): (ObjectKind, Uuid),
    permission: Permission,
    field: impl FnOnce() -> String,
) -> Result<(), Failure> {
    // What does not exist is the state's to refuse, in the same words.
    if state.labels(kind, id).is_none() {
        return Ok(());
    }
    if !caller.may(kind.read_permission(), state.object(kind, id)) {
        let hidden = FieldError::new(field(), format!("there is no {kind} {id}"));
        return Err(Problem::validation(vec![hidden]).into());
    }
    on_object(state, caller, kind, id, permission)
}

/// Refuses an image the caller may not clone or boot.
pub(super) fn may_use_image(state: &State, caller: &Caller, id: ImageId, field: &str) -> Result<(), Failure> {
    may_use(state, caller, (ObjectKind::Image, id.0), Permission::StorageRead, || field.to_owned())
}

/// Refuses images to boot from that the caller may not read.
pub(super) fn may_boot(
    state: &State,
    caller: &Caller,
    boot: Option<&Boot>,
    old: Option<&Boot>,
) -> Result<(), Failure> {
    let Some(boot) = boot.filter(|b| old.is_none_or(|o| (o.kernel, o.initrd) != (b.kernel, b.initrd))) else {
        return Ok(());
    };
    may_use_image(state, caller, boot.kernel, "spec.boot.kernel")?;
    boot.initrd.map_or(Ok(()), |initrd| may_use_image(state, caller, initrd, "spec.boot.initrd"))
}

/// Refuses a machine parts that its caller may not give it. What it has already it keeps.
pub(super) fn may_have_parts(
    state: &State,
    caller: &Caller,
    spec: &VmSpec,
    old: Option<&VmSpec>,
) -> Result<(), Failure> {
    for (n, disk) in spec.disks.iter().enumerate() {
        let had = |d: &lq_api::vm::Disk| d.volume == disk.volume && (disk.read_only || !d.read_only);
        if old.is_some_and(|o| o.disks.iter().any(had)) {
            continue;
        }
        let permission = if disk.read_only { Permission::StorageRead } else { Permission::StorageWrite };
        let volume = (ObjectKind::Volume, disk.volume.0);
        may_use(state, caller, volume, permission, || format!("spec.disks[{n}].volume"))?;
    }
    for (n, nic) in spec.nics.iter().enumerate() {
        if old.is_some_and(|o| o.nics.iter().any(|other| other.network == nic.network)) {
            continue;
        }
        let network = (ObjectKind::Network, nic.network.0);
        may_use(state, caller, network, Permission::NetworkRead, || format!("spec.nics[{n}].network"))?;
    }
    for (n, image) in spec.cdroms.iter().enumerate().filter_map(|(n, c)| Some((n, c.image?))) {
        if !old.is_some_and(|o| o.cdroms.iter().any(|c| c.image == Some(image))) {
            may_use_image(state, caller, image, &format!("spec.cdroms[{n}].image"))?;
        }
    }
    may_boot(state, caller, spec.boot.as_ref(), old.and_then(|o| o.boot.as_ref()))
}

/// Refuses a change of power by those who may only change machines.
pub(super) fn may_switch(
    caller: &Caller,
    object: Object<'_>,
    wanted: PowerState,
    old: PowerState,
) -> Result<(), Failure> {
    if wanted == old || caller.may(Permission::VmPower, object) {
        return Ok(());
    }
    Err(missing(Permission::VmPower, "it, because `spec.power` is to change"))
}

/// What uses an object.
fn users_of(state: &State, kind: ObjectKind, id: Uuid) -> Vec<(ObjectKind, Uuid)> {
    if kind == ObjectKind::Image {
        let (vms, volumes, images) = state.image_users(ImageId(id));
        let vms = vms.into_iter().map(|id| (ObjectKind::Vm, id.0));
        let volumes = volumes.into_iter().map(|id| (ObjectKind::Volume, id.0));
        return vms.chain(volumes).chain(images.into_iter().map(|id| (ObjectKind::Image, id.0))).collect();
    }
    let vms = state.vms.values().filter(|r| match kind {
        ObjectKind::Volume => r.vm.spec.disks.iter().any(|d| d.volume.0 == id),
        ObjectKind::Pool => r.vars.is_some_and(|p| p.0 == id),
        ObjectKind::Network => r.vm.spec.nics.iter().any(|n| n.network.0 == id),
        _ => false,
    });
    let mut users: Vec<_> = vms.map(|r| (ObjectKind::Vm, r.vm.meta.id.0)).collect();
    if kind == ObjectKind::Pool {
        let of = |pool: Option<PoolId>| pool.is_some_and(|p| p.0 == id);
        let volumes = state.volumes.values().filter(|v| of(v.spec.pool));
        users.extend(volumes.map(|v| (ObjectKind::Volume, v.meta.id.0)));
        let images = state.images.values().filter(|r| of(r.image.spec.pool));
        users.extend(images.map(|r| (ObjectKind::Image, r.image.meta.id.0)));
    }
    users
}

/// The refusal of a change of an object, without the names of what uses it where the caller may not see all of that.
pub(super) fn without_hidden(
    state: &State,
    caller: &Caller,
    (kind, id): (ObjectKind, Uuid),
    error: WriteError,
) -> Failure {
    let hidden = |(kind, id): (ObjectKind, Uuid)| !caller.may(kind.read_permission(), state.object(kind, id));
    match error {
        WriteError::Refused(Refusal::Conflict(_)) if users_of(state, kind, id).into_iter().any(hidden) => {
            let why = "something uses it that you may not see: ask an administrator";
            Failure::new(Kind::Conflict, why)
        }
        other => other.into(),
    }
}

/// Refuses to give, or to rule over, what the caller does not have.
pub(super) fn covers<'a>(
    state: &State,
    caller: &Caller,
    grants: impl IntoIterator<Item = &'a Grant>,
) -> Result<(), Failure> {
    for grant in grants {
        // A role that does not exist is the state's to refuse.
        let Some(right) = state.right(grant) else { continue };
        if !caller.rights.covers(&right) {
            // Who may not see users and roles is told no names of them.
            let seen = state.role(grant.role).filter(|_| caller.may_all(Permission::UserRead));
            let what = seen.map_or_else(
                || "a role".to_owned(),
                |role| format!("the role `{}` on {}", role.meta.name, grant.scope),
            );
            let why =
                format!("this concerns {what}: only who may do all of that may give, take or change it");
            return Err(Failure::new(Kind::Forbidden, why));
        }
    }
    Ok(())
}

/// Whether the caller may see what happened to `target` (`kind/id`). What is no object of the cluster's is for those who may
/// see the cluster.
pub(super) fn sees_target(state: &State, caller: &Caller, target: &str) -> bool {
    let object = target.split_once('/').and_then(|(kind, id)| Some((kind.parse().ok()?, id.parse().ok()?)));
    match object {
        Some((kind, id)) => {
            let kind: ObjectKind = kind;
            caller.may(kind.read_permission(), state.object(kind, id))
        }
        None => caller.may_all(Permission::ClusterRead),
    }
}

/// Refuses to end a task early to those who may not change what it works on.
pub(super) fn may_cancel(state: &State, caller: &Caller, target: &str) -> Result<(), Failure> {
    let object = target.split_once('/').and_then(|(kind, id)| Some((kind.parse().ok()?, id.parse().ok()?)));
    let Some((kind, id)) = object else {
        let permission = Permission::ClusterWrite;
        return if caller.may_all(permission) { Ok(()) } else { Err(missing(permission, "the cluster")) };
    };
    let permission = match kind {
        ObjectKind::Vm => Permission::VmPower,
        ObjectKind::Image | ObjectKind::Volume | ObjectKind::Pool => Permission::StorageWrite,
        ObjectKind::Network => Permission::NetworkWrite,
        ObjectKind::Host => Permission::HostPower,
    };
    if caller.may(permission, state.object(kind, id)) {
        return Ok(());
    }
    Err(missing(permission, target))
}
