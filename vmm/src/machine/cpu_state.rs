//! State of one virtual CPU: as it is at power-on, and as a boot protocol wants it.
//!
//! The state at power-on is read once from the vCPU KVM has just made, and written back at every reset, so that a reset
//! leaves nothing of the old guest. The time stamp counter is the exception: it goes on, so that all CPUs keep agreeing.

use super::kvm::{Error, refused};
use crate::boot::Entry;
use kvm_bindings::{
    CpuId, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuFd};

const MSR_TSC: u32 = 0x10;
const MSR_APIC_BASE: u32 = 0x1b;
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEFAULT: u32 = 0x2ff;
/// Memory type ranges on, default write-back: as firmware leaves a machine without devices below RAM's end.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Segment types: code, execute and read; data, read and write; busy task.
const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const BUSY_TASK: u8 = 0xb;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const DELIVER_EXTERNAL: u32 = 7 << 8;
const DELIVER_NMI: u32 = 4 << 8;

/// Everything of a vCPU that a reset brings back.
pub struct PowerOn {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
}

impl PowerOn {
    /// Reads the state of a vCPU that has these `leaves` and never ran.
    pub fn read(kvm: &Kvm, vcpu: &VcpuFd, leaves: &CpuId) -> Result<Self, Error> {
        let mut xcrs = vcpu.get_xcrs().map_err(refused("read extended control registers"))?;
        enable_extended_states(&mut xcrs, leaves);
        Ok(Self {
            regs: vcpu.get_regs().map_err(refused("read registers"))?,
            sregs: vcpu.get_sregs().map_err(refused("read special registers"))?,
            fpu: vcpu.get_fpu().map_err(refused("read the floating point unit"))?,
            xcrs,
            debug: vcpu.get_debug_regs().map_err(refused("read debug registers"))?,
            events: vcpu.get_vcpu_events().map_err(refused("read vCPU events"))?,
            lapic: vcpu.get_lapic().map_err(refused("read a local APIC"))?,
            msrs: read_msrs(kvm, vcpu)?,
        })
    }

    /// Brings the vCPU back to power-on; the first one then begins at `entry`, the others wait to be woken by it.
    pub fn write(&self, vcpu: &VcpuFd, entry: Option<Entry>) -> Result<(), Error> {
        // The APIC's mode is part of the special registers and decides how its own state is read: it comes first.
        let at_reset = (self.regs, self.sregs);
        let (regs, sregs) = entry.and_then(|e| entry_state(e, &self.sregs)).unwrap_or(at_reset);
        vcpu.set_sregs(&sregs).map_err(refused("set special registers"))?;
        vcpu.set_regs(&regs).map_err(refused("set registers"))?;
        vcpu.set_fpu(&self.fpu).map_err(refused("set the floating point unit"))?;
        vcpu.set_xcrs(&self.xcrs).map_err(refused("set extended control registers"))?;
        vcpu.set_debug_regs(&self.debug).map_err(refused("set debug registers"))?;
        vcpu.set_vcpu_events(&self.events).map_err(refused("set vCPU events"))?;
        self.write_msrs(vcpu, entry)?;
        let mut lapic = self.lapic;
        if entry.is_some() {
            // As firmware leaves the boot processor's: old interrupts on one pin, NMI on the other.
            set_delivery(&mut lapic, LVT_LINT0, DELIVER_EXTERNAL);
            set_delivery(&mut lapic, LVT_LINT1, DELIVER_NMI);
        }
        vcpu.set_lapic(&lapic).map_err(refused("set a local APIC"))?;
        let mp_state = if entry.is_some() { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_UNINITIALIZED };
        vcpu.set_mp_state(kvm_mp_state { mp_state }).map_err(refused("set a vCPU's run state"))
    }

    /// The model-specific registers KVM saves and restores, besides the counter and what is part of others.
    #[must_use]
    pub fn msr_indices(&self) -> Vec<u32> {
        self.msrs.iter().map(|entry| entry.index).collect()
    }

    fn write_msrs(&self, vcpu: &VcpuFd, entry: Option<Entry>) -> Result<(), Error> {
        // Firmware sets memory types itself, on every CPU.
        let types = if entry == Some(Entry::Reset) { 0 } else { MTRR_WRITE_BACK };
        let changes = [(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING), (MSR_MTRR_DEFAULT, types)];
        let changed = |entry: &kvm_msr_entry| {
            let data = changes.iter().find(|c| c.0 == entry.index).map_or(entry.data, |c| c.1);
            kvm_msr_entry { data, ..*entry }
        };
        let wanted: Vec<_> = self.msrs.iter().map(changed).collect();
        let current = read_values(vcpu, &wanted)?;
        let differs = wanted.iter().zip(&current).filter(|(wanted, now)| wanted.data != now.data);
        for (entry, _) in differs {
            let one =
                Msrs::from_entries(&[*entry]).map_err(|e| Error::Missing(format!("room for MSRs: {e}")))?;
            let done = vcpu.set_msrs(&one).map_err(refused("set a model-specific register"))?;
            // Hardware-owned registers may refuse; those the boot protocols rely on may not.
            if done == 0 && changes.iter().any(|c| c.0 == entry.index) {
                eprintln!("lq-vmm: the host's KVM keeps model-specific register {:#x} as it is", entry.index);
            }
        }
        Ok(())
    }
}

/// Enables every state component the leaves offer, before the guest does it itself: without effect until it sets
/// CR4.OSXSAVE. Where XSETBV of a guest does not reach KVM (nested under an emulator), KVM would otherwise go on with the
/// x87 state alone, and the guest's SSE registers would be lost.
fn enable_extended_states(xcrs: &mut kvm_xcrs, leaves: &CpuId) {
    const XCR0: u32 = 0;
    let leaf = leaves.as_slice().iter().find(|leaf| leaf.function == 0xd && leaf.index == 0);
    let count = xcrs.nr_xcrs as usize;
    let xcr0 = xcrs.xcrs.iter_mut().take(count).find(|register| register.xcr == XCR0);
    if let (Some(leaf), Some(xcr0)) = (leaf, xcr0) {
        xcr0.value |= u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    }
}

/// Every register KVM saves and restores, except the counter that must go on and what `set_sregs` sets.
fn read_msrs(kvm: &Kvm, vcpu: &VcpuFd) -> Result<Vec<kvm_msr_entry>, Error> {
    let list = kvm.get_msr_index_list().map_err(refused("list model-specific registers"))?;
    let indices = list.as_slice().iter().filter(|i| !matches!(**i, MSR_TSC | MSR_APIC_BASE));
    let mut entries: Vec<_> = indices.map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
    if !entries.iter().any(|e| e.index == MSR_MTRR_DEFAULT) {
        entries.push(kvm_msr_entry { index: MSR_MTRR_DEFAULT, ..Default::default() });
    }
    read_values(vcpu, &entries)
}

/// Reads registers; those that cannot be read are left out.
fn read_values(vcpu: &VcpuFd, wanted: &[kvm_msr_entry]) -> Result<Vec<kvm_msr_entry>, Error> {
    let mut rest = wanted;
    let mut values = Vec::with_capacity(wanted.len());
    while !rest.is_empty() {
        let mut msrs = Msrs::from_entries(rest).map_err(|e| Error::Missing(format!("room for MSRs: {e}")))?;
        let done = vcpu.get_msrs(&mut msrs).map_err(refused("read model-specific registers"))?;
        values.extend(msrs.as_slice().iter().take(done));
        // The one it stopped at does not exist on this host.
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(values)
}

fn set_delivery(lapic: &mut kvm_lapic_state, register: usize, delivery: u32) {
    for (target, byte) in lapic.regs.iter_mut().skip(register).zip(delivery.to_le_bytes()) {
        *target = byte as _;
    }
}

fn segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        l: u8::from(long),
        db: u8::from(!long),
        g: 1,
        ..Default::default()
    }
}

/// Registers at a kernel's entry; none where they are those of power-on.
fn entry_state(entry: Entry, power_on: &kvm_sregs) -> Option<(kvm_regs, kvm_sregs)> {
    let mut regs = kvm_regs { rflags: 2, ..Default::default() };
    let mut sregs = *power_on;
    let long = match entry {
        Entry::Linux64 { rip, zero_page, page_tables } => {
            regs.rip = rip;
            regs.rsi = zero_page;
            sregs.cr3 = page_tables;
            sregs.cr4 = CR4_PAE;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.efer |= EFER_LME | EFER_LMA;
            true
        }
        Entry::Reset => return None,
        Entry::Pvh { rip, start_info } => {
            regs.rip = rip;
            regs.rbx = start_info;
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            false
        }
    };
    // Selectors as Linux's boot protocol names them. The descriptors are in the CPU already; kernels load their own
    // table before they load a segment again.
    sregs.cs = segment(0x10, CODE, long);
    let data = segment(0x18, DATA, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr =
        kvm_segment { limit: 0x67, selector: 0x20, type_: BUSY_TASK, present: 1, ..Default::default() };
    Some((regs, sregs))
}
