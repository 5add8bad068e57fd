//! Flags of the daemon, and what follows from them.

use crate::{auth::Clock, http::Rates, telemetry::logs::LogFormat};
use clap::Parser;
use lq_api::local::paths;
use std::{net::SocketAddr, path::PathBuf};

/// Port for the other hosts of the cluster.
pub const PEER_PORT: u16 = 7443;
/// Where a witness keeps what it has.
const WITNESS_STATE: &str = "/var/lib/limiquantix-witness";

/// The LimiQuantix management daemon.
#[derive(Clone, Debug, Parser)]
#[command(name = "mgmtd", version)]
pub struct Options {
    /// Addresses to serve HTTPS on; [::]:443 (both IPv4 and IPv6) where absent, 127.0.0.1:8443 with --simulated.
    #[arg(long, env = "LQ_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Address to serve the other hosts of the cluster on; [::]:7443 where absent. With --simulated it is the first address
    /// of --listen with the port 1000 higher. Port 0 is any, and the same as before where that is free.
    #[arg(long, env = "LQ_PEER_LISTEN")]
    pub peer_listen: Option<SocketAddr>,
    /// Address the other hosts reach this one at, where it is not one of its own.
    #[arg(long, env = "LQ_ADVERTISE")]
    pub advertise: Option<String>,
    /// Directory of identity, keys, log and snapshots; /state/mgmtd where absent, ./mgmtd-simulated with --simulated.
    #[arg(long, env = "LQ_STATE")]
    pub state: Option<PathBuf>,
    /// Directory of sockets and files that are gone at each boot; <state>/run with --simulated.
    #[arg(long, env = "LQ_RUN")]
    pub run: Option<PathBuf>,
    /// Directory of the pool `local`; <state>/pool with --simulated.
    #[arg(long, env = "LQ_POOL")]
    pub pool: Option<PathBuf>,
    /// Parent of the mounts of shared pools; with --simulated the directory that stands in for their servers, <state>/servers
    /// where absent.
    #[arg(long, env = "LQ_SHARED")]
    pub shared: Option<PathBuf>,
    /// Socket of PID 1, which owns the monitors.
    #[arg(long, env = "LQ_INIT_SOCKET", default_value = paths::INIT_SOCKET)]
    pub init_socket: PathBuf,
    /// What PID 1 learnt at boot.
    #[arg(long, env = "LQ_BOOT_FACTS", default_value = paths::BOOT_FACTS)]
    pub boot_facts: PathBuf,
    /// File with the first password of `admin`, left by the installer; read once and removed.
    #[arg(long, env = "LQ_ADMIN_PASSWORD_FILE")]
    pub admin_password_file: Option<PathBuf>,
    /// File with a join token, left by the installer; removed once the host has joined.
    #[arg(long, env = "LQ_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Port of multicast DNS, by which hosts that wait to be paired are found; 5353 where absent, none with --simulated.
    #[arg(long, env = "LQ_DISCOVERY_PORT", hide = true)]
    pub discovery_port: Option<u16>,
    /// Simulate the host: machines that only pretend to run, on any computer and without root.
    #[arg(long, env = "LQ_SIMULATED")]
    pub simulated: bool,
    /// Be a witness: a member on any Linux computer that votes and runs nothing, as the third of two hosts. It serves its page on
    /// [::]:8443 and keeps all it has in /var/lib/limiquantix-witness unless told otherwise.
    #[arg(long, env = "LQ_WITNESS", conflicts_with = "simulated")]
    pub witness: bool,
    /// With --simulated: so many more hosts in the cluster. They cannot be asked, as hosts that are away.
    #[arg(long, default_value_t = 0, requires = "simulated")]
    pub simulated_hosts: u32,
    /// With --simulated: so many machines spread over those hosts, a few of which change all the time.
    #[arg(long, default_value_t = 0, requires = "simulated")]
    pub simulated_vms: u32,
    /// What to log, e.g. `info` or `info,lq_mgmtd=debug`.
    #[arg(long, env = "LQ_LOG", default_value = "info,openraft=warn")]
    pub log: String,
    /// Form of the log.
    #[arg(long, env = "LQ_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// What the daemon is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to serve HTTPS on.
    pub listen: Vec<SocketAddr>,
    /// Address to serve the other hosts of the cluster on.
    pub peer_listen: SocketAddr,
    /// Address the other hosts reach this one at; made from its own where absent.
    pub advertise: Option<String>,
    /// Port of multicast DNS; where absent, hosts that wait are not found.
    pub discovery_port: Option<u16>,
    /// Directory of identity, keys, log and snapshots.
    pub state: PathBuf,
    /// The socket for root on this host.
    pub api_socket: PathBuf,
    /// Where the set-up code is shown to the console.
    pub setup_code: PathBuf,
    /// Where the certificate's fingerprint is shown to the console.
    pub fingerprint: PathBuf,
    /// Directory of the pool `local`.
    pub pool: PathBuf,
    /// Parent of the mounts of shared pools.
    pub shared: PathBuf,
    /// File with the first password.
    pub admin_password: PathBuf,
    /// File with a join token.
    pub join_token: PathBuf,
    /// The clock by which sessions and tokens end.
    pub clock: Clock,
    /// How many requests are answered.
    pub rates: Rates,
    /// The host it runs on.
    pub host: HostKind,
}

/// Real or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// A host of our own PID 1.
    Real {
        /// Its socket.
        init_socket: PathBuf,
        /// Its facts.
        boot_facts: PathBuf,
    },
    /// A computer of somebody else's, on which the daemon only votes.
    Witness,
    /// A simulation.
    Simulated {
        /// Hosts and machines besides what is made by hand.
        crowd: Crowd,
    },
}

/// Size of a simulated cluster around the one host that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Hosts.
    pub hosts: u32,
    /// Machines on them.
    pub vms: u32,
}

impl From<Options> for Config {
    fn from(o: Options) -> Self {
        let state = o.state.clone().unwrap_or_else(|| {
            PathBuf::from(match (o.simulated, o.witness) {
                (true, _) => "mgmtd-simulated",
                (_, true) => WITNESS_STATE,
                _ => paths::STATE_MGMTD,
            })
        });
        // Only an appliance has places of its own.
        let guest = o.simulated || o.witness;
        let beside = |real: &str, name: &str| if guest { state.join(name) } else { PathBuf::from(real) };
        let run = o.run.clone().unwrap_or_else(|| beside(paths::RUN, "run"));
        let listen = if o.listen.is_empty() {
            let default: (std::net::IpAddr, u16) = if o.simulated {
                (std::net::Ipv4Addr::LOCALHOST.into(), 8443)
            } else {
                (std::net::Ipv6Addr::UNSPECIFIED.into(), if o.witness { 8443 } else { 443 })
            };
            vec![default.into()]
        } else {
            o.listen
        };
        let peer_listen = o.peer_listen.unwrap_or_else(|| match listen.first() {
            Some(first) if o.simulated => {
                let port = first.port();
                let beside = port.checked_add(1000).unwrap_or(port.saturating_sub(1000));
                (first.ip(), if port == 0 { 0 } else { beside }).into()
            }
            _ => (std::net::Ipv6Addr::UNSPECIFIED, PEER_PORT).into(),
        });
        Self {
            listen,
            peer_listen,
            advertise: o.advertise,
            discovery_port: o.discovery_port.or((!o.simulated).then_some(crate::discovery::PORT)),
            api_socket: run.join("api.sock"),
            setup_code: run.join("setup-code"),
            fingerprint: run.join("fingerprint"),
            pool: o.pool.unwrap_or_else(|| beside(paths::DATA_POOL, "pool")),
            shared: o.shared.unwrap_or_else(|| beside(paths::POOLS, "servers")),
            admin_password: o
                .admin_password_file
                .unwrap_or_else(|| beside(&format!("{}/admin-password", paths::STATE), "admin-password")),
            join_token: o
                .join_token_file
                .unwrap_or_else(|| beside(&format!("{}/join-token", paths::STATE), "join-token")),
            clock: Clock::default(),
            rates: Rates::default(),
            host: match (o.simulated, o.witness) {
                (true, _) => {
                    HostKind::Simulated { crowd: Crowd { hosts: o.simulated_hosts, vms: o.simulated_vms } }
                }
                (_, true) => HostKind::Witness,
                _ => HostKind::Real { init_socket: o.init_socket, boot_facts: o.boot_facts },
            },
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_a_real_host_are_those_everyone_knows() {
        let config = Config::from(Options::parse_from(["mgmtd"]));
        assert_eq!(config.api_socket, PathBuf::from(paths::API_SOCKET));
        assert_eq!(config.setup_code, PathBuf::from(paths::SETUP_CODE));
        assert_eq!(config.state, PathBuf::from(paths::STATE_MGMTD));
        assert_eq!(config.pool, PathBuf::from(paths::DATA_POOL));
        assert_eq!(config.admin_password, PathBuf::from("/state/admin-password"));
        assert_eq!(config.listen, ["[::]:443".parse().unwrap()]);
        assert_eq!(config.peer_listen, "[::]:7443".parse().unwrap());
        assert_eq!(config.discovery_port, Some(5353));
        assert_eq!(config.join_token, PathBuf::from("/state/join-token"));
    }

    #[test]
    fn a_witness_keeps_to_its_directory() {
        let config = Config::from(Options::parse_from(["mgmtd", "--witness", "--state", "/srv/w"]));
        assert_eq!(config.host, HostKind::Witness);
        for place in
            [&config.api_socket, &config.pool, &config.shared, &config.join_token, &config.setup_code]
        {
            assert!(place.starts_with("/srv/w"), "{}", place.display());
        }
        assert_eq!(config.listen, ["[::]:8443".parse().unwrap()]);
        assert_eq!(config.peer_listen, "[::]:7443".parse().unwrap());
        assert!(Options::try_parse_from(["mgmtd", "--witness", "--simulated"]).is_err());
    }

    #[test]
    fn a_crowd_is_only_simulated() {
        assert!(Options::try_parse_from(["mgmtd", "--simulated-vms", "9"]).is_err());
        let config = Config::from(Options::parse_from(["mgmtd", "--simulated", "--simulated-vms", "9"]));
        assert_eq!(config.host, HostKind::Simulated { crowd: Crowd { hosts: 0, vms: 9 } });
    }

    #[test]
    fn a_simulation_stays_in_its_directory() {
        let config = Config::from(Options::parse_from(["mgmtd", "--simulated", "--state", "/x"]));
        let paths = [&config.api_socket, &config.setup_code, &config.pool, &config.shared];
        for path in paths.into_iter().chain([&config.admin_password]) {
            assert!(path.starts_with("/x"), "{}", path.display());
        }
        assert_eq!(config.listen, ["127.0.0.1:8443".parse().unwrap()]);
        assert_eq!(config.discovery_port, None);
        assert_eq!(config.peer_listen, "127.0.0.1:9443".parse().unwrap());
    }
}
