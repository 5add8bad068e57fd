//! A virtual CPU while it stands still: everything of it that another one needs to go on in its place.
//!
//! Order matters twice. Saving: the run state first, because reading it settles what an INIT or SIPI under way does to the
//! rest. Loading: the leaves of CPUID before all, because they decide which registers exist; the special registers before
//! the local APIC, whose mode they hold; the counter before, and the deadline after everything its timer depends on; the
//! pending events last, because setting registers changes them.

use super::kvm::{Error, refused};
use crate::state::{Saved, description::Leaf};
use kvm_bindings::{
    CpuId, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// The state. KVM's structures are part of the kernel's interface and stay as they are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuState {
    cpuid: Vec<Leaf>,
    tsc_khz: Option<u32>,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
}

impl Saved for VcpuState {
    const KIND: &'static str = "vcpu";
}

/// What KVM offers beyond what every machine needs.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    tsc_khz: bool,
    tsc_scaling: bool,
}

impl Offers {
    /// Of this machine's KVM.
    #[must_use]
    pub fn new(vm: &VmFd) -> Self {
        Self { tsc_khz: vm.check_extension(Cap::GetTscKhz), tsc_scaling: vm.check_extension(Cap::TscControl) }
    }

    /// The counter of a machine can run at another speed than the host's.
    #[must_use]
    pub fn tsc_scaling(self) -> bool {
        self.tsc_scaling
    }

    /// Frequency of the vCPU's counter.
    #[must_use]
    pub fn tsc_khz(self, vcpu: &VcpuFd) -> Option<u32> {
        self.tsc_khz.then(|| vcpu.get_tsc_khz().ok()).flatten().filter(|khz| *khz != 0)
    }
}

impl VcpuState {
    /// Reads a vCPU that has the leaves `cpuid` and, besides the counter, the model-specific registers `indices`.
    pub fn read(vcpu: &VcpuFd, offers: Offers, cpuid: &CpuId, indices: &[u32]) -> Result<Self, Error> {
        let mp_state = vcpu.get_mp_state().map_err(refused("read a vCPU's run state"))?;
        let wanted: Vec<_> = [MSR_TSC].iter().chain(indices).copied().collect();
        Ok(Self {
            cpuid: cpuid.as_slice().iter().map(Leaf::from).collect(),
            tsc_khz: offers.tsc_khz(vcpu),
            mp_state,
            regs: vcpu.get_regs().map_err(refused("read registers"))?,
            sregs: vcpu.get_sregs().map_err(refused("read special registers"))?,
            xsave: vcpu.get_xsave().map_err(refused("read extended registers"))?,
            xcrs: vcpu.get_xcrs().map_err(refused("read extended control registers"))?,
            debug: vcpu.get_debug_regs().map_err(refused("read debug registers"))?,
            lapic: vcpu.get_lapic().map_err(refused("read a local APIC"))?,
            msrs: read_msrs(vcpu, &wanted)?,
            events: vcpu.get_vcpu_events().map_err(refused("read vCPU events"))?,
        })
    }

    /// Puts a vCPU that never ran into this state; returns its leaves.
    pub fn write(&self, vcpu: &VcpuFd, offers: Offers) -> Result<CpuId, Error> {
        let leaves: Vec<_> = self.cpuid.iter().map(kvm_cpuid_entry2::from).collect();
        let leaves =
            CpuId::from_entries(&leaves).map_err(|e| Error::Missing(format!("room for CPUID: {e}")))?;
        vcpu.set_cpuid2(&leaves).map_err(refused("set CPU features"))?;
        match self.tsc_khz {
            Some(khz) if offers.tsc_scaling && offers.tsc_khz(vcpu) != Some(khz) => {
                vcpu.set_tsc_khz(khz).map_err(refused("set the speed of the time stamp counter"))?;
            }
            _ => {}
        }
        vcpu.set_mp_state(self.mp_state).map_err(refused("set a vCPU's run state"))?;
        vcpu.set_sregs(&self.sregs).map_err(refused("set special registers"))?;
        vcpu.set_regs(&self.regs).map_err(refused("set registers"))?;
        vcpu.set_xcrs(&self.xcrs).map_err(refused("set extended control registers"))?;
        // SAFETY: no feature whose state is larger than the structure is ever enabled: leaves come from what KVM
        // supports without asking for more.
        unsafe { vcpu.set_xsave(&self.xsave) }.map_err(refused("set extended registers"))?;
        vcpu.set_debug_regs(&self.debug).map_err(refused("set debug registers"))?;
        let (deadline, others): (Vec<_>, Vec<_>) =
            self.msrs.iter().copied().partition(|(index, _)| *index == MSR_TSC_DEADLINE);
        write_msrs(vcpu, &others)?;
        vcpu.set_lapic(&self.lapic).map_err(refused("set a local APIC"))?;
        write_msrs(vcpu, &deadline)?;
        vcpu.set_vcpu_events(&self.events).map_err(refused("set vCPU events"))?;
        Ok(leaves)
    }
}

fn msrs(entries: &[(u32, u64)]) -> Result<Msrs, Error> {
    let entries: Vec<_> =
        entries.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
    Msrs::from_entries(&entries).map_err(|e| Error::Missing(format!("room for MSRs: {e}")))
}

/// Reads registers; those that do not exist are left out.
fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, Error> {
    let (mut rest, mut values) = (indices, Vec::with_capacity(indices.len()));
    while !rest.is_empty() {
        let mut list = msrs(&rest.iter().map(|index| (*index, 0)).collect::<Vec<_>>())?;
        let done = vcpu.get_msrs(&mut list).map_err(refused("read model-specific registers"))?;
        values.extend(list.as_slice().iter().take(done).map(|entry| (entry.index, entry.data)));
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(values)
}

/// Writes registers; one that KVM does not take is no fault where it has the value already.
fn write_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), Error> {
    let mut rest = values;
    while !rest.is_empty() {
        let done = vcpu.set_msrs(&msrs(rest)?).map_err(refused("set model-specific registers"))?;
        if let Some(&(index, value)) = rest.get(done)
            && read_msrs(vcpu, &[index])? != [(index, value)]
            && value != 0
        {
            return Err(Error::Missing(format!(
                "model-specific register {index:#x} with the value {value:#x}"
            )));
        }
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(())
}
