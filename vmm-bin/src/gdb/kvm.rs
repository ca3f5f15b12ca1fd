//! The vCPUs and the memory of a machine on KVM.

use std::rc::Rc;
use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_INJECT_DB,
    KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, KVM_MP_STATE_HALTED,
    KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, kvm_fpu,
    kvm_guest_debug, kvm_guest_debug_arch, kvm_sregs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use log::warn;
use vcpu::{VcpuId, VcpuSet};

use super::cpus::{Arming, CpuRegisters, Cpus, Exception, Unavailable};
use crate::platform::{Machine, Vcpu};

/// How long a vCPU may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bits of EFER and CR4: long mode is active; linear addresses have 57 bits.
const LMA: u64 = 1 << 10;
const LA57: u64 = 1 << 12;

/// A machine's vCPUs and memory.
#[derive(Debug, Clone)]
pub(super) struct KvmCpus(pub(super) Rc<Machine>);

impl KvmCpus {
    /// The set that they are in.
    pub(super) fn set(&self) -> &VcpuSet<Vcpu> {
        self.0.vcpus()
    }

    /// Asks KVM something about a vCPU, on its thread.
    fn ask<T: Send + 'static>(
        &self,
        cpu: u32,
        what: &'static str,
        question: impl FnOnce(&VcpuFd) -> Result<T, kvm_ioctls::Error> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let deadline = Instant::now().checked_add(PATIENCE);
        let asked = self.set().run_on(VcpuId(cpu), deadline, |vcpu: &mut Vcpu| {
            vcpu.kvm().map(|vcpu| question(vcpu.fd()))
        });
        match asked {
            Ok(Some(Ok(answer))) => Ok(answer),
            // The command line has no debugger for vCPUs that execute nothing.
            Ok(None) => Err(Unavailable),
            Ok(Some(Err(error))) => {
                warn!("gdb: KVM: cannot {what} of vCPU {cpu}: {error}");
                Err(Unavailable)
            }
            Err(error) => {
                warn!("gdb: {error}");
                Err(Unavailable)
            }
        }
    }
}

impl Cpus for KvmCpus {
    fn count(&self) -> u32 {
        u32::try_from(self.set().vcpus().len()).unwrap_or(u32::MAX)
    }

    fn registers(&self, cpu: u32) -> Result<CpuRegisters, Unavailable> {
        self.ask(cpu, "read the registers", |fd| {
            Ok(CpuRegisters {
                regs: fd.get_regs()?,
                sregs: fd.get_sregs()?,
                fpu: fpu(fd)?,
            })
        })
    }

    fn set_registers(&self, cpu: u32, registers: &CpuRegisters) -> Result<(), Unavailable> {
        let wanted = *registers;
        self.ask(cpu, "write the registers", move |fd| {
            fd.set_regs(&wanted.regs)?;
            if fpu(fd)? != wanted.fpu {
                fd.set_fpu(&wanted.fpu)?;
            }
            Ok(())
        })
    }

    fn translate(&self, cpu: u32, linear: u64) -> Option<u64> {
        let asked = self.ask(cpu, "translate an address", move |fd| {
            if !is_address(&fd.get_sregs()?, linear) {
                return Ok(None);
            }
            let found = fd.translate_gva(linear)?;
            Ok((found.valid != 0).then_some(found.physical_address))
        });
        asked.ok().flatten()
    }

    fn activity(&self, cpu: u32) -> &'static str {
        let asked = self.ask(cpu, "read the activity", VcpuFd::get_mp_state);
        match asked.map(|state| state.mp_state) {
            Ok(KVM_MP_STATE_RUNNABLE) => "running",
            Ok(KVM_MP_STATE_HALTED) => "halted",
            Ok(KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED) => "not started",
            _ => "unknown",
        }
    }

    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool {
        self.0.memory().read(physical, bytes).is_ok()
    }

    fn write(&self, physical: u64, bytes: &[u8]) -> bool {
        self.0.memory().write(physical, bytes).is_ok()
    }

    fn arm(
        &self,
        cpu: u32,
        arming: &Arming,
        exception: Option<Exception>,
    ) -> Result<(), Unavailable> {
        let mut debug = guest_debug(arming, exception);
        self.ask(cpu, "set the breakpoints", move |fd| {
            match fd.set_guest_debug(&debug) {
                // Before Linux 5.15 a step cannot keep interrupts out.
                Err(error)
                    if error.errno() == libc::EINVAL
                        && debug.control & KVM_GUESTDBG_BLOCKIRQ != 0 =>
                {
                    debug.control &= !KVM_GUESTDBG_BLOCKIRQ;
                    fd.set_guest_debug(&debug)
                }
                done => done,
            }
        })
    }
}

/// What KVM is asked to watch for. A step does not go into interrupt handlers, as QEMU's does not.
fn guest_debug(arming: &Arming, exception: Option<Exception>) -> kvm_guest_debug {
    let mut control = 0;
    let mut arch = kvm_guest_debug_arch::default();
    if arming.software {
        control |= KVM_GUESTDBG_USE_SW_BP;
    }
    if arming.step {
        control |= KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
    }
    if let Some(([zero, one, two, three], dr7)) = arming.hardware {
        control |= KVM_GUESTDBG_USE_HW_BP;
        arch.debugreg = [zero, one, two, three, 0, 0, 0, dr7];
    }
    control |= match exception {
        None => 0,
        Some(Exception::Debug) => KVM_GUESTDBG_INJECT_DB,
        Some(Exception::Breakpoint) => KVM_GUESTDBG_INJECT_BP,
    };
    if control != 0 {
        control |= KVM_GUESTDBG_ENABLE;
    }
    kvm_guest_debug {
        control,
        arch,
        ..kvm_guest_debug::default()
    }
}

/// Whether a linear address is one: KVM takes no notice of the bits that paging does not use.
fn is_address(sregs: &kvm_sregs, linear: u64) -> bool {
    if sregs.efer & LMA == 0 {
        return linear <= u32::MAX.into();
    }
    let unused = if sregs.cr4 & LA57 == 0 { 16 } else { 7 };
    let signed = linear.cast_signed();
    signed.wrapping_shl(unused).wrapping_shr(unused) == signed
}

/// Floating point and SSE registers. KVM_GET_FPU leaves MXCSR out, and XSAVE has it.
fn fpu(fd: &VcpuFd) -> Result<kvm_fpu, kvm_ioctls::Error> {
    const MXCSR: usize = 24 / 4;
    let mut fpu = fd.get_fpu()?;
    let xsave = fd.get_xsave().unwrap_or(kvm_xsave {
        region: [0; 1024],
        ..kvm_xsave::default()
    });
    fpu.mxcsr = xsave.region.get(MXCSR).copied().unwrap_or_default();
    Ok(fpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_canonical_are_none() {
        let mut sregs = kvm_sregs::default();
        let is = |sregs: &kvm_sregs, linear| is_address(sregs, linear);
        assert!(is(&sregs, 0xffff_ffff) && !is(&sregs, 0x1_0000_0000));
        sregs.efer = LMA;
        assert!(is(&sregs, 0x7fff_ffff_ffff) && is(&sregs, 0xffff_8000_0000_0000));
        assert!(!is(&sregs, 0x8000_0000_0000) && !is(&sregs, 0xffff_7fff_ffff_ffff));
        sregs.cr4 = LA57;
        assert!(is(&sregs, 0x8000_0000_0000) && !is(&sregs, 1 << 56));
    }

    #[test]
    fn a_vcpu_that_watches_for_nothing_is_not_debugged() {
        assert_eq!(guest_debug(&Arming::default(), None).control, 0);
        let watches = Arming {
            software: true,
            step: true,
            hardware: Some(([1, 2, 3, 4], 0x755)),
        };
        let debug = guest_debug(&watches, Some(Exception::Breakpoint));
        assert_eq!(debug.control, 0x1b_0003);
        assert_eq!(debug.arch.debugreg, [1, 2, 3, 4, 0, 0, 0, 0x755]);
    }
}
