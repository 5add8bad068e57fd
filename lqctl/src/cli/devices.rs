//! Devices of a machine as they are written on the command line: what it is, then its settings after commas,
//! `data,ro,bandwidth=50M/200M` or `default,mac=52:54:00:12:34:56,cable=out`. Pure: names are looked up elsewhere.

use crate::size;
use lq_api::{
    local::vmm::{IoLimits, Rate},
    vm::{Disk, Mac, Nic},
};
use std::str::FromStr;

/// How settings of a disk are written, for help and errors.
pub(crate) const DISK: &str = "VOLUME[,ro|rw][,bandwidth=SIZE[/BURST]|none][,ops=N[/BURST]|none]";
/// The same for an interface.
pub(crate) const NIC: &str = "NETWORK[,mac=ADDRESS][,cable=in|out][,receive=SIZE[/BURST]|none][,receive-ops=N|none]\
                              [,transmit=SIZE[/BURST]|none][,transmit-ops=N|none]";

/// A limit that is set (`Some(Some(_))`), taken away (`Some(None)`) or left as it is.
type NewRate = Option<Option<Rate>>;

/// A volume and what is said of it as a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskText {
    /// Name or id of the volume.
    pub(crate) volume: String,
    read_only: Option<bool>,
    bandwidth: NewRate,
    operations: NewRate,
}

impl FromStr for DiskText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (volume, settings) = head(text, DISK)?;
        let mut disk = Self { volume, read_only: None, bandwidth: None, operations: None };
        for (key, value) in settings {
            match (key, value) {
                ("ro", None) => disk.read_only = Some(true),
                ("rw", None) => disk.read_only = Some(false),
                ("bandwidth", Some(value)) => disk.bandwidth = Some(rate(value, bytes)?),
                ("ops", Some(value)) => disk.operations = Some(rate(value, number)?),
                _ => return Err(unknown(key, DISK)),
            }
        }
        Ok(disk)
    }
}

impl DiskText {
    /// Whether nothing is said but the volume.
    pub(crate) fn is_bare(&self) -> bool {
        self.read_only.is_none() && self.bandwidth.is_none() && self.operations.is_none()
    }
    /// What is said holds from now on; the rest stays.
    pub(crate) fn apply(&self, disk: &mut Disk) {
        disk.read_only = self.read_only.unwrap_or(disk.read_only);
        limit(&mut disk.limits, self.bandwidth, self.operations);
    }
}

/// An interface: its network, or for a change which one it is, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NicText {
    /// The network, or which interface.
    pub(crate) head: String,
    /// Another network, by name or id.
    pub(crate) network: Option<String>,
    mac: Option<Mac>,
    connected: Option<bool>,
    receive: (NewRate, NewRate),
    transmit: (NewRate, NewRate),
}

impl FromStr for NicText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (head, settings) = head(text, NIC)?;
        let mut nic = Self {
            head,
            network: None,
            mac: None,
            connected: None,
            receive: (None, None),
            transmit: (None, None),
        };
        for (key, value) in settings {
            match (key, value) {
                ("network", Some(value)) => nic.network = Some(value.to_owned()),
                ("mac", Some(value)) => nic.mac = Some(value.parse()?),
                ("cable", Some("in")) => nic.connected = Some(true),
                ("cable", Some("out")) => nic.connected = Some(false),
                ("receive", Some(value)) => nic.receive.0 = Some(rate(value, bytes)?),
                ("receive-ops", Some(value)) => nic.receive.1 = Some(rate(value, number)?),
                ("transmit", Some(value)) => nic.transmit.0 = Some(rate(value, bytes)?),
                ("transmit-ops", Some(value)) => nic.transmit.1 = Some(rate(value, number)?),
                _ => return Err(unknown(key, NIC)),
            }
        }
        Ok(nic)
    }
}

impl NicText {
    /// What is said holds from now on; the rest, and the network, stay.
    pub(crate) fn apply(&self, nic: &mut Nic) {
        nic.mac = self.mac.or(nic.mac);
        nic.connected = self.connected.unwrap_or(nic.connected);
        limit(&mut nic.limits.receive, self.receive.0, self.receive.1);
        limit(&mut nic.limits.transmit, self.transmit.0, self.transmit.1);
    }
}

/// `N=IMAGE`: the CD drive and what goes into it; `none` empties it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CdText {
    /// The drive, from 0.
    pub(crate) drive: usize,
    /// Name or id of the image.
    pub(crate) image: Option<String>,
}

impl FromStr for CdText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not DRIVE=IMAGE, e.g. 0=debian or 0=none");
        let (drive, image) = text.split_once('=').ok_or_else(wrong)?;
        let drive = drive.parse().map_err(|_| wrong())?;
        if image.is_empty() {
            return Err(wrong());
        }
        Ok(Self { drive, image: (image != "none").then(|| image.to_owned()) })
    }
}

fn limit(limits: &mut IoLimits, bandwidth: NewRate, operations: NewRate) {
    limits.bandwidth = bandwidth.unwrap_or(limits.bandwidth);
    limits.operations = operations.unwrap_or(limits.operations);
}

type Settings<'a> = Vec<(&'a str, Option<&'a str>)>;

fn head<'a>(text: &'a str, form: &str) -> Result<(String, Settings<'a>), String> {
    let mut parts = text.split(',');
    let head = parts.next().unwrap_or_default();
    if head.is_empty() || head.contains('=') {
        return Err(format!("`{text}` does not begin with a name: it is {form}"));
    }
    let settings = parts.map(|part| match part.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (part, None),
    });
    Ok((head.to_owned(), settings.collect()))
}

fn unknown(key: &str, form: &str) -> String {
    format!("`{key}` is not understood: it is {form}")
}

fn bytes(text: &str) -> Result<u64, String> {
    size::parse(text).map(lq_api::Bytes::get)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

/// `RATE[/BURST]` or `none`.
fn rate(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Option<Rate>, String> {
    if text == "none" {
        return Ok(None);
    }
    let (per_second, burst) = match text.split_once('/') {
        Some((rate, burst)) => (parse(rate)?, parse(burst)?),
        None => (parse(text)?, 0),
    };
    if per_second == 0 {
        return Err(format!(
            "`{text}`: a limit of nothing lets nothing through; `none` takes the limit away"
        ));
    }
    Ok(Some(Rate { per_second, burst }))
}

/// Limits as people read them: `50 MiB/s, 500 a second`.
pub(crate) fn limits_text(limits: &IoLimits) -> String {
    let bandwidth = limits.bandwidth.map(|r| format!("{}/s", lq_api::Bytes(r.per_second)));
    let operations = limits.operations.map(|r| format!("{} a second", r.per_second));
    bandwidth.into_iter().chain(operations).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{NetworkId, VolumeId};

    #[test]
    fn disks() {
        let mut disk = Disk::of(VolumeId::new());
        let text: DiskText = "data,ro,bandwidth=50M/200M,ops=500".parse().unwrap();
        text.apply(&mut disk);
        assert_eq!((text.volume.as_str(), disk.read_only), ("data", true));
        assert_eq!(disk.limits.bandwidth, Some(Rate { per_second: 50 << 20, burst: 200 << 20 }));
        assert_eq!(disk.limits.operations, Some(Rate { per_second: 500, burst: 0 }));
        assert_eq!(limits_text(&disk.limits), "50 MiB/s, 500 a second");
        "data,ops=none".parse::<DiskText>().unwrap().apply(&mut disk);
        assert!(disk.read_only && disk.limits.bandwidth.is_some() && disk.limits.operations.is_none());
        assert!("data".parse::<DiskText>().unwrap().is_bare());
        for bad in ["", ",ro", "ro=1", "data,x", "data,ro=1", "data,ops", "data,ops=0", "data,bandwidth=1/x"]
        {
            assert!(bad.parse::<DiskText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces() {
        let mut nic = Nic::on(NetworkId::new());
        let text: NicText = "1,network=lan,mac=52:54:00:00:00:01,cable=out,transmit=1M".parse().unwrap();
        text.apply(&mut nic);
        assert_eq!((text.head.as_str(), text.network.as_deref()), ("1", Some("lan")));
        assert_eq!((nic.connected, nic.mac), (false, Some(Mac([0x52, 0x54, 0, 0, 0, 1]))));
        assert_eq!(nic.limits.transmit.bandwidth, Some(Rate { per_second: 1 << 20, burst: 0 }));
        assert!(nic.limits.receive.is_none());
        "1,cable=in,transmit=none".parse::<NicText>().unwrap().apply(&mut nic);
        assert!(nic.connected && nic.limits.is_none() && nic.mac.is_some());
        for bad in ["lan,cable=loose", "lan,mac=x", "lan,speed=1", "lan,receive-ops=1M"] {
            assert!(bad.parse::<NicText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn drives() {
        assert_eq!("0=debian".parse(), Ok(CdText { drive: 0, image: Some("debian".into()) }));
        assert_eq!("1=none".parse(), Ok(CdText { drive: 1, image: None }));
        for bad in ["debian", "x=debian", "0="] {
            assert!(bad.parse::<CdText>().is_err(), "{bad}");
        }
    }
}
