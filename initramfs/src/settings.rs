//! Where the host's settings come from: `/state/host.toml` on an installed host, an answer file on a live one.
//!
//! Answer files are looked for on the kernel command line, on a medium labelled `LQ-ANSWER`, and on the boot medium, in this
//! order; the first found is used, and a fault in it is an error, never a reason to look further.

use crate::{
    block::{self, Signs},
    cmdline::{BootArgs, Mode},
    error::{Doing, Error, Result},
    handover::MEDIUM,
    mounts,
    sys::sync_directory,
};
use base64::Engine as _;
use lq_api::{
    answer::{Answer, HostConfig, HostNetwork, MAX_BYTES},
    local::{layout, paths},
};
use nix::mount::MsFlags;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

/// Where the administrator's first password waits for `mgmtd`, readable by root alone.
pub const ADMIN_PASSWORD: &str = "/state/admin-password";
/// Where the daemon finds the join token of the answer file.
pub const JOIN_TOKEN: &str = "/state/join-token";

/// An answer file and where it was found.
#[derive(Debug)]
pub struct Found {
    /// Where, for people.
    pub place: String,
    /// Its content.
    pub answer: Answer,
}

/// Looks for an answer file as [`look`] does, again and again while a medium may still appear: for 15 s where one is needed,
/// for 5 s where a USB mass storage device is plugged in.
pub fn find_answer(args: &BootArgs) -> Result<Option<Found>> {
    let start = Instant::now();
    loop {
        if let Some(found) = look(args)? {
            return Ok(Some(found));
        }
        let patience = match args.mode {
            Mode::Install => 15,
            _ if usb_storage_is_plugged_in(Path::new("/sys")) => 5,
            _ => 0,
        };
        if start.elapsed().as_secs() >= patience {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Whether a USB device says that it is mass storage; its disk appears seconds later.
fn usb_storage_is_plugged_in(sys: &Path) -> bool {
    fs::read_dir(sys.join("bus/usb/devices"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|e| fs::read_to_string(e.path().join("bInterfaceClass")).is_ok_and(|c| c.trim() == "08"))
}

/// Looks for an answer file once. `Ok(None)`: there is none. A fault names every wrong field.
fn look(args: &BootArgs) -> Result<Option<Found>> {
    if let Some(text) = &args.answer {
        let place = format!("the kernel command line ({}=)", layout::cmdline::ANSWER);
        let text = decode(text).map_err(|e| Error::wrong(format!("the answer file on {place}: {e}")))?;
        return parse(place, &text).map(Some);
    }
    for node in block::scan(Path::new("/sys")).iter().filter(|d| d.size_bytes > 0).flat_map(|d| {
        std::iter::once(d.path()).chain(d.partitions.iter().map(block::Partition::path)).collect::<Vec<_>>()
    }) {
        let Ok(signs) = Signs::read(&node) else { continue };
        let (true, Some(kind)) = (signs.label.as_deref() == Some(layout::ANSWER_LABEL), signs.mount_type)
        else {
            continue;
        };
        let target = "/run/limiquantix/answer";
        let flags = MsFlags::MS_RDONLY | mounts::PLAIN;
        // A journal is not replayed: the medium is not ours to write to.
        mounts::mount_at(&node, target, kind, flags, if kind == "ext4" { "noload" } else { "" })?;
        let text = read_text(&Path::new(target).join(layout::ANSWER_FILE));
        let _ = mounts::unmount(target);
        let place = format!("{} (volume {})", node.display(), layout::ANSWER_LABEL);
        return parse(place, &text?).map(Some);
    }
    let path = Path::new(MEDIUM).join("lq").join(layout::ANSWER_FILE);
    if path.exists() {
        return parse("the boot medium (/lq/answer.toml)".into(), &read_text(&path)?).map(Some);
    }
    Ok(None)
}

/// Decodes the URL-safe Base64 of an answer file; padding is forgiven.
pub fn decode(text: &str) -> std::result::Result<String, String> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|e| format!("is not URL-safe Base64: {e}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

fn read_text(path: &Path) -> Result<String> {
    let doing = || format!("read the answer file {}", path.display());
    let file = File::open(path).doing(doing)?;
    let mut text = String::new();
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).doing(doing)?;
    Ok(text)
}

fn parse(place: String, text: &str) -> Result<Found> {
    match Answer::parse(text) {
        Ok(answer) => Ok(Found { place, answer }),
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(|e| format!("\n  {e}")).collect();
            Err(Error::wrong(format!("the answer file on {place} is wrong:{}", lines.concat())))
        }
    }
}

/// The settings of an installed host. A file that cannot be read is a warning and the defaults, so that the host can be reached.
pub fn read_host_config(warnings: &mut Vec<String>) -> HostConfig {
    let text = match fs::read_to_string(paths::STATE_HOST) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return HostConfig::default(),
        Err(e) => {
            warnings.push(format!("{} cannot be read ({e}); the host uses DHCP", paths::STATE_HOST));
            return HostConfig::default();
        }
    };
    toml::from_str(&text).unwrap_or_else(|e| {
        warnings.push(format!("{} is damaged ({}); the host uses DHCP", paths::STATE_HOST, e.message()));
        HostConfig::default()
    })
}

/// Writes the settings of an answer file into a state directory, durably.
pub fn write_state(state: &Path, answer: &Answer) -> Result<()> {
    let name = |path: &str| Path::new(path).file_name().map(|n| state.join(n)).unwrap_or_default();
    let host =
        toml::to_string(&answer.host).map_err(|e| Error::wrong(format!("write the host's settings: {e}")))?;
    write_durably(&name(paths::STATE_HOST), host.as_bytes(), 0o644)?;
    if let Some(admin) = &answer.admin {
        write_durably(&name(ADMIN_PASSWORD), admin.password.as_bytes(), 0o600)?;
    }
    if let Some(cluster) = &answer.cluster {
        write_durably(&name(JOIN_TOKEN), cluster.join.trim().as_bytes(), 0o600)?;
    }
    sync_directory(state).doing(|| format!("write {}", state.display()))
}

/// Writes other settings of the management network into the file of the host's settings, whole or not at all. `known` stands
/// in where there is no such file or it is damaged.
pub fn keep_network(path: &Path, known: &HostConfig, network: &HostNetwork) -> Result<()> {
    let mut host = match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).unwrap_or_else(|_| known.clone()),
        // A name made from the hardware is not written down.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => HostConfig { name: None, ..known.clone() },
        Err(e) => return Err(e).doing(|| format!("read {}", path.display())),
    };
    host.network = network.clone();
    let text = toml::to_string(&host).map_err(|e| Error::wrong(format!("write the host's settings: {e}")))?;
    let new = path.with_extension("new");
    write_durably(&new, text.as_bytes(), 0o644)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::rename(&new, path).and_then(|()| sync_directory(dir)).doing(|| format!("write {}", path.display()))
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .doing(|| format!("write {}", path.display()))
}

/// The host's name: from its settings, else from its hardware address.
pub fn host_name(config: &HostConfig, mac: Option<[u8; 6]>) -> String {
    match (&config.name, mac) {
        (Some(name), _) => name.clone(),
        (None, Some([.., a, b, c])) => format!("lq-{a:02x}{b:02x}{c:02x}"),
        (None, None) => "limiquantix".into(),
    }
}

/// The error of an answer file that was expected and is missing.
pub fn no_answer() -> Error {
    Error::wrong(format!(
        "no answer file was found. Put one on a medium with the label {} as /{}, or on the kernel command line as {}=<Base64>",
        layout::ANSWER_LABEL,
        layout::ANSWER_FILE,
        layout::cmdline::ANSWER
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_on_the_command_line_is_decoded() {
        let text = "version = 1\n[host]\nname = \"a\"\n";
        let code = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        assert_eq!(decode(&code).unwrap(), text);
        assert_eq!(decode(&format!("{code}==")).unwrap(), text);
        assert!(decode("a b").is_err());
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let error = parse("x".into(), "version = 3\n[install]\ndisk = \"sda\"\n").unwrap_err().to_string();
        assert!(
            error.contains("on x is wrong") && error.contains("version:") && error.contains("install.disk:"),
            "{error}"
        );
    }

    #[test]
    fn settings_survive_the_way_through_the_state_partition() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let text = "version = 1\n[host]\nname = \"n\"\n[host.network]\naddress = \"10.0.0.2/24\"\n\
                    [admin]\npassword = \"long enough\"\n\
                    [cluster]\njoin = \"lqj_abc\"\n";
        let answer = Answer::parse(text).unwrap();
        write_state(dir.path(), &answer).unwrap();
        let host: HostConfig =
            toml::from_str(&fs::read_to_string(dir.path().join("host.toml")).unwrap()).unwrap();
        assert_eq!(host, answer.host);
        let mode = fs::metadata(dir.path().join("admin-password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_network_is_written_beside_the_other_settings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.toml");
        let known = HostConfig { name: Some("made".into()), ..HostConfig::default() };
        let network = HostNetwork { address: Some("10.0.0.2/24".into()), ..HostNetwork::default() };
        keep_network(&path, &known, &network).unwrap();
        let read = || toml::from_str::<HostConfig>(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read(), HostConfig { network: network.clone(), ..HostConfig::default() });
        fs::write(&path, "name = \"mine\"\n").unwrap();
        keep_network(&path, &known, &network).unwrap();
        assert_eq!(read(), HostConfig { name: Some("mine".into()), network, ..HostConfig::default() });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_host_without_a_name_is_named_by_its_hardware() {
        assert_eq!(host_name(&HostConfig::default(), Some([0x52, 0x54, 0, 0x12, 0x34, 0x56])), "lq-123456");
        assert_eq!(host_name(&HostConfig { name: Some("a".into()), ..HostConfig::default() }, None), "a");
    }
}
