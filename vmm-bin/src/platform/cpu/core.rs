//! A vCPU's registers for a core file.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;

/// What SWAPGS exchanges with the base of GS.
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The registers.
#[derive(Debug, Clone, Default)]
pub(crate) struct CoreRegisters {
    /// General registers.
    pub(crate) regs: kvm_regs,
    /// Segments, tables, control registers.
    pub(crate) sregs: kvm_sregs,
    /// 0 where the processor has none.
    pub(crate) kernel_gs_base: u64,
}

impl CoreRegisters {
    /// Reads the registers. On the vCPU's thread.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn read(vcpu: &VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        let entry = kvm_msr_entry {
            index: KERNEL_GS_BASE,
            ..Default::default()
        };
        let kernel_gs_base = Msrs::from_entries(&[entry]).ok().and_then(|mut msrs| {
            let read = vcpu.get_msrs(&mut msrs).ok()?;
            let first = msrs.as_slice().first().filter(|_| read == 1);
            first.map(|msr| msr.data)
        });
        Ok(Self {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            kernel_gs_base: kernel_gs_base.unwrap_or_default(),
        })
    }
}
