//! Getting in: log in, set up, password, tokens.

use super::{
    Session,
    account::{Names, grant},
    told,
};
use crate::{
    cli::{Common, Token},
    failure::usage,
    output::{Table, age, describe, line, moment, or_dash, show},
    profile::{Profile, Profiles},
    terminal::{ask, ask_new_secret, ask_secret, confirm},
};
use lq_api::{
    Timestamp,
    auth::{CreateToken, Login, Session as LoggedIn},
    client::{Client, Error, Fingerprint},
    problem::Kind,
};

/// The pinned, the known, or the one the person accepts now.
async fn trusted(common: &Common, address: &str) -> anyhow::Result<Fingerprint> {
    if let Some(fingerprint) = common.fingerprint {
        return Ok(fingerprint);
    }
    let presented = Client::probe(address).await?;
    let url = Client::new(address, presented)?.url();
    let profiles = Profiles::load(Profiles::path()?)?;
    let known = profiles.get(&profiles.used(common.profile.as_deref())?).filter(|p| p.url == url);
    match known.and_then(|p| p.fingerprint.parse::<Fingerprint>().ok()) {
        Some(known) if known == presented => return Ok(known),
        Some(known) => eprintln!(
            "WARNING: {url} was known with the fingerprint {known} and presents another one now:\n\
             it was installed anew, or someone is in between."
        ),
        None => eprintln!("{url} is not known yet. It presents the fingerprint"),
    }
    eprintln!("  {presented}");
    confirm("Is it the one the host's console shows?", false).map_err(|_| {
        usage(format!(
            "the certificate of {url} was not accepted; --fingerprint {presented} accepts it without being asked"
        ))
    })?;
    Ok(presented)
}

fn remember(common: &Common, client: &Client, session: LoggedIn) -> anyhow::Result<()> {
    let fingerprint = client.fingerprint().map(|f| f.to_string()).unwrap_or_default();
    let profile = Profile {
        url: client.url(),
        fingerprint,
        token: Some(session.token),
        refresh_token: session.refresh_token,
        since: Some(Timestamp::now()),
    };
    let path = Profiles::path()?;
    let mut profiles = Profiles::load(path)?;
    let name = profiles.used(common.profile.as_deref())?;
    profiles.set(&name, profile)?;
    line(&format!("Logged in to {} as {}.\n", client.url(), session.username))?;
    if session.must_change_password {
        eprintln!("A new password has to be set before anything else: run `lqctl password`.");
    }
    Ok(())
}

/// Whether the host still waits for its first password. It is the first thing asked: whatever else answers at that address is told
/// from a host before a password is sent.
async fn needs_setup(client: &Client, address: &str) -> anyhow::Result<bool> {
    match client.setup().await {
        Ok(setup) => Ok(setup.needed),
        Err(e) => Err(explained(e, address)),
    }
}

/// Says of an answer that no host of this release gives what it means.
fn explained(e: Error, address: &str) -> anyhow::Error {
    let foreign = match &e {
        Error::Unexpected { .. } => true,
        Error::Problem(problem) => matches!(problem.status, 401 | 404 | 405),
        _ => false,
    };
    if !foreign {
        return e.into();
    }
    anyhow::Error::new(e).context(format!(
        "what answers at {address} is not a LimiQuantix host, or one of another release: check the address, or use the \
         lqctl that came with the host"
    ))
}

pub(super) async fn login(
    common: &Common,
    address: &str,
    username: &str,
    code: Option<String>,
    realm: Option<String>,
) -> anyhow::Result<()> {
    let client = told(common, Client::new(address, trusted(common, address).await?)?);
    if needs_setup(&client, address).await? {
        return Err(usage(format!(
            "{address} has no admin password yet; run `lqctl setup {address}` with the code its console shows"
        )));
    }
    let password = ask_secret(&format!("Password of {username}"))?;
    let mut login = Login { username: username.to_owned(), password, code, realm };
    let session = match client.login_as(&login).await {
        Err(e) if e.is(Kind::SecondFactor) => {
            login.code = Some(ask("One-time code (or a recovery code)")?);
            client.login_as(&login).await?
        }
        other => other?,
    };
    remember(common, &client, session)
}

pub(super) async fn setup(common: &Common, address: &str, code: Option<String>) -> anyhow::Result<()> {
    let client = told(common, Client::new(address, trusted(common, address).await?)?);
    if !needs_setup(&client, address).await? {
        return Err(usage(format!("{address} is set up already; run `lqctl login {address}`")));
    }
    let code = match code {
        Some(code) => code,
        None => ask("Set-up code (on the host's console)")?,
    };
    let password = ask_new_secret("New password of admin")?;
    let session = client.set_up(&code, &password).await?;
    remember(common, &client, session)
}

pub(super) async fn logout(common: &Common, session: &Session) -> anyhow::Result<()> {
    session.client.logout().await?;
    let mut profiles = Profiles::load(Profiles::path()?)?;
    let name = profiles.used(common.profile.as_deref())?;
    if let Some(profile) = profiles.get(&name).cloned() {
        profiles.set(&name, profile.logged_out())?;
    }
    line("Logged out.\n")
}

pub(super) async fn whoami(session: &Session) -> anyhow::Result<()> {
    let identity = session.client.identity().await?;
    let rights = identity.rights.iter().map(|r| {
        let permissions: Vec<_> = r.permissions.iter().map(ToString::to_string).collect();
        format!("{}: {}", r.scope, permissions.join(" "))
    });
    let fields = [
        ("User", identity.username.clone()),
        ("By", identity.by.clone()),
        ("Realm", identity.realm.clone().unwrap_or_default()),
        ("Rights", rights.collect::<Vec<_>>().join("; ")),
        ("One-time codes", if identity.totp { "asked for".into() } else { String::new() }),
        (
            "Token ends",
            or_dash(identity.expires_at.map(|at| format!("{} (a session renews it by itself)", moment(at)))),
        ),
        ("Host", session.client.url()),
        ("Fingerprint", or_dash(session.client.fingerprint())),
    ];
    describe(session.format, &identity, &fields)
}

pub(super) async fn password(session: &Session) -> anyhow::Result<()> {
    let old = ask_secret("Present password")?;
    let new = ask_new_secret("New password")?;
    session.client.change_password(&old, &new).await?;
    line("Password changed.\n")
}

pub(super) async fn token(session: &Session, command: Token) -> anyhow::Result<()> {
    match command {
        Token::List => {
            let tokens = session.client.tokens().await?;
            let names = Names::load(session).await;
            show(session.format, &tokens, || {
                let mut table = Table::new(&["NAME", "OWNER", "RIGHTS", "AGE", "ENDS", "ID"]);
                for token in &tokens {
                    let limit = token.limit.as_ref().map(|grant| names.grant(grant));
                    let limit = limit.unwrap_or_else(|| "its owner's".into());
                    table.row([
                        token.name.clone(),
                        names.user(token.owner),
                        if token.read_only { format!("{limit}, to read") } else { limit },
                        age(token.created_at),
                        or_dash(token.expires_at.map(moment)),
                        token.id.to_string(),
                    ]);
                }
                table
            })
        }
        Token::Create { name, days, read_only, limit, owner } => {
            let limit = match limit {
                Some(limit) => Some(grant(session, &limit).await?),
                None => None,
            };
            let owner = match owner {
                Some(owner) => Some(session.client.find_user(&owner).await?.meta.id),
                None => None,
            };
            let new = CreateToken { name, days, read_only, limit, owner };
            let created = session.client.create_token(&new).await?;
            let fields = [
                ("Name", created.token.name.clone()),
                ("Id", created.token.id.to_string()),
                ("Ends", or_dash(created.token.expires_at.map(moment))),
                ("Secret", created.secret.clone()),
                ("", "The secret is not shown again.".into()),
            ];
            describe(session.format, &created, &fields)
        }
        Token::Delete { name } => {
            let tokens = session.client.tokens().await?;
            let found = tokens.iter().find(|t| t.id.to_string() == name || t.name == name);
            let found = found.ok_or(lq_api::client::Error::NoSuch { kind: "token", name })?;
            session.client.delete_token(found.id).await?;
            line(&format!("Token {} revoked.\n", found.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::problem::Problem;

    #[test]
    fn another_server_is_told_from_a_host() {
        let unexpected = |status| Error::Unexpected {
            host: "h:443".into(),
            request: "GET /api/v1/setup".into(),
            status,
            detail: "it is no JSON".into(),
        };
        let missing = Error::Problem(Box::new(Problem::new(Kind::NotFound, "there is no `/api/v1/setup`")));
        for error in [unexpected(200), unexpected(404), missing] {
            let text = format!("{:#}", explained(error, "https://h/"));
            assert!(text.starts_with("what answers at https://h/ is not a LimiQuantix host"), "{text}");
            assert!(text.contains("/api/v1/setup"), "{text}");
        }
        let busy = Error::Problem(Box::new(Problem::new(Kind::Unavailable, "no leader")));
        assert!(!format!("{:#}", explained(busy, "https://h/")).contains("release"));
    }
}
