//! The words about networks.

use super::{Listing, NewMeta, Watching, label};
use clap::{Args, Subcommand};
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Every network.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One network.
    Show {
        /// Name or id.
        network: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Create a bridged network.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        dhcp: Dhcp,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Change a network.
    Update {
        /// Name or id.
        network: String,
        #[command(flatten)]
        meta: NewMeta,
        #[command(flatten)]
        dhcp: Dhcp,
        /// Give no addresses any more.
        #[arg(long, conflicts_with = "dhcp_subnet")]
        no_dhcp: bool,
    },
    /// Delete a network.
    Delete {
        /// Name or id.
        network: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// The network's own DHCP.
#[derive(Debug, Args)]
pub(crate) struct Dhcp {
    /// Give addresses of this subnet to guests, e.g. 192.168.1.0/24.
    #[arg(long, value_name = "SUBNET", requires_all = ["dhcp_first", "dhcp_last"])]
    pub(crate) dhcp_subnet: Option<String>,
    /// First address given.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_first: Option<Ipv4Addr>,
    /// Last address given.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_last: Option<Ipv4Addr>,
    /// Default gateway told to guests.
    #[arg(long, value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_gateway: Option<Ipv4Addr>,
    /// Name server told to guests; may be repeated.
    #[arg(long = "dhcp-dns", value_name = "ADDRESS", requires = "dhcp_subnet")]
    pub(crate) dhcp_dns: Vec<Ipv4Addr>,
    /// Seconds a lease lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) dhcp_lease: u32,
}
