//! A computer that is no machine of its own: a network namespace of this one, plugged into a segment by a tap. Programs run in
//! it as on any Linux computer of that network; it has no other way out.
//!
//! Takes root, as [`available`] says.

use crate::{
    process,
    segment::{Segment, address},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket as StdUdpSocket},
    os::fd::{AsRawFd as _, RawFd},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, unix::AsyncFd},
    net::{TcpStream, UdpSocket, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    process::Command,
    task::JoinSet,
};

/// Largest frame of a tap.
const MAX_FRAME: usize = 65_536;
/// `TUNSETIFF`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// `IFF_TAP | IFF_NO_PI`.
const TAP: u16 = 0x1002;

/// Whether there may be such computers.
pub(crate) fn available() -> bool {
    // SAFETY: asks only.
    unsafe { libc::geteuid() == 0 }
}

/// The computer, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Computer {
    namespace: File,
    _cable: JoinSet<()>,
}

impl Computer {
    /// A computer at a place of a segment, with the address of that place.
    pub(crate) async fn plug_in(segment: &Segment, place: usize) -> Result<Self> {
        let (plug, _) = segment.plug(place)?;
        let (namespace, tap) = made(&address(place), plug.number)?;
        let stream = TcpStream::connect(("127.0.0.1", plug.port)).await.context("the segment's plug")?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        // SAFETY: the file is owned by what waits for it, and its descriptor stays the same until both are dropped.
        let tap = unsafe { AsyncFd::register(tap) }.context("waiting for the tap")?;
        let tap = Arc::new(tap);
        let mut cable = JoinSet::new();
        // A cable that ends is seen by whoever waits for what comes over it.
        let out = tap.clone();
        cable.spawn(async move { drop(to_segment(&out, writer).await) });
        cable.spawn(async move { drop(from_segment(&tap, reader).await) });
        Ok(Self { namespace, _cable: cable })
    }

    /// A command that runs on it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = process::command(program);
        let namespace = self.namespace.try_clone().context("the namespace")?;
        // SAFETY: between fork and exec only setns is called, which is a system call and allocates nothing.
        unsafe {
            command.pre_exec(move || enter(namespace.as_raw_fd()));
        }
        Ok(command)
    }

    /// A socket on it.
    pub(crate) fn udp(&self, port: u16) -> Result<UdpSocket> {
        let socket = inside(&self.namespace, || StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket).context("a socket on the computer")
    }
}

/// The namespace, and its tap.
fn made(address: &str, number: u8) -> Result<(File, File)> {
    let home = File::open("/proc/thread-self/ns/net").context("our own namespace")?;
    // SAFETY: makes this thread's network a new one; no memory is passed.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    ensure!(done == 0, "a network namespace: {}", io::Error::last_os_error());
    let made = furnish(address, number);
    // Nothing of ours may go on in there.
    enter(home.as_raw_fd()).context("back to our own namespace")?;
    made
}

/// Makes the tap in the namespace this thread is in, and gives it its address.
fn furnish(address: &str, number: u8) -> Result<(File, File)> {
    let namespace = File::open("/proc/thread-self/ns/net").context("the namespace")?;
    let tap = File::options().read(true).write(true).open("/dev/net/tun").context("opening /dev/net/tun")?;
    let mut request = [0u8; 40];
    if let Some(name) = request.get_mut(..4) {
        name.copy_from_slice(b"eth0");
    }
    if let Some(flags) = request.get_mut(16..18) {
        flags.copy_from_slice(&TAP.to_ne_bytes());
    }
    // SAFETY: TUNSETIFF reads and writes an `ifreq` of 40 bytes, which `request` is.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    ensure!(done == 0, "making a tap: {}", io::Error::last_os_error());
    // SAFETY: sets a flag of our own descriptor.
    let done = unsafe { libc::fcntl(tap.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    ensure!(done == 0, "a tap that does not block: {}", io::Error::last_os_error());
    let words = format!(
        "link set lo up\nlink set eth0 address 52:54:00:4c:51:{:02x}\nlink set eth0 up\n\
         address add {address}/24 dev eth0\nroute add default via 10.0.2.2\n",
        number + 1
    );
    // It is short, and inherits the namespace of this thread.
    let mut ip = std::process::Command::new("ip")
        .args(["-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .context("starting ip (Debian's iproute2)")?;
    ip.stdin.take().context("ip's input")?.write_all(words.as_bytes())?;
    let status = ip.wait()?;
    ensure!(status.success(), "ip: {status}");
    Ok((namespace, tap))
}

fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: takes a descriptor and a number.
    match unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does something with the network of the namespace.
fn inside<T>(namespace: &File, what: impl FnOnce() -> io::Result<T>) -> Result<T> {
    let home = File::open("/proc/thread-self/ns/net").context("our own namespace")?;
    enter(namespace.as_raw_fd()).context("entering the namespace")?;
    let done = what();
    enter(home.as_raw_fd()).context("back to our own namespace")?;
    Ok(done?)
}

async fn to_segment(tap: &AsyncFd<File>, mut writer: OwnedWriteHalf) -> Result<()> {
    let mut frame = vec![0; MAX_FRAME];
    loop {
        let mut ready = tap.readable().await?;
        let Ok(read) = ready.try_io(|tap| tap.get_ref().read(&mut frame)) else { continue };
        let frame = frame.get(..read?).context("a frame")?;
        writer.write_u32(u32::try_from(frame.len())?).await?;
        writer.write_all(frame).await?;
    }
}

async fn from_segment(tap: &AsyncFd<File>, mut reader: OwnedReadHalf) -> Result<()> {
    loop {
        let length = usize::try_from(reader.read_u32().await?)?;
        ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        reader.read_exact(&mut frame).await?;
        // What the tap does not take is lost, as in any network.
        let _ = tap.get_ref().write(&frame);
    }
}
