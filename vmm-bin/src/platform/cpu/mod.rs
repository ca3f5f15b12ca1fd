//! The virtual processors' architectural state: what they are (CPUID), and how they are at
//! power-on and after every reset.
//!
//! ```text
//!   KVM's state of a new vCPU --power_on, with the Entry--> state of power-on and every reset
//! ```
//!
//! The state at power-on is not invented: it is what KVM gave the vCPU when it was made, read
//! back once. Only what the boot protocol prescribes for the first vCPU is put over it.
//!
//! The rule that must never be broken: a reset applies the whole state, in the order that KVM
//! needs, so that nothing of the life before shows through.

mod boot_state;
mod core;
mod cpuid;
mod dump;
mod hyperv;
mod power_on;
mod real_mode;

pub(crate) use self::boot_state::{BootState, write_boot_structures};
pub(crate) use self::core::CoreRegisters;
pub(crate) use self::cpuid::{for_cpu as cpuid_for, offer_tsc_deadline};
pub(crate) use self::dump::Dump;
pub(crate) use self::hyperv::{announce as announce_hyperv, crash_registers};
pub(crate) use self::power_on::{inject_nmi, power_on, rebuild_mmu, state_msrs};
pub(crate) use self::real_mode::RealMode;

/// What the processors have only if it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuFeatures {
    /// Hyper-V's guest crash registers.
    pub(crate) hv_crash: bool,
}
