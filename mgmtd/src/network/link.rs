//! Links of the host, by rtnetlink.

use super::Error;
use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::AddressAttribute,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};
use std::net::{IpAddr, Ipv4Addr};
use tokio::task::JoinHandle;

/// A connection to the kernel's link table, of the network namespace of the thread that opened it.
pub struct Links {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What we ask of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Set to up.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// Hardware address, where it is an Ethernet one.
    pub mac: Option<[u8; 6]>,
}

impl Link {
    fn of(message: LinkMessage) -> Self {
        let mut link = Self {
            name: String::new(),
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            controller: None,
            mac: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
                _ => {}
            }
        }
        link
    }
}

impl Links {
    /// Opens a connection. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| Error::Kernel {
            context: "opening a netlink socket".into(),
            reason: e.to_string(),
        })?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// All links.
    pub async fn all(&self) -> Result<Vec<Link>, Error> {
        let links = self.handle.link().get().execute().map_ok(Link::of).try_collect();
        links.await.map_err(failed(|| "listing the network interfaces".into()))
    }

    /// The link of this name.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        Ok(self.all().await?.into_iter().find(|link| link.name == name))
    }

    async fn index(&self, name: &str) -> Result<u32, Error> {
        let missing = || Error::Host(format!("the network interface {name} does not exist"));
        Ok(self.find(name).await?.ok_or_else(missing)?.index)
    }

    /// Makes a bridge where there is none of this name, and sets it up. True where it was made.
    pub async fn ensure_bridge(&self, name: &str) -> Result<bool, Error> {
        let link = self.find(name).await?;
        if link.is_none() {
            let bridge = LinkBridge::new(name).up().build();
            let made = self.handle.link().add(bridge).execute().await;
            made.map_err(failed(|| format!("making the bridge {name}")))?;
        } else if link.as_ref().is_some_and(|link| !link.up) {
            self.up(name).await?;
        }
        Ok(link.is_none())
    }

    /// Sets a link up.
    pub async fn up(&self, name: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(self.index(name).await?).up().build();
        let done = self.handle.link().set(message).execute().await;
        done.map_err(failed(|| format!("setting {name} up")))
    }

    /// Makes a link a port of a bridge and sets it up.
    pub async fn attach(&self, name: &str, bridge: &str) -> Result<(), Error> {
        let (port, bridge_index) = (self.index(name).await?, self.index(bridge).await?);
        let message = LinkUnspec::new_with_index(port).controller(bridge_index).up().build();
        let done = self.handle.link().set(message).execute().await;
        done.map_err(failed(|| format!("attaching {name} to the bridge {bridge}")))
    }

    /// Removes a link. One that is not there is removed.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        let done = self.handle.link().del(link.index).execute().await;
        done.map_err(failed(|| format!("removing {name}")))
    }

    /// IPv4 addresses of the link with this index.
    pub async fn addresses(&self, index: u32) -> Result<Vec<Ipv4Addr>, Error> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Vec<_> = request.try_collect().await.map_err(failed(|| "listing addresses".into()))?;
        let of = |attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let v4 = messages
            .into_iter()
            .filter(|m| m.header.index == index && m.header.family == AddressFamily::Inet);
        Ok(v4.filter_map(|m| m.attributes.into_iter().find_map(of)).collect())
    }
}

fn failed(context: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> Error {
    |error| Error::Kernel { context: context(), reason: error.to_string() }
}
