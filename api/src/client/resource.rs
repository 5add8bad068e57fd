//! What all kinds of object have in common: a place in the API, an id, most of them a name.

use super::{Client, Error};
use crate::{
    AlertId, ChannelId, GroupId, HostId, ImageId, NetworkId, PoolId, ProviderId, RoleId, SessionId, TaskId,
    TokenId, UserId, VmId, VolumeId,
    access::{Group, Role, User},
    alert::Alert,
    auth::{SessionInfo, Token},
    channel::Channel,
    host::Host,
    image::Image,
    list::{ListQuery, Page},
    network::Network,
    pool::Pool,
    problem::Kind,
    provider::Provider,
    task::Task,
    vm::Vm,
    volume::Volume,
};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use std::{fmt::Display, str::FromStr};

/// A kind of object of the API.
pub trait Resource: DeserializeOwned {
    /// Its id.
    type Id: Copy + Display + FromStr + PartialEq;
    /// Its place: `/api/v1/<PATH>`.
    const PATH: &'static str;
    /// What people call it.
    const KIND: &'static str;
    /// This object's id.
    fn id(&self) -> Self::Id;
    /// This object's name; the id stands in where a kind has no names.
    fn name(&self) -> String;
}

macro_rules! named {
    ($($type:ident, $id:ident, $path:literal, $kind:literal;)*) => {$(
        impl Resource for $type {
            type Id = $id;
            const PATH: &'static str = $path;
            const KIND: &'static str = $kind;
            fn id(&self) -> $id { self.meta.id }
            fn name(&self) -> String { self.meta.name.clone() }
        }
    )*};
}
named! {
    Host, HostId, "hosts", "host";
    Vm, VmId, "vms", "VM";
    Image, ImageId, "images", "image";
    Volume, VolumeId, "volumes", "volume";
    Network, NetworkId, "networks", "network";
    Pool, PoolId, "pools", "pool";
    User, UserId, "users", "user";
    Group, GroupId, "groups", "group";
    Role, RoleId, "roles", "role";
    Channel, ChannelId, "notification-channels", "notification channel";
    Provider, ProviderId, "identity-providers", "identity provider";
}

impl Resource for Token {
    type Id = TokenId;
    const PATH: &'static str = "tokens";
    const KIND: &'static str = "token";
    fn id(&self) -> TokenId {
        self.id
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Resource for SessionInfo {
    type Id = SessionId;
    const PATH: &'static str = "sessions";
    const KIND: &'static str = "session";
    fn id(&self) -> SessionId {
        self.id
    }
    fn name(&self) -> String {
        self.username.clone()
    }
}

impl Resource for Alert {
    type Id = AlertId;
    const PATH: &'static str = "alerts";
    const KIND: &'static str = "alert";
    fn id(&self) -> AlertId {
        self.id
    }
    fn name(&self) -> String {
        format!("{} about {}", self.rule, self.target_name)
    }
}

impl Resource for Task {
    type Id = TaskId;
    const PATH: &'static str = "tasks";
    const KIND: &'static str = "task";
    fn id(&self) -> TaskId {
        self.id
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Client {
    /// One page of a list.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn list<T: Resource>(&self, query: &ListQuery) -> Result<Page<T>, Error> {
        self.call_url(Method::GET, self.list_url(T::PATH, query)).await
    }

    /// All objects of a kind, page by page.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn all<T: Resource>(&self) -> Result<Vec<T>, Error> {
        self.all_where(&ListQuery::default()).await
    }

    /// All objects of a kind that match `query`, page by page.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn all_where<T: Resource>(&self, query: &ListQuery) -> Result<Vec<T>, Error> {
        Ok(self.all_at(query).await?.0)
    }

    /// The same, with the revision to [`watch`](Self::watch) on from: that of the first page, so that nothing is missed.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn all_at<T: Resource>(&self, query: &ListQuery) -> Result<(Vec<T>, u64), Error> {
        let mut query = query.clone();
        let mut items = Vec::new();
        let mut revision = None;
        loop {
            let page: Page<T> = self.list(&query).await?;
            items.extend(page.items);
            let first = *revision.get_or_insert(page.revision);
            match page.next_cursor {
                // A cursor that does not move would never end.
                Some(next) if query.cursor.as_ref() != Some(&next) => query.cursor = Some(next),
                _ => return Ok((items, first)),
            }
        }
    }

    /// One object by id.
    ///
    /// # Errors
    /// Any of [`Error`]; a [`Kind::NotFound`] problem where it does not exist.
    pub async fn get<T: Resource>(&self, id: T::Id) -> Result<T, Error> {
        self.call(Method::GET, &[T::PATH, &id.to_string()]).await
    }

    /// One object by id or, where none has this id, by name.
    ///
    /// # Errors
    /// [`Error::NoSuch`] where there is none, else any of [`Error`].
    pub async fn find<T: Resource>(&self, name_or_id: &str) -> Result<T, Error> {
        if let Ok(id) = name_or_id.parse::<T::Id>() {
            match self.get(id).await {
                Err(e) if e.is(Kind::NotFound) => {}
                other => return other,
            }
        }
        let query = ListQuery { name: Some(name_or_id.into()), ..ListQuery::default() };
        let items: Vec<T> = self.all_where(&query).await?;
        items
            .into_iter()
            .find(|item| item.name() == name_or_id)
            .ok_or_else(|| Error::NoSuch { kind: T::KIND, name: name_or_id.into() })
    }

    /// The same, with a revision to [`watch`](Self::watch) on from: changes of the object after this answer come later.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn find_at<T: Resource>(&self, name_or_id: &str) -> Result<(T, u64), Error> {
        let query = ListQuery { limit: Some(1), name: Some(name_or_id.into()), ..ListQuery::default() };
        let revision = self.list::<T>(&query).await?.revision;
        Ok((self.find(name_or_id).await?, revision))
    }

    pub(super) fn list_url(&self, path: &str, query: &ListQuery) -> Url {
        let mut url = self.endpoint(&[path]);
        let limit = query.limit.map(|n| n.to_string());
        for (key, value) in [
            ("limit", limit.as_ref()),
            ("cursor", query.cursor.as_ref()),
            ("name", query.name.as_ref()),
            ("label", query.label.as_ref()),
        ] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        url
    }
}
