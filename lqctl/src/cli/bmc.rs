//! The words about the BMCs of hosts.

use clap::{Args, Subcommand};
use lq_api::{bmc::BmcProtocol, client::Fingerprint};

/// The BMC of a host: with it a lost host is proven to be off, and its protected machines are started elsewhere sooner.
#[derive(Debug, Subcommand)]
pub(crate) enum Bmc {
    /// How it is set, and what it said last.
    Show {
        /// Name or id of the host.
        host: String,
    },
    /// Set it. For Redfish, without a fingerprint, the certificate it presents is shown, and kept only if you say that it is the BMC's.
    Set(SetBmc),
    /// Ask it for the power of the host. Nothing is switched; the exit code is 1 where it does not answer as it should.
    Test {
        /// Name or id of the host.
        host: String,
    },
    /// Forget it.
    Clear {
        /// Name or id of the host.
        host: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// The settings of a BMC.
#[derive(Debug, Args)]
pub(crate) struct SetBmc {
    /// Name or id of the host.
    pub(crate) host: String,
    /// How it is spoken to: redfish, or ipmi (IPMI 2.0 over LAN) where it has no Redfish.
    #[arg(long, default_value = "redfish")]
    pub(crate) protocol: BmcProtocol,
    /// Its name or address, with a port where it is not 443, or 623 for IPMI.
    #[arg(long)]
    pub(crate) address: String,
    /// The user that may see and switch the power.
    #[arg(long)]
    pub(crate) user: String,
    /// The user's password, for IPMI at most 20 bytes. Better in the environment than on the command line.
    #[arg(long, env = "LQ_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// SHA-256 of the certificate it presents. Not for IPMI, which has none.
    #[arg(long)]
    pub(crate) certificate: Option<Fingerprint>,
    /// Which of its systems the host is, where it manages several. Not for IPMI.
    #[arg(long)]
    pub(crate) system: Option<String>,
}
