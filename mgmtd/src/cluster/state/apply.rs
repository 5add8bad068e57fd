//! Applying a command: dispatch, and what all kinds share.

use super::{Change, ClusterRecord, Command, Kind, Op, Outcome, Refusal, Reply, State, epoch};
use jiff::Timestamp;
use lq_api::{
    Metadata,
    balance::BalanceSpec,
    ha::HaSpec,
    meta::{MetadataPatch, check_labels, check_name},
    network::{CreateNetwork, NetworkKind, NetworkSpec},
    pool::PoolSpec,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Where and when a command is applied, and what it changed.
pub(super) struct Context<'a> {
    /// Log position.
    pub(super) revision: u64,
    /// Time of the proposal.
    pub(super) at: Timestamp,
    changes: &'a mut Vec<Change>,
}

impl<'a> Context<'a> {
    pub(super) fn new(revision: u64, at: Timestamp, changes: &'a mut Vec<Change>) -> Self {
        Self { revision, at, changes }
    }
}

impl Context<'_> {
    /// Notes that an object changed.
    pub(super) fn changed(&mut self, kind: Kind, id: Uuid) {
        self.changes.push(Change { revision: self.revision, kind, id });
    }

    /// Metadata of a new object.
    pub(super) fn meta<Id>(&self, id: Id, name: &str, labels: BTreeMap<String, String>) -> Metadata<Id> {
        Metadata {
            id,
            name: name.to_owned(),
            labels,
            generation: 1,
            revision: self.revision,
            created_at: self.at,
        }
    }
}

impl State {
    /// Applies the command at log position `revision`; what changed is appended to `changes`.
    pub fn apply(&mut self, revision: u64, command: &Command, changes: &mut Vec<Change>) -> Outcome {
        let ctx = &mut Context::new(revision, command.at, changes);
        match &command.op {
            Op::Initialise { cluster, host, host_name, pool, network, dhcp } => {
                if self.cluster.is_some() {
                    return Err(Refusal::Conflict("the cluster is initialised already".into()));
                }
                self.cluster = Some(ClusterRecord {
                    id: *cluster,
                    created_at: ctx.at,
                    authority: None,
                    epoch: epoch::FIRST,
                    formations: vec![],
                    ha: HaSpec::default(),
                    balance: BalanceSpec::default(),
                    time: lq_api::time::TimeSpec::default(),
                });
                self.add_host(ctx, *host, host_name);
                self.add_pool(ctx, *pool, "local", PoolSpec::Dir { host: *host });
                let spec = NetworkSpec { kind: NetworkKind::Bridged, dhcp: dhcp.clone() };
                let create = CreateNetwork { name: "default".into(), labels: BTreeMap::new(), spec };
                self.create_network(ctx, *network, &create)?;
                Ok(Reply::Done)
            }
            Op::SetAuthority { authority } => self.set_authority(authority),
            Op::Reform { formation } => self.reform(ctx, formation),
            Op::DescribeHost { host, peer, capacity } => {
                self.describe_host(ctx, *host, peer, capacity.as_ref())
            }
            Op::UpdateHost { id, expect, patch } => self.update_host(ctx, *id, *expect, patch),
            Op::SetBmc { id, expect, set } => self.set_bmc(ctx, *id, *expect, set),
            Op::ClearBmc { id, expect } => self.clear_bmc(ctx, *id, *expect),
            Op::CreateJoinToken { token, hash } => self.create_join_token(ctx, token, hash),
            Op::DeleteJoinToken { id } => self.delete_join_token(*id),
            Op::Admit { token, application } => self.admit(ctx, token, application),
            Op::LeaveHost { id, expect, force } => self.leave_host(ctx, *id, *expect, *force),
            Op::RemoveHost { id, expect, force } => self.remove_host(ctx, *id, *expect, *force),
            Op::HostStarted { host, name, boot } => self.host_started(ctx, *host, name, *boot),
            Op::SimulateHosts { hosts } => {
                for (id, name) in hosts {
                    if !self.hosts.contains_key(id) && self.hosts.values().all(|h| h.meta.name != *name) {
                        self.add_host(ctx, *id, name);
                    }
                }
                Ok(Reply::Done)
            }
            Op::CreateVm { id, host, create } => self.create_vm(ctx, *id, *host, create),
            Op::UpdateVm { id, expect, update } => self.update_vm(ctx, *id, *expect, update),
            Op::PowerVm { id, expect, power } => self.power_vm(ctx, *id, *expect, power),
            Op::DeleteVm { id, expect } => self.delete_vm(ctx, *id, *expect),
            Op::ForgetVm { id } => self.forget_vm(ctx, *id),
            Op::ObserveVm { id, status, host_ends, by } => self.observe_vm(ctx, *id, status, *host_ends, *by),
            Op::LetGo { id, by, generation, volumes, nics } => {
                self.let_go(ctx, *id, *by, *generation, &(volumes, nics))
            }
            Op::MediumEjected { id, by, drive, image } => self.medium_ejected(ctx, *id, *by, *drive, *image),
            Op::BeginMove { id, expect, moving, to, hardware } => {
                self.begin_move(ctx, *id, *expect, (*moving, *to), hardware.clone())
            }
            Op::SwitchMove { id, moving } => self.switch_move(ctx, *id, *moving),
            Op::EndMove { id, moving } => self.end_move(ctx, *id, *moving),
            Op::ConfirmMove { id, moving } => self.confirm_move(ctx, *id, *moving),
            Op::ReturnMove { id, moving } => self.return_move(ctx, *id, *moving),
            Op::ReassignVm { id, expect, to } => self.reassign_vm(ctx, *id, *expect, *to),
            Op::SetMaintenance { id, expect, maintenance } => {
                self.set_maintenance(ctx, *id, *expect, *maintenance)
            }
            Op::SetHa { spec } => self.set_ha(*spec),
            Op::SetTime { spec } => self.set_time(spec),
            Op::SetBalance { spec } => self.set_balance(*spec),
            Op::GuardVm { id, host, epoch, since } => self.guard_vm(*id, *host, *epoch, *since),
            Op::FailOver { id, from, epoch, to, term: _, past_places } => {
                self.fail_over(ctx, *id, (*from, *epoch), *to, *past_places)
            }
            Op::ConfirmOff { id, expect } => self.confirm_off(ctx, *id, *expect),
            Op::ProveOff { id, boot, term: _ } => self.prove_off(ctx, *id, *boot),
            Op::RevokeOff { id, boot } => self.revoke_off(ctx, *id, *boot),
            Op::CreateImage { id, create } => self.create_image(ctx, *id, create),
            Op::UpdateImage { id, expect, patch } => self.update_image(ctx, *id, *expect, patch),
            Op::BeginUpload { id, upload, receiver } => self.begin_upload(ctx, *id, *upload, *receiver),
            Op::FinishUpload { id, upload, size, virtual_size, sha256 } => {
                self.finish_upload(ctx, *id, *upload, *size, *virtual_size, sha256)
            }
            Op::FailUpload { id, upload, reason } => self.fail_upload(ctx, *id, *upload, reason),
            Op::DeleteImage { id, expect } => self.delete_image(ctx, *id, *expect),
            Op::CopyImage { id, pool } => self.copy_image(*id, *pool),
            Op::DropCopies { pool, images } => self.drop_copies(*pool, images),
            Op::CreateVolume { id, create } => self.create_volume(ctx, *id, create),
            Op::UpdateVolume { id, expect, patch } => self.update_volume(ctx, *id, *expect, patch),
            Op::GrowVolume { id, expect, size } => self.grow_volume(ctx, *id, *expect, *size),
            Op::VolumeReady { id, size, by } => self.volume_ready(ctx, *id, *size, *by),
            Op::VolumeFailed { id, reason, by } => self.volume_failed(ctx, *id, reason, *by),
            Op::DeleteVolume { id, expect } => self.delete_volume(ctx, *id, *expect),
            Op::ForgetVolume { id } => self.forget_volume(ctx, *id),
            Op::CreatePool { id, create } => self.create_pool(ctx, *id, create),
            Op::UpdatePool { id, expect, patch } => self.update_pool(ctx, *id, *expect, patch),
            Op::DeletePool { id, expect } => self.delete_pool(ctx, *id, *expect),
            Op::ForgetPool { id } => self.forget_pool(ctx, *id),
            Op::LeaveVars { pool, vm } => self.leave_vars(*pool, *vm),
            Op::BytesGone { pool, gone } => self.bytes_gone(*pool, gone),
            Op::Adopt { pool, name, labels, adopted } => self.adopt(ctx, *pool, name, labels, adopted),
            Op::ObservePool { id, host, state, reason } => {
                self.observe_pool(ctx, *id, *host, *state, reason.as_deref())
            }
            Op::CreateNetwork { id, create } => self.create_network(ctx, *id, create),
            Op::UpdateNetwork { id, expect, update } => self.update_network(ctx, *id, *expect, update),
            Op::DeleteNetwork { id, expect } => self.delete_network(ctx, *id, *expect),
            Op::SetPassword { hash, only_first, user, must_change, keep } => {
                self.set_password(ctx, *user, hash, *only_first, *must_change, *keep)
            }
            Op::CreateUser { id, new } => self.create_user(ctx, *id, new),
            Op::UpdateUser { id, expect, update } => self.update_user(ctx, *id, *expect, update),
            Op::DeleteUser { id, expect } => self.delete_user(ctx, *id, *expect),
            Op::ChangeTotp { id, change } => self.change_totp(ctx, *id, change),
            Op::CreateGroup { id, create } => self.create_group(ctx, *id, create),
            Op::UpdateGroup { id, expect, update } => self.update_group(ctx, *id, *expect, update),
            Op::DeleteGroup { id, expect } => self.delete_group(ctx, *id, *expect),
            Op::CreateRole { id, create } => self.create_role(ctx, *id, create),
            Op::UpdateRole { id, expect, update } => self.update_role(ctx, *id, *expect, update),
            Op::DeleteRole { id, expect } => self.delete_role(ctx, *id, *expect),
            Op::SetSigningKey { id, secret, replaces } => self.set_signing_key(ctx, *id, secret, *replaces),
            Op::BeginSession { session, factor } => self.begin_session(ctx, session, factor.as_ref()),
            Op::RefreshSession { id, generation, expires_at } => {
                self.refresh_session(ctx, *id, *generation, *expires_at)
            }
            Op::EndSession { id } => self.end_session(ctx, *id),
            Op::CreateToken { token, hash } => self.create_token(ctx, token, hash),
            Op::DeleteToken { id } => self.delete_token(ctx, *id),
            Op::SetUserSettings { user, expect, filters } => {
                self.set_user_settings(ctx, *user, *expect, filters)
            }
            Op::RaiseAlert { alert } => self.raise_alert(ctx, alert),
            Op::ClearAlert { id } => self.clear_alert(ctx, *id),
            Op::AcknowledgeAlert { id, by, comment } => self.acknowledge_alert(ctx, *id, by, comment),
            Op::SilenceAlert { id, until, by, comment } => self.silence_alert(ctx, *id, *until, by, comment),
            Op::SetAlertRule { rule, settings } => self.set_alert_rule(*rule, settings.as_ref()),
            Op::CreateChannel { id, create } => self.create_channel(ctx, *id, create),
            Op::UpdateChannel { id, expect, update } => self.update_channel(ctx, *id, *expect, update),
            Op::DeleteChannel { id, expect } => self.delete_channel(*id, *expect),
            Op::ObserveChannel { id, attempt } => self.observe_channel(ctx, *id, attempt),
            Op::CreateProvider { id, create } => self.create_provider(ctx, *id, create),
            Op::UpdateProvider { id, expect, update } => self.update_provider(ctx, *id, *expect, update),
            Op::DeleteProvider { id, expect } => self.delete_provider(ctx, *id, *expect),
            Op::Provision { id, provider, known } => self.provision(ctx, *id, *provider, known),
            Op::ObserveProvider { id, failure, seen } => {
                self.observe_provider(ctx, *id, failure.as_deref(), seen)
            }
        }
    }
}

/// Checks name and labels of a new object against the names its kind has.
pub(super) fn check_new<'a>(
    name: &str,
    labels: &BTreeMap<String, String>,
    taken: impl IntoIterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let mut errors: Vec<_> = check_name("name", name).into_iter().collect();
    errors.extend(check_labels("labels", labels));
    if !errors.is_empty() {
        return Err(Refusal::Validation(errors));
    }
    if taken.into_iter().any(|other| other == name) {
        return Err(Refusal::Conflict(format!("the name `{name}` is taken: choose another")));
    }
    Ok(())
}

/// Checks that the object still has the revision the caller saw.
pub(super) fn check_expected<Id>(meta: &Metadata<Id>, expect: Option<u64>) -> Result<(), Refusal> {
    match expect {
        Some(expected) if expected != meta.revision => Err(Refusal::Stale { expected, found: meta.revision }),
        _ => Ok(()),
    }
}

/// The metadata after a patch; `taken` are the names of all objects of the kind, the object's own included.
pub(super) fn patched<'a, Id: Clone>(
    meta: &Metadata<Id>,
    patch: &MetadataPatch,
    taken: impl IntoIterator<Item = &'a str>,
) -> Result<Metadata<Id>, Refusal> {
    let mut new = meta.clone();
    if let Some(name) = &patch.name
        && *name != meta.name
    {
        check_new(name, &BTreeMap::new(), taken)?;
        new.name.clone_from(name);
    }
    if let Some(labels) = &patch.labels {
        let errors = check_labels("labels", labels);
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        new.labels.clone_from(labels);
    }
    Ok(new)
}
