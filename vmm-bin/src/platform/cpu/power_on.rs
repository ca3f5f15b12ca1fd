//! A vCPU's state at power-on: what KVM gave it when it was made, and over that what firmware and
//! the boot protocol prescribe.

use kvm_ioctls::VcpuFd;
use vcpu::kvm::KvmState;

use super::BootState;
use crate::platform::layout::PAGE;
use kvm_bindings::{
    KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, kvm_lapic_state,
    kvm_mp_state,
};

const IA32_TSC: u32 = 0x10;
const IA32_MISC_ENABLE: u32 = 0x1a0;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
/// Fast string operations, as firmware leaves them.
const FAST_STRINGS: u64 = 1;
/// MTRRs enabled, write-back by default, as firmware leaves them.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;
/// KVM takes 0 for "in step with the other vCPUs, whatever they are at"; 1 is as good as 0.
const TSC_START: u64 = 1;

/// The memory type range registers, which KVM's list of MSRs to save leaves out.
const MTRRS: [std::ops::RangeInclusive<u32>; 5] = [
    0x200..=0x20f,
    0x250..=0x250,
    0x258..=0x259,
    0x268..=0x26f,
    0x2ff..=0x2ff,
];

/// The local APIC's pins in its register page, and what firmware sets them to: LINT0 takes the
/// PIC's interrupts, LINT1 the NMI (Intel SDM volume 3, section 11.5.1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const MODE_EXTINT: u32 = 7 << 8;
const MODE_NMI: u32 = 4 << 8;

/// The MSRs of a vCPU's state: those that KVM lists, and the memory types.
pub(crate) fn state_msrs(listed: &[u32]) -> Vec<u32> {
    let mut msrs = listed.to_vec();
    msrs.extend(MTRRS.into_iter().flatten());
    msrs.sort_unstable();
    msrs.dedup();
    msrs
}

/// Makes a new vCPU's state the one that power-on and every reset give it. `first` is the vCPU
/// that boots; the others wait for its start-up IPI.
pub(crate) fn power_on(state: &mut KvmState, boot: &BootState, first: bool) {
    if first {
        boot.apply(&mut state.regs, &mut state.sregs);
    }
    let mp_state = if first {
        KVM_MP_STATE_RUNNABLE
    } else {
        KVM_MP_STATE_UNINITIALIZED
    };
    state.mp_state = Some(kvm_mp_state { mp_state });
    for msr in &mut state.msrs {
        match msr.index {
            IA32_TSC => msr.data = TSC_START,
            IA32_MISC_ENABLE if boot.replaces_firmware() => msr.data |= FAST_STRINGS,
            IA32_MTRR_DEF_TYPE if boot.replaces_firmware() => msr.data = MTRR_WRITE_BACK,
            _ => {}
        }
    }
    if let Some(lapic) = state.lapic.as_mut().filter(|_| boot.replaces_firmware()) {
        set_lint(lapic);
    }
}

/// Makes KVM rebuild a vCPU's view of guest memory. Called before the state of power-on is put back.
///
/// On AMD, KVM (seen in Linux 6.1) loses the root of the nested page tables when a guest that has
/// paging off shuts down by a triple fault, and the vCPU never gets to its first instruction again.
/// It finds the root when control registers change, and those of power-on may be what they are.
///
/// # Errors
/// What KVM says.
pub(crate) fn rebuild_mmu(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.cr3 ^= PAGE;
    vcpu.set_sregs(&sregs)
}

/// Sends a vCPU a non-maskable interrupt, unless it still waits for its start-up: there it would
/// stay pending and hit a processor that has no interrupt table yet.
///
/// # Errors
/// What KVM says.
pub(crate) fn inject_nmi(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    match vcpu.get_mp_state()?.mp_state {
        KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => Ok(()),
        _ => vcpu.nmi(),
    }
}

/// Sets the local APIC's pins as firmware does.
fn set_lint(lapic: &mut kvm_lapic_state) {
    for (register, mode) in [(LVT_LINT0, MODE_EXTINT), (LVT_LINT1, MODE_NMI)] {
        let bytes = mode.to_le_bytes();
        for (place, byte) in lapic.regs.iter_mut().skip(register).zip(bytes) {
            *place = byte.cast_signed();
        }
    }
}
