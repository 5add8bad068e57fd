//! Saved hosts.

use super::client;
use crate::{
    cli::{Common, ProfileCommand as Command},
    failure::usage,
    output::{Table, line, show},
    profile::{DEFAULT, Profile, Profiles},
    terminal::confirm,
};
use serde::Serialize;

/// A saved host as it is shown: without its session's secrets.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    url: &'a str,
    fingerprint: &'a str,
    logged_in: bool,
    used: bool,
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<()> {
    let mut profiles = Profiles::load(Profiles::path()?)?;
    match command {
        Command::List => {
            let used = profiles.used(common.profile.as_deref())?;
            let shown = profiles.all().iter().map(|(name, profile)| Shown {
                name,
                url: &profile.url,
                fingerprint: &profile.fingerprint,
                logged_in: profile.token.is_some(),
                used: *name == used,
            });
            let shown: Vec<_> = shown.collect();
            show(common.output, &shown, || {
                let mut table = Table::new(&["USED", "NAME", "HOST", "SESSION", "FINGERPRINT"]);
                for profile in &shown {
                    table.row([
                        if profile.used { "*" } else { "" }.into(),
                        profile.name.into(),
                        profile.url.into(),
                        if profile.logged_in { "kept" } else { "-" }.into(),
                        profile.fingerprint.into(),
                    ]);
                }
                table
            })
        }
        Command::Use { name } => {
            if name != DEFAULT {
                known(&profiles, &name)?;
            }
            profiles.choose(&name)?;
            line(&format!("{name} is used where no other profile is named.\n"))
        }
        Command::Delete { name, yes } => {
            let profile = known(&profiles, &name)?.clone();
            confirm(&format!("Forget {} ({name}) and its certificate?", profile.url), yes)?;
            if profile.token.is_some() {
                end(common, &name).await;
            }
            // Ending the session may have kept a newer one.
            profiles = Profiles::load(Profiles::path()?)?;
            profiles.remove(&name)?;
            line(&format!("{name} forgotten.\n"))
        }
    }
}

fn known<'a>(profiles: &'a Profiles, name: &str) -> anyhow::Result<&'a Profile> {
    profiles.get(name).ok_or_else(|| usage(format!("there is no profile `{name}`; see `lqctl profile list`")))
}

/// Ends the session of a profile. A host that is away keeps nobody from forgetting it.
async fn end(common: &Common, name: &str) {
    let of_it = Common { profile: Some(name.into()), url: None, token: None, socket: None, ..common.clone() };
    let ended = async { anyhow::Ok(client(&of_it).await?.logout().await?) };
    if let Err(error) = ended.await {
        eprintln!("lqctl: its session could not be ended and lasts until it is 12 hours unused: {error:#}");
    }
}
