//! The hardware PID 1 itself looks after: the watchdog, the power button, and new devices that want modules.

use crate::say;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    time::Duration,
};

/// Seconds without a pet after which the watchdog resets the machine.
const SECONDS: libc::c_int = 30;
/// The same where other hosts wait for it.
const CLOSE_SECONDS: libc::c_int = 5;
/// How often it is petted.
pub const PET_EVERY: Duration = Duration::from_secs(5);
/// The same where other hosts wait for it.
const PET_CLOSELY: Duration = Duration::from_secs(1);
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;

/// An armed watchdog. A crash of PID 1 leaves it armed, and the machine restarts.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    /// As its driver calls it.
    name: String,
    closely: bool,
}

impl Watchdog {
    /// Arms `/dev/watchdog0`, where there is one.
    pub fn arm() -> Option<Self> {
        let device = OpenOptions::new().write(true).open("/dev/watchdog0").ok()?;
        let name = fs::read_to_string("/sys/class/watchdog/watchdog0/identity").unwrap_or_default();
        let this = Self { device, name: name.trim().to_owned(), closely: false };
        this.set(SECONDS);
        Some(this)
    }

    fn set(&self, mut seconds: libc::c_int) {
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int. A driver that cannot do it keeps its own time.
        unsafe { libc::ioctl(self.device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) };
        say::info(&format!("watchdog armed: {}, {seconds} s", self.name));
    }

    /// Within five seconds, or half a minute. A software watchdog hangs together with the host, so that it gains nothing by
    /// being quick, and keeps its time.
    pub fn watch(&mut self, closely: bool) {
        if self.closely == closely || self.name.to_lowercase().contains("software") {
            return;
        }
        self.closely = closely;
        self.pet();
        self.set(if closely { CLOSE_SECONDS } else { SECONDS });
    }

    /// How often it wants to be petted.
    pub fn pet_every(&self) -> Duration {
        if self.closely { PET_CLOSELY } else { PET_EVERY }
    }

    /// Says that all is well.
    pub fn pet(&mut self) {
        let _ = self.device.write_all(b"\0");
    }

    /// Disarms it, for an orderly end.
    pub fn disarm(mut self) {
        let _ = self.device.write_all(b"V");
    }
}

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// `EVIOCGBIT(EV_KEY, 96)`.
const EVIOCGBIT_KEYS: libc::c_ulong = (2 << 30) | (96 << 16) | (0x45 << 8) | 0x21;

/// The power buttons among the input devices.
#[derive(Debug, Default)]
pub struct PowerButtons {
    buttons: Vec<(String, File)>,
}

impl PowerButtons {
    /// Looks for buttons that came, and lets go of those that went.
    pub fn rescan(&mut self) {
        self.buttons.retain(|(name, _)| Path::new("/dev/input").join(name).exists());
        for entry in fs::read_dir("/dev/input").into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with("event") || self.buttons.iter().any(|(n, _)| *n == name) {
                continue;
            }
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(entry.path());
            if let Ok(file) = opened
                && has_power_key(&file)
            {
                self.buttons.push((name, file));
            }
        }
    }

    /// The devices to wait for.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.buttons.iter().map(|(_, f)| f)
    }

    /// Reads all that came; tells whether a power button was pressed.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        for (_, file) in &mut self.buttons {
            let mut buffer = [0u8; 24 * 16];
            while let Ok(length) = file.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                pressed |= buffer.get(..length).unwrap_or_default().chunks_exact(24).any(is_power_press);
            }
        }
        pressed
    }
}

/// Whether an `input_event` (16 bytes of time, then type, code, value) is the press of a power button.
fn is_power_press(event: &[u8]) -> bool {
    let word = |at: usize| event.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    word(16) == Some(EV_KEY) && word(18) == Some(KEY_POWER) && word(20) == Some(1)
}

fn has_power_key(file: &File) -> bool {
    let mut bits = [0u8; 96];
    // SAFETY: EVIOCGBIT writes at most the 96 bytes encoded in the request.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), EVIOCGBIT_KEYS, bits.as_mut_ptr()) };
    rc > 0 && bits.get(usize::from(KEY_POWER / 8)).is_some_and(|b| b & (1 << (KEY_POWER % 8)) != 0)
}

/// The kernel's announcements of devices.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Opens the stream; `None` where the kernel refuses.
    pub fn open() -> Option<Self> {
        use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)
                .ok()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1)).ok()?;
        Some(Self { socket })
    }

    /// The socket to wait for.
    pub const fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Aliases of the devices that were added since the last call.
    pub fn aliases(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut buffer = [0u8; 8192];
        while let Ok(length) = nix::sys::socket::recv(
            self.socket.as_raw_fd(),
            &mut buffer,
            nix::sys::socket::MsgFlags::MSG_DONTWAIT,
        ) {
            if length == 0 {
                break;
            }
            found.extend(added_alias(buffer.get(..length).unwrap_or_default()));
        }
        found
    }
}

/// The alias in an announcement `add@<path>\0KEY=value\0…`.
fn added_alias(event: &[u8]) -> Option<String> {
    let mut parts = event.split(|b| *b == 0);
    parts.next()?.strip_prefix(b"add@")?;
    let alias = parts.find_map(|p| p.strip_prefix(b"MODALIAS="))?;
    String::from_utf8(alias.to_vec()).ok().filter(|a| !a.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_of_the_power_button_is_seen_and_nothing_else() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0u8; 16];
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&code.to_le_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes
        };
        assert!(is_power_press(&event(1, 116, 1)));
        assert!(!is_power_press(&event(1, 116, 0)));
        assert!(!is_power_press(&event(1, 30, 1)));
        assert!(!is_power_press(&[]));
    }

    #[test]
    fn the_alias_of_an_added_device_is_found() {
        let add = b"add@/devices/x\0ACTION=add\0MODALIAS=usb:v1\0SEQNUM=1\0";
        assert_eq!(added_alias(add).as_deref(), Some("usb:v1"));
        assert_eq!(added_alias(b"remove@/devices/x\0MODALIAS=usb:v1\0"), None);
        assert_eq!(added_alias(b"add@/x\0ACTION=add\0"), None);
    }
}
