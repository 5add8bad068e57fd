//! Asking a directory (LDAP version 3, RFC 4511) who someone is.
//!
//! ```text
//!  connect ─▶ TLS ─▶ bind as the service ─▶ search the user ─▶ their groups ─▶ bind as the user
//!  connect ─▶ TLS ─▶ bind as the user (`user_dn`) ─▶ read the user ─▶ their groups
//! ```
//! Owns a small client of its own: [`ber`], [`filter`], [`message`] are pure, [`client`] speaks. Invariants: nothing is sent before
//! TLS; an empty password is never sent; what is typed is never more than a value; referrals and aliases are not followed; every
//! question has an end.

mod ber;
mod client;
mod filter;
mod message;

use client::{Client, ClientError};
use lq_api::{meta::is_unseen, problem::FieldError, provider::LdapSource};
use message::{Depth, Entry, Search};
use std::time::Duration;

use super::directory::Person;

/// Longest that a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest that all of a question may take, all servers together.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same, as the server is told.
const SECONDS: i32 = 10;
/// Most groups of a user that are looked at.
const MAX_GROUPS: i32 = 2000;
/// Longest name that is looked up, bytes.
const MAX_NAME: usize = 256;
/// Bit of `userAccountControl` of an account that is disabled (MS-ADTS 2.2.16).
const ACCOUNT_DISABLED: u32 = 2;

/// Why a directory could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DirectoryError {
    /// None of the servers could.
    #[error("{0}")]
    Unreachable(String),
    /// The service account is not let in.
    #[error("the service account is not let in: its name or password is wrong, or it is locked")]
    Service,
    /// More than one user was found.
    #[error("`user_filter` finds more than one user `{0}`: it has to find exactly one")]
    Ambiguous(String),
    /// A filter is none.
    #[error("`{0}` {1}")]
    Filter(&'static str, String),
}

/// What a directory knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) dn: String,
    pub(super) person: Person,
    /// The directory says that they may not log in.
    pub(super) disabled: bool,
}

/// A directory, and the password of the service account.
#[derive(Clone, Copy)]
pub(super) struct Directory<'a> {
    pub(super) source: &'a LdapSource,
    pub(super) secret: Option<&'a str>,
}

/// Faults that only taking filters apart shows.
pub(super) fn check(source: &LdapSource) -> Vec<FieldError> {
    let filters =
        [("user_filter", Some(&source.user_filter)), ("group_filter", source.group_filter.as_ref())];
    let wrong = filters.into_iter().filter_map(|(field, text)| {
        let e = filter::filter(text?, "user", "cn=user").err()?;
        Some(FieldError::new(format!("spec.source.{field}"), e.to_string()))
    });
    wrong.collect()
}

/// Whether a name may be looked up at all.
fn may_be(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(is_unseen)
}

fn by_filter(field: &'static str, template: &str, user: &str, dn: &str) -> Result<Vec<u8>, DirectoryError> {
    filter::filter(template, user, dn).map_err(|e| DirectoryError::Filter(field, e.to_string()))
}

impl Directory<'_> {
    /// Whether users can be looked up without their password.
    pub(super) fn can_look(self) -> bool {
        self.source.user_dn.is_none() || self.source.bind_dn.is_some()
    }

    /// Who this is, if it is their password.
    pub(super) async fn log_in(self, user: &str, password: &str) -> Result<Option<Found>, DirectoryError> {
        if !may_be(user) || password.is_empty() {
            return Ok(None);
        }
        self.in_time(async |mut client: Client| {
            let found = match &self.source.user_dn {
                Some(template) => {
                    let dn = filter::dn(template, user);
                    if !client.bind(&dn, password).await? {
                        return Ok(None);
                    }
                    self.at(&mut client, &dn, user).await?
                }
                None => {
                    self.serve(&mut client).await?;
                    let Some(found) = self.search(&mut client, user).await? else { return Ok(None) };
                    if !client.bind(&found.dn, password).await? {
                        return Ok(None);
                    }
                    Some(found)
                }
            };
            client.end().await;
            Ok(found.filter(|f| !f.disabled))
        })
        .await
    }

    /// What is known of these users; nothing of those who are not there.
    pub(super) async fn look(self, users: &[String]) -> Result<Vec<Option<Found>>, DirectoryError> {
        self.in_time(async |mut client: Client| {
            self.serve(&mut client).await?;
            let mut all = Vec::new();
            for user in users {
                let found = match &self.source.user_dn {
                    _ if !may_be(user) => None,
                    Some(template) => self.at(&mut client, &filter::dn(template, user), user).await?,
                    None => self.search(&mut client, user).await?,
                };
                all.push(found);
            }
            client.end().await;
            Ok(all)
        })
        .await
    }

    /// Connects to the first server that can be, and asks there.
    async fn in_time<T>(
        self,
        ask: impl AsyncFnOnce(Client) -> Result<T, Trouble>,
    ) -> Result<T, DirectoryError> {
        let asked = async {
            let mut reasons = Vec::new();
            for url in &self.source.servers {
                match tokio::time::timeout(CONNECT, Client::connect(url, self.source)).await {
                    Ok(Ok(client)) => {
                        return ask(client).await.map_err(|trouble| match trouble {
                            Trouble::Client(e) => DirectoryError::Unreachable(format!("{url}: {e}")),
                            Trouble::Directory(e) => e,
                        });
                    }
                    Ok(Err(e)) => reasons.push(format!("{url}: {e}")),
                    Err(_) => reasons.push(format!("{url}: no connection within {} s", CONNECT.as_secs())),
                }
            }
            Err(DirectoryError::Unreachable(reasons.join("; ")))
        };
        let late = || DirectoryError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Becomes the service account, where there is one.
    async fn serve(self, client: &mut Client) -> Result<(), Trouble> {
        let Some(dn) = &self.source.bind_dn else { return Ok(()) };
        let password = self.secret.filter(|s| !s.is_empty()).ok_or(DirectoryError::Service)?;
        if client.bind(dn, password).await? { Ok(()) } else { Err(DirectoryError::Service.into()) }
    }

    fn attributes(self) -> [&'static str; 6] {
        ["entryUUID", "objectGUID", "memberOf", "userAccountControl", "pwdAccountLockedTime", "nsAccountLock"]
    }

    async fn search(self, client: &mut Client, user: &str) -> Result<Option<Found>, Trouble> {
        let filter = by_filter("user_filter", &self.source.user_filter, user, "")?;
        self.found(client, &self.source.base_dn, Depth::Subtree, filter, user).await
    }

    /// The user with this distinguished name.
    async fn at(self, client: &mut Client, dn: &str, user: &str) -> Result<Option<Found>, Trouble> {
        let filter = by_filter("user_dn", "(objectClass=*)", "", "")?;
        self.found(client, dn, Depth::Base, filter, user).await
    }

    async fn found(
        self,
        client: &mut Client,
        base: &str,
        depth: Depth,
        filter: Vec<u8>,
        user: &str,
    ) -> Result<Option<Found>, Trouble> {
        let mut attributes = self.attributes().to_vec();
        attributes.extend([self.source.user_attribute.as_str(), self.source.name_attribute.as_str()]);
        let search = Search { base, depth, filter, attributes: &attributes, most: 1, seconds: SECONDS };
        let (mut found, more) = client.search(&search).await?;
        if more {
            return Err(DirectoryError::Ambiguous(user.to_owned()).into());
        }
        let Some(entry) = found.pop() else { return Ok(None) };
        let groups = self.groups(client, &entry, user).await?;
        Ok(Some(self.person(&entry, groups, user)))
    }

    /// Distinguished names of the groups of a user.
    async fn groups(self, client: &mut Client, entry: &Entry, user: &str) -> Result<Vec<String>, Trouble> {
        let Some(template) = &self.source.group_filter else {
            let texts = entry.all("memberOf").filter_map(|v| std::str::from_utf8(v).ok());
            return Ok(texts.map(str::to_owned).collect());
        };
        let filter = by_filter("group_filter", template, user, &entry.dn)?;
        let base = self.source.group_base_dn.as_deref().unwrap_or(&self.source.base_dn);
        // No attribute at all (RFC 4511, 4.5.1.8).
        let search = Search {
            base,
            depth: Depth::Subtree,
            filter,
            attributes: &["1.1"],
            most: MAX_GROUPS,
            seconds: SECONDS,
        };
        let (found, _) = client.search(&search).await?;
        Ok(found.into_iter().map(|e| e.dn).collect())
    }

    fn person(self, entry: &Entry, groups: Vec<String>, user: &str) -> Found {
        // What stays when someone is renamed or moved; their distinguished name where the directory has nothing better.
        let subject = entry
            .text("entryUUID")
            .map(|id| format!("uuid:{}", id.to_ascii_lowercase()))
            .or_else(|| entry.all("objectGUID").next().map(|id| format!("guid:{}", hex::encode(id))))
            .unwrap_or_else(|| format!("dn:{}", entry.dn.to_lowercase()));
        let control = entry.text("userAccountControl").and_then(|c| c.parse::<i64>().ok()).unwrap_or(0);
        let disabled = control & i64::from(ACCOUNT_DISABLED) != 0
            || entry.text("nsAccountLock").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            // For good (draft-behera-ldap-password-policy, 5.3.3).
            || entry.text("pwdAccountLockedTime").is_some_and(|v| v == "000001010000Z");
        Found {
            dn: entry.dn.clone(),
            person: Person {
                subject,
                name: entry.text(&self.source.user_attribute).unwrap_or_else(|| user.to_owned()),
                full_name: entry.text(&self.source.name_attribute).unwrap_or_default(),
                groups,
            },
            disabled,
        }
    }
}

/// What can go wrong while a server is asked.
enum Trouble {
    Client(ClientError),
    Directory(DirectoryError),
}

impl From<ClientError> for Trouble {
    fn from(e: ClientError) -> Self {
        Self::Client(e)
    }
}

impl From<DirectoryError> for Trouble {
    fn from(e: DirectoryError) -> Self {
        Self::Directory(e)
    }
}
