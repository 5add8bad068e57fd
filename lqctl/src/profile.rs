//! Which host, with which certificate and credential: one profile per name, in one file only its owner can read.

use crate::failure::usage;
use anyhow::Context;
use lq_api::{Timestamp, client::Held};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The profile that is used where none is chosen.
pub(crate) const DEFAULT: &str = "default";

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Its address.
    pub(crate) url: String,
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: String,
    /// Access token of the session; absent after logging out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// What gets the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    /// When they were received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

impl Profile {
    /// The session, where there is one.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let token = self.token.clone()?;
        Some(match (self.refresh_token.clone(), self.since) {
            (Some(refresh_token), Some(since)) => Kept::Session(Held { token, refresh_token, since }),
            _ => Kept::Token(token),
        })
    }

    /// The same host with this session.
    pub(crate) fn with(self, held: Held) -> Self {
        Self {
            token: Some(held.token),
            refresh_token: Some(held.refresh_token),
            since: Some(held.since),
            ..self
        }
    }

    /// The same host without a session.
    pub(crate) fn logged_out(self) -> Self {
        Self { token: None, refresh_token: None, since: None, ..self }
    }
}

/// What a profile shows to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A session that goes on as long as it is used.
    Session(Held),
    /// One that is not refreshed: that of a host without a majority, for an hour.
    Token(String),
}

/// The file.
#[derive(Debug)]
pub(crate) struct Profiles {
    path: PathBuf,
    all: BTreeMap<String, Profile>,
}

impl Profiles {
    /// `$XDG_CONFIG_HOME/lqctl/profiles.toml`, or the same under `~/.config`.
    pub(crate) fn path() -> anyhow::Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
        let config = config.ok_or_else(|| usage("neither XDG_CONFIG_HOME nor HOME is set"))?;
        Ok(config.join("lqctl").join("profiles.toml"))
    }

    /// Reads the file; there is none yet before the first login.
    pub(crate) fn load(path: PathBuf) -> anyhow::Result<Self> {
        let all = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?,
            Err(e) if e.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path, all })
    }

    /// The profile that is used: the one that is named, else the chosen one, else `default`.
    pub(crate) fn used(&self, named: Option<&str>) -> anyhow::Result<String> {
        if let Some(named) = named {
            return Ok(named.into());
        }
        let file = self.chosen_file();
        match fs::read_to_string(&file) {
            Ok(name) => Ok(name.trim().to_owned()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(DEFAULT.into()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Lets a profile be the one that is used where none is named.
    pub(crate) fn choose(&self, name: &str) -> anyhow::Result<()> {
        let file = self.chosen_file();
        write(&file, name.as_bytes()).with_context(|| format!("cannot save {}", file.display()))
    }

    fn chosen_file(&self) -> PathBuf {
        self.path.with_file_name("profile")
    }

    /// Every profile by its name.
    pub(crate) fn all(&self) -> &BTreeMap<String, Profile> {
        &self.all
    }

    /// Forgets a profile; the chosen one is chosen no more.
    pub(crate) fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        if self.used(None)? == name {
            match fs::remove_file(self.chosen_file()) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", self.chosen_file().display()));
                }
                _ => {}
            }
        }
        self.all.remove(name);
        self.save().with_context(|| format!("cannot save {}", self.path.display()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Profile> {
        self.all.get(name)
    }

    pub(crate) fn set(&mut self, name: &str, profile: Profile) -> anyhow::Result<()> {
        self.all.insert(name.into(), profile);
        self.save().with_context(|| format!("cannot save {}", self.path.display()))
    }

    fn save(&self) -> anyhow::Result<()> {
        write(&self.path, toml::to_string(&self.all)?.as_bytes())
    }
}

/// Writes a file whole or not at all, and never readable by others, not even for a moment.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = directory.join(format!(".new.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn kept_for_the_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lqctl/profiles.toml");
        let held = Held { token: "a".into(), refresh_token: "b".into(), since: Timestamp::UNIX_EPOCH };
        let profile = Profile {
            url: "https://h".into(),
            fingerprint: "AB".into(),
            token: None,
            refresh_token: None,
            since: None,
        };
        assert_eq!(profile.kept(), None);
        let profile = profile.with(held.clone());
        assert_eq!(profile.kept(), Some(Kept::Session(held)));
        // Without a majority a login gives nothing to refresh it with.
        let short = Profile { refresh_token: None, ..profile.clone() };
        assert_eq!(short.kept(), Some(Kept::Token("a".into())));
        let mut profiles = Profiles::load(path.clone()).unwrap();
        profiles.set("default", profile.clone()).unwrap();
        profiles.set("other", profile.clone().logged_out()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let again = Profiles::load(path.clone()).unwrap();
        assert_eq!(again.get("default"), Some(&profile));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        // Chosen, used, forgotten.
        let mut profiles = again;
        assert_eq!(profiles.used(None).unwrap(), "default");
        profiles.choose("other").unwrap();
        assert_eq!(profiles.used(None).unwrap(), "other");
        assert_eq!(profiles.used(Some("default")).unwrap(), "default");
        profiles.remove("default").unwrap();
        assert_eq!(profiles.used(None).unwrap(), "other");
        profiles.remove("other").unwrap();
        assert_eq!(profiles.used(None).unwrap(), "default");
        assert!(Profiles::load(path.clone()).unwrap().all().is_empty());
        fs::write(&path, "[").unwrap();
        assert!(Profiles::load(path).is_err());
    }
}
