//! The vCPUs and the memory of a guest, as its debugger needs them.
//!
//! The rule that must never be broken: registers are touched only while the vCPU is out of the guest.

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};

/// The registers that gdb sees.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuRegisters {
    /// General purpose registers.
    pub(super) regs: kvm_regs,
    /// Segment and control registers.
    pub(super) sregs: kvm_sregs,
    /// Floating point and SSE.
    pub(super) fpu: kvm_fpu,
}

/// What a vCPU is to watch for while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arming {
    /// Exit on INT3.
    pub(super) software: bool,
    /// Exit after one instruction.
    pub(super) step: bool,
    /// DR0 to DR3 and DR7, if one of them is in use.
    pub(super) hardware: Option<([u64; 4], u64)>,
}

/// An exception that the guest gets after all: it was not the debugger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exception {
    /// #DB.
    Debug,
    /// #BP.
    Breakpoint,
}

/// A vCPU or its memory cannot be had; the reason is in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unavailable;

/// A guest with its vCPUs, numbered from 0.
pub(super) trait Cpus {
    /// How many there are.
    fn count(&self) -> u32;
    /// Reads the registers of one.
    fn registers(&self, cpu: u32) -> Result<CpuRegisters, Unavailable>;
    /// Writes them.
    fn set_registers(&self, cpu: u32, registers: &CpuRegisters) -> Result<(), Unavailable>;
    /// The physical address behind a linear one, as this vCPU's paging has it; `None` if there is
    /// none, for instance because the address is not canonical.
    fn translate(&self, cpu: u32, linear: u64) -> Option<u64>;
    /// Whether the vCPU halted, waits for its start-up, or runs.
    fn activity(&self, cpu: u32) -> &'static str;
    /// Fills `bytes` from a physical address on; `false` if not all of it is memory.
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool;
    /// Writes `bytes` to a physical address; `false` if not all of it is memory.
    fn write(&self, physical: u64, bytes: &[u8]) -> bool;
    /// Says what a vCPU is to watch for, and gives it an exception on the way.
    fn arm(
        &self,
        cpu: u32,
        arming: &Arming,
        exception: Option<Exception>,
    ) -> Result<(), Unavailable>;
}
