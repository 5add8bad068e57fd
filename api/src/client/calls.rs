//! The typed calls, one per endpoint.
//!
//! Every call fails with any of [`Error`]; what a particular one adds is said there.
#![allow(clippy::missing_errors_doc)]

use super::{Client, Error, REQUEST_TIMEOUT, Resource};
use crate::{
    AlertId, ChannelId, GroupId, HostId, ImageId, NetworkId, PoolId, ProviderId, RoleId, SessionId, TaskId,
    TokenId, UserId, VmId, VolumeId,
    access::{
        CreateGroup, CreateRole, CreateUser, Group, PermissionInfo, Role, SetPassword, UpdateGroup,
        UpdateRole, UpdateUser, User,
    },
    alert::{AcknowledgeAlert, Alert, AlertQuery, AlertRule, AlertRuleInfo, RuleSettings, SilenceAlert},
    audit::{AuditQuery, AuditRecord},
    auth::{
        ChangePassword, ConfirmTotp, CreateToken, CreatedToken, EnrolTotp, Identity, Login, RecoveryCodes,
        RemoveTotp, Session, SessionInfo, Setup, SetupRequest, Token, TotpEnrolment,
    },
    balance::{Balance, BalanceSpec},
    bmc::{BMC_TIMEOUT, Bmc, BmcTest, SetBmc, TestBmc},
    channel::{Channel, ChannelTest, CreateChannel, UpdateChannel},
    cluster::{Cluster, CreateJoinToken, CreatedJoinToken, JoinCluster, JoinPreview, JoinToken, Readiness},
    event::{Event, EventQuery},
    ha::{HaSpec, HaStatus},
    history::{HistoryQuery, MetricHistory},
    host::{FactoryReset, Host, HostMaintenance, HostPower, HostPowerAction, NewCertificate},
    image::{CreateImage, Image},
    list::Page,
    local::vmm::Stats,
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    meta::MetadataPatch,
    network::{CreateNetwork, Network, UpdateNetwork},
    pairing::{OpenPairing, PairHost, Pairing, WaitingHosts},
    placement::{PlacementDecision, PlacementQuery},
    pool::{AdoptFile, CreatePool, DeleteForeign, Pool},
    provider::{CreateProvider, Provider, ProviderTest, Realm, TestProvider, UpdateProvider},
    recovery::{NewEpoch, ReformCluster, ReformPreview, RestoreAs, Restored, StateBackup},
    removable::{RemovableDrives, SupportBundleWritten, WRITE_TIMEOUT, WriteSupportBundle},
    task::{Task, TaskQuery},
    time::{Time, TimeSpec},
    usage::{Usage, UsageQuery},
    vm::{CreateVm, MigrateVm, RestartVm, StopVm, UpdateVm, Vm},
    volume::{CreateVolume, GrowVolume, Volume},
};
use reqwest::Method;

/// Reading a kind: all, one, by name or id.
macro_rules! reading {
    ($($type:ident, $id:ident, $all:ident, $one:ident, $find:ident;)*) => {
        impl Client {$(
            #[doc = concat!("Every [`", stringify!($type), "`].")]
            pub async fn $all(&self) -> Result<Vec<$type>, Error> { self.all().await }
            #[doc = concat!("The [`", stringify!($type), "`] with this id.")]
            pub async fn $one(&self, id: $id) -> Result<$type, Error> { self.get(id).await }
            #[doc = concat!("The [`", stringify!($type), "`] with this id or name; [`Error::NoSuch`] where there is none.")]
            pub async fn $find(&self, name_or_id: &str) -> Result<$type, Error> { self.find(name_or_id).await }
        )*}
    };
}
reading! {
    Host, HostId, hosts, host_by_id, find_host;
    Vm, VmId, vms, vm, find_vm;
    Image, ImageId, images, image, find_image;
    Volume, VolumeId, volumes, volume, find_volume;
    Network, NetworkId, networks, network, find_network;
    Pool, PoolId, pools, pool, find_pool;
    Task, TaskId, tasks, task, find_task;
    User, UserId, users, user, find_user;
    Group, GroupId, groups, group, find_group;
    Role, RoleId, roles, role, find_role;
    Channel, ChannelId, channels, channel, find_channel;
    Provider, ProviderId, providers, provider, find_provider;
}

/// Adds the fields of a query, each of which is a word, a number or an id.
pub(super) fn append(url: &mut reqwest::Url, query: &impl serde::Serialize) {
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(&name, &text);
        }
    }
}

impl Client {
    // The whole.

    /// Whether the daemon answers at all.
    pub async fn health(&self) -> Result<(), Error> {
        let url = self.root("health");
        self.call_empty(self.request(Method::GET, url)).await
    }
    /// What the host still waits for before it can serve every request. The answer 503 is one too.
    pub async fn ready(&self) -> Result<Readiness, Error> {
        let request = self.request(Method::GET, self.root("ready")).timeout(REQUEST_TIMEOUT);
        let response = request.send().await.map_err(|e| self.broken("connect to", e))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|e| self.broken("read the answer of", e))?;
        serde_json::from_slice(&body).map_err(|_| super::problem(&self.host(), "GET /ready", status, &body))
    }
    /// The metrics, in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, Error> {
        let request = self.request(Method::GET, self.root("metrics")).timeout(REQUEST_TIMEOUT);
        self.send(request).await?.text().await.map_err(|e| self.broken("read the answer of", e))
    }
    /// State of the cluster as this host sees it.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.call(Method::GET, &["cluster"]).await
    }

    /// How much the cluster did, and who did it.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Usage, Error> {
        let mut url = self.endpoint(&["cluster", "usage"]);
        append(&mut url, query);
        self.call_url(Method::GET, url).await
    }

    /// High availability: how every host and every protected machine stands.
    pub async fn ha(&self) -> Result<HaStatus, Error> {
        self.call(Method::GET, &["cluster", "ha"]).await
    }
    /// Arms or disarms high availability.
    pub async fn set_ha(&self, spec: &HaSpec) -> Result<HaSpec, Error> {
        self.call_with(Method::PUT, &["cluster", "ha"], spec).await
    }
    /// The time servers, and how the clocks follow them.
    pub async fn time(&self) -> Result<Time, Error> {
        self.call(Method::GET, &["cluster", "time"]).await
    }
    /// Says which servers the clocks follow.
    pub async fn set_time(&self, spec: &TimeSpec) -> Result<TimeSpec, Error> {
        self.call_with(Method::PUT, &["cluster", "time"], spec).await
    }
    /// How the hosts are loaded, and which machines would better run elsewhere.
    pub async fn recommendations(&self) -> Result<Balance, Error> {
        self.call(Method::GET, &["cluster", "recommendations"]).await
    }
    /// Says what is wanted of balancing.
    pub async fn set_balance(&self, spec: &BalanceSpec) -> Result<BalanceSpec, Error> {
        self.call_with(Method::PUT, &["cluster", "balance"], spec).await
    }
    /// Says that a silent host is off.
    pub async fn confirm_off(&self, id: HostId) -> Result<(), Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "confirm-off"]);
        self.call_empty(self.request(Method::POST, url)).await
    }

    /// Join tokens, without their texts.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, Error> {
        self.call(Method::GET, &["cluster", "join-tokens"]).await
    }
    /// Makes a join token.
    pub async fn create_join_token(&self, new: &CreateJoinToken) -> Result<CreatedJoinToken, Error> {
        self.call_with(Method::POST, &["cluster", "join-tokens"], new).await
    }
    /// Revokes a join token.
    pub async fn delete_join_token(&self, id: TokenId) -> Result<(), Error> {
        let url = self.endpoint(&["cluster", "join-tokens", &id.to_string()]);
        self.call_empty(self.request(Method::DELETE, url)).await
    }
    /// What it would mean for the host that is asked to join.
    pub async fn preview_join(&self, join: &JoinCluster) -> Result<JoinPreview, Error> {
        self.call_with(Method::POST, &["cluster", "join", "preview"], join).await
    }
    /// Lets the host that is asked join. It answers before it starts again as a member.
    pub async fn join(&self, join: &JoinCluster) -> Result<JoinPreview, Error> {
        self.call_with(Method::POST, &["cluster", "join"], join).await
    }
    /// Hosts that wait to be paired on the network of the host that is asked. Takes a second.
    pub async fn waiting_hosts(&self) -> Result<WaitingHosts, Error> {
        self.call(Method::GET, &["cluster", "waiting"]).await
    }
    /// Brings in a waiting host by the code on its console.
    pub async fn pair(&self, pair: &PairHost) -> Result<Task, Error> {
        self.call_with(Method::POST, &["cluster", "pair"], pair).await
    }
    /// How the host that is asked stands to being paired, its code included.
    pub async fn pairing(&self) -> Result<Pairing, Error> {
        self.call(Method::GET, &["cluster", "pairing"]).await
    }
    /// Lets the host that is asked wait although it has things of its own.
    pub async fn open_pairing(&self, open: &OpenPairing) -> Result<Pairing, Error> {
        self.call_with(Method::PUT, &["cluster", "pairing"], open).await
    }
    /// What forming the cluster anew from the host that is asked would mean.
    pub async fn preview_reform(&self) -> Result<ReformPreview, Error> {
        self.call(Method::GET, &["cluster", "reform"]).await
    }
    /// Forms the cluster anew from the host that is asked. It answers before it starts again.
    pub async fn reform(&self, wanted: &ReformCluster) -> Result<NewEpoch, Error> {
        self.call_with(Method::POST, &["cluster", "reform"], wanted).await
    }
    /// Backups of the state on the host that is asked, newest first.
    pub async fn state_backups(&self) -> Result<Vec<StateBackup>, Error> {
        self.call(Method::GET, &["cluster", "backups"]).await
    }
    /// Makes one now.
    pub async fn create_state_backup(&self) -> Result<StateBackup, Error> {
        self.call(Method::POST, &["cluster", "backups"]).await
    }
    /// The file of one. It holds every secret of the cluster.
    pub async fn state_backup(&self, id: &str) -> Result<bytes::Bytes, Error> {
        let url = self.endpoint(&["cluster", "backups", id, "content"]);
        let response = self.send(self.request(Method::GET, url)).await?;
        response.bytes().await.map_err(|e| self.broken("read the answer of", e))
    }
    /// Restores one on the host that is asked. It answers before it starts again.
    pub async fn restore_state(
        &self,
        file: Vec<u8>,
        confirm: &str,
        as_whom: RestoreAs,
    ) -> Result<Restored, Error> {
        let mut url = self.endpoint(&["cluster", "restore"]);
        append(&mut url, &serde_json::json!({"confirm": confirm, "as": as_whom}));
        let request = self.request(Method::POST, url).header("content-type", "application/octet-stream");
        self.json(request.body(file)).await
    }
    /// Changes a host's name and labels.
    pub async fn update_host(&self, id: HostId, patch: &MetadataPatch) -> Result<Host, Error> {
        self.call_with(Method::PATCH, &["hosts", &id.to_string()], patch).await
    }
    /// Puts a host in maintenance, or ends it.
    pub async fn host_maintenance(&self, id: HostId, wish: &HostMaintenance) -> Result<Task, Error> {
        self.call_with(Method::POST, &["hosts", &id.to_string(), "maintenance"], wish).await
    }
    /// The BMC of a host.
    pub async fn bmc(&self, id: HostId) -> Result<Bmc, Error> {
        self.call(Method::GET, &["hosts", &id.to_string(), "bmc"]).await
    }
    /// Sets the BMC of a host.
    pub async fn set_bmc(&self, id: HostId, set: &SetBmc) -> Result<Bmc, Error> {
        self.call_with(Method::PUT, &["hosts", &id.to_string(), "bmc"], set).await
    }
    /// Forgets the BMC of a host.
    pub async fn clear_bmc(&self, id: HostId) -> Result<(), Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "bmc"]);
        self.call_empty(self.request(Method::DELETE, url)).await
    }
    /// Asks the BMC of a host for its power. Takes up to half a minute.
    pub async fn test_bmc(&self, id: HostId, test: &TestBmc) -> Result<BmcTest, Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "bmc", "test"]);
        self.json(self.request(Method::POST, url).timeout(BMC_TIMEOUT).json(test)).await
    }
    /// The management network of a host.
    pub async fn host_network(&self, id: HostId) -> Result<ManagementNetwork, Error> {
        self.call(Method::GET, &["hosts", &id.to_string(), "network"]).await
    }
    /// Tries other settings of the management network; the host takes them back unless they are kept in time.
    pub async fn try_host_network(
        &self,
        id: HostId,
        wanted: &TryNetwork,
    ) -> Result<ManagementNetwork, Error> {
        self.call_with(Method::PUT, &["hosts", &id.to_string(), "network"], wanted).await
    }
    /// Keeps the settings on trial.
    pub async fn keep_host_network(&self, id: HostId) -> Result<ManagementNetwork, Error> {
        self.call(Method::POST, &["hosts", &id.to_string(), "network", "keep"]).await
    }
    /// Takes back the settings on trial.
    pub async fn revert_host_network(&self, id: HostId) -> Result<ManagementNetwork, Error> {
        self.call(Method::POST, &["hosts", &id.to_string(), "network", "revert"]).await
    }
    /// Whether the management network works, seen from the host.
    pub async fn test_host_network(&self, id: HostId) -> Result<NetworkTest, Error> {
        self.call(Method::POST, &["hosts", &id.to_string(), "network", "test"]).await
    }
    /// The support bundle of a host: a packed tar archive of some megabytes.
    pub async fn support_bundle(&self, id: HostId) -> Result<bytes::Bytes, Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "support-bundle"]);
        let answer = self.send(self.request(Method::GET, url).timeout(REQUEST_TIMEOUT)).await?;
        answer.bytes().await.map_err(|e| self.broken("read the answer of", e))
    }
    /// The removable drives plugged into a host.
    pub async fn removable_drives(&self, id: HostId) -> Result<RemovableDrives, Error> {
        self.call(Method::GET, &["hosts", &id.to_string(), "removable"]).await
    }
    /// Writes the support bundle of a host to one of them, which may take minutes.
    pub async fn write_support_bundle(
        &self,
        id: HostId,
        device: &str,
    ) -> Result<SupportBundleWritten, Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "support-bundle"]);
        let body = WriteSupportBundle { device: device.into() };
        self.json(self.request(Method::POST, url).timeout(WRITE_TIMEOUT).json(&body)).await
    }
    /// Removes a host from the cluster for ever; with `force` what only it holds is given up.
    pub async fn remove_host(&self, id: HostId, force: bool) -> Result<(), Error> {
        let mut url = self.endpoint(&["hosts", &id.to_string()]);
        url.set_query(force.then_some("force=true"));
        self.call_empty(self.request(Method::DELETE, url)).await
    }
    /// Where a machine would be placed.
    pub async fn placement(&self, query: &PlacementQuery) -> Result<PlacementDecision, Error> {
        self.call_with(Method::POST, &["placement"], query).await
    }

    // Logging in.

    /// Whether the first password is still to be set.
    pub async fn setup(&self) -> Result<Setup, Error> {
        self.call(Method::GET, &["setup"]).await
    }
    /// Makes the user `admin` with the code from the host's console, and logs this client in.
    pub async fn set_up(&self, code: &str, password: &str) -> Result<Session, Error> {
        let body = SetupRequest { code: code.into(), password: password.into() };
        let session: Session = self.call_with(Method::POST, &["setup"], &body).await?;
        self.hold(&session).await;
        Ok(session)
    }
    /// Logs this client in; the session is kept as long as the client is used. A problem of the kind
    /// [`SecondFactor`](crate::problem::Kind::SecondFactor) asks for the one-time code.
    pub async fn login(&self, username: &str, password: &str, code: Option<&str>) -> Result<Session, Error> {
        let body = Login {
            username: username.into(),
            password: password.into(),
            code: code.map(str::to_owned),
            realm: None,
        };
        self.login_as(&body).await
    }
    /// The same, saying of which realm the user is.
    pub async fn login_as(&self, body: &Login) -> Result<Session, Error> {
        let session: Session = self.call_with(Method::POST, &["session"], body).await?;
        self.hold(&session).await;
        Ok(session)
    }
    /// Ends the session and forgets it.
    pub async fn logout(&self) -> Result<(), Error> {
        self.call_empty(self.request(Method::DELETE, self.endpoint(&["session"]))).await?;
        self.forget().await;
        Ok(())
    }
    /// Who this client is.
    pub async fn identity(&self) -> Result<Identity, Error> {
        self.call(Method::GET, &["session"]).await
    }
    /// Changes the password.
    pub async fn change_password(&self, old: &str, new: &str) -> Result<(), Error> {
        let body = ChangePassword { old: old.into(), new: new.into() };
        let url = self.endpoint(&["session", "password"]);
        self.call_empty(self.request(Method::POST, url).json(&body)).await
    }
    /// Every API token, without its secret.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.all().await
    }
    /// Makes an API token.
    pub async fn create_token(&self, token: &CreateToken) -> Result<CreatedToken, Error> {
        self.call_with(Method::POST, &["tokens"], token).await
    }
    /// Revokes an API token.
    pub async fn delete_token(&self, id: TokenId) -> Result<(), Error> {
        self.delete::<Token>(id).await
    }

    // Users, groups, roles.

    /// Every permission there is.
    pub async fn permissions(&self) -> Result<Vec<PermissionInfo>, Error> {
        self.call(Method::GET, &["permissions"]).await
    }
    /// Makes a user.
    pub async fn create_user(&self, user: &CreateUser) -> Result<User, Error> {
        self.call_with(Method::POST, &["users"], user).await
    }
    /// Changes a user; with `revision`, only if nobody else has changed it since.
    pub async fn update_user(
        &self,
        id: UserId,
        change: &UpdateUser,
        revision: Option<u64>,
    ) -> Result<User, Error> {
        self.call_if(Method::PATCH, &["users", &id.to_string()], change, revision).await
    }
    /// Deletes a user.
    pub async fn delete_user(&self, id: UserId) -> Result<(), Error> {
        self.delete::<User>(id).await
    }
    /// Sets the password of a user.
    pub async fn set_password(&self, id: UserId, password: &SetPassword) -> Result<(), Error> {
        let url = self.endpoint(&["users", &id.to_string(), "password"]);
        self.call_empty(self.request(Method::POST, url).json(password)).await
    }
    /// Takes a user's second factor away.
    pub async fn reset_totp(&self, id: UserId) -> Result<(), Error> {
        let url = self.endpoint(&["users", &id.to_string(), "totp"]);
        self.call_empty(self.request(Method::DELETE, url)).await
    }
    /// Makes a group.
    pub async fn create_group(&self, group: &CreateGroup) -> Result<Group, Error> {
        self.call_with(Method::POST, &["groups"], group).await
    }
    /// Changes a group; with `revision`, only if nobody else has changed it since.
    pub async fn update_group(
        &self,
        id: GroupId,
        change: &UpdateGroup,
        revision: Option<u64>,
    ) -> Result<Group, Error> {
        self.call_if(Method::PATCH, &["groups", &id.to_string()], change, revision).await
    }
    /// Deletes a group.
    pub async fn delete_group(&self, id: GroupId) -> Result<(), Error> {
        self.delete::<Group>(id).await
    }
    /// Makes a role.
    pub async fn create_role(&self, role: &CreateRole) -> Result<Role, Error> {
        self.call_with(Method::POST, &["roles"], role).await
    }
    /// Changes a role; with `revision`, only if nobody else has changed it since.
    pub async fn update_role(
        &self,
        id: RoleId,
        change: &UpdateRole,
        revision: Option<u64>,
    ) -> Result<Role, Error> {
        self.call_if(Method::PATCH, &["roles", &id.to_string()], change, revision).await
    }
    /// Deletes a role.
    pub async fn delete_role(&self, id: RoleId) -> Result<(), Error> {
        self.delete::<Role>(id).await
    }

    // One's own second factor, sessions, the audit log.

    /// A secret for one's authenticator.
    pub async fn offer_totp(&self, password: &str) -> Result<TotpEnrolment, Error> {
        let body = EnrolTotp { password: password.into() };
        self.call_with(Method::POST, &["session", "totp"], &body).await
    }
    /// Confirms that the authenticator has it; one-time codes are asked for from now on.
    pub async fn confirm_totp(&self, code: &str) -> Result<RecoveryCodes, Error> {
        let body = ConfirmTotp { code: code.into() };
        self.call_with(Method::POST, &["session", "totp", "confirm"], &body).await
    }
    /// One-time codes are not asked for any more.
    pub async fn remove_totp(&self, password: &str) -> Result<(), Error> {
        let body = RemoveTotp { password: password.into() };
        let url = self.endpoint(&["session", "totp", "remove"]);
        self.call_empty(self.request(Method::POST, url).json(&body)).await
    }
    /// Sessions: one's own, or with `user.read` all.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        self.all().await
    }
    /// Ends a session.
    pub async fn end_session(&self, id: SessionId) -> Result<(), Error> {
        self.delete::<SessionInfo>(id).await
    }
    /// One page of the audit log, newest first.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, Error> {
        let mut url = self.endpoint(&["audit"]);
        append(&mut url, query);
        self.call_url(Method::GET, url).await
    }

    // Alerts.

    /// One page of alerts, newest first.
    pub async fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>, Error> {
        let mut url = self.endpoint(&["alerts"]);
        append(&mut url, query);
        self.call_url(Method::GET, url).await
    }
    /// One alert.
    pub async fn alert(&self, id: AlertId) -> Result<Alert, Error> {
        self.call(Method::GET, &["alerts", &id.to_string()]).await
    }
    /// Takes note of an alert.
    pub async fn acknowledge_alert(&self, id: AlertId, body: &AcknowledgeAlert) -> Result<Alert, Error> {
        self.call_with(Method::POST, &["alerts", &id.to_string(), "acknowledge"], body).await
    }
    /// Lets nobody be notified of an alert for some time.
    pub async fn silence_alert(&self, id: AlertId, body: &SilenceAlert) -> Result<Alert, Error> {
        self.call_with(Method::POST, &["alerts", &id.to_string(), "silence"], body).await
    }
    /// What is watched, and how it is set.
    pub async fn alert_rules(&self) -> Result<Vec<AlertRuleInfo>, Error> {
        self.call(Method::GET, &["alert-rules"]).await
    }
    /// Sets a rule.
    pub async fn set_alert_rule(
        &self,
        rule: AlertRule,
        settings: &RuleSettings,
    ) -> Result<AlertRuleInfo, Error> {
        self.call_with(Method::PUT, &["alert-rules", rule.text()], settings).await
    }
    /// Sets a rule back to what it is by default.
    pub async fn reset_alert_rule(&self, rule: AlertRule) -> Result<AlertRuleInfo, Error> {
        self.call(Method::DELETE, &["alert-rules", rule.text()]).await
    }
    /// Makes a notification channel.
    pub async fn create_channel(&self, new: &CreateChannel) -> Result<Channel, Error> {
        self.call_with(Method::POST, &["notification-channels"], new).await
    }
    /// Changes a notification channel; with `revision` only if it is as it was then.
    pub async fn update_channel(
        &self,
        id: ChannelId,
        update: &UpdateChannel,
        revision: Option<u64>,
    ) -> Result<Channel, Error> {
        self.call_if(Method::PATCH, &["notification-channels", &id.to_string()], update, revision).await
    }
    /// Sends a test to a notification channel.
    pub async fn test_channel(&self, id: ChannelId) -> Result<ChannelTest, Error> {
        self.call(Method::POST, &["notification-channels", &id.to_string(), "test"]).await
    }
    /// Deletes a notification channel.
    pub async fn delete_channel(&self, id: ChannelId) -> Result<(), Error> {
        let url = self.endpoint(&["notification-channels", &id.to_string()]);
        self.call_empty(self.request(Method::DELETE, url)).await
    }

    // Identity providers.

    /// Ways to log in. Takes no credential.
    pub async fn realms(&self) -> Result<Vec<Realm>, Error> {
        self.call(Method::GET, &["session", "realms"]).await
    }
    /// Makes an identity provider.
    pub async fn create_provider(&self, new: &CreateProvider) -> Result<Provider, Error> {
        self.call_with(Method::POST, &["identity-providers"], new).await
    }
    /// Changes an identity provider; with `revision` only if it is as it was then.
    pub async fn update_provider(
        &self,
        id: ProviderId,
        update: &UpdateProvider,
        revision: Option<u64>,
    ) -> Result<Provider, Error> {
        self.call_if(Method::PATCH, &["identity-providers", &id.to_string()], update, revision).await
    }
    /// Tries an identity provider.
    pub async fn test_provider(&self, id: ProviderId, test: &TestProvider) -> Result<ProviderTest, Error> {
        self.call_with(Method::POST, &["identity-providers", &id.to_string(), "test"], test).await
    }
    /// Deletes an identity provider and its users.
    pub async fn delete_provider(&self, id: ProviderId) -> Result<(), Error> {
        let url = self.endpoint(&["identity-providers", &id.to_string()]);
        self.call_empty(self.request(Method::DELETE, url)).await
    }

    // Hosts.

    /// Restarts a host or switches it off; its guests are stopped first.
    pub async fn host_power(&self, id: HostId, action: HostPowerAction) -> Result<(), Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "power"]);
        self.call_empty(self.request(Method::POST, url).json(&HostPower { action })).await
    }

    /// Makes a new certificate of a host. The daemon answers before it starts again with it.
    pub async fn new_certificate(&self, id: HostId, confirm: &str) -> Result<(), Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "certificate"]);
        let body = NewCertificate { confirm: confirm.into() };
        self.call_empty(self.request(Method::POST, url).json(&body)).await
    }
    /// Erases what a host has kept. It answers before it begins.
    pub async fn factory_reset(&self, id: HostId, reset: &FactoryReset) -> Result<(), Error> {
        let url = self.endpoint(&["hosts", &id.to_string(), "factory-reset"]);
        self.call_empty(self.request(Method::POST, url).json(reset)).await
    }

    // Virtual machines.

    /// Creates a VM.
    pub async fn create_vm(&self, vm: &CreateVm) -> Result<Vm, Error> {
        self.call_with(Method::POST, &["vms"], vm).await
    }
    /// Changes a VM; with `revision`, only if nobody else has changed it since.
    pub async fn update_vm(&self, id: VmId, change: &UpdateVm, revision: Option<u64>) -> Result<Vm, Error> {
        self.call_if(Method::PATCH, &["vms", &id.to_string()], change, revision).await
    }
    /// Deletes a VM; its volumes stay.
    pub async fn delete_vm(&self, id: VmId) -> Result<Task, Error> {
        self.call(Method::DELETE, &["vms", &id.to_string()]).await
    }
    /// Starts a VM.
    pub async fn start_vm(&self, id: VmId) -> Result<Task, Error> {
        self.vm_action(id, "start").await
    }
    /// Stops a VM.
    pub async fn stop_vm(&self, id: VmId, how: &StopVm) -> Result<Task, Error> {
        self.call_with(Method::POST, &["vms", &id.to_string(), "stop"], how).await
    }
    /// Restarts the guest of a VM.
    pub async fn restart_vm(&self, id: VmId, how: &RestartVm) -> Result<Task, Error> {
        self.call_with(Method::POST, &["vms", &id.to_string(), "restart"], how).await
    }
    /// Moves a VM to another host.
    pub async fn migrate_vm(&self, id: VmId, wish: &MigrateVm) -> Result<Task, Error> {
        self.call_with(Method::POST, &["vms", &id.to_string(), "migrate"], wish).await
    }
    /// Resets a VM as its reset button would.
    pub async fn reset_vm(&self, id: VmId) -> Result<Task, Error> {
        self.vm_action(id, "reset").await
    }
    /// Halts a VM's processors.
    pub async fn pause_vm(&self, id: VmId) -> Result<Task, Error> {
        self.vm_action(id, "pause").await
    }
    /// Lets a paused VM run on.
    pub async fn resume_vm(&self, id: VmId) -> Result<Task, Error> {
        self.vm_action(id, "resume").await
    }
    async fn vm_action(&self, id: VmId, action: &str) -> Result<Task, Error> {
        self.call(Method::POST, &["vms", &id.to_string(), action]).await
    }
    /// Counters of a running VM.
    pub async fn vm_stats(&self, id: VmId) -> Result<Stats, Error> {
        self.call(Method::GET, &["vms", &id.to_string(), "stats"]).await
    }

    /// How much a VM did.
    pub async fn vm_history(&self, id: VmId, query: &HistoryQuery) -> Result<MetricHistory, Error> {
        self.history(&["vms", &id.to_string(), "history"], query).await
    }
    /// How much a host did.
    pub async fn host_history(&self, id: HostId, query: &HistoryQuery) -> Result<MetricHistory, Error> {
        self.history(&["hosts", &id.to_string(), "history"], query).await
    }
    async fn history(&self, path: &[&str], query: &HistoryQuery) -> Result<MetricHistory, Error> {
        let mut url = self.endpoint(path);
        append(&mut url, query);
        self.call_url(Method::GET, url).await
    }

    // Images. The upload is in `upload`.

    /// Declares an image; its content follows.
    pub async fn create_image(&self, image: &CreateImage) -> Result<Image, Error> {
        self.call_with(Method::POST, &["images"], image).await
    }
    /// Changes an image's name or labels.
    pub async fn update_image(
        &self,
        id: ImageId,
        change: &MetadataPatch,
        revision: Option<u64>,
    ) -> Result<Image, Error> {
        self.call_if(Method::PATCH, &["images", &id.to_string()], change, revision).await
    }
    /// Deletes an image; refused while something uses it.
    pub async fn delete_image(&self, id: ImageId) -> Result<(), Error> {
        self.delete::<Image>(id).await
    }

    // Volumes.

    /// Creates a volume; it may still be `creating` (see [`Client::wait_volume`]).
    pub async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume, Error> {
        self.call_with(Method::POST, &["volumes"], volume).await
    }
    /// Changes a volume's name or labels.
    pub async fn update_volume(
        &self,
        id: VolumeId,
        change: &MetadataPatch,
        revision: Option<u64>,
    ) -> Result<Volume, Error> {
        self.call_if(Method::PATCH, &["volumes", &id.to_string()], change, revision).await
    }
    /// Grows a volume.
    pub async fn grow_volume(&self, id: VolumeId, size: crate::Bytes) -> Result<Task, Error> {
        let grow = GrowVolume { size_bytes: size };
        self.call_with(Method::POST, &["volumes", &id.to_string(), "grow"], &grow).await
    }
    /// Deletes a volume and what is on it.
    pub async fn delete_volume(&self, id: VolumeId) -> Result<Task, Error> {
        self.call(Method::DELETE, &["volumes", &id.to_string()]).await
    }

    // Pools.

    /// Creates a shared pool.
    pub async fn create_pool(&self, pool: &CreatePool) -> Result<Pool, Error> {
        self.call_with(Method::POST, &["pools"], pool).await
    }
    /// Changes a pool's name and labels; with `revision`, only if nobody else has changed it since.
    pub async fn update_pool(
        &self,
        id: PoolId,
        patch: &MetadataPatch,
        revision: Option<u64>,
    ) -> Result<Pool, Error> {
        self.call_if(Method::PATCH, &["pools", &id.to_string()], patch, revision).await
    }
    /// Makes a volume or an image of a file in a pool that belongs to nothing.
    pub async fn adopt_foreign(&self, id: PoolId, adopt: &AdoptFile) -> Result<Task, Error> {
        self.call_with(Method::POST, &["pools", &id.to_string(), "foreign", "adopt"], adopt).await
    }
    /// Deletes a file in a pool that belongs to nothing.
    pub async fn delete_foreign(&self, id: PoolId, delete: &DeleteForeign) -> Result<(), Error> {
        let url = self.endpoint(&["pools", &id.to_string(), "foreign", "delete"]);
        self.call_empty(self.request(Method::POST, url).json(delete)).await
    }
    /// Deletes a shared pool; refused while something is in it.
    pub async fn delete_pool(&self, id: PoolId) -> Result<Task, Error> {
        self.call(Method::DELETE, &["pools", &id.to_string()]).await
    }

    // Networks.

    /// Creates a network.
    pub async fn create_network(&self, network: &CreateNetwork) -> Result<Network, Error> {
        self.call_with(Method::POST, &["networks"], network).await
    }
    /// Changes a network; with `revision`, only if nobody else has changed it since.
    pub async fn update_network(
        &self,
        id: NetworkId,
        change: &UpdateNetwork,
        revision: Option<u64>,
    ) -> Result<Network, Error> {
        self.call_if(Method::PATCH, &["networks", &id.to_string()], change, revision).await
    }
    /// Deletes a network; refused while something uses it.
    pub async fn delete_network(&self, id: NetworkId) -> Result<(), Error> {
        self.delete::<Network>(id).await
    }

    // Tasks and events.

    /// Ends a task early, where it can be. What it waited for may still happen.
    pub async fn cancel_task(&self, id: TaskId) -> Result<Task, Error> {
        self.call(Method::POST, &["tasks", &id.to_string(), "cancel"]).await
    }
    /// One page of events, newest first.
    pub async fn events(&self, query: &EventQuery) -> Result<Page<Event>, Error> {
        let mut url = self.endpoint(&["events"]);
        append(&mut url, query);
        self.call_url(Method::GET, url).await
    }
    /// All tasks that match `query`, newest first, page by page.
    pub async fn tasks_where(&self, query: &TaskQuery) -> Result<Vec<Task>, Error> {
        Ok(self.tasks_at(query).await?.0)
    }
    /// The same, with the revision of the first page.
    pub async fn tasks_at(&self, query: &TaskQuery) -> Result<(Vec<Task>, u64), Error> {
        let mut query = query.clone();
        let mut tasks = Vec::new();
        let mut revision = None;
        loop {
            let mut url = self.endpoint(&["tasks"]);
            append(&mut url, &query);
            let page: Page<Task> = self.call_url(Method::GET, url).await?;
            tasks.extend(page.items);
            let first = *revision.get_or_insert(page.revision);
            match page.next_cursor.and_then(|c| c.parse().ok()) {
                // A cursor that does not move would never end.
                Some(next) if query.cursor != Some(next) => query.cursor = Some(next),
                _ => return Ok((tasks, first)),
            }
        }
    }

    async fn delete<T: Resource>(&self, id: T::Id) -> Result<(), Error> {
        self.call_empty(self.request(Method::DELETE, self.endpoint(&[T::PATH, &id.to_string()]))).await
    }
    /// `/health` and its like stand beside `/api/v1`.
    fn root(&self, path: &str) -> reqwest::Url {
        let mut url = self.inner.transport.base().clone();
        url.set_path(path);
        url
    }
}
