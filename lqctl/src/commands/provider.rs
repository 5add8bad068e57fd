//! Identity providers.

use super::Session;
use crate::{
    cli::{NewProvider, Provider as Command},
    output::{Format, Table, describe, line, plain, show, word},
    terminal::{ask_secret, confirm},
};
use anyhow::Context as _;
use lq_api::{
    GroupId,
    provider::{
        CreateProvider, GroupMapping, LdapSource, OidcSource, Provider, ProviderSource, ProviderSpec,
        TestProvider, UpdateProvider,
    },
};
use serde_json::json;
use std::{collections::BTreeMap, fs};

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List => {
            let providers = client.providers().await?;
            show(session.format, &providers, || {
                let mut table = Table::new(&["NAME", "KIND", "AT", "GROUPS", "USERS", "STATUS"]);
                for provider in &providers {
                    table.row([
                        provider.meta.name.clone(),
                        kind(provider).into(),
                        place(provider),
                        provider.spec.groups.len().to_string(),
                        provider.status.users.to_string(),
                        state(provider),
                    ]);
                }
                table
            })
        }
        Command::Realms => {
            let realms = client.realms().await?;
            show(session.format, &realms, || {
                let mut table = Table::new(&["NAME", "TITLE", "LOGIN BY"]);
                for realm in &realms {
                    table.row([realm.name.clone(), realm.title.clone(), word(&realm.kind)]);
                }
                table
            })
        }
        Command::Show { provider } => show_one(session, &client.find_provider(&provider).await?).await,
        Command::CreateLdap {
            common,
            servers,
            certificate,
            bind_dn,
            base_dn,
            user_dn,
            user_filter,
            user_attribute,
            name_attribute,
            group_base_dn,
            group_filter,
        } => {
            // What is not given is as the API has it.
            let usual: LdapSource = serde_json::from_value(json!({"servers": []}))?;
            let source = LdapSource {
                servers,
                ca: authorities(&common)?,
                certificate_sha256: certificate,
                bind_dn,
                user_dn,
                base_dn: base_dn.unwrap_or_default(),
                user_filter: user_filter.unwrap_or(usual.user_filter),
                user_attribute: user_attribute.unwrap_or(usual.user_attribute),
                name_attribute: name_attribute.unwrap_or(usual.name_attribute),
                group_base_dn,
                group_filter,
            };
            create(session, common, ProviderSource::Ldap(source)).await
        }
        Command::CreateOidc { common, issuer, client_id, scopes, username_claim, groups_claim } => {
            let usual: OidcSource = serde_json::from_value(json!({"issuer": "", "client_id": ""}))?;
            let ca = authorities(&common)?;
            let source = OidcSource { issuer, client_id, scopes, username_claim, groups_claim, ca, ..usual };
            create(session, common, ProviderSource::Oidc(source)).await
        }
        Command::Enable { provider, off } => {
            let provider = client.find_provider(&provider).await?;
            let spec = ProviderSpec { enabled: !off, ..provider.spec.clone() };
            update(session, &provider, spec).await
        }
        Command::Map { provider, groups } => {
            let provider = client.find_provider(&provider).await?;
            let groups = mappings(session, groups).await?;
            update(session, &provider, ProviderSpec { groups, ..provider.spec.clone() }).await
        }
        Command::Test { provider, username, password } => {
            let provider = client.find_provider(&provider).await?;
            let password = match &username {
                Some(name) if password => Some(ask_secret(&format!("Password of {name}"))?),
                _ => None,
            };
            let test = client.test_provider(provider.meta.id, &TestProvider { username, password }).await?;
            if session.format != Format::Table {
                show(session.format, &test, || Table::new(&[]))?;
            } else {
                let groups = group_names(session).await;
                let names: Vec<_> = test.groups.iter().map(|g| named(&groups, *g)).collect();
                for step in &test.steps {
                    line(&format!("ok: {}\n", plain(step)))?;
                }
                let fields = [
                    ("User", test.username.clone().unwrap_or_default()),
                    ("Full name", test.full_name.clone().unwrap_or_default()),
                    ("Groups there", test.external_groups.join("; ")),
                    ("Groups here", names.join(" ")),
                ];
                describe(session.format, &test, &fields)?;
            }
            match test.failure {
                Some(why) => anyhow::bail!("{}: {why}", provider.meta.name),
                None => Ok(()),
            }
        }
        Command::Delete { provider, yes } => {
            let provider = client.find_provider(&provider).await?;
            let (name, users) = (&provider.meta.name, provider.status.users);
            confirm(&format!("Delete identity provider {name} and its {users} users?"), yes)?;
            client.delete_provider(provider.meta.id).await?;
            if session.format == Format::Table {
                return line(&format!("Identity provider {name} deleted.\n"));
            }
            Ok(())
        }
    }
}

fn authorities(common: &NewProvider) -> anyhow::Result<Option<String>> {
    let read = |path: &std::path::PathBuf| {
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    common.ca.as_ref().map(read).transpose()
}

async fn mappings(session: &Session, pairs: Vec<(String, String)>) -> anyhow::Result<Vec<GroupMapping>> {
    let mut all = Vec::new();
    for (external, group) in pairs {
        all.push(GroupMapping { external, group: session.client.find_group(&group).await?.meta.id });
    }
    Ok(all)
}

async fn create(session: &Session, common: NewProvider, source: ProviderSource) -> anyhow::Result<()> {
    let NewProvider { name, title, groups, session_hours, ca: _, secret, off } = common;
    let groups = mappings(session, groups).await?;
    let spec = ProviderSpec { enabled: !off, title, groups, session_hours, source };
    let new = CreateProvider { name, labels: BTreeMap::new(), spec, secret };
    show_one(session, &session.client.create_provider(&new).await?).await
}

async fn update(session: &Session, provider: &Provider, spec: ProviderSpec) -> anyhow::Result<()> {
    let update = UpdateProvider { spec: Some(spec), ..UpdateProvider::default() };
    let (id, revision) = (provider.meta.id, provider.meta.revision);
    show_one(session, &session.client.update_provider(id, &update, Some(revision)).await?).await
}

fn kind(provider: &Provider) -> &'static str {
    match provider.spec.source {
        ProviderSource::Ldap(_) => "ldap",
        ProviderSource::Oidc(_) => "oidc",
    }
}

fn place(provider: &Provider) -> String {
    match &provider.spec.source {
        ProviderSource::Ldap(source) => source.servers.join(" "),
        ProviderSource::Oidc(source) => source.issuer.clone(),
    }
}

fn state(provider: &Provider) -> String {
    match (&provider.status.failure, provider.spec.enabled) {
        (_, false) => "off".into(),
        (Some(why), true) => format!("failing: {why}"),
        (None, true) => "ready".into(),
    }
}

async fn group_names(session: &Session) -> BTreeMap<GroupId, String> {
    // Names are a courtesy: where they cannot be had, ids serve.
    let groups = session.client.groups().await.unwrap_or_default();
    groups.into_iter().map(|g| (g.meta.id, g.meta.name)).collect()
}

fn named(groups: &BTreeMap<GroupId, String>, id: GroupId) -> String {
    groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

async fn show_one(session: &Session, provider: &Provider) -> anyhow::Result<()> {
    let groups = group_names(session).await;
    let mapped: Vec<_> = provider
        .spec
        .groups
        .iter()
        .map(|m| format!("{} → {}", m.external, named(&groups, m.group)))
        .collect();
    let time = |t: Option<lq_api::Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
    let fields = [
        ("Name", provider.meta.name.clone()),
        ("Id", provider.meta.id.to_string()),
        ("Kind", kind(provider).into()),
        ("At", place(provider)),
        ("Title", provider.spec.title.clone()),
        ("Groups", mapped.join("; ")),
        ("Sessions last", format!("{} h", provider.spec.session_hours)),
        ("Secret", if provider.has_secret { "set".into() } else { String::new() }),
        ("Users", provider.status.users.to_string()),
        ("Status", state(provider)),
        ("Failing since", time(provider.status.failing_since)),
        ("Last asked", time(provider.status.checked_at)),
    ];
    describe(session.format, provider, &fields)
}
