//! What a configuration may ask of QEMU: less than of our own monitor.

use lq_api::local::vmm::{BootConfig, DeviceModel, QemuConfig, Start, VmmConfig};

/// Serial number of the disk a guest sets itself up by, which is not booted from.
pub const SEED_SERIAL: &str = "cidata";
/// Most disks, but for the one a guest sets itself up by.
const MOST_DISKS: usize = 16;
/// Most interfaces.
const MOST_NICS: usize = 8;

/// What `lq-vmm qemu` does not do, each with the name of its field. Beside what is wrong for any monitor
/// ([`crate::config::faults`]).
#[must_use]
pub fn faults(config: &VmmConfig) -> Vec<String> {
    let Some(QemuConfig { machine, devices }) = config.qemu else {
        return vec!["qemu is missing: this machine is the monitor's own (`lq-vmm run`)".to_owned()];
    };
    let more = &config.devices;
    let disks = config.disks.iter().filter(|disk| disk.serial != SEED_SERIAL).count();
    let drives = more.cdroms.len() + if devices == DeviceModel::Legacy { config.disks.len() } else { 0 };
    let not_done = [
        (matches!(config.boot, BootConfig::Direct(_)), "boot is direct: a machine on QEMU boots by firmware"),
        (config.start != Start::Boot, "start: a machine on QEMU is neither restored nor moved"),
        (config.lease.is_some(), "lease: nothing makes QEMU stop writing at a deadline"),
        (more.balloon.is_some(), "devices.balloon: not on QEMU"),
        (more.vsock.is_some(), "devices.vsock: not on QEMU"),
        (more.memory.is_some(), "devices.memory: memory does not come and go on QEMU"),
        (more.cpus.is_some(), "devices.cpus: virtual CPUs do not come and go on QEMU"),
        (!more.vhost_user.is_empty(), "devices.vhost_user: not on QEMU"),
        (!more.passthrough.is_empty(), "devices.passthrough: functions of the host are not given to QEMU"),
        (more.hotplug.is_some(), "devices.hotplug: nothing is plugged on QEMU"),
        (
            config.nics.iter().any(|nic| !nic.limits.is_none()),
            "nics[].limits: QEMU does not limit interfaces",
        ),
    ];
    let mut faults: Vec<_> =
        not_done.into_iter().filter(|(is, _)| *is).map(|(_, fault)| fault.to_owned()).collect();
    if disks > MOST_DISKS {
        faults.push(format!("disks: {disks}, at most {MOST_DISKS} are possible"));
    }
    if config.nics.len() > MOST_NICS {
        faults.push(format!("nics: {}, at most {MOST_NICS} are possible", config.nics.len()));
    }
    if drives > machine.drives() {
        faults.push(format!(
            "disks and devices.cdroms: {drives} on the controller of {}, which has {} places",
            machine.name(),
            machine.drives()
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_is_not_done_is_told_at_once() {
        let config = |qemu: serde_json::Value| -> VmmConfig {
            serde_json::from_value(json!({
                "version": 1, "vm": "018f3a5e-0000-7000-8000-000000000001", "name": "old", "vcpus": 1,
                "memory_bytes": 256 << 20, "boot": {"direct": {"kernel": "/k"}}, "run_dir": "/run/vm", "start": "incoming",
                "disks": (0..17).map(|n| json!({"serial": format!("d{n}"), "image": {"path": "/d", "format": "raw"}})).collect::<Vec<_>>(),
                "nics": [{"tap": "t", "mac": "52:54:00:00:00:01", "limits": {"receive": {"bandwidth": {"per_second": 1}}}}],
                "lease": {"grant": {"epoch": 1, "until": {"remaining-ms": 5}}},
                "devices": {"balloon": {}, "vsock": {"cid": 3}, "memory": {"most_bytes": 128 << 20}, "cpus": {"most": 2}, "hotplug": {},
                    "vhost_user": [{"name": "n", "socket": "/s", "device": {"fs": {"tag": "t"}}}]},
                "qemu": qemu,
            }))
            .unwrap()
        };
        let told = faults(&config(json!({"machine": "pc-i440fx-7.2", "devices": "legacy"}))).join("\n");
        for field in [
            "boot is direct",
            "start:",
            "lease:",
            "devices.balloon",
            "devices.vsock",
            "devices.memory",
            "devices.cpus",
            "devices.vhost_user",
            "devices.hotplug",
            "nics[].limits",
            "disks: 17",
            "17 on the controller",
        ] {
            assert!(told.contains(field), "{field} missing in:\n{told}");
        }
        assert!(faults(&config(json!(null))).join("").contains("qemu is missing"));
    }
}
