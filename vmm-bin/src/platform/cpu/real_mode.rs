//! The first vCPU where firmware hands it to a guest that wakes up: in real mode, at the guest's
//! waking vector.
//!
//! Source: ACPI 6.5, section 16.3.2 (the waking vector: CS is the address without its last digit,
//! IP that digit); Intel SDM volume 3, section 10.1.4 (segment registers after a reset).

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vcpu::kvm::KvmState;

/// Vectors that real mode reaches.
const REACH: std::ops::Range<u32> = 1..0x10_0000;

/// The registers of a vCPU that was reset and has executed nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealMode {
    regs: kvm_regs,
    sregs: kvm_sregs,
}

impl RealMode {
    /// From the state that KVM gives a new vCPU.
    pub(crate) fn of(fresh: &KvmState) -> Self {
        Self {
            regs: fresh.regs,
            sregs: fresh.sregs,
        }
    }

    /// The same vCPU at `vector`, guest-physical; `None` if real mode does not get there. 0 means
    /// that there is no vector.
    pub(crate) fn at(mut self, vector: u32) -> Option<Self> {
        if !REACH.contains(&vector) {
            return None;
        }
        self.regs.rip = u64::from(vector & 0xf);
        self.sregs.cs.base = u64::from(vector & !0xf);
        self.sregs.cs.selector = u16::try_from(vector >> 4).ok()?;
        Some(self)
    }

    /// Gives these registers to a vCPU that has been reset. On its thread.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn enter(&self, vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
        vcpu.set_sregs(&self.sregs)?;
        vcpu.set_regs(&self.regs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_split_where_the_specification_says() {
        let fresh = RealMode {
            regs: kvm_regs::default(),
            sregs: kvm_sregs::default(),
        };
        let entered = |vector| {
            let RealMode { regs, sregs } = fresh.at(vector)?;
            Some((sregs.cs.selector, sregs.cs.base, regs.rip))
        };
        assert_eq!(entered(0x9_a005), Some((0x9a00, 0x9_a000, 5)));
        assert_eq!(entered(1), Some((0, 0, 1)));
        assert_eq!(entered(0xf_ffff), Some((0xffff, 0xf_fff0, 0xf)));
        assert_eq!(entered(0), None, "no vector");
        assert_eq!(entered(0x10_0000), None, "out of reach");
        assert_eq!(entered(u32::MAX), None);
    }
}
