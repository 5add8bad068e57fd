//! VFIO as the kernel offers it: container, groups, functions, and the mappings of BARs. `linux/vfio.h`, type 1 version 2.
//!
//! ```text
//!  container ── the IOMMU's map: guest-physical address ─▶ guest memory
//!    └ group ── opened by one program of the host at a time
//!        └ function ── regions (BARs, configuration), interrupts, reset
//! ```
//! Dropped from below to above: a function that is closed is reset by the kernel, before its memory is taken away.

use super::{
    Backend, Error, Place, Signal, Windows, host,
    layout::{Area, PAGE, Region},
};
use crate::{machine::kvm::DeviceMemory, memory::Memory};
use kvm_ioctls::DeviceFd;
use lq_api::pci::PciAddress;
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, File},
    io,
    ops::Range,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::FileExt,
    },
    path::Path,
    ptr::null_mut,
    sync::Arc,
};
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_BASE, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE, VFIO_GROUP_FLAGS_VIABLE, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE, VFIO_TYPE1v2_IOMMU, vfio_device_info, vfio_group_status,
    vfio_iommu_type1_dma_map, vfio_region_info,
};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::EventFd;

const CONTAINER: &str = "/dev/vfio/vfio";
const fn request(number: u32) -> libc::c_ulong {
    (VFIO_TYPE as libc::c_ulong) << 8 | (VFIO_BASE + number) as libc::c_ulong
}
const GET_API_VERSION: libc::c_ulong = request(0);
const CHECK_EXTENSION: libc::c_ulong = request(1);
const SET_IOMMU: libc::c_ulong = request(2);
const GROUP_GET_STATUS: libc::c_ulong = request(3);
const GROUP_SET_CONTAINER: libc::c_ulong = request(4);
const GROUP_GET_DEVICE_FD: libc::c_ulong = request(6);
const DEVICE_GET_INFO: libc::c_ulong = request(7);
const DEVICE_GET_REGION_INFO: libc::c_ulong = request(8);
/// Of those after the monitor has locked itself in.
pub(crate) const DEVICE_SET_IRQS: libc::c_ulong = request(10);
/// As above.
pub(crate) const DEVICE_RESET: libc::c_ulong = request(11);
const IOMMU_MAP_DMA: libc::c_ulong = request(13);

/// Bytes of what the kernel says of a region, with all it adds.
const REGION_INFO: usize = 4096;
/// Bytes of a header in that.
const CAP_HEADER: usize = 8;

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Host { what: what.into(), source }
}

/// # Safety
/// `argument` is what the request of this number takes.
unsafe fn ioctl(file: &File, number: libc::c_ulong, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the caller's word.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number as _, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`ioctl`], with a structure the kernel reads and writes.
///
/// # Safety
/// The request takes a `T`, whose size it is told in `argsz` where it has one.
unsafe fn exchange<T>(file: &File, number: libc::c_ulong, argument: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's word; the structure is borrowed for the time of the call.
    unsafe { ioctl(file, number, std::ptr::from_mut(argument) as libc::c_ulong) }
}

/// The IOMMU's map of a machine.
struct Container {
    _file: File,
    /// What KVM knows of the groups, where it wants to.
    _known: DeviceFd,
    /// Mapped for as long as the container is open.
    _memory: Memory,
}

/// A group, open.
struct Group {
    file: File,
    _container: Arc<Container>,
}

/// A function, open.
pub(super) struct Device {
    file: File,
    /// BARs, and where each is in the file.
    bars: Vec<(Region, u64)>,
    config: (Region, u64),
    resets: bool,
    _group: Arc<Group>,
}

/// Opens functions, in this order, with all of `memory` theirs to write to.
pub(super) fn open(
    addresses: &[PciAddress],
    memory: &Memory,
    machine: &DeviceMemory,
) -> Result<Vec<Device>, Error> {
    let opened = |path: &Path| File::options().read(true).write(true).open(path);
    let container = opened(Path::new(CONTAINER))
        .map_err(failed(format!("open {CONTAINER}: are the modules vfio and vfio_iommu_type1 loaded")))?;
    // SAFETY: both take a number.
    let (version, type1) = unsafe {
        (ioctl(&container, GET_API_VERSION, 0), ioctl(&container, CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU.into()))
    };
    let version = version.map_err(failed("ask for the version of VFIO"))?;
    if version != VFIO_API_VERSION as libc::c_int || !type1.is_ok_and(|has| has > 0) {
        let lacks = io::Error::from(io::ErrorKind::Unsupported);
        return Err(failed("use VFIO: this kernel has no type 1 IOMMU, version 2")(lacks));
    }
    let mut groups = BTreeMap::new();
    for address in addresses {
        let number = group_of(*address).map_err(failed(format!("find the IOMMU group of {address}")))?;
        if groups.contains_key(&number) {
            continue;
        }
        let path = format!("/dev/vfio/{number}");
        let file = opened(Path::new(&path)).map_err(|source| {
            let busy = source.raw_os_error() == Some(libc::EBUSY);
            let why = if busy { ", the IOMMU group of {address}: another machine has it" } else { "" };
            failed(format!("open {path}{}", why.replace("{address}", &address.to_string())))(source)
        })?;
        let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
        // SAFETY: it takes this structure.
        unsafe { exchange(&file, GROUP_GET_STATUS, &mut status) }
            .map_err(failed(format!("ask for the state of {path}")))?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            let held = io::Error::from(io::ErrorKind::ResourceBusy);
            return Err(failed(format!(
                "use IOMMU group {number} of {address}: one of its functions is held by another driver of the host"
            ))(held));
        }
        let mut descriptor = container.as_raw_fd();
        // SAFETY: it takes a descriptor.
        unsafe { exchange(&file, GROUP_SET_CONTAINER, &mut descriptor) }
            .map_err(failed(format!("put IOMMU group {number} into the machine's container")))?;
        groups.insert(number, file);
    }
    // SAFETY: it takes a number.
    unsafe { ioctl(&container, SET_IOMMU, VFIO_TYPE1v2_IOMMU.into()) }.map_err(|source| {
        let why = match source.raw_os_error() {
            Some(libc::EPERM) => ": it cannot keep interrupts of functions apart (interrupt remapping), which would let a guest interrupt the host; switch that on in the host's firmware",
            _ => "",
        };
        failed(format!("use the host's IOMMU{why}"))(source)
    })?;
    map(&container, memory)?;
    let known = machine.know_groups(groups.values()).map_err(failed("tell KVM of the IOMMU groups"))?;
    let container = Arc::new(Container { _file: container, _known: known, _memory: memory.clone() });
    let groups: BTreeMap<_, _> = groups
        .into_iter()
        .map(|(number, file)| (number, Arc::new(Group { file, _container: Arc::clone(&container) })))
        .collect();
    let device = |address: &PciAddress| {
        let group = group_of(*address).ok().and_then(|number| groups.get(&number));
        let group = group.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        group
            .and_then(|group| Device::new(*address, Arc::clone(group)))
            .map_err(failed(format!("open the PCI function {address}")))
    };
    addresses.iter().map(device).collect()
}

fn group_of(address: PciAddress) -> io::Result<u32> {
    let link = fs::read_link(format!("{}/bus/pci/devices/{address}/iommu_group", host::SYSFS))?;
    let name = link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Pins all guest memory and lets the container's functions reach it, where the guest sees it.
fn map(container: &File, memory: &Memory) -> Result<(), Error> {
    for region in memory.iter() {
        let (base, size) = (region.start_addr().0, region.len());
        let address = region
            .get_host_address(MemoryRegionAddress(0))
            .map_err(|error| failed("find guest memory")(io::Error::other(error)))?;
        let mut map = vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
            flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: address as u64,
            iova: base,
            size,
        };
        // SAFETY: it takes this structure. The range is guest memory, which is only ever reached as volatile memory that others
        // write to as well; the container keeps it mapped here for as long as the functions can reach it.
        unsafe { exchange(container, IOMMU_MAP_DMA, &mut map) }.map_err(|source| {
            let why = match source.raw_os_error() {
                Some(libc::ENOMEM) => ": the host has not that much memory free, or does not let the monitor lock it (RLIMIT_MEMLOCK)",
                Some(libc::EINVAL) => ": the host's IOMMU does not reach these addresses, or keeps some of them for itself; give the machine less memory",
                _ => "",
            };
            failed(format!("give functions of the host {size} bytes of guest memory at {base:#x}{why}"))(source)
        })?;
    }
    Ok(())
}

impl Device {
    fn new(address: PciAddress, group: Arc<Group>) -> io::Result<Self> {
        let name = CString::new(address.to_string()).map_err(io::Error::other)?;
        // SAFETY: it takes a name that ends in zero; the descriptor is checked, new, and owned here alone.
        let file = unsafe {
            let fd = ioctl(&group.file, GROUP_GET_DEVICE_FD, name.as_ptr() as libc::c_ulong)?;
            File::from_raw_fd(fd)
        };
        let mut info = vfio_device_info { argsz: size_of::<vfio_device_info>() as u32, ..Default::default() };
        // SAFETY: it takes this structure.
        unsafe { exchange(&file, DEVICE_GET_INFO, &mut info) }?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 || info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX {
            return Err(io::Error::other("it is not a PCI function to VFIO"));
        }
        let bars = (0..6).map(|bar| region(&file, VFIO_PCI_BAR0_REGION_INDEX + bar));
        Ok(Self {
            bars: bars.collect::<io::Result<_>>()?,
            config: region(&file, VFIO_PCI_CONFIG_REGION_INDEX)?,
            resets: info.flags & VFIO_DEVICE_FLAGS_RESET != 0,
            file,
            _group: group,
        })
    }

    /// Maps areas of BARs, to be shown to the guest.
    pub(super) fn windows(&self, areas: &[Area], machine: &DeviceMemory) -> io::Result<Mapped> {
        let mut mapped = Mapped { windows: Vec::new(), machine: machine.clone() };
        for Area { bar, range } in areas {
            let (_, start) = self.bars.get(usize::from(*bar)).ok_or(io::ErrorKind::NotFound)?;
            let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let offset = libc::off_t::try_from(start + range.start).map_err(io::Error::other)?;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: makes a new mapping somewhere; nothing that exists is touched.
            let address = unsafe {
                libc::mmap(null_mut(), length, protection, libc::MAP_SHARED, self.file.as_raw_fd(), offset)
            };
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let slot = machine.slot();
            mapped.windows.push(Window { address: address as u64, length, slot, shown: false });
        }
        Ok(mapped)
    }

    fn at(&self, place: Place, offset: u64, length: usize) -> io::Result<u64> {
        let (region, start) = match place {
            Place::Bar(bar) => self.bars.get(usize::from(bar)).ok_or(io::ErrorKind::NotFound)?,
            Place::Config => &self.config,
        };
        let end = offset.checked_add(length as u64).filter(|end| *end <= region.size);
        end.map(|_| start + offset).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn set_irqs(&self, index: u32, first: u32, count: u32, events: &[i32]) -> io::Result<()> {
        let data = if count == 0 { VFIO_IRQ_SET_DATA_NONE } else { VFIO_IRQ_SET_DATA_EVENTFD };
        let bytes = 4 * (5 + events.len()) as u32;
        let mut words = vec![bytes, data | VFIO_IRQ_SET_ACTION_TRIGGER, index, first, count];
        words.extend(events.iter().map(|event| event.cast_unsigned()));
        // SAFETY: it takes a header of five words and as many descriptors as that says, all in `words`.
        let done = unsafe { ioctl(&self.file, DEVICE_SET_IRQS, words.as_ptr() as libc::c_ulong) }?;
        // It says how many vectors there are for the asking.
        if done > 0 {
            return Err(io::Error::other(format!("the host has only {done} interrupts left for it")));
        }
        Ok(())
    }
}

fn index(signal: Signal) -> u32 {
    match signal {
        Signal::Msi => VFIO_PCI_MSI_IRQ_INDEX,
        Signal::MsiX => VFIO_PCI_MSIX_IRQ_INDEX,
    }
}

/// What a region is like, and where it is in the function's file.
fn region(file: &File, index: u32) -> io::Result<(Region, u64)> {
    let mut words = [0_u64; REGION_INFO / 8];
    // SAFETY: the buffer is longer than the structure, aligned as it is, and any bytes are one.
    let info = unsafe { &mut *words.as_mut_ptr().cast::<vfio_region_info>() };
    *info = vfio_region_info { argsz: REGION_INFO as u32, index, ..Default::default() };
    // SAFETY: it takes this structure and writes `argsz` bytes at most.
    unsafe { exchange(file, DEVICE_GET_REGION_INFO, &mut words) }.or_else(|error| match error.kind() {
        // One that this function does not have.
        io::ErrorKind::InvalidInput => Ok(0),
        _ => Err(error),
    })?;
    // SAFETY: as above.
    let info = unsafe { *words.as_ptr().cast::<vfio_region_info>() };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut region = Region::mappable(info.size);
    if info.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        region.areas.clear();
    } else if info.flags & VFIO_REGION_INFO_FLAG_CAPS != 0
        && let Some(areas) = sparse(&bytes, info.cap_offset)
    {
        region.areas = areas;
    }
    Ok((region, info.offset))
}

/// The areas that can be mapped, where the kernel lists them.
fn sparse(bytes: &[u8], first: u32) -> Option<Vec<Range<u64>>> {
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let mut at = first as usize;
    // A list can hold no more than this.
    for _ in 0..bytes.len() / CAP_HEADER {
        if at == 0 {
            break;
        }
        if number(at, 2)? == u64::from(VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
            let count = usize::try_from(number(at + CAP_HEADER, 4)?).ok()?;
            let area = |i: usize| {
                let area = at + 2 * CAP_HEADER + 16 * i;
                let start = number(area, 8)?;
                Some(start..start.checked_add(number(area + 8, 8)?)?)
            };
            return (0..count).map(area).collect();
        }
        at = usize::try_from(number(at + 4, 4)?).ok()?;
    }
    None
}

impl Backend for Device {
    fn region(&self, place: Place) -> Region {
        match place {
            Place::Bar(bar) => self.bars.get(usize::from(bar)).map(|(region, _)| region.clone()),
            Place::Config => Some(self.config.0.clone()),
        }
        .unwrap_or_default()
    }

    fn read(&self, place: Place, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, self.at(place, offset, data.len())?)
    }

    fn write(&self, place: Place, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.at(place, offset, data.len())?)
    }

    fn connect(&self, signal: Signal, first: u16, events: &[Option<&EventFd>]) -> io::Result<()> {
        let events: Vec<_> = events.iter().map(|event| event.map_or(-1, AsRawFd::as_raw_fd)).collect();
        self.set_irqs(index(signal), first.into(), events.len() as u32, &events)
    }

    fn disconnect(&self, signal: Signal) -> io::Result<()> {
        self.set_irqs(index(signal), 0, 0, &[])
    }

    fn resets(&self) -> bool {
        self.resets
    }

    fn reset(&self) -> io::Result<()> {
        // SAFETY: it takes nothing.
        unsafe { ioctl(&self.file, DEVICE_RESET, 0) }.map(drop)
    }
}

struct Window {
    address: u64,
    length: usize,
    slot: u32,
    shown: bool,
}

/// Areas of BARs, mapped.
pub(super) struct Mapped {
    windows: Vec<Window>,
    machine: DeviceMemory,
}

impl Mapped {
    fn set(&mut self, index: usize, base: Option<u64>) -> io::Result<()> {
        let window = self.windows.get_mut(index).ok_or(io::ErrorKind::NotFound)?;
        let size = if base.is_some() { window.length as u64 } else { 0 };
        debug_assert!(base.unwrap_or(0).is_multiple_of(PAGE));
        // SAFETY: the mapping is as long as this says, of a device's memory that nothing of ours touches, and is unmapped only after
        // the slot is gone.
        unsafe { self.machine.set(window.slot, base.unwrap_or(0), size, window.address) }?;
        window.shown = base.is_some();
        Ok(())
    }
}

impl Windows for Mapped {
    fn show(&mut self, index: usize, base: u64) -> io::Result<()> {
        self.set(index, Some(base))
    }

    fn hide(&mut self, index: usize) -> io::Result<()> {
        self.set(index, None)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        for index in 0..self.windows.len() {
            let hidden = !self.windows[index].shown || self.set(index, None).is_ok();
            let window = &self.windows[index];
            // What the guest may still see stays mapped.
            if hidden {
                // SAFETY: exactly what was mapped; nothing refers to it any more.
                unsafe { libc::munmap(window.address as *mut libc::c_void, window.length) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_read_from_the_kernels_list() {
        let mut bytes = vec![0; 128];
        let header = |id: u16, next: u32| {
            let mut header = id.to_le_bytes().to_vec();
            header.extend(1_u16.to_le_bytes());
            header.extend(next.to_le_bytes());
            header
        };
        bytes[32..40].copy_from_slice(&header(3, 48));
        bytes[48..56].copy_from_slice(&header(1, 0));
        bytes[56..60].copy_from_slice(&2_u32.to_le_bytes());
        for (i, word) in [0_u64, 0x1000, 0x3000, 0x2000].into_iter().enumerate() {
            bytes[64 + 8 * i..72 + 8 * i].copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(sparse(&bytes, 32), Some(vec![0..0x1000, 0x3000..0x5000]));
        assert_eq!(sparse(&bytes, 0), None);
        assert_eq!(sparse(&bytes, 120), None, "beyond the end");
        bytes[36..40].copy_from_slice(&32_u32.to_le_bytes());
        assert_eq!(sparse(&bytes, 32), None, "a ring");
    }
}
