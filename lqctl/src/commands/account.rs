//! Users, groups, roles, sessions, one-time codes, the audit log.

use super::{Session, follow, labels, shown};
use crate::{
    cli::{
        Audit, Group as GroupCommand, Role as RoleCommand, Session as SessionCommand, Totp,
        User as UserCommand, What,
    },
    failure::usage,
    output::{Format, Table, age, describe, line, moment, or_dash, show, word},
    terminal::{ask, ask_new_secret, ask_secret, confirm},
};
use lq_api::{
    GroupId, RoleId, UserId,
    access::{
        CreateGroup, CreateRole, CreateUser, Grant, Group, GroupSpec, Role, RoleSpec, Scope, SetPassword,
        UpdateGroup, UpdateRole, UpdateUser, User, UserSpec,
    },
    audit::AuditQuery,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What ids stand for, as far as the caller may see it.
pub(super) struct Names {
    users: BTreeMap<UserId, String>,
    groups: BTreeMap<GroupId, String>,
    roles: BTreeMap<RoleId, String>,
}

impl Names {
    pub(super) async fn load(session: &Session) -> Self {
        // Names are a courtesy: where they cannot be had, ids serve.
        let users = session.client.users().await.unwrap_or_default();
        let groups = session.client.groups().await.unwrap_or_default();
        let roles = session.client.roles().await.unwrap_or_default();
        Self {
            users: users.into_iter().map(|u| (u.meta.id, u.meta.name)).collect(),
            groups: groups.into_iter().map(|g| (g.meta.id, g.meta.name)).collect(),
            roles: roles.into_iter().map(|r| (r.meta.id, r.meta.name)).collect(),
        }
    }
    pub(super) fn user(&self, id: UserId) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
    pub(super) fn grant(&self, grant: &Grant) -> String {
        let role = self.roles.get(&grant.role).cloned().unwrap_or_else(|| grant.role.to_string());
        format!("{role}@{}", grant.scope)
    }
    fn grants(&self, grants: &[Grant]) -> String {
        grants.iter().map(|g| self.grant(g)).collect::<Vec<_>>().join(" ")
    }
    fn group(&self, id: GroupId) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// `ROLE[@SCOPE]`.
pub(super) async fn grant(session: &Session, text: &str) -> anyhow::Result<Grant> {
    let (role, scope) = match text.split_once('@') {
        Some((role, scope)) => (role, scope.parse().map_err(usage)?),
        None => (text, Scope::Cluster),
    };
    Ok(Grant { role: session.client.find_role(role).await?.meta.id, scope })
}

async fn grants(session: &Session, texts: &[String]) -> anyhow::Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for text in texts {
        grants.push(grant(session, text).await?);
    }
    Ok(grants)
}

/// The grants after some were given and some taken.
async fn changed(
    session: &Session,
    old: &[Grant],
    given: &[String],
    taken: &[String],
) -> anyhow::Result<Vec<Grant>> {
    let (given, taken) = (grants(session, given).await?, grants(session, taken).await?);
    if let Some((at, _)) = taken.iter().enumerate().find(|(_, g)| !old.contains(g)) {
        return Err(usage(format!("there is no grant #{} of those to revoke", at + 1)));
    }
    let mut new: Vec<_> = old.iter().filter(|g| !taken.contains(g)).cloned().collect();
    new.extend(given.into_iter().filter(|g| !old.contains(g)));
    Ok(new)
}

fn done<T: Serialize>(session: &Session, object: &T, text: String) -> anyhow::Result<()> {
    if session.format != Format::Table {
        return show(session.format, object, || Table::new(&[]));
    }
    line(&text)
}

pub(super) async fn user(session: &Session, command: UserCommand) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        UserCommand::List(listing) => {
            let names = Names::load(session).await;
            follow::list(session, listing, What::User, |users: &[User]| {
                let mut table = Table::new(&["NAME", "STATE", "CODES", "GRANTS", "GROUPS", "LAST LOGIN"]);
                for user in users {
                    let groups: Vec<_> = user.status.groups.iter().map(|g| names.group(*g)).collect();
                    table.row([
                        user.meta.name.clone(),
                        state(user).into(),
                        if user.status.totp { "yes".into() } else { "-".into() },
                        names.grants(&user.spec.grants),
                        groups.join(" "),
                        or_dash(user.status.last_login_at.map(age)),
                    ]);
                }
                table
            })
            .await
        }
        UserCommand::Show { user } => {
            let user = client.find_user(&user).await?;
            let names = Names::load(session).await;
            let groups: Vec<_> = user.status.groups.iter().map(|g| names.group(*g)).collect();
            let fields = [
                ("Name", user.meta.name.clone()),
                ("Full name", user.spec.full_name.clone()),
                ("Id", user.meta.id.to_string()),
                ("Labels", shown(&user.meta.labels)),
                ("State", state(&user).into()),
                ("From", word(&user.status.source)),
                ("Grants", names.grants(&user.spec.grants)),
                ("Groups", groups.join(" ")),
                ("One-time codes", if user.status.totp { "yes".into() } else { "no".into() }),
                ("Password set", or_dash(user.status.password_set_at)),
                ("Last login", or_dash(user.status.last_login_at)),
                ("Created", moment(user.meta.created_at)),
            ];
            describe(session.format, &user, &fields)
        }
        UserCommand::Create { name, full_name, grants: texts, keep_password, no_password, labels: pairs } => {
            let grants = grants(session, &texts).await?;
            let password = match no_password {
                true => None,
                false => Some(ask_new_secret(&format!("First password of {name}"))?),
            };
            let create = CreateUser {
                name,
                labels: labels(pairs),
                spec: UserSpec { full_name, disabled: false, grants },
                password,
                must_change_password: !keep_password,
            };
            let user = client.create_user(&create).await?;
            done(session, &user, format!("User {} created.\n", user.meta.name))
        }
        UserCommand::Update { user, meta, full_name, grants: given, revoked, disable, enable } => {
            let user = client.find_user(&user).await?;
            let spec = UserSpec {
                full_name: full_name.unwrap_or_else(|| user.spec.full_name.clone()),
                disabled: (user.spec.disabled || disable) && !enable,
                grants: changed(session, &user.spec.grants, &given, &revoked).await?,
            };
            let spec = (spec != user.spec).then_some(spec);
            let labels = meta.relabelled(&user.meta.labels)?;
            if meta.name.is_none() && labels.is_none() && spec.is_none() {
                return Err(usage("nothing would change: see --help for what can be"));
            }
            let change = UpdateUser { name: meta.name, labels, spec };
            let user = client.update_user(user.meta.id, &change, Some(user.meta.revision)).await?;
            done(session, &user, format!("User {} changed.\n", user.meta.name))
        }
        UserCommand::Password { user, keep_password } => {
            let user = client.find_user(&user).await?;
            let password = ask_new_secret(&format!("New password of {}", user.meta.name))?;
            let set = SetPassword { password, must_change_password: !keep_password };
            client.set_password(user.meta.id, &set).await?;
            line(&format!("Password of {} set.\n", user.meta.name))
        }
        UserCommand::ResetTotp { user } => {
            let user = client.find_user(&user).await?;
            client.reset_totp(user.meta.id).await?;
            line(&format!("{} is asked for no one-time codes any more.\n", user.meta.name))
        }
        UserCommand::Delete { user, yes } => {
            let user = client.find_user(&user).await?;
            confirm(&format!("Delete the user {}, their sessions and tokens?", user.meta.name), yes)?;
            client.delete_user(user.meta.id).await?;
            line(&format!("User {} deleted.\n", user.meta.name))
        }
    }
}

fn state(user: &User) -> &'static str {
    match (user.spec.disabled, user.status.must_change_password) {
        (true, _) => "disabled",
        (false, true) => "new password due",
        (false, false) => "enabled",
    }
}

pub(super) async fn group(session: &Session, command: GroupCommand) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        GroupCommand::List(filter) => {
            let groups: Vec<Group> = client.all_where(&filter.into()).await?;
            let names = Names::load(session).await;
            show(session.format, &groups, || {
                let mut table = Table::new(&["NAME", "MEMBERS", "GRANTS", "DESCRIPTION"]);
                for group in &groups {
                    table.row([
                        group.meta.name.clone(),
                        group.spec.members.len().to_string(),
                        names.grants(&group.spec.grants),
                        group.spec.description.clone(),
                    ]);
                }
                table
            })
        }
        GroupCommand::Show { group } => {
            let group: Group = client.find_group(&group).await?;
            let names = Names::load(session).await;
            let members: Vec<_> = group.spec.members.iter().map(|m| names.user(*m)).collect();
            let fields = [
                ("Name", group.meta.name.clone()),
                ("Description", group.spec.description.clone()),
                ("Id", group.meta.id.to_string()),
                ("Labels", shown(&group.meta.labels)),
                ("Members", members.join(" ")),
                ("Grants", names.grants(&group.spec.grants)),
                ("Created", moment(group.meta.created_at)),
            ];
            describe(session.format, &group, &fields)
        }
        GroupCommand::Create { name, description, members, grants: texts, labels: pairs } => {
            let mut spec =
                GroupSpec { description, grants: grants(session, &texts).await?, ..GroupSpec::default() };
            for member in members {
                spec.members.insert(client.find_user(&member).await?.meta.id);
            }
            let group = client.create_group(&CreateGroup { name, labels: labels(pairs), spec }).await?;
            done(session, &group, format!("Group {} created.\n", group.meta.name))
        }
        GroupCommand::Update { group, meta, description, added, removed, grants: given, revoked } => {
            let group = client.find_group(&group).await?;
            let mut spec = group.spec.clone();
            spec.description = description.unwrap_or(spec.description);
            spec.grants = changed(session, &spec.grants, &given, &revoked).await?;
            for user in added {
                spec.members.insert(client.find_user(&user).await?.meta.id);
            }
            for user in removed {
                let user = client.find_user(&user).await?;
                if !spec.members.remove(&user.meta.id) {
                    return Err(usage(format!("{} is not in {}", user.meta.name, group.meta.name)));
                }
            }
            let spec = (spec != group.spec).then_some(spec);
            let labels = meta.relabelled(&group.meta.labels)?;
            if meta.name.is_none() && labels.is_none() && spec.is_none() {
                return Err(usage("nothing would change: see --help for what can be"));
            }
            let change = UpdateGroup { name: meta.name, labels, spec };
            let group = client.update_group(group.meta.id, &change, Some(group.meta.revision)).await?;
            done(session, &group, format!("Group {} changed.\n", group.meta.name))
        }
        GroupCommand::Delete { group, yes } => {
            let group = client.find_group(&group).await?;
            confirm(&format!("Delete the group {}?", group.meta.name), yes)?;
            client.delete_group(group.meta.id).await?;
            line(&format!("Group {} deleted.\n", group.meta.name))
        }
    }
}

pub(super) async fn role(session: &Session, command: RoleCommand) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        RoleCommand::List(filter) => {
            let roles: Vec<Role> = client.all_where(&filter.into()).await?;
            show(session.format, &roles, || {
                let mut table = Table::new(&["NAME", "BUILT IN", "PERMISSIONS"]);
                for role in &roles {
                    let permissions: Vec<_> = role.spec.permissions.iter().map(ToString::to_string).collect();
                    let builtin = if role.builtin { "yes" } else { "-" };
                    table.row([role.meta.name.clone(), builtin.into(), permissions.join(" ")]);
                }
                table
            })
        }
        RoleCommand::Show { role } => {
            let role: Role = client.find_role(&role).await?;
            let permissions: Vec<_> = role.spec.permissions.iter().map(ToString::to_string).collect();
            let fields = [
                ("Name", role.meta.name.clone()),
                ("Description", role.spec.description.clone()),
                ("Id", role.meta.id.to_string()),
                ("Labels", shown(&role.meta.labels)),
                ("Built in", if role.builtin { "yes".into() } else { String::new() }),
                ("Permissions", permissions.join(" ")),
                ("Created", moment(role.meta.created_at)),
            ];
            describe(session.format, &role, &fields)
        }
        RoleCommand::Permissions => {
            let permissions = client.permissions().await?;
            show(session.format, &permissions, || {
                let mut table = Table::new(&["PERMISSION", "ALLOWS TO"]);
                for permission in &permissions {
                    table.row([permission.name.to_string(), permission.description.clone()]);
                }
                table
            })
        }
        RoleCommand::Create { name, description, permissions, labels: pairs } => {
            let spec = RoleSpec { description, permissions: permissions.into_iter().collect() };
            let role = client.create_role(&CreateRole { name, labels: labels(pairs), spec }).await?;
            done(session, &role, format!("Role {} created.\n", role.meta.name))
        }
        RoleCommand::Update { role, meta, description, added, removed } => {
            let role = client.find_role(&role).await?;
            let mut spec = role.spec.clone();
            spec.description = description.unwrap_or(spec.description);
            spec.permissions.extend(added);
            spec.permissions.retain(|p| !removed.contains(p));
            let spec = (spec != role.spec).then_some(spec);
            let labels = meta.relabelled(&role.meta.labels)?;
            if meta.name.is_none() && labels.is_none() && spec.is_none() {
                return Err(usage("nothing would change: see --help for what can be"));
            }
            let change = UpdateRole { name: meta.name, labels, spec };
            let role = client.update_role(role.meta.id, &change, Some(role.meta.revision)).await?;
            done(session, &role, format!("Role {} changed.\n", role.meta.name))
        }
        RoleCommand::Delete { role, yes } => {
            let role = client.find_role(&role).await?;
            confirm(&format!("Delete the role {}?", role.meta.name), yes)?;
            client.delete_role(role.meta.id).await?;
            line(&format!("Role {} deleted.\n", role.meta.name))
        }
    }
}

pub(super) async fn session(session: &Session, command: SessionCommand) -> anyhow::Result<()> {
    match command {
        SessionCommand::List => {
            let sessions = session.client.sessions().await?;
            show(session.format, &sessions, || {
                let mut table = Table::new(&["USER", "FROM", "SINCE", "REFRESHED", "THIS", "ID"]);
                for one in &sessions {
                    table.row([
                        one.username.clone(),
                        one.from.clone(),
                        age(one.created_at),
                        age(one.refreshed_at),
                        if one.current { "*".into() } else { String::new() },
                        one.id.to_string(),
                    ]);
                }
                table
            })
        }
        SessionCommand::End { session: id } => {
            let parsed = id.parse().map_err(|_| usage(format!("`{id}` is not the id of a session")))?;
            session.client.end_session(parsed).await?;
            line("Session ended.\n")
        }
    }
}

pub(super) async fn totp(session: &Session, command: Totp) -> anyhow::Result<()> {
    match command {
        Totp::Enable => {
            let password = ask_secret("Password")?;
            let enrolment = session.client.offer_totp(&password).await?;
            eprintln!(
                "Enter this secret in the authenticator:\n  {}\nor open\n  {}",
                enrolment.secret, enrolment.url
            );
            let code = ask("Code it shows now")?;
            let recovery = session.client.confirm_totp(&code).await?;
            let codes: Vec<_> = recovery.codes.iter().map(|c| format!("  {c}\n")).collect();
            let text = format!(
                "One-time codes are asked for from now on. Keep these recovery codes; each works once, and they are not \
                 shown again:\n{}",
                codes.concat()
            );
            done(session, &recovery, text)
        }
        Totp::Disable => {
            let password = ask_secret("Password")?;
            session.client.remove_totp(&password).await?;
            line("One-time codes are not asked for any more.\n")
        }
    }
}

pub(super) async fn audit(session: &Session, wanted: Audit) -> anyhow::Result<()> {
    let user = match wanted.user {
        // One who is gone is known by the id only.
        Some(user) => Some(match user.parse() {
            Ok(id) => id,
            Err(_) => session.client.find_user(&user).await?.meta.id,
        }),
        None => None,
    };
    let query = AuditQuery {
        limit: Some(wanted.limit),
        cursor: None,
        user,
        actor: wanted.actor,
        action: wanted.action,
        target: wanted.target,
        outcome: wanted.outcome,
        since: wanted.since,
        until: wanted.until,
    };
    let records = session.client.audit(&query).await?.items;
    show(session.format, &records, || {
        let mut table = Table::new(&["AT", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", "WHY"]);
        for record in &records {
            let name = record.target_name.as_ref();
            let kind = record.target.split('/').next().unwrap_or_default();
            table.row([
                moment(record.at),
                record.actor.clone(),
                record.from.clone(),
                record.action.clone(),
                name.map_or_else(|| record.target.clone(), |name| format!("{kind}/{name}")),
                word(&record.outcome),
                record.detail.clone().unwrap_or_default(),
            ]);
        }
        table
    })
}
