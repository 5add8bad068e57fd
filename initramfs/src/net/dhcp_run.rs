//! `lq-init dhcp <interface> <host name>`: runs the DHCP client on an interface, for ever, as a process of its own.
//!
//! Owns the interface's address, default route and the resolver's configuration while it runs. Before there is an address it
//! speaks on the link (a packet socket); to renew it uses an ordinary UDP socket, which routes and resolves for it.

use super::{
    dhcp::{Action, Client, Lease},
    link, packet,
};
use crate::{
    error::{Doing, Error, Result, chain},
    say,
};
use dhcproto::{Decodable, Decoder, Encodable, v4::Message};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage,
        bind, recv, sendto, setsockopt, socket, sockopt,
    },
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// Runs until the interface is gone.
pub fn run(interface: &str, host_name: &str) -> Result<()> {
    let address = fs::read_to_string(format!("/sys/class/net/{interface}/address"))
        .doing(|| format!("read the hardware address of {interface}"))?;
    let mac: lq_api::vm::Mac = address.trim().parse().map_err(Error::Wrong)?;
    let start = Instant::now();
    let mut runner = Runner {
        interface,
        client: Client::new(mac.0, host_name, random_u32(), Duration::ZERO),
        udp: None,
        link: None,
        lease: None,
    };
    loop {
        let actions = runner.client.tick(start.elapsed());
        runner.carry_out(actions);
        runner.open_sockets();
        let wait = runner.client.deadline().saturating_sub(start.elapsed());
        if let Some(message) = runner.wait(wait)? {
            let actions = runner.client.receive(start.elapsed(), &message);
            runner.carry_out(actions);
        }
    }
}

fn random_u32() -> u32 {
    let mut bytes = [0u8; 4];
    // SAFETY: getrandom writes at most the length given.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 4 { u32::from_le_bytes(bytes) } else { std::process::id() }
}

struct Runner<'a> {
    interface: &'a str,
    client: Client,
    /// While renewing.
    udp: Option<UdpSocket>,
    /// While without an address.
    link: Option<OwnedFd>,
    lease: Option<Lease>,
}

impl Runner<'_> {
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            let done = match &action {
                Action::Broadcast(message) => self.broadcast(message),
                Action::Unicast(server, message) => self.unicast(*server, message),
                Action::Apply(lease) => self.apply(lease),
                Action::Release => {
                    say::warn("the DHCP lease ended; the host has no address");
                    self.lease = None;
                    link::set_address(self.interface, Ipv4Addr::UNSPECIFIED, 0)
                }
            };
            if let Err(e) = done {
                say::warn(&chain(&e));
            }
        }
    }

    /// Keeps open just the sockets the client's state needs, so that a bound client costs nothing.
    fn open_sockets(&mut self) {
        if !self.client.is_unconfigured() {
            self.link = None;
        }
        if self.client.asking_from().is_none() {
            self.udp = None;
        }
    }

    fn wait(&mut self, wait: Duration) -> Result<Option<Message>> {
        let millis = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
        let (link, udp) = (self.link.as_ref(), self.udp.as_ref());
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        fds.extend(link.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        fds.extend(udp.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(e) => return Err(e).doing(|| "wait for an answer".into()),
        }
        let mut buffer = [0u8; 2048];
        if let Some(socket) = link
            && let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
            && let Some(payload) = buffer.get(..length).and_then(packet::payload)
            && let Ok(message) = Message::decode(&mut Decoder::new(payload))
        {
            return Ok(Some(message));
        }
        if let Some(socket) = udp
            && let Ok(length) = socket.recv(&mut buffer)
            && let Some(bytes) = buffer.get(..length)
            && let Ok(message) = Message::decode(&mut Decoder::new(bytes))
        {
            return Ok(Some(message));
        }
        Ok(None)
    }

    fn broadcast(&mut self, message: &Message) -> Result<()> {
        if let Some(from) = self.client.asking_from() {
            return self.send_udp(from, Ipv4Addr::BROADCAST, message);
        }
        let index = nix::net::if_::if_nametoindex(self.interface)
            .doing(|| format!("look up the interface {}", self.interface))?;
        if self.link.is_none() {
            self.link = Some(link_socket(index)?);
        }
        let bytes = packet::broadcast(Ipv4Addr::UNSPECIFIED, &encode(message)?);
        if let Some(socket) = &self.link {
            sendto(socket.as_raw_fd(), &bytes, &link_address(index, [0xff; 6])?, MsgFlags::empty())
                .doing(|| format!("send a DHCP message on {}", self.interface))?;
        }
        Ok(())
    }

    fn unicast(&mut self, server: Ipv4Addr, message: &Message) -> Result<()> {
        match self.client.asking_from() {
            Some(from) => self.send_udp(from, server, message),
            None => Ok(()),
        }
    }

    fn send_udp(&mut self, from: Ipv4Addr, to: Ipv4Addr, message: &Message) -> Result<()> {
        let bytes = encode(message)?;
        if self.udp.is_none() {
            let socket = UdpSocket::bind(SocketAddrV4::new(from, packet::CLIENT_PORT))
                .and_then(|s| s.set_nonblocking(true).and_then(|()| s.set_broadcast(true)).map(|()| s))
                .doing(|| format!("open a socket on {from}"))?;
            setsockopt(&socket, sockopt::BindToDevice, &self.interface.into())
                .doing(|| format!("bind a socket to {}", self.interface))?;
            self.udp = Some(socket);
        }
        if let Some(socket) = &self.udp {
            socket
                .send_to(&bytes, SocketAddrV4::new(to, packet::SERVER_PORT))
                .doing(|| format!("send a DHCP message to {to}"))?;
        }
        Ok(())
    }

    fn apply(&mut self, lease: &Lease) -> Result<()> {
        let same = self.lease.as_ref().is_some_and(|old| {
            (old.address, old.prefix, old.gateway, &old.dns)
                == (lease.address, lease.prefix, lease.gateway, &lease.dns)
        });
        if same {
            return Ok(());
        }
        link::set_address(self.interface, lease.address, lease.prefix)?;
        say::info(&format!("address {}/{} on {} (DHCP)", lease.address, lease.prefix, self.interface));
        // An address is of use even without what follows; a failure is said, and tried again at the next renewal.
        let route = link::drop_default_routes(self.interface).and_then(|()| {
            lease.gateway.map_or(Ok(()), |gateway| link::set_default_route(self.interface, gateway))
        });
        let resolver = super::write_resolv_conf(
            std::path::Path::new(super::RESOLV_CONF),
            &lease.dns,
            lease.domain.as_deref(),
        );
        route.and(resolver)?;
        self.lease = Some(lease.clone());
        Ok(())
    }
}

fn encode(message: &Message) -> Result<Vec<u8>> {
    let mut bytes = message.to_vec().map_err(|e| Error::wrong(format!("encode a DHCP message: {e}")))?;
    // Some servers drop what is shorter than a BOOTP message.
    bytes.resize(bytes.len().max(300), 0);
    Ok(bytes)
}

/// A socket for IPv4 packets on one link, without link headers.
fn link_socket(index: u32) -> Result<OwnedFd> {
    let doing = || "open a packet socket (is the module af_packet loaded?)".to_owned();
    // Opened for no protocol, so that nothing arrives from other links before the bind.
    let fd = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None::<SockProtocol>,
    )
    .doing(doing)?;
    bind(fd.as_raw_fd(), &link_address(index, [0; 6])?).doing(doing)?;
    Ok(fd)
}

fn link_address(index: u32, mac: [u8; 6]) -> Result<LinkAddr> {
    let [a, b, c, d, e, f] = mac;
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(index).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    // SAFETY: the pointer is to a whole sockaddr_ll and the length is its size.
    let address = unsafe {
        SockaddrStorage::from_raw(
            (&raw const raw).cast(),
            Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t),
        )
    };
    address
        .as_ref()
        .and_then(SockaddrStorage::as_link_addr)
        .copied()
        .ok_or_else(|| Error::wrong("the address of a link could not be made"))
}
