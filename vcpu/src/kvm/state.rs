//! All registers of a KVM vCPU: read, written, in an order that KVM accepts.

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;

use super::KvmError;
use crate::sys;

/// KVM takes so many MSRs at a time.
const MSRS_AT_A_TIME: usize = 256;

/// The registers of one vCPU. CPUID is not among them: it is configuration, and set once.
///
/// What this KVM does not offer is `None`: the local APIC and the run state without an in-kernel interrupt controller, for two.
#[derive(Debug, Clone)]
pub struct KvmState {
    /// General purpose registers.
    pub regs: kvm_regs,
    /// Segment and control registers, and the APIC base.
    pub sregs: kvm_sregs,
    /// Floating point, for a KVM without XSAVE.
    pub fpu: Option<kvm_fpu>,
    /// Floating point and vectors, in XSAVE format: the first 4096 bytes, which is all without AMX.
    pub xsave: Option<Box<[u32; 1024]>>,
    /// Extended control registers.
    pub xcrs: Option<kvm_xcrs>,
    /// Debug registers.
    pub debug_regs: Option<kvm_debugregs>,
    /// The local APIC.
    pub lapic: Option<kvm_lapic_state>,
    /// The MSRs of the vCPU's list that KVM could read.
    pub msrs: Vec<kvm_msr_entry>,
    /// Those that it could not.
    pub absent_msrs: Vec<u32>,
    /// Runnable, halted, waiting for INIT or SIPI.
    pub mp_state: Option<kvm_mp_state>,
    /// Pending exceptions, interrupts, NMI, SMI.
    pub events: Option<kvm_vcpu_events>,
}

/// Reads everything. The vCPU must not be in the middle of an instruction: in `run_on` closures it is not.
pub(super) fn save(fd: &VcpuFd, msr_list: &[u32]) -> Result<KvmState, KvmError> {
    let xsave = fd.get_xsave().ok().map(|xsave| Box::new(xsave.region));
    let (msrs, absent_msrs) = get_msrs(fd, msr_list)?;
    Ok(KvmState {
        // KVM settles pending events when the run state is read: that comes first.
        mp_state: fd.get_mp_state().ok(),
        regs: fd.get_regs().map_err(KvmError::at("KVM_GET_REGS"))?,
        sregs: fd.get_sregs().map_err(KvmError::at("KVM_GET_SREGS"))?,
        fpu: if xsave.is_none() {
            fd.get_fpu().ok()
        } else {
            None
        },
        xsave,
        xcrs: fd.get_xcrs().ok(),
        debug_regs: fd.get_debug_regs().ok(),
        lapic: fd.get_lapic().ok(),
        msrs,
        absent_msrs,
        events: fd.get_vcpu_events().ok(),
    })
}

/// Writes everything. Gives the MSRs that KVM refused.
pub(super) fn restore(fd: &VcpuFd, state: &KvmState) -> Result<Vec<u32>, KvmError> {
    // The APIC base is in the segment registers: before the APIC. XCR0 says what XSAVE may hold: before it.
    // The APIC's mode says which MSRs it has (the TSC deadline): before them. Events last, for the others may queue some.
    fd.set_sregs(&state.sregs)
        .map_err(KvmError::at("KVM_SET_SREGS"))?;
    fd.set_regs(&state.regs)
        .map_err(KvmError::at("KVM_SET_REGS"))?;
    if let Some(xcrs) = &state.xcrs {
        fd.set_xcrs(xcrs).map_err(KvmError::at("KVM_SET_XCRS"))?;
    }
    if let Some(region) = state.xsave.as_deref() {
        let xsave = kvm_xsave {
            region: *region,
            ..Default::default()
        };
        sys::set_xsave(fd, &xsave).map_err(KvmError::at("KVM_SET_XSAVE"))?;
    }
    if let Some(fpu) = &state.fpu {
        fd.set_fpu(fpu).map_err(KvmError::at("KVM_SET_FPU"))?;
    }
    if let Some(lapic) = &state.lapic {
        fd.set_lapic(lapic).map_err(KvmError::at("KVM_SET_LAPIC"))?;
    }
    let refused = set_msrs(fd, &state.msrs)?;
    if let Some(mp_state) = state.mp_state {
        fd.set_mp_state(mp_state)
            .map_err(KvmError::at("KVM_SET_MP_STATE"))?;
    }
    if let Some(debug_regs) = &state.debug_regs {
        fd.set_debug_regs(debug_regs)
            .map_err(KvmError::at("KVM_SET_DEBUGREGS"))?;
    }
    if let Some(events) = &state.events {
        fd.set_vcpu_events(events)
            .map_err(KvmError::at("KVM_SET_VCPU_EVENTS"))?;
    }
    Ok(refused)
}

/// Reads the MSRs of `list`; one that cannot be read does not keep the others from being read.
fn get_msrs(fd: &VcpuFd, list: &[u32]) -> Result<(Vec<kvm_msr_entry>, Vec<u32>), KvmError> {
    let (mut read, mut absent) = (Vec::with_capacity(list.len()), Vec::new());
    let mut left = list;
    while !left.is_empty() {
        let entries: Vec<_> = left
            .iter()
            .take(MSRS_AT_A_TIME)
            .map(|&index| kvm_msr_entry {
                index,
                ..Default::default()
            })
            .collect();
        let mut msrs = Msrs::from_entries(&entries).map_err(|_| KvmError::MsrList)?;
        let done = fd
            .get_msrs(&mut msrs)
            .map_err(KvmError::at("KVM_GET_MSRS"))?;
        read.extend(msrs.as_slice().iter().take(done));
        // KVM stops before the first that it does not have.
        if let Some(failed) = entries.get(done) {
            absent.push(failed.index);
        }
        left = left
            .get(done.saturating_add(usize::from(done < entries.len()))..)
            .unwrap_or(&[]);
    }
    Ok((read, absent))
}

/// Writes `entries`; gives those that were refused, each alone.
fn set_msrs(fd: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<Vec<u32>, KvmError> {
    let mut refused = Vec::new();
    let mut left = entries;
    while !left.is_empty() {
        let some = left.get(..MSRS_AT_A_TIME).unwrap_or(left);
        let msrs = Msrs::from_entries(some).map_err(|_| KvmError::MsrList)?;
        let done = fd.set_msrs(&msrs).map_err(KvmError::at("KVM_SET_MSRS"))?;
        if let Some(failed) = some.get(done) {
            refused.push(failed.index);
        }
        left = left
            .get(done.saturating_add(usize::from(done < some.len()))..)
            .unwrap_or(&[]);
    }
    Ok(refused)
}
