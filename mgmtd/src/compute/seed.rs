//! The medium a guest sets itself up by: cloud-init's NoCloud files on a small FAT file system.
//!
//! Pure: the same machine has the same medium on every host, byte for byte, so that it can move. What it is called in
//! `meta-data` (its instance) changes with its data, so that a guest takes over new data at its next start, and with the machine.
//! <https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>

use fatfs::{Date, DateTime, FileSystem, FsOptions, Time};
use lq_api::{
    Bytes, VmId,
    cloud_init::{CloudInit, LABEL, MAX_TEXT},
};
use sha2::{Digest as _, Sha256};
use std::io::{self, Cursor, Write as _};

/// Size of the medium, whatever is on it: a machine that moves has disks of the same size.
const SIZE: u64 = Bytes::MIB;

// Two texts of the longest kind, a short one, and the tables of the file system.
const _: () = assert!(2 * MAX_TEXT as u64 + 64 * Bytes::KIB < SIZE);

/// Files are of no time, so that they are the same wherever and whenever they are made.
#[derive(Debug)]
struct NoTime;

impl fatfs::TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// The medium's bytes.
///
/// # Errors
/// The file system could not be written: never, on memory.
pub(super) fn medium(vm: VmId, name: &str, given: &CloudInit) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(SIZE).map_err(io::Error::other)?];
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(LABEL.bytes()) {
        *to = from;
    }
    // A number that tells media apart, of no use here.
    let options = fatfs::FormatVolumeOptions::new().volume_label(label).volume_id(0x4c51_0001);
    fatfs::format_volume(Cursor::new(bytes.as_mut_slice()), options)?;
    let options = FsOptions::new().time_provider(&NoTime);
    let system = FileSystem::new(Cursor::new(bytes.as_mut_slice()), options)?;
    let root = system.root_dir();
    let put = |file: &str, text: &str| {
        let mut file = root.create_file(file)?;
        file.write_all(text.as_bytes())?;
        file.flush()
    };
    put("meta-data", &meta_data(vm, name, given))?;
    // It has to be there, also where there is nothing in it.
    put("user-data", if given.user_data.is_empty() { "#cloud-config\n{}\n" } else { &given.user_data })?;
    if let Some(network) = &given.network_config {
        put("network-config", network)?;
    }
    drop(root);
    system.unmount()?;
    Ok(bytes)
}

fn meta_data(vm: VmId, name: &str, given: &CloudInit) -> String {
    let mut hash = Sha256::new();
    for text in [Some(&given.user_data), given.network_config.as_ref()].into_iter().flatten() {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    let of: String = hex::encode(hash.finalize()).chars().take(12).collect();
    // JSON is YAML, and what is in a name cannot get out of its string.
    let told = serde_json::json!({ "instance-id": format!("{vm}-{of}"), "local-hostname": name });
    format!("{told}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn read(medium: &[u8], file: &str) -> io::Result<String> {
        let system = FileSystem::new(Cursor::new(medium.to_vec()), FsOptions::new())?;
        assert_eq!(system.volume_label(), LABEL);
        let mut text = String::new();
        system.root_dir().open_file(file)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn given(user: &str, network: Option<&str>) -> CloudInit {
        CloudInit { user_data: user.into(), network_config: network.map(Into::into) }
    }

    #[test]
    fn it_holds_what_is_given_and_always_the_same() {
        let vm = VmId::new();
        let data = given("#cloud-config\nhostname: ä\n", Some("version: 2\n"));
        let bytes = medium(vm, "web-1", &data).unwrap();
        assert_eq!(bytes.len() as u64, SIZE);
        assert_eq!(read(&bytes, "user-data").unwrap(), data.user_data);
        assert_eq!(read(&bytes, "network-config").unwrap(), "version: 2\n");
        let meta: serde_json::Value = serde_json::from_str(&read(&bytes, "meta-data").unwrap()).unwrap();
        assert_eq!(meta["local-hostname"], "web-1");
        // Times in a FAT are of two seconds.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert!(medium(vm, "web-1", &data).unwrap() == bytes, "it differs");
        let bare = medium(vm, "web-1", &CloudInit::default()).unwrap();
        assert!(read(&bare, "user-data").unwrap().starts_with("#cloud-config"));
        assert!(read(&bare, "network-config").is_err());
    }

    #[test]
    fn another_instance_for_other_data_and_other_machines_only() {
        let (vm, data) = (VmId::new(), given("#!/bin/sh\n", None));
        let instance = |vm, name, data: &CloudInit| {
            let meta: serde_json::Value = serde_json::from_str(&meta_data(vm, name, data)).unwrap();
            meta["instance-id"].as_str().unwrap().to_owned()
        };
        let first = instance(vm, "a", &data);
        assert_eq!(instance(vm, "b", &data), first);
        assert_ne!(instance(vm, "a", &given("#!/bin/sh\ntrue\n", None)), first);
        assert_ne!(instance(vm, "a", &given("#!/bin/sh\n", Some("x"))), first);
        assert_ne!(instance(VmId::new(), "a", &data), first);
    }

    #[test]
    fn the_longest_texts_fit() {
        let long = format!("#!{}", "x".repeat(MAX_TEXT - 2));
        let bytes = medium(VmId::new(), &"n".repeat(63), &given(&long, Some(&long))).unwrap();
        assert_eq!(read(&bytes, "network-config").unwrap().len(), MAX_TEXT);
    }
}
