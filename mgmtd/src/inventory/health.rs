//! What disks say of their own health, asked through the kernel: NVMe's health log (NVM Express base specification, log page
//! 02h), SMART RETURN STATUS of ATA disks (ACS-4, 7.46) and the page of informational exceptions of SCSI disks (SPC-5, log page
//! 2Fh). A disk that says nothing is not known, never healthy.

use lq_api::host::DiskHealth;
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::Path,
};

/// `NVME_IOCTL_ADMIN_CMD`: `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const NVME_ADMIN: libc::c_ulong = 0xc048_4e41;
/// `SG_IO` of `scsi/sg.h`.
const SG_IO: libc::c_ulong = 0x2285;
/// Longest a disk may take, milliseconds.
const PATIENCE: u32 = 10_000;
/// Percentage of its life an NVMe disk may have used before it counts as worn.
const WORN: u8 = 100;

/// Every disk of this host by name, with what it says.
#[must_use]
pub fn disk_health() -> Vec<(String, DiskHealth)> {
    let disks = super::devices::disks(Path::new("/"));
    disks.into_iter().map(|disk| (disk.name.clone(), ask(&disk.name))).collect()
}

fn unknown(reason: impl Into<String>) -> DiskHealth {
    DiskHealth::Unknown { reason: reason.into() }
}

fn ask(name: &str) -> DiskHealth {
    let kind = if name.starts_with("nvme") {
        nvme
    } else if name.starts_with("sd") {
        let vendor = fs::read_to_string(format!("/sys/block/{name}/device/vendor")).unwrap_or_default();
        if vendor.trim() == "ATA" { ata } else { scsi }
    } else {
        return unknown("a disk of this kind tells nothing of its health");
    };
    let opened = File::open(format!("/dev/{name}"));
    match opened.and_then(|disk| kind(&disk)) {
        Ok(health) => health,
        Err(e) => unknown(format!("the disk does not answer the question: {e}")),
    }
}

/// `struct nvme_passthru_cmd` of `linux/nvme_ioctl.h`.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}
const _: () = assert!(size_of::<NvmeCommand>() == 72);

fn nvme(disk: &File) -> io::Result<DiskHealth> {
    const GET_LOG_PAGE: u8 = 0x02;
    const HEALTH: u32 = 0x02;
    let mut log = [0u8; 512];
    // The number of dwords less one, and the page.
    let cdw10 = (u32::try_from(log.len() / 4 - 1).unwrap_or_default() << 16) | HEALTH;
    let mut command = NvmeCommand {
        opcode: GET_LOG_PAGE,
        namespace: u32::MAX,
        address: log.as_mut_ptr() as u64,
        data_len: 512,
        cdw10,
        timeout_ms: PATIENCE,
        ..NvmeCommand::default()
    };
    // SAFETY: the command has the kernel's layout (asserted above); its buffer is ours alone, as long as it says, and outlives
    // the call.
    let status = unsafe { libc::ioctl(disk.as_raw_fd(), NVME_ADMIN as _, &raw mut command) };
    match status {
        0 => Ok(nvme_log(&log)),
        status if status < 0 => Err(io::Error::last_os_error()),
        status => Err(io::Error::other(format!("NVMe status {status:#x}"))),
    }
}

/// What the health log says: critical warning (byte 0), spare and its threshold (3, 4), percentage used (5).
fn nvme_log(log: &[u8; 512]) -> DiskHealth {
    const WARNINGS: [(u8, &str); 4] = [
        (0, "its spare blocks are used up"),
        (2, "its reliability is degraded by errors"),
        (3, "it takes no more writes"),
        (4, "its memory backup has failed"),
    ];
    let [warning, _, _, spare, threshold, used, ..] = *log;
    let said: Vec<_> =
        WARNINGS.iter().filter(|(bit, _)| warning >> bit & 1 == 1).map(|(_, text)| *text).collect();
    if !said.is_empty() {
        return DiskHealth::Failing { reason: said.join(", ") };
    }
    if threshold > 0 && spare < threshold {
        return DiskHealth::Failing { reason: format!("{spare} % of its spare blocks are left") };
    }
    if used >= WORN {
        return DiskHealth::Worn { reason: format!("{used} % of its life is used") };
    }
    DiskHealth::Healthy
}

/// `struct sg_io_hdr` of `scsi/sg.h`.
#[repr(C)]
struct SgHeader {
    interface: i32,
    direction: i32,
    command_len: u8,
    sense_len: u8,
    segments: u16,
    data_len: u32,
    data: *mut u8,
    command: *const u8,
    sense: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    user: *mut u8,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    left: i32,
    duration: u32,
    info: u32,
}
const _: () = assert!(size_of::<SgHeader>() == 88);

/// What a SCSI command left: its status and sense data.
struct Sensed {
    status: u8,
    sense: [u8; 64],
}

/// Sends a SCSI command; `data` is filled by the disk.
fn sg(disk: &File, command: &[u8], data: &mut [u8]) -> io::Result<Sensed> {
    const NONE: i32 = -1;
    const FROM_DISK: i32 = -3;
    let mut sense = [0u8; 64];
    let mut header = SgHeader {
        interface: i32::from(b'S'),
        direction: if data.is_empty() { NONE } else { FROM_DISK },
        command_len: u8::try_from(command.len()).map_err(io::Error::other)?,
        sense_len: 64,
        segments: 0,
        data_len: u32::try_from(data.len()).map_err(io::Error::other)?,
        data: data.as_mut_ptr(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout: PATIENCE,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        left: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header has the kernel's layout (asserted above); its three buffers are as long as it says and outlive the
    // call, and the kernel writes only to the two that are ours alone.
    let done = unsafe { libc::ioctl(disk.as_raw_fd(), SG_IO as _, &raw mut header) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    if header.host_status != 0 {
        return Err(io::Error::other(format!("the controller says {:#x}", header.host_status)));
    }
    Ok(Sensed { status: header.status, sense })
}

fn ata(disk: &File) -> io::Result<DiskHealth> {
    // ATA PASS-THROUGH (16) (SAT-4, 12.2.3): no data, registers back in the sense data; SMART, RETURN STATUS, its signature.
    const COMMAND: [u8; 16] = [0x85, 3 << 1, 0x20, 0, 0xda, 0, 0, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0xb0, 0];
    Ok(ata_status(&sg(disk, &COMMAND, &mut [])?.sense))
}

/// The registers in the sense data, in either form: the signature as it was sent is well, turned round it is not.
fn ata_status(sense: &[u8; 64]) -> DiskHealth {
    let registers = match sense[0] & 0x7f {
        // Descriptors; the one of ATA is 09h, its LBA(15:8) is byte 9 and LBA(23:16) byte 11.
        0x72 if sense[8] == 0x09 => (sense[8 + 9], sense[8 + 11]),
        0x70 => (sense[10], sense[11]),
        _ => return unknown("the disk does not say how it is (SMART is off, or its controller hides it)"),
    };
    match registers {
        (0x4f, 0xc2) => DiskHealth::Healthy,
        (0xf4, 0x2c) => DiskHealth::Failing { reason: "SMART says that it will fail soon".into() },
        _ => unknown("the disk does not say how it is (SMART is off, or its controller hides it)"),
    }
}

fn scsi(disk: &File) -> io::Result<DiskHealth> {
    // LOG SENSE, current values, page 2Fh.
    const COMMAND: [u8; 10] = [0x4d, 0, 0x6f, 0, 0, 0, 0, 0, 64, 0];
    let mut page = [0u8; 64];
    let sensed = sg(disk, &COMMAND, &mut page)?;
    Ok(if sensed.status == 0 { scsi_page(&page) } else { unknown("the disk keeps no record of its health") })
}

/// The first parameter of the page: additional sense code and qualifier.
fn scsi_page(page: &[u8; 64]) -> DiskHealth {
    let length = u16::from_be_bytes([page[2], page[3]]);
    if page[0] & 0x3f != 0x2f || length < 6 {
        return unknown("the disk keeps no record of its health");
    }
    match (page[8], page[9]) {
        (0, _) => DiskHealth::Healthy,
        (0x5d, qualifier) => {
            DiskHealth::Failing { reason: format!("it predicts its failure (5Dh/{qualifier:02X}h)") }
        }
        (code, qualifier) => DiskHealth::Worn { reason: format!("it warns ({code:02X}h/{qualifier:02X}h)") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_failing(health: &DiskHealth) -> bool {
        matches!(health, DiskHealth::Failing { .. })
    }
    fn is_unknown(health: &DiskHealth) -> bool {
        matches!(health, DiskHealth::Unknown { .. })
    }

    #[test]
    fn the_log_of_nvme_is_understood() {
        let log = |warning: u8, spare: u8, threshold: u8, used: u8| {
            let mut log = [0u8; 512];
            [log[0], log[3], log[4], log[5]] = [warning, spare, threshold, used];
            nvme_log(&log)
        };
        assert_eq!(log(0, 100, 10, 3), DiskHealth::Healthy);
        assert_eq!(log(0b10, 100, 10, 3), DiskHealth::Healthy, "too warm is not broken");
        for bit in [0, 2, 3, 4] {
            assert!(is_failing(&log(1 << bit, 100, 10, 3)));
        }
        assert!(is_failing(&log(0, 9, 10, 3)));
        assert!(matches!(log(0, 100, 10, 100), DiskHealth::Worn { .. }));
    }

    #[test]
    fn the_registers_of_ata_are_understood() {
        let described = |mid: u8, high: u8| {
            let mut sense = [0u8; 64];
            [sense[0], sense[7], sense[8], sense[9]] = [0x72, 14, 0x09, 0x0c];
            [sense[17], sense[19]] = [mid, high];
            ata_status(&sense)
        };
        assert_eq!(described(0x4f, 0xc2), DiskHealth::Healthy);
        assert!(is_failing(&described(0xf4, 0x2c)));
        assert!(is_unknown(&described(0, 0)));
        let mut fixed = [0u8; 64];
        [fixed[0], fixed[10], fixed[11]] = [0x70, 0x4f, 0xc2];
        assert_eq!(ata_status(&fixed), DiskHealth::Healthy);
        assert!(is_unknown(&ata_status(&[0; 64])), "nothing came back");
    }

    #[test]
    fn the_page_of_scsi_is_understood() {
        let page = |code: u8| {
            let mut page = [0u8; 64];
            [page[0], page[3], page[7], page[8]] = [0x2f, 8, 4, code];
            scsi_page(&page)
        };
        assert_eq!(page(0), DiskHealth::Healthy);
        assert!(is_failing(&page(0x5d)));
        assert!(matches!(page(0x0b), DiskHealth::Worn { .. }));
        assert!(is_unknown(&scsi_page(&[0; 64])));
    }

    #[test]
    fn what_says_nothing_is_not_known() {
        assert!(is_unknown(&ask("vda")) && is_unknown(&ask("nvme9n9")) && is_unknown(&ask("sdzz")));
    }
}
